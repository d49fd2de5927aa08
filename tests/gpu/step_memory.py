"""What a device gives back, and what it answers when it has not enough."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hoist

import models
from played import Played, Wanted, playing, wire
from processes import Late
from server import Followed, Server, WorkerOptions, serving
from settings import MIB, shown
from steps import NOT_TOLD, SLACK, Context, Peer, Settled, coordinator_is_clean, peer, said, timed

CYCLES = 200
QUICK_CYCLES = 20
# Loads that the worker is told to and cannot do, one after the other.
FAILURES, QUICK_FAILURES = 50, 5
# Others' use of the device is to be seen within this.
SEEN_SECONDS = 5.0


def cycle(server: Server, path: Path) -> str:
    """Loads and unloads; what is wrong with the account. Empty: nothing."""
    result = server.client.load(path, server.device_id)
    gone = server.client.unload(path)
    taken = sum(each.own_bytes + each.mapped_bytes for each in result.components)
    if (gone.expected_bytes, gone.returned_bytes, gone.retained_bytes) == (taken, taken, 0) and taken:
        return ""
    account = (
        f"expected {gone.expected_bytes}, returned {gone.returned_bytes}, retained {gone.retained_bytes}"
    )
    return f"took {taken}, {account}"


def cycles(at: Context) -> None:
    count = QUICK_CYCLES if at.settings.quick else CYCLES
    mids = [at.settings.path(f"mid-{number:02}") for number in range(models.MIDS)]
    with serving(at.settings, at.folder, WorkerOptions()) as server:
        first = server.until_open().worker
        fresh = Settled(at, server)
        server.client.cache(mids[0])
        # What the first load leaves behind stays for good: code of libraries is loaded when it is needed.
        cycle(server, mids[0])
        _, figure = fresh.same()
        at.told.fact("what a first load leaves", figure)
        before, wrong, took = Settled(at, server), [], []
        for number in range(count):
            at.told.doing(f"cycle {number + 1} of {count}")
            span, why = timed(lambda: cycle(server, mids[0]))
            took.append(span)
            wrong += [f"cycle {number + 1}: {why}"] if why else []
        each = f"{statistics.median(took) * 1_000:.1f} ms each"
        text = f"{count - len(wrong)} of {count} returned what they took, {each}"
        at.told.holds(
            f"{count} cycles of {shown(at.settings.mid)}",
            not wrong,
            "; ".join([text, *wrong[:3]]),
            "all",
            seconds=took,
        )
        is_same, figure = before.same()
        at.told.holds("memory after them", is_same, figure, "<= 2 MiB more")
        together(at, server, mids, before)
        last = server.device().worker
        figure = f"renewed {last.restarts} times: {last.problem}" if last.restarts else "it was not renewed"
        at.told.holds("one worker to the end", last.incarnation == first.incarnation, figure, "one process")
        coordinator_is_clean(at, server)


def together(at: Context, server: Server, mids: list[Path], before: Settled) -> None:
    """Twenty models at once, taken off in another order than they came in."""
    at.told.doing(f"{len(mids)} models at once")
    for path in mids:
        server.client.load(path, server.device_id)
    there = server.device().used_bytes
    random.Random(at.settings.seed).shuffle(mids)
    retained = sum(server.client.unload(path).retained_bytes for path in mids)
    is_same, figure = before.same()
    figure = f"{shown(there)} at once; after: {figure}, {retained} B retained"
    at.told.holds(
        f"{len(mids)} models at once, off in another order", is_same and retained == 0, figure, "as before"
    )


# ---- not enough -------------------------------------------------------------------------------------------


def refusal(call: Callable[[], object]) -> hoist.Error | None:
    """How a load was refused. None: it was not."""
    try:
        call()
    except hoist.Error as error:
        return error
    return None


def tell_refusal(at: Context, result: str, error: hoist.Error | None, size: int) -> None:
    """It must say what was needed and what is free."""
    if error is None:
        at.told.holds(result, False, "it was loaded", "VRAM_EXHAUSTED")
        return
    needed, free = (int(error.metadata.get(name, -1)) for name in ("needed_bytes", "free_bytes"))
    is_right = error.reason == "VRAM_EXHAUSTED" and needed >= size > 0 and 0 <= free < needed
    figure = said(error) if is_right else f"need {needed}, free {free}, {said(error)}"
    at.told.holds(result, is_right, figure, "VRAM_EXHAUSTED", metadata=dict(error.metadata))


def small_device(at: Context) -> None:
    """A device that has room for one and a half."""
    one, other = at.settings.path("mid-00"), at.settings.path("mid-01")
    with serving(
        at.settings, at.folder, WorkerOptions(capacity=at.settings.mid * 3 // 2 // MIB * MIB or MIB)
    ) as server:
        server.until_open()
        # A first load of each leaves what stays for good.
        for path in (one, other):
            cycle(server, path)
        server.client.load(one, at.settings.device)
        before, there = Settled(at, server), [each.name for each in server.client.replicas()]
        error = refusal(lambda: server.client.load(other, at.settings.device))
        tell_refusal(at, "a load beyond the device's size", error, models.tensor_bytes(other))
        is_same, figure = before.same()
        same_replicas = [each.name for each in server.client.replicas()] == there
        at.told.holds("it leaves no trace", is_same and same_replicas, figure, "as before")
        server.client.load(other, at.settings.device, force=True)
        loaded = server.client.status(server.client.model(other).name).model
        is_there = loaded is not None and loaded.loaded_on == (at.settings.device,)
        at.told.holds(
            "with force it makes room", is_there, f"on {', '.join(loaded.loaded_on) if loaded else '?'}"
        )


def by_worker(at: Context) -> None:
    """The worker's own answer, where no planner has refused before."""
    at.told.doing("a worker that is asked for too much")
    mid, options = (
        at.settings.path("mid-02"),
        WorkerOptions(capacity=at.settings.mid // 2 // MIB * MIB or MIB),
    )
    with serving(at.settings, at.folder) as server:
        cached = server.client.cache(mid).components
        wanted = [Wanted(one.segment.removeprefix("segments/"), one.path) for one in cached]
        with playing(at.settings, at.folder, "small-worker", options) as played:
            tell_failure(at, "the worker's own answer", played, wanted, models.tensor_bytes(mid))


def tell_failure(at: Context, result: str, played: Played, wanted: list[Wanted], size: int) -> None:
    used = played.memory.used_bytes
    for number in range(QUICK_FAILURES if at.settings.quick else FAILURES):
        at.told.doing(f"{result}, {number + 1}")
        (replica,) = played.want(wanted)
        if replica.state != wire.REPLICA_STATE_FAILED:
            break
    failure: Any = replica.failure
    is_right = (
        replica.state == wire.REPLICA_STATE_FAILED
        and failure.kind == wire.ReplicaFailure.KIND_NO_MEMORY
        and failure.needed_bytes >= size
        and failure.free_bytes < failure.needed_bytes
        and played.memory.used_bytes == used
    )
    kinds = wire.ReplicaFailure.Kind
    state = wire.ReplicaState.Name(replica.state).removeprefix("REPLICA_STATE_")
    figure = f"{number + 1} times {state}, {kinds.Name(failure.kind)}: "
    figure += f"need {shown(failure.needed_bytes)}, free {shown(failure.free_bytes)}"
    if played.memory.used_bytes != used:
        figure += f"; used {used} before and {played.memory.used_bytes} after"
    at.told.holds(result, is_right, figure, "KIND_NO_MEMORY")


def is_seen(at: Context, server: Server, result: str, what: str, holds: Callable[[int], bool]) -> None:
    """That what is free of the device becomes so, by what the server says of it."""

    def holds_now(state: Followed) -> bool:
        device = state.device(at.settings.device)
        return device is not None and holds(device.free_bytes)

    try:
        server.state.until(result, holds_now, SEEN_SECONDS)
        is_so = True
    except Late:
        is_so = False
    at.told.holds(
        result, is_so, f"{what}; {shown(server.device().free_bytes)} are free now", f"<= {SEEN_SECONDS:.0f} s"
    )


def crowded(at: Context, other: Peer) -> None:
    """Another process has most of the card."""
    settings, model = at.settings, at.settings.path("series-c")
    size = models.tensor_bytes(model)
    with serving(settings, at.folder, WorkerOptions()) as server:
        server.until_open()
        cycle(server, model)
        server.client.load(settings.path("mid-00"), settings.device)
        free = server.device().free_bytes
        at.told.doing("another process takes the card")
        held = other.ask("occupy", leave=size // 2)
        what = f"{shown(held['held'])} taken by another process, {shown(free)} were free"
        is_seen(at, server, "others' memory is seen", what, lambda now: now < size)
        after = Settled(at, server)
        error = refusal(lambda: server.client.load(model, settings.device))
        tell_refusal(at, "a load beside a process that has the card", error, size)
        is_same, figure = after.same()
        at.told.holds("it leaves no trace, there too", is_same, figure, "as before")
        other.ask("let_go")
        at.told.doing("the card is free again")
        is_seen(
            at,
            server,
            "that they let go is seen",
            f"{shown(free)} were free",
            lambda now: now >= free - NOT_TOLD,
        )
        error = refusal(lambda: server.client.load(model, settings.device))
        at.told.holds(
            "once they let go, it is loaded", error is None, "loaded" if error is None else said(error)
        )
        coordinator_is_clean(at, server)


def crowded_worker(at: Context, other: Peer) -> None:
    """The driver has no more, and the worker is told to all the same: nobody has looked before."""
    model = at.settings.path("series-c")
    with serving(at.settings, at.folder) as server:
        cached = server.client.cache(model).components
        wanted = [Wanted(one.segment.removeprefix("segments/"), one.path) for one in cached]
        with playing(at.settings, at.folder, "crowded-worker", WorkerOptions()) as played:
            played.has(wanted)
            played.want([])
            at.told.doing("another process takes the card")
            other.ask("occupy", leave=models.tensor_bytes(model) // 2)
            card = at.card()
            used = card.used() if card else 0
            tell_failure(
                at, "the worker's own answer on a full card", played, wanted, models.tensor_bytes(model)
            )
            more = card.used() - used if card else 0
            at.told.holds(
                "it leaves no trace on the card", more <= SLACK, f"device {more / MIB:+.2f} MiB", "<= 2 MiB"
            )
            other.ask("let_go")
            (replica,) = played.want(wanted)
            is_there = replica.state == wire.REPLICA_STATE_ACTIVE
            at.told.holds("and goes on", is_there, "loaded" if is_there else str(replica.failure))


def oom(at: Context) -> None:
    small_device(at)
    by_worker(at)
    if not at.settings.is_cuda:
        at.told.untested("beside a process that has the card", f"{at.settings.device} is no card")
        return
    with peer(at) as other:
        crowded(at, other)
        crowded_worker(at, other)
