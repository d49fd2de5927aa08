"""From messages about agreement to the values of `hoist._agreement`."""

from __future__ import annotations

from hoist._agreement import (
    SyncDiagnosis,
    SyncFinding,
    SyncHealth,
    SyncIncident,
    SyncLatency,
    SyncReport,
    SyncReset,
)
from hoist._enums import SyncPace
from hoist._enums import decode as enum
from hoist._proto.v1 import state_service_pb2 as state
from hoist._times import span, span_if, time
from hoist._types import Position


def health(message: state.SyncHealth) -> SyncHealth:
    return SyncHealth(
        name=message.name,
        device_id=message.device_id,
        agreement=message.agreement,
        looked_at=span(message.looked_at),
        agrees=message.agrees,
        difference=message.difference,
        differs_for=span_if(message, "differs_for"),
        staleness=span_if(message, "staleness"),
        drift_found=message.drift_found,
        drift_repaired=message.drift_repaired,
        pace=enum(SyncPace, message.pace),
        generation=message.generation,
        answered=message.answered,
    )


def report(message: state.GetSyncHealthResponse) -> SyncReport:
    return SyncReport(
        overall=health(message.overall),
        devices=tuple(map(health, message.devices)),
        models=tuple(map(health, message.models)),
        position=Position(message.position.epoch, message.position.revision),
    )


def finding(message: state.SyncFinding) -> SyncFinding:
    return SyncFinding(
        name=message.name,
        device_id=message.device_id,
        message=message.message,
        advice=message.advice,
        age=span_if(message, "age"),
    )


def latency(message: state.SyncLatency) -> SyncLatency:
    return SyncLatency(
        device_id=message.device_id,
        answers=message.answers,
        median=span(message.median),
        p99=span(message.p99),
        last=span(message.last),
    )


def incident(message: state.SyncIncident) -> SyncIncident:
    return SyncIncident(
        name=message.name,
        device_id=message.device_id,
        message=message.message,
        start_time=time(message.start_time),
        lasted=span(message.lasted),
    )


def diagnosis(message: state.DiagnoseSyncResponse) -> SyncDiagnosis:
    return SyncDiagnosis(
        findings=tuple(map(finding, message.findings)),
        latencies=tuple(map(latency, message.latencies)),
        history=tuple(map(incident, message.history)),
    )


def reset(message: state.ResetSyncResponse, *, is_awaited: bool) -> SyncReset:
    return SyncReset(
        device_ids=tuple(message.device_ids),
        # The wire says False where nobody has looked.
        agrees=message.agrees if is_awaited else None,
        findings=tuple(map(finding, message.findings)),
    )
