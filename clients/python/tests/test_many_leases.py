"""More leases than one connection takes, from the real server: 256 calls at once, and each lease is one."""

from __future__ import annotations

import contextlib

import pytest

import hoist
from hoist import _open

from .conftest import Server
from .weights import vae, write

pytestmark = pytest.mark.integration

MANY = 300


@pytest.fixture
def alone(server: Server, client: hoist.Client) -> hoist.Client:
    write(server.models / "alone.safetensors", vae(90))
    client.scan()
    return client


def channels(client: hoist.Client) -> int:
    return len(client._leases._channels)


def test_a_client_holds_more_leases_than_a_connection_takes(alone: hoist.Client) -> None:
    opened = [alone.open("alone", timeout=30) for _ in range(MANY)]
    assert all(each.held for each in opened)
    assert len(alone.leases()) == MANY
    assert channels(alone) == -(-MANY // _open.LEASES_ON_A_CHANNEL)
    # Those that ended make room for others on their channels.
    for each in opened[: MANY // 2]:
        each.close()
    opened = opened[MANY // 2 :] + [alone.open("alone", timeout=30) for _ in range(MANY // 2)]
    assert channels(alone) == -(-MANY // _open.LEASES_ON_A_CHANNEL)
    assert len(alone.leases()) == MANY
    for each in opened:
        each.close()
    assert alone.leases() == []


def test_clients_of_one_process_have_connections_of_their_own(server: Server, alone: hoist.Client) -> None:
    each_has = _open.LEASES_ON_A_CHANNEL - 1
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(hoist.connect(server.endpoint)) for _ in range(3)]
        opened = [other.open("alone", timeout=30) for other in others for _ in range(each_has)]
        assert all(each.held for each in opened)
        assert len(alone.leases()) == 3 * each_has
    assert alone.leases() == []


async def test_asyncio_holds_as_many(server: Server, alone: hoist.Client) -> None:
    async with hoist.aio.connect(server.endpoint) as client:
        opened = [await client.open("alone", timeout=30) for _ in range(MANY)]
        assert all(each.held for each in opened)
        assert len(await client.leases()) == MANY
    assert alone.leases() == []
