//! What the loader asks of the owner, and what the planner makes of it.

use std::collections::BTreeSet;

use hoist_domain::{Digest, OperationId, Result};
use hoist_planner::residency::{
    Leaving, LoadAsk, Offer, PlaceAsk, Placed, UnloadAsk, admit, place, place_early, unload,
};
use hoist_planner::{Decision, Moment, State};
use tokio::sync::oneshot;

use super::decide::{Answer, Decided};
use super::{Command, Control};

/// Something about what is on devices.
#[derive(Debug)]
pub enum ResidencyCommand {
    /// A device, and room on it, for what is not in RAM yet.
    Admit { id: OperationId, ask: Box<LoadAsk>, reply: oneshot::Sender<Result<Offer>> },
    /// What is in RAM of an admitted load is to be on its device, while the rest is read.
    PlaceEarly { ask: Box<PlaceAsk>, held: BTreeSet<Digest>, reply: oneshot::Sender<Result<()>> },
    /// What is in RAM is to be on a device.
    Place { ask: Box<PlaceAsk>, reply: oneshot::Sender<Result<Placed>> },
    /// It is to be there no more. Durable.
    Unload { ask: Box<UnloadAsk>, reply: oneshot::Sender<Result<Vec<Leaving>>> },
}

/// Asks the planner what a command means.
pub(super) fn decide(state: &State, command: ResidencyCommand, now: Moment) -> Decided {
    fn split<T: Send + 'static>(
        reply: oneshot::Sender<Result<T>>,
        decided: Result<(Decision, T)>,
    ) -> (Answer, Decision) {
        match decided {
            Ok((events, answer)) => (Answer::to(reply, Ok(answer)), events),
            Err(error) => (Answer::to(reply, Err(error)), Vec::new()),
        }
    }
    let (answer, events) = match command {
        ResidencyCommand::Admit { id, ask, reply } => split(reply, admit(state, id, &ask)),
        ResidencyCommand::PlaceEarly { ask, held, reply } => {
            split(reply, place_early(state, &ask, &held, now).map(|events| (events, ())))
        }
        ResidencyCommand::Place { ask, reply } => split(reply, place(state, &ask, now)),
        ResidencyCommand::Unload { ask, reply } => split(reply, unload(state, &ask, now)),
    };
    Decided { answer, events, report: None, follow_up: None, is_bound: true }
}

/// For the loader. Calls wait for room in the queue.
impl Control {
    /// Reserves room on a device.
    ///
    /// # Errors
    /// As the planner refuses, or STORE_READONLY, DRAINING.
    pub async fn admit(&self, id: OperationId, ask: LoadAsk) -> Result<Offer> {
        let admit = |reply| ResidencyCommand::Admit { id, ask: Box::new(ask), reply };
        self.ask_surely(|reply| Command::Residency(admit(reply))).await?
    }

    /// Brings what is held in RAM already of an admitted load to its device, where nobody has to make room for that.
    ///
    /// # Errors
    /// As the planner refuses, or STORE_READONLY, DRAINING.
    pub async fn place_early(&self, ask: PlaceAsk, held: BTreeSet<Digest>) -> Result<()> {
        let place = |reply| ResidencyCommand::PlaceEarly { ask: Box::new(ask), held, reply };
        self.ask_surely(|reply| Command::Residency(place(reply))).await?
    }

    /// Brings what is in RAM to a device.
    ///
    /// # Errors
    /// As the planner refuses, or STORE_READONLY, DRAINING.
    pub async fn place(&self, ask: PlaceAsk) -> Result<Placed> {
        let place = |reply| ResidencyCommand::Place { ask: Box::new(ask), reply };
        self.ask_surely(|reply| Command::Residency(place(reply))).await?
    }

    /// Takes models off devices: what becomes of their replicas.
    ///
    /// # Errors
    /// As the planner refuses, or STORE_READONLY, DRAINING.
    pub async fn unload(&self, ask: UnloadAsk) -> Result<Vec<Leaving>> {
        let unload = |reply| ResidencyCommand::Unload { ask: Box::new(ask), reply };
        self.ask_surely(|reply| Command::Residency(unload(reply))).await?
    }
}
