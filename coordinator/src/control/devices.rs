//! What the fleet asks of the owner, and what the planner makes of it. Nothing of it is durable.

use hoist_domain::{DeviceId, DeviceMemory, Result};
use hoist_planner::devices::{
    Registration, Whose, distrust, heard, lost, observed, quarantine, register, silent, slow, starting,
};
use hoist_planner::residency::{Heard, Report};
use hoist_planner::{Decision, Moment, State};
use tokio::sync::oneshot;

use super::decide::{Answer, Decided};
use super::{Command, Control};

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
    /// A worker is not heard of, or is again, or is gone.
    Turned { id: DeviceId, turn: Turn, reply: oneshot::Sender<Result<()>> },
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
pub(super) fn decide(state: &State, command: DeviceCommand, now: Moment) -> Decided {
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
    Decided { answer, events, report: None, follow_up: None, is_bound: false }
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

    /// Tells what has become of a worker, and waits until everybody can see that.
    pub async fn turned(&self, id: DeviceId, turn: Turn) {
        let turned = |reply| DeviceCommand::Turned { id, turn, reply };
        let _ = self.ask_surely(|reply| Command::Device(turned(reply))).await;
    }
}
