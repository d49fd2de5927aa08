//! How much of a device may still be promised, and who could make room on it.
//!
//! What nobody wants any more counts as free: a worker gives it back before it takes anything new.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hoist_domain::{
    Bytes, DeviceId, Digest, Dtype, Intent, IntentPart, ModelId, OperationId, Priority, Replica, ReplicaId,
    ReplicaState,
};

use super::choosing::Wanted;
use super::leased::leased;
use super::resident::Want;
use crate::State;

/// What is a component on a device: its content, in a type of elements.
pub(super) type Content = (Digest, Option<Dtype>);

/// What may still be put on a device: the least of what its size leaves beside what was promised, and of what its worker says
/// is free. Promised is also what was lost with a worker, until it is back. For an operation its own reservation counts as
/// free, and so does what it asks for: that is what it needs the room for.
#[must_use]
pub fn free(state: &State, id: DeviceId, own: Option<OperationId>, asked: &[Wanted]) -> Bytes {
    let room = room(state, id, own);
    let owed = owed(state, id, own, asked, room);
    let others = owed.into_values().map(|bytes| bytes.0).fold(0, u64::saturating_add);
    Bytes(room.saturating_sub(others))
}

/// The same before anything is kept for what was lost.
fn room(state: &State, id: DeviceId, own: Option<OperationId>) -> u64 {
    let Some(device) = state.devices().get(id) else { return 0 };
    let capacity = device.facts.as_ref().map_or(0, |facts| facts.capacity.0);
    let residency = state.residency();
    let (mut promised, mut coming, mut leaving) = (0_u64, 0_u64, 0_u64);
    for replica in residency.on(id) {
        let charge = replica.charge().0;
        if !residency.is_wanted(replica.id) {
            leaving = leaving.saturating_add(taken(replica));
            continue;
        }
        promised = promised.saturating_add(charge);
        if replica.state != ReplicaState::Active {
            // What it has taken already is not among what its worker says is free.
            coming = coming.saturating_add(charge.saturating_sub(taken(replica)));
        }
    }
    let reserved = residency.loads().filter(|(of, load)| Some(**of) != own && load.device == id);
    let reserved = reserved.map(|(_, load)| load.room.0).fold(0, u64::saturating_add);
    let reserved = reserved.saturating_add(kept_for_displaced(state, id, own));
    let by_size = capacity.saturating_sub(promised).saturating_sub(reserved);
    let said = device.memory.free.0.saturating_add(leaving).saturating_sub(coming).saturating_sub(reserved);
    by_size.min(said)
}

/// What is owed to intents that are not met, each content once: what was lost, and comes back. But for what is asked for.
fn owed(
    state: &State,
    id: DeviceId,
    own: Option<OperationId>,
    asked: &[Wanted],
    room: u64,
) -> BTreeMap<Content, Bytes> {
    let reserved = reserved(state, id, own);
    let missing = coming_back(state, id, &reserved, room).into_iter().flat_map(|intent| {
        missing(state, intent)
            .filter(|part| !reserved.contains(&content(part)) && !is_asked(asked, intent, part))
            .map(|part| (content(part), part.bytes))
    });
    missing.collect()
}

/// What loads of others have room reserved for: if it is missing of an intent as well, it counts once.
fn reserved(state: &State, id: DeviceId, own: Option<OperationId>) -> BTreeSet<Content> {
    let loads = state.residency().loads().filter(|(of, load)| Some(**of) != own && load.device == id);
    loads.flat_map(|(_, load)| load.awaited.iter().copied()).collect()
}

/// The unmet intents of a device that have a place in so much room, what matters most first: a device may have become smaller than
/// what was on it, and those that do not fit must not keep the others out.
fn coming_back<'a>(
    state: &'a State,
    id: DeviceId,
    reserved: &BTreeSet<Content>,
    room: u64,
) -> Vec<&'a Arc<Intent>> {
    let mut unmet: Vec<_> = state.residency().unmet().filter(|intent| intent.device == id).collect();
    unmet.sort_by_key(|intent| (std::cmp::Reverse(intent.priority), intent.recorded_at, intent.model));
    let (mut left, mut seen) = (room, reserved.clone());
    unmet.retain(|intent| {
        let new: BTreeMap<Content, Bytes> = missing(state, intent)
            .map(|part| (content(part), part.bytes))
            .filter(|(content, _)| !seen.contains(content))
            .collect();
        let bytes = new.values().map(|bytes| bytes.0).fold(0, u64::saturating_add);
        let fits = bytes <= left;
        if fits {
            left -= bytes;
            seen.extend(new.into_keys());
        }
        fits
    });
    unmet
}

/// Whether what is owed is what somebody asks for.
fn is_asked(asked: &[Wanted], intent: &Intent, part: &IntentPart) -> bool {
    asked.iter().any(|one| {
        // Of what is to be read first the content may not be known, or may have become another.
        (one.digest, one.dtype) == (Some(part.digest), part.dtype)
            || (one.model == intent.model && one.component == part.component)
    })
}

/// Beyond what loads would give back if they fail, what those whom they have displaced need to come back.
fn kept_for_displaced(state: &State, id: DeviceId, own: Option<OperationId>) -> u64 {
    let residency = state.residency();
    // What is owed anyway is not given back to those who are displaced.
    let owed: BTreeSet<Content> = residency
        .unmet()
        .filter(|intent| intent.device == id)
        .flat_map(|intent| intent.parts.iter().map(content))
        .collect();
    let displacing = residency
        .loads()
        .filter(|(of, load)| Some(**of) != own && load.device == id && !load.displaced.is_empty());
    let kept = displacing.map(|(_, load)| {
        let displaced = || load.displaced.iter().filter_map(|model| residency.intent(id, *model));
        // What it shares with them is owed to them as soon as it is given back.
        let theirs: BTreeSet<Content> =
            displaced().flat_map(|intent| intent.parts.iter().map(content)).collect();
        let needed: BTreeMap<Content, Bytes> = displaced()
            .flat_map(|intent| missing(state, intent))
            .map(|part| (content(part), part.bytes))
            .collect();
        let needed = needed.into_values().map(|bytes| bytes.0).fold(0, u64::saturating_add);
        let replicas: BTreeSet<ReplicaId> = load.parts.iter().map(|part| part.replica).collect();
        let returned = replicas.into_iter().filter_map(|id| residency.replica(id)).filter(|replica| {
            let content = (replica.digest, replica.dtype);
            // What nobody wants any more counts as free already.
            residency.is_wanted(replica.id)
                && !owed.contains(&content)
                && !theirs.contains(&content)
                && residency
                    .wants_of(replica.id)
                    .all(|want| shares_displacement(state, want, &load.displaced))
        });
        needed.saturating_sub(returned.map(|replica| replica.charge().0).fold(0, u64::saturating_add))
    });
    kept.fold(0, u64::saturating_add)
}

/// Whether somebody lets a replica go no sooner than those come back for certain: its success is their end, too.
fn shares_displacement(state: &State, want: Want, displaced: &[ModelId]) -> bool {
    match want {
        Want::Intent(_) => false,
        Want::Operation(of, _) => {
            let load = state.residency().load(of);
            load.is_some_and(|load| displaced.iter().all(|model| load.displaced.contains(model)))
        }
    }
}

/// What of an intent is not there.
fn missing<'a>(state: &'a State, intent: &'a Intent) -> impl Iterator<Item = &'a IntentPart> {
    let is_missing =
        |part: &&IntentPart| state.residency().sharing(intent.device, part.digest, part.dtype).is_none();
    intent.parts.iter().filter(is_missing)
}

const fn content(part: &IntentPart) -> Content {
    (part.digest, part.dtype)
}

/// What a worker has taken for it and will give back: of what it has not begun it has taken nothing.
fn taken(replica: &Replica) -> u64 {
    replica.own.0.saturating_add(replica.mapped.0)
}

/// Who could make room on a device for somebody, and how much that is.
pub(super) struct Victims<'a> {
    state: &'a State,
    device: DeviceId,
    asked: &'a [Wanted],
    /// What somebody asks for makes no room for it.
    kept: BTreeSet<ReplicaId>,
    /// Models of which something is lost, and kept room for.
    coming_back: BTreeSet<ModelId>,
    /// What has room reserved for it by others.
    reserved: BTreeSet<Content>,
    /// What matters least first; of equal weight what was loaded longest ago.
    candidates: Vec<&'a Arc<Intent>>,
}

impl<'a> Victims<'a> {
    /// Those that matter no more than this, are not asked for, and that nobody has leased.
    pub(super) fn of(
        state: &'a State,
        device: DeviceId,
        own: Option<OperationId>,
        priority: Priority,
        asked: &'a [Wanted],
    ) -> Self {
        let residency = state.residency();
        let is_displaced = |model: &ModelId| {
            residency.loads().any(|(_, load)| load.device == device && load.displaced.contains(model))
        };
        let is_asked = |model: &ModelId| asked.iter().any(|part| part.model == *model);
        let mut candidates: Vec<_> = residency
            .intents()
            .filter(|intent| intent.device == device && intent.priority <= priority)
            .filter(|intent| !is_asked(&intent.model) && !is_displaced(&intent.model))
            .filter(|intent| leased(state, intent).is_none())
            .collect();
        candidates.sort_by_key(|intent| (intent.priority, intent.recorded_at, intent.model));
        let shared = |part: &Wanted| Some(residency.sharing(device, part.digest?, part.dtype)?.id);
        let kept = asked.iter().filter_map(shared).collect();
        let reserved = reserved(state, device, own);
        let coming_back = coming_back(state, device, &reserved, room(state, device, own));
        let coming_back = coming_back.into_iter().map(|intent| intent.model).collect();
        Self { state, device, asked, kept, coming_back, reserved, candidates }
    }

    /// What all of them together would free.
    pub(super) fn all(&self) -> Bytes {
        Bytes(self.freed(self.candidates.len()).total())
    }

    /// As few as are needed, the least important.
    pub(super) fn enough(&self, needed: Bytes) -> Option<Vec<ModelId>> {
        let is_enough = |count: usize| self.freed(count).total() >= needed.0;
        let (mut least, mut most) = (0, self.candidates.len());
        if !is_enough(most) {
            return None;
        }
        // More of them never free less.
        while least < most {
            let middle = usize::midpoint(least, most);
            (least, most) = if is_enough(middle) { (least, middle) } else { (middle + 1, most) };
        }
        // The last ones matter most: whoever is not needed after all stays.
        let mut freed = self.freed(most);
        let mut total = freed.total();
        let mut chosen: Vec<ModelId> = Vec::new();
        for candidate in self.candidates.iter().take(most).rev() {
            let theirs = self.share(candidate, &freed);
            match total.checked_sub(theirs.total()).filter(|left| *left >= needed.0) {
                Some(left) => {
                    total = left;
                    freed.give_back(&theirs);
                }
                None => chosen.push(candidate.model),
            }
        }
        chosen.reverse();
        Some(chosen)
    }

    /// What is free once so many have gone: what nobody else wants, and what nobody else is owed.
    fn freed(&self, count: usize) -> Freed {
        let residency = self.state.residency();
        let going = || self.candidates.iter().take(count);
        let models: BTreeSet<ModelId> = going().map(|intent| intent.model).collect();
        let is_left = |one: &Replica| {
            residency.wants_of(one.id).all(|want| match want {
                Want::Intent(model) => models.contains(&model),
                Want::Operation(..) => false,
            })
        };
        let others = residency.unmet().filter(|other| other.device == self.device);
        let others =
            others.filter(|other| !models.contains(&other.model) && self.coming_back.contains(&other.model));
        let others: BTreeSet<Content> =
            others.flat_map(|other| missing(self.state, other).map(content)).collect();
        let mut freed = Freed::default();
        for intent in going() {
            freed
                .there
                .extend(self.there(intent).filter(|one| is_left(one)).map(|one| (one.id, one.charge())));
            freed.owed.extend(self.owed_to(intent).filter(|(content, _)| !others.contains(content)));
        }
        freed
    }

    /// What would not be free if this one stayed: whatever it has a part in.
    fn share(&self, intent: &Intent, freed: &Freed) -> Freed {
        let there = self.there(intent).map(|one| one.id);
        let owed = self.owed_to(intent).map(|(content, _)| content);
        Freed {
            there: there
                .filter_map(|id| freed.there.get_key_value(&id))
                .map(|(id, bytes)| (*id, *bytes))
                .collect(),
            owed: owed
                .filter_map(|one| freed.owed.get_key_value(&one))
                .map(|(one, bytes)| (*one, *bytes))
                .collect(),
        }
    }

    /// What it has on the device, and is not asked for.
    fn there(&self, intent: &Intent) -> impl Iterator<Item = &'a Arc<Replica>> {
        let theirs = self.state.residency().wanted_by_intent(intent.model);
        theirs.filter(|one| one.device == self.device && !self.kept.contains(&one.id))
    }

    /// What is missing of it, and kept free. What is asked for is not kept for anybody as it is.
    fn owed_to(&self, intent: &'a Intent) -> impl Iterator<Item = (Content, Bytes)> {
        let has_room = self.coming_back.contains(&intent.model);
        let missing = missing(self.state, intent).filter(move |_| has_room);
        let missing = missing
            .filter(|part| !self.reserved.contains(&content(part)) && !is_asked(self.asked, intent, part));
        missing.map(|part| (content(part), part.bytes))
    }
}

/// What some models would free: each replica and each content once.
#[derive(Default)]
struct Freed {
    there: BTreeMap<ReplicaId, Bytes>,
    owed: BTreeMap<Content, Bytes>,
}

impl Freed {
    fn total(&self) -> u64 {
        let there = self.there.values().map(|bytes| bytes.0).fold(0, u64::saturating_add);
        self.owed.values().map(|bytes| bytes.0).fold(there, u64::saturating_add)
    }

    fn give_back(&mut self, theirs: &Self) {
        for id in theirs.there.keys() {
            self.there.remove(id);
        }
        for content in theirs.owed.keys() {
            self.owed.remove(content);
        }
    }
}
