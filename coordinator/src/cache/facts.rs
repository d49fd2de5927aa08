//! What the machine has to spare for segments, as the planner wants to know it.

use std::collections::BTreeSet;
use std::path::Path;

use hoist_domain::{Bytes, Digest, Error, Reason, Result};
use hoist_planner::cache::{Budget, BudgetLimit, Facts, GroupFacts, MOST_LEASES, MemoryFacts, budget};
use hoist_runtime::machine;
use hoist_segment::Room;
use tracing::warn;

use super::{Cache, Shelf};

/// Of the machine's memory, left to everybody else where nothing is configured: a sixteenth, within these bounds.
const LEAST_RESERVE: Bytes = Bytes::mib(256);
const MOST_RESERVE: Bytes = Bytes::gib(4);

/// Of the tmpfs, kept for the records of leases: a page for each that may be held, but of a small one no more than this part.
const LEASE_ROOM_DIVISOR: u64 = 16;

/// What of a tmpfs's room is left for segments, beside the records of leases that are still to come.
fn beside_leases(room: Room, leases: usize) -> Bytes {
    let pages = |leases: usize| (leases as u64).saturating_mul(hoist_segment::PAGE);
    let kept = pages(MOST_LEASES).min(room.size.0 / LEASE_ROOM_DIVISOR).saturating_sub(pages(leases));
    Bytes(room.free.0.saturating_sub(kept))
}

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
        let view = self.0.control.view();
        let policy = view.state.cache().policy().budget;
        // What the server was started with bounds what is said while it runs.
        let configured = [policy, self.0.settings.budget].into_iter().flatten().min();
        let Ok(shelf) = self.shelf() else {
            return Budget { bytes: Bytes(0), limit: BudgetLimit::Nowhere };
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
        let leases = view.state.cache().lease_count();
        let tmpfs_free = shelf.room().ok().flatten().map(|room| beside_leases(room, leases));
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
            BudgetLimit::Nowhere => "unavailable".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_the_records_of_all_leases_is_kept_and_those_that_are_there_have_theirs() {
        let page = hoist_segment::PAGE;
        let records = MOST_LEASES as u64 * page;
        let large = Room { size: Bytes::gib(12), free: Bytes::gib(10) };
        assert_eq!(beside_leases(large, 0).0, large.free.0 - records);
        assert_eq!(beside_leases(large, 3).0, large.free.0 - records + 3 * page);
        assert_eq!(beside_leases(large, MOST_LEASES), large.free);
        let small = Room { size: Bytes::mib(16), free: Bytes::mib(4) };
        assert_eq!(beside_leases(small, 0), Bytes::mib(3));
        let full = Room { free: Bytes(page), ..small };
        assert_eq!((beside_leases(full, 0), beside_leases(full, 256)), (Bytes(0), Bytes(page)));
    }
}
