//! What asking once for many things saves, and what a change costs on the wire beside a snapshot.

use anyhow::{Context, Result};
use hoist_wire::v1;
use hoist_wire::v1::watch_response::Event;
use hoist_wire::{longrunning, v1::WatchResponse};
use prost::Message;

use super::figures::{Rounds, micros, now};
use super::load::closed_loop;
use super::report::{Row, Target};
use super::{Options, seed, start};
use crate::{Channels, connect, request_id};

const RESOURCES: u32 = 1_000;
const NAMES: u32 = 100;

/// Each figure of a round is the median of so many tries.
const TRIES: u32 = 9;

/// Callers of the harder comparison: singles that do not wait for each other.
const CALLERS: usize = 32;

pub(super) async fn run(options: &Options) -> Result<Vec<Row>> {
    let (_sandbox, server) = start(RESOURCES)?;
    let connected = connect(&server.socket).await?;
    let (mut batches, mut singles, mut pipelined) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=options.rounds() {
        let mut taken = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..TRIES {
            let [batch, single, pipeline] = &mut taken;
            batch.push(batch_of_names(&connected).await?);
            single.push(one_by_one(&connected, 1).await?);
            pipeline.push(one_by_one(&connected, CALLERS).await?);
        }
        if round > 0 {
            let [batch, single, pipeline] = taken.map(|tries| Rounds::of(&tries).median);
            batches.push(batch);
            singles.push(single);
            pipelined.push(pipeline);
        }
    }
    let against = |peers: &[f64], how: &str| {
        Row::new(format!("batch of {NAMES}, beside {NAMES} singles {how}"), "us", Rounds::of(&batches))
            .beside(Rounds::of(peers), Rounds::ratio(&batches, peers, |time| *time))
            .target(Target::RatioAtMost(0.2))
    };
    Ok(vec![against(&singles, "one after the other"), against(&pipelined, "from 32 callers")])
}

async fn batch_of_names(connected: &Channels) -> Result<f64> {
    let request = v1::BatchGetStatusRequest {
        request_id: request_id(),
        names: (0..NAMES).map(seed::name).collect(),
        field_mask: None,
    };
    let sent = now();
    let answer = connected.state().batch_get_status(request).await?.into_inner();
    let took = now().saturating_sub(sent);
    let good =
        |result: &v1::StatusResult| matches!(result.result, Some(v1::status_result::Result::Status(_)));
    anyhow::ensure!(answer.results.iter().filter(|result| good(result)).count() == NAMES as usize);
    Ok(micros(took))
}

async fn one_by_one(connected: &Channels, callers: usize) -> Result<f64> {
    let slice = closed_loop(callers, |caller| {
        let client = connected.state();
        let mut mine = (0..NAMES).skip(caller).step_by(callers);
        move || {
            let mut client = client.clone();
            let name = seed::name(mine.next()?);
            let request = v1::GetStatusRequest { request_id: request_id(), name, field_mask: None };
            Some(async move { client.get_status(request).await.map(drop) })
        }
    })
    .await?;
    Ok(micros(slice.elapsed))
}

/// Bytes of the largest delta in a whole operation's life, beside a snapshot of a thousand resources.
pub(super) async fn delta() -> Result<Vec<Row>> {
    let (_sandbox, server) = start(RESOURCES)?;
    let connected = connect(&server.socket).await?;
    let mut watch = connected.state().watch(v1::WatchRequest::default()).await?.into_inner();
    let mut snapshot = 0;
    loop {
        let message = watch.message().await?.context("the watch ended")?;
        snapshot += message.encoded_len();
        if matches!(message.event, Some(Event::SnapshotEnd(_))) {
            break;
        }
    }
    let probe = v1::ProbeMachineRequest {
        request_id: request_id(),
        kinds: vec![v1::MeasurementKind::MemoryCopy.into()],
        bytes: 16 << 20,
        wait_for: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..v1::ProbeMachineRequest::default()
    };
    let name = connected.admin().probe_machine(probe).await?.into_inner().name;
    let request = longrunning::DeleteOperationRequest { name: name.clone() };
    connected.operations().delete_operation(request).await?;
    let mut deltas = Vec::new();
    loop {
        let message = watch.message().await?.context("the watch ended")?;
        let Some(removed) = removes(&message, &name) else { continue };
        deltas.push(message.encoded_len() as f64);
        if removed {
            break;
        }
    }
    let sizes = Rounds::of(&deltas);
    let (largest, whole) = (Rounds::of(&[sizes.most]), Rounds::of(&[snapshot as f64]));
    Ok(vec![
        Row::new(
            "largest delta of an operation's life, beside a snapshot of 1,001 resources",
            "bytes",
            sizes,
        )
        .beside(whole, Rounds::ratio(&[largest.median], &[whole.median], |bytes| *bytes))
        .target(Target::RatioAtMost(0.2))
        .note(format!("value: median of its {} deltas", deltas.len())),
    ])
}

/// Whether a delta removes this resource; `None` for what is no delta.
fn removes(message: &WatchResponse, name: &str) -> Option<bool> {
    let Some(Event::Delta(delta)) = &message.event else { return None };
    let removed = |change: &v1::Change| change.name == name && change.kind() == v1::change::Kind::Removed;
    Some(delta.changes.iter().any(removed))
}
