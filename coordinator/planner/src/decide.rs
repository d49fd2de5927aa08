//! From requests to events. Each function looks at a state and says what should happen; none changes anything.
//!
//! Properties, kept by the tests: one operation for one request id, whatever is repeated; one operation for equal
//! work that is not done; exactly one terminal state; nothing that runs is forgotten; bounds hold.

use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    Condition, ConditionKind, ContentHash, Error, Lane, Lifecycle, Operation, OperationId, OperationOutput,
    OperationState, Outcome, Principal, Reason, RequestKey, ResourceName, Result, ServiceTime, WallTime,
    Work,
};

use crate::{Answer, Event, RequestRecord, State};

/// What to do, in one revision. No events: nothing changes.
pub type Decision = Vec<Event>;

/// Both clocks, read once at the edge for one decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    pub wall: WallTime,
    pub service: ServiceTime,
}

/// The bounds of what is kept and admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request ids kept at the same time.
    pub request_ids: usize,
    /// Operations pending or running at the same time.
    pub active_operations: usize,
    /// How long a request id, and an operation after its end, is kept at least.
    pub retention: Duration,
}

/// A request to do some work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    pub key: RequestKey,
    pub content: ContentHash,
    pub work: Work,
    /// From acceptance to failure with DEADLINE_EXCEEDED.
    pub deadline: Duration,
    /// The id to use if a new operation is made; it is moved up if it would not sort after all others.
    pub new_id: OperationId,
}

/// Which operation answers a submission, and what must happen for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    pub operation: OperationId,
    pub events: Decision,
}

/// Judges a submission: a repeated request gets its operation, equal work that is neither done nor being cancelled nor too far is
/// joined, anything else becomes a new operation if there is room.
///
/// # Errors
/// REQUEST_ID_REUSED, DRAINING, REQUEST_IDS_EXHAUSTED, OPERATIONS_EXHAUSTED.
pub fn submit(state: &State, submission: &Submission, now: Moment, limits: &Limits) -> Result<Submitted> {
    if let Some(Answer::Operation(operation)) = repeated(state, &submission.key, submission.content)? {
        return Ok(Submitted { operation, events: Vec::new() });
    }
    // What the server does by itself is asked for once: nobody repeats it, and it takes no place from those who may.
    let is_own = submission.key.principal == Principal::Hoist;
    if is_own {
        must_not_drain(state)?;
    } else {
        admit_request(state, now.service, limits)?;
    }
    // Work that is being cancelled is no answer to somebody who asks for it now; nor is an unload that has seen already what there
    // was to take off.
    let is_too_late = |active: &Operation| {
        active.cancel_requested
            || (matches!(active.work, Work::UnloadModel(_)) && active.state == OperationState::Running)
    };
    let same = |active: &&Arc<Operation>| active.work == submission.work && !is_too_late(active);
    if let Some(same) = state.active_operations().find(same) {
        let request = recorded(&submission.key, submission.content, Answer::Operation(same.id), now);
        let events = if is_own { Vec::new() } else { vec![request] };
        return Ok(Submitted { operation: same.id, events });
    }
    if state.active_count() >= limits.active_operations {
        return Err(Error::new(
            Reason::OperationsExhausted,
            format!(
                "{} operations are pending or running, which is the limit; wait for some or cancel them",
                state.active_count()
            ),
        )
        .with("limit", limits.active_operations)
        .retry_after(Duration::from_secs(1)));
    }
    // Oldest and newest mean the order of ids: it is the order of acceptance, whatever the wall clock does.
    let newest = state.operations_newest_first(None).next();
    let operation = Operation {
        id: newest.map_or(submission.new_id, |newest| submission.new_id.sorted_after(newest.id)),
        work: submission.work.clone(),
        state: OperationState::Pending,
        request_id: submission.key.id,
        principal: submission.key.principal.clone(),
        created_at: now.wall,
        started_at: None,
        ended_at: None,
        deadline: now.service.after(submission.deadline),
        ended: None,
        attempts: 0,
        cancel_requested: false,
        outcome: None,
    };
    let request = recorded(&submission.key, submission.content, Answer::Operation(operation.id), now);
    let id = operation.id;
    let mut events = vec![Event::OperationAccepted(Arc::new(operation))];
    events.extend((!is_own).then_some(request));
    Ok(Submitted { operation: id, events })
}

/// Judges a mutation that makes no operation. No events: it was done before, and must not be done again.
///
/// # Errors
/// REQUEST_ID_REUSED, DRAINING, REQUEST_IDS_EXHAUSTED.
pub fn record(
    state: &State,
    key: &RequestKey,
    content: ContentHash,
    answer: Answer,
    now: Moment,
    limits: &Limits,
) -> Result<Decision> {
    if repeated(state, key, content)?.is_some() {
        return Ok(Vec::new());
    }
    admit_request(state, now.service, limits)?;
    Ok(vec![recorded(key, content, answer, now)])
}

/// Judges a mutation that makes no operation, with what it does the first time.
///
/// # Errors
/// As [`record`], or as `what` refuses.
pub fn once(
    state: &State,
    key: &RequestKey,
    content: ContentHash,
    answer: Answer,
    now: Moment,
    limits: &Limits,
    what: impl FnOnce() -> Result<Decision>,
) -> Result<Decision> {
    let mut events = record(state, key, content, answer, now, limits)?;
    if !events.is_empty() {
        events.extend(what()?);
    }
    Ok(events)
}

/// Whether a request with this key was answered before.
#[must_use]
pub fn is_known(state: &State, key: &RequestKey) -> bool {
    state.request(key).is_some()
}

/// What a request was answered with, if it was made before.
///
/// # Errors
/// REQUEST_ID_REUSED when another one was made under its id.
pub fn repeated(state: &State, key: &RequestKey, content: ContentHash) -> Result<Option<Answer>> {
    match state.request(key) {
        None => Ok(None),
        Some(request) if request.content == content => Ok(Some(request.answer)),
        Some(_) => Err(Error::new(
            Reason::RequestIdReused,
            format!(
                "request id {} was used for another request; make a fresh id for each new request",
                key.id
            ),
        )
        .with("request_id", key.id)),
    }
}

/// # Errors
/// DRAINING.
pub(crate) fn must_not_drain(state: &State) -> Result<()> {
    if !state.is_draining() {
        return Ok(());
    }
    let message = "the server is stopping and takes no new work; try again later";
    Err(Error::new(Reason::Draining, message).retry_after(Duration::from_secs(5)))
}

fn admit_request(state: &State, now: ServiceTime, limits: &Limits) -> Result<()> {
    must_not_drain(state)?;
    if state.request_count() < limits.request_ids {
        return Ok(());
    }
    let oldest = state.requests_oldest_first().next().map_or(now, |(accepted, _)| *accepted);
    let wait = oldest.after(limits.retention).since(now).max(Duration::from_secs(1));
    Err(Error::new(
        Reason::RequestIdsExhausted,
        format!(
            "{} request ids are kept, which is the limit; delete finished operations or wait for old ids to expire",
            state.request_count()
        ),
    )
    .with("limit", limits.request_ids)
    .retry_after(wait))
}

fn recorded(key: &RequestKey, content: ContentHash, answer: Answer, now: Moment) -> Event {
    Event::RequestRecorded(Arc::new(RequestRecord {
        key: key.clone(),
        content,
        answer,
        accepted: now.service,
    }))
}

fn find(state: &State, id: OperationId) -> Result<&Arc<Operation>> {
    state.operation(id).ok_or_else(|| not_found(ResourceName::Operation(id)))
}

fn not_found(name: ResourceName) -> Error {
    Error::new(
        Reason::ResourceNotFound,
        format!("{name} does not exist, or is no longer kept; list what exists"),
    )
    .with("name", name)
}

/// Asks an operation to stop. One that has not begun ends here; one that runs is told; one that ended stays so.
///
/// # Errors
/// RESOURCE_NOT_FOUND.
pub fn cancel(state: &State, id: OperationId, by: &Principal, now: Moment) -> Result<Decision> {
    let operation = find(state, id)?;
    Ok(match operation.state {
        OperationState::Pending => vec![ended(id, Outcome::Cancelled(cancelled(id, by)), now)],
        OperationState::Running if !operation.cancel_requested => {
            vec![Event::OperationCancelRequested { id }]
        }
        _ => Vec::new(),
    })
}

fn cancelled(id: OperationId, by: &Principal) -> Error {
    Error::new(Reason::OperationCancelled, format!("the operation was cancelled by {by}"))
        .with("operation", id)
}

fn ended(id: OperationId, outcome: Outcome, now: Moment) -> Event {
    Event::OperationEnded { id, outcome, at: now.wall, service: now.service }
}

/// Forgets a finished operation and the request ids that led to it.
///
/// # Errors
/// RESOURCE_NOT_FOUND, OPERATION_NOT_DONE.
pub fn delete(state: &State, id: OperationId) -> Result<Decision> {
    let operation = find(state, id)?;
    if !operation.state.is_terminal() {
        return Err(Error::new(
            Reason::OperationNotDone,
            format!("operations/{id} has not ended; cancel it or wait for it first"),
        )
        .with("name", ResourceName::Operation(id)));
    }
    let mut events: Decision =
        state.requests_of(id).map(|key| Event::RequestForgotten { key: key.clone() }).collect();
    events.push(Event::OperationForgotten { id });
    Ok(events)
}

/// What an executor's report means. Of one on an operation that has ended, or is gone, nothing counts any more: whoever was
/// first has decided. What it was filling is given up all the same: its end may have become known without that.
#[must_use]
pub fn finish(state: &State, id: OperationId, outcome: Outcome, now: Moment) -> Decision {
    match state.operation(id) {
        Some(operation) if operation.state == OperationState::Running => {
            // What it reserved and did not complete.
            let mut events = crate::cache::abandoned(state, id);
            let (settled, outcome) = crate::residency::settle(state, id, outcome, now);
            events.extend(settled);
            if let Outcome::Output(OperationOutput::ProbeMachine(measurements)) = &outcome {
                events.extend(measurements.iter().cloned().map(Event::MeasurementTaken));
            }
            events.push(ended(id, outcome, now));
            events
        }
        _ => crate::cache::abandoned(state, id),
    }
}

/// Which pending operations may begin: as many of each lane as it is wide.
#[must_use]
pub fn schedule(state: &State, now: Moment) -> Decision {
    if state.is_draining() {
        return Vec::new();
    }
    let mut busy: Vec<Lane> = state
        .active_operations()
        .filter(|operation| operation.state == OperationState::Running)
        .map(|operation| operation.work.lane())
        .collect();
    let mut events = Vec::new();
    for pending in state.active_operations().filter(|operation| operation.state == OperationState::Pending) {
        let lane = pending.work.lane();
        if busy.iter().filter(|taken| **taken == lane).count() < lane.width() {
            busy.push(lane);
            events.push(Event::OperationStarted { id: pending.id, at: now.wall });
        }
    }
    events
}

/// What the passing of time means: pending operations past their deadline fail, and what was kept long enough goes.
/// At most `budget` durable things of each kind are forgotten at once, so that a commit stays small.
#[must_use]
pub fn expire(state: &State, now: Moment, limits: &Limits, budget: usize) -> Decision {
    let mut events: Decision = state
        .active_operations()
        .filter(|operation| operation.state == OperationState::Pending && operation.deadline <= now.service)
        .map(|operation| ended(operation.id, Outcome::Failed(deadline_exceeded(operation)), now))
        .collect();
    events.extend(crate::cache::expired(state, now));
    let old = |since: ServiceTime| now.service.since(since) >= limits.retention;
    let expired_operations =
        state.ended_oldest_first().take_while(|(ended, _)| old(*ended)).map(|(_, id)| *id).take(budget);
    for id in expired_operations {
        // An id is kept as long as any other, also if the limits were raised meanwhile.
        if state.requests_of(id).all(|key| state.request(key).is_none_or(|request| old(request.accepted))) {
            events.extend(state.requests_of(id).map(|key| Event::RequestForgotten { key: key.clone() }));
            events.push(Event::OperationForgotten { id });
        }
    }
    // Ids that made no operation.
    events.extend(
        state
            .requests_oldest_first()
            .take_while(|(accepted, _)| old(*accepted))
            .filter(|(_, key)| {
                state.request(key).is_some_and(|request| !matches!(request.answer, Answer::Operation(_)))
            })
            .take(budget)
            .map(|(_, key)| Event::RequestForgotten { key: key.clone() }),
    );
    events
}

/// The failure of an operation that was not done in time.
#[must_use]
pub fn deadline_exceeded(operation: &Operation) -> Error {
    Error::new(Reason::DeadlineExceeded, "the operation was not done before its deadline; allow more time")
        .with("operation", operation.id)
}

/// What a start means for what the last coordinator left behind: nobody runs its operations any more, and a request
/// whose operation was lost with a damaged store was never made, as far as anybody can tell.
#[must_use]
pub fn recover(state: &State, now: Moment) -> Decision {
    let forgotten =
        state.orphaned_requests().map(|request| Event::RequestForgotten { key: request.key.clone() });
    state
        .active_operations()
        .map(|operation| {
            let error = Error::new(
                Reason::CoordinatorRestarted,
                "the coordinator was restarted before the operation was done; send the request again with a fresh id",
            )
            .with("operation", operation.id);
            ended(operation.id, Outcome::Failed(error), now)
        })
        .chain(forgotten)
        .collect()
}

/// The coordinator is to end: nothing new begins, what is pending is cancelled. Running work gets the grace period.
#[must_use]
pub fn begin_drain(state: &State, now: Moment) -> Decision {
    if state.is_draining() {
        return Vec::new();
    }
    let pending = state.active_operations().filter(|operation| operation.state == OperationState::Pending);
    let mut events: Decision = pending
        .map(|operation| {
            let error = Error::new(Reason::Draining, "the server stopped before the operation began");
            ended(operation.id, Outcome::Cancelled(error.with("operation", operation.id)), now)
        })
        .collect();
    events.push(Event::DrainBegan);
    events
}

/// A condition holds from now on. Said again unchanged, it changes nothing: `since` stays what it was.
#[must_use]
pub fn raise(state: &State, mut condition: Condition) -> Decision {
    if let Some(known) = state.conditions().find(|known| known.kind == condition.kind) {
        condition.since = known.since;
        if **known == condition {
            return Vec::new();
        }
    }
    vec![Event::ConditionRaised(Arc::new(condition))]
}

/// A condition does not hold any more.
#[must_use]
pub fn clear(state: &State, kind: ConditionKind) -> Decision {
    let holds = state.conditions().any(|known| known.kind == kind);
    holds.then_some(Event::ConditionCleared(kind)).into_iter().collect()
}
