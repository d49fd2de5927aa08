"""The calls about weights in RAM of the client for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Literal, overload

from hoist import _open, _plans_cache
from hoist._aio_calls import AsyncCalls
from hoist._aio_open import Opening
from hoist._aio_operation import AsyncOperation
from hoist._cache import (
    CachePolicy,
    CacheResult,
    CacheStatus,
    EvictResult,
    Lease,
    PinResult,
    SegmentStatus,
    UnpinResult,
)
from hoist._enums import EvictionPolicy, Priority, ValidationLevel, Verdict
from hoist._open import Framework, OpenModel
from hoist._plans_cache import Several
from hoist._plans_models import Name, Words
from hoist._quantities import Size, Time
from hoist._tensors import Tensors
from hoist._types import Progress


class AsyncCacheCalls(AsyncCalls):
    """What a client inherits."""

    def _lessor(self) -> _open.Lessor:
        raise NotImplementedError

    @overload
    async def cache(
        self,
        name: Name,
        components: Words | None = None,
        *,
        priority: Priority | str | None = None,
        allow: Iterable[Verdict | str] = (),
        validation: ValidationLevel | str | None = None,
        wait: Literal[True] = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> CacheResult: ...

    @overload
    async def cache(
        self,
        name: Name,
        components: Words | None = None,
        *,
        priority: Priority | str | None = None,
        allow: Iterable[Verdict | str] = (),
        validation: ValidationLevel | str | None = None,
        wait: Literal[False],
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> AsyncOperation[CacheResult]: ...

    async def cache(
        self,
        name: Name,
        components: Words | None = None,
        *,
        priority: Priority | str | None = None,
        allow: Iterable[Verdict | str] = (),
        validation: ValidationLevel | str | None = None,
        wait: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> CacheResult | AsyncOperation[CacheResult]:
        """See `hoist.Client.cache`."""
        plan = _plans_cache.cache_model(name, components, priority, allow, validation, deadline, request_id)
        operation: AsyncOperation[CacheResult] = AsyncOperation(self, await self._run(plan))
        return await operation.result(on_progress=on_progress) if wait else operation

    async def evict(
        self,
        name: Name | Several | None = None,
        components: Words | None = None,
        *,
        segments: Words | None = None,
        all: bool = False,
        dry_run: bool = False,
        request_id: str | None = None,
    ) -> EvictResult:
        """See `hoist.Client.evict`."""
        return await self._run(_plans_cache.evict(name, components, segments, all, dry_run, request_id))

    async def cache_status(self) -> CacheStatus:
        """See `hoist.Client.cache_status`."""
        return await self._run(_plans_cache.cache_status())

    def segments(self, name: Name | None = None, *, page_size: int = 1_000) -> AsyncIterator[SegmentStatus]:
        """See `hoist.Client.segments`."""
        request = _plans_cache.segments_request(name, page_size)
        return self._pages(lambda token: _plans_cache.segments_page(request, token))

    async def pin(
        self, name: Name, components: Words | None = None, *, request_id: str | None = None
    ) -> PinResult:
        """See `hoist.Client.pin`."""
        return await self._run(_plans_cache.pin(name, components, request_id))

    async def unpin(
        self, name: Name, components: Words | None = None, *, request_id: str | None = None
    ) -> UnpinResult:
        """See `hoist.Client.unpin`."""
        return await self._run(_plans_cache.unpin(name, components, request_id))

    async def cache_policy(
        self,
        name: Name | None = None,
        *,
        budget: Size | None = None,
        eviction: EvictionPolicy | str | None = None,
        idle_ttl: Time | None = None,
        priority: Priority | str | None = None,
        reset: Words = (),
        request_id: str | None = None,
    ) -> CachePolicy:
        """See `hoist.Client.cache_policy`."""
        return await self._run(
            _plans_cache.cache_policy(name, budget, eviction, idle_ttl, priority, reset, request_id)
        )

    async def leases(self) -> list[Lease]:
        """See `hoist.Client.leases`."""
        return [each async for each in self._pages(_plans_cache.leases_page)]

    async def revoke(self, lease: str | Lease, reason: str = "", *, request_id: str | None = None) -> None:
        """See `hoist.Client.revoke`."""
        await self._run(_plans_cache.revoke(lease, reason, request_id))

    @overload
    def open(
        self,
        name: Name,
        component: None = None,
        *,
        components: Words | None = None,
        framework: Framework = "auto",
        writable: bool = False,
        priority: Priority | str | None = None,
        allow: Iterable[Verdict | str] = (),
        holder: str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        timeout: Time | None = None,
    ) -> Opening[OpenModel]: ...

    @overload
    def open(
        self,
        name: Name,
        component: str,
        *,
        framework: Framework = "auto",
        writable: bool = False,
        priority: Priority | str | None = None,
        allow: Iterable[Verdict | str] = (),
        holder: str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        timeout: Time | None = None,
    ) -> Opening[Tensors]: ...

    def open(
        self,
        name: Name,
        component: str | None = None,
        *,
        components: Words | None = None,
        framework: Framework = "auto",
        writable: bool = False,
        priority: Priority | str | None = None,
        allow: Iterable[Verdict | str] = (),
        holder: str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        timeout: Time | None = None,
    ) -> Opening[OpenModel] | Opening[Tensors]:
        """See `hoist.Client.open`. `await` it, or enter it: `async with client.open(...) as tensors`.

        What it gives is the same as there. Its `close` waits for the server, a moment; leaving the
        `async with` block does so without holding up the event loop. `on_progress` is called in the loop.
        """
        wish, look = _open.asked(
            name, component, components, framework, writable, priority, allow, holder, timeout
        )
        lessor = self._lessor()
        if component is None:
            return Opening(lessor, wish, look, on_progress, timeout, lambda opened: opened)
        return Opening(lessor, wish, look, on_progress, timeout, OpenModel.only)
