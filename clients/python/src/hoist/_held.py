"""What a lease holds, and what became of it: for `OpenModel`, and the `Tensors` in it, which share one."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

from hoist._errors import Error
from hoist._lease_stream import Hold

H = TypeVar("H", bound="Held")


class Held:
    """What a lease holds, until it is closed."""

    _hold: Hold

    @property
    def lease(self) -> str:
        """`leases/{uuid}`."""
        granted = self._hold.state.granted
        return granted.lease.name if granted is not None else ""

    @property
    def held(self) -> bool:
        """Whether the lease is in force, and on what it was granted for.

        False also while the server is away and may come back, and when a device's worker has hung up.
        """
        return self._hold.held and not self.closed and not self.hung_up

    @property
    def revoked(self) -> str | None:
        """Why the server ended the lease, or None. The tensors stay valid."""
        return self._hold.state.revoked

    @property
    def lost(self) -> Error | None:
        """Why the lease could not be taken up again after the server was gone, or None. As with `revoked`."""
        return self._hold.state.lost

    @property
    def hung_up(self) -> bool:
        """Whether a device's worker has hung up on what this holds there."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        """Whether `close` was called, or the client was closed."""
        return self._hold.closed

    def close(self) -> None:
        """Ends it."""
        raise NotImplementedError

    # Two are equal only if they are one: Mapping would compare tensor by tensor.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __enter__(self: H) -> H:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _state(self) -> str:
        return "closed" if self.closed else "held" if self.held else "no longer held"
