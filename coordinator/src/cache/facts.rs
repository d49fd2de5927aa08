//! What the machine has to spare for segments, as the planner wants to know it.

use std::collections::BTreeSet;
use std::path::Path;

use hoist_domain::{Bytes, Digest, Error, Reason, Result};
use hoist_planner::cache::{Budget, BudgetLimit, Facts, GroupFacts, MemoryFacts, budget};
use hoist_runtime::machine;
use tracing::warn;

use super::{Cache, Shelf};

/// Of the machine's memory, left to everybody else where nothing is configured: a sixteenth, within these bounds.
const LEAST_RESERVE: Bytes = Bytes::mib(256);
const MOST_RESERVE: Bytes = Bytes::gib(4);

impl Cache {
    /// What segments may take now.
    ///
    /// # Errors
    /// INTERNAL.
    pub async fn budget(&self) -> Result<Budget> {
        self.apart("budget", Self::budget_now).await
    }

    /// Asks the kernel on a thread that may wait.
    async fn apart<T: Send + 'static>(
        &self,
        name: &'static str,
        ask: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T> {
        let cache = self.clone();
        let asked = self.0.tasks.run_blocking(name, move || ask(&cache)).await;
        asked.map_err(|panicked| Error::new(Reason::Internal, panicked.to_string()))
    }

    fn budget_now(&self) -> Budget {
        let policy = self.0.control.view().state.cache().policy().budget;
        // What the server was started with bounds what is said while it runs.
        let configured = [policy, self.0.settings.budget].into_iter().flatten().min();
        let Ok(shelf) = self.shelf() else {
            return Budget { bytes: Bytes(0), limit: BudgetLimit::Tmpfs };
        };
        // Segments come and go while this is found out: what is free and what is held are not of one moment. The larger of
        // what is held before and after can only be too much, which is looked at again; too little would evict what fits.
        let held_before = shelf.held();
        let root = Path::new("/");
        let mut is_known = true;
        let groups = machine::cgroup_memory(root).unwrap_or_else(|error| {
            warn!(%error, "the memory limits of control groups are not known now: nothing counts as free");
            is_known = false;
            Vec::new()
        });
        let groups = groups.into_iter().filter_map(|group| {
            Some(GroupFacts {
                name: group.path.display().to_string(),
                limit: group.limit?,
                used: group.usage?,
                reclaimable: group.reclaimable.unwrap_or_default(),
            })
        });
        let groups: Vec<GroupFacts> = groups.collect();
        let (available, total) = match machine::memory(root) {
            Ok(memory) => (memory.available, memory.total),
            Err(error) => {
                warn!(%error, "the machine's free memory is not known now: nothing counts as free");
                (Bytes(0), Bytes(0))
            }
        };
        let usual = Bytes((total.0 / 16).clamp(LEAST_RESERVE.0, MOST_RESERVE.0));
        let tmpfs_free = shelf.free().ok().flatten();
        let held = held_before.max(shelf.held());
        budget(&MemoryFacts {
            configured,
            reserve: self.0.settings.reserve.unwrap_or(usual),
            available: if is_known { available } else { Bytes(0) },
            groups,
            tmpfs_free,
            held,
        })
    }

    /// What sets the budget, in a word.
    #[must_use]
    pub fn limit_name(&self, limit: &BudgetLimit) -> String {
        match limit {
            BudgetLimit::Configured => {
                let policy = self.0.control.view().state.cache().policy().budget;
                let is_policy =
                    policy.is_some_and(|policy| self.0.settings.budget.is_none_or(|own| policy < own));
                if is_policy { "policy" } else { "configured" }.to_owned()
            }
            BudgetLimit::Machine => "machine".to_owned(),
            BudgetLimit::Group(name) => name.clone(),
            BudgetLimit::Tmpfs => "tmpfs".to_owned(),
        }
    }

    /// Everything that decides about room.
    ///
    /// # Errors
    /// INTERNAL.
    pub async fn facts(&self) -> Result<Facts> {
        let budget = self.budget().await?;
        self.facts_within(budget).await
    }

    /// The same, for a budget that is known.
    pub(super) async fn facts_within(&self, budget: Budget) -> Result<Facts> {
        let limit = self.limit_name(&budget.limit);
        Ok(Facts { budget: budget.bytes, limit, open: self.open().await? })
    }

    /// Segments that anybody has open. Asks the kernel about each: milliseconds for a thousand.
    ///
    /// # Errors
    /// INTERNAL.
    pub async fn open(&self) -> Result<BTreeSet<Digest>> {
        self.apart("open segments", |cache| cache.shelf().map(Shelf::open).unwrap_or_default()).await
    }

    /// What the directory's files take, in the kernel's own count.
    ///
    /// # Errors
    /// INTERNAL.
    pub async fn held(&self) -> Result<Bytes> {
        self.apart("held memory", |cache| cache.shelf().map(Shelf::held).unwrap_or_default()).await
    }
}
