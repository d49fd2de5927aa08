"""The calls about weights in RAM of the client that blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, overload

from hoist import _open, _plans_cache
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
from hoist._sync_calls import Calls
from hoist._sync_operation import Operation
from hoist._tensors import Tensors
from hoist._types import Progress


class CacheCalls(Calls):
    """What a client inherits."""

    def _lessor(self) -> _open.Lessor:
        raise NotImplementedError

    @overload
    def cache(
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
    def cache(
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
    ) -> Operation[CacheResult]: ...

    def cache(
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
    ) -> CacheResult | Operation[CacheResult]:
        """Brings a model, or `components` of it, into RAM. What is there already is not read again.

        `priority`: what matters less makes room for it. `allow`: verdicts that are no obstacle, CORRUPT and
        INCOMPLETE. `validation`: how closely to look before; FULL reads every byte twice. Raises `Refused`,
        with reason RAM_EXHAUSTED and what would help, if there is no room; nothing has been read then.
        See `scan` for `wait`. Nothing keeps it there but its use: `pin` it, or `open` it.
        """
        plan = _plans_cache.cache_model(name, components, priority, allow, validation, deadline, request_id)
        operation: Operation[CacheResult] = Operation(self, self._run(plan))
        return operation.result(on_progress=on_progress) if wait else operation

    def evict(
        self,
        name: Name | Several | None = None,
        components: Words | None = None,
        *,
        segments: Words | None = None,
        all: bool = False,
        dry_run: bool = False,
        request_id: str | None = None,
    ) -> EvictResult:
        """Takes models out of RAM, or `components` of one, or with `all` everything that nobody uses.

        Several: a list of names, or `{name: components, name: None}`. What is leased, pinned, or shared by
        another cached model stays, and `kept_because` says so; what only several models share goes when all
        of them are named in one call. `segments`: by `segments/{digest}` or digest, whosever they are.
        `dry_run` only tells what would happen.
        """
        return self._run(_plans_cache.evict(name, components, segments, all, dry_run, request_id))

    def cache_status(self) -> CacheStatus:
        """How much memory there is for segments, what it is used for, and how well that works."""
        return self._run(_plans_cache.cache_status())

    def segments(self, name: Name | None = None, *, page_size: int = 1_000) -> Iterator[SegmentStatus]:
        """The segments in RAM, or those of one model, largest first, page by page."""
        request = _plans_cache.segments_request(name, page_size)
        return self._pages(lambda token: _plans_cache.segments_page(request, token))

    def pin(self, name: Name, components: Words | None = None, *, request_id: str | None = None) -> PinResult:
        """Keeps a model, or `components` of it, in RAM once it is there. It is not brought there by this.

        Pins add up: what is pinned already stays so.
        """
        return self._run(_plans_cache.pin(name, components, request_id))

    def unpin(
        self, name: Name, components: Words | None = None, *, request_id: str | None = None
    ) -> UnpinResult:
        """Undoes `pin`, of all of a model or of `components`; says whether it was, and what still is."""
        return self._run(_plans_cache.unpin(name, components, request_id))

    def cache_policy(
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
        """How memory is used, by all models or by one of them: reads it, or changes what is given.

        `budget`: what segments may take: bytes, or `"8GiB"`. `idle_ttl`: when what nobody uses goes: after
        seconds, a timedelta, or `"1h"`.
        `reset`: fields that go back to their defaults: `reset=["budget"]`. Of one model there are only
        `idle_ttl` and `priority`; what is None there is as for all.
        """
        return self._run(
            _plans_cache.cache_policy(name, budget, eviction, idle_ttl, priority, reset, request_id)
        )

    def leases(self) -> list[Lease]:
        """The leases that are held, and those that are awaited after a restart, oldest first."""
        return list(self._pages(_plans_cache.leases_page))

    def revoke(self, lease: str | Lease, reason: str = "", *, request_id: str | None = None) -> None:
        """Ends somebody's lease. `reason` is told to its holder, whose memory stays valid."""
        self._run(_plans_cache.revoke(lease, reason, request_id))

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
    ) -> OpenModel: ...

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
    ) -> Tensors: ...

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
    ) -> OpenModel | Tensors:
        """A model's tensors where they are in RAM, without a copy; caches it first if it is not there.

            with client.open("sdxl", "vae") as tensors:
                weight = tensors["decoder.conv_in.weight"]
            with client.open("sdxl") as model:
                weight = model["vae"]["decoder.conv_in.weight"]

        With a `component` gives its `Tensors`; without, an `OpenModel` of all of them, or of `components`.
        Until it is closed it holds a lease: nothing evicts them. `holder` is what others see of it.

        `framework`: "torch", "numpy", or "auto", which is torch if it is installed. The memory is shared with
        everybody and read-only: **writing to a torch tensor of it ends the process**, as torch knows no
        read-only tensors; numpy refuses. With `writable` what is written stays in this process, which pays
        for the pages that it writes to.

        `on_progress` hears of the caching, in this thread. `timeout`: seconds until it must be there, else
        `TimedOut`; without one, as the server says. See `cache` for the rest.
        """
        wish, look = _open.asked(
            name, component, components, framework, writable, priority, allow, holder, timeout
        )
        opened = _open.opened(self._lessor().stream(wish), look, on_progress, timeout)
        return opened if component is None else opened.only()
