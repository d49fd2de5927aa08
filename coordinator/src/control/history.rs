//! The kept history: one bounded ring of deltas for all watchers, and one cursor (a revision) a watcher.
//!
//! The owner appends, watchers copy out what lies after their cursor. Nobody waits for a slow watcher: the ring
//! drops its oldest delta when a bound is reached, and a watcher whose next delta is gone is told so.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hoist_domain::Revision;

use super::EncodedDelta;

/// Whichever is reached first drops the oldest delta.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    pub events: usize,
    pub bytes: usize,
    pub age: Duration,
}

/// The delta after the asked revision is not kept any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// A watcher can resume from this revision or later.
    pub oldest: Revision,
}

#[derive(Debug)]
pub struct History {
    limits: HistoryLimits,
    ring: RwLock<Ring>,
}

#[derive(Debug)]
struct Ring {
    /// Contiguous: the entry at index `i` has revision `base + 1 + i`.
    entries: VecDeque<Entry>,
    /// The revision before the first entry: the oldest one to resume from.
    base: Revision,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    delta: Arc<EncodedDelta>,
    weight: usize,
    /// Monotonic time of its publication.
    at: Duration,
}

impl History {
    /// A history that begins at `base`: nothing before it is known.
    #[must_use]
    pub fn new(limits: HistoryLimits, base: Revision) -> Self {
        Self { limits, ring: RwLock::new(Ring { entries: VecDeque::new(), base, bytes: 0 }) }
    }

    /// Appends the delta of the next revision.
    pub(super) fn append(&self, delta: EncodedDelta, now: Duration) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let expected = ring.base.0 + ring.entries.len() as u64 + 1;
        assert_eq!(delta.position.revision.0, expected, "revisions are published without a gap");
        let weight = delta.weight();
        ring.bytes += weight;
        ring.entries.push_back(Entry { delta: Arc::new(delta), weight, at: now });
        while ring.entries.len() > self.limits.events
            || ring.bytes > self.limits.bytes
            || ring.is_old(self, now)
        {
            ring.drop_oldest();
        }
    }

    /// Drops what is too old, also when nothing new comes: a server at rest keeps nothing for nobody.
    pub(super) fn forget_old(&self, now: Duration) {
        let is_any_old = self.ring.read().unwrap_or_else(PoisonError::into_inner).is_old(self, now);
        if !is_any_old {
            return;
        }
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        while ring.is_old(self, now) {
            ring.drop_oldest();
        }
        if ring.entries.capacity() / 4 > ring.entries.len() {
            ring.entries.shrink_to_fit();
        }
    }

    /// Up to `most` deltas after `cursor`, in order.
    ///
    /// # Errors
    /// When the first of them is no longer kept.
    pub fn after(&self, cursor: Revision, most: usize) -> Result<Vec<Arc<EncodedDelta>>, Behind> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let Some(skip) = cursor.0.checked_sub(ring.base.0) else { return Err(Behind { oldest: ring.base }) };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Ok(ring.entries.iter().skip(skip).take(most).map(|entry| Arc::clone(&entry.delta)).collect())
    }

    /// For how long a delta is kept at most.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.limits.age
    }

    /// The oldest revision to resume from.
    #[must_use]
    pub fn oldest(&self) -> Revision {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).base
    }
}

impl Ring {
    fn is_old(&self, history: &History, now: Duration) -> bool {
        self.entries.front().is_some_and(|entry| now.saturating_sub(entry.at) > history.limits.age)
    }

    fn drop_oldest(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.weight;
            self.base = self.base.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_domain::{Epoch, Position};
    use hoist_planner::Delta;

    fn delta(revision: u64) -> EncodedDelta {
        let position = Position { epoch: Epoch(1), revision: Revision(revision) };
        EncodedDelta::new(&Delta { position, changes: Vec::new() })
    }

    fn history(events: usize, age_ms: u64, revisions: u64) -> History {
        let limits = HistoryLimits { events, bytes: usize::MAX, age: Duration::from_millis(age_ms) };
        let history = History::new(limits, Revision(10));
        for n in 1..=revisions {
            history.append(delta(10 + n), Duration::from_millis(n));
        }
        history
    }

    fn after(history: &History, cursor: u64, most: usize) -> Result<Vec<u64>, Behind> {
        history
            .after(Revision(cursor), most)
            .map(|deltas| deltas.iter().map(|d| d.position.revision.0).collect())
    }

    #[test]
    fn a_cursor_gets_exactly_what_follows_it() {
        let history = history(100, 1_000, 5);
        assert_eq!(after(&history, 10, 100), Ok(vec![11, 12, 13, 14, 15]));
        assert_eq!(after(&history, 13, 1), Ok(vec![14]));
        assert_eq!(after(&history, 15, 100), Ok(vec![]));
        assert_eq!(after(&history, 9, 100), Err(Behind { oldest: Revision(10) }));
    }

    #[test]
    fn each_bound_drops_the_oldest() {
        let by_count = history(3, 1_000, 5);
        assert_eq!(by_count.oldest(), Revision(12));
        assert_eq!(after(&by_count, 11, 9), Err(Behind { oldest: Revision(12) }));
        assert_eq!(after(&by_count, 12, 9), Ok(vec![13, 14, 15]));
        let by_age = history(100, 2, 5);
        assert_eq!(by_age.oldest(), Revision(12));
        by_age.forget_old(Duration::from_millis(6));
        assert_eq!(by_age.oldest(), Revision(13), "though nothing new came");
        by_age.forget_old(Duration::from_secs(9));
        assert_eq!((by_age.oldest(), after(&by_age, 15, 9)), (Revision(15), Ok(vec![])));
        let weight = delta(11).weight();
        let limits = HistoryLimits { events: 100, bytes: weight * 2, age: Duration::MAX };
        let by_bytes = History::new(limits, Revision(10));
        for n in 11..=15 {
            by_bytes.append(delta(n), Duration::ZERO);
        }
        assert_eq!(by_bytes.oldest(), Revision(13));
    }
}
