"""The header of a safetensors file, read from its memory: its length in eight bytes, then JSON."""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hoist._enums import Code
from hoist._errors import Error
from hoist._proto.v1 import lease_service_pb2 as lease

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Header:
    """What the file says of itself."""

    metadata: Mapping[str, str]
    places: list[lease.TensorPlace]
    """In the order of their places."""


def read(memory: mmap.mmap, path: str) -> Header:
    """Raises an Error that names `path` for what is no such file."""
    try:
        (length,) = _LENGTH.unpack_from(memory)
        data = _LENGTH.size + length
        table: dict[str, Any] = json.loads(memory[_LENGTH.size : data])
        metadata = table.pop("__metadata__", {})
        places = [_place(name, entry, data) for name, entry in table.items()]
    except (struct.error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Error(f"{path} is no file of tensors: {error}", code=Code.DATA_LOSS) from error
    places.sort(key=lambda each: each.offset)
    return Header(metadata, places)


def _place(name: str, entry: Mapping[str, Any], data: int) -> lease.TensorPlace:
    begin, end = entry["data_offsets"]
    return lease.TensorPlace(
        name=name, dtype=entry["dtype"], shape=entry["shape"], offset=data + begin, size_bytes=end - begin
    )
