from __future__ import annotations

import pickle
from datetime import timedelta

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

import hoist
from hoist import _errors
from hoist._enums import Code

ENDPOINT = "unix:///x"


class Failure:
    """A failed call as grpc shows it."""

    def __init__(self, code: grpc.StatusCode, trailers: list[tuple[str, str | bytes]] | None = None) -> None:
        self._code = code
        self._trailers = trailers

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str | None:
        return "what grpc says"

    def trailing_metadata(self) -> list[tuple[str, str | bytes]] | None:
        return self._trailers


def packed(message: Message) -> Any:
    result = Any()
    result.Pack(message)
    return result


def described(code: hoist.Code, reason: str, domain: str = "hoist.dev", **metadata: str) -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)
    return status_pb2.Status(
        code=code_pb2.Code.Value(code.value), message="what Hoist says", details=[packed(info)]
    )


def failed(status: status_pb2.Status, code: grpc.StatusCode | None = None) -> hoist.Error:
    trailers: list[tuple[str, str | bytes]] = [
        ("date", "now"),
        ("grpc-status-details-bin", status.SerializeToString()),
    ]
    own = grpc.StatusCode[code_pb2.Code.Name(status.code)]
    return _errors.from_rpc(Failure(code or own, trailers), ENDPOINT, "id-1")


def test_everything_in_the_details_is_read() -> None:
    status = described(hoist.Code.RESOURCE_EXHAUSTED, "OVERLOADED", limit="8")
    delay = error_details_pb2.RetryInfo()
    delay.retry_delay.FromTimedelta(timedelta(milliseconds=250))
    status.details.append(packed(delay))
    error = failed(status)
    assert isinstance(error, hoist.Refused)
    assert (error.code, error.reason, error.message) == (status_code(status), "OVERLOADED", "what Hoist says")
    assert error.metadata == {"limit": "8"}
    assert error.retry_after == timedelta(milliseconds=250)
    assert error.request_id == "id-1"
    assert str(error) == "what Hoist says"


def status_code(status: status_pb2.Status) -> hoist.Code:
    return hoist.Code(code_pb2.Code.Name(status.code))


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (hoist.Code.NOT_FOUND, "RESOURCE_NOT_FOUND", hoist.NotFound),
        (hoist.Code.FAILED_PRECONDITION, "OPERATION_NOT_DONE", hoist.Refused),
        (hoist.Code.RESOURCE_EXHAUSTED, "REQUEST_IDS_EXHAUSTED", hoist.Refused),
        (hoist.Code.PERMISSION_DENIED, "PERMISSION_DENIED", hoist.Refused),
        (hoist.Code.ABORTED, "SOURCE_CHANGED", hoist.Refused),
        (hoist.Code.ALREADY_EXISTS, "REQUEST_ID_REUSED", hoist.Refused),
        (hoist.Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", hoist.TimedOut),
        (hoist.Code.UNAVAILABLE, "DRAINING", hoist.Unreachable),
        (hoist.Code.UNAVAILABLE, "WORKER_LOST", hoist.Error),
        (hoist.Code.INVALID_ARGUMENT, "NAME_INVALID", hoist.Error),
        (hoist.Code.OUT_OF_RANGE, "TOO_SLOW", hoist.Error),
        (hoist.Code.INTERNAL, "INTERNAL", hoist.Error),
    ],
)
def test_the_code_chooses_the_class(code: hoist.Code, reason: str, kind: type[hoist.Error]) -> None:
    error = failed(described(code, reason))
    assert type(error) is kind
    assert (error.code, error.reason) == (code, reason)


def test_no_connection_says_where_and_what_to_do() -> None:
    nothing: list[tuple[str, str | bytes]] = []
    for trailers in (None, nothing):
        error = _errors.from_rpc(Failure(grpc.StatusCode.UNAVAILABLE, trailers), ENDPOINT, None)
        assert isinstance(error, hoist.Unreachable)
        assert ENDPOINT in str(error)
        assert "hoist serve" in str(error)
        assert error.reason == ""


def test_details_that_are_not_ours_are_left() -> None:
    other = failed(described(hoist.Code.INTERNAL, "THEIRS", domain="elsewhere"))
    assert (other.reason, other.metadata) == ("", {})
    contradicted = failed(described(hoist.Code.INTERNAL, "INTERNAL"), grpc.StatusCode.UNAVAILABLE)
    assert isinstance(contradicted, hoist.Unreachable)
    damaged = Failure(grpc.StatusCode.INTERNAL, [("grpc-status-details-bin", b"\xff\xff")])
    assert _errors.from_rpc(damaged, ENDPOINT, None).message == "what grpc says"


def test_an_operation_ends_with_its_own_classes() -> None:
    cancelled = _errors.from_operation(
        "operations/a", described(hoist.Code.CANCELLED, "OPERATION_CANCELLED"), "id"
    )
    assert isinstance(cancelled, hoist.OperationCancelled)
    late = _errors.from_operation(
        "operations/a", described(hoist.Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"), "id"
    )
    assert isinstance(late, hoist.OperationFailed)
    assert (late.operation, late.code) == ("operations/a", hoist.Code.DEADLINE_EXCEEDED)
    missing = _errors.from_operation(
        "operations/a", described(hoist.Code.NOT_FOUND, "RESOURCE_NOT_FOUND"), "id"
    )
    assert isinstance(missing, hoist.NotFound)
    assert isinstance(missing, hoist.OperationFailed)


def test_an_error_survives_pickling() -> None:
    error = failed(described(hoist.Code.NOT_FOUND, "RESOURCE_NOT_FOUND", name="x"))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is hoist.NotFound
    assert vars(copy) == vars(error)


@pytest.mark.parametrize(
    ("code", "reason", "of"),
    [
        (Code.RESOURCE_EXHAUSTED, "RAM_EXHAUSTED", hoist.OperationRefused),
        (Code.DATA_LOSS, "CORRUPTED_MODEL", hoist.OperationFailed),
        (Code.CANCELLED, "OPERATION_CANCELLED", hoist.OperationCancelled),
        (Code.RESOURCE_EXHAUSTED, "OVERLOADED", hoist.Error),
    ],
)
def test_a_lease_is_refused_as_caching_fails(code: Code, reason: str, of: type[hoist.Error]) -> None:
    told = _errors.of_caching(hoist.Error("no", code=code, reason=reason, request_id="r"))
    assert (type(told), told.message, told.reason, told.request_id) == (of, "no", reason, "r")
    if of is hoist.OperationRefused:
        assert isinstance(told, hoist.Refused)
        assert isinstance(told, hoist.OperationFailed)
