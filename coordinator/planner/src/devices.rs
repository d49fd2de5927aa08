//! Devices and those who drive them: who may, what they say, and what their silence and their end mean.
//!
//! ```text
//!  worker:  CONNECTING ─► REGISTERED ─► ACTIVE ◄─► SUSPECT ─► LOST ─► CONNECTING (the next one)
//!                └──────────────┴─────────┴──────────┴─► QUARANTINED
//!  device:  LOST ◄─► OPEN ◄─► CORDONED    (not lost as long as its worker is ACTIVE or only SUSPECT)
//! ```
//!
//! All of it but the policy is true of this process alone: the next coordinator hears everything anew from workers that register. What a
//! worker says of its device is believed; what it says of others is not asked.

use std::sync::Arc;

use hoist_domain::{
    Device, DeviceFacts, DeviceId, DeviceMemory, DeviceState, DevicesPolicy, Epoch, Error, Generation,
    Incarnation, Position, Reason, Result, Revision, Worker, WorkerId, WorkerState,
};
use imbl::OrdMap;

use crate::decide::must_not_drain;
use crate::residency::{self, Heard, Report};
use crate::state::Stamped;
use crate::{Decision, Event, Moment, State};

/// Devices at a time; more are none of one machine.
pub const MOST_DEVICES: usize = 64;

/// Every device that has been heard of in this life.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    all: OrdMap<DeviceId, Stamped<Device>>,
    policy: Arc<DevicesPolicy>,
    /// When it last changed; unset if it never did.
    policy_changed: Option<Revision>,
}

impl Devices {
    #[must_use]
    pub fn get(&self, id: DeviceId) -> Option<&Arc<Device>> {
        self.all.get(&id).map(|stamped| &stamped.value)
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Device>> {
        self.all.values().map(|stamped| &stamped.value)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    #[must_use]
    pub fn policy(&self) -> &DevicesPolicy {
        &self.policy
    }

    /// The policy and when it last changed; none if it never was.
    #[must_use]
    pub fn changed_policy(&self) -> Option<(Revision, &DevicesPolicy)> {
        self.policy_changed.map(|changed| (changed, &*self.policy))
    }

    pub(crate) fn set_policy(&mut self, changed: Revision, policy: Arc<DevicesPolicy>) {
        self.policy = policy;
        self.policy_changed = Some(changed);
    }

    pub(crate) fn stamped(&self, id: DeviceId) -> Option<&Stamped<Device>> {
        self.all.get(&id)
    }

    pub(crate) fn from(&self, from: std::ops::Bound<DeviceId>) -> impl Iterator<Item = &Stamped<Device>> {
        self.all.range((from, std::ops::Bound::Unbounded)).map(|(_, stamped)| stamped)
    }

    pub(crate) fn put(&mut self, position: Position, device: &Arc<Device>) {
        self.all.insert(device.id, Stamped { position, value: Arc::clone(device) });
    }
}

/// What a worker says of itself.
#[derive(Clone, Debug)]
pub struct Registration {
    pub worker: WorkerId,
    pub incarnation: Incarnation,
    /// Of this stream, unique in the life of the server.
    pub session: u64,
    pub facts: DeviceFacts,
    pub process: Option<u32>,
    pub release: String,
    /// The last generation that it took.
    pub taken: Option<Generation>,
}

fn device(state: &State, id: DeviceId) -> Option<Device> {
    state.devices().get(id).map(|device| Device::clone(device))
}

fn changed(device: Device) -> Decision {
    vec![Event::DeviceChanged(Arc::new(device))]
}

fn nobody(now: Moment, is_supervised: bool) -> Worker {
    Worker {
        state: WorkerState::Connecting,
        id: None,
        incarnation: None,
        session: 0,
        process: None,
        release: String::new(),
        is_supervised,
        restarts: 0,
        problem: String::new(),
        since: now.wall,
    }
}

fn unknown(state: &State, id: DeviceId, worker: Worker) -> Device {
    let cordoned = state.devices().policy().cordoned.get(&id).cloned();
    let (memory, problem) = (DeviceMemory::default(), String::new());
    Device { id, state: DeviceState::Lost, facts: None, memory, problem, worker, cordoned }
}

/// The coordinator has started a worker for a device, or starts it again.
#[must_use]
pub fn starting(state: &State, id: DeviceId, now: Moment) -> Decision {
    let Some(device) = device(state, id) else { return changed(unknown(state, id, nobody(now, true))) };
    if is_driven(&device) {
        // Somebody else's: it goes on.
        return Vec::new();
    }
    let restarts = device.worker.restarts + u32::from(device.worker.is_supervised);
    // What the last one was is kept until the next one says who it is.
    let worker = Worker { restarts, problem: device.worker.problem.clone(), ..nobody(now, true) };
    changed(Device { worker, ..device })
}

const fn is_driven(device: &Device) -> bool {
    matches!(device.worker.state, WorkerState::Registered | WorkerState::Active | WorkerState::Suspect)
}

/// Judges a worker that comes, or comes back. From then on its new stream speaks for it, and no other.
///
/// # Errors
/// DRAINING; GENERATION_AHEAD; DEVICE_TAKEN; WORKER_QUARANTINED; RESOURCE_EXHAUSTED when there are too many.
pub fn register(state: &State, ask: &Registration, epoch: Epoch, now: Moment) -> Result<Decision> {
    must_not_drain(state)?;
    let id = ask.facts.id;
    if let Some(taken) = ask.taken.filter(|taken| taken.epoch > epoch) {
        let message = format!("the worker was driven by epoch {}, and this is {epoch}", taken.epoch);
        return Err(Error::new(Reason::GenerationAhead, message).with("device", id));
    }
    let known = device(state, id);
    if known.is_none() && state.devices().len() >= MOST_DEVICES {
        let message = format!("{MOST_DEVICES} devices are known, which is the limit");
        return Err(Error::new(Reason::Overloaded, message));
    }
    let before = known.unwrap_or_else(|| unknown(state, id, nobody(now, false)));
    if before.worker.state == WorkerState::Quarantined {
        let message = format!("the worker of {id} has failed too often: {}", before.worker.problem);
        return Err(Error::new(Reason::WorkerQuarantined, message).with("device", id));
    }
    let is_same = before.worker.incarnation == Some(ask.incarnation);
    if is_driven(&before) && !is_same {
        let message = format!("another worker drives {id}");
        return Err(Error::new(Reason::DeviceTaken, message).with("device", id));
    }
    let worker = Worker {
        state: WorkerState::Registered,
        id: Some(ask.worker),
        incarnation: Some(ask.incarnation),
        session: ask.session,
        process: ask.process,
        release: ask.release.clone(),
        problem: String::new(),
        since: now.wall,
        ..before.worker
    };
    // What it holds is not known before it has said so; of one that comes back it is what it was.
    let state = if is_same { before.state } else { DeviceState::Lost };
    Ok(changed(Device { state, facts: Some(ask.facts.clone()), worker, ..before }))
}

/// A worker has said what is on its device, or what has changed.
#[must_use]
pub fn observed(
    state: &State,
    id: DeviceId,
    session: u64,
    memory: DeviceMemory,
    report: &Report,
    now: Moment,
) -> (Decision, Heard) {
    let Some(before) = driven_by(state, id, session) else { return (Vec::new(), Heard::NotIts) };
    let mut events = match residency::observed(state, id, report, now) {
        Ok(events) => events,
        Err(lie) => return (Vec::new(), Heard::Lie(lie)),
    };
    let worker = match before.worker.state {
        WorkerState::Active => before.worker.clone(),
        _ => Worker {
            state: WorkerState::Active,
            since: now.wall,
            problem: String::new(),
            ..before.worker.clone()
        },
    };
    let problem = report.problem.clone();
    let after = Device { state: serving(&before), memory, problem, worker, ..before.clone() };
    if after != before {
        events.extend(changed(after));
    }
    (events, Heard::Applied)
}

/// What a device is whose worker serves.
const fn serving(device: &Device) -> DeviceState {
    if device.cordoned.is_some() { DeviceState::Cordoned } else { DeviceState::Open }
}

/// From now on a device takes nothing new; it keeps what it has.
#[must_use]
pub fn cordon(state: &State, id: DeviceId, reason: &str) -> Decision {
    let mut policy = state.devices().policy().clone();
    policy.cordoned.insert(id, reason.into());
    with_policy(state, policy, id, |device| {
        let cordoned = Some(reason.into());
        let is_open = device.state == DeviceState::Open;
        let next = if is_open { DeviceState::Cordoned } else { device.state };
        Device { cordoned, state: next, ..device }
    })
}

/// It takes new things again; and a worker that is not trusted any more gets another try.
#[must_use]
pub fn uncordon(state: &State, id: DeviceId, now: Moment) -> Decision {
    let mut policy = state.devices().policy().clone();
    policy.cordoned.remove(&id);
    with_policy(state, policy, id, |device| {
        let is_closed = device.state == DeviceState::Cordoned;
        let next = if is_closed { DeviceState::Open } else { device.state };
        let worker = match device.worker.state {
            WorkerState::Quarantined => {
                let problem = device.worker.problem.clone();
                Worker { problem, ..nobody(now, device.worker.is_supervised) }
            }
            _ => device.worker.clone(),
        };
        Device { cordoned: None, state: next, worker, ..device }
    })
}

fn with_policy(
    state: &State,
    policy: DevicesPolicy,
    id: DeviceId,
    change: impl FnOnce(Device) -> Device,
) -> Decision {
    let mut events = Vec::new();
    if policy != *state.devices().policy() {
        events.push(Event::DevicesPolicyChanged(Arc::new(policy)));
    }
    if let Some(before) = device(state, id) {
        let after = change(before.clone());
        if after != before {
            events.extend(changed(after));
        }
    }
    events
}

fn driven_by(state: &State, id: DeviceId, session: u64) -> Option<Device> {
    device(state, id).filter(|device| is_driven(device) && device.worker.session == session)
}

/// A worker has not been heard of for too long, or its session is over and its process is there. What it holds is not known.
#[must_use]
pub fn silent(state: &State, id: DeviceId, session: u64, why: &str, now: Moment) -> Decision {
    match driven_by(state, id, session) {
        Some(before) if before.worker.state != WorkerState::Suspect => {
            let worker = Worker {
                state: WorkerState::Suspect,
                problem: why.to_owned(),
                since: now.wall,
                ..before.worker.clone()
            };
            changed(Device { worker, ..before })
        }
        _ => Vec::new(),
    }
}

/// It is heard of again, and has all it had.
#[must_use]
pub fn heard(state: &State, id: DeviceId, session: u64, now: Moment) -> Decision {
    match driven_by(state, id, session) {
        Some(before) if before.worker.state == WorkerState::Suspect => {
            // It has not yet said what it has.
            if before.state == DeviceState::Lost {
                return Vec::new();
            }
            let worker = Worker {
                state: WorkerState::Active,
                problem: String::new(),
                since: now.wall,
                ..before.worker.clone()
            };
            changed(Device { worker, ..before })
        }
        _ => Vec::new(),
    }
}

/// Whose end it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The worker's for which this stream speaks.
    Session(u64),
    /// That of the process that the server has started; unset: it could not be started.
    Child(Option<u32>),
}

/// A worker's process has ended, or its time to come back has: what was on its device is gone.
#[must_use]
pub fn lost(state: &State, id: DeviceId, whose: Whose, why: &str, now: Moment) -> Decision {
    let Some(before) = device(state, id) else { return Vec::new() };
    let is_it = match whose {
        Whose::Session(session) => is_driven(&before) && before.worker.session == session,
        // One that has not registered is nobody else's.
        Whose::Child(process) => {
            before.worker.state == WorkerState::Connecting
                || (is_driven(&before) && process.is_some() && before.worker.process == process)
        }
    };
    if is_it {
        return gone(state, before, WorkerState::Lost, why, now);
    }
    let is_childs_end = matches!(whose, Whose::Child(_)) && before.worker.state == WorkerState::Lost;
    if is_childs_end && before.worker.is_supervised && before.worker.problem != why {
        // Its stream has ended first; who has started it knows how it has.
        let worker = Worker { problem: why.to_owned(), ..before.worker.clone() };
        return changed(Device { worker, ..before });
    }
    Vec::new()
}

/// The worker that the server starts has failed too often: it is not started again. Another one that drives the device goes
/// on.
#[must_use]
pub fn quarantine(state: &State, id: DeviceId, why: &str, now: Moment) -> Decision {
    match device(state, id) {
        Some(before) if !is_driven(&before) => gone(state, before, WorkerState::Quarantined, why, now),
        _ => Vec::new(),
    }
}

/// A worker says what cannot be: nothing of what it says counts any more, and it is not taken back.
#[must_use]
pub fn distrust(state: &State, id: DeviceId, session: u64, why: &str, now: Moment) -> Decision {
    let driven = driven_by(state, id, session);
    driven.map(|before| gone(state, before, WorkerState::Quarantined, why, now)).unwrap_or_default()
}

/// A worker that is heard of makes no progress, or does again.
#[must_use]
pub fn slow(state: &State, id: DeviceId, session: u64, why: Option<String>) -> Decision {
    match driven_by(state, id, session) {
        Some(before) if before.worker.state == WorkerState::Active => {
            let problem = why.unwrap_or_default();
            let is_other = problem != before.worker.problem;
            let worker = Worker { problem, ..before.worker.clone() };
            if is_other { changed(Device { worker, ..before }) } else { Vec::new() }
        }
        _ => Vec::new(),
    }
}

fn gone(state: &State, before: Device, next: WorkerState, why: &str, now: Moment) -> Decision {
    // All in one revision: nobody sees a device without its worker and with what was on it.
    let mut events = residency::lost(state, before.id, now);
    let worker = Worker {
        state: next,
        problem: why.to_owned(),
        since: now.wall,
        process: None,
        ..before.worker.clone()
    };
    events.extend(changed(Device {
        state: DeviceState::Lost,
        memory: DeviceMemory::default(),
        problem: String::new(),
        worker,
        ..before
    }));
    events
}
