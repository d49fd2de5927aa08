//! The thread that owns the device: one step at a time, as the policy says, and what is there told after each.
//!
//! ```text
//!  a replica here:  WAITING ─► LOADING ─► ACTIVE ─► UNLOADING ─► gone*
//!                      ▲          ├─► FAILED ─► gone*          (forgotten once it is not desired)
//!                      └──────────┴─► gone*                    (not desired any more)
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hoist_domain::{Bytes, ObservedReplica, ReplicaId, ReplicaState};
use tracing::{debug, info, warn};

use crate::device::{Device, Load, Open, Stopped};
use crate::policy::{Desired, Step, Wanted, next};
use crate::shared::{Ask, Shared, Steady, Turn};
use crate::view::{Removed, View};

/// Of a device's memory, what others take or give back while nothing else happens: less is not worth a message.
const WORTH_TELLING: Bytes = Bytes::mib(32);

/// Why the driver ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriveError {
    #[error("the device cannot be opened: {0}")]
    Open(String),
    /// What it held is gone with its process.
    #[error("the device cannot go on: {0}")]
    Poisoned(String),
}

/// Opens the device and drives it until it is told to end; then it holds nothing any more.
///
/// # Errors
/// See [`DriveError`].
pub fn drive(open: Open, shared: &Shared) -> Result<(), DriveError> {
    let device = open().map_err(DriveError::Open)?;
    let facts = device.facts();
    info!(device = %facts.id, model = facts.model, capacity = %facts.capacity, "device opened");
    let mut driver = Driver {
        device,
        shared,
        desired: None,
        there: BTreeMap::new(),
        removed: VecDeque::new(),
        removals: 0,
        problem: "".into(),
    };
    driver.look()?;
    driver.publish();
    shared.opened(facts);
    let mut is_resting = false;
    loop {
        match shared.turn(driver.desired.as_ref(), is_resting) {
            Turn::End => break,
            Turn::Ask(ask) => driver.answer(ask),
            Turn::Desired(desired) => {
                driver.forget_waiting(&desired);
                driver.desired = Some(desired);
                driver.publish();
                is_resting = false;
            }
            Turn::Go => is_resting = !driver.step()?,
            Turn::Look => {
                if driver.look()? {
                    driver.publish();
                }
            }
        }
    }
    let all: Vec<ReplicaId> = driver.there.keys().copied().collect();
    for id in all {
        driver.unload(id)?;
    }
    Ok(())
}

struct Driver<'a> {
    device: Box<dyn Device>,
    shared: &'a Shared,
    desired: Option<Arc<Desired>>,
    /// What was begun: nothing that only waits.
    there: BTreeMap<ReplicaId, ObservedReplica>,
    removed: VecDeque<Removed>,
    removals: u64,
    /// Why the device is to get nothing new.
    problem: Arc<str>,
}

impl Driver<'_> {
    /// One step. Whether there was one to take.
    fn step(&mut self) -> Result<bool, DriveError> {
        match next(self.desired.as_deref(), &self.there) {
            Step::Rest => return Ok(false),
            Step::Unload(id) => self.unload(id)?,
            Step::Load(load) => self.load(&load)?,
        }
        Ok(true)
    }

    /// Whether there is news of the device itself: what is wrong with it, or that others have come or gone.
    fn look(&mut self) -> Result<bool, DriveError> {
        self.shared.looks();
        let checked = self.device.check();
        let memory = self.device.memory();
        self.shared.ends();
        let problem = checked.map_err(DriveError::Poisoned)?;
        let is_news = *problem != *self.problem;
        if is_news {
            warn!(problem, "the device's health has changed");
            self.problem = problem.into();
        }
        let told = self.shared.views().borrow().memory;
        let moved = told.free.0.abs_diff(memory.free.0).max(told.others.0.abs_diff(memory.others.0));
        Ok(is_news || moved >= WORTH_TELLING.0)
    }

    fn load(&mut self, load: &Load) -> Result<(), DriveError> {
        let replica = observed(load, ReplicaState::Loading);
        self.there.insert(load.id, replica.clone());
        self.publish();
        self.shared.begins(load.id);
        let began = self.shared.now();
        let mut pace = Steady { shared: self.shared, id: load.id, told: None };
        let loaded = self.device.load(load, &mut pace);
        self.shared.ends();
        let replica = match loaded {
            Ok(loaded) => {
                let took = self.shared.now().saturating_sub(began);
                debug!(replica = %load.id, digest = %load.digest, bytes = %Bytes(loaded.own.0 + loaded.mapped.0), ?took, "loaded");
                Some(ObservedReplica {
                    state: ReplicaState::Active,
                    own: loaded.own,
                    mapped: loaded.mapped,
                    tensors: loaded.tensors,
                    load_time: Some(took),
                    ..replica
                })
            }
            Err(Stopped::NotWanted) => {
                debug!(replica = %load.id, digest = %load.digest, "not desired any more: given up");
                None
            }
            Err(Stopped::Failed(failure)) => {
                warn!(replica = %load.id, digest = %load.digest, %failure, "not loaded");
                Some(ObservedReplica { state: ReplicaState::Failed, failure: Some(failure), ..replica })
            }
            Err(Stopped::Poisoned(why)) => return Err(DriveError::Poisoned(why)),
        };
        match replica {
            Some(replica) => drop(self.there.insert(load.id, replica)),
            // It waits again, as far as the set says that this driver works by; the newer one, which does not name it, is taken
            // next, and it is told as gone with that.
            None => drop(self.there.remove(&load.id)),
        }
        self.publish();
        Ok(())
    }

    fn unload(&mut self, id: ReplicaId) -> Result<(), DriveError> {
        if let Some(replica) = self.there.get_mut(&id)
            && replica.state == ReplicaState::Active
        {
            replica.state = ReplicaState::Unloading;
            self.publish();
        }
        self.shared.begins(id);
        let unloaded = self.device.unload(id).unwrap_or_default();
        self.shared.ends();
        self.there.remove(&id);
        debug!(replica = %id, expected = %unloaded.expected, returned = %unloaded.returned, "unloaded");
        self.account(id, unloaded.expected, unloaded.returned);
        self.look()?;
        self.publish();
        Ok(())
    }

    /// What only waited and is not desired any more is gone, too.
    fn forget_waiting(&mut self, next: &Desired) {
        let kept: BTreeSet<ReplicaId> = next.replicas.iter().map(|wanted| wanted.id).collect();
        let before = self.desired.clone();
        let waiting = before.iter().flat_map(|desired| &desired.replicas).map(|wanted| wanted.id);
        let gone: Vec<ReplicaId> =
            waiting.filter(|id| !kept.contains(id) && !self.there.contains_key(id)).collect();
        for id in gone {
            self.account(id, Bytes(0), Bytes(0));
        }
    }

    fn account(&mut self, id: ReplicaId, expected: Bytes, returned: Bytes) {
        self.removals += 1;
        self.removed.push_back(Removed { number: self.removals, id, expected, returned });
        let heard = self.shared.heard();
        while self.removed.len() > View::MOST_REMOVED
            || self.removed.front().is_some_and(|removed| removed.number <= heard)
        {
            self.removed.pop_front();
        }
    }

    /// If nobody is left to hear of it, the session is over, or who asked is gone.
    fn answer(&self, ask: Ask) {
        match ask {
            Ask::Read(read) => {
                let piece = self.device.read(read.id, &read.tensor, read.offset, read.length);
                let _ = read.reply.send(piece);
            }
            Ask::Share(id, reply) => {
                let is_active = |one: &ObservedReplica| one.state == ReplicaState::Active;
                let shared = match self.there.get(&id).filter(|one| is_active(one)) {
                    Some(_) => self.device.share(id),
                    None => Err("it is not there any more".to_owned()),
                };
                let _ = reply.send(shared);
            }
        }
    }

    fn publish(&self) {
        let before = self.shared.views().borrow().clone();
        let kept = |replica: ObservedReplica| {
            let known = before.replicas.get(&replica.id).filter(|known| ***known == replica);
            (replica.id, known.cloned().unwrap_or_else(|| Arc::new(replica)))
        };
        let waiting = self.desired.iter().flat_map(|desired| &desired.replicas);
        let waiting = waiting.filter(|wanted| !self.there.contains_key(&wanted.id));
        let waiting = waiting.map(|wanted: &Wanted| observed(&wanted.load(), ReplicaState::Waiting));
        self.shared.publish(View {
            answers: self.desired.as_ref().map(|desired| desired.generation),
            replicas: self.there.values().cloned().chain(waiting).map(kept).collect(),
            removed: self.removed.clone(),
            memory: self.device.memory(),
            problem: Arc::clone(&self.problem),
        });
    }
}

fn observed(load: &Load, state: ReplicaState) -> ObservedReplica {
    ObservedReplica {
        id: load.id,
        digest: load.digest,
        dtype: load.dtype,
        state,
        own: Bytes(0),
        mapped: Bytes(0),
        tensors: 0,
        load_time: None,
        failure: None,
    }
}
