"""The calls this client makes: path, request and answer.

protoc's own service stubs are not used: they are untyped, differ between sync and asyncio, and refuse to load
under a grpcio that is older than their generator. A test compares this table with the descriptors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from hoist._proto.v1 import admin_service_pb2 as admin
from hoist._proto.v1 import cache_service_pb2 as cache
from hoist._proto.v1 import catalog_service_pb2 as catalog
from hoist._proto.v1 import device_service_pb2 as device
from hoist._proto.v1 import integrity_service_pb2 as integrity
from hoist._proto.v1 import lease_service_pb2 as lease
from hoist._proto.v1 import residency_service_pb2 as residency
from hoist._proto.v1 import state_service_pb2 as state

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


@dataclass(frozen=True)
class Method(Generic[Req, Res]):
    """One call of the contract."""

    path: str
    request: type[Req]
    response: type[Res]


_STATE = "/hoist.api.v1.StateService"
_ADMIN = "/hoist.api.v1.AdminService"
_CATALOG = "/hoist.api.v1.CatalogService"
_INTEGRITY = "/hoist.api.v1.IntegrityService"
_CACHE = "/hoist.api.v1.CacheService"
_LEASES = "/hoist.api.v1.LeaseService"
_DEVICES = "/hoist.api.v1.DeviceService"
_RESIDENCY = "/hoist.api.v1.ResidencyService"
_OPERATIONS = "/google.longrunning.Operations"

GET_STATUS = Method(f"{_STATE}/GetStatus", state.GetStatusRequest, state.GetStatusResponse)
BATCH_GET_STATUS = Method(
    f"{_STATE}/BatchGetStatus", state.BatchGetStatusRequest, state.BatchGetStatusResponse
)
WATCH = Method(f"{_STATE}/Watch", state.WatchRequest, state.WatchResponse)
GET_SYNC_HEALTH = Method(f"{_STATE}/GetSyncHealth", state.GetSyncHealthRequest, state.GetSyncHealthResponse)
DIAGNOSE_SYNC = Method(f"{_STATE}/DiagnoseSync", state.DiagnoseSyncRequest, state.DiagnoseSyncResponse)
RESET_SYNC = Method(f"{_STATE}/ResetSync", state.ResetSyncRequest, state.ResetSyncResponse)
CONFIGURE_SYNC = Method(f"{_STATE}/ConfigureSync", state.ConfigureSyncRequest, state.ConfigureSyncResponse)
GET_CONFIG = Method(f"{_ADMIN}/GetConfig", admin.GetConfigRequest, admin.GetConfigResponse)
SHUTDOWN = Method(f"{_ADMIN}/Shutdown", admin.ShutdownRequest, admin.ShutdownResponse)
PROBE_MACHINE = Method(f"{_ADMIN}/ProbeMachine", admin.ProbeMachineRequest, operations_pb2.Operation)
LIST_MODELS = Method(f"{_CATALOG}/ListModels", catalog.ListModelsRequest, catalog.ListModelsResponse)
GET_MODEL = Method(f"{_CATALOG}/GetModel", catalog.GetModelRequest, catalog.GetModelResponse)
UPDATE_MODEL = Method(f"{_CATALOG}/UpdateModel", catalog.UpdateModelRequest, catalog.UpdateModelResponse)
DELETE_MODEL = Method(f"{_CATALOG}/DeleteModel", catalog.DeleteModelRequest, catalog.DeleteModelResponse)
SCAN_MODELS = Method(f"{_CATALOG}/ScanModels", catalog.ScanModelsRequest, operations_pb2.Operation)
DIGEST_MODELS = Method(f"{_CATALOG}/DigestModels", catalog.DigestModelsRequest, operations_pb2.Operation)
LIST_ROOTS = Method(f"{_CATALOG}/ListRoots", catalog.ListRootsRequest, catalog.ListRootsResponse)
LIST_COMPONENTS = Method(
    f"{_CATALOG}/ListComponents", catalog.ListComponentsRequest, catalog.ListComponentsResponse
)
VALIDATE_MODEL = Method(
    f"{_INTEGRITY}/ValidateModel", integrity.ValidateModelRequest, operations_pb2.Operation
)
LIST_VERDICTS = Method(
    f"{_INTEGRITY}/ListVerdicts", integrity.ListVerdictsRequest, integrity.ListVerdictsResponse
)
CACHE_MODEL = Method(f"{_CACHE}/CacheModel", cache.CacheModelRequest, operations_pb2.Operation)
EVICT_MODEL = Method(f"{_CACHE}/EvictModel", cache.EvictModelRequest, cache.EvictModelResponse)
GET_CACHE = Method(f"{_CACHE}/GetCache", cache.GetCacheRequest, cache.GetCacheResponse)
LIST_SEGMENTS = Method(f"{_CACHE}/ListSegments", cache.ListSegmentsRequest, cache.ListSegmentsResponse)
PIN_MODEL = Method(f"{_CACHE}/PinModel", cache.PinModelRequest, cache.PinModelResponse)
UNPIN_MODEL = Method(f"{_CACHE}/UnpinModel", cache.UnpinModelRequest, cache.UnpinModelResponse)
UPDATE_CACHE_POLICY = Method(
    f"{_CACHE}/UpdateCachePolicy", cache.UpdateCachePolicyRequest, cache.UpdateCachePolicyResponse
)
ACQUIRE = Method(f"{_LEASES}/Acquire", lease.AcquireRequest, lease.AcquireResponse)
LIST_LEASES = Method(f"{_LEASES}/ListLeases", lease.ListLeasesRequest, lease.ListLeasesResponse)
REVOKE_LEASE = Method(f"{_LEASES}/RevokeLease", lease.RevokeLeaseRequest, lease.RevokeLeaseResponse)
LIST_DEVICES = Method(f"{_DEVICES}/ListDevices", device.ListDevicesRequest, device.ListDevicesResponse)
GET_DEVICE = Method(f"{_DEVICES}/GetDevice", device.GetDeviceRequest, device.GetDeviceResponse)
CORDON_DEVICE = Method(f"{_DEVICES}/CordonDevice", device.CordonDeviceRequest, device.CordonDeviceResponse)
UNCORDON_DEVICE = Method(
    f"{_DEVICES}/UncordonDevice", device.UncordonDeviceRequest, device.UncordonDeviceResponse
)
LOAD_MODEL = Method(f"{_RESIDENCY}/LoadModel", residency.LoadModelRequest, operations_pb2.Operation)
LOAD_COMPONENTS = Method(
    f"{_RESIDENCY}/LoadComponents", residency.LoadComponentsRequest, operations_pb2.Operation
)
UNLOAD_MODEL = Method(f"{_RESIDENCY}/UnloadModel", residency.UnloadModelRequest, operations_pb2.Operation)
UNLOAD_COMPONENTS = Method(
    f"{_RESIDENCY}/UnloadComponents", residency.UnloadComponentsRequest, operations_pb2.Operation
)
PLAN_LOAD = Method(f"{_RESIDENCY}/PlanLoad", residency.PlanLoadRequest, residency.PlanLoadResponse)
ESTIMATE_LOAD = Method(
    f"{_RESIDENCY}/EstimateLoad", residency.EstimateLoadRequest, residency.EstimateLoadResponse
)
LIST_REPLICAS = Method(
    f"{_RESIDENCY}/ListReplicas", residency.ListReplicasRequest, residency.ListReplicasResponse
)
VERIFY_REPLICAS = Method(
    f"{_RESIDENCY}/VerifyReplicas", residency.VerifyReplicasRequest, residency.VerifyReplicasResponse
)
LIST_OPERATIONS = Method(
    f"{_OPERATIONS}/ListOperations",
    operations_pb2.ListOperationsRequest,
    operations_pb2.ListOperationsResponse,
)
GET_OPERATION = Method(
    f"{_OPERATIONS}/GetOperation", operations_pb2.GetOperationRequest, operations_pb2.Operation
)
WAIT_OPERATION = Method(
    f"{_OPERATIONS}/WaitOperation", operations_pb2.WaitOperationRequest, operations_pb2.Operation
)
CANCEL_OPERATION = Method(f"{_OPERATIONS}/CancelOperation", operations_pb2.CancelOperationRequest, Empty)
DELETE_OPERATION = Method(f"{_OPERATIONS}/DeleteOperation", operations_pb2.DeleteOperationRequest, Empty)
