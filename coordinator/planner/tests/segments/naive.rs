//! What the cache is by its documentation: plain maps, and everything is found out by walking them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hoist_domain::{
    Bytes, CachePolicy, Digest, Eviction, Lease, LeaseId, LeaseState, Model, ModelId, OperationId, Priority,
    Segment, SegmentName, SegmentState, ServiceTime, Veto,
};
use hoist_planner::cache::{
    CacheStatistics, Holder, Identity, Part, Reservation, Reserved, Sealing, Totals, Use,
};
use hoist_planner::{Moment, State};

#[derive(Default)]
pub(crate) struct Naive {
    pub(crate) now: Moment,
    pub(crate) models: BTreeMap<ModelId, Model>,
    pub(crate) segments: BTreeMap<SegmentName, Segment>,
    /// Who fills it.
    pub(crate) fillers: BTreeMap<SegmentName, OperationId>,
    pub(crate) zombies: BTreeMap<Digest, u64>,
    pub(crate) leases: BTreeMap<LeaseId, Lease>,
    pub(crate) holds: BTreeSet<(SegmentName, Holder)>,
    pub(crate) used_at: BTreeMap<SegmentName, ServiceTime>,
    /// Everything that was used, in this order.
    pub(crate) uses: Vec<SegmentName>,
    pub(crate) policy: CachePolicy,
    /// Awaited leases end then.
    pub(crate) until: Option<ServiceTime>,
    pub(crate) statistics: CacheStatistics,
}

/// What must come of a reservation, but for the choice of victims.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) present: Vec<usize>,
    pub(crate) fill: Vec<(usize, SegmentName)>,
    pub(crate) awaited: Vec<(usize, SegmentName)>,
    /// So much has to go first.
    pub(crate) over: u64,
}

impl Naive {
    fn state(&self, name: SegmentName) -> Option<SegmentState> {
        self.segments.get(&name).map(|segment| segment.state)
    }

    pub(crate) fn sealed(&self, digest: Digest) -> Option<&Segment> {
        let segment = self.segments.get(&SegmentName::Content(digest));
        segment.filter(|segment| segment.state == SegmentState::Sealed)
    }

    pub(crate) fn totals(&self) -> Totals {
        let of = |state| {
            let those = self.segments.values().filter(|segment| segment.state == state && !segment.is_zombie);
            Bytes(those.map(|segment| segment.bytes.0).sum())
        };
        Totals {
            filling: of(SegmentState::Filling),
            sealed: of(SegmentState::Sealed),
            evicting: of(SegmentState::Evicting),
            zombie: Bytes(self.zombies.values().sum()),
        }
    }

    pub(crate) fn used(&self) -> u64 {
        let totals = self.totals();
        totals.filling.0 + totals.sealed.0 + totals.zombie.0
    }

    pub(crate) fn is_held(&self, name: SegmentName) -> bool {
        self.holds.iter().any(|(held, _)| *held == name)
    }

    pub(crate) fn pinned(&self) -> BTreeSet<Digest> {
        let mut pinned = BTreeSet::new();
        for model in self.models.values() {
            let Some(notes) = &model.notes else { continue };
            for component in &model.content.components {
                let named = &notes.config.pinned_components;
                let is_named = named.is_empty() || named.iter().any(|one| **one == *component.name);
                if notes.config.is_pinned && is_named {
                    pinned.extend(component.digest);
                }
            }
        }
        pinned
    }

    pub(crate) fn veto(&self, digest: Digest, open: &BTreeSet<Digest>) -> Option<Veto> {
        let name = SegmentName::Content(digest);
        match () {
            () if self.state(name) == Some(SegmentState::Filling) => Some(Veto::Filling),
            () if self.is_held(SegmentName::Content(digest)) => Some(Veto::Leased),
            () if self.pinned().contains(&digest) => Some(Veto::Pinned),
            () if open.contains(&digest) => Some(Veto::Open),
            () => None,
        }
    }

    /// Complete segments that may go for somebody who matters so much, and their bytes.
    pub(crate) fn evictable(&self, open: &BTreeSet<Digest>, priority: Priority) -> BTreeMap<Digest, u64> {
        let sealed = self.segments.values().filter(|segment| segment.state == SegmentState::Sealed);
        let may_go = sealed.filter(|segment| segment.priority <= priority);
        may_go
            .filter_map(|segment| Some((segment.name.digest()?, segment.bytes.0)))
            .filter(|(digest, _)| self.veto(*digest, open).is_none())
            .collect()
    }

    /// Each model that it was cached for has its say, its own time before the cache's; the longest counts.
    pub(crate) fn is_expired(&self, digest: Digest) -> bool {
        let name = SegmentName::Content(digest);
        let models: Vec<&Model> =
            self.segments[&name].wanted_by.iter().filter_map(|id| self.models.get(id)).collect();
        let own = |model: &Model| model.notes.as_ref().and_then(|notes| notes.config.cache_idle_ttl);
        let mut ttls: Vec<Option<Duration>> =
            models.iter().map(|model| own(model).or(self.policy.idle_ttl)).collect();
        if ttls.is_empty() {
            ttls.push(self.policy.idle_ttl);
        }
        let Some(used) = self.used_at.get(&name) else { return false };
        ttls.iter().all(|ttl| ttl.is_some_and(|ttl| self.now.service.since(*used) >= ttl))
    }

    pub(crate) fn expect_reserve(&self, ask: &Reservation) -> Expected {
        let mut expected = Expected::default();
        let mut needed = 0;
        for (place, want) in ask.parts.iter().enumerate() {
            let name = self.name_of(want);
            match self.state(name) {
                Some(SegmentState::Sealed) => expected.present.push(place),
                Some(SegmentState::Filling) if self.fillers[&name] == ask.operation => {}
                Some(_) => expected.awaited.push((place, name)),
                None if expected.fill.iter().any(|(_, other)| *other == name) => {
                    expected.awaited.push((place, name));
                }
                None => {
                    needed += want.bytes.0;
                    expected.fill.push((place, name));
                }
            }
        }
        let fills = needed > 0 || self.fillers.values().any(|by| *by == ask.operation);
        expected.over = if fills { (self.used() + needed).saturating_sub(ask.facts.budget.0) } else { 0 };
        expected
    }

    /// By its content; by its source if the bytes of that content are going to be somebody's for a while.
    fn name_of(&self, want: &Part) -> SegmentName {
        let is_zombie = self.segments.get(&want.name).is_some_and(|segment| segment.is_zombie);
        if is_zombie { want.source } else { want.name }
    }

    pub(crate) fn reserve(&mut self, ask: &Reservation, reserved: &Reserved, victims: Eviction) {
        let by = Holder::Operation(ask.operation);
        // Judged before anything changes.
        let names: Vec<SegmentName> = ask.parts.iter().map(|want| self.name_of(want)).collect();
        for digest in &reserved.victims {
            self.evict(*digest, victims);
        }
        for name in names {
            match self.state(name) {
                // What it holds already it has asked for.
                Some(SegmentState::Sealed) if !self.holds.contains(&(name, by)) => {
                    self.want(name, by, ask.model, ask.priority, true);
                }
                Some(SegmentState::Filling) if self.fillers[&name] != ask.operation => {
                    self.want(name, by, ask.model, ask.priority, false);
                }
                _ => {}
            }
        }
        for (place, name) in &reserved.fill {
            let want = &ask.parts[*place];
            self.statistics.misses += 1;
            self.holds.insert((*name, by));
            self.fillers.insert(*name, ask.operation);
            let segment = Segment {
                name: *name,
                state: SegmentState::Filling,
                bytes: want.bytes,
                is_raw: want.is_raw,
                component_type: Some(want.component_type),
                priority: ask.priority,
                wanted_by: [ask.model].into(),
                sealed_at: None,
                is_zombie: false,
                eviction: None,
            };
            assert!(self.segments.insert(*name, segment).is_none());
        }
    }

    pub(crate) fn want(
        &mut self,
        name: SegmentName,
        by: Holder,
        model: ModelId,
        priority: Priority,
        is_use: bool,
    ) {
        self.holds.insert((name, by));
        let segment = self.segments.get_mut(&name).unwrap();
        segment.wanted_by.insert(model);
        segment.priority = segment.priority.max(priority);
        if is_use {
            self.statistics.hits += 1;
            self.touch(name);
        }
    }

    fn touch(&mut self, name: SegmentName) {
        self.uses.push(name);
        self.used_at.insert(name, self.now.service);
    }

    /// By its documentation: the distances of its uses, half of the weight on the newest.
    fn use_of(&self, name: SegmentName) -> Use {
        let ticks: Vec<u64> =
            (1..).zip(&self.uses).filter(|(_, used)| **used == name).map(|(tick, _)| tick).collect();
        let gaps = ticks.windows(2).map(|pair| pair[1] - pair[0]);
        let last = *ticks.last().unwrap();
        Use { last, gap: gaps.reduce(|old, new| (old + new) / 2), count: ticks.len() as u64 }
    }

    /// An operation has read what it fills as `from`. What is complete already, or is its own, it does not need twice.
    pub(crate) fn identify(&mut self, by: OperationId, from: SegmentName, digest: Digest) -> Identity {
        let name = SegmentName::Content(digest);
        if from == name {
            return Identity::New;
        }
        let known = self.segments.get(&name).filter(|segment| !segment.is_zombie);
        match known.map(|segment| segment.state) {
            None => {
                let filled = self.segments.remove(&from).unwrap();
                self.segments.insert(name, Segment { name, ..filled });
                self.fillers.remove(&from);
                self.fillers.insert(name, by);
                self.rename(from, name);
                Identity::New
            }
            Some(SegmentState::Sealed) => {
                let filled = self.segments.remove(&from).unwrap();
                self.fillers.remove(&from);
                self.statistics.shared.0 += filled.bytes.0;
                let equal = self.segments.get_mut(&name).unwrap();
                equal.wanted_by.extend(filled.wanted_by);
                equal.priority = equal.priority.max(filled.priority);
                self.rename(from, name);
                self.touch(name);
                Identity::Equal
            }
            Some(SegmentState::Filling) if self.fillers[&name] == by => {
                self.give_up(from);
                Identity::Equal
            }
            Some(_) => Identity::Awaited,
        }
    }

    /// Whoever relied on the one relies on the other.
    fn rename(&mut self, from: SegmentName, to: SegmentName) {
        let renamed = self.holds.iter().map(|(held, by)| (if *held == from { to } else { *held }, *by));
        self.holds = renamed.collect();
    }

    pub(crate) fn seal(&mut self, sealing: &Sealing) {
        let name = SegmentName::Content(sealing.digest);
        self.fillers.remove(&name).unwrap();
        self.statistics.fills += 1;
        let segment = self.segments.get_mut(&name).unwrap();
        assert_eq!(segment.state, SegmentState::Filling);
        segment.state = SegmentState::Sealed;
        segment.bytes = sealing.bytes;
        segment.sealed_at = Some(self.now.wall);
        self.touch(name);
    }

    fn give_up(&mut self, name: SegmentName) {
        self.fillers.remove(&name).unwrap();
        self.segments.remove(&name).unwrap();
        self.holds.retain(|(held, _)| *held != name);
    }

    /// An operation has ended: it fills nothing, and holds nothing.
    pub(crate) fn end(&mut self, id: OperationId) {
        let given_up = self.fillers.iter().filter(|(_, by)| **by == id).map(|(name, _)| *name);
        given_up.collect::<Vec<_>>().into_iter().for_each(|name| self.give_up(name));
        self.holds.retain(|(_, by)| *by != Holder::Operation(id));
    }

    pub(crate) fn evict(&mut self, digest: Digest, eviction: Eviction) {
        let name = SegmentName::Content(digest);
        let segment = self.segments.get_mut(&name).unwrap();
        assert_eq!(segment.state, SegmentState::Sealed);
        segment.state = SegmentState::Evicting;
        segment.eviction = Some(eviction);
        self.statistics.evictions += 1;
        self.statistics.evicted.0 += segment.bytes.0;
        let used = self.used_at.remove(&name).unwrap_or(self.now.service);
        self.statistics.idle_at_eviction += self.now.service.since(used);
    }

    /// Its name is gone; bytes may be left of it, or of an earlier copy.
    pub(crate) fn out(&mut self, digest: Digest, left: Option<Bytes>) {
        let name = SegmentName::Content(digest);
        if let Some(bytes) = left {
            *self.zombies.entry(digest).or_default() += bytes.0;
        }
        let segment = self.segments.get_mut(&name).unwrap();
        assert_eq!((segment.state, segment.is_zombie), (SegmentState::Evicting, false));
        segment.is_zombie = self.zombies.contains_key(&digest);
        if !segment.is_zombie {
            self.segments.remove(&name);
        }
    }

    /// Bytes of a zombie are free; it is shown until all of them are.
    pub(crate) fn free(&mut self, digest: Digest, bytes: u64) {
        let left = self.zombies[&digest] - bytes;
        self.zombies.insert(digest, left);
        if left == 0 {
            self.zombies.remove(&digest);
            if self.segments.get(&SegmentName::Content(digest)).is_some_and(|segment| segment.is_zombie) {
                self.segments.remove(&SegmentName::Content(digest));
            }
        }
    }

    pub(crate) fn hold(&mut self, lease: Lease) {
        for (_, digest) in &lease.components {
            self.holds.insert((SegmentName::Content(*digest), Holder::Lease(lease.id)));
        }
        self.leases.insert(lease.id, lease);
    }

    /// Found complete at the start: it begins to be idle.
    pub(crate) fn adopt(&mut self, segment: Segment) {
        self.statistics.adopted += 1;
        self.used_at.insert(segment.name, self.now.service);
        self.segments.insert(segment.name, segment);
    }

    /// What it held was in use until now.
    pub(crate) fn end_lease(&mut self, id: LeaseId) {
        let lease = self.leases.remove(&id).unwrap();
        for digest in lease.segments() {
            self.used_at.insert(SegmentName::Content(digest), self.now.service);
        }
        self.holds.retain(|(_, by)| *by != Holder::Lease(id));
    }

    /// A new life: nothing is there until it is found. The leases there were.
    pub(crate) fn restart(&mut self) -> Vec<Lease> {
        let leases = std::mem::take(&mut self.leases);
        let (models, policy) = (std::mem::take(&mut self.models), self.policy.clone());
        *self = Self { now: self.now, models, policy, ..Self::default() };
        leases.into_values().collect()
    }

    /// Compares everything that can be seen of the cache.
    pub(crate) fn agree(&self, state: &State) {
        let cache = state.cache();
        let shown: Vec<&Segment> = cache.segments().map(|segment| &**segment).collect();
        assert_eq!(shown, self.segments.values().collect::<Vec<_>>(), "segments");
        assert_eq!(cache.segment_count(), shown.len());
        let leases: Vec<&Lease> = cache.leases().map(|lease| &**lease).collect();
        assert_eq!(leases, self.leases.values().collect::<Vec<_>>(), "leases");
        let awaited = self.leases.values().filter(|lease| lease.state == LeaseState::Awaited);
        let awaited: Vec<LeaseId> = awaited.map(|lease| lease.id).collect();
        assert_eq!(cache.awaited().collect::<Vec<_>>(), awaited, "awaited");
        assert_eq!(cache.awaited_until(), self.until.filter(|_| !awaited.is_empty()), "until when");
        assert_eq!(cache.totals(), self.totals(), "totals");
        assert_eq!(cache.totals().used(), Bytes(self.used()));
        assert_eq!(*cache.statistics(), self.statistics);
        assert_eq!((cache.tick(), cache.policy()), (self.uses.len() as u64, &self.policy));
        for name in self.uses.iter().copied().collect::<BTreeSet<SegmentName>>() {
            assert_eq!(cache.use_of(name), Some(self.use_of(name)), "uses of {name}");
        }
        assert_eq!(hoist_planner::cache::pinned(state), self.pinned(), "pinned");
        let names: BTreeSet<SegmentName> =
            self.segments.keys().chain(self.holds.iter().map(|(name, _)| name)).copied().collect();
        for name in names {
            let holders: BTreeSet<Holder> = cache.holders(name).collect();
            let expected = self.holds.iter().filter(|(held, _)| *held == name).map(|(_, by)| *by);
            assert_eq!(holders, expected.collect(), "who holds {name}");
            assert_eq!(cache.filler(name), self.fillers.get(&name).copied(), "who fills {name}");
            if self.state(name) == Some(SegmentState::Sealed) {
                assert_eq!(cache.used_at(name), self.used_at.get(&name).copied(), "last use of {name}");
            }
        }
        let copies = |segment: &Segment| segment.bytes.0 * (segment.wanted_by.len() as u64).saturating_sub(1);
        let sealed = self.segments.values().filter(|segment| segment.state == SegmentState::Sealed);
        assert_eq!(cache.saved().0, sealed.map(copies).sum::<u64>(), "saved");
        for operation in state.active_operations() {
            let filled: BTreeSet<SegmentName> = cache.filled_by(operation.id).collect();
            let expected = self.fillers.iter().filter(|(_, by)| **by == operation.id);
            assert_eq!(filled, expected.map(|(name, _)| *name).collect());
        }
        let is_active = |id: &OperationId| state.active_operations().any(|operation| operation.id == *id);
        let holding = self.holds.iter().filter_map(|(_, by)| match by {
            Holder::Operation(id) => Some(id),
            Holder::Lease(_) | Holder::Replica(_) => None,
        });
        assert!(holding.chain(self.fillers.values()).all(is_active), "what has ended holds nothing");
    }
}
