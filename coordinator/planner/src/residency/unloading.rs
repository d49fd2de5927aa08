//! What somebody wants off devices.

use std::collections::BTreeSet;
use std::sync::Arc;

use hoist_domain::{
    Bytes, DeviceId, Digest, Error, Intent, IntentPart, ModelId, ModelPart, Operation, OperationId,
    OperationState, Placement, Reason, Replica, ReplicaId, ResourceName, Result, Work,
};

use super::leased::{leased, revoked_of};
use super::resident::{Loading, Want};
use super::room::Content;
use super::settling::restored;
use crate::{Decision, Event, Moment, State};

/// What somebody wants off devices. All of it is judged together.
#[derive(Clone, Debug)]
pub struct UnloadAsk {
    pub parts: Vec<ModelPart>,
    /// Unset: wherever it is.
    pub device: Option<DeviceId>,
    pub force: bool,
}

/// What becomes of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    pub replica: ReplicaId,
    pub device: DeviceId,
    pub digest: Digest,
    /// What it takes of the device now.
    pub expected: Bytes,
    /// Why it stays.
    pub kept: Option<String>,
}

/// Judges it. What is not there is no error; nothing comes of it. What is on its way there is stopped, if that is forced.
///
/// # Errors
/// IN_USE when somebody has leased it, or loads it just now, unless forced: then nothing goes.
pub fn unload(state: &State, ask: &UnloadAsk, now: Moment) -> Result<(Decision, Vec<Leaving>)> {
    let residency = state.residency();
    let mut going: BTreeSet<(ReplicaId, ModelId)> = BTreeSet::new();
    let (mut intents, mut recorded) = (Vec::new(), Vec::new());
    let mut stopped: BTreeSet<OperationId> = BTreeSet::new();
    for part in &ask.parts {
        for operation in loads_of(state, part, ask.device) {
            if !ask.force {
                return Err(being_loaded(state, part.model, operation));
            }
            stopped.insert(operation.id);
        }
        let is_meant = |intent: &&Arc<Intent>| {
            intent.model == part.model && ask.device.is_none_or(|device| device == intent.device)
        };
        for intent in residency.intents().filter(is_meant) {
            let (out, stays): (Vec<IntentPart>, Vec<IntentPart>) = intent
                .parts
                .iter()
                .cloned()
                .partition(|one| part.components.is_empty() || part.components.contains(&one.component));
            if out.is_empty() {
                continue;
            }
            let content = |one: &IntentPart| (one.digest, one.dtype);
            // Two components of one model may be equal: then one keeps what goes as the other.
            let kept: BTreeSet<Content> = stays.iter().map(content).collect();
            let theirs = residency.wanted_by_intent(intent.model).filter(|one| one.device == intent.device);
            let theirs = theirs.filter(|one| !kept.contains(&(one.digest, one.dtype)));
            going.extend(theirs.map(|one| (one.id, intent.model)));
            let out = Intent { parts: out, ..Intent::clone(intent) };
            if !ask.force
                && let Some(holder) = leased(state, &out)
            {
                return Err(in_use(state, &out, &holder));
            }
            intents.push(out);
            recorded.push(if stays.is_empty() {
                Event::IntentRetracted { device: intent.device, model: intent.model }
            } else {
                Event::IntentRecorded(Arc::new(Intent { parts: stays, ..Intent::clone(intent) }))
            });
        }
    }
    let mut events = recorded;
    events
        .extend(going.iter().map(|(id, model)| Event::ReplicaUnwanted { id: *id, by: Want::Intent(*model) }));
    events.extend(intents.iter().flat_map(|out| restores_of(state, out)));
    let running = stopped.iter().filter(|id| is_running(state, **id));
    events.extend(running.map(|id| Event::OperationCancelRequested { id: *id }));
    let is_asked = |model: &ModelId| ask.parts.iter().any(|part| part.model == *model);
    let wanted = |id: &OperationId| {
        let by = *id;
        residency.wanted_by_operation(by).map(move |(model, replica)| (replica, Want::Operation(by, model)))
    };
    let coming: Vec<(ReplicaId, Want)> = stopped.iter().flat_map(wanted).collect();
    // All of it, and now, not at the end of their operations: nobody else is to rely on it.
    events.extend(coming.iter().map(|(id, by)| Event::ReplicaUnwanted { id: *id, by: *by }));
    let coming = coming.into_iter().filter(|(_, by)| is_asked(&by.model())).map(|(id, _)| id);
    let ids: BTreeSet<ReplicaId> = going.iter().map(|(id, _)| *id).chain(coming).collect();
    let leaving = ids.into_iter().filter_map(|id| residency.replica(id)).map(|replica| Leaving {
        replica: replica.id,
        device: replica.device,
        digest: replica.digest,
        expected: Bytes(replica.own.0.saturating_add(replica.mapped.0)),
        kept: kept_by(state, replica, &going, &stopped),
    });
    let leaving: Vec<Leaving> = leaving.collect();
    // Whoever holds what goes is told before it does.
    let mut all = revoked_of(state, going, "it was unloaded by force", now);
    all.extend(events);
    Ok((all, leaving))
}

/// Running loads that bring back nothing but what is let go: nobody waits for them.
fn restores_of(state: &State, out: &Intent) -> Decision {
    let is_model = |part: &ModelPart| part.model == out.model;
    let is_out = |part: &IntentPart| out.parts.iter().any(|one| one.component == part.component);
    let is_moot = |id: &OperationId, load: &Loading| {
        load.device == out.device
            && restored(state, *id)
                .is_some_and(|spec| spec.parts.iter().all(is_model) && spec.restores.iter().all(is_out))
    };
    let moot = state.residency().loads().filter(|(id, load)| is_moot(id, load)).map(|(id, _)| *id);
    moot.filter(|id| is_running(state, *id)).map(|id| Event::OperationCancelRequested { id }).collect()
}

/// Whether an operation runs that nobody has told to stop.
fn is_running(state: &State, id: OperationId) -> bool {
    let operation = state.operation(id);
    operation.is_some_and(|one| one.state == OperationState::Running && !one.cancel_requested)
}

/// Loads at work that bring any of this to the device, or to any: somebody waits for them. Not those that bring back what was lost.
fn loads_of<'a>(
    state: &'a State,
    part: &'a ModelPart,
    device: Option<DeviceId>,
) -> impl Iterator<Item = &'a Arc<Operation>> {
    let shares = move |other: &ModelPart| {
        let is_all = part.components.is_empty() || other.components.is_empty();
        other.model == part.model
            && (is_all || other.components.iter().any(|one| part.components.contains(one)))
    };
    let is_there = move |id: OperationId, placement: Placement| {
        let chosen = state.residency().load(id).map(|load| load.device);
        let chosen = chosen.or(if let Placement::On(device) = placement { Some(device) } else { None });
        device.is_none_or(|device| chosen.is_none_or(|chosen| chosen == device))
    };
    state.active_operations().filter(move |operation| match &operation.work {
        Work::LoadModel(spec) => {
            operation.state == OperationState::Running
                && spec.restores.is_empty()
                && spec.parts.iter().any(shares)
                && is_there(operation.id, spec.placement)
        }
        _ => false,
    })
}

fn being_loaded(state: &State, model: ModelId, operation: &Operation) -> Error {
    let name = ResourceName::Model(model);
    let known = state.models().get(model).map_or_else(|| name.to_string(), |known| known.name().to_owned());
    let message = format!("{known} is being loaded: operations/{} is not done", operation.id);
    let advice = "wait for it, cancel it, or force: that cancels it";
    Error::new(Reason::InUse, message).with("model", name).with("advice", advice)
}

/// Who else wants it.
fn kept_by(
    state: &State,
    replica: &Replica,
    going: &BTreeSet<(ReplicaId, ModelId)>,
    stopped: &BTreeSet<OperationId>,
) -> Option<String> {
    let is_other = |want: &Want| match want {
        Want::Intent(model) => !going.contains(&(replica.id, *model)),
        Want::Operation(id, _) => !stopped.contains(id),
    };
    let name = |model: ModelId| {
        state
            .models()
            .get(model)
            .map_or_else(|| ResourceName::Model(model).to_string(), |model| model.name().to_owned())
    };
    state.residency().wants_of(replica.id).find(is_other).map(|want| match want {
        Want::Intent(model) => format!("{} shares it, and is loaded", name(model)),
        Want::Operation(id, model) => format!("operations/{id} loads it for {}", name(model)),
    })
}

fn in_use(state: &State, intent: &Intent, holder: &str) -> Error {
    let model = ResourceName::Model(intent.model);
    let name =
        state.models().get(intent.model).map_or_else(|| model.to_string(), |known| known.name().to_owned());
    let message = format!("{name} is in use on {}: {holder}; release it, or force", intent.device);
    Error::new(Reason::InUse, message).with("model", model).with("device", intent.device)
}
