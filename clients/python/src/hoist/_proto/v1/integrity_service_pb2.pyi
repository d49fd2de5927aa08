import datetime

from google.longrunning import operations_pb2 as _operations_pb2
from google.protobuf import duration_pb2 as _duration_pb2
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

class ValidateModelRequest(_message.Message):
    __slots__ = ("request_id", "name", "level", "device", "checksums", "sha256", "wait_for", "deadline", "cancel_on_disconnect")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CHECKSUMS_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    level: _model_pb2.ValidationLevel
    device: str
    checksums: bool
    sha256: str
    wait_for: _duration_pb2.Duration
    deadline: _duration_pb2.Duration
    cancel_on_disconnect: bool
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., level: _Optional[_Union[_model_pb2.ValidationLevel, str]] = ..., device: _Optional[str] = ..., checksums: bool = ..., sha256: _Optional[str] = ..., wait_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cancel_on_disconnect: bool = ...) -> None: ...

class ValidateModelResponse(_message.Message):
    __slots__ = ("model", "level", "verdict", "findings", "more_findings", "read_bytes", "took", "checksums", "compatibility")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    MORE_FINDINGS_FIELD_NUMBER: _ClassVar[int]
    READ_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    CHECKSUMS_FIELD_NUMBER: _ClassVar[int]
    COMPATIBILITY_FIELD_NUMBER: _ClassVar[int]
    model: str
    level: _model_pb2.ValidationLevel
    verdict: _model_pb2.Verdict
    findings: _containers.RepeatedCompositeFieldContainer[_model_pb2.Finding]
    more_findings: int
    read_bytes: int
    took: _duration_pb2.Duration
    checksums: _containers.RepeatedCompositeFieldContainer[FileChecksum]
    compatibility: Compatibility
    def __init__(self, model: _Optional[str] = ..., level: _Optional[_Union[_model_pb2.ValidationLevel, str]] = ..., verdict: _Optional[_Union[_model_pb2.Verdict, str]] = ..., findings: _Optional[_Iterable[_Union[_model_pb2.Finding, _Mapping]]] = ..., more_findings: _Optional[int] = ..., read_bytes: _Optional[int] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., checksums: _Optional[_Iterable[_Union[FileChecksum, _Mapping]]] = ..., compatibility: _Optional[_Union[Compatibility, _Mapping]] = ...) -> None: ...

class FileChecksum(_message.Message):
    __slots__ = ("file", "sha256", "expected_sha256", "source")
    FILE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SHA256_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    file: str
    sha256: str
    expected_sha256: str
    source: str
    def __init__(self, file: _Optional[str] = ..., sha256: _Optional[str] = ..., expected_sha256: _Optional[str] = ..., source: _Optional[str] = ...) -> None: ...

class Compatibility(_message.Message):
    __slots__ = ("device", "compatible", "needed_bytes", "capacity_bytes", "checks")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    COMPATIBLE_FIELD_NUMBER: _ClassVar[int]
    NEEDED_BYTES_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    device: str
    compatible: bool
    needed_bytes: int
    capacity_bytes: int
    checks: _containers.RepeatedCompositeFieldContainer[CompatibilityCheck]
    def __init__(self, device: _Optional[str] = ..., compatible: bool = ..., needed_bytes: _Optional[int] = ..., capacity_bytes: _Optional[int] = ..., checks: _Optional[_Iterable[_Union[CompatibilityCheck, _Mapping]]] = ...) -> None: ...

class CompatibilityCheck(_message.Message):
    __slots__ = ("category", "result", "message", "advice")
    class Category(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CATEGORY_UNSPECIFIED: _ClassVar[CompatibilityCheck.Category]
        CATEGORY_ACCESS: _ClassVar[CompatibilityCheck.Category]
        CATEGORY_INTEGRITY: _ClassVar[CompatibilityCheck.Category]
        CATEGORY_FORMAT: _ClassVar[CompatibilityCheck.Category]
        CATEGORY_DTYPE: _ClassVar[CompatibilityCheck.Category]
        CATEGORY_CODE: _ClassVar[CompatibilityCheck.Category]
        CATEGORY_MEMORY: _ClassVar[CompatibilityCheck.Category]
    CATEGORY_UNSPECIFIED: CompatibilityCheck.Category
    CATEGORY_ACCESS: CompatibilityCheck.Category
    CATEGORY_INTEGRITY: CompatibilityCheck.Category
    CATEGORY_FORMAT: CompatibilityCheck.Category
    CATEGORY_DTYPE: CompatibilityCheck.Category
    CATEGORY_CODE: CompatibilityCheck.Category
    CATEGORY_MEMORY: CompatibilityCheck.Category
    class Result(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        RESULT_UNSPECIFIED: _ClassVar[CompatibilityCheck.Result]
        RESULT_OK: _ClassVar[CompatibilityCheck.Result]
        RESULT_WARNING: _ClassVar[CompatibilityCheck.Result]
        RESULT_FAILED: _ClassVar[CompatibilityCheck.Result]
    RESULT_UNSPECIFIED: CompatibilityCheck.Result
    RESULT_OK: CompatibilityCheck.Result
    RESULT_WARNING: CompatibilityCheck.Result
    RESULT_FAILED: CompatibilityCheck.Result
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    category: CompatibilityCheck.Category
    result: CompatibilityCheck.Result
    message: str
    advice: str
    def __init__(self, category: _Optional[_Union[CompatibilityCheck.Category, str]] = ..., result: _Optional[_Union[CompatibilityCheck.Result, str]] = ..., message: _Optional[str] = ..., advice: _Optional[str] = ...) -> None: ...

class ListVerdictsRequest(_message.Message):
    __slots__ = ("request_id", "filter", "show_ok", "page_size", "page_token", "show_missing")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    SHOW_OK_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SHOW_MISSING_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    filter: str
    show_ok: bool
    page_size: int
    page_token: str
    show_missing: bool
    def __init__(self, request_id: _Optional[str] = ..., filter: _Optional[str] = ..., show_ok: bool = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., show_missing: bool = ...) -> None: ...

class ListVerdictsResponse(_message.Message):
    __slots__ = ("request_id", "verdicts", "next_page_token", "total_size", "position", "first_look", "missing_size")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    FIRST_LOOK_FIELD_NUMBER: _ClassVar[int]
    MISSING_SIZE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    verdicts: _containers.RepeatedCompositeFieldContainer[ModelVerdict]
    next_page_token: str
    total_size: int
    position: _resources_pb2.Position
    first_look: _model_pb2.FirstLook
    missing_size: int
    def __init__(self, request_id: _Optional[str] = ..., verdicts: _Optional[_Iterable[_Union[ModelVerdict, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ..., position: _Optional[_Union[_resources_pb2.Position, _Mapping]] = ..., first_look: _Optional[_Union[_model_pb2.FirstLook, _Mapping]] = ..., missing_size: _Optional[int] = ...) -> None: ...

class ModelVerdict(_message.Message):
    __slots__ = ("model", "display_name", "path", "verdict", "findings", "validate_time", "state")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    model: str
    display_name: str
    path: str
    verdict: _model_pb2.Verdict
    findings: _containers.RepeatedCompositeFieldContainer[_model_pb2.Finding]
    validate_time: _timestamp_pb2.Timestamp
    state: _model_pb2.Model.State
    def __init__(self, model: _Optional[str] = ..., display_name: _Optional[str] = ..., path: _Optional[str] = ..., verdict: _Optional[_Union[_model_pb2.Verdict, str]] = ..., findings: _Optional[_Iterable[_Union[_model_pb2.Finding, _Mapping]]] = ..., validate_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state: _Optional[_Union[_model_pb2.Model.State, str]] = ...) -> None: ...
