import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from . import model_pb2 as _model_pb2
from . import operation_pb2 as _operation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ResourceKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESOURCE_KIND_UNSPECIFIED: _ClassVar[ResourceKind]
    RESOURCE_KIND_MACHINE: _ClassVar[ResourceKind]
    RESOURCE_KIND_OPERATION: _ClassVar[ResourceKind]
    RESOURCE_KIND_CONDITION: _ClassVar[ResourceKind]
    RESOURCE_KIND_MODEL: _ClassVar[ResourceKind]
    RESOURCE_KIND_SEGMENT: _ClassVar[ResourceKind]
    RESOURCE_KIND_LEASE: _ClassVar[ResourceKind]
    RESOURCE_KIND_DEVICE: _ClassVar[ResourceKind]
    RESOURCE_KIND_REPLICA: _ClassVar[ResourceKind]

class MeasurementKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEASUREMENT_KIND_UNSPECIFIED: _ClassVar[MeasurementKind]
    MEASUREMENT_KIND_DISK_READ: _ClassVar[MeasurementKind]
    MEASUREMENT_KIND_TMPFS_WRITE: _ClassVar[MeasurementKind]
    MEASUREMENT_KIND_MEMORY_COPY: _ClassVar[MeasurementKind]
RESOURCE_KIND_UNSPECIFIED: ResourceKind
RESOURCE_KIND_MACHINE: ResourceKind
RESOURCE_KIND_OPERATION: ResourceKind
RESOURCE_KIND_CONDITION: ResourceKind
RESOURCE_KIND_MODEL: ResourceKind
RESOURCE_KIND_SEGMENT: ResourceKind
RESOURCE_KIND_LEASE: ResourceKind
RESOURCE_KIND_DEVICE: ResourceKind
RESOURCE_KIND_REPLICA: ResourceKind
MEASUREMENT_KIND_UNSPECIFIED: MeasurementKind
MEASUREMENT_KIND_DISK_READ: MeasurementKind
MEASUREMENT_KIND_TMPFS_WRITE: MeasurementKind
MEASUREMENT_KIND_MEMORY_COPY: MeasurementKind

class Position(_message.Message):
    __slots__ = ("epoch", "revision")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    revision: int
    def __init__(self, epoch: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class Resource(_message.Message):
    __slots__ = ("name", "position", "machine", "operation", "condition", "model", "segment", "lease", "device", "replica")
    NAME_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    name: str
    position: Position
    machine: Machine
    operation: _operation_pb2.OperationMetadata
    condition: Condition
    model: _model_pb2.Model
    segment: Segment
    lease: Lease
    device: Device
    replica: Replica
    def __init__(self, name: _Optional[str] = ..., position: _Optional[_Union[Position, _Mapping]] = ..., machine: _Optional[_Union[Machine, _Mapping]] = ..., operation: _Optional[_Union[_operation_pb2.OperationMetadata, _Mapping]] = ..., condition: _Optional[_Union[Condition, _Mapping]] = ..., model: _Optional[_Union[_model_pb2.Model, _Mapping]] = ..., segment: _Optional[_Union[Segment, _Mapping]] = ..., lease: _Optional[_Union[Lease, _Mapping]] = ..., device: _Optional[_Union[Device, _Mapping]] = ..., replica: _Optional[_Union[Replica, _Mapping]] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("name", "device_id", "state", "model", "capacity_bytes", "used_bytes", "free_bytes", "mapped_bytes", "maps_segments", "dtypes", "libraries", "worker", "cordoned", "cordon_reason", "granularity_bytes", "alignment_bytes", "others_bytes", "problem", "lent_bytes", "lent_processes", "bus_bytes_per_second", "memory_node")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Device.State]
        STATE_OPEN: _ClassVar[Device.State]
        STATE_CORDONED: _ClassVar[Device.State]
        STATE_DRAINING: _ClassVar[Device.State]
        STATE_LOST: _ClassVar[Device.State]
    STATE_UNSPECIFIED: Device.State
    STATE_OPEN: Device.State
    STATE_CORDONED: Device.State
    STATE_DRAINING: Device.State
    STATE_LOST: Device.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_BYTES_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAPPED_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAPS_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    DTYPES_FIELD_NUMBER: _ClassVar[int]
    LIBRARIES_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    CORDONED_FIELD_NUMBER: _ClassVar[int]
    CORDON_REASON_FIELD_NUMBER: _ClassVar[int]
    GRANULARITY_BYTES_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    OTHERS_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    LENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    LENT_PROCESSES_FIELD_NUMBER: _ClassVar[int]
    BUS_BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    MEMORY_NODE_FIELD_NUMBER: _ClassVar[int]
    name: str
    device_id: str
    state: Device.State
    model: str
    capacity_bytes: int
    used_bytes: int
    free_bytes: int
    mapped_bytes: int
    maps_segments: bool
    dtypes: _containers.RepeatedScalarFieldContainer[str]
    libraries: _containers.RepeatedScalarFieldContainer[str]
    worker: Worker
    cordoned: bool
    cordon_reason: str
    granularity_bytes: int
    alignment_bytes: int
    others_bytes: int
    problem: str
    lent_bytes: int
    lent_processes: int
    bus_bytes_per_second: int
    memory_node: int
    def __init__(self, name: _Optional[str] = ..., device_id: _Optional[str] = ..., state: _Optional[_Union[Device.State, str]] = ..., model: _Optional[str] = ..., capacity_bytes: _Optional[int] = ..., used_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., mapped_bytes: _Optional[int] = ..., maps_segments: bool = ..., dtypes: _Optional[_Iterable[str]] = ..., libraries: _Optional[_Iterable[str]] = ..., worker: _Optional[_Union[Worker, _Mapping]] = ..., cordoned: bool = ..., cordon_reason: _Optional[str] = ..., granularity_bytes: _Optional[int] = ..., alignment_bytes: _Optional[int] = ..., others_bytes: _Optional[int] = ..., problem: _Optional[str] = ..., lent_bytes: _Optional[int] = ..., lent_processes: _Optional[int] = ..., bus_bytes_per_second: _Optional[int] = ..., memory_node: _Optional[int] = ...) -> None: ...

class Worker(_message.Message):
    __slots__ = ("state", "worker_id", "incarnation", "process_id", "release", "supervised", "restarts", "problem", "state_time")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Worker.State]
        STATE_CONNECTING: _ClassVar[Worker.State]
        STATE_REGISTERED: _ClassVar[Worker.State]
        STATE_ACTIVE: _ClassVar[Worker.State]
        STATE_SUSPECT: _ClassVar[Worker.State]
        STATE_DRAINING: _ClassVar[Worker.State]
        STATE_LOST: _ClassVar[Worker.State]
        STATE_QUARANTINED: _ClassVar[Worker.State]
    STATE_UNSPECIFIED: Worker.State
    STATE_CONNECTING: Worker.State
    STATE_REGISTERED: Worker.State
    STATE_ACTIVE: Worker.State
    STATE_SUSPECT: Worker.State
    STATE_DRAINING: Worker.State
    STATE_LOST: Worker.State
    STATE_QUARANTINED: Worker.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PROCESS_ID_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    SUPERVISED_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    STATE_TIME_FIELD_NUMBER: _ClassVar[int]
    state: Worker.State
    worker_id: str
    incarnation: str
    process_id: int
    release: str
    supervised: bool
    restarts: int
    problem: str
    state_time: _timestamp_pb2.Timestamp
    def __init__(self, state: _Optional[_Union[Worker.State, str]] = ..., worker_id: _Optional[str] = ..., incarnation: _Optional[str] = ..., process_id: _Optional[int] = ..., release: _Optional[str] = ..., supervised: bool = ..., restarts: _Optional[int] = ..., problem: _Optional[str] = ..., state_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Replica(_message.Message):
    __slots__ = ("name", "device_id", "segment", "dtype", "state", "models", "priority", "planned_bytes", "own_bytes", "mapped_bytes", "tensors", "load_time", "failure", "create_time")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Replica.State]
        STATE_WAITING: _ClassVar[Replica.State]
        STATE_LOADING: _ClassVar[Replica.State]
        STATE_ACTIVE: _ClassVar[Replica.State]
        STATE_UNLOADING: _ClassVar[Replica.State]
        STATE_FAILED: _ClassVar[Replica.State]
    STATE_UNSPECIFIED: Replica.State
    STATE_WAITING: Replica.State
    STATE_LOADING: Replica.State
    STATE_ACTIVE: Replica.State
    STATE_UNLOADING: Replica.State
    STATE_FAILED: Replica.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PLANNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    OWN_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAPPED_BYTES_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    LOAD_TIME_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    device_id: str
    segment: str
    dtype: str
    state: Replica.State
    models: _containers.RepeatedScalarFieldContainer[str]
    priority: _model_pb2.Priority
    planned_bytes: int
    own_bytes: int
    mapped_bytes: int
    tensors: int
    load_time: _duration_pb2.Duration
    failure: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., device_id: _Optional[str] = ..., segment: _Optional[str] = ..., dtype: _Optional[str] = ..., state: _Optional[_Union[Replica.State, str]] = ..., models: _Optional[_Iterable[str]] = ..., priority: _Optional[_Union[_model_pb2.Priority, str]] = ..., planned_bytes: _Optional[int] = ..., own_bytes: _Optional[int] = ..., mapped_bytes: _Optional[int] = ..., tensors: _Optional[int] = ..., load_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., failure: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("name", "state", "size_bytes", "raw", "type", "priority", "models", "seal_time", "zombie", "eviction")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Segment.State]
        STATE_FILLING: _ClassVar[Segment.State]
        STATE_SEALED: _ClassVar[Segment.State]
        STATE_EVICTING: _ClassVar[Segment.State]
    STATE_UNSPECIFIED: Segment.State
    STATE_FILLING: Segment.State
    STATE_SEALED: Segment.State
    STATE_EVICTING: Segment.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    SEAL_TIME_FIELD_NUMBER: _ClassVar[int]
    ZOMBIE_FIELD_NUMBER: _ClassVar[int]
    EVICTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: Segment.State
    size_bytes: int
    raw: bool
    type: str
    priority: _model_pb2.Priority
    models: _containers.RepeatedScalarFieldContainer[str]
    seal_time: _timestamp_pb2.Timestamp
    zombie: bool
    eviction: Eviction
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[Segment.State, str]] = ..., size_bytes: _Optional[int] = ..., raw: bool = ..., type: _Optional[str] = ..., priority: _Optional[_Union[_model_pb2.Priority, str]] = ..., models: _Optional[_Iterable[str]] = ..., seal_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., zombie: bool = ..., eviction: _Optional[_Union[Eviction, _Mapping]] = ...) -> None: ...

class Eviction(_message.Message):
    __slots__ = ("reason", "beneficiary")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Eviction.Reason]
        REASON_ASKED: _ClassVar[Eviction.Reason]
        REASON_ROOM: _ClassVar[Eviction.Reason]
        REASON_PRESSURE: _ClassVar[Eviction.Reason]
        REASON_IDLE: _ClassVar[Eviction.Reason]
    REASON_UNSPECIFIED: Eviction.Reason
    REASON_ASKED: Eviction.Reason
    REASON_ROOM: Eviction.Reason
    REASON_PRESSURE: Eviction.Reason
    REASON_IDLE: Eviction.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    BENEFICIARY_FIELD_NUMBER: _ClassVar[int]
    reason: Eviction.Reason
    beneficiary: str
    def __init__(self, reason: _Optional[_Union[Eviction.Reason, str]] = ..., beneficiary: _Optional[str] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("name", "state", "model", "segments", "size_bytes", "holder", "principal", "grant_time", "process_id", "device_id", "replicas")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Lease.State]
        STATE_HELD: _ClassVar[Lease.State]
        STATE_AWAITED: _ClassVar[Lease.State]
    STATE_UNSPECIFIED: Lease.State
    STATE_HELD: Lease.State
    STATE_AWAITED: Lease.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    GRANT_TIME_FIELD_NUMBER: _ClassVar[int]
    PROCESS_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: Lease.State
    model: str
    segments: _containers.RepeatedScalarFieldContainer[str]
    size_bytes: int
    holder: str
    principal: str
    grant_time: _timestamp_pb2.Timestamp
    process_id: int
    device_id: str
    replicas: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[Lease.State, str]] = ..., model: _Optional[str] = ..., segments: _Optional[_Iterable[str]] = ..., size_bytes: _Optional[int] = ..., holder: _Optional[str] = ..., principal: _Optional[str] = ..., grant_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., process_id: _Optional[int] = ..., device_id: _Optional[str] = ..., replicas: _Optional[_Iterable[str]] = ...) -> None: ...

class Machine(_message.Message):
    __slots__ = ("state", "version", "process_id", "start_time", "measurements")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Machine.State]
        STATE_SERVING: _ClassVar[Machine.State]
        STATE_DRAINING: _ClassVar[Machine.State]
    STATE_UNSPECIFIED: Machine.State
    STATE_SERVING: Machine.State
    STATE_DRAINING: Machine.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROCESS_ID_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENTS_FIELD_NUMBER: _ClassVar[int]
    state: Machine.State
    version: str
    process_id: int
    start_time: _timestamp_pb2.Timestamp
    measurements: _containers.RepeatedCompositeFieldContainer[Measurement]
    def __init__(self, state: _Optional[_Union[Machine.State, str]] = ..., version: _Optional[str] = ..., process_id: _Optional[int] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., measurements: _Optional[_Iterable[_Union[Measurement, _Mapping]]] = ...) -> None: ...

class Measurement(_message.Message):
    __slots__ = ("kind", "bytes", "duration", "bytes_per_second", "threads", "block_bytes", "measure_time", "note")
    KIND_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEASURE_TIME_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    kind: MeasurementKind
    bytes: int
    duration: _duration_pb2.Duration
    bytes_per_second: int
    threads: int
    block_bytes: int
    measure_time: _timestamp_pb2.Timestamp
    note: str
    def __init__(self, kind: _Optional[_Union[MeasurementKind, str]] = ..., bytes: _Optional[int] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., bytes_per_second: _Optional[int] = ..., threads: _Optional[int] = ..., block_bytes: _Optional[int] = ..., measure_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., note: _Optional[str] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("kind", "severity", "message", "advice", "since_time", "details")
    class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SEVERITY_UNSPECIFIED: _ClassVar[Condition.Severity]
        SEVERITY_INFO: _ClassVar[Condition.Severity]
        SEVERITY_WARNING: _ClassVar[Condition.Severity]
        SEVERITY_ERROR: _ClassVar[Condition.Severity]
    SEVERITY_UNSPECIFIED: Condition.Severity
    SEVERITY_INFO: Condition.Severity
    SEVERITY_WARNING: Condition.Severity
    SEVERITY_ERROR: Condition.Severity
    KIND_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    severity: Condition.Severity
    message: str
    advice: str
    since_time: _timestamp_pb2.Timestamp
    details: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, kind: _Optional[str] = ..., severity: _Optional[_Union[Condition.Severity, str]] = ..., message: _Optional[str] = ..., advice: _Optional[str] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., details: _Optional[_Iterable[str]] = ...) -> None: ...
