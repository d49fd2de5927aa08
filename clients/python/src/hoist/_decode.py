"""From messages to values, and the few conversions the other way."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import timedelta

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf.duration_pb2 import Duration

from hoist import (
    _decode_cache,
    _decode_devices,
    _decode_models,
    _decode_residency,
    _errors,
    _quantities,
)
from hoist._cache import Lease, Segment
from hoist._devices import Device
from hoist._enums import (
    ConfigOrigin,
    MachineState,
    MeasurementKind,
    OperationKind,
    OperationState,
    Severity,
)
from hoist._enums import decode as enum
from hoist._models import Model
from hoist._operation_result import Result
from hoist._proto.v1 import (
    admin_service_pb2,
    cache_service_pb2,
    catalog_service_pb2,
    integrity_service_pb2,
    operation_pb2,
    residency_service_pb2,
    resources_pb2,
    state_service_pb2,
)
from hoist._quantities import Size, Time
from hoist._residency import Replica
from hoist._times import span, span_if, time, time_if
from hoist._types import (
    ComponentStatus,
    Condition,
    ConfigEntry,
    Machine,
    MachineStatus,
    Measurement,
    ModelStatus,
    OperationMetadata,
    Position,
    ProbeResult,
    Progress,
    ReplicaStatus,
    Resource,
    Status,
)

_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def to_span(name: str, value: Time | None) -> Duration | None:
    """A span of time for the wire. Raises as `seconds` does."""
    exact = seconds(name, value)
    if exact is None:
        return None
    result = Duration()
    try:
        if isinstance(value, str):
            result.FromNanoseconds(_quantities.nanoseconds(name, value))
        else:
            result.FromTimedelta(value if isinstance(value, timedelta) else timedelta(seconds=exact))
    except (OverflowError, ValueError):
        raise ValueError(f"{name}: {value!r} is more than a request can say") from None
    return result


def seconds(name: str, value: Time | None) -> float | None:
    """Raises TypeError for what is no number, text or timedelta, ValueError for what is no span of time."""
    if value is None:
        return None
    if isinstance(value, str):
        return _quantities.nanoseconds(name, value) / 1e9
    if isinstance(value, bool) or not isinstance(value, (int, float, timedelta)):
        raise TypeError(f"{name} must be a number of seconds, a timedelta or a text as '90s', not {value!r}")
    exact = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if math.isnan(exact):
        raise ValueError(f"{name}: {value!r} is not a number of seconds")
    if exact < 0:
        raise ValueError(f"{name} must not be negative, and is {value!r}")
    return exact


def number(name: str, value: int | None, least: int = 0) -> int:
    """A whole number for the wire, where None is 0."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if not least <= value < 2**63:
        raise ValueError(f"{name} must be a whole number of at least {least}, and is {value!r}")
    return value


def size(name: str, value: Size | None) -> int:
    """A number of bytes for the wire, where None is 0."""
    if value is None or isinstance(value, int):
        return number(name, value)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a whole number of bytes or a text as '8GiB', not {value!r}")
    return number(name, _quantities.size(name, value))


def word(name: str, value: str) -> str:
    """A string for the wire."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {value!r}")
    if not is_utf8(value):
        raise ValueError(f"{name} is not UTF-8, which a request cannot say: {value!r}")
    return value


def is_utf8(value: str) -> bool:
    """False for what Python makes of a file's name that is not UTF-8: it holds lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def words(name: str, values: Iterable[str] | None) -> tuple[str, ...]:
    """Names as a tuple. A lone string would be taken letter by letter, which nobody means."""
    if isinstance(values, str):
        raise TypeError(f"{name} must be a list of strings, not {values!r}")
    if values is not None and not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of strings, not {values!r}")
    return tuple(word(name, each) for each in values or ())


def resource_name(argument: str, value: str, kind: str = "operations") -> str:
    """The name of a resource; the id of an operation (or of another `kind`) alone stands for it."""
    name = word(argument, value)
    return f"{kind}/{name.lower()}" if _ID.fullmatch(name) else name


def resource_names(argument: str, values: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(resource_name(argument, each) for each in words(argument, values))


def position(message: resources_pb2.Position) -> Position:
    return Position(message.epoch, message.revision)


def measurement(message: resources_pb2.Measurement) -> Measurement:
    return Measurement(
        kind=enum(MeasurementKind, message.kind),
        bytes=message.bytes,
        duration=span(message.duration),
        bytes_per_second=message.bytes_per_second,
        threads=message.threads,
        block_bytes=message.block_bytes,
        measure_time=time(message.measure_time),
        note=message.note,
    )


def machine(message: resources_pb2.Machine) -> Machine:
    return Machine(
        state=enum(MachineState, message.state),
        version=message.version,
        process_id=message.process_id,
        start_time=time(message.start_time),
        measurements=tuple(map(measurement, message.measurements)),
    )


def condition(message: resources_pb2.Condition) -> Condition:
    return Condition(
        kind=message.kind,
        severity=enum(Severity, message.severity),
        message=message.message,
        advice=message.advice,
        since_time=time(message.since_time),
        details=tuple(message.details),
    )


def progress(message: operation_pb2.Progress) -> Progress:
    return Progress(
        phase=message.phase,
        done_bytes=message.done_bytes,
        total_bytes=message.total_bytes,
        bytes_per_second=message.bytes_per_second if message.HasField("bytes_per_second") else None,
        remaining=span_if(message, "remaining"),
        stalled=span_if(message, "stalled"),
        done_items=message.done_items,
        total_items=message.total_items,
    )


def operation_metadata(message: operation_pb2.OperationMetadata) -> OperationMetadata:
    error = None
    if message.HasField("error"):
        error = _errors.from_operation(message.name, message.error, message.request_id or None)
    return OperationMetadata(
        name=message.name,
        kind=enum(OperationKind, message.kind),
        state=enum(OperationState, message.state),
        request_id=message.request_id,
        principal=message.principal,
        create_time=time(message.create_time),
        start_time=time_if(message, "start_time"),
        end_time=time_if(message, "end_time"),
        attempts=message.attempts,
        cancel_requested=message.cancel_requested,
        error=error,
        progress=progress(message.progress) if message.HasField("progress") else None,
        subject=message.subject,
    )


def resource(message: resources_pb2.Resource) -> Resource:
    value: Machine | OperationMetadata | Condition | Model | Segment | Lease | Device | Replica | None = None
    match message.WhichOneof("value"):
        case "machine":
            value = machine(message.machine)
        case "operation":
            value = operation_metadata(message.operation)
        case "condition":
            value = condition(message.condition)
        case "model":
            value = _decode_models.model(message.model)
        case "segment":
            value = _decode_cache.segment(message.segment)
        case "lease":
            value = _decode_cache.lease(message.lease)
        case "device":
            value = _decode_devices.device(message.device)
        case "replica":
            value = _decode_residency.replica(message.replica)
    return Resource(message.name, position(message.position), value)


def status(message: state_service_pb2.Status) -> Status:
    return Status(
        name=message.name,
        position=position(message.position),
        resource=resource(message.resource),
        machine=machine_status(message.machine) if message.HasField("machine") else None,
        model=model_status(message.model) if message.HasField("model") else None,
    )


def machine_status(message: state_service_pb2.MachineStatus) -> MachineStatus:
    return MachineStatus(
        uptime=span(message.uptime),
        conditions=tuple(map(condition, message.conditions)),
        operation_counts={enum(OperationState, each.state): each.count for each in message.operation_counts},
        watch_streams=message.watch_streams,
        request_ids=message.request_ids,
        request_ids_limit=message.request_ids_limit,
        oldest_revision=message.oldest_revision,
        first_look_models=message.first_look.models if message.HasField("first_look") else None,
        devices=tuple(map(_decode_devices.device, message.devices)),
        active_replicas=message.active_replicas,
        loaded_models=message.loaded_models,
        missing_models=message.missing_models,
        segments=message.segments,
        segment_bytes=message.segment_bytes,
    )


def component_status(message: state_service_pb2.ComponentStatus) -> ComponentStatus:
    return ComponentStatus(
        component=message.component,
        segment=_decode_cache.segment(message.segment) if message.HasField("segment") else None,
        idle=span_if(message, "idle"),
        uses=message.uses,
        leases=message.leases,
        replicas=tuple(
            ReplicaStatus(_decode_residency.replica(each.replica), each.unknown) for each in message.replicas
        ),
    )


def model_status(message: state_service_pb2.ModelStatus) -> ModelStatus:
    return ModelStatus(
        components=tuple(map(component_status, message.components)),
        operations=tuple(map(operation_metadata, message.operations)),
        leases=message.leases,
        cached=message.cached,
        loaded_on=tuple(message.loaded_on),
        missing_on=tuple(message.missing_on),
    )


def config_entry(message: admin_service_pb2.ConfigEntry) -> ConfigEntry:
    return ConfigEntry(
        key=message.key,
        value=message.value,
        origin=enum(ConfigOrigin, message.origin),
        origin_detail=message.origin_detail,
        description=message.description,
    )


def operation(message: operations_pb2.Operation) -> OperationMetadata:
    """The metadata of a standard operation, with the name and the end that the standard fields state."""
    metadata = operation_pb2.OperationMetadata()
    message.metadata.Unpack(metadata)
    return operation_metadata(metadata)


def result(message: operations_pb2.Operation) -> Result:
    """What a finished operation produced. Raises why it did not."""
    metadata = operation(message)
    if message.HasField("error"):
        raise _errors.from_operation(message.name, message.error, metadata.request_id or None)
    probe = admin_service_pb2.ProbeMachineResponse()
    if message.response.Unpack(probe):
        return ProbeResult(tuple(map(measurement, probe.measurements)))
    scan = catalog_service_pb2.ScanModelsResponse()
    if message.response.Unpack(scan):
        return _decode_models.scan(scan)
    digests = catalog_service_pb2.DigestModelsResponse()
    if message.response.Unpack(digests):
        return _decode_models.digest(digests)
    validation = integrity_service_pb2.ValidateModelResponse()
    if message.response.Unpack(validation):
        return _decode_models.validation(validation)
    cached = cache_service_pb2.CacheModelResponse()
    if message.response.Unpack(cached):
        return _decode_cache.cached(cached)
    loaded = residency_service_pb2.LoadModelResponse()
    if message.response.Unpack(loaded):
        return _decode_residency.loaded(loaded)
    unloaded = residency_service_pb2.UnloadModelResponse()
    if message.response.Unpack(unloaded):
        return _decode_residency.unloaded(unloaded)
    kind = message.response.type_url or "nothing"
    raise _errors.Error(f"{message.name} produced {kind}, which this client is too old to read")
