//! From RAM, and from the disk, to a device: what a load takes when there is nothing to do but to map, what of that is ours,
//! what it adds to the disk's time, and what asking once for many models saves.
//!
//! The device is the machine's memory, so a warm load moves no byte: what is left is the coordinator, its store, and two
//! processes that talk. What goes on beside loads is in [`super::beside_loads`].

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hoist_wire::v1;

use super::commit::syncs;
use super::figures::{Rounds, micros, millis, now, per_mille};
use super::report::{Row, Target};
use super::weights::{Weights, make_cold};
use super::{Options, beside_loads, fill};
use crate::caching::{cache, evict};
use crate::library::{Open, result, waiting};
use crate::loading::{load, load_all, on, part, residency, unload, until_open};
use crate::{Channels, Sandbox, Server, binary, connect, making, request_id};

/// C1 speaks of a thousand models.
pub(super) const MODELS: u32 = 1_000;

/// Models of one call, and of as many calls.
const AT_ONCE: u32 = 100;

/// Loads of a small model in each round.
const TRIES: u32 = 20;

const DEVICE: &str = "cpu:0";

/// A server whose worker serves, and a connection that carries nothing else.
pub(super) struct Serving {
    pub(super) sandbox: Sandbox,
    pub(super) server: Server,
    pub(super) at: Channels,
}

/// With the models of this folder.
pub(super) async fn serve(options: &Options, models: &Path) -> Result<Serving> {
    let worker = binary().with_file_name("hoist-worker");
    ensure!(worker.is_file(), "no {}: cargo build --release -p hoist-gpu-worker", worker.display());
    let sandbox = options.tmpfs.as_deref().map_or_else(Sandbox::new, Sandbox::on)?;
    let mut sandbox = sandbox.serving(models)?;
    for (name, value) in [("START", "true"), ("BINARY", &*worker.display().to_string()), ("DEVICES", DEVICE)]
    {
        sandbox.environment.push((format!("HOIST_WORKERS_{name}"), value.to_owned()));
    }
    let mut open = Open::to(sandbox.start()?).await?;
    until_open(&mut open, &[DEVICE]).await?;
    // Its watch is read no more, and would stop whatever is on the same connection once that is full.
    let at = connect(&open.server.socket).await?;
    Ok(Serving { sandbox, server: open.server, at })
}

/// The model of this number.
pub(super) fn name(number: u32) -> String {
    format!("tiny-{number:04}")
}

/// Many models of four floats, each with a content of its own.
pub(super) fn tiny_models() -> Result<tempfile::TempDir> {
    let place = tempfile::tempdir()?;
    for (number, first) in (0..MODELS).zip((0_u16..).map(f32::from)) {
        std::fs::write(place.path().join(name(number) + ".safetensors"), making::four(2.0 + first))?;
    }
    Ok(place)
}

pub(super) async fn run(options: &Options) -> Result<Vec<Row>> {
    let mut rows = large(options).await?;
    let place = tiny_models()?;
    let serving = serve(options, place.path()).await?;
    rows.extend(small(options, &serving).await?);
    rows.extend(many(options, &serving).await?);
    rows.extend(beside_loads::run(options, &serving).await?);
    serving.server.kill()?;
    Ok(rows)
}

/// Milliseconds.
async fn timed<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> Result<(f64, T)> {
    let begun = now();
    let answer = call.await?;
    Ok((millis(now().saturating_sub(begun)), answer))
}

/// Loads what is in RAM; the answer must say so.
async fn warm(at: &Channels, name: &str) -> Result<f64> {
    let (took, report) = timed(load(at, name, &[])).await?;
    let is_new = report.components.iter().all(|one| !one.resident && one.mapped_bytes > 0);
    ensure!(report.read_bytes == 0 && !report.components.is_empty() && is_new, "{report:?}");
    Ok(took)
}

/// Takes it off the device; in RAM it stays.
pub(super) async fn off(at: &Channels, name: &str) -> Result<f64> {
    let (took, report) = timed(unload(at, name, &[])).await?;
    ensure!(report.retained_bytes == 0 && !report.replicas.is_empty(), "{report:?}");
    Ok(took)
}

/// The file that is loaded: 8 GB of the same sort as that of [`fill`], which stays for the next run.
fn big(options: &Options) -> Result<PathBuf> {
    if options.big.is_some() {
        return fill::big(options);
    }
    let weights = Weights { dtype: "BF16", tensors: 288, rows: options.pick(3_391, 217), seed: 5 };
    let folder = format!("hoist-bench/{}-tensors-of-{}-rows", weights.tensors, weights.rows);
    let path = tempfile::env::temp_dir().join(folder).join("big.safetensors");
    weights.write_once(&path)?;
    path.canonicalize().with_context(|| path.display().to_string())
}

/// A large model: warm; and cold, beside what the cache alone takes for it.
async fn large(options: &Options) -> Result<Vec<Row>> {
    let file = big(options)?;
    let Serving { sandbox: _sandbox, server, at } = serve(options, fill::folder_of(&file)?).await?;
    let name = file.display().to_string();
    let (mut cached, mut cold, mut loaded, mut unloaded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=options.rounds() {
        // Either of them first in every other round: the disk is not equally fast in all states of the memory.
        for is_load in [round % 2 == 0, round % 2 == 1] {
            evict(&at, &name).await?;
            make_cold(&file)?;
            let took = if is_load {
                let (took, report) = timed(load(&at, &name, &[])).await?;
                ensure!(report.read_bytes > 0, "{report:?}");
                off(&at, &name).await?;
                took
            } else {
                let (took, report) = timed(cache(&at, &name, &[])).await?;
                ensure!(report.read_bytes > 0, "{report:?}");
                took
            };
            // The first fill of a server's life pays for what every later one finds.
            if round > 0 {
                if is_load { &mut cold } else { &mut cached }.push(took);
            }
        }
        let warm = warm(&at, &name).await?;
        let off = off(&at, &name).await?;
        if round > 0 {
            loaded.push(warm);
            unloaded.push(off);
        }
    }
    server.kill()?;
    make_cold(&file)?;
    let size = file.metadata()?.len() as f64 / 1e9;
    let what = |what: &str| format!("{size:.1} GB, {what}");
    Ok(vec![
        Row::new(what("in RAM: from the call to the answer"), "ms", Rounds::of(&loaded))
            .target(Target::AtMost(10.0))
            .note(format!("to {DEVICE}, 288 tensors; the model is unloaded in between")),
        Row::new(what("off the device again"), "ms", Rounds::of(&unloaded)),
        Row::new(what("cold: from the disk to the device"), "ms", Rounds::of(&cold))
            .beside(Rounds::of(&cached), Rounds::ratio(&cold, &cached, |time| *time))
            .target(Target::RatioAtMost(1.1))
            .note("peer: CacheModel of the same file, cold as well, in the same round"),
    ])
}

/// A small model, so that what is measured is the coordinator; beside an empty call, and beside what the disk takes.
async fn small(options: &Options, serving: &Serving) -> Result<Vec<Row>> {
    let Serving { sandbox, at, .. } = serving;
    let name = name(0);
    cache(at, &name, &[]).await?;
    let (mut loads, mut unloads, mut calls, mut disk) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=options.rounds() {
        let (mut load, mut unload, mut call) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..TRIES {
            load.push(warm(at, &name).await?);
            unload.push(off(at, &name).await?);
            let masked = v1::GetStatusRequest {
                request_id: request_id(),
                field_mask: Some(prost_types::FieldMask { paths: vec!["machine.uptime".to_owned()] }),
                ..Default::default()
            };
            call.push(timed(async { at.state().get_status(masked).await }).await?.0);
        }
        let mut synced = syncs(sandbox.state_dir(), TRIES)?;
        if round > 0 {
            for (all, one) in [(&mut loads, load), (&mut unloads, unload), (&mut calls, call)] {
                all.push(Rounds::of(&one).median);
            }
            disk.push(micros(per_mille(&mut synced, 500)) / 1e3);
        }
    }
    let beside = |row: Row, ours: &[f64], peers: &[f64]| {
        row.beside(Rounds::of(peers), Rounds::ratio(ours, peers, |time| *time))
    };
    let loaded = || Row::new("four floats, in RAM: from the call to the answer", "ms", Rounds::of(&loads));
    Ok(vec![
        beside(loaded(), &loads, &calls).target(Target::AtMost(3.0)).note("peer: GetStatus of one field"),
        beside(loaded(), &loads, &disk).note(
            "peer: two writes of 4 KiB, each with fdatasync, where the state is: what a commit waits for",
        ),
        Row::new("four floats: off the device again", "ms", Rounds::of(&unloads)),
    ])
}

/// One call for many models, beside as many calls.
async fn many(options: &Options, serving: &Serving) -> Result<Vec<Row>> {
    let at = &serving.at;
    let parts = || (0..AT_ONCE).map(|number| part(&name(number), &[])).collect::<Vec<_>>();
    // Everything in RAM.
    load_all(at, parts(), on(DEVICE)).await?;
    all_off(at, parts()).await?;
    let (mut batches, mut singles) = (Vec::new(), Vec::new());
    for round in 0..=options.rounds() {
        let (batch, report) = timed(load_all(at, parts(), on(DEVICE))).await?;
        ensure!(report.read_bytes == 0 && report.components.len() == AT_ONCE as usize, "{report:?}");
        all_off(at, parts()).await?;
        let begun = now();
        for number in 0..AT_ONCE {
            warm(at, &name(number)).await?;
        }
        let single = millis(now().saturating_sub(begun));
        all_off(at, parts()).await?;
        if round > 0 {
            batches.push(batch);
            singles.push(single);
        }
    }
    let what = format!("LoadComponents of {AT_ONCE} models, beside {AT_ONCE} LoadModel one after the other");
    let row = Row::new(what, "ms", Rounds::of(&batches));
    Ok(vec![
        row.beside(Rounds::of(&singles), Rounds::ratio(&batches, &singles, |time| *time))
            .target(Target::RatioAtMost(0.2))
            .note("all in RAM"),
    ])
}

async fn all_off(at: &Channels, parts: Vec<v1::ModelPart>) -> Result<()> {
    let count = parts.len();
    let request = v1::UnloadComponentsRequest {
        request_id: request_id(),
        parts,
        wait_for: waiting(),
        ..Default::default()
    };
    let operation = residency(at).unload_components(request).await?.into_inner();
    let report: v1::UnloadModelResponse = result(operation)?;
    ensure!(report.replicas.len() == count && report.retained_bytes == 0, "{report:?}");
    Ok(())
}
