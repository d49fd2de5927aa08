//! Events into the state: the only way it changes, at the cost of what they name.

use std::collections::HashMap;
use std::sync::Arc;

use hoist_domain::{
    Device, Lifecycle, Machine, MachineState, Operation, OperationId, OperationState, RequestKey,
    ResourceName,
};

use super::{Stamped, State};
use crate::{Answer, Change, Delta, Event, RequestRecord};

impl State {
    /// Applies events that happened together, at the next revision. `None` when there are none: a revision is only
    /// spent on a change.
    ///
    /// # Panics
    /// When an event contradicts the state: it names an operation that does not exist, or breaks a lifecycle. The
    /// planner makes no such event; continuing with a state nobody decided on would be worse than stopping.
    pub fn apply(&mut self, events: &[Event]) -> Option<Delta> {
        if events.is_empty() {
            return None;
        }
        self.position.revision = self.position.revision.next();
        let mut changes: Vec<Change> = Vec::with_capacity(events.len());
        let mut places: HashMap<ResourceName, usize> = HashMap::with_capacity(events.len());
        for event in events {
            let names = event.subjects();
            let before = names.map(|name| name.and_then(|name| self.record(name)));
            self.apply_one(event);
            for (name, before) in names.into_iter().zip(before) {
                let Some(name) = name else { continue };
                let after = self.record(name);
                let place = *places.entry(name).or_insert(changes.len());
                match changes.get_mut(place) {
                    Some(change) => change.after = after,
                    None => changes.push(Change { name, before, after }),
                }
            }
        }
        // Made and unmade within one revision, used but not changed, or nothing but a request: watchers see nothing.
        changes.retain(|change| change.before != change.after);
        Some(Delta { position: self.position, changes })
    }

    fn apply_one(&mut self, event: &Event) {
        match event {
            Event::OperationAccepted(operation) => {
                assert!(
                    !self.operations.contains_key(&operation.id),
                    "operation {} exists twice",
                    operation.id
                );
                self.index_operation(operation);
                let stamped = Stamped { position: self.position, value: Arc::clone(operation) };
                self.operations.insert(operation.id, stamped);
            }
            Event::OperationStarted { id, at } => self.change_operation(*id, OperationState::Running, |o| {
                o.started_at = Some(*at);
                o.attempts = o.attempts.saturating_add(1);
            }),
            Event::OperationCancelRequested { id } => self.edit_operation(*id, |o| o.cancel_requested = true),
            Event::OperationEnded { id, outcome, at, service } => {
                self.change_operation(*id, outcome.state(), |o| {
                    o.ended_at = Some(*at);
                    o.ended = Some(*service);
                    o.outcome = Some(outcome.clone());
                });
                self.cache.end_operation(*id);
                self.residency.end_operation(*id);
            }
            Event::OperationForgotten { id } => self.remove_operation(*id),
            Event::MeasurementTaken(measurement) => self.edit_machine(|machine| {
                machine.measurements.retain(|known| known.kind != measurement.kind);
                machine.measurements.push(measurement.clone());
                machine.measurements.sort_by_key(|known| known.kind);
            }),
            Event::ConditionRaised(condition) => {
                let stamped = Stamped { position: self.position, value: Arc::clone(condition) };
                self.conditions.insert(condition.kind, stamped);
            }
            Event::ConditionCleared(kind) => {
                self.conditions.remove(kind);
            }
            Event::ModelRecorded(model) => self.models.put(self.position, Arc::clone(model)),
            Event::ModelForgotten { id } => self.models.remove(*id),
            Event::DrainBegan => self.edit_machine(|machine| {
                machine.state = legal(machine.state.to(MachineState::Draining));
            }),
            Event::SegmentAdopted { segment, at } => self.cache.adopt(self.position, segment, *at),
            Event::SegmentReserved { segment, by } => self.cache.reserve(self.position, segment, *by),
            Event::SegmentWanted { name, interest } => self.cache.want(self.position, *name, interest),
            Event::SegmentUnwanted { name, model } => self.cache.unwant(self.position, *name, *model),
            Event::SegmentIdentified { from, digest } => self.cache.identify(self.position, *from, *digest),
            Event::SegmentSealed { digest, bytes, wall, at } => {
                self.cache.seal(self.position, *digest, *bytes, *wall, *at);
            }
            Event::SegmentMerged { from, into, at } => self.cache.merge(self.position, *from, *into, *at),
            Event::SegmentAbandoned { name } => self.cache.abandon(*name),
            Event::SegmentEvicting { digest, eviction, at } => {
                self.cache.evict(self.position, *digest, *eviction, *at);
            }
            Event::SegmentOut { digest, still_open } => self.cache.out(self.position, *digest, *still_open),
            Event::ZombieFreed { digest, freed } => self.cache.free(*digest, *freed),
            Event::LeaseGranted(lease) => self.cache.grant(self.position, lease),
            Event::LeaseAwaited { lease, until } => self.cache.await_lease(self.position, lease, *until),
            Event::LeaseEnded { id, at, .. } => self.cache.end_lease(*id, *at),
            Event::DeviceChanged(device) => {
                if let Some(before) = self.devices.get(device.id) {
                    keep_to_the_tables(before, device);
                }
                self.devices.put(self.position, device);
            }
            Event::LoadAdmitted { id, loading } => self.residency.admit(*id, loading),
            Event::ReplicaPlaced(replica) => {
                self.residency.place(self.position, replica);
                self.cache.hold_for_replica(replica);
            }
            Event::ReplicaWanted { id, by, priority } => {
                self.residency.want(self.position, *id, *by, *priority);
            }
            Event::ReplicaUnwanted { id, by } => self.residency.unwant(self.position, *id, *by),
            Event::ReplicaChanged(replica) => {
                self.residency.change(self.position, replica);
                self.cache.hold_for_replica(replica);
            }
            Event::ReplicaGone { id, account } => {
                self.residency.gone(*id, *account);
                self.cache.end_replica(*id);
            }
            Event::DevicesPolicyChanged(policy) => {
                self.devices.set_policy(self.position.revision, Arc::clone(policy));
            }
            Event::DesireRaised(device) => self.residency.raise(*device),
            Event::IntentRecorded(intent) => self.residency.record(self.position, intent),
            Event::IntentRetracted { device, model } => self.residency.retract(*device, *model),
            Event::SegmentsFilled { read, took } => self.cache.count_fill(*read, *took),
            Event::RoomRefused => self.cache.count_refusal(),
            Event::CachePolicyChanged(policy) => {
                self.cache.set_policy(self.position.revision, Arc::clone(policy));
            }
            Event::RequestRecorded(request) => self.insert_request(Arc::clone(request)),
            Event::RequestForgotten { key } => self.remove_request(key),
        }
    }

    fn edit_machine(&mut self, edit: impl FnOnce(&mut Machine)) {
        edit(Arc::make_mut(&mut self.machine.value));
        self.machine.position = self.position;
    }

    fn edit_operation(&mut self, id: OperationId, edit: impl FnOnce(&mut Operation)) {
        let position = self.position;
        let stamped = self.operations.get_mut(&id);
        assert!(stamped.is_some(), "operation {id} does not exist");
        if let Some(stamped) = stamped {
            edit(Arc::make_mut(&mut stamped.value));
            stamped.position = position;
        }
    }

    fn change_operation(&mut self, id: OperationId, next: OperationState, edit: impl FnOnce(&mut Operation)) {
        let mut before = None;
        self.edit_operation(id, |operation| {
            before = Some(operation.state);
            operation.state = legal(operation.state.to(next));
            edit(operation);
        });
        if let Some(before) = before {
            *self.counts.slot(before) -= 1;
            *self.counts.slot(next) += 1;
        }
        if next.is_terminal() {
            self.active.remove(&id);
            let ended = self.operation(id).and_then(|o| o.ended).unwrap_or_default();
            self.ended.insert((ended, id));
        }
    }

    pub(super) fn index_operation(&mut self, operation: &Operation) {
        *self.counts.slot(operation.state) += 1;
        if operation.state.is_terminal() {
            self.ended.insert((operation.ended.unwrap_or_default(), operation.id));
        } else {
            self.active.insert(operation.id);
        }
    }

    fn remove_operation(&mut self, id: OperationId) {
        let removed = self.operations.remove(&id);
        assert!(removed.is_some(), "operation {id} does not exist");
        if let Some(stamped) = removed {
            assert!(stamped.value.state.is_terminal(), "operation {id} is forgotten while it is not done");
            *self.counts.slot(stamped.value.state) -= 1;
            self.ended.remove(&(stamped.value.ended.unwrap_or_default(), id));
        }
    }

    pub(super) fn insert_request(&mut self, request: Arc<RequestRecord>) {
        self.requests_by_age.insert((request.accepted, request.key.clone()));
        if let Answer::Operation(id) = request.answer {
            self.requests_of.insert((id, request.key.clone()));
        }
        self.requests.insert(request.key.clone(), request);
    }

    fn remove_request(&mut self, key: &RequestKey) {
        if let Some(request) = self.requests.remove(key) {
            self.requests_by_age.remove(&(request.accepted, key.clone()));
            if let Answer::Operation(id) = request.answer {
                self.requests_of.remove(&(id, key.clone()));
            }
        }
    }
}

/// A device and its worker take legal steps.
fn keep_to_the_tables(before: &Device, after: &Device) {
    if before.worker.state != after.worker.state {
        legal(before.worker.state.to(after.worker.state));
    }
    if before.state != after.state {
        legal(before.state.to(after.state));
    }
}

/// See [`State::apply`] on why this stops the process.
pub(crate) fn legal<S: std::fmt::Debug>(step: Result<S, hoist_domain::IllegalTransition>) -> S {
    match step {
        Ok(state) => state,
        Err(illegal) => {
            #[expect(clippy::panic, reason = "the state is no longer one that anybody decided on")]
            {
                panic!("{illegal}")
            }
        }
    }
}
