//! Rules that random histories cannot show: what other parts of the world can do to the state.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use hoist_domain::{
    Bytes, ContentHash, Epoch, Machine, MachineState, MeasurementKind, OperationId, Position, Principal,
    ProbeSpec, RequestId, RequestKey, Revision, ServiceTime, WallTime, Work,
};
use hoist_planner::{
    Answer, Event, Limits, Moment, RequestRecord, State, Submission, is_known, recover, schedule, submit,
};
use uuid::Uuid;

const DAY: Duration = Duration::from_secs(86_400);
const LIMITS: Limits = Limits { request_ids: 100, active_operations: 100, retention: DAY };

fn empty(requests: Vec<RequestRecord>) -> State {
    let machine = Machine {
        state: MachineState::Serving,
        version: String::new(),
        process_id: 1,
        started_at: WallTime(0),
        measurements: Vec::new(),
    };
    State::restore(Position { epoch: Epoch(1), revision: Revision(0) }, machine, [], requests, [])
}

fn key(number: u64) -> RequestKey {
    RequestKey {
        principal: Principal::Uid(1),
        method: "/method".into(),
        id: RequestId(Uuid::from_u128(number.into())),
    }
}

/// A version 7 id, as it is made at this wall-clock time.
fn id_made_at(milliseconds: u64, random: u8) -> OperationId {
    OperationId(uuid::Builder::from_unix_timestamp_millis(milliseconds, &[random; 10]).into_uuid())
}

fn submission(number: u64, new_id: OperationId) -> Submission {
    Submission {
        key: key(number),
        content: ContentHash([0; 32]),
        work: Work::ProbeMachine(ProbeSpec {
            kinds: vec![MeasurementKind::DiskRead],
            bytes: Bytes::mib(16 + number),
        }),
        deadline: DAY,
        new_id,
    }
}

#[test]
fn operations_begin_in_the_order_of_their_acceptance_whatever_the_wall_clock_does() {
    const YEAR_MS: u64 = 31_556_952_000;
    let mut state = empty(Vec::new());
    let now = Moment::default();
    // The clock is set back by ten years, then by an hour, then forward by ten years.
    let clock = [60 * YEAR_MS, 50 * YEAR_MS, 50 * YEAR_MS - 3_600_000, 60 * YEAR_MS, 50 * YEAR_MS];
    let accepted: Vec<OperationId> = (1..)
        .zip(clock)
        .map(|(number, at)| {
            let submission = submission(number.into(), id_made_at(at, number));
            let submitted = submit(&state, &submission, now, &LIMITS).unwrap();
            state.apply(&submitted.events).unwrap();
            submitted.operation
        })
        .collect();
    let listed: Vec<_> = state.operations_newest_first(None).map(|operation| operation.id).collect();
    assert_eq!(listed, accepted.iter().rev().copied().collect::<Vec<_>>());
    for id in &accepted {
        assert_eq!(id.0.get_version_num(), 7, "{id}");
        assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122, "{id}");
    }
    let started = schedule(&state, now);
    assert_eq!(started, [Event::OperationStarted { id: accepted[0], at: now.wall }]);
}

/// A rebuilt store may have lost an operation and kept the requests that led to it.
#[test]
fn a_request_whose_operation_is_lost_is_forgotten_at_the_start() {
    let request = |number, answer| RequestRecord {
        key: key(number),
        content: ContentHash([0; 32]),
        answer,
        accepted: ServiceTime(0),
    };
    let lost = request(1, Answer::Operation(id_made_at(1, 1)));
    let mut state = empty(vec![lost, request(2, Answer::Done)]);
    let now = Moment::default();
    assert_eq!(recover(&state, now), [Event::RequestForgotten { key: key(1) }]);
    state.apply(&recover(&state, now)).unwrap();
    assert!(!is_known(&state, &key(1)) && is_known(&state, &key(2)));
    assert_eq!((state.request_count(), state.requests_oldest_first().count()), (1, 1));
    let again = submission(1, id_made_at(2, 2));
    let submitted = submit(&state, &again, now, &LIMITS).unwrap();
    assert_eq!(submitted.operation, again.new_id, "the id counts as unused");
}
