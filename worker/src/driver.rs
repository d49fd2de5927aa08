//! The thread that owns the device: one step at a time, as the policy says, and what is there told after each.
//!
//! ```text
//!  a replica here:  WAITING ─► LOADING ─► ACTIVE ─► UNLOADING ─► gone*
//!                      ▲          ├─► FAILED ─► gone*          (forgotten once it is not desired)
//!                      └──────────┴─► gone*                    (not desired any more)
//! ```
//! LOADING is a step that ends in one of these; or many, while its segment is still being filled: what is there of it is copied
//! whenever there is nothing else to do, and the step that ends it takes what is left.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{Bytes, DeviceFacts, DeviceMemory, ObservedReplica, ReplicaId, ReplicaState};
use tracing::{debug, info, warn};

use crate::device::{Ahead, Checked, Device, Load, Open, Stopped};
use crate::policy::{Desired, Step, Wanted, next};
use crate::shared::{Ask, Shared, Steady, Turn};
use crate::view::{Removed, View};

/// Of a device's memory, what others take or give back while nothing else happens: less is not worth a message.
const WORTH_TELLING: Bytes = Bytes::mib(32);

/// Of a segment that is being filled, what is not worth a step.
const WORTH_COPYING: Bytes = Bytes::mib(8);

/// Why the driver ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriveError {
    #[error("the device cannot be opened: {0}")]
    Open(String),
    /// What it held is gone with its process.
    #[error("the device cannot go on: {0}")]
    Poisoned(String),
    /// Nobody has memory of this process's, and its successor has everything back from RAM.
    #[error("this process is to be renewed: {0}")]
    Retains(String),
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
        ahead: BTreeMap::new(),
        removed: VecDeque::new(),
        removals: 0,
        problem: "".into(),
    };
    let driven = driver.run(facts);
    if matches!(driven, Err(DriveError::Poisoned(_))) {
        // Nothing can be given back, and whatever tries may hang: what the device has goes with its process.
        std::mem::forget(driver.device);
    }
    driven
}

struct Driver<'a> {
    device: Box<dyn Device>,
    shared: &'a Shared,
    desired: Option<Arc<Desired>>,
    /// What was begun: nothing that only waits.
    there: BTreeMap<ReplicaId, ObservedReplica>,
    /// Replicas whose segments were not complete when they were begun.
    ahead: BTreeMap<ReplicaId, Begun>,
    removed: VecDeque<Removed>,
    removals: u64,
    /// Why the device is to get nothing new.
    problem: Arc<str>,
}

/// What was copied of a replica while its segment was being filled.
#[derive(Clone, Copy, Debug)]
enum Begun {
    /// Since then, of what was there so much.
    Copied(Duration, Bytes),
    /// The device does not do that.
    Not,
}

impl Driver<'_> {
    fn run(&mut self, facts: DeviceFacts) -> Result<(), DriveError> {
        self.look()?;
        self.publish();
        self.shared.opened(facts);
        let mut is_resting = false;
        loop {
            match self.shared.turn(self.desired.as_ref(), is_resting) {
                Turn::End => break,
                Turn::Ask(ask) => self.answer(ask),
                Turn::Desired(desired) => {
                    self.forget_waiting(&desired);
                    self.desired = Some(desired);
                    self.publish();
                    is_resting = false;
                }
                Turn::Go => is_resting = !self.step()? && !self.rest(),
                Turn::Look => {
                    if self.look()? {
                        self.publish();
                    }
                }
            }
        }
        let all: Vec<ReplicaId> = self.there.keys().copied().collect();
        for id in all {
            self.unload(id)?;
        }
        Ok(())
    }

    /// One step. Whether there was one to take.
    fn step(&mut self) -> Result<bool, DriveError> {
        match next(self.desired.as_deref(), &self.there, |wanted| self.more_for(wanted)) {
            Step::Rest => return Ok(false),
            Step::Unload(id) => self.unload(id)?,
            Step::Load(load) => self.load(&load)?,
            Step::Ahead(ahead) => self.copy_ahead(&ahead)?,
        }
        Ok(true)
    }

    /// What the device has to do beside that. Whether there is more of it.
    fn rest(&mut self) -> bool {
        self.shared.looks();
        let is_more = self.device.rest();
        self.shared.ends();
        is_more
    }

    /// What there is of its segment beyond what was copied, if that is worth a step.
    fn more_for(&self, wanted: &Wanted) -> Option<Ahead> {
        let copied = match self.ahead.get(&wanted.id) {
            Some(Begun::Not) => return None,
            Some(Begun::Copied(_, there)) => *there,
            None => Bytes(0),
        };
        let (path, there) = self.shared.there(wanted.digest)?;
        let is_worth = there.0 >= copied.0.saturating_add(WORTH_COPYING.0);
        is_worth.then_some(Ahead { id: wanted.id, path, there })
    }

    fn copy_ahead(&mut self, ahead: &Ahead) -> Result<(), DriveError> {
        let id = ahead.id;
        self.shared.begins(id);
        let now = self.shared.now();
        let mut pace = Steady { shared: self.shared, id, told: None };
        let copied = self.device.ahead(ahead, &mut pace);
        self.shared.ends();
        let since = match self.ahead.get(&id) {
            Some(Begun::Copied(since, _)) => *since,
            _ => now,
        };
        let taken = match copied {
            Ok(Some(taken)) => taken,
            // The newer set does not name it: what was copied goes with the next step.
            Err(Stopped::NotWanted) => return Ok(()),
            Err(Stopped::Poisoned(why)) => return Err(DriveError::Poisoned(why)),
            Ok(None) | Err(Stopped::Failed(_)) => {
                debug!(replica = %id, ?copied, "not copied while its segment is filled");
                self.ahead.insert(id, Begun::Not);
                self.takes_ahead(id, Bytes(0));
                return Ok(());
            }
        };
        self.ahead.insert(id, Begun::Copied(since, ahead.there));
        self.takes_ahead(id, taken);
        Ok(())
    }

    /// So much of the device is taken for a replica whose segment is still being filled.
    fn takes_ahead(&mut self, id: ReplicaId, taken: Bytes) {
        let wanted = self.desired.iter().flat_map(|desired| &desired.replicas).find(|one| one.id == id);
        let Some(wanted) = wanted else { return };
        let is_known = self.there.get(&id).is_some_and(|one| one.own == taken);
        if !is_known && (taken > Bytes(0) || self.there.contains_key(&id)) {
            let loading = observed(&wanted.load(), ReplicaState::Loading);
            self.there.insert(id, ObservedReplica { own: taken, ..loading });
            self.publish();
        }
    }

    /// Whether there is news of the device itself: what is wrong with it, or that others have come or gone.
    fn look(&mut self) -> Result<bool, DriveError> {
        self.shared.looks();
        let checked = self.device.check();
        let memory = self.memory();
        self.shared.ends();
        let problem = match checked.map_err(DriveError::Poisoned)? {
            Checked::Well => String::new(),
            Checked::Problem(problem) => problem,
            // Whoever has memory of a replica's has it by this process: it is not taken from them for tidiness.
            Checked::Retains(why) if !self.shared.lent().is_any() => return Err(DriveError::Retains(why)),
            Checked::Retains(_) => String::new(),
        };
        let is_news = *problem != *self.problem;
        if is_news {
            warn!(problem, "the device's health has changed");
            self.problem = problem.into();
        }
        let told = self.shared.views().borrow().memory;
        let is_lent_otherwise = (told.lent, told.lent_to) != (memory.lent, memory.lent_to);
        let moved = told.free.0.abs_diff(memory.free.0).max(told.others.0.abs_diff(memory.others.0));
        Ok(is_news || is_lent_otherwise || moved >= WORTH_TELLING.0)
    }

    /// The device's, and what of replicas that are gone others still have.
    fn memory(&self) -> DeviceMemory {
        let (lent, lent_to) = self.shared.lent().left();
        DeviceMemory { lent, lent_to, ..self.device.memory() }
    }

    fn load(&mut self, load: &Load) -> Result<(), DriveError> {
        let own = self.there.get(&load.id).map_or(Bytes(0), |begun| begun.own);
        let replica = ObservedReplica { own, ..observed(load, ReplicaState::Loading) };
        self.there.insert(load.id, replica.clone());
        self.publish();
        self.shared.begins(load.id);
        let began = match self.ahead.remove(&load.id) {
            Some(Begun::Copied(since, _)) => since,
            _ => self.shared.now(),
        };
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
                Some(ObservedReplica {
                    state: ReplicaState::Failed,
                    own: Bytes(0),
                    failure: Some(failure),
                    ..replica
                })
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
        self.ahead.remove(&id);
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
        self.ahead.retain(|id, _| kept.contains(id) || self.there.contains_key(id));
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
            Ask::Sum(id, reply) => {
                let is_active = |one: &ObservedReplica| one.state == ReplicaState::Active;
                let summed = match self.there.get(&id).filter(|one| is_active(one)) {
                    Some(_) => {
                        self.shared.begins(id);
                        let mut pace = Steady { shared: self.shared, id, told: None };
                        let summed = self.device.sums(id, &mut pace);
                        self.shared.ends();
                        summed
                    }
                    None => Err("it is not there any more".to_owned()),
                };
                let _ = reply.send(summed);
            }
            Ask::Share(id, reply) => {
                // What is not desired any more goes with the next step: whoever had it from now on would keep its bytes.
                let newest = self.shared.desired();
                let is_desired = newest.iter().flat_map(|one| &one.replicas).any(|one| one.id == id);
                let is_active = |one: &ObservedReplica| one.state == ReplicaState::Active;
                let shared = match self.there.get(&id).filter(|one| is_desired && is_active(one)) {
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
            memory: self.memory(),
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
