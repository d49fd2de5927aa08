//! The words of Hoist: ids, quantities, lifecycles and errors.
//!
//! Everything else in the workspace speaks in these types. This crate does no I/O, reads no clock and knows no
//! runtime or wire format; a value that needs one of those is handed in.

mod cache;
mod device;
mod error;
mod filter;
mod id;
mod lifecycle;
mod machine;
mod model;
mod nearest;
mod operation;
mod quantity;
mod reason;
mod residency;
mod segment;
mod sum;
mod time;

pub use cache::{
    CachePolicy, CacheReport, CacheSpec, CachedComponent, ComponentSource, EvictionPolicy, Priority, Veto,
};
pub use device::{
    Device, DeviceFacts, DeviceId, DeviceKind, DeviceMemory, DeviceSpec, DevicesPolicy, Generation,
    Incarnation, ObservedReplica, ReplicaFailure, ReplicaId, SyncPace, WORKER_RENEWS, Worker, WorkerId,
};
pub use error::{Error, FieldViolation, Result};
pub use filter::Filter;
pub use id::{
    ConditionKind, ContentHash, OperationId, Principal, RequestId, RequestKey, ResourceKind, ResourceName,
    Role, excerpt, plural,
};
pub use lifecycle::{
    DeviceState, IllegalTransition, LeaseState, Lifecycle, MachineState, ModelState, OperationState,
    ReplicaState, SegmentState, WorkerState,
};
pub use machine::{Condition, Machine, Measurement, MeasurementKind, Severity};
pub use model::{
    BaseModel, CheckResult, Compatibility, CompatibilityCategory, CompatibilityCheck, Digest, DigestReport,
    DigestSpec, Dtype, FileChecksum, FileIdentity, Finding, FindingKind, FoundModel, Model, ModelComponent,
    ModelConfig, ModelContent, ModelFile, ModelFormat, ModelId, ModelNotes, ModelPath, ModelType, NotADigest,
    Observation, ValidateSpec, Validation, ValidationLevel, ValidationReport, Verdict,
};
pub use nearest::{Nearest, edits, nearest};
pub use operation::{
    Lane, Operation, OperationOutput, Outcome, PathProblem, ProbeSpec, Progress, ScanReport, ScanSpec, Work,
};
pub use quantity::{Bytes, Epoch, ParseBytesError, Position, Revision, ServiceTime, WallTime};
pub use reason::{ErrorKind, ErrorSeverity, Reason, Recovery};
pub use residency::{
    Intent, IntentPart, LoadReport, LoadSpec, LoadedComponent, ModelPart, Placement, Replica, UnloadReport,
    UnloadSpec, UnloadedReplica,
};
pub use segment::{Eviction, EvictionReason, Lease, LeaseId, LeasedOn, Segment, SegmentName};
pub use sum::Sum;
