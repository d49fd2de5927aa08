"""The client that blocks."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Literal, TypeVar, cast, overload

import grpc

from hoist import _endpoint, _methods, _open, _plans, _watch
from hoist._devices import Device
from hoist._endpoint import Endpoint
from hoist._enums import MeasurementKind, OperationState, ResourceKind
from hoist._errors import Error, RpcFailure, closed, from_rpc
from hoist._events import Event
from hoist._plans import Call, Pause, Plan
from hoist._quantities import Size, Time
from hoist._sync_agreement import AgreementCalls
from hoist._sync_attach import AttachCalls
from hoist._sync_cache import CacheCalls
from hoist._sync_models import ModelCalls
from hoist._sync_operation import Operation
from hoist._sync_residency import ResidencyCalls
from hoist._types import ConfigEntry, Position, ProbeResult, Progress, Status

T = TypeVar("T")


def connect(endpoint: str | None = None, *, timeout: Time = 10.0) -> Client:
    """Connects to the server at `endpoint`, else at `HOIST_ENDPOINT`, else at the default socket.

    Raises `Unreachable` at once if nothing answers, ValueError for what is no endpoint. `timeout`: seconds
    that any one call of this client may take, this first one included; time that a call spends waiting for an
    operation does not count. No single call has a timeout of its own, save `wait` and `result`.
    """
    client = Client(_endpoint.resolve(endpoint), _plans.call_timeout(timeout))
    try:
        client._run(_plans.greet(client.endpoint))
    except BaseException:
        client.close()
        raise
    return client


class Client(ModelCalls, CacheCalls, AttachCalls, ResidencyCalls, AgreementCalls):
    """A connection to one server. Made by `connect`; threads may share it."""

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._channel = endpoint.channel()
        self._calls: dict[str, Callable[..., Any]] = {}
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        self._leases = _open.Lessor(endpoint.channel, self._error, self._channel)
        self._closed = False

    @property
    def endpoint(self) -> str:
        """Where the server is."""
        return self._endpoint.url

    def close(self) -> None:
        """Ends the connection, every watch on it, and every lease that was had through it."""
        self._closed = True
        self._leases.close()
        # A watch that only saw its channel close would take that for a failure.
        for watch in list(self._watches):
            watch.close()
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def status(self, name: str = "machine") -> Status:
        """The status of `machine`, `operations/{uuid}` (or the bare id), or any other resource by its name.

        Of a model, `models/{uuid}` as `model("sdxl").name` says it, `model` tells where its components are.
        """
        return self._run(_plans.status(name))

    def statuses(self, names: Iterable[str]) -> list[Status | Error]:
        """Many statuses at one position, in the order asked. A bad name has its error in its place."""
        return self._run(_plans.statuses(names))

    def devices(self) -> list[Device]:
        """What models can be loaded to, and who drives it."""
        return self._run(_plans.devices())

    def device(self, name: str) -> Device:
        """One device: `cpu:0`."""
        return self._run(_plans.device(name))

    def cordon(
        self, device: str | Device, reason: str | None = None, *, request_id: str | None = None
    ) -> Device | None:
        """Lets a device keep what it has and take nothing new, until `uncordon`, over restarts of the server.

        What would be loaded there is refused, with reason DEVICE_CORDONED. `reason` is for people, who see it
        with the device. None: no worker was heard of for it yet; it is cordoned all the same.
        """
        return self._run(_plans.cordon(device, reason, request_id))

    def uncordon(self, device: str | Device, *, request_id: str | None = None) -> Device | None:
        """Undoes `cordon`; and starts the worker of a device again that is QUARANTINED."""
        return self._run(_plans.uncordon(device, request_id))

    def watch(
        self,
        *,
        kinds: Iterable[ResourceKind | str] | None = None,
        names: Iterable[str] | None = None,
        states: Iterable[OperationState | str] | None = None,
        since: Position | None = None,
        progress: Time | None = None,
        mark_interval: Time | None = None,
        resume: bool = True,
    ) -> Watch:
        """Follows the state: a `Snapshot`, then each change in order.

        A resource must pass each of `kinds`, `names` and `states` (of operations) that is given. `since`
        leaves the snapshot out and goes on after a position. `progress` (seconds) asks for a `ProgressSample`
        that often, `mark_interval` for a `Mark` after that long without another event.

        With `resume`, a lost connection is made again without a gap, for as long as it takes; where the
        server cannot go on from there, another `Snapshot` comes. Without it, the error is raised.
        """
        if self._closed:
            raise closed()
        wish = _watch.wish(kinds, names, states, since, progress, mark_interval, resume)
        return Watch(self, _watch.WatchState(wish))

    @overload
    def probe(
        self,
        kinds: Iterable[MeasurementKind | str] | None = None,
        *,
        bytes: Size | None = None,
        wait: Literal[True] = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> ProbeResult: ...

    @overload
    def probe(
        self,
        kinds: Iterable[MeasurementKind | str] | None = None,
        *,
        bytes: Size | None = None,
        wait: Literal[False],
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> Operation[ProbeResult]: ...

    def probe(
        self,
        kinds: Iterable[MeasurementKind | str] | None = None,
        *,
        bytes: Size | None = None,
        wait: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> ProbeResult | Operation[ProbeResult]:
        """Measures the machine: disk, tmpfs and memory speed, or only `kinds`, moving `bytes` for each.

        Raises `OperationFailed` or `OperationCancelled` when it ends so. With `wait=False` returns the
        operation at once. A caller that goes away does not stop it; `deadline` (seconds) does. A probe equal
        to one that runs joins it.
        """
        plan = _plans.probe(kinds, bytes, deadline, request_id)
        operation: Operation[ProbeResult] = Operation(self, self._run(plan))
        return operation.result(on_progress=on_progress) if wait else operation

    def operations(self, filter: str = "", *, page_size: int = 100) -> Iterator[Operation]:
        """All operations, newest first, page by page. Filter: `state = RUNNING AND kind = PROBE_MACHINE`.

        The words of a filter may be written in either case. What the server does by itself, as reading
        digests while the machine is idle, has `principal == "hoist"`.
        """
        token = ""
        while True:
            page = self._run(_plans.page(filter, page_size, token))
            for each in page.operations:
                yield Operation(self, each)
            token = page.next_page_token
            if not token:
                return

    def operation(self, name: str) -> Operation:
        """One operation, by its name or its id."""
        return Operation(self, self._run(_plans.operation(name)))

    def config(self) -> dict[str, ConfigEntry]:
        """The effective configuration, by key."""
        return self._run(_plans.config())

    def shutdown(self, grace: Time | None = None) -> None:
        """Asks the server to stop; only over its Unix socket. `grace`: seconds that operations may go on."""
        self._run(_plans.shutdown(grace))

    def _lessor(self) -> _open.Lessor:
        return self._leases

    def _run(self, plan: Plan[T]) -> T:
        try:
            step = next(plan)
            while True:
                try:
                    outcome = self._perform(step)
                except Error as error:
                    step = plan.throw(error)
                else:
                    step = plan.send(outcome)
        except StopIteration as stop:
            return cast(T, stop.value)

    def _perform(self, step: Call | Pause) -> object:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        if self._closed:
            raise closed()
        method = step.method
        call = self._calls.get(method.path) or self._calls.setdefault(
            method.path,
            self._channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            ),
        )
        try:
            return cast(object, call(step.request, timeout=self._timeout + step.extra_seconds))
        except ValueError:
            # How grpc refuses a channel that another thread has closed since.
            if self._closed:
                raise closed() from None
            raise
        except grpc.RpcError as failure:
            raise self._error(failure, getattr(step.request, "request_id", None)) from None

    def _error(self, failure: grpc.RpcError, request_id: str | None) -> Error:
        return from_rpc(cast(RpcFailure, failure), self.endpoint, request_id)


class Watch:
    """An iterator over events. `close` it, or leave its `with` block, to end it; another thread may."""

    def __init__(self, client: Client, state: _watch.WatchState) -> None:
        self._client = client
        self._state = state
        self._open = client._channel.unary_stream(
            _methods.WATCH.path,
            request_serializer=_methods.WATCH.request.SerializeToString,
            response_deserializer=_methods.WATCH.response.FromString,
        )
        self._call: Any = None
        self._closed = threading.Event()
        client._watches.add(self)

    @property
    def position(self) -> Position | None:
        """Everything up to here was handed out: `watch(since=...)` from here misses nothing."""
        return self._state.position

    def close(self) -> None:
        """Ends the watch; a `next` that waits for an event ends too."""
        self._closed.set()
        if (call := self._call) is not None:
            call.cancel()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Event:
        while not self._closed.is_set():
            if (event := self._state.take()) is not None:
                return event
            try:
                if (lost := self._advance()) is not None and not self._closed.is_set():
                    self._call = None
                    self._closed.wait(self._state.lost(lost))
            except Error:
                # Like a generator: what raised has ended.
                self.close()
                raise
        raise StopIteration

    def _advance(self) -> Error | None:
        """Takes one message from the stream, or says why there is none."""
        if self._call is None:
            self._call = self._open(self._state.request())
            if self._closed.is_set():
                # `close` ran before there was a call to cancel.
                self._call.cancel()
        try:
            self._state.feed(next(self._call))
        except StopIteration:
            return self._state.ended()
        except grpc.RpcError as failure:
            return self._client._error(failure, self._state.request_id)
        return None
