"""The calls about models on devices of the client that blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, overload

from hoist import _plans_residency
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
from hoist._sync_calls import Calls
from hoist._sync_operation import Operation
from hoist._types import Progress


class ResidencyCalls(Calls):
    """What a client inherits."""

    @overload
    def load(
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
    def load(
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
    ) -> Operation[LoadResult]: ...

    def load(
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
    ) -> LoadResult | Operation[LoadResult]:
        """Brings a model, or `components` of it, to a device, through RAM; it stays there until `unload`.

        What is there already is shared, what is in RAM is not read again. All of it is loaded, or nothing.

        `device`: `cpu:0`, `cuda:1`. Without one, `place` says how it is found: ANY, SPREAD or PACK. `dtype`:
        what tensors of floating point are converted to: `BF16`. `priority`: the more urgent is loaded first.
        `force`: what matters no more than this is unloaded if it is in the way. `allow` and `validation`: as
        for `cache`. `strategies`: what to try until one fits; the server refuses what it cannot do yet, as
        it does for the three after it. Raises `Refused`, with reason VRAM_EXHAUSTED, if the device has no
        room; nothing has been read then: `plan` says what would make some. See `scan` for `wait`.
        """
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
        operation: Operation[LoadResult] = Operation(self, self._run(plan))
        return operation.result(on_progress=on_progress) if wait else operation

    @overload
    def load_components(
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
    def load_components(
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
    ) -> Operation[LoadResult]: ...

    def load_components(
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
    ) -> LoadResult | Operation[LoadResult]:
        """The same as `load` for several models at once: one operation, on one device, all of it or nothing.

        `names`: names, pairs of a name and components, or `{name: components, name: None}`.
        """
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
        operation: Operation[LoadResult] = Operation(self, self._run(plan))
        return operation.result(on_progress=on_progress) if wait else operation

    @overload
    def unload(
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
    def unload(
        self,
        name: Name,
        device: str | None = None,
        components: Words | None = None,
        *,
        force: bool = False,
        wait: Literal[False],
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> Operation[UnloadResult]: ...

    def unload(
        self,
        name: Name,
        device: str | None = None,
        components: Words | None = None,
        *,
        force: bool = False,
        wait: bool = True,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> UnloadResult | Operation[UnloadResult]:
        """Takes a model, or `components` of it, off a device, or off all; says what became of each replica.

        What other models share stays, as does what is in RAM. One that is on no device is no error: then
        there are no replicas. What somebody has leased, or loads
        just now, is refused, with reason IN_USE, save with `force`: that cancels the load.
        """
        plan = _plans_residency.unload(name, device, components, force, deadline, request_id)
        operation: Operation[UnloadResult] = Operation(self, self._run(plan))
        return operation.result() if wait else operation

    @overload
    def unload_components(
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
    def unload_components(
        self,
        names: Name | Parts,
        device: str | None = None,
        *,
        force: bool = False,
        wait: Literal[False],
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> Operation[UnloadResult]: ...

    def unload_components(
        self,
        names: Name | Parts,
        device: str | None = None,
        *,
        force: bool = False,
        wait: bool = True,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> UnloadResult | Operation[UnloadResult]:
        """The same as `unload` for several models at once. `names`: as for `load_components`."""
        plan = _plans_residency.unload_components(names, device, force, deadline, request_id)
        operation: Operation[UnloadResult] = Operation(self, self._run(plan))
        return operation.result() if wait else operation

    def plan(
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
        """Says where a load would go, and why; what would make room for it; and how long it would take.

        Changes nothing. One that no device takes is no error: `refused` says so, and `refusal` why. A name
        that nobody knows, and a model that is damaged, are errors. `names`: one model, whose `components` may
        be given, or as for `load_components`.
        """
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
        return self._run(_plans_residency.plan(names, components, how))

    def estimate(
        self, names: Name | Parts, components: Words | None = None, *, dtype: str | None = None
    ) -> LoadEstimate:
        """Says what a load would take of the disk, of RAM, and of a device. Changes nothing."""
        return self._run(_plans_residency.estimate(names, components, dtype))

    def replicas(
        self, name: Name | None = None, *, device: str | None = None, page_size: int = 1_000
    ) -> Iterator[Replica]:
        """What is on devices, or on one, or of one model, in the order in which it was made; page by page."""
        request = _plans_residency.replicas_request(name, device, page_size)
        return self._pages(lambda token: _plans_residency.replicas_page(request, token))

    def verify(self, name: Name, *, device: str | None = None) -> tuple[VerifiedReplica, ...]:
        """Compares what a model is on devices, or on one, with what it is in RAM, tensor by tensor.

        Each device sums up its own bytes. What was converted or is not in RAM is not compared, and says so.
        """
        return self._run(_plans_residency.verify(name, device))
