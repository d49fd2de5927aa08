"""What calls of the client for asyncio are made of: its parts inherit it, the client carries it out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from hoist._plans import Plan

T = TypeVar("T")


class AsyncCalls:
    """What a part of the client may ask of it."""

    async def _run(self, plan: Plan[T]) -> T:
        raise NotImplementedError

    async def _pages(self, plan: Callable[[str], Plan[tuple[list[T], str]]]) -> AsyncIterator[T]:
        """Everything in a list, page by page; `plan` asks for the page behind a token."""
        token = ""
        while True:
            page, token = await self._run(plan(token))
            for each in page:
                yield each
            if not token:
                return
