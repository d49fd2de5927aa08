//! Who holds which segments, to be found from either side. Both sets say the same, and only this file changes them.

use std::collections::BTreeMap;

use hoist_domain::{LeaseId, ModelId, OperationId, Priority, ReplicaId, SegmentName, ServiceTime};
use imbl::OrdSet;
use uuid::Uuid;

/// On whose account a segment stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// Until it ends.
    Operation(OperationId),
    Lease(LeaseId),
    /// That is made from it, or is the segment itself, mapped.
    Replica(ReplicaId),
}

impl Holder {
    /// Sorts before all others, as long as operations come first.
    const LEAST: Self = Self::Operation(OperationId(Uuid::nil()));
}

/// Somebody's interest in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    pub by: Holder,
    pub model: ModelId,
    pub priority: Priority,
    /// It is one more use, and not a part of one that was counted.
    pub is_use: bool,
    pub at: ServiceTime,
}

/// Holders and what they hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Holdings {
    by_segment: OrdSet<(SegmentName, Holder)>,
    by_holder: OrdSet<(Holder, SegmentName)>,
}

impl Holdings {
    pub(super) fn of(&self, name: SegmentName) -> impl Iterator<Item = Holder> {
        let from = (name, Holder::LEAST);
        self.by_segment.range(from..).take_while(move |(of, _)| *of == name).map(|(_, holder)| *holder)
    }

    pub(super) fn hold(&mut self, name: SegmentName, holder: Holder) {
        self.by_segment.insert((name, holder));
        self.by_holder.insert((holder, name));
    }

    pub(super) fn let_go(&mut self, name: SegmentName, holder: Holder) {
        self.by_segment.remove(&(name, holder));
        self.by_holder.remove(&(holder, name));
    }

    /// Whoever it is needs nothing any more; what it held.
    pub(super) fn release(&mut self, holder: Holder) -> Vec<SegmentName> {
        let from = (holder, SegmentName::LEAST);
        let held = self.by_holder.range(from..).take_while(|(of, _)| *of == holder);
        let names: Vec<SegmentName> = held.map(|(_, name)| *name).collect();
        names.iter().for_each(|name| self.let_go(*name, holder));
        names
    }

    /// Nobody holds it any more; who did.
    pub(super) fn give_up(&mut self, name: SegmentName) -> Vec<Holder> {
        let holders: Vec<Holder> = self.of(name).collect();
        holders.iter().for_each(|holder| self.let_go(name, *holder));
        holders
    }

    /// Whoever relied on the one relies on the other.
    pub(super) fn rename(&mut self, from: SegmentName, to: SegmentName) {
        for holder in self.give_up(from) {
            self.hold(to, holder);
        }
    }

    /// How many leases each segment has. Walks over all of them: for whoever shows that.
    pub(super) fn lease_counts(&self) -> BTreeMap<SegmentName, u32> {
        let mut counts = BTreeMap::new();
        for (name, holder) in &self.by_segment {
            if matches!(holder, Holder::Lease(_)) {
                *counts.entry(*name).or_default() += 1;
            }
        }
        counts
    }
}
