"""What can go wrong, as exceptions, and how they are read from a failed call or operation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Protocol

from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from hoist._enums import Code, decode

DOMAIN = "hoist.dev"
_DETAILS_KEY = "grpc-status-details-bin"


class Error(Exception):
    """Hoist refused or failed. The message is for people; branch on the class, `code` or `reason`."""

    def __init__(
        self,
        message: str,
        *,
        code: Code = Code.UNKNOWN,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: timedelta | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        """Stable UPPER_SNAKE name. Empty when it was not Hoist that failed, but the way to it."""
        self.metadata: Mapping[str, str] = dict(metadata or {})
        """Ids and numbers of the case, and what its reason means: `severity`, `recoverable`, `advice`."""
        self.retry_after = retry_after
        self.request_id = request_id
        """Finds the call in the server's log."""
        self.operation = ""
        """Name of the operation that it is about, or empty: `client.operation(name)` finds it again."""


class Unreachable(Error):
    """No server answers at the endpoint, or it is stopping."""


class NotFound(Error):
    """The named thing does not exist."""


class Refused(Error):
    """Not now, or not to you: the state, a limit, a right or another request stands against it."""


class TimedOut(Error):
    """It took longer than allowed. What was started on the server goes on there."""


class OperationFailed(Error):
    """The operation ended FAILED. `operation` is its name."""


class OperationRefused(OperationFailed, Refused):
    """The operation ended FAILED because it was refused something: RAM_EXHAUSTED."""


class OperationNotFound(OperationFailed, NotFound):
    """The operation ended FAILED because what it was to use does not exist: a device."""


class OperationTimedOut(OperationFailed, TimedOut):
    """The operation ended FAILED because its deadline passed. Nothing goes on."""


class OperationCancelled(Error):
    """The operation ended CANCELLED. `operation` is its name."""


class _Named(Protocol):
    """A status code, as grpc has it."""

    @property
    def name(self) -> str: ...


class RpcFailure(Protocol):
    """A failed call, as both halves of grpc raise it."""

    def code(self) -> _Named: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


_REFUSALS = frozenset(
    {
        Code.FAILED_PRECONDITION,
        Code.RESOURCE_EXHAUSTED,
        Code.PERMISSION_DENIED,
        Code.ABORTED,
        Code.ALREADY_EXISTS,
    }
)


# What ends an operation that caches. A lease that waits for one is refused with the same.
_OF_CACHING = frozenset(
    {
        "CORRUPTED_MODEL",
        "INCOMPATIBLE_MODEL",
        "OPERATION_CANCELLED",
        "RAM_EXHAUSTED",
        "SOURCE_CHANGED",
        "SOURCE_TRUNCATED",
        "SOURCE_UNREADABLE",
        "SOURCE_UNRESPONSIVE",
    }
)


def _class_of(code: Code, reason: str) -> type[Error]:
    # UNAVAILABLE also says that a part behind the server is gone; then the server itself was reached.
    if code is Code.UNAVAILABLE and reason in ("", "DRAINING"):
        return Unreachable
    if code is Code.NOT_FOUND:
        return NotFound
    if code is Code.DEADLINE_EXCEEDED:
        return TimedOut
    return Refused if code in _REFUSALS else Error


def from_status(
    status: status_pb2.Status, request_id: str | None = None, of: type[Error] | None = None
) -> Error:
    """The error that a google.rpc.Status describes, of the class its code asks for or of class `of`."""
    reason, metadata, retry_after = "", dict[str, str](), None
    for detail in status.details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(retry) and retry.HasField("retry_delay"):
            retry_after = retry.retry_delay.ToTimedelta()
    code = decode(Code, status.code)
    return (of or _class_of(code, reason))(
        status.message,
        code=code,
        reason=reason,
        metadata=metadata,
        retry_after=retry_after,
        request_id=metadata.get("request_id", request_id),
    )


def from_rpc(failure: RpcFailure, endpoint: str, request_id: str | None) -> Error:
    """The error behind a failed call."""
    code = Code(failure.code().name)
    for key, value in failure.trailing_metadata() or ():
        # A name that ends in -bin has bytes.
        if key != _DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            status = status_pb2.Status.FromString(value)
        except DecodeError:
            break
        # Something on the way may have replaced the code: then the details are not about this failure.
        if status.code == code_pb2.Code.Value(code.value):
            return from_status(status, request_id)
    details = failure.details() or code.value
    if code is Code.UNAVAILABLE:
        return unreachable(endpoint, details, request_id)
    return _class_of(code, "")(details, code=code, request_id=request_id)


def unreachable(endpoint: str, details: str, request_id: str | None = None) -> Unreachable:
    """No answer, and what to do about it."""
    return Unreachable(
        f"no Hoist server answers at {endpoint}: start one with `hoist serve`, or name another endpoint by "
        f"argument or in HOIST_ENDPOINT ({details})",
        code=Code.UNAVAILABLE,
        request_id=request_id,
    )


def from_operation(name: str, status: status_pb2.Status, request_id: str | None) -> Error:
    """Why an operation ended without success."""
    return about(name, from_status(status, request_id, _class_of_end(decode(Code, status.code))))


def _class_of_end(code: Code) -> type[Error]:
    if code is Code.CANCELLED:
        return OperationCancelled
    if code is Code.DEADLINE_EXCEEDED:
        return OperationTimedOut
    if code is Code.NOT_FOUND:
        return OperationNotFound
    return OperationRefused if code in _REFUSALS else OperationFailed


def of_caching(error: Error) -> Error:
    """Why a lease was not granted, in the class that `cache` raises for the same reason."""
    if type(error) not in (Error, Refused) or error.reason not in _OF_CACHING:
        return error
    told = _class_of_end(error.code)(
        error.message,
        code=error.code,
        reason=error.reason,
        metadata=error.metadata,
        retry_after=error.retry_after,
        request_id=error.request_id,
    )
    told.operation = error.operation
    return told


def about(name: str, error: Error) -> Error:
    """The same error, with the operation that it is about."""
    error.operation = name
    if name.removeprefix("operations/") not in error.message:
        error.message = f"{name}: {error.message}"
        if isinstance(error, Unreachable):
            error.message += (
                f"; see later with `hoist ops show {name.removeprefix('operations/')}` what became of it"
            )
        error.args = (error.message,)
    return error


def closed() -> Error:
    """What a call on a closed client raises."""
    return Error("the client is closed: make another with connect()", code=Code.FAILED_PRECONDITION)
