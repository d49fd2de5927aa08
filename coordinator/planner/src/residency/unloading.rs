//! What somebody wants off devices.

use std::collections::BTreeSet;
use std::sync::Arc;

use hoist_domain::{
    Bytes, DeviceId, Digest, Error, Intent, IntentPart, ModelId, ModelPart, OperationId, OperationState,
    Reason, Replica, ReplicaId, ResourceName, Result,
};

use super::resident::{Loading, LoadingPart, Want};
use super::room::{Content, leased};
use super::settling::is_restore;
use crate::{Decision, Event, State};

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

/// Judges it. What is not there is no error; nothing comes of it.
///
/// # Errors
/// IN_USE when somebody has leased it, unless forced: then nothing goes.
pub fn unload(state: &State, ask: &UnloadAsk) -> Result<(Decision, Vec<Leaving>)> {
    let residency = state.residency();
    let mut going: BTreeSet<(ReplicaId, ModelId)> = BTreeSet::new();
    let (mut intents, mut recorded) = (Vec::new(), Vec::new());
    for part in &ask.parts {
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
    let ids: BTreeSet<ReplicaId> = going.iter().map(|(id, _)| *id).collect();
    let leaving = ids.into_iter().filter_map(|id| residency.replica(id)).map(|replica| Leaving {
        replica: replica.id,
        device: replica.device,
        digest: replica.digest,
        expected: Bytes(replica.own.0.saturating_add(replica.mapped.0)),
        kept: kept_by(state, replica, &going),
    });
    let leaving = leaving.collect();
    Ok((events, leaving))
}

/// Running loads that bring back nothing but what is let go: nobody waits for them.
fn restores_of(state: &State, out: &Intent) -> Decision {
    let is_out = |part: &LoadingPart| {
        part.model == out.model && out.parts.iter().any(|one| one.component == part.component)
    };
    let is_moot = |id: &OperationId, load: &Loading| {
        load.device == out.device && is_restore(state, *id) && load.parts.iter().all(is_out)
    };
    let moot = state.residency().loads().filter(|(id, load)| is_moot(id, load)).map(|(id, _)| *id);
    let runs = |id: &OperationId| {
        let operation = state.operation(*id);
        operation.is_some_and(|one| one.state == OperationState::Running && !one.cancel_requested)
    };
    moot.filter(runs).map(|id| Event::OperationCancelRequested { id }).collect()
}

/// Who else wants it.
fn kept_by(state: &State, replica: &Replica, going: &BTreeSet<(ReplicaId, ModelId)>) -> Option<String> {
    let is_other = |want: &Want| match want {
        Want::Intent(model) => !going.contains(&(replica.id, *model)),
        Want::Operation(..) => true,
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
