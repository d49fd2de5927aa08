import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from . import cache_service_pb2 as _cache_service_pb2
from . import model_pb2 as _model_pb2
from . import operation_pb2 as _operation_pb2
from . import resources_pb2 as _resources_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AcquireRequest(_message.Message):
    __slots__ = ("request_id", "name", "components", "priority", "holder", "lease", "skip_tensors", "allow", "deadline", "device_id", "dtype")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    SKIP_TENSORS_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    components: _containers.RepeatedScalarFieldContainer[str]
    priority: _model_pb2.Priority
    holder: str
    lease: str
    skip_tensors: bool
    allow: _containers.RepeatedScalarFieldContainer[_model_pb2.Verdict]
    deadline: _duration_pb2.Duration
    device_id: str
    dtype: str
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., components: _Optional[_Iterable[str]] = ..., priority: _Optional[_Union[_model_pb2.Priority, str]] = ..., holder: _Optional[str] = ..., lease: _Optional[str] = ..., skip_tensors: bool = ..., allow: _Optional[_Iterable[_Union[_model_pb2.Verdict, str]]] = ..., deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., device_id: _Optional[str] = ..., dtype: _Optional[str] = ...) -> None: ...

class AcquireResponse(_message.Message):
    __slots__ = ("request_id", "progress", "granted", "revoked")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    progress: AcquireProgress
    granted: Granted
    revoked: Revoked
    def __init__(self, request_id: _Optional[str] = ..., progress: _Optional[_Union[AcquireProgress, _Mapping]] = ..., granted: _Optional[_Union[Granted, _Mapping]] = ..., revoked: _Optional[_Union[Revoked, _Mapping]] = ...) -> None: ...

class AcquireProgress(_message.Message):
    __slots__ = ("operation", "progress")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    operation: str
    progress: _operation_pb2.Progress
    def __init__(self, operation: _Optional[str] = ..., progress: _Optional[_Union[_operation_pb2.Progress, _Mapping]] = ...) -> None: ...

class Granted(_message.Message):
    __slots__ = ("lease", "components", "grace")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    lease: _resources_pb2.Lease
    components: _containers.RepeatedCompositeFieldContainer[LeasedComponent]
    grace: _duration_pb2.Duration
    def __init__(self, lease: _Optional[_Union[_resources_pb2.Lease, _Mapping]] = ..., components: _Optional[_Iterable[_Union[LeasedComponent, _Mapping]]] = ..., grace: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LeasedComponent(_message.Message):
    __slots__ = ("component", "type", "tensors", "files", "share")
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    component: _cache_service_pb2.CachedComponent
    type: str
    tensors: _containers.RepeatedCompositeFieldContainer[TensorPlace]
    files: _containers.RepeatedScalarFieldContainer[str]
    share: DeviceShare
    def __init__(self, component: _Optional[_Union[_cache_service_pb2.CachedComponent, _Mapping]] = ..., type: _Optional[str] = ..., tensors: _Optional[_Iterable[_Union[TensorPlace, _Mapping]]] = ..., files: _Optional[_Iterable[str]] = ..., share: _Optional[_Union[DeviceShare, _Mapping]] = ...) -> None: ...

class DeviceShare(_message.Message):
    __slots__ = ("replica", "socket", "token", "size_bytes")
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    replica: str
    socket: str
    token: bytes
    size_bytes: int
    def __init__(self, replica: _Optional[str] = ..., socket: _Optional[str] = ..., token: _Optional[bytes] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class TensorPlace(_message.Message):
    __slots__ = ("name", "dtype", "shape", "offset", "size_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    offset: int
    size_bytes: int
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., offset: _Optional[int] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class Revoked(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class ListLeasesRequest(_message.Message):
    __slots__ = ("request_id", "page_size", "page_token")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    page_size: int
    page_token: str
    def __init__(self, request_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListLeasesResponse(_message.Message):
    __slots__ = ("request_id", "leases", "position", "next_page_token", "total_size")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    leases: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Lease]
    position: _resources_pb2.Position
    next_page_token: str
    total_size: int
    def __init__(self, request_id: _Optional[str] = ..., leases: _Optional[_Iterable[_Union[_resources_pb2.Lease, _Mapping]]] = ..., position: _Optional[_Union[_resources_pb2.Position, _Mapping]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class RevokeLeaseRequest(_message.Message):
    __slots__ = ("request_id", "name", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RevokeLeaseResponse(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...
