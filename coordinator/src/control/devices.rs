//! What the fleet asks of the owner, and what the planner makes of it. Nothing of it is durable.

use hoist_domain::{DeviceId, DeviceMemory, Incarnation, Result};
use hoist_planner::devices::{Registration, heard, lost, observed, quarantine, register, silent, starting};
use hoist_planner::{Decision, Moment, State};
use tokio::sync::oneshot;

use super::decide::{Answer, Decided};
use super::{Command, Control};

/// Something about a device or its worker.
#[derive(Debug)]
pub enum DeviceCommand {
    /// A worker is started for it.
    Starting { id: DeviceId, reply: oneshot::Sender<Result<()>> },
    /// A worker says who it is.
    Register { ask: Box<Registration>, reply: oneshot::Sender<Result<()>> },
    /// A worker says what is on its device. Whether it is the one that drives it is the answer.
    Observed {
        id: DeviceId,
        incarnation: Incarnation,
        memory: DeviceMemory,
        reply: oneshot::Sender<Result<bool>>,
    },
    /// A worker is not heard of, or is again, or is gone.
    Turned { id: DeviceId, turn: Turn, reply: oneshot::Sender<Result<()>> },
}

/// What has become of a worker.
#[derive(Debug)]
pub enum Turn {
    Silent(Incarnation, String),
    Heard(Incarnation),
    /// Whichever there is, where none is named.
    Lost(Option<Incarnation>, String),
    /// It is not started again.
    Quarantined(String),
}

/// Asks the planner what a command means.
pub(super) fn decide(state: &State, command: DeviceCommand, now: Moment) -> Decided {
    let (answer, events): (Answer, Decision) = match command {
        DeviceCommand::Starting { id, reply } => (Answer::to(reply, Ok(())), starting(state, id, now)),
        DeviceCommand::Register { ask, reply } => match register(state, &ask, state.position().epoch, now) {
            Ok(events) => (Answer::to(reply, Ok(())), events),
            Err(error) => (Answer::to(reply, Err(error)), Vec::new()),
        },
        DeviceCommand::Observed { id, incarnation, memory, reply } => {
            let (events, is_it) = observed(state, id, incarnation, memory, now);
            (Answer::to(reply, Ok(is_it)), events)
        }
        DeviceCommand::Turned { id, turn, reply } => {
            let events = match turn {
                Turn::Silent(incarnation, why) => silent(state, id, incarnation, &why, now),
                Turn::Heard(incarnation) => heard(state, id, incarnation, now),
                Turn::Lost(incarnation, why) => lost(state, id, incarnation, &why, now),
                Turn::Quarantined(why) => quarantine(state, id, &why, now),
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

    /// Takes a worker, or takes it back.
    ///
    /// # Errors
    /// As the planner refuses; DRAINING.
    pub async fn register(&self, ask: Registration) -> Result<()> {
        self.ask_surely(|reply| Command::Device(DeviceCommand::Register { ask: Box::new(ask), reply }))
            .await?
    }

    /// Tells what is on a device; `false` when another worker drives it by now.
    ///
    /// # Errors
    /// DRAINING.
    pub async fn observed(
        &self,
        id: DeviceId,
        incarnation: Incarnation,
        memory: DeviceMemory,
    ) -> Result<bool> {
        let observed = |reply| DeviceCommand::Observed { id, incarnation, memory, reply };
        self.ask_surely(|reply| Command::Device(observed(reply))).await?
    }

    /// Tells what has become of a worker, and waits until everybody can see that.
    pub async fn turned(&self, id: DeviceId, turn: Turn) {
        let turned = |reply| DeviceCommand::Turned { id, turn, reply };
        let _ = self.ask_surely(|reply| Command::Device(turned(reply))).await;
    }
}
