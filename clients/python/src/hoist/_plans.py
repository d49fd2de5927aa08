"""What each call does, without I/O: generators of steps, which the sync and asyncio clients carry out.

So retries, waiting and request ids exist once. A step fails by an `Error` thrown into the generator.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from hoist import _backoff, _decode, _decode_devices, _errors, _methods
from hoist._devices import Device
from hoist._enums import Code, MeasurementKind, encode
from hoist._errors import Error, NotFound, TimedOut
from hoist._methods import Method, Req, Res
from hoist._proto.v1 import admin_service_pb2 as admin
from hoist._proto.v1 import device_service_pb2
from hoist._proto.v1 import state_service_pb2 as state
from hoist._quantities import Size, Time
from hoist._types import ConfigEntry, Progress, Status

# One WaitOperation is at most this long, so that a connection that died quietly is noticed.
WAIT_SECONDS = 30.0
# How often a caller hears of progress.
PROGRESS_SECONDS = 0.2


@dataclass(frozen=True)
class Call:
    """Make this call."""

    method: Method[Any, Any]
    request: Message
    extra_seconds: float = 0.0
    """On top of the client's timeout: how long the server was asked to hold the answer back."""


@dataclass(frozen=True)
class Pause:
    """Wait this long."""

    seconds: float


T = TypeVar("T")
Plan = Generator[Call | Pause, Any, T]


def call_timeout(timeout: Time) -> float:
    """What `connect` was told: how long one call may take."""
    seconds = _decode.seconds("timeout", timeout)
    if not seconds:
        raise ValueError(f"timeout must be more than 0 seconds, and is {timeout!r}")
    return seconds


def fresh_id() -> str:
    return str(uuid.uuid4())


def chosen_id(given: str | None) -> str:
    """The id that a caller gave, for a request that may be repeated, or a fresh one."""
    return _decode.word("request_id", given or fresh_id())


def unary(
    method: Method[Req, Res], request: Req, *, extra_seconds: float = 0.0, tries: int = _backoff.TRIES
) -> Plan[Res]:
    """One call, repeated with the same request id while the connection is to blame."""
    backoff = _backoff.Backoff()
    for _ in range(tries - 1):
        try:
            answer: Res = yield Call(method, request, extra_seconds)
            return answer
        except Error as error:
            if not _backoff.worth_repeating(error):
                raise
            delay = backoff.delay(error)
        yield Pause(delay)
    answer = yield Call(method, request, extra_seconds)
    return answer


def greet(endpoint: str) -> Plan[None]:
    """Finds out, once and cheaply, whether a Hoist server answers."""
    request = state.GetStatusRequest(request_id=fresh_id(), field_mask=FieldMask(paths=["name"]))
    try:
        yield from unary(_methods.GET_STATUS, request, tries=1)
    except TimedOut as error:
        raise _errors.unreachable(endpoint, error.message, error.request_id) from error
    except Error as error:
        if error.code is Code.UNIMPLEMENTED:
            raise _errors.unreachable(endpoint, "what answers there is something else") from error
        raise


def status(name: str) -> Plan[Status]:
    request = state.GetStatusRequest(request_id=fresh_id(), name=_decode.resource_name("name", name))
    answer = yield from unary(_methods.GET_STATUS, request)
    return _decode.status(answer.status)


def statuses(names: Iterable[str]) -> Plan[list[Status | Error]]:
    request = state.BatchGetStatusRequest(request_id=fresh_id(), names=_decode.resource_names("names", names))
    answer = yield from unary(_methods.BATCH_GET_STATUS, request)
    return [
        _errors.from_status(each.error, answer.request_id)
        if each.HasField("error")
        else _decode.status(each.status)
        for each in answer.results
    ]


def devices() -> Plan[list[Device]]:
    answer = yield from unary(
        _methods.LIST_DEVICES, device_service_pb2.ListDevicesRequest(request_id=fresh_id())
    )
    return [_decode_devices.device(each) for each in answer.devices]


def device(name: str) -> Plan[Device]:
    request = device_service_pb2.GetDeviceRequest(request_id=fresh_id(), name=_decode.word("name", name))
    answer = yield from unary(_methods.GET_DEVICE, request)
    return _decode_devices.device(answer.device)


def _device_name(device: str | Device) -> str:
    return _decode.word("device", device.name if isinstance(device, Device) else device)


def cordon(device: str | Device, reason: str | None, request_id: str | None) -> Plan[Device | None]:
    request = device_service_pb2.CordonDeviceRequest(
        request_id=chosen_id(request_id),
        name=_device_name(device),
        reason=_decode.word("reason", reason or ""),
    )
    answer = yield from unary(_methods.CORDON_DEVICE, request)
    return _decode_devices.device(answer.device) if answer.HasField("device") else None


def uncordon(device: str | Device, request_id: str | None) -> Plan[Device | None]:
    request = device_service_pb2.UncordonDeviceRequest(
        request_id=chosen_id(request_id), name=_device_name(device)
    )
    answer = yield from unary(_methods.UNCORDON_DEVICE, request)
    return _decode_devices.device(answer.device) if answer.HasField("device") else None


def config() -> Plan[dict[str, ConfigEntry]]:
    answer = yield from unary(_methods.GET_CONFIG, admin.GetConfigRequest(request_id=fresh_id()))
    return {entry.key: _decode.config_entry(entry) for entry in answer.entries}


def shutdown(grace: Time | None) -> Plan[None]:
    request = admin.ShutdownRequest(request_id=fresh_id(), grace=_decode.to_span("grace", grace))
    yield from unary(_methods.SHUTDOWN, request)


def probe(
    kinds: Iterable[MeasurementKind | str] | None,
    size: Size | None,
    deadline: Time | None,
    request_id: str | None,
) -> Plan[operations_pb2.Operation]:
    """Starts or joins a probe."""
    request = admin.ProbeMachineRequest(
        request_id=chosen_id(request_id),
        kinds=[encode(MeasurementKind, kind) for kind in _decode.words("kinds", kinds)],
        bytes=_decode.size("bytes", size),
        deadline=_decode.to_span("deadline", deadline),
    )
    return (yield from unary(_methods.PROBE_MACHINE, request))


def page(filter: str, page_size: int, token: str) -> Plan[operations_pb2.ListOperationsResponse]:
    size = _decode.number("page_size", page_size, least=1)
    request = operations_pb2.ListOperationsRequest(
        name="operations",
        filter=_decode.word("filter", filter),
        page_size=min(size, 2**31 - 1),
        page_token=token,
    )
    return (yield from unary(_methods.LIST_OPERATIONS, request))


def operation(name: str) -> Plan[operations_pb2.Operation]:
    request = operations_pb2.GetOperationRequest(name=_decode.resource_name("name", name))
    return (yield from unary(_methods.GET_OPERATION, request))


def wait(
    name: str,
    timeout: Time | None,
    on_progress: Callable[[Progress], object] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Plan[operations_pb2.Operation]:
    """Returns the operation once it is done; raises TimedOut when `timeout` passes first."""
    limit = _decode.seconds("timeout", timeout)
    end = None if limit is None else clock() + limit
    longest = WAIT_SECONDS if on_progress is None else PROGRESS_SECONDS
    while True:
        left = longest if end is None else max(0.0, end - clock())
        hold = min(longest, left)
        request = operations_pb2.WaitOperationRequest(name=name, timeout=_decode.to_span("timeout", hold))
        try:
            answer = yield from unary(_methods.WAIT_OPERATION, request, extra_seconds=hold)
        except Error as error:
            raise _errors.about(name, error) from None
        if answer.done:
            return answer
        progress = _decode.operation(answer).progress
        if on_progress is not None and progress is not None:
            on_progress(progress)
        if end is not None and clock() >= end:
            raise TimedOut(f"{name} is not done after {limit:g} s; it goes on", code=Code.DEADLINE_EXCEEDED)


def cancel(name: str) -> Plan[None]:
    yield from unary(_methods.CANCEL_OPERATION, operations_pb2.CancelOperationRequest(name=name))


def delete(name: str) -> Plan[None]:
    request = operations_pb2.DeleteOperationRequest(name=name)
    backoff = _backoff.Backoff()
    for attempt in range(_backoff.TRIES):
        try:
            yield from unary(_methods.DELETE_OPERATION, request, tries=1)
            return
        except NotFound:
            # A repeated call that finds nothing: the first one did it, and only its answer was lost.
            if attempt == 0:
                raise
            return
        except Error as error:
            if attempt == _backoff.TRIES - 1 or not _backoff.worth_repeating(error):
                raise
            delay = backoff.delay(error)
        yield Pause(delay)
