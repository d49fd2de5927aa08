//! Long work that somebody asked for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Bytes, Error, Measurement, MeasurementKind, OperationId, OperationState, Principal, RequestId,
    ServiceTime, WallTime,
};

/// One operation as it is kept: durable before it is acknowledged, and again when it ends.
///
/// How far it is stands elsewhere: progress is sampled from the executor, never stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub id: OperationId,
    pub work: Work,
    pub state: OperationState,
    /// The request that created it; requests that joined it have their own ids.
    pub request_id: RequestId,
    pub principal: Principal,
    pub created_at: WallTime,
    pub started_at: Option<WallTime>,
    pub ended_at: Option<WallTime>,
    /// It fails with DEADLINE_EXCEEDED when the service is this old.
    pub deadline: ServiceTime,
    /// Retention counts from here.
    pub ended: Option<ServiceTime>,
    pub attempts: u32,
    pub cancel_requested: bool,
    /// Set exactly when `state` is terminal.
    pub outcome: Option<Outcome>,
}

/// What an operation does, with everything needed to do it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    ProbeMachine(ProbeSpec),
}

/// What to measure. Two specs that are equal are the same work: the second request joins the first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProbeSpec {
    /// Sorted, without repetition, not empty.
    pub kinds: Vec<MeasurementKind>,
    /// Bytes to move for each kind.
    pub bytes: Bytes,
}

impl ProbeSpec {
    pub const MIN_BYTES: Bytes = Bytes::mib(16);
    pub const DEFAULT_BYTES: Bytes = Bytes::gib(1);
    pub const MAX_BYTES: Bytes = Bytes::gib(16);
    pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(600);
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// SUCCEEDED, with this.
    Output(OperationOutput),
    /// FAILED, because of this.
    Failed(Error),
    /// CANCELLED; the error says by whom or why.
    Cancelled(Error),
}

impl Outcome {
    /// The state that this outcome means.
    #[must_use]
    pub const fn state(&self) -> OperationState {
        match self {
            Self::Output(_) => OperationState::Succeeded,
            Self::Failed(_) => OperationState::Failed,
            Self::Cancelled(_) => OperationState::Cancelled,
        }
    }
}

/// What an operation produced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationOutput {
    ProbeMachine(Vec<Measurement>),
}

/// How far a running operation is, as of one sample. Never stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The step at work, for people.
    pub phase: String,
    pub done: Bytes,
    /// Zero while not known.
    pub total: Bytes,
    /// Unset until two samples exist.
    pub bytes_per_second: Option<u64>,
    /// Unset rather than guessed.
    pub remaining: Option<Duration>,
    /// How long nothing has moved, once that is long enough to mention.
    pub stalled: Option<Duration>,
}
