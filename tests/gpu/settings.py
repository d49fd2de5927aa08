"""What a run is told, and what follows from it: sizes, and places. Every step reads it from a file."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30
HERE = Path(__file__).resolve().parent
TREE = HERE.parents[1]

_UNITS = {"": 1, "KiB": 1 << 10, "MiB": MIB, "GiB": GIB, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def size(text: str) -> int:
    """Bytes, of `8GiB`. Raises ValueError for anything else."""
    found = re.fullmatch(r"(\d+) ?([KMG]i?B)?", text)
    if found is None:
        raise ValueError(f"{text!r} is no size: write 8GiB or 512MiB")
    return int(found[1]) * _UNITS[found[2] or ""]


def shown(number: float) -> str:
    """A size for people."""
    for unit in ("GiB", "MiB", "KiB"):
        if abs(number) >= _UNITS[unit]:
            return f"{number / _UNITS[unit]:.4g} {unit}"
    return f"{number:.0f} B"


@dataclass(frozen=True)
class Settings:
    """Of one run."""

    bundle: str
    device: str
    """`cuda:0`, without a size."""
    size: int
    """Of the large model."""
    models: str
    """The folder of the models, on a disk."""
    memory: str
    """A folder on tmpfs: sockets, and weights in RAM."""
    card: str
    """NVML's name of the device. Empty: it has none."""
    quick: bool
    seed: int = 6

    @property
    def is_cuda(self) -> bool:
        return self.device.startswith("cuda:")

    @property
    def ordinal(self) -> int:
        return int(self.device.split(":")[1])

    @property
    def series(self) -> dict[str, int]:
        """The models whose loads are timed, by name; of 8 GiB: 64 MiB, 512 MiB, 1, 4 and 8 GiB."""
        parts = {"series-a": 128, "series-b": 16, "series-c": 8, "series-d": 2}
        return {name: self.size // part for name, part in parts.items()} | {"large": self.size}

    @property
    def mid(self) -> int:
        """Of each of the mid-size models."""
        return self.size // 64

    def path(self, model: str) -> Path:
        return Path(self.models) / f"{model}.safetensors"

    def binary(self, name: str) -> Path:
        return Path(self.bundle) / name

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Settings:
        return cls(**json.loads(path.read_text()))
