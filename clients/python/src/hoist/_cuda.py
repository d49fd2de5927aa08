"""Memory of a card that another process has made, mapped here without a copy.

It is let go of once nobody refers to it, by the thread that did so last: it waits for what the card still
does, and takes the memory out of this process's addresses; only then does the line to the worker close, which
counts on that. A child of a fork does nothing of it: the driver works only in the process that began it.
While that thread captures a graph nothing of it is done either, as waiting would spoil the graph: it is done
when the next memory is attached or let go of.

What is still referred to when the process ends is left to that end: until then a card may be computing with
it, for a thread that nobody waits for.

Of what is here a finalizer calls what lets go, in any thread at any time: it waits for no lock of ours.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from hoist import _capture, _cuda_driver
from hoist._cuda_driver import Access, Address, Context, Driver, Fault, Handle, Location
from hoist._enums import Code
from hoist._errors import Error
from hoist._share import Line

_LOG = logging.getLogger("hoist")


class Memory:
    """All memory of one component on a card, readable by that card, as long as this is referred to.

    Made by `imported`, complete. torch makes a tensor of it, which refers to it.
    """

    def __init__(self, mapping: _Mapping, ordinal: int) -> None:
        self._mapping = mapping
        self.ordinal = ordinal
        """torch's N of `cuda:N`, which need not be the server's."""

    @property
    def address(self) -> int:
        return self._mapping.address

    @property
    def usable(self) -> bool:
        """False in a child of a fork."""
        return self._mapping.context.driver.usable

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Bytes in a row, ready to be used: the worker had written all of them before it handed them over."""
        return {
            "version": 3,
            "shape": (len(self),),
            "typestr": "|u1",
            "strides": None,
            # It is read-only. torch refuses what says so: it has no such tensors.
            "data": (self.address, False),
            "stream": None,
        }

    def __len__(self) -> int:
        return self._mapping.size

    def __del__(self) -> None:
        _try_again()
        self._mapping.let_go()


def imported(descriptor: int, close: Callable[[], None], device: str, size: int, line: Line) -> Memory:
    """Maps all of the memory. `close` closes the descriptor, once the driver has what is behind it.

    Raises an Error that says what is in the way: no driver, a card that is not visible here, no addresses.
    """
    driver = _cuda_driver.driver()
    try:
        ordinal, number = _found(driver, device)
        context = _Primary(driver, number)
        try:
            with context.current():
                address = _mapped(driver, number, descriptor, close, size)
        except BaseException:
            context.release()
            raise
    except Fault as fault:
        raise Error(f"the memory on {device} cannot be mapped: {fault}", code=Code.INTERNAL) from fault
    memory = Memory(_Mapping(context, address, size, line), ordinal)
    _try_again()
    return memory


def _found(driver: Driver, device: str) -> tuple[int, int]:
    """Where a card is in torch's order, and its number."""
    wanted = device.partition("-")[2].replace("-", "").lower()
    cards = driver.cards()
    for ordinal, (uuid, number) in enumerate(cards):
        if uuid == wanted:
            return ordinal, number
    visible = ", ".join(_written(uuid) for uuid, _ in cards) or "none"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    why = "" if hidden is None else f"; CUDA_VISIBLE_DEVICES is {hidden!r}"
    text = f"the card {device} is not visible to this process, which sees {visible}{why}"
    raise Error(text, code=Code.FAILED_PRECONDITION)


def _written(uuid: str) -> str:
    """As the vendor's tools write it."""
    return "GPU-" + "-".join((uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]))


class _Primary:
    """The context of a card that torch uses, too. It stays until it is released."""

    def __init__(self, driver: Driver, number: int) -> None:
        self.driver = driver
        self._number = number
        context = Context()
        driver("cuDevicePrimaryCtxRetain", context, number)
        self._context = context

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """On this thread. What was there before is there again afterwards, if it was nothing, too."""
        before = Context()
        self.driver("cuCtxGetCurrent", before)
        self.driver("cuCtxSetCurrent", self._context)
        try:
            yield
        finally:
            self.driver.undo("cuCtxSetCurrent", before)

    def release(self) -> None:
        self.driver.undo("cuDevicePrimaryCtxRelease_v2", self._number)


def _mapped(driver: Driver, number: int, descriptor: int, close: Callable[[], None], size: int) -> int:
    """The address of the memory. Nothing is left of what fails halfway."""
    handle, address = Handle(), Address()
    with contextlib.ExitStack() as always, contextlib.ExitStack() as failed:
        driver("cuMemImportFromShareableHandle", handle, descriptor, _cuda_driver.FILE_DESCRIPTOR)
        # Memory stays as long as it is mapped; nothing else is to be done with it.
        always.callback(driver.undo, "cuMemRelease", handle)
        close()
        driver("cuMemAddressReserve", address, size, 0, 0, 0)
        failed.callback(driver.undo, "cuMemAddressFree", address, size)
        driver("cuMemMap", address, size, 0, handle, 0)
        failed.callback(driver.undo, "cuMemUnmap", address, size)
        _allow(driver, number, address, size)
        failed.pop_all()
    return address.value


def _allow(driver: Driver, number: int, address: Address, size: int) -> None:
    """For reading, which not every driver knows alone: then for both, and nobody writes all the same."""
    location = Location(_cuda_driver.ON_DEVICE, number)
    try:
        driver("cuMemSetAccess", address, size, Access(location, _cuda_driver.READ), 1)
    except Fault:
        driver("cuMemSetAccess", address, size, Access(location, _cuda_driver.READ_AND_WRITE), 1)


class _Mapping:
    """What has to be undone, once."""

    def __init__(self, context: _Primary, address: int, size: int, line: Line) -> None:
        self.context = context
        self.address = address
        self.size = size
        self._line = line
        self._is_told = False

    def let_go(self) -> None:
        """Undoes it. What cannot be undone now is kept for another try, its line open: it is still mapped."""
        driver = self.context.driver
        if not driver.usable:
            self._line.close()
            return
        if _capture.is_capturing():
            # Without a call of the driver: also one that fails would spoil what is captured.
            _LEFT.append(self)
            return
        try:
            with self.context.current():
                # Whatever the card still does may use it, in any stream of this process.
                driver("cuCtxSynchronize")
                driver("cuMemUnmap", self.address, self.size)
                driver.undo("cuMemAddressFree", self.address, self.size)
        except Fault as fault:
            _LEFT.append(self)
            if not self._is_told and fault.code != _cuda_driver.DEINITIALIZED and not sys.is_finalizing():
                self._is_told = True
                _LOG.warning("memory of a card stays mapped until later: %s", fault)
            return
        self.context.release()
        self._line.close()


# Mappings that could not be undone: while a graph was captured, as torch or the driver has said; or after an
# error of the context, which only the end of the process ends.
_LEFT: list[_Mapping] = []


def _try_again() -> None:
    for _ in range(len(_LEFT)):
        try:
            mapping = _LEFT.pop(0)
        except IndexError:
            # Another thread does the same.
            return
        mapping.let_go()
