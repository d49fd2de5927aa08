"""Opening a model without holding up the event loop.

The lease itself is the one of the client that blocks, with its thread: it must go on while the loop is busy,
or is no more. So it has a connection of its own, and here only the waiting is asynchronous.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Generic, TypeVar

from hoist import _open
from hoist._open import Heard, Lessor, OpenModel
from hoist._proto.v1 import lease_service_pb2 as lease
from hoist._quantities import Time
from hoist._tensors import Look, Tensors
from hoist._types import Progress

T = TypeVar("T")
# What opening gives.
O = TypeVar("O", bound="OpenModel | Tensors")  # noqa: E741


class Opening(Generic[O]):
    """A model about to be opened: `await` it, or enter it with `async with`."""

    def __init__(
        self,
        lessor: Lessor,
        wish: lease.AcquireRequest,
        look: Look,
        on_progress: Heard | None,
        timeout: Time | None,
        part: Callable[[OpenModel], O],
    ) -> None:
        self._lessor = lessor
        self._wish = wish
        self._look = look
        self._on_progress = on_progress
        self._timeout = timeout
        self._part = part
        self._opened: O | None = None

    async def _open(self) -> O:
        stream = self._lessor.stream(self._wish)
        heard = self._heard(asyncio.get_running_loop())
        opening = in_thread(lambda: _open.opened(stream, self._look, heard, self._timeout))
        try:
            return self._part(await opening)
        except BaseException:
            # Nobody waits any more: what may still come of it ends at once.
            stream.release()
            raise

    def _heard(self, loop: asyncio.AbstractEventLoop) -> Heard | None:
        if (hear := self._on_progress) is None:
            return None

        def heard(progress: Progress) -> None:
            loop.call_soon_threadsafe(hear, progress)

        return heard

    def __await__(self) -> Generator[Any, None, O]:
        return self._open().__await__()

    async def __aenter__(self) -> O:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await in_thread(self._opened.close)


def in_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Runs it in a thread of its own: waiting for weights takes long, and would fill the loop's pool."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    # It cannot be recalled: who no longer waits for it leaves it running.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="hoist-open", daemon=True).start()
    return asyncio.wrap_future(future)
