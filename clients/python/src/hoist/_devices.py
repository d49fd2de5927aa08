"""Devices and the processes that drive them, as frozen values. Times are aware, in UTC; sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hoist._enums import DeviceState, WorkerState


@dataclass(frozen=True, slots=True)
class Worker:
    """The process that drives a device."""

    state: WorkerState
    worker_id: str
    """Kept over its restarts. Empty: none has registered."""
    incarnation: str
    """Of the process. Empty: none has registered."""
    process_id: int | None
    """None: there is none, or it is not known."""
    release: str
    supervised: bool
    """The server has started it, and starts it again when it ends."""
    restarts: int
    problem: str
    """Why it is not what it should be, with its last words where there are any. Empty: it is."""
    state_time: datetime
    """Since when it is in this state."""


@dataclass(frozen=True, slots=True)
class Device:
    """What models can be loaded to: a graphics card, or a part of the machine's memory."""

    name: str
    """`devices/cpu:0`."""
    device_id: str
    """`cpu:0`."""
    state: DeviceState
    model: str
    """What it calls itself. Empty: no worker has registered for it yet."""
    capacity_bytes: int
    used_bytes: int
    free_bytes: int
    mapped_bytes: int
    """Of what is used: segments, which are in RAM once for everybody."""
    maps_segments: bool
    """What is on it is its segment, mapped, where nothing is converted."""
    dtypes: tuple[str, ...]
    """Types of elements that models can be converted to: `BF16`."""
    libraries: tuple[str, ...]
    worker: Worker
    cordoned: bool = False
    """It takes nothing new: somebody has said so. Also while its worker is away."""
    cordon_reason: str = ""
    """Why, in the words of who said so."""
    granularity_bytes: int = 0
    """Its memory is given in multiples of this: what a component takes is rounded up to it. 0: to a byte."""
    alignment_bytes: int = 0
    """Where a tensor begins is a multiple of this. 0: anywhere."""
    others_bytes: int = 0
    """What is neither free nor used by models: other processes, and what its worker itself needs."""
    problem: str = ""
    """Why it takes nothing new although nobody has said so, in its worker's words. Empty: nothing is."""
    lent_bytes: int = 0
    """Of others: what other processes still have of models that are gone."""
    lent_processes: int = 0
    """How many processes that are."""
    bus_bytes_per_second: int = 0
    """Of the way from the machine's memory to it, at most. 0: not known, or there is none."""
    memory_node: int | None = None
    """The node of the machine's memory that is nearest. None: there is but one, or it is not known."""
