"""Memory of a card that another process has made: by the stand-in for NVIDIA's driver, which needs no card.

It shows which calls are made, in what order, and that each is undone once; it reports what the driver's
documentation forbids. That a real driver does what is documented, and that torch computes with such memory,
is tested on a card, by tests/gpu.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import shutil
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hoist
from hoist import _attached, _cuda, _cuda_driver
from hoist._proto.v1 import lease_service_pb2 as lease

from .fake_worker import (
    CARD,
    GRANULE,
    PATIENCE_SECONDS,
    TOKEN,
    CardWorker,
    Standin,
    Tensor,
    forked,
    no_descriptors_left,
)

TENSORS: list[Tensor] = [("w", "F32", [300], os.urandom(1_200)), ("b", "U8", [3 << 20], os.urandom(3 << 20))]

Start = Callable[[int], CardWorker]


@pytest.fixture
def start(library: str, folder: Path) -> Iterator[Start]:
    """Starts workers, each with memory of the card of that number."""
    running: list[CardWorker] = []

    def start(card: int = 0) -> CardWorker:
        running.append(CardWorker(library, folder, TENSORS, card))
        return running[-1]

    yield start
    for each in running:
        each.kill()


@pytest.fixture
def worker(start: Start) -> CardWorker:
    return start(0)


def attached(worker: CardWorker) -> _attached.Attached:
    share = lease.DeviceShare(replica="replicas/r", socket=str(worker.path), token=TOKEN)
    return _attached.attach({"unet": share}, "cuda:0").pop("unet")


def card_memory(worker: CardWorker) -> _cuda.Memory:
    """What refers to nothing else, so that it is let go of with its last name."""
    memory = attached(worker).memory
    assert isinstance(memory, _cuda.Memory)
    return memory


def read(memory: _cuda.Memory) -> bytes:
    # The stand-in's addresses are those of the machine.
    return ctypes.string_at(memory.address, len(memory))


def rights(address: int) -> str:
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(each, 16) for each in line.split()[0].split("-"))
        if begin <= address < end:
            return line.split()[1]
    return ""


def test_another_processs_memory_is_here_and_goes_with_its_last_reference(
    standin: Standin, worker: CardWorker
) -> None:
    with no_descriptors_left():
        comes_and_goes(standin, worker)
    assert set(worker.end().values()) == {0}


def comes_and_goes(standin: Standin, worker: CardWorker) -> None:
    before = len(os.listdir("/proc/self/fd"))
    found = attached(worker)
    memory = found.memory
    assert isinstance(memory, _cuda.Memory)
    assert (memory.ordinal, len(memory)) == (0, 2 * GRANULE)
    assert read(memory) == worker.content
    assert list(found.places) == ["w", "b"]
    assert rights(memory.address) == "r--s", "for reading alone"
    # The handle of the memory is not kept: what is mapped stays.
    left = {"mappings": 1, "reservations": 1, "allocations": 1, "context_references": 1}
    assert standin.counted() == {**dict.fromkeys(Standin.COUNTERS, 0), **left}
    # The line, and what the stand-in keeps of what is mapped; the driver's own descriptor has been closed.
    assert len(os.listdir("/proc/self/fd")) == before + 2
    assert worker.ask("look") == {"closed": 0, "open": 1}
    kept = memory
    del found, memory
    assert standin.counted()["mappings"] == 1
    del kept
    assert standin.counted() == dict.fromkeys(Standin.COUNTERS, 0)
    assert [standin.calls(call) for call in ("cuMemUnmap", "cuMemAddressFree", "cuMemRelease")] == [1, 1, 1]
    assert worker.ask("closed 1") == {"closed": 1, "open": 0}


def test_the_line_is_closed_only_when_the_memory_is_not_mapped_any_more(
    standin: Standin, worker: CardWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = attached(worker)
    close, seen = found.line.close, list[tuple[int, int]]()

    def closing() -> None:
        seen.append((standin.counted()["mappings"], standin.calls("cuCtxSynchronize")))
        close()

    monkeypatch.setattr(found.line, "close", closing)
    del found
    assert seen == [(0, 1)]


def test_what_only_a_cycle_refers_to_is_let_go_by_the_collector(standin: Standin, worker: CardWorker) -> None:
    cycle: list[object] = [card_memory(worker)]
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle
        assert standin.counted()["mappings"] == 1
        gc.collect()
    finally:
        gc.enable()
    assert standin.counted()["mappings"] == 0
    assert worker.ask("closed 1") == {"closed": 1, "open": 0}


def test_the_same_memory_twice_is_two_mappings(standin: Standin, worker: CardWorker) -> None:
    one, other = card_memory(worker), card_memory(worker)
    assert one.address != other.address
    assert (standin.counted()["mappings"], standin.counted()["allocations"]) == (2, 1)
    del one
    assert read(other) == worker.content


def test_torch_is_told_of_all_of_it(standin: Standin, worker: CardWorker) -> None:
    memory = card_memory(worker)
    assert memory.__cuda_array_interface__ == {
        "version": 3,
        "shape": (2 * GRANULE,),
        "typestr": "|u1",
        "strides": None,
        "data": (memory.address, False),
        "stream": None,
    }


def test_where_memory_cannot_be_for_reading_alone_it_is_for_both(
    standin: Standin, worker: CardWorker
) -> None:
    standin.fail("cuMemSetAccess", 801)
    memory = card_memory(worker)
    assert rights(memory.address) == "rw-s"
    assert read(memory) == worker.content


# The calls on the way, and which of each it is.
STEPS = [
    ("cuInit", 1),
    ("cuDeviceGetCount", 1),
    ("cuDeviceGet", 1),
    ("cuDeviceGetUuid", 1),
    ("cuDevicePrimaryCtxRetain", 1),
    ("cuCtxGetCurrent", 1),
    ("cuCtxSetCurrent", 1),
    ("cuMemImportFromShareableHandle", 1),
    ("cuMemAddressReserve", 1),
    ("cuMemMap", 1),
    ("cuMemSetAccess", 2),
]


@pytest.mark.parametrize(("call", "times"), STEPS, ids=[call for call, _ in STEPS])
def test_what_fails_on_the_way_is_told_and_leaves_nothing(
    standin: Standin, worker: CardWorker, call: str, times: int
) -> None:
    for number in range(times):
        standin.fail(call, 2, number + 1)
    text = rf"{call}\w*: CUDA_ERROR_OUT_OF_MEMORY \(2\)"
    with no_descriptors_left(), pytest.raises(hoist.Error, match=text) as error:
        attached(worker)
    known = hoist.Code.FAILED_PRECONDITION if call == "cuInit" else hoist.Code.INTERNAL
    assert error.value.code is known
    assert standin.counted() == dict.fromkeys(Standin.COUNTERS, 0), "while the error is still there"
    assert worker.ask("closed 1") == {"closed": 1, "open": 0}
    assert read(card_memory(worker)) == worker.content, "and the next goes well"


def test_a_code_that_the_driver_does_not_know_is_told_by_its_number(
    standin: Standin, worker: CardWorker
) -> None:
    standin.fail("cuMemMap", 98_765)
    with pytest.raises(
        hoist.Error, match=r"cuda:0|GPU-00f1f2f3.* cannot be mapped: cuMemMap: error \(98765\)$"
    ):
        attached(worker)


def test_the_callers_context_is_as_it_was(standin: Standin, start: Start) -> None:
    standin.cards(2)
    worker, other = start(0), start(1)
    before, now = ctypes.c_void_p(), ctypes.c_void_p()
    first = card_memory(worker)
    standin.library.cuCtxGetCurrent(ctypes.byref(now))
    assert now.value is None
    standin.library.cuDevicePrimaryCtxRetain(ctypes.byref(before), 0)
    standin.library.cuCtxSetCurrent(before)
    second = card_memory(other)
    assert (first.ordinal, second.ordinal) == (0, 1)
    assert read(second) == other.content
    for _ in range(2):
        standin.library.cuCtxGetCurrent(ctypes.byref(now))
        assert now.value == before.value
        second = first
    standin.library.cuCtxSetCurrent(None)
    standin.library.cuDevicePrimaryCtxRelease_v2(0)


def test_it_may_be_let_go_of_by_another_thread(standin: Standin, worker: CardWorker) -> None:
    kept = [card_memory(worker)]
    now = ctypes.c_void_p(1)

    def let_go() -> None:
        kept.clear()
        standin.library.cuCtxGetCurrent(ctypes.byref(now))

    thread = threading.Thread(target=let_go)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert standin.counted()["mappings"] == 0
    assert now.value is None


def test_a_card_that_is_not_visible_is_told_with_those_that_are(
    standin: Standin, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = start(1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(
        hoist.Error, match=rf"the card GPU-01.* is not visible .* sees {CARD}; .*DEVICES is '0'"
    ):
        attached(other)
    assert other.ask("closed 1") == {"closed": 1, "open": 0}


def test_without_a_card_that_is_told(
    standin: Standin, worker: CardWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.cards(0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(
        hoist.Error, match=r"does not begin .*NO_DEVICE \(100\); CUDA_VISIBLE_DEVICES is ''"
    ) as error:
        attached(worker)
    assert error.value.code is hoist.Code.FAILED_PRECONDITION


def test_without_a_driver_that_is_told(worker: CardWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cuda_driver, "_OPEN", {})
    monkeypatch.setattr(_cuda_driver, "LIBRARY", "libcuda-of-nobody.so.1")
    with pytest.raises(hoist.Error, match=r"libcuda-of-nobody.* cannot be opened.*NVIDIA's driver") as error:
        attached(worker)
    assert error.value.code is hoist.Code.FAILED_PRECONDITION
    monkeypatch.setattr(_cuda_driver, "LIBRARY", "libc.so.6")
    with pytest.raises(hoist.Error, match=r"libc\.so\.6 has no cuInit: the driver is older"):
        attached(worker)
    assert worker.ask("closed 2") == {"closed": 2, "open": 0}


def test_a_worker_that_has_ended_leaves_the_memory(standin: Standin, worker: CardWorker) -> None:
    found = attached(worker)
    memory = found.memory
    assert isinstance(memory, _cuda.Memory)
    assert not found.line.hung_up
    worker.kill()
    assert found.line.hung_up
    assert read(memory) == worker.content
    with pytest.raises(hoist.Error, match="cannot be asked"):
        attached(worker)


def test_a_worker_that_hangs_up_leaves_the_memory(standin: Standin, worker: CardWorker) -> None:
    found = attached(worker)
    worker.ask("hang up")
    assert found.line.hung_up
    assert isinstance(found.memory, _cuda.Memory)
    assert read(found.memory) == worker.content


def test_what_cannot_be_let_go_of_now_is_later_and_its_line_stays_open(
    standin: Standin, worker: CardWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """As while a graph is captured that torch knows nothing of: to wait for the card is refused then."""
    memory = card_memory(worker)
    standin.fail("cuCtxSynchronize", 900)
    with caplog.at_level(logging.WARNING, "hoist"):
        del memory
    assert "stays mapped until later: cuCtxSynchronize: error (900)" in caplog.text
    assert (standin.counted()["mappings"], worker.ask("look")["open"]) == (1, 1)
    other = card_memory(worker)
    assert (standin.counted()["mappings"], worker.ask("closed 1")) == (1, {"closed": 1, "open": 1})
    del other
    assert standin.calls("cuMemUnmap") == 2


class Cuda:
    """torch's, as far as it is asked whether it captures."""

    def __init__(self) -> None:
        self.begun = True
        self.captures = True
        self.trouble: Exception | None = None

    def is_initialized(self) -> bool:
        return self.begun

    def is_current_stream_capturing(self) -> bool:
        assert self.begun, "torch is not made to begin CUDA"
        if self.trouble is not None:
            raise self.trouble
        return self.captures


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """In place of torch's, which captures."""
    torch, made = types.ModuleType("torch"), Cuda()
    vars(torch)["cuda"] = made
    monkeypatch.setitem(sys.modules, "torch", torch)
    return made


def all_calls(standin: Standin) -> dict[str, int]:
    return {name: standin.calls(name.removesuffix("_v2")) for name in _cuda_driver.FUNCTIONS}


def test_while_torch_captures_a_graph_the_driver_is_not_called(
    standin: Standin, worker: CardWorker, cuda: Cuda, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that fails would spoil the graph all the same."""
    one, other = card_memory(worker), card_memory(worker)
    before = all_calls(standin)
    assert before["cuDevicePrimaryCtxRetain"] == 2, "they are counted by these names"
    with caplog.at_level(logging.DEBUG, "hoist"):
        del one
        del other
    assert all_calls(standin) == before
    assert caplog.text == "", "it is in order"
    assert worker.ask("look") == {"closed": 0, "open": 2}
    cuda.captures = False
    third = card_memory(worker)
    assert (standin.counted()["mappings"], worker.ask("closed 2")) == (1, {"closed": 2, "open": 1})
    cuda.captures = True
    del third
    assert standin.counted()["mappings"] == 1
    assert len(_cuda._LEFT) == 1, "once"
    cuda.captures = False
    fourth = card_memory(worker)
    del fourth
    assert (standin.counted()["mappings"], worker.ask("closed 4")) == (0, {"closed": 4, "open": 0})
    assert standin.calls("cuMemUnmap") == 4


def test_what_was_left_while_a_graph_was_captured_goes_with_the_next_that_goes(
    standin: Standin, worker: CardWorker, cuda: Cuda
) -> None:
    one, other = card_memory(worker), card_memory(worker)
    del one
    assert standin.counted()["mappings"] == 2
    cuda.captures = False
    del other
    assert standin.counted()["mappings"] == 0
    assert worker.ask("closed 2") == {"closed": 2, "open": 0}


def test_while_cuda_does_not_say_whether_it_captures_the_driver_is_not_called(
    standin: Standin, worker: CardWorker, cuda: Cuda
) -> None:
    """So it answers of the default stream, while one that this waits for is captured."""
    cuda.trouble = RuntimeError("CUDA error: operation would make the legacy stream depend on another")
    memory = card_memory(worker)
    before = all_calls(standin)
    del memory
    assert all_calls(standin) == before
    cuda.trouble, cuda.captures = None, False
    del [card_memory(worker)][0]
    assert worker.ask("closed 2") == {"closed": 2, "open": 0}


@pytest.mark.parametrize("how", ["not begun", "only just imported", "without graphs"])
def test_where_torch_captures_nothing_memory_is_let_go_of(
    standin: Standin, worker: CardWorker, cuda: Cuda, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda.begun = how != "not begun"
    if how == "only just imported":
        monkeypatch.delattr(sys.modules["torch"], "cuda")
    if how == "without graphs":
        monkeypatch.delattr(Cuda, "is_current_stream_capturing")
    memory = card_memory(worker)
    del memory
    assert standin.counted()["mappings"] == 0
    assert worker.ask("closed 1") == {"closed": 1, "open": 0}


def test_what_can_never_be_let_go_of_is_told_once(
    standin: Standin, worker: CardWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """After an error of the card that nothing but the end of the process ends."""
    memories = [card_memory(worker) for _ in range(3)]
    standin.library.hoist_standin_poison(700)
    with caplog.at_level(logging.WARNING, "hoist"):
        memories.clear()
        with pytest.raises(hoist.Error, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
            attached(worker)
    assert caplog.text.count("stays mapped until later") == 3
    assert worker.ask("closed 1") == {"closed": 1, "open": 3}
    # What the end of the process would do.
    for each in _cuda._LEFT:
        each._line.close()
    _cuda._LEFT.clear()
    standin.reset()


def test_a_child_of_a_fork_leaves_all_of_it_alone(standin: Standin, worker: CardWorker) -> None:
    kept = [card_memory(worker)]

    def child() -> None:
        assert not kept[0].usable
        with pytest.raises(hoist.Error, match="CUDA works in no child of a fork"):
            attached(worker)
        before = standin.counted()
        kept.clear()
        gc.collect()
        assert standin.counted() == before, "but the parent's, which is not used here"
        assert [standin.calls(call) for call in ("cuCtxSynchronize", "cuMemUnmap")] == [0, 0]

    assert forked(child) == 0
    assert kept[0].usable
    # The child has asked the worker, and closed that line of its own.
    assert worker.ask("closed 1") == {"closed": 1, "open": 1}
    assert read(kept[0]) == worker.content


def test_in_a_child_of_a_process_that_began_cuda_that_is_told(
    standin: Standin, worker: CardWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it was not this client that began it, but torch, say, the driver itself answers so."""
    standin.fail("cuInit", 3)
    with pytest.raises(
        hoist.Error, match=r"NOT_INITIALIZED \(3\).*after a fork .*start the process with spawn"
    ):
        attached(worker)


# At the very end of the process, when Python has been taken down: what the stand-in has counted by then.
WITNESS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
static const char *const names[] = {
    "mappings", "reservations", "handles", "context_references", "violations"};
__attribute__((destructor)) static void tell(void)
{
    for (int i = 0; i < 5; i++) {
        char name[64];
        snprintf(name, sizeof name, "hoist_standin_%s", names[i]);
        unsigned long (*count)(void) = dlsym(dlopen(LIBRARY, RTLD_NOW | RTLD_NOLOAD), name);
        fprintf(stderr, "%s=%lu ", names[i], count());
    }
}
"""

PROGRAM = """
import ctypes, sys
from hoist import _attached, _cuda_driver
from hoist._proto.v1 import lease_service_pb2 as lease
_, _cuda_driver.LIBRARY, witness, socket, how = sys.argv
share = lease.DeviceShare(socket=socket, token=b"t" * 32)
found = _attached.attach({"unet": share}, "cuda:0").pop("unet")
ctypes.CDLL(witness)
if how == "cycle":
    found = [found]
    found.append(found)
if how == "killed":
    print("attached", flush=True)
    sys.stdin.read()
if how == "raises":
    raise LookupError("mine")
if how == "daemon":
    import threading
    began = threading.Event()
    def use(kept):
        began.set()
        threading.Event().wait()
    threading.Thread(target=use, args=(found,), daemon=True).start()
    began.wait()
    del found
"""


@pytest.fixture
def program(library: str, worker: CardWorker, tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    """A process of its own that attaches, and ends so."""
    source, witness = tmp_path / "witness.c", tmp_path / "witness.so"
    source.write_text(WITNESS)
    subprocess.run(["gcc", "-shared", "-fPIC", f'-DLIBRARY="{library}"', source, "-o", witness], check=True)

    def run(how: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, library, str(witness), str(worker.path), how]
        clean = {**os.environ, "HOIST_STANDIN_VIOLATIONS": "abort"}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=clean)

    return run


@pytest.mark.parametrize("how", ["plain", "cycle", "raises"])
def test_a_process_that_ends_lets_go_in_order(
    program: Callable[[str], subprocess.Popen[str]], worker: CardWorker, how: str
) -> None:
    process = program(how)
    _, told = process.communicate(timeout=PATIENCE_SECONDS)
    assert told.endswith("mappings=0 reservations=0 handles=0 context_references=0 violations=0 "), told
    assert (process.returncode == 0) is (how != "raises")
    assert worker.ask("closed 1") == {"closed": 1, "open": 0}


def test_a_process_that_ends_leaves_what_a_thread_still_uses(
    program: Callable[[str], subprocess.Popen[str]], worker: CardWorker
) -> None:
    """The end of the process takes it: a card may be computing with it until then."""
    process = program("daemon")
    _, told = process.communicate(timeout=PATIENCE_SECONDS)
    assert told.startswith("mappings=1 "), told
    assert "violations=0" in told
    assert process.returncode == 0
    assert worker.ask("closed 1") == {"closed": 1, "open": 0}


def test_a_process_that_is_killed_has_closed_its_line(
    program: Callable[[str], subprocess.Popen[str]], worker: CardWorker
) -> None:
    process = program("killed")
    assert process.stdout is not None
    assert process.stdout.readline() == "attached\n"
    assert worker.ask("look") == {"closed": 0, "open": 1}
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)
    assert worker.ask("closed 1") == {"closed": 1, "open": 0}
    assert set(worker.end().values()) == {0}


# As the header has them.
DECLARED = {
    "cuInit": "CUresult(unsigned int)",
    "cuGetErrorName": "CUresult(CUresult, const char **)",
    "cuGetErrorString": "CUresult(CUresult, const char **)",
    "cuDeviceGetCount": "CUresult(int *)",
    "cuDeviceGet": "CUresult(CUdevice *, int)",
    "cuDeviceGetUuid_v2": "CUresult(CUuuid *, CUdevice)",
    "cuDevicePrimaryCtxRetain": "CUresult(CUcontext *, CUdevice)",
    "cuDevicePrimaryCtxRelease_v2": "CUresult(CUdevice)",
    "cuCtxGetCurrent": "CUresult(CUcontext *)",
    "cuCtxSetCurrent": "CUresult(CUcontext)",
    "cuCtxSynchronize": "CUresult(void)",
    "cuMemImportFromShareableHandle": (
        "CUresult(CUmemGenericAllocationHandle *, void *, CUmemAllocationHandleType)"
    ),
    "cuMemRelease": "CUresult(CUmemGenericAllocationHandle)",
    "cuMemAddressReserve": "CUresult(CUdeviceptr *, size_t, size_t, CUdeviceptr, unsigned long long)",
    "cuMemAddressFree": "CUresult(CUdeviceptr, size_t)",
    "cuMemMap": "CUresult(CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle, unsigned long long)",
    "cuMemUnmap": "CUresult(CUdeviceptr, size_t)",
    "cuMemSetAccess": "CUresult(CUdeviceptr, size_t, const CUmemAccessDesc *, size_t)",
}


def test_what_is_declared_is_what_the_header_has(tmp_path: Path) -> None:
    """The compiler compares each declaration with the vendor's, and our types with what they stand for."""
    headers = Path(__file__).parents[3] / ".libtorch" / "include-cuda"
    if not shutil.which("gcc") or not (headers / "cuda.h").exists():
        pytest.skip(f"there is no gcc, or no cuda.h in {headers}: `make libtorch` fetches it")
    assert DECLARED.keys() == _cuda_driver.FUNCTIONS.keys()
    lines = ["#include <cuda.h>", "#include <stddef.h>"]
    for name, declared in DECLARED.items():
        lines.append(
            f"_Static_assert(__builtin_types_compatible_p(__typeof__({name}), {declared}), {name!r});"
        )
        theirs = [each.strip() for each in declared[len("CUresult(") : -1].split(",") if each != "void"]
        ours = _cuda_driver.FUNCTIONS[name]
        assert len(ours) == len(theirs), name
        for one, kind in zip(ours, theirs, strict=True):
            lines.append(f"_Static_assert(sizeof({kind}) == {ctypes.sizeof(one)}, {name!r});")
            if kind.endswith("*") and kind != "void *":
                behind = kind.removeprefix("const ").removesuffix("*").strip()
                lines.append(f"_Static_assert(sizeof({behind}) == {ctypes.sizeof(one._type_)}, {name!r});")
    for structure, field, theirs_name in (
        (_cuda_driver.Access, "location", "CUmemAccessDesc"),
        (_cuda_driver.Access, "flags", "CUmemAccessDesc"),
        (_cuda_driver.Location, "type", "CUmemLocation"),
        (_cuda_driver.Location, "id", "CUmemLocation"),
        (_cuda_driver.Uuid, "bytes", "CUuuid"),
    ):
        place = getattr(structure, field)
        lines.append(f"_Static_assert(offsetof({theirs_name}, {field}) == {place.offset}, {field!r});")
        lines.append(f"_Static_assert(sizeof((({theirs_name} *)0)->{field}) == {place.size}, {field!r});")
    for value, constant in (
        (_cuda_driver.SUCCESS, "CUDA_SUCCESS"),
        (_cuda_driver.DEINITIALIZED, "CUDA_ERROR_DEINITIALIZED"),
        (_cuda_driver.FILE_DESCRIPTOR, "CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR"),
        (_cuda_driver.ON_DEVICE, "CU_MEM_LOCATION_TYPE_DEVICE"),
        (_cuda_driver.READ, "CU_MEM_ACCESS_FLAGS_PROT_READ"),
        (_cuda_driver.READ_AND_WRITE, "CU_MEM_ACCESS_FLAGS_PROT_READWRITE"),
    ):
        lines.append(f"_Static_assert({constant} == {value}, {constant!r});")
    # A text of C has double quotes.
    source = tmp_path / "declared.c"
    source.write_text("\n".join(lines).replace("'", '"') + "\n")
    subprocess.run(["gcc", "-std=gnu11", "-fsyntax-only", "-I", headers, source], check=True)
