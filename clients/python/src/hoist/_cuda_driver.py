"""NVIDIA's driver, as far as attaching needs it: through ctypes, so that nothing is compiled.

What is declared here is compared with the vendor's header by a test. Codes are numbers: a newer driver has
more of them.
"""

from __future__ import annotations

import ctypes
import logging
import os
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from typing import Any

from hoist._enums import Code
from hoist._errors import Error

# Comes with the kernel's module, of the same version; the toolkit does not bring it.
LIBRARY = "libcuda.so.1"

# What the driver calls things. A device's number is that of torch's `cuda:N`: both see what is visible.
Number = c_int
Context = c_void_p
Address = c_ulonglong
Handle = c_ulonglong

SUCCESS = 0
# What follows is the end of the process: the driver has been let go of, with all that it had.
DEINITIALIZED = 4
FILE_DESCRIPTOR = 1
ON_DEVICE = 1
READ, READ_AND_WRITE = 1, 3


class Uuid(ctypes.Structure):
    """A card's own name for good."""

    _fields_ = [("bytes", ctypes.c_ubyte * 16)]


class Location(ctypes.Structure):
    """Where memory may be used."""

    _fields_ = [("type", c_uint), ("id", c_int)]


class Access(ctypes.Structure):
    """Who may do what with mapped memory."""

    _fields_ = [("location", Location), ("flags", c_uint)]


# Each answers a code.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(Number), c_int),
    "cuDeviceGetUuid_v2": (POINTER(Uuid), Number),
    "cuDevicePrimaryCtxRetain": (POINTER(Context), Number),
    "cuDevicePrimaryCtxRelease_v2": (Number,),
    "cuCtxGetCurrent": (POINTER(Context),),
    "cuCtxSetCurrent": (Context,),
    "cuCtxSynchronize": (),
    "cuMemImportFromShareableHandle": (POINTER(Handle), c_void_p, c_uint),
    "cuMemRelease": (Handle,),
    "cuMemAddressReserve": (POINTER(Address), c_size_t, c_size_t, Address, c_ulonglong),
    "cuMemAddressFree": (Address, c_size_t),
    "cuMemMap": (Address, c_size_t, c_size_t, Handle, c_ulonglong),
    "cuMemUnmap": (Address, c_size_t),
    "cuMemSetAccess": (Address, c_size_t, POINTER(Access), c_size_t),
}

_LOG = logging.getLogger("hoist")


class Fault(Exception):
    """A call of the driver failed. No error of Hoist's: who called says what could not be done."""

    def __init__(self, call: str, code: int, text: str) -> None:
        super().__init__(f"{call}: {text}")
        self.code = code


class Driver:
    """The library, begun. A child of a fork cannot use it: see `usable`."""

    def __init__(self, path: str) -> None:
        self._pid = os.getpid()
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            advice = "it comes with NVIDIA's driver; into a container it is put by the container's runtime"
            raise _unusable(f"{path} cannot be opened: {error}; {advice}") from error
        self._functions: dict[str, Any] = {}
        for name, arguments in FUNCTIONS.items():
            function = getattr(library, name, None)
            if function is None:
                raise _unusable(f"{path} has no {name}: the driver is older than 11.4, which is the least")
            function.argtypes, function.restype = arguments, c_int
            self._functions[name] = function
        try:
            self("cuInit", 0)
        except Fault as fault:
            advice = f"CUDA_VISIBLE_DEVICES is {os.environ.get('CUDA_VISIBLE_DEVICES')!r}"
            advice += "; after a fork CUDA does not begin again: start the process with spawn"
            raise _unusable(f"CUDA does not begin in this process: {fault}; {advice}") from fault

    @property
    def usable(self) -> bool:
        """Whether this is the process that began it."""
        return os.getpid() == self._pid

    def __call__(self, call: str, *arguments: object) -> None:
        """Raises a Fault for any other answer than success."""
        code = self._functions[call](*arguments)
        if code != SUCCESS:
            raise Fault(call, code, self._described(code))

    def undo(self, call: str, *arguments: object) -> None:
        """The same, on the way back from something that is told already: what fails here is logged."""
        try:
            self(call, *arguments)
        except Fault as fault:
            _LOG.warning("something of a card is not given back: %s", fault)

    def cards(self) -> list[tuple[str, int]]:
        """UUID and number of those that this process may see, in torch's order."""
        count, number, uuid = c_int(), Number(), Uuid()
        self("cuDeviceGetCount", count)
        cards = []
        for ordinal in range(count.value):
            self("cuDeviceGet", number, ordinal)
            self("cuDeviceGetUuid_v2", uuid, number)
            cards.append((bytes(uuid.bytes).hex(), number.value))
        return cards

    def _described(self, code: int) -> str:
        name, text = c_char_p(), c_char_p()
        # Of a code that it does not know it says nothing.
        self._functions["cuGetErrorName"](code, name)
        self._functions["cuGetErrorString"](code, text)
        known = [(each.value or b"").decode(errors="replace") for each in (name, text)]
        return f"{known[0] or 'error'} ({code})" + (f", {known[1]}" if known[1] not in ("", known[0]) else "")


def _unusable(text: str) -> Error:
    return Error(text, code=Code.FAILED_PRECONDITION)


def forked() -> Error:
    """What a child of a fork is told."""
    return _unusable("CUDA works in no child of a fork: start the process with spawn, and attach there")


# By the library's name: one is opened once for all. Two threads that do it at once open the same.
_OPEN: dict[str, Driver] = {}


def driver() -> Driver:
    """Opens it if it is not open yet. Raises an Error that says why it cannot be used."""
    found = _OPEN.get(LIBRARY)
    if found is None:
        found = _OPEN[LIBRARY] = Driver(LIBRARY)
    if not found.usable:
        raise forked()
    return found
