//! A worker as the protocol sees it: the real policy over a device that is a number of bytes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Result, bail, ensure};
use hoist_domain::{
    Bytes, DeviceId, DeviceMemory, Digest, Epoch, Generation, ObservedReplica, ReplicaFailure, ReplicaId,
    ReplicaState, SegmentName, SegmentState,
};
use hoist_planner::State;
use hoist_planner::residency::{Removal, Report};
use hoist_worker::device::Ahead;
use hoist_worker::policy::{Desired, Step, Taken, Wanted, next, take};

use super::shelf;
use crate::Random;

/// One process of a worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub device: DeviceId,
    pub capacity: Bytes,
    pub maps: bool,
    /// Of the process: no two have the same.
    pub number: u64,
    desired: Option<Desired>,
    there: BTreeMap<ReplicaId, ObservedReplica>,
    /// Replicas that were begun so.
    pub aheads: u64,
    /// Of those that are LOADING: begun while their segments were filled, and left to that.
    ahead: BTreeSet<ReplicaId>,
    /// Steps until the present load is there.
    left: u64,
    removed: VecDeque<(u64, Removal)>,
    removals: u64,
    /// The most that was ever taken.
    pub most: u64,
}

/// What one stream has been told.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub sequence: u64,
    replicas: BTreeMap<ReplicaId, ObservedReplica>,
    answers: Option<Generation>,
    memory: Option<DeviceMemory>,
    removed: u64,
    /// By message: the last removal in it.
    unheard: VecDeque<(u64, u64)>,
}

impl Worker {
    #[must_use]
    pub(super) fn new(device: DeviceId, capacity: Bytes, maps: bool, number: u64) -> Self {
        Self {
            device,
            capacity,
            maps,
            number,
            desired: None,
            there: BTreeMap::new(),
            aheads: 0,
            ahead: BTreeSet::new(),
            left: 0,
            removed: VecDeque::new(),
            removals: 0,
            most: 0,
        }
    }

    #[must_use]
    pub(super) fn taken(&self) -> Option<Generation> {
        self.desired.as_ref().map(|desired| desired.generation)
    }

    #[must_use]
    pub(super) const fn there(&self) -> &BTreeMap<ReplicaId, ObservedReplica> {
        &self.there
    }

    fn used(&self) -> u64 {
        self.there.values().map(|one| one.own.0 + one.mapped.0).sum()
    }

    #[must_use]
    pub(super) fn memory(&self) -> DeviceMemory {
        DeviceMemory {
            used: Bytes(self.used()),
            free: Bytes(self.capacity.0 - self.used()),
            mapped: Bytes(self.there.values().map(|one| one.mapped.0).sum()),
            ..DeviceMemory::default()
        }
    }

    /// What shall be there.
    ///
    /// # Errors
    /// When the coordinator breaks the protocol.
    pub(super) fn take(&mut self, desired: Desired, epoch: Epoch) -> Result<()> {
        match take(self.desired.as_ref(), &desired, epoch) {
            Ok(Taken::Known) => {}
            Ok(Taken::New) => {
                let kept: BTreeSet<ReplicaId> = desired.replicas.iter().map(|one| one.id).collect();
                let before = self.desired.take().map(|desired| desired.replicas).unwrap_or_default();
                for waiting in before.into_iter().filter(|one| !kept.contains(&one.id)) {
                    if !self.there.contains_key(&waiting.id) {
                        self.account(waiting.id, Bytes(0));
                    }
                }
                self.desired = Some(desired);
            }
            Err(refused) if refused.is_error() => bail!("the coordinator breaks the protocol: {refused}"),
            Err(_) => {}
        }
        Ok(())
    }

    /// One step of its driver, by what is in RAM now. Whether there was one.
    ///
    /// # Errors
    /// When it was promised to more than it holds, or told to load what cannot be.
    pub(super) fn drive(&mut self, state: &State, random: &mut Random, may_fail: bool) -> Result<bool> {
        let is_at_it =
            |one: &&ObservedReplica| one.state == ReplicaState::Loading && !self.ahead.contains(&one.id);
        let loading = self.there.values().find(is_at_it).cloned();
        if let Some(one) = loading {
            return self.go_on(one, random, may_fail);
        }
        let is_filling = |digest: Digest| {
            let segment = state.cache().segment(SegmentName::Content(digest));
            segment.is_some_and(|segment| segment.state == SegmentState::Filling)
        };
        let more = |wanted: &Wanted| {
            let is_new = !self.ahead.contains(&wanted.id) && is_filling(wanted.digest);
            let (id, path, there) = (wanted.id, wanted.path.clone(), Bytes(1));
            is_new.then_some(Ahead { id, path, there })
        };
        match next(self.desired.as_ref(), &self.there, more) {
            Step::Rest => return Ok(false),
            Step::Ahead(ahead) => {
                let wanted = self.desired.iter().flat_map(|desired| &desired.replicas);
                let Some(digest) = wanted.map(|one| (one.id, one.digest)).find(|one| one.0 == ahead.id)
                else {
                    bail!("what is copied ahead is not desired");
                };
                let own = shelf::size(digest.1);
                ensure!(
                    self.used() + own.0 <= self.capacity.0,
                    "{} was promised more than it holds",
                    self.device
                );
                self.ahead.insert(ahead.id);
                self.aheads += 1;
                let loading = observed(ahead.id, digest.1, ReplicaState::Loading);
                self.there.insert(ahead.id, ObservedReplica { own, ..loading });
                self.most = self.most.max(self.used());
            }
            Step::Unload(id) => {
                // Two steps, with a word in between.
                let is_active = self.there.get(&id).is_some_and(|one| one.state == ReplicaState::Active);
                if is_active && random.percent(50) {
                    if let Some(one) = self.there.get_mut(&id) {
                        one.state = ReplicaState::Unloading;
                    }
                    return Ok(true);
                }
                self.ahead.remove(&id);
                let gone = self.there.remove(&id).map_or(Bytes(0), |one| Bytes(one.own.0 + one.mapped.0));
                self.account(id, gone);
            }
            Step::Load(load) if state.cache().sealed(load.digest).is_none() => {
                self.ahead.remove(&load.id);
                // It was told so by a coordinator that has died since.
                let failure = Some(ReplicaFailure::Segment("it is not there".to_owned()));
                let failed = observed(load.id, load.digest, ReplicaState::Failed);
                self.there.insert(load.id, ObservedReplica { failure, ..failed });
            }
            Step::Load(load) => {
                self.left = random.below(4);
                self.ahead.remove(&load.id);
                let begun = self.there.get(&load.id).map_or(Bytes(0), |begun| begun.own);
                let loading = observed(load.id, load.digest, ReplicaState::Loading);
                self.there.insert(load.id, ObservedReplica { own: begun, ..loading });
            }
        }
        Ok(true)
    }

    fn go_on(&mut self, one: ObservedReplica, random: &mut Random, may_fail: bool) -> Result<bool> {
        let is_wanted = |desired: &Desired| desired.replicas.iter().any(|wanted| wanted.id == one.id);
        if !self.desired.as_ref().is_some_and(is_wanted) {
            self.there.remove(&one.id);
            self.account(one.id, one.own);
            return Ok(true);
        }
        if self.left > 0 {
            self.left -= 1;
            return Ok(true);
        }
        if may_fail && random.percent(8) {
            let failure = Some(ReplicaFailure::Device("as it happens".to_owned()));
            let failed = ObservedReplica { state: ReplicaState::Failed, own: Bytes(0), failure, ..one };
            self.there.insert(failed.id, failed);
            return Ok(true);
        }
        let size = shelf::size(one.digest);
        let used = self.used() - one.own.0;
        ensure!(used + size.0 <= self.capacity.0, "{} was promised more than it holds", self.device);
        let (own, mapped) = if self.maps { (Bytes(0), size) } else { (size, Bytes(0)) };
        let loaded = ObservedReplica { state: ReplicaState::Active, own, mapped, tensors: 1, ..one };
        self.there.insert(loaded.id, loaded);
        self.most = self.most.max(self.used());
        Ok(true)
    }

    fn account(&mut self, id: ReplicaId, bytes: Bytes) {
        self.removals += 1;
        self.removed.push_back((self.removals, Removal { id, expected: bytes, returned: bytes }));
    }

    fn view(&self) -> BTreeMap<ReplicaId, ObservedReplica> {
        let mut all = self.there.clone();
        for wanted in self.desired.iter().flat_map(|desired| &desired.replicas) {
            all.entry(wanted.id).or_insert_with(|| observed(wanted.id, wanted.digest, ReplicaState::Waiting));
        }
        all
    }

    /// What is news to a stream, if anything is.
    pub(super) fn news(&self, told: &mut Told) -> Option<(u64, DeviceMemory, Report)> {
        let view = self.view();
        let is_full = told.sequence == 0;
        let changed = view.iter().filter(|(id, one)| told.replicas.get(id) != Some(one));
        let replicas: Vec<ObservedReplica> = changed.map(|(_, one)| one.clone()).collect();
        let removed: Vec<(u64, Removal)> =
            self.removed.iter().filter(|(number, _)| *number > told.removed).copied().collect();
        let answers = self.taken();
        let memory = Some(self.memory());
        let is_same = told.answers == answers && told.memory == memory;
        if !is_full && is_same && replicas.is_empty() && removed.is_empty() {
            return None;
        }
        told.sequence += 1;
        if let Some((last, _)) = removed.last() {
            told.removed = *last;
            told.unheard.push_back((told.sequence, *last));
        }
        (told.answers, told.memory, told.replicas) = (answers, memory, view);
        let removed = removed.into_iter().map(|(_, removal)| removal).collect();
        let report = Report { is_full, answers, replicas, removed, problem: String::new() };
        Some((told.sequence, self.memory(), report))
    }

    /// The coordinator has applied messages up to this one.
    pub(super) fn acknowledged(&mut self, told: &mut Told, sequence: u64) {
        while told.unheard.front().is_some_and(|(at, _)| *at <= sequence) {
            if let Some((_, last)) = told.unheard.pop_front() {
                self.removed.retain(|(number, _)| *number > last);
            }
        }
    }
}

fn observed(id: ReplicaId, digest: Digest, state: ReplicaState) -> ObservedReplica {
    ObservedReplica {
        id,
        digest,
        dtype: None,
        state,
        own: Bytes(0),
        mapped: Bytes(0),
        tensors: 0,
        load_time: None,
        failure: None,
    }
}

/// What a coordinator's desire is to a worker.
#[must_use]
pub(super) fn wanted(id: ReplicaId, digest: Digest, is_sealed: bool) -> Wanted {
    Wanted { id, digest, path: format!("/segments/{digest}").into(), is_sealed, dtype: None }
}
