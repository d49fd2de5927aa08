"""What the machine is and has: libtorch, the card as NVML counts it, and which pages of a file are in memory.

Nothing here makes a CUDA context: that would take memory of the device that is measured.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import mmap
import os
import platform
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")
TMPFS_MAGIC = 0x01021994
_CHUNK = 16 << 20


class Missing(Exception):
    """What is needed is not there; the text says what."""


# ---- libtorch ---------------------------------------------------------------------------------------------


def libtorch_folders() -> list[str]:
    """Where both halves of libtorch are, and what they need: torch's own folder first."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        raise Missing("PyTorch is not installed for this Python")
    torch = Path(found.origin).parent
    folders = [torch / "lib", *sorted(torch.parent.glob("nvidia/*/lib"))]
    if not (folders[0] / "libtorch_cpu.so").exists():
        raise Missing(f"{folders[0]} has no libtorch_cpu.so")
    return [str(folder) for folder in folders]


# ---- the card ---------------------------------------------------------------------------------------------


class _Memory(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_uint),
        ("total", ctypes.c_ulonglong),
        ("reserved", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class _Process(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


_MANY = 512
# What NVML gives for a number that it cannot tell.
_UNKNOWN = (1 << 64) - 1


class Card:
    """A device as NVML sees it: all processes' memory, by the driver's own count."""

    def __init__(self, uuid: str) -> None:
        try:
            self._nvml = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError as error:
            raise Missing(f"NVML cannot be opened: {error}") from None
        self._call("nvmlInit_v2")
        self._device = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByUUID", uuid.encode(), ctypes.byref(self._device))

    def _call(self, name: str, *arguments: Any) -> None:  # noqa: ANN401
        if code := getattr(self._nvml, name)(*arguments):
            self._nvml.nvmlErrorString.restype = ctypes.c_char_p
            raise Missing(f"{name}: {self._nvml.nvmlErrorString(code).decode()}")

    def memory(self) -> tuple[int, int]:
        """Used, by anybody, and free."""
        memory = _Memory(version=ctypes.sizeof(_Memory) | 2 << 24)
        self._call("nvmlDeviceGetMemoryInfo_v2", self._device, ctypes.byref(memory))
        return memory.used, memory.free

    def used(self) -> int:
        return self.memory()[0]

    def processes(self) -> dict[int, int | None]:
        """What each process that computes has; None where the driver does not tell."""
        count, found = ctypes.c_uint(_MANY), (_Process * _MANY)()
        name = "nvmlDeviceGetComputeRunningProcesses_v3"
        self._call(name, self._device, ctypes.byref(count), found)
        return {each.pid: None if each.used == _UNKNOWN else each.used for each in found[: count.value]}

    def driver(self) -> str:
        text = ctypes.create_string_buffer(96)
        self._call("nvmlSystemGetDriverVersion", text, ctypes.c_uint(96))
        return text.value.decode()


# ---- pages ------------------------------------------------------------------------------------------------


def resident_share(path: Path) -> float:
    """How much of a file is in the page cache, asked of the kernel page by page."""
    import numpy

    size = path.stat().st_size
    if size == 0:
        return 0.0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        pages = (ctypes.c_ubyte * ((size + PAGE - 1) // PAGE))()
        memory = numpy.frombuffer(mapped, numpy.uint8)
        address, libc = ctypes.c_void_p(memory.ctypes.data), ctypes.CDLL(None, use_errno=True)
        failed = libc.mincore(address, ctypes.c_size_t(size), pages)
        del memory
        if failed:
            raise OSError(ctypes.get_errno(), "mincore")
        return float((numpy.ctypeslib.as_array(pages) & 1).mean())


def make_cold(path: Path) -> float:
    """Takes a file out of the page cache; how much of it stays there."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return resident_share(path)


def make_warm(path: Path) -> float:
    """Brings a file into the page cache; how much of it is there."""
    with path.open("rb", buffering=0) as file:
        block = bytearray(_CHUNK)
        while file.readinto(block):
            pass
    return resident_share(path)


# ---- the rest ---------------------------------------------------------------------------------------------


class _Filesystem(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_long), ("rest", ctypes.c_long * 32)]


def is_tmpfs(path: Path) -> bool:
    told = _Filesystem()
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.statfs(os.fsencode(path), ctypes.byref(told)) == 0 and told.kind == TMPFS_MAGIC)


def free_bytes(path: Path) -> int:
    told = os.statvfs(path)
    return told.f_bavail * told.f_frsize


def cpu() -> str:
    text = Path("/proc/cpuinfo").read_text()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("torch", "numpy", "safetensors", "fastsafetensors", "grpcio", "protobuf"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def mapped_files(process: int) -> set[str]:
    """Names of the files that a process has mapped."""
    lines = Path(f"/proc/{process}/maps").read_text().splitlines()
    return {parts[5] for line in lines if len(parts := line.split(None, 5)) == 6 and parts[5].startswith("/")}
