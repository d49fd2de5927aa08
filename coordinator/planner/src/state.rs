//! The one state, and `apply`: the only way it changes.
//!
//! Everything is in persistent maps, so a copy of the whole costs a few reference counts: the owner publishes one
//! after each commit, readers keep it as long as they like, and a failed commit is undone by dropping the draft.
//! `apply` touches what an event names and the indexes over it: its cost does not grow with the state.

mod applying;
mod records;

use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use hoist_domain::{
    CachePolicy, Condition, ConditionKind, DevicesPolicy, Intent, Machine, MachineState, Model, Operation,
    OperationId, OperationState, Position, RequestKey, Revision, ServiceTime,
};
use imbl::{OrdMap, OrdSet};

use crate::cache::Cache;
use crate::devices::Devices;
use crate::residency::Residency;
use crate::{Answer, Models, RequestRecord};

pub(crate) use applying::legal;
pub(crate) use records::Stamped;
pub use records::{Record, Resource};

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
    devices: Devices,
    residency: Residency,
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
            devices: Devices::default(),
            residency: Residency::default(),
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

    /// The same with what people say of devices, and when that last changed.
    #[must_use]
    pub fn with_devices_policy(mut self, policy: Option<(Revision, DevicesPolicy)>) -> Self {
        if let Some((revision, policy)) = policy {
            self.devices.set_policy(revision, Arc::new(policy));
        }
        self
    }

    /// The same with what shall be on devices. What is there is told by their workers.
    #[must_use]
    pub fn with_intents(mut self, intents: impl IntoIterator<Item = (Revision, Intent)>) -> Self {
        for (revision, intent) in intents {
            self.residency.restore(Position { epoch: self.position.epoch, revision }, intent);
        }
        self
    }

    #[must_use]
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }

    #[must_use]
    pub const fn residency(&self) -> &Residency {
        &self.residency
    }

    #[must_use]
    pub const fn devices(&self) -> &Devices {
        &self.devices
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

    /// With the position at which each last changed.
    pub fn operations_with_position(&self) -> impl Iterator<Item = (Position, &Arc<Operation>)> {
        self.operations.values().map(|stamped| (stamped.position, &stamped.value))
    }

    pub fn requests(&self) -> impl Iterator<Item = &RequestRecord> {
        self.requests.values().map(Arc::as_ref)
    }
}
