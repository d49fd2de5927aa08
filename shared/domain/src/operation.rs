//! Long work that somebody asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Bytes, CacheReport, CacheSpec, DigestReport, DigestSpec, Error, LoadReport, LoadSpec, Measurement,
    MeasurementKind, ModelPath, ModelType, OperationId, OperationState, Principal, RequestId, ServiceTime,
    UnloadReport, UnloadSpec, ValidateSpec, ValidationLevel, ValidationReport, WallTime,
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
    ScanModels(ScanSpec),
    DigestModels(DigestSpec),
    ValidateModel(ValidateSpec),
    CacheModel(CacheSpec),
    LoadModel(LoadSpec),
    UnloadModel(UnloadSpec),
}

/// Work that shares something only so many can have at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Probes would falsify each other.
    Probe,
    /// Scans would read the same disks.
    Scan,
    /// What is digested in the background takes its time.
    Digest,
    /// What somebody waits for does not wait behind it.
    DigestAsked,
    /// Reads every byte.
    ValidateFull,
    /// Reads headers.
    ValidateQuick,
    /// Fills memory; those that run share the disk by their priorities.
    Cache,
    /// What is in RAM already needs no disk, and waits for no load that does.
    Load,
    /// Makes room: never behind what needs it.
    Unload,
}

impl Lane {
    /// How many may run at a time.
    #[must_use]
    pub const fn width(self) -> usize {
        match self {
            Self::Probe | Self::Scan | Self::Digest | Self::DigestAsked => 1,
            Self::ValidateFull => 2,
            Self::ValidateQuick | Self::Cache => 8,
            Self::Load => 32,
            Self::Unload => 64,
        }
    }
}

impl Work {
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match self {
            Self::ProbeMachine(_) => Lane::Probe,
            Self::ScanModels(_) => Lane::Scan,
            Self::DigestModels(spec) if spec.models.is_empty() => Lane::Digest,
            Self::DigestModels(_) => Lane::DigestAsked,
            Self::CacheModel(_) => Lane::Cache,
            Self::LoadModel(_) => Lane::Load,
            Self::UnloadModel(_) => Lane::Unload,
            Self::ValidateModel(spec) => match spec.level {
                ValidationLevel::Full => Lane::ValidateFull,
                ValidationLevel::Header | ValidationLevel::Compatibility => Lane::ValidateQuick,
            },
        }
    }
}

/// Where to look for models.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ScanSpec {
    /// Files or folders below roots, sorted; empty: all roots.
    pub paths: Vec<ModelPath>,
    /// Also what has not changed is read again.
    pub reread: bool,
    /// Folders below each path that are looked at; unset: all.
    #[serde(default)]
    pub max_depth: Option<u32>,
    /// Every byte of what is found is looked at, too.
    #[serde(default)]
    pub validate: bool,
}

impl ScanSpec {
    pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(3600);
    pub const MAX_PATHS: usize = 1_000;
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
    pub const MAX_BYTES: Bytes = Bytes::gib(256);
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
    ScanModels(ScanReport),
    DigestModels(DigestReport),
    ValidateModel(Box<ValidationReport>),
    CacheModel(Box<CacheReport>),
    LoadModel(Box<LoadReport>),
    UnloadModel(Box<UnloadReport>),
}

/// What a scan came across.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScanReport {
    pub directories: u64,
    /// Entries that are not directories.
    pub files: u64,
    /// Models that are there now, whatever their verdict.
    pub models: u64,
    pub added: u64,
    pub changed: u64,
    pub moved: u64,
    pub unchanged: u64,
    /// Gone, and either kept as missing or forgotten.
    pub missing: u64,
    /// Models with a verdict other than OK.
    pub damaged: u64,
    /// Models of which every byte was looked at.
    pub validated: u64,
    /// Entries passed over, by why.
    pub skipped: BTreeMap<String, u64>,
    /// Models by type.
    pub by_type: BTreeMap<ModelType, u64>,
    pub bytes: Bytes,
    pub header_bytes: Bytes,
    pub took: Duration,
    /// What could not be read; at most [`Self::MAX_PROBLEMS`].
    pub problems: Vec<PathProblem>,
    pub more_problems: u64,
}

impl ScanReport {
    pub const MAX_PROBLEMS: usize = 100;

    pub fn skip(&mut self, why: &str) {
        *self.skipped.entry(why.to_owned()).or_default() += 1;
    }

    pub fn problem(&mut self, path: ModelPath, message: String) {
        if self.problems.len() < Self::MAX_PROBLEMS {
            self.problems.push(PathProblem { path, message });
        } else {
            self.more_problems += 1;
        }
    }
}

/// A path that could not be read, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathProblem {
    pub path: ModelPath,
    pub message: String,
}

/// How far a running operation is, as of one sample. Never stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The step at work, for people.
    pub phase: String,
    pub done: Bytes,
    /// Zero while not known.
    pub total: Bytes,
    /// For work that counts things rather than bytes: models of a scan.
    pub done_items: u64,
    pub total_items: u64,
    /// Unset until two samples exist.
    pub bytes_per_second: Option<u64>,
    /// Unset rather than guessed.
    pub remaining: Option<Duration>,
    /// How long nothing has moved, once that is long enough to mention.
    pub stalled: Option<Duration>,
}
