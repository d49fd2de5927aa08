"""The calls about models on devices of the client for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Literal, overload

from hoist import _plans_residency
from hoist._aio_calls import AsyncCalls
from hoist._aio_operation import AsyncOperation
from hoist._enums import (
    LoadStrategy,
    MemoryPool,
    OptimizationLevel,
    Placement,
    Priority,
    ValidationLevel,
    Verdict,
)
from hoist._plans_models import Name, Words
from hoist._plans_residency import How, Parts
from hoist._quantities import Time
from hoist._residency import LoadEstimate, LoadPlan, LoadResult, Replica, UnloadResult, VerifiedReplica
from hoist._types import Progress


class AsyncResidencyCalls(AsyncCalls):
    """What a client inherits."""

    @overload
    async def load(
        self,
        name: Name,
        device: str | None = None,
        components: Words | None = None,
        *,
        place: Placement | str | None = None,
        dtype: str | None = None,
        priority: Priority | str | None = None,
        force: bool = False,
        allow: Iterable[Verdict | str] = (),
        validation: ValidationLevel | str | None = None,
        strategies: Iterable[LoadStrategy | str] = (),
        optimization: OptimizationLevel | str | None = None,
        memory_pool: MemoryPool | str | None = None,
        max_resident_components: int | None = None,
        wait: Literal[True] = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> LoadResult: ...

    @overload
    async def load(
        self,
        name: Name,
        device: str | None = None,
        components: Words | None = None,
        *,
        place: Placement | str | None = None,
        dtype: str | None = None,
        priority: Priority | str | None = None,
        force: bool = False,
        allow: Iterable[Verdict | str] = (),
        validation: ValidationLevel | str | None = None,
        strategies: Iterable[LoadStrategy | str] = (),
        optimization: OptimizationLevel | str | None = None,
        memory_pool: MemoryPool | str | None = None,
        max_resident_components: int | None = None,
        wait: Literal[False],
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> AsyncOperation[LoadResult]: ...

    async def load(
        self,
        name: Name,
        device: str | None = None,
        components: Words | None = None,
        *,
        place: Placement | str | None = None,
        dtype: str | None = None,
        priority: Priority | str | None = None,
        force: bool = False,
        allow: Iterable[Verdict | str] = (),
        validation: ValidationLevel | str | None = None,
        strategies: Iterable[LoadStrategy | str] = (),
        optimization: OptimizationLevel | str | None = None,
        memory_pool: MemoryPool | str | None = None,
        max_resident_components: int | None = None,
        wait: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> LoadResult | AsyncOperation[LoadResult]:
        """See `hoist.Client.load`."""
        how = How(
            device,
            place,
            dtype,
            priority,
            force,
            validation,
            allow,
            strategies,
            optimization,
            memory_pool,
            max_resident_components,
        )
        plan = _plans_residency.load(name, components, how, deadline, request_id)
        operation: AsyncOperation[LoadResult] = AsyncOperation(self, await self._run(plan))
        return await operation.result(on_progress=on_progress) if wait else operation

    @overload
    async def load_components(
        self,
        names: Name | Parts,
        device: str | None = None,
        *,
        place: Placement | str | None = None,
        dtype: str | None = None,
        priority: Priority | str | None = None,
        force: bool = False,
        allow: Iterable[Verdict | str] = (),
        validation: ValidationLevel | str | None = None,
        strategies: Iterable[LoadStrategy | str] = (),
        optimization: OptimizationLevel | str | None = None,
        memory_pool: MemoryPool | str | None = None,
        max_resident_components: int | None = None,
        wait: Literal[True] = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> LoadResult: ...

    @overload
    async def load_components(
        self,
        names: Name | Parts,
        device: str | None = None,
        *,
        place: Placement | str | None = None,
        dtype: str | None = None,
        priority: Priority | str | None = None,
        force: bool = False,
        allow: Iterable[Verdict | str] = (),
        validation: ValidationLevel | str | None = None,
        strategies: Iterable[LoadStrategy | str] = (),
        optimization: OptimizationLevel | str | None = None,
        memory_pool: MemoryPool | str | None = None,
        max_resident_components: int | None = None,
        wait: Literal[False],
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> AsyncOperation[LoadResult]: ...

    async def load_components(
        self,
        names: Name | Parts,
        device: str | None = None,
        *,
        place: Placement | str | None = None,
        dtype: str | None = None,
        priority: Priority | str | None = None,
        force: bool = False,
        allow: Iterable[Verdict | str] = (),
        validation: ValidationLevel | str | None = None,
        strategies: Iterable[LoadStrategy | str] = (),
        optimization: OptimizationLevel | str | None = None,
        memory_pool: MemoryPool | str | None = None,
        max_resident_components: int | None = None,
        wait: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> LoadResult | AsyncOperation[LoadResult]:
        """See `hoist.Client.load_components`."""
        how = How(
            device,
            place,
            dtype,
            priority,
            force,
            validation,
            allow,
            strategies,
            optimization,
            memory_pool,
            max_resident_components,
        )
        plan = _plans_residency.load_components(names, how, deadline, request_id)
        operation: AsyncOperation[LoadResult] = AsyncOperation(self, await self._run(plan))
        return await operation.result(on_progress=on_progress) if wait else operation

    @overload
    async def unload(
        self,
        name: Name,
        device: str | None = None,
        components: Words | None = None,
        *,
        force: bool = False,
        wait: Literal[True] = True,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> UnloadResult: ...

    @overload
    async def unload(
        self,
        name: Name,
        device: str | None = None,
        components: Words | None = None,
        *,
        force: bool = False,
        wait: Literal[False],
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> AsyncOperation[UnloadResult]: ...

    async def unload(
        self,
        name: Name,
        device: str | None = None,
        components: Words | None = None,
        *,
        force: bool = False,
        wait: bool = True,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> UnloadResult | AsyncOperation[UnloadResult]:
        """See `hoist.Client.unload`."""
        plan = _plans_residency.unload(name, device, components, force, deadline, request_id)
        operation: AsyncOperation[UnloadResult] = AsyncOperation(self, await self._run(plan))
        return await operation.result() if wait else operation

    @overload
    async def unload_components(
        self,
        names: Name | Parts,
        device: str | None = None,
        *,
        force: bool = False,
        wait: Literal[True] = True,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> UnloadResult: ...

    @overload
    async def unload_components(
        self,
        names: Name | Parts,
        device: str | None = None,
        *,
        force: bool = False,
        wait: Literal[False],
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> AsyncOperation[UnloadResult]: ...

    async def unload_components(
        self,
        names: Name | Parts,
        device: str | None = None,
        *,
        force: bool = False,
        wait: bool = True,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> UnloadResult | AsyncOperation[UnloadResult]:
        """See `hoist.Client.unload_components`."""
        plan = _plans_residency.unload_components(names, device, force, deadline, request_id)
        operation: AsyncOperation[UnloadResult] = AsyncOperation(self, await self._run(plan))
        return await operation.result() if wait else operation

    async def plan(
        self,
        names: Name | Parts,
        device: str | None = None,
        components: Words | None = None,
        *,
        place: Placement | str | None = None,
        dtype: str | None = None,
        priority: Priority | str | None = None,
        force: bool = False,
        allow: Iterable[Verdict | str] = (),
        validation: ValidationLevel | str | None = None,
        strategies: Iterable[LoadStrategy | str] = (),
        optimization: OptimizationLevel | str | None = None,
        memory_pool: MemoryPool | str | None = None,
        max_resident_components: int | None = None,
    ) -> LoadPlan:
        """See `hoist.Client.plan`."""
        how = How(
            device,
            place,
            dtype,
            priority,
            force,
            validation,
            allow,
            strategies,
            optimization,
            memory_pool,
            max_resident_components,
        )
        return await self._run(_plans_residency.plan(names, components, how))

    async def estimate(
        self, names: Name | Parts, components: Words | None = None, *, dtype: str | None = None
    ) -> LoadEstimate:
        """See `hoist.Client.estimate`."""
        return await self._run(_plans_residency.estimate(names, components, dtype))

    def replicas(
        self, name: Name | None = None, *, device: str | None = None, page_size: int = 1_000
    ) -> AsyncIterator[Replica]:
        """See `hoist.Client.replicas`."""
        request = _plans_residency.replicas_request(name, device, page_size)
        return self._pages(lambda token: _plans_residency.replicas_page(request, token))

    async def verify(self, name: Name, *, device: str | None = None) -> tuple[VerifiedReplica, ...]:
        """See `hoist.Client.verify`."""
        return await self._run(_plans_residency.verify(name, device))
