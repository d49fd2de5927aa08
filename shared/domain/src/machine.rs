//! The machine, what was measured about it, and what is wrong with it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Bytes, ConditionKind, MachineState, WallTime};

/// The coordinator's own record in the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub state: MachineState,
    pub version: String,
    pub process_id: u32,
    pub started_at: WallTime,
    /// The newest of each kind, ordered by kind; durable.
    pub measurements: Vec<Measurement>,
}

/// What can be measured about the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MeasurementKind {
    /// A file of the state directory, read past the page cache.
    DiskRead,
    /// Fresh pages of a file in the runtime directory.
    TmpfsWrite,
    /// Memory to memory.
    MemoryCopy,
}

impl MeasurementKind {
    pub const ALL: [Self; 3] = [Self::DiskRead, Self::TmpfsWrite, Self::MemoryCopy];

    /// For people: the phase of a probe.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::DiskRead => "disk read",
            Self::TmpfsWrite => "tmpfs write",
            Self::MemoryCopy => "memory copy",
        }
    }
}

/// One measured speed. `bytes_per_second` is 0 and `note` says why when it could not be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    pub kind: MeasurementKind,
    pub bytes: Bytes,
    pub duration: Duration,
    pub bytes_per_second: u64,
    pub threads: u32,
    pub block_bytes: Bytes,
    pub measured_at: WallTime,
    pub note: String,
}

/// How much a condition matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Severity {
    Info,
    Warning,
    Error,
}

/// Something that is wrong or was repaired. It exists while it holds; not durable, because whatever raised it
/// raises it again after a restart if it still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub kind: ConditionKind,
    pub severity: Severity,
    pub message: String,
    pub advice: String,
    pub since: WallTime,
    pub details: Vec<String>,
}

impl Condition {
    /// More than this many particulars are cut, and the last line says how many were.
    pub const MAX_DETAILS: usize = 100;
}
