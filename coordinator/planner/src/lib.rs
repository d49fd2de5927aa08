//! Pure decisions.
//!
//! The state, the events that change it, and the rules by which requests become events. Everything here is a
//! function of its arguments: time, ids and limits are handed in, nothing is read or written, and the manifest
//! proves it. The one caller is the coordinator's control loop, which owns the state, makes events durable, applies
//! them and carries their effects out.

pub mod cache;
mod catalog;
mod decide;
pub mod devices;
mod event;
mod models;
pub mod residency;
mod state;

pub use catalog::{CatalogChanges, Examination, delete_model, edit, etag_mismatch, examined, observe};
pub use decide::{
    Decision, Limits, Moment, Submission, Submitted, begin_drain, cancel, clear, deadline_exceeded, delete,
    expire, finish, is_known, once, raise, record, recover, repeated, schedule, submit,
};
pub use event::{Answer, Change, Delta, Event, RequestRecord};
pub use models::Models;
pub use state::{OperationCounts, Record, Resource, State};
