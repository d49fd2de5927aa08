//! How far running work is. Executors count, everybody else samples.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use hoist_domain::{Bytes, OperationId, Progress};

/// The rate is taken over at most this long: short enough to follow a change, long enough to be steady.
const WINDOW: Duration = Duration::from_secs(5);

/// A time to the end is told only from a rate at least this old; before, it would be a guess.
const TRUSTED_AFTER: Duration = Duration::from_secs(1);

/// Silence shorter than this is ordinary.
const STALLED_AFTER: Duration = Duration::from_secs(2);

/// One running operation's counters. Counting is an atomic add; the rest is for samplers.
#[derive(Debug, Default)]
pub struct ProgressCell {
    done: AtomicU64,
    total: AtomicU64,
    done_items: AtomicU64,
    total_items: AtomicU64,
    course: Mutex<Course>,
}

#[derive(Debug, Default)]
struct Course {
    phase: &'static str,
    /// (monotonic time, bytes done), oldest first, over the last [`WINDOW`].
    samples: VecDeque<(Duration, u64)>,
    /// Things that were done at the last sample.
    items: u64,
    /// When one of both was last seen to grow.
    moved: Duration,
}

impl ProgressCell {
    /// Counts finished bytes.
    pub fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    /// For work that is told how far it is, rather than counting itself.
    pub fn set_done(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Relaxed);
    }

    /// For work that counts by itself, elsewhere.
    pub const fn counter(&self) -> &AtomicU64 {
        &self.done
    }

    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// For work that counts things.
    pub fn set_items(&self, done: u64, total: u64) {
        self.done_items.store(done, Ordering::Relaxed);
        self.total_items.store(total, Ordering::Relaxed);
    }

    pub fn set_phase(&self, phase: &'static str) {
        self.course.lock().unwrap_or_else(PoisonError::into_inner).phase = phase;
    }

    /// Takes a sample for the rate; the runner does so a few times a second.
    pub fn mark(&self, now: Duration) {
        let done = self.done.load(Ordering::Relaxed);
        let items = self.done_items.load(Ordering::Relaxed);
        let mut course = self.course.lock().unwrap_or_else(PoisonError::into_inner);
        if course.samples.back().is_none_or(|&(_, last)| last != done) || course.items != items {
            course.moved = now;
        }
        course.items = items;
        course.samples.push_back((now, done));
        while course.samples.front().is_some_and(|&(at, _)| now.saturating_sub(at) > WINDOW) {
            course.samples.pop_front();
        }
    }

    #[must_use]
    pub fn sample(&self, now: Duration) -> Progress {
        let done = self.done.load(Ordering::Relaxed);
        let total = self.total.load(Ordering::Relaxed);
        let course = self.course.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = course.rate();
        let silent = now.saturating_sub(course.moved);
        let remaining = rate.and_then(|(per_second, over)| {
            (over >= TRUSTED_AFTER && per_second > 0 && total >= done && total > 0)
                .then(|| Duration::from_secs((total - done).div_ceil(per_second)))
        });
        Progress {
            phase: course.phase.to_owned(),
            done: Bytes(done),
            total: Bytes(total),
            done_items: self.done_items.load(Ordering::Relaxed),
            total_items: self.total_items.load(Ordering::Relaxed),
            bytes_per_second: rate.map(|(per_second, _)| per_second),
            remaining,
            stalled: (!course.samples.is_empty() && silent >= STALLED_AFTER).then_some(silent),
        }
    }
}

impl Course {
    /// Bytes a second, and the time it was taken over.
    fn rate(&self) -> Option<(u64, Duration)> {
        let (&(first_at, first), &(last_at, last)) = (self.samples.front()?, self.samples.back()?);
        let over = last_at.saturating_sub(first_at);
        let millis = u64::try_from(over.as_millis()).ok().filter(|&ms| ms > 0)?;
        Some((last.saturating_sub(first).saturating_mul(1_000) / millis, over))
    }
}

/// The cells of all running operations. Derived: entries come and go with executors.
#[derive(Clone, Debug, Default)]
pub struct ProgressBoard(Arc<DashMap<OperationId, Arc<ProgressCell>>>);

impl ProgressBoard {
    pub(super) fn open(&self, id: OperationId) -> Arc<ProgressCell> {
        let cell = Arc::new(ProgressCell::default());
        self.0.insert(id, Arc::clone(&cell));
        cell
    }

    pub(super) fn close(&self, id: OperationId) {
        self.0.remove(&id);
    }

    /// How far an operation is; `None` unless it runs.
    #[must_use]
    pub fn sample(&self, id: OperationId, now: Duration) -> Option<Progress> {
        self.0.get(&id).map(|cell| cell.sample(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn rate_and_end_are_told_once_they_are_known() {
        let cell = ProgressCell::default();
        cell.set_total(10_000);
        cell.mark(at(0));
        assert_eq!(cell.sample(at(0)).bytes_per_second, None);
        cell.add(500);
        cell.mark(at(500));
        let early = cell.sample(at(500));
        assert_eq!((early.bytes_per_second, early.remaining), (Some(1_000), None));
        cell.add(500);
        cell.mark(at(1_000));
        let later = cell.sample(at(1_000));
        assert_eq!((later.bytes_per_second, later.remaining), (Some(1_000), Some(Duration::from_secs(9))));
    }

    #[test]
    fn the_rate_follows_the_last_seconds_and_silence_is_told() {
        let cell = ProgressCell::default();
        cell.set_total(1_000_000);
        for step in 0..40 {
            cell.mark(at(step * 250));
            if step < 10 {
                cell.add(1_000);
            }
        }
        let sample = cell.sample(at(10_000));
        assert_eq!(sample.bytes_per_second, Some(0));
        assert_eq!(sample.remaining, None, "no end is in sight at no speed");
        assert_eq!(sample.stalled, Some(at(7_500)));
    }

    #[test]
    fn an_unknown_total_has_no_end() {
        let cell = ProgressCell::default();
        cell.mark(at(0));
        cell.add(100);
        cell.mark(at(2_000));
        assert_eq!(cell.sample(at(2_000)).remaining, None);
    }
}
