//! What tests of the cache do: cache, acquire, look at what is there, and compare it with what the kernel says.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hoist_wire::v1;
use hoist_wire::v1::acquire_response::Event;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::library::{PATIENCE, result, waiting};
use crate::{Channels, request_id};

/// Caches a model, and waits for it.
///
/// # Errors
/// As the server refuses, or the operation fails.
pub async fn cache(at: &Channels, name: &str, components: &[&str]) -> Result<v1::CacheModelResponse, Status> {
    cache_as(
        at,
        v1::CacheModelRequest {
            name: name.to_owned(),
            components: components.iter().map(ToString::to_string).collect(),
            ..Default::default()
        },
    )
    .await
}

/// The same, as a request says.
///
/// # Errors
/// As [`cache`].
pub async fn cache_as(
    at: &Channels,
    request: v1::CacheModelRequest,
) -> Result<v1::CacheModelResponse, Status> {
    let request = v1::CacheModelRequest { request_id: request_id(), wait_for: waiting(), ..request };
    result(at.cache().cache_model(request).await?.into_inner())
}

/// Takes a model out of RAM.
///
/// # Errors
/// As the server refuses.
pub async fn evict(at: &Channels, name: &str) -> Result<v1::EvictModelResponse, Status> {
    let request = v1::EvictModelRequest { name: name.to_owned(), all: name.is_empty(), ..Default::default() };
    Ok(at.cache().evict_model(request).await?.into_inner())
}

/// The cache as a whole.
///
/// # Errors
/// As the server refuses.
pub async fn status(at: &Channels) -> Result<v1::GetCacheResponse, Status> {
    Ok(at.cache().get_cache(v1::GetCacheRequest::default()).await?.into_inner())
}

/// All segments.
///
/// # Errors
/// As the server refuses.
pub async fn segments(at: &Channels) -> Result<Vec<v1::SegmentStatus>, Status> {
    let request = v1::ListSegmentsRequest { page_size: 1_000, ..Default::default() };
    Ok(at.cache().list_segments(request).await?.into_inner().segments)
}

/// A lease: held as long as this is there.
#[derive(Debug)]
pub struct Held {
    /// Dropped, it half-closes the stream.
    _asks: mpsc::Sender<v1::AcquireRequest>,
    pub answers: Streaming<v1::AcquireResponse>,
    pub granted: v1::Granted,
    /// Messages of progress before the grant.
    pub waited: usize,
}

impl Held {
    #[must_use]
    pub fn name(&self) -> &str {
        self.granted.lease.as_ref().map_or("", |lease| &lease.name)
    }

    /// The file of a component.
    ///
    /// # Panics
    /// When it has none of this name.
    #[must_use]
    pub fn path(&self, component: &str) -> PathBuf {
        let found = self.granted.components.iter().filter_map(|one| one.component.as_ref());
        let found = found.into_iter().find(|one| one.component == component);
        found.map(|one| PathBuf::from(&one.path)).expect("the component is leased")
    }

    /// Waits until somebody else ends it; why that was.
    ///
    /// # Errors
    /// When the stream breaks off, or ends otherwise.
    pub async fn revoked(&mut self) -> Result<String> {
        let told = tokio::time::timeout(PATIENCE, self.answers.message()).await.context("still held")??;
        let Some(Event::Revoked(revoked)) = told.and_then(|told| told.event) else {
            anyhow::bail!("it ended otherwise");
        };
        Ok(revoked.reason)
    }

    /// Ends it, and waits until the stream says so.
    ///
    /// # Errors
    /// When the stream breaks off, or ends otherwise.
    pub async fn end(self) -> Result<(), Status> {
        let Self { _asks: asks, mut answers, .. } = self;
        drop(asks);
        while answers.message().await?.is_some() {}
        Ok(())
    }

    /// Ends it, and waits until the server has let go.
    ///
    /// # Errors
    /// When it does not.
    pub async fn release(self, at: &Channels) -> Result<()> {
        let name = self.name().to_owned();
        drop(self);
        let gone = async {
            while leases(at).await?.iter().any(|lease| lease.name == name) {
                tokio::task::yield_now().await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, gone).await.context("the lease did not end")?
    }
}

/// Acquires a model's components.
///
/// # Errors
/// As the server refuses.
pub async fn acquire(at: &Channels, name: &str, components: &[&str]) -> Result<Held, Status> {
    acquire_as(
        at,
        v1::AcquireRequest {
            name: name.to_owned(),
            components: components.iter().map(ToString::to_string).collect(),
            ..Default::default()
        },
    )
    .await
}

/// The same, as a request says.
///
/// # Errors
/// As [`acquire`].
pub async fn acquire_as(at: &Channels, request: v1::AcquireRequest) -> Result<Held, Status> {
    let (asks, asked) = mpsc::channel(1);
    asks.send(request).await.map_err(|_| Status::internal("nobody listens"))?;
    let mut answers = at.leases().acquire(ReceiverStream::new(asked)).await?.into_inner();
    let mut waited = 0;
    loop {
        match answers.message().await?.and_then(|answer| answer.event) {
            Some(Event::Progress(_)) => waited += 1,
            Some(Event::Granted(granted)) => return Ok(Held { _asks: asks, answers, granted, waited }),
            other => return Err(Status::internal(format!("no grant: {other:?}"))),
        }
    }
}

/// All leases.
///
/// # Errors
/// As the server refuses.
pub async fn leases(at: &Channels) -> Result<Vec<v1::Lease>> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListLeasesRequest { page_token, ..Default::default() };
        let page = at.leases().list_leases(request).await?.into_inner();
        found.extend(page.leases);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

/// What the files below a directory take of the memory, in the kernel's count; and their names.
///
/// # Errors
/// The file system's.
pub fn on_tmpfs(directory: &Path) -> Result<(u64, BTreeSet<String>)> {
    let (mut bytes, mut names) = (0, BTreeSet::new());
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        names.insert(entry.file_name().to_string_lossy().into_owned());
        if entry.file_type()?.is_dir() {
            bytes += on_tmpfs(&entry.path())?.0;
        } else {
            bytes += entry.metadata()?.blocks() * 512;
        }
    }
    Ok((bytes, names))
}

/// Compares what the server counts with what is there: to the byte, with nothing filling.
///
/// # Errors
/// When they differ.
pub async fn counts_are_true(at: &Channels, runtime_dir: &Path) -> Result<()> {
    let said = status(at).await?;
    let (bytes, names) = on_tmpfs(&runtime_dir.join("segments"))?;
    ensure!(said.filling_bytes == 0, "still filling: {said:?}");
    ensure!(said.sealed_bytes == bytes, "{} said, {bytes} there: {names:?}", said.sealed_bytes);
    ensure!(said.used_bytes == said.sealed_bytes + said.zombie_bytes, "{said:?}");
    ensure!(said.segments == names.len() as u64, "{} said, there: {names:?}", said.segments);
    ensure!(names.iter().all(|name| !name.starts_with('.')), "something half-done: {names:?}");
    Ok(())
}

/// Type, shape and bytes.
pub type Tensor = (String, Vec<usize>, Vec<u8>);

/// Tensors of a segment's file, read by the format's reference library, by name.
///
/// # Errors
/// When it cannot be read by that.
pub fn tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let file = std::fs::read(path)?;
    let read = safetensors::SafeTensors::deserialize(&file)?;
    let view = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        (name, (format!("{:?}", view.dtype()), view.shape().to_vec(), view.data().to_vec()))
    };
    Ok(read.tensors().into_iter().map(view).collect())
}

/// The one value of a segment of [`crate::making::uniform`].
///
/// # Errors
/// When it cannot be read, or is torn.
pub fn value(path: &Path) -> Result<f32> {
    let read = tensors(path)?;
    let (_, _, bytes) = read.values().next().context("no tensors")?;
    let first: [u8; 4] = bytes.first_chunk().copied().context("no values")?;
    let is_whole = bytes.as_chunks::<4>().0.iter().all(|chunk| *chunk == first);
    ensure!(is_whole, "{} is torn", path.display());
    Ok(f32::from_le_bytes(first))
}
