"""`attach`: tensors over memory that a worker shares, from the lease to the last of them.

The memory is the machine's, or a card's by the stand-in for NVIDIA's driver. torch does not take the latter
for a card's: where both meet, one step is replaced (`_frameworks.on_card`), which tests/gpu tries on a card.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import importlib.util
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hoist
from hoist import _cuda, _frameworks, _share
from hoist._proto.v1 import lease_service_pb2 as lease

from .fake_lessor import DROP, FakeLessor
from .fake_worker import (
    PATIENCE_SECONDS,
    TOKEN,
    CardWorker,
    FakeWorker,
    Standin,
    Tensor,
    forked,
    framed,
    laid_out,
    sent,
    shares,
)
from .test_tensors import EXPECTED, PLAIN, SMALL

needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is not installed")

ALL: list[Tensor] = [*PLAIN, *SMALL]
ONE: list[Tensor] = [("w", "U8", [4], b"1234")]

Lend = Callable[..., FakeWorker]


def lent(lessor: FakeLessor, component: str, path: Path, prefix: str = "") -> None:
    """From now on the server grants this component as one on a device."""
    added = lease.LeasedComponent(type=component)
    added.component.component = component
    added.component.segment = f"segments/{component}"
    added.component.prefix = prefix
    added.share.replica = f"replicas/{component}"
    added.share.socket = str(path)
    added.share.token = TOKEN
    lessor.components.append(added)


@pytest.fixture
def lend(lessor: FakeLessor) -> Iterator[Lend]:
    """Starts a worker that shares memory of the machine with these tensors, as this component."""
    running: list[FakeWorker] = []

    def lend(component: str, tensors: list[Tensor], prefix: str = "") -> FakeWorker:
        worker = FakeWorker(lessor.folder / f"{component}.sock", shares(*laid_out(tensors)))
        running.append(worker)
        lent(lessor, component, worker.path, prefix)
        return worker

    yield lend
    for each in running:
        each.stop()


@pytest.fixture
def card(library: str, folder: Path, lessor: FakeLessor) -> Iterator[CardWorker]:
    """A worker with memory of a card, which shares it as the component `unet`."""
    running = CardWorker(library, folder, ALL)
    lent(lessor, "unet", running.path)
    yield running
    running.kill()


@pytest.fixture
def client(lessor: FakeLessor) -> Iterator[hoist.Client]:
    with hoist.connect(lessor.endpoint) as connected:
        yield connected


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def mapped() -> list[tuple[int, int]]:
    """Where memory of workers is in this process."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    ranges = [line.split()[0].split("-") for line in lines if "memfd:hoist-fake-worker" in line]
    return [(int(begin, 16), int(end, 16)) for begin, end in ranges]


def test_tensors_are_had_where_they_are(lessor: FakeLessor, client: hoist.Client, lend: Lend) -> None:
    lend("unet", ALL, prefix="model.")
    with client.attach("m", "unet", "fake:0", dtype="BF16", framework="numpy", holder="me") as tensors:
        (request,) = lessor.requests
        assert (request.name, list(request.components), request.holder) == ("m", ["unet"], "me")
        assert (request.device_id, request.dtype) == ("fake:0", "BF16")
        assert list(tensors) == [name for name, *_ in ALL]
        for name, dtype, shape, content in ALL:
            array = tensors[name]
            assert (list(array.shape), array.tobytes()) == (shape, content)
            assert array.astype(complex).tolist() == EXPECTED[name]
            address = array.__array_interface__["data"][0]
            assert not content or any(begin <= address < end for begin, end in mapped()), "not copied"
            assert not content or not array.flags.writeable
            info = tensors.info(name)
            assert (info.name, info.dtype, list(info.shape), info.component) == (name, dtype, shape, "unet")
        assert tensors.nbytes == sum(len(content) for *_, content in ALL)
        assert tensors.state_dict(prefix=True).keys() == {f"model.{name}" for name, *_ in ALL}
        assert (tensors.device, tensors.replica, tensors.segment) == (
            "fake:0",
            "replicas/unet",
            "segments/unet",
        )
        assert (tensors.path, tensors.files, tensors.metadata) == ("", (), {})
        assert (tensors.held, tensors.hung_up, tensors.closed) == (True, False, False)
        assert repr(tensors) == "<Tensors 'unet' replicas/unet on fake:0 held>"
        with pytest.raises(KeyError, match="did you mean 'f32'"):
            tensors["ff32"]
        del array
    assert (lessor.held, mapped()) == (set(), [])


def test_a_file_that_is_kept_as_it_is_is_its_bytes(client: hoist.Client, lend: Lend) -> None:
    lend("model", [("q4.gguf", "U8", [8], b"GGUF\3\0\0\0")])
    with client.attach("m", device="fake:0", framework="numpy").only() as tensors:
        assert tensors.files == ()
        assert tensors["q4.gguf"].tobytes() == b"GGUF\3\0\0\0"


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_on_the_machines_own_memory_it_is_as_open(
    lessor: FakeLessor, client: hoist.Client, device: str
) -> None:
    path = lessor.add("vae", ONE)
    with client.attach("m", "vae", device=device, framework="numpy") as tensors:
        assert lessor.requests[0].device_id == ""
        assert (tensors.path, tensors.device, tensors.replica) == (str(path), "cpu:0", "")
        assert tensors.hung_up is False
        assert tensors["w"].tobytes() == b"1234"
        assert tensors.metadata == {"format": "pt"}
    with client.open("m", "vae") as tensors:
        assert tensors.device == "cpu:0"


def test_a_model_is_attached_as_a_whole_under_one_lease(
    lessor: FakeLessor, client: hoist.Client, lend: Lend
) -> None:
    unet, vae = lend("unet", ONE), lend("vae", [("v", "U8", [2], b"56")])
    with client.attach("m", device="fake:0", framework="numpy") as model:
        assert list(model) == ["unet", "vae"]
        assert [model[name][key].tobytes() for name, key in (("unet", "w"), ("vae", "v"))] == [b"1234", b"56"]
        model["vae"].close()
        vae.wait(lambda: vae.closed == 1)
        assert (len(unet.open), len(lessor.held)) == (1, 1)
        assert model.held
    unet.wait(lambda: unet.closed == 1)
    assert (len(lessor.requests), lessor.held) == (1, set())


def test_the_line_stays_as_long_as_a_tensor_does(
    lessor: FakeLessor, client: hoist.Client, lend: Lend
) -> None:
    worker = lend("unet", ONE)
    tensors = client.attach("m", "unet", "fake:0", framework="numpy")
    kept = tensors["w"][1:3]
    tensors.close()
    assert lessor.held == set()
    with pytest.raises(ValueError, match="'unet' are closed"):
        tensors["w"]
    del tensors
    gc.collect()
    assert (worker.closed, len(worker.open), len(mapped())) == (0, 1, 1)
    assert kept.tobytes() == b"23"
    del kept
    worker.wait(lambda: worker.closed == 1)
    assert mapped() == []


def test_a_lease_that_nobody_refers_to_ends_and_so_does_its_line(
    lessor: FakeLessor, client: hoist.Client, lend: Lend
) -> None:
    worker = lend("unet", ONE)
    model = client.attach("m", device="fake:0", framework="numpy")
    assert model["unet"]["w"].tobytes() == b"1234"
    del model
    gc.collect()
    worker.wait(lambda: worker.closed == 1)
    lessor.wait(lambda: not lessor.held)


def test_a_worker_that_hangs_up_ends_what_is_held_and_leaves_the_tensors(
    lessor: FakeLessor, client: hoist.Client, lend: Lend, caplog: pytest.LogCaptureFixture
) -> None:
    worker = lend("unet", ONE)
    model = client.attach("m", device="fake:0", framework="numpy")
    tensors = model.only()
    assert (tensors.held, model.held, model.hung_up) == (True, True, False)
    worker.hang_up()
    eventually(lambda: tensors.hung_up)
    assert (tensors.held, model.held, model.hung_up, tensors.revoked) == (False, False, True, None)
    assert tensors["w"].tobytes() == b"1234"
    with caplog.at_level(logging.WARNING, "hoist"):
        lessor.tell("unloaded by force")
        eventually(lambda: tensors.revoked is not None)
    assert tensors.revoked == "unloaded by force"
    assert tensors["w"].tobytes() == b"1234"
    model.close()
    assert (tensors.hung_up, mapped()) == (False, []), "it is closed from here"


def test_after_a_restart_of_the_server_nothing_is_asked_of_the_worker(
    lessor: FakeLessor, client: hoist.Client, lend: Lend
) -> None:
    worker = lend("unet", ONE)
    tensors = client.attach("m", "unet", "fake:0", framework="numpy")
    lessor.tell(DROP)
    lessor.wait(lambda: len(lessor.requests) == 2)
    eventually(lambda: tensors.held)
    assert (lessor.requests[1].lease, lessor.requests[1].device_id) == (tensors.lease, "")
    assert worker.tokens == [TOKEN]
    tensors.close()


def test_what_fails_for_one_component_lets_go_of_the_others(
    lessor: FakeLessor, client: hoist.Client, lend: Lend
) -> None:
    unet, vae = lend("unet", ONE), lend("vae", ONE)

    def refuse(connection: socket.socket) -> None:
        sent(connection, framed({"error": "it is not there"}), [])

    vae.answer = refuse
    with pytest.raises(
        hoist.Refused, match=r"the worker of fake:0 .*replicas/vae: it is not there"
    ) as refused:
        client.attach("m", device="fake:0")
    # While the error is still there, with all that its trace refers to.
    unet.wait(lambda: unet.closed == 1)
    vae.wait(lambda: vae.closed == 1)
    assert (lessor.held, mapped()) == (set(), [])
    assert refused.value.code is hoist.Code.FAILED_PRECONDITION


THREE = ("unet", "vae", "text_encoder")


@pytest.fixture
def busy(lessor: FakeLessor, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWorker]:
    """A worker that shares three components, and answers once all of their tokens are said."""
    monkeypatch.setattr(_share, "ANSWER_SECONDS", 5.0)
    running = FakeWorker(lessor.folder / "busy.sock", lambda _: None)

    def answer(connection: socket.socket) -> None:
        running.wait(lambda: len(running.tokens) % len(THREE) == 0)
        shares(*laid_out(ONE))(connection)

    running.answer = answer
    for component in THREE:
        lent(lessor, component, running.path)
    yield running
    running.stop()


def test_all_tokens_are_said_before_an_answer_is_waited_for(client: hoist.Client, busy: FakeWorker) -> None:
    """Each is good for a minute, and each answer may take as long as a load."""
    with client.attach("m", device="fake:0", framework="numpy") as model:
        assert [model[name]["w"].tobytes() for name in THREE] == [b"1234"] * 3
        assert len(busy.open) == 3
    busy.wait(lambda: busy.closed == 3)
    assert mapped() == []


async def test_asyncio_says_all_tokens_before_it_waits_for_an_answer(
    lessor: FakeLessor, busy: FakeWorker
) -> None:
    async with (
        hoist.aio.connect(lessor.endpoint) as client,
        client.attach("m", device="fake:0", framework="numpy") as model,
    ):
        assert [model[name]["w"].tobytes() for name in THREE] == [b"1234"] * 3
    busy.wait(lambda: busy.closed == 3)


def test_answers_may_come_in_any_order(lessor: FakeLessor, client: hoist.Client, lend: Lend) -> None:
    """And are read as they come: a worker waits for nobody who does not read."""
    workers = [lend(name, [("w", "U8", [1], name[:1].encode())]) for name in THREE]
    read, begun = threading.Event(), workers[0].answer

    def last(connection: socket.socket) -> None:
        assert read.wait(PATIENCE_SECONDS)
        begun(connection)

    def long(connection: socket.socket) -> None:
        # More than fits into a socket that nobody reads from.
        shares(*laid_out([(f"w{number}", "U8", [1], b"x") for number in range(20_000)]))(connection)
        read.set()

    workers[0].answer, workers[2].answer = last, long
    with client.attach("m", device="fake:0", framework="numpy") as model:
        assert list(model) == list(THREE)
        assert [model[name]["w"].tobytes() for name in THREE[:2]] == [b"u", b"v"]
        assert len(model[THREE[2]]) == 20_000


def test_not_more_wait_for_an_answer_than_a_worker_keeps(
    lessor: FakeLessor, client: hoist.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_share, "AT_ONCE", 2)
    waiting, most, lock = set[socket.socket](), list[int](), threading.Lock()

    def answer(connection: socket.socket) -> None:
        with lock:
            waiting.add(connection)
            most.append(len(waiting))
        # Long enough for another token, were it said.
        time.sleep(0.05)
        with lock:
            waiting.remove(connection)
        shares(*laid_out(ONE))(connection)

    worker = FakeWorker(lessor.folder / "side.sock", answer)
    names = [f"c{number}" for number in range(7)]
    for name in names:
        lent(lessor, name, worker.path)
    try:
        with client.attach("m", device="fake:0", framework="numpy") as model:
            assert [model[name]["w"].tobytes() for name in names] == [b"1234"] * 7
            assert len(worker.open) == 7, "those that have their answer stay"
        assert max(most) == 2
        worker.wait(lambda: worker.closed == 7)
    finally:
        worker.stop()


def test_memory_that_is_less_than_is_told_is_told(
    lessor: FakeLessor, client: hoist.Client, lend: Lend
) -> None:
    worker = lend("unet", ONE)
    content, tensors = laid_out(ONE)

    def answer(connection: socket.socket) -> None:
        shares(content[:2], tensors)(connection)

    worker.answer = shares(content, [{**tensors[0], "size": 3}])
    with (
        client.attach("m", "unet", "fake:0", framework="numpy") as odd,
        pytest.raises(hoist.Error, match="3 bytes are no U8"),
    ):
        odd["w"]
    worker.answer = answer
    with pytest.raises(hoist.Error, match="behind the end of the memory"):
        client.attach("m", "unet", "fake:0")

    def less(connection: socket.socket) -> None:
        read, write = os.pipe()
        sent(connection, framed({"kind": "memory", "size": 4, "tensors": []}), [read])
        os.close(read)
        os.close(write)

    worker.answer = less
    with pytest.raises(hoist.Error, match="the memory on fake:0 cannot be mapped") as error:
        client.attach("m", "unet", "fake:0")
    assert error.value.code is hoist.Code.DATA_LOSS
    assert lessor.held == set()


def test_a_server_that_knows_no_leases_on_devices_is_told(lessor: FakeLessor, client: hoist.Client) -> None:
    """It does not read what it does not know, and grants what it has in RAM."""
    lessor.add("vae", ONE)
    with pytest.raises(hoist.Error, match="'vae' into RAM, not on cuda:0") as error:
        client.attach("m", "vae")
    assert error.value.code is hoist.Code.UNIMPLEMENTED
    assert lessor.held == set()


def test_arguments_are_judged_before_anything_is_sent(lessor: FakeLessor, client: hoist.Client) -> None:
    wrong: list[tuple[dict[str, object], type[Exception], str]] = [
        ({"device": ""}, ValueError, "device is empty"),
        ({"device": 0}, TypeError, "device must be a string"),
        ({"device": None}, TypeError, "device must be a string"),
        ({"dtype": ""}, ValueError, "dtype is empty"),
        ({"dtype": 3}, TypeError, "dtype must be a string"),
        ({"device": "cpu:0", "dtype": "BF16"}, ValueError, "dtype: in RAM"),
        ({"device": "cuda:0", "framework": "numpy"}, ValueError, "numpy has no arrays on a card"),
        ({"framework": "jax"}, ValueError, "use auto, torch, numpy"),
        ({"component": ""}, ValueError, "component"),
        ({"component": "vae", "components": ["vae"]}, ValueError, "components"),
        ({"timeout": -1}, ValueError, "timeout"),
    ]
    for arguments, error, text in wrong:
        with pytest.raises(error, match=text):
            client.attach("m", **arguments)  # type: ignore[call-overload]
    assert lessor.requests == []


async def test_asyncio_attaches_without_holding_up_the_loop(lessor: FakeLessor, lend: Lend) -> None:
    worker = lend("unet", ONE)
    may_answer, share = threading.Event(), worker.answer

    def answer(connection: socket.socket) -> None:
        # Only while the loop runs beside the attaching is there ever an answer.
        assert may_answer.wait(PATIENCE_SECONDS)
        share(connection)

    worker.answer = answer
    async with hoist.aio.connect(lessor.endpoint) as client:
        asyncio.get_running_loop().call_later(0.05, may_answer.set)
        async with client.attach("m", "unet", "fake:0", framework="numpy") as tensors:
            assert tensors["w"].tobytes() == b"1234"
            assert tensors.device == "fake:0"
        assert lessor.held == set()
        model = await client.attach("m", device="fake:0", framework="numpy")
        assert list(model) == ["unet"]
    assert model.closed
    assert lessor.requests[0].device_id == "fake:0"


def test_a_child_of_a_fork_reads_memory_of_the_machine_and_leaves_the_line_alone(
    lessor: FakeLessor, client: hoist.Client, lend: Lend
) -> None:
    worker = lend("unet", ONE)
    tensors = client.attach("m", "unet", "fake:0", framework="numpy")

    def child() -> None:
        assert tensors["w"].tobytes() == b"1234"
        tensors.close()
        assert mapped() == []

    assert forked(child) == 0
    assert (tensors.held, worker.closed, len(worker.open)) == (True, 0, 1)
    tensors.close()
    worker.wait(lambda: worker.closed == 1)


class Fakes:
    """What of torch is used to make one tensor of a card's memory."""

    __version__ = "0"

    def __init__(self, trouble: Exception | None = None) -> None:
        self.cuda = self
        self.made: list[tuple[object, object]] = []
        self._trouble = trouble

    def init(self) -> None:
        if self._trouble is not None:
            raise self._trouble

    def device(self, kind: str, number: int) -> str:
        return f"{kind}:{number}"

    def as_tensor(self, memory: object, device: str) -> object:
        self.made.append((memory, device))
        return self.made[-1]


def test_a_cards_memory_is_attached_and_let_go_of(
    standin: Standin, card: CardWorker, lessor: FakeLessor, client: hoist.Client
) -> None:
    with client.attach("m", "unet") as tensors:
        assert lessor.requests[0].device_id == "cuda:0"
        assert [(name, tensors.info(name).dtype) for name in tensors] == [
            (name, kind) for name, kind, *_ in ALL
        ]
        assert tensors.nbytes == sum(len(content) for *_, content in ALL)
        memory = tensors._memory
        assert isinstance(memory, _cuda.Memory)
        assert ctypes.string_at(memory.address, len(memory)) == card.content
        assert standin.counted()["mappings"] == 1
        del memory
    assert standin.counted() == dict.fromkeys(Standin.COUNTERS, 0)
    assert card.ask("closed 1") == {"closed": 1, "open": 0}
    assert lessor.held == set()


def test_what_fails_for_one_component_lets_go_of_a_cards_memory(
    standin: Standin, card: CardWorker, lessor: FakeLessor, client: hoist.Client, lend: Lend
) -> None:
    vae = lend("vae", ONE)

    def refuse(connection: socket.socket) -> None:
        eventually(lambda: standin.counted()["mappings"] == 1)
        sent(connection, framed({"error": "it is not there"}), [])

    vae.answer = refuse
    with pytest.raises(
        hoist.Refused, match=r"^'vae' is not attached: .*replicas/vae: it is not there"
    ) as error:
        client.attach("m")
    assert standin.counted() == dict.fromkeys(Standin.COUNTERS, 0), "while the error is still there"
    assert error.value.code is hoist.Code.FAILED_PRECONDITION
    assert standin.calls("cuMemUnmap") == 1
    assert card.ask("closed 1") == {"closed": 1, "open": 0}
    assert lessor.held == set()


def test_where_a_worker_is_not_there_nothing_is_mapped(
    standin: Standin, card: CardWorker, lessor: FakeLessor, client: hoist.Client
) -> None:
    lent(lessor, "vae", lessor.folder / "nobody.sock")
    with pytest.raises(hoist.Error, match=r"the worker of cuda:0 at .*nobody\.sock cannot be asked") as error:
        client.attach("m")
    assert error.value.code is hoist.Code.UNAVAILABLE
    assert standin.calls("cuMemMap") == 0
    assert card.ask("closed 1") == {"closed": 1, "open": 0}
    assert lessor.held == set()


def test_without_torch_that_is_told_when_a_tensor_is_asked_for(
    standin: Standin, card: CardWorker, client: hoist.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_frameworks, "_installed", lambda name: name == "numpy")
    with client.attach("m", "unet") as tensors:
        assert tensors.info("f32").dtype == "F32", "what needs none works"
        with pytest.raises(ImportError, match="torch is not installed: pip install torch"):
            tensors["f32"]
    with pytest.raises(ImportError, match="torch is not installed"):
        client.attach("m", "unet", framework="torch")


def test_numpy_is_told_of_a_card_that_is_named_otherwise(
    standin: Standin, card: CardWorker, client: hoist.Client
) -> None:
    with (
        client.attach("m", "unet", "gpu:0", framework="numpy") as tensors,
        pytest.raises(TypeError, match="numpy has no arrays on a card"),
    ):
        tensors["f32"]


def test_torch_is_asked_for_all_bytes_where_they_are(
    standin: Standin, card: CardWorker, client: hoist.Client
) -> None:
    with client.attach("m", "unet") as tensors:
        memory = tensors._memory
        assert isinstance(memory, _cuda.Memory)
        fakes = Fakes()
        assert _frameworks.on_card(fakes, memory) == (memory, "cuda:0")
        for trouble in (RuntimeError("no driver"), AssertionError("Torch not compiled with CUDA enabled")):
            with pytest.raises(hoist.Error, match=f"torch 0 cannot use the card: {trouble}") as error:
                _frameworks.on_card(Fakes(trouble), memory)
            assert error.value.code is hoist.Code.FAILED_PRECONDITION
        del memory, error
        fakes.made.clear()


def test_in_a_child_of_a_fork_a_card_is_out_of_reach(
    standin: Standin, card: CardWorker, client: hoist.Client
) -> None:
    tensors = client.attach("m", "unet")

    def child() -> None:
        with pytest.raises(hoist.Error, match="CUDA works in no child of a fork"):
            tensors["f32"]
        tensors.close()
        assert standin.calls("cuMemUnmap") == 0

    assert forked(child) == 0
    assert (tensors.held, card.ask("look")["open"]) == (True, 1)
    tensors.close()


@pytest.fixture
def on_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch takes the stand-in's memory for the machine's, which it is, instead of a card's."""

    def on_host(torch: Any, memory: _cuda.Memory) -> Any:  # noqa: ANN401
        array = (ctypes.c_ubyte * len(memory)).from_address(memory.address)
        array.keeps = memory  # type: ignore[attr-defined]
        return torch.frombuffer(array, dtype=torch.uint8)

    monkeypatch.setattr(_frameworks, "on_card", on_host)


@needs_torch
@pytest.mark.usefixtures("on_host", "standin")
def test_torch_has_every_value_without_a_copy(card: CardWorker, client: hoist.Client) -> None:
    torch: Any = importlib.import_module("torch")
    with client.attach("m", "unet") as tensors:
        memory = tensors._memory
        assert isinstance(memory, _cuda.Memory)
        for (name, _, shape, content), place in zip(ALL, card.tensors, strict=True):
            tensor = tensors[name]
            assert list(tensor.shape) == shape
            assert tensor.is_contiguous()
            if content:
                assert bytes(tensor.reshape(-1).view(torch.uint8).numpy()) == content
                assert tensor.data_ptr() == memory.address + place["offset"]
        for name in ("i64", "u64", "f32", "bool", "scalar"):
            assert tensors[name].tolist() == EXPECTED[name]
        for name in ("bf16", "e4m3", "e5m2"):
            assert tensors[name].float().tolist() == EXPECTED[name]
        assert tensors.state_dict().keys() == {name for name, *_ in ALL}
        del tensor, memory


@needs_torch
@pytest.mark.usefixtures("on_host")
def test_a_tensor_keeps_a_cards_memory_and_its_line(
    standin: Standin, card: CardWorker, lessor: FakeLessor, client: hoist.Client
) -> None:
    tensors = client.attach("m", "unet")
    kept = tensors["f32"][1:]
    tensors.close()
    del tensors
    gc.collect()
    assert (lessor.held, standin.counted()["mappings"], card.ask("look")["open"]) == (set(), 1, 1)
    assert kept.tolist() == [[3, 4, 5]]
    del kept
    gc.collect()
    assert standin.counted()["mappings"] == 0
    assert card.ask("closed 1") == {"closed": 1, "open": 0}


@needs_torch
@pytest.mark.usefixtures("standin")
def test_what_torch_copies_is_an_error(
    card: CardWorker, client: hoist.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(torch: Any, memory: _cuda.Memory) -> Any:  # noqa: ANN401
        return torch.zeros(len(memory), dtype=torch.uint8)

    monkeypatch.setattr(_frameworks, "on_card", copied)
    with (
        client.attach("m", "unet") as tensors,
        pytest.raises(hoist.Error, match="has copied the memory of a card"),
    ):
        tensors["f32"]


@needs_torch
@pytest.mark.usefixtures("standin", "on_host")
def test_what_torch_could_only_copy_is_an_error(
    library: str, folder: Path, lessor: FakeLessor, client: hoist.Client
) -> None:
    worker = CardWorker(library, folder, [("a", "U8", [3], b"123"), ("b", "F16", [1], b"45")])
    try:
        lent(lessor, "unet", worker.path)
        with client.attach("m", "unet") as tensors:
            assert tensors._table is not None
            tensors._table["b"].offset = 3
            with pytest.raises(hoist.Error, match="2 bytes of F16 begin at 3, where torch can use none"):
                tensors["b"]
            tensors._table["a"].dtype = "F6_E2M3"
            with pytest.raises(TypeError, match="has no element type for F6"):
                tensors["a"]
    finally:
        worker.kill()


@needs_torch
def test_torch_without_a_card_says_so(standin: Standin, card: CardWorker, client: hoist.Client) -> None:
    torch: Any = importlib.import_module("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a card, which is not the stand-in's")
    with (
        client.attach("m", "unet") as tensors,
        pytest.raises(hoist.Error, match=r"torch 2.* cannot use the card"),
    ):
        tensors["f32"]


@needs_torch
def test_memory_of_the_machine_is_had_by_torch(client: hoist.Client, lend: Lend) -> None:
    lend("unet", ALL)
    with client.attach("m", "unet", "fake:0") as tensors:
        assert tensors["f32"].tolist() == EXPECTED["f32"]
        assert any(begin <= tensors["f32"].data_ptr() < end for begin, end in mapped())
