"""How fast: warm, beside a pinned copy of one buffer and other loaders of the file; cold, beside the disk.

The sides take turns within each round: a machine differs more from minute to minute than they do.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import hoist

import machine
import pages
from processes import Ended, Started
from server import (
    AUTO,
    COPY_METHODS,
    REGISTERED,
    RING,
    Followed,
    Server,
    WorkerOptions,
    cannot_register,
    registers,
    serving,
)
from settings import shown
from steps import (
    Context,
    Peer,
    coordinator_is_clean,
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


def unload(server: Server, path: Path, result: hoist.LoadResult) -> None:
    """What has just been loaded."""
    gone = server.client.unload(path)
    if gone.retained_bytes or any(each.resident for each in result.components):
        raise RuntimeError(f"{path.name}: {gone.retained_bytes} bytes are retained; {result.components}")


def first_load(at: Context, server: Server, worker: Started, model: str, method: str, rounds: Rounds) -> bool:
    """By this worker, apart: it may have more to do. Whether the loads after it are what they are to be."""
    path, is_so = at.settings.path(model), True
    server.client.cache(path)
    result = server.client.load(path, server.device_id)
    if registers(at.settings, method):
        is_so = tell_registering(at, worker, result, at.settings.series[model])
    unload(server, path, result)
    rounds.first = worker_seconds(result)
    return is_so


def tell_registering(at: Context, worker: Started, result: hoist.LoadResult, size: int) -> bool:
    """From the end of a load until loads of it copy from its own pages."""
    digests = {pages.digest(each.segment) for each in result.components}
    name = f"registering, {shown(size)}"
    at.told.doing(name)
    took, why = timed(lambda: pages.not_registered(worker, digests, size))
    if why:
        return at.told.holds(name, False, why, "once it is loaded")
    at.told.fact(
        name, f"{rate(size, took)}: {took * 1_000:.0f} ms after the load's end", seconds=took, bytes=size
    )
    return True


def tell_kept(at: Context, server: Server) -> None:
    """What is registered is open, and stays in RAM until a minute after its last use."""
    gone = server.client.evict(at.settings.path("large"))
    kept = {each.kept_because for each in gone.segments if not each.evicted}
    at.told.fact("eviction of what is registered", "; ".join(sorted(kept)) or "it is not kept")


def load_and_unload(server: Server, path: Path, rounds: Rounds) -> None:
    """Once."""
    called, result = timed(lambda: server.client.load(path, server.device_id))
    unloaded, _ = timed(lambda: unload(server, path, result))
    rounds.ours.append(worker_seconds(result))
    rounds.called.append(called)
    rounds.unloads.append(unloaded)


def measure(
    at: Context,
    server: Server,
    other: Peer,
    model: str,
    rounds: Rounds,
    is_fast_there: bool,
    with_others: bool,
) -> None:
    path, size = at.settings.path(model), at.settings.series[model]
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
    pair = (RING, REGISTERED)
    parts = []
    for size in sorted(set.intersection(*(set(by_method.get(name, {})) for name in pair))):
        rates = {name: size / max(by_method[name][size], 1e-9) for name in pair}
        best = max(pair, key=lambda name: rates[name])
        worst = min(rates.values())
        parts.append(f"{shown(size)} {best} x{rates[best] / worst:.2f}")
    if parts:
        at.told.fact("ring or registered", "; ".join(parts), seconds=by_method)


def fastsafetensors_works(at: Context, other: Peer) -> bool:
    """Whether there is anything to be compared with: it is nobody's fault here if not."""
    why = ""
    if machine.versions()["fastsafetensors"] == "not installed":
        why = "it is not installed"
    else:
        try:
            other.ask("fast", path=str(at.settings.path("mid-00")))
        except RuntimeError as error:
            why = str(error)
    if why:
        at.told.untested("beside fastsafetensors", why)
    return not why


def speed(at: Context) -> None:
    by_method: dict[str, dict[int, float]] = {}
    with serving(at.settings, at.folder) as server, peer(at) as other:
        is_fast_there = fastsafetensors_works(at, other)
        if at.settings.is_cuda:
            told = other.ask("pin", size=at.settings.size)
            at.told.fact(
                "pinning one buffer",
                f"{shown(at.settings.size)} in {told['seconds']:.2f} s",
                seconds=told["seconds"],
            )
        else:
            at.told.untested("beside a pinned copy", f"{at.settings.device} is no card")
        for method in COPY_METHODS:
            try:
                by_method[method] = by(at, server, other, method, is_fast_there)
            except Ended as ended:
                if not cannot_register(method, ended):
                    raise
                at.told.untested(method, str(ended))
        if at.settings.is_cuda:
            fastest(at, by_method)
        else:
            at.told.untested("ring or registered", f"{at.settings.device} is no card: nothing is copied")
        coordinator_is_clean(at, server)


def by(at: Context, server: Server, other: Peer, method: str, is_fast_there: bool) -> dict[int, float]:
    """Loads of all sizes, with a worker that copies in one way; the medians, in seconds."""
    at.told.doing(f"a worker with --copy {method}")
    worker = server.start_worker(f"worker-{method}", WorkerOptions(copy=method))
    server.until_open(worker)
    medians, is_judged = {}, method == AUTO
    for model, size in at.settings.series.items():
        name, rounds = f"{method} {shown(size)}", Rounds()
        at.told.doing(f"warm loads, {name}")
        if not first_load(at, server, worker, model, method, rounds):
            # It would be the ring that is measured, and there is no time to wait for each.
            break
        at.told.doing(f"warm loads, {name}")
        measure(at, server, other, model, rounds, is_fast_there, is_judged)
        medians[size] = statistics.median(rounds.ours)
        tell(at, name, size, rounds, is_judged)
    if registers(at.settings, method) and at.settings.size in medians:
        tell_kept(at, server)
    worker.stop()
    server.state.until("the worker's end", lambda state: not state.is_open(at.settings.device))
    return medians


# ---- cold -------------------------------------------------------------------------------------------------


@dataclass
class Reads:
    """Seconds of each side."""

    caches: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    leads: list[float | None] = field(default_factory=list)
    """Of each load: how long before all was in RAM it was on its way to the device. None: it was not."""


def cold(at: Context) -> None:
    pair = [at.settings.path("series-d"), at.settings.path("equal")]
    size, device = pair[0].stat().st_size, at.settings.device
    if machine.is_tmpfs(pair[0]):
        at.told.untested("cold loads", f"{pair[0].parent} is on tmpfs: name a folder on a disk (--work)")
        return
    reads = Reads()
    with serving(at.settings, at.folder, WorkerOptions()) as server:
        server.until_open()
        # The device and its libraries are warm: only the file is cold.
        server.client.load(at.settings.path("mid-00"), device)
        server.client.unload(at.settings.path("mid-00"))
        began = time.monotonic()
        # Only what is known to be there when it is read is on its way to a device meanwhile.
        for path in pair:
            at.told.doing(f"the content of {path.name}")
            server.client.cache(path)
            forget(server, path)
        for number in range(2 if at.settings.quick else COLD_ROUNDS):
            if number and time.monotonic() - began > COLD_SECONDS:
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
                one(server, what, path, size, reads)
    ratio = sum(reads.loads) / sum(reads.caches)
    rates = [rate(size, sum(each) / len(each)) for each in (reads.loads, reads.caches)]
    figure = f"{ratio - 1:+.1%}: load {rates[0]}, cache alone {rates[1]}"
    numbers = {"loads": reads.loads, "caches": reads.caches, "bytes": size}
    name = f"cold, {shown(size)}"
    if at.settings.is_cuda:
        at.told.reaches(name, ratio <= COLD_TARGET, figure, f"<= disk + {COLD_TARGET - 1:.0%}", **numbers)
    else:
        at.told.fact(name, figure, **numbers)
    tell_overlap(at, size, reads)


def tell_overlap(at: Context, size: int, reads: Reads) -> None:
    """Whether what was read was on its way to the card meanwhile."""
    name = "copied while it is read"
    if not at.settings.is_cuda:
        at.told.untested(name, f"{at.settings.device} is no card: what is read is there already")
        return
    leads = [lead for lead in reads.leads if lead is not None]
    figure = f"in {len(leads)} of {len(reads.leads)} cold loads"
    if leads:
        figure += f", begun {min(leads):.2f} to {max(leads):.2f} s before the last of it was read"
    if size >= JUDGED_BYTES:
        at.told.holds(name, len(leads) == len(reads.leads), figure, "in each", seconds=reads.leads)
    else:
        at.told.fact(name, figure, seconds=reads.leads)


def lead(state: Followed, since: int, result: hoist.LoadResult) -> float | None:
    """How long before it was in RAM each part of a load was on its way to the device. None: some was not."""
    segments = {each.segment for each in result.components}

    def story(state: Followed) -> list[tuple[float, hoist.Replica | hoist.Segment]]:
        """What has been told of them, once it is all that there is."""
        past = [(moment, value) for moment, value in state.past[since:] if named(value) in segments]
        there = {
            value.segment for _, value in past if isinstance(value, hoist.Replica) and value.state == "ACTIVE"
        }
        return past if there == segments else []

    past = state.until("what is told of a load", story)
    leads = []
    for segment in segments:
        mine = [(moment, value) for moment, value in past if named(value) == segment]
        begun = [place for place, (_, value) in enumerate(mine) if is_on_its_way(value)]
        sealed = [place for place, (_, value) in enumerate(mine) if is_complete(value)]
        if not begun or not sealed:
            raise RuntimeError(f"{segment}: told of as {[str(value.state) for _, value in mine]}")
        if begun[0] > sealed[0]:
            return None
        leads.append(mine[sealed[0]][0] - mine[begun[0]][0])
    return min(leads)


def named(value: object) -> str:
    """Which segment it is, or is made from."""
    if isinstance(value, hoist.Segment):
        return value.name
    return value.segment if isinstance(value, hoist.Replica) else ""


def is_on_its_way(value: hoist.Replica | hoist.Segment) -> bool:
    """Or there: what takes no time may not be told of before."""
    return isinstance(value, hoist.Replica) and value.state in ("LOADING", "ACTIVE")


def is_complete(value: hoist.Replica | hoist.Segment) -> bool:
    return isinstance(value, hoist.Segment) and value.state == "SEALED"


def forget(server: Server, path: Path) -> None:
    """Takes a file out of RAM, and returns when nothing of it is there."""
    gone = {each.segment for each in server.client.evict(path).segments}
    server.state.until(
        f"{path.name} out of RAM", lambda state: all(each.name not in gone for each in state.segments())
    )


def one(server: Server, what: str, path: Path, size: int, reads: Reads) -> None:
    """Reads a cold file, one way or the other, and leaves nothing of it in RAM."""
    client = server.client
    if what == "cache":
        _, result = timed(lambda: client.cache(path))
        reads.caches.append(seconds(result.took))
        read = result.read_bytes
    else:
        mark = server.state.mark()
        took, loaded = timed(lambda: client.load(path, server.device_id))
        reads.loads.append(seconds(loaded.took) or took)
        reads.leads.append(lead(server.state, mark, loaded))
        read = loaded.read_bytes
        client.unload(path)
    if read < 0.99 * size:
        raise RuntimeError(f"{path.name}: {read} bytes were read of {size}: it was not cold")
    forget(server, path)
