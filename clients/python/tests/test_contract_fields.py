"""The client against the descriptors, field by field: one that is new, and that Python cannot say or does not
show, fails here.

Nothing is compared by its name. A field of an answer is set alone: then what the caller gets has to differ.
A field of a request has to be set by a call with all its arguments.
"""

from __future__ import annotations

import importlib
import pkgutil
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from hoist import (
    _decode,
    _open,
    _plans,
    _plans_agreement,
    _plans_cache,
    _plans_models,
    _plans_residency,
    _watch,
)
from hoist._lease import LeaseState
from hoist._plans import Call, Plan
from hoist._proto import v1
from hoist._proto.v1 import admin_service_pb2 as admin
from hoist._proto.v1 import cache_service_pb2 as cache
from hoist._proto.v1 import catalog_service_pb2 as catalog
from hoist._proto.v1 import device_service_pb2 as device
from hoist._proto.v1 import integrity_service_pb2 as integrity
from hoist._proto.v1 import lease_service_pb2 as lease
from hoist._proto.v1 import operation_pb2, resources_pb2
from hoist._proto.v1 import residency_service_pb2 as residency
from hoist._proto.v1 import state_service_pb2 as state
from hoist._types import Position

from .test_plans import carry_out

ID = str(uuid.uuid4())

MESSAGES: dict[str, Descriptor] = {
    name: described
    for each in pkgutil.iter_modules(v1.__path__)
    if each.name.endswith("_pb2")
    for name, described in importlib.import_module(
        f"{v1.__name__}.{each.name}"
    ).DESCRIPTOR.message_types_by_name.items()
}


def answered(plan: Callable[[], Plan[Any]]) -> Callable[[Any], object]:
    """What a caller gets when the server answers so."""
    return lambda message: carry_out(plan(), [message])[0]


def produced(message: Message) -> object:
    """What a caller gets when an operation ends so."""
    done = operations_pb2.Operation(name="operations/a", done=True)
    done.response.Pack(message)
    return _decode.result(done)


# From what the server says to what a caller sees. What these messages hold is reached through them.
SHOWN: list[tuple[type[Message], Callable[[Any], object]]] = [
    (admin.GetConfigResponse, answered(_plans.config)),
    (admin.ShutdownResponse, answered(lambda: _plans.shutdown(1))),
    (admin.ProbeMachineResponse, produced),
    (cache.CacheModelResponse, produced),
    (cache.EvictModelResponse, answered(lambda: _plans_cache.evict("x", None, None, False, False, None))),
    (cache.GetCacheResponse, answered(_plans_cache.cache_status)),
    (
        cache.ListSegmentsResponse,
        answered(lambda: _plans_cache.segments_page(_plans_cache.segments_request(None, 1), "")),
    ),
    (cache.PinModelResponse, answered(lambda: _plans_cache.pin("x", None, None))),
    (cache.UnpinModelResponse, answered(lambda: _plans_cache.unpin("x", None, None))),
    (
        cache.UpdateCachePolicyResponse,
        answered(lambda: _plans_cache.cache_policy(None, 1 << 30, None, None, None, (), None)),
    ),
    (
        catalog.ListModelsResponse,
        answered(lambda: _plans_models.models_page(catalog.ListModelsRequest(), "")),
    ),
    (catalog.GetModelResponse, answered(lambda: _plans_models.model("x", True, True))),
    (
        catalog.UpdateModelResponse,
        answered(lambda: _plans_models.update_model("x", {}, {}, None, True, False, None, None)),
    ),
    (catalog.DeleteModelResponse, answered(lambda: _plans_models.delete_model("x", False, None, None))),
    (catalog.ScanModelsResponse, produced),
    (catalog.DigestModelsResponse, produced),
    (catalog.ListRootsResponse, answered(_plans_models.roots)),
    (
        catalog.ListComponentsResponse,
        answered(lambda: _plans_models.components_page(catalog.ListComponentsRequest(), "")),
    ),
    (device.ListDevicesResponse, answered(_plans.devices)),
    (device.GetDeviceResponse, answered(lambda: _plans.device("x"))),
    (device.CordonDeviceResponse, answered(lambda: _plans.cordon("x", None, None))),
    (device.UncordonDeviceResponse, answered(lambda: _plans.uncordon("x", None))),
    (integrity.ValidateModelResponse, produced),
    (
        integrity.ListVerdictsResponse,
        answered(lambda: _plans_models.verdicts_page(integrity.ListVerdictsRequest(), "")),
    ),
    (lease.ListLeasesResponse, answered(lambda: _plans_cache.leases_page(""))),
    (lease.RevokeLeaseResponse, answered(lambda: _plans_cache.revoke(ID, "", None))),
    (residency.LoadModelResponse, produced),
    (residency.UnloadModelResponse, produced),
    (residency.PlanLoadResponse, answered(lambda: _plans_residency.plan("x", None, _plans_residency.How()))),
    (residency.EstimateLoadResponse, answered(lambda: _plans_residency.estimate("x", None, None))),
    (
        residency.ListReplicasResponse,
        answered(
            lambda: _plans_residency.replicas_page(_plans_residency.replicas_request(None, None, 1), "")
        ),
    ),
    (residency.VerifyReplicasResponse, answered(lambda: _plans_residency.verify("x", None))),
    (operation_pb2.OperationMetadata, _decode.operation_metadata),
    (resources_pb2.Resource, _decode.resource),
    (state.GetStatusResponse, answered(lambda: _plans.status("machine"))),
    (state.BatchGetStatusResponse, answered(lambda: _plans.statuses(["machine"]))),
    (state.GetSyncHealthResponse, answered(lambda: _plans_agreement.health(None, None))),
    (state.DiagnoseSyncResponse, answered(lambda: _plans_agreement.diagnose(None))),
    (state.ResetSyncResponse, answered(lambda: _plans_agreement.reset(None, 1))),
    (state.ConfigureSyncResponse, answered(lambda: _plans_agreement.configure("HIGH", None, None))),
]

# What a caller does not see, and why. An answer's `request_id` is left out throughout: it is the request's.
PAGES = "the calls that list give each thing, and nothing about the list"
NOT_SHOWN = {
    "GetDeviceResponse.position": "the state of all is asked for with status()",
    "GetModelResponse.position": "the state of all is asked for with status()",
    "ListComponentsResponse.first_look": "status() tells it",
    "ListComponentsResponse.saved_bytes": PAGES,
    "ListComponentsResponse.total_size": PAGES,
    "ListComponentsResponse.undigested": PAGES,
    "ListDevicesResponse.position": PAGES,
    "ListLeasesResponse.position": PAGES,
    "ListLeasesResponse.total_size": PAGES,
    "ListModelsResponse.first_look": "status() tells it",
    "ListModelsResponse.missing_size": PAGES,
    "ListModelsResponse.position": PAGES,
    "ListModelsResponse.total_size": PAGES,
    "ListReplicasResponse.position": PAGES,
    "ListReplicasResponse.total_size": PAGES,
    "ListSegmentsResponse.position": PAGES,
    "ListSegmentsResponse.total_bytes": PAGES,
    "ListSegmentsResponse.total_size": PAGES,
    "ListVerdictsResponse.first_look": "status() tells it",
    "ListVerdictsResponse.missing_size": PAGES,
    "ListVerdictsResponse.position": PAGES,
    "ListVerdictsResponse.total_size": PAGES,
    "PlanLoadResponse.position": "the state of all is asked for with status()",
    "UpdateCachePolicyResponse.update_time": "it is now",
}

# What streams consist of: tests of watches and of leases say what becomes of each.
STREAMED: dict[type[Message], set[str]] = {
    lease.AcquireResponse: {"request_id", "progress", "granted", "revoked"},
    lease.AcquireProgress: {"operation", "progress"},
    lease.Granted: {"lease", "components", "grace"},
    lease.LeasedComponent: {"component", "type", "tensors", "files", "share"},
    lease.DeviceShare: {"replica", "socket", "token", "size_bytes"},
    lease.TensorPlace: {"name", "dtype", "shape", "offset", "size_bytes"},
    lease.Revoked: {"reason"},
    state.WatchResponse: {"snapshot", "snapshot_end", "delta", "mark", "progress"},
    state.SnapshotChunk: {"resources"},
    state.SnapshotEnd: {"position", "resources"},
    state.Delta: {"position", "changes"},
    state.Change: {"kind", "name", "resource", "mask"},
    state.Mark: {"position"},
    state.ProgressSample: {"operations"},
    state.OperationProgress: {"name", "progress"},
}

SCALARS: dict[int, object] = {
    FieldDescriptor.CPPTYPE_BOOL: True,
    FieldDescriptor.CPPTYPE_STRING: "x",
    FieldDescriptor.CPPTYPE_FLOAT: 0.5,
    FieldDescriptor.CPPTYPE_DOUBLE: 0.5,
}


def sound(field: FieldDescriptor) -> object:
    """A value that is not the default."""
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"x"
    return SCALARS.get(field.cpp_type, 1)


def is_ours(message: Any) -> bool:  # noqa: ANN401
    return message is not None and message.full_name.startswith("hoist.")


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def part_of(field: FieldDescriptor) -> Descriptor:
    assert field.message_type is not None
    return field.message_type


Trail = tuple[FieldDescriptor, ...]


def leaves(message: Any, before: Trail = ()) -> Iterator[Trail]:  # noqa: ANN401
    """The way to each field of a message and of what it holds."""
    for field in message.fields:
        yield (*before, field)
        if is_ours(field.message_type) and not is_map(field):
            yield from leaves(part_of(field), (*before, field))


def put(message: Message, trail: Trail, *, last: bool) -> None:
    """Makes what the way leads through, and at its end something else than nothing."""
    for field in trail[:-1]:
        part = getattr(message, field.name)
        message = part.add() if field.is_repeated else part
        message.SetInParent()
    if not last:
        return
    field = trail[-1]
    if is_map(field):
        getattr(message, field.name)["x"] = sound(part_of(field).fields_by_name["value"])
    elif field.message_type is not None:
        part = getattr(message, field.name)
        part = part.add() if field.is_repeated else part
        part.SetInParent()
        for inner in part.DESCRIPTOR.fields[:2] if not is_ours(part.DESCRIPTOR) else ():
            setattr(part, inner.name, sound(inner))
    elif field.is_repeated:
        getattr(message, field.name).append(sound(field))
    else:
        setattr(message, field.name, sound(field))


def is_shown(kind: type[Message], decode: Callable[[Any], object], trail: Trail) -> bool:
    seen = []
    for last in (False, True):
        message = kind()
        put(message, trail, last=last)
        # Not by ==: errors are all different, and left out where they are a part of something.
        seen.append(repr(decode(message)))
    return seen[0] != seen[1]


def called(field: FieldDescriptor) -> str:
    assert field.containing_type is not None
    return f"{field.containing_type.name}.{field.name}"


def test_every_field_of_an_answer_is_shown() -> None:
    shown: dict[str, bool] = {}
    for kind, decode in SHOWN:
        for trail in leaves(kind.DESCRIPTOR):
            is_it = is_shown(kind, decode, trail)
            for field in trail:
                # What is shown of a part shows the part.
                shown[called(field)] = shown.get(called(field), False) or is_it
    lacking = {field for field, is_there in shown.items() if not is_there}
    assert {field for field in lacking if not field.endswith("Response.request_id")} == set(NOT_SHOWN)


@pytest.mark.parametrize("kind", STREAMED, ids=lambda kind: kind.__name__)
def test_every_field_of_a_stream_is_known(kind: type[Message]) -> None:
    assert {field.name for field in kind.DESCRIPTOR.fields} == STREAMED[kind]


TEXTS = dict.fromkeys(
    ["display_name", "description", "licence", "source", "notes", "type_override", "base_override"], "x"
)
LISTS = {"aliases": ["x"], "tags": ["x"]}
EDITS = _plans_models.CacheEdits("HIGH", 1, True, "vae")
HOW = _plans_residency.How(
    "cpu:0", None, "BF16", "HIGH", True, "FULL", ["CORRUPT"], "STREAMING", "HIGH", "DEDICATED", 1
)
PLACED = _plans_residency.How(place="PACK")
LISTED = _plans_models.models_request("x", "x", "x", "x", "OK", "x", "x", "x", True, 1)

# Every call with everything that it takes; several where not everything can be said at once.
SENT: list[Callable[[], Message]] = [
    lambda: first(_plans.greet("unix:///x")),
    lambda: first(_plans.status("machine")),
    lambda: first(_plans.statuses(["machine"])),
    lambda: first(_plans.config()),
    lambda: first(_plans.devices()),
    lambda: first(_plans.device("x")),
    lambda: first(_plans.cordon("x", "x", ID)),
    lambda: first(_plans.uncordon("x", ID)),
    lambda: first(_plans.shutdown(1)),
    lambda: first(_plans.probe(["DISK_READ"], 1, 1, ID)),
    lambda: first(_plans_cache.cache_model("x", "vae", "HIGH", ["CORRUPT"], "FULL", 1, ID)),
    lambda: first(_plans_cache.evict("x", "vae", None, False, True, ID)),
    lambda: first(_plans_cache.evict({"x": "vae", "y": None}, None, None, False, True, ID)),
    lambda: first(_plans_cache.evict(None, None, "0a", False, True, ID)),
    lambda: first(_plans_cache.evict(None, None, None, True, True, ID)),
    lambda: first(_plans_cache.cache_status()),
    lambda: first(_plans_cache.segments_page(_plans_cache.segments_request("x", 1), "t")),
    lambda: first(_plans_cache.pin("x", "vae", ID)),
    lambda: first(_plans_cache.unpin("x", "vae", ID)),
    lambda: first(_plans_cache.cache_policy(None, 1 << 30, "LRU", 1, "LOW", (), ID)),
    lambda: first(_plans_cache.cache_policy("x", None, None, 1, "LOW", (), ID)),
    lambda: first(_plans_cache.leases_page("x")),
    lambda: first(_plans_cache.revoke(ID, "x", ID)),
    lambda: first(_plans_models.models_page(LISTED, "t")),
    lambda: first(_plans_models.model("x", True, True)),
    lambda: first(_plans_models.update_model("x", TEXTS, LISTS, "x", True, True, "x", ID, EDITS)),
    lambda: first(_plans_models.delete_model("x", True, "x", ID)),
    lambda: first(_plans_models.scan(["/x"], True, 1, True, 1, ID)),
    lambda: first(_plans_models.digest(["x"], 1, ID)),
    lambda: first(_plans_models.validate("x", "FULL", "x", True, "x", 1, ID)),
    lambda: first(_plans_models.verdicts_page(_plans_models.verdicts_request("x", True, True, 1), "t")),
    lambda: first(_plans_models.roots()),
    lambda: first(_plans_models.components_page(_plans_models.components_request("x", True, 1), "t")),
    lambda: first(_plans_residency.load("x", "vae", HOW, 1, ID)),
    lambda: first(_plans_residency.load("x", "vae", PLACED, 1, ID)),
    lambda: first(_plans_residency.load_components([("x", "vae")], HOW, 1, ID)),
    lambda: first(_plans_residency.unload("x", "cpu:0", "vae", True, 1, ID)),
    lambda: first(_plans_residency.unload_components({"x": "vae"}, "cpu:0", True, 1, ID)),
    lambda: first(_plans_residency.plan("x", "vae", HOW)),
    lambda: first(_plans_residency.estimate(["x", "y"], None, "BF16")),
    lambda: first(_plans_residency.replicas_page(_plans_residency.replicas_request("x", "cpu:0", 1), "t")),
    lambda: first(_plans_residency.verify("x", "cpu:0")),
    lambda: first(_plans_agreement.health("x", 1)),
    lambda: first(_plans_agreement.diagnose("x")),
    lambda: first(_plans_agreement.reset("x", 1)),
    lambda: first(_plans_agreement.configure("HIGH", "x", ID)),
    lambda: watched(),
    lambda: leased(again=False),
    lambda: leased(again=True),
]

# What a caller cannot say, and why.
WAITED = "the client waits for operations by calls of their own, which any number of callers may make"
WHOLE = "the client decodes whole messages"
NOT_SENT = {
    "BatchGetStatusRequest.field_mask": WHOLE,
    "CacheModelRequest.cancel_on_disconnect": WAITED,
    "CacheModelRequest.wait_for": WAITED,
    "DigestModelsRequest.cancel_on_disconnect": WAITED,
    "DigestModelsRequest.wait_for": WAITED,
    "GetModelRequest.field_mask": WHOLE,
    "ListModelsRequest.field_mask": WHOLE,
    "LoadComponentsRequest.cancel_on_disconnect": WAITED,
    "LoadComponentsRequest.wait_for": WAITED,
    "LoadModelRequest.cancel_on_disconnect": WAITED,
    "LoadModelRequest.wait_for": WAITED,
    "ProbeMachineRequest.cancel_on_disconnect": WAITED,
    "ProbeMachineRequest.wait_for": WAITED,
    "ScanModelsRequest.cancel_on_disconnect": WAITED,
    "ScanModelsRequest.wait_for": WAITED,
    "UnloadComponentsRequest.wait_for": WAITED,
    "UnloadModelRequest.wait_for": WAITED,
    "ValidateModelRequest.cancel_on_disconnect": WAITED,
    "ValidateModelRequest.wait_for": WAITED,
}


def first(plan: Plan[Any]) -> Message:
    """What is sent first."""
    step = next(plan)
    assert isinstance(step, Call)
    return step.request


def watched() -> Message:
    since = Position(1, 1)
    return _watch.WatchState(
        _watch.wish(["MODEL"], ["machine"], ["RUNNING"], since, 1, 1, resume=True)
    ).request()


def leased(*, again: bool) -> Message:
    wish, _ = _open.asked("x", "vae", None, "auto", False, "HIGH", ["CORRUPT"], "x", 1, "cuda:0", "BF16")
    of = LeaseState(wish)
    if again:
        answer = lease.AcquireResponse()
        answer.granted.lease.name = "leases/a"
        of.feed(answer)
    return of.request()


def said(message: Message) -> set[str]:
    """The fields that are set, in it and in what it holds."""
    found = set[str]()
    for field, value in message.ListFields():
        found.add(called(field))
        if is_ours(field.message_type):
            for part in value if field.is_repeated else [value]:
                found |= said(part)
    return found


def test_every_field_of_a_request_can_be_said() -> None:
    requests = [made() for made in SENT]
    kinds = {request.DESCRIPTOR.name: request.DESCRIPTOR for request in requests}
    assert {name for name in MESSAGES if name.endswith("Request")} == kinds.keys()
    sent = set[str]().union(*map(said, requests))
    able = {called(trail[-1]) for kind in kinds.values() for trail in leaves(kind)}
    assert able - sent == set(NOT_SENT)


def test_every_message_is_one_of_these() -> None:
    known = {kind.DESCRIPTOR.name for kind in STREAMED} | {kind.DESCRIPTOR.name for kind, _ in SHOWN}
    known |= {name for name in MESSAGES if name.endswith("Request")}
    for root in [kind.DESCRIPTOR for kind, _ in SHOWN] + [made().DESCRIPTOR for made in SENT]:
        known |= {trail[-1].message_type.name for trail in leaves(root) if trail[-1].message_type}
    assert known >= MESSAGES.keys()
