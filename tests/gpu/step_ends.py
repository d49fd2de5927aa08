"""Workers that end: killed in the middle of a load, and by an error of the card that stays."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import hoist

from processes import Late, tail, until, wait_for_end
from server import POISONED, RENEWED, Followed, Server, WorkerOptions, serving
from settings import MIB
from steps import SETTLE_SECONDS, Context, coordinator_is_clean, peer, said, taken, worker_seconds

# Of the time that the load takes when nobody disturbs it.
POINTS = (0.0, 0.1, 0.5, 0.9)
QUICK_POINTS = (0.0, 0.5)
TRIES = 4
# A worker that ends sooner counts as failed at its start; five of those, and it is given up.
LIVED_SECONDS = 4.2
# It looks each second, and has a second to end.
NOTICED_SECONDS = 2.5
NEVER_SECONDS = 20.0
OF_ILLEGAL_ADDRESS = re.compile(r"illegal|\b700\b", re.IGNORECASE)


def contents(state: Followed) -> list[tuple[str, str]]:
    """What is on the device and can be used, whatever its names are now."""
    return sorted((each.segment, each.dtype) for each in state.replicas() if each.state == "ACTIVE")


def is_back(server: Server, incarnation: str, there: list[tuple[str, str]]) -> hoist.Device:
    """Another worker, once it has what there was and nothing else."""

    def holds(state: Followed) -> hoist.Device | None:
        device = state.device(server.device_id)
        is_another = device is not None and device.worker.incarnation != incarnation
        is_all = contents(state) == there and len(state.replicas()) == len(there)
        return device if is_another and state.is_open(server.device_id) and is_all else None

    return server.state.until("a successor with everything back", holds)  # type: ignore[return-value]


class Loading:
    """Loads of the large model that take long enough to be disturbed."""

    def __init__(self, at: Context, server: Server) -> None:
        self.server = server
        self.path = at.settings.path("large")
        # What is only mapped is there at once: a conversion takes its time.
        self.dtype = None if at.settings.is_cuda else "F32"
        self.usual = 0.0

    def whole(self) -> float:
        """Undisturbed, and taken off; how long the worker was at it."""
        result = self.server.client.load(self.path, self.server.device_id, dtype=self.dtype)
        self.server.client.unload(self.path)
        return worker_seconds(result)

    def begin(self) -> hoist.Operation[hoist.LoadResult]:
        return self.server.client.load(self.path, self.server.device_id, dtype=self.dtype, wait=False)

    def until_loading(self, segments: set[str]) -> None:
        """Returns as soon as the worker is at it, or has it."""
        is_at_it = ("LOADING", "ACTIVE")
        self.server.state.until(
            "the load's begin",
            lambda state: any(
                each.segment in segments and each.state in is_at_it for each in state.replicas()
            ),
        )


def wait_until(moment: float) -> None:
    """A point of a load's time, which nothing tells of."""
    while (left := moment - time.monotonic()) > 0:
        time.sleep(min(left, 0.0005) if left > 0.002 else 0)


def kill_at(
    server: Server, loading: Loading, segments: set[str], point: float
) -> tuple[int, hoist.Error | None]:
    """Kills the worker there; which process that was, and why the load has failed. None: it was over."""
    process = server.worker_process()
    operation = loading.begin()
    loading.until_loading(segments)
    wait_until(time.monotonic() + point * loading.usual)
    os.kill(process, signal.SIGKILL)
    if operation.wait(60) == "SUCCEEDED":
        # It is faster now than it was.
        loading.usual = min(loading.usual, worker_seconds(operation.result()))
        return process, None
    error = operation.metadata.error
    if error is None:
        raise RuntimeError(f"{operation}: it has ended without a reason")
    return process, error


def kill(at: Context) -> None:
    keeper, name = at.settings.path("mid-00"), f"of {at.settings.device}"
    with serving(at.settings, at.folder, WorkerOptions()) as server:
        server.until_open()
        loading = Loading(at, server)
        cached = server.client.cache(loading.path)
        segments = {each.segment for each in cached.components}
        loading.whole()
        loading.usual = min(loading.whole() for _ in range(3))
        server.client.load(keeper, at.settings.device)
        at.told.fact("a load nobody disturbs", f"{loading.usual * 1_000:.0f} ms", seconds=loading.usual)
        points = QUICK_POINTS if at.settings.quick else POINTS
        unseen = []
        for point in points:
            at.told.doing(f"the worker {name} killed at {point:.0%} of a load")
            if not kill_and_look(at, server, loading, segments, point):
                unseen.append(f"{point:.0%}")
        if unseen and at.settings.is_cuda:
            why = "it did not list them while they lived, as in some containers"
            at.told.untested("dead workers, as NVML lists them", f"killed at {', '.join(unseen)}: {why}")
        again = loading.whole()
        at.told.holds("asked for again, it is loaded", True, f"{again * 1_000:.0f} ms")
        coordinator_is_clean(at, server)


def is_listed(at: Context, process: int) -> bool:
    """Whether NVML tells what this process has of the card."""
    card = at.card()
    return card is not None and process in card.processes()


def kill_and_look(at: Context, server: Server, loading: Loading, segments: set[str], point: float) -> bool:
    """Whether NVML would have told what the worker has."""
    result = f"killed at {point:.0%} of a load"
    # What the device had before each try; it is to have the same again.
    there = server.state.until("what is there", contents)
    for _ in range(TRIES):
        device = server.device()
        wait_until(time.monotonic() + LIVED_SECONDS - since(device))
        before, was_listed = taken(at, server)[0], is_listed(at, server.worker_process())
        process, error = kill_at(server, loading, segments, point)
        if error is not None:
            break
        # It was over before: it comes back with the rest, and goes.
        server.client.unload(loading.path)
        is_back(server, device.worker.incarnation, there)
    else:
        at.told.untested(result, f"the load was over before, {TRIES} times")
        return True
    began = time.monotonic()
    is_lost = error.reason == "WORKER_LOST"
    at.told.holds(result, is_lost, said(error), "WORKER_LOST")
    is_back(server, device.worker.incarnation, there)
    took = time.monotonic() - began
    figure, is_gone = f"all of it is back after {took:.2f} s", True
    if at.settings.is_cuda:
        is_gone, more = memory_is_gone(at, server, before, process if was_listed else None)
        figure += f"; {more}"
    at.told.holds(f"{result}: the successor", is_gone, figure, "everything as before", seconds=took)
    return was_listed


def since(device: hoist.Device) -> float:
    """How long a worker has been in its state, by the clock of the server's machine, which is this one."""
    return time.time() - device.worker.state_time.timestamp()


def memory_is_gone(at: Context, server: Server, before: int, process: int | None) -> tuple[bool, str]:
    """As much of the card is free as before; and the process, if it was listed, has nothing any more."""

    def more() -> tuple[int, int]:
        now, slack = taken(at, server)
        return now - before, slack

    def is_gone() -> bool:
        return (process is None or not is_listed(at, process)) and more()[0] <= more()[1]

    try:
        until("its memory", SETTLE_SECONDS, is_gone)
    except Late:
        listed = process is not None and is_listed(at, process)
        words = f"process {process} is listed still" if listed else "the dead process is not listed"
        return False, f"{words}, device {more()[0] / MIB:+.2f} MiB"
    words = "" if process is None else "the dead process has nothing, "
    return True, f"{words}device {more()[0] / MIB:+.2f} MiB"


# ---- an error that stays ----------------------------------------------------------------------------------


def worker_log(at: Context) -> Path:
    found = sorted((at.folder / "state").rglob(f"worker-{at.settings.device}.log"))
    return found[0] if found else at.folder / "no-worker.log"


def sticky(at: Context) -> None:
    library = at.settings.binary("libfault.so")
    if not library.exists():
        at.told.untested("an error that stays", "the bundle has no libfault.so")
        return
    with serving(at.settings, at.folder, WorkerOptions(preload=str(library))) as server:
        device = server.until_open()
        if not at.settings.is_cuda:
            unheard(at, server)
            return
        loaded = [at.settings.path("mid-00"), at.settings.path("series-c")]
        for path in loaded:
            server.client.load(path, at.settings.device)
        there = server.state.until("what is there", contents)
        with peer(at) as other:
            other.ask("work")
            at.told.doing("a kernel writes to an illegal address")
            began = time.monotonic()
            process = server.worker_process()
            os.kill(process, signal.SIGUSR2)
            took = wait_for_end(process, NEVER_SECONDS)
            if took is None:
                words = tail(worker_log(at), 3)
                at.told.holds(
                    "the worker ends",
                    False,
                    f"not within {NEVER_SECONDS:.0f} s; its log: {words}",
                    f"exit code {POISONED}",
                )
            else:
                at.told.reaches(
                    "the worker ends",
                    took <= NOTICED_SECONDS,
                    f"after {took:.2f} s",
                    f"<= {NOTICED_SECONDS} s",
                    seconds=took,
                )
                at.told.doing("the successor of a worker that has ended")
                tell_successor(at, server, device.worker.incarnation, there, began)
                tell_why(at, server, began)
            told = other.ask("rest")
            is_sound = not told["trouble"] and told["rounds"] > 0
            figure = told["trouble"] or f"{told['rounds']} products meanwhile, all right"
            at.told.holds("a PyTorch process on the same card", is_sound, figure, "no error")
        coordinator_is_clean(at, server)


def tell_successor(
    at: Context, server: Server, incarnation: str, there: list[tuple[str, str]], began: float
) -> None:
    try:
        is_back(server, incarnation, there)
    except Late as error:
        at.told.holds("the successor", False, str(error), "as before")
        return
    back = time.monotonic() - began
    at.told.holds("the successor", True, f"everything is back after {back:.2f} s", "as before", seconds=back)


def tell_why(at: Context, server: Server, began: float) -> None:
    """What the device's problem was said to be at any time since, and with what the process has ended."""
    known = [
        value for moment, value in server.state.past if moment >= began and isinstance(value, hoist.Device)
    ]
    text = " / ".join(dict.fromkeys(device.worker.problem for device in known if device.worker.problem))
    found = re.compile(r"exit status: (\d+)")
    codes = found.findall(text) or found.findall(server.process.log.read_text())
    figure = codes[-1] if codes else "not told"
    figure += ", which says that it was to be renewed" if codes[-1:] == [str(RENEWED)] else ""
    at.told.holds("its exit code", codes[-1:] == [str(POISONED)], figure, str(POISONED))
    is_told = bool(OF_ILLEGAL_ADDRESS.search(text))
    more = "" if is_told else f" (its log: {tail(worker_log(at), 3)})"
    at.told.holds("the device says why", is_told, (text or "nothing") + more, "the error's name")


def unheard(at: Context, server: Server) -> None:
    """Without a card: that the library is loaded, hears, and ends nothing."""
    process = server.worker_process()
    os.kill(process, signal.SIGUSR2)
    until("a word of libfault's", 10, lambda: "fault: " in tail(worker_log(at), 5))
    is_there = server.worker_process() == process and wait_for_end(process, 0) is None
    at.told.holds("libfault hears", is_there, tail(worker_log(at), 1), "and ends nothing")
    at.told.untested("an error that stays", f"{at.settings.device} is no card")
