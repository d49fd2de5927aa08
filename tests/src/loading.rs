//! What tests of loading do: load, unload, look at what is on devices, and compare it with what the kernel says.

mod played;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hoist_wire::longrunning::{CancelOperationRequest, Operation, WaitOperationRequest};
use hoist_wire::v1;
use hoist_wire::v1::residency_service_client::ResidencyServiceClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::caching::segments;
use crate::library::{Library, Open, PATIENCE, result, waiting};
use crate::{Channels, Mirror, binary, making, process, request_id};

pub use played::Played;

/// A library whose server starts workers for these devices, with their sizes: `cpu:0=64MiB`. The real ones.
///
/// # Errors
/// When it cannot be made, or the worker was not built.
pub fn library(devices: &str) -> Result<Library> {
    let worker = binary().with_file_name("hoist-worker");
    ensure!(worker.is_file(), "no hoist-worker beside hoist: run `cargo build -p hoist-gpu-worker` first");
    started(&worker, devices)
}

/// The same with scripted ones, and what says how their loads go.
///
/// # Errors
/// As [`library`].
pub fn staged(fake: &str, devices: &str) -> Result<(Library, Stage)> {
    let mut library = started(Path::new(fake), devices)?;
    let stage = Stage(tempfile::tempdir()?);
    let variable = ("FAKE_WORKER_STAGE".to_owned(), stage.0.path().display().to_string());
    library.sandbox.environment.push(variable);
    Ok((library, stage))
}

fn started(worker: &Path, devices: &str) -> Result<Library> {
    let mut library = Library::new()?;
    library.set("WORKERS_START", "true");
    library.set("WORKERS_BINARY", &worker.display().to_string());
    library.set("WORKERS_DEVICES", devices);
    library.set("WORKERS_RESTART_DELAY", "20ms");
    // What a test leaves when its server is killed.
    library.set("WORKERS_ALONE_LIMIT", "20s");
    Ok(library)
}

/// Says how the loads of scripted workers go.
#[derive(Debug)]
pub struct Stage(tempfile::TempDir);

impl Stage {
    /// The next loads of a device, over all its processes, one each; those that follow go well. `well`, `hang`, `poison`,
    /// `retain BYTES`, `no-memory NEEDED FREE`, `device WHY`.
    ///
    /// # Errors
    /// The file system's.
    pub fn next_loads(&self, device: &str, lines: &[&str]) -> Result<()> {
        let text = lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        });
        Ok(std::fs::write(self.0.path().join(device), text)?)
    }

    /// Returns once the last of them has begun.
    ///
    /// # Errors
    /// When it does not.
    pub async fn until_taken(&self, device: &str) -> Result<()> {
        let lines = self.0.path().join(device);
        let taken = async {
            while std::fs::read(&lines).is_ok_and(|left| !left.is_empty()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, taken).await.context("nobody loads what hangs")
    }

    /// What hangs goes on, now and from now on.
    ///
    /// # Errors
    /// The file system's.
    pub fn go_on(&self) -> Result<()> {
        Ok(std::fs::write(self.0.path().join("go-on"), "")?)
    }
}

/// Writes a pipeline of two parts of so many floats each: a VAE of this value, and a body of its own.
///
/// # Errors
/// The file system's.
pub fn pipeline(library: &Library, name: &str, own: f32, floats: usize) -> Result<()> {
    let index = r#"{"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderKL"],
        "unet": ["diffusers", "UNet2DConditionModel"]}"#;
    library.write(&format!("{name}/model_index.json"), index.as_bytes())?;
    for (part, class, tensor, value) in [
        ("vae", "AutoencoderKL", "decoder.conv_in.weight", 7.0),
        ("unet", "UNet2DConditionModel", "conv_in.weight", own),
    ] {
        let config = format!(r#"{{"_class_name": "{class}"}}"#);
        library.write(&format!("{name}/{part}/config.json"), config.as_bytes())?;
        let weights = making::safetensors(&[(tensor, vec![value; floats])], &[]);
        library.write(&format!("{name}/{part}/diffusion_pytorch_model.safetensors"), &weights)?;
    }
    Ok(())
}

/// Writes a pipeline of two parts that are the same, byte for byte.
///
/// # Errors
/// The file system's.
pub fn twins(library: &Library, name: &str) -> Result<()> {
    let index = r#"{"_class_name": "StableDiffusionXLPipeline", "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModel"]}"#;
    library.write(&format!("{name}/model_index.json"), index.as_bytes())?;
    for part in ["text_encoder", "text_encoder_2"] {
        library.write(&format!("{name}/{part}/config.json"), br#"{"architectures": ["CLIPTextModel"]}"#)?;
        let tensor = "text_model.embeddings.token_embedding.weight";
        let weights = making::safetensors(&[(tensor, vec![0.25; 50_000])], &[]);
        library.write(&format!("{name}/{part}/model.safetensors"), &weights)?;
    }
    Ok(())
}

/// Writes a model of one component of so many mebibytes, which is no other's.
///
/// # Errors
/// The file system's.
pub fn single(library: &Library, name: &str, value: f32, mebibytes: usize) -> Result<PathBuf> {
    library.write(&format!("{name}.safetensors"), &making::uniform(value, mebibytes))
}

#[must_use]
pub fn residency(at: &Channels) -> ResidencyServiceClient<Channel> {
    ResidencyServiceClient::new(at.channel.clone())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Asks for these components of a model.
#[must_use]
pub fn part(name: &str, components: &[&str]) -> v1::ModelPart {
    v1::ModelPart { name: name.to_owned(), components: words(components) }
}

/// On this device.
#[must_use]
pub fn on(device: &str) -> v1::LoadOptions {
    v1::LoadOptions { device_id: device.to_owned(), ..Default::default() }
}

/// Loads a model, and waits for it.
///
/// # Errors
/// As the server refuses, or the operation fails.
pub async fn load(at: &Channels, name: &str, components: &[&str]) -> Result<v1::LoadModelResponse, Status> {
    load_with(at, name, components, v1::LoadOptions::default()).await
}

/// The same, in this way.
///
/// # Errors
/// As [`load`].
pub async fn load_with(
    at: &Channels,
    name: &str,
    components: &[&str],
    options: v1::LoadOptions,
) -> Result<v1::LoadModelResponse, Status> {
    let (name, components) = (name.to_owned(), words(components));
    load_as(at, v1::LoadModelRequest { name, components, options: Some(options), ..Default::default() }).await
}

/// The same, as a request says.
///
/// # Errors
/// As [`load`].
pub async fn load_as(at: &Channels, request: v1::LoadModelRequest) -> Result<v1::LoadModelResponse, Status> {
    let request = v1::LoadModelRequest { wait_for: waiting(), ..request };
    result(residency(at).load_model(request).await?.into_inner())
}

/// Several at once.
///
/// # Errors
/// As [`load`].
pub async fn load_all(
    at: &Channels,
    parts: Vec<v1::ModelPart>,
    options: v1::LoadOptions,
) -> Result<v1::LoadModelResponse, Status> {
    let request = v1::LoadComponentsRequest {
        request_id: request_id(),
        parts,
        options: Some(options),
        wait_for: waiting(),
        ..Default::default()
    };
    result(residency(at).load_components(request).await?.into_inner())
}

/// Asks for a load and does not wait for it: its operation.
///
/// # Errors
/// As the server refuses.
pub async fn begin(at: &Channels, request: v1::LoadModelRequest) -> Result<String, Status> {
    Ok(residency(at).load_model(request).await?.into_inner().name)
}

/// Waits for an operation.
///
/// # Errors
/// As the server refuses.
pub async fn end(at: &Channels, name: &str) -> Result<Operation, Status> {
    let request = WaitOperationRequest { name: name.to_owned(), timeout: waiting() };
    Ok(at.operations().wait_operation(request).await?.into_inner())
}

/// How a load came out that was begun.
///
/// # Errors
/// As the server refuses, or the operation fails.
pub async fn loaded(at: &Channels, name: &str) -> Result<v1::LoadModelResponse, Status> {
    result(end(at, name).await?)
}

/// Cancels an operation, and waits for its end.
///
/// # Errors
/// As the server refuses.
pub async fn cancel(at: &Channels, name: &str) -> Result<Operation, Status> {
    at.operations().cancel_operation(CancelOperationRequest { name: name.to_owned() }).await?;
    end(at, name).await
}

/// Takes a model off its devices, and waits for that.
///
/// # Errors
/// As the server refuses, or the operation fails.
pub async fn unload(
    at: &Channels,
    name: &str,
    components: &[&str],
) -> Result<v1::UnloadModelResponse, Status> {
    let (name, components) = (name.to_owned(), words(components));
    unload_as(at, v1::UnloadModelRequest { name, components, ..Default::default() }).await
}

/// The same, as a request says.
///
/// # Errors
/// As [`unload`].
pub async fn unload_as(
    at: &Channels,
    request: v1::UnloadModelRequest,
) -> Result<v1::UnloadModelResponse, Status> {
    let request = v1::UnloadModelRequest { request_id: request_id(), wait_for: waiting(), ..request };
    result(residency(at).unload_model(request).await?.into_inner())
}

/// What a load would do.
///
/// # Errors
/// As the server refuses.
pub async fn plan(
    at: &Channels,
    parts: Vec<v1::ModelPart>,
    options: v1::LoadOptions,
) -> Result<v1::PlanLoadResponse, Status> {
    let request = v1::PlanLoadRequest { parts, options: Some(options), ..Default::default() };
    Ok(residency(at).plan_load(request).await?.into_inner())
}

/// All replicas, page by page.
///
/// # Errors
/// As the server refuses.
pub async fn replicas(at: &Channels) -> Result<Vec<v1::Replica>, Status> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListReplicasRequest { page_size: 3, page_token, ..Default::default() };
        let page = residency(at).list_replicas(request).await?.into_inner();
        all.extend(page.replicas);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// All devices.
///
/// # Errors
/// As the server refuses.
pub async fn devices(at: &Channels) -> Result<Vec<v1::Device>, Status> {
    Ok(at.devices().list_devices(v1::ListDevicesRequest::default()).await?.into_inner().devices)
}

/// One device.
///
/// # Errors
/// As the server refuses, or when there is none.
pub async fn device(at: &Channels, id: &str) -> Result<v1::Device> {
    devices(at).await?.into_iter().find(|device| device.device_id == id).context("no such device")
}

/// A device of a mirror.
#[must_use]
pub fn seen<'a>(mirror: &'a Mirror, id: &str) -> Option<&'a v1::Device> {
    mirror.devices().find(|device| device.device_id == id)
}

/// The worker of a device, as a mirror has it.
#[must_use]
pub fn worker(mirror: &Mirror, id: &str) -> v1::Worker {
    seen(mirror, id).and_then(|device| device.worker.clone()).unwrap_or_default()
}

/// Whether a device can be used.
#[must_use]
pub fn is_open(mirror: &Mirror, id: &str) -> bool {
    worker(mirror, id).state() == v1::worker::State::Active
}

/// Waits until the workers of these devices serve.
///
/// # Errors
/// When they do not.
pub async fn until_open(open: &mut Open, ids: &[&str]) -> Result<()> {
    open.watch.until("the workers", |mirror| ids.iter().all(|id| is_open(mirror, id))).await
}

/// R22: a server has nothing of CUDA or of libtorch in its memory, whatever its workers have.
///
/// # Errors
/// When it has.
pub fn maps_nothing_of_cards(server: u32) -> Result<()> {
    let maps = std::fs::read_to_string(format!("/proc/{server}/maps"))?;
    let foreign = ["libcuda", "libnvidia", "libtorch", "libc10", "libcudart"];
    let found = maps.lines().find(|line| foreign.iter().any(|name| line.contains(name)));
    ensure!(found.is_none(), "the server has mapped {found:?}");
    Ok(())
}

/// What of a library's segments is mapped into a process, by the kernel's word.
///
/// # Errors
/// When there is no such process.
pub fn mapped(library: &Library, process: u32) -> Result<BTreeSet<String>> {
    let below = library.sandbox.runtime_dir().join("segments").display().to_string();
    Ok(process::mapped_files(process)?.into_iter().filter(|file| file.starts_with(&below)).collect())
}

/// Compares what the server says is on its devices with the watch, with the sums, and with what workers have mapped. Nothing may be
/// on its way.
///
/// # Errors
/// When something of that differs.
pub async fn devices_are_true(library: &Library, open: &mut Open) -> Result<()> {
    maps_nothing_of_cards(open.server.process_id())?;
    let at = open.at.clone();
    open.watch.catch_up(&at).await?;
    let (devices, replicas) = (devices(&at).await?, replicas(&at).await?);
    let named = |all: &[v1::Replica]| -> BTreeMap<String, v1::Replica> {
        all.iter().map(|one| (one.name.clone(), one.clone())).collect()
    };
    let watched: Vec<v1::Replica> = open.watch.mirror.replicas().cloned().collect();
    ensure!(named(&replicas) == named(&watched), "listed {replicas:#?}, watched {watched:#?}");
    ensure!(devices == open.watch.mirror.devices().cloned().collect::<Vec<_>>(), "{devices:#?}");
    let active = |one: &v1::Replica| one.state() == v1::replica::State::Active && !one.models.is_empty();
    ensure!(replicas.iter().all(active), "on their way: {replicas:#?}");
    let paths: BTreeMap<String, String> = segments(&at)
        .await?
        .into_iter()
        .map(|one| (one.segment.unwrap_or_default().name, one.path))
        .collect();
    for device in devices {
        let there: Vec<&v1::Replica> =
            replicas.iter().filter(|one| one.device_id == device.device_id).collect();
        let own: u64 = there.iter().map(|one| one.own_bytes).sum();
        let shared: u64 = there.iter().map(|one| one.mapped_bytes).sum();
        ensure!(device.used_bytes == own + shared, "{device:?} has {there:#?}");
        ensure!(device.mapped_bytes == shared, "{device:?} has {there:#?}");
        let is_lost = device.state() == v1::device::State::Lost;
        let free = if is_lost { 0 } else { device.capacity_bytes - device.used_bytes };
        ensure!(device.free_bytes == free, "{device:?}");
        let contents: BTreeSet<(&str, &str)> =
            there.iter().map(|one| (one.segment.as_str(), one.dtype.as_str())).collect();
        ensure!(contents.len() == there.len(), "one content twice: {there:#?}");
        let worker = device.worker.clone().unwrap_or_default();
        if !device.maps_segments || worker.process_id == 0 {
            continue;
        }
        let as_they_are = there.iter().filter(|one| one.dtype.is_empty());
        let expected: BTreeSet<String> =
            as_they_are.clone().filter_map(|one| paths.get(&one.segment).cloned()).collect();
        ensure!(expected.len() == as_they_are.clone().count(), "segments of {there:#?} are not in {paths:?}");
        let has = mapped(library, worker.process_id)?;
        ensure!(has == expected, "{} has mapped {has:?}, not {expected:?}", device.device_id);
        let mut in_ram = 0;
        for file in &expected {
            in_ram += std::fs::metadata(file)?.blocks() * 512;
        }
        ensure!(in_ram == shared, "{in_ram} in RAM are mapped, and {shared} are told: {there:#?}");
    }
    Ok(())
}
