//! Control: the sole owner of the state.
//!
//! ```text
//!  handlers ──Command──►  owner thread:  decide (planner) ─► draft ─► commit (store) ─► publish ─► answer, effects
//!  executors ─Finish──►                                                        │
//!  exporter ─Exported─►                                   View (newest state) ◄┴► History (ring of deltas)
//! ```
//!
//! One OS thread takes commands in batches, asks the planner, applies the events to a draft, makes the durable ones
//! durable in one commit, and only then publishes, answers and starts work. Handlers read the published [`View`]
//! and never wait for the owner to read. What is in this module: the handle that everybody else holds.

mod cache;
mod decide;
mod devices;
mod encoded;
mod export;
mod history;
mod owner;
mod residency;
mod rows;
mod storage;

use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    Condition, ConditionKind, ContentHash, Error, ModelId, ModelNotes, Observation, OperationId, Outcome,
    Principal, Reason, RequestKey, Result, ServiceTime,
};
use hoist_planner::{CatalogChanges, Examination, State, Submission};
use hoist_runtime::Clock;
use tokio::sync::{mpsc, oneshot, watch};

pub use cache::CacheCommand;
pub use decide::FollowUp;
pub use devices::{DeviceCommand, Turn};
pub use encoded::{EncodedDelta, assemble, change_added, change_removed, resource};
pub use export::{Export, write_exports};
pub use history::{Behind, History, HistoryLimits};
pub use owner::{Effect, Owner, Parts};
pub use residency::ResidencyCommand;
pub use storage::{Restored, durable_rows, restore};

/// Commands that may wait for the owner. A commit takes about a millisecond and takes up to [`owner::BATCH`]
/// commands with it, so a full queue means several hundred milliseconds of work: more waiting helps nobody.
const QUEUE: usize = 1_024;

/// The state as of the last commit. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct View {
    pub state: State,
}

/// What somebody wants from the owner. Replies come after the commit.
#[derive(Debug)]
pub enum Command {
    Submit {
        submission: Submission,
        reply: oneshot::Sender<Result<OperationId>>,
    },
    /// A mutation without an operation; the answer is whether it is new, and must be carried out.
    Record {
        key: RequestKey,
        content: ContentHash,
        reply: oneshot::Sender<Result<bool>>,
    },
    Cancel {
        id: OperationId,
        by: Principal,
        reply: oneshot::Sender<Result<()>>,
    },
    Delete {
        id: OperationId,
        reply: oneshot::Sender<Result<()>>,
    },
    /// An executor's report.
    Finish {
        id: OperationId,
        outcome: Outcome,
    },
    /// What a scan saw.
    Observe {
        observations: Vec<Observation>,
        reply: oneshot::Sender<Result<CatalogChanges>>,
    },
    /// What close looks at models found out.
    Examined {
        examinations: Vec<Examination>,
        reply: oneshot::Sender<Result<()>>,
    },
    /// An edit of what people say about a model.
    Edit(Box<Edit>),
    Cache(CacheCommand),
    Device(DeviceCommand),
    Residency(ResidencyCommand),
    Raise(Condition),
    Clear(ConditionKind),
    /// Take no new work from here on.
    Drain {
        reply: oneshot::Sender<()>,
    },
    /// Time has passed: deadlines, retention, a store that may have recovered, a due export.
    Tick,
    /// An export has ended, well or not.
    Exported,
    /// Commit what came with this, export, and end the thread.
    Stop,
}

impl Command {
    /// Nothing durable ever comes of it: the word of a worker, or on one.
    pub(super) const fn is_of_this_process(&self) -> bool {
        matches!(self, Self::Device(command) if !command.is_of_people())
    }
}

/// A person's change of a model. Remembered under its request id: repeated, it is answered as it was the first time.
#[derive(Debug)]
pub struct Edit {
    pub key: RequestKey,
    pub content: ContentHash,
    pub model: ModelId,
    pub etag: Option<String>,
    /// What the notes shall be, from what they are; unset: the model is deleted.
    pub change: Option<Change<ModelNotes>>,
    pub reply: oneshot::Sender<Result<()>>,
}

type Changing<T> = dyn FnOnce(&T) -> Result<T> + Send;

/// What something shall be from what it is when the turn comes: what others have changed meanwhile is not lost.
pub struct Change<T>(pub Box<Changing<T>>);

impl<T> std::fmt::Debug for Change<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Change")
    }
}

/// The handle to the owner: send commands, read the view, follow the history.
#[derive(Clone, Debug)]
pub struct Control {
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<Arc<View>>,
    history: Arc<History>,
    age: Age,
}

/// How old the service is, by the clock of this process.
#[derive(Clone, Debug)]
pub(crate) struct Age {
    pub(crate) clock: Clock,
    pub(crate) at_start: ServiceTime,
    /// The clock's reading then.
    pub(crate) started: Duration,
}

impl Age {
    pub(crate) fn now(&self) -> ServiceTime {
        self.at_start.after(self.clock.monotonic().saturating_sub(self.started))
    }
}

impl Control {
    /// How old the service is.
    #[must_use]
    pub fn service_time(&self) -> ServiceTime {
        self.age.now()
    }

    /// The newest published state.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// A receiver that wakes at each publication.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    #[must_use]
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// Submits work; the answer is durable.
    ///
    /// # Errors
    /// As the planner refuses, or STORE_READONLY, OVERLOADED, DRAINING.
    pub async fn submit(&self, submission: Submission) -> Result<OperationId> {
        self.ask(|reply| Command::Submit { submission, reply }).await?
    }

    /// Records a mutation without an operation. `true`: it is new, carry it out.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn record(&self, key: RequestKey, content: ContentHash) -> Result<bool> {
        self.ask(|reply| Command::Record { key, content, reply }).await?
    }

    /// Asks an operation to stop.
    ///
    /// # Errors
    /// RESOURCE_NOT_FOUND, or as [`Self::submit`].
    pub async fn cancel(&self, id: OperationId, by: Principal) -> Result<()> {
        self.ask(|reply| Command::Cancel { id, by, reply }).await?
    }

    /// Asks an operation to stop when nobody is left to ask again: tries until it is heard, or not needed any more.
    ///
    /// # Errors
    /// RESOURCE_NOT_FOUND, DRAINING.
    pub async fn cancel_surely(&self, id: OperationId, by: Principal) -> Result<()> {
        loop {
            match self.cancel(id, by.clone()).await {
                Err(error) if matches!(error.reason(), Reason::Overloaded | Reason::StoreReadonly) => {
                    tokio::time::sleep(error.retry_delay().unwrap_or(Duration::from_secs(1))).await;
                }
                heard => return heard,
            }
        }
    }

    /// Forgets a finished operation.
    ///
    /// # Errors
    /// RESOURCE_NOT_FOUND, OPERATION_NOT_DONE, or as [`Self::submit`].
    pub async fn delete(&self, id: OperationId) -> Result<()> {
        self.ask(|reply| Command::Delete { id, reply }).await?
    }

    /// Reports how an operation ended. Waits for room: a report must not be lost.
    pub async fn finish(&self, id: OperationId, outcome: Outcome) {
        // A closed queue means that the owner is gone; the next start resolves the operation.
        let _ = self.commands.send(Command::Finish { id, outcome }).await;
    }

    /// Tells the owner what a scan saw, from a thread that may block.
    ///
    /// # Errors
    /// STORE_READONLY, DRAINING.
    pub fn observe_blocking(&self, observations: Vec<Observation>) -> Result<CatalogChanges> {
        let (reply, answer) = oneshot::channel();
        self.commands.blocking_send(Command::Observe { observations, reply }).map_err(|_| gone())?;
        answer.blocking_recv().map_err(|_| gone())?
    }

    /// The same, for those who must not block.
    ///
    /// # Errors
    /// As [`Self::observe_blocking`].
    pub async fn observe(&self, observations: Vec<Observation>) -> Result<CatalogChanges> {
        self.ask(|reply| Command::Observe { observations, reply }).await?
    }

    /// Tells the owner what close looks found out.
    ///
    /// # Errors
    /// STORE_READONLY, DRAINING.
    pub async fn examined(&self, examinations: Vec<Examination>) -> Result<()> {
        // It may wait: what it tells has taken hours to find out.
        self.ask_surely(|reply| Command::Examined { examinations, reply }).await?
    }

    /// Edits or deletes a model.
    ///
    /// # Errors
    /// As the planner refuses, or STORE_READONLY, OVERLOADED, DRAINING.
    pub async fn edit(
        &self,
        key: RequestKey,
        content: ContentHash,
        model: ModelId,
        etag: Option<String>,
        change: Option<Change<ModelNotes>>,
    ) -> Result<()> {
        self.ask(|reply| Command::Edit(Box::new(Edit { key, content, model, etag, change, reply }))).await?
    }

    pub async fn raise(&self, condition: Condition) {
        let _ = self.commands.send(Command::Raise(condition)).await;
    }

    pub async fn clear(&self, kind: ConditionKind) {
        let _ = self.commands.send(Command::Clear(kind)).await;
    }

    pub async fn drain(&self) {
        let (reply, drained) = oneshot::channel();
        if self.commands.send(Command::Drain { reply }).await.is_ok() {
            let _ = drained.await;
        }
    }

    pub async fn stop(&self) {
        let _ = self.commands.send(Command::Stop).await;
    }

    /// Tells that an export was written, or could not be, from a thread that may block.
    pub fn exported_blocking(&self) {
        let _ = self.commands.blocking_send(Command::Exported);
    }

    /// The same, for those who must not block.
    pub async fn exported(&self) {
        let _ = self.commands.send(Command::Exported).await;
    }

    pub async fn tick(&self) {
        let _ = self.commands.send(Command::Tick).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(reply)).map_err(|full| match full {
            mpsc::error::TrySendError::Full(_) => Error::new(
                Reason::Overloaded,
                format!("{QUEUE} changes wait to be committed, which is the limit; try again shortly"),
            )
            .with("limit", QUEUE)
            .retry_after(Duration::from_millis(200)),
            mpsc::error::TrySendError::Closed(_) => gone(),
        })?;
        answer.await.map_err(|_| gone())
    }

    /// The same for what cannot be done without: waits for room in the queue.
    async fn ask_surely<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

fn gone() -> Error {
    Error::new(Reason::Draining, "the server is stopping; try again later")
        .retry_after(Duration::from_secs(5))
}

/// Makes the queue between the handle and the owner.
pub(crate) fn channel(
    view: watch::Receiver<Arc<View>>,
    history: Arc<History>,
    age: Age,
) -> (Control, mpsc::Receiver<Command>) {
    let (commands, received) = mpsc::channel(QUEUE);
    (Control { commands, view, history, age }, received)
}
