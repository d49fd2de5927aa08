"""Cordoned devices, and whether both sides agree, with the worker that drives the machine's own memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

import hoist
import hoist.aio

from .conftest import Server
from .test_devices import until_active
from .weights import vae, write

pytestmark = pytest.mark.integration


@pytest.fixture
def stocked(worked: Server) -> Iterator[hoist.Client]:
    write(worked.models / "alone.safetensors", vae(90))
    with hoist.connect(worked.endpoint) as client:
        client.scan()
        until_active(client)
        yield client


def agreed(client: hoist.Client) -> hoist.SyncReport:
    """The server looks four times a second: what has just been loaded is seen a moment later."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        report = client.sync_health()
        if report.overall.agrees and not report.overall.difference and report.models:
            return report
        time.sleep(0.05)
    raise AssertionError(f"they do not agree: {client.diagnose_sync()}")


def test_what_is_cordoned_takes_nothing_new_until_it_is_not(stocked: hoist.Client) -> None:
    cordoned = stocked.cordon("cpu:0", "new driver")
    assert cordoned is not None
    assert (cordoned.state, cordoned.cordoned) == (hoist.DeviceState.CORDONED, True)
    assert cordoned.cordon_reason == "new driver"
    assert stocked.device("cpu:0").cordoned
    with pytest.raises(hoist.Refused) as refused:
        stocked.load("alone", "cpu:0")
    assert refused.value.reason == "DEVICE_CORDONED"
    open_again = stocked.uncordon(cordoned)
    assert open_again is not None
    assert (open_again.state, open_again.cordoned) == (hoist.DeviceState.OPEN, False)
    assert stocked.load("alone", "cpu:0").device_id == "cpu:0"


def test_a_device_can_be_cordoned_before_there_is_a_worker_for_it(stocked: hoist.Client) -> None:
    assert stocked.cordon("cuda:7") is None
    assert stocked.uncordon("cuda:7") is None
    assert [each.device_id for each in stocked.devices()] == ["cpu:0"]


def test_a_loaded_model_agrees_and_a_reset_finds_nothing_to_mend(stocked: hoist.Client) -> None:
    stocked.load("alone")
    reset = stocked.reset_sync(validate_for=30)
    assert (reset.device_ids, reset.agrees, reset.findings) == (("cpu:0",), True, ())
    assert stocked.reset_sync("cpu:0").agrees is None
    model = stocked.model("alone").name
    whole = agreed(stocked)
    report = stocked.sync_health("alone", window="1m")
    assert [(each.name, each.device_id, each.agrees) for each in report.models] == [(model, "cpu:0", True)]
    assert [each.device_id for each in whole.devices] == ["cpu:0"]
    assert 0 <= whole.overall.agreement <= 1
    assert stocked.reset_sync(validate_for=30).agrees
    diagnosis = stocked.diagnose_sync()
    assert diagnosis.findings == ()
    assert [each.device_id for each in diagnosis.latencies] == ["cpu:0"]
    with pytest.raises(hoist.NotFound):
        stocked.sync_health("nobody")


def test_a_pace_of_its_own_ends_with_none(stocked: hoist.Client) -> None:
    assert stocked.configure_sync("high", "cpu:0") is hoist.SyncPace.HIGH
    assert stocked.sync_health("cpu:0").devices[0].pace is hoist.SyncPace.HIGH
    assert stocked.configure_sync(hoist.SyncPace.BACKGROUND) is hoist.SyncPace.BACKGROUND
    assert stocked.configure_sync(None, "cpu:0") is hoist.SyncPace.BACKGROUND


def test_the_same_with_asyncio(stocked: hoist.Client) -> None:
    async def all_of_it() -> None:
        async with hoist.aio.connect(stocked.endpoint) as client:
            cordoned = await client.cordon("cpu:0")
            assert cordoned is not None
            assert cordoned.cordoned
            await client.uncordon("cpu:0")
            await client.load("alone")
            assert (await client.reset_sync(validate_for=30)).agrees
            assert 0 <= (await client.sync_health()).overall.agreement <= 1
            assert (await client.diagnose_sync()).findings == ()
            assert await client.configure_sync("idle", "alone") is hoist.SyncPace.IDLE

    asyncio.run(all_of_it())
