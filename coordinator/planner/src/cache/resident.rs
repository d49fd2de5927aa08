//! What the state says about RAM: segments, who holds them, and what all of that adds up to.
//!
//! ```text
//!   reserved ─► FILLING, by its source ─► by its content ─► SEALED ─► EVICTING ─► gone*
//!                  └────────────┴─► gone* (abandoned)                     └─► zombie: somebody has it open ─► gone*
//! ```
//!
//! Changed by `State::apply` alone, in `changes`. An operation holds what it fills and what it has found, a lease what it
//! names: what is held is not evicted. What decisions ask for is counted at each change; what is only shown
//! (`saved`, `lease_counts`) walks.

mod changes;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use hoist_domain::{
    Bytes, CachePolicy, Digest, Lease, LeaseId, OperationId, ReplicaId, Revision, Segment, SegmentName,
    SegmentState, ServiceTime,
};
use imbl::{OrdMap, OrdSet};
use uuid::Uuid;

use super::holdings::{Holder, Holdings};
use super::totals::{CacheStatistics, Totals};
use super::usage::{Usage, Use};
use crate::state::Stamped;

/// Everything in RAM.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    segments: OrdMap<SegmentName, Stamped<Segment>>,
    leases: OrdMap<LeaseId, Stamped<Lease>>,
    /// Those that are on a device.
    on_replicas: OrdSet<(ReplicaId, LeaseId)>,
    policy: Arc<CachePolicy>,
    /// When it last changed; unset if it never did.
    policy_changed: Option<Revision>,
    holdings: Holdings,
    /// Who fills it.
    fillers: OrdMap<SegmentName, OperationId>,
    /// Bytes without a name that somebody has open, by what they were.
    zombies: OrdMap<Digest, Bytes>,
    usage: Usage<SegmentName>,
    used_at: OrdMap<SegmentName, ServiceTime>,
    totals: Totals,
    statistics: CacheStatistics,
    /// Those whose holders may still come back.
    awaited: OrdSet<LeaseId>,
    /// They end then; unset when none is awaited.
    awaited_until: Option<ServiceTime>,
}

impl Cache {
    #[must_use]
    pub fn segment(&self, name: SegmentName) -> Option<&Arc<Segment>> {
        self.segments.get(&name).map(|stamped| &stamped.value)
    }

    /// The complete segment with this content.
    #[must_use]
    pub fn sealed(&self, digest: Digest) -> Option<&Arc<Segment>> {
        self.segment(SegmentName::Content(digest)).filter(|segment| segment.state == SegmentState::Sealed)
    }

    /// In the order of their names.
    pub fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.segments.values().map(|stamped| &stamped.value)
    }

    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    #[must_use]
    pub fn lease(&self, id: LeaseId) -> Option<&Arc<Lease>> {
        self.leases.get(&id).map(|stamped| &stamped.value)
    }

    /// Those that hold a replica.
    pub fn leases_on(&self, replica: ReplicaId) -> impl Iterator<Item = &Arc<Lease>> {
        let from = (replica, LeaseId(Uuid::nil()));
        let those = self.on_replicas.range(from..).take_while(move |(of, _)| *of == replica);
        those.filter_map(|(_, id)| self.lease(*id))
    }

    /// In the order of their ids, which is that of their begin unless the clock was set back.
    pub fn leases(&self) -> impl Iterator<Item = &Arc<Lease>> {
        self.leases.values().map(|stamped| &stamped.value)
    }

    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.leases.len()
    }

    #[must_use]
    pub fn policy(&self) -> &CachePolicy {
        &self.policy
    }

    /// The policy and when it last changed; none if it never was.
    #[must_use]
    pub fn changed_policy(&self) -> Option<(Revision, &CachePolicy)> {
        self.policy_changed.map(|changed| (changed, &*self.policy))
    }

    /// When awaited leases end; none when none is awaited.
    #[must_use]
    pub const fn awaited_until(&self) -> Option<ServiceTime> {
        self.awaited_until
    }

    /// Leases whose holders may still come back.
    pub fn awaited(&self) -> impl Iterator<Item = LeaseId> {
        self.awaited.iter().copied()
    }

    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    #[must_use]
    pub const fn statistics(&self) -> &CacheStatistics {
        &self.statistics
    }

    /// Who fills it.
    #[must_use]
    pub fn filler(&self, name: SegmentName) -> Option<OperationId> {
        self.fillers.get(&name).copied()
    }

    /// What an operation fills.
    pub fn filled_by(&self, id: OperationId) -> impl Iterator<Item = SegmentName> {
        self.fillers.iter().filter(move |(_, filler)| **filler == id).map(|(name, _)| *name)
    }

    /// On whose account it stays.
    pub fn holders(&self, name: SegmentName) -> impl Iterator<Item = Holder> {
        self.holdings.of(name)
    }

    #[must_use]
    pub fn is_held(&self, name: SegmentName) -> bool {
        self.holders(name).next().is_some()
    }

    /// How many leases each segment has.
    #[must_use]
    pub fn lease_counts(&self) -> BTreeMap<SegmentName, u32> {
        self.holdings.lease_counts()
    }

    #[must_use]
    pub fn use_of(&self, name: SegmentName) -> Option<Use> {
        self.usage.of(&name)
    }

    /// Counts uses of anything.
    #[must_use]
    pub const fn tick(&self) -> u64 {
        self.usage.tick()
    }

    #[must_use]
    pub fn used_at(&self, name: SegmentName) -> Option<ServiceTime> {
        self.used_at.get(&name).copied()
    }

    /// What sharing saves: the bytes that copies of their own would take, over the models that each was cached for.
    #[must_use]
    pub fn saved(&self) -> Bytes {
        let sealed = self.segments().filter(|segment| segment.state == SegmentState::Sealed);
        let saved = sealed.map(|segment| {
            segment.bytes.0.saturating_mul((segment.wanted_by.len() as u64).saturating_sub(1))
        });
        Bytes(saved.fold(0, u64::saturating_add))
    }

    pub(crate) fn stamped_segment(&self, name: SegmentName) -> Option<&Stamped<Segment>> {
        self.segments.get(&name)
    }

    pub(crate) fn stamped_lease(&self, id: LeaseId) -> Option<&Stamped<Lease>> {
        self.leases.get(&id)
    }

    pub(crate) fn segments_from(&self, from: Bound<SegmentName>) -> impl Iterator<Item = &Stamped<Segment>> {
        self.segments.range((from, Bound::Unbounded)).map(|(_, stamped)| stamped)
    }

    pub(crate) fn leases_from(&self, from: Bound<LeaseId>) -> impl Iterator<Item = &Stamped<Lease>> {
        self.leases.range((from, Bound::Unbounded)).map(|(_, stamped)| stamped)
    }
}
