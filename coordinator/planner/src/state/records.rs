//! The state as named resources, each with the position of its last change: what is shown, listed and watched.

use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use hoist_domain::{
    Condition, Device, Lease, Machine, Model, Operation, OperationState, Position, Replica, ResourceKind,
    ResourceName, Segment,
};

use super::State;

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
    Device(Arc<Device>),
    Replica(Arc<Replica>),
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
            Resource::Device(device) => ResourceName::Device(device.id),
            Resource::Replica(replica) => ResourceName::Replica(replica.id),
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
            | Resource::Lease(_)
            | Resource::Device(_)
            | Resource::Replica(_) => None,
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

impl State {
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
            ResourceName::Device(id) => self.devices.stamped(id).map(|s| s.record(Resource::Device)),
            ResourceName::Replica(id) => self.residency.stamped(id).map(|s| s.record(Resource::Replica)),
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
        let mut devices = is_behind(ResourceKind::Device).then_some(Unbounded);
        let mut replicas = is_behind(ResourceKind::Replica).then_some(Unbounded);
        match after {
            None | Some(ResourceName::Machine) => {}
            Some(ResourceName::Operation(id)) => operations = Some(Excluded(id)),
            Some(ResourceName::Condition(kind)) => conditions = Some(Excluded(kind)),
            Some(ResourceName::Model(id)) => models = Some(Excluded(id)),
            Some(ResourceName::Segment(name)) => segments = Some(Excluded(name)),
            Some(ResourceName::Lease(id)) => leases = Some(Excluded(id)),
            Some(ResourceName::Device(id)) => devices = Some(Excluded(id)),
            Some(ResourceName::Replica(id)) => replicas = Some(Excluded(id)),
        }
        let operations = operations.map(|from| self.operations.range((from, Unbounded)));
        let conditions = conditions.map(|from| self.conditions.range((from, Unbounded)));
        let models = models.map(|from| self.models.stamped_from(from));
        let segments = segments.map(|from| self.cache.segments_from(from));
        let leases = leases.map(|from| self.cache.leases_from(from));
        let devices = devices.map(|from| self.devices.from(from));
        let replicas = replicas.map(|from| self.residency.from(from));
        machine
            .into_iter()
            .chain(operations.into_iter().flatten().map(|(_, s)| s.record(Resource::Operation)))
            .chain(conditions.into_iter().flatten().map(|(_, s)| s.record(Resource::Condition)))
            .chain(models.into_iter().flatten().map(|s| s.record(Resource::Model)))
            .chain(segments.into_iter().flatten().map(|s| s.record(Resource::Segment)))
            .chain(leases.into_iter().flatten().map(|s| s.record(Resource::Lease)))
            .chain(devices.into_iter().flatten().map(|s| s.record(Resource::Device)))
            .chain(replicas.into_iter().flatten().map(|s| s.record(Resource::Replica)))
    }

    /// How many resources there are.
    #[must_use]
    pub fn record_count(&self) -> usize {
        1 + self.conditions.len()
            + self.operations.len()
            + self.models.len()
            + self.cache.segment_count()
            + self.cache.lease_count()
            + self.devices.len()
            + self.residency.replica_count()
    }
}
