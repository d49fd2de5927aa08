//! Runs what the owner started; sends exactly one report for each.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use futures_util::FutureExt as _;
use hoist_domain::{
    Error, Operation, OperationId, OperationOutput, Outcome, Principal, ProbeSpec, Reason, ResourceName,
    Result, ScanReport, ScanSpec, Work,
};
use hoist_planner::deadline_exceeded;
use hoist_runtime::{Clock, Gate, OnError, Tasks};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::probe::{self, Stopped};
use super::{ProgressBoard, ProgressCell, Waiters};
use crate::cache::Cache;
use crate::catalog::Catalog;
use crate::control::{Control, Effect, Export};
use crate::residency::Loader;

/// From the wish to stop to giving up the wait for it. Executors answer within milliseconds, unless a disk does not.
const GIVE_UP: Duration = Duration::from_secs(5);

/// How often progress is sampled for its rate.
const MARK_EVERY: Duration = Duration::from_millis(250);

/// Where executors may work.
#[derive(Clone, Debug)]
pub struct Directories {
    pub state: PathBuf,
    pub runtime: PathBuf,
}

/// Who does the work.
#[derive(Clone, Debug)]
pub struct Executors {
    pub catalog: Catalog,
    pub cache: Cache,
    pub loader: Loader,
}

/// Starts and stops executors as the owner says.
#[derive(Clone, Debug)]
pub struct Runner {
    pub control: Control,
    pub board: ProgressBoard,
    pub waiters: Waiters,
    pub tasks: Tasks,
    pub clock: Clock,
    /// Held by each running operation: a shutdown waits for it, for a while.
    pub gate: Gate,
    pub directories: Directories,
    executors: Executors,
    running: Arc<DashMap<OperationId, Arc<Stop>>>,
}

/// Tells an executor to stop, and remembers why.
#[derive(Debug, Default)]
struct Stop {
    token: CancellationToken,
    why: OnceLock<Why>,
    /// The server asked for it itself.
    is_own: bool,
}

#[derive(Clone, Copy, Debug)]
enum Why {
    Asked,
    Deadline,
    Draining,
}

impl Stop {
    /// The first reason is the one that is reported.
    fn now(&self, why: Why) {
        let _ = self.why.set(why);
        self.token.cancel();
    }
}

impl Runner {
    #[must_use]
    pub fn new(
        control: Control,
        tasks: Tasks,
        clock: Clock,
        gate: Gate,
        directories: Directories,
        executors: Executors,
    ) -> Self {
        Self {
            control,
            board: ProgressBoard::default(),
            waiters: Waiters::default(),
            tasks,
            clock,
            gate,
            directories,
            executors,
            running: Arc::default(),
        }
    }

    /// Carries out effects until the owner is gone; exports are carried out by whoever takes them from `exports`.
    pub async fn run(
        self,
        mut effects: mpsc::UnboundedReceiver<Effect>,
        exports: std::sync::mpsc::Sender<Box<Export>>,
    ) -> Result<(), std::convert::Infallible> {
        while let Some(effect) = effects.recv().await {
            match effect {
                Effect::Start { operation, remaining } => self.start(operation, remaining),
                Effect::Cancel(id) => {
                    if let Some(stop) = self.running.get(&id) {
                        stop.now(Why::Asked);
                    }
                }
                Effect::Ended(id) => self.waiters.forget(id),
                Effect::Evict(digest) => self.executors.cache.evict(digest),
                Effect::LeaseEnded(id, revoked) => self.executors.cache.lease_ended(id, revoked.as_deref()),
                Effect::Drained(reply) => drop(reply.send(())),
                // Their thread is gone only because it has panicked, which ends the server.
                Effect::Export(export) => drop(exports.send(export)),
            }
        }
        Ok(())
    }

    /// Tells what the server does unasked to stop: nobody waits for it.
    pub fn stop_own(&self) {
        for running in self.running.iter().filter(|running| running.value().is_own) {
            running.value().now(Why::Draining);
        }
    }

    /// Tells everything that runs to stop, because the server does.
    pub fn stop_all(&self) {
        for running in self.running.iter() {
            running.value().now(Why::Draining);
        }
    }

    fn start(&self, operation: Arc<Operation>, remaining: Duration) {
        let id = operation.id;
        let is_own = operation.principal == Principal::Hoist;
        let stop = Arc::new(Stop { is_own, ..Stop::default() });
        // Registered before the task exists, so that a cancel that follows at once finds it.
        self.running.insert(id, Arc::clone(&stop));
        let cell = self.board.open(id);
        let runner = self.clone();
        let name = ResourceName::Operation(id).to_string();
        let hold = self.gate.hold(name.clone());
        self.tasks.spawn(name, OnError::Log, async move {
            let executed =
                AssertUnwindSafe(runner.execute(&operation, &stop, cell, remaining)).catch_unwind();
            // Whatever happens in there, the operation ends.
            let outcome = executed.await.unwrap_or_else(|panic| {
                let message = hoist_runtime::panic_message(panic.as_ref());
                runner.tasks.record_panic("operation", message);
                Outcome::Failed(defect(message))
            });
            info!(operation = %id, state = %end_of(&outcome), "operation ended");
            runner.control.finish(id, outcome).await;
            runner.board.close(id);
            runner.running.remove(&id);
            drop(hold);
            Ok::<(), std::convert::Infallible>(())
        });
    }

    async fn execute(
        &self,
        operation: &Operation,
        stop: &Stop,
        cell: Arc<ProgressCell>,
        remaining: Duration,
    ) -> Outcome {
        let work = self.work(operation, stop, &cell);
        tokio::pin!(work);
        let deadline = tokio::time::sleep(remaining);
        tokio::pin!(deadline);
        let mut marks = tokio::time::interval(MARK_EVERY);
        let given_up = async {
            stop.token.cancelled().await;
            tokio::time::sleep(GIVE_UP).await;
        };
        tokio::pin!(given_up);
        let finished = loop {
            tokio::select! {
                finished = &mut work => break finished,
                () = &mut given_up => {
                    warn!(operation = %operation.id, "told to stop, it does not: a disk that does not answer? it is left behind");
                    break Done::Stopped;
                }
                () = &mut deadline, if !stop.token.is_cancelled() => stop.now(Why::Deadline),
                _ = marks.tick() => cell.mark(self.clock.monotonic()),
            }
        };
        match finished {
            Done::Output(output) => Outcome::Output(output),
            Done::Failed(error) => Outcome::Failed(error),
            Done::Stopped => stopped(operation, stop.why.get().copied().unwrap_or(Why::Asked)),
        }
    }

    /// The work itself. It looks at the token now and then, and ends soon after that is cancelled.
    async fn work(&self, operation: &Operation, stop: &Stop, cell: &Arc<ProgressCell>) -> Done {
        let token = &stop.token;
        let done = match &operation.work {
            Work::ProbeMachine(spec) => return self.probe(spec.clone(), stop, cell).await,
            Work::ScanModels(spec) => self.scan(spec, stop, cell).await.map(OperationOutput::ScanModels),
            Work::DigestModels(spec) => {
                let is_background = spec.models.is_empty();
                if is_background {
                    self.executors.catalog.pause_digests(false);
                }
                let digested = self.executors.catalog.digest(spec, cell, token).await;
                if is_background && matches!(stop.why.get(), Some(Why::Asked)) {
                    self.executors.catalog.pause_digests(true);
                }
                digested.map(OperationOutput::DigestModels)
            }
            Work::CacheModel(spec) => {
                let cached = self.executors.cache.cache(spec, operation.id, cell, token, &|_, _| {}).await;
                cached.map(|report| OperationOutput::CacheModel(Box::new(report)))
            }
            Work::LoadModel(spec) => {
                let loaded = self.executors.loader.load(spec, operation.id, cell, token).await;
                loaded.map(|report| OperationOutput::LoadModel(Box::new(report)))
            }
            Work::UnloadModel(spec) => {
                let unloaded = self.executors.loader.unload(spec, cell, token).await;
                unloaded.map(|report| OperationOutput::UnloadModel(Box::new(report)))
            }
            Work::ValidateModel(spec) => {
                let validated = self.executors.catalog.validate(spec, cell, token).await;
                validated.map(|report| OperationOutput::ValidateModel(Box::new(report)))
            }
        };
        match done {
            _ if token.is_cancelled() => Done::Stopped,
            Ok(output) => Done::Output(output),
            Err(error) => Done::Failed(error),
        }
    }

    async fn scan(&self, spec: &ScanSpec, stop: &Stop, cell: &Arc<ProgressCell>) -> Result<ScanReport> {
        self.executors.catalog.must_know(&spec.paths, &stop.token).await?;
        let mut report = self.executors.catalog.look(spec, cell, &stop.token).await?;
        if spec.validate && !stop.token.is_cancelled() {
            let (validated, damaged) = self.executors.catalog.validate_below(spec, cell, &stop.token).await?;
            (report.validated, report.damaged) = (validated, damaged);
        }
        Ok(report)
    }

    async fn probe(&self, spec: ProbeSpec, stop: &Stop, cell: &Arc<ProgressCell>) -> Done {
        let machine = probe::Machine { directories: self.directories.clone(), clock: self.clock.clone() };
        let (counted, token) = (Arc::clone(cell), stop.token.clone());
        let run = move || probe::run(&spec, &machine, &counted, &token);
        match self.tasks.run_blocking("probe machine", run).await {
            Ok(Ok(measurements)) => Done::Output(OperationOutput::ProbeMachine(measurements)),
            Ok(Err(Stopped)) => Done::Stopped,
            Err(panicked) => Done::Failed(defect(&panicked.to_string())),
        }
    }
}

fn defect(what: &str) -> Error {
    Error::new(
        Reason::Internal,
        format!("the operation ended by a defect of Hoist ({what}); report it with the server's log"),
    )
}

/// How it ended, as the log says it.
const fn end_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Output(_) => "succeeded",
        Outcome::Failed(_) => "failed",
        Outcome::Cancelled(_) => "cancelled",
    }
}

/// How work came to its end.
enum Done {
    Output(OperationOutput),
    Failed(Error),
    /// It was told to stop, and why is known elsewhere.
    Stopped,
}

fn stopped(operation: &Operation, why: Why) -> Outcome {
    let cancelled = |reason, message: &str| {
        Outcome::Cancelled(Error::new(reason, message).with("operation", operation.id))
    };
    match why {
        Why::Asked => cancelled(Reason::OperationCancelled, "the operation was cancelled"),
        Why::Draining => cancelled(Reason::Draining, "the server stopped before the operation was done"),
        Why::Deadline => Outcome::Failed(deadline_exceeded(operation)),
    }
}
