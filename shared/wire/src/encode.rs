//! From the domain to messages. Total: everything the domain can say has a form on the wire.

use std::time::Duration;

use hoist_domain::{
    Condition, Lifecycle, LoadSpec, Machine, MachineState, Measurement, MeasurementKind, Operation,
    OperationOutput, OperationState, Outcome, Position, Progress, ResourceName, Severity, UnloadSpec,
    WallTime, Work,
};
use prost::Name;
use prost_types::Any;

use crate::{longrunning, status, v1};

#[must_use]
pub fn position(position: Position) -> v1::Position {
    v1::Position { epoch: position.epoch.0, revision: position.revision.0 }
}

#[must_use]
pub fn timestamp(time: WallTime) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.0.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    prost_types::Timestamp { seconds: time.0.div_euclid(1_000_000), nanos }
}

/// A span too long for the wire (292 billion years) becomes the longest it has.
#[must_use]
pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

#[must_use]
pub const fn operation_state(state: OperationState) -> v1::OperationState {
    match state {
        OperationState::Pending => v1::OperationState::Pending,
        OperationState::Running => v1::OperationState::Running,
        OperationState::Succeeded => v1::OperationState::Succeeded,
        OperationState::Failed => v1::OperationState::Failed,
        OperationState::Cancelled => v1::OperationState::Cancelled,
    }
}

#[must_use]
pub const fn operation_kind(work: &Work) -> v1::OperationKind {
    match work {
        Work::ProbeMachine(_) => v1::OperationKind::ProbeMachine,
        Work::ScanModels(_) => v1::OperationKind::ScanModels,
        Work::DigestModels(_) => v1::OperationKind::DigestModels,
        Work::ValidateModel(_) => v1::OperationKind::ValidateModel,
        Work::CacheModel(_) => v1::OperationKind::CacheModel,
        Work::LoadModel(_) => v1::OperationKind::LoadModel,
        Work::UnloadModel(_) => v1::OperationKind::UnloadModel,
    }
}

/// What it is about, if that is one thing.
fn subject(work: &Work) -> String {
    let model = match work {
        Work::CacheModel(spec) => Some(spec.model),
        Work::ValidateModel(spec) => Some(spec.model),
        Work::DigestModels(spec) => match spec.models.as_slice() {
            [one] => Some(*one),
            _ => None,
        },
        Work::LoadModel(LoadSpec { parts, .. }) | Work::UnloadModel(UnloadSpec { parts, .. }) => {
            match parts.as_slice() {
                [one] => Some(one.model),
                _ => None,
            }
        }
        Work::ProbeMachine(_) | Work::ScanModels(_) => None,
    };
    model.map(|model| ResourceName::Model(model).to_string()).unwrap_or_default()
}

#[must_use]
pub const fn measurement_kind(kind: MeasurementKind) -> v1::MeasurementKind {
    match kind {
        MeasurementKind::DiskRead => v1::MeasurementKind::DiskRead,
        MeasurementKind::TmpfsWrite => v1::MeasurementKind::TmpfsWrite,
        MeasurementKind::MemoryCopy => v1::MeasurementKind::MemoryCopy,
    }
}

#[must_use]
pub fn measurement(measured: &Measurement) -> v1::Measurement {
    v1::Measurement {
        kind: measurement_kind(measured.kind).into(),
        bytes: measured.bytes.0,
        duration: Some(duration(measured.duration)),
        bytes_per_second: measured.bytes_per_second,
        threads: measured.threads,
        block_bytes: measured.block_bytes.0,
        measure_time: Some(timestamp(measured.measured_at)),
        note: measured.note.clone(),
    }
}

#[must_use]
pub fn machine(machine: &Machine) -> v1::Machine {
    let state = match machine.state {
        MachineState::Serving => v1::machine::State::Serving,
        MachineState::Draining => v1::machine::State::Draining,
    };
    v1::Machine {
        state: state.into(),
        version: machine.version.clone(),
        process_id: machine.process_id,
        start_time: Some(timestamp(machine.started_at)),
        measurements: machine.measurements.iter().map(measurement).collect(),
    }
}

#[must_use]
pub fn condition(condition: &Condition) -> v1::Condition {
    let severity = match condition.severity {
        Severity::Info => v1::condition::Severity::Info,
        Severity::Warning => v1::condition::Severity::Warning,
        Severity::Error => v1::condition::Severity::Error,
    };
    v1::Condition {
        kind: condition.kind.as_str().to_owned(),
        severity: severity.into(),
        message: condition.message.clone(),
        advice: condition.advice.clone(),
        since_time: Some(timestamp(condition.since)),
        details: condition.details.clone(),
    }
}

/// An operation as the state has it: without progress.
#[must_use]
pub fn operation_metadata(operation: &Operation) -> v1::OperationMetadata {
    let error = match &operation.outcome {
        Some(Outcome::Failed(error) | Outcome::Cancelled(error)) => Some(status::to_proto(error)),
        Some(Outcome::Output(_)) | None => None,
    };
    v1::OperationMetadata {
        name: ResourceName::Operation(operation.id).to_string(),
        kind: operation_kind(&operation.work).into(),
        state: operation_state(operation.state).into(),
        request_id: operation.request_id.to_string(),
        principal: operation.principal.to_string(),
        create_time: Some(timestamp(operation.created_at)),
        start_time: operation.started_at.map(timestamp),
        end_time: operation.ended_at.map(timestamp),
        attempts: operation.attempts,
        cancel_requested: operation.cancel_requested,
        error,
        progress: None,
        subject: subject(&operation.work),
    }
}

#[must_use]
pub fn progress(progress: &Progress) -> v1::Progress {
    v1::Progress {
        phase: progress.phase.clone(),
        done_items: progress.done_items,
        total_items: progress.total_items,
        done_bytes: progress.done.0,
        total_bytes: progress.total.0,
        bytes_per_second: progress.bytes_per_second,
        remaining: progress.remaining.map(duration),
        stalled: progress.stalled.map(duration),
    }
}

fn any<M: prost::Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// An operation as the standard service shows it.
#[must_use]
pub fn operation(operation: &Operation, sample: Option<&Progress>) -> longrunning::Operation {
    use longrunning::operation::Result;
    let metadata = v1::OperationMetadata { progress: sample.map(progress), ..operation_metadata(operation) };
    let result = operation.outcome.as_ref().map(|outcome| match outcome {
        Outcome::Output(OperationOutput::ProbeMachine(measurements)) => {
            Result::Response(any(&v1::ProbeMachineResponse {
                measurements: measurements.iter().map(measurement).collect(),
            }))
        }
        Outcome::Output(OperationOutput::ScanModels(report)) => {
            Result::Response(any(&crate::models::scan_report(report)))
        }
        Outcome::Output(OperationOutput::DigestModels(report)) => {
            Result::Response(any(&crate::examinations::digest_report(report)))
        }
        Outcome::Output(OperationOutput::ValidateModel(report)) => {
            Result::Response(any(&crate::examinations::validation_report(report)))
        }
        Outcome::Output(OperationOutput::CacheModel(report)) => {
            Result::Response(any(&crate::cache::report(report)))
        }
        Outcome::Output(OperationOutput::LoadModel(report)) => {
            Result::Response(any(&crate::residency::loaded(report)))
        }
        Outcome::Output(OperationOutput::UnloadModel(report)) => {
            Result::Response(any(&crate::residency::unloaded(report)))
        }
        Outcome::Failed(error) | Outcome::Cancelled(error) => Result::Error(status::to_proto(error)),
    });
    longrunning::Operation {
        name: metadata.name.clone(),
        metadata: Some(any(&metadata)),
        done: operation.state.is_terminal(),
        result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_order() {
        let shown = timestamp(WallTime(-1));
        assert_eq!((shown.seconds, shown.nanos), (-1, 999_999_000));
        let shown = timestamp(WallTime(1_500_000));
        assert_eq!((shown.seconds, shown.nanos), (1, 500_000_000));
    }
}
