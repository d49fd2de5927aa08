"""What calls of the client that blocks are made of: its parts inherit it, the client carries it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from hoist._plans import Plan

T = TypeVar("T")


class Calls:
    """What a part of the client may ask of it."""

    def _run(self, plan: Plan[T]) -> T:
        raise NotImplementedError

    def _pages(self, plan: Callable[[str], Plan[tuple[list[T], str]]]) -> Iterator[T]:
        """Everything in a list, page by page; `plan` asks for the page behind a token."""
        token = ""
        while True:
            page, token = self._run(plan(token))
            yield from page
            if not token:
                return
