//! What the machine has to spare for segments, as the planner wants to know it.

use std::path::Path;

use hoist_domain::Bytes;
use hoist_planner::cache::{Budget, BudgetLimit, Facts, GroupFacts, MemoryFacts, budget};
use hoist_runtime::machine;
use tracing::warn;

use super::Cache;

/// Of the machine's memory, left to everybody else where nothing is configured: a sixteenth, within these bounds.
const LEAST_RESERVE: Bytes = Bytes::mib(256);
const MOST_RESERVE: Bytes = Bytes::gib(4);

impl Cache {
    /// What segments may take now.
    #[must_use]
    pub fn budget(&self) -> Budget {
        let policy = self.0.control.view().state.cache().policy().budget;
        // What the server was started with bounds what is said while it runs.
        let configured = [policy, self.0.settings.budget].into_iter().flatten().min();
        let Ok(shelf) = self.shelf() else {
            return Budget { bytes: Bytes(0), limit: BudgetLimit::Tmpfs };
        };
        // Segments come and go while this is found out: what is free and what is held are not of one moment. The larger of
        // what is held before and after can only be too much, which is looked at again; too little would evict what fits.
        let held_before = self.held();
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
        let held = held_before.max(self.held());
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

    /// Everything that decides about room. Asks the kernel about each segment: milliseconds for a thousand.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let budget = self.budget();
        let open = self.shelf().map(super::Shelf::open).unwrap_or_default();
        Facts { budget: budget.bytes, limit: self.limit_name(&budget.limit), open }
    }

    /// What the directory's files take, in the kernel's own count.
    #[must_use]
    pub fn held(&self) -> Bytes {
        let shelved = self.shelf().map(super::Shelf::held).unwrap_or_default();
        Bytes(shelved.0.saturating_add(self.filling_bytes()))
    }
}
