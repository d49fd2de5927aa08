"""Memory that a worker shares, in this process: a card's, or the machine's."""

from __future__ import annotations

import contextlib
import mmap
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

from hoist import _cuda, _share
from hoist._enums import Code
from hoist._errors import Error
from hoist._proto.v1 import lease_service_pb2 as lease
from hoist._share import Line, Shared


@dataclass(frozen=True)
class Attached:
    """The memory of one component, and what lies where in it. The memory closes the line when it goes."""

    memory: mmap.mmap | _cuda.Memory
    places: dict[str, lease.TensorPlace]
    line: Line


def attach(shares: Mapping[str, lease.DeviceShare], device: str) -> dict[str, Attached]:
    """Asks the worker for these components, and maps them.

    Raises an Error that says which it cannot, and why; then nothing is left, of the others neither.
    """
    attached: dict[str, Attached] = {}
    try:
        with contextlib.closing(_share.ask(shares, device)) as answers:
            for component, shared in answers:
                with _share.naming(component):
                    attached[component] = _mapped(shared, device)
    except BaseException:
        # Now, and not when the error is forgotten, which refers to all of this.
        attached.clear()
        raise
    return attached


def _mapped(shared: Shared, device: str) -> Attached:
    with contextlib.ExitStack() as failed, contextlib.ExitStack() as taken:
        failed.callback(shared.line.close)
        taken.callback(os.close, shared.descriptor)
        memory: mmap.mmap | _cuda.Memory
        if shared.kind == "cuda":
            memory = _cuda.imported(shared.descriptor, taken.close, shared.device, shared.size, shared.line)
        else:
            memory = _of_machine(shared, device)
        failed.pop_all()
    return Attached(memory, {each.name: each for each in shared.places}, shared.line)


def _of_machine(shared: Shared, device: str) -> mmap.mmap:
    try:
        memory = mmap.mmap(shared.descriptor, shared.size, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise Error(f"the memory on {device} cannot be mapped: {error}", code=Code.DATA_LOSS) from error
    # At the end of the process nothing is said before the end itself does: tensors may still be in use.
    weakref.finalize(memory, shared.line.close).atexit = False
    return memory
