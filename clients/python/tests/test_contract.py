"""The client against the descriptors: its words, its calls, its kinds. Fields are in test_contract_fields."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest
from google.protobuf import descriptor_pool

import hoist
from hoist import _enums, _methods
from hoist._proto import v1
from hoist._proto.v1 import resources_pb2, state_service_pb2

MODULES = [
    importlib.import_module(f"{v1.__name__}.{each.name}")
    for each in pkgutil.iter_modules(v1.__path__)
    if each.name.endswith("_pb2")
]


def test_the_generated_modules_claim_no_other_name() -> None:
    assert state_service_pb2.Status.__module__ == "hoist._proto.v1.state_service_pb2"
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("hoist.api")


@pytest.mark.parametrize("kind", _enums.WIRE, ids=lambda kind: kind.__name__)
def test_an_enum_has_every_word_of_the_contract(kind: type[_enums.WireEnum]) -> None:
    wire, prefix = _enums.WIRE[kind]
    assert {name.removeprefix(prefix): number for name, number in wire.items()}.keys() == {
        each.value for each in kind
    }
    for name, number in wire.items():
        assert _enums.encode(kind, _enums.decode(kind, number)) == name
    unknown = _enums.decode(kind, 9_999)
    assert unknown in ("UNSPECIFIED", "UNKNOWN")


def test_every_enum_of_the_contract_is_known() -> None:
    found = set()
    for module in MODULES:
        found |= {each.full_name for each in module.DESCRIPTOR.enum_types_by_name.values()}
        for message in module.DESCRIPTOR.message_types_by_name.values():
            found |= {each.full_name for each in message.enum_types}
    known = {wire.DESCRIPTOR.full_name for wire, _ in _enums.WIRE.values()}  # type: ignore[attr-defined]
    # The watch turns these into its own events and never shows them.
    change = state_service_pb2.Change.Kind
    assert set(change.keys()) == {"KIND_UNSPECIFIED", "KIND_ADDED", "KIND_MODIFIED", "KIND_REMOVED"}
    assert found == known - {"google.rpc.Code"} | {change.DESCRIPTOR.full_name}


def test_every_call_of_the_contract_is_in_the_table() -> None:
    listed = {
        method.path: (method.request.DESCRIPTOR, method.response.DESCRIPTOR)
        for method in vars(_methods).values()
        if isinstance(method, _methods.Method)
    }
    pool = descriptor_pool.Default()
    services = [each for module in MODULES for each in module.DESCRIPTOR.services_by_name.values()]
    services.append(pool.FindServiceByName("google.longrunning.Operations"))
    described = {
        f"/{service.full_name}/{method.name}": (method.input_type, method.output_type)
        for service in services
        for method in service.methods
    }
    assert listed == described


def test_every_kind_of_resource_is_decoded() -> None:
    from hoist import _decode

    for field in resources_pb2.Resource.DESCRIPTOR.oneofs_by_name["value"].fields:
        message = resources_pb2.Resource(name="x")
        getattr(message, field.name).SetInParent()
        assert _decode.resource(message).kind == field.name.upper()


def test_every_event_of_a_watch_is_known() -> None:
    fields = state_service_pb2.WatchResponse.DESCRIPTOR.oneofs_by_name["event"].fields
    assert {each.name for each in fields} == {"snapshot", "snapshot_end", "delta", "mark", "progress"}


def test_words_print_as_themselves() -> None:
    assert f"{hoist.OperationState.RUNNING}" == str(hoist.OperationState.RUNNING) == "RUNNING"
    assert hoist.OperationState("RUNNING") is hoist.OperationState.RUNNING


def test_both_clients_have_the_same_calls() -> None:
    pairs: list[tuple[type, type]] = [
        (hoist.Client, hoist.aio.AsyncClient),
        (hoist.Operation, hoist.aio.AsyncOperation),
        (hoist.Watch, hoist.aio.AsyncWatch),
    ]
    for blocking, asynchronous in pairs:
        assert taken(blocking) == taken(asynchronous)


def taken(kind: type) -> dict[str, object]:
    """What each call takes, as callers may write it; of a property, that it is one."""
    members = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
    return {
        name: [(each.name, each.kind, each.default) for each in inspect.signature(it).parameters.values()]
        if callable(it)
        else type(it)
        for name, it in members.items()
    }
