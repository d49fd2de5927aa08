"""What the machine, the card and Hoist say of themselves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import machine
from processes import clean_environment
from server import WorkerOptions, serving, worker_environment
from settings import shown
from steps import Context, coordinator_is_clean

# Of what nvidia-smi -q prints, what bears on copying.
_WANTED = (
    "Product Name",
    "Driver Version",
    "CUDA Version",
    "Persistence Mode",
    "MIG Mode",
    "Compute Mode",
    "Virtualization Mode",
    "Bus Id",
    "Link Generation",
    "Link Width",
    "Current",
    "Max",
    "Device Current",
    "Host Max",
    "Current ECC",
    "BAR1",
    "Total",
    "Used",
    "Recovery Action",
)
_SECTIONS = (
    "GPU Link Info",
    "PCIe Generation",
    "Link Width",
    "FB Memory Usage",
    "BAR1 Memory Usage",
    "MIG Mode",
    "ECC Mode",
)


def hoist_says(at: Context, *words: str) -> Any:  # noqa: ANN401
    """What a command of the client prints as JSON; its exit code may be that of a finding."""
    line = [str(at.settings.binary("hoist")), *words, "--json"]
    told = subprocess.run(
        line, capture_output=True, text=True, env=clean_environment(), timeout=60, check=False
    )
    try:
        return json.loads(told.stdout)
    except ValueError:
        raise RuntimeError(
            f"{' '.join(words)}: exit {told.returncode}, {told.stderr.strip()[-500:]}"
        ) from None


def smi(at: Context) -> None:
    if shutil.which("nvidia-smi") is None:
        at.told.untested("nvidia-smi", "it is not on this machine")
        return
    words = ["nvidia-smi", "-q", "-i", at.settings.card or "0"]
    told = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    lines = [line.strip() for line in told.stdout.splitlines()]
    kept = [
        " ".join(line.split())
        for line in lines
        if line.split(" : ")[0].strip() in _WANTED or line in _SECTIONS
    ]
    at.told.fact("nvidia-smi -q", "; ".join(kept)[:2_000], excerpt=kept)


def doctor(at: Context) -> None:
    checks = hoist_says(at, "doctor")
    for check in checks:
        if check["result"] != "ok" and check["check"] != "server":
            at.told.fact(
                f"doctor: {check['check']}", f"{check['result']}: {check['found']}", advice=check["advice"]
            )
    names = ", ".join(
        f"{check['check']} {check['found']}" for check in checks if check["check"].startswith(("gpu", "cuda"))
    )
    at.told.fact("doctor", f"{len(checks)} checks; {names}", checks=checks)


def without_a_card(at: Context) -> None:
    """What a worker says that asks for a card where there is none: one line, and it ends."""
    words = [
        str(at.settings.binary("hoist-worker")),
        "--device",
        "cuda:0",
        "--coordinator",
        f"unix://{at.folder}/none.sock",
    ]
    environment = worker_environment(at.settings, WorkerOptions()) | {"CUDA_VISIBLE_DEVICES": ""}
    told = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60, check=False)
    errors = [line for line in told.stderr.splitlines() if line.startswith("error:")]
    figure = f"exit {told.returncode}: {' | '.join(errors) or told.stderr.strip()[-300:]}"
    at.told.holds(
        "a worker for a card that is not there",
        told.returncode == 1 and len(errors) == 1,
        figure,
        "1, one line",
    )


def facts(at: Context) -> None:
    told, settings = at.told, at.settings
    told.fact(
        "machine",
        f"{os.cpu_count()} x {machine.cpu()}, {shown(machine.memory_bytes())}, Linux {os.uname().release}",
    )
    told.fact("versions", ", ".join(f"{name} {version}" for name, version in machine.versions().items()))
    told.fact("libtorch", machine.libtorch_folders()[0], folders=machine.libtorch_folders())
    card = at.card()
    if card is None:
        why = "it cannot be opened" if settings.is_cuda else f"{settings.device} is no card"
        told.untested("memory as the driver counts it (NVML)", why)
    else:
        used, free = card.memory()
        told.fact(
            "NVML",
            f"driver {card.driver()}, {shown(used)} used, {shown(free)} free before anything",
            used=used,
            free=free,
        )
        smi(at)
    doctor(at)
    without_a_card(at)
    with serving(settings, at.folder, WorkerOptions()) as server:
        device = server.until_open()
        listed = hoist_says(at, "devices", "--endpoint", server.endpoint)
        figure = f"{device.model}, {shown(device.capacity_bytes)}, {', '.join(device.libraries)}"
        told.holds("the worker", device.state == "OPEN" and len(listed) == 1, figure, "open", devices=listed)
        told.fact("converts to", ", ".join(device.dtypes))
        bus = device.bus_bytes_per_second
        node = "the only one, or not known" if device.memory_node is None else f"node {device.memory_node}"
        carries = f"{bus / 1e9:.1f} GB/s at most" if bus else "not known, or there is none"
        told.fact("its bus, and the memory near it", f"{carries}; {node}", bus=bus, node=device.memory_node)
        if card is not None:
            pid = server.worker_process()
            taken = card.processes().get(pid)
            told.fact(
                "the worker's own memory", "not told by NVML" if taken is None else shown(taken), bytes=taken
            )
        coordinator_is_clean(at, server)
