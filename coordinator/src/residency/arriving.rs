//! Whether a load's replicas have got there, and what it means for a caller that one never will.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hoist_domain::{
    DeviceId, Digest, Error, Reason, Replica, ReplicaFailure, ReplicaId, ReplicaState, Result,
};
use hoist_planner::State;

/// All of these, if they can be used.
///
/// # Errors
/// When one of them never will.
pub(super) fn all_there(
    state: &State,
    device: DeviceId,
    ids: &BTreeSet<ReplicaId>,
) -> Result<Option<BTreeMap<ReplicaId, Arc<Replica>>>> {
    let (mut there, mut is_all) = (BTreeMap::new(), true);
    for id in ids {
        let Some(replica) = state.residency().replica(*id) else {
            let message = format!("the worker of {device} has ended, and what was on it is gone");
            let worker = state.devices().get(device).map(|known| &known.worker);
            let problem = worker.map(|worker| worker.problem.as_str()).filter(|problem| !problem.is_empty());
            let problem = problem.map(|problem| format!(": {problem}")).unwrap_or_default();
            let error = Error::new(Reason::WorkerLost, format!("{message}{problem}")).with("device", device);
            return Err(if worker.is_some_and(|worker| worker.is_supervised) {
                error
            } else {
                error.with(
                    "advice",
                    "start its worker again: it came by itself, and the server starts none in its place",
                )
            });
        };
        match (replica.state, &replica.failure) {
            (ReplicaState::Active, _) => drop(there.insert(*id, Arc::clone(replica))),
            (ReplicaState::Failed, failure) => return Err(failed(device, replica.digest, failure.as_ref())),
            // Nobody would bring it back for this load.
            (ReplicaState::Waiting, _) if state.cache().sealed(replica.digest).is_none() => {
                let lost =
                    ReplicaFailure::Segment("it was taken away before it was on the device".to_owned());
                return Err(failed(device, replica.digest, Some(&lost)));
            }
            // One behind it may have failed.
            _ => is_all = false,
        }
    }
    Ok(is_all.then_some(there))
}

/// What it means for a caller that a replica did not get there.
fn failed(device: DeviceId, digest: Digest, failure: Option<&ReplicaFailure>) -> Error {
    let error = match failure {
        Some(ReplicaFailure::NoMemory { needed, free }) => {
            let message = if free < needed {
                format!("{device} has {free} free, as its worker says, and {needed} are needed")
            } else {
                format!("the driver of {device} has refused {needed}, though it says that {free} are free")
            };
            let error = Error::new(Reason::VramExhausted, message);
            error.with("needed_bytes", needed.0).with("free_bytes", free.0)
        }
        Some(ReplicaFailure::Segment(why)) => Error::new(
            Reason::SourceChanged,
            format!(
                "a component could not be read from RAM: {why}; try again, it is read from the disk then"
            ),
        ),
        Some(ReplicaFailure::Unsupported(why)) => {
            Error::new(Reason::IncompatibleModel, format!("{device} cannot hold it: {why}"))
        }
        Some(ReplicaFailure::Device(why)) => {
            Error::new(Reason::DeviceFailed, format!("{device} failed: {why}"))
        }
        None => Error::new(Reason::DeviceFailed, format!("{device} failed, and did not say why")),
    };
    error.with("device", device).with("digest", digest)
}
