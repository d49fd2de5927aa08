//! What loads do to others: a reader beside 32 of them that never stop, and a client that waits to see one arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hoist_wire::v1;
use hoist_wire::v1::replica::State;
use hoist_wire::worker as wire;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::figures::{Rounds, millis, now, per_mille};
use super::load::{Slice, closed_loop};
use super::loading::{MODELS, Serving, name, off};
use super::report::{Row, Target};
use super::{Options, start_echo};
use crate::caching::cache;
use crate::library::Watcher;
use crate::loading::{Played, begin, load_with, loaded, on, residency};
use crate::{Channels, connect, request_id};

/// Callers that load and unload without a pause, on connections as a few processes would have.
const LOADERS: u32 = 32;
const CONNECTIONS: usize = 4;

/// A device whose worker is played here.
const PLAYED: &str = "cuda:7";

pub(super) async fn run(options: &Options, serving: &Serving) -> Result<Vec<Row>> {
    let mut rows = reader(options, serving).await?;
    rows.extend(arrival(options, serving).await?);
    Ok(rows)
}

/// GetStatus of a model beside loads that never stop.
async fn reader(options: &Options, serving: &Serving) -> Result<Vec<Row>> {
    let Serving { server, at, .. } = serving;
    for number in 0..LOADERS {
        cache(at, &name(number), &[]).await?;
    }
    let models = models(at).await?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(connect(&server.socket).await?);
    }
    let (_place, echo) = start_echo()?;
    let (reads, echoes) = (connect(&server.socket).await?, connect(&echo.socket).await?);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut loaders = JoinSet::new();
    for (number, at) in (0..LOADERS).zip(connections.iter().cycle()) {
        let (at, stop, done) = (at.clone(), Arc::clone(&stop), Arc::clone(&done));
        loaders.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                load_with(&at, &name(number), &[], on("cpu:0")).await?;
                off(&at, &name(number)).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    let length = Duration::from_millis(options.pick(2_000, 300));
    let (mut ours, mut peers, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=options.rounds() {
        let (before, begun) = (done.load(Ordering::Relaxed), now());
        let mut our = slice(&reads, &models, length).await?;
        let loads = done.load(Ordering::Relaxed) - before;
        let rate = loads as f64 / now().saturating_sub(begun).as_secs_f64();
        let mut peer = slice(&echoes, &[String::new()], length).await?;
        // One of them that ends has failed.
        ensure!(loaders.try_join_next().is_none(), "a loader has ended");
        if round > 0 {
            ours.push([millis(our.at(990)), millis(our.at(500))]);
            peers.push([millis(peer.at(990)), millis(peer.at(500))]);
            rates.push(rate);
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = loaders.join_next().await {
        ended??;
    }
    let what = format!("GetStatus of a model of {MODELS}, beside {LOADERS} loops of loads");
    let row = |figure: &str, of: fn(&[f64; 2]) -> f64| {
        Row::new(format!("{what}: {figure}"), "ms", Rounds::each(&ours, of))
            .beside(Rounds::each(&peers, of), Rounds::ratio(&ours, &peers, of))
    };
    Ok(vec![
        row("p99", |[p99, _]| *p99)
            .target(Target::AtMost(1.0))
            .note("one reader; peer: an empty call to a server without work, beside the same loops"),
        row("p50", |[_, p50]| *p50),
        Row::new(format!("{LOADERS} loops of loads: models loaded and unloaded"), "1/s", Rounds::of(&rates)),
    ])
}

async fn slice(at: &Channels, names: &[String], length: Duration) -> Result<Slice> {
    let end = now() + length;
    closed_loop(1, |_| {
        let (client, mut names) = (at.state(), Vec::from(names).into_iter().cycle());
        move || {
            let mut client = client.clone();
            let request =
                v1::GetStatusRequest { request_id: request_id(), name: names.next()?, field_mask: None };
            (now() < end).then_some(async move { client.get_status(request).await.map(drop) })
        }
    })
    .await
}

/// Names of all models.
async fn models(at: &Channels) -> Result<Vec<String>> {
    let request = v1::ListModelsRequest { page_size: 1_000, ..Default::default() };
    let models = at.catalog().list_models(request).await?.into_inner().models;
    ensure!(models.len() == MODELS as usize, "{} models", models.len());
    Ok(models.into_iter().map(|model| model.name).collect())
}

/// From a worker's word that a replica is there to the client that watches: both are this process, and have one clock.
async fn arrival(options: &Options, serving: &Serving) -> Result<Vec<Row>> {
    let Serving { server, at, .. } = serving;
    let name = name(0);
    cache(at, &name, &[]).await?;
    let mut watch = Watcher::of(&connect(&server.socket).await?).await?;
    let mut worker = Played::register(&connect(&server.socket).await?, PLAYED, Uuid::new_v4()).await?;
    worker.tell(&[], &[], None).await?;
    let is_there = |mirror: &crate::Mirror| mirror.devices().any(|device| device.device_id == PLAYED);
    watch.until("the device", is_there).await?;
    let mut rounds = Vec::new();
    for round in 0..=options.rounds() {
        let mut took = Vec::new();
        for _ in 0..options.pick(100, 20) {
            took.push(arrives(at, &name, &mut worker, &mut watch).await?);
        }
        if round > 0 {
            rounds.push([millis(per_mille(&mut took, 990)), millis(per_mille(&mut took, 500))]);
        }
    }
    let what = "from a worker's word that a model is there to the delta at a client";
    let row = |figure: &str, of: fn(&[f64; 2]) -> f64| {
        Row::new(format!("{what}: {figure}"), "ms", Rounds::each(&rounds, of))
    };
    Ok(vec![
        row("p99", |[p99, _]| *p99).target(Target::AtMost(20.0)).note(format!(
            "of {} in each round; the worker is played by the client's process",
            options.pick(100, 20)
        )),
        row("p50", |[_, p50]| *p50),
    ])
}

/// One load: from the worker's last word to the watch. Then it is unloaded again.
async fn arrives(at: &Channels, name: &str, worker: &mut Played, watch: &mut Watcher) -> Result<Duration> {
    let request =
        v1::LoadModelRequest { name: name.to_owned(), options: Some(on(PLAYED)), ..Default::default() };
    let operation = begin(at, request).await?;
    let desired = worker.desired(|desired| !desired.replicas.is_empty()).await?;
    let wanted = desired.replicas.first().context("it wants one")?;
    let replica = wire::ObservedReplica {
        replica: wanted.replica.clone(),
        digest: wanted.digest.clone(),
        state: wire::ReplicaState::Loading.into(),
        own_bytes: 1,
        tensors: 1,
        ..Default::default()
    };
    let all = worker.memory.free_bytes;
    worker.memory = wire::DeviceMemory { used_bytes: 1, free_bytes: all - 1, ..Default::default() };
    worker.tell(std::slice::from_ref(&replica), &[], desired.generation).await?;
    let is = |state: State| {
        move |mirror: &crate::Mirror| {
            mirror.replicas().any(|one| one.device_id == PLAYED && one.state() == state)
        }
    };
    watch.until("its begin", is(State::Loading)).await?;
    let there = wire::ObservedReplica {
        state: wire::ReplicaState::Active.into(),
        load_time: Some(prost_types::Duration { seconds: 0, nanos: 1 }),
        ..replica.clone()
    };
    let told = now();
    worker.tell(&[there], &[], desired.generation).await?;
    watch.until("its arrival", is(State::Active)).await?;
    let took = now().saturating_sub(told);
    loaded(at, &operation).await?;
    let request =
        v1::UnloadModelRequest { request_id: request_id(), name: name.to_owned(), ..Default::default() };
    let operation = residency(at).unload_model(request).await?.into_inner().name;
    let desired = worker.desired(|desired| desired.replicas.is_empty()).await?;
    let gone = wire::RemovedReplica { replica: replica.replica, expected_bytes: 1, returned_bytes: 1 };
    worker.memory = wire::DeviceMemory { used_bytes: 0, free_bytes: all, ..Default::default() };
    worker.tell(&[], &[gone], desired.generation).await?;
    let ended = crate::loading::end(at, &operation).await?;
    ensure!(ended.done, "{ended:?}");
    Ok(took)
}
