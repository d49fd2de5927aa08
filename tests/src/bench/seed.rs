//! Stores that hold as much as a benchmark needs, made without asking a server a hundred thousand times.
//!
//! Rows are made by the coordinator's own code from a state; what is in them is what three probes of the default
//! kind leave behind.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use hoist_coordinator::control::durable_rows;
use hoist_domain::{
    Bytes, ContentHash, Epoch, Machine, MachineState, Measurement, MeasurementKind, Operation, OperationId,
    OperationOutput, OperationState, Outcome, Position, Principal, ProbeSpec, RequestId, RequestKey,
    ResourceName, Revision, ServiceTime, WallTime, Work,
};
use hoist_planner::{Answer, RequestRecord, State};
use hoist_store::{Batch, OpenOptions, Write};
use uuid::Uuid;

/// The service is this old when a seeded store is opened: nothing in it is old enough to expire.
const AGE: ServiceTime = ServiceTime(3_600_000);

/// One hour ago, as far as the records know.
const WALL: WallTime = WallTime(1_760_000_000_000_000);

/// Version 7, as the server makes them.
fn id(number: u32) -> OperationId {
    OperationId(Uuid::from_u128(0x0199_c000_0000_7000_8000_0000_0000_0000 | u128::from(number)))
}

/// The name of a seeded operation.
pub(super) fn name(number: u32) -> String {
    ResourceName::Operation(id(number)).to_string()
}

/// Fills a directory with finished operations `0..operations`, each with the request id that made it.
pub(super) fn fill(state_dir: &Path, operations: u32) -> Result<()> {
    let (mut store, _, opened) = hoist_store::open(state_dir, OpenOptions::default())?;
    let revision = Revision(opened.revision.0 + 1);
    let position = Position { epoch: Epoch(opened.epoch.0), revision };
    let state = State::restore(
        position,
        machine(),
        (0..operations).map(|number| (revision, operation(number))),
        (0..operations).map(request),
        [],
    );
    let writes = durable_rows(&state).map(Write::Put).collect();
    store.commit(&Batch { revision, service_time: AGE, writes })?;
    Ok(())
}

fn machine() -> Machine {
    let measurements = MeasurementKind::ALL.map(measurement).to_vec();
    Machine {
        state: MachineState::Serving,
        version: String::new(),
        process_id: 1,
        started_at: WALL,
        measurements,
    }
}

fn measurement(kind: MeasurementKind) -> Measurement {
    Measurement {
        kind,
        bytes: Bytes::gib(1),
        duration: Duration::from_nanos(412_345_678),
        bytes_per_second: 2_603_987_654,
        threads: 16,
        block_bytes: Bytes::mib(4),
        measured_at: WALL,
        note: String::new(),
    }
}

fn operation(number: u32) -> Operation {
    let work = Work::ProbeMachine(ProbeSpec {
        kinds: MeasurementKind::ALL.to_vec(),
        bytes: ProbeSpec::DEFAULT_BYTES,
    });
    Operation {
        id: id(number),
        work,
        state: OperationState::Succeeded,
        request_id: request_id(number),
        principal: principal(),
        created_at: WALL,
        started_at: Some(WALL),
        ended_at: Some(WALL),
        deadline: AGE,
        ended: Some(AGE),
        attempts: 1,
        cancel_requested: false,
        outcome: Some(Outcome::Output(OperationOutput::ProbeMachine(
            MeasurementKind::ALL.map(measurement).to_vec(),
        ))),
    }
}

fn request_id(number: u32) -> RequestId {
    RequestId(Uuid::from_u128(0x5eed_0000_0000_4000_8000_0000_0000_0000 | u128::from(number)))
}

fn principal() -> Principal {
    Principal::Uid(rustix::process::geteuid().as_raw())
}

fn request(number: u32) -> RequestRecord {
    RequestRecord {
        key: RequestKey {
            principal: principal(),
            method: "/hoist.api.v1.AdminService/ProbeMachine".into(),
            id: request_id(number),
        },
        content: ContentHash([7; 32]),
        answer: Answer::Operation(id(number)),
        accepted: AGE,
    }
}
