"""A worker that knows of its side socket alone and answers there as a test says: docs/attach-device.md.

Run as a program it is a process of its own with memory of a card, by the stand-in for NVIDIA's driver: what
it shares is another process's. It says `ready`, and answers each line on its standard input with one.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import functools
import gc
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 30.0
TOKEN = b"t" * 32
# What memory of a card is given in, and what the stand-in names its first card.
GRANULE = 2 << 20
CARD = "GPU-00f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff"

Answer = Callable[[socket.socket], object]
# A tensor in shared memory: name, dtype, shape, bytes.
Tensor = tuple[str, str, list[int], bytes]


def laid_out(tensors: list[Tensor], granule: int = 1) -> tuple[bytes, list[dict[str, Any]]]:
    """Memory with these tensors, as a worker lays them out, and what it tells of them."""
    content, told = bytearray(), list[dict[str, Any]]()
    for name, dtype, shape, data in tensors:
        content += bytes(-len(content) % 256)
        told.append({"name": name, "dtype": dtype, "shape": shape, "offset": len(content), "size": len(data)})
        content += data
    content += bytes(-len(content) % granule if content else granule)
    return bytes(content), told


def table(content: bytes, tensors: list[dict[str, Any]], kind: str, device: str = "") -> dict[str, Any]:
    return {"kind": kind, "device": device, "size": len(content), "tensors": tensors}


def framed(told: object) -> bytes:
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    return struct.pack("<I", len(text)) + text


def sent(connection: socket.socket, message: bytes, descriptors: list[int]) -> None:
    """As a worker sends it: descriptors beside the first bytes."""
    beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    count = connection.sendmsg([message], beside)
    connection.sendall(message[count:])


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    """What is opened in this is closed in it."""
    before = _descriptors()
    yield
    left = {number: what for number, what in _descriptors().items() if before.get(number) != what}
    assert not left


def _descriptors() -> dict[str, str]:
    found = {}
    for number in os.listdir("/proc/self/fd"):
        # The one that lists them is gone.
        with contextlib.suppress(FileNotFoundError):
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


@contextlib.contextmanager
def memfd(content: bytes) -> Iterator[int]:
    """A file of memory with this content."""
    descriptor = os.memfd_create("hoist-fake-worker", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield descriptor
    finally:
        os.close(descriptor)


def forked(function: Callable[[], object], before: Callable[[], object] = lambda: None) -> int:
    """How a child of a fork ends that does this: 0 for well. It does so once the parent has done `before`."""
    # What others have left is no child's to collect: what grpc has of calls does not end in one.
    gc.collect()
    waits, wakes = os.pipe()
    with warnings.catch_warnings():
        # Forking with threads is what is tested.
        warnings.simplefilter("ignore")
        child = os.fork()
    if not child:
        status = 1
        try:
            os.close(wakes)
            os.read(waits, 1)
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(waits)
    try:
        before()
    finally:
        os.close(wakes)
        ended = os.waitpid(child, 0)[1]
    return ended


def shares(content: bytes, tensors: list[dict[str, Any]]) -> Answer:
    """Hands over a file of memory."""

    def answer(connection: socket.socket) -> None:
        with memfd(content) as descriptor:
            sent(connection, framed(table(content, tensors, "memory")), [descriptor])

    return answer


class FakeWorker:
    """One side socket. Each connection says a token, gets its answer, and stays until it ends."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self.path = path
        self.answer = answer
        self.tokens: list[bytes] = []
        self.open: list[socket.socket] = []
        """Connections that nobody has closed yet."""
        self.closed = 0
        """Connections that their other side has closed."""
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._run(self._accept)

    def wait(self, until: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(until, PATIENCE_SECONDS)

    def hang_up(self) -> None:
        """On all."""
        with self._changed:
            for each in self.open:
                each.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with contextlib.suppress(OSError):
            self.hang_up()
        for each in self._threads:
            each.join(PATIENCE_SECONDS)
        self.path.unlink()

    def _run(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self.open.append(connection)
                self._changed.notify_all()
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            token = connection.recv(len(TOKEN), socket.MSG_WAITALL)
            with self._changed:
                self.tokens.append(token)
                self._changed.notify_all()
            if token:
                self.answer(connection)
            connection.recv(1)
        with self._changed:
            self.open.remove(connection)
            self.closed += 1
            connection.close()
            self._changed.notify_all()


class Standin:
    """The stand-in in this process: what it counts, and what it is told to do."""

    COUNTERS = ("handles", "mappings", "reservations", "allocations", "context_references", "violations")

    def __init__(self, path: str) -> None:
        self.path = path
        self.library = ctypes.CDLL(path)
        for name in self.COUNTERS:
            getattr(self.library, f"hoist_standin_{name}").restype = ctypes.c_ulong
        self.library.hoist_standin_contextless_calls.restype = ctypes.c_ulong
        self.library.hoist_standin_calls.restype = ctypes.c_ulong
        self.library.hoist_standin_last_violation.restype = ctypes.c_char_p

    def counted(self) -> dict[str, int]:
        return {name: getattr(self.library, f"hoist_standin_{name}")() for name in self.COUNTERS}

    def calls(self, name: str) -> int:
        count: int = self.library.hoist_standin_calls(name.encode())
        return count

    def fail(self, call: str, code: int, after: int = 1) -> None:
        """The call of that number from now on fails."""
        self.library.hoist_standin_fail(call.encode(), code, after)

    def cards(self, count: int) -> None:
        self.library.hoist_standin_set_devices(count)

    def reset(self) -> None:
        self.library.hoist_standin_reset()


class Properties(ctypes.Structure):
    """CUmemAllocationProp."""

    _fields_ = [
        ("type", ctypes.c_uint),
        ("handle_types", ctypes.c_uint),
        ("location_type", ctypes.c_uint),
        ("location", ctypes.c_int),
        ("windows", ctypes.c_void_p),
        ("flags", ctypes.c_ubyte * 8),
    ]


class Access(ctypes.Structure):
    """CUmemAccessDesc."""

    _fields_ = [("location_type", ctypes.c_uint), ("location", ctypes.c_int), ("flags", ctypes.c_uint)]


class CardMemory:
    """Memory of a card of the stand-in, with this content, and a descriptor of it."""

    def __init__(self, standin: Standin, content: bytes, card: int = 0) -> None:
        self._card, self._size = card, len(content)
        self._library = library = standin.library
        context, handle, address = ctypes.c_void_p(), ctypes.c_ulonglong(), ctypes.c_ulonglong()
        size = ctypes.c_size_t(self._size)
        properties = Properties(1, 1, 1, card, None)
        self._check(library.cuInit(0))
        self._check(library.cuDevicePrimaryCtxRetain(ctypes.byref(context), card))
        self._check(library.cuCtxSetCurrent(context))
        self._check(
            library.cuMemCreate(ctypes.byref(handle), size, ctypes.byref(properties), ctypes.c_ulonglong(0))
        )
        self._check(
            library.cuMemAddressReserve(
                ctypes.byref(address), size, ctypes.c_size_t(0), ctypes.c_ulonglong(0), ctypes.c_ulonglong(0)
            )
        )
        self._check(library.cuMemMap(address, size, ctypes.c_size_t(0), handle, ctypes.c_ulonglong(0)))
        access = Access(1, card, 3)
        self._check(library.cuMemSetAccess(address, size, ctypes.byref(access), ctypes.c_size_t(1)))
        assert address.value is not None
        ctypes.memmove(address.value, content, self._size)
        descriptor = ctypes.c_int()
        self._check(
            library.cuMemExportToShareableHandle(ctypes.byref(descriptor), handle, 1, ctypes.c_ulonglong(0))
        )
        self.descriptor = descriptor.value
        self._handle, self._address, self._bytes = handle, address, size

    def close(self) -> None:
        os.close(self.descriptor)
        self._check(self._library.cuMemUnmap(self._address, self._bytes))
        self._check(self._library.cuMemAddressFree(self._address, self._bytes))
        self._check(self._library.cuMemRelease(self._handle))
        self._check(self._library.cuCtxSetCurrent(None))
        self._check(self._library.cuDevicePrimaryCtxRelease_v2(self._card))

    @staticmethod
    def _check(code: int) -> None:
        assert code == 0, code


class CardWorker:
    """A worker that is a process of its own. What it shares is on a card of the stand-in."""

    def __init__(self, library: str, folder: Path, tensors: list[Tensor], card: int = 0) -> None:
        self.path = folder / f"worker-{card}.sock"
        self.content, self.tensors = laid_out(tensors, GRANULE)
        content, told = folder / f"content-{card}", folder / f"tensors-{card}"
        content.write_bytes(self.content)
        told.write_text(json.dumps(self.tensors))
        command = [sys.executable, __file__, library, str(self.path), str(card), str(content), str(told)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._line() == "ready\n"

    def ask(self, word: str) -> dict[str, int]:
        """`look`; `hang up`; `closed 2`, which waits until so many have been closed by clients."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        told: dict[str, int] = json.loads(self._line())
        return told

    def end(self) -> dict[str, int]:
        """It gives back what it has. What its stand-in has counted then."""
        counted, _ = self.process.communicate(timeout=PATIENCE_SECONDS)
        assert self.process.returncode == 0
        told: dict[str, int] = json.loads(counted)
        return told

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


def main() -> None:
    """`fake_worker.py LIBRARY SOCKET CARD CONTENT TENSORS`: a worker with memory of a card."""
    _, library, path, card, content_path, tensors_path = sys.argv
    standin = Standin(library)
    standin.cards(int(card) + 1)
    content = Path(content_path).read_bytes()
    tensors = json.loads(Path(tensors_path).read_text())
    memory = CardMemory(standin, content, int(card))
    uuid = f"GPU-{int(card):02x}{CARD[6:]}"

    def answer(connection: socket.socket) -> None:
        sent(connection, framed(table(content, tensors, "cuda", uuid)), [memory.descriptor])

    worker = FakeWorker(Path(path), answer)
    print("ready", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["hang", "up"]:
                worker.hang_up()
            case ["closed", count]:
                worker.wait(functools.partial(lambda most: worker.closed >= most, int(count)))
        print(json.dumps({"closed": worker.closed, "open": len(worker.open)}), flush=True)
    worker.stop()
    memory.close()
    print(json.dumps(standin.counted()), flush=True)


if __name__ == "__main__":
    main()
