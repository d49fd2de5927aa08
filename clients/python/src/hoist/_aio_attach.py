"""Attaching to models on devices, of the client for asyncio."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import overload

from hoist import _open
from hoist._aio_calls import AsyncCalls
from hoist._aio_open import Opening
from hoist._enums import Priority, Verdict
from hoist._open import Framework, OpenModel
from hoist._plans_models import Name, Words
from hoist._quantities import Time
from hoist._sync_attach import FIRST
from hoist._tensors import Tensors
from hoist._types import Progress


class AsyncAttachCalls(AsyncCalls):
    """What a client inherits."""

    def _lessor(self) -> _open.Lessor:
        raise NotImplementedError

    @overload
    def attach(
        self,
        name: Name,
        component: None = None,
        device: str = FIRST,
        *,
        components: Words | None = None,
        dtype: str | None = None,
        framework: Framework = "auto",
        priority: Priority | str | None = None,
        allow: Iterable[Verdict | str] = (),
        holder: str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        timeout: Time | None = None,
    ) -> Opening[OpenModel]: ...

    @overload
    def attach(
        self,
        name: Name,
        component: str,
        device: str = FIRST,
        *,
        dtype: str | None = None,
        framework: Framework = "auto",
        priority: Priority | str | None = None,
        allow: Iterable[Verdict | str] = (),
        holder: str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        timeout: Time | None = None,
    ) -> Opening[Tensors]: ...

    def attach(
        self,
        name: Name,
        component: str | None = None,
        device: str = FIRST,
        *,
        components: Words | None = None,
        dtype: str | None = None,
        framework: Framework = "auto",
        priority: Priority | str | None = None,
        allow: Iterable[Verdict | str] = (),
        holder: str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        timeout: Time | None = None,
    ) -> Opening[OpenModel] | Opening[Tensors]:
        """See `hoist.Client.attach`, and `open` for how to wait for it."""
        wish, look = _open.asked(
            name, component, components, framework, False, priority, allow, holder, timeout, device, dtype
        )
        lessor = self._lessor()
        if component is None:
            return Opening(lessor, wish, look, on_progress, timeout, lambda opened: opened)
        return Opening(lessor, wish, look, on_progress, timeout, OpenModel.only)
