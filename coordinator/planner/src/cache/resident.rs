//! What the state says about RAM: segments, who holds them, and what all of that adds up to.
//!
//! ```text
//!   reserved ─► FILLING, by its source ─► by its content ─► SEALED ─► EVICTING ─► gone*
//!                  └────────────┴─► gone* (abandoned)                     └─► zombie: somebody has it open ─► gone*
//! ```
//!
//! Changed by `State::apply` alone. Accounting is by addition and subtraction at each change, never by walking; a test
//! walks. An operation holds what it fills and what it has found, a lease what it names: what is held is not evicted.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    Bytes, CachePolicy, Digest, Lease, LeaseId, Lifecycle, ModelId, OperationId, Position, Priority,
    Revision, Segment, SegmentName, SegmentState, ServiceTime,
};
use imbl::{OrdMap, OrdSet};
use uuid::Uuid;

use super::usage::{Usage, Use};
use crate::state::{Stamped, legal};

/// On whose account a segment stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// Until it ends.
    Operation(OperationId),
    Lease(LeaseId),
}

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

    fn slot(&mut self, state: SegmentState) -> &mut Bytes {
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

/// Everything in RAM.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    segments: OrdMap<SegmentName, Stamped<Segment>>,
    leases: OrdMap<LeaseId, Stamped<Lease>>,
    policy: Arc<CachePolicy>,
    /// When it last changed; unset if it never did.
    policy_changed: Option<Revision>,
    holders: OrdSet<(SegmentName, Holder)>,
    held: OrdSet<(Holder, SegmentName)>,
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

const fn least_holder() -> Holder {
    Holder::Operation(OperationId(Uuid::nil()))
}

const fn least_name() -> SegmentName {
    SegmentName::Content(Digest([0; 32]))
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

    /// In the order of their ids, which is that of their begin.
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
        let from = (name, least_holder());
        self.holders.range(from..).take_while(move |(of, _)| *of == name).map(|(_, holder)| *holder)
    }

    #[must_use]
    pub fn is_held(&self, name: SegmentName) -> bool {
        self.holders(name).next().is_some()
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

/// What events do. Each function is the whole of one.
impl Cache {
    pub(crate) fn set_policy(&mut self, changed: Revision, policy: Arc<CachePolicy>) {
        self.policy = policy;
        self.policy_changed = Some(changed);
    }

    /// Puts a segment in place of what had its name.
    fn put(&mut self, position: Position, segment: Arc<Segment>) {
        self.take(segment.name);
        self.totals.slot(segment.state).0 += if segment.is_zombie { 0 } else { segment.bytes.0 };
        self.segments.insert(segment.name, Stamped { position, value: segment });
    }

    fn take(&mut self, name: SegmentName) -> Option<Arc<Segment>> {
        let taken = self.segments.remove(&name)?.value;
        if !taken.is_zombie {
            self.totals.slot(taken.state).0 -= taken.bytes.0;
        }
        Some(taken)
    }

    /// A segment must be there.
    fn edit(&mut self, position: Position, name: SegmentName, edit: impl FnOnce(&mut Segment)) {
        let known = self.segment(name).cloned();
        assert!(known.is_some(), "segment {name} does not exist");
        if let Some(mut segment) = known {
            let before = Arc::clone(&segment);
            edit(Arc::make_mut(&mut segment));
            // Said again unchanged, it changes nothing.
            if *segment != *before {
                self.put(position, segment);
            }
        }
    }

    pub(crate) fn adopt(&mut self, position: Position, segment: &Arc<Segment>, at: ServiceTime) {
        self.statistics.adopted += 1;
        // It is not known to have been used; it begins to be idle now.
        self.used_at.insert(segment.name, at);
        self.put(position, Arc::clone(segment));
    }

    pub(crate) fn reserve(&mut self, position: Position, segment: &Arc<Segment>, by: OperationId) {
        assert!(self.segment(segment.name).is_none(), "segment {} is reserved twice", segment.name);
        self.statistics.misses += 1;
        self.fillers.insert(segment.name, by);
        self.hold(segment.name, Holder::Operation(by));
        self.put(position, Arc::clone(segment));
    }

    pub(crate) fn want(&mut self, position: Position, name: SegmentName, interest: &Interest) {
        self.hold(name, interest.by);
        if interest.is_use && self.is_sealed(name) {
            self.statistics.hits += 1;
            self.touch(name, interest.at);
        }
        self.edit(position, name, |segment| {
            segment.wanted_by.insert(interest.model);
            segment.priority = segment.priority.max(interest.priority);
        });
    }

    pub(crate) fn unwant(&mut self, position: Position, name: SegmentName, model: ModelId) {
        self.edit(position, name, |segment| {
            segment.wanted_by.remove(&model);
        });
    }

    fn touch(&mut self, name: SegmentName, at: ServiceTime) {
        self.usage.touch(name);
        self.used_at.insert(name, at);
    }

    /// What fills as `from` is this.
    pub(crate) fn identify(&mut self, position: Position, from: SegmentName, digest: Digest) {
        let name = SegmentName::Content(digest);
        let taken = self.take(from);
        assert!(taken.is_some(), "segment {from} does not exist");
        if let Some(taken) = taken {
            assert!(self.segment(name).is_none_or(|known| known.is_zombie), "segment {name} exists twice");
            self.put(position, Arc::new(Segment { name, ..Segment::clone(&taken) }));
        }
        if let Some(filler) = self.fillers.remove(&from) {
            self.fillers.insert(name, filler);
        }
        self.rename(from, name);
    }

    /// Whoever relied on the one relies on the other.
    fn rename(&mut self, from: SegmentName, to: SegmentName) {
        let holders: Vec<Holder> = self.holders(from).collect();
        for holder in holders {
            self.let_go(from, holder);
            self.hold(to, holder);
        }
    }

    /// What was filled as `from` is complete, as `segment`, which may be what it turned out to be equal to.
    pub(crate) fn seal(
        &mut self,
        position: Position,
        from: SegmentName,
        segment: &Arc<Segment>,
        at: ServiceTime,
    ) {
        let filled = self.take(from);
        assert!(filled.is_some(), "segment {from} does not exist");
        self.fillers.remove(&from);
        let filled_bytes = filled.map_or(Bytes(0), |filled| {
            legal(filled.state.to(SegmentState::Sealed));
            filled.bytes
        });
        if self.is_sealed(segment.name) {
            self.statistics.shared.0 += filled_bytes.0;
        } else {
            self.statistics.fills += 1;
        }
        if from != segment.name {
            self.rename(from, segment.name);
        }
        self.touch(segment.name, at);
        self.put(position, Arc::clone(segment));
    }

    fn is_sealed(&self, name: SegmentName) -> bool {
        self.segment(name).is_some_and(|segment| segment.state == SegmentState::Sealed)
    }

    /// What was being filled is not any more.
    pub(crate) fn abandon(&mut self, name: SegmentName) {
        let taken = self.take(name);
        assert!(taken.is_some(), "segment {name} does not exist");
        if let Some(taken) = taken {
            legal(taken.state.to(SegmentState::Gone));
        }
        self.fillers.remove(&name);
        let holders: Vec<Holder> = self.holders(name).collect();
        holders.into_iter().for_each(|holder| self.let_go(name, holder));
    }

    pub(crate) fn evict(
        &mut self,
        position: Position,
        digest: Digest,
        eviction: hoist_domain::Eviction,
        at: ServiceTime,
    ) {
        let name = SegmentName::Content(digest);
        assert!(!self.is_held(name), "segment {name} is held and evicted");
        let idle = self.used_at(name).map_or(Duration::ZERO, |used| at.since(used));
        self.used_at.remove(&name);
        self.statistics.evictions += 1;
        self.statistics.idle_at_eviction += idle;
        let mut bytes = 0;
        self.edit(position, name, |segment| {
            segment.state = legal(segment.state.to(SegmentState::Evicting));
            segment.eviction = Some(eviction);
            bytes = segment.bytes.0;
        });
        self.statistics.evicted.0 += bytes;
    }

    /// It has no name any more, and somebody still has it open.
    pub(crate) fn leave(&mut self, position: Position, digest: Digest, bytes: Bytes) {
        self.zombies.entry(digest).or_default().0 += bytes.0;
        self.totals.zombie.0 += bytes.0;
        self.lose_name(position, digest);
    }

    /// Bytes of it are free: of what was left open those that are named, or all of what nobody had open.
    pub(crate) fn free(&mut self, position: Position, digest: Digest, left: Option<Bytes>) {
        let Some(freed) = left else { return self.lose_name(position, digest) };
        let had = self.zombies.get(&digest).map_or(0, |bytes| bytes.0);
        let still = had.saturating_sub(freed.0);
        self.totals.zombie.0 -= had - still;
        if still > 0 {
            self.zombies.insert(digest, Bytes(still));
            return;
        }
        self.zombies.remove(&digest);
        let name = SegmentName::Content(digest);
        // A later copy may still have its name, or be complete.
        if self.segment(name).is_some_and(|segment| segment.is_zombie) {
            self.take(name);
        }
    }

    /// What was withdrawn has no name any more: gone, but for what is left open of it or of an earlier copy.
    fn lose_name(&mut self, position: Position, digest: Digest) {
        let name = SegmentName::Content(digest);
        if self.segment(name).is_none_or(|segment| segment.state != SegmentState::Evicting) {
            return;
        }
        if self.zombies.contains_key(&digest) {
            self.edit(position, name, |segment| segment.is_zombie = true);
        } else {
            self.take(name);
        }
    }

    pub(crate) fn grant(&mut self, position: Position, lease: &Arc<Lease>) {
        for digest in lease.segments() {
            self.hold(SegmentName::Content(digest), Holder::Lease(lease.id));
        }
        self.leases.insert(lease.id, Stamped { position, value: Arc::clone(lease) });
        self.await_no_more(lease.id);
    }

    pub(crate) fn await_lease(&mut self, position: Position, lease: &Arc<Lease>, until: ServiceTime) {
        self.grant(position, lease);
        self.awaited.insert(lease.id);
        self.awaited_until = Some(until);
    }

    fn await_no_more(&mut self, id: LeaseId) {
        self.awaited.remove(&id);
        if self.awaited.is_empty() {
            self.awaited_until = None;
        }
    }

    /// What was held was in use until now.
    pub(crate) fn end_lease(&mut self, id: LeaseId, at: ServiceTime) {
        for name in self.release(Holder::Lease(id)) {
            if self.is_sealed(name) {
                self.used_at.insert(name, at);
            }
        }
        self.leases.remove(&id);
        self.await_no_more(id);
    }

    fn hold(&mut self, name: SegmentName, holder: Holder) {
        self.holders.insert((name, holder));
        self.held.insert((holder, name));
    }

    fn let_go(&mut self, name: SegmentName, holder: Holder) {
        self.holders.remove(&(name, holder));
        self.held.remove(&(holder, name));
    }

    /// Whoever it is needs nothing any more; what it held.
    pub(crate) fn release(&mut self, holder: Holder) -> Vec<SegmentName> {
        let names: Vec<SegmentName> = self
            .held
            .range((holder, least_name())..)
            .take_while(|(of, _)| *of == holder)
            .map(|(_, name)| *name)
            .collect();
        names.iter().for_each(|name| self.let_go(*name, holder));
        names
    }

    pub(crate) fn count_refusal(&mut self) {
        self.statistics.refusals += 1;
    }

    pub(crate) fn count_fill(&mut self, read: Bytes, took: Duration) {
        self.statistics.read.0 += read.0;
        self.statistics.fill_time += took;
    }

    /// Everything that is counted, found out by walking: what tests compare the counters with.
    #[must_use]
    pub fn walked(&self) -> Totals {
        let mut totals = Totals::default();
        for segment in self.segments().filter(|segment| !segment.is_zombie) {
            totals.slot(segment.state).0 += segment.bytes.0;
        }
        totals.zombie = Bytes(self.zombies.values().map(|bytes| bytes.0).sum());
        totals
    }

    /// Segments by who holds them, for whoever shows that.
    #[must_use]
    pub fn lease_counts(&self) -> BTreeMap<SegmentName, u32> {
        let mut counts = BTreeMap::new();
        for (name, holder) in &self.holders {
            if matches!(holder, Holder::Lease(_)) {
                *counts.entry(*name).or_default() += 1;
            }
        }
        counts
    }
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
