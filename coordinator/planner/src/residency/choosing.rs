//! Which device a load goes to, and why; the same for a dry run.
//!
//! A device that would not take it is an offer as well, with what stands against it: whoever asks sees all of them.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use hoist_domain::{
    Bytes, Device, DeviceId, DeviceKind, DeviceState, Digest, Dtype, Error, ModelId, OperationId, Placement,
    Priority, Reason, ReplicaState, ResourceName, Result, WorkerState,
};

use super::room::{Content, Victims, free};
use crate::State;

/// Something that is to be on a device.
#[derive(Clone, Debug)]
pub struct LoadAsk {
    /// A content may occur several times.
    pub parts: Vec<Wanted>,
    pub placement: Placement,
    pub priority: Priority,
    pub force: bool,
}

/// One component of it.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub model: ModelId,
    pub component: Box<str>,
    /// Its content, where that is known.
    pub digest: Option<Digest>,
    /// What it is converted to.
    pub dtype: Option<Dtype>,
    /// Its tensors' bytes together; of what was there before, what it took.
    pub bytes: Bytes,
    /// So many lie apart. 0: they are counted already.
    pub tensors: u32,
}

impl Wanted {
    /// What it takes of a device.
    #[must_use]
    pub fn takes(&self, state: &State, device: DeviceId) -> Bytes {
        let facts = state.devices().get(device).and_then(|device| device.facts.as_ref());
        facts.map_or(self.bytes, |facts| facts.takes(self.bytes, self.tensors))
    }
}

/// Components that a reason names one by one.
const MOST_REPLACED: usize = 4;

/// What one device has to say to it.
#[derive(Clone, Debug)]
pub struct Offer {
    pub device: DeviceId,
    /// Beyond what is there.
    pub needed: Bytes,
    /// What is there already, or on its way.
    pub resident: Bytes,
    pub free: Bytes,
    /// Models that make room; without force those that could.
    pub unload: Vec<ModelId>,
    /// Why not.
    pub refusal: Option<Error>,
    pub reasons: Vec<String>,
}

/// Which of two offers is taken: the lesser one. In the order of importance.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Preference {
    is_refused: bool,
    /// A refusal that says more comes first.
    refusal: u8,
    /// Nobody is sent away where somewhere else is room.
    unloads: usize,
    /// A card before the machine's memory, where nothing else is said.
    is_slow: bool,
    /// By the placement: how much is taken, or how much is left.
    crowd: u64,
    /// Where most of it is, least is to be done.
    needed: u64,
    left: Reverse<u64>,
    id: DeviceId,
}

/// What every device says to it, the best first.
#[must_use]
pub fn offers(state: &State, ask: &LoadAsk, own: Option<OperationId>) -> Vec<Offer> {
    let devices = state.devices().iter().filter(|device| match ask.placement {
        Placement::On(id) => device.id == id,
        Placement::Any | Placement::Spread | Placement::Pack => true,
    });
    let mut offers: Vec<(Preference, Offer)> = devices
        .map(|device| {
            let offer = offer(state, device, ask, own);
            (preference(device, &offer, ask.placement), offer)
        })
        .collect();
    offers.sort_by(|(one, _), (other, _)| one.cmp(other));
    let count = offers.len();
    let mut offers: Vec<Offer> = offers.into_iter().map(|(_, offer)| offer).collect();
    if let Some(best) = offers.first_mut() {
        best.reasons = reasons(state, best, ask, count);
    }
    offers
}

/// The device that it goes to.
///
/// # Errors
/// RESOURCE_NOT_FOUND, WORKER_LOST, WORKER_QUARANTINED, DEVICE_CORDONED, INCOMPATIBLE_MODEL, VRAM_EXHAUSTED.
pub fn choose(state: &State, ask: &LoadAsk, own: Option<OperationId>) -> Result<Offer> {
    match offers(state, ask, own).into_iter().next() {
        Some(Offer { refusal: Some(refusal), .. }) => Err(refusal),
        Some(offer) => Ok(offer),
        None => Err(unknown(state, ask.placement)),
    }
}

fn unknown(state: &State, placement: Placement) -> Error {
    let known: Vec<String> = state.devices().iter().map(|device| device.id.to_string()).collect();
    let message = match (placement, known.is_empty()) {
        (_, true) => "no device is known: start the server with `--worker cpu:0=SIZE`".to_owned(),
        (Placement::On(id), false) => format!("there is no device {id}; there are: {}", known.join(", ")),
        (_, false) => format!("none of the devices takes it: {}", known.join(", ")),
    };
    let error = Error::new(Reason::ResourceNotFound, message);
    if let Placement::On(id) = placement { error.with("name", ResourceName::Device(id)) } else { error }
}

/// Refuses a device that nobody has heard of.
///
/// # Errors
/// RESOURCE_NOT_FOUND.
pub fn must_exist(state: &State, placement: Placement) -> Result<()> {
    match placement {
        Placement::On(id) if state.devices().get(id).is_none() => Err(unknown(state, placement)),
        _ => Ok(()),
    }
}

/// What a load takes of a device and what of it is there, each content once.
fn sizes(state: &State, id: DeviceId, ask: &LoadAsk) -> (Bytes, Bytes) {
    let (mut needed, mut resident, mut seen) = (0_u64, 0_u64, BTreeSet::new());
    for part in &ask.parts {
        if let Some(digest) = part.digest
            && !seen.insert((digest, part.dtype))
        {
            continue;
        }
        match part.digest.and_then(|digest| state.residency().sharing(id, digest, part.dtype)) {
            Some(replica) => resident = resident.saturating_add(replica.charge().0),
            None => needed = needed.saturating_add(part.takes(state, id).0),
        }
    }
    (Bytes(needed), Bytes(resident))
}

/// The contents of what is not there yet, where they are known.
pub(super) fn awaited(state: &State, id: DeviceId, ask: &LoadAsk) -> BTreeSet<Content> {
    let content = |part: &Wanted| Some((part.digest?, part.dtype));
    let is_absent = |(digest, dtype): &Content| state.residency().sharing(id, *digest, *dtype).is_none();
    ask.parts.iter().filter_map(content).filter(is_absent).collect()
}

/// What of it is not there yet.
pub(super) fn needed(state: &State, id: DeviceId, ask: &LoadAsk) -> Bytes {
    sizes(state, id, ask).0
}

fn offer(state: &State, device: &Device, ask: &LoadAsk, own: Option<OperationId>) -> Offer {
    let (needed, resident) = sizes(state, device.id, ask);
    let free = free(state, device.id, own, &ask.parts);
    let mut offer = Offer {
        device: device.id,
        needed,
        resident,
        free,
        unload: Vec::new(),
        refusal: None,
        reasons: Vec::new(),
    };
    if let Err(refusal) = takes(device, ask, needed == Bytes(0)) {
        offer.refusal = Some(refusal);
        return offer;
    }
    if needed <= free {
        return offer;
    }
    let over = Bytes(needed.0.saturating_sub(free.0));
    let victims = Victims::of(state, device.id, own, ask.priority, &ask.parts);
    let enough = victims.enough(over);
    let helps = enough.is_some();
    offer.unload = enough.unwrap_or_default();
    if !(ask.force && helps) {
        offer.refusal = Some(exhausted(state, device, &offer, victims.all(), ask));
    }
    offer
}

/// Whether a device takes anything like it, whatever is free. What is there already is nothing new.
fn takes(device: &Device, ask: &LoadAsk, is_all_there: bool) -> Result<()> {
    let id = device.id;
    let worker = &device.worker;
    let problem = if worker.problem.is_empty() { String::new() } else { format!(": {}", worker.problem) };
    let refuse = |reason, message: String| Err(Error::new(reason, message).with("device", id));
    match (worker.state, device.state) {
        (WorkerState::Active, DeviceState::Open) => {}
        (WorkerState::Active, DeviceState::Cordoned | DeviceState::Draining) if is_all_there => {}
        (WorkerState::Active, DeviceState::Cordoned | DeviceState::Draining) => {
            let why = device.cordoned.as_deref().filter(|why| !why.is_empty());
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            let message = format!("{id} is cordoned{why}: it keeps what it has, and takes nothing new");
            return refuse(Reason::DeviceCordoned, message);
        }
        (WorkerState::Quarantined, _) => {
            return refuse(
                Reason::WorkerQuarantined,
                format!("the worker of {id} has failed too often{problem}"),
            );
        }
        (WorkerState::Connecting | WorkerState::Registered, _) => {
            return refuse(Reason::WorkerLost, format!("the worker of {id} is starting; try again shortly"));
        }
        (WorkerState::Suspect, _) => {
            return refuse(Reason::WorkerLost, format!("the worker of {id} does not answer{problem}"));
        }
        _ => return refuse(Reason::WorkerLost, format!("{id} has no worker now{problem}")),
    }
    if !device.problem.is_empty() && !is_all_there {
        let message = format!("{id} keeps what it has, and takes nothing new: {}", device.problem);
        return refuse(Reason::DeviceFailed, message);
    }
    let Some(facts) = &device.facts else { return Ok(()) };
    match ask.parts.iter().filter_map(|part| part.dtype).find(|dtype| !facts.dtypes.contains(dtype)) {
        None => Ok(()),
        Some(dtype) => {
            let known: Vec<String> = facts.dtypes.iter().map(ToString::to_string).collect();
            let message = if known.is_empty() {
                format!("{id} converts nothing: load it as it is, without a type of elements")
            } else {
                format!("{id} converts nothing to {dtype}, only to {}", known.join(", "))
            };
            refuse(Reason::IncompatibleModel, message)
        }
    }
}

fn exhausted(state: &State, device: &Device, offer: &Offer, evictable: Bytes, ask: &LoadAsk) -> Error {
    let id = device.id;
    let capacity = device.facts.as_ref().map_or(Bytes(0), |facts| facts.capacity);
    let name = |model: &ModelId| {
        state.models().get(*model).map_or_else(|| format!("models/{model}"), |model| model.name().to_owned())
    };
    let names: Vec<String> = offer.unload.iter().map(name).collect();
    let advice = if !replaced(state, id, ask).is_empty() && offer.needed <= capacity {
        "some of it is there in another form, which makes no room for it: unload that first, or name another device".to_owned()
    } else if offer.needed.0.saturating_add(offer.resident.0) > capacity.0 {
        "it is larger than the device: load single components, or name a larger device".to_owned()
    } else if names.is_empty() && ask.force {
        "what else is on the device matters more, is leased, or is being loaded: unload some of it".to_owned()
    } else if names.is_empty() {
        "unload something that matters more, or name another device".to_owned()
    } else {
        format!("unload {}, or force: that makes the room", names.join(", "))
    };
    let message = format!(
        "{id} has {} free of {capacity}, and {} are needed; {evictable} could be freed",
        offer.free, offer.needed
    );
    Error::new(Reason::VramExhausted, message)
        .with("advice", advice)
        .with("device", id)
        .with("needed_bytes", offer.needed.0)
        .with("free_bytes", offer.free.0)
        .with("capacity_bytes", capacity.0)
        .with("evictable_bytes", evictable.0)
}

fn preference(device: &Device, offer: &Offer, placement: Placement) -> Preference {
    let capacity = device.facts.as_ref().map_or(0, |facts| facts.capacity.0);
    let left = offer.free.0.saturating_sub(offer.needed.0);
    let crowd = match placement {
        Placement::On(_) | Placement::Any => 0,
        // In thousandths: devices differ in size.
        Placement::Spread => 1_000_u64.saturating_sub(offer.free.0.saturating_mul(1_000) / capacity.max(1)),
        Placement::Pack => left,
    };
    Preference {
        is_refused: offer.refusal.is_some(),
        refusal: match offer.refusal.as_ref().map(Error::reason) {
            Some(Reason::VramExhausted) => 0,
            Some(Reason::WorkerLost) => 1,
            _ => 2,
        },
        unloads: offer.unload.len(),
        is_slow: placement == Placement::Any && device.id.kind == DeviceKind::Cpu,
        crowd,
        needed: offer.needed.0,
        left: Reverse(left),
        id: device.id,
    }
}

/// Why the best one is the best, for people.
fn reasons(state: &State, best: &Offer, ask: &LoadAsk, count: usize) -> Vec<String> {
    let mut reasons = Vec::new();
    match ask.placement {
        Placement::On(id) => reasons.push(format!("{id} was asked for")),
        _ if count == 1 => reasons.push(format!("{} is the only device", best.device)),
        Placement::Any => {}
        Placement::Spread => reasons.push(format!("the least part of {} is taken", best.device)),
        Placement::Pack => reasons.push(format!("it leaves the least room on {}", best.device)),
    }
    if best.resident > Bytes(0) {
        reasons.push(format!("{} of it are there already", best.resident));
    }
    if best.refusal.is_none() {
        reasons.push(format!("{} are needed, {} are free", best.needed, best.free));
        reasons.extend(way(state, best));
        reasons.extend(replaced(state, best.device, ask));
        if !best.unload.is_empty() {
            let make = if best.unload.len() == 1 { "makes" } else { "make" };
            reasons.push(format!("{} {make} room", hoist_domain::plural(best.unload.len() as u64, "model")));
        }
    }
    reasons
}

/// How long what is needed is on its way to a device at least, and which memory is near it.
fn way(state: &State, best: &Offer) -> Option<String> {
    let facts = state.devices().get(best.device)?.facts.as_ref()?;
    let milliseconds = best.needed.0.saturating_mul(1_000).checked_div(facts.bus.0)?;
    let node = facts.node.map(|node| format!("; the memory near it is node {node}")).unwrap_or_default();
    let takes = match milliseconds {
        0 => String::new(),
        some => format!(": {some} ms at least"),
    };
    Some(format!("its bus carries {}/s{takes}{node}", facts.bus))
}

/// What is there already of what is asked for, as something else: a component is on a device once.
fn replaced(state: &State, device: DeviceId, ask: &LoadAsk) -> Vec<String> {
    let dtype =
        |dtype: Option<Dtype>| dtype.map_or_else(|| "as it is".to_owned(), |dtype| format!("as {dtype}"));
    let other = |part: &Wanted| {
        let intent = state.residency().intent(device, part.model)?;
        let known = intent.parts.iter().find(|known| known.component == part.component)?;
        let is_other = known.dtype != part.dtype || part.digest.is_some_and(|digest| digest != known.digest);
        is_other.then(|| format!("{} is there {}, and is replaced", part.component, dtype(known.dtype)))
    };
    let mut all: Vec<String> = ask.parts.iter().filter_map(other).collect();
    let more = all.len().saturating_sub(MOST_REPLACED);
    all.truncate(MOST_REPLACED);
    all.extend(
        (more > 0).then(|| format!("{} more are replaced", hoist_domain::plural(more as u64, "component"))),
    );
    all
}

/// Whether what is there of a load can be used now.
pub(super) fn is_there(state: &State, id: DeviceId, digest: Digest, dtype: Option<Dtype>) -> bool {
    let replica = state.residency().sharing(id, digest, dtype);
    replica.is_some_and(|replica| replica.state == ReplicaState::Active)
}
