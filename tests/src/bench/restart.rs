//! From exec to `ready` with many records, and what an idle server costs.

use std::time::Duration;

use anyhow::Result;
use hoist_wire::longrunning;

use super::figures::{Rounds, mib, millis, now};
use super::report::{Row, Target};
use super::{Options, process, seed};
use crate::{Sandbox, connect};

const MANY: u32 = 100_000;
const SOME: u32 = 10_000;

/// The first export of the store comes ten seconds after the start; an idle server has it behind it.
const FIRST_EXPORT: Duration = Duration::from_secs(12);

pub(super) async fn run(options: &Options) -> Result<Vec<Row>> {
    let rounds = options.rounds();
    let (_, mut rows) = restarts(MANY, rounds)?;
    let (sandbox, fewer) = restarts(SOME, rounds)?;
    rows.extend(fewer);
    rows.extend(idle(&sandbox, options.pick(Duration::from_secs(10), Duration::from_secs(4))).await?);
    Ok(rows)
}

/// Each life but the first begins after a kill.
fn restarts(records: u32, rounds: u32) -> Result<(Sandbox, Vec<Row>)> {
    let sandbox = Sandbox::new()?;
    seed::fill(sandbox.state_dir(), records)?;
    sandbox.start()?.kill()?;
    let (mut times, mut memory, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = now();
        let server = sandbox.start()?;
        times.push(millis(now().saturating_sub(begun)));
        memory.push(mib(process::resident_bytes(server.process_id())?));
        peaks.push(mib(process::peak_bytes(server.process_id())?));
        server.kill()?;
    }
    let what = format!("{records} operations, each with its request id");
    let mut time = Row::new(format!("{what}: exec to ready"), "ms", Rounds::of(&times));
    if records == MANY {
        time =
            time.target(Target::AtMost(1_000.0)).note("after a kill; the store's file is in the page cache");
    }
    let memory = Row::new(format!("{what}: memory when ready"), "MiB", Rounds::of(&memory))
        .note(format!("at most {:.0} MiB on the way there", Rounds::of(&peaks).median));
    Ok((sandbox, vec![time, memory]))
}

async fn idle(sandbox: &Sandbox, length: Duration) -> Result<Vec<Row>> {
    let server = sandbox.start()?;
    // Something to export: the copy is made once, and what it needs is not idle memory but shows in it.
    let request = longrunning::DeleteOperationRequest { name: seed::name(0) };
    connect(&server.socket).await?.operations().delete_operation(request).await?;
    tokio::time::sleep(FIRST_EXPORT).await;
    let (spent, begun) = (process::processor_time(server.process_id())?, now());
    tokio::time::sleep(length).await;
    let spent = process::processor_time(server.process_id())?.saturating_sub(spent);
    let share = 100.0 * spent.as_secs_f64() / now().saturating_sub(begun).as_secs_f64();
    let memory = mib(process::resident_bytes(server.process_id())?);
    Ok(vec![
        Row::once(format!("{SOME} operations, idle: memory"), "MiB", memory)
            .target(Target::AtMost(64.0))
            .note("after the first export of the store"),
        Row::once(format!("{SOME} operations, idle: processor"), "% of a core", share)
            .target(Target::AtMost(0.5))
            .note(format!("over {} s", length.as_secs())),
    ])
}
