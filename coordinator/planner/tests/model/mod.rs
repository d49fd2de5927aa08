//! What the contract says about requests and operations, in the plainest way: vectors, walked from end to end.
//!
//! The oracle of `oracle.rs`. It shares no code with the planner: it says what each step must lead to, and
//! [`Model::agree`] compares everything that can be seen.

use std::time::Duration;

use hoist_domain::{
    Bytes, Condition, ContentHash, Lifecycle, Machine, MachineState, Measurement, MeasurementKind, Operation,
    OperationId, OperationOutput, OperationState, Outcome, Principal, Reason, RequestKey, ResourceName,
    ServiceTime, WallTime, Work,
};
use hoist_planner::{Answer, Limits, Moment, Resource, State};

/// An operation, with the revision of its last change.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) revision: u64,
    pub(crate) value: Operation,
}

impl Op {
    fn active(&self) -> bool {
        matches!(self.value.state, OperationState::Pending | OperationState::Running)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) key: RequestKey,
    pub(crate) content: ContentHash,
    /// Unset: it was done and made no operation.
    pub(crate) operation: Option<OperationId>,
    pub(crate) accepted: ServiceTime,
}

/// What a submission must be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The request was answered before: nothing may change.
    Repeated(OperationId),
    /// Equal work is not done yet: only the request is new.
    Joined(OperationId),
    New,
    Refused(Reason),
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// In the order in which they were accepted.
    pub(crate) operations: Vec<Op>,
    pub(crate) requests: Vec<Request>,
    pub(crate) conditions: Vec<(u64, Condition)>,
    pub(crate) measurements: Vec<Measurement>,
    pub(crate) machine_revision: u64,
    pub(crate) draining: bool,
    pub(crate) revision: u64,
    pub(crate) epoch: u64,
    pub(crate) limits: Limits,
}

impl Model {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            operations: Vec::new(),
            requests: Vec::new(),
            conditions: Vec::new(),
            measurements: Vec::new(),
            machine_revision: 0,
            draining: false,
            revision: 0,
            epoch: 1,
            limits,
        }
    }

    fn known(&self, key: &RequestKey) -> Option<&Request> {
        self.requests.iter().find(|request| request.key == *key)
    }

    fn find(&mut self, id: OperationId) -> Option<&mut Op> {
        self.operations.iter_mut().find(|op| op.value.id == id)
    }

    fn active(&self) -> impl Iterator<Item = &Op> {
        self.operations.iter().filter(|op| op.active())
    }

    /// Whether a fresh request may enter at all.
    fn admits(&self) -> Result<(), Reason> {
        if self.draining {
            return Err(Reason::Draining);
        }
        if self.requests.len() >= self.limits.request_ids {
            return Err(Reason::RequestIdsExhausted);
        }
        Ok(())
    }

    pub(crate) fn expect_submit(&self, key: &RequestKey, content: ContentHash, work: &Work) -> Expected {
        if let Some(request) = self.known(key) {
            return match request.operation {
                Some(id) if request.content == content => Expected::Repeated(id),
                _ => Expected::Refused(Reason::RequestIdReused),
            };
        }
        if let Err(reason) = self.admits() {
            return Expected::Refused(reason);
        }
        if let Some(same) = self.active().find(|op| op.value.work == *work && !op.value.cancel_requested) {
            return Expected::Joined(same.value.id);
        }
        if self.active().count() >= self.limits.active_operations {
            return Expected::Refused(Reason::OperationsExhausted);
        }
        Expected::New
    }

    /// What a mutation without an operation must be answered with: whether it is new.
    pub(crate) fn expect_record(&self, key: &RequestKey, content: ContentHash) -> Result<bool, Reason> {
        match self.known(key) {
            Some(request) if request.content == content => Ok(false),
            Some(_) => Err(Reason::RequestIdReused),
            None => self.admits().map(|()| true),
        }
    }

    /// How long the caller must be told to wait when no id is free: until the oldest may go, a second at least.
    pub(crate) fn wait_for_an_id(&self, now: Moment) -> Duration {
        let oldest = self.requests.iter().map(|request| request.accepted.0).min().unwrap_or(now.service.0);
        let free = u128::from(oldest) + self.limits.retention.as_millis();
        let wait = free.saturating_sub(u128::from(now.service.0));
        Duration::from_millis(u64::try_from(wait).unwrap()).max(Duration::from_secs(1))
    }

    pub(crate) fn accept_request(
        &mut self,
        key: RequestKey,
        content: ContentHash,
        operation: Option<OperationId>,
        now: Moment,
    ) {
        self.revision += 1;
        self.requests.push(Request { key, content, operation, accepted: now.service });
    }

    /// A new operation and its request, in one revision.
    pub(crate) fn accept_operation(
        &mut self,
        id: OperationId,
        key: RequestKey,
        content: ContentHash,
        work: Work,
        deadline: Duration,
        now: Moment,
    ) {
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap();
        let value = Operation {
            id,
            work,
            state: OperationState::Pending,
            request_id: key.id,
            principal: key.principal.clone(),
            created_at: now.wall,
            started_at: None,
            ended_at: None,
            deadline: ServiceTime(now.service.0 + deadline_ms),
            ended: None,
            attempts: 0,
            cancel_requested: false,
            outcome: None,
        };
        self.accept_request(key, content, Some(id), now);
        self.operations.push(Op { revision: self.revision, value });
    }

    fn end(op: &mut Op, outcome: Outcome, now: Moment, revision: u64) {
        assert!(op.active(), "the model itself ends {} twice", op.value.id);
        op.value.state = match &outcome {
            Outcome::Output(_) => OperationState::Succeeded,
            Outcome::Failed(_) => OperationState::Failed,
            Outcome::Cancelled(_) => OperationState::Cancelled,
        };
        op.value.outcome = Some(outcome);
        op.value.ended_at = Some(now.wall);
        op.value.ended = Some(now.service);
        op.revision = revision;
    }

    /// Ends all that `which` picks, with an error of this reason. What the planner says beyond it is for people.
    fn end_all(
        &mut self,
        which: impl Fn(&Op) -> bool,
        outcome: impl Fn(&Op) -> Outcome,
        now: Moment,
    ) -> bool {
        let revision = self.revision + 1;
        let mut any = false;
        for op in self.operations.iter_mut().filter(|op| op.active() && which(op)) {
            Self::end(op, outcome(op), now, revision);
            any = true;
        }
        any
    }

    pub(crate) fn cancel(&mut self, id: OperationId, by: &Principal, now: Moment) -> Result<(), Reason> {
        let revision = self.revision + 1;
        let op = self.find(id).ok_or(Reason::ResourceNotFound)?;
        match op.value.state {
            OperationState::Pending => {
                let error = error(Reason::OperationCancelled, by);
                Self::end(op, Outcome::Cancelled(error), now, revision);
                self.revision = revision;
            }
            OperationState::Running if !op.value.cancel_requested => {
                op.value.cancel_requested = true;
                op.revision = revision;
                self.revision = revision;
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn delete(&mut self, id: OperationId) -> Result<(), Reason> {
        let op = self.find(id).ok_or(Reason::ResourceNotFound)?;
        if op.active() {
            return Err(Reason::OperationNotDone);
        }
        self.operations.retain(|op| op.value.id != id);
        self.requests.retain(|request| request.operation != Some(id));
        self.revision += 1;
        Ok(())
    }

    pub(crate) fn finish(&mut self, id: OperationId, outcome: Outcome, now: Moment) {
        let revision = self.revision + 1;
        let Some(op) = self.find(id) else { return };
        if op.value.state != OperationState::Running {
            return;
        }
        Self::end(op, outcome.clone(), now, revision);
        self.revision = revision;
        if let Outcome::Output(OperationOutput::ProbeMachine(fresh)) = outcome {
            for measurement in fresh {
                self.machine_revision = revision;
                self.measurements.retain(|known| known.kind != measurement.kind);
                self.measurements.push(measurement);
            }
        }
    }

    pub(crate) fn schedule(&mut self, now: Moment) {
        let busy = self.operations.iter().any(|op| op.value.state == OperationState::Running);
        if self.draining || busy {
            return;
        }
        let revision = self.revision + 1;
        let next = self.operations.iter_mut().find(|op| op.value.state == OperationState::Pending);
        if let Some(op) = next {
            op.value.state = OperationState::Running;
            op.value.started_at = Some(now.wall);
            op.value.attempts += 1;
            op.revision = revision;
            self.revision = revision;
        }
    }

    pub(crate) fn drain(&mut self, now: Moment) {
        if self.draining {
            return;
        }
        let pending = |op: &Op| op.value.state == OperationState::Pending;
        self.end_all(pending, |op| Outcome::Cancelled(error(Reason::Draining, op.value.id)), now);
        self.draining = true;
        self.revision += 1;
        self.machine_revision = self.revision;
    }

    /// What is said again unchanged is no news, and a thing that goes on has begun when it began.
    pub(crate) fn raise(&mut self, mut condition: Condition) {
        if let Some((_, known)) = self.conditions.iter().find(|(_, known)| known.kind == condition.kind) {
            condition.since = known.since;
            if *known == condition {
                return;
            }
        }
        self.revision += 1;
        self.conditions.retain(|(_, known)| known.kind != condition.kind);
        self.conditions.push((self.revision, condition));
    }

    pub(crate) fn clear(&mut self, kind: hoist_domain::ConditionKind) {
        if self.conditions.iter().all(|(_, known)| known.kind != kind) {
            return;
        }
        self.revision += 1;
        self.conditions.retain(|(_, known)| known.kind != kind);
    }

    /// A new life, on what was durable.
    pub(crate) fn restart(&mut self) {
        self.epoch += 1;
        self.draining = false;
        self.conditions.clear();
        self.machine_revision = self.revision;
    }

    pub(crate) fn recover(&mut self, now: Moment) {
        let failed = |op: &Op| Outcome::Failed(error(Reason::CoordinatorRestarted, op.value.id));
        if self.end_all(|_| true, failed, now) {
            self.revision += 1;
        }
    }

    /// Time passes. Which of equally old things go first is the planner's choice, so `after` is asked for it; how
    /// many go, and that none goes before an older one, is not.
    pub(crate) fn expire(&mut self, now: Moment, budget: usize, after: &State) {
        let old = |since: ServiceTime| {
            u128::from(now.service.0.saturating_sub(since.0)) >= self.limits.retention.as_millis()
        };
        let expired: Vec<(ServiceTime, OperationId)> = self
            .operations
            .iter()
            .filter_map(|op| op.value.ended.filter(|ended| old(*ended)).map(|ended| (ended, op.value.id)))
            .filter(|(_, id)| {
                self.requests.iter().all(|request| request.operation != Some(*id) || old(request.accepted))
            })
            .collect();
        let gone = oldest_first(&expired, budget, |id| after.operation(*id).is_none());
        let alone: Vec<(ServiceTime, RequestKey)> = self
            .requests
            .iter()
            .filter(|request| request.operation.is_none() && old(request.accepted))
            .map(|request| (request.accepted, request.key.clone()))
            .collect();
        let forgotten = oldest_first(&alone, budget, |key| after.request(key).is_none());

        let overdue = |op: &Op| op.value.state == OperationState::Pending && op.value.deadline <= now.service;
        let failed = |op: &Op| Outcome::Failed(error(Reason::DeadlineExceeded, op.value.id));
        let changed = self.end_all(overdue, failed, now) || !gone.is_empty() || !forgotten.is_empty();
        self.operations.retain(|op| !gone.contains(&op.value.id));
        self.requests.retain(|request| {
            request.operation.is_none_or(|id| !gone.contains(&id)) && !forgotten.contains(&request.key)
        });
        if changed {
            self.revision += 1;
        }
    }

    /// Compares everything that can be seen of the state.
    pub(crate) fn agree(&self, state: &State) {
        let position = state.position();
        assert_eq!((position.epoch.0, position.revision.0), (self.epoch, self.revision), "position");

        let listed: Vec<_> = state.operations_newest_first(None).map(|op| comparable(op)).collect();
        let expected: Vec<_> = self.operations.iter().rev().map(|op| comparable(&op.value)).collect();
        assert_eq!(listed, expected, "operations, newest first");
        for (index, op) in self.operations.iter().enumerate() {
            let id = op.value.id;
            let record = state.record(ResourceName::Operation(id)).unwrap();
            assert_eq!(record.position.revision.0, op.revision, "revision of {id}");
            assert_eq!(state.operations_newest_first(Some(id)).count(), index, "those older than {id}");
        }
        let active: Vec<_> = state.active_operations().map(|op| op.id).collect();
        assert_eq!(active, self.active().map(|op| op.value.id).collect::<Vec<_>>(), "active, oldest first");
        assert_eq!(state.active_count(), active.len());
        for kind in OperationState::ALL {
            let count = self.operations.iter().filter(|op| op.value.state == kind).count();
            assert_eq!(state.operation_counts().of(kind) as usize, count, "count of {kind:?}");
        }
        self.agree_on_ends(state);
        self.agree_on_requests(state);

        let mut measurements = self.measurements.clone();
        measurements.sort_by_key(|measurement| measurement.kind);
        assert_eq!(state.machine().measurements, measurements);
        let machine = state.record(ResourceName::Machine).unwrap();
        assert_eq!(machine.position.revision.0, self.machine_revision, "revision of the machine");
        assert_eq!(state.is_draining(), self.draining);

        let mut conditions = self.conditions.clone();
        conditions.sort_by_key(|(_, condition)| condition.kind);
        let shown: Vec<_> = state.conditions().map(|condition| condition.as_ref().clone()).collect();
        assert_eq!(shown, conditions.iter().map(|(_, condition)| condition.clone()).collect::<Vec<_>>());
        for (revision, condition) in conditions {
            let record = state.record(ResourceName::Condition(condition.kind)).unwrap();
            assert_eq!(record.position.revision.0, revision);
        }
        let names: Vec<_> = state.records().map(|record| record.name()).collect();
        assert_eq!(names.len(), 1 + self.conditions.len() + self.operations.len());
        assert_eq!(state.record_count(), names.len());
        for name in names {
            assert!(state.record(name).is_some(), "{name} is listed and cannot be found");
        }
    }

    fn agree_on_ends(&self, state: &State) {
        let ended: Vec<_> = state.ended_oldest_first().copied().collect();
        assert!(ended.is_sorted_by_key(|(since, _)| *since), "ended ones come oldest first");
        let mut expected: Vec<_> = self
            .operations
            .iter()
            .filter(|op| !op.active())
            .map(|op| (op.value.ended.unwrap(), op.value.id))
            .collect();
        let mut ended = ended;
        ended.sort();
        expected.sort();
        assert_eq!(ended, expected, "ended operations");
        for op in &self.operations {
            assert_eq!(op.value.state.is_terminal(), op.value.outcome.is_some());
        }
    }

    fn agree_on_requests(&self, state: &State) {
        assert_eq!(state.request_count(), self.requests.len());
        let mut by_age: Vec<_> = state.requests_oldest_first().cloned().collect();
        assert!(by_age.is_sorted_by_key(|(accepted, _)| *accepted), "requests come oldest first");
        let mut expected: Vec<_> =
            self.requests.iter().map(|request| (request.accepted, request.key.clone())).collect();
        by_age.sort();
        expected.sort();
        assert_eq!(by_age, expected, "requests by age");
        for request in &self.requests {
            let kept = state.request(&request.key).unwrap();
            let operation = match kept.answer {
                Answer::Operation(id) => Some(id),
                Answer::Model(_) | Answer::Done => None,
            };
            let kept =
                Request { key: kept.key.clone(), content: kept.content, operation, accepted: kept.accepted };
            assert_eq!(kept, *request);
        }
        for op in &self.operations {
            let mut led_to: Vec<_> = state.requests_of(op.value.id).cloned().collect();
            let mut expected: Vec<_> = self
                .requests
                .iter()
                .filter(|request| request.operation == Some(op.value.id))
                .map(|request| request.key.clone())
                .collect();
            led_to.sort();
            expected.sort();
            assert_eq!(led_to, expected, "requests of {}", op.value.id);
        }
    }
}

/// Errors are compared by their reasons; the sentence is the planner's.
fn error(reason: Reason, about: impl std::fmt::Display) -> hoist_domain::Error {
    hoist_domain::Error::new(reason, format!("{about}"))
}

/// An operation with only the reason of its error.
fn comparable(operation: &Operation) -> Operation {
    let bare = |error: &hoist_domain::Error| hoist_domain::Error::new(error.reason(), "");
    let outcome = operation.outcome.as_ref().map(|outcome| match outcome {
        Outcome::Output(output) => Outcome::Output(output.clone()),
        Outcome::Failed(error) => Outcome::Failed(bare(error)),
        Outcome::Cancelled(error) => Outcome::Cancelled(bare(error)),
    });
    Operation { outcome, ..operation.clone() }
}

/// Those of `candidates` that are gone, after a look at whether the right number went, the oldest first.
fn oldest_first<T: Clone>(
    candidates: &[(ServiceTime, T)],
    budget: usize,
    is_gone: impl Fn(&T) -> bool,
) -> Vec<T> {
    let gone: Vec<_> = candidates.iter().filter(|(_, item)| is_gone(item)).collect();
    assert_eq!(
        gone.len(),
        candidates.len().min(budget),
        "what is old enough goes, as far as the budget allows"
    );
    let youngest_gone = gone.iter().map(|(since, _)| *since).max();
    for (since, _) in candidates.iter().filter(|(_, item)| !is_gone(item)) {
        assert!(youngest_gone.is_none_or(|gone| gone <= *since), "an older one stayed");
    }
    gone.into_iter().map(|(_, item)| item.clone()).collect()
}

/// The machine at its start, with what was measured before.
pub(crate) fn machine(measurements: Vec<Measurement>) -> Machine {
    Machine {
        state: MachineState::Serving,
        version: "1".to_owned(),
        process_id: 7,
        started_at: WallTime(0),
        measurements,
    }
}

/// A measurement that differs by its speed.
pub(crate) fn measurement(kind: usize, speed: u64) -> Measurement {
    Measurement {
        kind: MeasurementKind::ALL[kind % MeasurementKind::ALL.len()],
        bytes: Bytes(1),
        duration: Duration::from_millis(1),
        bytes_per_second: speed,
        threads: 1,
        block_bytes: Bytes(1),
        measured_at: WallTime(0),
        note: String::new(),
    }
}

/// Everything that a state holds, as one comparable value.
pub(crate) fn fingerprint(state: &State) -> String {
    let records: Vec<_> = state
        .records()
        .map(|record| match record.resource {
            Resource::Machine(machine) => format!("{} {machine:?}", record.position),
            Resource::Operation(operation) => format!("{} {operation:?}", record.position),
            Resource::Condition(condition) => format!("{} {condition:?}", record.position),
            Resource::Model(model) => format!("{} {model:?}", record.position),
            Resource::Segment(segment) => format!("{} {segment:?}", record.position),
            Resource::Lease(lease) => format!("{} {lease:?}", record.position),
            Resource::Device(device) => format!("{} {device:?}", record.position),
            Resource::Replica(replica) => format!("{} {replica:?}", record.position),
        })
        .collect();
    let requests: Vec<_> = state.requests().collect();
    let by_age: Vec<_> = state.requests_oldest_first().collect();
    let ended: Vec<_> = state.ended_oldest_first().collect();
    let active: Vec<_> = state.active_operations().map(|op| op.id).collect();
    let counts = state.operation_counts();
    format!("{} {records:?} {requests:?} {by_age:?} {ended:?} {active:?} {counts:?}", state.position())
}
