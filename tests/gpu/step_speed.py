"""How fast: warm, beside a pinned copy of one buffer and other loaders of the file; cold, beside the disk.

The sides take turns within each round: a machine differs more from minute to minute than they do.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import machine
from processes import Ended
from server import Server, WorkerOptions, cannot_register, copy_methods, serving
from settings import shown
from steps import (
    Context,
    Peer,
    coordinator_is_clean,
    loaded_bytes,
    peer,
    rate,
    seconds,
    timed,
    worker_seconds,
)

ROUNDS = 5
COLD_ROUNDS = 4
# No further round is begun after so long.
COLD_SECONDS = 50.0
# Below, what does not depend on the size is too large a part of it.
JUDGED_BYTES = 10**9
PINNED_TARGET = 0.9
SAFETENSORS_TARGET = 4.0
COLD_TARGET = 1.1
# What may stay in the page cache of a file that counts as cold.
COLD_SHARE = 0.01
# What must be there of one that counts as warm.
WARM_SHARE = 0.99


@dataclass
class Rounds:
    """Seconds of each side, round by round. The first load is apart: it may have had more to do."""

    first: float = 0.0
    ours: list[float] = field(default_factory=list)
    called: list[float] = field(default_factory=list)
    unloads: list[float] = field(default_factory=list)
    pinned: list[float] = field(default_factory=list)
    pinned_wall: list[float] = field(default_factory=list)
    safetensors: list[float] = field(default_factory=list)
    fast: list[float] = field(default_factory=list)


def load_and_unload(server: Server, path: Path, rounds: Rounds, is_first: bool = False) -> int:
    """Once; the bytes that it took."""
    called, result = timed(lambda: server.client.load(path, server.device_id))
    unloaded, gone = timed(lambda: server.client.unload(path))
    if gone.retained_bytes or any(each.resident for each in result.components):
        raise RuntimeError(f"{path.name}: {gone.retained_bytes} bytes are retained; {result.components}")
    if is_first:
        rounds.first = worker_seconds(result)
    else:
        rounds.ours.append(worker_seconds(result))
        rounds.called.append(called)
        rounds.unloads.append(unloaded)
    return loaded_bytes(result)


def measure(
    at: Context, server: Server, other: Peer, model: str, size: int, is_fast_there: bool, with_others: bool
) -> Rounds:
    path, rounds = at.settings.path(model), Rounds()
    server.client.cache(path)
    load_and_unload(server, path, rounds, is_first=True)
    for _ in range(2 if at.settings.quick else ROUNDS):
        load_and_unload(server, path, rounds)
        if at.settings.is_cuda:
            copy = other.ask("pinned_copy", size=size)
            rounds.pinned.append(copy["events"])
            rounds.pinned_wall.append(copy["wall"])
        if with_others:
            if machine.resident_share(path) < WARM_SHARE:
                machine.make_warm(path)
            rounds.safetensors.append(other.ask("load_file", path=str(path))["wall"])
            if is_fast_there:
                rounds.fast.append(other.ask("fast", path=str(path))["wall"])
    return rounds


def bare(size: int, span: float) -> str:
    """A rate where the unit is clear."""
    return rate(size, span).removesuffix(" GB/s")


def tell(at: Context, name: str, size: int, rounds: Rounds, is_judged: bool) -> None:
    """Rows of one size and one way of copying."""
    ours = statistics.median(rounds.ours)
    spread = f"{bare(size, max(rounds.ours))} to {bare(size, min(rounds.ours))}"
    called = statistics.median(rounds.called)
    figure = f"{rate(size, ours)} ({spread}; first {bare(size, rounds.first)}; caller {bare(size, called)})"
    numbers = {**vars(rounds), "bytes": size}
    if not rounds.pinned:
        at.told.fact(name, figure, **numbers)
    else:
        part = statistics.median(one / mine for one, mine in zip(rounds.pinned, rounds.ours, strict=True))
        pinned = statistics.median(rounds.pinned)
        figure = f"{part:.2f} of {bare(size, pinned)} pinned: {figure}"
        if is_judged and size >= JUDGED_BYTES:
            at.told.reaches(
                name, part >= PINNED_TARGET, figure, f">= {PINNED_TARGET} of pinned", part=part, **numbers
            )
        else:
            at.told.fact(name, figure, part=part, **numbers)
    for who, theirs in (("safetensors", rounds.safetensors), ("fastsafetensors", rounds.fast)):
        if theirs:
            times = statistics.median(one / mine for one, mine in zip(theirs, rounds.called, strict=True))
            tell_peer(
                at, f"{name} beside {who}", size, statistics.median(theirs), times, who == "safetensors"
            )


def tell_peer(at: Context, name: str, size: int, theirs: float, times: float, is_judged: bool) -> None:
    figure = f"{times:.1f} times, by the caller's clock; theirs {rate(size, theirs)}"
    if is_judged and at.settings.is_cuda and size >= JUDGED_BYTES:
        at.told.reaches(
            name, times >= SAFETENSORS_TARGET, figure, f">= {SAFETENSORS_TARGET:.0f} times", times=times
        )
    else:
        at.told.fact(name, figure, times=times)


def fastest(at: Context, by_method: dict[str, dict[int, float]]) -> None:
    """Ring against registration, by size."""
    pairs = [name for name in ("ring", "registered") if name in by_method]
    if len(pairs) < 2:
        return
    parts = []
    for size in by_method[pairs[0]]:
        rates = {name: size / max(by_method[name][size], 1e-9) for name in pairs}
        best = max(pairs, key=lambda name: rates[name])
        worst = min(rates.values())
        parts.append(f"{shown(size)} {best} x{rates[best] / worst:.2f}")
    at.told.fact("ring or registered", "; ".join(parts), seconds=by_method)


def speed(at: Context) -> None:
    methods = copy_methods(at.settings)
    if not methods:
        at.told.untested("ring against registered", "this worker has no --copy")
    by_method: dict[str, dict[int, float]] = {}
    with serving(at.settings, at.folder) as server, peer(at) as other:
        is_fast_there = machine.versions()["fastsafetensors"] != "not installed"
        if not is_fast_there:
            at.told.untested("beside fastsafetensors", "it is not installed")
        if at.settings.is_cuda:
            told = other.ask("pin", size=at.settings.size)
            at.told.fact(
                "pinning one buffer",
                f"{shown(at.settings.size)} in {told['seconds']:.2f} s",
                seconds=told["seconds"],
            )
        else:
            at.told.untested("beside a pinned copy", f"{at.settings.device} is no card")
        for method in methods or [""]:
            try:
                by_method[method] = by(at, server, other, method, is_fast_there)
            except Ended as ended:
                if not cannot_register(method, ended):
                    raise
                at.told.untested("registered", str(ended))
        fastest(at, by_method)
        coordinator_is_clean(at, server)


def by(at: Context, server: Server, other: Peer, method: str, is_fast_there: bool) -> dict[int, float]:
    """Loads of all sizes, with a worker that copies in one way; the medians, in seconds."""
    at.told.doing(f"a worker with --copy {method}" if method else "a worker")
    worker = server.start_worker("-".join(filter(None, ["worker", method])), WorkerOptions(copy=method))
    server.until_open(worker)
    medians, is_judged = {}, method in ("", "auto")
    for model, size in at.settings.series.items():
        name = " ".join(filter(None, [method, shown(size)]))
        at.told.doing(f"warm loads, {name}")
        rounds = measure(at, server, other, model, size, is_fast_there, is_judged)
        medians[size] = statistics.median(rounds.ours)
        tell(at, name, size, rounds, is_judged)
    worker.stop()
    server.state.until("the worker's end", lambda state: not state.is_open(at.settings.device))
    return medians


def cold(at: Context) -> None:
    pair = [at.settings.path("series-d"), at.settings.path("equal")]
    size, device = pair[0].stat().st_size, at.settings.device
    if machine.is_tmpfs(pair[0]):
        at.told.untested("cold loads", f"{pair[0].parent} is on tmpfs: name a folder on a disk (--work)")
        return
    caches: list[float] = []
    loads: list[float] = []
    with serving(at.settings, at.folder, WorkerOptions()) as server:
        server.until_open()
        # The device and its libraries are warm: only the file is cold.
        server.client.load(at.settings.path("mid-00"), device)
        server.client.unload(at.settings.path("mid-00"))
        began = time.monotonic()
        for number in range(2 if at.settings.quick else COLD_ROUNDS):
            if time.monotonic() - began > COLD_SECONDS:
                at.told.untested(
                    f"cold rounds after the first {number}", "the disk is slow, and there is no time for more"
                )
                break
            # Each file is cached as often as it is loaded, and each way comes first as often: whatever keeps
            # files outside of this machine keeps both.
            order = ["cache", "load"] if number % 2 == 0 else ["load", "cache"]
            for what, path in zip(order, pair if number % 4 < 2 else pair[::-1], strict=True):
                at.told.doing(f"{what} of {path.name}, cold")
                share = machine.make_cold(path)
                if share > COLD_SHARE:
                    at.told.holds("cold", False, f"{share:.0%} of {path.name} stays in the page cache", "0 %")
                    return
                one(server, what, path, size, caches, loads)
    ratio = sum(loads) / sum(caches)
    rates = [rate(size, sum(each) / len(each)) for each in (loads, caches)]
    figure = f"{ratio - 1:+.1%}: load {rates[0]}, cache alone {rates[1]}"
    numbers = {"loads": loads, "caches": caches, "bytes": size}
    name = f"cold, {shown(size)}"
    if at.settings.is_cuda:
        at.told.reaches(name, ratio <= COLD_TARGET, figure, f"<= disk + {COLD_TARGET - 1:.0%}", **numbers)
    else:
        at.told.fact(name, figure, **numbers)


def one(server: Server, what: str, path: Path, size: int, caches: list[float], loads: list[float]) -> None:
    """Reads a cold file, one way or the other, and leaves nothing of it in RAM."""
    client = server.client
    if what == "cache":
        _, result = timed(lambda: client.cache(path))
        caches.append(seconds(result.took))
        read = result.read_bytes
    else:
        took, loaded = timed(lambda: client.load(path, server.device_id))
        loads.append(seconds(loaded.took) or took)
        read = loaded.read_bytes
        client.unload(path)
    if read < 0.99 * size:
        raise RuntimeError(f"{path.name}: {read} bytes were read of {size}: it was not cold")
    client.evict(path)
