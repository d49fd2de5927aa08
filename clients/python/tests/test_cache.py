"""Weights in RAM with the real server: cached, shared, held, read where they are, and gone again."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import hoist
from hoist import CachedSource, LeaseState, OperationKind, Priority, SegmentState

from .conftest import PATIENCE_SECONDS, Server
from .weights import UNET_PREFIX, VAE_PREFIX, checkpoint, of, same, under, unet, vae, write

pytestmark = pytest.mark.integration

reference = pytest.importorskip("safetensors.numpy")


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS / 2
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def stocked(server: Server, client: hoist.Client) -> hoist.Client:
    """Two checkpoints that share an autoencoder, and that autoencoder alone."""
    write(server.models / "first.safetensors", checkpoint(10, 90))
    write(server.models / "second.safetensors", checkpoint(20, 90))
    write(server.models / "alone.safetensors", vae(90))
    client.scan()
    names = {each.display_name: [part.name for part in each.components] for each in client.models()}
    assert names == {"first": ["unet", "vae"], "second": ["unet", "vae"], "alone": ["vae"]}
    return client


def test_what_is_cached_is_a_file_that_others_read(stocked: hoist.Client) -> None:
    heard: list[hoist.Progress] = []
    result = stocked.cache("first", on_progress=heard.append)
    assert result.model == stocked.model("first").name
    assert [each.component for each in result.components] == ["unet", "vae"]
    assert {each.source for each in result.components} == {CachedSource.READ}
    assert (result["unet"].prefix, result["vae"].prefix) == (UNET_PREFIX, VAE_PREFIX)
    assert (result.evicted, result.left_out) == ((), ())
    assert result.read_bytes >= sum(array.nbytes for array in checkpoint(10, 90).values())
    same(reference.load_file(result["unet"].path), unet(10))
    same(reference.load_file(result["vae"].path), vae(90))
    again = stocked.cache("first")
    assert {each.source for each in again.components} == {CachedSource.RESIDENT}
    assert (again.read_bytes, again["vae"].path) == (0, result["vae"].path)


def test_another_process_reads_it_with_the_reference_library(stocked: hoist.Client) -> None:
    with stocked.open("first", "vae") as tensors:
        program = (
            "import sys; from safetensors.numpy import load_file; t = load_file(sys.argv[1]); "
            "sys.stdout.buffer.write(b''.join(t[name].tobytes() for name in sorted(t)))"
        )
        read = subprocess.run([sys.executable, "-c", program, tensors.path], capture_output=True, check=True)
    assert read.stdout == b"".join(array.tobytes() for _, array in sorted(vae(90).items()))


def test_equal_components_are_kept_once(stocked: hoist.Client) -> None:
    first = stocked.cache("first")
    second = stocked.cache("second")
    assert second["vae"].segment == first["vae"].segment
    assert second["vae"].path == first["vae"].path
    assert second["vae"].source in (CachedSource.SHARED, CachedSource.RESIDENT)
    assert second["unet"].segment != first["unet"].segment
    status = stocked.cache_status()
    assert status.segments == 3
    assert (
        status.used_bytes
        == status.sealed_bytes
        == sum(each.segment.size_bytes for each in stocked.segments(page_size=1))
    )
    assert status.statistics.saved_bytes >= sum(array.nbytes for array in vae(90).values())
    [shared] = [each for each in stocked.segments("first") if each.user_count > 1]
    assert shared.segment.name == first["vae"].segment
    assert {"first", "second"} <= {user.display_name for user in shared.users}
    # Going with one of them, it stays for the other.
    gone = stocked.evict("first")
    assert {each.segment: each.evicted for each in gone.segments} == {
        first["unet"].segment: True,
        first["vae"].segment: False,
    }


def test_what_only_the_named_share_goes_with_them_and_a_segment_goes_by_its_digest(
    stocked: hoist.Client,
) -> None:
    first, second = stocked.cache("first"), stocked.cache("second")
    named = {each.segment for each in (*first.components, *second.components)}
    assert len(named) == 3
    gone = stocked.evict(["first", "second"])
    assert {each.segment for each in gone.segments if each.evicted} == named
    vae = stocked.cache("first", "vae")["vae"].segment
    unet = stocked.cache("first", "unet")["unet"].segment
    [alone] = stocked.evict(segments=vae.removeprefix("segments/").upper()).segments
    assert (alone.segment, alone.evicted) == (vae, True)
    assert [each.segment.name for each in stocked.segments()] == [unet]


def test_the_operation_can_be_waited_for_later(stocked: hoist.Client) -> None:
    operation = stocked.cache("first", "vae", wait=False)
    assert operation.metadata.kind is OperationKind.CACHE_MODEL
    result = operation.result()
    assert [each.component for each in result.components] == ["vae"]
    assert stocked.operation(operation.name).result() == result


def test_a_component_that_a_model_lacks_is_refused(stocked: hoist.Client) -> None:
    for ask in (stocked.cache, stocked.open, stocked.pin):
        with pytest.raises(hoist.Error, match="nobody"):
            ask("first", "nobody")
    with pytest.raises(hoist.NotFound):
        stocked.open("nobody")


def test_tensors_are_read_where_they_are(stocked: hoist.Client) -> None:
    with stocked.open("first", "vae", framework="numpy", holder="reader") as tensors:
        same(dict(tensors), vae(90))
        same(tensors.state_dict(prefix=True), under(VAE_PREFIX, vae(90)))
        same(reference.load_file(tensors.path), vae(90))
        assert tensors.metadata == {"format": "pt"}
        [held] = stocked.leases()
        assert (held.name, held.holder, held.state) == (tensors.lease, "reader", LeaseState.HELD)
        assert held.segments == (tensors.segment,)
        assert held.process_id == os.getpid()
    assert stocked.leases() == []


def test_a_whole_model_is_opened_under_one_lease(stocked: hoist.Client) -> None:
    with stocked.open("first", framework="numpy") as model:
        whole = {
            name: array for each in model.values() for name, array in each.state_dict(prefix=True).items()
        }
        same(whole, checkpoint(10, 90))
        [held] = stocked.leases()
        assert set(held.segments) == {each.segment for each in model.values()}
        del whole
    with stocked.open("alone", framework="numpy").only() as tensors:
        same(dict(tensors), vae(90))


def test_what_a_table_says_is_what_the_file_says(stocked: hoist.Client) -> None:
    with stocked.open("first", "unet", framework="numpy") as tensors:
        told = [tensors.info(name) for name in tensors]
        tensors._message.ClearField("tensors")
        tensors._table = None
        assert [tensors.info(name) for name in tensors] == told
        same(dict(tensors), unet(10))


def test_what_is_leased_stays(stocked: hoist.Client) -> None:
    with stocked.open("first", "vae") as tensors:
        kept = stocked.evict("first", dry_run=True)
        assert [each.evicted for each in kept.segments] == [False]
        assert "lease" in kept.segments[0].kept_because
        assert stocked.evict("first").freed_bytes == 0
        assert Path(tensors.path).exists()
    gone = stocked.evict("first")
    assert [each.evicted for each in gone.segments] == [True]
    assert not Path(tensors.path).exists()


def test_what_is_revoked_can_still_be_read_and_stays_until_it_is_closed(stocked: hoist.Client) -> None:
    tensors = stocked.open("first", "vae", framework="numpy")
    stocked.revoke(tensors.lease, "make room")
    eventually(lambda: tensors.revoked is not None)
    assert tensors.revoked == "make room"
    assert stocked.leases() == []
    # Nothing would be free by it: the memory is this process's as long as it is mapped.
    [kept] = stocked.evict("first").segments
    assert not kept.evicted
    assert "open" in kept.kept_because
    same(dict(tensors), vae(90))
    tensors.close()
    assert stocked.evict("first").freed_bytes > 0
    assert stocked.cache_status().used_bytes == 0


def test_a_client_that_dies_holds_nothing(server: Server, stocked: hoist.Client) -> None:
    program = (
        "import hoist, sys; t = hoist.connect(sys.argv[1]).open('first', 'vae'); "
        "print(t.lease, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, server.endpoint]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert [each.name for each in stocked.leases()] == [name]
        process.kill()
    eventually(lambda: stocked.leases() == [])


def test_a_client_that_dies_holds_nothing_though_a_child_of_it_has_the_connection(
    server: Server, stocked: hoist.Client
) -> None:
    program = (
        "import hoist, os, subprocess, sys; t = hoist.connect(sys.argv[1]).open('first', 'vae')\n"
        "links = [(int(fd), os.readlink('/proc/self/fd/' + fd)) for fd in os.listdir('/proc/self/fd')"
        " if os.path.lexists('/proc/self/fd/' + fd)]\n"
        "[os.set_inheritable(fd, True) for fd, link in links if link.startswith('socket:')]\n"
        "child = subprocess.Popen(['sleep', '600'], close_fds=False, stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", program, server.endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
    try:
        eventually(lambda: stocked.leases() == [])
        assert os.path.exists(f"/proc/{child}")
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_lease_outlives_a_crash_of_the_server(server: Server, stocked: hoist.Client) -> None:
    tensors = stocked.open("first", "vae", framework="numpy")
    abandoned = stocked.cache("second", "unet")["unet"]
    server.kill()
    eventually(lambda: not tensors.held)
    same(dict(tensors), vae(90))
    server.start()
    eventually(lambda: tensors.held)
    assert (tensors.lost, tensors.revoked) == (None, None)
    [held] = stocked.leases()
    assert (held.name, held.state) == (tensors.lease, LeaseState.HELD)
    # Nothing was read again.
    status = stocked.cache_status()
    assert (status.statistics.adopted, status.statistics.read_bytes) == (2, 0)
    assert stocked.cache("second", "unet")["unet"].path == abandoned.path
    same(dict(tensors), vae(90))
    tensors.close()
    assert stocked.leases() == []


def test_pins_are_kept_and_told(server: Server, stocked: hoist.Client) -> None:
    assert stocked.pin("first", "vae").absent == ("vae",)
    stocked.cache("first")
    pinned = stocked.pin("first", "vae")
    assert (pinned.resident, pinned.absent) == (("vae",), ())
    config = stocked.model("first").notes.config
    assert (config.pinned, config.pinned_components) == (True, ("vae",))
    kept = [each for each in stocked.evict("first").segments if not each.evicted]
    assert len(kept) == 1
    assert "pin" in kept[0].kept_because
    server.kill()
    server.start()
    assert [each.pinned for each in stocked.segments("first")] == [True]
    stocked.pin("first", "unet")
    left = stocked.unpin("first", "vae")
    assert (left.was_pinned, left.pinned) == (True, ("unet",))
    assert not stocked.unpin("first", ["vae"]).was_pinned
    assert stocked.unpin("first").was_pinned
    assert stocked.unpin("first") == hoist.UnpinResult(left.model, False, ())
    assert all(each.evicted for each in stocked.evict("first").segments)


def test_a_policy_is_changed_and_goes_back(server: Server, stocked: hoist.Client) -> None:
    before = stocked.cache_policy()
    assert before.budget_bytes is None
    changed = stocked.cache_policy(budget="1MiB", eviction="lru", idle_ttl="1h", priority="low")
    assert (changed.budget_bytes, changed.eviction, changed.priority) == (1 << 20, "LRU", Priority.LOW)
    assert changed.idle_ttl == timedelta(hours=1)
    assert stocked.cache_policy() == changed
    assert stocked.cache_status().budget_bytes == 1 << 20
    server.kill()
    server.start()
    assert stocked.cache_policy() == changed
    assert stocked.cache_policy(reset=["budget", "eviction", "idle_ttl", "priority"]) == before
    stocked.cache_policy("first", priority="high", idle_ttl=60)
    own = stocked.cache_policy("first")
    assert (own.priority, own.idle_ttl) == (Priority.HIGH, stocked.model("first").notes.config.cache_idle_ttl)
    stocked.cache_policy("first", reset="priority")
    assert stocked.cache_policy("first").priority is Priority.UNSPECIFIED


def test_what_does_not_fit_is_refused_before_the_first_byte(stocked: hoist.Client) -> None:
    stocked.cache_policy(budget=8192)
    with pytest.raises(hoist.Refused) as refused:
        stocked.cache("first")
    assert refused.value.reason == "RAM_EXHAUSTED"
    with pytest.raises(hoist.Refused) as again:
        stocked.open("first")
    assert again.value.reason == "RAM_EXHAUSTED"
    assert type(again.value) is type(refused.value)
    status = stocked.cache_status()
    assert (status.used_bytes, status.statistics.read_bytes) == (0, 0)
    assert status.statistics.refusals >= 2


def test_a_watch_tells_of_segments_and_leases(stocked: hoist.Client) -> None:
    with stocked.watch(kinds=["segment", "lease"]) as watch:
        assert next(watch).__class__ is hoist.Snapshot
        tensors = stocked.open("first", "vae")
        path, segment, name = tensors.path, tensors.segment, tensors.lease
        tensors.close()
        stocked.evict("first")
        seen: list[hoist.Event] = []
        for event in watch:
            seen.append(event)
            if isinstance(event, hoist.Removed) and event.name == segment:
                break
    changed = [each.resource for each in seen if isinstance(each, hoist.Changed)]
    states = [each.value.state for each in changed if isinstance(each.value, hoist.Segment)]
    assert SegmentState.FILLING in states
    assert SegmentState.SEALED in states
    [lease] = [each.value for each in changed if isinstance(each.value, hoist.Lease)]
    assert (lease.name, lease.segments) == (name, (segment,))
    assert hoist.Removed in {each.__class__ for each in seen}
    assert not os.path.exists(path)


@pytest.fixture
def gguf(server: Server, client: hoist.Client) -> bytes:
    """A language model in its own format: one tensor of 32 floats."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    head += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    head += text("token_embd.weight") + struct.pack("<IQIQ", 1, 32, 0, 0)
    content: bytes = head + b"\0" * (-len(head) % 32) + of(5, 32, dtype="float32").tobytes()
    (server.models / "words.gguf").write_bytes(content)
    client.scan()
    return content


def test_a_model_in_its_own_format_is_kept_as_it_is(client: hoist.Client, gguf: bytes) -> None:
    with client.open("words").only() as tensors:
        [file] = tensors.files
        assert (Path(tensors.path) / file).read_bytes() == gguf
        with pytest.raises(TypeError, match="no tensors but files"):
            tensors["token_embd.weight"]
        [status] = client.segments()
        assert status.segment.raw
        assert status.path == tensors.path


def test_what_the_readme_shows_runs(
    server: Server, client: hoist.Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(server.models / "sdxl.safetensors", checkpoint(10, 90))
    client.scan()
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    program = readme.partition("## Weights in RAM")[2].partition("```python\n")[2].partition("```")[0]
    monkeypatch.setenv("HOIST_ENDPOINT", server.endpoint)
    exec(compile(program, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "(8, 4, 3, 3)" in printed
    assert "['trainer 3']" in printed
    assert f"{UNET_PREFIX}input_blocks.0.0.weight" in printed


async def test_asyncio_has_the_same(server: Server, stocked: hoist.Client) -> None:
    async with hoist.aio.connect(server.endpoint) as client:
        assert (await client.cache("first", "vae")).components[0].component == "vae"
        operation = await client.cache("second", wait=False)
        assert len((await operation.result()).components) == 2
        async with client.open("first", "vae", framework="numpy") as tensors:
            same(dict(tensors), vae(90))
            [held] = await client.leases()
            assert held.name == tensors.lease
        assert await client.leases() == []
        model = await client.open("first")
        await client.revoke(model.lease, "enough")
        await asyncio.to_thread(eventually, lambda: model.revoked == "enough")
        assert [each.segment.name async for each in client.segments()] == [
            each.segment.name for each in stocked.segments()
        ]
        assert (await client.pin("first")).model == model.model
        assert (await client.unpin("first")).was_pinned
        assert (await client.cache_policy(idle_ttl=9)).idle_ttl == stocked.cache_policy().idle_ttl
        model.close()
        assert (await client.evict(all=True)).freed_bytes > 0
        assert (await client.cache_status()).segments == 0
