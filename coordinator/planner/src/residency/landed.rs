//! What follows from what is durable for what is not.
//!
//! A commit may fail and have landed all the same. Of what was decided then the disk has only what is durable, and that is what
//! counts; the rest was decided on a state that has moved on since. So it is made anew here, out of the durable events and the
//! state as it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use hoist_domain::{Device, DeviceState, DevicesPolicy, Intent, ReplicaId};

use super::resident::Want;
use crate::{Decision, Event, State};

/// Durable events that have landed by themselves, and what they mean for devices and replicas.
#[must_use]
pub fn landed(state: &State, durable: &[Event]) -> Decision {
    let mut events: Decision = durable.iter().flat_map(|event| before(state, event)).collect();
    // What is wanted by somebody else is not let go first.
    events.sort_by_key(|event| matches!(event, Event::ReplicaUnwanted { .. }));
    events.extend(durable.iter().cloned());
    events
}

fn before(state: &State, event: &Event) -> Decision {
    let residency = state.residency();
    match event {
        Event::OperationEnded { id, .. } => residency
            .wanted_by_operation(*id)
            .map(|(model, replica)| Event::ReplicaUnwanted { id: replica, by: Want::Operation(*id, model) })
            .collect(),
        Event::IntentRecorded(intent) => wanted_as(state, intent),
        Event::IntentRetracted { device, model } => residency
            .wanted_by_intent(*model)
            .filter(|one| one.device == *device)
            .map(|one| Event::ReplicaUnwanted { id: one.id, by: Want::Intent(*model) })
            .collect(),
        Event::DevicesPolicyChanged(policy) => cordoned_as(state, policy),
        _ => Vec::new(),
    }
}

/// The model wants what it names, as far as it is there, and nothing else on its device.
fn wanted_as(state: &State, intent: &Intent) -> Decision {
    let residency = state.residency();
    let by = Want::Intent(intent.model);
    let named =
        intent.parts.iter().filter_map(|part| residency.sharing(intent.device, part.digest, part.dtype));
    let named: BTreeSet<ReplicaId> = named.map(|replica| replica.id).collect();
    let wanted: BTreeSet<ReplicaId> = residency
        .wanted_by_intent(intent.model)
        .filter(|one| one.device == intent.device)
        .map(|one| one.id)
        .collect();
    let more = named.difference(&wanted);
    let more = more.map(|id| Event::ReplicaWanted { id: *id, by, priority: intent.priority });
    let less = wanted.difference(&named).map(|id| Event::ReplicaUnwanted { id: *id, by });
    more.chain(less).collect()
}

/// Devices are cordoned as people say, and no others.
fn cordoned_as(state: &State, policy: &DevicesPolicy) -> Decision {
    let other =
        state.devices().iter().filter(|device| device.cordoned.as_ref() != policy.cordoned.get(&device.id));
    let changed = other.map(|device| {
        let cordoned = policy.cordoned.get(&device.id).cloned();
        let next = match (device.state, &cordoned) {
            (DeviceState::Open, Some(_)) => DeviceState::Cordoned,
            (DeviceState::Cordoned, None) => DeviceState::Open,
            (state, _) => state,
        };
        Event::DeviceChanged(Arc::new(Device { cordoned, state: next, ..Device::clone(device) }))
    });
    changed.collect()
}
