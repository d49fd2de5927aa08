"""A control group with a bound on memory, for processes that are to be measured in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def limited(size: int) -> Iterator[Path | None]:
    """The group's folder; None where this machine does not let us make one."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    own = {kind: path for _, kind, path in lines}
    if "memory" in own:
        above, bound = _ROOT / "memory" / own["memory"].lstrip("/"), "memory.limit_in_bytes"
    else:
        above, bound = _ROOT / own.get("", "").lstrip("/"), "memory.max"
    group = above / f"hoist-bench-{os.getpid()}"
    try:
        group.mkdir()
        (group / bound).write_text(str(size))
    except OSError:
        with contextlib.suppress(OSError):
            group.rmdir()
        yield None
        return
    try:
        yield group
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()


def enter(group: str) -> None:
    """This process is bound from here on."""
    (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
