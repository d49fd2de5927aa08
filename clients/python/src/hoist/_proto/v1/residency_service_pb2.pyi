import datetime

from google.longrunning import operations_pb2 as _operations_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from . import cache_service_pb2 as _cache_service_pb2
from . import model_pb2 as _model_pb2
from . import resources_pb2 as _resources_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Placement(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PLACEMENT_UNSPECIFIED: _ClassVar[Placement]
    PLACEMENT_ANY: _ClassVar[Placement]
    PLACEMENT_SPREAD: _ClassVar[Placement]
    PLACEMENT_PACK: _ClassVar[Placement]

class LoadStrategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOAD_STRATEGY_UNSPECIFIED: _ClassVar[LoadStrategy]
    LOAD_STRATEGY_STANDARD: _ClassVar[LoadStrategy]
    LOAD_STRATEGY_BALANCED: _ClassVar[LoadStrategy]
    LOAD_STRATEGY_MEMORY_OPTIMIZED: _ClassVar[LoadStrategy]
    LOAD_STRATEGY_STREAMING: _ClassVar[LoadStrategy]
    LOAD_STRATEGY_COMPRESSED: _ClassVar[LoadStrategy]
    LOAD_STRATEGY_COMPONENT_SPLIT: _ClassVar[LoadStrategy]

class OptimizationLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPTIMIZATION_LEVEL_UNSPECIFIED: _ClassVar[OptimizationLevel]
    OPTIMIZATION_LEVEL_STANDARD: _ClassVar[OptimizationLevel]
    OPTIMIZATION_LEVEL_BALANCED: _ClassVar[OptimizationLevel]
    OPTIMIZATION_LEVEL_HIGH: _ClassVar[OptimizationLevel]
    OPTIMIZATION_LEVEL_MAXIMUM: _ClassVar[OptimizationLevel]

class MemoryPool(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMORY_POOL_UNSPECIFIED: _ClassVar[MemoryPool]
    MEMORY_POOL_SHARED: _ClassVar[MemoryPool]
    MEMORY_POOL_DEDICATED: _ClassVar[MemoryPool]
PLACEMENT_UNSPECIFIED: Placement
PLACEMENT_ANY: Placement
PLACEMENT_SPREAD: Placement
PLACEMENT_PACK: Placement
LOAD_STRATEGY_UNSPECIFIED: LoadStrategy
LOAD_STRATEGY_STANDARD: LoadStrategy
LOAD_STRATEGY_BALANCED: LoadStrategy
LOAD_STRATEGY_MEMORY_OPTIMIZED: LoadStrategy
LOAD_STRATEGY_STREAMING: LoadStrategy
LOAD_STRATEGY_COMPRESSED: LoadStrategy
LOAD_STRATEGY_COMPONENT_SPLIT: LoadStrategy
OPTIMIZATION_LEVEL_UNSPECIFIED: OptimizationLevel
OPTIMIZATION_LEVEL_STANDARD: OptimizationLevel
OPTIMIZATION_LEVEL_BALANCED: OptimizationLevel
OPTIMIZATION_LEVEL_HIGH: OptimizationLevel
OPTIMIZATION_LEVEL_MAXIMUM: OptimizationLevel
MEMORY_POOL_UNSPECIFIED: MemoryPool
MEMORY_POOL_SHARED: MemoryPool
MEMORY_POOL_DEDICATED: MemoryPool

class LoadOptions(_message.Message):
    __slots__ = ("device_id", "placement", "dtype", "priority", "force", "validation_level", "allow", "strategies", "optimization", "memory_pool", "max_resident_components")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_LEVEL_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FIELD_NUMBER: _ClassVar[int]
    STRATEGIES_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZATION_FIELD_NUMBER: _ClassVar[int]
    MEMORY_POOL_FIELD_NUMBER: _ClassVar[int]
    MAX_RESIDENT_COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    placement: Placement
    dtype: str
    priority: _model_pb2.Priority
    force: bool
    validation_level: _model_pb2.ValidationLevel
    allow: _containers.RepeatedScalarFieldContainer[_model_pb2.Verdict]
    strategies: _containers.RepeatedScalarFieldContainer[LoadStrategy]
    optimization: OptimizationLevel
    memory_pool: MemoryPool
    max_resident_components: int
    def __init__(self, device_id: _Optional[str] = ..., placement: _Optional[_Union[Placement, str]] = ..., dtype: _Optional[str] = ..., priority: _Optional[_Union[_model_pb2.Priority, str]] = ..., force: bool = ..., validation_level: _Optional[_Union[_model_pb2.ValidationLevel, str]] = ..., allow: _Optional[_Iterable[_Union[_model_pb2.Verdict, str]]] = ..., strategies: _Optional[_Iterable[_Union[LoadStrategy, str]]] = ..., optimization: _Optional[_Union[OptimizationLevel, str]] = ..., memory_pool: _Optional[_Union[MemoryPool, str]] = ..., max_resident_components: _Optional[int] = ...) -> None: ...

class LoadModelRequest(_message.Message):
    __slots__ = ("request_id", "name", "components", "options", "wait_for", "deadline", "cancel_on_disconnect")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    components: _containers.RepeatedScalarFieldContainer[str]
    options: LoadOptions
    wait_for: _duration_pb2.Duration
    deadline: _duration_pb2.Duration
    cancel_on_disconnect: bool
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., components: _Optional[_Iterable[str]] = ..., options: _Optional[_Union[LoadOptions, _Mapping]] = ..., wait_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cancel_on_disconnect: bool = ...) -> None: ...

class LoadComponentsRequest(_message.Message):
    __slots__ = ("request_id", "parts", "options", "wait_for", "deadline", "cancel_on_disconnect")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    parts: _containers.RepeatedCompositeFieldContainer[_cache_service_pb2.ModelPart]
    options: LoadOptions
    wait_for: _duration_pb2.Duration
    deadline: _duration_pb2.Duration
    cancel_on_disconnect: bool
    def __init__(self, request_id: _Optional[str] = ..., parts: _Optional[_Iterable[_Union[_cache_service_pb2.ModelPart, _Mapping]]] = ..., options: _Optional[_Union[LoadOptions, _Mapping]] = ..., wait_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cancel_on_disconnect: bool = ...) -> None: ...

class LoadModelResponse(_message.Message):
    __slots__ = ("device_id", "components", "read_bytes", "took", "unloaded", "left_out", "reasons", "strategy")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    READ_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    UNLOADED_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    components: _containers.RepeatedCompositeFieldContainer[LoadedComponent]
    read_bytes: int
    took: _duration_pb2.Duration
    unloaded: _containers.RepeatedScalarFieldContainer[str]
    left_out: _containers.RepeatedScalarFieldContainer[str]
    reasons: _containers.RepeatedScalarFieldContainer[str]
    strategy: LoadStrategy
    def __init__(self, device_id: _Optional[str] = ..., components: _Optional[_Iterable[_Union[LoadedComponent, _Mapping]]] = ..., read_bytes: _Optional[int] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., unloaded: _Optional[_Iterable[str]] = ..., left_out: _Optional[_Iterable[str]] = ..., reasons: _Optional[_Iterable[str]] = ..., strategy: _Optional[_Union[LoadStrategy, str]] = ...) -> None: ...

class LoadedComponent(_message.Message):
    __slots__ = ("model", "component", "replica", "segment", "dtype", "own_bytes", "mapped_bytes", "tensors", "resident", "load_time")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    OWN_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAPPED_BYTES_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_FIELD_NUMBER: _ClassVar[int]
    LOAD_TIME_FIELD_NUMBER: _ClassVar[int]
    model: str
    component: str
    replica: str
    segment: str
    dtype: str
    own_bytes: int
    mapped_bytes: int
    tensors: int
    resident: bool
    load_time: _duration_pb2.Duration
    def __init__(self, model: _Optional[str] = ..., component: _Optional[str] = ..., replica: _Optional[str] = ..., segment: _Optional[str] = ..., dtype: _Optional[str] = ..., own_bytes: _Optional[int] = ..., mapped_bytes: _Optional[int] = ..., tensors: _Optional[int] = ..., resident: bool = ..., load_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class UnloadModelRequest(_message.Message):
    __slots__ = ("request_id", "name", "components", "device_id", "force", "wait_for", "deadline")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    components: _containers.RepeatedScalarFieldContainer[str]
    device_id: str
    force: bool
    wait_for: _duration_pb2.Duration
    deadline: _duration_pb2.Duration
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., components: _Optional[_Iterable[str]] = ..., device_id: _Optional[str] = ..., force: bool = ..., wait_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class UnloadComponentsRequest(_message.Message):
    __slots__ = ("request_id", "parts", "device_id", "force", "wait_for", "deadline")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    parts: _containers.RepeatedCompositeFieldContainer[_cache_service_pb2.ModelPart]
    device_id: str
    force: bool
    wait_for: _duration_pb2.Duration
    deadline: _duration_pb2.Duration
    def __init__(self, request_id: _Optional[str] = ..., parts: _Optional[_Iterable[_Union[_cache_service_pb2.ModelPart, _Mapping]]] = ..., device_id: _Optional[str] = ..., force: bool = ..., wait_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class UnloadModelResponse(_message.Message):
    __slots__ = ("replicas", "expected_bytes", "returned_bytes", "retained_bytes", "took")
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RETURNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RETAINED_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    replicas: _containers.RepeatedCompositeFieldContainer[UnloadedReplica]
    expected_bytes: int
    returned_bytes: int
    retained_bytes: int
    took: _duration_pb2.Duration
    def __init__(self, replicas: _Optional[_Iterable[_Union[UnloadedReplica, _Mapping]]] = ..., expected_bytes: _Optional[int] = ..., returned_bytes: _Optional[int] = ..., retained_bytes: _Optional[int] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class UnloadedReplica(_message.Message):
    __slots__ = ("replica", "device_id", "segment", "expected_bytes", "returned_bytes", "kept_because")
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RETURNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    KEPT_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    replica: str
    device_id: str
    segment: str
    expected_bytes: int
    returned_bytes: int
    kept_because: str
    def __init__(self, replica: _Optional[str] = ..., device_id: _Optional[str] = ..., segment: _Optional[str] = ..., expected_bytes: _Optional[int] = ..., returned_bytes: _Optional[int] = ..., kept_because: _Optional[str] = ...) -> None: ...

class PlanLoadRequest(_message.Message):
    __slots__ = ("request_id", "parts", "options")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    parts: _containers.RepeatedCompositeFieldContainer[_cache_service_pb2.ModelPart]
    options: LoadOptions
    def __init__(self, request_id: _Optional[str] = ..., parts: _Optional[_Iterable[_Union[_cache_service_pb2.ModelPart, _Mapping]]] = ..., options: _Optional[_Union[LoadOptions, _Mapping]] = ...) -> None: ...

class PlanLoadResponse(_message.Message):
    __slots__ = ("request_id", "device_id", "reasons", "device_bytes", "unload", "ram_bytes", "read_bytes", "expected", "devices", "refusal", "refusal_reason", "components", "position")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_BYTES_FIELD_NUMBER: _ClassVar[int]
    UNLOAD_FIELD_NUMBER: _ClassVar[int]
    RAM_BYTES_FIELD_NUMBER: _ClassVar[int]
    READ_BYTES_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_REASON_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    device_id: str
    reasons: _containers.RepeatedScalarFieldContainer[str]
    device_bytes: int
    unload: _containers.RepeatedScalarFieldContainer[str]
    ram_bytes: int
    read_bytes: int
    expected: _duration_pb2.Duration
    devices: _containers.RepeatedCompositeFieldContainer[DevicePlan]
    refusal: str
    refusal_reason: str
    components: _containers.RepeatedCompositeFieldContainer[ComponentEstimate]
    position: _resources_pb2.Position
    def __init__(self, request_id: _Optional[str] = ..., device_id: _Optional[str] = ..., reasons: _Optional[_Iterable[str]] = ..., device_bytes: _Optional[int] = ..., unload: _Optional[_Iterable[str]] = ..., ram_bytes: _Optional[int] = ..., read_bytes: _Optional[int] = ..., expected: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., devices: _Optional[_Iterable[_Union[DevicePlan, _Mapping]]] = ..., refusal: _Optional[str] = ..., refusal_reason: _Optional[str] = ..., components: _Optional[_Iterable[_Union[ComponentEstimate, _Mapping]]] = ..., position: _Optional[_Union[_resources_pb2.Position, _Mapping]] = ...) -> None: ...

class DevicePlan(_message.Message):
    __slots__ = ("device_id", "fits", "needed_bytes", "resident_bytes", "free_bytes", "refusal", "unload")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    FITS_FIELD_NUMBER: _ClassVar[int]
    NEEDED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    UNLOAD_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    fits: bool
    needed_bytes: int
    resident_bytes: int
    free_bytes: int
    refusal: str
    unload: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, device_id: _Optional[str] = ..., fits: bool = ..., needed_bytes: _Optional[int] = ..., resident_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., refusal: _Optional[str] = ..., unload: _Optional[_Iterable[str]] = ...) -> None: ...

class ComponentEstimate(_message.Message):
    __slots__ = ("model", "component", "segment", "ram_bytes", "in_ram", "device_bytes", "on_devices")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    RAM_BYTES_FIELD_NUMBER: _ClassVar[int]
    IN_RAM_FIELD_NUMBER: _ClassVar[int]
    DEVICE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ON_DEVICES_FIELD_NUMBER: _ClassVar[int]
    model: str
    component: str
    segment: str
    ram_bytes: int
    in_ram: bool
    device_bytes: int
    on_devices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., component: _Optional[str] = ..., segment: _Optional[str] = ..., ram_bytes: _Optional[int] = ..., in_ram: bool = ..., device_bytes: _Optional[int] = ..., on_devices: _Optional[_Iterable[str]] = ...) -> None: ...

class EstimateLoadRequest(_message.Message):
    __slots__ = ("request_id", "parts", "dtype")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    parts: _containers.RepeatedCompositeFieldContainer[_cache_service_pb2.ModelPart]
    dtype: str
    def __init__(self, request_id: _Optional[str] = ..., parts: _Optional[_Iterable[_Union[_cache_service_pb2.ModelPart, _Mapping]]] = ..., dtype: _Optional[str] = ...) -> None: ...

class EstimateLoadResponse(_message.Message):
    __slots__ = ("request_id", "components", "device_bytes", "ram_bytes", "missing_ram_bytes", "read_bytes", "peak_ram_bytes", "left_out")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RAM_BYTES_FIELD_NUMBER: _ClassVar[int]
    MISSING_RAM_BYTES_FIELD_NUMBER: _ClassVar[int]
    READ_BYTES_FIELD_NUMBER: _ClassVar[int]
    PEAK_RAM_BYTES_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    components: _containers.RepeatedCompositeFieldContainer[ComponentEstimate]
    device_bytes: int
    ram_bytes: int
    missing_ram_bytes: int
    read_bytes: int
    peak_ram_bytes: int
    left_out: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., components: _Optional[_Iterable[_Union[ComponentEstimate, _Mapping]]] = ..., device_bytes: _Optional[int] = ..., ram_bytes: _Optional[int] = ..., missing_ram_bytes: _Optional[int] = ..., read_bytes: _Optional[int] = ..., peak_ram_bytes: _Optional[int] = ..., left_out: _Optional[_Iterable[str]] = ...) -> None: ...

class ListReplicasRequest(_message.Message):
    __slots__ = ("request_id", "device_id", "name", "page_size", "page_token")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    device_id: str
    name: str
    page_size: int
    page_token: str
    def __init__(self, request_id: _Optional[str] = ..., device_id: _Optional[str] = ..., name: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListReplicasResponse(_message.Message):
    __slots__ = ("request_id", "replicas", "next_page_token", "total_size", "position")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    replicas: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Replica]
    next_page_token: str
    total_size: int
    position: _resources_pb2.Position
    def __init__(self, request_id: _Optional[str] = ..., replicas: _Optional[_Iterable[_Union[_resources_pb2.Replica, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ..., position: _Optional[_Union[_resources_pb2.Position, _Mapping]] = ...) -> None: ...

class VerifyReplicasRequest(_message.Message):
    __slots__ = ("request_id", "name", "device_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    device_id: str
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., device_id: _Optional[str] = ...) -> None: ...

class VerifyReplicasResponse(_message.Message):
    __slots__ = ("request_id", "replicas")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    replicas: _containers.RepeatedCompositeFieldContainer[VerifiedReplica]
    def __init__(self, request_id: _Optional[str] = ..., replicas: _Optional[_Iterable[_Union[VerifiedReplica, _Mapping]]] = ...) -> None: ...

class VerifiedReplica(_message.Message):
    __slots__ = ("replica", "device_id", "segment", "verdict", "tensors", "wrong", "wrong_count", "reason", "models")
    class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        VERDICT_UNSPECIFIED: _ClassVar[VerifiedReplica.Verdict]
        VERDICT_EQUAL: _ClassVar[VerifiedReplica.Verdict]
        VERDICT_DIFFERENT: _ClassVar[VerifiedReplica.Verdict]
        VERDICT_NOT_COMPARED: _ClassVar[VerifiedReplica.Verdict]
        VERDICT_SEGMENT_DAMAGED: _ClassVar[VerifiedReplica.Verdict]
    VERDICT_UNSPECIFIED: VerifiedReplica.Verdict
    VERDICT_EQUAL: VerifiedReplica.Verdict
    VERDICT_DIFFERENT: VerifiedReplica.Verdict
    VERDICT_NOT_COMPARED: VerifiedReplica.Verdict
    VERDICT_SEGMENT_DAMAGED: VerifiedReplica.Verdict
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    WRONG_FIELD_NUMBER: _ClassVar[int]
    WRONG_COUNT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    replica: str
    device_id: str
    segment: str
    verdict: VerifiedReplica.Verdict
    tensors: int
    wrong: _containers.RepeatedScalarFieldContainer[str]
    wrong_count: int
    reason: str
    models: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, replica: _Optional[str] = ..., device_id: _Optional[str] = ..., segment: _Optional[str] = ..., verdict: _Optional[_Union[VerifiedReplica.Verdict, str]] = ..., tensors: _Optional[int] = ..., wrong: _Optional[_Iterable[str]] = ..., wrong_count: _Optional[int] = ..., reason: _Optional[str] = ..., models: _Optional[_Iterable[str]] = ...) -> None: ...
