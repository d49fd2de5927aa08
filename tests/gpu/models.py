"""The models: safetensors files of seeded random bytes; and what PyTorch reads of them.

Every bit pattern occurs: bytes are compared, never numbers. No two models are equal: nothing is shared.
"""

from __future__ import annotations

import itertools
import json
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from settings import Settings

MIDS = 20
TINIES = 4
LARGE_TENSORS = 300

# All that torch and safetensors write between them, but for F4, whose elements come in pairs.
DTYPES = (
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
)
PAIRS = "float4_e2m1fn_x2"
SHAPES = ((), (0, 5), (1,), (3, 5, 7), (1021,), (129, 257))
# Of types that torch has not, written by hand: four elements in three bytes.
BY_HAND = ("F6_E2M3", "F6_E3M2")

Spec = tuple[str, str, tuple[int, ...]]


@dataclass(frozen=True)
class Tensor:
    """A tensor as a file says it is; its bytes are PyTorch's."""

    dtype: str
    shape: list[int]
    data: Any


# ---- reading ----------------------------------------------------------------------------------------------


def header(path: Path) -> dict[str, dict[str, Any]]:
    """Names, types, shapes and places of the tensors of a file."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries: dict[str, dict[str, Any]] = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    return entries


def bytes_of(tensor: Any) -> Any:  # noqa: ANN401
    """A tensor's memory as a flat numpy array of bytes."""
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


def by_torch(path: Path, dtype: str = "") -> dict[str, Tensor]:
    """What PyTorch loads; converted by its own `.to`, as safetensors names the type."""
    import torch
    from safetensors.torch import load_file

    targets = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    sources = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    entries, found = header(path), {}
    for name, tensor in load_file(path).items():
        is_converted = bool(dtype) and tensor.dtype in sources
        tensor = tensor.to(targets[dtype]) if is_converted else tensor
        kind = dtype if is_converted else entries[name]["dtype"]
        found[name] = Tensor(kind, entries[name]["shape"], bytes_of(tensor))
    if found.keys() != entries.keys():
        raise RuntimeError(f"{path}: PyTorch loads {len(found)} tensors of {len(entries)}")
    return found


def by_file(path: Path) -> dict[str, Tensor]:
    """The file's own bytes: for types that torch has not."""
    import numpy

    entries = header(path)
    data = numpy.fromfile(path, numpy.uint8)
    begin = len(data) - max(entry["data_offsets"][1] for entry in entries.values())
    return {
        name: Tensor(
            entry["dtype"],
            entry["shape"],
            data[begin + entry["data_offsets"][0] : begin + entry["data_offsets"][1]],
        )
        for name, entry in entries.items()
    }


def tensor_bytes(path: Path) -> int:
    """Of all tensors of a file together."""
    return sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in header(path).values())


# ---- what is in them --------------------------------------------------------------------------------------


def kinds() -> list[Spec]:
    """Every type in every shape that is odd, and a name that is no identifier."""
    specs: list[Spec] = [
        (f"{dtype}.{'x'.join(map(str, shape)) or 'scalar'}", dtype, shape)
        for dtype in DTYPES
        for shape in SHAPES
    ]
    return [
        *specs,
        ("слой/🙂 ", "float16", (3, 43_777)),
        (f"{PAIRS}.flat", PAIRS, (6, 16)),
        (f"{PAIRS}.deep", PAIRS, (3, 5, 8)),
    ]


def numbers() -> list[Spec]:
    """What is converted, and what a conversion leaves alone."""
    floats: list[Spec] = [
        (f"{each}.many", each, (1 << 17,)) for each in ("float16", "bfloat16", "float32", "float64")
    ]
    others: list[Spec] = [(f"{each}.stays", each, (4_099,)) for each in ("int64", "bool", "float8_e4m3fn")]
    return [*floats, *others, ("float32.scalar", "float32", ()), ("float32.empty", "float32", (0, 3))]


def parts(size: int, count: int, dtype: str = "bfloat16") -> list[Spec]:
    """So many tensors that take this size together, of odd lengths; the last takes what is left."""
    width = {"bfloat16": 2, "float32": 4}[dtype]
    elements, left = size // width // count, size // width
    specs: list[Spec] = []
    for at in range(count):
        length = max(1, elements - 2 * at - 1) if at + 1 < count else left
        specs.append((f"model.layers.{at}.self_attn.q_proj.weight", dtype, (length,)))
        left -= length
    return specs


def large(size: int) -> list[Spec]:
    """As language models are: two large tensors, many of a middle size, some small; three types."""
    ends = size // 16 // 2 // 4_096
    specs: list[Spec] = [
        (name, "bfloat16", (ends, 4_096)) for name in ("model.embed_tokens.weight", "lm_head.weight")
    ]
    specs += [(f"model.layers.{at}.input_layernorm.weight", "float32", (4_099,)) for at in range(90)]
    specs += [(f"model.layers.{at}.mlp.scale", "float8_e4m3fn", (257, 31)) for at in range(8)]
    taken = 2 * ends * 4_096 * 2 + 90 * 4_099 * 4 + 8 * 257 * 31
    return [*specs, *parts(size - taken, LARGE_TENSORS - len(specs))]


def contents(settings: Settings) -> dict[str, list[Spec]]:
    """Every file but the one that is written by hand."""
    made = {"kinds": kinds(), "numbers": numbers(), "singles": parts(settings.mid, 16, "float32")}
    made |= {f"tiny-{at}": [("w", "uint8", (at * 7,) if at else ())] for at in range(TINIES)}
    made |= {
        name: large(size) if name == "large" else parts(size, 48) for name, size in settings.series.items()
    }
    # As large as `series-d`: what is cold is compared with an equal.
    made["equal"] = parts(settings.size // 2, 48)
    return made | {f"mid-{at:02}": parts(settings.mid, 24) for at in range(MIDS)}


# ---- writing ----------------------------------------------------------------------------------------------


def random_bytes(length: int, seed: tuple[int, ...]) -> Any:  # noqa: ANN401
    import numpy

    words = numpy.random.Generator(numpy.random.SFC64(seed)).integers(
        0, 1 << 64, -(-length // 8), numpy.uint64
    )
    return words.view(numpy.uint8)[:length]


def random_tensor(spec: Spec, seed: tuple[int, ...]) -> Any:  # noqa: ANN401
    import torch

    _, name, shape = spec
    dtype = getattr(torch, name)
    elements = 1
    for count in shape:
        elements *= count
    data = torch.from_numpy(random_bytes(elements * dtype.itemsize, seed))
    # Of the patterns of a byte two are truths.
    return (
        (data & 1).to(torch.bool).reshape(shape) if dtype is torch.bool else data.view(dtype).reshape(shape)
    )


def write(path: Path, specs: list[Spec], seed: tuple[int, ...], pool: ThreadPoolExecutor) -> None:
    from safetensors.torch import save_file

    seeds: Iterator[tuple[int, ...]] = ((*seed, at) for at in itertools.count())
    tensors = dict(zip((spec[0] for spec in specs), pool.map(random_tensor, specs, seeds), strict=True))
    save_file(tensors, path)


def write_by_hand(path: Path, seed: tuple[int, ...]) -> None:
    entries, data = {}, b""
    for at, (dtype, shape) in enumerate(itertools.product(BY_HAND, ([4], [3, 4], [5, 7, 8]))):
        elements = 1
        for count in shape:
            elements *= count
        piece = random_bytes(elements * 3 // 4, (*seed, at)).tobytes()
        entries[f"{dtype}.{at}"] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [len(data), len(data) + len(piece)],
        }
        data += piece
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def make(settings: Settings) -> dict[str, int]:
    """Writes all of them, unless they are there; their sizes by name."""
    folder = Path(settings.models)
    folder.mkdir(parents=True, exist_ok=True)
    mark, wanted = folder / "made.json", {"size": settings.size, "seed": settings.seed, "format": 1}
    if mark.exists() and (told := json.loads(mark.read_text()))["of"] == wanted:
        return dict(told["sizes"])
    mark.unlink(missing_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, (name, specs) in enumerate(contents(settings).items()):
            write(settings.path(name), specs, (settings.seed, number), pool)
    write_by_hand(settings.path("by-hand"), (settings.seed, 1_000))
    # Those that are to be cold: what is not on the disk yet stays in memory.
    for name in ("series-d", "equal"):
        with settings.path(name).open("rb") as file:
            os.fsync(file.fileno())
    sizes = {path.stem: path.stat().st_size for path in sorted(folder.glob("*.safetensors"))}
    mark.write_text(json.dumps({"of": wanted, "sizes": sizes}))
    return sizes
