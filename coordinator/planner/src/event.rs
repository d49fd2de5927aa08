//! What can happen to the state, in the past tense, and what a watcher is told of it.

use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    Bytes, CachePolicy, Condition, ConditionKind, ContentHash, Device, DeviceId, DevicesPolicy, Digest,
    Eviction, Intent, Lease, LeaseId, Measurement, Model, ModelId, Operation, OperationId, OperationState,
    Outcome, Position, Priority, Replica, ReplicaId, RequestKey, ResourceName, Segment, SegmentName,
    ServiceTime, WallTime,
};
use serde::{Deserialize, Serialize};

use crate::Record;
use crate::cache::Interest;
use crate::residency::{Account, Loading, Want};

/// One thing that happened. Events of one revision happened together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An operation exists now, PENDING.
    OperationAccepted(Arc<Operation>),
    /// Its executor is to start.
    OperationStarted { id: OperationId, at: WallTime },
    /// Somebody wants a running operation to stop; it has not stopped yet.
    OperationCancelRequested { id: OperationId },
    /// It reached its one terminal state.
    OperationEnded { id: OperationId, outcome: Outcome, at: WallTime, service: ServiceTime },
    /// A finished operation is no longer kept.
    OperationForgotten { id: OperationId },
    /// A request has its answer; repeats get the same.
    RequestRecorded(Arc<RequestRecord>),
    /// A request id means nothing any more.
    RequestForgotten { key: RequestKey },
    /// A speed was measured; it replaces the last of its kind.
    MeasurementTaken(Measurement),
    /// A condition holds, or holds with other particulars.
    ConditionRaised(Arc<Condition>),
    /// A condition holds no longer.
    ConditionCleared(ConditionKind),
    /// A model is in the catalog, as it is given here in full.
    ModelRecorded(Arc<Model>),
    /// A model is no longer in the catalog.
    ModelForgotten { id: ModelId },
    /// A complete segment was found at the start.
    SegmentAdopted { segment: Arc<Segment>, at: ServiceTime },
    /// Room is taken for a segment that an operation fills.
    SegmentReserved { segment: Arc<Segment>, by: OperationId },
    /// Somebody relies on a segment from now on.
    SegmentWanted { name: SegmentName, interest: Interest },
    /// It was asked to be let go for this model; others keep it.
    SegmentUnwanted { name: SegmentName, model: ModelId },
    /// What fills as `from` was read, and is this.
    SegmentIdentified { from: SegmentName, digest: Digest },
    /// What was filled is complete.
    SegmentSealed { digest: Digest, bytes: Bytes, wall: WallTime, at: ServiceTime },
    /// What was filled as `from` is not needed: this was complete before.
    SegmentMerged { from: SegmentName, into: Digest, at: ServiceTime },
    /// What was being filled is not any more.
    SegmentAbandoned { name: SegmentName },
    /// It is withdrawn.
    SegmentEvicting { digest: Digest, eviction: Eviction, at: ServiceTime },
    /// It has no name any more; so many bytes of it are still open somewhere, or none.
    SegmentOut { digest: Digest, still_open: Option<Bytes> },
    /// So many bytes that were open without a name are not any more.
    ZombieFreed { digest: Digest, freed: Bytes },
    /// Bytes were read for segments.
    SegmentsFilled { read: Bytes, took: Duration },
    /// There was no room, and none could be made.
    RoomRefused,
    /// Somebody holds segments, or holds them again.
    LeaseGranted(Arc<Lease>),
    /// Its holder may come back for it until then.
    LeaseAwaited { lease: Arc<Lease>, until: ServiceTime },
    LeaseEnded {
        id: LeaseId,
        at: ServiceTime,
        /// Why, if somebody revoked it.
        revoked: Option<Arc<str>>,
    },
    /// Memory is used by another rule from now on.
    CachePolicyChanged(Arc<CachePolicy>),
    /// A device, or who drives it, is as it is given here in full.
    DeviceChanged(Arc<Device>),
    /// People say something else of devices from now on.
    DevicesPolicyChanged(Arc<DevicesPolicy>),
    /// An operation has a device, and room on it; or has taken that room.
    LoadAdmitted { id: OperationId, loading: Arc<Loading> },
    /// There is to be a replica. Nobody wants it yet.
    ReplicaPlaced(Arc<Replica>),
    /// Somebody relies on it from now on.
    ReplicaWanted { id: ReplicaId, by: Want, priority: Priority },
    /// Somebody does not any more.
    ReplicaUnwanted { id: ReplicaId, by: Want },
    /// Its worker has said more of it: it is as it is given here in full.
    ReplicaChanged(Arc<Replica>),
    /// It is not on its device any more.
    ReplicaGone {
        id: ReplicaId,
        /// What its worker says of its bytes; none where that has ended.
        account: Option<Account>,
    },
    /// A model, or a part of it, shall be on a device.
    IntentRecorded(Arc<Intent>),
    /// What is desired of a device is told again, under another number: its worker's new stream has heard nothing of it.
    DesireRaised(DeviceId),
    /// It shall be there no more.
    IntentRetracted { device: DeviceId, model: ModelId },
    /// The coordinator ends soon.
    DrainBegan,
}

impl Event {
    /// Whether it must be on disk before anybody hears of it. The others are true only of this process.
    #[must_use]
    pub const fn is_durable(&self) -> bool {
        match self {
            Self::OperationAccepted(_)
            | Self::OperationStarted { .. }
            | Self::OperationCancelRequested { .. }
            | Self::OperationEnded { .. }
            | Self::OperationForgotten { .. }
            | Self::RequestRecorded(_)
            | Self::RequestForgotten { .. }
            | Self::MeasurementTaken(_)
            | Self::ModelRecorded(_)
            | Self::ModelForgotten { .. }
            | Self::CachePolicyChanged(_)
            | Self::IntentRecorded(_)
            | Self::IntentRetracted { .. }
            | Self::DevicesPolicyChanged(_) => true,
            Self::ConditionRaised(_)
            | Self::ConditionCleared(_)
            | Self::LeaseGranted(_)
            | Self::LeaseAwaited { .. }
            | Self::LeaseEnded { .. }
            | Self::DeviceChanged(_)
            | Self::LoadAdmitted { .. }
            | Self::ReplicaPlaced(_)
            | Self::ReplicaWanted { .. }
            | Self::ReplicaUnwanted { .. }
            | Self::ReplicaChanged(_)
            | Self::ReplicaGone { .. }
            | Self::DesireRaised(_)
            | Self::SegmentAdopted { .. }
            | Self::SegmentReserved { .. }
            | Self::SegmentWanted { .. }
            | Self::SegmentUnwanted { .. }
            | Self::SegmentIdentified { .. }
            | Self::SegmentSealed { .. }
            | Self::SegmentAbandoned { .. }
            | Self::SegmentEvicting { .. }
            | Self::SegmentMerged { .. }
            | Self::SegmentOut { .. }
            | Self::ZombieFreed { .. }
            | Self::SegmentsFilled { .. }
            | Self::RoomRefused
            | Self::DrainBegan => false,
        }
    }

    /// The resources that it is about: two where one becomes another. Requests are not resources.
    pub(crate) fn subjects(&self) -> [Option<ResourceName>; 2] {
        let one = |name| [Some(name), None];
        match self {
            Self::OperationAccepted(operation) => one(ResourceName::Operation(operation.id)),
            Self::OperationStarted { id, .. }
            | Self::OperationCancelRequested { id }
            | Self::OperationEnded { id, .. }
            | Self::OperationForgotten { id } => one(ResourceName::Operation(*id)),
            Self::ModelRecorded(model) => one(ResourceName::Model(model.id)),
            Self::ModelForgotten { id } => one(ResourceName::Model(*id)),
            Self::MeasurementTaken(_) | Self::DrainBegan => one(ResourceName::Machine),
            Self::ConditionRaised(condition) => one(ResourceName::Condition(condition.kind)),
            Self::ConditionCleared(kind) => one(ResourceName::Condition(*kind)),
            Self::SegmentAdopted { segment, .. } | Self::SegmentReserved { segment, .. } => {
                one(ResourceName::Segment(segment.name))
            }
            Self::SegmentWanted { name, .. }
            | Self::SegmentUnwanted { name, .. }
            | Self::SegmentAbandoned { name } => one(ResourceName::Segment(*name)),
            Self::SegmentIdentified { from, digest } => [
                Some(ResourceName::Segment(*from)),
                Some(ResourceName::Segment(SegmentName::Content(*digest))),
            ],
            Self::SegmentMerged { from, into, .. } => {
                [Some(ResourceName::Segment(*from)), Some(ResourceName::Segment(SegmentName::Content(*into)))]
            }
            Self::SegmentSealed { digest, .. }
            | Self::SegmentEvicting { digest, .. }
            | Self::SegmentOut { digest, .. }
            | Self::ZombieFreed { digest, .. } => one(ResourceName::Segment(SegmentName::Content(*digest))),
            Self::LeaseGranted(lease) | Self::LeaseAwaited { lease, .. } => {
                one(ResourceName::Lease(lease.id))
            }
            Self::LeaseEnded { id, .. } => one(ResourceName::Lease(*id)),
            Self::DeviceChanged(device) => one(ResourceName::Device(device.id)),
            Self::ReplicaPlaced(replica) | Self::ReplicaChanged(replica) => {
                one(ResourceName::Replica(replica.id))
            }
            Self::ReplicaWanted { id, .. }
            | Self::ReplicaUnwanted { id, .. }
            | Self::ReplicaGone { id, .. } => one(ResourceName::Replica(*id)),
            Self::SegmentsFilled { .. }
            | Self::RoomRefused
            | Self::LoadAdmitted { .. }
            | Self::DesireRaised(_)
            | Self::DevicesPolicyChanged(_)
            | Self::IntentRecorded(_)
            | Self::IntentRetracted { .. }
            | Self::CachePolicyChanged(_)
            | Self::RequestRecorded(_)
            | Self::RequestForgotten { .. } => [None, None],
        }
    }
}

/// What a request id is kept for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    pub key: RequestKey,
    pub content: ContentHash,
    pub answer: Answer,
    /// Retention counts from here.
    pub accepted: ServiceTime,
}

/// What a repeated request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The operation it made or joined.
    Operation(OperationId),
    /// The model it edited.
    Model(ModelId),
    /// It was done, and its answer holds nothing.
    Done,
}

/// Everything that changed at one revision, as watchers see it. Each name once; requests are nobody's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    pub position: Position,
    pub changes: Vec<Change>,
}

/// One resource before and after a revision. Never absent on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub name: ResourceName,
    pub before: Option<Record>,
    pub after: Option<Record>,
}

impl Change {
    /// The operation's states before and after, for filters.
    #[must_use]
    pub fn operation_states(&self) -> (Option<OperationState>, Option<OperationState>) {
        let state = |record: &Option<Record>| record.as_ref().and_then(Record::operation_state);
        (state(&self.before), state(&self.after))
    }
}
