//! A coordinator, its workers and its clients without a process or a socket: the real owner and planner on a simulated disk, the
//! real policy of workers, streams that are late and break, and kills of everybody.
//!
//! The disk is full for a while now and then, in the middle of a commit.
//!
//! One thread does one thing after the other, as a seed says. What a correct world must show is looked at after each, and
//! once more when nobody disturbs it any longer.

mod executors;
mod link;
pub mod shelf;
mod streams;
mod truth;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hoist_coordinator::residency::Restorer;
use hoist_domain::{
    Bytes, DeviceId, Digest, Lease, LeaseId, LeaseState, LeasedOn, LoadSpec, ModelPart, OperationId,
    Placement, Principal, Priority, Replica, Segment, SegmentName, SegmentState, UnloadSpec, WallTime, Work,
};
use hoist_planner::cache::{EvictionAsk, LeaseAsk, Out, Parts, Sealing};
use hoist_planner::{State, Submission};
use uuid::Uuid;

use crate::Random;
use crate::simulation::{Coordinator, World, content, key};
use executors::Executor;
use link::Link;
use worker::Worker;

pub use truth::Intended;

/// Devices: what they hold, and whether a replica there is its segment, mapped.
pub const DEVICES: [(&str, u64, bool); 3] = [("cpu:0", 9, true), ("cuda:0", 8, false), ("cuda:1", 6, false)];

/// All of it.
#[derive(Debug)]
pub struct DevicesWorld {
    world: World,
    /// None between two.
    life: Option<Coordinator>,
    restorer: Restorer,
    workers: Vec<Worker>,
    links: Vec<Link>,
    executors: BTreeMap<OperationId, Executor>,
    leases: BTreeSet<LeaseId>,
    /// Sessions whose streams are over, and whose workers were not seen to end.
    away: Vec<(DeviceId, u64)>,
    /// What shall be on devices, by what was acknowledged.
    intended: Intended,
    /// Writes fail from some point on: what is asked for is refused, and reports are owed.
    is_full: bool,
    made: u64,
    /// What has happened, for whoever looks for the cause of a failure.
    pub log: Vec<String>,
    /// How often each kind of thing has happened.
    pub counts: BTreeMap<&'static str, u64>,
}

impl DevicesWorld {
    /// An empty disk, everything in RAM, and no worker yet.
    ///
    /// # Errors
    /// When there can be no runtime.
    pub fn new() -> Result<Self> {
        let mut world = World::new(64)?;
        world.limits.active_operations = 64;
        world.limits.request_ids = 10_000;
        world.limits.retention = Duration::from_secs(24 * 3600);
        let life = world.start()?;
        let mut new = Self {
            world,
            life: Some(life),
            restorer: Restorer::default(),
            workers: Vec::new(),
            links: Vec::new(),
            executors: BTreeMap::new(),
            leases: BTreeSet::new(),
            away: Vec::new(),
            intended: Intended::default(),
            is_full: false,
            made: 0,
            log: Vec::new(),
            counts: BTreeMap::new(),
        };
        let all: Vec<Digest> = (0..shelf::CONTENTS).map(shelf::digest).collect();
        new.put_into_ram(&all)?;
        Ok(new)
    }

    fn life(&mut self) -> &mut Coordinator {
        self.life.as_mut().expect("one lives")
    }

    /// What the coordinator knows.
    ///
    /// # Panics
    /// Between two of them.
    #[must_use]
    pub fn state(&self) -> State {
        self.life.as_ref().map(Coordinator::state).expect("one lives")
    }

    fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn note(&mut self, kind: &'static str, what: impl std::fmt::Display) {
        *self.counts.entry(kind).or_default() += 1;
        self.log.push(format!("{kind} {what}"));
    }

    /// One thing happens.
    ///
    /// # Errors
    /// When the world is not what it must be.
    pub fn step(&mut self, random: &mut Random) -> Result<()> {
        if self.is_full {
            if random.percent(8) {
                self.room_again()?;
            }
        } else if random.below(300) == 0 {
            self.note("full", "");
            self.is_full = true;
            self.world.disk.fail_writes_after(random.below(24), std::io::ErrorKind::StorageFull);
        }
        match random.below(1_000) {
            0..4 => self.kill_worker(random)?,
            4..9 => self.cut(random),
            9..11 => self.kill_coordinator()?,
            11..16 => self.give_up(random)?,
            16..30 => self.evict(random)?,
            30..50 => self.lease(random)?,
            50..110 => self.ask(random)?,
            110..120 => self.cancel(random)?,
            120..160 => self.pass(Duration::from_millis(random.below(1_500)))?,
            160..200 => drop(self.restore()?),
            200..260 => drop(self.start_workers()?),
            260..520 => {
                // Several: a history that waits for messages shows little.
                for _ in 0..6 {
                    self.streams(random, false)?;
                }
            }
            520..760 => drop(self.drive(random, true)?),
            _ => drop(self.execute(random)?),
        }
        self.check()
    }

    /// Everything goes on, and nobody disturbs it, until nothing happens any more.
    ///
    /// # Errors
    /// When it does not come to rest, or is not what it must be then.
    pub fn settle(&mut self, random: &mut Random) -> Result<()> {
        self.room_again()?;
        let mut quiet = 0;
        for _ in 0..5_000 {
            let mut moved = self.start_workers()?;
            for _ in 0..8 {
                moved |= self.streams(random, true)?;
                moved |= self.drive(random, false)?;
                moved |= self.execute(random)?;
            }
            moved |= self.restore()?;
            self.pass(Duration::from_secs(1))?;
            self.check()?;
            quiet = if moved { 0 } else { quiet + 1 };
            // Random picks may have left something out.
            if quiet > 8 && self.restorer.is_at_rest() {
                return self.at_rest();
            }
        }
        self.at_rest().context("it does not come to rest")?;
        anyhow::bail!("it does not come to rest")
    }

    /// There is room on the disk again. Whether what was decided last has landed is known from here on.
    fn room_again(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.is_full, false) {
            return Ok(());
        }
        self.world.disk.fail_writes(None);
        self.pass(Duration::ZERO)?;
        let now = Intended::of(&self.state());
        if now != self.intended {
            self.note("in doubt", "");
            self.intended = now;
        }
        Ok(())
    }

    fn pass(&mut self, by: Duration) -> Result<()> {
        self.world.hands.advance(by);
        let control = self.life().control.clone();
        self.life().turn(control.tick())
    }

    /// Brings contents into RAM that are not there.
    /// All of these are in RAM, as far as nobody else is just filling them. Whether they are.
    fn fill_ram(&mut self, by: OperationId, digests: &[Digest]) -> Result<bool> {
        let state = self.state();
        let filler = |digest: &Digest| state.cache().filler(SegmentName::Content(*digest));
        let own: BTreeSet<Digest> =
            digests.iter().filter(|digest| filler(digest) == Some(by)).copied().collect();
        let own = own.into_iter().map(|digest| Sealing { digest, bytes: shelf::size(digest) }).collect();
        let control = self.life().control.clone();
        self.life().turn(control.sealed(by, own))??;
        self.put_into_ram(digests)?;
        Ok(digests.iter().all(|digest| self.state().cache().sealed(*digest).is_some()))
    }

    fn put_into_ram(&mut self, digests: &[Digest]) -> Result<()> {
        let state = self.state();
        let segment = |digest: &Digest| Segment {
            name: SegmentName::Content(*digest),
            state: SegmentState::Sealed,
            bytes: shelf::size(*digest),
            is_raw: false,
            component_type: None,
            priority: Priority::Normal,
            wanted_by: BTreeSet::new(),
            sealed_at: Some(WallTime(0)),
            is_zombie: false,
            eviction: None,
        };
        let is_absent = |digest: &&Digest| state.cache().segment(SegmentName::Content(**digest)).is_none();
        let segments: Vec<Segment> = digests.iter().filter(is_absent).map(segment).collect();
        let control = self.life().control.clone();
        self.life().turn(control.adopt(segments, Vec::new()))??;
        Ok(())
    }

    fn ask(&mut self, random: &mut Random) -> Result<()> {
        let some = |random: &mut Random| {
            let number = random.index(shelf::MODELS.len());
            let components = shelf::MODELS.get(number).copied().unwrap_or_default();
            let one = random.pick(components).map(|(name, _)| Box::<str>::from(*name));
            ModelPart {
                model: shelf::model(u8::try_from(number).unwrap_or(0)),
                components: if random.percent(30) { one.into_iter().collect() } else { Vec::new() },
            }
        };
        let mut parts = vec![some(random)];
        if random.percent(20) {
            let more = some(random);
            if parts.iter().all(|part| part.model != more.model) {
                parts.push(more);
            }
            parts.sort();
        }
        let device = DEVICES.get(random.index(DEVICES.len())).map_or("cpu:0", |(name, ..)| name).parse()?;
        let work = if random.percent(25) {
            let device = random.percent(60).then_some(device);
            Work::UnloadModel(UnloadSpec { parts, device, force: random.percent(50) })
        } else {
            let placement = match random.below(6) {
                0 => Placement::Any,
                1 => Placement::Spread,
                2 => Placement::Pack,
                _ => Placement::On(device),
            };
            let priority = *random.pick(&Priority::ALL).unwrap_or(&Priority::Normal);
            Work::LoadModel(LoadSpec {
                parts,
                placement,
                dtype: None,
                priority,
                validate: false,
                allow: Vec::new(),
                force: random.percent(35),
                restores: Vec::new(),
            })
        };
        let number = self.number();
        self.note("ask", format!("{work:?}"));
        let submission = Submission {
            key: key("/devices", number * 2),
            content: content(0),
            work,
            deadline: Duration::from_secs(3_600 * 10),
            new_id: OperationId(Uuid::from_u128(u128::from(number) << 64)),
        };
        let control = self.life().control.clone();
        // Refused or not: there may be too many.
        let _ = self.life().turn(control.submit(submission))?;
        Ok(())
    }

    fn cancel(&mut self, random: &mut Random) -> Result<()> {
        let running: Vec<OperationId> = self.life().running.keys().copied().collect();
        if let Some(id) = random.pick(&running) {
            self.note("cancel", id);
            let control = self.life().control.clone();
            let _ = self.life().turn(control.cancel(*id, Principal::Uid(7)))?;
        }
        Ok(())
    }

    fn evict(&mut self, random: &mut Random) -> Result<()> {
        let number = u8::try_from(random.below(u64::from(shelf::CONTENTS))).unwrap_or(0);
        let out = Out::Named { models: Parts::default(), segments: [shelf::digest(number)].into() };
        // As the kernel says it.
        let there = self.workers.iter().flat_map(|worker| worker.there().values());
        let has_open = |one: &&hoist_domain::ObservedReplica| {
            one.mapped.0 > 0 || one.state == hoist_domain::ReplicaState::Loading
        };
        let open = there.filter(has_open).map(|one| one.digest).collect();
        let ask = EvictionAsk { out, open };
        let request = (key("/evict", self.number() * 2), content(0));
        let control = self.life().control.clone();
        let _ = self.life().turn(control.evict(Some(request), ask))?;
        self.names_go()
    }

    /// The thread that takes names away.
    fn names_go(&mut self) -> Result<()> {
        for digest in std::mem::take(&mut self.life().withdrawn) {
            self.note("out", digest);
            let control = self.life().control.clone();
            self.life().turn(async move { control.out_blocking(digest, None) })?;
        }
        Ok(())
    }

    fn lease(&mut self, random: &mut Random) -> Result<()> {
        let control = self.life().control.clone();
        let held: Vec<LeaseId> = self.leases.iter().copied().collect();
        if random.percent(50)
            && let Some(id) = random.pick(&held).copied()
        {
            self.leases.remove(&id);
            return self.life().turn(control.end_lease(id));
        }
        let mut content = shelf::digest(u8::try_from(random.below(u64::from(shelf::CONTENTS))).unwrap_or(0));
        let there: Vec<std::sync::Arc<Replica>> = self.state().residency().replicas().cloned().collect();
        let mut model = shelf::model(0);
        let on = random.pick(&there).filter(|_| random.percent(40)).map(|replica| {
            content = replica.digest;
            model = replica.models.iter().next().copied().unwrap_or(model);
            LeasedOn { device: replica.device, replicas: vec![replica.id] }
        });
        let id = LeaseId(Uuid::from_u128(u128::from(self.number())));
        let lease = Lease {
            id,
            state: LeaseState::Held,
            model,
            components: vec![("x".into(), content)],
            on,
            bytes: Bytes(0),
            holder: "somebody".to_owned(),
            principal: Principal::Uid(7),
            granted_at: WallTime(0),
            process: None,
        };
        let ask = LeaseAsk { lease, priority: Priority::Normal, is_use: true };
        if self.life().turn(control.grant(ask))? == Ok(true) {
            self.leases.insert(id);
        }
        Ok(())
    }

    fn restore(&mut self) -> Result<bool> {
        let now = self.world.clock.monotonic();
        let state = self.state();
        let mut is_any = false;
        for (of, mut submission) in self.restorer.look(&state, now) {
            // Random ids of its own would make another history of the same seed.
            let number = self.number();
            submission.key = key("/restore", number * 2);
            submission.new_id = OperationId(Uuid::from_u128(u128::from(number) << 64));
            self.note("restore", format!("{of:?}"));
            let control = self.life().control.clone();
            match self.life().turn(control.submit(submission))? {
                Ok(id) => self.restorer.began(of, id),
                Err(_) => self.restorer.put_off(of, now),
            }
            is_any = true;
        }
        Ok(is_any)
    }

    /// The coordinator ends as a killed process does, and the next one starts.
    fn kill_coordinator(&mut self) -> Result<()> {
        self.note("kill", "coordinator");
        let was_full = std::mem::replace(&mut self.is_full, false);
        self.world.disk.fail_writes(None);
        let mut there = self.workers.iter().flat_map(|worker| worker.there().values());
        if there.any(|one| one.state == hoist_domain::ReplicaState::Active) {
            self.note("left behind", "");
        }
        let state = self.state();
        let sealed = |segment: &std::sync::Arc<Segment>| {
            segment.name.digest().filter(|_| segment.state == SegmentState::Sealed)
        };
        let in_ram: Vec<Digest> = state.cache().segments().filter_map(sealed).collect();
        // The one lets go of its disk before the other opens it.
        self.life = None;
        self.life = Some(self.world.start()?);
        for link in &mut self.links {
            (link.is_cut, link.coordinator_gone) = (true, true);
        }
        self.executors.clear();
        self.away.clear();
        self.leases.clear();
        self.restorer = Restorer::default();
        self.put_into_ram(&in_ram)?;
        if was_full {
            // What was in doubt has landed, or has not.
            self.intended = Intended::of(&self.state());
        }
        ensure!(self.life().running.is_empty(), "nothing runs at a start");
        Ok(())
    }
}
