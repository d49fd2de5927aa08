"""How well what shall be on devices and what is there agree, as frozen values. Times are aware, in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from hoist._enums import SyncPace
from hoist._types import Position


@dataclass(frozen=True, slots=True)
class SyncHealth:
    """How well two sides agree: of a device, of a model on a device, or of all together."""

    name: str
    """`machine`, `devices/{device}`, or `models/{uuid}`."""
    device_id: str
    """Of a model: where. Of a device: itself. Empty: overall."""
    agreement: float
    """The part of the window in which both sides agreed, 0 to 1. 1 where nothing was looked at yet."""
    looked_at: timedelta
    """How much of the window was looked at."""
    agrees: bool
    """They agree now, or differ for less long than the pace allows."""
    difference: str
    """What is different now. Empty: nothing."""
    differs_for: timedelta | None
    """Since how long. None: nothing is different."""
    staleness: timedelta | None
    """Of a device: since how long nothing was heard of its worker. None: it is not connected."""
    drift_found: int
    """Replicas that nobody had asked for, in this life of the server."""
    drift_repaired: int
    """Of these: gone by now."""
    pace: SyncPace
    """How long it may differ."""
    generation: int
    """Of a device: the number of what is desired of it."""
    answered: int
    """Of a device: the last one that its worker has answered. 0: none on its present stream."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """How well both sides agree, part by part."""

    overall: SyncHealth
    """Over all that was asked for: the mean of its parts, by their time."""
    devices: tuple[SyncHealth, ...]
    """In the order of their names."""
    models: tuple[SyncHealth, ...]
    """By model and device, of what shall be there; at most 1,000, the worst first."""
    position: Position
    """Of the whole state when this was read."""


@dataclass(frozen=True, slots=True)
class SyncFinding:
    """Something that is different."""

    name: str
    """`devices/{device}`, `models/{uuid}` or `replicas/{uuid}`."""
    device_id: str
    """Where: `cpu:0`."""
    message: str
    advice: str
    """What to do about it. Empty: nothing, it is being mended."""
    age: timedelta | None
    """Since how long. None: that is not known."""


@dataclass(frozen=True, slots=True)
class SyncLatency:
    """How fast a worker takes what is desired, over its last answers."""

    device_id: str
    answers: int
    """Those that were measured, at most the last 256."""
    median: timedelta
    p99: timedelta
    """99 of 100 took no longer."""
    last: timedelta


@dataclass(frozen=True, slots=True)
class SyncIncident:
    """Something that has disagreed and does not any more."""

    name: str
    """`devices/{device}` or `models/{uuid}`."""
    device_id: str
    """Where: `cpu:0`."""
    message: str
    """What was the case."""
    start_time: datetime
    lasted: timedelta


@dataclass(frozen=True, slots=True)
class SyncDiagnosis:
    """What does not agree now, and what has lately not."""

    findings: tuple[SyncFinding, ...]
    """What is different now, whatever the pace; the oldest first. None: nothing."""
    latencies: tuple[SyncLatency, ...]
    """By device."""
    history: tuple[SyncIncident, ...]
    """The newest first; at most 100."""


@dataclass(frozen=True, slots=True)
class SyncReset:
    """What has begun anew."""

    device_ids: tuple[str, ...]
    """Devices whose workers tell everything again."""
    agrees: bool | None
    """Both sides agree. None: that was not waited for."""
    findings: tuple[SyncFinding, ...]
    """What is different still, where it was waited for."""
