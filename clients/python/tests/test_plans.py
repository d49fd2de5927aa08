"""Plans, carried out by hand: each step is answered with a message or an error."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import TypeVar

import pytest
from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

import hoist
from hoist import _decode, _plans
from hoist._plans import Call, Pause, Plan
from hoist._proto.v1.admin_service_pb2 import ProbeMachineRequest, ProbeMachineResponse
from hoist._proto.v1.operation_pb2 import OperationMetadata, Progress
from hoist._proto.v1.resources_pb2 import Measurement

T = TypeVar("T")
LOST = hoist.Unreachable("gone", code=hoist.Code.UNAVAILABLE)


def carry_out(plan: Plan[T], answers: Iterable[Message | hoist.Error]) -> tuple[T, list[Call | Pause]]:
    """The plan's outcome and its steps. Fails if it makes another number of calls than there are answers."""
    steps: list[Call | Pause] = []
    left = list(answers)
    try:
        step = next(plan)
        while True:
            steps.append(step)
            if isinstance(step, Pause):
                step = plan.send(None)
                continue
            answer = left.pop(0)
            step = plan.throw(answer) if isinstance(answer, hoist.Error) else plan.send(answer)
    except StopIteration as stop:
        assert not left
        return stop.value, steps


def calls(steps: list[Call | Pause]) -> list[Call]:
    return [step for step in steps if isinstance(step, Call)]


def running(name: str = "operations/a", done_bytes: int = 0) -> operations_pb2.Operation:
    result = operations_pb2.Operation(name=name)
    progress = Progress(done_bytes=done_bytes, total_bytes=9)
    result.metadata.Pack(OperationMetadata(name=name, state="OPERATION_STATE_RUNNING", progress=progress))
    return result


def succeeded(name: str = "operations/a") -> operations_pb2.Operation:
    result = operations_pb2.Operation(name=name, done=True)
    result.metadata.Pack(OperationMetadata(name=name, state="OPERATION_STATE_SUCCEEDED"))
    result.response.Pack(ProbeMachineResponse(measurements=[Measurement(bytes=7)]))
    return result


def test_a_mutation_is_repeated_with_the_same_fresh_id() -> None:
    answer, steps = carry_out(_plans.probe(None, None, None, None), [LOST, LOST, running()])
    assert answer.name == "operations/a"
    requests = [call.request for call in calls(steps)]
    assert requests[0] == requests[1] == requests[2]
    assert isinstance(requests[0], ProbeMachineRequest)
    assert uuid.UUID(requests[0].request_id).version == 4
    assert [type(step) for step in steps] == [Call, Pause, Call, Pause, Call]


def test_a_given_id_is_kept() -> None:
    given = str(uuid.uuid4())
    _, steps = carry_out(_plans.probe(["DISK_READ"], 5, 1.5, given), [running()])
    (call,) = calls(steps)
    assert call.request == ProbeMachineRequest(
        request_id=given,
        kinds=["MEASUREMENT_KIND_DISK_READ"],
        bytes=5,
        deadline=_decode.to_span("deadline", 1.5),
    )


def test_repeating_has_an_end() -> None:
    with pytest.raises(hoist.Unreachable):
        carry_out(_plans.probe(None, None, None, None), [LOST, LOST, LOST])


@pytest.mark.parametrize(
    "error",
    [
        hoist.Refused("no", code=hoist.Code.ALREADY_EXISTS, reason="REQUEST_ID_REUSED"),
        hoist.TimedOut("late", code=hoist.Code.DEADLINE_EXCEEDED),
        hoist.Error("kept", code=hoist.Code.UNAVAILABLE, reason="COORDINATOR_RESTARTED"),
    ],
)
def test_an_answer_is_not_asked_for_again(error: hoist.Error) -> None:
    with pytest.raises(hoist.Error) as raised:
        carry_out(_plans.probe(None, None, None, None), [error])
    assert raised.value is error


def test_the_first_call_fails_at_once_and_says_what_to_do() -> None:
    late = hoist.TimedOut("late", code=hoist.Code.DEADLINE_EXCEEDED)
    other = hoist.Error("what?", code=hoist.Code.UNIMPLEMENTED)
    for error in (LOST, late, other):
        with pytest.raises(hoist.Unreachable):
            carry_out(_plans.greet("unix:///x"), [error])


def test_waiting_tells_progress_and_returns_the_end() -> None:
    heard: list[hoist.Progress] = []
    plan = _plans.wait("operations/a", None, heard.append)
    answer, steps = carry_out(plan, [running(done_bytes=1), running(done_bytes=2), succeeded()])
    assert [each.done_bytes for each in heard] == [1, 2]
    assert all(call.extra_seconds == _plans.PROGRESS_SECONDS for call in calls(steps))
    result = _decode.result(answer)
    assert isinstance(result, hoist.ProbeResult)
    assert result.measurements[0].bytes == 7


def test_waiting_without_a_listener_asks_seldom() -> None:
    _, steps = carry_out(_plans.wait("operations/a", None), [running(), LOST, succeeded()])
    assert {call.extra_seconds for call in calls(steps)} == {_plans.WAIT_SECONDS}


def test_waiting_ends_with_its_timeout() -> None:
    clock = iter([0.0, 0.0, 30.0, 30.0, 45.0]).__next__
    with pytest.raises(hoist.TimedOut, match="not done after 45 s"):
        carry_out(_plans.wait("operations/a", 45.0, clock=clock), [running(), running()])


def test_deleting_twice_because_an_answer_was_lost_is_no_error() -> None:
    gone = hoist.NotFound("no", code=hoist.Code.NOT_FOUND)
    _, steps = carry_out(_plans.delete("operations/a"), [LOST, gone])
    assert len(calls(steps)) == 2
    with pytest.raises(hoist.NotFound):
        carry_out(_plans.delete("operations/a"), [gone])
    with pytest.raises(hoist.Unreachable):
        carry_out(_plans.delete("operations/a"), [LOST, LOST, LOST])
    carry_out(_plans.delete("operations/a"), [Empty()])


def test_a_lone_string_is_not_a_list_of_names() -> None:
    with pytest.raises(TypeError, match="names must be a list"):
        carry_out(_plans.statuses("machine"), [])


def test_the_end_of_an_operation_is_its_result_or_why_not() -> None:
    cancelled = operations_pb2.Operation(name="operations/a", done=True)
    cancelled.error.code = 1
    with pytest.raises(hoist.OperationCancelled) as raised:
        _decode.result(cancelled)
    assert raised.value.operation == "operations/a"
    novel = operations_pb2.Operation(name="operations/a", done=True)
    novel.response.type_url = "type.googleapis.com/hoist.api.v1.Novelty"
    with pytest.raises(hoist.Error, match="too old to read"):
        _decode.result(novel)


ID = "0198c2f4-0000-7000-8000-00000000000a"


@pytest.mark.parametrize("written", [ID, ID.upper(), f"operations/{ID}"])
def test_an_id_alone_stands_for_its_operation(written: str) -> None:
    _, steps = carry_out(_plans.operation(written), [running()])
    assert [call.request for call in calls(steps)] == [
        operations_pb2.GetOperationRequest(name=f"operations/{ID}")
    ]


def test_words_may_be_written_in_either_case_and_a_wrong_one_tells_the_right_ones() -> None:
    _, steps = carry_out(_plans.probe(["memory_copy"], None, None, None), [running()])
    request = calls(steps)[0].request
    assert isinstance(request, ProbeMachineRequest)
    assert len(request.kinds) == 1
    with pytest.raises(ValueError, match="'NOPE' is not a MeasurementKind: use DISK_READ, TMPFS_WRITE"):
        carry_out(_plans.probe(["NOPE"], None, None, None), [])


@pytest.mark.parametrize(
    ("plan", "error", "text"),
    [
        (lambda: _plans.probe(None, 1.5, None, None), TypeError, "bytes must be a whole number"),  # type: ignore[arg-type]
        (lambda: _plans.probe(None, "1 stone", None, None), ValueError, "bytes: '1 stone' is not a size"),
        (
            lambda: _plans.probe(None, -1, None, None),
            ValueError,
            "bytes must be .* at least 0",
        ),
        (lambda: _plans.probe(None, 1, [], None), TypeError, "deadline must be a number of seconds"),  # type: ignore[arg-type]
        (lambda: _plans.probe(None, 1, "90", None), ValueError, "deadline: '90' is not a time"),
        (lambda: _plans.probe(None, 1, None, 7), TypeError, "request_id must be a string"),  # type: ignore[arg-type]
        (lambda: _plans.shutdown(-1), ValueError, "grace must not be negative"),
        (lambda: _plans.status(7), TypeError, "name must be a string"),  # type: ignore[arg-type]
        (lambda: _plans.statuses(7), TypeError, "names must be a list"),  # type: ignore[arg-type]
        (lambda: _plans.page("", 0, ""), ValueError, "page_size must be a whole number of at least 1"),
        (lambda: _plans.wait("operations/a", -1), ValueError, "timeout must not be negative"),
        (lambda: _plans.wait("operations/a", float("nan")), ValueError, "timeout: nan is not a number"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_named(
    plan: Callable[[], Plan[object]], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        carry_out(plan(), [])


def test_a_connection_lost_while_waiting_leaves_the_name_of_the_operation() -> None:
    lost = [hoist.Unreachable("gone", code=hoist.Code.UNAVAILABLE) for _ in range(3)]
    with pytest.raises(hoist.Unreachable, match=f"operations/{ID}: gone; .*hoist ops show {ID}") as raised:
        carry_out(_plans.wait(f"operations/{ID}", None), lost)
    assert raised.value.operation == f"operations/{ID}"


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_call_needs_time(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        _plans.call_timeout(timeout)
