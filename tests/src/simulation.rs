//! A coordinator without a process: the real owner, store and watcher on a simulated disk, a clock that the test
//! moves, and executors that do what the test says.
//!
//! One thread does everything, in the order in which the test asks for it: a seed is a history, and the same
//! history every time.

mod models;
mod requests;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{FutureExt, Stream, StreamExt};
use hoist_coordinator::control::{Control, Effect, HistoryLimits, Owner, Parts, Restored, restore};
use hoist_coordinator::operations::ProgressBoard;
use hoist_coordinator::watch::{WatchSpec, Watcher};
use hoist_domain::{
    Bytes, CachePolicy, Condition, ConditionKind, ContentHash, Digest, Error, LeaseId, Machine, MachineState,
    Measurement, MeasurementKind, OperationId, OperationOutput, Outcome, Principal, ProbeSpec, Reason,
    RequestId, RequestKey, ServiceTime, Severity, WallTime, Work,
};
use hoist_planner::{Limits, State, Submission};
use hoist_runtime::{Clock, ManualClock, Shutdown};
use hoist_store::simulate::{SimulatedDisk, open_simulated};
use hoist_store::{Exporter, Store};
use hoist_wire::frame::WatchFrame;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::Random;
use requests::ask;
pub use requests::{Reply, Request};

/// What stays when a coordinator ends.
#[derive(Debug)]
pub struct World {
    pub disk: SimulatedDisk,
    pub clock: Clock,
    pub hands: ManualClock,
    pub limits: Limits,
    pub history: HistoryLimits,
    /// Watches need timers, and a place to encode snapshots.
    pub runtime: Runtime,
}

impl World {
    /// An empty disk, and limits that are soon reached.
    ///
    /// # Errors
    /// When there can be no runtime.
    pub fn new(history_events: usize) -> Result<Self> {
        let (clock, hands) = Clock::manual();
        Ok(Self {
            disk: SimulatedDisk::new(),
            clock,
            hands,
            limits: Limits { request_ids: 24, active_operations: 4, retention: Duration::from_secs(60) },
            history: HistoryLimits {
                events: history_events,
                bytes: usize::MAX,
                age: Duration::from_secs(3600),
            },
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build()?,
        })
    }

    /// Opens the disk and starts a coordinator on it.
    ///
    /// # Errors
    /// When the disk cannot be opened, or not written.
    pub fn start(&self) -> Result<Coordinator> {
        let (store, exporter, mut opened) = open_simulated(&self.disk)?;
        let restored = restore(&mut opened, machine(&self.clock));
        ensure!(restored.left_out.is_empty(), "rows that say nothing: {:?}", restored.left_out);
        self.start_with(restored, opened.service_time, store, exporter)
    }

    /// Starts a coordinator on a state and a store of the test's own.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn start_with(
        &self,
        restored: Restored,
        service_time: ServiceTime,
        store: Box<dyn Store>,
        exporter: Box<dyn Exporter>,
    ) -> Result<Coordinator> {
        let Restored { state, superseded, .. } = restored;
        let restored = state.clone();
        let (mut owner, control, effects) = Owner::new(Parts {
            state,
            store,
            service_time,
            clock: self.clock.clone(),
            limits: self.limits,
            history: self.history,
            export_interval: Duration::from_secs(300),
            superseded,
        });
        owner.recover().context("cannot recover")?;
        let draining = Shutdown::new();
        let watcher = Watcher::new(
            control.clone(),
            ProgressBoard::default(),
            self.clock.clone(),
            draining.clone(),
            1_000,
        );
        let restored_at = service_time;
        let running = BTreeMap::new();
        Ok(Coordinator {
            restored,
            restored_at,
            control,
            watcher,
            draining,
            running,
            withdrawn: Vec::new(),
            ended_leases: Vec::new(),
            owner,
            effects,
            exporter,
        })
    }

    /// Opens a watch.
    ///
    /// # Errors
    /// As the watcher refuses.
    pub fn watch(&self, coordinator: &Coordinator, spec: WatchSpec) -> hoist_domain::Result<Frames> {
        // Its marks are timers.
        let _entered = self.runtime.enter();
        let opened = coordinator.watcher.open(spec);
        opened.map(|stream| Box::pin(stream) as Frames)
    }
}

/// One watch, as the connection would poll it.
pub type Frames = Pin<Box<dyn Stream<Item = hoist_domain::Result<WatchFrame>>>>;

/// The next frame of a watch if there is one now: `None` when nothing is to be sent yet.
pub fn next_now(frames: &mut Frames) -> Option<Option<hoist_domain::Result<WatchFrame>>> {
    frames.next().now_or_never()
}

/// One life of a coordinator. Drop it to end it.
pub struct Coordinator {
    /// What the store held when it was opened.
    pub restored: State,
    /// How old the service was then.
    pub restored_at: ServiceTime,
    pub control: Control,
    pub watcher: Watcher,
    /// Ends watches.
    pub draining: Shutdown,
    /// What executors have been told to run, and have not reported on.
    pub running: BTreeMap<OperationId, Running>,
    /// Segments whose names are to be taken away, as that was said.
    pub withdrawn: Vec<Digest>,
    /// Leases that have ended, as that was said.
    pub ended_leases: Vec<LeaseId>,
    owner: Owner,
    effects: mpsc::UnboundedReceiver<Effect>,
    exporter: Box<dyn Exporter>,
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// An executor at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Until its deadline, when it began.
    pub remaining: Duration,
    pub told_to_stop: bool,
}

impl Coordinator {
    /// The newest published state.
    #[must_use]
    pub fn state(&self) -> State {
        self.control.view().state.clone()
    }

    /// Everybody asks at once; the owner takes one turn; executors hear of it. An export is written here and now, and
    /// the owner hears of that too.
    ///
    /// # Errors
    /// When somebody gets no answer, or an executor is told nonsense.
    pub fn serve(&mut self, requests: &[Request]) -> Result<Vec<Reply>> {
        let mut asked: Vec<_> =
            requests.iter().map(|request| Box::pin(ask(self.control.clone(), request.clone()))).collect();
        // Polled once, each has sent its command; some need no answer.
        let mut replies: Vec<Option<Reply>> = asked.iter_mut().map(|asked| asked.now_or_never()).collect();
        for (request, reply) in requests.iter().zip(&replies) {
            if let Request::Finish { id, .. } = request {
                ensure!(reply.is_some(), "no room for a report");
                self.running.remove(id);
            }
        }
        ensure!(self.owner.take_turn() || requests.is_empty(), "nothing reached the owner");
        while let Ok(effect) = self.effects.try_recv() {
            self.carry_out(effect)?;
        }
        // What came back from that, which is how an export went.
        self.owner.take_turn();
        // Last: whoever drains is answered by an effect.
        for (asked, reply) in asked.iter_mut().zip(&mut replies) {
            if reply.is_none() {
                *reply = asked.now_or_never();
            }
        }
        replies.into_iter().map(|reply| reply.context("somebody was not answered")).collect()
    }

    /// Somebody asks; the owner takes one turn; executors hear of it.
    ///
    /// # Errors
    /// When there is no answer, or an executor is told nonsense.
    pub fn turn<T>(&mut self, asked: impl Future<Output = T>) -> Result<T> {
        let mut asked = std::pin::pin!(asked);
        let mut answer = asked.as_mut().now_or_never();
        ensure!(self.owner.take_turn() || answer.is_some(), "nothing reached the owner");
        while let Ok(effect) = self.effects.try_recv() {
            self.carry_out(effect)?;
        }
        self.owner.take_turn();
        if answer.is_none() {
            answer = asked.as_mut().now_or_never();
        }
        answer.context("nobody was answered")
    }

    fn carry_out(&mut self, effect: Effect) -> Result<()> {
        match effect {
            Effect::Start { operation, remaining } => {
                let running = Running { remaining, told_to_stop: false };
                ensure!(
                    self.running.insert(operation.id, running).is_none(),
                    "{} is started twice",
                    operation.id
                );
            }
            Effect::Cancel(id) => {
                // It may have reported already, and the report may still be owed.
                if let Some(running) = self.running.get_mut(&id) {
                    ensure!(!running.told_to_stop, "{id} is told to stop twice");
                    running.told_to_stop = true;
                }
            }
            Effect::Drained(reply) => drop(reply.send(())),
            Effect::Evict(digest) => self.withdrawn.push(digest),
            Effect::LeaseEnded(id, _) => self.ended_leases.push(id),
            Effect::Export(export) => {
                export.write(self.exporter.as_mut());
                let told = self.control.exported().now_or_never();
                ensure!(told.is_some(), "no room to say that it was exported");
            }
            Effect::Ended(id) => {
                if self.running.contains_key(&id) {
                    bail!("{id} has ended although nobody reported it");
                }
            }
        }
        Ok(())
    }
}

/// Makes requests that have much to do with each other: few ids, few kinds of work, often about what exists.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    made: u64,
    has_models: bool,
}

impl Workload {
    /// One that is about models, too.
    #[must_use]
    pub fn with_models() -> Self {
        Self { has_models: true, ..Self::default() }
    }

    /// The next request, given what the coordinator has published.
    pub fn request(&mut self, random: &mut Random, coordinator: &Coordinator) -> Request {
        if self.has_models && random.percent(20) {
            return models::request(&mut self.made, random, coordinator);
        }
        if random.percent(5) {
            return policy(random);
        }
        match random.below(100) {
            0..30 => Request::Submit(self.submission(random)),
            30..35 => Request::Record {
                key: key("/record", random.below(8)),
                content: content(u8::from(random.percent(5))),
            },
            35..50 => Request::Cancel { id: some_operation(random, coordinator), by: Principal::Uid(7) },
            50..62 => Request::Delete(some_operation(random, coordinator)),
            62..85 => self.report(random, coordinator),
            85..90 => Request::Raise(condition(random, coordinator)),
            90..94 => Request::Clear(condition(random, coordinator).kind),
            _ => Request::Tick,
        }
    }

    /// A request for work. One that was made before is repeated with the same content, mostly.
    pub fn submission(&mut self, random: &mut Random) -> Submission {
        self.made += 1;
        let number = random.below(60);
        let kind = usize::try_from(number % 3).unwrap_or(0);
        let work = Work::ProbeMachine(ProbeSpec {
            kinds: MeasurementKind::ALL.get(kind).copied().into_iter().collect(),
            bytes: Bytes::mib(16 + number % 2),
        });
        Submission {
            key: key("/submit", number),
            content: content(u8::from(random.percent(3))),
            work,
            deadline: Duration::from_secs(1 + random.below(30)),
            new_id: OperationId(Uuid::from_u128(
                (u128::from(self.made) << 80) | u128::from(random.below(1 << 32)),
            )),
        }
    }

    /// An executor's report, mostly on what runs.
    fn report(&mut self, random: &mut Random, coordinator: &Coordinator) -> Request {
        let running: Vec<OperationId> = coordinator.running.keys().copied().collect();
        let id = match random.pick(&running) {
            Some(id) if !random.percent(10) => *id,
            _ => some_operation(random, coordinator),
        };
        // Only an executor reports: the real ones never tell of what they do not run.
        self.made += 1;
        let outcome = match random.below(4) {
            0 => Outcome::Failed(Error::new(Reason::ProbeFailed, "the disk is gone").with("operation", id)),
            1 => Outcome::Cancelled(Error::new(Reason::OperationCancelled, "as asked")),
            _ => Outcome::Output(OperationOutput::ProbeMachine(vec![Measurement {
                kind: MeasurementKind::ALL.get(random.index(3)).copied().unwrap_or(MeasurementKind::DiskRead),
                bytes: Bytes::mib(16),
                duration: Duration::from_millis(5),
                bytes_per_second: self.made,
                threads: 2,
                block_bytes: Bytes::mib(4),
                measured_at: WallTime(0),
                note: String::new(),
            }])),
        };
        Request::Finish { id, outcome }
    }
}

/// A change of the cache's policy, which may be none.
fn policy(random: &mut Random) -> Request {
    let budget = (random.below(4) > 0).then(|| Bytes::mib(random.below(3)));
    let content = content(u8::from(random.percent(5)));
    let policy = CachePolicy { budget, ..CachePolicy::default() };
    Request::SetPolicy { key: key("/policy", random.below(12)), content, policy }
}

/// An operation that exists, mostly.
fn some_operation(random: &mut Random, coordinator: &Coordinator) -> OperationId {
    let view = coordinator.control.view();
    let known: Vec<OperationId> =
        view.state.operations_newest_first(None).map(|operation| operation.id).collect();
    match random.pick(&known) {
        Some(id) if !random.percent(3) => *id,
        _ => OperationId(Uuid::from_u128(random.below(1_000).into())),
    }
}

fn condition(random: &mut Random, coordinator: &Coordinator) -> Condition {
    let kind = if random.percent(50) { ConditionKind::TaskPanicked } else { ConditionKind::StoreRebuilt };
    Condition {
        kind,
        severity: if random.percent(50) { Severity::Info } else { Severity::Warning },
        message: format!("message {}", random.below(3)),
        advice: "advice".to_owned(),
        since: WallTime(0),
        details: (0..random.below(3))
            .map(|n| format!("{n} at {}", coordinator.state().record_count()))
            .collect(),
    }
}

/// A request's key. Two principals use the same ids.
#[must_use]
pub fn key(method: &str, number: u64) -> RequestKey {
    let principal = if number.is_multiple_of(2) { Principal::Uid(7) } else { Principal::Loopback };
    RequestKey { principal, method: method.into(), id: RequestId(Uuid::from_u128(u128::from(number / 2))) }
}

/// The hash of some content.
#[must_use]
pub const fn content(number: u8) -> ContentHash {
    ContentHash([number; 32])
}

/// The machine as a start makes it.
#[must_use]
pub fn machine(clock: &Clock) -> Machine {
    Machine {
        state: MachineState::Serving,
        version: "0.0.0".to_owned(),
        process_id: 1,
        started_at: clock.wall(),
        measurements: Vec::new(),
    }
}
