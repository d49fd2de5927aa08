"""The client for asyncio: the same calls as `hoist.Client`, as coroutines and asynchronous iterators."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from types import TracebackType
from typing import Any, Literal, TypeVar, cast, overload

import grpc
import grpc.aio

from hoist import _aio_open, _endpoint, _methods, _open, _plans, _watch
from hoist._aio_agreement import AsyncAgreementCalls
from hoist._aio_attach import AsyncAttachCalls
from hoist._aio_cache import AsyncCacheCalls
from hoist._aio_models import AsyncModelCalls
from hoist._aio_operation import AsyncOperation
from hoist._aio_residency import AsyncResidencyCalls
from hoist._devices import Device
from hoist._endpoint import Endpoint
from hoist._enums import MeasurementKind, OperationState, ResourceKind
from hoist._errors import Error, RpcFailure, closed, from_rpc
from hoist._events import Event
from hoist._plans import Call, Pause, Plan
from hoist._quantities import Size, Time
from hoist._types import ConfigEntry, Position, ProbeResult, Progress, Status

__all__ = ["AsyncClient", "AsyncOperation", "AsyncWatch", "connect"]

T = TypeVar("T")


def connect(endpoint: str | None = None, *, timeout: Time = 10.0) -> Connecting:
    """`await` it, or enter it: `async with hoist.aio.connect() as client`. See `hoist.connect`."""
    return Connecting(_endpoint.resolve(endpoint), _plans.call_timeout(timeout))


class Connecting:
    """A connection about to be made."""

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._client: AsyncClient | None = None

    async def _connect(self) -> AsyncClient:
        client = AsyncClient(self._endpoint, self._timeout)
        try:
            await client._run(_plans.greet(client.endpoint))
        except BaseException:
            await client.close()
            raise
        return client

    def __await__(self) -> Generator[Any, None, AsyncClient]:
        return self._connect().__await__()

    async def __aenter__(self) -> AsyncClient:
        self._client = await self._connect()
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()


class AsyncClient(
    AsyncModelCalls, AsyncCacheCalls, AsyncAttachCalls, AsyncResidencyCalls, AsyncAgreementCalls
):
    """A connection to one server, for the event loop that made it. Made by `connect`."""

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._channel = grpc.aio.insecure_channel(endpoint.target, options=endpoint.options())
        self._calls: dict[str, Callable[..., Any]] = {}
        self._watches: weakref.WeakSet[AsyncWatch] = weakref.WeakSet()
        # Leases have connections that block, made when there is one: see `_aio_open`.
        self._leases = _open.Lessor(endpoint.channel, self._error)
        self._closed = False

    @property
    def endpoint(self) -> str:
        """Where the server is."""
        return self._endpoint.url

    async def close(self) -> None:
        """Ends the connection, every watch on it, and every lease that was had through it."""
        self._closed = True
        await _aio_open.in_thread(self._leases.close)
        for watch in list(self._watches):
            await watch.close()
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def status(self, name: str = "machine") -> Status:
        """See `hoist.Client.status`."""
        return await self._run(_plans.status(name))

    async def statuses(self, names: Iterable[str]) -> list[Status | Error]:
        """See `hoist.Client.statuses`."""
        return await self._run(_plans.statuses(names))

    async def devices(self) -> list[Device]:
        """See `hoist.Client.devices`."""
        return await self._run(_plans.devices())

    async def device(self, name: str) -> Device:
        """See `hoist.Client.device`."""
        return await self._run(_plans.device(name))

    async def cordon(
        self, device: str | Device, reason: str | None = None, *, request_id: str | None = None
    ) -> Device | None:
        """See `hoist.Client.cordon`."""
        return await self._run(_plans.cordon(device, reason, request_id))

    async def uncordon(self, device: str | Device, *, request_id: str | None = None) -> Device | None:
        """See `hoist.Client.uncordon`."""
        return await self._run(_plans.uncordon(device, request_id))

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
    ) -> AsyncWatch:
        """See `hoist.Client.watch`."""
        if self._closed:
            raise closed()
        wish = _watch.wish(kinds, names, states, since, progress, mark_interval, resume)
        return AsyncWatch(self, _watch.WatchState(wish))

    @overload
    async def probe(
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
    async def probe(
        self,
        kinds: Iterable[MeasurementKind | str] | None = None,
        *,
        bytes: Size | None = None,
        wait: Literal[False],
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> AsyncOperation[ProbeResult]: ...

    async def probe(
        self,
        kinds: Iterable[MeasurementKind | str] | None = None,
        *,
        bytes: Size | None = None,
        wait: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> ProbeResult | AsyncOperation[ProbeResult]:
        """See `hoist.Client.probe`. `on_progress` is an ordinary function, not a coroutine."""
        plan = _plans.probe(kinds, bytes, deadline, request_id)
        operation: AsyncOperation[ProbeResult] = AsyncOperation(self, await self._run(plan))
        return await operation.result(on_progress=on_progress) if wait else operation

    async def operations(self, filter: str = "", *, page_size: int = 100) -> AsyncIterator[AsyncOperation]:
        """See `hoist.Client.operations`."""
        token = ""
        while True:
            page = await self._run(_plans.page(filter, page_size, token))
            for each in page.operations:
                yield AsyncOperation(self, each)
            token = page.next_page_token
            if not token:
                return

    async def operation(self, name: str) -> AsyncOperation:
        """See `hoist.Client.operation`."""
        return AsyncOperation(self, await self._run(_plans.operation(name)))

    async def config(self) -> dict[str, ConfigEntry]:
        """See `hoist.Client.config`."""
        return await self._run(_plans.config())

    async def shutdown(self, grace: Time | None = None) -> None:
        """See `hoist.Client.shutdown`."""
        await self._run(_plans.shutdown(grace))

    def _lessor(self) -> _open.Lessor:
        if self._closed:
            raise closed()
        return self._leases

    async def _run(self, plan: Plan[T]) -> T:
        try:
            step = next(plan)
            while True:
                try:
                    outcome = await self._perform(step)
                except Error as error:
                    step = plan.throw(error)
                else:
                    step = plan.send(outcome)
        except StopIteration as stop:
            return cast(T, stop.value)

    async def _perform(self, step: Call | Pause) -> object:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
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
            return cast(object, await call(step.request, timeout=self._timeout + step.extra_seconds))
        except grpc.aio.AioRpcError as failure:
            raise self._error(failure, getattr(step.request, "request_id", None)) from None

    def _error(self, failure: grpc.RpcError, request_id: str | None) -> Error:
        return from_rpc(cast(RpcFailure, failure), self.endpoint, request_id)


class AsyncWatch:
    """An asynchronous iterator over events. `close` it, or leave its `async with` block, to end it."""

    def __init__(self, client: AsyncClient, state: _watch.WatchState) -> None:
        self._client = client
        self._state = state
        self._open = client._channel.unary_stream(
            _methods.WATCH.path,
            request_serializer=_methods.WATCH.request.SerializeToString,
            response_deserializer=_methods.WATCH.response.FromString,
        )
        self._call: Any = None
        self._closed = asyncio.Event()
        client._watches.add(self)

    @property
    def position(self) -> Position | None:
        """See `hoist.Watch.position`."""
        return self._state.position

    async def close(self) -> None:
        """Ends the watch; an `anext` that waits for an event, in another task, ends too."""
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    async def __aenter__(self) -> AsyncWatch:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncWatch:
        return self

    async def __anext__(self) -> Event:
        while not self._closed.is_set():
            if (event := self._state.take()) is not None:
                return event
            try:
                if (lost := await self._advance()) is not None and not self._closed.is_set():
                    self._call = None
                    await self._pause(self._state.lost(lost))
            except Error:
                # Like a generator: what raised has ended.
                await self.close()
                raise
        raise StopAsyncIteration

    async def _advance(self) -> Error | None:
        """Takes one message from the stream, or says why there is none."""
        if self._call is None:
            self._call = self._open(self._state.request())
        try:
            answer = await self._call.read()
        except grpc.aio.AioRpcError as failure:
            return self._client._error(failure, self._state.request_id)
        except asyncio.CancelledError:
            # grpc raises it for a call that `close` cancelled, too; our own task was not cancelled then.
            if self._closed.is_set():
                return self._state.ended()
            raise
        if answer is grpc.aio.EOF:
            return self._state.ended()
        self._state.feed(answer)
        return None

    async def _pause(self, seconds: float) -> None:
        """Waits, but not beyond `close`."""
        try:
            await asyncio.wait_for(self._closed.wait(), seconds)
        except asyncio.TimeoutError:
            return
