//! Random histories of the coordinator's state against a model that is too simple to be wrong.
//!
//! After every step everything visible is compared. What must hold whatever happens is asserted beside it: a
//! request has one operation, equal work that is not done is one operation, an end is final, nothing that runs is
//! forgotten, bounds hold, deciding changes nothing, applying the same twice gives the same.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests are tests, and a failed check is a panic"
)]

mod model;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hoist_domain::{
    Bytes, Condition, ConditionKind, ContentHash, Epoch, Error, MeasurementKind, OperationId,
    OperationOutput, OperationState, Outcome, Position, Principal, ProbeSpec, Reason, RequestId, RequestKey,
    ResourceName, Revision, ServiceTime, Severity, WallTime, Work,
};
use hoist_planner::{
    Answer, Change, Delta, Event, Limits, Moment, Record, RequestRecord, State, Submission, begin_drain,
    cancel, clear, delete, expire, finish, is_known, raise, record, recover, schedule, submit,
};
use model::{Expected, Model, fingerprint, machine, measurement};
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};
use uuid::Uuid;

/// Histories in CI; `HOIST_SOAK` multiplies them.
const HISTORIES: u32 = 1_000;

/// One thing that happens. Numbers are small, so that requests collide all the time.
#[derive(Clone, Debug)]
enum Step {
    Submit {
        request: u8,
        content: u8,
        work: u8,
        deadline: u64,
        /// The wall clock from which the new id is made.
        id_time: u16,
    },
    Record {
        request: u8,
        content: u8,
    },
    Cancel(u8),
    Delete(u8),
    Finish {
        operation: u8,
        outcome: u8,
    },
    Schedule,
    Expire {
        budget: usize,
    },
    /// Service time goes on; the wall clock goes where it likes.
    Pass {
        service: u64,
        wall: i64,
    },
    Raise(u8),
    Clear(u8),
    Drain,
    Restart,
}

/// Milliseconds, in steps so large that something is often due to the very moment.
fn tenths(most: u64) -> impl Strategy<Value = u64> {
    (0..=most).prop_map(|tenths| tenths * 100)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..8_u8, 0..2_u8, 0..4_u8, tenths(5), 0..50_u16).prop_map(
            |(request, content, work, deadline, id_time)| Step::Submit { request, content, work, deadline, id_time }
        ),
        2 => (0..4_u8, 0..2_u8).prop_map(|(request, content)| Step::Record { request, content }),
        4 => any::<u8>().prop_map(Step::Cancel),
        2 => any::<u8>().prop_map(Step::Delete),
        5 => (any::<u8>(), 0..5_u8).prop_map(|(operation, outcome)| Step::Finish { operation, outcome }),
        6 => Just(Step::Schedule),
        3 => (0..4_usize).prop_map(|budget| Step::Expire { budget }),
        4 => (tenths(7), any::<i32>()).prop_map(|(service, wall)| Step::Pass { service, wall: wall.into() }),
        1 => (0..6_u8).prop_map(Step::Raise),
        1 => (0..3_u8).prop_map(Step::Clear),
        1 => prop::bool::weighted(0.2).prop_map(|drain| if drain { Step::Drain } else { Step::Schedule }),
        1 => Just(Step::Restart),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    (1..10_usize, 1..4_usize, (1..10_u64).prop_map(|tenths| tenths * 100)).prop_map(
        |(request_ids, active_operations, retention)| Limits {
            request_ids,
            active_operations,
            retention: Duration::from_millis(retention),
        },
    )
}

/// A state and its model, side by side.
struct History {
    state: State,
    model: Model,
    now: Moment,
    /// Every operation there ever was, oldest first, and one that there never was.
    ids: Vec<OperationId>,
    /// The end of each that has ended, also of those that are forgotten.
    ends: BTreeMap<OperationId, OperationState>,
    /// Makes ids unique, as their random part does.
    fresh: u128,
    /// What has happened, see [`EVERYTHING`].
    seen: BTreeSet<&'static str>,
}

impl History {
    fn new(limits: Limits) -> Self {
        let position = Position { epoch: Epoch(1), revision: Revision(0) };
        Self {
            state: State::restore(position, machine(Vec::new()), [], [], []),
            model: Model::new(limits),
            now: Moment { wall: WallTime(0), service: ServiceTime(0) },
            ids: vec![OperationId(Uuid::nil())],
            ends: BTreeMap::new(),
            fresh: 0,
            seen: BTreeSet::new(),
        }
    }

    fn limits(&self) -> Limits {
        self.model.limits
    }

    fn pick(&self, number: u8) -> OperationId {
        // Mostly the latest, which are those that can still change.
        let back = usize::from(number) % self.ids.len().min(6);
        self.ids[self.ids.len() - 1 - back]
    }

    /// Asks twice: the same state gets the same answer, and is not changed by the question.
    fn decide<T: PartialEq + std::fmt::Debug>(&self, decision: impl Fn(&State) -> T) -> T {
        let before = fingerprint(&self.state);
        let decided = decision(&self.state);
        assert_eq!(decision(&self.state), decided, "one state, two decisions");
        assert_eq!(fingerprint(&self.state), before, "a decision changed the state");
        decided
    }

    /// Applies events, twice, and judges the delta.
    fn apply(&mut self, events: &[Event]) {
        let before = self.state.clone();
        let published = fingerprint(&before);
        let mut again = before.clone();
        let delta = self.state.apply(events);
        assert_eq!(again.apply(events), delta, "the same events, two deltas");
        assert_eq!(fingerprint(&again), fingerprint(&self.state), "the same events, two states");
        assert_eq!(fingerprint(&before), published, "a published copy changed");
        assert_eq!(delta.is_none(), events.is_empty(), "a revision is spent exactly on a change");
        if let Some(delta) = delta {
            check_delta(&before, &self.state, &delta);
        }
        self.check_lives(&before);
    }

    /// What no history may do to an operation.
    fn check_lives(&mut self, before: &State) {
        for operation in before.operations_newest_first(None) {
            if operation.state == OperationState::Running {
                assert!(self.state.operation(operation.id).is_some(), "{} ran and is gone", operation.id);
            }
        }
        for operation in self.state.operations_newest_first(None) {
            let end = operation.outcome.as_ref().map(Outcome::state);
            let known = self.ends.get(&operation.id).copied();
            assert!(known.is_none() || known == end, "{} ended as {known:?}, now {end:?}", operation.id);
            if let Some(end) = end {
                assert_eq!(operation.state, end);
                self.ends.insert(operation.id, end);
            }
        }
        let active: Vec<_> = self.state.active_operations().collect();
        for (index, one) in active.iter().enumerate() {
            for other in &active[..index] {
                let leaving = one.cancel_requested || other.cancel_requested;
                assert!(leaving || one.work != other.work, "{} and {} are the same work", one.id, other.id);
            }
        }
        let running = active.iter().filter(|op| op.state == OperationState::Running).count();
        assert!(running <= 1, "probes falsify each other");
        assert!(active.len() <= self.limits().active_operations);
        assert!(self.state.request_count() <= self.limits().request_ids);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Submit { request, content, work, deadline, id_time } => {
                self.submit(request, content, work, deadline, id_time);
            }
            Step::Record { request, content } => self.record(request, content),
            Step::Cancel(number) => self.cancel(self.pick(number)),
            Step::Delete(number) => self.delete(self.pick(number)),
            Step::Finish { operation, outcome } => self.finish(operation, outcome),
            Step::Schedule => {
                let events = self.decide(|state| schedule(state, self.now));
                self.apply(&events);
                self.model.schedule(self.now);
            }
            Step::Expire { budget } => {
                let events = self.decide(|state| expire(state, self.now, &self.limits(), budget));
                for event in &events {
                    let forgets =
                        matches!(event, Event::OperationForgotten { .. } | Event::RequestForgotten { .. });
                    self.seen.insert(if forgets { "expired" } else { "overdue" });
                }
                self.apply(&events);
                self.model.expire(self.now, budget, &self.state);
            }
            Step::Pass { service, wall } => {
                self.now.service.0 += service;
                self.now.wall.0 = wall;
            }
            Step::Raise(number) => {
                let condition = Condition { since: self.now.wall, ..condition(number) };
                let events = self.decide(|state| raise(state, condition.clone()));
                self.seen.insert(if events.is_empty() { "raised in vain" } else { "raised" });
                self.apply(&events);
                self.model.raise(condition.clone());
                assert_eq!(self.decide(|state| raise(state, condition.clone())), [], "raised again");
            }
            Step::Clear(number) => {
                let kind = ConditionKind::ALL[usize::from(number) % 3];
                let events = self.decide(|state| clear(state, kind));
                self.apply(&events);
                self.model.clear(kind);
                assert_eq!(self.decide(|state| clear(state, kind)), [], "cleared again");
            }
            Step::Drain => {
                let events = self.decide(|state| begin_drain(state, self.now));
                self.apply(&events);
                self.model.drain(self.now);
                assert_eq!(self.decide(|state| begin_drain(state, self.now)), [], "draining twice");
            }
            Step::Restart => self.restart(),
        }
        self.model.agree(&self.state);
    }

    fn submit(&mut self, request: u8, content: u8, work: u8, deadline: u64, id_time: u16) {
        self.fresh += 1;
        let submission = Submission {
            key: key("/submit", request),
            content: ContentHash([content; 32]),
            work: probe(work),
            deadline: Duration::from_millis(deadline),
            // A version 7 id: milliseconds of the wall clock, then what makes it unique.
            new_id: OperationId(Uuid::from_u128((u128::from(id_time) << 80) | self.fresh)),
        };
        let Submission { key, content, work, deadline, new_id } = submission.clone();
        let expected = self.model.expect_submit(&key, content, &work);
        let answer = self.decide(|state| submit(state, &submission, self.now, &self.limits()));
        let submitted = match (answer, expected) {
            (Err(error), Expected::Refused(reason)) => {
                assert_eq!(error.reason(), reason);
                self.seen.insert(reason.as_str());
                if reason == Reason::RequestIdsExhausted {
                    assert_eq!(error.retry_delay(), Some(self.model.wait_for_an_id(self.now)));
                }
                return;
            }
            (Ok(submitted), expected) => {
                assert!(!matches!(expected, Expected::Refused(_)), "{expected:?}, but it was admitted");
                submitted
            }
            (Err(error), expected) => panic!("{expected:?}, but it was refused: {error:?}"),
        };
        self.apply(&submitted.events);
        match expected {
            Expected::Repeated(id) => {
                assert_eq!((submitted.operation, submitted.events.len()), (id, 0), "a repeat does nothing");
                self.seen.insert("submitted again");
            }
            Expected::Joined(id) => {
                assert_eq!(submitted.operation, id);
                self.seen.insert("joined");
                self.model.accept_request(key, content, Some(id), self.now);
            }
            Expected::New => {
                let id = submitted.operation;
                assert!(!self.ids.contains(&id), "{id} has been used before");
                let newest = self.model.operations.iter().map(|op| op.value.id).max();
                if newest.is_none_or(|newest| newest < new_id) {
                    assert_eq!(id, new_id, "the id that was handed in is good");
                }
                self.seen.insert(if id == new_id { "accepted" } else { "id moved up" });
                self.ids.push(id);
                self.model.accept_operation(id, key, content, work, deadline, self.now);
            }
            Expected::Refused(_) => {}
        }
        assert!(is_known(&self.state, &submission.key));
        let again = self.decide(|state| submit(state, &submission, self.now, &self.limits())).unwrap();
        assert_eq!((again.operation, again.events), (submitted.operation, vec![]), "submitted again");
    }

    fn record(&mut self, request: u8, content: u8) {
        let (key, content) = (key("/record", request), ContentHash([content; 32]));
        let expected = self.model.expect_record(&key, content);
        let answer =
            self.decide(|state| record(state, &key, content, Answer::Done, self.now, &self.limits()));
        let fresh = answer.as_ref().map(|events| !events.is_empty()).map_err(Error::reason);
        assert_eq!(fresh, expected);
        let Ok(events) = answer else { return };
        self.apply(&events);
        self.seen.insert(if events.is_empty() { "recorded again" } else { "recorded" });
        if expected == Ok(true) {
            self.model.accept_request(key.clone(), content, None, self.now);
        }
        let again = self.decide(|state| record(state, &key, content, Answer::Done, self.now, &self.limits()));
        assert_eq!(again, Ok(vec![]), "recorded again");
    }

    fn cancel(&mut self, id: OperationId) {
        let by = Principal::Uid(1);
        let answer = self.decide(|state| cancel(state, id, &by, self.now));
        let expected = self.model.cancel(id, &by, self.now);
        assert_eq!(answer.as_ref().map(|_| ()).map_err(Error::reason), expected);
        let Ok(events) = answer else { return };
        match events.as_slice() {
            [Event::OperationEnded { .. }] => drop(self.seen.insert("cancelled before it ran")),
            [Event::OperationCancelRequested { .. }] => drop(self.seen.insert("asked to stop")),
            _ => assert_eq!(events, []),
        }
        self.apply(&events);
        assert_eq!(self.decide(|state| cancel(state, id, &by, self.now)), Ok(vec![]), "cancelled again");
    }

    fn delete(&mut self, id: OperationId) {
        let answer = self.decide(|state| delete(state, id));
        let expected = self.model.delete(id);
        assert_eq!(answer.as_ref().map(|_| ()).map_err(Error::reason), expected);
        self.seen.insert(if answer.is_ok() { "deleted" } else { "not deleted" });
        let Ok(events) = answer else { return };
        self.apply(&events);
        let again = self.decide(|state| delete(state, id)).map_err(|error| error.reason());
        assert_eq!(again, Err(Reason::ResourceNotFound), "deleted again");
    }

    fn finish(&mut self, operation: u8, outcome: u8) {
        // Mostly what runs; now and then what never did, or has ended long ago.
        let running = self.state.active_operations().find(|op| op.state == OperationState::Running);
        let id =
            running.filter(|_| !operation.is_multiple_of(4)).map_or_else(|| self.pick(operation), |op| op.id);
        let outcome = match outcome {
            0 => Outcome::Failed(Error::new(Reason::ProbeFailed, "the disk is gone")),
            1 => Outcome::Failed(Error::new(Reason::DeadlineExceeded, "too slow")),
            2 => Outcome::Cancelled(Error::new(Reason::OperationCancelled, "as asked")),
            measured => Outcome::Output(OperationOutput::ProbeMachine(
                (3..=measured)
                    .map(|kind| measurement(usize::from(kind) + usize::from(operation), self.now.service.0))
                    .collect(),
            )),
        };
        let events = self.decide(|state| finish(state, id, outcome.clone(), self.now));
        self.seen.insert(if events.is_empty() { "reported in vain" } else { "finished" });
        self.apply(&events);
        self.model.finish(id, outcome.clone(), self.now);
        assert_eq!(self.decide(|state| finish(state, id, outcome.clone(), self.now)), [], "finished again");
    }

    /// What was durable is handed to a new life, which must look the same but for what was not.
    fn restart(&mut self) {
        let operations: Vec<_> = self
            .state
            .operations_with_position()
            .map(|(at, operation)| (at.revision, operation.as_ref().clone()))
            .collect();
        let requests: Vec<RequestRecord> = self.state.requests().cloned().collect();
        let measurements = self.state.machine().measurements.clone();
        let Position { epoch, revision } = self.state.position();
        let position = Position { epoch: epoch.next(), revision };
        self.state = State::restore(position, machine(measurements), operations, requests, []);
        self.model.restart();
        self.model.agree(&self.state);
        let events = self.decide(|state| recover(state, self.now));
        if !events.is_empty() {
            self.seen.insert("recovered");
        }
        self.apply(&events);
        self.model.recover(self.now);
        assert_eq!(self.decide(|state| recover(state, self.now)), [], "recovered again");
    }
}

/// Each name once, with exactly what it was and is; what is not named has not changed.
fn check_delta(before: &State, after: &State, delta: &Delta) {
    assert_eq!(delta.position, after.position());
    assert_eq!(delta.position.revision, before.position().revision.next());
    let all = |state: &State| -> BTreeMap<ResourceName, Record> {
        state.records().map(|record| (record.name(), record)).collect()
    };
    let (before, after) = (all(before), all(after));
    let mut told: BTreeMap<ResourceName, &Change> = BTreeMap::new();
    for change in &delta.changes {
        assert!(told.insert(change.name, change).is_none(), "{} twice in a delta", change.name);
    }
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        match told.remove(name) {
            None => assert_eq!(old, new, "{name} changed and nobody was told"),
            Some(change) => {
                assert_eq!((change.before.as_ref(), change.after.as_ref()), (old, new));
                assert_ne!(old, new, "{name} did not change");
                assert!(new.is_none_or(|record| record.position == delta.position));
            }
        }
    }
    assert!(told.is_empty(), "changes of what is not there: {told:?}");
}

fn key(method: &str, number: u8) -> RequestKey {
    let principal = if number.is_multiple_of(2) { Principal::Uid(1) } else { Principal::Loopback };
    RequestKey { principal, method: method.into(), id: RequestId(Uuid::from_u128(u128::from(number / 2))) }
}

fn probe(number: u8) -> Work {
    Work::ProbeMachine(ProbeSpec {
        kinds: vec![MeasurementKind::ALL[usize::from(number) % 3]],
        bytes: Bytes::mib(16 + u64::from(number / 3)),
    })
}

fn condition(number: u8) -> Condition {
    Condition {
        kind: ConditionKind::ALL[usize::from(number) % 3],
        severity: Severity::Warning,
        message: format!("number {}", number / 3),
        advice: String::new(),
        since: WallTime(0),
        details: Vec::new(),
    }
}

/// `HOIST_SOAK` is read here and nowhere else in this crate.
fn histories() -> u32 {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test is its own edge; only the number of rounds depends on it"
    )]
    let factor = std::env::var("HOIST_SOAK");
    HISTORIES.saturating_mul(factor.ok().and_then(|text| text.parse().ok()).unwrap_or(1))
}

/// What the histories must have come across, taken together: what never happens is not tested.
const EVERYTHING: [&str; 21] = [
    "raised",
    "raised in vain",
    "submitted again",
    "joined",
    "accepted",
    "id moved up",
    "REQUEST_ID_REUSED",
    "DRAINING",
    "REQUEST_IDS_EXHAUSTED",
    "OPERATIONS_EXHAUSTED",
    "recorded",
    "recorded again",
    "cancelled before it ran",
    "asked to stop",
    "deleted",
    "not deleted",
    "finished",
    "reported in vain",
    "expired",
    "overdue",
    "recovered",
];

#[test]
fn every_history_is_the_one_that_the_contract_describes() {
    let config = ProptestConfig {
        cases: histories(),
        source_file: Some(file!()),
        // What failed once stands beside this file, and is tried first.
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    };
    let seen = RefCell::new(BTreeSet::new());
    let outcome =
        TestRunner::new(config).run(&(limits(), prop::collection::vec(step(), 1..90)), |(limits, steps)| {
            let mut history = History::new(limits);
            for step in steps {
                history.step(step);
            }
            seen.borrow_mut().append(&mut history.seen);
            Ok(())
        });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert_eq!(seen.take(), BTreeSet::from(EVERYTHING));
}
