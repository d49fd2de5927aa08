"""The calls about models on devices: what is sent, and what is made of the answers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.longrunning import operations_proto_pb2 as operations_pb2

import hoist
from hoist import _decode, _plans, _plans_residency
from hoist._plans_residency import How
from hoist._proto.v1 import cache_service_pb2 as cache
from hoist._proto.v1 import operation_pb2, resources_pb2
from hoist._proto.v1 import residency_service_pb2 as residency
from hoist._proto.v1 import state_service_pb2 as state

from .test_plans import carry_out
from .test_plans_cache import sent

ANYHOW = residency.LoadOptions()


def part(name: str, *components: str) -> cache.ModelPart:
    return cache.ModelPart(name=name, components=components)


def test_loading_says_what_was_asked() -> None:
    how = How("cpu:0", None, "BF16", "high", True, "full", "corrupt", ["streaming", "standard"])
    assert sent(_plans_residency.load("sdxl", ["vae"], how, 5, None)) == residency.LoadModelRequest(
        name="sdxl",
        components=["vae"],
        options=residency.LoadOptions(
            device_id="cpu:0",
            dtype="BF16",
            priority="PRIORITY_HIGH",
            force=True,
            validation_level="VALIDATION_LEVEL_FULL",
            allow=["VERDICT_CORRUPT"],
            strategies=["LOAD_STRATEGY_STREAMING", "LOAD_STRATEGY_STANDARD"],
        ),
        deadline=_decode.to_span("deadline", 5),
    )
    plain = _plans_residency.load(Path("/m/x"), None, How(place="pack"), None, None)
    assert sent(plain) == residency.LoadModelRequest(
        name="/m/x", options=residency.LoadOptions(placement="PLACEMENT_PACK")
    )
    with pytest.raises(ValueError, match="give one of them"):
        next(_plans_residency.load("x", None, How("cpu:0", "any"), None, None))
    for wrong in (How(place="nearest"), How(strategies=["magic"]), How(optimization="a lot")):
        with pytest.raises(ValueError, match="is not a"):
            next(_plans_residency.load("x", None, wrong, None, None))
    with pytest.raises(ValueError, match="max_resident_components"):
        next(_plans_residency.load("x", None, How(max_resident_components=-1), None, None))
    with pytest.raises(TypeError, match="force must be True or False"):
        next(_plans_residency.load("x", None, How(force="no"), None, None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "names",
    [
        ["x", ("y", "vae"), ("z", ["vae", "unet"])],
        iter([("x", None), ("y", ["vae"]), ("z", ("vae", "unet"))]),
        {"x": None, "y": "vae", "z": ["vae", "unet"]},
    ],
)
def test_several_are_named_with_their_components(names: Any) -> None:  # noqa: ANN401
    several = [part("x"), part("y", "vae"), part("z", "vae", "unet")]
    assert sent(_plans_residency.load_components(names, How(), None, None)) == (
        residency.LoadComponentsRequest(parts=several, options=ANYHOW)
    )


def test_what_names_nothing_is_refused_here() -> None:
    assert _plans_residency.parts("x") == [part("x")]
    assert _plans_residency.parts(Path("/m/x"), "vae") == [part("/m/x", "vae")]
    with pytest.raises(ValueError, match="none"):
        _plans_residency.parts([])
    with pytest.raises(ValueError, match="none"):
        _plans_residency.parts({})
    with pytest.raises(ValueError, match="components names none"):
        _plans_residency.parts([("x", [])])
    with pytest.raises(ValueError, match="give its name alone"):
        _plans_residency.parts(["x"], "vae")
    for wrong in (3, [3], [("x", "vae", "unet")], [(3, "vae")]):
        with pytest.raises(TypeError, match="names must"):
            _plans_residency.parts(wrong)  # type: ignore[arg-type]


def test_unloading_says_what_was_asked() -> None:
    assert sent(_plans_residency.unload("x", "cpu:0", "vae", True, 5, None)) == residency.UnloadModelRequest(
        name="x",
        components=["vae"],
        device_id="cpu:0",
        force=True,
        deadline=_decode.to_span("deadline", 5),
    )
    assert sent(_plans_residency.unload("x", None, None, False, None, None)) == (
        residency.UnloadModelRequest(name="x")
    )
    assert sent(_plans_residency.unload_components(["x", ("y", "vae")], None, False, None, None)) == (
        residency.UnloadComponentsRequest(parts=[part("x"), part("y", "vae")])
    )


def produced(message: Any) -> object:  # noqa: ANN401
    done = operations_pb2.Operation(name="operations/a", done=True)
    done.response.Pack(message)
    return _decode.result(done)


def test_what_was_loaded_is_the_result_of_the_operation() -> None:
    result = produced(
        residency.LoadModelResponse(
            device_id="cpu:0",
            components=[
                residency.LoadedComponent(
                    model="models/m", component="vae", replica="replicas/r", own_bytes=7, resident=True
                )
            ],
            took=_decode.to_span("took", 1.5),
            unloaded=["models/n"],
            reasons=["it is the only one"],
            strategy="LOAD_STRATEGY_STANDARD",
        )
    )
    assert isinstance(result, hoist.LoadResult)
    assert (result.device_id, result.took, result.unloaded) == (
        "cpu:0",
        timedelta(seconds=1.5),
        ("models/n",),
    )
    assert result.strategy == hoist.LoadStrategy.STANDARD
    vae = result["vae"]
    assert (vae.replica, vae.own_bytes, vae.resident, vae.load_time) == ("replicas/r", 7, True, None)
    with pytest.raises(KeyError):
        result["unet"]


def test_what_was_unloaded_is_the_result_of_the_operation() -> None:
    gone = residency.UnloadedReplica(replica="replicas/r", device_id="cpu:0", expected_bytes=7)
    result = produced(residency.UnloadModelResponse(replicas=[gone], expected_bytes=7, retained_bytes=7))
    assert result == hoist.UnloadResult(
        (hoist.UnloadedReplica("replicas/r", "cpu:0", "", 7, 0, ""),), 7, 0, 7, timedelta()
    )


def test_a_plan_that_would_be_refused_is_an_answer() -> None:
    answer = residency.PlanLoadResponse(
        refusal="no room",
        refusal_reason="VRAM_EXHAUSTED",
        devices=[residency.DevicePlan(device_id="cpu:0", needed_bytes=7, unload=["models/m"])],
    )
    plan, _ = carry_out(_plans_residency.plan("x", None, How()), [answer])
    assert isinstance(plan, hoist.LoadPlan)
    assert (plan.refused, plan.refusal_reason, plan.expected) == (True, "VRAM_EXHAUSTED", None)
    assert plan.devices == (hoist.DevicePlan("cpu:0", False, 7, 0, 0, "", ("models/m",)),)
    plan, _ = carry_out(
        _plans_residency.plan("x", None, How()), [residency.PlanLoadResponse(device_id="cpu:0")]
    )
    assert not plan.refused


def test_a_model_has_where_it_is_in_its_status() -> None:
    loading = operation_pb2.OperationMetadata(
        name="operations/a", kind="OPERATION_KIND_LOAD_MODEL", state="OPERATION_STATE_RUNNING"
    )
    replica = resources_pb2.Replica(name="replicas/r", device_id="cpu:0", state="STATE_ACTIVE")
    joined = state.ModelStatus(
        components=[
            state.ComponentStatus(
                component="vae",
                segment=resources_pb2.Segment(name="segments/d", state="STATE_SEALED"),
                leases=1,
                replicas=[state.ReplicaStatus(replica=replica, unknown=True)],
            ),
            state.ComponentStatus(component="unet"),
        ],
        operations=[loading],
        loaded_on=["cpu:0"],
    )
    answer = state.GetStatusResponse(status=state.Status(name="models/m", model=joined))
    status, _ = carry_out(_plans.status("models/m"), [answer])
    assert status.model is not None
    assert (status.machine, status.model.loaded_on, status.model.cached) == (None, ("cpu:0",), False)
    vae, unet = status.model.components
    assert vae.segment is not None
    assert vae.segment.state == hoist.SegmentState.SEALED
    assert (unet.segment, unet.idle, unet.replicas) == (None, None, ())
    assert (vae.replicas[0].unknown, vae.replicas[0].replica.state) == (True, hoist.ReplicaState.ACTIVE)
    assert status.model.operations[0].kind == hoist.OperationKind.LOAD_MODEL
