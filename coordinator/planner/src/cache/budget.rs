//! How much of the machine's memory segments may take.
//!
//! The least of what is configured, what each group of the process may still take, what the machine has free, and what
//! the tmpfs has room for. What segments hold already counts as room for segments, wherever it is charged.

use hoist_domain::Bytes;

/// A control group's memory, from the process's own up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFacts {
    pub name: String,
    pub limit: Bytes,
    pub used: Bytes,
    /// Of what is used: file pages that the kernel gives up for others.
    pub reclaimable: Bytes,
}

/// What is known of the memory now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryFacts {
    pub configured: Option<Bytes>,
    /// Left to everybody else.
    pub reserve: Bytes,
    /// What the kernel could give to somebody new.
    pub available: Bytes,
    pub groups: Vec<GroupFacts>,
    /// None where the tmpfs has no limit.
    pub tmpfs_free: Option<Bytes>,
    /// What segments hold, those included that wait for their last reader.
    pub held: Bytes,
}

/// What sets the budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BudgetLimit {
    Configured,
    /// The machine's free memory, less the reserve.
    Machine,
    /// A control group's limit, less the reserve.
    Group(String),
    Tmpfs,
    /// There is no place for segments.
    Nowhere,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub bytes: Bytes,
    pub limit: BudgetLimit,
}

/// The budget by these facts.
#[must_use]
pub fn budget(facts: &MemoryFacts) -> Budget {
    let held = facts.held.0;
    let room = |free: u64| Bytes(held.saturating_add(free));
    let mut budget = Budget {
        bytes: room(facts.available.0.saturating_sub(facts.reserve.0)),
        limit: BudgetLimit::Machine,
    };
    let mut take = |bytes: Bytes, limit: BudgetLimit| {
        if bytes < budget.bytes {
            budget = Budget { bytes, limit };
        }
    };
    for group in &facts.groups {
        let used = group.used.0.saturating_sub(group.reclaimable.0);
        let free = group.limit.0.saturating_sub(used).saturating_sub(facts.reserve.0.min(group.limit.0 / 8));
        take(room(free), BudgetLimit::Group(group.name.clone()));
    }
    if let Some(free) = facts.tmpfs_free {
        take(room(free.0), BudgetLimit::Tmpfs);
    }
    if let Some(configured) = facts.configured {
        // At equal bytes it is what was asked for that limits.
        if configured <= budget.bytes {
            budget = Budget { bytes: configured, limit: BudgetLimit::Configured };
        }
    }
    budget
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> MemoryFacts {
        MemoryFacts {
            configured: None,
            reserve: Bytes::gib(1),
            available: Bytes::gib(20),
            groups: Vec::new(),
            tmpfs_free: Some(Bytes::gib(50)),
            held: Bytes::gib(4),
        }
    }

    fn group(limit: u64, used: u64, reclaimable: u64) -> GroupFacts {
        GroupFacts {
            name: "g".to_owned(),
            limit: Bytes::gib(limit),
            used: Bytes::gib(used),
            reclaimable: Bytes::gib(reclaimable),
        }
    }

    #[test]
    fn the_least_of_all_limits_is_the_budget() {
        let of = |facts: MemoryFacts| budget(&facts);
        assert_eq!(of(facts()), Budget { bytes: Bytes::gib(23), limit: BudgetLimit::Machine });
        let tight = MemoryFacts { tmpfs_free: Some(Bytes::gib(3)), ..facts() };
        assert_eq!(of(tight), Budget { bytes: Bytes::gib(7), limit: BudgetLimit::Tmpfs });
        let asked = MemoryFacts { configured: Some(Bytes::gib(8)), ..facts() };
        assert_eq!(of(asked), Budget { bytes: Bytes::gib(8), limit: BudgetLimit::Configured });
        let beyond = MemoryFacts { configured: Some(Bytes::gib(80)), ..facts() };
        assert_eq!(of(beyond).limit, BudgetLimit::Machine);
    }

    #[test]
    fn a_groups_page_cache_is_room_and_the_tightest_group_counts() {
        let groups = vec![group(16, 14, 8), group(12, 11, 2)];
        let found = budget(&MemoryFacts { groups, ..facts() });
        assert_eq!(found, Budget { bytes: Bytes::gib(6), limit: BudgetLimit::Group("g".to_owned()) });
    }

    #[test]
    fn without_any_room_what_is_held_is_the_budget() {
        let none = MemoryFacts { available: Bytes(0), tmpfs_free: Some(Bytes(0)), ..facts() };
        assert_eq!(budget(&none).bytes, Bytes::gib(4));
    }
}
