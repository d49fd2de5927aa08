"""What every step has: where it is, what it tells, and what it starts that ends with it."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import hoist

from machine import Card, libtorch_folders
from processes import Started, clean_environment
from report import Told
from server import Server
from settings import HERE, Settings

# A PyTorch process makes its imports, and its context.
HELLO_SECONDS = 90.0
# What memory may differ by and count as the same: the driver's own granule.
SLACK = 2 << 20
SETTLE_SECONDS = 5.0
# Of what others take and give back, a worker need not tell this much.
NOT_TOLD = 64 << 20


@dataclass(frozen=True)
class Context:
    """Of one step."""

    settings: Settings
    told: Told
    folder: Path

    def card(self) -> Card | None:
        """None: the device is none that NVML counts."""
        return Card(self.settings.card) if self.settings.card else None


class Peer:
    """A PyTorch process (`peer.py`)."""

    def __init__(self, process: Started) -> None:
        self.process = process
        self.facts: dict[str, Any] = {}

    def ask(self, what: str, seconds: float = 60.0, **more: Any) -> dict[str, Any]:  # noqa: ANN401
        self.process.say(json.dumps({"ask": what, **more}))
        answer: dict[str, Any] = json.loads(self.process.line(f"an answer to {what}", seconds))
        if "error" in answer:
            raise RuntimeError(f"{self.process.name}: {what}: {answer['error']}")
        return answer


@contextlib.contextmanager
def peer(at: Context, name: str = "peer") -> Iterator[Peer]:
    """One, with its context made."""
    environment = clean_environment()
    environment["PYTHONPATH"] = ":".join(sys.path)
    environment["LD_LIBRARY_PATH"] = ":".join(
        [*libtorch_folders(), environment.get("LD_LIBRARY_PATH", "")]
    ).rstrip(":")
    words: list[str | Path] = [sys.executable, HERE / "peer.py", at.settings.device]
    process = Started(name, words, at.folder, environment, talks=True)
    try:
        made = Peer(process)
        made.facts = made.ask("hello", HELLO_SECONDS)
        yield made
    finally:
        process.close()


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def seconds(span: timedelta | None) -> float:
    return 0.0 if span is None else span.total_seconds()


def worker_seconds(result: hoist.LoadResult) -> float:
    """How long the worker was at it."""
    return sum(seconds(each.load_time) for each in result.components)


def said(error: hoist.Error) -> str:
    """Its reason and its message, without the operation's name."""
    message = error.message.removeprefix(f"{error.operation}: ") if error.operation else error.message
    return f"{error.reason}: {message}"


def rate(size: int, span: float) -> str:
    """For people, in units of 10^9."""
    return f"{size / span / 1e9:.1f} GB/s" if span > 0 else "at once"


def coordinator_is_clean(at: Context, server: Server) -> None:
    """No step leaves the coordinator with a library of CUDA's."""
    found = server.cuda_in_coordinator()
    at.told.holds(
        "no CUDA library in the coordinator", not found, ", ".join(found) or "none of its maps is one"
    )


def taken(at: Context, server: Server) -> tuple[int, int]:
    """Of a card, by everybody: as NVML counts it, or else as its worker does; and what that may differ by."""
    if (card := at.card()) is not None:
        return card.used(), SLACK
    device = server.device()
    return device.used_bytes + device.others_bytes, NOT_TOLD


class Settled:
    """The device's memory before something, to be compared with what it is after."""

    def __init__(self, at: Context, server: Server) -> None:
        self._card = at.card()
        self._server = server
        self.own = server.device().used_bytes
        self.used = self._card.used() if self._card else 0
        self.process = self._process() if self._card else None

    def _process(self) -> int | None:
        assert self._card is not None
        return self._card.processes().get(self._server.worker_process())

    def same(self) -> tuple[bool, str]:
        """Whether it is as it was; waits a little, as the driver gives back when it likes to."""
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            is_same, figure = self._compared()
            if is_same or time.monotonic() >= end:
                return is_same, figure
            time.sleep(0.05)

    def _compared(self) -> tuple[bool, str]:
        own = self._server.device().used_bytes - self.own
        parts, is_same = [f"replicas {own:+d} B"], own == 0
        if self._card is None:
            return is_same, parts[0]
        used = self._card.used() - self.used
        parts.append(f"device {used / SLACK * 2:+.2f} MiB")
        is_same = is_same and used <= SLACK
        process = self._process()
        if process is None or self.process is None:
            parts.append("process not told by NVML")
        else:
            parts.append(f"process {(process - self.process) / SLACK * 2:+.2f} MiB")
            is_same = is_same and process - self.process <= SLACK
        return is_same, ", ".join(parts)
