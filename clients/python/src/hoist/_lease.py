"""The state of one lease, without I/O: what to ask for, what an answer means, what the end of a stream means.

    (asked) --Granted--> (held) --Revoked--> revoked *
       |                  |   ^
       |      stream lost |   | Granted, asked for by the lease's name
       |                  v   |
       | refused         (away) --grace over, or refused--> lost *
       v
     raised *

Closing, which the holder may do at any time, is not a state of this: nothing is asked or told from then on.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from hoist import _decode
from hoist._backoff import TRIES, Backoff, worth_repeating
from hoist._enums import Code
from hoist._errors import Error, Refused
from hoist._plans import fresh_id
from hoist._proto.v1 import lease_service_pb2 as lease
from hoist._types import Progress

# While a server starts, what stands between may answer in its place. Any other code is the server's own word.
_PASSING = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.CANCELLED, Code.UNKNOWN, Code.INTERNAL})


class LeaseState:
    """One lease over any number of streams. `wish` is what it was asked for with, less the request id."""

    def __init__(
        self,
        wish: lease.AcquireRequest,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wish = wish
        self._backoff = Backoff(draw)
        self._clock = clock
        self._tries = 0
        self._away_since: float | None = None
        self.request_id: str | None = None
        """Of the newest stream."""
        self.granted: lease.Granted | None = None
        """The first answer. It stays when the lease ends: so does the memory."""
        self.revoked: str | None = None
        """Why the server ended it. None: it has not."""
        self.lost: Error | None = None
        """Why it could not be taken up again. None: it could, or need not be."""

    @property
    def over(self) -> bool:
        """Whether it ended by somebody else's doing. Nothing follows."""
        return self.revoked is not None or self.lost is not None

    @property
    def held(self) -> bool:
        """Whether the server is known to keep what it is on."""
        return self.granted is not None and self._away_since is None and not self.over

    def request(self) -> lease.AcquireRequest:
        """What to ask for on the next stream."""
        self.request_id = fresh_id()
        if self.granted is None:
            self._tries += 1
            request = lease.AcquireRequest(request_id=self.request_id)
            request.MergeFrom(self._wish)
            return request
        # The tables are known: sealed files do not change.
        return lease.AcquireRequest(
            request_id=self.request_id,
            lease=self.granted.lease.name,
            holder=self._wish.holder,
            skip_tensors=True,
        )

    def feed(self, answer: lease.AcquireResponse) -> Progress | None:
        """Takes one message of the stream; gives the progress that it tells of."""
        match answer.WhichOneof("event"):
            case "progress" if answer.progress.HasField("progress"):
                return _decode.progress(answer.progress.progress)
            case "granted":
                if self.granted is None:
                    self.granted = answer.granted
                self._away_since = None
                self._backoff.reset()
            case "revoked":
                self.revoked = answer.revoked.reason or "the server does not say why"
        return None

    def ended(self, error: Error) -> float | None:
        """What to do about the end of a stream: seconds until the next, or None if there is none.

        Before the lease was granted, `error` is raised in the latter case; from then on it is kept in `lost`.
        """
        if self.granted is None:
            if self.revoked is not None:
                raise Refused(f"revoked before it was granted: {self.revoked}", code=Code.ABORTED)
            if self._tries >= TRIES or not worth_repeating(error):
                raise error
            return self._backoff.delay(error)
        if self.over:
            return None
        now = self._clock()
        # How a stream ended that was held does not matter: whether the lease can be taken up again is for the
        # server to say.
        refused = self._away_since is not None and error.code not in _PASSING
        if self._away_since is None:
            self._away_since = now
        left = self._away_since + self.granted.grace.ToTimedelta().total_seconds() - now
        if refused or left <= 0:
            self.lost = error
            return None
        return min(self._backoff.delay(error), left)

    def fail(self, error: Exception) -> None:
        """Something went wrong on this side that nothing is known to do about."""
        if not self.over:
            self.lost = error if isinstance(error, Error) else Error(f"{type(error).__name__}: {error}")
