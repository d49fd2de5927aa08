//! Words of the cache: how much something matters, and how room is made.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Bytes, Digest, ModelId, Verdict};

/// How much something matters beside others of its kind. What matters less gives way to what matters more, never the
/// other way round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Priority {
    /// Gets what nobody else wants.
    Background,
    Low,
    #[default]
    Normal,
    High,
    /// Comes before everything.
    Critical,
}

impl Priority {
    pub const ALL: [Self; 5] = [Self::Background, Self::Low, Self::Normal, Self::High, Self::Critical];

    /// Its share of a disk beside others.
    #[must_use]
    pub const fn weight(self) -> u32 {
        match self {
            Self::Background => 1,
            Self::Low => 2,
            Self::Normal => 4,
            Self::High => 8,
            Self::Critical => 16,
        }
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// By what rule room is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EvictionPolicy {
    /// What is expected to be missed least: by how long reading it again takes, how large it is, and when it is expected
    /// to be used again. A scan over many models does not push out what is used again and again.
    #[default]
    Cost,
    /// What was used longest ago.
    Lru,
}

/// Why a segment is not evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Veto {
    /// It is not complete: its operation decides about it.
    Filling,
    /// Somebody holds a lease on it, or an operation that has found it there still runs.
    Leased,
    /// Somebody has said that it stays.
    Pinned,
    /// Some process has it open without a lease: evicting it would free nothing.
    Open,
}

impl Veto {
    /// What it is: `pinned`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filling => "being filled",
            Self::Leased => "in use",
            Self::Pinned => "pinned",
            Self::Open => "open in some process",
        }
    }
}

/// How memory is used, where nothing more special is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CachePolicy {
    /// What segments may take at most; unset: what the server was started with, or as much as the machine has.
    pub budget: Option<Bytes>,
    pub eviction: EvictionPolicy,
    /// What nobody has used for so long goes first, and after this long also without need.
    pub idle_ttl: Option<Duration>,
    /// Of models that have none of their own.
    pub priority: Priority,
}

/// A model to bring into RAM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CacheSpec {
    pub model: ModelId,
    /// Names, sorted; empty: all.
    pub components: Vec<Box<str>>,
    pub priority: Priority,
    /// Every byte is looked at before.
    #[serde(default)]
    pub validate: bool,
    /// Verdicts that are no obstacle, sorted.
    #[serde(default)]
    pub allow: Vec<Verdict>,
}

impl CacheSpec {
    pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(3600);
    pub const MAX_COMPONENTS: usize = 64;
}

/// What was brought into RAM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheReport {
    pub model: ModelId,
    pub components: Vec<CachedComponent>,
    /// From the model's files.
    pub read: Bytes,
    pub took: Duration,
    /// What made room.
    pub evicted: Vec<Digest>,
    /// Components that cannot be in RAM, and why.
    pub left_out: Vec<String>,
}

/// A component in RAM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedComponent {
    pub name: Box<str>,
    pub digest: Digest,
    pub path: String,
    pub prefix: Box<str>,
    pub bytes: Bytes,
    pub source: ComponentSource,
}

/// How a component came into RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComponentSource {
    /// It was there.
    Resident,
    Read,
    /// It was read, and found to be equal to what was there.
    Shared,
}
