"""Models on a device, with the worker that drives the machine's own memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import hoist
import hoist.aio

from .conftest import Server
from .test_devices import until_active
from .weights import checkpoint, vae, write

pytestmark = pytest.mark.integration


@pytest.fixture
def stocked(worked: Server) -> Iterator[hoist.Client]:
    """Two checkpoints that share an autoencoder, and that autoencoder alone; and a device to load them to."""
    write(worked.models / "first.safetensors", checkpoint(10, 90))
    write(worked.models / "second.safetensors", checkpoint(20, 90))
    write(worked.models / "alone.safetensors", vae(90))
    with hoist.connect(worked.endpoint) as client:
        client.scan()
        until_active(client)
        yield client


def test_a_model_is_loaded_and_unloaded(stocked: hoist.Client) -> None:
    heard: list[hoist.Progress] = []
    result = stocked.load("first", on_progress=heard.append)
    assert (result.device_id, result.unloaded, result.left_out) == ("cpu:0", (), ())
    assert [each.component for each in result.components] == ["unet", "vae"]
    assert {each.model for each in result.components} == {stocked.model("first").name}
    assert not any(each.resident for each in result.components)
    assert result.strategy == hoist.LoadStrategy.STANDARD
    again = stocked.load("first", device="cpu:0")
    assert (again.read_bytes, {each.resident for each in again.components}) == (0, {True})
    assert again["vae"].replica == result["vae"].replica

    gone = stocked.unload("first", device="cpu:0", components="unet")
    assert [(each.replica, each.kept_because) for each in gone.replicas] == [(result["unet"].replica, "")]
    assert [each.segment for each in stocked.replicas("first")] == [result["vae"].segment]
    gone = stocked.unload("first")
    assert (len(gone.replicas), gone.retained_bytes) == (1, 0)
    assert list(stocked.replicas()) == []
    assert stocked.unload("first").replicas == ()


def test_several_are_one_operation(stocked: hoist.Client) -> None:
    operation = stocked.load_components(["first", ("second", "vae")], place="any", wait=False)
    result = operation.result()
    assert operation.metadata.kind == hoist.OperationKind.LOAD_MODEL
    assert isinstance(result, hoist.LoadResult)
    assert [each.component for each in result.components] == ["unet", "vae", "vae"]
    assert len({each.replica for each in result.components}) == 2, "what they share is there once"
    first, second = (stocked.model(name).name for name in ("first", "second"))
    assert [each.model for each in result.components] == [first, first, second]
    other = stocked.load_components([("second", "vae"), "first"], place="any")
    assert [each.model for each in other.components] == [second, first, first], "the order is the caller's"
    replicas = list(stocked.replicas(device="cpu:0", page_size=1))
    assert {each.name for each in replicas} == {each.replica for each in result.components}
    assert {each.state for each in replicas} == {hoist.ReplicaState.ACTIVE}
    gone = stocked.unload_components({"first": None, "second": ["vae"]})
    assert {each.kept_because for each in gone.replicas} == {""}
    assert list(stocked.replicas()) == []


def test_where_a_model_is_is_joined_in_its_status(stocked: hoist.Client) -> None:
    name = stocked.model("first").name
    before = stocked.status(name)
    assert before.model is not None
    assert (before.model.cached, before.model.loaded_on) == (False, ())
    result = stocked.load("first", components=["vae"])
    status = stocked.status(name)
    assert status.model is not None
    assert (status.model.loaded_on, status.machine) == (("cpu:0",), None)
    parts = {each.component: each for each in status.model.components}
    assert (parts["unet"].segment, parts["unet"].replicas) == (None, ())
    held = parts["vae"]
    assert held.segment is not None
    assert (held.segment.state, held.replicas[0].unknown) == (hoist.SegmentState.SEALED, False)
    assert held.replicas[0].replica.name == result["vae"].replica

    machine = stocked.status().machine
    assert machine is not None
    assert (machine.active_replicas, machine.loaded_models, machine.missing_models) == (1, 1, 0)
    assert (machine.segments, machine.devices[0].device_id) == (1, "cpu:0")
    assert machine.segment_bytes >= held.segment.size_bytes
    resource = stocked.status(result["vae"].replica).resource
    assert resource.kind == hoist.ResourceKind.REPLICA
    assert isinstance(resource.value, hoist.Replica)
    assert resource.value == held.replicas[0].replica


def test_a_plan_and_an_estimate_change_nothing(stocked: hoist.Client) -> None:
    plan = stocked.plan("first")
    assert (plan.device_id, plan.refused, plan.unload) == ("cpu:0", False, ())
    assert [each.component for each in plan.components] == ["unet", "vae"]
    assert plan.reasons
    assert plan.devices[0].fits
    estimate = stocked.estimate(["first", ("second", "vae")], dtype="BF16")
    assert estimate.device_bytes > 0
    assert estimate.missing_ram_bytes == estimate.ram_bytes
    assert list(stocked.replicas()) == []
    assert list(stocked.segments()) == []


def test_a_load_is_refused_as_its_plan_says(stocked: hoist.Client) -> None:
    with pytest.raises(hoist.NotFound):
        stocked.load("nobody")
    with pytest.raises(hoist.NotFound, match="cuda:5"):
        stocked.load("first", device="cuda:5")
    with pytest.raises(hoist.Error, match="not built yet") as refused:
        stocked.load("first", strategies=["STREAMING"])
    assert refused.value.reason == "METHOD_UNKNOWN"
    stocked.load("alone")
    with stocked.open("alone", "vae", framework="numpy"):
        with pytest.raises(hoist.Refused) as in_use:
            stocked.unload("alone")
        assert in_use.value.reason == "IN_USE"
        assert len(stocked.unload("alone", force=True).replicas) == 1


def test_what_is_on_a_device_is_compared_with_what_is_in_ram(stocked: hoist.Client) -> None:
    with pytest.raises(hoist.NotFound, match="not on any device"):
        stocked.verify("first")
    stocked.load("first")
    verified = stocked.verify("first", device="cpu:0")
    assert [(each.verdict, each.wrong, each.reason) for each in verified] == [
        (hoist.ReplicaVerdict.EQUAL, (), "")
    ] * 2
    assert all(each.tensors > 0 for each in verified)
    stocked.load("second", dtype="BF16")
    converted = [each for each in stocked.verify("second") if each.verdict != hoist.ReplicaVerdict.EQUAL]
    assert {each.verdict for each in converted} == {hoist.ReplicaVerdict.NOT_COMPARED}
    assert "converted to BF16" in converted[0].reason
    with pytest.raises(hoist.NotFound, match="cuda:7"):
        stocked.verify("first", device="cuda:7")


def test_a_watch_tells_of_replicas(stocked: hoist.Client) -> None:
    with stocked.watch(kinds=["REPLICA"]) as watch:
        assert isinstance(next(watch), hoist.Snapshot)
        result = stocked.load("alone")
        for event in watch:
            if isinstance(event, hoist.Changed):
                assert isinstance(event.resource.value, hoist.Replica)
                assert event.resource.name == result["vae"].replica
                if event.resource.value.state == hoist.ReplicaState.ACTIVE:
                    break
        stocked.unload("alone")
        assert any(isinstance(event, hoist.Removed) for event in watch)


def test_the_same_with_asyncio(stocked: hoist.Client) -> None:
    async def both() -> None:
        async with hoist.aio.connect(stocked.endpoint) as client:
            assert (await client.plan("alone")).device_id == "cpu:0"
            assert (await client.estimate("alone")).device_bytes > 0
            result = await client.load("alone", "cpu:0")
            assert [each.name async for each in client.replicas("alone")] == [result["vae"].replica]
            operation = await client.unload_components(["alone"], wait=False)
            assert len((await operation.result()).replicas) == 1
            assert (await client.unload("alone")).replicas == ()
            assert (await client.load_components({"first": "vae"})).device_id == "cpu:0"

    asyncio.run(both())
