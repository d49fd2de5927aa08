//! What a worker says is on its device.
//!
//! It is believed about its own device: what it has, and what it has not any more. It is not believed when it says what
//! cannot be: then nothing of what it says counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hoist_domain::{
    Bytes, DeviceId, Generation, LeaseId, ModelId, ObservedReplica, Priority, Replica, ReplicaId,
    ReplicaState,
};

use super::leased::{revoked, revoked_but};
use super::resident::{Account, Want};
use super::room::Content;
use crate::{Decision, Event, Moment, State};

/// Of one device. No machine has a thousandth of it.
const MOST_REPLICAS: usize = 65_536;

/// What a worker has told.
#[derive(Clone, Debug)]
pub struct Report {
    /// Everything there is; otherwise what has changed.
    pub is_full: bool,
    /// The last generation that it took.
    pub answers: Option<Generation>,
    pub replicas: Vec<ObservedReplica>,
    pub removed: Vec<Removal>,
    /// Why the device is to get nothing new. Empty: nothing is wrong.
    pub problem: String,
}

/// A replica that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    pub id: ReplicaId,
    pub expected: Bytes,
    pub returned: Bytes,
}

/// Whether what was told counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Applied,
    /// Another stream speaks for the worker by now.
    NotIts,
    /// It cannot be.
    Lie(String),
}

/// What a report changes.
///
/// # Errors
/// Why it cannot be.
pub fn observed(state: &State, device: DeviceId, report: &Report, now: Moment) -> Result<Decision, String> {
    let residency = state.residency();
    let capacity =
        state.devices().get(device).and_then(|device| device.facts.as_ref()).map(|facts| facts.capacity);
    let mut events = Vec::new();
    let told: BTreeSet<ReplicaId> = report.replicas.iter().map(|one| one.id).collect();
    if report.replicas.len() > MOST_REPLICAS {
        return Err(format!("{} replicas are told of, of {MOST_REPLICAS} at most", report.replicas.len()));
    }
    if told.len() != report.replicas.len() {
        return Err("a replica is told twice".to_owned());
    }
    let mut gone = BTreeSet::new();
    for removal in &report.removed {
        let known = residency.replica(removal.id);
        if known.is_some_and(|known| known.device != device) {
            return Err(format!("replica {} is on another device", removal.id));
        }
        // One that nobody knows: told again, or the last coordinator's.
        // One that is told of as well has come back under its handle: a coordinator that has died wanted it away, and this one wants it.
        if known.is_some() && !told.contains(&removal.id) && gone.insert(removal.id) {
            let account = Account { expected: removal.expected, returned: removal.returned };
            events.push(Event::ReplicaGone { id: removal.id, account: Some(account) });
        }
    }
    // What it does not speak of is as it was, unless it speaks of everything.
    let untold = residency.on(device).take_while(|_| !report.is_full);
    let untold = untold.filter(|known| !told.contains(&known.id) && !gone.contains(&known.id));
    let untold = untold.map(|known| known.own.0.saturating_add(known.mapped.0));
    // What it lost under an earlier word may have been desired of it again before that was heard: it speaks of it as long as it has
    // not taken the newest.
    let is_behind = report.answers.is_some_and(|answers| {
        answers.epoch == state.position().epoch && answers.number < residency.generation(device)
    });
    let (mut taken, mut adopting) = (untold.fold(0, u64::saturating_add), Adopting::of(state, device));
    for one in &report.replicas {
        taken = taken.saturating_add(one.own.0).saturating_add(one.mapped.0);
        match residency.replica(one.id) {
            Some(known) => {
                if (known.device, known.digest, known.dtype) != (device, one.digest, one.dtype) {
                    return Err(format!("replica {} is another one", one.id));
                }
                let is_wanted = residency.is_wanted(known.id);
                if is_wanted && !can_follow(known.state, one.state) {
                    return Err(format!("replica {} was {:?} and is {:?}", one.id, known.state, one.state));
                }
                events.extend(changed(state, known, one));
            }
            None if report.is_full => adopting.adopt(state, one, now, &mut events),
            None if is_behind => adopting.let_go(one, now, &mut events),
            None => return Err(format!("replica {} was never asked for", one.id)),
        }
    }
    if capacity.is_some_and(|capacity| taken > capacity.0) {
        return Err(format!("{} are on a device of less", Bytes(taken)));
    }
    let answers = report.answers.filter(|answers| answers.epoch == state.position().epoch);
    let is_untold = |known: &&Arc<Replica>| !told.contains(&known.id) && !gone.contains(&known.id);
    // It has never been there: its worker has taken what is desired without it.
    let is_taken = |at: u64| answers.is_some_and(|taken| taken.number >= at);
    let given_up = residency.left(device).take_while(|_| !report.is_full);
    let given_up = given_up.filter(|(_, at)| is_taken(*at)).map(|(known, _)| known);
    let given_up = given_up.filter(|known| known.state == ReplicaState::Waiting);
    let left_out = residency.on(device).take_while(|_| report.is_full);
    // What is to come is not there yet; what nobody asked for was never more than said.
    let left_out =
        left_out.filter(|known| known.state != ReplicaState::Waiting || !residency.is_wanted(known.id));
    let absent = given_up.chain(left_out).filter(is_untold);
    events.extend(absent.map(|known| Event::ReplicaGone { id: known.id, account: None }));
    let lost = events.iter().filter_map(|event| match event {
        Event::ReplicaGone { id, .. } => Some(*id),
        _ => None,
    });
    let mut ended = revoked(state, lost, "its worker does not have it any more; acquire it again", now);
    if report.is_full {
        events.push(Event::DesireRaised(device));
        let is_there = |one: &&ObservedReplica| one.state == ReplicaState::Active;
        let there = report.replicas.iter().filter(is_there).map(|one| one.id).collect();
        let known: BTreeSet<LeaseId> = ended.iter().filter_map(ended_lease).collect();
        let others = revoked_but(state, device, &there, now);
        ended.extend(
            others.into_iter().filter(|event| ended_lease(event).is_none_or(|id| !known.contains(&id))),
        );
    }
    // Nobody holds what is not there, in any revision.
    ended.extend(events);
    Ok(ended)
}

const fn ended_lease(event: &Event) -> Option<LeaseId> {
    match event {
        Event::LeaseEnded { id, .. } => Some(*id),
        _ => None,
    }
}

/// Whether something that is wanted can have come from the one state to the other, however many words in between were not said.
const fn can_follow(before: ReplicaState, told: ReplicaState) -> bool {
    use ReplicaState::{Active, Failed, Loading, Waiting};
    match before {
        Waiting => matches!(told, Waiting | Loading | Active | Failed),
        // Given up for one coordinator, and to be begun again for the next.
        Loading => matches!(told, Waiting | Loading | Active | Failed),
        // It may still follow what was desired of it before its present stream.
        Active | ReplicaState::Unloading => matches!(told, Active | ReplicaState::Unloading),
        Failed => matches!(told, Failed),
        ReplicaState::Absent | ReplicaState::Lost => false,
    }
}

/// What was told of a replica that is known.
fn changed(state: &State, known: &Arc<Replica>, one: &ObservedReplica) -> Decision {
    let residency = state.residency();
    let is_wanted = residency.is_wanted(known.id);
    // What nobody wants is on its way away from here on, however far its worker is with that.
    let next = match (is_wanted, known.state, one.state) {
        (
            false,
            ReplicaState::Unloading,
            ReplicaState::Waiting | ReplicaState::Loading | ReplicaState::Active,
        ) => ReplicaState::Unloading,
        (false, _, ReplicaState::Active) => ReplicaState::Unloading,
        (_, _, told) => told,
    };
    let after = Replica {
        state: next,
        own: one.own,
        mapped: one.mapped,
        tensors: one.tensors,
        load_time: one.load_time,
        failure: one.failure.clone(),
        ..Replica::clone(known)
    };
    if after == **known {
        return Vec::new();
    }
    let mut events = vec![Event::ReplicaChanged(Arc::new(after))];
    if matches!(next, ReplicaState::Failed | ReplicaState::Unloading) && is_wanted {
        // Its operation sees that it failed, or its end. An intent is unmet from here on.
        let intents = residency.wants_of(known.id).filter(|want| matches!(want, Want::Intent(_)));
        events.extend(intents.map(|by| Event::ReplicaUnwanted { id: known.id, by }));
    }
    events
}

/// What a worker has that this coordinator did not ask for: the last one did, and its intents may name it.
struct Adopting {
    device: DeviceId,
    /// Contents that intents name and that are not there, with what they take, the models and the weight.
    missing: BTreeMap<Content, (Bytes, Vec<(ModelId, Priority)>)>,
}

impl Adopting {
    fn of(state: &State, device: DeviceId) -> Self {
        let residency = state.residency();
        let mut missing: BTreeMap<Content, (Bytes, Vec<_>)> = BTreeMap::new();
        for intent in residency.intents().filter(|intent| intent.device == device) {
            for part in &intent.parts {
                if residency.sharing(device, part.digest, part.dtype).is_none() {
                    let (bytes, wanting) = missing.entry((part.digest, part.dtype)).or_default();
                    *bytes = (*bytes).max(part.bytes);
                    wanting.push((intent.model, intent.priority));
                }
            }
        }
        Self { device, missing }
    }

    /// Taken over for the intents that name it.
    fn adopt(&mut self, state: &State, one: &ObservedReplica, now: Moment, events: &mut Decision) {
        let is_usable = match one.state {
            ReplicaState::Active => true,
            // What its segment was is gone with who filled it, unless it was complete.
            ReplicaState::Loading => state.cache().sealed(one.digest).is_some(),
            _ => false,
        };
        let wanted = self.missing.remove(&(one.digest, one.dtype)).filter(|_| is_usable);
        self.place(one, wanted, now, events);
    }

    /// Nobody asks for it any more: the worker hears that next.
    fn let_go(&self, one: &ObservedReplica, now: Moment, events: &mut Decision) {
        self.place(one, None, now, events);
    }

    fn place(
        &self,
        one: &ObservedReplica,
        wanted: Option<(Bytes, Vec<(ModelId, Priority)>)>,
        now: Moment,
        events: &mut Decision,
    ) {
        let (bytes, wanting) = wanted.clone().unwrap_or_default();
        // What nobody asked for is on its way away.
        let state = match (one.state, &wanted) {
            (ReplicaState::Active, None) => ReplicaState::Unloading,
            (state, _) => state,
        };
        events.push(Event::ReplicaPlaced(Arc::new(Replica {
            id: one.id,
            device: self.device,
            digest: one.digest,
            dtype: one.dtype,
            state,
            models: BTreeSet::new(),
            priority: Priority::default(),
            // One that is on its way has not taken it yet.
            planned: bytes,
            own: one.own,
            mapped: one.mapped,
            tensors: one.tensors,
            load_time: one.load_time,
            failure: one.failure.clone(),
            since: now.wall,
        })));
        for (model, priority) in wanting {
            events.push(Event::ReplicaWanted { id: one.id, by: Want::Intent(model), priority });
        }
    }
}

/// Its worker has ended: what was on the device is gone.
#[must_use]
pub fn lost(state: &State, device: DeviceId, now: Moment) -> Decision {
    let why = format!("the worker of {device} has ended; acquire it again");
    let mut events = revoked(state, state.residency().on(device).map(|one| one.id), &why, now);
    let gone = state.residency().on(device).map(|one| Event::ReplicaGone { id: one.id, account: None });
    events.extend(gone);
    events
}
