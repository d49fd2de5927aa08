"""Loading one file of weights with Hoist and with those known for it: cold, warm, in four processes.

    make bench-peers
    python bench/peers.py --hoist target/release/hoist --file /path/big.safetensors --json peers.json

Every load is in a fresh process that has made its imports and nothing else. The sides take turns and change
places from round to round: disks differ more from minute to minute than loaders do. Two times are taken:

returned    the loader's call is over, and gave all tensors
usable      and one byte of every page of every tensor was read. Loaders that copy have all bytes in memory by
            then, those that map have had every page brought in; a pass over all bytes is nobody's part of it

Cold: the file is not in the page cache, which is looked at, nor in RAM with Hoist, whoever's turn it is.
Warm: all of it is in the page cache; for Hoist: it has it in RAM.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import group
import loaders
from loaders import FAST, MAPPED, ONE_BY_ONE, PICKLED, STREAMED, Load, Loaded, timed

OURS, CONNECTED, FROM_CACHE = "hoist", "hoist, connected", "hoist, file in the page cache"
DISK = "fio, the disk alone"
COPYING = (FAST, STREAMED, PICKLED)
PROCESSES = 4
# As many as four copies must leave free, for everybody else on the machine.
SPARE_BYTES = 2 << 30

# From design to table: at most so much of the peer's time.
COLD_TARGETS = {MAPPED: 0.7, FAST: 0.43, STREAMED: 0.28, PICKLED: 0.2}
FROM_CACHE_TARGETS = {FAST: 0.5, STREAMED: 0.5}
ATTACH_TARGETS = {FAST: 1 / 500, STREAMED: 1 / 500, PICKLED: 1 / 500}
MEMORY_TARGET = 0.27
# Of a client that may have less memory than the model takes.
BOUND_BYTES = 2 << 30
FIRST_TARGETS = {MAPPED: 1 / 2.5}
AGAIN_TARGETS = {MAPPED: 1 / 8}


@dataclass(frozen=True)
class Place:
    """What is measured with."""

    file: str
    # The same tensors, for torch.load.
    pickled: str
    endpoint: str

    def path(self, side: str) -> str:
        return self.pickled if side == PICKLED else self.file


# ---- in a process of its own -----------------------------------------------------------------------------


def by_hoist(endpoint: str, connected: bool) -> Load:
    import torch  # noqa: F401

    import hoist

    client = hoist.connect(endpoint)
    if connected:
        client.status()
    else:
        client.close()

    def load(path: str) -> Loaded:
        own = client if connected else hoist.connect(endpoint)
        opened = own.open(path, framework="torch").only()
        return Loaded(opened.state_dict(), (own, opened))

    return load


def child(given: argparse.Namespace) -> None:
    """One load. Says how long it took; with --hold, stays and says what memory it takes when it is asked."""
    side, path = given.child, given.file
    ours = side in (OURS, CONNECTED, FROM_CACHE)
    if given.group:
        group.enter(given.group)
    load = by_hoist(given.endpoint, side == CONNECTED) if ours else loaders.prepare(side, "torch")
    if given.cold:
        loaders.make_cold(path)
    if given.idle:
        loaded = Loaded({})
        returned = touched = 0.0
    else:
        returned, loaded = timed(lambda: load(path))
        touched, size = timed(lambda: loaders.touch(loaded))
        if size < os.path.getsize(path) * 0.99:
            raise RuntimeError(f"{size} bytes of tensors of a file of {os.path.getsize(path)}")
    told = {"returned": returned, "usable": returned + touched}
    if given.group:
        told["again"], _ = timed(lambda: loaders.touch(loaded))
    print(json.dumps(told), flush=True)
    if given.hold:
        sys.stdin.readline()
        print(loaders.proportional_bytes(), flush=True)
        sys.stdin.readline()
    # What it holds goes with it: taking 4 GB apart piece by piece is no part of this.
    os._exit(0)


# ---- around them -----------------------------------------------------------------------------------------


def command(place: Place, side: str, *more: str) -> list[str]:
    words = [sys.executable, __file__, "--child", side, "--file", place.path(side)]
    return [*words, "--endpoint", place.endpoint, *more]


def load_once(place: Place, side: str, *more: str) -> dict[str, float]:
    done = subprocess.run(command(place, side, *more), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{side}: {done.stderr.strip()}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def by_fio(place: Place) -> dict[str, float]:
    loaders.make_cold(place.file)
    words = [
        "fio",
        "--name=read",
        "--rw=read",
        "--readonly",
        "--direct=1",
        "--ioengine=libaio",
        "--iodepth=16",
    ]
    words += ["--bs=4M", "--output-format=json", f"--filename={place.file}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    rate = json.loads(done.stdout)["jobs"][0]["read"]["bw_bytes"]
    took = os.path.getsize(place.file) / rate
    return {"returned": took, "usable": took}


Rounds = dict[str, list[dict[str, float]]]


def take_turns(rounds: int, sides: dict[str, Callable[[], dict[str, float]]]) -> Rounds:
    figures: Rounds = {side: [] for side in sides}
    order = random.Random(rounds)
    names = list(sides)
    for _ in range(rounds):
        # Another order each time, so that nobody always comes after the same one and what that left behind.
        order.shuffle(names)
        for name in names:
            figures[name].append(sides[name]())
            print(f"  {name}: {figures[name][-1]['usable']:.3f} s", file=sys.stderr)
    return figures


def cold(place: Place, peers: list[str], rounds: int, client: Any) -> Rounds:  # noqa: ANN401
    def with_free_memory(load: Callable[[], dict[str, float]]) -> Callable[[], dict[str, float]]:
        # How much of the machine's memory is taken can change how fast a disk is: all begin alike.
        def evicted() -> dict[str, float]:
            client.evict(place.file)
            return load()

        return evicted

    def cold_load(side: str) -> Callable[[], dict[str, float]]:
        return with_free_memory(lambda: load_once(place, side, "--cold"))

    sides = {OURS: cold_load(OURS)}
    if shutil.which("fio"):
        sides[DISK] = with_free_memory(lambda: by_fio(place))
    return take_turns(rounds, sides | {side: cold_load(side) for side in peers})


def warm(place: Place, peers: list[str], rounds: int, client: Any) -> Rounds:  # noqa: ANN401
    def from_cache() -> dict[str, float]:
        client.evict(place.file)
        loaders.make_warm(place.file)
        return load_once(place, FROM_CACHE)

    def resident(side: str) -> Callable[[], dict[str, float]]:
        def load() -> dict[str, float]:
            client.cache(place.file)
            return load_once(place, side)

        return load

    def peer(side: str) -> Callable[[], dict[str, float]]:
        def load() -> dict[str, float]:
            loaders.make_warm(place.path(side))
            return load_once(place, side)

        return load

    sides = {OURS: resident(OURS), CONNECTED: resident(CONNECTED), FROM_CACHE: from_cache}
    return take_turns(rounds, sides | {side: peer(side) for side in peers})


def together(place: Place, side: str, idle: bool) -> int:
    """Bytes that processes hold together which have all loaded the same, or have only made their imports."""
    more = ["--hold", *(["--idle"] if idle else [])]
    with contextlib.ExitStack() as stack:
        held = []
        for _ in range(PROCESSES):
            words = command(place, side, *more)
            pipe = subprocess.PIPE
            process = stack.enter_context(subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True))
            stack.callback(process.kill)
            if not process.stdout.readline():
                raise RuntimeError(f"{side}: a process ended before it had loaded")
            held.append(process)
        total = 0
        for process in held:
            print(file=process.stdin, flush=True)
            total += int(process.stdout.readline())
    return total


def available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no MemAvailable")


def memory(place: Place, peers: list[str], client: Any) -> dict[str, Any]:  # noqa: ANN401
    figures: dict[str, Any] = {}
    client.cache(place.file)
    for side in [OURS, *peers]:
        if side in COPYING:
            client.evict(place.file)
            need = PROCESSES * os.path.getsize(place.path(side)) + SPARE_BYTES
            if available() < need:
                figures[side] = f"not run: needs {need / 1e9:.0f} GB of free memory"
                continue
        figures[side] = {"bytes": together(place, side, False), "imports": together(place, side, True)}
    return figures


def bounded(place: Place, rounds: int, client: Any) -> Rounds | str:  # noqa: ANN401
    """A client with less memory than the model takes: a segment is charged to the server that filled it."""
    if os.path.getsize(place.file) < 1.5 * BOUND_BYTES:
        return "not run: the file is too small to be too large"
    with group.limited(BOUND_BYTES) as inside:
        if inside is None:
            return "not run: no control group can be made here"
        client.cache(place.file)
        within = ("--group", str(inside))
        sides = {
            CONNECTED: lambda: load_once(place, CONNECTED, *within),
            # Cold: pages that somebody else has read are charged to them.
            MAPPED: lambda: load_once(place, MAPPED, "--cold", *within),
        }
        return take_turns(rounds, sides)


# ---- the whole -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def server(binary: str, models: Path, state: Path) -> Iterator[str]:
    """A server with its default configuration, but that it reads nothing unasked."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HOIST_")}
    environment |= {"HOIST_CATALOG_DIGEST": "false"}
    with tempfile.TemporaryDirectory(prefix="hoist-peers-", dir="/dev/shm") as runtime:
        words = [binary, "serve", "--no-workers", "--state-dir", str(state), "--runtime-dir", runtime]
        words += ["--models", str(models)]
        with open(state / "log", "w") as log:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        try:
            line = process.stdout.readline()
            if not line.startswith("ready socket="):
                raise RuntimeError(f"the server did not start: {(state / 'log').read_text()}")
            yield "unix://" + line.removeprefix("ready socket=").split(" listen=")[0]
        finally:
            process.terminate()
            process.wait()


def made(path: Path, quick: bool) -> Path:
    """The file to measure with, unless it is there: 288 tensors of bf16."""
    import torch
    from safetensors.torch import save_file

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(4)
        shape = (217 if quick else 1_780, 4_096)
        names = [f"model.layers.{at}.self_attn.q_proj.weight" for at in range(288)]
        part = path.with_suffix(".part")
        bits = {name: torch.randint(-(1 << 15), 1 << 15, shape, dtype=torch.int16) for name in names}
        save_file({name: each.view(torch.bfloat16) for name, each in bits.items()}, part)
        part.rename(path)
    return path.resolve()


def made_pickle(file: Path, folder: Path) -> Path:
    """The same tensors as torch.save writes them."""
    import torch
    from safetensors.torch import load_file

    path = folder / f"pickled-{file.stat().st_size}.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        # A copy of each: a view is saved with all that it is a view of.
        torch.save({name: tensor.clone() for name, tensor in load_file(file).items()}, part)
        part.rename(path)
    return path


def installed(sides: list[str]) -> tuple[list[str], dict[str, str]]:
    """Who can be measured, and why the others cannot."""
    able, unable = [], {}
    for side in sides:
        try:
            loaders.prepare(side, "torch")
            able.append(side)
        except Exception as error:
            unable[side] = f"not run: {error}"
    return able, unable


def versions() -> dict[str, str]:
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in ("torch", "safetensors", "fastsafetensors", "runai-model-streamer"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def shown(figures: Rounds, of: str, ours: str, targets: dict[str, float]) -> list[list[str]]:
    """A row for each side; the ratio is ours to theirs, round against round."""
    rows = []
    mine = [each[of] for each in figures[ours]]
    for side, rounds in figures.items():
        values = [each[of] for each in rounds]
        row = [
            side,
            *(f"{statistics.median(each[k] for each in rounds):.4g}" for k in ("returned", "usable")),
        ]
        row.append(f"{min(values):.4g} to {max(values):.4g}")
        if side.startswith("hoist"):
            rows.append([*row, "", "", ""])
            continue
        ratios = [one / other for one, other in zip(mine, values, strict=True)]
        ratio, target = statistics.median(ratios), targets.get(side)
        verdict = "" if target is None else "ok" if ratio <= target else "MISS"
        between = f"{ratio:.3g} ({min(ratios):.3g} to {max(ratios):.3g})"
        rows.append([*row, between, "" if target is None else f"<= {target:.3g}", verdict])
    return rows


def table(title: str, headings: list[str], rows: list[list[str]]) -> None:
    print(f"\n## {title}\n")
    print(f"| {' | '.join(headings)} |")
    print(f"|{' --- |' * len(headings)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def of_memory(figures: dict[str, Any]) -> list[list[str]]:
    rows = []
    mine = figures[OURS]
    for side, found in figures.items():
        if isinstance(found, str):
            rows.append([side, found, "", "", "", ""])
            continue
        total, own = found["bytes"], found["bytes"] - found["imports"]
        row = [side, f"{total / 1e9:.2f}", f"{own / 1e9:.2f}"]
        if side == OURS:
            rows.append([*row, "", "", ""])
            continue
        ratio = mine["bytes"] / total
        target = f"<= {MEMORY_TARGET}" if side in COPYING else ""
        verdict = ("ok" if ratio <= MEMORY_TARGET else "MISS") if side in COPYING else ""
        rows.append([*row, f"{ratio:.3g}", target, verdict])
    return rows


def print_tables(found: dict[str, Any]) -> None:
    headings = ["who", "returned, s", "usable, s", "spread of that", "hoist to it", "target", ""]
    returned = [*headings[:3], "spread of returned", *headings[4:]]
    if "cold" in found:
        table("cold", headings, shown(found["cold"], "usable", OURS, COLD_TARGETS))
    if "warm" in found:
        title = "the file in the page cache: filled by hoist beside loaded by others"
        filled = {side: rounds for side, rounds in found["warm"].items() if side not in (OURS, CONNECTED)}
        table(title, headings, shown(filled, "usable", FROM_CACHE, FROM_CACHE_TARGETS))
        title = "in RAM with hoist, in the page cache for the others: until the call returned"
        resident = {side: rounds for side, rounds in found["warm"].items() if side != FROM_CACHE}
        table(title, returned, shown(resident, "returned", CONNECTED, ATTACH_TARGETS))
    if "memory" in found:
        of_all = ["who", "GB of all together", "without their imports", "hoist to it", "target", ""]
        table(f"memory of {PROCESSES} processes (proportional set size)", of_all, of_memory(found["memory"]))
    match found.get("bounded"):
        case str(why):
            print(f"\n## a client with 2 GiB of memory\n\n{why}")
        case dict(rounds):
            title = "a client with 2 GiB of memory: in RAM with hoist, on the disk for the others"
            table(f"{title}; first use", headings, shown(rounds, "usable", CONNECTED, FIRST_TARGETS))
            again = [*headings[:3], "spread of reading it again", *headings[4:]]
            table(f"{title}; read again", again, shown(rounds, "again", CONNECTED, AGAIN_TARGETS))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--hoist", help="the binary of a release build")
    arguments.add_argument("--file", help="a safetensors file, alone in its folder; unset: one is made, once")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--quick", action="store_true", help="a file of 512 MB: whether it works")
    arguments.add_argument("--json", help="write every round to this file")
    arguments.add_argument("--only", choices=["cold", "warm", "memory", "bounded"], help="one part of it")
    for word in ("child", "endpoint", "group"):
        arguments.add_argument(f"--{word}", help=argparse.SUPPRESS)
    for word in ("cold", "hold", "idle"):
        arguments.add_argument(f"--{word}", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.child:
        child(given)
    if not given.hoist:
        arguments.error("--hoist names the binary to measure")
    import hoist

    folder = Path(tempfile.gettempdir()) / "hoist-bench"
    default = folder / ("peers-quick" if given.quick else "peers") / "big.safetensors"
    file = Path(given.file).resolve() if given.file else made(default, given.quick)
    pickled = made_pickle(file, folder)
    peers, unable = installed([MAPPED, ONE_BY_ONE, FAST, STREAMED, PICKLED])
    load_before = Path("/proc/loadavg").read_text().strip()
    with (
        tempfile.TemporaryDirectory(prefix="hoist-peers-") as state,
        server(given.hoist, file.parent, Path(state)) as endpoint,
        hoist.connect(endpoint, timeout=600) as client,
    ):
        place = Place(str(file), str(pickled), endpoint)
        client.scan()
        parts = {
            "cold": lambda: cold(place, peers, given.rounds, client),
            "warm": lambda: warm(place, peers, given.rounds, client),
            "memory": lambda: memory(place, peers, client),
            "bounded": lambda: bounded(place, given.rounds, client),
        }
        found: dict[str, Any] = {}
        for name, part in parts.items():
            if given.only in (None, name):
                print(f"{name} ...", file=sys.stderr)
                found[name] = part()
    facts = {
        "command": " ".join(sys.argv),
        "file": f"{file.stat().st_size / 1e9:.2f} GB",
        "rounds": str(given.rounds),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "processors": str(os.cpu_count()),
        "kernel": platform.release(),
        "load before": load_before,
        "load after": Path("/proc/loadavg").read_text().strip(),
        **unable,
    }
    for name, fact in facts.items():
        print(f"- {name}: {fact}")
    print_tables(found)
    if given.json:
        Path(given.json).write_text(json.dumps({"facts": facts, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
