"""Processes that a step starts: each with a log of its own, and an end that comes whatever happens.

Everything ends with the process that started it. Those that a server starts are found by their parents: the
run adopts what its steps leave behind (`adopt_orphans`), and ends that too (`end_descendants`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# Between two looks at a process that something else is awaited of.
LOOK_SECONDS = 0.2

_libc = ctypes.CDLL(None, use_errno=True)


class Late(Exception):
    """Something did not come in time; the text says what."""


class Ended(Exception):
    """A process has ended that was to do something; the text has its last words."""


def _end_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Started:
    """A process."""

    def __init__(
        self,
        name: str,
        words: Iterable[str | Path],
        folder: Path,
        environment: dict[str, str],
        *,
        talks: bool = False,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        pipe = subprocess.PIPE if talks else None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(word) for word in words],
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or log,
                stderr=log,
                env=environment,
                text=True,
                preexec_fn=_end_with_parent,
            )
        self._read = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, line: str) -> None:
        sink = self._process.stdin
        assert sink is not None
        sink.write(line + "\n")
        sink.flush()

    def line(self, what: str, seconds: float) -> str:
        """The next line that it prints."""
        source = self._process.stdout
        assert source is not None
        end = time.monotonic() + seconds
        while b"\n" not in self._read:
            left = end - time.monotonic()
            readable, _, _ = select.select([source.fileno()], [], [], max(0.0, left))
            if not readable:
                raise Late(f"{self.name}: {what} does not come within {seconds:.0f} s")
            piece = os.read(source.fileno(), 1 << 16)
            if not piece:
                self.ended(5)
                self.must_run(what)
                raise Ended(f"{self.name} says nothing more, and {what} was due: {tail(self.log, 2)}")
            self._read += piece
        line, self._read = self._read.split(b"\n", 1)
        return line.decode()

    def ended(self, seconds: float) -> int | None:
        """Its exit code; a negative one is a signal's. None: it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def must_run(self, what: str) -> None:
        """Raises Ended if it does not."""
        if (code := self.ended(0)) is not None:
            raise Ended(f"{self.name} has ended with {code} before {what}: {tail(self.log, 2)}")

    def stop(self, seconds: float = 10) -> int:
        """Asks it to end, and ends it where it does not."""
        self._process.terminate()
        code = self.ended(seconds)
        return self.kill() if code is None else code

    def kill(self) -> int:
        self._process.kill()
        return self._process.wait()

    def close(self) -> None:
        """Whatever it does, it is not there any more."""
        if self._process.poll() is None:
            self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def clean_environment() -> dict[str, str]:
    """This process's, without settings of Hoist's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HOIST_")}


def tail(log: Path, lines: int) -> str:
    """The end of a log, in one line."""
    try:
        text = log.read_text(errors="replace")
    except OSError as error:
        return str(error)
    return " | ".join([line for line in text.splitlines() if line.strip()][-lines:])


def until(what: str, seconds: float, holds: Callable[[], object]) -> None:
    """Looks again and again, for what tells of no change by itself."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= end:
            raise Late(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)


def wait_for_end(process: int, seconds: float) -> float | None:
    """How long until a process, of whomever, had ended. None: it runs still."""
    began = time.monotonic()
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return 0.0
    with open(descriptor, closefd=True):
        readable, _, _ = select.select([descriptor], [], [], seconds)
    return time.monotonic() - began if readable else None


def state(process: int) -> str:
    """What the kernel says that a process does, for people."""
    words = {"R": "runs", "S": "sleeps", "D": "waits for a device", "T": "is stopped", "Z": "has ended"}
    try:
        letter = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "is not there"
    return words.get(letter, f"is in state {letter}")


# ---- what is left behind ----------------------------------------------------------------------------------


def adopt_orphans() -> None:
    """From here on, what descends from this process and loses its parent becomes its child."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name, in parentheses, may hold anything.
                found[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    return found


def descendants() -> list[int]:
    """Of this process, whoever started them."""
    parents, found, looked = _parents(), [], [os.getpid()]
    while looked:
        parent = looked.pop()
        children = [process for process, its in parents.items() if its == parent]
        found += children
        looked += children
    return found


def end_descendants(seconds: float = 10) -> None:
    """Ends them all, and waits until they are gone."""
    end = time.monotonic() + seconds
    while living := descendants():
        for process in living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if time.monotonic() >= end:
            raise Late(f"processes {living} cannot be ended")
        time.sleep(0.01)


def print_log(log: Path, lines: int, to: TextIO) -> None:
    """The end of a log, for people."""
    text = log.read_text(errors="replace").splitlines()
    print(f"--- {log.name}, its last {min(lines, len(text))} lines of {len(text)}", file=to)
    for line in text[-lines:]:
        print(f"    {line[:400]}", file=to)
