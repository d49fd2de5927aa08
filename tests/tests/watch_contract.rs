//! The watch contract: filter, ordered, unique, atomic, reliable, resumable, bookmarked, of one epoch.
//!
//! Random histories of a whole coordinator on a simulated disk, with watchers that filter, dawdle, go away and come
//! back. The ledger holds the whole state at every revision at which the test looked; whatever a watcher knows at
//! such a revision must be exactly what a plain filter over it gives, and silence must mean that nothing happened.

#[path = "watch_contract/real.rs"]
mod real;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use hoist_coordinator::watch::WatchSpec;
use hoist_domain::{Error, OperationState, Reason};
use hoist_tests::oracle::{Follower, Ledger, resources};
use hoist_tests::simulation::{Coordinator, Frames, Request, Workload, World, next_now};
use hoist_tests::{Random, soak};
use hoist_wire::frame::WatchFrame;
use hoist_wire::{decode, encode, v1};
use prost::Message;

/// Histories in CI.
const SEEDS: usize = 200;

/// What happens in one history.
const STEPS: usize = 120;

/// Marks as soon as nothing else is to be sent; and never, within a test.
const AT_ONCE: Duration = Duration::from_millis(1);
const NEVER: Duration = Duration::from_secs(3600);

/// What all histories together must have come across: what never happens is not tested.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    messages: u64,
    marks: u64,
    resumed: u64,
    too_slow: u64,
    compacted: u64,
    other_epoch: u64,
    ahead: u64,
    drained: u64,
}

/// A client that keeps what it knows when its stream ends.
struct Client {
    follower: Follower,
    mark_interval: Duration,
    frames: Option<Frames>,
    /// Where the coordinator was when the watch was opened.
    opened_at: u64,
}

struct History {
    world: World,
    life: Coordinator,
    ledger: Ledger,
    clients: Vec<Client>,
    workload: Workload,
    random: Random,
    seen: Seen,
}

impl History {
    fn new(seed: u64) -> Result<Self> {
        let mut random = Random::new(seed);
        let events = *random.pick(&[3, 8, 40, 10_000]).context("there are some")?;
        let world = World::new(events)?;
        let life = world.start()?;
        let mut history = Self {
            world,
            life,
            ledger: Ledger::default(),
            clients: Vec::new(),
            workload: Workload::default(),
            random,
            seen: Seen::default(),
        };
        history.begin_epoch();
        Ok(history)
    }

    fn begin_epoch(&mut self) {
        self.ledger = Ledger::new(self.life.state().position().epoch.0);
        self.record();
    }

    fn record(&mut self) {
        let state = self.life.state();
        self.ledger.record(state.position().revision.0, resources(&state));
    }

    fn step(&mut self) -> Result<()> {
        match self.random.below(100) {
            0..45 => self.change(),
            45..75 => self.read_some(),
            75..83 => self.join(),
            83..90 => self.leave_and_return(),
            90..93 => self.wait_for_a_mark(),
            93..96 => self.resume_where_nobody_can(),
            96..98 => {
                self.world.hands.advance(Duration::from_millis(self.random.below(30_000)));
                Ok(())
            }
            _ => self.restart(),
        }
    }

    fn change(&mut self) -> Result<()> {
        let many = if self.random.percent(70) { 1 } else { 2 + self.random.below(5) };
        let requests: Vec<Request> =
            (0..many).map(|_| self.workload.request(&mut self.random, &self.life)).collect();
        self.life.serve(&requests)?;
        self.record();
        Ok(())
    }

    /// Opens a watch from nothing.
    fn join(&mut self) -> Result<()> {
        if self.clients.len() >= 6 {
            let index = self.random.index(self.clients.len());
            self.clients.swap_remove(index);
        }
        let filter = self.filter();
        let mark_interval = if self.random.percent(40) { AT_ONCE } else { NEVER };
        let mut client = Client::new(filter, mark_interval);
        client.open(&self.world, &self.life)?;
        self.clients.push(client);
        Ok(())
    }

    /// Any combination of the three conditions, each of which is mostly about what exists.
    fn filter(&mut self) -> v1::WatchFilter {
        let mut filter = v1::WatchFilter::default();
        if self.random.percent(30) {
            return filter;
        }
        if self.random.percent(40) {
            let kinds = [v1::ResourceKind::Machine, v1::ResourceKind::Operation, v1::ResourceKind::Condition];
            filter.kinds = self.some_of(&kinds).into_iter().map(Into::into).collect();
        }
        if self.random.percent(40) {
            let mut names: Vec<String> =
                self.life.state().records().map(|record| record.name().to_string()).collect();
            names.push("conditions/TASK_PANICKED".to_owned());
            names.push("operations/00000000-0000-0000-0000-000000000001".to_owned());
            filter.names = self.some_of(&names);
        }
        if self.random.percent(50) {
            let states: Vec<i32> =
                OperationState::ALL.into_iter().map(|state| encode::operation_state(state).into()).collect();
            filter.operation_states = self.some_of(&states);
        }
        filter
    }

    fn some_of<T: Clone>(&mut self, all: &[T]) -> Vec<T> {
        all.iter().filter(|_| self.random.percent(50)).cloned().collect()
    }

    /// Somebody reads a few messages; the others do not.
    fn read_some(&mut self) -> Result<()> {
        let most = 1 + self.random.index(12);
        let Some(index) = (!self.clients.is_empty()).then(|| self.random.index(self.clients.len())) else {
            return Ok(());
        };
        self.read(index, most)
    }

    fn read(&mut self, index: usize, most: usize) -> Result<()> {
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        for _ in 0..most {
            let Some(frames) = &mut client.frames else { return Ok(()) };
            match next_now(frames) {
                None => return Ok(()),
                Some(Some(Ok(frame))) => client.take(&frame, &self.ledger, &mut self.seen)?,
                Some(Some(Err(error))) => {
                    client.ended(&error, &self.world, &self.life, &mut self.seen)?;
                    return client.open(&self.world, &self.life);
                }
                Some(None) => anyhow::bail!("a watch ended without a reason"),
            }
        }
        Ok(())
    }

    /// The connection breaks; the client goes on from where it was, or begins anew.
    fn leave_and_return(&mut self) -> Result<()> {
        let Some(index) = (!self.clients.is_empty()).then(|| self.random.index(self.clients.len())) else {
            return Ok(());
        };
        let changes = self.random.below(3);
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        client.frames = None;
        for _ in 0..changes {
            self.change()?;
        }
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        let Some(at) = client.follower.mirror.position else {
            // It was told of no position: nothing to go on from.
            return client.open(&self.world, &self.life);
        };
        let oldest = self.life.control.history().oldest().0;
        let opened = self.world.watch(&self.life, client.spec(Some(at))?);
        if at.revision >= oldest {
            self.seen.resumed += 1;
            client.frames = Some(opened.map_err(|error| anyhow::anyhow!("cannot resume: {error}"))?);
            return Ok(());
        }
        self.seen.compacted += 1;
        let error = opened.err().context("resumed where nothing is known")?;
        ensure!(error.reason() == Reason::RevisionCompacted, "{error:?}");
        ensure!(error.metadata().get("oldest_revision") == Some(&oldest.to_string()), "{error:?}");
        client.open(&self.world, &self.life)
    }

    /// A mark says that everything up to now has been told.
    fn wait_for_a_mark(&mut self) -> Result<()> {
        let newest = self.ledger.newest;
        let marked = |client: &&mut Client| client.mark_interval == AT_ONCE && client.frames.is_some();
        let Some(client) = self.clients.iter_mut().find(marked) else { return Ok(()) };
        loop {
            let Some(frames) = &mut client.frames else { return Ok(()) };
            match self.world.runtime.block_on(frames.next()).context("a watch ended without a reason")? {
                Ok(frame) => {
                    client.take(&frame, &self.ledger, &mut self.seen)?;
                    if frame.mark.is_some() {
                        ensure!(client.follower.revision() == Some(newest), "a mark that is late");
                        return Ok(());
                    }
                }
                Err(error) => {
                    client.ended(&error, &self.world, &self.life, &mut self.seen)?;
                    client.open(&self.world, &self.life)?;
                }
            }
        }
    }

    /// Ahead of everything, and of another epoch: both are another history.
    fn resume_where_nobody_can(&mut self) -> Result<()> {
        let now = encode::position(self.life.state().position());
        let beyond = 1 + self.random.below(100);
        for (epoch, revision) in [
            (now.epoch, now.revision + beyond),
            (now.epoch + 1, now.revision),
            (now.epoch - 1, now.revision),
            (now.epoch - 1, now.revision + beyond),
        ] {
            let from = v1::Position { epoch, revision };
            let client = Client::new(self.filter(), NEVER);
            let refused = self.world.watch(&self.life, client.spec(Some(from))?).err();
            let reason = refused.as_ref().map(Error::reason);
            ensure!(reason == Some(Reason::EpochMismatch), "from {from:?} at {now:?}: {refused:?}");
            self.seen.ahead += 1;
        }
        Ok(())
    }

    /// The coordinator ends, in one way or another, and a new one starts on the same disk.
    fn restart(&mut self) -> Result<()> {
        if self.random.percent(50) {
            self.drain()?;
        }
        let cut = self.random.percent(50);
        for client in &mut self.clients {
            client.frames = None;
        }
        let next = self.random.below(u64::MAX);
        if cut {
            // Before the old life ends, so that closing the store cannot write either.
            self.world.disk.power_cut(next);
        }
        let old = self.ledger.epoch;
        replace(&mut self.life, &self.world)?;
        self.begin_epoch();
        ensure!(self.ledger.epoch > old, "epoch {} after {old}", self.ledger.epoch);
        for client in &mut self.clients {
            if let Some(at) = client.follower.mirror.position {
                let refused = self.world.watch(&self.life, client.spec(Some(at))?).err();
                let reason = refused.as_ref().map(Error::reason);
                ensure!(reason == Some(Reason::EpochMismatch), "resumed in another epoch: {refused:?}");
                self.seen.other_epoch += 1;
            }
            client.open(&self.world, &self.life)?;
        }
        Ok(())
    }

    /// A stop that everybody hears of: each watch tells everything, and ends.
    fn drain(&mut self) -> Result<()> {
        self.life.serve(&[Request::Drain])?;
        self.record();
        self.life.draining.trigger("the test ends this life");
        for client in &mut self.clients {
            while let Some(frames) = &mut client.frames {
                match next_now(frames).flatten().context("a watch goes on although the server stops")? {
                    Ok(frame) => client.take(&frame, &self.ledger, &mut self.seen)?,
                    Err(error) if error.reason() == Reason::Draining => {
                        client.frames = None;
                        client.follower.check_at(self.ledger.newest, &self.ledger)?;
                        self.seen.drained += 1;
                    }
                    Err(error) => client.ended(&error, &self.world, &self.life, &mut self.seen)?,
                }
            }
        }
        let refused = self.world.watch(&self.life, all()).err();
        ensure!(refused.is_some_and(|error| error.reason() == Reason::Draining), "opened while draining");
        Ok(())
    }

    /// Everybody reads all there is, and knows the final state.
    fn converge(&mut self) -> Result<()> {
        for index in 0..self.clients.len() {
            // Whoever is too late begins anew, and is not late again.
            self.read(index, usize::MAX)?;
            self.read(index, usize::MAX)?;
            let Some(client) = self.clients.get(index) else { continue };
            let known = client.follower.revision().context("no snapshot")?;
            let newest = self.ledger.newest;
            self.ledger
                .check(&client.follower.filter, &client.follower.mirror.resources, known..=newest)
                .context("at the end")?;
        }
        Ok(())
    }
}

impl Client {
    fn new(filter: v1::WatchFilter, mark_interval: Duration) -> Self {
        Self { follower: Follower::new(filter), mark_interval, frames: None, opened_at: 0 }
    }

    fn spec(&self, from: Option<v1::Position>) -> Result<WatchSpec> {
        Ok(WatchSpec {
            from: from.map(decode::position),
            filter: decode::filter(Some(&self.follower.filter))?,
            mark_interval: self.mark_interval,
            progress_interval: None,
        })
    }

    /// Begins anew, with a snapshot.
    fn open(&mut self, world: &World, life: &Coordinator) -> Result<()> {
        self.follower = Follower::new(self.follower.filter.clone());
        self.opened_at = life.state().position().revision.0;
        self.frames = Some(world.watch(life, self.spec(None)?)?);
        Ok(())
    }

    fn take(&mut self, frame: &WatchFrame, ledger: &Ledger, seen: &mut Seen) -> Result<()> {
        let message = v1::WatchResponse::decode(frame.encode_to_vec().as_slice())?;
        seen.messages += 1;
        seen.marks += u64::from(frame.mark.is_some());
        let filter = self.follower.filter.clone();
        self.follower.take(message, ledger).with_context(|| format!("filter {filter:?}"))?;
        let at = self.follower.revision();
        ensure!(at.is_none_or(|at| at >= self.opened_at), "a snapshot older than the call");
        Ok(())
    }

    /// The one way in which a watch of a serving coordinator may end: what follows is not kept any more.
    fn ended(&mut self, error: &Error, world: &World, life: &Coordinator, seen: &mut Seen) -> Result<()> {
        seen.too_slow += 1;
        ensure!(error.reason() == Reason::TooSlow, "{error:?}");
        let mut frames = self.frames.take().context("no watch")?;
        ensure!(matches!(next_now(&mut frames), Some(None)), "a watch goes on after its end");
        let last = error.metadata().get("last_revision").context("no last_revision")?.parse::<u64>()?;
        ensure!(self.follower.revision() <= Some(last), "{error:?} for {:?}", self.follower.revision());
        ensure!(last < life.control.history().oldest().0, "too slow, with everything still there");
        let epoch = life.state().position().epoch.0;
        let from = v1::Position { epoch, revision: last };
        let refused = world.watch(life, self.spec(Some(from))?).err().map(|error| error.reason());
        // A stopping server says so first.
        ensure!(
            matches!(refused, Some(Reason::RevisionCompacted | Reason::Draining)),
            "resumed after TOO_SLOW: {refused:?}"
        );
        Ok(())
    }
}

const fn all() -> WatchSpec {
    WatchSpec {
        from: None,
        filter: hoist_domain::Filter {
            kinds: std::collections::BTreeSet::new(),
            names: std::collections::BTreeSet::new(),
            operation_states: std::collections::BTreeSet::new(),
        },
        mark_interval: NEVER,
        progress_interval: None,
    }
}

/// Ends one life and starts the next; the disk is held by one at a time.
fn replace(life: &mut Coordinator, world: &World) -> Result<()> {
    let placeholder = World::new(1)?;
    drop(std::mem::replace(life, placeholder.start()?));
    *life = world.start()?;
    Ok(())
}

#[test]
fn every_watcher_knows_exactly_what_its_filter_shows_at_every_position() {
    let mut total = Seen::default();
    for seed in soak::seeds(SEEDS) {
        let run = || -> Result<Seen> {
            let mut history = History::new(seed)?;
            for step in 0..STEPS {
                history.step().with_context(|| format!("step {step}"))?;
            }
            history.converge()?;
            Ok(history.seen)
        };
        let seen = run().unwrap_or_else(|error| panic!("HOIST_SEED={seed}: {error:?}"));
        total.messages += seen.messages;
        total.marks += seen.marks;
        total.resumed += seen.resumed;
        total.too_slow += seen.too_slow;
        total.compacted += seen.compacted;
        total.other_epoch += seen.other_epoch;
        total.ahead += seen.ahead;
        total.drained += seen.drained;
    }
    println!("{total:?}");
    if soak::seeds(SEEDS).count() >= SEEDS {
        let Seen { messages, marks, resumed, too_slow, compacted, other_epoch, ahead, drained } = total;
        for count in [messages, marks, resumed, too_slow, compacted, other_epoch, ahead, drained] {
            assert!(count > 50, "{total:?}");
        }
    }
}

/// A snapshot of a hundred thousand models is made once, however many clients come back at the same moment.
#[test]
fn watchers_that_join_together_share_one_encoded_snapshot() {
    let run = || -> Result<()> {
        let world = World::new(100)?;
        let mut life = world.start()?;
        let (mut workload, mut random) = (Workload::default(), Random::new(1));
        let first_chunk = |life: &Coordinator, joiners: usize| -> Result<Vec<(*const u8, Frames)>> {
            let opened: Vec<_> = (0..joiners).map(|_| world.watch(life, all())).collect();
            let chunk = |frames: hoist_domain::Result<Frames>| {
                let mut frames = frames?;
                let frame = next_now(&mut frames).flatten().context("no chunk")??;
                Ok((frame.snapshot.context("not a snapshot")?.as_ptr(), frames))
            };
            opened.into_iter().map(chunk).collect()
        };
        let together = first_chunk(&life, 200)?;
        ensure!(together.iter().all(|(chunk, _)| *chunk == together[0].0), "encoded more than once");
        life.serve(&[Request::Submit(workload.submission(&mut random))])?;
        let later = first_chunk(&life, 2)?;
        ensure!(later.iter().all(|(chunk, _)| *chunk == later[0].0), "encoded more than once");
        ensure!(later[0].0 != together[0].0, "a snapshot older than the call");
        Ok(())
    };
    run().unwrap_or_else(|error| panic!("{error:?}"));
}

/// What a watcher holds of the past is given back in time, though it never reads and so is never running.
#[test]
fn a_snapshot_that_is_not_taken_in_time_is_let_go() {
    let run = || -> Result<()> {
        let world = World::new(100)?;
        let mut life = world.start()?;
        let (mut workload, mut random) = (Workload::default(), Random::new(1));
        let mut filtered = all();
        filtered.filter.kinds.insert(hoist_domain::ResourceKind::Operation);
        for spec in [all(), filtered] {
            let old = std::sync::Arc::downgrade(&life.control.view());
            let mut unread = world.watch(&life, spec.clone())?;
            life.serve(&[Request::Submit(workload.submission(&mut random))])?;
            world.hands.advance(world.history.age - Duration::from_millis(1));
            life.watcher.tick();
            ensure!(old.upgrade().is_some(), "let go too early");
            world.hands.advance(Duration::from_millis(1));
            life.watcher.tick();
            ensure!(old.upgrade().is_none(), "the view is kept for ever");
            let told = next_now(&mut unread).flatten().context("it goes on")?;
            ensure!(told.as_ref().is_err_and(|error| error.reason() == Reason::TooSlow), "{told:?}");
            ensure!(matches!(next_now(&mut unread), Some(None)), "it goes on");
            // One that was taken is a matter of the history alone.
            let mut read = world.watch(&life, spec)?;
            while let Some(Some(frame)) = next_now(&mut read) {
                frame?;
            }
            world.hands.advance(world.history.age * 2);
            life.watcher.tick();
            ensure!(next_now(&mut read).is_none(), "it has ended");
        }
        Ok(())
    };
    run().unwrap_or_else(|error| panic!("{error:?}"));
}
