"""The words of the contract as string enums, each tied to its enum on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol, TypeVar

from google.rpc import code_pb2

from hoist._proto.v1 import (
    admin_service_pb2,
    cache_service_pb2,
    integrity_service_pb2,
    model_pb2,
    operation_pb2,
    residency_service_pb2,
    resources_pb2,
    state_service_pb2,
)


class _Wire(Protocol):
    """What protobuf gives for an enum."""

    def Name(self, number: int) -> str: ...
    def items(self) -> Sequence[tuple[str, int]]: ...


class WireEnum(str, Enum):
    """A value is its own name on the wire, less the prefix: `OperationState.RUNNING == "RUNNING"`."""

    # Python 3.10 and 3.12 format mixed-in enums differently; this makes both print the bare word.
    __str__ = str.__str__


class Code(WireEnum):
    """What kind of failure it is: the gRPC status codes."""

    OK = "OK"
    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"


class ResourceKind(WireEnum):
    """The kinds of resource. UNSPECIFIED: a kind that is newer than this client."""

    UNSPECIFIED = "UNSPECIFIED"
    MACHINE = "MACHINE"
    OPERATION = "OPERATION"
    CONDITION = "CONDITION"
    MODEL = "MODEL"
    SEGMENT = "SEGMENT"
    LEASE = "LEASE"
    DEVICE = "DEVICE"
    REPLICA = "REPLICA"


class OperationKind(WireEnum):
    """What an operation does. UNSPECIFIED: something that is newer than this client."""

    UNSPECIFIED = "UNSPECIFIED"
    PROBE_MACHINE = "PROBE_MACHINE"
    SCAN_MODELS = "SCAN_MODELS"
    DIGEST_MODELS = "DIGEST_MODELS"
    VALIDATE_MODEL = "VALIDATE_MODEL"
    CACHE_MODEL = "CACHE_MODEL"
    LOAD_MODEL = "LOAD_MODEL"
    UNLOAD_MODEL = "UNLOAD_MODEL"


class OperationState(WireEnum):
    """Where an operation is in its life: PENDING, RUNNING, then exactly one of the last three, for ever."""

    UNSPECIFIED = "UNSPECIFIED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def done(self) -> bool:
        """Whether it is one of the last three."""
        return self in (OperationState.SUCCEEDED, OperationState.FAILED, OperationState.CANCELLED)


class MachineState(WireEnum):
    """Where the coordinator is in its life. DRAINING: it refuses new work and ends soon."""

    UNSPECIFIED = "UNSPECIFIED"
    SERVING = "SERVING"
    DRAINING = "DRAINING"


class MeasurementKind(WireEnum):
    """What can be measured about the machine."""

    UNSPECIFIED = "UNSPECIFIED"
    DISK_READ = "DISK_READ"
    TMPFS_WRITE = "TMPFS_WRITE"
    MEMORY_COPY = "MEMORY_COPY"


class Severity(WireEnum):
    """How much a condition matters."""

    UNSPECIFIED = "UNSPECIFIED"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class ConfigOrigin(WireEnum):
    """Where a setting's value came from; a later one wins over an earlier one."""

    UNSPECIFIED = "UNSPECIFIED"
    DEFAULT = "DEFAULT"
    FILE = "FILE"
    ENVIRONMENT = "ENVIRONMENT"
    FLAG = "FLAG"


class ModelState(WireEnum):
    """Whether a model's files are there."""

    UNSPECIFIED = "UNSPECIFIED"
    AVAILABLE = "AVAILABLE"
    MISSING = "MISSING"


class Verdict(WireEnum):
    """What may be concluded about a model's files. The worst finding decides."""

    UNSPECIFIED = "UNSPECIFIED"
    OK = "OK"
    SUSPICIOUS = "SUSPICIOUS"
    INCOMPLETE = "INCOMPLETE"
    CORRUPT = "CORRUPT"
    REJECTED = "REJECTED"
    MALICIOUS = "MALICIOUS"

    @property
    def loadable(self) -> bool:
        """Whether nothing stands against loading it: OK, or SUSPICIOUS, which is for people to judge."""
        return self in (Verdict.OK, Verdict.SUSPICIOUS)


class FindingKind(WireEnum):
    """Where in a model the trouble lies."""

    UNSPECIFIED = "UNSPECIFIED"
    HEADER = "HEADER"
    DATA = "DATA"
    METADATA = "METADATA"
    PARTIAL = "PARTIAL"
    CHECKSUM = "CHECKSUM"
    PICKLE = "PICKLE"
    ZIP = "ZIP"
    PATH = "PATH"
    FS = "FS"
    UNSUPPORTED = "UNSUPPORTED"


class ValidationLevel(WireEnum):
    """How closely to look: the headers, every byte, or whether a device can take it."""

    UNSPECIFIED = "UNSPECIFIED"
    HEADER = "HEADER"
    FULL = "FULL"
    COMPATIBILITY = "COMPATIBILITY"


class CheckCategory(WireEnum):
    """What a check of compatibility is about."""

    UNSPECIFIED = "UNSPECIFIED"
    ACCESS = "ACCESS"
    INTEGRITY = "INTEGRITY"
    FORMAT = "FORMAT"
    DTYPE = "DTYPE"
    CODE = "CODE"
    MEMORY = "MEMORY"


class CheckResult(WireEnum):
    """How a check ended. WARNING: possible, at a price."""

    UNSPECIFIED = "UNSPECIFIED"
    OK = "OK"
    WARNING = "WARNING"
    FAILED = "FAILED"


class Priority(WireEnum):
    """How much something matters: what matters less gives way to what matters more."""

    UNSPECIFIED = "UNSPECIFIED"
    BACKGROUND = "BACKGROUND"
    LOW = "LOW"
    NORMAL = "NORMAL"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


class EvictionPolicy(WireEnum):
    """By what rule room is made. COST: what is expected to be missed least goes first. UNSPECIFIED: COST."""

    UNSPECIFIED = "UNSPECIFIED"
    COST = "COST"
    LRU = "LRU"


class CachedSource(WireEnum):
    """How a component came into RAM. SHARED: it was read, and found to be equal to what was there."""

    UNSPECIFIED = "UNSPECIFIED"
    RESIDENT = "RESIDENT"
    READ = "READ"
    SHARED = "SHARED"


class SegmentState(WireEnum):
    """Where a segment is in its life. EVICTING: withdrawn; those who have it open keep it."""

    UNSPECIFIED = "UNSPECIFIED"
    FILLING = "FILLING"
    SEALED = "SEALED"
    EVICTING = "EVICTING"


class EvictionReason(WireEnum):
    """Why a segment was evicted."""

    UNSPECIFIED = "UNSPECIFIED"
    ASKED = "ASKED"
    ROOM = "ROOM"
    PRESSURE = "PRESSURE"
    IDLE = "IDLE"


class LeaseState(WireEnum):
    """Whether a lease's holder is there. AWAITED: the server was restarted, and may be come back to."""

    UNSPECIFIED = "UNSPECIFIED"
    HELD = "HELD"
    AWAITED = "AWAITED"


class DeviceState(WireEnum):
    """Where a device is in its life. LOST: it is not there, or not to be trusted: its worker is not."""

    UNSPECIFIED = "UNSPECIFIED"
    OPEN = "OPEN"
    CORDONED = "CORDONED"
    DRAINING = "DRAINING"
    LOST = "LOST"


class WorkerState(WireEnum):
    """Where the process that drives a device is in its life."""

    UNSPECIFIED = "UNSPECIFIED"
    CONNECTING = "CONNECTING"
    REGISTERED = "REGISTERED"
    ACTIVE = "ACTIVE"
    SUSPECT = "SUSPECT"
    DRAINING = "DRAINING"
    LOST = "LOST"
    QUARANTINED = "QUARANTINED"


class ReplicaVerdict(WireEnum):
    """How a comparison of a replica with its segment came out."""

    EQUAL = "EQUAL"
    DIFFERENT = "DIFFERENT"
    NOT_COMPARED = "NOT_COMPARED"
    """There is nothing to compare with, or nobody who compares."""
    SEGMENT_DAMAGED = "SEGMENT_DAMAGED"
    """What is in RAM is not what its digest says."""
    UNSPECIFIED = "UNSPECIFIED"


class ReplicaState(WireEnum):
    """Where a replica is in its life. ACTIVE: it can be used. FAILED: it did not get there."""

    UNSPECIFIED = "UNSPECIFIED"
    WAITING = "WAITING"
    LOADING = "LOADING"
    ACTIVE = "ACTIVE"
    UNLOADING = "UNLOADING"
    FAILED = "FAILED"


class Placement(WireEnum):
    """How a device is found: where it is best, where the least part is taken, or where the least is left."""

    UNSPECIFIED = "UNSPECIFIED"
    ANY = "ANY"
    SPREAD = "SPREAD"
    PACK = "PACK"


class LoadStrategy(WireEnum):
    """How a model is brought to a device. The server refuses those that it cannot do yet."""

    UNSPECIFIED = "UNSPECIFIED"
    STANDARD = "STANDARD"
    BALANCED = "BALANCED"
    MEMORY_OPTIMIZED = "MEMORY_OPTIMIZED"
    STREAMING = "STREAMING"
    COMPRESSED = "COMPRESSED"
    COMPONENT_SPLIT = "COMPONENT_SPLIT"


class OptimizationLevel(WireEnum):
    """How much is done to a model on its device. The server refuses what it cannot do yet."""

    UNSPECIFIED = "UNSPECIFIED"
    STANDARD = "STANDARD"
    BALANCED = "BALANCED"
    HIGH = "HIGH"
    MAXIMUM = "MAXIMUM"


class MemoryPool(WireEnum):
    """Whose memory a replica is in. SHARED: equal components are on a device once."""

    UNSPECIFIED = "UNSPECIFIED"
    SHARED = "SHARED"
    DEDICATED = "DEDICATED"


class SyncPace(WireEnum):
    """How long both sides may differ until that counts: half a second, two, ten, or a minute."""

    UNSPECIFIED = "UNSPECIFIED"
    HIGH = "HIGH"
    STANDARD = "STANDARD"
    BACKGROUND = "BACKGROUND"
    IDLE = "IDLE"


# A test compares this table with the descriptors: a value added to the contract and not here fails it.
WIRE: dict[type[WireEnum], tuple[_Wire, str]] = {
    Code: (code_pb2.Code, ""),
    ResourceKind: (resources_pb2.ResourceKind, "RESOURCE_KIND_"),
    OperationKind: (operation_pb2.OperationKind, "OPERATION_KIND_"),
    OperationState: (operation_pb2.OperationState, "OPERATION_STATE_"),
    MachineState: (resources_pb2.Machine.State, "STATE_"),
    MeasurementKind: (resources_pb2.MeasurementKind, "MEASUREMENT_KIND_"),
    Severity: (resources_pb2.Condition.Severity, "SEVERITY_"),
    ModelState: (model_pb2.Model.State, "STATE_"),
    Verdict: (model_pb2.Verdict, "VERDICT_"),
    FindingKind: (model_pb2.FindingKind, "FINDING_KIND_"),
    ValidationLevel: (model_pb2.ValidationLevel, "VALIDATION_LEVEL_"),
    CheckCategory: (integrity_service_pb2.CompatibilityCheck.Category, "CATEGORY_"),
    CheckResult: (integrity_service_pb2.CompatibilityCheck.Result, "RESULT_"),
    Priority: (model_pb2.Priority, "PRIORITY_"),
    EvictionPolicy: (cache_service_pb2.EvictionPolicy, "EVICTION_POLICY_"),
    CachedSource: (cache_service_pb2.CachedComponent.Source, "SOURCE_"),
    SegmentState: (resources_pb2.Segment.State, "STATE_"),
    EvictionReason: (resources_pb2.Eviction.Reason, "REASON_"),
    DeviceState: (resources_pb2.Device.State, "STATE_"),
    WorkerState: (resources_pb2.Worker.State, "STATE_"),
    ReplicaState: (resources_pb2.Replica.State, "STATE_"),
    ReplicaVerdict: (residency_service_pb2.VerifiedReplica.Verdict, "VERDICT_"),
    Placement: (residency_service_pb2.Placement, "PLACEMENT_"),
    LoadStrategy: (residency_service_pb2.LoadStrategy, "LOAD_STRATEGY_"),
    OptimizationLevel: (residency_service_pb2.OptimizationLevel, "OPTIMIZATION_LEVEL_"),
    MemoryPool: (residency_service_pb2.MemoryPool, "MEMORY_POOL_"),
    LeaseState: (resources_pb2.Lease.State, "STATE_"),
    SyncPace: (state_service_pb2.SyncPace, "SYNC_PACE_"),
    ConfigOrigin: (admin_service_pb2.ConfigEntry.Origin, "ORIGIN_"),
}

E = TypeVar("E", bound=WireEnum)


def decode(kind: type[E], number: int) -> E:
    """The enum for a number. What this client does not know yet is UNSPECIFIED (for Code: UNKNOWN)."""
    wire, prefix = WIRE[kind]
    try:
        return kind(wire.Name(number).removeprefix(prefix))
    except ValueError:
        return kind("UNKNOWN" if kind is Code else "UNSPECIFIED")


def encode(kind: type[E], value: E | str) -> str:
    """The name on the wire for an enum or its word, in either case. Raises ValueError for another word."""
    _, prefix = WIRE[kind]
    try:
        word: str = kind(value.upper()).value
    except (ValueError, AttributeError):
        known = ", ".join(each.value for each in kind if each.value != "UNSPECIFIED")
        raise ValueError(f"{value!r} is not a {kind.__name__}: use {known}") from None
    return prefix + word
