//! What a batch of commands would make of the state: decided by the planner, kept on a draft.
//!
//! Called by the owner, which commits the draft or drops it. Nothing here writes, publishes or sends before it is told
//! to; a command has exactly one [`Answer`].

use hoist_domain::{Bytes, Digest, Error, OperationId, Outcome, Result};
use hoist_planner::cache::{Evicted, Identity, Reserved, Shortage};
use hoist_planner::{Answer as Repeated, CatalogChanges, Decision, Delta, Limits, Moment, State, Submitted};
use hoist_store::Write;
use tokio::sync::oneshot;

use super::cache::{self, CacheCommand};
use super::{Command, Edit, NotesChange, rows};

/// What expiry may forget in one commit.
const EXPIRY_BUDGET: usize = 512;

/// What a command will be told, once its events are durable.
pub(super) enum Answer {
    Operation(oneshot::Sender<Result<OperationId>>, Result<OperationId>),
    Fresh(oneshot::Sender<Result<bool>>, Result<bool>),
    Unit(oneshot::Sender<Result<()>>, Result<()>),
    Observed(oneshot::Sender<Result<CatalogChanges>>, Result<CatalogChanges>),
    Reserved(oneshot::Sender<Result<Reserved>>, Result<Reserved>),
    Evicted(oneshot::Sender<Result<Vec<Evicted>>>, Result<Vec<Evicted>>),
    Lost(oneshot::Sender<Result<Vec<Digest>>>, Result<Vec<Digest>>),
    /// None: it was not committed.
    Identified(oneshot::Sender<Option<Vec<Identity>>>, Option<Vec<Identity>>),
    Shrunk(oneshot::Sender<Option<Shortage>>, Option<Shortage>),
    Drained(oneshot::Sender<()>),
    Nobody,
}

impl Answer {
    /// A caller that went away does not want to know.
    pub(super) fn send(self) {
        match self {
            Self::Operation(reply, answer) => drop(reply.send(answer)),
            Self::Fresh(reply, answer) => drop(reply.send(answer)),
            Self::Unit(reply, answer) => drop(reply.send(answer)),
            Self::Observed(reply, answer) => drop(reply.send(answer)),
            Self::Reserved(reply, answer) => drop(reply.send(answer)),
            Self::Evicted(reply, answer) => drop(reply.send(answer)),
            Self::Lost(reply, answer) => drop(reply.send(answer)),
            Self::Identified(reply, answer) => drop(reply.send(answer)),
            Self::Shrunk(reply, answer) => drop(reply.send(answer)),
            Self::Drained(reply) => drop(reply.send(())),
            Self::Nobody => {}
        }
    }

    /// The same caller, told that its change was not made.
    pub(super) fn refuse(self, error: Error) -> Self {
        match self {
            Self::Operation(reply, _) => Self::Operation(reply, Err(error)),
            Self::Fresh(reply, _) => Self::Fresh(reply, Err(error)),
            Self::Unit(reply, _) => Self::Unit(reply, Err(error)),
            Self::Observed(reply, _) => Self::Observed(reply, Err(error)),
            Self::Reserved(reply, _) => Self::Reserved(reply, Err(error)),
            Self::Evicted(reply, _) => Self::Evicted(reply, Err(error)),
            Self::Lost(reply, _) => Self::Lost(reply, Err(error)),
            Self::Identified(reply, _) => Self::Identified(reply, None),
            other => other,
        }
    }
}

/// One command's place in a batch.
pub(super) struct Decided {
    pub(super) answer: Answer,
    pub(super) events: Decision,
    /// Set for reports, which must survive a failed commit.
    pub(super) report: Option<Report>,
    /// It means nothing but for the state that it was decided on.
    pub(super) is_bound: bool,
}

/// What was reported, to be decided again.
pub(super) enum Report {
    Finish(OperationId, Outcome),
    Out(Digest, Option<Bytes>),
    Freed(Digest, Bytes),
}

impl From<Report> for Command {
    fn from(report: Report) -> Self {
        match report {
            Report::Finish(id, outcome) => Self::Finish { id, outcome },
            Report::Out(digest, left) => Self::Cache(CacheCommand::Out { digest, left }),
            Report::Freed(digest, left) => Self::Cache(CacheCommand::Freed { digest, left }),
        }
    }
}

impl Decided {
    /// What follows from no command.
    pub(super) fn events(events: Decision) -> Self {
        Self { answer: Answer::Nobody, events, report: None, is_bound: false }
    }
}

/// What a batch would make of the state.
pub(super) struct Draft {
    pub(super) state: State,
    pub(super) writes: Vec<Write>,
    pub(super) deltas: Vec<Delta>,
    pub(super) decided: Vec<Decided>,
}

impl Draft {
    pub(super) fn of(state: &State) -> Self {
        Self { state: state.clone(), writes: Vec::new(), deltas: Vec::new(), decided: Vec::new() }
    }

    pub(super) fn add(&mut self, decided: Decided) {
        self.deltas.extend(self.state.apply(&decided.events));
        self.writes.extend(decided.events.iter().filter_map(|event| rows::write(event, &self.state)));
        self.decided.push(decided);
    }
}

/// Asks the planner what a command means.
pub(super) fn decide(state: &State, command: Command, now: Moment, limits: &Limits) -> Decided {
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
            (Answer::Nobody, events, Some(Report::Finish(id, outcome)))
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
        Command::Cache(command) => return cache::decide(state, command, now, limits),
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
        Command::Exported | Command::Stop => (Answer::Nobody, Vec::new(), None),
    };
    Decided { answer, events, report, is_bound: false }
}
