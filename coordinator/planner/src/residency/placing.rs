//! A load on its way: a device and room first, then replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hoist_domain::{
    Bytes, DeviceId, Digest, Dtype, Error, ModelId, OperationId, OperationState, Placement, Reason, Replica,
    ReplicaId, ReplicaState, Result, SegmentName, SegmentState,
};

use super::choosing::{LoadAsk, Offer, Wanted, awaited, choose, is_there, needed};
use super::resident::{Loading, LoadingPart, Want};
use super::room::Content;
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
        awaited: awaited(state, offer.device, ask),
        displaced: Vec::new(),
        parts: Vec::new(),
    };
    Ok((vec![Event::LoadAdmitted { id, loading: Arc::new(loading) }], offer))
}

/// A load whose contents are all in RAM, or on its device, as far as its executor knows.
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
    /// Something of it is neither in RAM nor on the device, or not any more: nothing was done.
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
    let offer = choose(state, &load, Some(ask.operation))?;
    let Some(contents) = contents(state, &load, offer.device) else {
        return Ok((Vec::new(), Placed::NotInRam));
    };
    let mut placing = Placing::on(state, ask, offer.device, now);
    let parts: Vec<PlacedPart> = contents
        .iter()
        .zip(&load.parts)
        .zip(&ask.ids)
        .map(|((digest, part), id)| placing.part(part, *digest, *id))
        .collect();
    if ask.is_use {
        placing.count_as_use();
    }
    let displaced = displaced(state, &load, &offer, &parts);
    let mut events = placing.loading((Bytes(0), BTreeSet::new()), displaced);
    // After what is wanted: what both have stays.
    for model in &offer.unload {
        let residency = state.residency();
        let theirs = residency.wanted_by_intent(*model).filter(|one| one.device == offer.device);
        events.extend(theirs.map(|one| Event::ReplicaUnwanted { id: one.id, by: Want::Intent(*model) }));
    }
    Ok((events, Placed::On { offer, parts }))
}

/// Brings that of an admitted load to its device which its operation holds in RAM already, or is filling by now, while the rest
/// is still read. Only where nobody has to make room for it: nobody is sent away for a load that may yet fail for its files. What is not done here
/// is done by [`place`].
///
/// # Errors
/// OPERATION_CANCELLED when its operation does not run any more.
pub fn place_early(state: &State, ask: &PlaceAsk, held: &BTreeSet<Digest>, now: Moment) -> Result<Decision> {
    must_run(state, ask.operation)?;
    let Some(admitted) = state.residency().load(ask.operation) else { return Ok(Vec::new()) };
    let device = admitted.device;
    let load = LoadAsk { placement: Placement::On(device), force: false, ..ask.load.clone() };
    let Ok(offer) = choose(state, &load, Some(ask.operation)) else { return Ok(Vec::new()) };
    let mut placing = Placing::on(state, ask, device, now);
    let (mut rest, mut parts) = (Vec::new(), Vec::new());
    for (part, id) in load.parts.iter().zip(&ask.ids) {
        let may_come =
            |digest: &Digest| held.contains(digest) && may_come(state, ask.operation, part, *digest, device);
        match part.digest.filter(may_come) {
            Some(digest) => parts.push(placing.part(part, digest, *id)),
            None => rest.push(part.clone()),
        }
    }
    if placing.is_as_before() {
        return Ok(Vec::new());
    }
    let displaced = displaced(state, &load, &offer, &parts);
    let rest = LoadAsk { parts: rest, ..load };
    let room = (needed(state, device, &rest), awaited(state, device, &rest));
    Ok(placing.loading(room, displaced))
}

/// Whether something that an operation holds can be on its way to a device: it is complete; or it is copied as it comes, and what
/// it will be is known.
fn may_come(state: &State, id: OperationId, part: &Wanted, digest: Digest, device: DeviceId) -> bool {
    let name = SegmentName::Content(digest);
    let facts = state.devices().get(device).and_then(|device| device.facts.as_ref());
    match state.cache().segment(name).map(|segment| segment.state) {
        Some(SegmentState::Sealed) => true,
        Some(SegmentState::Filling) => {
            state.cache().filler(name) == Some(id)
                && part.dtype.is_none()
                && facts.is_some_and(|facts| !facts.maps_segments)
        }
        _ => false,
    }
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

/// The contents of all parts, if each is complete in RAM, or can be used on the device already.
fn contents(state: &State, load: &LoadAsk, device: DeviceId) -> Option<Vec<Digest>> {
    let content = |part: &Wanted| {
        let is_at_hand = |digest: &Digest| {
            state.cache().sealed(*digest).is_some() || is_there(state, device, *digest, part.dtype)
        };
        part.digest.filter(is_at_hand)
    };
    load.parts.iter().map(content).collect()
}

/// Replicas of one load, each content once.
struct Placing<'a> {
    state: &'a State,
    ask: &'a PlaceAsk,
    device: DeviceId,
    /// What was placed for it before.
    before: &'a [LoadingPart],
    made: BTreeMap<(Digest, Option<Dtype>), PlacedPart>,
    parts: Vec<LoadingPart>,
    events: Decision,
    now: Moment,
}

impl<'a> Placing<'a> {
    fn on(state: &'a State, ask: &'a PlaceAsk, device: DeviceId, now: Moment) -> Self {
        let before = state.residency().load(ask.operation).map_or(&[][..], |load| &load.parts);
        let (made, parts, events) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { state, ask, device, before, made, parts, events, now }
    }

    fn part(&mut self, part: &Wanted, digest: Digest, id: ReplicaId) -> PlacedPart {
        let content = (digest, part.dtype);
        if let Some(failed) = self.has_failed(content) {
            // This load has tried it: its failure is the answer, not a second try.
            let placed = PlacedPart { replica: failed.replica, digest, was_there: false };
            self.parts.push(failed.clone());
            return placed;
        }
        let shared = self.state.residency().sharing(self.device, digest, part.dtype).map(|known| known.id);
        let placed = match (self.made.get(&content), shared) {
            (Some(made), _) => *made,
            (None, Some(replica)) => {
                let before = self.before.iter().find(|before| before.replica == replica);
                let was_there = before.map_or_else(
                    || is_there(self.state, self.device, digest, part.dtype),
                    |before| before.was_there,
                );
                PlacedPart { replica, digest, was_there }
            }
            (None, None) => {
                self.events.push(Event::ReplicaPlaced(Arc::new(Replica {
                    id,
                    device: self.device,
                    digest,
                    dtype: part.dtype,
                    state: ReplicaState::Waiting,
                    models: BTreeSet::new(),
                    priority: self.ask.load.priority,
                    planned: part.takes(self.state, self.device),
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
        self.parts.push(LoadingPart {
            model: part.model,
            component: part.component.clone(),
            digest,
            dtype: part.dtype,
            replica: placed.replica,
            was_there: placed.was_there,
        });
        let by = Want::Operation(self.ask.operation, part.model);
        self.events.push(Event::ReplicaWanted { id: placed.replica, by, priority: self.ask.load.priority });
        placed
    }

    /// What was placed for this load before, and did not get there.
    fn has_failed(&self, content: (Digest, Option<Dtype>)) -> Option<&'a LoadingPart> {
        let is_it = |before: &&LoadingPart| (before.digest, before.dtype) == content;
        let replica = |before: &LoadingPart| self.state.residency().replica(before.replica);
        let has_failed = |before: &&LoadingPart| {
            replica(before).is_some_and(|replica| replica.state == ReplicaState::Failed)
        };
        self.before.iter().filter(is_it).find(has_failed)
    }

    /// What it loads from RAM was of use there.
    fn count_as_use(&mut self) {
        let is_in_ram = |part: &&LoadingPart| self.state.cache().sealed(part.digest).is_some();
        let names: BTreeSet<(Digest, ModelId)> =
            self.parts.iter().filter(is_in_ram).map(|part| (part.digest, part.model)).collect();
        let wanted = names.into_iter().map(|(digest, model)| Event::SegmentWanted {
            name: SegmentName::Content(digest),
            interest: Interest {
                by: Holder::Operation(self.ask.operation),
                model,
                priority: self.ask.load.priority,
                is_use: true,
                at: self.now.service,
            },
        });
        self.events.extend(wanted);
    }

    /// Whether nothing is placed that was not before.
    fn is_as_before(&self) -> bool {
        self.parts.iter().all(|part| self.before.contains(part))
    }

    /// Everything that was decided; the load itself first.
    fn loading(self, (room, awaited): (Bytes, BTreeSet<Content>), displaced: Vec<ModelId>) -> Decision {
        let Self { ask, device, parts, events, .. } = self;
        let loading = Loading { device, priority: ask.load.priority, room, awaited, displaced, parts };
        let mut all = vec![Event::LoadAdmitted { id: ask.operation, loading: Arc::new(loading) }];
        all.extend(events);
        all
    }
}

/// Nothing is wanted on the account of an operation that has ended: nobody would give it up again.
fn must_run(state: &State, id: OperationId) -> Result<()> {
    match state.operation(id).map(|operation| operation.state) {
        Some(OperationState::Running) => Ok(()),
        _ => Err(Error::new(Reason::OperationCancelled, "the operation has ended")),
    }
}
