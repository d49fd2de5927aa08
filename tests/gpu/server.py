"""A real coordinator and its worker, in directories of their own; and what of its state a step waits for."""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import hoist

from machine import libtorch_folders, mapped_files
from processes import LOOK_SECONDS, Ended, Late, Started, clean_environment
from settings import Settings

T = TypeVar("T")

# Far above what a sound machine takes.
READY_SECONDS = 20.0
OPEN_SECONDS = 60.0
CALL_SECONDS = 60.0
# None of them may ever be mapped by the coordinator.
OF_CUDA = ("libcuda", "libcudart", "libtorch", "libc10", "libnvidia", "libcupti", "libcublas")
# What a worker's `--copy` takes; the first is what it does unasked.
COPY_METHODS = AUTO, RING, REGISTERED = "auto", "ring", "registered"
# With what a worker ends whose device cannot go on; and one that keeps memory of it that is no replica's.
POISONED, RENEWED = 70, 75


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker is started."""

    capacity: int = 0
    """Bytes; 0: all that the device has."""
    copy: str = ""
    """`--copy`. Empty: none is said."""
    preload: str = ""
    """A library that is loaded into it before all others."""


def added_environment(settings: Settings, options: WorkerOptions) -> dict[str, str]:
    """What a worker needs more than others: both halves of libtorch from the installed PyTorch."""
    folders = [*libtorch_folders(), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    added = {"LD_LIBRARY_PATH": ":".join(folders)}
    return added | (
        {"LD_PRELOAD": options.preload, "FAULT_DEVICE": str(settings.ordinal)} if options.preload else {}
    )


def worker_environment(settings: Settings, options: WorkerOptions) -> dict[str, str]:
    return clean_environment() | added_environment(settings, options)


def worker_words(settings: Settings, options: WorkerOptions) -> list[str]:
    """The program, and what is said to it beside its device and its coordinator."""
    return [str(settings.binary("hoist-worker")), *(["--copy", options.copy] if options.copy else [])]


def worker_device(settings: Settings, options: WorkerOptions) -> str:
    return f"{settings.device}={options.capacity}" if options.capacity else settings.device


def registers(settings: Settings, method: str) -> bool:
    """Whether a worker that copies so registers pages: it does for a card."""
    return settings.is_cuda and method == REGISTERED


def cannot_register(method: str, ended: Ended) -> bool:
    """Whether a worker has ended because its card, or its driver, can only do with the ring."""
    return method == REGISTERED and "cannot register" in str(ended)


class Followed:
    """Devices, replicas and segments as they are told of, now and before: what was short is not missed."""

    def __init__(self, client: hoist.Client) -> None:
        self._changed = threading.Condition()
        self._watch = client.watch(kinds=["DEVICE", "REPLICA", "SEGMENT"])
        self.now: dict[str, Any] = {}
        self.past: list[tuple[float, Any]] = []
        self._over = ""
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            for event in self._watch:
                with self._changed:
                    self._take(event)
                    self._changed.notify_all()
        except hoist.Error as error:
            self._over = str(error)
        with self._changed:
            self._over = self._over or "it was closed"
            self._changed.notify_all()

    def _take(self, event: hoist.Event) -> None:
        match event:
            case hoist.Snapshot(resources=resources):
                self.now = {name: resource.value for name, resource in resources.items()}
                self.past += [(time.monotonic(), value) for value in self.now.values()]
            case hoist.Changed(resource=resource):
                self.now[resource.name] = resource.value
                self.past.append((time.monotonic(), resource.value))
            case hoist.Removed(name=name):
                self.now.pop(name, None)

    def until(
        self,
        what: str,
        holds: Callable[[Followed], T],
        seconds: float = OPEN_SECONDS,
        process: Started | None = None,
    ) -> T:
        """What `holds` says once that is true; not without the process that it takes, if there is one."""
        end = time.monotonic() + seconds
        with self._changed:
            while not (found := holds(self)):
                left = end - time.monotonic()
                if self._over or left <= 0:
                    why = self._over or f"not within {seconds:.0f} s"
                    raise Late(f"{what}: {why}; {self}")
                if process is not None:
                    process.must_run(what)
                self._changed.wait(min(left, LOOK_SECONDS))
            return found

    def __str__(self) -> str:
        devices = [value for value in self.now.values() if isinstance(value, hoist.Device)]
        told = [
            f"{each.device_id} {each.state}, its worker {each.worker.state} {each.worker.problem}".strip()
            for each in devices
        ]
        return ", ".join([*told, f"replicas {[str(each.state) for each in self.replicas()]}"])

    def device(self, device_id: str) -> hoist.Device | None:
        return self.now.get(f"devices/{device_id}")

    def replicas(self) -> list[hoist.Replica]:
        return [value for value in self.now.values() if isinstance(value, hoist.Replica)]

    def segments(self) -> list[hoist.Segment]:
        return [value for value in self.now.values() if isinstance(value, hoist.Segment)]

    def mark(self) -> int:
        """A place in the past, between what has been told and what will be."""
        with self._changed:
            return len(self.past)

    def is_open(self, device_id: str) -> bool:
        device = self.device(device_id)
        return device is not None and device.state == "OPEN" and device.worker.state == "ACTIVE"

    def close(self) -> None:
        self._watch.close()


class Server:
    """`hoist serve`, connected, with its first look over; and a worker that it starts, if it is told how."""

    def __init__(self, settings: Settings, folder: Path, supervised: WorkerOptions | None) -> None:
        self.settings = settings
        self.folder = folder
        self.device_id = settings.device
        runtime = tempfile.mkdtemp(prefix="r-", dir=settings.memory)
        words: list[str | Path] = [
            settings.binary("hoist"),
            "serve",
            "--runtime-dir",
            runtime,
            "--models",
            settings.models,
        ]
        words += ["--state-dir", folder / "state"]
        environment = clean_environment() | {
            # Nothing is read that is not asked for.
            "HOIST_CATALOG_DIGEST": "false",
            "HOIST_WORKERS_ALONE_LIMIT": "5s",
            "HOIST_WORKERS_RESTART_DELAY": "200ms",
        }
        if supervised is None:
            words.append("--no-workers")
        else:
            words += ["--worker", worker_device(settings, supervised)]
            environment["HOIST_WORKERS_BINARY"] = str(self._wrapper(supervised))
        self.process = Started("server", words, folder, environment, talks=True)
        line = self.process.line("its ready line", READY_SECONDS)
        self.endpoint = "unix://" + line.removeprefix("ready socket=").split(" listen=")[0]
        self.client = hoist.connect(self.endpoint, timeout=CALL_SECONDS)
        self.state = Followed(self.client)
        self.client.scan()

    def _wrapper(self, options: WorkerOptions) -> Path:
        """What the server starts in place of the worker: says what the server does not, and becomes it."""
        added = added_environment(self.settings, options)
        lines = ["#!/bin/sh", *(f"export {name}={shlex.quote(value)}" for name, value in added.items())]
        first, *more = map(shlex.quote, worker_words(self.settings, options))
        lines.append(" ".join(["exec", first, '"$@"', *more]))
        path = self.folder / "worker.sh"
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o755)
        return path

    def start_worker(self, name: str, options: WorkerOptions) -> Started:
        """One that comes by itself."""
        words = [*worker_words(self.settings, options), "--device", worker_device(self.settings, options)]
        words += ["--coordinator", self.endpoint, "--alone-limit", "5"]
        return Started(name, words, self.folder, worker_environment(self.settings, options))

    def until_open(self, worker: Started | None = None) -> hoist.Device:
        """The device, once its worker has told what it has; `worker`, where it came by itself."""

        def opened(state: Followed) -> hoist.Device | None:
            device = state.device(self.device_id)
            if device is not None and device.worker.state == "QUARANTINED":
                raise RuntimeError(f"the worker of {self.device_id} is given up: {device.worker.problem}")
            return device if state.is_open(self.device_id) else None

        what = f"{self.device_id} open"
        return self.state.until(what, opened, process=worker)  # type: ignore[return-value]

    def device(self) -> hoist.Device:
        return self.client.device(self.device_id)

    def worker_process(self) -> int:
        process = self.device().worker.process_id
        if process is None:
            raise RuntimeError(f"{self.device_id} has no worker: {self.device().worker.problem}")
        return process

    def cuda_in_coordinator(self) -> list[str]:
        """Libraries that it must never have mapped."""
        files = mapped_files(self.process.pid)
        return sorted(file for file in files if Path(file).name.startswith(OF_CUDA))

    def close(self) -> None:
        with contextlib.suppress(hoist.Error):
            self.state.close()
            self.client.close()
        if self.process.ended(0) is None:
            self.process.stop()
        self.process.close()


@contextlib.contextmanager
def serving(settings: Settings, folder: Path, supervised: WorkerOptions | None = None) -> Iterator[Server]:
    """A server, for as long as a step needs it."""
    server = Server(settings, folder, supervised)
    try:
        yield server
    finally:
        server.close()
