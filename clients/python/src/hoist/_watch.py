"""The state of a watch, without I/O: what to ask for, what an answer means, what the end of a stream means.

    (no position) --SnapshotEnd--> (position) --Delta, Mark--> (position)
         ^                             |
         |  REVISION_COMPACTED, EPOCH_MISMATCH, TOO_SLOW: ask again without a position
         |                             |
         +-----------------------------+--connection lost: ask again from the position, after a pause

Any other end is the caller's to see, and terminal.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from hoist import _decode
from hoist._backoff import Backoff, worth_repeating
from hoist._enums import Code, OperationState, ResourceKind, encode
from hoist._errors import Error
from hoist._events import Changed, Event, Mark, ProgressSample, Removed, Snapshot
from hoist._mask import merge
from hoist._plans import fresh_id
from hoist._proto.v1 import resources_pb2
from hoist._proto.v1 import state_service_pb2 as state
from hoist._quantities import Time
from hoist._types import Position

_START_AGAIN = frozenset({"REVISION_COMPACTED", "EPOCH_MISMATCH", "TOO_SLOW"})


@dataclass(frozen=True)
class Wish:
    """What a watch was asked for."""

    filter: state.WatchFilter
    mark_interval: Duration | None
    progress_interval: Duration | None
    since: Position | None
    resume: bool


def wish(
    kinds: Iterable[ResourceKind | str] | None,
    names: Iterable[str] | None,
    states: Iterable[OperationState | str] | None,
    since: Position | None,
    progress: Time | None,
    mark_interval: Time | None,
    resume: bool,
) -> Wish:
    """The caller's arguments, judged before anything is sent."""
    if since is not None and not isinstance(since, Position):
        raise TypeError(f"since must be a hoist.Position, not {since!r}")
    if since is not None and since.epoch == 0:
        raise ValueError(f"since: {since} is not a position that a server gave")
    return Wish(
        filter=state.WatchFilter(
            kinds=[encode(ResourceKind, kind) for kind in _decode.words("kinds", kinds)],
            names=_decode.resource_names("names", names),
            operation_states=[encode(OperationState, each) for each in _decode.words("states", states)],
        ),
        mark_interval=_decode.to_span("mark_interval", mark_interval),
        progress_interval=_decode.to_span("progress", progress),
        since=since,
        resume=resume,
    )


class WatchState:
    """One watch over any number of streams. `mirror` holds what passes the filter, as of `reached`."""

    def __init__(self, wish: Wish, draw: Callable[[], float] = random.random) -> None:
        self._wish = wish
        self._backoff = Backoff(draw)
        self._mirror: dict[str, resources_pb2.Resource] = {}
        # Names in the mirror that were never seen whole. Empty unless the watch began at a given position.
        self._partial: set[str] = set()
        self._arriving: dict[str, resources_pb2.Resource] = {}
        self._reached = wish.since
        self._answered = False
        self.request_id: str | None = None
        """Of the newest stream."""
        self._queue: deque[tuple[Event, Position | None]] = deque()
        self._handed = wish.since

    @property
    def position(self) -> Position | None:
        """Everything up to here was handed out."""
        return self._handed

    def request(self) -> state.WatchRequest:
        """What to ask for on the next stream."""
        self._arriving = {}
        self.request_id = fresh_id()
        start = self._reached
        return state.WatchRequest(
            request_id=self.request_id,
            filter=self._wish.filter,
            mark_interval=self._wish.mark_interval,
            progress_interval=self._wish.progress_interval,
            # `from` is a keyword of Python.
            **({"from": resources_pb2.Position(epoch=start.epoch, revision=start.revision)} if start else {}),
        )

    def take(self) -> Event | None:
        """The next event, if one is here."""
        if not self._queue:
            return None
        event, reached = self._queue.popleft()
        self._handed = reached or self._handed
        return event

    def feed(self, answer: state.WatchResponse) -> None:
        """Takes one message of the stream."""
        self._answered = True
        self._backoff.reset()
        match answer.WhichOneof("event"):
            case "snapshot":
                self._arriving.update((each.name, each) for each in answer.snapshot.resources)
            case "snapshot_end":
                self._snapshot(answer.snapshot_end)
            case "delta":
                self._delta(answer.delta)
            case "mark":
                self._reach(Mark(_decode.position(answer.mark.position)))
            case "progress":
                sample = {each.name: _decode.progress(each.progress) for each in answer.progress.operations}
                self._queue.append((ProgressSample(sample), None))

    def lost(self, error: Error) -> float:
        """What to do about the end of a stream: seconds to wait before the next, or `error` raised."""
        if not self._wish.resume:
            raise error
        if error.reason in _START_AGAIN:
            had_position, self._reached = self._reached is not None, None
            # Without one, the server refused a plain request for a snapshot; asking at once would only spin.
            return 0.0 if had_position else self._backoff.delay(error)
        # After a break many clients come back together, and the server may not yet have noticed that the old
        # stream is gone; the first time, a refusal is an answer.
        crowded = self._answered and error.code is Code.RESOURCE_EXHAUSTED
        if worth_repeating(error) or crowded:
            return self._backoff.delay(error)
        raise error

    def ended(self) -> Error:
        """A stream that just stops is a lost connection: the contract ends every stream with a reason."""
        return Error("the stream ended without a reason", code=Code.UNAVAILABLE)

    def _reach(self, event: Snapshot | Mark) -> None:
        self._reached = event.position
        self._queue.append((event, event.position))

    def _snapshot(self, end: state.SnapshotEnd) -> None:
        if len(self._arriving) != end.resources:
            text = f"the snapshot has {len(self._arriving)} resources, the server sent {end.resources}"
            raise Error(text, code=Code.DATA_LOSS)
        self._mirror, self._arriving, self._partial = self._arriving, {}, set()
        resources = {name: _decode.resource(each) for name, each in self._mirror.items()}
        self._reach(Snapshot(_decode.position(end.position), resources))

    def _delta(self, delta: state.Delta) -> None:
        position = _decode.position(delta.position)
        for index, change in enumerate(delta.changes, 1):
            # What changed at one revision is only seen fully with its last change.
            covered = position if index == len(delta.changes) else None
            self._queue.append((self._change(position, change), covered))
        self._reached = position

    def _change(self, position: Position, change: state.Change) -> Event:
        if change.kind == state.Change.KIND_REMOVED:
            self._mirror.pop(change.name, None)
            self._partial.discard(change.name)
            return Removed(position, change.name)
        fields = frozenset[str]()
        if change.kind == state.Change.KIND_MODIFIED:
            fields = frozenset(change.mask.paths)
            if change.name not in self._mirror:
                self._partial.add(change.name)
            known = self._mirror.setdefault(change.name, resources_pb2.Resource(name=change.name))
            merge(known, change.resource, ["position", *change.mask.paths])
        else:
            self._mirror[change.name] = known = change.resource
            self._partial.discard(change.name)
        return Changed(position, _decode.resource(known), fields, change.name not in self._partial)
