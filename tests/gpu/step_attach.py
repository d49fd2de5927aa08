"""A second process that has the memory of a model on the device: at once, bit for bit, and no more of it."""

from __future__ import annotations

import time

import hoist

from processes import Late, until
from server import Followed, Server, WorkerOptions, serving
from settings import shown
from steps import SLACK, Context, Peer, Settled, coordinator_is_clean, peer, said

ROUNDS = 5
TARGET_SECONDS = 0.020
COMPARED_SECONDS = 60.0
# From the end of a process to the end of its lease.
GONE_SECONDS = 10.0
# A worker looks at its device twice a second.
TOLD_SECONDS = 3.0


def attach(at: Context) -> None:
    if not at.settings.is_cuda:
        at.told.untested(
            "attach on a card", f"on {at.settings.device} it is the same as open, which is tried here"
        )
    large, kinds = at.settings.path("large"), at.settings.path("kinds")
    with serving(at.settings, at.folder, WorkerOptions()) as server, peer(at) as other:
        server.until_open()
        # What first loads leave behind stays for good, as does code of torch's that compares.
        server.client.load(kinds, at.settings.device)
        other.ask("attach_and_compare", COMPARED_SECONDS, endpoint=server.endpoint, name=str(kinds))
        server.client.unload(kinds)
        before = Settled(at, server)
        for path in (large, kinds):
            server.client.load(path, at.settings.device)
        time_it(at, server, other)
        for path, what in ((large, "the large model"), (kinds, "every type, every odd shape")):
            compare(at, server, other, str(path), what)
        with peer(at, "holder") as holder:
            lent(at, server, holder)
            end_of_a_holder(at, server, holder)
        at.told.doing("unloading what was attached")
        gone = [server.client.unload(path) for path in (large, kinds)]
        figure = f"{sum(each.retained_bytes for each in gone)} B retained"
        is_same, more = before.same()
        at.told.holds(
            "all of it is given back",
            is_same and all(not each.retained_bytes for each in gone),
            f"{figure}, {more}",
        )
        coordinator_is_clean(at, server)


def time_it(at: Context, server: Server, other: Peer) -> None:
    at.told.doing("attach, timed")
    path = str(at.settings.path("large"))
    took = other.ask("attach", endpoint=server.endpoint, name=path, rounds=ROUNDS)
    first, median, made = (f"{took[name] * 1_000:.1f} ms" for name in ("first", "median", "made"))
    figure = f"{median}, median of {ROUNDS}; with its tensors {made}; first {first}"
    name = f"attach of {shown(at.settings.size)}"
    if at.settings.is_cuda:
        target = f"<= {TARGET_SECONDS * 1_000:.0f} ms"
        at.told.reaches(name, took["median"] <= TARGET_SECONDS, figure, target, **took)
    else:
        at.told.fact(name, figure, **took)


def compare(at: Context, server: Server, other: Peer, path: str, what: str) -> None:
    at.told.doing(f"{what}, attached and compared")
    told = other.ask("attach_and_compare", COMPARED_SECONDS, endpoint=server.endpoint, name=path)
    wrong = f"{told['wrong']} differ" if told["wrong"] else f"{told['tensors']} tensors are the same"
    at.told.holds(f"bits of {what}", not told["wrong"], wrong, "0 wrong")
    if at.settings.is_cuda:
        at.told.holds(
            f"what it takes more, {what}", told["taken"] <= SLACK, f"{told['taken']} B", "0 of weights"
        )


def end_of_a_holder(at: Context, server: Server, holder: Peer) -> None:
    """A process that is killed while it has a model attached."""
    path = at.settings.path("large")
    at.told.doing("a process that holds what is attached")
    holder.ask("attach_and_keep", endpoint=server.endpoint, name=str(path))
    leases = len(server.client.leases())
    refused = None
    if at.settings.is_cuda:
        try:
            server.client.unload(path)
        except hoist.Error as error:
            refused = error
        figure = "it was unloaded" if refused is None else said(refused)
        at.told.holds(
            "what is attached stays", refused is not None and refused.reason == "IN_USE", figure, "IN_USE"
        )
    holder.process.kill()
    at.told.doing("the lease of a process that was killed")
    until("its lease's end", GONE_SECONDS, lambda: not server.client.leases())
    at.told.holds("a holder that is killed", leases == 1, f"{leases} lease before, none after", "none")


# ---- what is gone, and still in another process -----------------------------------------------------------


def is_lent(server: Server, size: int, processes: int) -> tuple[bool, str]:
    """Whether it is told within seconds that others have so much of what is gone."""

    def holds(state: Followed) -> bool:
        device = state.device(server.device_id)
        return device is not None and (device.lent_bytes, device.lent_processes) == (size, processes)

    is_so, began = True, time.monotonic()
    try:
        server.state.until("what is lent", holds, TOLD_SECONDS)
    except Late:
        is_so = False
    took, device = time.monotonic() - began, server.device()
    return is_so, f"{shown(device.lent_bytes)} in {device.lent_processes} processes, after {took:.2f} s"


def lent(at: Context, server: Server, holder: Peer) -> None:
    """A model that is unloaded by force while a process has its memory, which then lets go of it."""
    result, client = "unloaded by force", server.client
    if not at.settings.is_cuda:
        at.told.untested(result, f"on {at.settings.device} what is attached is in RAM")
        return
    path = str(at.settings.path("series-c"))
    at.told.doing("a process that has what is unloaded by force")
    # What a first time leaves in the process stays there.
    holder.ask("attach_and_compare", COMPARED_SECONDS, endpoint=server.endpoint, name=path)
    client.unload(path)
    before, worker = Settled(at, server), server.device().worker
    size = sum(each.own_bytes for each in client.load(path, at.settings.device).components)
    holder.ask("attach_and_keep", endpoint=server.endpoint, name=path)
    gone = client.unload(path, force=True)
    is_told, figure = is_lent(server, size, 1)
    figure += f"; at the unload {shown(gone.returned_bytes)} of {shown(gone.expected_bytes)} came back"
    at.told.holds(f"{result}, and lent", is_told and size > 0, figure, f"{shown(size)} in 1")
    told = holder.ask("hear", COMPARED_SECONDS, name=path)
    wrong = f"{told['wrong']} differ" if told["wrong"] else f"{told['tensors']} tensors are the same"
    has_heard = told["hung_up"] and not told["held"]
    figure = f"{'it has' if has_heard else 'it has not'} heard of it; {wrong}"
    at.told.holds(f"{result}: who has it", has_heard and not told["wrong"], figure, "heard, 0 wrong")
    at.told.doing("a process lets go of what is gone")
    took = holder.ask("detach")["seconds"]
    is_told, figure = is_lent(server, 0, 0)
    at.told.holds(f"{result}, and let go of", is_told, f"{figure}; it took {took * 1_000:.0f} ms", "0 in 0")
    is_same, figure = before.same()
    is_same = is_same and server.device().worker.incarnation == worker.incarnation
    at.told.holds(f"{result}: all of it is back", is_same, figure, "as before, same worker")
