"""Ways to get the tensors of one file into a process, and what is asked of the memory they end up in.

Each loader gives a mapping of names to tensors, and keeps alive with it what the tensors need. Imports are
made before anything is measured: `prepare` makes them.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What the tables call those who load. torch.load reads another file, of the same tensors.
MAPPED, ONE_BY_ONE = "safetensors load_file", "safetensors safe_open"
FAST, STREAMED, PICKLED = "fastsafetensors", "runai streamer", "torch.load"

PAGE = os.sysconf("SC_PAGE_SIZE")
# The same on every architecture, as all system calls since 424; Linux 6.5 or later.
CACHESTAT = 451


@dataclass
class Loaded:
    """Tensors, and whatever must live as long."""

    tensors: Mapping[str, Any]
    keeps: object = None


Load = Callable[[str], Loaded]


def best_framework() -> str:
    """torch where it is installed, as the client chooses."""
    return "torch" if importlib.util.find_spec("torch") else "numpy"


def prepare(name: str, framework: str) -> Load:
    """Imports all that a loader needs. ImportError: it is not installed."""
    importlib.import_module(framework)
    if framework == "numpy":
        importlib.import_module("ml_dtypes")
    return LOADERS[name](framework)


def _mapped(framework: str) -> Load:
    load_file = importlib.import_module(f"safetensors.{framework}").load_file
    return lambda path: Loaded(load_file(path))


def _one_by_one(framework: str) -> Load:
    safe_open = importlib.import_module("safetensors").safe_open

    def load(path: str) -> Loaded:
        with safe_open(path, framework="pt" if framework == "torch" else "numpy") as file:
            return Loaded({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118

    return load


def _fast(_framework: str) -> Load:
    fastsafe_open = importlib.import_module("fastsafetensors").fastsafe_open

    def load(path: str) -> Loaded:
        # nogds: there is no GPU that a disk could write to; it says so itself, and goes on.
        with fastsafe_open(path, framework="pt", device="cpu", nogds=True) as file:
            return Loaded({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118

    return load


def _streamed(_framework: str) -> Load:
    streamer = importlib.import_module("runai_model_streamer").SafetensorsStreamer

    def load(path: str) -> Loaded:
        with streamer() as stream:
            stream.stream_file(path)
            return Loaded(dict(stream.get_tensors()))

    return load


def _pickled(_framework: str) -> Load:
    torch = importlib.import_module("torch")
    return lambda path: Loaded(torch.load(path, map_location="cpu", weights_only=True))


LOADERS: dict[str, Callable[[str], Load]] = {
    MAPPED: _mapped,
    ONE_BY_ONE: _one_by_one,
    FAST: _fast,
    STREAMED: _streamed,
    PICKLED: _pickled,
}


def bytes_of(tensor: Any) -> Any:  # noqa: ANN401
    """A tensor's memory as a flat numpy array of bytes, without a copy."""
    numpy = importlib.import_module("numpy")
    if isinstance(tensor, numpy.ndarray):
        return tensor.reshape(-1).view(numpy.uint8)
    torch = importlib.import_module("torch")
    return tensor.reshape(-1).view(torch.uint8).numpy()


def touch(loaded: Loaded) -> int:
    """Reads one byte of every page: what is not in memory by now comes there. How many bytes there are."""
    size = 0
    for tensor in loaded.tensors.values():
        memory = bytes_of(tensor)
        memory[::PAGE].max()
        size += len(memory)
    return size


def read_all(loaded: Loaded) -> int:
    """Reads every byte, eight at a time."""
    numpy = importlib.import_module("numpy")
    total = 0
    for tensor in loaded.tensors.values():
        memory = bytes_of(tensor)
        total ^= int(memory[: len(memory) // 8 * 8].view(numpy.uint64).sum())
    return total


def cached_share(path: str) -> float | None:
    """How much of a file the page cache has; None where the kernel does not tell."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        span, found = (ctypes.c_uint64 * 2)(0, size), (ctypes.c_uint64 * 5)()
        if ctypes.CDLL(None, use_errno=True).syscall(CACHESTAT, file.fileno(), span, found, 0):
            return None
        return int(found[0]) * PAGE / size


def make_cold(path: str) -> None:
    """Takes a file out of the page cache; fails where it stays in it."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    share = cached_share(path)
    if share is not None and share > 0.01:
        raise RuntimeError(f"{share:.0%} of {path} stays in the page cache")


def make_warm(path: str) -> None:
    """Brings a file into the page cache."""
    with open(path, "rb", buffering=0) as file:
        block = bytearray(4 << 20)
        while file.readinto(block):
            pass
    share = cached_share(path)
    if share is not None and share < 0.99:
        raise RuntimeError(f"only {share:.0%} of {path} is in the page cache")


def proportional_bytes() -> int:
    """This process's memory, with what it shares counted in parts."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("smaps_rollup has no Pss")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    begun = time.perf_counter()
    result = call()
    return time.perf_counter() - begun, result
