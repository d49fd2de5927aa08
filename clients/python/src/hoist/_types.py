"""What the server tells, as frozen values. Times are aware and in UTC; sizes are bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hoist._cache import Lease, Segment
from hoist._devices import Device
from hoist._enums import (
    ConfigOrigin,
    MachineState,
    MeasurementKind,
    OperationKind,
    OperationState,
    ResourceKind,
    Severity,
)
from hoist._errors import Error
from hoist._models import Model
from hoist._residency import Replica


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the history of the state. Positions compare; wall-clock times are for people only."""

    epoch: int
    """Grows with every start of the coordinator."""
    revision: int
    """Grows by one with every change. Changes with one revision happened together."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured speed of the machine."""

    kind: MeasurementKind
    bytes: int
    """Moved while measuring. 0 when it could not be measured."""
    duration: timedelta
    bytes_per_second: int
    """0 when it could not be measured."""
    threads: int
    block_bytes: int
    measure_time: datetime
    note: str
    """Why it could not be measured, or what makes the figure less than a clean one. Empty: a clean figure."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine and the coordinator that runs on it."""

    state: MachineState
    version: str
    process_id: int
    start_time: datetime
    measurements: tuple[Measurement, ...]
    """The newest of each kind. Empty: nobody has probed."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running operation is."""

    phase: str
    """For people."""
    done_bytes: int
    total_bytes: int
    """0: not known yet."""
    bytes_per_second: int | None
    remaining: timedelta | None
    """None rather than guessed."""
    stalled: timedelta | None
    """How long nothing has moved. None: it moves."""
    done_items: int = 0
    """Things done, for work that counts things: models of a scan."""
    total_items: int = 0
    """0: not known yet."""


@dataclass(frozen=True, slots=True)
class OperationMetadata:
    """What is known about one operation."""

    name: str
    kind: OperationKind
    state: OperationState
    request_id: str
    """The request that created it; requests that joined it have their own."""
    principal: str
    create_time: datetime
    start_time: datetime | None
    """None while PENDING, and when it ended before it ran."""
    end_time: datetime | None
    attempts: int
    cancel_requested: bool
    # Exceptions compare by identity; the state says already whether there is one.
    error: Error | None = field(compare=False)
    """Why it FAILED or was CANCELLED."""
    progress: Progress | None
    """Never set in events of a watch, nor unless RUNNING."""
    subject: str = ""
    """The one resource that it is about: `models/{uuid}`. Empty: it is about several, or none."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong, or was repaired. It exists while it holds."""

    kind: str
    severity: Severity
    message: str
    advice: str
    since_time: datetime
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resource:
    """One named thing in the state."""

    name: str
    position: Position
    """When it last changed."""
    value: Machine | OperationMetadata | Condition | Model | Segment | Lease | Device | Replica | None
    """None: a kind that is newer than this client."""

    @property
    def kind(self) -> ResourceKind:
        """What `value` is."""
        match self.value:
            case Machine():
                return ResourceKind.MACHINE
            case OperationMetadata():
                return ResourceKind.OPERATION
            case Condition():
                return ResourceKind.CONDITION
            case Model():
                return ResourceKind.MODEL
            case Segment():
                return ResourceKind.SEGMENT
            case Lease():
                return ResourceKind.LEASE
            case Device():
                return ResourceKind.DEVICE
            case Replica():
                return ResourceKind.REPLICA
            case None:
                return ResourceKind.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """What is derived about the machine when it is asked for."""

    uptime: timedelta
    conditions: tuple[Condition, ...]
    operation_counts: Mapping[OperationState, int]
    """States with no operation are left out."""
    watch_streams: int
    request_ids: int
    request_ids_limit: int
    """At this many kept ids new mutations are refused until old ones expire."""
    oldest_revision: int
    """A watch can resume from here or later."""
    first_look_models: int | None = None
    """Models so far, until the roots were looked at once in this life of the server; None from then on."""
    devices: tuple[Device, ...] = ()
    active_replicas: int = 0
    """Replicas on all devices that can be used."""
    loaded_models: int = 0
    """Models that are wanted on a device, counted once a device."""
    missing_models: int = 0
    """Of these: what is not there yet, or not any more. It comes back by itself where that is possible."""
    segments: int = 0
    """Segments in RAM that are complete."""
    segment_bytes: int = 0
    """What segments take of the memory, or have reserved."""


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """A replica as far as it is known."""

    replica: Replica
    unknown: bool
    """Its worker is not heard of: whether it is still so is not known."""


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """Where one component of a model is."""

    component: str
    """Its name in the model: `vae`."""
    segment: Segment | None
    """In RAM, or on its way there or away. None: it is not."""
    idle: timedelta | None
    """For how long nobody has used it in RAM. None: it is not there."""
    uses: int
    """Since the server has known of it."""
    leases: int
    """Leases that hold it."""
    replicas: tuple[ReplicaStatus, ...]
    """On devices."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """Where a model is, joined over disk, RAM and devices."""

    components: tuple[ComponentStatus, ...]
    """In the model's order."""
    operations: tuple[OperationMetadata, ...]
    """On it, that have not ended, with their progress."""
    leases: int
    """Leases on it."""
    cached: bool
    """All its components are in RAM."""
    loaded_on: tuple[str, ...]
    """Devices that all its components that were loaded there are ACTIVE on: `cpu:0`."""
    missing_on: tuple[str, ...]
    """Devices that it was loaded to and where something of it is missing: it comes back by itself."""


@dataclass(frozen=True, slots=True)
class Status:
    """What is known about one resource."""

    name: str
    position: Position
    """Of the whole state when this was read: `watch(since=...)` from here misses nothing."""
    resource: Resource
    machine: MachineStatus | None
    """Set for `machine` only."""
    model: ModelStatus | None = None
    """Set for models only: where their components are."""


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    """One setting and where its value came from."""

    key: str
    value: str
    """As it would be written in the file. Secrets are `<redacted>`."""
    origin: ConfigOrigin
    origin_detail: str
    """The file and line, variable or flag. Empty for defaults."""
    description: str


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What was measured: one for each kind asked for."""

    measurements: tuple[Measurement, ...]
