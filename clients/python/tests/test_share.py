"""What the client makes of what a worker answers at its side socket. No descriptor is left of any of it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hoist
from hoist import _attached, _share
from hoist._proto.v1 import lease_service_pb2 as lease

from .fake_worker import (
    TOKEN,
    FakeWorker,
    forked,
    framed,
    laid_out,
    memfd,
    no_descriptors_left,
    sent,
    shares,
    table,
)

CONTENT, TENSORS = laid_out(
    [("w", "U8", [4], b"1234"), ("v", "F16", [1, 2], b"abcd"), ("e", "F32", [0], b"")]
)
GOOD = table(CONTENT, TENSORS, "memory")


@pytest.fixture
def worker(folder: Path) -> Iterator[FakeWorker]:
    """One that shares `GOOD`. Afterwards no descriptor is left."""
    with no_descriptors_left():
        running = FakeWorker(folder / "side.sock", shares(CONTENT, TENSORS))
        try:
            yield running
        finally:
            running.stop()


def share_of(worker: FakeWorker | Path) -> lease.DeviceShare:
    path = worker.path if isinstance(worker, FakeWorker) else worker
    return lease.DeviceShare(replica="replicas/r", socket=str(path), token=TOKEN, size_bytes=len(CONTENT))


def asked(worker: FakeWorker | Path) -> _share.Shared:
    ((component, shared),) = _share.ask({"unet": share_of(worker)}, "fake:0")
    assert component == "unet"
    return shared


def let_go(shared: _share.Shared) -> None:
    os.close(shared.descriptor)
    shared.line.close()


def test_what_a_worker_shares_is_had(worker: FakeWorker) -> None:
    shared = asked(worker)
    assert (shared.kind, shared.device, shared.size) == ("memory", "", len(CONTENT))
    assert [
        (each.name, each.dtype, list(each.shape), each.offset, each.size_bytes) for each in shared.places
    ] == [(each["name"], each["dtype"], each["shape"], each["offset"], each["size"]) for each in TENSORS]
    assert os.pread(shared.descriptor, 4, 0) == b"1234"
    assert not os.get_inheritable(shared.descriptor)
    assert worker.tokens == [TOKEN]
    assert not shared.line.hung_up
    let_go(shared)
    worker.wait(lambda: worker.closed == 1)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_it_may_come_in_pieces(worker: FakeWorker, size: int) -> None:
    """Of which the first alone has the descriptor."""

    def answer(connection: socket.socket) -> None:
        message = framed(GOOD)
        with memfd(CONTENT) as descriptor:
            sent(connection, message[:size], [descriptor])
        for at in range(size, len(message), size):
            connection.sendall(message[at : at + size])

    worker.answer = answer
    shared = asked(worker)
    assert [each.name for each in shared.places] == ["w", "v", "e"]
    let_go(shared)


def test_a_long_table_is_read_whole(worker: FakeWorker) -> None:
    content, tensors = laid_out([(f"layers.{number}.weight", "U8", [1], b"x") for number in range(20_000)])
    worker.answer = shares(content, tensors)
    shared = asked(worker)
    assert len(shared.places) == 20_000
    let_go(shared)


def odd(**changed: object) -> dict[str, Any]:
    return {**GOOD, **changed}


def other(**changed: object) -> dict[str, Any]:
    """With one tensor that is odd."""
    return odd(tensors=[{**TENSORS[0], **changed}])


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (struct.pack("<I", (64 << 20) + 1), "67108865 bytes long, where 67108864 are allowed"),
        (struct.pack("<I", 0), "no JSON"),
        (framed(b"\xff\xfe"), "no JSON"),
        (framed(b'{"kind": "memory"'), "no JSON"),
        (framed(b"[" * 100_000), "no JSON"),
        (framed([GOOD]), "no object"),
        (framed({}), "kind of memory, None, is newer"),
        (framed(odd(kind="vulkan")), "kind of memory, 'vulkan', is newer"),
        (framed(odd(kind="cuda")), "names no device"),
        (framed(odd(device=3)), "names no device"),
        (framed(odd(size=0)), "no memory of 0 bytes"),
        (framed(odd(size="4")), "no memory of '4' bytes"),
        (framed(odd(size=None)), "no memory of None bytes"),
        (framed(odd(tensors=None)), "TypeError"),
        (framed(odd(tensors=[3])), "TypeError"),
        (framed({"kind": "memory", "size": 4}), "KeyError: 'tensors'"),
        (framed(odd(tensors=[TENSORS[0], TENSORS[0]])), "two tensors have one name"),
        (framed(other(offset=-1)), "ValueError"),
        (framed(other(offset=len(CONTENT) - 3)), "w ends behind the end"),
        (framed(other(size=2**64)), "ValueError"),
        (framed(other(offset=2**63, size=2**63)), "w ends behind the end"),
        (framed(other(shape="4")), "TypeError"),
        (framed(other(shape=[1.5])), "TypeError"),
        (framed(other(name=7)), "TypeError"),
    ],
)
def test_an_answer_that_is_none_is_told(worker: FakeWorker, message: bytes, text: str) -> None:
    def answer(connection: socket.socket) -> None:
        with memfd(CONTENT) as descriptor:
            sent(connection, message, [descriptor])

    worker.answer = answer
    with pytest.raises(hoist.Error, match=f"the worker of fake:0 at .* is not understood: .*{text}") as error:
        asked(worker)
    assert error.value.code is hoist.Code.INTERNAL
    worker.wait(lambda: worker.closed == 1)


@pytest.mark.parametrize("count", [0, 2, 3, 200])
def test_one_descriptor_comes_with_it_not_more_and_not_less(worker: FakeWorker, count: int) -> None:
    def answer(connection: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            sent(connection, framed(GOOD), [stack.enter_context(memfd(CONTENT)) for _ in range(count)])

    worker.answer = answer
    with pytest.raises(hoist.Error, match="no descriptor" if not count else "more than one descriptor"):
        asked(worker)


def test_a_second_descriptor_later_is_one_too_many(worker: FakeWorker) -> None:
    def answer(connection: socket.socket) -> None:
        message = framed(GOOD)
        with memfd(CONTENT) as descriptor:
            sent(connection, message[:9], [descriptor])
            sent(connection, message[9:], [descriptor])

    worker.answer = answer
    with pytest.raises(hoist.Error, match="more than one descriptor"):
        asked(worker)


def test_a_process_that_may_open_no_more_is_told(worker: FakeWorker) -> None:
    def child() -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
        last = 0
        with contextlib.suppress(OSError):
            while True:
                last = os.dup(2)
        # One for the connection.
        os.close(last)
        with pytest.raises(hoist.Error, match="this process has as many open as it may") as error:
            asked(worker)
        assert error.value.code is hoist.Code.RESOURCE_EXHAUSTED

    assert forked(child) == 0


@pytest.mark.parametrize("with_descriptor", [False, True])
def test_what_the_worker_refuses_is_refused(worker: FakeWorker, with_descriptor: bool) -> None:
    def answer(connection: socket.socket) -> None:
        with memfd(CONTENT) as descriptor:
            sent(connection, framed({"error": "was used"}), [descriptor] if with_descriptor else [])
        connection.shutdown(socket.SHUT_RDWR)

    worker.answer = answer
    with pytest.raises(hoist.Refused, match="does not give the memory of replicas/r: was used") as refused:
        asked(worker)
    assert refused.value.code is hoist.Code.FAILED_PRECONDITION


@pytest.mark.parametrize("length", [0, 1, 4, 30])
def test_a_worker_that_hangs_up_halfway_is_told(worker: FakeWorker, length: int) -> None:
    def answer(connection: socket.socket) -> None:
        if length:
            with memfd(CONTENT) as descriptor:
                sent(connection, framed(GOOD)[:length], [descriptor])
        connection.shutdown(socket.SHUT_RDWR)

    worker.answer = answer
    with pytest.raises(hoist.Error, match="has hung up before all of its answer") as error:
        asked(worker)
    assert error.value.code is hoist.Code.UNAVAILABLE


NAMES = ("unet", "vae", "text_encoder")


@pytest.fixture
def workers(folder: Path) -> Iterator[dict[str, FakeWorker]]:
    """One for each of several components. Afterwards no descriptor is left."""
    with no_descriptors_left():
        running = {name: FakeWorker(folder / f"{name}.sock", shares(CONTENT, TENSORS)) for name in NAMES}
        try:
            yield running
        finally:
            for each in running.values():
                each.stop()


@pytest.mark.parametrize("failing", NAMES)
@pytest.mark.parametrize("how", ["refused", "hangs", "nobody", "not mapped"])
def test_of_several_that_one_does_not_give_nothing_is_left(
    workers: dict[str, FakeWorker], monkeypatch: pytest.MonkeyPatch, how: str, failing: str
) -> None:
    """Of those that are mapped, those that are only handed over, and those that still wait for an answer."""
    over = threading.Event()

    def refuses(connection: socket.socket) -> None:
        sent(connection, framed({"error": "was used"}), [])

    def hangs(connection: socket.socket) -> None:
        over.wait()

    def gives_a_pipe(connection: socket.socket) -> None:
        read, write = os.pipe()
        try:
            sent(connection, framed(odd(tensors=[])), [read])
        finally:
            os.close(read)
            os.close(write)

    ways: dict[str, tuple[Callable[[socket.socket], None], str]] = {
        "refused": (refuses, "the worker of fake:0 at .* does not give the memory of replicas/r: was used"),
        "hangs": (hangs, r"the worker of fake:0 at .* has not answered after 0\.5 s"),
        "nobody": (refuses, "the worker of fake:0 at .* cannot be asked: .*No such file"),
        "not mapped": (gives_a_pipe, "the memory on fake:0 cannot be mapped"),
    }
    workers[failing].answer, text = ways[how]
    if how == "hangs":
        monkeypatch.setattr(_share, "ANSWER_SECONDS", 0.5)
    asked = {name: share_of(each) for name, each in workers.items()}
    said = list(NAMES)
    if how == "nobody":
        asked[failing].socket += ".not"
        said = said[: said.index(failing)]
    try:
        with pytest.raises(hoist.Error, match=f"^'{failing}' is not attached: {text}") as error:
            _attached.attach(asked, "fake:0")
        assert error.value.message == str(error.value)
        # While the error is still there, with all that its trace refers to.
        assert "memfd:hoist-fake-worker" not in Path("/proc/self/maps").read_text()
    finally:
        over.set()
    for name in said:
        workers[name].wait(lambda worker=workers[name]: worker.closed == 1)  # type: ignore[misc]


def test_who_stops_listening_leaves_nothing(workers: dict[str, FakeWorker]) -> None:
    answers = _share.ask({name: share_of(each) for name, each in workers.items()}, "fake:0")
    _, shared = next(answers)
    answers.close()
    assert sum(each.closed for each in workers.values()) <= 2, "what is handed over is the caller's"
    let_go(shared)
    for each in workers.values():
        each.wait(lambda each=each: each.closed == 1)  # type: ignore[misc]


@pytest.mark.parametrize("drips", [False, True])
def test_a_slow_worker_is_given_up(worker: FakeWorker, monkeypatch: pytest.MonkeyPatch, drips: bool) -> None:
    """Also one that sends a byte before each wait is over."""
    monkeypatch.setattr(_share, "ANSWER_SECONDS", 0.2)
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        message = framed(GOOD)
        with memfd(CONTENT) as descriptor:
            sent(connection, message[:4], [descriptor])
        for at in range(4, len(message)):
            if over.wait(0.02):
                return
            if drips:
                with contextlib.suppress(OSError):
                    connection.sendall(message[at : at + 1])

    worker.answer = answer
    try:
        with pytest.raises(hoist.TimedOut, match=r"has not answered after 0\.2 s"):
            asked(worker)
    finally:
        over.set()


def test_where_nobody_listens_is_told(folder: Path) -> None:
    path = folder / "side.sock"
    with no_descriptors_left():
        text = r"cannot be asked: .*No such file.*another call finds the next"
        with pytest.raises(hoist.Error, match=text) as error:
            asked(path)
        assert error.value.code is hoist.Code.UNAVAILABLE
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        with pytest.raises(hoist.Error, match=r"cannot be asked: .*refused"):
            asked(path)
        with pytest.raises(hoist.Error, match=r"cannot be asked: .*too long"):
            asked(folder / ("x" * 200))


def test_one_that_has_no_place_left_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says at once that there is none, which is no reason to give up at once."""
    path = folder / "side.sock"
    monkeypatch.setattr(_share, "ANSWER_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as full:
        listener.bind(str(path))
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = full.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(path))
        with pytest.raises(hoist.TimedOut):
            asked(path)


def test_hanging_up_is_noticed_and_closing_is_told(worker: FakeWorker) -> None:
    shared = asked(worker)
    other = asked(worker)
    worker.wait(lambda: len(worker.open) == 2)
    assert not shared.line.hung_up
    let_go(other)
    worker.wait(lambda: worker.closed == 1)
    assert not shared.line.hung_up
    worker.hang_up()
    assert shared.line.hung_up
    assert not other.line.hung_up, "it is closed from here"
    let_go(shared)
    shared.line.close()
    assert not shared.line.hung_up


def test_what_a_worker_says_after_its_answer_is_no_end(worker: FakeWorker) -> None:
    def answer(connection: socket.socket) -> None:
        shares(CONTENT, TENSORS)(connection)
        connection.sendall(b"more")

    worker.answer = answer
    shared = asked(worker)
    assert not shared.line.hung_up
    worker.hang_up()
    assert shared.line.hung_up, "though what it said was not read"
    let_go(shared)


def test_a_child_of_a_fork_does_not_close_its_parents_line(worker: FakeWorker) -> None:
    shared = asked(worker)
    assert forked(shared.line.close) == 0
    assert not shared.line.hung_up
    assert (worker.closed, len(worker.open)) == (0, 1)
    let_go(shared)
    worker.wait(lambda: worker.closed == 1)


def test_a_child_of_a_fork_does_not_keep_its_parents_line(worker: FakeWorker) -> None:
    """It has the same connection open; closing it reaches the worker all the same."""
    shared = asked(worker)

    def close() -> None:
        let_go(shared)
        worker.wait(lambda: worker.closed == 1)

    assert forked(lambda: None, before=close) == 0


def test_the_table_of_a_worker_is_json_as_the_document_shows() -> None:
    page = Path(__file__).parents[3] / "docs" / "attach-device.md"
    if not page.exists():
        pytest.skip(f"{page} is not here")
    shown = page.read_text().split("```json\n")[1].split("```")[0]
    good, refusal = shown.split('\n   {"error"')
    told = json.loads(good.replace("GPU-9f…", "GPU-9f"))
    assert told.keys() == GOOD.keys()
    assert told["tensors"][0].keys() == TENSORS[0].keys()
    assert "error" in json.loads('{"error"' + refusal)
