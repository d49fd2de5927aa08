"""One step, in a process of its own: it may fail, hang or be killed, and takes nothing along.

The process writes its rows as it knows them. One that does not end in time is asked where it is, and ended
with everything that it has started.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import report
from processes import PR_SET_PDEATHSIG, end_descendants
from report import Row, Told, Verdict
from settings import Settings

# For the traceback of a step that hangs.
TRACE_SECONDS = 2.0
ROWS, LOG = "rows.jsonl", "step.log"


@dataclass(frozen=True)
class Step:
    """What is run, and how long it may take."""

    name: str
    module: str
    limit: float


def run(step: Step, settings_file: Path, folder: Path, seconds: float, script: Path) -> list[Row]:
    """Its rows, and one more where it did not end well."""
    folder.mkdir(parents=True)
    words = [
        sys.executable,
        "-u",
        str(script),
        "--step",
        step.name,
        "--settings",
        str(settings_file),
        "--folder",
        str(folder),
    ]
    # grpc says at each fork that it does nothing about it.
    environment = os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "false"}
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    try:
        code: int | None = process.wait(seconds)
    except subprocess.TimeoutExpired:
        code = None
        _trace(process)
    finally:
        end_descendants()
    rows, doing = report.read(folder / ROWS)
    at = f" at {doing}" if doing else ""
    if code is None:
        rows.append(
            Row(
                step.name,
                "in time",
                f"no end within {seconds:.0f} s{at}; {_where(folder)}",
                "",
                Verdict.FAILED,
            )
        )
    elif code != 0 and not any(row.verdict is Verdict.FAILED for row in rows):
        rows.append(
            Row(step.name, "to the end", f"its process has ended with {code},{at}", "", Verdict.FAILED)
        )
    elif not rows:
        rows.append(Row(step.name, "to the end", "it has told nothing", "", Verdict.FAILED))
    return rows


def _trace(process: subprocess.Popen[bytes]) -> None:
    """Has it say where it is."""
    process.send_signal(signal.SIGUSR1)
    try:
        process.wait(TRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _where(folder: Path) -> str:
    """The innermost line of ours that its traceback names."""
    lines = [line.strip() for line in (folder / LOG).read_text(errors="replace").splitlines()]
    ours = [line for line in lines if line.startswith("File ") and str(Path(__file__).parent) in line]
    return ours[0].replace(str(Path(__file__).parent) + "/", "") if ours else "it does not say where"


def inside(
    step: Step,
    call: Callable[[object], None],
    make: Callable[[Settings, Told, Path], object],
    given: tuple[Path, Path],
) -> int:
    """The part of the program that the process of a step is."""
    settings_file, folder = given
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The main thread alone is of interest, and it ends: `chain` would be the default, which is to end, too.
    faulthandler.register(signal.SIGUSR1, all_threads=False, chain=True)
    with (folder / ROWS).open("w") as sink:
        told = Told(step.name, sink)
        try:
            call(make(Settings.read(settings_file), told, folder))
        except Exception as error:
            traceback.print_exc()
            told.holds("to the end", False, f"at {told.now}: {type(error).__name__}: {error}")
            return 1
    return 0


def leave(folder: Path) -> None:
    """What a step that went well has left."""
    shutil.rmtree(folder, ignore_errors=True)


def logs(folder: Path) -> list[Path]:
    """Of everything that a step has started."""
    return sorted(path for path in folder.rglob("*.log") if path.stat().st_size)


def forget_environment() -> None:
    """What a step's processes must not inherit."""
    for name in [name for name in os.environ if name.startswith("HOIST_")]:
        del os.environ[name]
