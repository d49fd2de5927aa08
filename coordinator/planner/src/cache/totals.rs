//! What segments take of the memory, and how well keeping them works: numbers that are added to, never walked for.

use std::time::Duration;

use hoist_domain::{Bytes, SegmentState};

/// What segments take of the memory, by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Reserved for what is being filled.
    pub filling: Bytes,
    pub sealed: Bytes,
    /// Withdrawn, and free in a moment.
    pub evicting: Bytes,
    /// Withdrawn, and kept by those who have it open.
    pub zombie: Bytes,
}

impl Totals {
    /// What counts against the budget: what is free in a moment does not.
    #[must_use]
    pub const fn used(&self) -> Bytes {
        Bytes(self.filling.0.saturating_add(self.sealed.0).saturating_add(self.zombie.0))
    }

    pub(super) fn slot(&mut self, state: SegmentState) -> &mut Bytes {
        match state {
            SegmentState::Filling => &mut self.filling,
            SegmentState::Sealed => &mut self.sealed,
            SegmentState::Evicting | SegmentState::Gone => &mut self.evicting,
        }
    }
}

/// How well the cache works, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatistics {
    pub hits: u64,
    pub misses: u64,
    pub fills: u64,
    pub read: Bytes,
    pub fill_time: Duration,
    pub shared: Bytes,
    pub evictions: u64,
    pub evicted: Bytes,
    pub idle_at_eviction: Duration,
    pub adopted: u64,
    pub refusals: u64,
}
