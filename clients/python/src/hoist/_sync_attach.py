"""Attaching to models on devices, of the client that blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import overload

from hoist import _open
from hoist._enums import Priority, Verdict
from hoist._open import Framework, OpenModel
from hoist._plans_models import Name, Words
from hoist._quantities import Time
from hoist._sync_calls import Calls
from hoist._tensors import Tensors
from hoist._types import Progress

# The first card of the server, and of most machines the only one.
FIRST = "cuda:0"


class AttachCalls(Calls):
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
    ) -> OpenModel: ...

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
    ) -> Tensors: ...

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
    ) -> OpenModel | Tensors:
        """A model's tensors where they are on a device, without a copy; loads it first if it is not there.

            with client.attach("sdxl", "vae", device="cuda:0") as tensors:
                weight = tensors["decoder.conv_in.weight"]  # a torch tensor on the card
            with client.attach("sdxl", device="cuda:0", dtype="BF16") as model:
                state = model["unet"].state_dict()

        As `open`, in the memory of a card in place of RAM: names to torch tensors, over what the device's
        worker has there, once for all processes that attach. Until it is closed it holds a lease: the model
        is unloaded only by force. What was loaded for that stays loaded afterwards.

        `device`: as the server names it. torch may count cards otherwise; one that this process must not see
        is an error. `cpu:0` is RAM, as with `open`. `dtype`: as for `load`; not in RAM. The memory is shared
        with everybody: **writing to a tensor of it is an error of the card, after which CUDA works no more in
        this process**, or changes the model for all, where the driver has no memory for reading alone. It is
        given back when the last tensor is gone, which waits for what the card still does. While torch
        captures a graph on that thread it is given back later, with the next; **while another thread
        captures, let go of nothing**: that spoils the graph. See `open` for the rest.
        """
        wish, look = _open.asked(
            name, component, components, framework, False, priority, allow, holder, timeout, device, dtype
        )
        opened = _open.opened(self._lessor().stream(wish), look, on_progress, timeout)
        return opened if component is None else opened.only()
