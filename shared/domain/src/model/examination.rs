//! Looks into a model's bytes: digests and validations, what they are asked for and what they find.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Bytes, Finding, ModelId, PathProblem, Verdict, WallTime};

/// Which components to read and digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DigestSpec {
    /// Sorted; empty: all models that have components without a digest.
    pub models: Vec<ModelId>,
}

impl DigestSpec {
    pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(24 * 3600);
    pub const MAX_MODELS: usize = 1_000;
}

/// What was read and digested.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DigestReport {
    /// Models that have all their digests now.
    pub models: u64,
    /// Components that got one.
    pub components: u64,
    pub bytes: Bytes,
    pub took: Duration,
    /// Models that could not be read; at most [`crate::ScanReport::MAX_PROBLEMS`].
    pub problems: Vec<PathProblem>,
    pub more_problems: u64,
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValidationLevel {
    /// The headers, again.
    Header,
    /// Every byte.
    Full,
    /// Whether a device can take it.
    Compatibility,
}

impl ValidationLevel {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Full => "full",
            Self::Compatibility => "compatibility",
        }
    }
}

/// What to validate, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValidateSpec {
    pub model: ModelId,
    pub level: ValidationLevel,
    /// For COMPATIBILITY: `cpu:0`, `cuda:1`.
    pub device: String,
    /// For FULL: what the SHA-256 of the model's one file should be, in lower-case hexadecimal. Empty: not known.
    pub sha256: String,
    /// For FULL: tell the SHA-256 of every file, also where nothing is known to compare it with.
    pub checksums: bool,
}

impl ValidateSpec {
    pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(3600);
}

/// What a validation found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidationReport {
    pub model: ModelId,
    pub level: ValidationLevel,
    pub verdict: Verdict,
    /// Worst first; at most [`Self::MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    pub more_findings: u64,
    /// That were read.
    pub bytes: Bytes,
    pub took: Duration,
    pub checksums: Vec<FileChecksum>,
    pub compatibility: Option<Compatibility>,
}

impl ValidationReport {
    pub const MAX_FINDINGS: usize = 100;
}

/// The SHA-256 of a file, and what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChecksum {
    /// Within the model; empty when the model is this file.
    pub file: String,
    /// Hexadecimal.
    pub sha256: String,
    /// Empty where nothing says.
    pub expected: String,
    /// Who says: `hub`, a sidecar's name.
    pub source: String,
}

/// Whether a device can take a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compatibility {
    pub device: String,
    /// No check failed.
    pub is_compatible: bool,
    /// What it takes there.
    pub needed: Bytes,
    /// What the device has in all.
    pub capacity: Bytes,
    pub checks: Vec<CompatibilityCheck>,
}

/// One condition that a device or a format must meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompatibilityCheck {
    pub category: CompatibilityCategory,
    pub result: CheckResult,
    pub message: String,
    /// How to get there all the same: a conversion, another device. Empty when nothing is wrong.
    pub advice: String,
}

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompatibilityCategory {
    /// It can be opened and read.
    Access,
    /// Its files are sound.
    Integrity,
    /// There is a reader for its format and version.
    Format,
    /// The device computes with its element types.
    Dtype,
    /// It holds no code, or its owner vouches for it.
    Code,
    /// It fits into the device's memory.
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    Ok,
    /// Possible, at a price.
    Warning,
    Failed,
}

/// The last look at every byte of a model, as the catalog keeps it: as long as the bytes are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validation {
    pub verdict: Verdict,
    /// Worst first; the first of many.
    #[serde(default)]
    pub findings: Box<[Finding]>,
    pub at: WallTime,
}

impl Validation {
    pub const MAX_FINDINGS: usize = 16;
}
