"""Devices, with the worker that drives the machine's own memory."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

import hoist
import hoist.aio

from .conftest import Server

pytestmark = pytest.mark.integration


def until_active(client: hoist.Client, *, other_than: str = "") -> hoist.Device:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for device in client.devices():
            if device.worker.state == hoist.WorkerState.ACTIVE and device.worker.incarnation != other_than:
                return device
        time.sleep(0.05)
    raise AssertionError(f"no worker: {client.devices()}")


def test_a_server_starts_a_worker_and_starts_it_again(worked: Server) -> None:
    with hoist.connect(worked.endpoint) as client:
        device = until_active(client)
        assert (device.name, device.device_id, device.state) == (
            "devices/cpu:0",
            "cpu:0",
            hoist.DeviceState.OPEN,
        )
        assert (device.capacity_bytes, device.used_bytes, device.free_bytes) == (1 << 30, 0, 1 << 30)
        assert device.maps_segments
        assert "BF16" in device.dtypes
        assert (device.worker.supervised, device.worker.restarts) == (True, 0)
        assert client.device("cpu:0") == device
        resource = client.status("devices/cpu:0").resource
        assert (resource.kind, resource.value) == (hoist.ResourceKind.DEVICE, device)
        assert device.worker.process_id is not None
        os.kill(device.worker.process_id, signal.SIGKILL)
        again = until_active(client, other_than=device.worker.incarnation)
        assert (again.worker.restarts, again.worker.worker_id) == (1, device.worker.worker_id)
        with pytest.raises(hoist.NotFound, match="cuda:5"):
            client.device("cuda:5")

    async def seen() -> list[hoist.Device]:
        async with hoist.aio.connect(worked.endpoint) as client:
            assert await client.device("cpu:0") in await client.devices()
            return await client.devices()

    assert [device.device_id for device in asyncio.run(seen())] == ["cpu:0"]
