"""What each call about models on devices does, without I/O, as in `_plans`. Arguments are judged first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.longrunning import operations_proto_pb2 as operations_pb2

from hoist import _decode, _decode_residency, _methods
from hoist._enums import (
    LoadStrategy,
    MemoryPool,
    OptimizationLevel,
    Placement,
    Priority,
    ValidationLevel,
    encode,
)
from hoist._plans import Plan, chosen_id, fresh_id, unary
from hoist._plans_cache import Verdicts, component_names, priority_word, verdict_words
from hoist._plans_models import Name, Words, flag, model_name, page_limit, some
from hoist._proto.v1 import cache_service_pb2 as cache
from hoist._proto.v1 import residency_service_pb2 as residency
from hoist._quantities import Time
from hoist._residency import LoadEstimate, LoadPlan, Replica, VerifiedReplica

# A model, or a model and some of its components.
Part = Name | tuple[Name, Words | None]
# Several of them, also as `{name: components}`.
Parts = Iterable[Part] | Mapping[Name, Words | None]
Strategies = LoadStrategy | str | Iterable[LoadStrategy | str]


def named(argument: str, value: str | None) -> str:
    """A word that may be left out. None is that, and nothing else: `0` and `""` are mistakes."""
    if value is None:
        return ""
    word = _decode.word(argument, value)
    if not word:
        raise ValueError(f"{argument} is empty: name one, or leave it out")
    return word


@dataclass(frozen=True)
class How:
    """How a load is done, as callers say it."""

    device: str | None = None
    place: Placement | str | None = None
    dtype: str | None = None
    priority: Priority | str | None = None
    force: bool = False
    validation: ValidationLevel | str | None = None
    allow: Verdicts = ()
    strategies: Strategies = ()
    optimization: OptimizationLevel | str | None = None
    memory_pool: MemoryPool | str | None = None
    max_resident_components: int | None = None

    def options(self) -> residency.LoadOptions:
        if self.device is not None and self.place is not None:
            raise ValueError("place says how a device is found, and device names one: give one of them")
        return residency.LoadOptions(
            device_id=named("device", self.device),
            placement=None if self.place is None else encode(Placement, self.place),
            dtype=named("dtype", self.dtype),
            priority=priority_word(self.priority),
            force=flag("force", self.force),
            validation_level=None if self.validation is None else encode(ValidationLevel, self.validation),
            allow=verdict_words(self.allow),
            strategies=[encode(LoadStrategy, each) for each in some("strategies", self.strategies)],
            optimization=None if self.optimization is None else encode(OptimizationLevel, self.optimization),
            memory_pool=None if self.memory_pool is None else encode(MemoryPool, self.memory_pool),
            max_resident_components=_decode.number("max_resident_components", self.max_resident_components),
        )


def _is_name(value: object) -> bool:
    return isinstance(value, (str, os.PathLike))


def _part(name: Name, components: Words | None) -> cache.ModelPart:
    return cache.ModelPart(name=model_name("name", name), components=component_names(components))


def parts(names: Name | Parts, components: Words | None = None) -> list[cache.ModelPart]:
    """One model, with some of its components; or several, each with its own."""
    if isinstance(names, (str, os.PathLike)):
        return [_part(names, components)]
    if components is not None:
        raise ValueError("components are those of one model: give its name alone, or pairs")
    if not isinstance(names, Iterable):
        raise TypeError(f"names must be a name or a list of names or pairs, not {names!r}")
    given = [_part(*_pair(each)) for each in (names.items() if isinstance(names, Mapping) else names)]
    if not given:
        raise ValueError("names is a list of none: nothing is said by that")
    return given


def _pair(part: Part) -> tuple[Name, Words | None]:
    if isinstance(part, (str, os.PathLike)):
        return part, None
    if isinstance(part, tuple) and len(part) == 2 and _is_name(part[0]):
        return part
    raise TypeError(f"names must hold names, or pairs of a name and components, not {part!r}")


def load(
    name: Name, components: Words | None, how: How, deadline: Time | None, request_id: str | None
) -> Plan[operations_pb2.Operation]:
    """Starts or joins the loading of a model."""
    request = residency.LoadModelRequest(
        request_id=chosen_id(request_id),
        name=model_name("name", name),
        components=component_names(components),
        options=how.options(),
        deadline=_decode.to_span("deadline", deadline),
    )
    return (yield from unary(_methods.LOAD_MODEL, request))


def load_components(
    names: Name | Parts, how: How, deadline: Time | None, request_id: str | None
) -> Plan[operations_pb2.Operation]:
    request = residency.LoadComponentsRequest(
        request_id=chosen_id(request_id),
        parts=parts(names),
        options=how.options(),
        deadline=_decode.to_span("deadline", deadline),
    )
    return (yield from unary(_methods.LOAD_COMPONENTS, request))


def unload(
    name: Name,
    device: str | None,
    components: Words | None,
    force: bool,
    deadline: Time | None,
    request_id: str | None,
) -> Plan[operations_pb2.Operation]:
    request = residency.UnloadModelRequest(
        request_id=chosen_id(request_id),
        name=model_name("name", name),
        components=component_names(components),
        device_id=named("device", device),
        force=flag("force", force),
        deadline=_decode.to_span("deadline", deadline),
    )
    return (yield from unary(_methods.UNLOAD_MODEL, request))


def unload_components(
    names: Name | Parts, device: str | None, force: bool, deadline: Time | None, request_id: str | None
) -> Plan[operations_pb2.Operation]:
    request = residency.UnloadComponentsRequest(
        request_id=chosen_id(request_id),
        parts=parts(names),
        device_id=named("device", device),
        force=flag("force", force),
        deadline=_decode.to_span("deadline", deadline),
    )
    return (yield from unary(_methods.UNLOAD_COMPONENTS, request))


def plan(names: Name | Parts, components: Words | None, how: How) -> Plan[LoadPlan]:
    request = residency.PlanLoadRequest(
        request_id=fresh_id(), parts=parts(names, components), options=how.options()
    )
    return _decode_residency.plan((yield from unary(_methods.PLAN_LOAD, request)))


def estimate(names: Name | Parts, components: Words | None, dtype: str | None) -> Plan[LoadEstimate]:
    request = residency.EstimateLoadRequest(
        request_id=fresh_id(), parts=parts(names, components), dtype=named("dtype", dtype)
    )
    return _decode_residency.estimate((yield from unary(_methods.ESTIMATE_LOAD, request)))


def replicas_request(name: Name | None, device: str | None, page_size: int) -> residency.ListReplicasRequest:
    return residency.ListReplicasRequest(
        device_id=named("device", device),
        name="" if name is None else model_name("name", name),
        page_size=page_limit(page_size),
    )


def replicas_page(request: residency.ListReplicasRequest, token: str) -> Plan[tuple[list[Replica], str]]:
    request.request_id, request.page_token = fresh_id(), token
    answer = yield from unary(_methods.LIST_REPLICAS, request)
    return [_decode_residency.replica(each) for each in answer.replicas], answer.next_page_token


def verify(name: Name, device: str | None) -> Plan[tuple[VerifiedReplica, ...]]:
    request = residency.VerifyReplicasRequest(
        request_id=fresh_id(), name=model_name("name", name), device_id=named("device", device)
    )
    answer = yield from unary(_methods.VERIFY_REPLICAS, request)
    return tuple(map(_decode_residency.verified, answer.replicas))
