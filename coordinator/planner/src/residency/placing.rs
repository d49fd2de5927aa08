//! A load on its way: a device and room first, then replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hoist_domain::{
    Bytes, DeviceId, Digest, Dtype, Error, ModelId, OperationId, OperationState, Placement, Reason, Replica,
    ReplicaId, ReplicaState, Result, SegmentName,
};

use super::choosing::{LoadAsk, Offer, choose, is_there};
use super::resident::{Loading, LoadingPart, Want};
use crate::cache::{Holder, Interest};
use crate::{Decision, Event, Moment, State};

/// Judges a load whose contents are not all in RAM: its device is chosen, and room on it reserved. Making that room waits
/// until there is something to put there.
///
/// # Errors
/// As [`choose`]; OPERATION_CANCELLED when its operation does not run any more.
pub fn admit(state: &State, id: OperationId, ask: &LoadAsk) -> Result<(Decision, Offer)> {
    must_run(state, id)?;
    let offer = choose(state, ask, Some(id))?;
    let loading = Loading {
        device: offer.device,
        priority: ask.priority,
        room: offer.needed,
        displaced: Vec::new(),
        parts: Vec::new(),
    };
    Ok((vec![Event::LoadAdmitted { id, loading: Arc::new(loading) }], offer))
}

/// A load whose contents are all in RAM, as far as its executor knows.
#[derive(Clone, Debug)]
pub struct PlaceAsk {
    pub operation: OperationId,
    pub load: LoadAsk,
    /// For replicas that are new: one for each part.
    pub ids: Vec<ReplicaId>,
    /// It is a use of what is in RAM, and was not counted as one.
    pub is_use: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Placed {
    On {
        offer: Offer,
        /// For each part.
        parts: Vec<PlacedPart>,
    },
    /// Something of it is not in RAM, or not any more: nothing was done.
    NotInRam,
}

/// Where one part is, or will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedPart {
    pub replica: ReplicaId,
    pub digest: Digest,
    /// It could be used before.
    pub was_there: bool,
}

/// Brings what is in RAM to a device, on the account of its operation.
///
/// # Errors
/// As [`admit`].
pub fn place(state: &State, ask: &PlaceAsk, now: Moment) -> Result<(Decision, Placed)> {
    must_run(state, ask.operation)?;
    let mut load = ask.load.clone();
    if let Some(admitted) = state.residency().load(ask.operation) {
        load.placement = Placement::On(admitted.device);
    }
    let Some(contents) = contents(state, &load) else { return Ok((Vec::new(), Placed::NotInRam)) };
    let offer = choose(state, &load, Some(ask.operation))?;
    let mut placing =
        Placing { state, ask, device: offer.device, made: BTreeMap::new(), events: Vec::new(), now };
    let parts: Vec<PlacedPart> = contents
        .iter()
        .zip(&load.parts)
        .zip(&ask.ids)
        .map(|((digest, part), id)| placing.part(*digest, part.dtype, part.model, part.bytes, *id))
        .collect();
    let mut events = placing.events;
    if ask.is_use {
        let names: BTreeSet<(Digest, ModelId)> =
            contents.iter().zip(&load.parts).map(|(digest, part)| (*digest, part.model)).collect();
        let wanted = names.into_iter().map(|(digest, model)| Event::SegmentWanted {
            name: SegmentName::Content(digest),
            interest: Interest {
                by: Holder::Operation(ask.operation),
                model,
                priority: load.priority,
                is_use: true,
                at: now.service,
            },
        });
        events.extend(wanted);
    }
    let loading = Loading {
        device: offer.device,
        priority: load.priority,
        room: Bytes(0),
        displaced: displaced(state, &load, &offer, &parts),
        parts: load
            .parts
            .iter()
            .zip(&parts)
            .map(|(part, placed)| LoadingPart {
                model: part.model,
                component: part.component.clone(),
                digest: placed.digest,
                dtype: part.dtype,
                replica: placed.replica,
            })
            .collect(),
    };
    events.insert(0, Event::LoadAdmitted { id: ask.operation, loading: Arc::new(loading) });
    // After what is wanted: what both have stays.
    for model in &offer.unload {
        let residency = state.residency();
        let theirs = residency.wanted_by_intent(*model).filter(|one| one.device == offer.device);
        events.extend(theirs.map(|one| Event::ReplicaUnwanted { id: one.id, by: Want::Intent(*model) }));
    }
    Ok((events, Placed::On { offer, parts }))
}

/// Whose intents end with its success: those that make room for it, and those that have made room for what it shares. If it
/// fails, all of them hold again, unless somebody else who shares it succeeds.
fn displaced(state: &State, load: &LoadAsk, offer: &Offer, parts: &[PlacedPart]) -> Vec<ModelId> {
    let shares = |other: &Loading| {
        other.device == offer.device
            && other.parts.iter().any(|theirs| parts.iter().any(|part| part.replica == theirs.replica))
    };
    let others = state.residency().loads().filter(|(_, other)| shares(other));
    let inherited = others.flat_map(|(_, other)| other.displaced.iter().copied());
    let inherited = inherited.filter(|model| load.parts.iter().all(|part| part.model != *model));
    let all: BTreeSet<ModelId> = offer.unload.iter().copied().chain(inherited).collect();
    all.into_iter().collect()
}

/// The contents of all parts, if they are complete in RAM.
fn contents(state: &State, load: &LoadAsk) -> Option<Vec<Digest>> {
    let content = |digest: Option<Digest>| digest.filter(|digest| state.cache().sealed(*digest).is_some());
    load.parts.iter().map(|part| content(part.digest)).collect()
}

/// Replicas of one load, each content once.
struct Placing<'a> {
    state: &'a State,
    ask: &'a PlaceAsk,
    device: DeviceId,
    made: BTreeMap<(Digest, Option<Dtype>), PlacedPart>,
    events: Decision,
    now: Moment,
}

impl Placing<'_> {
    fn part(
        &mut self,
        digest: Digest,
        dtype: Option<Dtype>,
        model: ModelId,
        bytes: Bytes,
        id: ReplicaId,
    ) -> PlacedPart {
        let content = (digest, dtype);
        let shared = self.state.residency().sharing(self.device, digest, dtype).map(|known| known.id);
        let placed = match (self.made.get(&content), shared) {
            (Some(made), _) => *made,
            (None, Some(replica)) => {
                PlacedPart { replica, digest, was_there: is_there(self.state, self.device, digest, dtype) }
            }
            (None, None) => {
                self.events.push(Event::ReplicaPlaced(Arc::new(Replica {
                    id,
                    device: self.device,
                    digest,
                    dtype,
                    state: ReplicaState::Waiting,
                    models: BTreeSet::new(),
                    priority: self.ask.load.priority,
                    planned: bytes,
                    own: Bytes(0),
                    mapped: Bytes(0),
                    tensors: 0,
                    load_time: None,
                    failure: None,
                    since: self.now.wall,
                })));
                PlacedPart { replica: id, digest, was_there: false }
            }
        };
        self.made.insert(content, placed);
        let by = Want::Operation(self.ask.operation, model);
        self.events.push(Event::ReplicaWanted { id: placed.replica, by, priority: self.ask.load.priority });
        placed
    }
}

/// Nothing is wanted on the account of an operation that has ended: nobody would give it up again.
fn must_run(state: &State, id: OperationId) -> Result<()> {
    match state.operation(id).map(|operation| operation.state) {
        Some(OperationState::Running) => Ok(()),
        _ => Err(Error::new(Reason::OperationCancelled, "the operation has ended")),
    }
}
