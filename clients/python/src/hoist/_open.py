"""Opening a model: the lease, and what is held by it."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping

import grpc

from hoist import _attached, _decode, _frameworks, _plans_cache, _plans_residency
from hoist._enums import Code, Priority
from hoist._errors import Error, closed, of_caching
from hoist._frameworks import Framework
from hoist._held import Held
from hoist._lease import LeaseState
from hoist._lease_stream import GOODBYE_SECONDS, Failed, Hold, LeaseStream
from hoist._plans_cache import Verdicts
from hoist._plans_models import Name, Words
from hoist._proto.v1 import lease_service_pb2 as lease
from hoist._quantities import Time
from hoist._tensors import RAM, Look, Tensors
from hoist._types import Progress

__all__ = ["Framework", "Lessor", "OpenModel", "asked", "opened"]

# The server takes 256 calls at once on a connection unless it is configured otherwise; with more leases than
# that on one, `open` would hang. The rest is for calls and watches, which share the first connection, and for
# leases that were let go of a moment ago.
LEASES_ON_A_CHANNEL = 128

# What says RAM where a device is named.
_RAM = ("cpu", RAM)

Heard = Callable[[Progress], object]


class OpenModel(Held, Mapping[str, Tensors]):
    """The tensors of a model, by component. Made by `open` or `attach`; holds a lease until it is closed.

    Each component's `Tensors` tells the rest: its file, its tensors, what became of the lease.
    """

    def __init__(self, hold: Hold, granted: lease.Granted, look: Look) -> None:
        self._hold = hold
        self._granted = granted
        alone = len(granted.components) == 1
        self._components: dict[str, Tensors] = {}
        # All at once: a worker knows a token for no more than a minute.
        attached = _attached.attach(_shares(granted, look.device), look.device) if look.device else {}
        try:
            for each in granted.components:
                name = each.component.component
                self._components[name] = Tensors(hold, each, look, alone, attached.pop(name, None))
        except BaseException:
            # Now, and not when the error is forgotten, which refers to all of this.
            attached.clear()
            self._let_go()
            raise

    @property
    def model(self) -> str:
        """`models/{uuid}`."""
        return self._granted.lease.model

    @property
    def hung_up(self) -> bool:
        """Whether the worker of the device has, for any of them. See `Tensors.hung_up`."""
        return any(each.hung_up for each in self._components.values())

    def only(self) -> Tensors:
        """The tensors of a model of one component. Raises ValueError, which names them, for several."""
        if len(self._components) != 1:
            names = ", ".join(self._components)
            raise ValueError(f"{self.model} has {len(self._components)} components: take one of {names}")
        (tensors,) = self._components.values()
        return tensors

    def close(self) -> None:
        """Ends the lease. See `Tensors.close`."""
        self._let_go()
        self._hold.close()

    def _let_go(self) -> None:
        for each in self._components.values():
            each._let_go()

    def __getitem__(self, component: str) -> Tensors:
        return self._components[component]

    def __iter__(self) -> Iterator[str]:
        return iter(self._components)

    def __len__(self) -> int:
        return len(self._components)

    def __repr__(self) -> str:
        return f"<OpenModel {self.model} {', '.join(self._components)} {self._state()}>"


def _shares(granted: lease.Granted, device: str) -> dict[str, lease.DeviceShare]:
    """Where the memory of each component can be had. Raises an Error if it is not on the device at all."""
    for each in granted.components:
        if not each.HasField("share"):
            name = each.component.component
            text = f"the server has put {name!r} into RAM, not on {device}: it is an older one"
            raise Error(text, code=Code.UNIMPLEMENTED)
    return {each.component.component: each.share for each in granted.components}


class Lessor:
    """What leases are had from: channels, and those that were had and must end with them.

    A connection takes so many calls at once, and a lease is one for as long as it is held; a call beyond that
    would wait, without a word, for another to end. So a lease that finds a channel full goes on the next,
    which is made when it is needed, and stays for leases to come.
    """

    def __init__(
        self, more: Callable[[], grpc.Channel], error: Failed, first: grpc.Channel | None = None
    ) -> None:
        """`first`: a channel that is there already, and somebody else's to close."""
        self._more = more
        self._error = error
        self._first = first
        # Of the list and its sets. No finalizer takes it: one may run while its own thread has it.
        self._lock = threading.Lock()
        self._channels: list[tuple[grpc.Channel, weakref.WeakSet[LeaseStream]]] = []
        if first is not None:
            self._channels.append((first, weakref.WeakSet()))
        self._closed = False

    def stream(self, wish: lease.AcquireRequest) -> LeaseStream:
        """A lease that is not asked for yet."""
        with self._lock:
            if self._closed:
                raise closed()
            channel, streams = self._with_room()
            stream = LeaseStream(channel, self._error, LeaseState(wish))
            streams.add(stream)
        return stream

    def close(self) -> None:
        """Ends every lease."""
        with self._lock:
            self._closed = True
            streams = [each for _, of_channel in self._channels for each in of_channel]
        for each in streams:
            each.release()
        end = time.monotonic() + GOODBYE_SECONDS
        for each in streams:
            each.join(end)
        for channel, _ in self._channels:
            if channel is not self._first:
                channel.close()

    def _with_room(self) -> tuple[grpc.Channel, weakref.WeakSet[LeaseStream]]:
        for channel, streams in self._channels:
            if sum(each.is_open for each in streams) < LEASES_ON_A_CHANNEL:
                return channel, streams
        self._channels.append((self._more(), weakref.WeakSet()))
        return self._channels[-1]


def opened(stream: LeaseStream, look: Look, on_progress: Heard | None, timeout: Time | None) -> OpenModel:
    """Waits for the lease, and maps what it is on."""
    try:
        granted = stream.acquire(on_progress, _decode.seconds("timeout", timeout))
    except Error as error:
        if (told := of_caching(error)) is error:
            raise
        raise told from None
    hold = Hold(stream)
    try:
        return OpenModel(hold, granted, look)
    except BaseException:
        hold.close()
        raise


def asked(
    name: Name,
    component: str | None,
    components: Words | None,
    framework: Framework,
    writable: bool,
    priority: Priority | str | None,
    allow: Verdicts,
    holder: str | None,
    timeout: Time | None,
    device: str = RAM,
    dtype: str | None = None,
) -> tuple[lease.AcquireRequest, Look]:
    """What `open` or `attach` was told: what to ask for, how to show it. Judged before anything is sent."""
    if component is not None:
        if components is not None:
            raise ValueError("give component, for its tensors, or components, for a model of some")
        if not _decode.word("component", component):
            raise ValueError("component must be the name of one, and is empty: leave it out for all")
    where = _plans_residency.named("device", _decode.word("device", device))
    kind = _plans_residency.named("dtype", dtype)
    if where in _RAM:
        if kind:
            raise ValueError("dtype: in RAM tensors are as in the model's files: leave it out")
        where = ""
    if framework == "numpy" and where.partition(":")[0] == "cuda":
        raise ValueError("framework: numpy has no arrays on a card: use torch")
    wish = _plans_cache.acquire(
        name, component or components, priority, allow, holder, timeout, device_id=where, dtype=kind
    )
    if not isinstance(writable, bool):
        raise TypeError(f"writable must be True or False, not {writable!r}")
    return wish, Look(_frameworks.checked(framework), writable, where)
