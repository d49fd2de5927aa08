"""What the client makes of the course of a lease, over the wire, from a server made for it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator

import pytest

import hoist
from hoist import Code, _backoff, _endpoint, _lease_stream, _open
from hoist._lease import LeaseState
from hoist._lease_stream import LeaseStream
from hoist._open import OpenModel
from hoist._proto.v1 import lease_service_pb2 as lease
from hoist._proto.v1.operation_pb2 import Progress

from .fake_lessor import DROP, PATIENCE_SECONDS, FakeLessor


@pytest.fixture
def model(lessor: FakeLessor) -> FakeLessor:
    lessor.add("unet", [("w", "U8", [4], b"unet")])
    lessor.add("vae", [("w", "U8", [3], b"vae")])
    return lessor


@pytest.fixture
def client(model: FakeLessor) -> Iterator[hoist.Client]:
    with hoist.connect(model.endpoint) as connected:
        yield connected


def follower(opened: OpenModel | hoist.Tensors) -> threading.Thread:
    """The thread that holds a lease; it ends when the lease does."""
    thread = opened._hold._stream._thread
    assert thread is not None
    return thread


def joined(opened: OpenModel | hoist.Tensors) -> None:
    thread = follower(opened)
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_lease_is_held_until_it_is_closed_and_gone_then(model: FakeLessor, client: hoist.Client) -> None:
    with client.open("m", "vae", holder="me") as tensors:
        assert model.held == {tensors.lease}
        assert tensors.held
        assert [each.holder for each in model.requests] == ["me"]
        assert bytes(tensors["w"]) == b"vae"
    assert model.held == set()
    assert tensors.closed
    assert not follower(tensors).is_alive()
    tensors.close()


def test_a_model_is_opened_as_a_whole_under_one_lease(model: FakeLessor, client: hoist.Client) -> None:
    opened = client.open("m")
    assert list(opened) == ["unet", "vae"]
    assert (opened.model, len(model.requests)) == ("models/m", 1)
    with pytest.raises(ValueError, match="take one of unet, vae"):
        opened.only()
    opened["vae"].close()
    with pytest.raises(ValueError, match="closed"):
        opened["vae"]["w"]
    assert (opened["vae"].closed, opened["vae"].held) == (True, False)
    assert bytes(opened["unet"]["w"]) == b"unet"
    assert opened["unet"].held
    assert opened.held
    opened.close()
    assert model.held == set()
    with pytest.raises(ValueError, match="closed"):
        opened["unet"]["w"]


def test_what_was_opened_twice_is_two_things_though_it_has_the_same_tensors(client: hoist.Client) -> None:
    with client.open("m") as one, client.open("m") as other:
        assert one != other
        assert one["vae"] != other["vae"]
        assert len({one, other, one["vae"], other["vae"]}) == 4


def test_the_only_component_stands_for_the_model(model: FakeLessor, client: hoist.Client) -> None:
    with client.open("m", components=["vae"]).only() as tensors:
        assert bytes(tensors["w"]) == b"vae"
    assert model.held == set()


def test_progress_is_heard_where_it_is_waited_for(model: FakeLessor, client: hoist.Client) -> None:
    model.progress = [None, Progress(done_bytes=1, total_bytes=2), Progress(done_bytes=2, total_bytes=2)]
    heard: list[tuple[int, threading.Thread]] = []
    client.open("m", on_progress=lambda p: heard.append((p.done_bytes, threading.current_thread()))).close()
    assert heard == [(1, threading.current_thread()), (2, threading.current_thread())]


def test_who_fails_while_hearing_wants_no_lease(model: FakeLessor, client: hoist.Client) -> None:
    model.progress, model.grants = [Progress(done_bytes=1)], False

    def fail(_: hoist.Progress) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine") as raised:
        client.open("m", on_progress=fail)
    model.wait(lambda: not model.asking)
    assert raised.value.args == ("mine",)


def test_a_refusal_is_raised(model: FakeLessor, client: hoist.Client) -> None:
    model.refusal = (Code.RESOURCE_EXHAUSTED, "RAM_EXHAUSTED")
    with pytest.raises(hoist.Refused) as refused:
        client.open("m")
    assert refused.value.reason == "RAM_EXHAUSTED"
    assert refused.value.request_id == model.requests[0].request_id


def test_a_server_that_hangs_is_given_up(
    model: FakeLessor, client: hoist.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lease_stream, "LATE_SECONDS", 0.0)
    model.grants = False
    with pytest.raises(hoist.TimedOut, match=r"not granted after 0\.05 s"):
        client.open("m", timeout=0.05)
    assert model.requests[0].deadline.nanos == 50_000_000


def test_time_that_is_over_between_two_tries_is_over(
    model: FakeLessor, client: hoist.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lease_stream, "LATE_SECONDS", 0.0)
    model.refusal = (Code.UNAVAILABLE, "DRAINING")

    def delay(*_: object) -> float:
        model.refusal, model.grants = None, False
        return PATIENCE_SECONDS

    monkeypatch.setattr(_backoff.Backoff, "delay", delay)
    with pytest.raises(hoist.TimedOut, match=r"not granted after 0\.05 s"):
        client.open("m", timeout=0.05)
    assert len(model.requests) == 1


def test_a_lease_that_is_granted_when_time_is_over_is_not_had(
    model: FakeLessor, client: hoist.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lease_stream, "LATE_SECONDS", 0.0)
    over = threading.Event()
    expire, feed = LeaseStream._expire, LeaseState.feed

    def expired(stream: LeaseStream) -> None:
        expire(stream)
        over.set()

    def fed(of: LeaseState, answer: lease.AcquireResponse) -> object:
        assert answer.HasField("granted")
        assert over.wait(PATIENCE_SECONDS)
        return feed(of, answer)

    monkeypatch.setattr(LeaseStream, "_expire", expired)
    monkeypatch.setattr(LeaseState, "feed", fed)
    with pytest.raises(hoist.TimedOut):
        client.open("m", timeout=0.05)
    model.wait(lambda: not model.held)


def test_closing_the_client_ends_waiting(model: FakeLessor, client: hoist.Client) -> None:
    model.grants = False
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            client.open("m")
        except hoist.Error as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    model.wait(lambda: len(model.requests) == 1)
    client.close()
    thread.join(PATIENCE_SECONDS)
    assert "the client is closed" in str(raised[0])
    model.wait(lambda: not model.asking)


def test_closing_the_client_ends_its_leases(model: FakeLessor, client: hoist.Client) -> None:
    tensors = client.open("m", "vae")
    before = tensors["w"]
    client.close()
    model.wait(lambda: not model.held)
    assert tensors.closed
    with pytest.raises(ValueError, match="closed"):
        tensors["w"]
    assert bytes(before) == b"vae"
    with pytest.raises(hoist.Error, match="closed"):
        client.open("m")


def test_a_lease_that_nobody_refers_to_ends(model: FakeLessor, client: hoist.Client) -> None:
    opened = client.open("m")
    part = opened["vae"]
    del opened
    gc.collect()
    assert part.held, "a part of it is referred to"
    thread = follower(part)
    del part
    gc.collect()
    model.wait(lambda: not model.held)
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def test_a_revoked_lease_says_so_and_its_memory_stays(
    model: FakeLessor, client: hoist.Client, caplog: pytest.LogCaptureFixture
) -> None:
    tensors = client.open("m", "vae")
    with caplog.at_level(logging.WARNING, "hoist"):
        model.tell("room for another")
        joined(tensors)
    assert (tensors.revoked, tensors.lost, tensors.held) == ("room for another", None, False)
    assert "is revoked: room for another" in caplog.text
    os.unlink(tensors.path)
    assert bytes(tensors["w"]) == b"vae"
    tensors.close()
    assert len(model.requests) == 1, "a revoked lease is not asked for again"


def test_after_a_restart_the_lease_is_taken_up_again(model: FakeLessor, client: hoist.Client) -> None:
    tensors = client.open("m", "vae", holder="me")
    name = tensors.lease
    model.stop()
    eventually(lambda: not tensors.held)
    assert (tensors.revoked, tensors.lost) == (None, None)
    model.start()
    model.wait(lambda: model.requests[-1].lease == name)
    eventually(lambda: tensors.held)
    assert (model.held, tensors.lost, model.requests[-1].holder) == ({name}, None, "me")
    tensors.close()
    assert model.held == set()


def test_a_lease_that_the_server_has_forgotten_is_lost(model: FakeLessor, client: hoist.Client) -> None:
    tensors = client.open("m", "vae")
    model.known.clear()
    model.tell(DROP)
    joined(tensors)
    assert isinstance(tensors.lost, hoist.NotFound)
    assert (tensors.lost.reason, tensors.held, tensors.revoked) == ("LEASE_UNKNOWN", False, None)
    assert bytes(tensors["w"]) == b"vae"


def test_a_server_that_stays_away_loses_the_lease(model: FakeLessor, client: hoist.Client) -> None:
    model.grace_seconds = 0
    tensors = client.open("m", "vae")
    model.stop()
    joined(tensors)
    assert tensors.lost is not None


def test_a_fault_of_the_client_does_not_leave_a_lease_looking_held(
    model: FakeLessor, client: hoist.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = client.open("m", "vae")
    monkeypatch.setattr(LeaseState, "ended", lambda *_: 1 / 0)
    model.tell(DROP)
    joined(tensors)
    assert "ZeroDivisionError" in str(tensors.lost)
    assert not tensors.held


def test_closing_does_not_wait_for_a_server_that_is_away(
    model: FakeLessor, client: hoist.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_backoff.Backoff, "delay", lambda *_: 60.0)
    tensors = client.open("m", "vae")
    model.stop()
    eventually(lambda: not tensors.held)
    begun = time.monotonic()
    tensors.close()
    assert time.monotonic() - begun < _lease_stream.GOODBYE_SECONDS
    assert not follower(tensors).is_alive()
    assert tensors.lost is None


def test_a_file_that_is_not_here_ends_the_lease(model: FakeLessor, client: hoist.Client) -> None:
    os.unlink(model.components[1].component.path)
    with pytest.raises(hoist.Error, match=r"vae\.safetensors cannot be mapped: .*server's machine"):
        client.open("m")
    assert model.held == set()


def test_a_child_of_a_fork_reads_and_leaves_the_lease_alone(model: FakeLessor, client: hoist.Client) -> None:
    tensors = client.open("m", "vae")
    with warnings.catch_warnings():
        # Forking with threads is what is tested.
        warnings.simplefilter("ignore")
        child = os.fork()
    if not child:
        status = 1
        with contextlib.suppress(BaseException):
            read = bytes(tensors["w"])
            tensors.close()
            del tensors
            gc.collect()
            status = 0 if read == b"vae" else 2
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert tensors.held
    # A word over the same connection: had the child written to it, the stream would have broken before.
    client.status()
    model.tell("still here")
    joined(tensors)
    assert tensors.revoked == "still here"
    assert len(model.requests) == 1


def test_a_child_of_a_fork_leaves_its_parent_waiting(model: FakeLessor, client: hoist.Client) -> None:
    model.progress = [Progress(done_bytes=1)]
    parent, children = os.getpid(), list[int]()

    def fork(_: hoist.Progress) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            children.append(os.fork())
        if os.getpid() != parent:
            # On the way out it gives up waiting, as anything raised here does.
            raise KeyboardInterrupt

    try:
        tensors = client.open("m", "vae", on_progress=fork)
    finally:
        if os.getpid() != parent:
            os._exit(0)
    assert os.waitpid(children[0], 0)[1] == 0
    assert tensors.held
    model.tell("still here")
    joined(tensors)
    assert tensors.revoked == "still here"


def test_a_process_that_ends_with_a_lease_open_ends_cleanly(model: FakeLessor) -> None:
    program = (
        "import hoist, sys; client = hoist.connect(sys.argv[1]); tensors = client.open('m', 'vae'); "
        "print(bytes(tensors['w']))"
    )
    command = [sys.executable, "-c", program, model.endpoint]
    ended = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_SECONDS)
    assert (ended.stdout, ended.stderr) == (b"b'vae'\n", b"")
    model.wait(lambda: not model.asking)


def test_arguments_are_judged_before_anything_is_sent(model: FakeLessor, client: hoist.Client) -> None:
    wrong: list[tuple[dict[str, object], type[Exception], str]] = [
        ({"component": ""}, ValueError, "component"),
        ({"component": 3}, TypeError, "component"),
        ({"component": "vae", "components": ["vae"]}, ValueError, "components"),
        ({"components": []}, ValueError, "names none"),
        ({"framework": "jax"}, ValueError, "use auto, torch, numpy"),
        ({"priority": "urgent"}, ValueError, "use BACKGROUND"),
        ({"writable": "yes"}, TypeError, "writable"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"holder": 3}, TypeError, "holder"),
    ]
    for arguments, error, text in wrong:
        with pytest.raises(error, match=text):
            client.open("m", **arguments)  # type: ignore[call-overload]
    assert model.requests == []


async def test_asyncio_opens_without_holding_up_the_loop(model: FakeLessor) -> None:
    model.progress, model.may_grant = [Progress(done_bytes=1)], threading.Event()
    heard: list[threading.Thread] = []

    def hear(_: hoist.Progress) -> None:
        # Only while the loop runs beside the opening is there ever a grant.
        heard.append(threading.current_thread())
        model.may_grant.set()

    async with hoist.aio.connect(model.endpoint) as client:
        async with client.open("m", "vae", on_progress=hear, timeout=PATIENCE_SECONDS) as tensors:
            assert bytes(tensors["w"]) == b"vae"
            assert model.held == {tensors.lease}
        assert model.held == set()
        opened = await client.open("m")
        assert list(opened) == ["unet", "vae"]
    assert heard == [threading.current_thread()]
    # The client has ended it.
    assert opened.closed
    assert model.held == set()
    with pytest.raises(hoist.Error, match="closed"):
        client.open("m")


async def test_asyncio_can_stop_waiting(model: FakeLessor) -> None:
    model.grants = False
    async with hoist.aio.connect(model.endpoint) as client:
        waiting = asyncio.create_task(client.open("m")._open())
        await asyncio.to_thread(model.wait, lambda: len(model.requests) == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.to_thread(model.wait, lambda: not model.asking)


def test_a_closed_lessor_gives_nothing() -> None:
    lessor = _open.Lessor(
        _endpoint.parse("unix:///nowhere", "endpoint").channel, lambda failure, _: hoist.Error(str(failure))
    )
    lessor.close()
    with pytest.raises(hoist.Error, match="closed"):
        lessor.stream(lease.AcquireRequest())


def test_a_channel_takes_leases_while_it_has_room_and_ends_with_the_client(
    model: FakeLessor, client: hoist.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_open, "LEASES_ON_A_CHANNEL", 1)
    channels = client._leases._channels
    first = client.open("m")
    model.tell("room for another")
    joined(first)
    second = client.open("m")
    assert len(channels) == 1, "what was revoked takes no place"
    third = client.open("m")
    assert (second.held, third.held, len(channels)) == (True, True, 2)
    client.close()
    for channel, _ in channels:
        with pytest.raises(ValueError, match="closed"):
            channel.unary_unary("/nothing")(b"")  # type: ignore[arg-type]
