"""What the server tells about weights in RAM, as frozen values. Times are aware, in UTC; sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from hoist._enums import (
    CachedSource,
    EvictionPolicy,
    EvictionReason,
    LeaseState,
    Priority,
    SegmentState,
)


@dataclass(frozen=True, slots=True)
class CachedComponent:
    """A component of a model in RAM."""

    component: str
    """Its name in the model: `vae`."""
    segment: str
    """`segments/{digest}`."""
    path: str
    """The file that holds it, or the folder for what is kept as it is."""
    prefix: str
    """What its keys began with in the model's files; they are without it here."""
    size_bytes: int
    """What it takes of the memory."""
    source: CachedSource
    """How it came there."""


@dataclass(frozen=True, slots=True)
class CacheResult:
    """What was cached."""

    model: str
    components: tuple[CachedComponent, ...]
    """In the model's order."""
    read_bytes: int
    """Bytes that were read from the model's files."""
    took: timedelta
    evicted: tuple[str, ...]
    """Segments that made room for it."""
    left_out: tuple[str, ...]
    """Components that cannot be in RAM, and why, a line each."""

    def __getitem__(self, component: str) -> CachedComponent:
        """The component of that name: `client.cache("sdxl")["vae"].path`."""
        for each in self.components:
            if each.component == component:
                return each
        raise KeyError(component)


@dataclass(frozen=True, slots=True)
class EvictedSegment:
    """What became of one segment."""

    segment: str
    size_bytes: int
    evicted: bool
    """It is gone from RAM, or would be."""
    kept_because: str
    """Why it stays. Empty: it does not."""


@dataclass(frozen=True, slots=True)
class EvictResult:
    """What was taken out of RAM, or with `dry_run` would be."""

    segments: tuple[EvictedSegment, ...]
    freed_bytes: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How memory is used: all of it, or as far as one model's own policy says."""

    budget_bytes: int | None
    """What segments may take at most. None: as the server was started, or as the machine allows."""
    eviction: EvictionPolicy
    idle_ttl: timedelta | None
    """What nobody has used for so long goes first, and after this long also without need. None: never."""
    priority: Priority
    """Of models that no request and no policy of their own gives one. UNSPECIFIED: NORMAL."""


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """How well the cache works, since this start of the server."""

    hits: int
    """Components that were asked for and there."""
    misses: int
    fills: int
    """Segments that were filled."""
    read_bytes: int
    fill_time: timedelta
    """Of all operations together. `read_bytes` over this is the rate of a fill."""
    shared_bytes: int
    """Bytes that were read and found to be there already."""
    evictions: int
    evicted_bytes: int
    mean_idle_at_eviction: timedelta | None
    """From its last use to its eviction. None: none was evicted."""
    adopted: int
    """Segments that were found complete at the start."""
    refusals: int
    """Requests that were refused for want of room."""
    saved_bytes: int
    """What sharing saves now."""


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """The cache as a whole."""

    budget_bytes: int
    """What segments may take of the memory now."""
    budget_limit: str
    """What sets the budget: `policy`, `configured`, `machine`, `tmpfs`, or the name of a control group."""
    used_bytes: int
    """What segments take, or have reserved."""
    sealed_bytes: int
    """Of that: complete, and to be had."""
    filling_bytes: int
    zombie_bytes: int
    """Of that: withdrawn, and kept by those who still have it open."""
    segments: int
    """Segments that are complete."""
    leases: int
    """Leases that are held or awaited."""
    policy: CachePolicy
    statistics: CacheStatistics
    directory: str
    """Where segments are."""
    held_bytes: int
    """What the kernel says that its files take, those included that have lost their names."""


@dataclass(frozen=True, slots=True)
class Eviction:
    """Why a segment was evicted."""

    reason: EvictionReason
    beneficiary: str
    """The model that gets the room. Empty: none."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A component in RAM."""

    name: str
    """`segments/{digest}`; as long as the digest is not known, `segments/{model}.{number}`."""
    state: SegmentState
    size_bytes: int
    """What it takes of the memory; while it fills, what is reserved for it."""
    raw: bool
    """It holds files as they are, in a folder, and no tensors."""
    type: str
    """Empty: it was found at a start, and no known model has it."""
    priority: Priority
    models: tuple[str, ...]
    """Models that it was cached for. Not those that only share it."""
    seal_time: datetime | None
    """When it was complete. None: it is not; or it was found at a start."""
    zombie: bool
    """EVICTING: somebody still has it open, and its bytes count."""
    eviction: Eviction | None
    """Only while EVICTING."""


@dataclass(frozen=True, slots=True)
class SegmentUser:
    """A component of a model that is in a segment."""

    model: str
    display_name: str
    component: str
    prefix: str
    cached: bool
    """The model was cached, not only one that shares this with it."""


@dataclass(frozen=True, slots=True)
class SegmentStatus:
    """A segment and who is interested in it."""

    segment: Segment
    path: str
    """The file that holds it, or the folder for what is kept as it is. Empty: it is not complete."""
    users: tuple[SegmentUser, ...]
    """At most 100."""
    user_count: int
    leases: int
    pinned: bool
    """A model that has it is pinned."""
    idle: timedelta | None
    """Since its last use. None: it was found at the start, and not used since."""
    uses: int
    """Since the start of the server."""


@dataclass(frozen=True, slots=True)
class PinResult:
    """What is kept in RAM."""

    model: str
    resident: tuple[str, ...]
    """Components that are pinned and in RAM now."""
    absent: tuple[str, ...]
    """Components that are pinned, and will stay once they are in RAM."""


@dataclass(frozen=True, slots=True)
class UnpinResult:
    """What is not kept in RAM any more."""

    model: str
    was_pinned: bool
    """Something of what was asked for was pinned."""
    pinned: tuple[str, ...]
    """Components that are still pinned."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Somebody's use of components in RAM, or on a device: as long as it is held, they stay."""

    name: str
    """`leases/{uuid}`."""
    state: LeaseState
    model: str
    segments: tuple[str, ...]
    size_bytes: int
    holder: str
    """Who holds it, in the holder's own words."""
    principal: str
    """Who called: `uid:1000`."""
    grant_time: datetime
    process_id: int | None
    """None: not known."""
    device_id: str = ""
    """The device whose memory it is on: `cuda:0`. Empty: RAM."""
    replicas: tuple[str, ...] = ()
    """What it holds on that device. Then there are no segments."""
