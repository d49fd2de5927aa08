import datetime

from google.longrunning import operations_pb2 as _operations_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from . import resources_pb2 as _resources_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetConfigRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class GetConfigResponse(_message.Message):
    __slots__ = ("request_id", "entries")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    entries: _containers.RepeatedCompositeFieldContainer[ConfigEntry]
    def __init__(self, request_id: _Optional[str] = ..., entries: _Optional[_Iterable[_Union[ConfigEntry, _Mapping]]] = ...) -> None: ...

class ConfigEntry(_message.Message):
    __slots__ = ("key", "value", "origin", "origin_detail", "description")
    class Origin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ORIGIN_UNSPECIFIED: _ClassVar[ConfigEntry.Origin]
        ORIGIN_DEFAULT: _ClassVar[ConfigEntry.Origin]
        ORIGIN_FILE: _ClassVar[ConfigEntry.Origin]
        ORIGIN_ENVIRONMENT: _ClassVar[ConfigEntry.Origin]
        ORIGIN_FLAG: _ClassVar[ConfigEntry.Origin]
    ORIGIN_UNSPECIFIED: ConfigEntry.Origin
    ORIGIN_DEFAULT: ConfigEntry.Origin
    ORIGIN_FILE: ConfigEntry.Origin
    ORIGIN_ENVIRONMENT: ConfigEntry.Origin
    ORIGIN_FLAG: ConfigEntry.Origin
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_DETAIL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    origin: ConfigEntry.Origin
    origin_detail: str
    description: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ..., origin: _Optional[_Union[ConfigEntry.Origin, str]] = ..., origin_detail: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class ShutdownRequest(_message.Message):
    __slots__ = ("request_id", "grace")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    grace: _duration_pb2.Duration
    def __init__(self, request_id: _Optional[str] = ..., grace: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ShutdownResponse(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class ProbeMachineRequest(_message.Message):
    __slots__ = ("request_id", "kinds", "bytes", "wait_for", "deadline", "cancel_on_disconnect")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    kinds: _containers.RepeatedScalarFieldContainer[_resources_pb2.MeasurementKind]
    bytes: int
    wait_for: _duration_pb2.Duration
    deadline: _duration_pb2.Duration
    cancel_on_disconnect: bool
    def __init__(self, request_id: _Optional[str] = ..., kinds: _Optional[_Iterable[_Union[_resources_pb2.MeasurementKind, str]]] = ..., bytes: _Optional[int] = ..., wait_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cancel_on_disconnect: bool = ...) -> None: ...

class ProbeMachineResponse(_message.Message):
    __slots__ = ("measurements",)
    MEASUREMENTS_FIELD_NUMBER: _ClassVar[int]
    measurements: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Measurement]
    def __init__(self, measurements: _Optional[_Iterable[_Union[_resources_pb2.Measurement, _Mapping]]] = ...) -> None: ...
