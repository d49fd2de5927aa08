//! A whole snapshot of a large state: for one who joins, and for many at once.

use anyhow::{Context, Result};
use hoist_wire::v1;
use hoist_wire::v1::watch_response::Event;

use super::crowd::{Crowd, Order};
use super::figures::{Rounds, mib, millis, now};
use super::report::{Row, Target};
use super::{Options, process, start};
use crate::connect;

pub(super) async fn run(options: &Options) -> Result<Vec<Row>> {
    let resources = options.pick(100_000, 10_000);
    let joiners = options.pick(100, 20);
    let (_sandbox, server) = start(resources)?;
    let idle = process::resident_bytes(server.process_id())?;
    let mut crowd = Crowd::of(&server.socket)?;
    let (mut one, mut bare, mut many) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    for _ in 0..options.rounds() {
        one.push(decoded(&server.socket, resources).await?);
        let alone = crowd.tell(Order::Join { joiners: 1 }).await?;
        bytes = alone.bytes;
        bare.push(millis(alone.last));
        many.push(millis(crowd.tell(Order::Join { joiners }).await?.last));
    }
    let peak = process::peak_bytes(server.process_id())?;
    let row = |name: String, values: &[f64]| Row::new(name, "ms", Rounds::of(values));
    Ok(vec![
        row(format!("{resources} resources, one joiner"), &one)
            .target(Target::AtMost(1_500.0))
            .note(format!("decoded by a plain client; {:.1} MiB", mib(bytes))),
        row(format!("{resources} resources, one joiner that does not decode"), &bare),
        row(format!("{resources} resources, {joiners} joiners at once: the last one"), &many)
            .note(format!("{:.0} MiB in all", mib(bytes) * f64::from(joiners))),
        Row::once(
            format!("{resources} resources: most memory beyond idle"),
            "MiB",
            mib(peak.saturating_sub(idle)),
        ),
    ])
}

/// What a plain client waits for, decoding included.
async fn decoded(socket: &std::path::Path, resources: u32) -> Result<f64> {
    let mut client = connect(socket).await?.state();
    let begun = now();
    let mut stream = client.watch(v1::WatchRequest::default()).await?.into_inner();
    let mut seen = 0;
    loop {
        match stream.message().await?.and_then(|message| message.event) {
            Some(Event::Snapshot(chunk)) => seen += chunk.resources.len(),
            Some(Event::SnapshotEnd(_)) => break,
            other => anyhow::bail!("not a snapshot: {other:?}"),
        }
    }
    let took = now().saturating_sub(begun);
    anyhow::ensure!(seen > usize::try_from(resources).context("too many")?, "{seen} resources");
    Ok(millis(took))
}
