from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

import hoist
from hoist import _backoff, _watch
from hoist._proto.v1 import state_service_pb2 as state
from hoist._proto.v1.operation_pb2 import OperationMetadata
from hoist._proto.v1.resources_pb2 import Position, Resource

LOST = hoist.Unreachable("gone", code=hoist.Code.UNAVAILABLE)


def watch(*, since: hoist.Position | None = None, resume: bool = True) -> _watch.WatchState:
    return _watch.WatchState(_watch.wish(None, None, None, since, None, None, resume), draw=lambda: 0.0)


def ending(reason: str, code: hoist.Code = hoist.Code.OUT_OF_RANGE) -> hoist.Error:
    return hoist.Error(reason.lower(), code=code, reason=reason)


def resource(name: str, revision: int, **fields: object) -> Resource:
    metadata = OperationMetadata(name=name, **fields)  # type: ignore[arg-type]
    return Resource(name=name, position=Position(epoch=1, revision=revision), operation=metadata)


def snapshot(revision: int, *resources: Resource) -> list[state.WatchResponse]:
    chunks = [state.WatchResponse(snapshot=state.SnapshotChunk(resources=[each])) for each in resources]
    end = state.SnapshotEnd(position=Position(epoch=1, revision=revision), resources=len(resources))
    return [*chunks, state.WatchResponse(snapshot_end=end)]


def delta(revision: int, *changes: state.Change) -> state.WatchResponse:
    return state.WatchResponse(
        delta=state.Delta(position=Position(epoch=1, revision=revision), changes=changes)
    )


def added(each: Resource) -> state.Change:
    return state.Change(kind=state.Change.KIND_ADDED, name=each.name, resource=each)


def modified(each: Resource, *paths: str) -> state.Change:
    return state.Change(
        kind=state.Change.KIND_MODIFIED, name=each.name, resource=each, mask=FieldMask(paths=paths)
    )


def removed(name: str) -> state.Change:
    return state.Change(kind=state.Change.KIND_REMOVED, name=name)


def events(of: _watch.WatchState, *answers: state.WatchResponse) -> list[hoist.Event]:
    for answer in answers:
        of.feed(answer)
    return list(iter(of.take, None))


def operation(event: hoist.Event) -> hoist.OperationMetadata:
    assert isinstance(event, hoist.Changed)
    assert isinstance(event.resource.value, hoist.OperationMetadata)
    return event.resource.value


def test_a_snapshot_arrives_whole_and_once() -> None:
    followed = watch()
    assert not followed.request().HasField("from")
    *chunks, end = snapshot(5, resource("operations/a", 3), resource("operations/b", 4))
    assert events(followed, *chunks) == []
    assert followed.position is None
    (event,) = events(followed, end)
    assert isinstance(event, hoist.Snapshot)
    assert event.resources.keys() == {"operations/a", "operations/b"}
    assert followed.position == event.position == hoist.Position(1, 5)


def test_a_snapshot_that_lacks_something_is_refused() -> None:
    followed = watch()
    with pytest.raises(hoist.Error, match="snapshot has 0 resources, the server sent 1"):
        events(followed, snapshot(5, resource("operations/a", 3))[-1])


def test_a_modified_resource_arrives_whole() -> None:
    followed = watch()
    events(followed, *snapshot(5, resource("operations/a", 3, attempts=1, principal="uid:1")))
    change = modified(resource("operations/a", 6, attempts=2), "operation.attempts")
    (event,) = events(followed, delta(6, change))
    assert isinstance(event, hoist.Changed)
    assert (operation(event).attempts, operation(event).principal) == (2, "uid:1")
    assert (event.fields, event.whole) == (frozenset({"operation.attempts"}), True)
    assert event.resource.position == hoist.Position(1, 6)


def test_earlier_events_stay_as_they_were() -> None:
    followed = watch()
    (before,) = events(followed, delta(6, added(resource("operations/a", 6, attempts=1))))
    (after,) = events(
        followed, delta(7, modified(resource("operations/a", 7, attempts=2), "operation.attempts"))
    )
    assert (operation(before).attempts, operation(after).attempts) == (1, 2)


def test_the_position_covers_a_revision_only_with_its_last_change() -> None:
    followed = watch()
    events(followed, *snapshot(5))
    followed.feed(delta(6, added(resource("operations/a", 6)), removed("operations/b")))
    first = followed.take()
    assert isinstance(first, hoist.Changed)
    assert followed.position == hoist.Position(1, 5)
    assert followed.take() == hoist.Removed(hoist.Position(1, 6), "operations/b")
    assert followed.position == hoist.Position(1, 6)


def test_a_mark_moves_the_position_and_progress_does_not() -> None:
    followed = watch()
    events(followed, *snapshot(5))
    sample = state.ProgressSample(operations=[state.OperationProgress(name="operations/a")])
    (event,) = events(followed, state.WatchResponse(progress=sample))
    assert isinstance(event, hoist.ProgressSample)
    assert event.operations.keys() == {"operations/a"}
    assert followed.position == hoist.Position(1, 5)
    mark = state.WatchResponse(mark=state.Mark(position=Position(epoch=1, revision=9)))
    assert events(followed, mark) == [hoist.Mark(hoist.Position(1, 9))]
    assert followed.position == hoist.Position(1, 9)


def test_a_lost_connection_goes_on_from_the_position_with_what_was_known() -> None:
    followed = watch()
    events(followed, *snapshot(5, resource("operations/a", 3, principal="uid:1")))
    assert followed.lost(LOST) > 0
    request = followed.request()
    assert getattr(request, "from") == Position(epoch=1, revision=5)
    (event,) = events(
        followed, delta(6, modified(resource("operations/a", 6, attempts=2), "operation.attempts"))
    )
    assert operation(event).principal == "uid:1"


def test_a_connection_lost_within_a_snapshot_starts_it_again() -> None:
    followed = watch()
    events(followed, *snapshot(5, resource("operations/a", 3))[:-1])
    followed.lost(LOST)
    assert not followed.request().HasField("from")
    (event,) = events(followed, *snapshot(6, resource("operations/b", 6)))
    assert isinstance(event, hoist.Snapshot)
    assert event.resources.keys() == {"operations/b"}


@pytest.mark.parametrize("reason", ["REVISION_COMPACTED", "EPOCH_MISMATCH", "TOO_SLOW"])
def test_a_position_that_is_no_good_leads_to_a_fresh_snapshot(reason: str) -> None:
    followed = watch(since=hoist.Position(1, 2))
    assert followed.request().HasField("from")
    assert followed.lost(ending(reason)) == 0
    assert not followed.request().HasField("from")
    assert followed.lost(ending(reason)) > 0, "without a position it must not spin"
    (event,) = events(followed, *snapshot(9, resource("operations/b", 6)))
    assert isinstance(event, hoist.Snapshot)


def test_since_tells_what_was_not_seen_whole() -> None:
    followed = watch(since=hoist.Position(1, 2))
    change = modified(resource("operations/a", 3, attempts=2), "operation.attempts")
    (partial,) = events(followed, delta(3, change))
    assert isinstance(partial, hoist.Changed)
    assert (operation(partial).attempts, partial.whole) == (2, False)
    events(followed, delta(4, removed("operations/a")))
    (whole,) = events(followed, delta(5, added(resource("operations/a", 5))))
    assert isinstance(whole, hoist.Changed)
    assert whole.whole


def test_without_resume_every_end_is_raised() -> None:
    for error in (LOST, ending("TOO_SLOW"), watch().ended()):
        with pytest.raises(hoist.Error) as raised:
            watch(resume=False).lost(error)
        assert raised.value is error


def test_what_cannot_get_better_is_raised() -> None:
    for error in (
        ending("FIELD_INVALID", hoist.Code.INVALID_ARGUMENT),
        ending("WATCHES_EXHAUSTED", hoist.Code.RESOURCE_EXHAUSTED),
    ):
        with pytest.raises(hoist.Error):
            watch().lost(error)


def test_a_crowd_after_a_break_is_waited_out() -> None:
    followed = watch()
    events(followed, *snapshot(5))
    error = hoist.Refused(
        "full",
        code=hoist.Code.RESOURCE_EXHAUSTED,
        reason="WATCHES_EXHAUSTED",
        retry_after=timedelta(seconds=7),
    )
    assert followed.lost(error) == 7


def test_delays_double_to_a_cap_and_begin_anew_after_an_answer() -> None:
    followed = watch()
    delays = [followed.lost(LOST) for _ in range(10)]
    assert delays[0] == _backoff.FIRST_SECONDS
    assert all(b == min(2 * a, _backoff.LAST_SECONDS) for a, b in itertools.pairwise(delays))
    events(followed, *snapshot(5))
    assert followed.lost(LOST) == _backoff.FIRST_SECONDS


def test_what_was_asked_is_on_the_wire_each_time_with_a_fresh_id() -> None:
    asked = _watch.wish(["OPERATION"], ["machine"], ["RUNNING"], None, 0.5, timedelta(seconds=2), True)
    followed = _watch.WatchState(asked)
    first, second = followed.request(), followed.request()
    assert first.request_id != second.request_id
    first.request_id = second.request_id
    assert first == second
    assert first.filter == state.WatchFilter(
        kinds=["RESOURCE_KIND_OPERATION"], names=["machine"], operation_states=["OPERATION_STATE_RUNNING"]
    )
    assert first.progress_interval.ToTimedelta() == timedelta(seconds=0.5)
    assert first.mark_interval.ToTimedelta() == timedelta(seconds=2)


def test_arguments_are_judged_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="NOVEL"):
        _watch.wish(["NOVEL"], None, None, None, None, None, True)
    with pytest.raises(TypeError, match="names must be a list"):
        _watch.wish(None, "machine", None, None, None, None, True)
    with pytest.raises(ValueError, match="since"):
        _watch.wish(None, None, None, hoist.Position(0, 3), None, None, True)
