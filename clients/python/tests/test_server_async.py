"""The asyncio client against the real server: what differs is the I/O, so that is what is covered."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

import hoist
from hoist import OperationState

from .conftest import Relay, Server
from .test_server import LARGE, SMALL, in_state

pytestmark = pytest.mark.integration

T = TypeVar("T", bound=hoist.Event)


@pytest.fixture
async def client(server: Server) -> AsyncIterator[hoist.aio.AsyncClient]:
    async with hoist.aio.connect(server.endpoint) as connected:
        yield connected


async def following(
    watch: hoist.aio.AsyncWatch, kind: type[T], passes: Callable[[T], bool] = lambda _: True
) -> T:
    """The next event of a kind that passes."""
    async for event in watch:
        if isinstance(event, kind) and passes(event):
            return event
    raise AssertionError(f"the watch ended without the {kind.__name__}")


async def test_reads(client: hoist.aio.AsyncClient) -> None:
    assert (await client.status()).name == "machine"
    machine, invalid = await client.statuses(["machine", "no such form"])
    assert isinstance(machine, hoist.Status)
    assert isinstance(invalid, hoist.Error)
    assert invalid.reason == "NAME_INVALID"
    assert await client.config()
    with pytest.raises(hoist.NotFound):
        await client.operation(f"operations/{uuid.uuid4()}")


async def test_a_connection_can_be_awaited(server: Server) -> None:
    client = await hoist.aio.connect(server.endpoint)
    assert client.endpoint == server.endpoint
    await client.close()


async def test_a_watch_gives_a_snapshot_then_changes(client: hoist.aio.AsyncClient) -> None:
    async with client.watch(kinds=["OPERATION"]) as watch:
        assert (await following(watch, hoist.Snapshot)).resources == {}
        operation = await client.probe(["MEMORY_COPY"], bytes=SMALL, wait=False)
        last = await following(watch, hoist.Changed, in_state(operation.name, OperationState.SUCCEEDED))
        assert last.resource == (await client.status(operation.name)).resource
        assert watch.position == last.position


async def test_a_restart_leads_to_a_fresh_snapshot(server: Server, client: hoist.aio.AsyncClient) -> None:
    async with client.watch() as watch:
        before = await following(watch, hoist.Snapshot)
        server.kill()
        server.start()
        after = await following(watch, hoist.Snapshot)
    assert after.position.epoch > before.position.epoch


async def test_a_cut_connection_goes_on_without_a_snapshot(
    client: hoist.aio.AsyncClient, relay: Relay
) -> None:
    async with hoist.aio.connect(relay.endpoint) as cut, cut.watch(kinds=["OPERATION"]) as watch:
        await following(watch, hoist.Snapshot)
        relay.cut()
        operation = await client.probe(["MEMORY_COPY"], bytes=SMALL, wait=False)
        event = await anext(watch)
        while isinstance(event, hoist.Mark):
            event = await anext(watch)
        assert isinstance(event, hoist.Changed)
        assert (event.resource.name, event.fields) == (operation.name, frozenset())


async def test_closing_a_watch_ends_who_waits_and_cancelling_who_waits_does_not_close_it(
    client: hoist.aio.AsyncClient,
) -> None:
    watch = client.watch(names=["machine"], mark_interval=3600)
    await following(watch, hoist.Snapshot)

    async def rest() -> list[hoist.Event]:
        return [event async for event in watch]

    waiting = asyncio.create_task(rest())
    await asyncio.sleep(0)
    await watch.close()
    assert await waiting == []

    other = client.watch(names=["machine"], mark_interval=3600)
    await following(other, hoist.Snapshot)
    waiting = asyncio.create_task(other.__anext__())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await other.close()


async def test_a_probe_tells_progress_and_can_be_cancelled(client: hoist.aio.AsyncClient) -> None:
    operation = await client.probe(["MEMORY_COPY"], bytes=LARGE, wait=False)
    heard = asyncio.Event()
    waiting = asyncio.create_task(operation.result(on_progress=lambda _: heard.set()))
    await heard.wait()
    await operation.cancel()
    with pytest.raises(hoist.OperationCancelled):
        await waiting
    assert operation.state is OperationState.CANCELLED
    assert [each.name async for each in client.operations()] == [operation.name]
    await operation.delete()
    with pytest.raises(hoist.NotFound):
        await operation.refresh()


async def test_a_request_id_stands_for_one_request(client: hoist.aio.AsyncClient) -> None:
    request_id = str(uuid.uuid4())
    result = await client.probe(["MEMORY_COPY"], bytes=SMALL, request_id=request_id)
    assert result == await client.probe(["MEMORY_COPY"], bytes=SMALL, request_id=request_id)
    with pytest.raises(hoist.Refused) as refused:
        await client.probe(["MEMORY_COPY"], bytes=2 * SMALL, request_id=request_id)
    assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_over_tcp_and_nobody_there(server: Server, tmp_path: Path) -> None:
    async with hoist.aio.connect(server.tcp) as client:
        assert (await client.status()).name == "machine"
    with pytest.raises(hoist.Unreachable, match="hoist serve"):
        await hoist.aio.connect(f"unix://{tmp_path}/none.sock")


async def test_a_call_after_close_says_so(server: Server) -> None:
    client = await hoist.aio.connect(server.endpoint)
    await client.close()
    with pytest.raises(hoist.Error, match="the client is closed"):
        await client.status()
    with pytest.raises(hoist.Error, match="the client is closed"):
        client.watch()


async def test_shutdown(server: Server, client: hoist.aio.AsyncClient) -> None:
    await client.shutdown(grace=0)
    assert await asyncio.to_thread(server.wait) == 0
