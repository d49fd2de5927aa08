//! What a batch of commands would make of the state: decided by the planner, kept on a draft.
//!
//! Called by the owner, which commits the draft or drops it. Nothing here writes, publishes or sends before it is told
//! to; a command has exactly one [`Answer`].

use hoist_domain::{Bytes, Digest, Error, LeaseId, OperationId, Outcome, Result};
use hoist_planner::cache::EvictionAsk;
use hoist_planner::{Answer as Repeated, Decision, Delta, Limits, Moment, State, Submitted};
use hoist_store::Write;
use tokio::sync::oneshot;

use super::cache::{self, CacheCommand};
use super::{Change, Command, Edit, devices, residency, rows};

/// What expiry may forget in one commit.
const EXPIRY_BUDGET: usize = 512;

/// Tells who asked what came of it; or, with an error, that it was not done.
type Reply = Box<dyn FnOnce(Option<Error>) + Send>;

/// What a command will be told, once its events are durable.
pub(super) enum Answer {
    Reply(Reply),
    /// Told by an effect: behind everything that was started before.
    Drained(oneshot::Sender<()>),
    Nobody,
}

impl Answer {
    pub(super) fn to<T: Send + 'static>(reply: oneshot::Sender<Result<T>>, answer: Result<T>) -> Self {
        Self::Reply(Box::new(move |refused| {
            // A caller that went away does not want to know.
            let _ = reply.send(refused.map_or(answer, Err));
        }))
    }

    pub(super) fn send(self) {
        match self {
            Self::Reply(reply) => reply(None),
            Self::Drained(reply) => drop(reply.send(())),
            Self::Nobody => {}
        }
    }

    /// Tells the same caller that its change was not made.
    pub(super) fn refuse(self, error: Error) {
        match self {
            Self::Reply(reply) => reply(Some(error)),
            other => other.send(),
        }
    }
}

/// One command's place in a batch.
pub(super) struct Decided {
    pub(super) answer: Answer,
    pub(super) events: Decision,
    /// Set for reports, which must survive a failed commit.
    pub(super) report: Option<Report>,
    /// Set for a recorded request that does something which no disk knows of.
    pub(super) follow_up: Option<FollowUp>,
    /// It means nothing but for the state that it was decided on.
    pub(super) is_bound: bool,
}

/// What follows from a request once it is recorded. A commit that fails and has landed holds the record alone: repeated, the
/// request counts as done, so this is still to be done.
#[derive(Clone, Debug)]
pub enum FollowUp {
    Evict(EvictionAsk),
    Revoke(LeaseId, String),
}

/// What was reported, to be decided again.
pub(super) enum Report {
    Finish(OperationId, Outcome),
    Out(Digest, Option<Bytes>),
    Freed(Digest, Bytes),
    FollowUp(FollowUp),
}

impl From<Report> for Command {
    fn from(report: Report) -> Self {
        match report {
            Report::Finish(id, outcome) => Self::Finish { id, outcome },
            Report::Out(digest, still_open) => Self::Cache(CacheCommand::Out { digest, still_open }),
            Report::Freed(digest, freed) => Self::Cache(CacheCommand::Freed { digest, freed }),
            Report::FollowUp(follow_up) => Self::Cache(CacheCommand::FollowUp(follow_up)),
        }
    }
}

impl Decided {
    /// What follows from no command.
    pub(super) fn events(events: Decision) -> Self {
        Self { answer: Answer::Nobody, events, report: None, follow_up: None, is_bound: false }
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
                Ok(Submitted { operation, events }) => (Answer::to(reply, Ok(operation)), events, None),
                Err(error) => (Answer::to(reply, Err(error)), Vec::new(), None),
            }
        }
        Command::Record { key, content, reply } => {
            match hoist_planner::record(state, &key, content, Repeated::Done, now, limits) {
                Ok(events) => (Answer::to(reply, Ok(!events.is_empty())), events, None),
                Err(error) => (Answer::to(reply, Err(error)), Vec::new(), None),
            }
        }
        Command::Cancel { id, by, reply } => {
            let (events, answer) = split(hoist_planner::cancel(state, id, &by, now));
            (Answer::to(reply, answer), events, None)
        }
        Command::Delete { id, reply } => {
            let (events, answer) = split(hoist_planner::delete(state, id));
            (Answer::to(reply, answer), events, None)
        }
        Command::Finish { id, outcome } => {
            let events = hoist_planner::finish(state, id, outcome.clone(), now);
            (Answer::Nobody, events, Some(Report::Finish(id, outcome)))
        }
        Command::Observe { observations, reply } => {
            let (events, changes) = hoist_planner::observe(state, &observations, now.wall);
            (Answer::to(reply, Ok(changes)), events, None)
        }
        Command::Examined { examinations, reply } => {
            let events =
                examinations.into_iter().flat_map(|one| hoist_planner::examined(state, one)).collect();
            (Answer::to(reply, Ok(())), events, None)
        }
        Command::Cache(command) => return cache::decide(state, command, now, limits),
        Command::Device(command) => return devices::decide(state, command, now, limits),
        Command::Residency(command) => return residency::decide(state, command, now),
        Command::Edit(edit) => {
            let Edit { key, content, model, etag, change, reply } = *edit;
            let answer = Repeated::Model(model);
            let decided = hoist_planner::once(state, &key, content, answer, now, limits, || {
                let etag = etag.as_deref();
                let Some(Change(change)) = change else {
                    return hoist_planner::delete_model(state, model, etag);
                };
                let notes = state.models().get(model).and_then(|model| model.notes.as_deref().cloned());
                hoist_planner::edit(state, model, etag, change(&notes.unwrap_or_default())?)
            });
            let (events, answer) = split(decided);
            (Answer::to(reply, answer), events, None)
        }
        Command::Raise(condition) => (Answer::Nobody, hoist_planner::raise(state, condition), None),
        Command::Clear(kind) => (Answer::Nobody, hoist_planner::clear(state, kind), None),
        Command::Drain { reply } => (Answer::Drained(reply), hoist_planner::begin_drain(state, now), None),
        Command::Tick => (Answer::Nobody, hoist_planner::expire(state, now, limits, EXPIRY_BUDGET), None),
        Command::Exported | Command::Stop => (Answer::Nobody, Vec::new(), None),
    };
    Decided { answer, events, report, follow_up: None, is_bound: false }
}
