"""Every tensor, as the worker reads it from its device, against PyTorch's load of the file, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
from hoist import CachedComponent

import models
import pages
from models import Tensor
from played import PIECE, Played, Wanted, playing
from processes import Ended
from server import AUTO, COPY_METHODS, Server, WorkerOptions, cannot_register, registers, serving
from settings import shown
from steps import Context, rate, timed

# Less takes no time that says anything.
LARGE_BYTES = 64 << 20

Same = Callable[[Any, Any, str], Any]

# Of what is converted to: its words, what is infinite among them, and all but the sign.
_NUMBERS: dict[str, tuple[Any, int, int]] = {
    "BF16": (numpy.uint16, 0x7F80, 0x7FFF),
    "F16": (numpy.uint16, 0x7C00, 0x7FFF),
    "F32": (numpy.uint32, 0x7F80_0000, 0x7FFF_FFFF),
}


def is_equal(one: Any, other: Any, _: str) -> Any:  # noqa: ANN401
    """Byte by byte."""
    return one == other


def is_equal_number(one: Any, other: Any, dtype: str) -> Any:  # noqa: ANN401
    """The same; or no number where there is none, whichever of its many codes."""
    if dtype not in _NUMBERS:
        return one == other
    words, infinite, magnitude = _NUMBERS[dtype]
    ours, theirs = one.view(words), other.view(words)
    return (ours == theirs) | (((ours & magnitude) > infinite) & ((theirs & magnitude) > infinite))


def differs(played: Played, handle: str, name: str, due: Tensor, is_same: Same) -> str:
    """How a tensor on the device is not what it is due to be. Empty: it is."""
    wrong: list[int] = []
    read = count = 0
    for offset, piece in played.pieces(handle, name, len(due.data)):
        told = (piece.dtype, list(piece.shape), piece.size_bytes)
        if told != (due.dtype, due.shape, len(due.data)):
            return f"`{name}` is {told}, and ({due.dtype}, {due.shape}, {len(due.data)}) is due"
        back, slice_due = numpy.frombuffer(piece.data, numpy.uint8), due.data[offset : offset + PIECE]
        if len(back) != len(slice_due):
            return f"`{name}`: {len(back)} bytes from byte {offset} on, and {len(slice_due)} are due"
        same = is_same(back, slice_due, due.dtype)
        if not same.all():
            places = numpy.flatnonzero(~same)
            count += len(places)
            width = len(back) // len(same)
            wrong += [offset + int(places[0]) * width, offset + int(places[-1]) * width]
        read += len(back)
    if count:
        where = f"the first from byte {wrong[0]} on, the last from byte {wrong[-1]} on"
        return f"`{name}` ({due.dtype} {due.shape}): {count} elements or bytes are wrong, {where}"
    return "" if read == len(due.data) else f"`{name}`: {read} bytes of {len(due.data)} came back"


def wanted_of(components: tuple[CachedComponent, ...], dtype: str = "") -> list[Wanted]:
    """All of a model."""
    return [Wanted(pages.digest(one.segment), one.path, dtype) for one in components]


def not_registered(played: Played, components: tuple[CachedComponent, ...]) -> str:
    """Loads a model and takes it off, so that the next load copies from its own pages; why it does not."""
    wanted = wanted_of(components)
    played.has(wanted)
    size = sum(one.size_bytes for one in components)
    why = pages.not_registered(played.process, (one.digest for one in wanted), size)
    played.want([])
    return why


def compare(
    played: Played, components: tuple[CachedComponent, ...], due: dict[str, Tensor], dtype: str, is_same: Same
) -> list[str]:
    """What is wrong with a model on the device."""
    wrong, seen = [], set()
    for component, replica in zip(components, played.has(wanted_of(components, dtype)), strict=True):
        names = models.header(Path(component.path)).keys()
        if replica.tensors != len(names):
            wrong.append(f"`{component.component}` has {replica.tensors} tensors, its segment {len(names)}")
        for name in names:
            key = component.prefix + name
            seen.add(key)
            if why := differs(played, replica.replica, name, due[key], is_same):
                wrong.append(why)
    if seen != due.keys():
        wrong.append(f"{len(due.keys() - seen)} tensors are in no component: {sorted(due.keys() - seen)[:3]}")
    return wrong


def one(
    at: Context,
    server: Server,
    played: Played,
    model: str,
    result: str,
    dtype: str = "",
    from_pages: bool = False,
) -> None:
    """One model, as it is or converted; or, loaded again, from registered pages."""
    at.told.doing(result)
    path = at.settings.path(model)
    cached = server.client.cache(path)
    due = models.by_file(path) if model == "by-hand" else models.by_torch(path, dtype)
    size = sum(len(tensor.data) for tensor in due.values())
    same = is_equal_number if dtype else is_equal
    why = not_registered(played, cached.components) if from_pages else ""
    took, wrong = timed(lambda: compare(played, cached.components, due, dtype, same))
    wrong += [why] if why else []
    if cached.left_out:
        wrong.append(f"left out: {cached.left_out}")
    figure = f"{len(due)} tensors, {shown(size)}"
    figure += f", read back at {rate(size, took)}" if size >= LARGE_BYTES else ""
    more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
    text = f"{len(wrong)} wrong: {'; '.join(wrong[:3])}{more}" if wrong else figure
    at.told.holds(result, not wrong, text, "0 wrong", tensors=len(due), bytes=size, wrong=wrong[:50])


def several(at: Context, server: Server, played: Played, names: list[str], result: str) -> None:
    """Several models, counted together."""
    at.told.doing(result)
    tensors, size, wrong = 0, 0, []
    for name in names:
        cached = server.client.cache(at.settings.path(name))
        due = models.by_torch(at.settings.path(name))
        wrong += [f"{name}: {why}" for why in compare(played, cached.components, due, "", is_equal)]
        tensors += len(due)
        size += sum(len(tensor.data) for tensor in due.values())
    text = (
        f"{len(wrong)} wrong: {'; '.join(wrong[:3])}"
        if wrong
        else f"{len(names)} models, {tensors} tensors, {shown(size)}"
    )
    at.told.holds(result, not wrong, text, "0 wrong", tensors=tensors, bytes=size, wrong=wrong[:50])


def bits(at: Context) -> None:
    mids = [f"mid-{number:02}" for number in range(models.MIDS)]
    with serving(at.settings, at.folder) as server:
        for method in COPY_METHODS:
            try:
                by(at, server, method, mids)
            except Ended as ended:
                if not cannot_register(method, ended):
                    raise
                at.told.untested(method, str(ended))


def by(at: Context, server: Server, method: str, mids: list[str]) -> None:
    """With a worker that copies in one way; everything, where it is the way that is taken unasked."""
    at.told.doing(f"a worker, {method}")
    models_of = {
        "kinds": "every type, every odd shape",
        "by-hand": "types that torch has not",
        "series-b": shown(at.settings.series["series-b"]),
    }
    with playing(at.settings, at.folder, f"worker-{method}", WorkerOptions(copy=method)) as played:
        for model, what in models_of.items():
            from_pages = registers(at.settings, method)
            one(at, server, played, model, f"{what}, {method}", from_pages=from_pages)
        if method != AUTO:
            return
        several(at, server, played, [f"tiny-{number}" for number in range(models.TINIES)], "tiny models")
        several(at, server, played, mids[:3] if at.settings.quick else mids, "mid-size models")
        one(at, server, played, "singles", "F32 model as BF16", "BF16")
        for dtype in ("BF16", "F16", "F32"):
            one(at, server, played, "numbers", f"all floating types as {dtype}", dtype)
        if not at.settings.quick:
            one(at, server, played, "large", f"the large model, {shown(at.settings.size)}")
