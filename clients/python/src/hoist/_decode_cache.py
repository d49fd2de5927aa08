"""From messages about weights in RAM to values."""

from __future__ import annotations

from hoist._cache import (
    CachedComponent,
    CachePolicy,
    CacheResult,
    CacheStatistics,
    CacheStatus,
    EvictedSegment,
    Eviction,
    EvictResult,
    Lease,
    PinResult,
    Segment,
    SegmentStatus,
    SegmentUser,
    UnpinResult,
)
from hoist._enums import (
    CachedSource,
    EvictionPolicy,
    EvictionReason,
    LeaseState,
    Priority,
    SegmentState,
)
from hoist._enums import decode as enum
from hoist._proto.v1 import cache_service_pb2 as cache
from hoist._proto.v1 import resources_pb2
from hoist._times import span, span_if, time, time_if


def component(message: cache.CachedComponent) -> CachedComponent:
    return CachedComponent(
        component=message.component,
        segment=message.segment,
        path=message.path,
        prefix=message.prefix,
        size_bytes=message.size_bytes,
        source=enum(CachedSource, message.source),
    )


def cached(message: cache.CacheModelResponse) -> CacheResult:
    return CacheResult(
        model=message.model,
        components=tuple(map(component, message.components)),
        read_bytes=message.read_bytes,
        took=span(message.took),
        evicted=tuple(message.evicted),
        left_out=tuple(message.left_out),
    )


def evicted(message: cache.EvictModelResponse) -> EvictResult:
    return EvictResult(
        segments=tuple(
            EvictedSegment(each.segment, each.size_bytes, each.evicted, each.kept_because)
            for each in message.segments
        ),
        freed_bytes=message.freed_bytes,
        dry_run=message.dry_run,
    )


def policy(message: cache.CachePolicy) -> CachePolicy:
    return CachePolicy(
        budget_bytes=message.budget_bytes if message.HasField("budget_bytes") else None,
        eviction=enum(EvictionPolicy, message.eviction),
        idle_ttl=span_if(message, "idle_ttl"),
        priority=enum(Priority, message.priority),
    )


def statistics(message: cache.CacheStatistics) -> CacheStatistics:
    return CacheStatistics(
        hits=message.hits,
        misses=message.misses,
        fills=message.fills,
        read_bytes=message.read_bytes,
        fill_time=span(message.fill_time),
        shared_bytes=message.shared_bytes,
        evictions=message.evictions,
        evicted_bytes=message.evicted_bytes,
        mean_idle_at_eviction=span_if(message, "mean_idle_at_eviction"),
        adopted=message.adopted,
        refusals=message.refusals,
        saved_bytes=message.saved_bytes,
    )


def status(message: cache.GetCacheResponse) -> CacheStatus:
    return CacheStatus(
        budget_bytes=message.budget_bytes,
        budget_limit=message.budget_limit,
        used_bytes=message.used_bytes,
        sealed_bytes=message.sealed_bytes,
        filling_bytes=message.filling_bytes,
        zombie_bytes=message.zombie_bytes,
        segments=message.segments,
        leases=message.leases,
        policy=policy(message.policy),
        statistics=statistics(message.statistics),
        directory=message.directory,
        held_bytes=message.held_bytes,
    )


def segment(message: resources_pb2.Segment) -> Segment:
    eviction = None
    if message.HasField("eviction"):
        eviction = Eviction(enum(EvictionReason, message.eviction.reason), message.eviction.beneficiary)
    return Segment(
        name=message.name,
        state=enum(SegmentState, message.state),
        size_bytes=message.size_bytes,
        raw=message.raw,
        type=message.type,
        priority=enum(Priority, message.priority),
        models=tuple(message.models),
        seal_time=time_if(message, "seal_time"),
        zombie=message.zombie,
        eviction=eviction,
    )


def segment_status(message: cache.SegmentStatus) -> SegmentStatus:
    return SegmentStatus(
        segment=segment(message.segment),
        path=message.path,
        users=tuple(
            SegmentUser(each.model, each.display_name, each.component, each.prefix, each.cached)
            for each in message.users
        ),
        user_count=message.user_count,
        leases=message.leases,
        pinned=message.pinned,
        idle=span_if(message, "idle"),
        uses=message.uses,
    )


def pinned(message: cache.PinModelResponse) -> PinResult:
    return PinResult(message.model, tuple(message.resident), tuple(message.absent))


def unpinned(message: cache.UnpinModelResponse) -> UnpinResult:
    return UnpinResult(message.model, message.was_pinned, tuple(message.pinned))


def lease(message: resources_pb2.Lease) -> Lease:
    return Lease(
        name=message.name,
        state=enum(LeaseState, message.state),
        model=message.model,
        segments=tuple(message.segments),
        size_bytes=message.size_bytes,
        holder=message.holder,
        principal=message.principal,
        grant_time=time(message.grant_time),
        process_id=message.process_id or None,
        device_id=message.device_id,
        replicas=tuple(message.replicas),
    )
