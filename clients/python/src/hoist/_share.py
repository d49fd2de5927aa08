"""Asking a worker for memory of its device: docs/attach-device.md, from the side that asks.

Where a lease on a device is granted, the server says at which socket its memory can be had, and for which
token. What comes back is a file descriptor of the memory, and what lies where in it. The connection then
says, by being open, that the memory is mapped here: it is closed when it is not any more, and not before.

A worker answers between two loads, all who have asked by then, and forgets after a minute a token that nobody
has said. So the tokens of all components are said before the first answer is waited for.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import json
import os
import select
import socket
import struct
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hoist._enums import Code
from hoist._errors import Error, Refused, TimedOut
from hoist._proto.v1 import lease_service_pb2 as lease

# A worker answers between two loads, so in seconds at worst; the bound is for one that hangs.
ANSWER_SECONDS = 60.0
# So many tokens at most are said and wait for their answers. While a worker is busy it keeps 64 questions, of
# all who ask it, and refuses any more; most models have fewer components than either.
AT_ONCE = 16
# What the contract allows.
ANSWER_BYTES = 64 << 20
# Between two tries of a worker whom many ask at once: with a bound the kernel does not wait for a place.
_BUSY_SECONDS = 0.01

_LENGTH = struct.Struct("<I")
# Read in one go, of what may be long.
_PIECE_BYTES = 1 << 20

Kind = Literal["cuda", "memory"]


class Line:
    """The connection to a worker. As long as it is open, the worker counts the memory as mapped here.

    It has a number and no socket: a socket closes itself when the collector takes it, and that may come to it
    before it comes to the memory.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Takes it over."""
        self._descriptor = connection.detach()
        self._pid = os.getpid()

    @property
    def hung_up(self) -> bool:
        """Whether the worker has: the memory is not the model's any more. False once it is closed here."""
        if (descriptor := self._descriptor) < 0:
            return False
        poll = select.poll()
        # Whatever it might still have said is not waited for.
        poll.register(descriptor, select.POLLRDHUP)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Says that the memory is not mapped here any more. In a child of a fork it says nothing.

        There it stays open, as what the driver has open does: nobody uses either.
        """
        if os.getpid() != self._pid:
            return
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        with contextlib.suppress(OSError), socket.socket(fileno=descriptor) as connection:
            # Children of a fork have it open, too: only this reaches the worker as long as they have.
            connection.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Shared:
    """What a worker has handed over. Who gets it closes the descriptor, and later the line."""

    kind: Kind
    device: str
    """The UUID of the card: `GPU-…`. Of other memory there is none."""
    size: int
    places: list[lease.TensorPlace]
    """Where each tensor is, from the beginning of the memory."""
    descriptor: int
    line: Line


def ask(shares: Mapping[str, lease.DeviceShare], device: str) -> Generator[tuple[str, Shared], None, None]:
    """Asks for the memory of these components on `device`: each with what is handed over, as it comes.

    Raises an Error that says for which component who gave none, and why. When it is closed, as it is by that,
    so are the connections whose answers have not been had.
    """
    left = iter(shares.items())
    waiting: list[_Question] = []
    try:
        while True:
            for component, share in itertools.islice(left, AT_ONCE - len(waiting)):
                with naming(component):
                    waiting.append(_Question(component, share, device))
            if not waiting:
                return
            # In whatever order they are answered: a worker does not wait long for one who does not read.
            for each in _answered(waiting):
                waiting.remove(each)
                with naming(each.component):
                    shared = each.hear()
                yield each.component, shared
    finally:
        for each in waiting:
            each.close()


@contextlib.contextmanager
def naming(component: str) -> Iterator[None]:
    """An Error of what is done in this says for which component it was."""
    try:
        yield
    except Error as error:
        error.message = f"{component!r} is not attached: {error.message}"
        error.args = (error.message,)
        raise


class _Question:
    """A connection where a token has been said. It is closed, or its answer is heard."""

    def __init__(self, component: str, share: lease.DeviceShare, device: str) -> None:
        self.component = component
        self.end = time.monotonic() + ANSWER_SECONDS
        self._who = f"the worker of {device} at {share.socket}"
        self._replica = share.replica
        with self._explained():
            self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._connection.settimeout(ANSWER_SECONDS)
                _connect(self._connection, share.socket, self.end)
                self._connection.sendall(share.token, socket.MSG_NOSIGNAL)
            except BaseException:
                self.close()
                raise

    def fileno(self) -> int:
        return self._connection.fileno()

    def hear(self) -> Shared:
        """The answer, of which there is something already. Nothing is left open by what this raises."""
        descriptors: list[int] = []
        try:
            told = _parsed(self._answer(descriptors), self._who)
            if isinstance(error := told.get("error"), str):
                text = f"{self._who} does not give the memory of {self._replica}: {error}"
                raise Refused(text, code=Code.FAILED_PRECONDITION)
            if not descriptors:
                raise _odd(self._who, "it came with no descriptor")
            kind, card, size, places = _understood(told, self._who)
        except BaseException:
            for each in descriptors:
                os.close(each)
            self.close()
            raise
        return Shared(kind, card, size, places, descriptors[0], Line(self._connection))

    def late(self) -> TimedOut:
        text = f"{self._who} has not answered after {ANSWER_SECONDS:g} s"
        return TimedOut(text, code=Code.DEADLINE_EXCEEDED)

    def close(self) -> None:
        # Children of a fork have it open, too: only this reaches the worker as long as they have.
        with contextlib.suppress(OSError), self._connection:
            self._connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, descriptors: list[int]) -> bytearray:
        """As it was sent. The descriptors that came with it are in the list, also when this raises."""
        with self._explained():
            head = _read(self._connection, _LENGTH.size, self.end, self._who, descriptors)
            (length,) = _LENGTH.unpack(head)
            if length > ANSWER_BYTES:
                raise _odd(self._who, f"it is to be {length} bytes long, where {ANSWER_BYTES} are allowed")
            return _read(self._connection, length, self.end, self._who, descriptors)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of the system become ours."""
        try:
            yield
        except TimeoutError:
            raise self.late() from None
        except OSError as error:
            text = f"{self._who} cannot be asked: {error}; it may have ended, then another call finds the "
            text += "next; it serves its own user on its machine"
            raise Error(text, code=Code.UNAVAILABLE) from error


def _answered(waiting: list[_Question]) -> list[_Question]:
    """Those that there is something of to read, once there are any."""
    poll = select.poll()
    for each in waiting:
        poll.register(each, select.POLLIN)
    first = waiting[0]
    ready = {number for number, _ in poll.poll(max(0.0, first.end - time.monotonic()) * 1_000)}
    if not ready:
        with naming(first.component):
            raise first.late()
    return [each for each in waiting if each.fileno() in ready]


def _connect(connection: socket.socket, path: str, end: float) -> None:
    while True:
        try:
            connection.connect(path)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise TimeoutError from None
            time.sleep(_BUSY_SECONDS)


def _read(connection: socket.socket, size: int, end: float, who: str, descriptors: list[int]) -> bytearray:
    """So many bytes, and whatever descriptors come with them."""
    # Room for one more descriptor than there may be: what is too much must show. The rest is dropped.
    room = socket.CMSG_SPACE(2 * array.array("i").itemsize)
    read = bytearray()
    while len(read) < size:
        # A worker that sends a byte now and then does not stretch it.
        if (left := end - time.monotonic()) <= 0:
            raise TimeoutError
        connection.settimeout(left)
        wanted = min(size - len(read), _PIECE_BYTES)
        piece, told, flags, _ = connection.recvmsg(wanted, room, socket.MSG_CMSG_CLOEXEC)
        descriptors += _handed_over(told)
        if len(descriptors) > 1:
            raise _odd(who, "it came with more than one descriptor")
        if flags & socket.MSG_CTRUNC:
            text = f"the descriptor of {who} cannot be taken: this process has as many open as it may"
            raise Error(text, code=Code.RESOURCE_EXHAUSTED)
        if not piece:
            raise Error(f"{who} has hung up before all of its answer was there", code=Code.UNAVAILABLE)
        read += piece
    return read


def _handed_over(told: list[tuple[int, int, bytes]]) -> Iterator[int]:
    for level, kind, content in told:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers = array.array("i")
            numbers.frombytes(content[: len(content) // numbers.itemsize * numbers.itemsize])
            yield from numbers


def _parsed(answer: bytearray, who: str) -> dict[str, Any]:
    try:
        told = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise _odd(who, f"it is no JSON: {error}") from error
    if not isinstance(told, dict):
        raise _odd(who, "it is no object")
    return told


def _understood(told: dict[str, Any], who: str) -> tuple[Kind, str, int, list[lease.TensorPlace]]:
    kind, device, size = told.get("kind"), told.get("device", ""), told.get("size")
    if kind != "cuda" and kind != "memory":
        raise _odd(who, f"its kind of memory, {kind!r}, is newer than this client")
    if not isinstance(device, str) or (kind == "cuda" and not device):
        raise _odd(who, "it names no device")
    if not isinstance(size, int) or size < 1:
        raise _odd(who, f"there is no memory of {size!r} bytes")
    try:
        places = [_place(each, size) for each in told["tensors"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _odd(who, f"{type(error).__name__}: {error}") from error
    if len({each.name for each in places}) != len(places):
        raise _odd(who, "two tensors have one name")
    return kind, device, size, places


def _place(entry: dict[str, Any], end: int) -> lease.TensorPlace:
    place = lease.TensorPlace(
        name=entry["name"],
        dtype=entry["dtype"],
        shape=entry["shape"],
        offset=entry["offset"],
        size_bytes=entry["size"],
    )
    if place.offset + place.size_bytes > end:
        raise ValueError(f"{place.name} ends behind the end of the memory")
    return place


def _odd(who: str, why: str) -> Error:
    return Error(f"the answer of {who} is not understood: {why}", code=Code.INTERNAL)
