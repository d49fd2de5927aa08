//! The owner's loop: the only code that changes the state.
//!
//! Invariants: nobody hears of a durable event before it is on disk; a failed commit leaves no trace in memory;
//! every command gets exactly one answer; effects (start, stop) follow the publication that announces them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    Condition, ConditionKind, Error, Operation, OperationId, Reason, Result, Revision, ServiceTime, Severity,
};
use hoist_planner::{
    Answer as Repeated, CatalogChanges, Decision, Delta, Event, Limits, Moment, State, Submitted,
};
use hoist_runtime::Clock;
use hoist_store::{Batch, Store, Write};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info};

use super::storage::{Readonly, Storage};
use super::{Command, Control, Edit, EncodedDelta, History, HistoryLimits, NotesChange, View, channel, rows};

/// Commands that share a commit. More adds latency to the first without a gain: at this size the fsync no longer
/// dominates.
pub(super) const BATCH: usize = 256;

/// From the start to the first export.
const FIRST_EXPORT: Duration = Duration::from_secs(10);

/// What expiry may forget in one commit.
const EXPIRY_BUDGET: usize = 512;

/// What the owner tells the executors after a publication.
#[derive(Debug)]
pub enum Effect {
    /// Run it, for `remaining` at most.
    Start {
        operation: Arc<Operation>,
        remaining: Duration,
    },
    Cancel(OperationId),
    /// Its end is published.
    Ended(OperationId),
    /// Nothing is started after this; tell who asked, once everything before it has begun.
    Drained(oneshot::Sender<()>),
}

/// Everything an owner needs.
pub struct Parts {
    pub state: State,
    pub store: Box<dyn Store>,
    /// How old the service was when the store was opened.
    pub service_time: ServiceTime,
    pub clock: Clock,
    pub limits: Limits,
    pub history: HistoryLimits,
    /// How often everything durable is copied beside the store, if anything changed.
    pub export_interval: Duration,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The owner of the state. Run it on a thread of its own.
#[derive(Debug)]
pub struct Owner {
    state: State,
    storage: Storage,
    commands: mpsc::Receiver<Command>,
    view: watch::Sender<Arc<View>>,
    history: Arc<History>,
    /// Bounded by the operations that may be active.
    effects: mpsc::UnboundedSender<Effect>,
    /// Executors' reports that could not be made durable yet; kept until they can.
    owed: VecDeque<Command>,
    clock: Clock,
    /// Service time at clock reading zero: service time = age at start + monotonic − reading at start.
    started: (ServiceTime, Duration),
    limits: Limits,
    export: Export,
}

#[derive(Debug)]
struct Export {
    interval: Duration,
    last: Duration,
    /// What the last export of this life held. None was made yet: what the directory has is of unknown age.
    revision: Option<Revision>,
}

/// What a command will be told, once its events are durable.
enum Answer {
    Operation(oneshot::Sender<Result<OperationId>>, Result<OperationId>),
    Fresh(oneshot::Sender<Result<bool>>, Result<bool>),
    Unit(oneshot::Sender<Result<()>>, Result<()>),
    Observed(oneshot::Sender<Result<CatalogChanges>>, Result<CatalogChanges>),
    Drained(oneshot::Sender<()>),
    Nobody,
}

impl Answer {
    /// A caller that went away does not want to know.
    fn send(self) {
        match self {
            Self::Operation(reply, answer) => drop(reply.send(answer)),
            Self::Fresh(reply, answer) => drop(reply.send(answer)),
            Self::Unit(reply, answer) => drop(reply.send(answer)),
            Self::Observed(reply, answer) => drop(reply.send(answer)),
            Self::Drained(reply) => drop(reply.send(())),
            Self::Nobody => {}
        }
    }

    /// The same caller, told that its change was not made.
    fn refuse(self, error: Error) -> Self {
        match self {
            Self::Operation(reply, _) => Self::Operation(reply, Err(error)),
            Self::Fresh(reply, _) => Self::Fresh(reply, Err(error)),
            Self::Unit(reply, _) => Self::Unit(reply, Err(error)),
            Self::Observed(reply, _) => Self::Observed(reply, Err(error)),
            other => other,
        }
    }
}

/// One command's place in a batch.
struct Decided {
    answer: Answer,
    events: Decision,
    /// Set for reports, which must survive a failed commit.
    report: Option<(OperationId, hoist_domain::Outcome)>,
}

impl Decided {
    /// What follows from no command.
    fn events(events: Decision) -> Self {
        Self { answer: Answer::Nobody, events, report: None }
    }
}

/// What a batch would make of the state.
struct Draft {
    state: State,
    writes: Vec<Write>,
    deltas: Vec<Delta>,
    decided: Vec<Decided>,
}

impl Draft {
    fn of(state: &State) -> Self {
        Self { state: state.clone(), writes: Vec::new(), deltas: Vec::new(), decided: Vec::new() }
    }

    fn add(&mut self, decided: Decided) {
        self.deltas.extend(self.state.apply(&decided.events));
        self.writes.extend(decided.events.iter().filter_map(|event| rows::write(event, &self.state)));
        self.decided.push(decided);
    }
}

impl Owner {
    /// The owner, its handle, and the effects it will have. Nothing is decided before [`Self::run`].
    #[must_use]
    pub fn new(parts: Parts) -> (Self, Control, mpsc::UnboundedReceiver<Effect>) {
        let history = Arc::new(History::new(parts.history, parts.state.position().revision));
        let (view, viewed) = watch::channel(Arc::new(View { state: parts.state.clone() }));
        let (control, commands) = channel(viewed, Arc::clone(&history));
        let (effects, effected) = mpsc::unbounded_channel();
        let now = parts.clock.monotonic();
        let revision = parts.state.position().revision;
        let owner = Self {
            storage: Storage::new(parts.store, revision),
            state: parts.state,
            commands,
            view,
            history,
            effects,
            owed: VecDeque::new(),
            started: (parts.service_time, now),
            clock: parts.clock,
            limits: parts.limits,
            export: Export {
                interval: parts.export_interval,
                // The first one soon: until there is one, a damaged header means that everything is lost.
                last: (now + FIRST_EXPORT).saturating_sub(parts.export_interval),
                revision: None,
            },
        };
        (owner, control, effected)
    }

    /// Resolves what the last coordinator left behind; the first commit of this epoch.
    ///
    /// # Errors
    /// When the store cannot be written: a coordinator that starts read-only would leave operations stuck.
    pub fn recover(&mut self) -> Result<()> {
        let events = hoist_planner::recover(&self.state, self.now());
        let mut draft = Draft::of(&self.state);
        draft.add(Decided::events(events));
        match self.commit(draft) {
            None => Ok(()),
            Some(_) => Err(readonly_error(self.storage.readonly())),
        }
    }

    /// Lets a condition hold from the start, so that nobody who is served can miss it.
    pub fn raise(&mut self, condition: Condition) {
        self.commit_volatile(Decided::events(vec![Event::ConditionRaised(Arc::new(condition))]));
    }

    /// Serves commands until [`Command::Stop`], or until every handle is gone.
    pub fn run(mut self) {
        while let Some(first) = self.commands.blocking_recv() {
            if self.serve_with_waiting(first) {
                break;
            }
        }
        self.export_now();
        info!(position = %self.state.position(), "control stopped");
    }

    /// Serves what waits now, as one batch, and returns; `false` when nothing waited. In place of [`Self::run`], for
    /// those who decide themselves when the owner takes its turn: a simulation, where a seed is to be a history.
    pub fn take_turn(&mut self) -> bool {
        let first = self.commands.try_recv();
        first.is_ok_and(|first| {
            self.serve_with_waiting(first);
            true
        })
    }

    /// Serves a command with those that wait behind it. Whether the thread is to end.
    fn serve_with_waiting(&mut self, first: Command) -> bool {
        let mut batch = vec![first];
        while batch.len() < BATCH {
            let Ok(next) = self.commands.try_recv() else { break };
            batch.push(next);
        }
        let stop = batch.iter().any(|command| matches!(command, Command::Stop));
        self.serve(batch);
        stop
    }

    fn now(&self) -> Moment {
        let (age, reading) = self.started;
        let service = age.after(self.clock.monotonic().saturating_sub(reading));
        Moment { wall: self.clock.wall(), service }
    }

    /// Decides a batch against a draft and carries it out.
    fn serve(&mut self, batch: Vec<Command>) {
        if batch.iter().any(|command| matches!(command, Command::Tick)) {
            self.recover_storage();
            self.export_if_due();
        }
        let now = self.now();
        if self.storage.readonly().is_some() {
            self.serve_readonly(batch, now);
            return;
        }
        let mut draft = Draft::of(&self.state);
        for command in self.owed.drain(..).chain(batch) {
            draft.add(decide(&draft.state, command, now, &self.limits));
        }
        draft.add(Decided::events(hoist_planner::schedule(&draft.state, now)));
        if let Some(failed) = self.commit(draft) {
            self.announce_readonly(now);
            for decided in failed {
                self.refuse(decided);
            }
        }
    }

    /// Commits and publishes a draft; gives back what was decided if it could not be committed.
    fn commit(&mut self, draft: Draft) -> Option<Vec<Decided>> {
        let Draft { state, writes, deltas, decided } = draft;
        if !writes.is_empty() {
            let batch =
                Batch { revision: state.position().revision, service_time: self.now().service, writes };
            // Only these can land in spite of a failure; what is not durable is published at once then.
            let durable = |decided: &Decided| -> Decision {
                decided.events.iter().filter(|event| event.is_durable()).cloned().collect()
            };
            let events = || decided.iter().map(durable).filter(|events| !events.is_empty()).collect();
            if self.storage.commit(&batch, events).is_err() {
                return Some(decided);
            }
        }
        self.publish(state, &deltas);
        for decided in decided {
            self.carry_out(&decided.events);
            match decided.answer {
                // Behind the starts that came before it.
                Answer::Drained(reply) => drop(self.effects.send(Effect::Drained(reply))),
                answer => answer.send(),
            }
        }
        None
    }

    /// Commits what holds nothing durable, which cannot fail.
    fn commit_volatile(&mut self, decided: Decided) {
        let mut draft = Draft::of(&self.state);
        draft.add(decided);
        self.commit(draft);
    }

    fn publish(&mut self, state: State, deltas: &[Delta]) {
        self.state = state;
        if deltas.is_empty() {
            return;
        }
        let now = self.clock.monotonic();
        let encoded: Vec<EncodedDelta> = deltas.iter().map(EncodedDelta::new).collect();
        // The view first: whoever got a delta must find what it tells of. Watchers are woken when the history has it.
        self.view.send_if_modified(|view| {
            *view = Arc::new(View { state: self.state.clone() });
            false
        });
        for delta in encoded {
            self.history.append(delta, now);
        }
        self.view.send_modify(|_| {});
    }

    fn carry_out(&self, events: &[Event]) {
        for event in events {
            let effect = match event {
                Event::OperationStarted { id, .. } => {
                    self.state.operation(*id).map(|operation| Effect::Start {
                        operation: Arc::clone(operation),
                        remaining: operation.deadline.since(self.now().service),
                    })
                }
                Event::OperationCancelRequested { id } => Some(Effect::Cancel(*id)),
                Event::OperationEnded { id, .. } => Some(Effect::Ended(*id)),
                _ => None,
            };
            if let Some(effect) = effect {
                // Nobody listens only while the process ends; the next start resolves what was not run.
                let _ = self.effects.send(effect);
            }
        }
    }

    /// Answers what needs no write, refuses what does, keeps reports for later.
    fn serve_readonly(&mut self, commands: Vec<Command>, now: Moment) {
        for command in commands {
            let decided = decide(&self.state, command, now, &self.limits);
            if decided.events.is_empty() {
                // Decided on the state as it is: the answer holds.
                decided.answer.send();
            } else {
                self.refuse(decided);
            }
        }
    }

    /// What becomes of a decision when nothing can be written.
    fn refuse(&mut self, mut decided: Decided) {
        if let Some((id, outcome)) = decided.report {
            self.owed.push_back(Command::Finish { id, outcome });
            return;
        }
        if matches!(decided.answer, Answer::Drained(_)) {
            // Stopping must work. Pending operations are resolved by the next start.
            decided.events.retain(|event| !event.is_durable());
        }
        if decided.events.is_empty() || decided.events.iter().any(Event::is_durable) {
            // Without events: it was decided on a draft that is gone, so its answer may not hold.
            decided.answer.refuse(readonly_error(self.storage.readonly())).send();
        } else {
            self.commit_volatile(decided);
        }
    }

    fn announce_readonly(&mut self, now: Moment) {
        let (message, advice) = match self.storage.readonly() {
            Some(Readonly::Full) | None => (
                "the state directory's disk is full: changes are refused, reads go on",
                "make room on that disk; Hoist goes on by itself within seconds",
            ),
            Some(Readonly::Broken) => (
                "the state directory's disk failed a write: changes are refused until Hoist is restarted, reads go on",
                "check the disk (kernel log, SMART), then restart Hoist",
            ),
            Some(Readonly::Lost) => (
                "the state directory was removed or replaced while Hoist was running: changes are refused, reads go on",
                "stop Hoist, put the state directory back if it was moved, and start again; nothing is written to what stands there now",
            ),
        };
        let condition = Condition {
            kind: ConditionKind::StoreReadonly,
            severity: Severity::Error,
            message: message.to_owned(),
            advice: advice.to_owned(),
            since: now.wall,
            details: Vec::new(),
        };
        self.commit_volatile(Decided::events(vec![Event::ConditionRaised(Arc::new(condition))]));
    }

    fn recover_storage(&mut self) {
        let was = self.storage.readonly();
        let Some(landed) = self.storage.recover() else {
            if was == Some(Readonly::Full) && self.storage.readonly() != was {
                self.announce_readonly(self.now());
            }
            return;
        };
        // What landed after all is published at new revisions; the next commit overtakes the store's.
        let mut state = self.state.clone();
        let mut deltas: Vec<Delta> = landed.iter().filter_map(|events| state.apply(events)).collect();
        deltas.extend(state.apply(&[Event::ConditionCleared(ConditionKind::StoreReadonly)]));
        self.publish(state, &deltas);
        for events in &landed {
            self.carry_out(events);
        }
    }

    fn export_if_due(&mut self) {
        if self.clock.monotonic().saturating_sub(self.export.last) >= self.export.interval {
            self.export_now();
        }
    }

    fn export_now(&mut self) {
        self.export.last = self.clock.monotonic();
        let revision = self.state.position().revision;
        if Some(revision) == self.export.revision || self.storage.readonly().is_some() {
            return;
        }
        debug!(%revision, "exporting the store");
        let head = Batch { revision, service_time: self.now().service, writes: Vec::new() };
        if self.storage.export(&self.state, &head) {
            self.export.revision = Some(revision);
        } else if self.storage.readonly() == Some(Readonly::Lost) {
            self.announce_readonly(self.now());
        }
    }
}

/// Asks the planner what a command means.
fn decide(state: &State, command: Command, now: Moment, limits: &Limits) -> Decided {
    let split = |result: Result<Decision>| match result {
        Ok(events) => (events, Ok(())),
        Err(error) => (Vec::new(), Err(error)),
    };
    let (answer, events, report) = match command {
        Command::Submit { submission, reply } => {
            match hoist_planner::submit(state, &submission, now, limits) {
                Ok(Submitted { operation, events }) => {
                    (Answer::Operation(reply, Ok(operation)), events, None)
                }
                Err(error) => (Answer::Operation(reply, Err(error)), Vec::new(), None),
            }
        }
        Command::Record { key, content, reply } => {
            match hoist_planner::record(state, &key, content, Repeated::Done, now, limits) {
                Ok(events) => (Answer::Fresh(reply, Ok(!events.is_empty())), events, None),
                Err(error) => (Answer::Fresh(reply, Err(error)), Vec::new(), None),
            }
        }
        Command::Cancel { id, by, reply } => {
            let (events, answer) = split(hoist_planner::cancel(state, id, &by, now));
            (Answer::Unit(reply, answer), events, None)
        }
        Command::Delete { id, reply } => {
            let (events, answer) = split(hoist_planner::delete(state, id));
            (Answer::Unit(reply, answer), events, None)
        }
        Command::Finish { id, outcome } => {
            let events = hoist_planner::finish(state, id, outcome.clone(), now);
            (Answer::Nobody, events, Some((id, outcome)))
        }
        Command::Observe { observations, reply } => {
            let (events, changes) = hoist_planner::observe(state, &observations, now.wall);
            (Answer::Observed(reply, Ok(changes)), events, None)
        }
        Command::Examined { examinations, reply } => {
            let events =
                examinations.into_iter().flat_map(|one| hoist_planner::examined(state, one)).collect();
            (Answer::Unit(reply, Ok(())), events, None)
        }
        Command::Edit(edit) => {
            let Edit { key, content, model, etag, change, reply } = *edit;
            let decided = hoist_planner::record(state, &key, content, Repeated::Model(model), now, limits)
                .and_then(|mut recorded| {
                    if recorded.is_empty() {
                        return Ok(recorded);
                    }
                    let etag = etag.as_deref();
                    let events = match change {
                        None => hoist_planner::delete_model(state, model, etag)?,
                        Some(NotesChange(change)) => {
                            let notes =
                                state.models().get(model).and_then(|model| model.notes.as_deref().cloned());
                            hoist_planner::edit(state, model, etag, change(&notes.unwrap_or_default())?)?
                        }
                    };
                    recorded.extend(events);
                    Ok(recorded)
                });
            let (events, answer) = split(decided);
            (Answer::Unit(reply, answer), events, None)
        }
        Command::Raise(condition) => (Answer::Nobody, hoist_planner::raise(state, condition), None),
        Command::Clear(kind) => (Answer::Nobody, hoist_planner::clear(state, kind), None),
        Command::Drain { reply } => (Answer::Drained(reply), hoist_planner::begin_drain(state, now), None),
        Command::Tick => (Answer::Nobody, hoist_planner::expire(state, now, limits, EXPIRY_BUDGET), None),
        Command::Stop => (Answer::Nobody, Vec::new(), None),
    };
    Decided { answer, events, report }
}

fn readonly_error(why: Option<Readonly>) -> Error {
    let (message, retry) = match why {
        Some(Readonly::Broken) => (
            "the store failed a write and takes no changes until the server is restarted; nothing was changed for certain, so \
             repeat the request with the same id afterwards",
            Duration::from_secs(60),
        ),
        Some(Readonly::Lost) => (
            "the state directory was removed or replaced under the server, which takes no changes until it is restarted",
            Duration::from_secs(60),
        ),
        Some(Readonly::Full) | None => (
            "the state directory's disk is full; make room and repeat the request with the same id",
            Duration::from_secs(5),
        ),
    };
    Error::new(Reason::StoreReadonly, message).retry_after(retry)
}
