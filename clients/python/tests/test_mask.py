from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from hoist._mask import merge
from hoist._proto.v1.operation_pb2 import OperationMetadata, Progress
from hoist._proto.v1.resources_pb2 import Machine, Measurement, Position, Resource


def operation(**fields: object) -> Resource:
    return Resource(name="operations/a", operation=OperationMetadata(**fields))  # type: ignore[arg-type]


def test_named_fields_are_taken_and_others_kept() -> None:
    known = operation(state="OPERATION_STATE_PENDING", attempts=1, principal="uid:1")
    change = operation(state="OPERATION_STATE_RUNNING", start_time=Timestamp(seconds=5), principal="other")
    merge(known, change, ["operation.state", "operation.start_time"])
    assert known == operation(
        state="OPERATION_STATE_RUNNING", attempts=1, principal="uid:1", start_time=Timestamp(seconds=5)
    )


def test_a_named_field_that_is_unset_becomes_unset() -> None:
    known = operation(attempts=2, cancel_requested=True, end_time=Timestamp(seconds=5))
    merge(known, operation(), ["operation.attempts", "operation.cancel_requested", "operation.end_time"])
    assert known == operation()
    assert not known.operation.HasField("end_time")


def test_a_parent_that_is_unset_unsets_the_named_child_only() -> None:
    known = operation(attempts=2, principal="uid:1")
    merge(known, Resource(), ["operation.attempts"])
    assert known == operation(principal="uid:1")
    empty = Resource()
    merge(empty, Resource(), ["operation.attempts"])
    assert not empty.HasField("operation")


def test_repeated_fields_are_replaced() -> None:
    def machine(*sizes: int) -> Resource:
        return Resource(machine=Machine(version="1", measurements=[Measurement(bytes=n) for n in sizes]))

    known = machine(1, 2)
    merge(known, machine(3), ["machine.measurements"])
    assert known == machine(3)
    merge(known, machine(), ["machine.measurements"])
    assert known == machine()


def test_messages_are_replaced_not_merged() -> None:
    known = Resource(position=Position(epoch=1, revision=2))
    merge(known, Resource(position=Position(epoch=2)), ["position"])
    assert known.position == Position(epoch=2)


def test_an_optional_zero_is_not_unset() -> None:
    known, change = Progress(), Progress(bytes_per_second=0, remaining=Duration())
    merge(known, change, ["bytes_per_second", "remaining"])
    assert known.HasField("bytes_per_second")
    assert known.HasField("remaining")


def test_a_path_newer_than_this_client_is_passed_over() -> None:
    known = operation(attempts=1)
    merge(known, operation(attempts=2), ["operation.novelty", "novelty.deep", "operation.attempts"])
    assert known == operation(attempts=2)
