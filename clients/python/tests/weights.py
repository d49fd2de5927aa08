"""Small models to test with, as writers in the wild write them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, Any]
_NAMES = {"float16": "F16", "float32": "F32", "int64": "I64", "uint8": "U8", "bfloat16": "BF16"}

UNET_PREFIX, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."


def of(seed: int, *shape: int, dtype: str = "float16") -> Any:  # noqa: ANN401
    """Numbers that no other seed has."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def unet(seed: int) -> Arrays:
    return {
        "input_blocks.0.0.weight": of(seed, 8, 4, 3, 3),
        "middle_block.0.in_layers.0.weight": of(seed + 1, 8, dtype="float32"),
        "output_blocks.0.0.in_layers.0.weight": of(seed + 2, 1024, 64),
    }


def vae(seed: int) -> Arrays:
    return {
        "decoder.conv_in.weight": of(seed, 8, 4, 3, 3),
        "decoder.mid.block_1.conv1.weight": of(seed + 1, 512, 64),
        "encoder.conv_in.weight": of(seed + 2, 8, 3, 3, 3, dtype="float32"),
    }


def under(prefix: str, arrays: Arrays) -> Arrays:
    return {prefix + name: array for name, array in arrays.items()}


def checkpoint(unet_seed: int, vae_seed: int) -> Arrays:
    return {**under(UNET_PREFIX, unet(unet_seed)), **under(VAE_PREFIX, vae(vae_seed))}


def write(path: Path, arrays: Arrays) -> None:
    """As writers in the wild do: nothing is aligned, and the names are in any order."""
    header: dict[str, Any] = {"__metadata__": {"made": "here", "where": str(path)}}
    end = 0
    for name, array in reversed(arrays.items()):
        entry = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape)}
        header[name] = {**entry, "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8 + 3)
    content = b"".join(array.tobytes() for array in reversed(arrays.values()))
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def same(theirs: Arrays, ours: Arrays) -> None:
    """Bit by bit."""
    assert theirs.keys() == ours.keys()
    for name, array in ours.items():
        assert (theirs[name].dtype, theirs[name].shape) == (array.dtype, array.shape)
        assert theirs[name].tobytes() == array.tobytes()
