//! The owner's loop: the only code that changes the state.
//!
//! Invariants: nobody hears of a durable event before it is on disk; a failed commit leaves no trace in memory;
//! every command gets exactly one answer; effects (start, stop) follow the publication that announces them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{Condition, ConditionKind, Digest, LeaseId, Operation, OperationId, Result, ServiceTime};
use hoist_planner::{Decision, Delta, Event, Limits, Moment, State};
use hoist_runtime::Clock;
use hoist_store::{Batch, Store, Write};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::info;

use super::decide::{Answer, Decided, Draft, FollowUp, Report, decide};
use super::export::{Export, Exports, Written};
use super::storage::{Readonly, Storage};
use super::{Age, Command, Control, EncodedDelta, History, HistoryLimits, View, channel};

/// Commands that share a commit. More adds latency to the first without a gain: at this size the fsync no longer
/// dominates.
pub(super) const BATCH: usize = 256;

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
    /// Take its name away, and say what becomes of its bytes.
    Evict(Digest),
    /// It is held no longer; with why, if somebody revoked it.
    LeaseEnded(LeaseId, Option<Arc<str>>),
    /// Write it where nobody waits, and say so: the next one comes after that.
    Export(Box<Export>),
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
    /// Removes rows that are left out of the state for good. Done once there is an export without them: until then
    /// another start would have to say again that they were found.
    pub superseded: Vec<Write>,
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
    /// What it holds is bounded by the operations that may be active, the segments there are, and the leases that may be held.
    effects: mpsc::UnboundedSender<Effect>,
    /// Reports of executors and of who takes names away, and what follows from requests whose records have landed: what must
    /// be decided, and waits until it can be made durable. Each is there once.
    owed: VecDeque<Command>,
    /// What follows from the requests of the commit that is in doubt.
    in_doubt: Vec<FollowUp>,
    clock: Clock,
    age: Age,
    limits: Limits,
    exports: Exports,
    /// See [`Parts`].
    superseded: Vec<Write>,
}

impl Owner {
    /// The owner, its handle, and the effects it will have. Nothing is decided before [`Self::run`].
    #[must_use]
    pub fn new(parts: Parts) -> (Self, Control, mpsc::UnboundedReceiver<Effect>) {
        let history = Arc::new(History::new(parts.history, parts.state.position().revision));
        let (view, viewed) = watch::channel(Arc::new(View { state: parts.state.clone() }));
        let now = parts.clock.monotonic();
        let age = Age { clock: parts.clock.clone(), at_start: parts.service_time, started: now };
        let (control, commands) = channel(viewed, Arc::clone(&history), age.clone());
        let (effects, effected) = mpsc::unbounded_channel();
        let revision = parts.state.position().revision;
        let owner = Self {
            storage: Storage::new(parts.store, revision),
            state: parts.state,
            commands,
            view,
            history,
            effects,
            owed: VecDeque::new(),
            in_doubt: Vec::new(),
            age,
            clock: parts.clock,
            limits: parts.limits,
            exports: Exports::new(parts.export_interval, now),
            superseded: parts.superseded,
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
            Some(_) => Err(Readonly::error(self.storage.readonly())),
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
        self.export_last();
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
        Moment { wall: self.clock.wall(), service: self.age.now() }
    }

    /// Decides a batch against a draft and carries it out.
    fn serve(&mut self, batch: Vec<Command>) {
        if batch.iter().any(|command| matches!(command, Command::Exported | Command::Tick)) {
            let written = self.exports.ended();
            self.export_ended(written);
        }
        if batch.iter().any(|command| matches!(command, Command::Tick)) {
            self.history.forget_old(self.clock.monotonic());
            self.recover_storage();
            if self.exports.is_due(self.clock.monotonic()) {
                self.begin_export();
            }
        }
        let now = self.now();
        if self.storage.readonly().is_some() {
            self.serve_readonly(batch, now);
            return;
        }
        // What is true of this process alone waits for no disk, and nothing becomes of it that a commit could undo.
        let (of_devices, batch): (Vec<Command>, Vec<Command>) =
            batch.into_iter().partition(Command::is_of_this_process);
        if !of_devices.is_empty() {
            let mut draft = Draft::of(&self.state);
            for command in of_devices {
                draft.add(decide(&draft.state, command, now, &self.limits));
            }
            self.commit(draft);
        }
        let mut draft = Draft::of(&self.state);
        for command in self.owed.drain(..).chain(batch) {
            draft.add(decide(&draft.state, command, now, &self.limits));
        }
        draft.add(Decided::events(hoist_planner::schedule(&draft.state, now)));
        if let Some(failed) = self.commit(draft) {
            self.announce_readonly(now);
            for mut decided in failed {
                self.in_doubt.extend(decided.follow_up.take());
                // What it was decided on is gone: reports are judged again, requests are to be made again.
                if !decided.is_bound {
                    self.refuse(decided);
                } else if let Some(report) = decided.report {
                    self.serve_readonly(vec![report.into()], now);
                } else {
                    decided.answer.refuse(Readonly::error(self.storage.readonly()));
                }
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
                Event::SegmentEvicting { digest, .. } => Some(Effect::Evict(*digest)),
                Event::LeaseEnded { id, revoked, .. } => Some(Effect::LeaseEnded(*id, revoked.clone())),
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
        // What is true of this process alone needs no disk.
        let is_durable = decided.events.iter().any(Event::is_durable);
        if let Some(report) = decided.report.take().filter(|_| is_durable) {
            self.owed.push_back(report.into());
            return;
        }
        if matches!(decided.answer, Answer::Drained(_)) {
            // Stopping must work. Pending operations are resolved by the next start.
            decided.events.retain(|event| !event.is_durable());
        }
        if decided.events.is_empty() || decided.events.iter().any(Event::is_durable) {
            // Without events: it was decided on a draft that is gone, so its answer may not hold.
            decided.answer.refuse(Readonly::error(self.storage.readonly()));
        } else {
            self.commit_volatile(decided);
        }
    }

    fn announce_readonly(&mut self, now: Moment) {
        let condition = Readonly::condition(self.storage.readonly(), now.wall);
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
        let in_doubt = std::mem::take(&mut self.in_doubt);
        if !landed.is_empty() {
            self.owed.extend(in_doubt.into_iter().map(|left| Report::FollowUp(left).into()));
        }
        // What landed after all is published at new revisions; the next commit overtakes the store's.
        let mut state = self.state.clone();
        let mut deltas: Vec<Delta> = Vec::new();
        for events in &landed {
            let with_what_follows = hoist_planner::residency::landed(&state, events);
            deltas.extend(state.apply(&with_what_follows));
        }
        deltas.extend(state.apply(&[Event::ConditionCleared(ConditionKind::StoreReadonly)]));
        self.publish(state, &deltas);
        for events in &landed {
            self.carry_out(events);
        }
    }

    fn begin_export(&mut self) {
        let now = self.clock.monotonic();
        if self.storage.readonly().is_some() {
            self.exports.put_off(now);
        } else if let Some(export) = self.exports.begin(&self.state, self.now().service, now) {
            // Nobody carries it out only while the process ends, and then nobody waits for it either.
            let _ = self.effects.send(Effect::Export(Box::new(export)));
        }
    }

    /// Everything up to the end, when nobody is served any more.
    fn export_last(&mut self) {
        let before = self.exports.wait();
        self.export_ended(before);
        self.begin_export();
        let last = self.exports.wait();
        self.export_ended(last);
    }

    fn export_ended(&mut self, written: Option<Written>) {
        if let Some(Ok(())) = written {
            self.remove_superseded();
        }
        if let Some(Err(error)) = written
            && self.storage.export_failed(&error)
        {
            self.announce_readonly(self.now());
        }
    }

    fn remove_superseded(&mut self) {
        if self.superseded.is_empty() || self.storage.readonly().is_some() {
            return;
        }
        let writes = std::mem::take(&mut self.superseded);
        let (revision, service_time) = (self.state.position().revision, self.now().service);
        let batch = Batch { revision, service_time, writes };
        if self.storage.commit(&batch, Vec::new).is_err() {
            // Removing them twice does no harm.
            self.superseded = batch.writes;
            self.announce_readonly(self.now());
        }
    }
}
