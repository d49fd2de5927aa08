"""Memory that a worker shares, in this process: a card's, or the machine's."""

from __future__ import annotations

import contextlib
import mmap
import os
import weakref
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


def attach(share: lease.DeviceShare, device: str) -> Attached:
    """Asks the worker for it, and maps it. Raises an Error that says why it cannot, and leaves nothing."""
    shared = _share.ask(share, device)
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
