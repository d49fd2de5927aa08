//! Workers' processes and their streams: begun, late, cut, and what the coordinator makes of that.

use anyhow::{Result, bail, ensure};
use hoist_coordinator::control::Turn;
use hoist_domain::{Bytes, DeviceFacts, DeviceId, Generation, Incarnation, Reason, WorkerId};
use hoist_planner::devices::{Registration, Whose};
use hoist_planner::residency::Heard;
use hoist_worker::policy::Desired;
use uuid::Uuid;

use super::link::{Down, Link, Up};
use super::worker::{Worker, wanted};
use super::{DEVICES, DevicesWorld};
use crate::Random;

impl DevicesWorld {
    /// Processes that are not there are started, and dial.
    pub(super) fn start_workers(&mut self) -> Result<bool> {
        let mut is_any = false;
        for (name, capacity, maps) in DEVICES {
            let id: DeviceId = name.parse()?;
            if !self.workers.iter().any(|worker| worker.device == id) {
                let number = self.number();
                self.note("start", format!("{id} as {number}"));
                let control = self.life().control.clone();
                self.life().turn(control.starting(id))?;
                self.workers.push(Worker::new(id, Bytes(capacity), maps, number));
                is_any = true;
            }
        }
        for worker in &self.workers {
            if self.links.iter().any(|link| link.process == worker.number && !link.worker_gone) {
                continue;
            }
            self.made += 1;
            self.links.push(Link::new(worker.device, worker.number, self.made, worker.taken()));
            is_any = true;
        }
        Ok(is_any)
    }

    pub(super) fn kill_worker(&mut self, random: &mut Random) -> Result<()> {
        if self.workers.is_empty() {
            return Ok(());
        }
        let worker = self.workers.swap_remove(random.index(self.workers.len()));
        self.note("kill", format!("worker {} as {}", worker.device, worker.number));
        for link in self.links.iter_mut().filter(|link| link.process == worker.number) {
            (link.is_cut, link.worker_gone) = (true, true);
            // What it has said may be on its way, or not.
            let heard = random.index(link.up.len() + 1);
            link.up.truncate(heard);
        }
        Ok(())
    }

    /// A stream breaks, and everybody lives.
    pub(super) fn cut(&mut self, random: &mut Random) {
        if self.links.is_empty() {
            return;
        }
        let at = random.index(self.links.len());
        if let Some(link) = self.links.get_mut(at) {
            link.is_cut = true;
            let heard = random.index(link.up.len() + 1);
            link.up.truncate(heard);
            let what = format!("{} session {}", link.device, link.session);
            self.note("cut", what);
        }
    }

    /// A worker that is away does not come back in time, whatever its process does.
    pub(super) fn give_up(&mut self, random: &mut Random) -> Result<()> {
        if self.away.is_empty() {
            return Ok(());
        }
        let (device, session) = self.away.swap_remove(random.index(self.away.len()));
        self.note("give up", format!("{device} session {session}"));
        self.turned(device, Turn::Lost(Whose::Session(session), "it did not come back".to_owned()))
    }

    fn turned(&mut self, device: DeviceId, turn: Turn) -> Result<()> {
        let control = self.life().control.clone();
        self.life().turn(control.turned(device, turn))
    }

    /// Something happens on a stream; on each of them.
    pub(super) fn streams(&mut self, random: &mut Random, on_each: bool) -> Result<bool> {
        let mut is_any = false;
        if on_each {
            for at in 0..self.links.len() {
                is_any |=
                    self.worker_side(at)? | self.tell(at)? | self.coordinator_side(at)? | self.desire(at)?;
            }
        } else if !self.links.is_empty() {
            let at = random.index(self.links.len());
            is_any = match random.below(4) {
                0 => self.worker_side(at)?,
                1 => self.tell(at)?,
                2 => self.coordinator_side(at)?,
                _ => self.desire(at)?,
            };
        }
        self.links.retain(|link| !link.is_over());
        Ok(is_any)
    }

    /// A worker reads one message, or sees that there are no more.
    fn worker_side(&mut self, at: usize) -> Result<bool> {
        let Some(link) = self.links.get_mut(at).filter(|link| !link.worker_gone) else { return Ok(false) };
        let Some(worker) = self.workers.iter_mut().find(|worker| worker.number == link.process) else {
            bail!("a stream of no worker is open")
        };
        if link.is_cut {
            link.worker_gone = true;
            return Ok(true);
        }
        match link.down.pop_front() {
            None => return Ok(false),
            Some(Down::Registered { epoch }) => {
                ensure!(worker.taken().is_none_or(|taken| taken.epoch <= epoch), "an older epoch drives");
                link.epoch = Some(epoch);
            }
            Some(Down::Desired(desired)) => {
                let Some(epoch) = link.epoch else { bail!("desired before registered") };
                worker.take(desired, epoch)?;
            }
            Some(Down::Ack(sequence)) => worker.acknowledged(&mut link.told, sequence),
            Some(Down::Refused) => {
                link.worker_gone = true;
            }
        }
        Ok(true)
    }

    /// A worker tells what is new.
    fn tell(&mut self, at: usize) -> Result<bool> {
        let Some(link) = self.links.get_mut(at) else { return Ok(false) };
        if link.worker_gone || link.is_cut || link.epoch.is_none() {
            return Ok(false);
        }
        let worker = self.workers.iter().find(|worker| worker.number == link.process);
        let news = worker.and_then(|worker| worker.news(&mut link.told));
        let Some((sequence, memory, report)) = news else { return Ok(false) };
        link.up.push_back(Up::Observed { sequence, memory, report });
        Ok(true)
    }

    /// The coordinator reads one message, or sees that there are no more.
    fn coordinator_side(&mut self, at: usize) -> Result<bool> {
        let Some(link) = self.links.get_mut(at).filter(|link| !link.coordinator_gone) else {
            return Ok(false);
        };
        let (device, session, process) = (link.device, link.session, link.process);
        let is_over = link.is_cut || link.worker_gone;
        let said = link.up.pop_front();
        match said {
            None if is_over => {
                link.coordinator_gone = true;
                if link.is_registered {
                    self.aftermath(device, session, process)?;
                }
                Ok(true)
            }
            None => Ok(false),
            Some(Up::Register { taken }) => self.register(at, taken),
            Some(Up::Observed { sequence, memory, report }) => {
                ensure!(sequence == link.sequence + 1, "messages are in order");
                let control = self.life().control.clone();
                let heard = self.life().turn(control.observed(device, session, memory, report))??;
                let Some(link) = self.links.get_mut(at) else { bail!("no link") };
                match heard {
                    Heard::Applied => {
                        link.sequence = sequence;
                        link.down.push_back(Down::Ack(sequence));
                    }
                    Heard::NotIts => {
                        link.down.push_back(Down::Refused);
                        link.coordinator_gone = true;
                    }
                    Heard::Lie(lie) => bail!(
                        "an honest worker is said to lie: {lie}: {:#?}",
                        self.workers.iter().find(|worker| worker.device == device)
                    ),
                }
                Ok(true)
            }
        }
    }

    fn aftermath(&mut self, device: DeviceId, session: u64, process: u64) -> Result<()> {
        if self.workers.iter().any(|worker| worker.number == process) {
            self.away.push((device, session));
            self.turned(device, Turn::Silent(session, "its session is over".to_owned()))
        } else {
            self.turned(device, Turn::Lost(Whose::Session(session), "its process has ended".to_owned()))
        }
    }

    fn register(&mut self, at: usize, taken: Option<Generation>) -> Result<bool> {
        let Some(link) = self.links.get(at) else { return Ok(false) };
        let (device, session, process) = (link.device, link.session, link.process);
        let (capacity, maps) = DEVICES
            .iter()
            .find(|(name, ..)| name.parse() == Ok(device))
            .map_or((0, false), |one| (one.1, one.2));
        let ask = Registration {
            worker: WorkerId(Uuid::from_u128(1)),
            incarnation: Incarnation(Uuid::from_u128(process.into())),
            session,
            facts: DeviceFacts {
                id: device,
                model: String::new(),
                capacity: Bytes(capacity),
                maps_segments: maps,
                granule: Bytes(0),
                alignment: Bytes(0),
                bus: Bytes(0),
                node: None,
                dtypes: Vec::new(),
                libraries: Vec::new(),
            },
            process: u32::try_from(process).ok(),
            release: String::new(),
            taken,
        };
        let control = self.life().control.clone();
        let mut before = self.life().turn(control.register(ask.clone()))?;
        if before.as_ref().is_err_and(|error| error.reason() == Reason::DeviceTaken)
            && let Some(orphan) = self.orphan(device)
        {
            self.turned(device, Turn::Lost(Whose::Session(orphan), "its process has ended".to_owned()))?;
            before = self.life().turn(control.register(ask))?;
        }
        match before {
            Ok(before) => {
                let epoch = self.state().position().epoch;
                for link in
                    self.links.iter_mut().filter(|link| link.session == before && link.device == device)
                {
                    link.coordinator_gone = true;
                    link.down.push_back(Down::Refused);
                }
                self.away.retain(|(of, _)| *of != device);
                if let Some(link) = self.links.get_mut(at) {
                    link.is_registered = true;
                    link.coordinator_gone = false;
                    link.down.push_back(Down::Registered { epoch });
                }
            }
            Err(error) => {
                self.note("refused", format!("{device} as {process}: {error}"));
                if let Some(link) = self.links.get_mut(at) {
                    link.down.push_back(Down::Refused);
                    link.coordinator_gone = true;
                }
            }
        }
        Ok(true)
    }

    /// The session of the worker that is thought to drive a device, if its process has ended.
    fn orphan(&self, device: DeviceId) -> Option<u64> {
        let state = self.state();
        let worker = &state.devices().get(device)?.worker;
        let process = worker.process?;
        let is_there = self.workers.iter().any(|one| u32::try_from(one.number) == Ok(process));
        (!is_there).then_some(worker.session)
    }

    /// The coordinator tells what shall be there, if that has changed.
    fn desire(&mut self, at: usize) -> Result<bool> {
        let state = self.state();
        let Some(link) = self.links.get_mut(at) else { return Ok(false) };
        let number = state.residency().generation(link.device);
        if link.coordinator_gone || link.sequence == 0 || link.generation == Some(number) {
            return Ok(false);
        }
        link.generation = Some(number);
        let generation = Generation { epoch: state.position().epoch, number };
        let is_sealed = |digest| state.cache().sealed(digest).is_some();
        let replicas = state.residency().desired(link.device);
        let replicas = replicas.into_iter().map(|one| wanted(one.id, one.digest, is_sealed(one.digest)));
        link.down.push_back(Down::Desired(Desired { generation, replicas: replicas.collect() }));
        Ok(true)
    }

    /// A device's thread takes a step.
    pub(super) fn drive(&mut self, random: &mut Random, may_fail: bool) -> Result<bool> {
        let mut is_any = false;
        let state = self.state();
        let mut aheads = 0;
        for worker in &mut self.workers {
            if !may_fail || random.percent(40) {
                let before = worker.aheads;
                is_any |= worker.drive(&state, random, may_fail)?;
                aheads += worker.aheads - before;
            }
        }
        (0..aheads).for_each(|_| self.note("copied ahead", ""));
        Ok(is_any)
    }

    pub(super) fn workers(&self) -> &[Worker] {
        &self.workers
    }
}
