"""Asking a worker for memory of its device: docs/attach-device.md, from the side that asks.

Where a lease on a device is granted, the server says at which socket its memory can be had, and for which
token. What comes back is a file descriptor of the memory, and what lies where in it. The connection then
says, by being open, that the memory is mapped here: it is closed when it is not any more, and not before.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hoist._enums import Code
from hoist._errors import Error, Refused, TimedOut
from hoist._proto.v1 import lease_service_pb2 as lease

# A worker answers between two loads, so in seconds at worst; the bound is for one that hangs.
ANSWER_SECONDS = 60.0
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


def ask(share: lease.DeviceShare, device: str) -> Shared:
    """Asks for the memory of one component on `device`. Raises an Error that says who gave none, and why."""
    who = f"the worker of {device} at {share.socket}"
    descriptors: list[int] = []
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        told = _parsed(_asked(connection, share, who, descriptors), who)
        if isinstance(error := told.get("error"), str):
            text = f"{who} does not give the memory of {share.replica}: {error}"
            raise Refused(text, code=Code.FAILED_PRECONDITION)
        if not descriptors:
            raise _odd(who, "it came with no descriptor")
        kind, card, size, places = _understood(told, who)
    except BaseException:
        for each in descriptors:
            os.close(each)
        connection.close()
        raise
    return Shared(kind, card, size, places, descriptors[0], Line(connection))


def _asked(
    connection: socket.socket, share: lease.DeviceShare, who: str, descriptors: list[int]
) -> bytearray:
    """The worker's answer. The descriptors that came with it are in the list, also when this raises."""
    end = time.monotonic() + ANSWER_SECONDS
    try:
        connection.settimeout(ANSWER_SECONDS)
        _connect(connection, share.socket, end)
        connection.sendall(share.token, socket.MSG_NOSIGNAL)
        (length,) = _LENGTH.unpack(_read(connection, _LENGTH.size, end, who, descriptors))
        if length > ANSWER_BYTES:
            raise _odd(who, f"it is to be {length} bytes long, where {ANSWER_BYTES} are allowed")
        return _read(connection, length, end, who, descriptors)
    except TimeoutError:
        text = f"{who} has not answered after {ANSWER_SECONDS:g} s"
        raise TimedOut(text, code=Code.DEADLINE_EXCEEDED) from None
    except OSError as error:
        advice = "it may have ended, then another call finds the next; it serves its own user on its machine"
        raise Error(f"{who} cannot be asked: {error}; {advice}", code=Code.UNAVAILABLE) from error


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
