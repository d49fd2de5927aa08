import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_OK: _ClassVar[Verdict]
    VERDICT_SUSPICIOUS: _ClassVar[Verdict]
    VERDICT_INCOMPLETE: _ClassVar[Verdict]
    VERDICT_CORRUPT: _ClassVar[Verdict]
    VERDICT_REJECTED: _ClassVar[Verdict]
    VERDICT_MALICIOUS: _ClassVar[Verdict]

class ValidationLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VALIDATION_LEVEL_UNSPECIFIED: _ClassVar[ValidationLevel]
    VALIDATION_LEVEL_HEADER: _ClassVar[ValidationLevel]
    VALIDATION_LEVEL_FULL: _ClassVar[ValidationLevel]
    VALIDATION_LEVEL_COMPATIBILITY: _ClassVar[ValidationLevel]

class FindingKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINDING_KIND_UNSPECIFIED: _ClassVar[FindingKind]
    FINDING_KIND_HEADER: _ClassVar[FindingKind]
    FINDING_KIND_DATA: _ClassVar[FindingKind]
    FINDING_KIND_METADATA: _ClassVar[FindingKind]
    FINDING_KIND_PARTIAL: _ClassVar[FindingKind]
    FINDING_KIND_CHECKSUM: _ClassVar[FindingKind]
    FINDING_KIND_PICKLE: _ClassVar[FindingKind]
    FINDING_KIND_ZIP: _ClassVar[FindingKind]
    FINDING_KIND_PATH: _ClassVar[FindingKind]
    FINDING_KIND_FS: _ClassVar[FindingKind]
    FINDING_KIND_UNSUPPORTED: _ClassVar[FindingKind]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_BACKGROUND: _ClassVar[Priority]
    PRIORITY_LOW: _ClassVar[Priority]
    PRIORITY_NORMAL: _ClassVar[Priority]
    PRIORITY_HIGH: _ClassVar[Priority]
    PRIORITY_CRITICAL: _ClassVar[Priority]
VERDICT_UNSPECIFIED: Verdict
VERDICT_OK: Verdict
VERDICT_SUSPICIOUS: Verdict
VERDICT_INCOMPLETE: Verdict
VERDICT_CORRUPT: Verdict
VERDICT_REJECTED: Verdict
VERDICT_MALICIOUS: Verdict
VALIDATION_LEVEL_UNSPECIFIED: ValidationLevel
VALIDATION_LEVEL_HEADER: ValidationLevel
VALIDATION_LEVEL_FULL: ValidationLevel
VALIDATION_LEVEL_COMPATIBILITY: ValidationLevel
FINDING_KIND_UNSPECIFIED: FindingKind
FINDING_KIND_HEADER: FindingKind
FINDING_KIND_DATA: FindingKind
FINDING_KIND_METADATA: FindingKind
FINDING_KIND_PARTIAL: FindingKind
FINDING_KIND_CHECKSUM: FindingKind
FINDING_KIND_PICKLE: FindingKind
FINDING_KIND_ZIP: FindingKind
FINDING_KIND_PATH: FindingKind
FINDING_KIND_FS: FindingKind
FINDING_KIND_UNSUPPORTED: FindingKind
PRIORITY_UNSPECIFIED: Priority
PRIORITY_BACKGROUND: Priority
PRIORITY_LOW: Priority
PRIORITY_NORMAL: Priority
PRIORITY_HIGH: Priority
PRIORITY_CRITICAL: Priority

class Model(_message.Message):
    __slots__ = ("name", "display_name", "path", "path_bytes", "state", "format", "type", "base", "variant", "candidates", "confidence", "prediction_type", "resolution", "title", "tensor_count", "parameter_count", "dtypes", "size_bytes", "components", "verdict", "findings", "notes", "etag", "discover_time", "modify_time", "read_time", "validate_time")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Model.State]
        STATE_AVAILABLE: _ClassVar[Model.State]
        STATE_MISSING: _ClassVar[Model.State]
    STATE_UNSPECIFIED: Model.State
    STATE_AVAILABLE: Model.State
    STATE_MISSING: Model.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    PATH_BYTES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_TYPE_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    TENSOR_COUNT_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_COUNT_FIELD_NUMBER: _ClassVar[int]
    DTYPES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    DISCOVER_TIME_FIELD_NUMBER: _ClassVar[int]
    MODIFY_TIME_FIELD_NUMBER: _ClassVar[int]
    READ_TIME_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    path: str
    path_bytes: bytes
    state: Model.State
    format: str
    type: str
    base: str
    variant: str
    candidates: _containers.RepeatedScalarFieldContainer[str]
    confidence: float
    prediction_type: str
    resolution: int
    title: str
    tensor_count: int
    parameter_count: int
    dtypes: _containers.RepeatedCompositeFieldContainer[DtypeCount]
    size_bytes: int
    components: _containers.RepeatedCompositeFieldContainer[ModelComponent]
    verdict: Verdict
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    notes: ModelNotes
    etag: str
    discover_time: _timestamp_pb2.Timestamp
    modify_time: _timestamp_pb2.Timestamp
    read_time: _timestamp_pb2.Timestamp
    validate_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., path: _Optional[str] = ..., path_bytes: _Optional[bytes] = ..., state: _Optional[_Union[Model.State, str]] = ..., format: _Optional[str] = ..., type: _Optional[str] = ..., base: _Optional[str] = ..., variant: _Optional[str] = ..., candidates: _Optional[_Iterable[str]] = ..., confidence: _Optional[float] = ..., prediction_type: _Optional[str] = ..., resolution: _Optional[int] = ..., title: _Optional[str] = ..., tensor_count: _Optional[int] = ..., parameter_count: _Optional[int] = ..., dtypes: _Optional[_Iterable[_Union[DtypeCount, _Mapping]]] = ..., size_bytes: _Optional[int] = ..., components: _Optional[_Iterable[_Union[ModelComponent, _Mapping]]] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., notes: _Optional[_Union[ModelNotes, _Mapping]] = ..., etag: _Optional[str] = ..., discover_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., modify_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., read_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., validate_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("kind", "verdict", "message", "advice", "tensor", "offset", "file")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    kind: FindingKind
    verdict: Verdict
    message: str
    advice: str
    tensor: str
    offset: int
    file: str
    def __init__(self, kind: _Optional[_Union[FindingKind, str]] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., message: _Optional[str] = ..., advice: _Optional[str] = ..., tensor: _Optional[str] = ..., offset: _Optional[int] = ..., file: _Optional[str] = ...) -> None: ...

class DtypeCount(_message.Message):
    __slots__ = ("dtype", "count")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    dtype: str
    count: int
    def __init__(self, dtype: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class ModelComponent(_message.Message):
    __slots__ = ("name", "type", "base", "place", "prefix", "tensor_count", "parameter_count", "size_bytes", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    TENSOR_COUNT_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_COUNT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    base: str
    place: str
    prefix: str
    tensor_count: int
    parameter_count: int
    size_bytes: int
    digest: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., base: _Optional[str] = ..., place: _Optional[str] = ..., prefix: _Optional[str] = ..., tensor_count: _Optional[int] = ..., parameter_count: _Optional[int] = ..., size_bytes: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class FirstLook(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: int
    def __init__(self, models: _Optional[int] = ...) -> None: ...

class ModelNotes(_message.Message):
    __slots__ = ("display_name", "aliases", "tags", "description", "licence", "source", "notes", "type_override", "base_override", "config")
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    TYPE_OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    BASE_OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    display_name: str
    aliases: _containers.RepeatedScalarFieldContainer[str]
    tags: _containers.RepeatedScalarFieldContainer[str]
    description: str
    licence: str
    source: str
    notes: str
    type_override: str
    base_override: str
    config: ModelConfig
    def __init__(self, display_name: _Optional[str] = ..., aliases: _Optional[_Iterable[str]] = ..., tags: _Optional[_Iterable[str]] = ..., description: _Optional[str] = ..., licence: _Optional[str] = ..., source: _Optional[str] = ..., notes: _Optional[str] = ..., type_override: _Optional[str] = ..., base_override: _Optional[str] = ..., config: _Optional[_Union[ModelConfig, _Mapping]] = ...) -> None: ...

class ModelConfig(_message.Message):
    __slots__ = ("default_device", "trusted", "cache_priority", "cache_idle_ttl", "pinned", "pinned_components")
    DEFAULT_DEVICE_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_FIELD_NUMBER: _ClassVar[int]
    CACHE_PRIORITY_FIELD_NUMBER: _ClassVar[int]
    CACHE_IDLE_TTL_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    PINNED_COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    default_device: str
    trusted: bool
    cache_priority: Priority
    cache_idle_ttl: _duration_pb2.Duration
    pinned: bool
    pinned_components: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, default_device: _Optional[str] = ..., trusted: bool = ..., cache_priority: _Optional[_Union[Priority, str]] = ..., cache_idle_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., pinned: bool = ..., pinned_components: _Optional[_Iterable[str]] = ...) -> None: ...
