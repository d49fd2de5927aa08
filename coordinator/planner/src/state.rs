//! The one state, and `apply`: the only way it changes.
//!
//! Everything is in persistent maps, so a copy of the whole costs a few reference counts: the owner publishes one
//! after each commit, readers keep it as long as they like, and a failed commit is undone by dropping the draft.
//! `apply` touches what an event names and the indexes over it: its cost does not grow with the state.

use std::collections::HashMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use hoist_domain::{
    CachePolicy, Condition, ConditionKind, Lease, Lifecycle, Machine, MachineState, Model, Operation,
    OperationId, OperationState, Position, RequestKey, ResourceKind, ResourceName, Revision, Segment,
    ServiceTime,
};
use imbl::{OrdMap, OrdSet};

use crate::cache::{Cache, Holder};
use crate::{Answer, Change, Delta, Event, Models, RequestRecord};

/// A resource with the position of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub position: Position,
    pub resource: Resource,
}

/// A named thing in the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    Machine(Arc<Machine>),
    Operation(Arc<Operation>),
    Condition(Arc<Condition>),
    Model(Arc<Model>),
    Segment(Arc<Segment>),
    Lease(Arc<Lease>),
}

impl Record {
    #[must_use]
    pub fn name(&self) -> ResourceName {
        match &self.resource {
            Resource::Machine(_) => ResourceName::Machine,
            Resource::Operation(operation) => ResourceName::Operation(operation.id),
            Resource::Condition(condition) => ResourceName::Condition(condition.kind),
            Resource::Model(model) => ResourceName::Model(model.id),
            Resource::Segment(segment) => ResourceName::Segment(segment.name),
            Resource::Lease(lease) => ResourceName::Lease(lease.id),
        }
    }

    /// The operation's state, for an operation.
    #[must_use]
    pub fn operation_state(&self) -> Option<OperationState> {
        match &self.resource {
            Resource::Operation(operation) => Some(operation.state),
            Resource::Machine(_)
            | Resource::Condition(_)
            | Resource::Model(_)
            | Resource::Segment(_)
            | Resource::Lease(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamped<T> {
    pub(crate) position: Position,
    pub(crate) value: Arc<T>,
}

impl<T> Stamped<T> {
    fn record(&self, resource: impl Fn(Arc<T>) -> Resource) -> Record {
        Record { position: self.position, resource: resource(Arc::clone(&self.value)) }
    }
}

/// How many operations are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationCounts {
    pub pending: u32,
    pub running: u32,
    pub succeeded: u32,
    pub failed: u32,
    pub cancelled: u32,
}

impl OperationCounts {
    #[must_use]
    pub const fn of(&self, state: OperationState) -> u32 {
        match state {
            OperationState::Pending => self.pending,
            OperationState::Running => self.running,
            OperationState::Succeeded => self.succeeded,
            OperationState::Failed => self.failed,
            OperationState::Cancelled => self.cancelled,
        }
    }

    fn slot(&mut self, state: OperationState) -> &mut u32 {
        match state {
            OperationState::Pending => &mut self.pending,
            OperationState::Running => &mut self.running,
            OperationState::Succeeded => &mut self.succeeded,
            OperationState::Failed => &mut self.failed,
            OperationState::Cancelled => &mut self.cancelled,
        }
    }
}

/// Everything the coordinator knows, at one position.
#[derive(Clone, Debug)]
pub struct State {
    position: Position,
    machine: Stamped<Machine>,
    operations: OrdMap<OperationId, Stamped<Operation>>,
    conditions: OrdMap<ConditionKind, Stamped<Condition>>,
    models: Models,
    cache: Cache,
    requests: OrdMap<RequestKey, Arc<RequestRecord>>,
    // Indexes: derived from the above, so that no decision has to walk it.
    active: OrdSet<OperationId>,
    ended: OrdSet<(ServiceTime, OperationId)>,
    requests_by_age: OrdSet<(ServiceTime, RequestKey)>,
    requests_of: OrdSet<(OperationId, RequestKey)>,
    counts: OperationCounts,
}

impl State {
    /// The state of a coordinator that has just opened its store, before anything happened in this epoch.
    #[must_use]
    pub fn restore(
        position: Position,
        machine: Machine,
        operations: impl IntoIterator<Item = (Revision, Operation)>,
        requests: impl IntoIterator<Item = RequestRecord>,
        models: impl IntoIterator<Item = (Revision, Model)>,
    ) -> Self {
        let mut state = Self {
            position,
            machine: Stamped { position, value: Arc::new(machine) },
            operations: OrdMap::new(),
            conditions: OrdMap::new(),
            models: Models::default(),
            cache: Cache::default(),
            requests: OrdMap::new(),
            active: OrdSet::new(),
            ended: OrdSet::new(),
            requests_by_age: OrdSet::new(),
            requests_of: OrdSet::new(),
            counts: OperationCounts::default(),
        };
        for (revision, operation) in operations {
            state.index_operation(&operation);
            let position = Position { epoch: position.epoch, revision };
            state.operations.insert(operation.id, Stamped { position, value: Arc::new(operation) });
        }
        for request in requests {
            state.insert_request(Arc::new(request));
        }
        for (revision, model) in models {
            state.models.add(Position { epoch: position.epoch, revision }, Arc::new(model));
        }
        state
    }

    /// The same with the policy of the cache, and when that last changed. What is in RAM is found out later.
    #[must_use]
    pub fn with_policy(mut self, policy: Option<(Revision, CachePolicy)>) -> Self {
        if let Some((revision, policy)) = policy {
            self.cache.set_policy(revision, Arc::new(policy));
        }
        self
    }

    #[must_use]
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }

    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine.value
    }

    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.machine.value.state == MachineState::Draining
    }

    #[must_use]
    pub fn operation(&self, id: OperationId) -> Option<&Arc<Operation>> {
        self.operations.get(&id).map(|stamped| &stamped.value)
    }

    /// Newest first; with `before`, only those older than that one.
    pub fn operations_newest_first(
        &self,
        before: Option<OperationId>,
    ) -> impl Iterator<Item = &Arc<Operation>> + use<'_> {
        let upper = before.map_or(Unbounded, Excluded);
        self.operations.range((Unbounded, upper)).rev().map(|(_, stamped)| &stamped.value)
    }

    /// Pending and running ones, oldest first.
    pub fn active_operations(&self) -> impl Iterator<Item = &Arc<Operation>> {
        self.active.iter().filter_map(|id| self.operation(*id))
    }

    #[must_use]
    pub fn active_count(&self) -> usize {
        self.active.len()
    }

    #[must_use]
    pub const fn operation_counts(&self) -> OperationCounts {
        self.counts
    }

    #[must_use]
    pub fn request(&self, key: &RequestKey) -> Option<&Arc<RequestRecord>> {
        self.requests.get(key)
    }

    #[must_use]
    pub fn request_count(&self) -> usize {
        self.requests.len()
    }

    /// The requests that led to an operation.
    pub fn requests_of(&self, id: OperationId) -> impl Iterator<Item = &RequestKey> {
        self.requests_of
            .range((id, RequestKey::least())..)
            .take_while(move |(of, _)| *of == id)
            .map(|(_, key)| key)
    }

    /// Requests whose operation does not exist. There are none but after a damaged store was rebuilt.
    pub fn orphaned_requests(&self) -> impl Iterator<Item = &RequestRecord> {
        self.requests.values().map(Arc::as_ref).filter(|request| match request.answer {
            Answer::Operation(id) => !self.operations.contains_key(&id),
            Answer::Model(_) | Answer::Done => false,
        })
    }

    /// Recorded requests, oldest first, with the service time of their acceptance.
    pub fn requests_oldest_first(&self) -> impl Iterator<Item = &(ServiceTime, RequestKey)> {
        self.requests_by_age.iter()
    }

    /// Ended operations, first ended first.
    pub fn ended_oldest_first(&self) -> impl Iterator<Item = &(ServiceTime, OperationId)> {
        self.ended.iter()
    }

    #[must_use]
    pub const fn models(&self) -> &Models {
        &self.models
    }

    pub fn conditions(&self) -> impl Iterator<Item = &Arc<Condition>> {
        self.conditions.values().map(|stamped| &stamped.value)
    }

    #[must_use]
    pub fn record(&self, name: ResourceName) -> Option<Record> {
        match name {
            ResourceName::Machine => Some(self.machine.record(Resource::Machine)),
            ResourceName::Operation(id) => self.operations.get(&id).map(|s| s.record(Resource::Operation)),
            ResourceName::Condition(kind) => {
                self.conditions.get(&kind).map(|s| s.record(Resource::Condition))
            }
            ResourceName::Model(id) => self.models.stamped(id).map(|s| s.record(Resource::Model)),
            ResourceName::Segment(name) => {
                self.cache.stamped_segment(name).map(|s| s.record(Resource::Segment))
            }
            ResourceName::Lease(id) => self.cache.stamped_lease(id).map(|s| s.record(Resource::Lease)),
        }
    }

    /// Every resource, in the order of their names.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.records_after(None)
    }

    /// The resources whose names sort after this one, in order: a walk that can be left and taken up again later,
    /// at the price of finding the place.
    pub fn records_after(&self, after: Option<ResourceName>) -> impl Iterator<Item = Record> + use<'_> {
        let machine = after.is_none().then(|| self.machine.record(Resource::Machine));
        // What of a kind comes after the name: everything, what follows one of its own, or nothing.
        let rank = after.map(|name| name.kind());
        let is_behind = |kind: ResourceKind| rank.is_none_or(|rank| rank < kind);
        let mut operations = is_behind(ResourceKind::Operation).then_some(Unbounded);
        let mut conditions = is_behind(ResourceKind::Condition).then_some(Unbounded);
        let mut models = is_behind(ResourceKind::Model).then_some(Unbounded);
        let mut segments = is_behind(ResourceKind::Segment).then_some(Unbounded);
        let mut leases = is_behind(ResourceKind::Lease).then_some(Unbounded);
        match after {
            None | Some(ResourceName::Machine) => {}
            Some(ResourceName::Operation(id)) => operations = Some(Excluded(id)),
            Some(ResourceName::Condition(kind)) => conditions = Some(Excluded(kind)),
            Some(ResourceName::Model(id)) => models = Some(Excluded(id)),
            Some(ResourceName::Segment(name)) => segments = Some(Excluded(name)),
            Some(ResourceName::Lease(id)) => leases = Some(Excluded(id)),
        }
        let operations = operations.map(|from| self.operations.range((from, Unbounded)));
        let conditions = conditions.map(|from| self.conditions.range((from, Unbounded)));
        let models = models.map(|from| self.models.stamped_from(from));
        let segments = segments.map(|from| self.cache.segments_from(from));
        let leases = leases.map(|from| self.cache.leases_from(from));
        machine
            .into_iter()
            .chain(operations.into_iter().flatten().map(|(_, s)| s.record(Resource::Operation)))
            .chain(conditions.into_iter().flatten().map(|(_, s)| s.record(Resource::Condition)))
            .chain(models.into_iter().flatten().map(|s| s.record(Resource::Model)))
            .chain(segments.into_iter().flatten().map(|s| s.record(Resource::Segment)))
            .chain(leases.into_iter().flatten().map(|s| s.record(Resource::Lease)))
    }

    /// How many resources there are.
    #[must_use]
    pub fn record_count(&self) -> usize {
        1 + self.conditions.len()
            + self.operations.len()
            + self.models.len()
            + self.cache.segment_count()
            + self.cache.lease_count()
    }

    /// With the position at which each last changed.
    pub fn operations_with_position(&self) -> impl Iterator<Item = (Position, &Arc<Operation>)> {
        self.operations.values().map(|stamped| (stamped.position, &stamped.value))
    }

    pub fn requests(&self) -> impl Iterator<Item = &RequestRecord> {
        self.requests.values().map(Arc::as_ref)
    }

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
            self.apply_to_resource(event);
            self.apply_to_others(event);
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

    /// What no watcher sees.
    fn apply_to_others(&mut self, event: &Event) {
        match event {
            Event::SegmentsFilled { read, took } => self.cache.count_fill(*read, *took),
            Event::RoomRefused => self.cache.count_refusal(),
            Event::CachePolicyChanged(policy) => {
                self.cache.set_policy(self.position.revision, Arc::clone(policy))
            }
            Event::OperationEnded { id, .. } => drop(self.cache.release(Holder::Operation(*id))),
            Event::RequestRecorded(request) => self.insert_request(Arc::clone(request)),
            Event::RequestForgotten { key } => self.remove_request(key),
            _ => {}
        }
    }

    fn apply_to_resource(&mut self, event: &Event) {
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
            Event::SegmentSealed { from, segment, at } => self.cache.seal(self.position, *from, segment, *at),
            Event::SegmentAbandoned { name } => self.cache.abandon(*name),
            Event::SegmentEvicting { digest, eviction, at } => {
                self.cache.evict(self.position, *digest, *eviction, *at);
            }
            Event::SegmentLeft { digest, bytes } => self.cache.leave(self.position, *digest, *bytes),
            Event::SegmentFreed { digest, left } => self.cache.free(self.position, *digest, *left),
            Event::LeaseGranted(lease) => self.cache.grant(self.position, lease),
            Event::LeaseAwaited { lease, until } => self.cache.await_lease(self.position, lease, *until),
            Event::LeaseEnded { id, at, .. } => self.cache.end_lease(*id, *at),
            Event::SegmentsFilled { .. }
            | Event::RoomRefused
            | Event::CachePolicyChanged(_)
            | Event::RequestRecorded(_)
            | Event::RequestForgotten { .. } => {}
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

    fn index_operation(&mut self, operation: &Operation) {
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

    fn insert_request(&mut self, request: Arc<RequestRecord>) {
        self.requests_by_age.insert((request.accepted, request.key.clone()));
        if let crate::Answer::Operation(id) = request.answer {
            self.requests_of.insert((id, request.key.clone()));
        }
        self.requests.insert(request.key.clone(), request);
    }

    fn remove_request(&mut self, key: &RequestKey) {
        if let Some(request) = self.requests.remove(key) {
            self.requests_by_age.remove(&(request.accepted, key.clone()));
            if let crate::Answer::Operation(id) = request.answer {
                self.requests_of.remove(&(id, key.clone()));
            }
        }
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
