"""The client for asyncio: the same calls as `hoist.Client`, as coroutines and asynchronous iterators."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, TypeVar, cast, overload

import grpc
import grpc.aio
from google.longrunning import operations_proto_pb2 as operations_pb2

from hoist import _decode, _endpoint, _methods, _plans, _plans_models, _watch
from hoist._endpoint import Endpoint
from hoist._enums import MeasurementKind, OperationState, ResourceKind, ValidationLevel, Verdict
from hoist._errors import Error, closed, from_rpc
from hoist._events import Event
from hoist._models import (
    ComponentGroup,
    DeletedModel,
    DigestResult,
    Model,
    ModelVerdict,
    Root,
    ScanResult,
    ValidationResult,
)
from hoist._operation import Handle
from hoist._operation_result import R
from hoist._plans import Call, Pause, Plan
from hoist._plans_models import Name, Words
from hoist._types import ConfigEntry, Position, ProbeResult, Progress, Status

__all__ = ["AsyncClient", "AsyncOperation", "AsyncWatch", "connect"]

T = TypeVar("T")


def connect(endpoint: str | None = None, *, timeout: float | timedelta = 10.0) -> Connecting:
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


class AsyncClient:
    """A connection to one server, for the event loop that made it. Made by `connect`."""

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._channel = grpc.aio.insecure_channel(endpoint.target, options=endpoint.options())
        self._calls: dict[str, Callable[..., Any]] = {}
        self._watches: weakref.WeakSet[AsyncWatch] = weakref.WeakSet()
        self._closed = False

    @property
    def endpoint(self) -> str:
        """Where the server is."""
        return self._endpoint.url

    async def close(self) -> None:
        """Ends the connection and every watch on it."""
        self._closed = True
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

    def watch(
        self,
        *,
        kinds: Iterable[ResourceKind | str] | None = None,
        names: Iterable[str] | None = None,
        states: Iterable[OperationState | str] | None = None,
        since: Position | None = None,
        progress: float | timedelta | None = None,
        mark_interval: float | timedelta | None = None,
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
        bytes: int | None = None,
        wait: Literal[True] = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: float | timedelta | None = None,
        request_id: str | None = None,
    ) -> ProbeResult: ...

    @overload
    async def probe(
        self,
        kinds: Iterable[MeasurementKind | str] | None = None,
        *,
        bytes: int | None = None,
        wait: Literal[False],
        deadline: float | timedelta | None = None,
        request_id: str | None = None,
    ) -> AsyncOperation[ProbeResult]: ...

    async def probe(
        self,
        kinds: Iterable[MeasurementKind | str] | None = None,
        *,
        bytes: int | None = None,
        wait: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: float | timedelta | None = None,
        request_id: str | None = None,
    ) -> ProbeResult | AsyncOperation[ProbeResult]:
        """See `hoist.Client.probe`. `on_progress` is an ordinary function, not a coroutine."""
        plan = _plans.probe(kinds, bytes, deadline, request_id)
        operation: AsyncOperation[ProbeResult] = AsyncOperation(self, await self._run(plan))
        return await operation.result(on_progress=on_progress) if wait else operation

    def models(
        self,
        *,
        type: Words | None = None,
        base: Words | None = None,
        format: Words | None = None,
        tags: Words | None = None,
        verdict: Verdict | str | Iterable[Verdict | str] | None = None,
        text: str = "",
        filter: str = "",
        order_by: str = "",
        missing: bool = False,
        page_size: int = 1_000,
    ) -> AsyncIterator[Model]:
        """See `hoist.Client.models`."""
        request = _plans_models.models_request(
            type, base, format, tags, verdict, text, filter, order_by, missing, page_size
        )
        return self._pages(lambda token: _plans_models.models_page(request, token))

    async def model(self, name: Name, *, details: bool = False, tensors: bool = False) -> Model:
        """See `hoist.Client.model`."""
        return await self._run(_plans_models.model(name, details, tensors))

    async def update_model(
        self,
        name: Name,
        *,
        display_name: str | None = None,
        aliases: Iterable[str] | None = None,
        tags: Iterable[str] | None = None,
        description: str | None = None,
        licence: str | None = None,
        source: str | None = None,
        notes: str | None = None,
        type_override: str | None = None,
        base_override: str | None = None,
        default_device: str | None = None,
        trusted: bool | None = None,
        etag: str | None = None,
        request_id: str | None = None,
    ) -> Model:
        """See `hoist.Client.update_model`."""
        texts = {
            "display_name": display_name,
            "description": description,
            "licence": licence,
            "source": source,
            "notes": notes,
            "type_override": type_override,
            "base_override": base_override,
        }
        lists = {"aliases": aliases, "tags": tags}
        return await self._run(
            _plans_models.update_model(name, texts, lists, default_device, trusted, etag, request_id)
        )

    async def delete_model(
        self, name: Name, *, files: bool = False, etag: str | None = None, request_id: str | None = None
    ) -> DeletedModel:
        """See `hoist.Client.delete_model`."""
        return await self._run(_plans_models.delete_model(name, files, etag, request_id))

    @overload
    async def scan(
        self,
        paths: Iterable[Name] | None = None,
        *,
        reread: bool = False,
        wait: Literal[True] = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: float | timedelta | None = None,
        request_id: str | None = None,
    ) -> ScanResult: ...

    @overload
    async def scan(
        self,
        paths: Iterable[Name] | None = None,
        *,
        reread: bool = False,
        wait: Literal[False],
        deadline: float | timedelta | None = None,
        request_id: str | None = None,
    ) -> AsyncOperation[ScanResult]: ...

    async def scan(
        self,
        paths: Iterable[Name] | None = None,
        *,
        reread: bool = False,
        wait: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: float | timedelta | None = None,
        request_id: str | None = None,
    ) -> ScanResult | AsyncOperation[ScanResult]:
        """See `hoist.Client.scan`."""
        plan = _plans_models.scan(paths, reread, deadline, request_id)
        operation: AsyncOperation[ScanResult] = AsyncOperation(self, await self._run(plan))
        return await operation.result(on_progress=on_progress) if wait else operation

    @overload
    async def digest(
        self,
        names: Iterable[Name] | None = None,
        *,
        wait: Literal[True] = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: float | timedelta | None = None,
        request_id: str | None = None,
    ) -> DigestResult: ...

    @overload
    async def digest(
        self,
        names: Iterable[Name] | None = None,
        *,
        wait: Literal[False],
        deadline: float | timedelta | None = None,
        request_id: str | None = None,
    ) -> AsyncOperation[DigestResult]: ...

    async def digest(
        self,
        names: Iterable[Name] | None = None,
        *,
        wait: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: float | timedelta | None = None,
        request_id: str | None = None,
    ) -> DigestResult | AsyncOperation[DigestResult]:
        """See `hoist.Client.digest`."""
        plan = _plans_models.digest(names, deadline, request_id)
        operation: AsyncOperation[DigestResult] = AsyncOperation(self, await self._run(plan))
        return await operation.result(on_progress=on_progress) if wait else operation

    @overload
    async def validate(
        self,
        name: Name,
        level: ValidationLevel | str = ValidationLevel.FULL,
        *,
        device: str = "",
        checksums: bool = False,
        sha256: str = "",
        wait: Literal[True] = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: float | timedelta | None = None,
        request_id: str | None = None,
    ) -> ValidationResult: ...

    @overload
    async def validate(
        self,
        name: Name,
        level: ValidationLevel | str = ValidationLevel.FULL,
        *,
        device: str = "",
        checksums: bool = False,
        sha256: str = "",
        wait: Literal[False],
        deadline: float | timedelta | None = None,
        request_id: str | None = None,
    ) -> AsyncOperation[ValidationResult]: ...

    async def validate(
        self,
        name: Name,
        level: ValidationLevel | str = ValidationLevel.FULL,
        *,
        device: str = "",
        checksums: bool = False,
        sha256: str = "",
        wait: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: float | timedelta | None = None,
        request_id: str | None = None,
    ) -> ValidationResult | AsyncOperation[ValidationResult]:
        """See `hoist.Client.validate`."""
        plan = _plans_models.validate(name, level, device, checksums, sha256, deadline, request_id)
        operation: AsyncOperation[ValidationResult] = AsyncOperation(self, await self._run(plan))
        return await operation.result(on_progress=on_progress) if wait else operation

    def verdicts(
        self, filter: str = "", *, ok: bool = False, page_size: int = 1_000
    ) -> AsyncIterator[ModelVerdict]:
        """See `hoist.Client.verdicts`."""
        request = _plans_models.verdicts_request(filter, ok, page_size)
        return self._pages(lambda token: _plans_models.verdicts_page(request, token))

    async def roots(self) -> list[Root]:
        """See `hoist.Client.roots`."""
        return await self._run(_plans_models.roots())

    def components(
        self, type: str = "", *, shared: bool = False, page_size: int = 1_000
    ) -> AsyncIterator[ComponentGroup]:
        """See `hoist.Client.components`."""
        request = _plans_models.components_request(type, shared, page_size)
        return self._pages(lambda token: _plans_models.components_page(request, token))

    async def _pages(self, plan: Callable[[str], Plan[tuple[list[T], str]]]) -> AsyncIterator[T]:
        token = ""
        while True:
            page, token = await self._run(plan(token))
            for each in page:
                yield each
            if not token:
                return

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

    async def shutdown(self, grace: float | timedelta | None = None) -> None:
        """See `hoist.Client.shutdown`."""
        await self._run(_plans.shutdown(grace))

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

    def _error(self, failure: grpc.aio.AioRpcError, request_id: str | None) -> Error:
        return from_rpc(failure, self.endpoint, request_id)


class AsyncOperation(Handle[R]):
    """See `hoist.Operation`."""

    def __init__(self, client: AsyncClient, message: operations_pb2.Operation) -> None:
        super().__init__(message)
        self._client = client

    async def refresh(self) -> AsyncOperation[R]:
        """See `hoist.Operation.refresh`."""
        self._take(await self._client._run(_plans.operation(self.name)))
        return self

    async def wait(
        self,
        timeout: float | timedelta | None = None,
        *,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> OperationState:
        """See `hoist.Operation.wait`."""
        _decode.seconds("timeout", timeout)
        if not self.done:
            self._take(await self._client._run(_plans.wait(self.name, timeout, on_progress)))
        return self.state

    async def result(
        self,
        timeout: float | timedelta | None = None,
        *,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> R:
        """See `hoist.Operation.result`."""
        await self.wait(timeout, on_progress=on_progress)
        return self._result()

    async def cancel(self) -> None:
        """See `hoist.Operation.cancel`."""
        await self._client._run(_plans.cancel(self.name))

    async def delete(self) -> None:
        """See `hoist.Operation.delete`."""
        await self._client._run(_plans.delete(self.name))


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
