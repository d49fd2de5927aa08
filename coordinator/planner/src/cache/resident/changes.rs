//! What each event does to what is in RAM. Called by `State::apply` alone; an event that contradicts what is there stops the
//! process.

use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    Bytes, CachePolicy, Digest, Eviction, Lease, LeaseId, Lifecycle, ModelId, OperationId, Position, Replica,
    ReplicaId, ReplicaState, Revision, Segment, SegmentName, SegmentState, ServiceTime, WallTime,
};

use super::Cache;
use crate::cache::{Holder, Interest};
use crate::state::{Stamped, legal};

/// Each function is the whole of one event.
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
        self.holdings.hold(segment.name, Holder::Operation(by));
        self.put(position, Arc::clone(segment));
    }

    pub(crate) fn want(&mut self, position: Position, name: SegmentName, interest: &Interest) {
        self.holdings.hold(name, interest.by);
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
        self.holdings.rename(from, name);
    }

    /// What was filled is complete.
    pub(crate) fn seal(
        &mut self,
        position: Position,
        digest: Digest,
        bytes: Bytes,
        wall: WallTime,
        at: ServiceTime,
    ) {
        let name = SegmentName::Content(digest);
        self.edit(position, name, |segment| {
            segment.state = legal(segment.state.to(SegmentState::Sealed));
            segment.bytes = bytes;
            segment.sealed_at = Some(wall);
        });
        self.fillers.remove(&name);
        self.statistics.fills += 1;
        self.touch(name, at);
    }

    /// What was filled is equal to what is complete, which is wanted for what both were wanted for.
    pub(crate) fn merge(&mut self, position: Position, from: SegmentName, into: Digest, at: ServiceTime) {
        let name = SegmentName::Content(into);
        assert!(self.is_sealed(name), "segment {name} is not complete");
        let filled = self.take(from);
        assert!(filled.is_some(), "segment {from} does not exist");
        if let Some(filled) = filled {
            legal(filled.state.to(SegmentState::Gone));
            self.statistics.shared.0 += filled.bytes.0;
            self.edit(position, name, |segment| {
                segment.wanted_by.extend(filled.wanted_by.iter().copied());
                segment.priority = segment.priority.max(filled.priority);
            });
        }
        self.fillers.remove(&from);
        self.holdings.rename(from, name);
        self.touch(name, at);
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
        self.holdings.give_up(name);
    }

    pub(crate) fn evict(&mut self, position: Position, digest: Digest, eviction: Eviction, at: ServiceTime) {
        let name = SegmentName::Content(digest);
        // What has it mapped keeps it: this is what became of a file that somebody has removed or cut.
        let replicas = |holder: &Holder| matches!(holder, Holder::Replica(_));
        let mapped: Vec<Holder> = self.holders(name).filter(replicas).collect();
        mapped.into_iter().for_each(|holder| self.holdings.let_go(name, holder));
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

    /// It has no name any more: gone, but for what is still open of it or of an earlier copy.
    pub(crate) fn out(&mut self, position: Position, digest: Digest, still_open: Option<Bytes>) {
        if let Some(bytes) = still_open {
            self.zombies.entry(digest).or_default().0 += bytes.0;
            self.totals.zombie.0 += bytes.0;
        }
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

    /// Bytes that were open are not any more.
    pub(crate) fn free(&mut self, digest: Digest, freed: Bytes) {
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

    pub(crate) fn grant(&mut self, position: Position, lease: &Arc<Lease>) {
        for digest in lease.segments() {
            self.holdings.hold(SegmentName::Content(digest), Holder::Lease(lease.id));
        }
        self.on_replicas.extend(lease.replicas().into_iter().map(|replica| (replica, lease.id)));
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
        for name in self.holdings.release(Holder::Lease(id)) {
            if self.is_sealed(name) {
                self.used_at.insert(name, at);
            }
        }
        if let Some(ended) = self.leases.remove(&id) {
            for replica in ended.value.replicas() {
                self.on_replicas.remove(&(replica, id));
            }
        }
        self.await_no_more(id);
    }

    /// An operation has ended: it needs nothing any more.
    pub(crate) fn end_operation(&mut self, id: OperationId) {
        self.holdings.release(Holder::Operation(id));
    }

    /// A replica needs its segment until it is there; and as long as it is, if it is the segment itself.
    pub(crate) fn hold_for_replica(&mut self, replica: &Replica) {
        let name = SegmentName::Content(replica.digest);
        let is_apart = replica.state == ReplicaState::Failed
            || (matches!(replica.state, ReplicaState::Active | ReplicaState::Unloading)
                && replica.mapped == Bytes(0));
        if is_apart {
            self.holdings.let_go(name, Holder::Replica(replica.id));
        } else {
            self.holdings.hold(name, Holder::Replica(replica.id));
        }
    }

    /// A replica is gone.
    pub(crate) fn end_replica(&mut self, id: ReplicaId) {
        self.holdings.release(Holder::Replica(id));
    }

    pub(crate) fn count_refusal(&mut self) {
        self.statistics.refusals += 1;
    }

    pub(crate) fn count_fill(&mut self, read: Bytes, took: Duration) {
        self.statistics.read.0 += read.0;
        self.statistics.fill_time += took;
    }
}
