//! What it costs that nothing is acknowledged before it is on disk: one caller, and 32 who share commits. The
//! mutation is mostly the deletion of a finished operation: one command, one revision, two rows.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use hoist_wire::{longrunning, v1};

use super::figures::{Rounds, micros, millis, now, per_mille};
use super::load::{Slice, closed_loop};
use super::report::{Row, Target};
use super::{Options, seed, start};
use crate::{Channels, connect, request_id};

const CALLERS: usize = 32;

/// What a database that is certain of a commit waits for at least: its data, then the record that names it.
const SYNCS: usize = 2;
const BLOCK: [u8; 4096] = [7; 4096];

struct Round {
    /// Whole lives of an operation: its three mutations together.
    lives: Vec<Duration>,
    single: Slice,
    shared: Slice,
    /// Of a reader beside the 32.
    reader: Slice,
    /// Writing and syncing as often as a commit does, with nothing else.
    disk: Vec<Duration>,
}

pub(super) async fn run(options: &Options) -> Result<Vec<Row>> {
    let (alone, together) = (options.pick(300, 100), options.pick(8_000, 2_000));
    let rounds = options.rounds() + 1;
    let (sandbox, server) = start((alone + together) * rounds)?;
    let connected = connect(&server.socket).await?;
    let reading = connect(&server.socket).await?;
    let next = Arc::new(AtomicU32::new(0));
    let mut taken = Vec::new();
    for round in 0..rounds {
        let disk = syncs(sandbox.state_dir(), alone)?;
        let lives = lives(&connected, options.pick(50, 20)).await?;
        let single = deletions(&connected, 1, &next, alone).await?;
        let done = AtomicBool::new(false);
        let (shared, reader) = tokio::join!(
            async {
                let shared = deletions(&connected, CALLERS, &next, together).await;
                done.store(true, Ordering::Relaxed);
                shared
            },
            statuses(&reading, &done)
        );
        if round > 0 {
            taken.push(Round { lives, single, shared: shared?, reader: reader?, disk });
        }
    }
    Ok(rows(&mut taken))
}

/// So many deletions, shared out among so many callers.
async fn deletions(connected: &Channels, callers: usize, next: &Arc<AtomicU32>, count: u32) -> Result<Slice> {
    let end = next.load(Ordering::Relaxed) + count;
    let slice = closed_loop(callers, |_| {
        let (client, next) = (connected.operations(), Arc::clone(next));
        move || {
            let claim = |number: u32| (number < end).then_some(number + 1);
            let number = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim).ok()?;
            let mut client = client.clone();
            let request = longrunning::DeleteOperationRequest { name: seed::name(number) };
            Some(async move { client.delete_operation(request).await.map(drop) })
        }
    });
    slice.await
}

/// Submits, cancels and deletes the smallest probe there is, so many times; waiting for its end is not counted.
async fn lives(connected: &Channels, count: u32) -> Result<Vec<Duration>> {
    let (mut admin, mut operations) = (connected.admin(), connected.operations());
    let mut took = Vec::new();
    for _ in 0..count {
        let probe = v1::ProbeMachineRequest {
            request_id: request_id(),
            kinds: vec![v1::MeasurementKind::TmpfsWrite.into()],
            bytes: 16 << 20,
            ..v1::ProbeMachineRequest::default()
        };
        let begun = now();
        let name = admin.probe_machine(probe).await?.into_inner().name;
        operations.cancel_operation(longrunning::CancelOperationRequest { name: name.clone() }).await?;
        let cancelled = now();
        let wait = longrunning::WaitOperationRequest { name: name.clone(), timeout: None };
        operations.wait_operation(wait).await?;
        let ended = now();
        operations.delete_operation(longrunning::DeleteOperationRequest { name }).await?;
        took.push(cancelled.saturating_sub(begun) + now().saturating_sub(ended));
    }
    Ok(took)
}

/// Reads the machine's status, one call after the other, until told that it is enough.
async fn statuses(connected: &Channels, done: &AtomicBool) -> Result<Slice> {
    let mut slice = Slice::default();
    let mut client = connected.state();
    while !done.load(Ordering::Relaxed) {
        let request = v1::GetStatusRequest { request_id: request_id(), ..v1::GetStatusRequest::default() };
        let sent = now();
        client.get_status(request).await?;
        slice.latencies.push(now().saturating_sub(sent));
    }
    Ok(slice)
}

/// How long each of so many commits would take if the disk were all of it.
pub(super) fn syncs(directory: &Path, count: u32) -> Result<Vec<Duration>> {
    let mut file = tempfile::tempfile_in(directory)?;
    file.set_len(1 << 20)?;
    let mut took = Vec::new();
    for _ in 0..count {
        let begun = now();
        for _ in 0..SYNCS {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&BLOCK)?;
            file.sync_data()?;
        }
        took.push(now().saturating_sub(begun));
    }
    Ok(took)
}

fn rows(rounds: &mut [Round]) -> Vec<Row> {
    let at =
        |rounds: &mut [Round], of: fn(&mut Round) -> f64| -> Vec<f64> { rounds.iter_mut().map(of).collect() };
    let lives = at(rounds, |round| micros(per_mille(&mut round.lives, 500)));
    let single = at(rounds, |round| micros(round.single.at(500)));
    let disk = at(rounds, |round| micros(per_mille(&mut round.disk, 500)));
    let slow = at(rounds, |round| millis(round.single.at(990)));
    let shared = at(rounds, |round| micros(round.shared.at(500)));
    let shared_slow = at(rounds, |round| millis(round.shared.at(990)));
    let rate = at(rounds, |round| round.shared.per_second());
    let single_rate = at(rounds, |round| round.single.per_second());
    let reader = at(rounds, |round| millis(round.reader.at(990)));
    let same = |value: &f64| *value;
    let row = |name: &str, unit, values: &[f64]| Row::new(name, unit, Rounds::of(values));
    vec![
        row("submitting, cancelling and deleting a probe, 1 caller: p50 of the three together", "us", &lives),
        row("deletion, 1 caller: p50", "us", &single)
            .beside(Rounds::of(&disk), Rounds::ratio(&single, &disk, same))
            .note("peer: two writes of 4 KiB, each with fdatasync, in the same directory"),
        row("deletion, 1 caller: p99", "ms", &slow),
        row("deletion, 32 callers: p50", "us", &shared),
        row("deletion, 32 callers: p99", "ms", &shared_slow),
        row("deletion, 32 callers: rate", "calls/s", &rate)
            .beside(Rounds::of(&single_rate), Rounds::ratio(&rate, &single_rate, same))
            .note("peer: one caller; the ratio is what sharing a commit gains"),
        row("GetStatus beside those 32 callers: p99", "ms", &reader)
            .target(Target::AtMost(1.0))
            .note("beside loads: in the loading group"),
    ]
}
