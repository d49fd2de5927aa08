//! What the fleet asks of the owner, and what the planner makes of it. Nothing of it is durable but what people say of devices.

use std::sync::Arc;

use hoist_domain::{ContentHash, DeviceId, DeviceMemory, DevicesPolicy, RequestKey, Result};
use hoist_planner::devices::{
    Registration, Whose, cordon, distrust, heard, lost, observed, quarantine, register, silent, slow,
    starting, uncordon,
};
use hoist_planner::residency::{Heard, Report};
use hoist_planner::{Answer as Repeated, Decision, Event, Limits, Moment, State, once};
use tokio::sync::oneshot;

use super::decide::{Answer, Decided};
use super::{Change, Command, Control};

/// Something about a device or its worker.
#[derive(Debug)]
pub enum DeviceCommand {
    /// A worker is started for it.
    Starting { id: DeviceId, reply: oneshot::Sender<Result<()>> },
    /// A worker says who it is. The answer: which stream has spoken for it before.
    Register { ask: Box<Registration>, reply: oneshot::Sender<Result<u64>> },
    /// A worker says what is on its device. Whether that counts is the answer.
    Observed {
        id: DeviceId,
        session: u64,
        memory: DeviceMemory,
        report: Box<Report>,
        reply: oneshot::Sender<Result<Heard>>,
    },
    /// Somebody lets a device take nothing new, with why; or new things again.
    Cordon {
        key: RequestKey,
        content: ContentHash,
        id: DeviceId,
        reason: Option<String>,
        reply: oneshot::Sender<Result<()>>,
    },
    /// What people say of devices is to be something else.
    SetPolicy {
        key: RequestKey,
        content: ContentHash,
        change: Change<DevicesPolicy>,
        reply: oneshot::Sender<Result<()>>,
    },
    /// A worker is not heard of, or is again, or is gone.
    Turned { id: DeviceId, turn: Turn, reply: oneshot::Sender<Result<()>> },
}

impl DeviceCommand {
    /// What people say of devices is durable.
    pub(super) const fn is_of_people(&self) -> bool {
        matches!(self, Self::Cordon { .. } | Self::SetPolicy { .. })
    }
}

/// What has become of a worker, by the stream that speaks for it.
#[derive(Debug)]
pub enum Turn {
    Silent(u64, String),
    Heard(u64),
    Lost(Whose, String),
    /// It is not started again.
    Quarantined(String),
    /// It is not listened to any more.
    Distrusted(u64, String),
    /// It is heard of and makes no progress, for that reason; or it does again.
    Slow(u64, Option<String>),
}

/// Asks the planner what a command means.
pub(super) fn decide(state: &State, command: DeviceCommand, now: Moment, limits: &Limits) -> Decided {
    let unit = |reply, result: Result<Decision>| match result {
        Ok(events) => (Answer::to(reply, Ok(())), events),
        Err(error) => (Answer::to(reply, Err(error)), Vec::new()),
    };
    let (answer, events): (Answer, Decision) = match command {
        DeviceCommand::Starting { id, reply } => (Answer::to(reply, Ok(())), starting(state, id, now)),
        DeviceCommand::Register { ask, reply } => {
            let before = state.devices().get(ask.facts.id).map_or(0, |device| device.worker.session);
            match register(state, &ask, state.position().epoch, now) {
                Ok(events) => (Answer::to(reply, Ok(before)), events),
                Err(error) => (Answer::to(reply, Err(error)), Vec::new()),
            }
        }
        DeviceCommand::Observed { id, session, memory, report, reply } => {
            let (events, heard) = observed(state, id, session, memory, &report, now);
            (Answer::to(reply, Ok(heard)), events)
        }
        DeviceCommand::Cordon { key, content, id, reason, reply } => {
            let events = once(state, &key, content, Repeated::Done, now, limits, || {
                Ok(match &reason {
                    Some(reason) => cordon(state, id, reason),
                    None => uncordon(state, id, now),
                })
            });
            unit(reply, events)
        }
        DeviceCommand::SetPolicy { key, content, change, reply } => {
            let events = once(state, &key, content, Repeated::Done, now, limits, || {
                let policy = (change.0)(state.devices().policy())?;
                let is_other = policy != *state.devices().policy();
                Ok(is_other.then(|| Event::DevicesPolicyChanged(Arc::new(policy))).into_iter().collect())
            });
            unit(reply, events)
        }
        DeviceCommand::Turned { id, turn, reply } => {
            let events = match turn {
                Turn::Silent(session, why) => silent(state, id, session, &why, now),
                Turn::Heard(session) => heard(state, id, session, now),
                Turn::Lost(whose, why) => lost(state, id, whose, &why, now),
                Turn::Quarantined(why) => quarantine(state, id, &why, now),
                Turn::Distrusted(session, why) => distrust(state, id, session, &why, now),
                Turn::Slow(session, why) => slow(state, id, session, why),
            };
            (Answer::to(reply, Ok(())), events)
        }
    };
    Decided { answer, events, report: None, follow_up: None, is_bound: true }
}

/// For the fleet. Calls wait for room in the queue.
impl Control {
    /// Tells that a worker is started for a device, and waits until everybody can see that.
    pub async fn starting(&self, id: DeviceId) {
        let _ = self.ask_surely(|reply| Command::Device(DeviceCommand::Starting { id, reply })).await;
    }

    /// Takes a worker, or takes it back; which stream has spoken for it before, 0 for none.
    ///
    /// # Errors
    /// As the planner refuses; DRAINING.
    pub async fn register(&self, ask: Registration) -> Result<u64> {
        self.ask_surely(|reply| Command::Device(DeviceCommand::Register { ask: Box::new(ask), reply }))
            .await?
    }

    /// Tells what is on a device, and hears whether that counts.
    ///
    /// # Errors
    /// DRAINING.
    pub async fn observed(
        &self,
        id: DeviceId,
        session: u64,
        memory: DeviceMemory,
        report: Report,
    ) -> Result<Heard> {
        let report = Box::new(report);
        let observed = |reply| DeviceCommand::Observed { id, session, memory, report, reply };
        self.ask_surely(|reply| Command::Device(observed(reply))).await?
    }

    /// Lets a device take nothing new, with why; or new things again.
    ///
    /// # Errors
    /// As the planner refuses, or STORE_READONLY, DRAINING.
    pub async fn cordon(
        &self,
        key: RequestKey,
        content: ContentHash,
        id: DeviceId,
        reason: Option<String>,
    ) -> Result<()> {
        let cordon = |reply| DeviceCommand::Cordon { key, content, id, reason, reply };
        self.ask_surely(|reply| Command::Device(cordon(reply))).await?
    }

    /// Changes what people say of devices.
    ///
    /// # Errors
    /// What the change says; STORE_READONLY, DRAINING.
    pub async fn set_devices_policy(
        &self,
        key: RequestKey,
        content: ContentHash,
        change: Change<DevicesPolicy>,
    ) -> Result<()> {
        let set = |reply| DeviceCommand::SetPolicy { key, content, change, reply };
        self.ask_surely(|reply| Command::Device(set(reply))).await?
    }

    /// Tells what has become of a worker, and waits until everybody can see that.
    pub async fn turned(&self, id: DeviceId, turn: Turn) {
        let turned = |reply| DeviceCommand::Turned { id, turn, reply };
        let _ = self.ask_surely(|reply| Command::Device(turned(reply))).await;
    }
}
