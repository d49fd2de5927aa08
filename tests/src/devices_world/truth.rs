//! What a correct world shows: after each step, and at rest.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use hoist_domain::{
    DeviceId, DeviceState, Digest, Lifecycle, ModelId, OperationId, ReplicaId, ReplicaState, SegmentName,
    UnloadSpec, Work, WorkerState,
};
use hoist_planner::State;
use hoist_planner::cache::Holder;
use hoist_planner::residency::Want;

use super::{DEVICES, DevicesWorld};

/// What shall be on devices, by what was acknowledged: kept beside the planner, by another rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intended(BTreeMap<(DeviceId, ModelId), BTreeMap<Box<str>, Digest>>);

impl Intended {
    /// A load has succeeded: what it had when it ended counts from here on, and whoever made room for it does not.
    pub(super) fn loaded(&mut self, before: &State, id: OperationId) {
        let Some(load) = before.residency().load(id) else { return };
        let is_restore = before.operation(id).is_some_and(|operation| match &operation.work {
            Work::LoadModel(spec) => !spec.restores.is_empty(),
            _ => false,
        });
        if is_restore {
            // It brings back what shall be there, and makes nothing of its own. What has made room for that is gone all the same.
            let is_kept = load.parts.iter().any(|part| {
                let theirs = self.0.get(&(load.device, part.model));
                theirs.is_some_and(|parts| parts.get(&part.component) == Some(&part.digest))
            });
            for model in load.displaced.iter().filter(|_| is_kept) {
                self.0.remove(&(load.device, *model));
            }
            return;
        }
        let mut begun = BTreeSet::new();
        for model in &load.displaced {
            self.0.remove(&(load.device, *model));
        }
        for part in &load.parts {
            // What somebody else has made go by then is gone, but for what was loaded again.
            let is_displaced = before.residency().loads().any(|(other, theirs)| {
                *other != id && theirs.device == load.device && theirs.displaced.contains(&part.model)
            });
            if is_displaced && begun.insert(part.model) {
                self.0.remove(&(load.device, part.model));
            }
            let of = self.0.entry((load.device, part.model)).or_default();
            of.insert(part.component.clone(), part.digest);
        }
    }

    pub(super) fn unloaded(&mut self, spec: &UnloadSpec) {
        for part in &spec.parts {
            for ((device, model), components) in &mut self.0 {
                let is_meant = *model == part.model && spec.device.is_none_or(|named| named == *device);
                if is_meant {
                    components
                        .retain(|name, _| !part.components.is_empty() && !part.components.contains(name));
                }
            }
        }
        self.0.retain(|_, components| !components.is_empty());
    }

    pub(super) fn of(state: &State) -> Self {
        let intents = state.residency().intents().map(|intent| {
            let parts = intent.parts.iter().map(|part| (part.component.clone(), part.digest));
            ((intent.device, intent.model), parts.collect())
        });
        Self(intents.collect())
    }
}

impl DevicesWorld {
    /// What holds at any moment.
    pub(super) fn check(&self) -> Result<()> {
        let state = self.state();
        let residency = state.residency();
        ensure!(
            Intended::of(&state) == self.intended,
            "{:?} is intended, {:?} was",
            Intended::of(&state),
            self.intended
        );
        for worker in self.workers() {
            ensure!(worker.most <= worker.capacity.0, "{} holds more than it has", worker.device);
        }
        for (name, capacity, _) in DEVICES {
            let id: DeviceId = name.parse()?;
            let wanted: Vec<_> = residency.on(id).filter(|one| residency.is_wanted(one.id)).collect();
            let promised: u64 = wanted.iter().map(|one| one.charge().0).sum();
            let lives = |digest| residency.sharing(id, digest, None).is_some();
            let unmet = residency.unmet().filter(|intent| intent.device == id);
            let lost: BTreeSet<Digest> = unmet
                .flat_map(|intent| &intent.parts)
                .map(|part| part.digest)
                .filter(|one| !lives(*one))
                .collect();
            let owed: u64 = lost.iter().map(|digest| super::shelf::size(*digest).0).sum();
            ensure!(
                promised + owed <= capacity,
                "{promised} and {owed} of {capacity} are promised on {id}: {wanted:#?}, lost {lost:?}, {:#?}, {:#?}",
                residency.intents().filter(|intent| intent.device == id).collect::<Vec<_>>(),
                residency.loads().collect::<Vec<_>>(),
            );
            let contents: BTreeSet<_> =
                wanted.iter().filter(|one| one.state != ReplicaState::Failed).map(|one| one.digest).collect();
            let live = wanted.iter().filter(|one| one.state != ReplicaState::Failed).count();
            ensure!(contents.len() == live, "{id} has a content twice");
        }
        for one in residency.replicas() {
            let needs = match one.state {
                ReplicaState::Waiting | ReplicaState::Loading => residency.is_wanted(one.id),
                ReplicaState::Active => one.mapped.0 > 0,
                _ => false,
            };
            // Or it is just being filled, by one who wants it there.
            let filler = state.cache().filler(SegmentName::Content(one.digest));
            let is_filled = residency
                .wants_of(one.id)
                .any(|want| matches!(want, Want::Operation(operation, _) if Some(operation) == filler));
            ensure!(
                !needs || is_filled || state.cache().sealed(one.digest).is_some(),
                "{} is evicted under {}",
                one.digest,
                one.id
            );
        }
        for one in residency.replicas() {
            for want in residency.wants_of(one.id) {
                let Want::Intent(model) = want else { continue };
                let intent = residency.intent(one.device, model);
                let names =
                    intent.is_some_and(|intent| intent.parts.iter().any(|part| part.digest == one.digest));
                ensure!(names, "{} is wanted by {want:?}, which does not name it", one.id);
            }
        }
        for lease in state.cache().leases() {
            let is_there = lease.segments().iter().all(|digest| state.cache().sealed(*digest).is_some());
            ensure!(is_there, "what is leased is evicted");
            for id in lease.replicas() {
                let replica = residency.replica(id);
                let is_active = replica.is_some_and(|replica| replica.state == ReplicaState::Active);
                ensure!(is_active, "what is leased on a device is {replica:?}");
                let is_kept = residency.wants_of(id).any(|want| want == Want::Intent(lease.model));
                ensure!(is_kept, "nobody keeps {replica:?}, which is leased");
            }
        }
        for (id, load) in residency.loads() {
            let runs = state.operation(*id).is_some_and(|operation| !operation.state.is_terminal());
            ensure!(runs, "{id} has ended and holds {load:?}");
        }
        Ok(())
    }

    /// What holds when nobody has disturbed it for long enough.
    pub(super) fn at_rest(&self) -> Result<()> {
        let state = self.state();
        let residency = state.residency();
        if let Some(operation) = state.active_operations().next() {
            anyhow::bail!(
                "{} is {:?} for ever: {:?} {:?}",
                operation.id,
                operation.state,
                operation.work,
                self.executors.get(&operation.id)
            );
        }
        ensure!(residency.loads().next().is_none(), "room is reserved for nobody");
        ensure!(residency.unmet_count() == 0, "lost for ever: {:?}", residency.unmet().collect::<Vec<_>>());
        for worker in self.workers() {
            let id = worker.device;
            let device = state.devices().get(id).map(|device| (device.state, device.worker.state));
            ensure!(device == Some((DeviceState::Open, WorkerState::Active)), "{id} is {device:?}");
            let desired: BTreeSet<ReplicaId> = residency.desired(id).iter().map(|one| one.id).collect();
            let known: BTreeSet<ReplicaId> = residency.on(id).map(|one| one.id).collect();
            let there: BTreeSet<ReplicaId> = worker.there().keys().copied().collect();
            ensure!(desired == there, "{id}: {desired:?} is desired, {there:?} is there");
            ensure!(known == there, "{id}: {known:?} is known, {there:?} is there");
            let usable = |one: &hoist_domain::ObservedReplica| one.state == ReplicaState::Active;
            ensure!(worker.there().values().all(usable), "{id} has what cannot be used");
            let memory = state.devices().get(id).map(|device| device.memory);
            ensure!(
                memory == Some(worker.memory()),
                "{id}: {memory:?} is known, {:?} is so",
                worker.memory()
            );
        }
        let by_operation = |one: &&std::sync::Arc<hoist_domain::Replica>| {
            residency.wants_of(one.id).any(|want| matches!(want, Want::Operation(..)))
        };
        ensure!(
            residency.replicas().find(by_operation).is_none(),
            "an operation that has ended wants something"
        );
        for intent in residency.intents() {
            ensure!(residency.is_met(intent), "{intent:?} is not met");
        }
        // Held by replicas that are their segments, and by leases; by nobody else.
        for segment in state.cache().segments() {
            for holder in
                state.cache().holders(SegmentName::Content(segment.name.digest().unwrap_or(Digest([0; 32]))))
            {
                match holder {
                    Holder::Lease(_) => {}
                    Holder::Replica(id) => {
                        let is_mapped = residency.replica(id).is_some_and(|replica| replica.mapped.0 > 0);
                        ensure!(is_mapped, "{} is held by {id}, which is apart from it", segment.name);
                    }
                    Holder::Operation(id) => {
                        anyhow::bail!("{} is held by {id}, which has ended", segment.name)
                    }
                }
            }
        }
        Ok(())
    }
}
