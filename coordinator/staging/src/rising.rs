//! How far a target is there from its beginning, while the rest of it is still read.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hoist_domain::Bytes;

use crate::plan::Plan;

/// A file that is being written. What is there of it stays as it is. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct Rising {
    /// Until it is sealed.
    pub path: PathBuf,
    there: Arc<AtomicU64>,
}

impl Rising {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, there: Arc::default() }
    }

    /// From the beginning of the file so much is there.
    #[must_use]
    pub fn there(&self) -> Bytes {
        // What was written before this was stored is seen by whoever reads the file after it: the kernel orders both.
        Bytes(self.there.load(Ordering::Acquire))
    }

    pub(crate) fn is_there(&self, bytes: u64) {
        self.there.fetch_max(bytes, Ordering::Release);
    }
}

/// What a target waits for: steps that have something for it and have not ended, by where their first byte of it goes.
#[derive(Debug, Default)]
pub(crate) struct Lacking {
    steps: BTreeSet<(u64, usize)>,
    end: u64,
}

impl Lacking {
    /// Of so many targets, before anything is read.
    pub(crate) fn of(plan: &Plan, targets: usize) -> Vec<Self> {
        let mut all: Vec<Self> = (0..targets).map(|_| Self::default()).collect();
        for step in 0..plan.steps() {
            for (target, at) in plan.targets_of(step) {
                if let Some(lacking) = all.get_mut(target) {
                    lacking.steps.insert((at, step));
                }
            }
        }
        for item in &plan.items {
            if let Some(lacking) = all.get_mut(item.target) {
                lacking.end = lacking.end.max(item.at.saturating_add(item.length));
            }
        }
        all
    }

    /// A step has ended whose first byte went there.
    pub(crate) fn has(&mut self, at: u64, step: usize) {
        self.steps.remove(&(at, step));
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.steps.is_empty()
    }

    /// Everything before this is there.
    pub(crate) fn there(&self) -> u64 {
        self.steps.first().map_or(self.end, |(at, _)| *at)
    }
}
