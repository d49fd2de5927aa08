//! Runs what the owner started; sends exactly one report for each.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use hoist_domain::{Error, Operation, OperationId, OperationOutput, Outcome, Reason, ResourceName, Work};
use hoist_planner::deadline_exceeded;
use hoist_runtime::{Clock, Gate, OnError, Tasks};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::probe::{self, Stopped};
use super::{ProgressBoard, ProgressCell, Waiters};
use crate::control::{Control, Effect};

/// How often progress is sampled for its rate.
const MARK_EVERY: Duration = Duration::from_millis(250);

/// Where executors may work.
#[derive(Clone, Debug)]
pub struct Directories {
    pub state: PathBuf,
    pub runtime: PathBuf,
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
    running: Arc<DashMap<OperationId, Arc<Stop>>>,
}

/// Tells an executor to stop, and remembers why.
#[derive(Debug, Default)]
struct Stop {
    token: CancellationToken,
    why: OnceLock<Why>,
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
    pub fn new(control: Control, tasks: Tasks, clock: Clock, gate: Gate, directories: Directories) -> Self {
        Self {
            control,
            board: ProgressBoard::default(),
            waiters: Waiters::default(),
            tasks,
            clock,
            gate,
            directories,
            running: Arc::default(),
        }
    }

    /// Carries out effects until the owner is gone.
    pub async fn run(
        self,
        mut effects: mpsc::UnboundedReceiver<Effect>,
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
                Effect::Drained(reply) => drop(reply.send(())),
            }
        }
        Ok(())
    }

    /// Tells everything that runs to stop, because the server does.
    pub fn stop_all(&self) {
        for running in self.running.iter() {
            running.value().now(Why::Draining);
        }
    }

    fn start(&self, operation: Arc<Operation>, remaining: Duration) {
        let id = operation.id;
        let stop = Arc::new(Stop::default());
        // Registered before the task exists, so that a cancel that follows at once finds it.
        self.running.insert(id, Arc::clone(&stop));
        let cell = self.board.open(id);
        let runner = self.clone();
        let name = ResourceName::Operation(id).to_string();
        let hold = self.gate.hold(name.clone());
        self.tasks.spawn(name, OnError::Log, async move {
            let outcome = runner.execute(&operation, &stop, cell, remaining).await;
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
        let Work::ProbeMachine(spec) = operation.work.clone();
        let machine = probe::Machine { directories: self.directories.clone(), clock: self.clock.clone() };
        let (counted, token) = (Arc::clone(&cell), stop.token.clone());
        let work =
            self.tasks.run_blocking("probe machine", move || probe::run(&spec, &machine, &counted, &token));
        tokio::pin!(work);
        let deadline = tokio::time::sleep(remaining);
        tokio::pin!(deadline);
        let mut marks = tokio::time::interval(MARK_EVERY);
        let finished = loop {
            tokio::select! {
                finished = &mut work => break finished,
                () = &mut deadline, if !stop.token.is_cancelled() => stop.now(Why::Deadline),
                _ = marks.tick() => cell.mark(self.clock.monotonic()),
            }
        };
        match finished {
            Ok(Ok(measurements)) => Outcome::Output(OperationOutput::ProbeMachine(measurements)),
            Ok(Err(Stopped)) => stopped(operation, stop.why.get().copied().unwrap_or(Why::Asked)),
            Err(panicked) => Outcome::Failed(Error::new(
                Reason::Internal,
                format!(
                    "the operation ended by a defect of Hoist ({panicked}); report it with the server's log"
                ),
            )),
        }
    }
}

/// How it ended, as the log says it.
const fn end_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Output(_) => "succeeded",
        Outcome::Failed(_) => "failed",
        Outcome::Cancelled(_) => "cancelled",
    }
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
