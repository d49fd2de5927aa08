import datetime

from google.longrunning import operations_pb2 as _operations_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from . import model_pb2 as _model_pb2
from . import resources_pb2 as _resources_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListModelsRequest(_message.Message):
    __slots__ = ("request_id", "filter", "query", "order_by", "page_size", "page_token", "field_mask", "show_missing")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FIELD_MASK_FIELD_NUMBER: _ClassVar[int]
    SHOW_MISSING_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    filter: str
    query: str
    order_by: str
    page_size: int
    page_token: str
    field_mask: _field_mask_pb2.FieldMask
    show_missing: bool
    def __init__(self, request_id: _Optional[str] = ..., filter: _Optional[str] = ..., query: _Optional[str] = ..., order_by: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., field_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., show_missing: bool = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("request_id", "models", "next_page_token", "total_size", "position", "missing_size", "first_look")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    MISSING_SIZE_FIELD_NUMBER: _ClassVar[int]
    FIRST_LOOK_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    models: _containers.RepeatedCompositeFieldContainer[_model_pb2.Model]
    next_page_token: str
    total_size: int
    position: _resources_pb2.Position
    missing_size: int
    first_look: _model_pb2.FirstLook
    def __init__(self, request_id: _Optional[str] = ..., models: _Optional[_Iterable[_Union[_model_pb2.Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ..., position: _Optional[_Union[_resources_pb2.Position, _Mapping]] = ..., missing_size: _Optional[int] = ..., first_look: _Optional[_Union[_model_pb2.FirstLook, _Mapping]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("request_id", "name", "field_mask", "details", "tensors")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FIELD_MASK_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    field_mask: _field_mask_pb2.FieldMask
    details: bool
    tensors: bool
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., field_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., details: bool = ..., tensors: bool = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("request_id", "model", "details", "position")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: _model_pb2.Model
    details: ModelDetails
    position: _resources_pb2.Position
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[_Union[_model_pb2.Model, _Mapping]] = ..., details: _Optional[_Union[ModelDetails, _Mapping]] = ..., position: _Optional[_Union[_resources_pb2.Position, _Mapping]] = ...) -> None: ...

class ModelDetails(_message.Message):
    __slots__ = ("evidence", "metadata", "files", "tensors", "globals", "more_tensors")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    GLOBALS_FIELD_NUMBER: _ClassVar[int]
    MORE_TENSORS_FIELD_NUMBER: _ClassVar[int]
    evidence: _containers.RepeatedCompositeFieldContainer[Evidence]
    metadata: _containers.ScalarMap[str, str]
    files: _containers.RepeatedCompositeFieldContainer[ModelFile]
    tensors: _containers.RepeatedCompositeFieldContainer[TensorInfo]
    globals: _containers.RepeatedScalarFieldContainer[str]
    more_tensors: int
    def __init__(self, evidence: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., files: _Optional[_Iterable[_Union[ModelFile, _Mapping]]] = ..., tensors: _Optional[_Iterable[_Union[TensorInfo, _Mapping]]] = ..., globals: _Optional[_Iterable[str]] = ..., more_tensors: _Optional[int] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("source", "subject", "says")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    SAYS_FIELD_NUMBER: _ClassVar[int]
    source: str
    subject: str
    says: str
    def __init__(self, source: _Optional[str] = ..., subject: _Optional[str] = ..., says: _Optional[str] = ...) -> None: ...

class ModelFile(_message.Message):
    __slots__ = ("path", "size_bytes", "weights", "modify_time")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    MODIFY_TIME_FIELD_NUMBER: _ClassVar[int]
    path: str
    size_bytes: int
    weights: bool
    modify_time: _timestamp_pb2.Timestamp
    def __init__(self, path: _Optional[str] = ..., size_bytes: _Optional[int] = ..., weights: bool = ..., modify_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TensorInfo(_message.Message):
    __slots__ = ("name", "dtype", "shape", "component")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    component: str
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., component: _Optional[str] = ...) -> None: ...

class UpdateModelRequest(_message.Message):
    __slots__ = ("request_id", "name", "notes", "update_mask", "etag", "any_base")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    ANY_BASE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    notes: _model_pb2.ModelNotes
    update_mask: _field_mask_pb2.FieldMask
    etag: str
    any_base: bool
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., notes: _Optional[_Union[_model_pb2.ModelNotes, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., etag: _Optional[str] = ..., any_base: bool = ...) -> None: ...

class UpdateModelResponse(_message.Message):
    __slots__ = ("request_id", "model")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: _model_pb2.Model
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[_Union[_model_pb2.Model, _Mapping]] = ...) -> None: ...

class DeleteModelRequest(_message.Message):
    __slots__ = ("request_id", "name", "etag", "delete_files")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    DELETE_FILES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    etag: str
    delete_files: bool
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., etag: _Optional[str] = ..., delete_files: bool = ...) -> None: ...

class DeleteModelResponse(_message.Message):
    __slots__ = ("request_id", "model", "files_deleted")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FILES_DELETED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: _model_pb2.Model
    files_deleted: int
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[_Union[_model_pb2.Model, _Mapping]] = ..., files_deleted: _Optional[int] = ...) -> None: ...

class ScanModelsRequest(_message.Message):
    __slots__ = ("request_id", "paths", "reread", "wait_for", "deadline", "cancel_on_disconnect", "max_depth", "validation_level")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    REREAD_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    MAX_DEPTH_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_LEVEL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    paths: _containers.RepeatedScalarFieldContainer[str]
    reread: bool
    wait_for: _duration_pb2.Duration
    deadline: _duration_pb2.Duration
    cancel_on_disconnect: bool
    max_depth: int
    validation_level: _model_pb2.ValidationLevel
    def __init__(self, request_id: _Optional[str] = ..., paths: _Optional[_Iterable[str]] = ..., reread: bool = ..., wait_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cancel_on_disconnect: bool = ..., max_depth: _Optional[int] = ..., validation_level: _Optional[_Union[_model_pb2.ValidationLevel, str]] = ...) -> None: ...

class ScanModelsResponse(_message.Message):
    __slots__ = ("directories", "files", "models", "added", "changed", "moved", "unchanged", "missing", "damaged", "skipped", "by_type", "size_bytes", "header_bytes", "took", "problems", "more_problems", "validated")
    class SkippedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ByTypeEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    DIRECTORIES_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    BY_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    HEADER_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    MORE_PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    VALIDATED_FIELD_NUMBER: _ClassVar[int]
    directories: int
    files: int
    models: int
    added: int
    changed: int
    moved: int
    unchanged: int
    missing: int
    damaged: int
    skipped: _containers.ScalarMap[str, int]
    by_type: _containers.ScalarMap[str, int]
    size_bytes: int
    header_bytes: int
    took: _duration_pb2.Duration
    problems: _containers.RepeatedCompositeFieldContainer[PathProblem]
    more_problems: int
    validated: int
    def __init__(self, directories: _Optional[int] = ..., files: _Optional[int] = ..., models: _Optional[int] = ..., added: _Optional[int] = ..., changed: _Optional[int] = ..., moved: _Optional[int] = ..., unchanged: _Optional[int] = ..., missing: _Optional[int] = ..., damaged: _Optional[int] = ..., skipped: _Optional[_Mapping[str, int]] = ..., by_type: _Optional[_Mapping[str, int]] = ..., size_bytes: _Optional[int] = ..., header_bytes: _Optional[int] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., problems: _Optional[_Iterable[_Union[PathProblem, _Mapping]]] = ..., more_problems: _Optional[int] = ..., validated: _Optional[int] = ...) -> None: ...

class DigestModelsRequest(_message.Message):
    __slots__ = ("request_id", "names", "wait_for", "deadline", "cancel_on_disconnect")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    names: _containers.RepeatedScalarFieldContainer[str]
    wait_for: _duration_pb2.Duration
    deadline: _duration_pb2.Duration
    cancel_on_disconnect: bool
    def __init__(self, request_id: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ..., wait_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cancel_on_disconnect: bool = ...) -> None: ...

class DigestModelsResponse(_message.Message):
    __slots__ = ("models", "components", "read_bytes", "took", "problems", "more_problems")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    READ_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    MORE_PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    models: int
    components: int
    read_bytes: int
    took: _duration_pb2.Duration
    problems: _containers.RepeatedCompositeFieldContainer[PathProblem]
    more_problems: int
    def __init__(self, models: _Optional[int] = ..., components: _Optional[int] = ..., read_bytes: _Optional[int] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., problems: _Optional[_Iterable[_Union[PathProblem, _Mapping]]] = ..., more_problems: _Optional[int] = ...) -> None: ...

class PathProblem(_message.Message):
    __slots__ = ("path", "message")
    PATH_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    path: str
    message: str
    def __init__(self, path: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class ListRootsRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class ListRootsResponse(_message.Message):
    __slots__ = ("request_id", "roots")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    roots: _containers.RepeatedCompositeFieldContainer[Root]
    def __init__(self, request_id: _Optional[str] = ..., roots: _Optional[_Iterable[_Union[Root, _Mapping]]] = ...) -> None: ...

class Root(_message.Message):
    __slots__ = ("path", "available", "problem", "watched", "models", "size_bytes", "scan_time", "scan_took")
    PATH_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    WATCHED_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SCAN_TIME_FIELD_NUMBER: _ClassVar[int]
    SCAN_TOOK_FIELD_NUMBER: _ClassVar[int]
    path: str
    available: bool
    problem: str
    watched: bool
    models: int
    size_bytes: int
    scan_time: _timestamp_pb2.Timestamp
    scan_took: _duration_pb2.Duration
    def __init__(self, path: _Optional[str] = ..., available: bool = ..., problem: _Optional[str] = ..., watched: bool = ..., models: _Optional[int] = ..., size_bytes: _Optional[int] = ..., scan_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., scan_took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListComponentsRequest(_message.Message):
    __slots__ = ("request_id", "type", "shared_only", "page_size", "page_token")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SHARED_ONLY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    type: str
    shared_only: bool
    page_size: int
    page_token: str
    def __init__(self, request_id: _Optional[str] = ..., type: _Optional[str] = ..., shared_only: bool = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListComponentsResponse(_message.Message):
    __slots__ = ("request_id", "groups", "next_page_token", "total_size", "saved_bytes", "undigested", "first_look")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    SAVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    UNDIGESTED_FIELD_NUMBER: _ClassVar[int]
    FIRST_LOOK_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    groups: _containers.RepeatedCompositeFieldContainer[ComponentGroup]
    next_page_token: str
    total_size: int
    saved_bytes: int
    undigested: int
    first_look: _model_pb2.FirstLook
    def __init__(self, request_id: _Optional[str] = ..., groups: _Optional[_Iterable[_Union[ComponentGroup, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ..., saved_bytes: _Optional[int] = ..., undigested: _Optional[int] = ..., first_look: _Optional[_Union[_model_pb2.FirstLook, _Mapping]] = ...) -> None: ...

class ComponentGroup(_message.Message):
    __slots__ = ("component", "users", "saved_bytes")
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    SAVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    component: _model_pb2.ModelComponent
    users: _containers.RepeatedCompositeFieldContainer[ComponentUser]
    saved_bytes: int
    def __init__(self, component: _Optional[_Union[_model_pb2.ModelComponent, _Mapping]] = ..., users: _Optional[_Iterable[_Union[ComponentUser, _Mapping]]] = ..., saved_bytes: _Optional[int] = ...) -> None: ...

class ComponentUser(_message.Message):
    __slots__ = ("model", "display_name", "component", "path")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    model: str
    display_name: str
    component: str
    path: str
    def __init__(self, model: _Optional[str] = ..., display_name: _Optional[str] = ..., component: _Optional[str] = ..., path: _Optional[str] = ...) -> None: ...
