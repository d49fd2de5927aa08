//! Words of the cache: how much something matters, and how room is made.

use std::fmt;

use serde::{Deserialize, Serialize};

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
    /// Somebody holds a lease on it.
    Leased,
    /// Somebody has said that it stays.
    Pinned,
    /// Some process has it open without a lease: evicting it would free nothing.
    Open,
    /// The coordinator was restarted, and holders of leases may still come back for it.
    Grace,
}
