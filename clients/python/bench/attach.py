"""What it takes to have all tensors of a model that is in RAM, beside those who map the same file, warm.

    python bench/attach.py --endpoint unix:///path/hoist.sock --file /path/big.safetensors

`hoist-bench` runs it for the whole table. The file is one that the server knows and has cached. The sides
take turns, a round each: in this process, which is connected; with every byte read afterwards; and in fresh
processes, after their imports.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable

import loaders
from loaders import MAPPED, ONE_BY_ONE, Load, Loaded, timed

import hoist

OURS = "hoist"
# Those who copy 4 GB are not asked as often as those who map it.
LONG_SECONDS = 0.5


def ours(client: hoist.Client, component: str, framework: str) -> Load:
    def load(path: str) -> Loaded:
        opened = client.open(path, component, framework=framework)
        return Loaded(opened.state_dict(), opened)

    return load


def let_go(loaded: Loaded) -> None:
    if loaded.keeps is not None:
        loaded.keeps.close()
    loaded.tensors = {}


def one(load: Load, path: str, then: Callable[[Loaded], object] | None = None) -> float:
    """Milliseconds of one load, and of what is done with it. Letting go is not in it."""

    def all_of_it() -> Loaded:
        loaded = load(path)
        if then is not None:
            then(loaded)
        return loaded

    took, loaded = timed(all_of_it)
    let_go(loaded)
    return took * 1000


def one_round(load: Load, path: str, calls: int) -> float:
    """The median of some calls; of one, where that takes long."""
    first = one(load, path)
    if first > LONG_SECONDS * 1000:
        return first
    return statistics.median(one(load, path) for _ in range(calls))


def fresh(given: argparse.Namespace) -> None:
    """The part of the program that one fresh process is."""
    if given.fresh == OURS:
        loaders.importlib.import_module(given.framework)

        def load(path: str) -> Loaded:
            client = hoist.connect(given.endpoint)
            return ours(client, given.component, given.framework)(path)
    else:
        load = loaders.prepare(given.fresh, given.framework)
    took, loaded = timed(lambda: load(given.file))
    if not loaded.tensors:
        raise RuntimeError("no tensors")
    print(took * 1000)
    sys.stdout.flush()
    let_go(loaded)


def in_fresh_process(given: argparse.Namespace, side: str, component: str) -> float:
    command = [sys.executable, __file__, "--endpoint", given.endpoint, "--file", given.file]
    command += ["--fresh", side, "--component", component, "--framework", given.framework]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{side}: {done.stderr.strip()}")
    return float(done.stdout)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--endpoint", required=True, help="the Hoist server")
    arguments.add_argument("--file", required=True, help="the safetensors file, a model of that server")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--calls", type=int, default=30, help="in each round, on each side")
    arguments.add_argument("--framework", default=loaders.best_framework(), choices=["torch", "numpy"])
    arguments.add_argument("--json", action="store_true", help="every round, for hoist-bench")
    arguments.add_argument("--fresh", help=argparse.SUPPRESS)
    arguments.add_argument("--component", default="", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.fresh:
        fresh(given)
        return
    with hoist.connect(given.endpoint) as client:
        with client.open(given.file, framework=given.framework) as model:
            (component,) = model
            segment, tensors = model[component].path, len(model[component])
        loaders.make_warm(given.file)
        mapped = loaders.prepare(MAPPED, given.framework)
        # The peers get the file in the page cache, and once more the segment's own on its tmpfs.
        sides = {
            OURS: (ours(client, component, given.framework), given.file),
            "load_file": (mapped, given.file),
            "safe_open": (loaders.prepare(ONE_BY_ONE, given.framework), given.file),
            "load_file of the segment": (mapped, segment),
        }
        figures: dict[str, dict[str, list[float]]] = {"connected": {}, "read": {}, "fresh": {}}
        for load, path in sides.values():
            one(load, path)
        for _ in range(given.rounds):
            for name, (load, path) in sides.items():
                figures["connected"].setdefault(name, []).append(one_round(load, path, given.calls))
            for name, (load, path) in sides.items():
                figures["read"].setdefault(name, []).append(one(load, path, loaders.read_all))
            for name, side in ((OURS, OURS), ("load_file", MAPPED)):
                figures["fresh"].setdefault(name, []).append(in_fresh_process(given, side, component))
    if given.json:
        print(json.dumps({"framework": given.framework, "tensors": tensors, "figures": figures}))
        return
    print(f"{tensors} tensors, {given.framework}, milliseconds")
    for what, of_sides in figures.items():
        for name, values in of_sides.items():
            middle = statistics.median(values)
            print(f"{what:10} {name:26} {middle:9.2f}   {min(values):9.2f} to {max(values):9.2f}")


if __name__ == "__main__":
    main()
