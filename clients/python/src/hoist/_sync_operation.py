"""The handle of an operation that blocks."""

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

    def _run(self, plan: Plan[T]) -> T: ...


class Operation(Handle[R]):
    """Long work on the server. Its properties are as of the last answer; `refresh` and `wait` renew them."""

    def __init__(self, client: Runs, message: operations_pb2.Operation) -> None:
        super().__init__(message)
        self._client = client

    def refresh(self) -> Operation[R]:
        """Reads it again."""
        self._take(self._client._run(_plans.operation(self.name)))
        return self

    def wait(
        self,
        timeout: Time | None = None,
        *,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> OperationState:
        """Waits until it has ended, however it does; raises `TimedOut` if `timeout` seconds pass first."""
        _decode.seconds("timeout", timeout)
        if not self.done:
            self._take(self._client._run(_plans.wait(self.name, timeout, on_progress)))
        return self.state

    def result(
        self,
        timeout: Time | None = None,
        *,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> R:
        """Waits, then gives what it produced, or raises `OperationFailed` or `OperationCancelled`."""
        self.wait(timeout, on_progress=on_progress)
        return self._result()

    def cancel(self) -> None:
        """Asks it to stop and returns at once; it may still succeed. One that has ended stays as it is."""
        self._client._run(_plans.cancel(self.name))

    def delete(self) -> None:
        """Forgets it. Raises `Refused` while it runs."""
        self._client._run(_plans.delete(self.name))
