import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from . import model_pb2 as _model_pb2
from . import operation_pb2 as _operation_pb2
from . import resources_pb2 as _resources_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SyncPace(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SYNC_PACE_UNSPECIFIED: _ClassVar[SyncPace]
    SYNC_PACE_HIGH: _ClassVar[SyncPace]
    SYNC_PACE_STANDARD: _ClassVar[SyncPace]
    SYNC_PACE_BACKGROUND: _ClassVar[SyncPace]
    SYNC_PACE_IDLE: _ClassVar[SyncPace]
SYNC_PACE_UNSPECIFIED: SyncPace
SYNC_PACE_HIGH: SyncPace
SYNC_PACE_STANDARD: SyncPace
SYNC_PACE_BACKGROUND: SyncPace
SYNC_PACE_IDLE: SyncPace

class GetSyncHealthRequest(_message.Message):
    __slots__ = ("request_id", "name", "window")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    window: _duration_pb2.Duration
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetSyncHealthResponse(_message.Message):
    __slots__ = ("request_id", "overall", "devices", "models", "position")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OVERALL_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    overall: SyncHealth
    devices: _containers.RepeatedCompositeFieldContainer[SyncHealth]
    models: _containers.RepeatedCompositeFieldContainer[SyncHealth]
    position: _resources_pb2.Position
    def __init__(self, request_id: _Optional[str] = ..., overall: _Optional[_Union[SyncHealth, _Mapping]] = ..., devices: _Optional[_Iterable[_Union[SyncHealth, _Mapping]]] = ..., models: _Optional[_Iterable[_Union[SyncHealth, _Mapping]]] = ..., position: _Optional[_Union[_resources_pb2.Position, _Mapping]] = ...) -> None: ...

class SyncHealth(_message.Message):
    __slots__ = ("name", "device_id", "agreement", "looked_at", "agrees", "difference", "differs_for", "staleness", "drift_found", "drift_repaired", "pace", "generation", "answered")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    LOOKED_AT_FIELD_NUMBER: _ClassVar[int]
    AGREES_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    DIFFERS_FOR_FIELD_NUMBER: _ClassVar[int]
    STALENESS_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FOUND_FIELD_NUMBER: _ClassVar[int]
    DRIFT_REPAIRED_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    name: str
    device_id: str
    agreement: float
    looked_at: _duration_pb2.Duration
    agrees: bool
    difference: str
    differs_for: _duration_pb2.Duration
    staleness: _duration_pb2.Duration
    drift_found: int
    drift_repaired: int
    pace: SyncPace
    generation: int
    answered: int
    def __init__(self, name: _Optional[str] = ..., device_id: _Optional[str] = ..., agreement: _Optional[float] = ..., looked_at: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., agrees: bool = ..., difference: _Optional[str] = ..., differs_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., staleness: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., drift_found: _Optional[int] = ..., drift_repaired: _Optional[int] = ..., pace: _Optional[_Union[SyncPace, str]] = ..., generation: _Optional[int] = ..., answered: _Optional[int] = ...) -> None: ...

class DiagnoseSyncRequest(_message.Message):
    __slots__ = ("request_id", "name")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DiagnoseSyncResponse(_message.Message):
    __slots__ = ("request_id", "findings", "latencies", "history")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    LATENCIES_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    findings: _containers.RepeatedCompositeFieldContainer[SyncFinding]
    latencies: _containers.RepeatedCompositeFieldContainer[SyncLatency]
    history: _containers.RepeatedCompositeFieldContainer[SyncIncident]
    def __init__(self, request_id: _Optional[str] = ..., findings: _Optional[_Iterable[_Union[SyncFinding, _Mapping]]] = ..., latencies: _Optional[_Iterable[_Union[SyncLatency, _Mapping]]] = ..., history: _Optional[_Iterable[_Union[SyncIncident, _Mapping]]] = ...) -> None: ...

class SyncFinding(_message.Message):
    __slots__ = ("name", "device_id", "message", "advice", "age")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    name: str
    device_id: str
    message: str
    advice: str
    age: _duration_pb2.Duration
    def __init__(self, name: _Optional[str] = ..., device_id: _Optional[str] = ..., message: _Optional[str] = ..., advice: _Optional[str] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class SyncLatency(_message.Message):
    __slots__ = ("device_id", "answers", "median", "p99", "last")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_FIELD_NUMBER: _ClassVar[int]
    P99_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    answers: int
    median: _duration_pb2.Duration
    p99: _duration_pb2.Duration
    last: _duration_pb2.Duration
    def __init__(self, device_id: _Optional[str] = ..., answers: _Optional[int] = ..., median: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., p99: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., last: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class SyncIncident(_message.Message):
    __slots__ = ("name", "device_id", "message", "start_time", "lasted")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    LASTED_FIELD_NUMBER: _ClassVar[int]
    name: str
    device_id: str
    message: str
    start_time: _timestamp_pb2.Timestamp
    lasted: _duration_pb2.Duration
    def __init__(self, name: _Optional[str] = ..., device_id: _Optional[str] = ..., message: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., lasted: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ResetSyncRequest(_message.Message):
    __slots__ = ("request_id", "name", "validate_for")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_FOR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    validate_for: _duration_pb2.Duration
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., validate_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ResetSyncResponse(_message.Message):
    __slots__ = ("request_id", "device_ids", "agrees", "findings")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
    AGREES_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    device_ids: _containers.RepeatedScalarFieldContainer[str]
    agrees: bool
    findings: _containers.RepeatedCompositeFieldContainer[SyncFinding]
    def __init__(self, request_id: _Optional[str] = ..., device_ids: _Optional[_Iterable[str]] = ..., agrees: bool = ..., findings: _Optional[_Iterable[_Union[SyncFinding, _Mapping]]] = ...) -> None: ...

class ConfigureSyncRequest(_message.Message):
    __slots__ = ("request_id", "name", "pace")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    pace: SyncPace
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., pace: _Optional[_Union[SyncPace, str]] = ...) -> None: ...

class ConfigureSyncResponse(_message.Message):
    __slots__ = ("request_id", "pace")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    pace: SyncPace
    def __init__(self, request_id: _Optional[str] = ..., pace: _Optional[_Union[SyncPace, str]] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ("request_id", "name", "field_mask")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FIELD_MASK_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    field_mask: _field_mask_pb2.FieldMask
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., field_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("request_id", "status")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    status: Status
    def __init__(self, request_id: _Optional[str] = ..., status: _Optional[_Union[Status, _Mapping]] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("name", "position", "resource", "machine", "model")
    NAME_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    name: str
    position: _resources_pb2.Position
    resource: _resources_pb2.Resource
    machine: MachineStatus
    model: ModelStatus
    def __init__(self, name: _Optional[str] = ..., position: _Optional[_Union[_resources_pb2.Position, _Mapping]] = ..., resource: _Optional[_Union[_resources_pb2.Resource, _Mapping]] = ..., machine: _Optional[_Union[MachineStatus, _Mapping]] = ..., model: _Optional[_Union[ModelStatus, _Mapping]] = ...) -> None: ...

class ModelStatus(_message.Message):
    __slots__ = ("components", "operations", "leases", "cached", "loaded_on", "missing_on")
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    LOADED_ON_FIELD_NUMBER: _ClassVar[int]
    MISSING_ON_FIELD_NUMBER: _ClassVar[int]
    components: _containers.RepeatedCompositeFieldContainer[ComponentStatus]
    operations: _containers.RepeatedCompositeFieldContainer[_operation_pb2.OperationMetadata]
    leases: int
    cached: bool
    loaded_on: _containers.RepeatedScalarFieldContainer[str]
    missing_on: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, components: _Optional[_Iterable[_Union[ComponentStatus, _Mapping]]] = ..., operations: _Optional[_Iterable[_Union[_operation_pb2.OperationMetadata, _Mapping]]] = ..., leases: _Optional[int] = ..., cached: bool = ..., loaded_on: _Optional[_Iterable[str]] = ..., missing_on: _Optional[_Iterable[str]] = ...) -> None: ...

class ComponentStatus(_message.Message):
    __slots__ = ("component", "segment", "idle", "uses", "leases", "replicas")
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    component: str
    segment: _resources_pb2.Segment
    idle: _duration_pb2.Duration
    uses: int
    leases: int
    replicas: _containers.RepeatedCompositeFieldContainer[ReplicaStatus]
    def __init__(self, component: _Optional[str] = ..., segment: _Optional[_Union[_resources_pb2.Segment, _Mapping]] = ..., idle: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., uses: _Optional[int] = ..., leases: _Optional[int] = ..., replicas: _Optional[_Iterable[_Union[ReplicaStatus, _Mapping]]] = ...) -> None: ...

class ReplicaStatus(_message.Message):
    __slots__ = ("replica", "unknown")
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    replica: _resources_pb2.Replica
    unknown: bool
    def __init__(self, replica: _Optional[_Union[_resources_pb2.Replica, _Mapping]] = ..., unknown: bool = ...) -> None: ...

class MachineStatus(_message.Message):
    __slots__ = ("uptime", "conditions", "operation_counts", "watch_streams", "request_ids", "request_ids_limit", "oldest_revision", "first_look", "devices", "active_replicas", "loaded_models", "missing_models", "segments", "segment_bytes")
    UPTIME_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    OPERATION_COUNTS_FIELD_NUMBER: _ClassVar[int]
    WATCH_STREAMS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_IDS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_IDS_LIMIT_FIELD_NUMBER: _ClassVar[int]
    OLDEST_REVISION_FIELD_NUMBER: _ClassVar[int]
    FIRST_LOOK_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    LOADED_MODELS_FIELD_NUMBER: _ClassVar[int]
    MISSING_MODELS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    uptime: _duration_pb2.Duration
    conditions: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Condition]
    operation_counts: _containers.RepeatedCompositeFieldContainer[OperationCount]
    watch_streams: int
    request_ids: int
    request_ids_limit: int
    oldest_revision: int
    first_look: _model_pb2.FirstLook
    devices: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Device]
    active_replicas: int
    loaded_models: int
    missing_models: int
    segments: int
    segment_bytes: int
    def __init__(self, uptime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., conditions: _Optional[_Iterable[_Union[_resources_pb2.Condition, _Mapping]]] = ..., operation_counts: _Optional[_Iterable[_Union[OperationCount, _Mapping]]] = ..., watch_streams: _Optional[int] = ..., request_ids: _Optional[int] = ..., request_ids_limit: _Optional[int] = ..., oldest_revision: _Optional[int] = ..., first_look: _Optional[_Union[_model_pb2.FirstLook, _Mapping]] = ..., devices: _Optional[_Iterable[_Union[_resources_pb2.Device, _Mapping]]] = ..., active_replicas: _Optional[int] = ..., loaded_models: _Optional[int] = ..., missing_models: _Optional[int] = ..., segments: _Optional[int] = ..., segment_bytes: _Optional[int] = ...) -> None: ...

class OperationCount(_message.Message):
    __slots__ = ("state", "count")
    STATE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    state: _operation_pb2.OperationState
    count: int
    def __init__(self, state: _Optional[_Union[_operation_pb2.OperationState, str]] = ..., count: _Optional[int] = ...) -> None: ...

class BatchGetStatusRequest(_message.Message):
    __slots__ = ("request_id", "names", "field_mask")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    FIELD_MASK_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    names: _containers.RepeatedScalarFieldContainer[str]
    field_mask: _field_mask_pb2.FieldMask
    def __init__(self, request_id: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ..., field_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class BatchGetStatusResponse(_message.Message):
    __slots__ = ("request_id", "results")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    results: _containers.RepeatedCompositeFieldContainer[StatusResult]
    def __init__(self, request_id: _Optional[str] = ..., results: _Optional[_Iterable[_Union[StatusResult, _Mapping]]] = ...) -> None: ...

class StatusResult(_message.Message):
    __slots__ = ("status", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: Status
    error: _status_pb2.Status
    def __init__(self, status: _Optional[_Union[Status, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("request_id", "filter", "mark_interval", "progress_interval")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    MARK_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    filter: WatchFilter
    mark_interval: _duration_pb2.Duration
    progress_interval: _duration_pb2.Duration
    def __init__(self, request_id: _Optional[str] = ..., filter: _Optional[_Union[WatchFilter, _Mapping]] = ..., mark_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., progress_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., **kwargs) -> None: ...

class WatchFilter(_message.Message):
    __slots__ = ("kinds", "names", "operation_states")
    KINDS_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    OPERATION_STATES_FIELD_NUMBER: _ClassVar[int]
    kinds: _containers.RepeatedScalarFieldContainer[_resources_pb2.ResourceKind]
    names: _containers.RepeatedScalarFieldContainer[str]
    operation_states: _containers.RepeatedScalarFieldContainer[_operation_pb2.OperationState]
    def __init__(self, kinds: _Optional[_Iterable[_Union[_resources_pb2.ResourceKind, str]]] = ..., names: _Optional[_Iterable[str]] = ..., operation_states: _Optional[_Iterable[_Union[_operation_pb2.OperationState, str]]] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("snapshot", "snapshot_end", "delta", "mark", "progress")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_END_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    snapshot: SnapshotChunk
    snapshot_end: SnapshotEnd
    delta: Delta
    mark: Mark
    progress: ProgressSample
    def __init__(self, snapshot: _Optional[_Union[SnapshotChunk, _Mapping]] = ..., snapshot_end: _Optional[_Union[SnapshotEnd, _Mapping]] = ..., delta: _Optional[_Union[Delta, _Mapping]] = ..., mark: _Optional[_Union[Mark, _Mapping]] = ..., progress: _Optional[_Union[ProgressSample, _Mapping]] = ...) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("resources",)
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    resources: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Resource]
    def __init__(self, resources: _Optional[_Iterable[_Union[_resources_pb2.Resource, _Mapping]]] = ...) -> None: ...

class SnapshotEnd(_message.Message):
    __slots__ = ("position", "resources")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    position: _resources_pb2.Position
    resources: int
    def __init__(self, position: _Optional[_Union[_resources_pb2.Position, _Mapping]] = ..., resources: _Optional[int] = ...) -> None: ...

class Delta(_message.Message):
    __slots__ = ("position", "changes")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    position: _resources_pb2.Position
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    def __init__(self, position: _Optional[_Union[_resources_pb2.Position, _Mapping]] = ..., changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("kind", "name", "resource", "mask")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Change.Kind]
        KIND_ADDED: _ClassVar[Change.Kind]
        KIND_MODIFIED: _ClassVar[Change.Kind]
        KIND_REMOVED: _ClassVar[Change.Kind]
    KIND_UNSPECIFIED: Change.Kind
    KIND_ADDED: Change.Kind
    KIND_MODIFIED: Change.Kind
    KIND_REMOVED: Change.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    kind: Change.Kind
    name: str
    resource: _resources_pb2.Resource
    mask: _field_mask_pb2.FieldMask
    def __init__(self, kind: _Optional[_Union[Change.Kind, str]] = ..., name: _Optional[str] = ..., resource: _Optional[_Union[_resources_pb2.Resource, _Mapping]] = ..., mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class Mark(_message.Message):
    __slots__ = ("position",)
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: _resources_pb2.Position
    def __init__(self, position: _Optional[_Union[_resources_pb2.Position, _Mapping]] = ...) -> None: ...

class ProgressSample(_message.Message):
    __slots__ = ("operations",)
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[OperationProgress]
    def __init__(self, operations: _Optional[_Iterable[_Union[OperationProgress, _Mapping]]] = ...) -> None: ...

class OperationProgress(_message.Message):
    __slots__ = ("name", "progress")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    name: str
    progress: _operation_pb2.Progress
    def __init__(self, name: _Optional[str] = ..., progress: _Optional[_Union[_operation_pb2.Progress, _Mapping]] = ...) -> None: ...
