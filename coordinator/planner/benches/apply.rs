//! What one change costs as the state grows: the promise is that it does not.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hoist_domain::{
    Bytes, ContentHash, Epoch, Machine, MachineState, MeasurementKind, OperationId, Outcome, Position,
    Principal, ProbeSpec, Reason, RequestId, RequestKey, Revision, ServiceTime, WallTime, Work,
};
use hoist_planner::{Limits, Moment, State, Submission, cancel, delete, finish, schedule, submit};
use uuid::Uuid;

const LIMITS: Limits =
    Limits { request_ids: usize::MAX, active_operations: 8, retention: Duration::from_secs(86_400) };

fn submission(number: u64) -> Submission {
    Submission {
        key: RequestKey {
            principal: Principal::Uid(0),
            method: "/hoist.api.v1.AdminService/ProbeMachine".into(),
            id: RequestId(Uuid::from_u128(u128::from(number))),
        },
        content: ContentHash([7; 32]),
        work: Work::ProbeMachine(ProbeSpec { kinds: vec![MeasurementKind::DiskRead], bytes: Bytes::mib(16) }),
        deadline: Duration::from_secs(60),
        new_id: OperationId(Uuid::from_u128(u128::from(number))),
    }
}

/// One operation from submission to its end: four revisions.
fn live(state: &mut State, number: u64) -> OperationId {
    let now = Moment { wall: WallTime(0), service: ServiceTime(number) };
    let submitted = submit(state, &submission(number), now, &LIMITS).unwrap();
    state.apply(&submitted.events).unwrap();
    state.apply(&schedule(state, now)).unwrap();
    state.apply(&cancel(state, submitted.operation, &Principal::Uid(0), now).unwrap()).unwrap();
    let error = hoist_domain::Error::new(Reason::OperationCancelled, "cancelled");
    state.apply(&finish(state, submitted.operation, Outcome::Cancelled(error), now)).unwrap();
    submitted.operation
}

fn state_of(records: u64) -> State {
    let machine = Machine {
        state: MachineState::Serving,
        version: String::new(),
        process_id: 1,
        started_at: WallTime(0),
        measurements: Vec::new(),
    };
    let position = Position { epoch: Epoch(1), revision: Revision(0) };
    let mut state = State::restore(position, machine, [], [], []);
    for number in 0..records {
        live(&mut state, number);
    }
    state
}

fn apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("operation_lifecycle_5_revisions");
    for records in [10, 1_000, 10_000, 100_000] {
        let mut state = state_of(records);
        let mut next = records;
        // A reader holds the last published copy, as in production: every change copies the path it touches.
        let mut published = state.clone();
        group.bench_function(BenchmarkId::from_parameter(records), |b| {
            b.iter(|| {
                let id = live(&mut state, next);
                state.apply(&delete(&state, id).unwrap()).unwrap();
                next += 1;
                published = state.clone();
            });
        });
        drop(published);
    }
    group.finish();
}

criterion_group!(benches, apply);
criterion_main!(benches);
