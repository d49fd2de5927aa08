"""A component's tensors where they are: a lazy mapping over its file in RAM, or its memory on a device."""

from __future__ import annotations

import difflib
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hoist import _cuda, _cuda_driver, _frameworks, _header
from hoist._attached import Attached
from hoist._enums import Code
from hoist._errors import Error
from hoist._frameworks import Framework
from hoist._header import Header
from hoist._held import Held
from hoist._lease_stream import Hold
from hoist._models import TensorInfo
from hoist._proto.v1 import lease_service_pb2 as wire
from hoist._share import Line

# What the server calls the device that RAM is.
RAM = "cpu:0"


@dataclass(frozen=True)
class Look:
    """How tensors shall be shown."""

    framework: Framework
    writable: bool
    device: str = ""
    """Where they were asked for. Empty: in RAM."""


class Tensors(Held, Mapping[str, Any]):
    """The tensors of one component, by name. Made by `open` or `attach`; holds a lease until it is closed.

    A tensor is made when it is asked for, over the memory where it is, without a copy; asked for again,
    another one is made over the same memory. It stays valid as long as it is referred to, also when this is
    closed or the lease has ended: only, from then on the server may hand out another copy to others.

    In a child of a fork what is in RAM can be read; the lease stays the parent's. CUDA works in none.
    """

    def __init__(
        self,
        hold: Hold,
        message: wire.LeasedComponent,
        look: Look,
        alone: bool,
        attached: Attached | None = None,
    ) -> None:
        """`attached`: its memory, on a device."""
        self._hold = hold
        self._message = message
        self._look = look
        self._alone = alone
        self._closed = False
        self._memory: mmap.mmap | _cuda.Memory | None = None
        self._line: Line | None = None
        self._table: dict[str, wire.TensorPlace] | None = None
        self._header: Header | None = None
        self._make: _frameworks.Maker | None = None
        if attached is not None:
            self._memory, self._table, self._line = attached.memory, attached.places, attached.line
        elif not message.files:
            # At once: should the lease be revoked, the file may lose its name before the first look.
            self._memory = _mapped(message.component.path, look.writable)

    @property
    def component(self) -> str:
        """Its name in the model: `vae`."""
        return self._message.component.component

    @property
    def type(self) -> str:
        """What it is for, in the words of `Model.type`."""
        return self._message.type

    @property
    def path(self) -> str:
        """The file, for any program that reads safetensors; the folder of `files` where there are any.

        Empty on a device.
        """
        return self._message.component.path

    @property
    def files(self) -> tuple[str, ...]:
        """Files that are kept as they are, by name within `path`: GGUF, TorchScript. Empty: tensors."""
        return tuple(self._message.files)

    @property
    def prefix(self) -> str:
        """What the keys began with in the model's files; they are without it here."""
        return self._message.component.prefix

    @property
    def segment(self) -> str:
        """`segments/{digest}`."""
        return self._message.component.segment

    @property
    def device(self) -> str:
        """Where they are, in the server's words: `cuda:0`; in RAM `cpu:0`. torch may count them otherwise."""
        return self._look.device or RAM

    @property
    def replica(self) -> str:
        """`replicas/{uuid}`. Empty in RAM."""
        return self._message.share.replica

    @property
    def hung_up(self) -> bool:
        """Whether the device's worker has: it has ended, or the model was unloaded by force. False in RAM.

        The tensors stay valid, and their memory counts on the device until the last of them is gone.
        """
        return self._line is not None and self._line.hung_up

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(each.size_bytes for each in self._places().values())

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself: `{"format": "pt"}`. On a device there is none of it."""
        return {} if self._message.files or self._look.device else self._read_header().metadata

    @property
    def closed(self) -> bool:
        """Whether `close` was called, or the client was closed."""
        return self._closed or self._hold.closed

    def close(self) -> None:
        """Ends the lease; one of several components of an `OpenModel` only lets go of its memory.

        The memory is unmapped when no tensor of it is left.
        """
        self._let_go()
        if self._alone:
            self._hold.close()

    def info(self, name: str) -> TensorInfo:
        """What a tensor is, without making it."""
        if (place := self._places().get(name)) is None:
            raise _NoTensor(name, self.prefix, self._places())
        return TensorInfo(name, place.dtype, tuple(place.shape), self.component)

    def state_dict(self, *, prefix: bool = False) -> dict[str, Any]:
        """All tensors; with `prefix` under the keys of the model's own files, for loaders that want these."""
        before, places = self.prefix if prefix else "", self._places()
        if not places:
            return {}
        make, end = self._maker(), len(self._open())
        return {before + name: self._tensor(place, make, end) for name, place in places.items()}

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        place = self._places().get(name)
        if place is None:
            if self._message.files:
                kept = ", ".join(self._message.files[:3])
                raise TypeError(f"{self.component!r} has no tensors but files, {kept}, in {self.path}")
            raise _NoTensor(name, self.prefix, self._places())
        return self._tensor(place, self._maker(), len(self._open()))

    def __contains__(self, name: object) -> bool:
        return name in self._places()

    def __iter__(self) -> Iterator[str]:
        return iter(self._places())

    def __len__(self) -> int:
        return len(self._places())

    def __repr__(self) -> str:
        where = f"{self.replica} on {self.device}" if self._look.device else self.segment
        return f"<Tensors {self.component!r} {where} {self._state()}>"

    def _let_go(self) -> None:
        # Closing the map itself would fail while tensors refer to it; without this reference the last of them
        # unmaps it.
        self._closed = True
        self._memory = self._make = None

    def _open(self) -> mmap.mmap | _cuda.Memory:
        memory = self._memory
        if memory is None or self.closed:
            raise ValueError(f"the tensors of {self.component!r} are closed")
        if isinstance(memory, _cuda.Memory) and not memory.usable:
            raise _cuda_driver.forked()
        return memory

    def _maker(self) -> _frameworks.Maker:
        if (make := self._make) is None:
            self._make = make = _frameworks.maker(self._look.framework, self._open())
        return make

    def _tensor(self, place: wire.TensorPlace, make: _frameworks.Maker, end: int) -> Any:  # noqa: ANN401
        offset, size = place.offset, place.size_bytes
        if offset + size > end:
            where = self.path or f"its memory on {self.device}"
            raise Error(f"{place.name} ends behind the end of {where}", code=Code.DATA_LOSS)
        return make(place.dtype, place.shape, offset, size)

    def _places(self) -> dict[str, wire.TensorPlace]:
        if self._message.files:
            return {}
        self._open()
        if self._table is None:
            # Without a table the lease was asked for without one, or there is no tensor.
            places = self._message.tensors or self._read_header().places
            self._table = {each.name: each for each in places}
        return self._table

    def _read_header(self) -> Header:
        if self._header is None:
            memory = self._open()
            assert isinstance(memory, mmap.mmap), "a card's memory has no header"
            self._header = _header.read(memory, self.path)
        return self._header


class _NoTensor(KeyError):
    """There is no tensor of this name; what may have been meant is looked for only when somebody reads it."""

    def __init__(self, name: object, prefix: str, places: Mapping[str, object]) -> None:
        super().__init__(name)
        self._prefix = prefix
        self._places = places

    def __str__(self) -> str:
        name = self.args[0]
        if not isinstance(name, str):
            return f"{name!r} is no name of a tensor"
        bare = name.removeprefix(self._prefix) if self._prefix else name
        if bare != name and bare in self._places:
            return f"{name!r}: here the names are without the prefix {self._prefix!r}: ask for {bare!r}"
        longer = [each for each in self._places if each.endswith("." + name)]
        if longer:
            return f"{name!r}: here the names are as in the model's files: ask for {longer[0]!r}"
        near = difflib.get_close_matches(bare, self._places, 3)
        return f"{name!r} is no tensor" + (f": did you mean {', '.join(map(repr, near))}?" if near else "")

    def __reduce__(self) -> tuple[type[KeyError], tuple[object, ...]]:
        return KeyError, self.args


def _mapped(path: str, writable: bool) -> mmap.mmap:
    try:
        with open(path, "rb", buffering=0) as file:
            # A copy on write is private: what is written never reaches the file.
            access = mmap.ACCESS_COPY if writable else mmap.ACCESS_READ
            return mmap.mmap(file.fileno(), 0, access=access)
    except (OSError, ValueError) as error:
        advice = "a segment can be opened on the server's machine, by those who may read its directory"
        raise Error(f"{path} cannot be mapped: {error}; {advice}") from error
