"""The part of an operation's handle that needs no I/O."""

from __future__ import annotations

from typing import Generic, cast

from google.longrunning import operations_proto_pb2 as operations_pb2

from hoist import _decode
from hoist._enums import OperationState
from hoist._operation_result import R
from hoist._types import OperationMetadata


class Handle(Generic[R]):
    """An operation as it was when the server last told of it."""

    def __init__(self, message: operations_pb2.Operation) -> None:
        self._take(message)

    def _take(self, message: operations_pb2.Operation) -> None:
        self._message = message
        self._metadata = _decode.operation(message)

    def _result(self) -> R:
        # Which call made it decides what it produces; one that was looked up may be any.
        return cast(R, _decode.result(self._message))

    @property
    def name(self) -> str:
        """`operations/{uuid}`."""
        return self._message.name

    @property
    def state(self) -> OperationState:
        """Where it was in its life."""
        return self._metadata.state

    @property
    def done(self) -> bool:
        """Whether it had ended."""
        return self._message.done

    @property
    def metadata(self) -> OperationMetadata:
        """All that was known about it."""
        return self._metadata

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.state}>"
