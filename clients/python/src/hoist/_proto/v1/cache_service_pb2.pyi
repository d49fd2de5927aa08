import datetime

from google.longrunning import operations_pb2 as _operations_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from . import model_pb2 as _model_pb2
from . import resources_pb2 as _resources_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EvictionPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVICTION_POLICY_UNSPECIFIED: _ClassVar[EvictionPolicy]
    EVICTION_POLICY_COST: _ClassVar[EvictionPolicy]
    EVICTION_POLICY_LRU: _ClassVar[EvictionPolicy]
EVICTION_POLICY_UNSPECIFIED: EvictionPolicy
EVICTION_POLICY_COST: EvictionPolicy
EVICTION_POLICY_LRU: EvictionPolicy

class CacheModelRequest(_message.Message):
    __slots__ = ("request_id", "name", "components", "priority", "validation_level", "allow", "wait_for", "deadline", "cancel_on_disconnect")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_LEVEL_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    components: _containers.RepeatedScalarFieldContainer[str]
    priority: _model_pb2.Priority
    validation_level: _model_pb2.ValidationLevel
    allow: _containers.RepeatedScalarFieldContainer[_model_pb2.Verdict]
    wait_for: _duration_pb2.Duration
    deadline: _duration_pb2.Duration
    cancel_on_disconnect: bool
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., components: _Optional[_Iterable[str]] = ..., priority: _Optional[_Union[_model_pb2.Priority, str]] = ..., validation_level: _Optional[_Union[_model_pb2.ValidationLevel, str]] = ..., allow: _Optional[_Iterable[_Union[_model_pb2.Verdict, str]]] = ..., wait_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cancel_on_disconnect: bool = ...) -> None: ...

class CacheModelResponse(_message.Message):
    __slots__ = ("model", "components", "read_bytes", "took", "evicted", "left_out")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    READ_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    EVICTED_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    model: str
    components: _containers.RepeatedCompositeFieldContainer[CachedComponent]
    read_bytes: int
    took: _duration_pb2.Duration
    evicted: _containers.RepeatedScalarFieldContainer[str]
    left_out: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., components: _Optional[_Iterable[_Union[CachedComponent, _Mapping]]] = ..., read_bytes: _Optional[int] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., evicted: _Optional[_Iterable[str]] = ..., left_out: _Optional[_Iterable[str]] = ...) -> None: ...

class CachedComponent(_message.Message):
    __slots__ = ("component", "segment", "path", "prefix", "size_bytes", "source")
    class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SOURCE_UNSPECIFIED: _ClassVar[CachedComponent.Source]
        SOURCE_RESIDENT: _ClassVar[CachedComponent.Source]
        SOURCE_READ: _ClassVar[CachedComponent.Source]
        SOURCE_SHARED: _ClassVar[CachedComponent.Source]
    SOURCE_UNSPECIFIED: CachedComponent.Source
    SOURCE_RESIDENT: CachedComponent.Source
    SOURCE_READ: CachedComponent.Source
    SOURCE_SHARED: CachedComponent.Source
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    component: str
    segment: str
    path: str
    prefix: str
    size_bytes: int
    source: CachedComponent.Source
    def __init__(self, component: _Optional[str] = ..., segment: _Optional[str] = ..., path: _Optional[str] = ..., prefix: _Optional[str] = ..., size_bytes: _Optional[int] = ..., source: _Optional[_Union[CachedComponent.Source, str]] = ...) -> None: ...

class ModelPart(_message.Message):
    __slots__ = ("name", "components")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    components: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., components: _Optional[_Iterable[str]] = ...) -> None: ...

class EvictModelRequest(_message.Message):
    __slots__ = ("request_id", "name", "components", "all", "dry_run", "parts", "segments")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    components: _containers.RepeatedScalarFieldContainer[str]
    all: bool
    dry_run: bool
    parts: _containers.RepeatedCompositeFieldContainer[ModelPart]
    segments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., components: _Optional[_Iterable[str]] = ..., all: bool = ..., dry_run: bool = ..., parts: _Optional[_Iterable[_Union[ModelPart, _Mapping]]] = ..., segments: _Optional[_Iterable[str]] = ...) -> None: ...

class EvictModelResponse(_message.Message):
    __slots__ = ("request_id", "segments", "freed_bytes", "dry_run")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    FREED_BYTES_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    segments: _containers.RepeatedCompositeFieldContainer[EvictedSegment]
    freed_bytes: int
    dry_run: bool
    def __init__(self, request_id: _Optional[str] = ..., segments: _Optional[_Iterable[_Union[EvictedSegment, _Mapping]]] = ..., freed_bytes: _Optional[int] = ..., dry_run: bool = ...) -> None: ...

class EvictedSegment(_message.Message):
    __slots__ = ("segment", "size_bytes", "evicted", "kept_because")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    EVICTED_FIELD_NUMBER: _ClassVar[int]
    KEPT_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    segment: str
    size_bytes: int
    evicted: bool
    kept_because: str
    def __init__(self, segment: _Optional[str] = ..., size_bytes: _Optional[int] = ..., evicted: bool = ..., kept_because: _Optional[str] = ...) -> None: ...

class GetCacheRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class GetCacheResponse(_message.Message):
    __slots__ = ("request_id", "budget_bytes", "budget_limit", "used_bytes", "sealed_bytes", "filling_bytes", "zombie_bytes", "segments", "leases", "policy", "statistics", "directory", "held_bytes")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    BUDGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    BUDGET_LIMIT_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEALED_BYTES_FIELD_NUMBER: _ClassVar[int]
    FILLING_BYTES_FIELD_NUMBER: _ClassVar[int]
    ZOMBIE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    HELD_BYTES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    budget_bytes: int
    budget_limit: str
    used_bytes: int
    sealed_bytes: int
    filling_bytes: int
    zombie_bytes: int
    segments: int
    leases: int
    policy: CachePolicy
    statistics: CacheStatistics
    directory: str
    held_bytes: int
    def __init__(self, request_id: _Optional[str] = ..., budget_bytes: _Optional[int] = ..., budget_limit: _Optional[str] = ..., used_bytes: _Optional[int] = ..., sealed_bytes: _Optional[int] = ..., filling_bytes: _Optional[int] = ..., zombie_bytes: _Optional[int] = ..., segments: _Optional[int] = ..., leases: _Optional[int] = ..., policy: _Optional[_Union[CachePolicy, _Mapping]] = ..., statistics: _Optional[_Union[CacheStatistics, _Mapping]] = ..., directory: _Optional[str] = ..., held_bytes: _Optional[int] = ...) -> None: ...

class CacheStatistics(_message.Message):
    __slots__ = ("hits", "misses", "fills", "read_bytes", "fill_time", "shared_bytes", "evictions", "evicted_bytes", "mean_idle_at_eviction", "adopted", "refusals", "saved_bytes")
    HITS_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    FILLS_FIELD_NUMBER: _ClassVar[int]
    READ_BYTES_FIELD_NUMBER: _ClassVar[int]
    FILL_TIME_FIELD_NUMBER: _ClassVar[int]
    SHARED_BYTES_FIELD_NUMBER: _ClassVar[int]
    EVICTIONS_FIELD_NUMBER: _ClassVar[int]
    EVICTED_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEAN_IDLE_AT_EVICTION_FIELD_NUMBER: _ClassVar[int]
    ADOPTED_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    SAVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    hits: int
    misses: int
    fills: int
    read_bytes: int
    fill_time: _duration_pb2.Duration
    shared_bytes: int
    evictions: int
    evicted_bytes: int
    mean_idle_at_eviction: _duration_pb2.Duration
    adopted: int
    refusals: int
    saved_bytes: int
    def __init__(self, hits: _Optional[int] = ..., misses: _Optional[int] = ..., fills: _Optional[int] = ..., read_bytes: _Optional[int] = ..., fill_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., shared_bytes: _Optional[int] = ..., evictions: _Optional[int] = ..., evicted_bytes: _Optional[int] = ..., mean_idle_at_eviction: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., adopted: _Optional[int] = ..., refusals: _Optional[int] = ..., saved_bytes: _Optional[int] = ...) -> None: ...

class CachePolicy(_message.Message):
    __slots__ = ("budget_bytes", "eviction", "idle_ttl", "priority")
    BUDGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    EVICTION_FIELD_NUMBER: _ClassVar[int]
    IDLE_TTL_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    budget_bytes: int
    eviction: EvictionPolicy
    idle_ttl: _duration_pb2.Duration
    priority: _model_pb2.Priority
    def __init__(self, budget_bytes: _Optional[int] = ..., eviction: _Optional[_Union[EvictionPolicy, str]] = ..., idle_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., priority: _Optional[_Union[_model_pb2.Priority, str]] = ...) -> None: ...

class ListSegmentsRequest(_message.Message):
    __slots__ = ("request_id", "name", "page_size", "page_token")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    page_size: int
    page_token: str
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSegmentsResponse(_message.Message):
    __slots__ = ("request_id", "segments", "next_page_token", "total_size", "total_bytes", "position")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    segments: _containers.RepeatedCompositeFieldContainer[SegmentStatus]
    next_page_token: str
    total_size: int
    total_bytes: int
    position: _resources_pb2.Position
    def __init__(self, request_id: _Optional[str] = ..., segments: _Optional[_Iterable[_Union[SegmentStatus, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ..., total_bytes: _Optional[int] = ..., position: _Optional[_Union[_resources_pb2.Position, _Mapping]] = ...) -> None: ...

class SegmentStatus(_message.Message):
    __slots__ = ("segment", "path", "users", "user_count", "leases", "pinned", "idle", "uses")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    USER_COUNT_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    segment: _resources_pb2.Segment
    path: str
    users: _containers.RepeatedCompositeFieldContainer[SegmentUser]
    user_count: int
    leases: int
    pinned: bool
    idle: _duration_pb2.Duration
    uses: int
    def __init__(self, segment: _Optional[_Union[_resources_pb2.Segment, _Mapping]] = ..., path: _Optional[str] = ..., users: _Optional[_Iterable[_Union[SegmentUser, _Mapping]]] = ..., user_count: _Optional[int] = ..., leases: _Optional[int] = ..., pinned: bool = ..., idle: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., uses: _Optional[int] = ...) -> None: ...

class SegmentUser(_message.Message):
    __slots__ = ("model", "display_name", "component", "prefix", "cached")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    model: str
    display_name: str
    component: str
    prefix: str
    cached: bool
    def __init__(self, model: _Optional[str] = ..., display_name: _Optional[str] = ..., component: _Optional[str] = ..., prefix: _Optional[str] = ..., cached: bool = ...) -> None: ...

class PinModelRequest(_message.Message):
    __slots__ = ("request_id", "name", "components")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    components: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., components: _Optional[_Iterable[str]] = ...) -> None: ...

class PinModelResponse(_message.Message):
    __slots__ = ("request_id", "model", "resident", "absent")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    resident: _containers.RepeatedScalarFieldContainer[str]
    absent: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., resident: _Optional[_Iterable[str]] = ..., absent: _Optional[_Iterable[str]] = ...) -> None: ...

class UnpinModelRequest(_message.Message):
    __slots__ = ("request_id", "name", "components")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    components: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., components: _Optional[_Iterable[str]] = ...) -> None: ...

class UnpinModelResponse(_message.Message):
    __slots__ = ("request_id", "model", "was_pinned", "pinned")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WAS_PINNED_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    was_pinned: bool
    pinned: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., was_pinned: bool = ..., pinned: _Optional[_Iterable[str]] = ...) -> None: ...

class UpdateCachePolicyRequest(_message.Message):
    __slots__ = ("request_id", "name", "policy", "update_mask")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    policy: CachePolicy
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., policy: _Optional[_Union[CachePolicy, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateCachePolicyResponse(_message.Message):
    __slots__ = ("request_id", "policy", "update_time")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    policy: CachePolicy
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, request_id: _Optional[str] = ..., policy: _Optional[_Union[CachePolicy, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
