"""What the server tells about models on devices, as frozen values. Times are in UTC, sizes bytes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from hoist._enums import LoadStrategy, Priority, ReplicaState, ReplicaVerdict


@dataclass(frozen=True, slots=True)
class Replica:
    """A component on a device, or on its way there or away: one attempt at it."""

    name: str
    """`replicas/{uuid}`."""
    device_id: str
    """`cpu:0`."""
    segment: str
    """`segments/{digest}`: what it is made from."""
    dtype: str
    """What tensors of floating point are converted to: `BF16`. Empty: they are as they are."""
    state: ReplicaState
    models: tuple[str, ...]
    """Models that it is there for. Empty: it is on its way away."""
    priority: Priority
    """The highest that it was asked for with."""
    planned_bytes: int
    """What it was given room for."""
    own_bytes: int
    """What it takes of the device for itself."""
    mapped_bytes: int
    """What of it is its segment, mapped: in RAM once for everybody."""
    tensors: int
    """Once they are known."""
    load_time: timedelta | None
    """How long its worker was at it. None: it is not ACTIVE yet."""
    failure: str
    """FAILED: why."""
    create_time: datetime
    """Since when there is this attempt."""


@dataclass(frozen=True, slots=True)
class VerifiedReplica:
    """What a replica is, beside its segment in RAM."""

    replica: str
    """`replicas/{uuid}`."""
    device_id: str
    """`cuda:0`."""
    segment: str
    """`segments/{digest}`: what it was made from."""
    verdict: ReplicaVerdict
    tensors: int
    """So many were compared."""
    wrong: tuple[str, ...]
    """Tensors that differ, at most 100."""
    wrong_count: int
    """How many differ."""
    reason: str
    """NOT_COMPARED, SEGMENT_DAMAGED: why."""
    models: tuple[str, ...] = ()
    """Models that it is there for."""


@dataclass(frozen=True, slots=True)
class LoadedComponent:
    """A component on a device."""

    model: str
    component: str
    """Its name in the model: `vae`."""
    replica: str
    """`replicas/{uuid}`."""
    segment: str
    """`segments/{digest}`: what it was made from."""
    dtype: str
    """What it was converted to. Empty: it is as it was."""
    own_bytes: int
    """What it takes of the device for itself."""
    mapped_bytes: int
    """What of it is its segment, mapped."""
    tensors: int
    resident: bool
    """It was there already."""
    load_time: timedelta | None
    """How long the worker was at it, when it was brought there."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What was loaded."""

    device_id: str
    """Where: `cpu:0`."""
    components: tuple[LoadedComponent, ...]
    """In the order of the models, and of the components in them."""
    read_bytes: int
    """Bytes that were read from the models' files."""
    took: timedelta
    """From its begin to the last replica."""
    unloaded: tuple[str, ...]
    """Models that made room on the device."""
    left_out: tuple[str, ...]
    """Components that cannot be loaded, and why, a line each."""
    reasons: tuple[str, ...]
    """Why this device, a line each."""
    strategy: LoadStrategy
    """What was used of what was asked for."""

    def __getitem__(self, component: str) -> LoadedComponent:
        """The first component of that name: `client.load("sdxl")["vae"].replica`."""
        for each in self.components:
            if each.component == component:
                return each
        raise KeyError(component)


@dataclass(frozen=True, slots=True)
class UnloadedReplica:
    """What became of one replica."""

    replica: str
    device_id: str
    """Where it was: `cpu:0`."""
    segment: str
    expected_bytes: int
    """What it took of the device."""
    returned_bytes: int
    """What the device has more since it is gone."""
    kept_because: str
    """Why it stays. Empty: it is gone."""


@dataclass(frozen=True, slots=True)
class UnloadResult:
    """What was unloaded."""

    replicas: tuple[UnloadedReplica, ...]
    """Each that was asked for. None: nothing of it was on a device."""
    expected_bytes: int
    """What they took of their devices."""
    returned_bytes: int
    """What the devices have more since they are gone."""
    retained_bytes: int
    """What was expected and not returned."""
    took: timedelta


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """What speaks for or against a device."""

    device_id: str
    fits: bool
    """It would take the load."""
    needed_bytes: int
    """What the load would take of it beyond what is there."""
    resident_bytes: int
    """What of the load is there already."""
    free_bytes: int
    refusal: str
    """Why it would not take it. Empty: it would."""
    unload: tuple[str, ...]
    """Models that would have to go: only with `force`; without, what would help."""


@dataclass(frozen=True, slots=True)
class ComponentEstimate:
    """What one component would take."""

    model: str
    component: str
    segment: str
    """`segments/{digest}`. Empty: its content is not known yet."""
    ram_bytes: int
    in_ram: bool
    device_bytes: int
    on_devices: tuple[str, ...]
    """Devices that it is on, in this type of elements: `cpu:0`."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What a load would do."""

    device_id: str
    """Where it would go: `cpu:0`. Empty: nowhere, and `refusal` says why."""
    reasons: tuple[str, ...]
    """Why there, a line each."""
    device_bytes: int
    """What it would take of that device beyond what is there."""
    unload: tuple[str, ...]
    """Models that would make room on the device. Only with `force`."""
    ram_bytes: int
    """What it would take of RAM beyond what is there."""
    read_bytes: int
    """What would be read from disks."""
    expected: timedelta | None
    """How long it would take, by what was measured. None rather than guessed."""
    devices: tuple[DevicePlan, ...]
    """Every device, and what speaks for or against it; the best first."""
    refusal: str
    """Why it would be refused. Empty: it would not."""
    refusal_reason: str
    """The stable name of that: `VRAM_EXHAUSTED`."""
    components: tuple[ComponentEstimate, ...]

    @property
    def refused(self) -> bool:
        """Whether the load would be refused."""
        return bool(self.refusal or self.refusal_reason)


@dataclass(frozen=True, slots=True)
class LoadEstimate:
    """What a load would take."""

    components: tuple[ComponentEstimate, ...]
    device_bytes: int
    """Of a device on which nothing of it is: each content once."""
    ram_bytes: int
    """Of RAM, each content once."""
    missing_ram_bytes: int
    """Of that: what is not there yet."""
    read_bytes: int
    """What would be read from disks."""
    peak_ram_bytes: int
    """The most that RAM holds for it at any moment beyond what is there."""
    left_out: tuple[str, ...]
    """Components that cannot be loaded, and why, a line each."""
