"""What each call about weights in RAM does, without I/O, as in `_plans`. Arguments are judged first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from hoist import _decode, _decode_cache, _methods, _plans_models
from hoist._cache import (
    CachePolicy,
    CacheStatus,
    EvictResult,
    Lease,
    PinResult,
    SegmentStatus,
    UnpinResult,
)
from hoist._enums import EvictionPolicy, Priority, ValidationLevel, Verdict, encode
from hoist._plans import Plan, chosen_id, fresh_id, unary
from hoist._plans_models import Name, Words, flag, model_name, page_limit, some
from hoist._proto.v1 import cache_service_pb2 as cache
from hoist._proto.v1 import lease_service_pb2 as lease
from hoist._quantities import Size, Time

Verdicts = Verdict | str | Iterable[Verdict | str]
# Models, or parts of each.
Several = Iterable[Name] | Mapping[Name, Words | None]

# What `cache_policy` calls a field, and what the contract does.
_POLICY_FIELDS = {
    "budget": "budget_bytes",
    "eviction": "eviction",
    "idle_ttl": "idle_ttl",
    "priority": "priority",
}


# Leases in one answer: as many as the server gives.
_LEASES = 1_000

# What the command line calls a field's default.
_DEFAULTS = ("auto", "default", "never")

# In bytes. No component fits into less, so that a text that says less is a slip: `40` for `40GiB`.
_LEAST_WRITTEN_BUDGET = 1 << 20


def priority_word(value: Priority | str | None) -> str | None:
    return None if value is None else encode(Priority, value)


def verdict_words(allow: Verdicts) -> list[str]:
    return [encode(Verdict, each) for each in some("allow", allow)]


def component_names(components: Words | None) -> tuple[str, ...]:
    """All of them where none is given."""
    if components is None:
        return ()
    names = some("components", components)
    if not names or not all(names):
        # On the wire it would mean all of them, which a list that came out empty does not.
        raise ValueError("components names none: leave it out for all")
    return names


def cache_model(
    name: Name,
    components: Words | None,
    priority: Priority | str | None,
    allow: Verdicts,
    validation: ValidationLevel | str | None,
    deadline: Time | None,
    request_id: str | None,
) -> Plan[operations_pb2.Operation]:
    """Starts or joins the caching of a model."""
    request = cache.CacheModelRequest(
        request_id=chosen_id(request_id),
        name=model_name("name", name),
        components=component_names(components),
        priority=priority_word(priority),
        validation_level=None if validation is None else encode(ValidationLevel, validation),
        allow=verdict_words(allow),
        deadline=_decode.to_span("deadline", deadline),
    )
    return (yield from unary(_methods.CACHE_MODEL, request))


def evict(
    name: Name | Several | None,
    components: Words | None,
    segments: Words | None,
    all: bool,
    dry_run: bool,
    request_id: str | None,
) -> Plan[EvictResult]:
    """What is asked must be named or, in so many words, everything."""
    is_named = name is not None or segments is not None
    if flag("all", all) is is_named:
        raise ValueError("give names of models or segments, or all=True for everything that nobody uses")
    if components is not None and (name is None or not isinstance(name, (str, os.PathLike))):
        raise ValueError("components are those of one model: give its name alone, and no all=True")
    request = cache.EvictModelRequest(
        request_id=chosen_id(request_id),
        components=component_names(components),
        segments=_segments(segments),
        all=all,
        dry_run=flag("dry_run", dry_run),
    )
    if isinstance(name, (str, os.PathLike)):
        request.name = model_name("name", name)
    elif name is not None:
        request.parts.extend(_parts(name))
    return _decode_cache.evicted((yield from unary(_methods.EVICT_MODEL, request)))


def _parts(names: Several) -> list[cache.ModelPart]:
    if not isinstance(names, Iterable):
        raise TypeError(f"name must be a name or a list of names, not {names!r}")
    named = names.items() if isinstance(names, Mapping) else ((each, None) for each in names)
    given = [
        cache.ModelPart(name=model_name("name", each), components=component_names(parts))
        for each, parts in named
    ]
    if not given:
        raise ValueError("name is a list of none: nothing is said by that")
    return given


def _segments(segments: Words | None) -> list[str]:
    if segments is None:
        return []
    if not (given := some("segments", segments)):
        raise ValueError("segments names none: leave it out")
    # As in `leases/{uuid}`, the last part alone says it, too.
    return [each if "/" in each else f"segments/{each.lower()}" for each in given]


def cache_status() -> Plan[CacheStatus]:
    answer = yield from unary(_methods.GET_CACHE, cache.GetCacheRequest(request_id=fresh_id()))
    return _decode_cache.status(answer)


def segments_request(name: Name | None, page_size: int) -> cache.ListSegmentsRequest:
    return cache.ListSegmentsRequest(
        name="" if name is None else model_name("name", name), page_size=page_limit(page_size)
    )


def segments_page(request: cache.ListSegmentsRequest, token: str) -> Plan[tuple[list[SegmentStatus], str]]:
    request.request_id, request.page_token = fresh_id(), token
    answer = yield from unary(_methods.LIST_SEGMENTS, request)
    return [_decode_cache.segment_status(each) for each in answer.segments], answer.next_page_token


def pin(name: Name, components: Words | None, request_id: str | None) -> Plan[PinResult]:
    request = cache.PinModelRequest(
        request_id=chosen_id(request_id),
        name=model_name("name", name),
        components=component_names(components),
    )
    return _decode_cache.pinned((yield from unary(_methods.PIN_MODEL, request)))


def unpin(name: Name, components: Words | None, request_id: str | None) -> Plan[UnpinResult]:
    request = cache.UnpinModelRequest(
        request_id=chosen_id(request_id),
        name=model_name("name", name),
        components=component_names(components),
    )
    return _decode_cache.unpinned((yield from unary(_methods.UNPIN_MODEL, request)))


def cache_policy(
    name: Name | None,
    budget: Size | None,
    eviction: EvictionPolicy | str | None,
    idle_ttl: Time | None,
    priority: Priority | str | None,
    reset: Words,
    request_id: str | None,
) -> Plan[CachePolicy]:
    """Reads the policy when nothing is given, else changes it."""
    given = {"budget": budget, "eviction": eviction, "idle_ttl": idle_ttl, "priority": priority}
    back = some("reset", reset)
    if wrong := [each for each in back if each not in _POLICY_FIELDS]:
        raise ValueError(f"reset: {wrong[0]!r} is no field of a policy: use {', '.join(_POLICY_FIELDS)}")
    if both := [each for each in back if given[each] is not None]:
        raise ValueError(f"{both[0]} is given, and shall go back to its default: do one of both")
    for field, value in given.items():
        if isinstance(value, str) and value.lower() in _DEFAULTS:
            raise ValueError(f"{field}: instead of {value!r} say reset=[{field!r}]")
    changed = [each for each in _POLICY_FIELDS if given[each] is not None or each in back]
    if not changed:
        return (yield from _read_policy(name))
    if name is not None and (wrong := [each for each in changed if each in ("budget", "eviction")]):
        raise ValueError(f"{wrong[0]} is of the whole cache: leave the name out")
    request = cache.UpdateCachePolicyRequest(
        request_id=chosen_id(request_id),
        name="" if name is None else model_name("name", name),
        policy=cache.CachePolicy(
            budget_bytes=None if budget is None else _budget(budget),
            eviction=None if eviction is None else encode(EvictionPolicy, eviction),
            idle_ttl=_decode.to_span("idle_ttl", idle_ttl),
            priority=priority_word(priority),
        ),
        update_mask=FieldMask(paths=[_POLICY_FIELDS[each] for each in changed]),
    )
    answer = yield from unary(_methods.UPDATE_CACHE_POLICY, request)
    return _decode_cache.policy(answer.policy)


def _budget(given: Size) -> int:
    size = _decode.size("budget", given)
    if isinstance(given, str) and size < _LEAST_WRITTEN_BUDGET:
        raise ValueError(f"budget: {given!r} is less than 1MiB: say evict(all=True) to empty the cache")
    return size


def _read_policy(name: Name | None) -> Plan[CachePolicy]:
    if name is None:
        return (yield from cache_status()).policy
    # A model's own policy is a part of what people say about it.
    config = (yield from _plans_models.model(name, False, False)).notes.config
    return CachePolicy(None, EvictionPolicy.UNSPECIFIED, config.cache_idle_ttl, config.cache_priority)


def leases_page(token: str) -> Plan[tuple[list[Lease], str]]:
    request = lease.ListLeasesRequest(request_id=fresh_id(), page_size=_LEASES, page_token=token)
    answer = yield from unary(_methods.LIST_LEASES, request)
    return [_decode_cache.lease(each) for each in answer.leases], answer.next_page_token


def revoke(name: str | Lease, reason: str, request_id: str | None) -> Plan[None]:
    request = lease.RevokeLeaseRequest(
        request_id=chosen_id(request_id),
        name=_decode.resource_name("lease", name.name if isinstance(name, Lease) else name, "leases"),
        reason=_decode.word("reason", reason),
    )
    yield from unary(_methods.REVOKE_LEASE, request)


def acquire(
    name: Name,
    components: Words | None,
    priority: Priority | str | None,
    allow: Verdicts,
    holder: str | None,
    timeout: Time | None,
    *,
    device_id: str = "",
    dtype: str = "",
) -> lease.AcquireRequest:
    """What a lease is asked for with."""
    return lease.AcquireRequest(
        name=model_name("name", name),
        components=component_names(components),
        priority=priority_word(priority),
        holder=_decode.word("holder", holder or ""),
        allow=verdict_words(allow),
        deadline=_decode.to_span("timeout", timeout),
        device_id=device_id,
        dtype=dtype,
    )
