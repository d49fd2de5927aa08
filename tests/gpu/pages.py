"""Segments whose pages a worker registers (`--copy registered`), as its log says: nothing else tells of it.

It does so once, after the first load of a segment, while it has nothing else to do. Loads after that copy
straight from the segment; until it has had no use for a minute.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from processes import Started

# To register is thought to take ten times as long as to copy: some 5 GB/s.
LEAST_SECONDS, LEAST_RATE = 10.0, 0.5e9
# Between two looks: what is small is registered in a few hundredths of a second.
LOOK_SECONDS = 0.002
_LINE = re.compile(r"its pages are (not )?registered\b.*\bdigest=([0-9a-f]{64})\b(.*)")


def digest(segment: str) -> str:
    """Of `segments/{digest}`."""
    return segment.removeprefix("segments/")


def not_registered(worker: Started, digests: Iterable[str], size: int) -> str:
    """Waits until a worker has registered all pages of segments of this size; why it has not. Empty: it has.

    Each line names its segment, and what is registered stays so for a minute after its last use: it does not
    matter how often it was loaded before.
    """
    wanted, limit = set(digests), LEAST_SECONDS + size / LEAST_RATE
    end = time.monotonic() + limit
    while True:
        # Before the log is read: a worker's last words are in it when it has ended.
        worker.must_run("its pages were registered")
        # What it writes just now is no line yet.
        whole, _, _ = worker.log.read_text(errors="replace").rpartition("\n")
        there = set()
        for line in whole.splitlines():
            if (found := _LINE.search(line)) is None or found[2] not in wanted:
                continue
            if found[1]:
                return f"its pages are not registered:{found[3]}"
            there.add(found[2])
        if there == wanted:
            return ""
        if time.monotonic() >= end:
            return f"{len(there)} of {len(wanted)} segments are registered after {limit:.0f} s"
        time.sleep(LOOK_SECONDS)
