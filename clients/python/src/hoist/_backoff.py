"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable

from hoist._enums import Code
from hoist._errors import Error

# Three tries span about half a second: they hide a lost connection, not a server that is gone.
TRIES = 3
FIRST_SECONDS = 0.1
LAST_SECONDS = 5.0


class Backoff:
    """Delays that double up to a cap, each cut by up to half at random so that clients come back apart."""

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._next = FIRST_SECONDS

    def delay(self, error: Error) -> float:
        """Seconds to wait after `error`: at least what the server asked for."""
        seconds = self._next * (1 - self._draw() / 2)
        self._next = min(self._next * 2, LAST_SECONDS)
        asked = error.retry_after.total_seconds() if error.retry_after is not None else 0.0
        return max(seconds, asked)

    def reset(self) -> None:
        """It worked."""
        self._next = FIRST_SECONDS


def worth_repeating(error: Error) -> bool:
    """Whether the same request, with the same id, may do better in a moment."""
    # The answer to this id is then known and kept: repeating it gives the same again.
    return error.code is Code.UNAVAILABLE and error.reason != "COORDINATOR_RESTARTED"
