//! What the state says about devices' contents. Changed by `State::apply` alone, in `changes`.

mod changes;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use hoist_domain::{
    Bytes, DeviceId, Digest, Dtype, Intent, ModelId, OperationId, Position, Priority, Replica, ReplicaId,
    ReplicaState, Revision,
};
use imbl::{OrdMap, OrdSet};
use uuid::Uuid;

use crate::state::Stamped;

/// On whose account a replica is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Want {
    /// Until it ends.
    Operation(OperationId, ModelId),
    /// As long as the model's intent names it.
    Intent(ModelId),
}

impl Want {
    const LEAST: Self = Self::Operation(OperationId(Uuid::nil()), ModelId(Uuid::nil()));

    #[must_use]
    pub const fn model(self) -> ModelId {
        match self {
            Self::Operation(_, model) | Self::Intent(model) => model,
        }
    }
}

/// What an operation loads, as long as it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loading {
    pub device: DeviceId,
    pub priority: Priority,
    /// Reserved for it beyond its replicas.
    pub room: Bytes,
    /// What that is for, as far as its content is known.
    pub awaited: BTreeSet<(Digest, Option<Dtype>)>,
    /// Models whose replicas made room: their intents end with its success, and hold again if it fails.
    pub displaced: Vec<ModelId>,
    pub parts: Vec<LoadingPart>,
}

/// A component that an operation loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadingPart {
    pub model: ModelId,
    pub component: Box<str>,
    pub digest: Digest,
    pub dtype: Option<Dtype>,
    pub replica: ReplicaId,
    /// It could be used before anything was placed for this load.
    pub was_there: bool,
}

/// What became of a replica's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub expected: Bytes,
    pub returned: Bytes,
}

/// One replica that shall be on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desire {
    pub id: ReplicaId,
    pub digest: Digest,
    pub dtype: Option<Dtype>,
}

/// Accounts that are remembered for whoever asked for them. A second's worth of the fastest unloading.
const MOST_ACCOUNTS: usize = 4_096;

/// Everything on devices.
#[derive(Clone, Debug, Default)]
pub struct Residency {
    replicas: OrdMap<ReplicaId, Stamped<Replica>>,
    on_device: OrdSet<(DeviceId, ReplicaId)>,
    /// Those that others may share: wanted, and not failed. One of each content.
    shared: OrdMap<(DeviceId, Digest, Option<Dtype>), ReplicaId>,
    wants: OrdSet<(ReplicaId, Want)>,
    wanted_by: OrdSet<(Want, ReplicaId)>,
    intents: OrdMap<(DeviceId, ModelId), Stamped<Intent>>,
    /// Intents of which something is not wanted on its device.
    unmet: OrdSet<(DeviceId, ModelId)>,
    loads: OrdMap<OperationId, Arc<Loading>>,
    /// By device: raised by whatever changes what is desired of it.
    generations: OrdMap<DeviceId, u64>,
    /// What nobody wants, by the generation from which on it is not desired.
    left_at: OrdMap<(DeviceId, ReplicaId), u64>,
    /// By device: replicas that nobody had asked for and that are gone.
    repaired: OrdMap<DeviceId, u64>,
    /// Replicas that nobody has ever wanted.
    drifted: OrdSet<ReplicaId>,
    accounts: OrdMap<ReplicaId, Account>,
    accounts_by_age: OrdMap<u64, ReplicaId>,
}

impl Residency {
    #[must_use]
    pub fn replica(&self, id: ReplicaId) -> Option<&Arc<Replica>> {
        self.replicas.get(&id).map(|stamped| &stamped.value)
    }

    /// In the order in which they were made.
    pub fn replicas(&self) -> impl Iterator<Item = &Arc<Replica>> {
        self.replicas.values().map(|stamped| &stamped.value)
    }

    #[must_use]
    pub fn replica_count(&self) -> usize {
        self.replicas.len()
    }

    /// On one device, in the order in which they were made.
    pub fn on(&self, device: DeviceId) -> impl Iterator<Item = &Arc<Replica>> {
        let from = (device, ReplicaId(Uuid::nil()));
        let here = self.on_device.range(from..).take_while(move |(of, _)| *of == device);
        here.filter_map(|(_, id)| self.replica(*id))
    }

    /// The one that has this content on a device, or is to have it.
    #[must_use]
    pub fn sharing(&self, device: DeviceId, digest: Digest, dtype: Option<Dtype>) -> Option<&Arc<Replica>> {
        self.shared.get(&(device, digest, dtype)).and_then(|id| self.replica(*id))
    }

    /// Who wants it.
    pub fn wants_of(&self, id: ReplicaId) -> impl Iterator<Item = Want> {
        let from = (id, Want::LEAST);
        self.wants.range(from..).take_while(move |(of, _)| *of == id).map(|(_, want)| *want)
    }

    #[must_use]
    pub fn is_wanted(&self, id: ReplicaId) -> bool {
        self.wants_of(id).next().is_some()
    }

    /// What a model's intents want, on all devices.
    pub fn wanted_by_intent(&self, model: ModelId) -> impl Iterator<Item = &Arc<Replica>> {
        let want = Want::Intent(model);
        let from = (want, ReplicaId(Uuid::nil()));
        let those = self.wanted_by.range(from..).take_while(move |(of, _)| *of == want);
        those.filter_map(|(_, id)| self.replica(*id))
    }

    /// What an operation wants, and for which model.
    pub fn wanted_by_operation(&self, id: OperationId) -> impl Iterator<Item = (ModelId, ReplicaId)> {
        let from = (Want::Operation(id, ModelId(Uuid::nil())), ReplicaId(Uuid::nil()));
        let those = self.wanted_by.range(from..);
        let those = those.take_while(move |(want, _)| matches!(want, Want::Operation(of, _) if *of == id));
        those.map(|(want, replica)| (want.model(), *replica))
    }

    #[must_use]
    pub fn intent(&self, device: DeviceId, model: ModelId) -> Option<&Arc<Intent>> {
        self.intents.get(&(device, model)).map(|stamped| &stamped.value)
    }

    /// By device, then by model.
    pub fn intents(&self) -> impl Iterator<Item = &Arc<Intent>> {
        self.intents.values().map(|stamped| &stamped.value)
    }

    #[must_use]
    pub fn intent_count(&self) -> usize {
        self.intents.len()
    }

    /// With the revision at which each last changed.
    pub fn intents_with_revision(&self) -> impl Iterator<Item = (Revision, &Intent)> {
        self.intents.values().map(|stamped| (stamped.position.revision, &*stamped.value))
    }

    /// Intents of which something is not wanted on its device, and that no running load has displaced.
    pub fn unmet(&self) -> impl Iterator<Item = &Arc<Intent>> {
        let unmet = self.unmet.iter().filter(|(device, model)| !self.is_displaced(*device, *model));
        unmet.filter_map(|(device, model)| self.intent(*device, *model))
    }

    /// Whether a running load has made a model give up its room: it is open whether that is for good.
    #[must_use]
    pub fn is_displaced(&self, device: DeviceId, model: ModelId) -> bool {
        self.loads.values().any(|load| load.device == device && load.displaced.contains(&model))
    }

    #[must_use]
    pub fn unmet_count(&self) -> usize {
        self.unmet.len()
    }

    #[must_use]
    pub fn load(&self, id: OperationId) -> Option<&Arc<Loading>> {
        self.loads.get(&id)
    }

    pub fn loads(&self) -> impl Iterator<Item = (&OperationId, &Arc<Loading>)> {
        self.loads.iter()
    }

    /// The number of what is desired of a device now; from 1.
    #[must_use]
    pub fn generation(&self, device: DeviceId) -> u64 {
        self.generations.get(&device).map_or(1, |raised| raised.saturating_add(1))
    }

    /// Everything that is desired of a device, the most urgent first; of equal urgency in the order of its making.
    #[must_use]
    pub fn desired(&self, device: DeviceId) -> Vec<Desire> {
        let mut wanted: Vec<&Arc<Replica>> = self.on(device).filter(|one| self.is_wanted(one.id)).collect();
        wanted.sort_by_key(|one| (std::cmp::Reverse(one.priority), one.id));
        let desire = |one: &Arc<Replica>| Desire { id: one.id, digest: one.digest, dtype: one.dtype };
        wanted.into_iter().map(desire).collect()
    }

    /// What is not desired of a device any more, with the generation from which on that is so.
    pub fn left(&self, device: DeviceId) -> impl Iterator<Item = (&Arc<Replica>, u64)> {
        let from = (device, ReplicaId(Uuid::nil()));
        let here = self.left_at.range(from..).take_while(move |((of, _), _)| *of == device);
        here.filter_map(|((_, id), at)| self.replica(*id).map(|replica| (replica, *at)))
    }

    /// Replicas of a device that nobody had asked for: all there were, and those that are gone again.
    #[must_use]
    pub fn drift(&self, device: DeviceId) -> (u64, u64) {
        let there = self.on(device).filter(|one| self.drifted.contains(&one.id)).count() as u64;
        let repaired = self.repaired.get(&device).copied().unwrap_or_default();
        (there.saturating_add(repaired), repaired)
    }

    /// What became of the bytes of one that is gone, as long as that is remembered.
    #[must_use]
    pub fn account(&self, id: ReplicaId) -> Option<Account> {
        self.accounts.get(&id).copied()
    }

    /// Whether everything that an intent names can be used now.
    #[must_use]
    pub fn is_met(&self, intent: &Intent) -> bool {
        intent.parts.iter().all(|part| {
            let replica = self.sharing(intent.device, part.digest, part.dtype);
            replica.is_some_and(|replica| replica.state == ReplicaState::Active)
        })
    }

    pub(crate) fn stamped(&self, id: ReplicaId) -> Option<&Stamped<Replica>> {
        self.replicas.get(&id)
    }

    pub(crate) fn from(&self, from: Bound<ReplicaId>) -> impl Iterator<Item = &Stamped<Replica>> {
        self.replicas.range((from, Bound::Unbounded)).map(|(_, stamped)| stamped)
    }

    /// For a start: none of it is there, as far as anybody knows.
    pub(crate) fn restore(&mut self, position: Position, intent: Intent) {
        let key = (intent.device, intent.model);
        self.intents.insert(key, Stamped { position, value: Arc::new(intent) });
        self.unmet.insert(key);
    }
}
