"""From messages about models on devices to the values of `hoist._residency`."""

from __future__ import annotations

from hoist._enums import LoadStrategy, Priority, ReplicaState, ReplicaVerdict
from hoist._enums import decode as enum
from hoist._proto.v1 import residency_service_pb2 as residency
from hoist._proto.v1 import resources_pb2
from hoist._residency import (
    ComponentEstimate,
    DevicePlan,
    LoadedComponent,
    LoadEstimate,
    LoadPlan,
    LoadResult,
    Replica,
    UnloadedReplica,
    UnloadResult,
    VerifiedReplica,
)
from hoist._times import span, span_if, time


def replica(message: resources_pb2.Replica) -> Replica:
    return Replica(
        name=message.name,
        device_id=message.device_id,
        segment=message.segment,
        dtype=message.dtype,
        state=enum(ReplicaState, message.state),
        models=tuple(message.models),
        priority=enum(Priority, message.priority),
        planned_bytes=message.planned_bytes,
        own_bytes=message.own_bytes,
        mapped_bytes=message.mapped_bytes,
        tensors=message.tensors,
        load_time=span_if(message, "load_time"),
        failure=message.failure,
        create_time=time(message.create_time),
    )


def verified(message: residency.VerifiedReplica) -> VerifiedReplica:
    return VerifiedReplica(
        replica=message.replica,
        device_id=message.device_id,
        segment=message.segment,
        verdict=enum(ReplicaVerdict, message.verdict),
        tensors=message.tensors,
        wrong=tuple(message.wrong),
        wrong_count=message.wrong_count,
        reason=message.reason,
        models=tuple(message.models),
    )


def component(message: residency.LoadedComponent) -> LoadedComponent:
    return LoadedComponent(
        model=message.model,
        component=message.component,
        replica=message.replica,
        segment=message.segment,
        dtype=message.dtype,
        own_bytes=message.own_bytes,
        mapped_bytes=message.mapped_bytes,
        tensors=message.tensors,
        resident=message.resident,
        load_time=span_if(message, "load_time"),
    )


def loaded(message: residency.LoadModelResponse) -> LoadResult:
    return LoadResult(
        device_id=message.device_id,
        components=tuple(map(component, message.components)),
        read_bytes=message.read_bytes,
        took=span(message.took),
        unloaded=tuple(message.unloaded),
        left_out=tuple(message.left_out),
        reasons=tuple(message.reasons),
        strategy=enum(LoadStrategy, message.strategy),
    )


def unloaded_replica(message: residency.UnloadedReplica) -> UnloadedReplica:
    return UnloadedReplica(
        replica=message.replica,
        device_id=message.device_id,
        segment=message.segment,
        expected_bytes=message.expected_bytes,
        returned_bytes=message.returned_bytes,
        kept_because=message.kept_because,
    )


def unloaded(message: residency.UnloadModelResponse) -> UnloadResult:
    return UnloadResult(
        replicas=tuple(map(unloaded_replica, message.replicas)),
        expected_bytes=message.expected_bytes,
        returned_bytes=message.returned_bytes,
        retained_bytes=message.retained_bytes,
        took=span(message.took),
    )


def device_plan(message: residency.DevicePlan) -> DevicePlan:
    return DevicePlan(
        device_id=message.device_id,
        fits=message.fits,
        needed_bytes=message.needed_bytes,
        resident_bytes=message.resident_bytes,
        free_bytes=message.free_bytes,
        refusal=message.refusal,
        unload=tuple(message.unload),
    )


def component_estimate(message: residency.ComponentEstimate) -> ComponentEstimate:
    return ComponentEstimate(
        model=message.model,
        component=message.component,
        segment=message.segment,
        ram_bytes=message.ram_bytes,
        in_ram=message.in_ram,
        device_bytes=message.device_bytes,
        on_devices=tuple(message.on_devices),
    )


def plan(message: residency.PlanLoadResponse) -> LoadPlan:
    return LoadPlan(
        device_id=message.device_id,
        reasons=tuple(message.reasons),
        device_bytes=message.device_bytes,
        unload=tuple(message.unload),
        ram_bytes=message.ram_bytes,
        read_bytes=message.read_bytes,
        expected=span_if(message, "expected"),
        devices=tuple(map(device_plan, message.devices)),
        refusal=message.refusal,
        refusal_reason=message.refusal_reason,
        components=tuple(map(component_estimate, message.components)),
    )


def estimate(message: residency.EstimateLoadResponse) -> LoadEstimate:
    return LoadEstimate(
        components=tuple(map(component_estimate, message.components)),
        device_bytes=message.device_bytes,
        ram_bytes=message.ram_bytes,
        missing_ram_bytes=message.missing_ram_bytes,
        read_bytes=message.read_bytes,
        peak_ram_bytes=message.peak_ram_bytes,
        left_out=tuple(message.left_out),
    )
