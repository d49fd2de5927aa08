"""The handle of an operation that waits without blocking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from google.longrunning import operations_proto_pb2 as operations_pb2

from hoist import _decode, _plans
from hoist._enums import OperationState
from hoist._operation import Handle
from hoist._operation_result import R
from hoist._plans import Plan
from hoist._quantities import Time
from hoist._types import Progress

T = TypeVar("T")


class Runs(Protocol):
    """What an operation needs of a client."""

    async def _run(self, plan: Plan[T]) -> T: ...


class AsyncOperation(Handle[R]):
    """See `hoist.Operation`."""

    def __init__(self, client: Runs, message: operations_pb2.Operation) -> None:
        super().__init__(message)
        self._client = client

    async def refresh(self) -> AsyncOperation[R]:
        """See `hoist.Operation.refresh`."""
        self._take(await self._client._run(_plans.operation(self.name)))
        return self

    async def wait(
        self,
        timeout: Time | None = None,
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
        timeout: Time | None = None,
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
