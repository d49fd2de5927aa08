//! The end of a load: what it has brought there stays on the model's account, or on nobody's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hoist_domain::{
    Bytes, DeviceId, Error, Intent, IntentPart, LoadSpec, ModelId, OperationId, Outcome, Reason, ReplicaId,
    ReplicaState, Work,
};

use super::resident::{Loading, LoadingPart, Want};
use crate::{Decision, Event, Moment, State};

/// What follows from the end of an operation for what it has loaded. What it has is judged once more: a worker may have ended
/// since its executor looked.
#[must_use]
pub fn settle(state: &State, id: OperationId, outcome: Outcome, now: Moment) -> (Decision, Outcome) {
    let residency = state.residency();
    let Some(loading) = residency.load(id) else { return (Vec::new(), outcome) };
    let lacks = || {
        loading.parts.iter().find(|part| {
            residency.replica(part.replica).is_none_or(|replica| replica.state != ReplicaState::Active)
        })
    };
    let outcome = match outcome {
        Outcome::Output(_) => match lacks() {
            None => outcome,
            Some(part) => Outcome::Failed(gone(loading.device, &part.component)),
        },
        ended => ended,
    };
    let mut events = Vec::new();
    if matches!(outcome, Outcome::Output(_)) {
        keep(state, loading, restored(state, id).is_some(), now, &mut events);
    }
    let wanted = residency.wanted_by_operation(id);
    events.extend(
        wanted.map(|(model, replica)| Event::ReplicaUnwanted { id: replica, by: Want::Operation(id, model) }),
    );
    (events, outcome)
}

/// What an executor says whose replica is not there any more.
pub(super) fn gone(device: DeviceId, component: &str) -> Error {
    let message = format!("the worker of {device} has ended while it had {component}");
    Error::new(Reason::WorkerLost, message).with("device", device)
}

/// What an operation brings back, if that is what it is for.
pub(super) fn restored(state: &State, id: OperationId) -> Option<&LoadSpec> {
    state.operation(id).and_then(|operation| match &operation.work {
        Work::LoadModel(spec) => Some(spec).filter(|spec| !spec.restores.is_empty()),
        _ => None,
    })
}

/// Each model has from now on what was loaded for it, beside what it had.
fn keep(state: &State, loading: &Loading, is_restore: bool, now: Moment, events: &mut Decision) {
    let (residency, device) = (state.residency(), loading.device);
    let mut loaded: BTreeMap<ModelId, Vec<(IntentPart, ReplicaId)>> = BTreeMap::new();
    // What was brought back is kept as far as somebody has not let it go meanwhile.
    let is_kept = |part: &&LoadingPart| {
        !is_restore
            || residency.intent(device, part.model).is_some_and(|intent| {
                let is_it = |one: &IntentPart| (&one.component, one.digest) == (&part.component, part.digest);
                intent.parts.iter().any(is_it)
            })
    };
    for part in loading.parts.iter().filter(is_kept) {
        let bytes = residency.replica(part.replica).map_or(Bytes(0), |replica| replica.charge());
        let intended =
            IntentPart { component: part.component.clone(), digest: part.digest, dtype: part.dtype, bytes };
        loaded.entry(part.model).or_default().push((intended, part.replica));
    }
    if loaded.is_empty() {
        // Nothing stays, so nobody has made room for it.
        return;
    }
    // Of each other load, whom it has displaced still.
    let mut displacing: BTreeMap<OperationId, Vec<ModelId>> = BTreeMap::new();
    for (model, parts) in loaded {
        let by = Want::Intent(model);
        let mut wanted: BTreeSet<ReplicaId> = parts.iter().map(|(_, replica)| *replica).collect();
        // What another load has displaced is not here any more: of that only what is loaded now counts.
        let by_others =
            residency.loads().filter(|(_, load)| load.device == device && load.displaced.contains(&model));
        let mut is_displaced = false;
        for (id, load) in by_others {
            is_displaced = true;
            let left = displacing.entry(*id).or_insert_with(|| load.displaced.clone());
            left.retain(|one| *one != model);
        }
        let before = residency.intent(device, model).filter(|_| !is_displaced);
        let stays = |one: &&IntentPart| parts.iter().all(|(new, _)| new.component != one.component);
        let mut all: Vec<IntentPart> =
            before.iter().flat_map(|intent| &intent.parts).filter(stays).cloned().collect();
        // What stays is wanted as before; what was replaced is wanted no more, unless it is the same.
        let staying = all.iter().filter_map(|part| residency.sharing(device, part.digest, part.dtype));
        wanted.extend(staying.map(|replica| replica.id));
        let priority = before.map_or(loading.priority, |intent| intent.priority.max(loading.priority));
        for (part, replica) in parts {
            all.push(part);
            events.push(Event::ReplicaWanted { id: replica, by, priority });
        }
        let replaced = residency.wanted_by_intent(model).filter(|one| one.device == device);
        let replaced = replaced.filter(|one| !wanted.contains(&one.id));
        events.extend(replaced.map(|one| Event::ReplicaUnwanted { id: one.id, by }));
        all.sort_by(|one, other| one.component.cmp(&other.component));
        let intent = Intent { model, device, parts: all, priority, recorded_at: now.wall };
        events.push(Event::IntentRecorded(Arc::new(intent)));
    }
    for (id, displaced) in displacing {
        if let Some(load) = residency.load(id) {
            let loading = Arc::new(Loading { displaced, ..Loading::clone(load) });
            events.push(Event::LoadAdmitted { id, loading });
        }
    }
    // They have made room, for good.
    let displaced = loading.displaced.iter().filter(|model| residency.intent(device, **model).is_some());
    events.extend(displaced.map(|model| Event::IntentRetracted { device, model: *model }));
}
