#!/usr/bin/env python3
"""A PyTorch process on the same device: what Hoist is compared with, and what it shares the device with.

One request a line on standard input, one answer a line on standard output, both JSON. A process of its own,
so that its context and its memory are nobody else's, and that an error of somebody else's would show in it.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# Sides of the matrices of `work`: some hundred microseconds on a large card.
SIDE = 1_024
# torch takes what is smaller out of larger pieces, of which what is free says nothing.
LEAST_PIECE = 32 << 20
# From an unload by force until whoever has the memory has heard of it.
HEARD_SECONDS = 5.0


class Peer:
    """What it can be asked. Memory that one request takes is given back before the next, but for `occupy`."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.is_cuda = self.device.type == "cuda"
        # safetensors knows no `cpu:0`.
        self.place = device if self.is_cuda else "cpu"
        self.pinned: Any = None
        self.held: list[Any] = []
        self.kept: list[Any] = []
        self.stop = threading.Event()
        self.worker: threading.Thread | None = None
        self.rounds = 0
        self.trouble = ""
        if self.is_cuda:
            torch.cuda.set_device(self.device)
            # A product with one is to be exact.
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.zeros(1, device=self.device).item()

    def synchronize(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def hello(self) -> dict[str, Any]:
        told: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda}
        if self.is_cuda:
            properties = torch.cuda.get_device_properties(self.device)
            told |= {
                "name": properties.name,
                "uuid": "GPU-" + str(properties.uuid).removeprefix("GPU-"),
                "total": properties.total_memory,
            }
            told |= {
                "compute": f"{properties.major}.{properties.minor}",
                "multiprocessors": properties.multi_processor_count,
            }
        return told

    # ---- figures ------------------------------------------------------------------------------------------

    def pin(self, size: int) -> dict[str, Any]:
        """Takes a pinned buffer, for `pinned` of this size and less."""
        self.pinned = None
        began = time.perf_counter()
        self.pinned = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        return {"seconds": time.perf_counter() - began}

    def pinned_copy(self, size: int) -> dict[str, Any]:
        """One buffer to the device in one call."""
        source, target = self.pinned[:size], torch.empty(size, dtype=torch.uint8, device=self.device)
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self.synchronize()
        began = time.perf_counter()
        begin.record()
        target.copy_(source, non_blocking=True)
        end.record()
        self.synchronize()
        wall = time.perf_counter() - began
        told = {"wall": wall, "events": begin.elapsed_time(end) / 1_000}
        del target
        torch.cuda.empty_cache()
        return told

    def load_file(self, path: str) -> dict[str, Any]:
        from safetensors.torch import load_file

        return self._loaded(lambda: load_file(path, device=self.place))

    def fast(self, path: str) -> dict[str, Any]:
        from fastsafetensors import fastsafe_open

        def load() -> dict[str, Any]:
            # Without GPUDirect, which few machines have.
            with fastsafe_open(path, framework="pt", device=self.place, nogds=True) as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

        return self._loaded(load)

    def _loaded(self, load: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        self.synchronize()
        began = time.perf_counter()
        tensors = load()
        self.synchronize()
        told = {"wall": time.perf_counter() - began, "bytes": sum(each.nbytes for each in tensors.values())}
        tensors.clear()
        if self.is_cuda:
            torch.cuda.empty_cache()
        return told

    # ---- company ------------------------------------------------------------------------------------------

    def occupy(self, leave: int) -> dict[str, Any]:
        """Takes all of the device's memory but this much, or a little more."""
        piece = 1 << 30
        while piece >= LEAST_PIECE:
            free, _ = torch.cuda.mem_get_info()
            if free - leave < piece:
                piece //= 2
                continue
            try:
                self.held.append(torch.empty(piece, dtype=torch.uint8, device=self.device))
            except torch.cuda.OutOfMemoryError:
                piece //= 2
        return {"held": sum(each.nbytes for each in self.held), "free": torch.cuda.mem_get_info()[0]}

    def let_go(self) -> dict[str, Any]:
        self.held.clear()
        torch.cuda.empty_cache()
        return {"free": torch.cuda.mem_get_info()[0]}

    def work(self) -> dict[str, Any]:
        """Multiplies matrices until `rest`, and looks at each result."""
        self.stop.clear()
        self.rounds, self.trouble = 0, ""
        self.worker = threading.Thread(target=self._work, daemon=True)
        self.worker.start()
        return {}

    def _work(self) -> None:
        try:
            one = torch.eye(SIDE, device=self.device)
            other = torch.rand(SIDE, SIDE, device=self.device)
            while not self.stop.is_set():
                if not torch.equal(one @ other, other):
                    self.trouble = "a product is wrong"
                    return
                self.synchronize()
                self.rounds += 1
        except Exception as error:
            self.trouble = repr(error)

    def rest(self) -> dict[str, Any]:
        self.stop.set()
        if self.worker is not None:
            self.worker.join()
        return {"rounds": self.rounds, "trouble": self.trouble}

    # ---- attaching -----------------------------------------------------------------------------------------

    def attach(self, endpoint: str, name: str, rounds: int) -> dict[str, Any]:
        """Times attaching of a model on the device, and making its tensors; the first is told apart."""
        import hoist

        attached, made = [], []
        with hoist.connect(endpoint) as client:
            client.status()
            for _ in range(rounds + 1):
                began = time.perf_counter()
                model = client.attach(Path(name), device=self.place)
                attached.append(time.perf_counter() - began)
                tensors = [component.state_dict() for component in model.values()]
                made.append(time.perf_counter() - began)
                tensors.clear()
                model.close()
                del model, tensors
        told = {"first": attached[0], "median": statistics.median(attached[1:])}
        return told | {"made": statistics.median(made[1:])}

    def attach_and_compare(self, endpoint: str, name: str) -> dict[str, Any]:
        """Compares what is attached with PyTorch's own load of the file, on the device; and what it takes."""
        import hoist

        self.synchronize()
        free = self.free()
        with hoist.connect(endpoint) as client, client.attach(Path(name), device=self.place) as model:
            tensors = tensors_of(model)
            taken = free - self.free()
            told = self._compared(tensors, name)
            tensors.clear()
        return {"taken": taken, **told}

    def _compared(self, tensors: dict[str, Any], name: str) -> dict[str, Any]:
        """With PyTorch's own load of the file; leaves nothing of that."""
        from safetensors import safe_open

        wrong, count = [], 0
        with safe_open(name, framework="pt", device=self.place) as file:
            for key in file.keys():  # noqa: SIM118
                count += 1
                if key not in tensors or not self._same(tensors[key], file.get_tensor(key)):
                    wrong.append(key)
        wrong += tensors.keys() - file_keys(name)
        self.synchronize()
        if self.is_cuda:
            torch.cuda.empty_cache()
        return {"wrong": wrong[:5], "tensors": count}

    def attach_and_keep(self, endpoint: str, name: str) -> dict[str, Any]:
        """Until `detach`, or the end of this process, however that comes."""
        import hoist

        model = hoist.connect(endpoint).attach(Path(name), device=self.place)
        self.kept.append((model, tensors_of(model)))
        return {}

    def hear(self, name: str) -> dict[str, Any]:
        """Whether it is told that what it keeps is gone; and what that is now."""
        model, tensors = self.kept[-1]
        end = time.monotonic() + HEARD_SECONDS
        while not model.hung_up and time.monotonic() < end:
            time.sleep(0.01)
        return {"hung_up": model.hung_up, "held": model.held, **self._compared(tensors, name)}

    def detach(self) -> dict[str, Any]:
        """Lets go of everything that it keeps; how long that took."""
        began = time.perf_counter()
        while self.kept:
            model, tensors = self.kept.pop()
            model.close()
            del model, tensors
        gc.collect()
        return {"seconds": time.perf_counter() - began}

    def free(self) -> int:
        """Of the device, for anybody."""
        return int(torch.cuda.mem_get_info()[0]) if self.is_cuda else 0

    def _same(self, one: Any, other: Any) -> bool:  # noqa: ANN401
        rows = [each.contiguous().reshape(-1).view(torch.uint8) for each in (one, other)]
        is_alike = (one.dtype, one.shape, one.device) == (other.dtype, other.shape, other.device)
        return is_alike and torch.equal(rows[0], rows[1])


def tensors_of(model: Any) -> dict[str, Any]:  # noqa: ANN401
    """Of all components, by the names that they have in the file."""
    tensors: dict[str, Any] = {}
    for component in model.values():
        tensors |= component.state_dict(prefix=True)
    return tensors


def file_keys(name: str) -> set[str]:
    from safetensors import safe_open

    with safe_open(name, framework="pt") as file:
        return set(file.keys())


def main() -> None:
    peer = Peer(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(peer, request.pop("ask"))(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
