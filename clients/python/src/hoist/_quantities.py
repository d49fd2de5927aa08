"""Sizes and times as people write them, and as the command line reads them: `8GiB`, `1.5 GB`, `90s`, `24h`.

Exact: whole numbers throughout, so that `1.1GB` is 1,100,000,000 and not one less.
"""

from __future__ import annotations

import re
from datetime import timedelta

# A number is of seconds.
Time = float | timedelta | str
# A number is of bytes.
Size = int | str

_SIZES = {
    **dict.fromkeys(("", "b"), 1),
    **dict.fromkeys(("k", "kib"), 1 << 10),
    **dict.fromkeys(("m", "mib"), 1 << 20),
    **dict.fromkeys(("g", "gib"), 1 << 30),
    **dict.fromkeys(("t", "tib"), 1 << 40),
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_TIMES = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3_600 * 10**9,
    "d": 86_400 * 10**9,
}
# More digits than any size or time has; without a bound Python refuses long ones in words of its own.
_SIZE = re.compile(r"([0-9]{1,30})(?:\.([0-9]{1,9}))?\s*([A-Za-z]*)")
_TIME = re.compile(r"([0-9]{1,30})\s*([a-z]+)")


def size(name: str, text: str) -> int:
    """Bytes. Raises ValueError, which names the argument, for what is no size."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or (unit := _SIZES.get(found[3].lower())) is None:
        advice = "write a number and a unit, for instance 512MiB, 8GiB or 10GB"
        raise ValueError(f"{name}: {text!r} is not a size: {advice}")
    fraction = found[2] or "0"
    places: int = 10 ** len(fraction)
    return int(found[1]) * unit + int(fraction) * unit // places


def nanoseconds(name: str, text: str) -> int:
    """Raises ValueError, which names the argument, for what is no time."""
    found = _TIME.fullmatch(text.strip())
    if found is None or (unit := _TIMES.get(found[2])) is None:
        advice = "write a whole number and a unit, for instance 250ms, 10s, 5m or 24h"
        raise ValueError(f"{name}: {text!r} is not a time: {advice}")
    return int(found[1]) * unit
