//! The state as chunks of encoded resources, made when they are taken.
//!
//! A watcher that takes a snapshot holds no bytes of it: it holds its place in a view, which is a reference count,
//! and the chunk that is on its way. Whoever wants everything shares chunks with all who joined at the same
//! position. What a view keeps alive is what has changed since; so a snapshot that is not taken in time is let go.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use hoist_domain::{Filter, Position, ResourceName};
use hoist_planner::Record;
use hoist_wire::mask;
use prost::Message;

use crate::control::{View, resource};

/// Two HTTP/2 frames. It is what one watcher that does not read holds at most: 384 MiB for 12,000 of them.
const CHUNK_BYTES: usize = 32 << 10;

/// Records looked at for one chunk, so that a filter that nothing passes does not occupy a thread: about 0.2 ms.
const WALK: usize = 2_000;

/// Encoded chunks kept for those who still take a whole snapshot that is not the newest. Beyond it each encodes for
/// itself. Thousands who join while the state changes share a few positions, which fit.
const OLDER_BYTES: usize = 64 << 20;

// Field number of hoist.api.v1.SnapshotChunk.
const CHUNK_RESOURCES: u32 = 1;

/// A part of a snapshot.
#[derive(Clone, Debug)]
struct Chunk {
    bytes: Bytes,
    resources: u64,
    /// Where the next one begins; unset after the last.
    next: Option<ResourceName>,
}

/// By where they begin.
type Chunks = HashMap<Option<ResourceName>, Chunk>;

/// What chunks are made from.
#[derive(Debug)]
struct Source {
    view: Arc<View>,
    /// Unset for a filtered one, which nobody shares.
    chunks: Option<Mutex<Chunks>>,
    /// Bytes of shared chunks, of all sources together.
    cached: Arc<AtomicUsize>,
}

impl Source {
    fn lock(chunks: &Mutex<Chunks>) -> MutexGuard<'_, Chunks> {
        chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chunk(&self, after: Option<ResourceName>, filter: &Filter, is_newest: bool) -> Chunk {
        let Some(chunks) = &self.chunks else { return encode(&self.view, filter, after) };
        if let Some(made) = Self::lock(chunks).get(&after) {
            return made.clone();
        }
        // Not under the lock: those who want other chunks do not wait for this one.
        let made = encode(&self.view, filter, after);
        let bytes = made.bytes.len();
        if !is_newest && self.cached.load(Ordering::Relaxed) + bytes > OLDER_BYTES {
            return made;
        }
        Self::lock(chunks)
            .entry(after)
            .or_insert_with(|| {
                self.cached.fetch_add(bytes, Ordering::Relaxed);
                made
            })
            .clone()
    }

    fn forget_chunks(&self) {
        let Some(chunks) = &self.chunks else { return };
        let forgotten = std::mem::take(&mut *Self::lock(chunks));
        let bytes = forgotten.values().map(|chunk| chunk.bytes.len()).sum();
        self.cached.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.forget_chunks();
    }
}

/// The snapshots that are being taken. It alone holds their sources, so that it can let go of one whose watcher
/// does not read, and therefore is not running.
#[derive(Debug, Default)]
pub(super) struct Snapshots(Mutex<Takings>);

#[derive(Debug, Default)]
struct Takings {
    next_id: u64,
    /// In the order in which they were begun; with the time from which on they are let go.
    sources: BTreeMap<u64, (Duration, Arc<Source>)>,
    newest_whole: Weak<Source>,
    cached: Arc<AtomicUsize>,
}

impl Snapshots {
    fn lock(&self) -> MutexGuard<'_, Takings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to take what passes a filter, until this time.
    pub(super) fn begin(self: &Arc<Self>, view: Arc<View>, is_whole: bool, until: Duration) -> Taking {
        let mut takings = self.lock();
        let position = view.state.position();
        let source = takings.source(view, is_whole);
        let id = takings.next_id;
        takings.next_id += 1;
        takings.sources.insert(id, (until, source));
        Taking { snapshots: Arc::clone(self), id, position, after: None, resources: 0, is_whole: false }
    }

    /// Lets go of those whose time is over.
    pub(super) fn expire(&self, now: Duration) {
        let mut expired = Vec::new();
        let mut takings = self.lock();
        while let Some(first) = takings.sources.first_entry().filter(|first| first.get().0 <= now) {
            expired.push(first.remove());
        }
        // Not under the lock: each may be the last that holds a large view.
        drop(takings);
    }

    fn source(&self, id: u64) -> Option<(Arc<Source>, bool)> {
        let takings = self.lock();
        let (_, source) = takings.sources.get(&id)?;
        let is_newest = std::ptr::eq(takings.newest_whole.as_ptr(), Arc::as_ptr(source));
        Some((Arc::clone(source), is_newest))
    }
}

impl Takings {
    fn source(&mut self, view: Arc<View>, is_whole: bool) -> Arc<Source> {
        let position = view.state.position();
        let make = |view, chunks| Arc::new(Source { view, chunks, cached: Arc::clone(&self.cached) });
        if !is_whole {
            return make(view, None);
        }
        let newest = self.newest_whole.upgrade();
        if let Some(shared) = newest.as_ref().filter(|newest| newest.view.state.position() >= position) {
            return Arc::clone(shared);
        }
        if let Some(older) = newest.filter(|_| self.cached.load(Ordering::Relaxed) > OLDER_BYTES) {
            older.forget_chunks();
        }
        let made = make(view, Some(Mutex::default()));
        self.newest_whole = Arc::downgrade(&made);
        made
    }
}

/// One watcher's way through a snapshot.
#[derive(Debug)]
pub(super) struct Taking {
    snapshots: Arc<Snapshots>,
    id: u64,
    pub(super) position: Position,
    after: Option<ResourceName>,
    /// Of those parts that were taken.
    pub(super) resources: u64,
    is_whole: bool,
}

/// It took too long, and was let go.
#[derive(Debug)]
pub(super) struct Expired;

impl Taking {
    /// The next part; it may be empty when nothing passed on a long way. `None` when all of it was taken.
    pub(super) fn next(&mut self, filter: &Filter) -> Result<Option<Bytes>, Expired> {
        if self.is_whole {
            return Ok(None);
        }
        let (source, is_newest) = self.snapshots.source(self.id).ok_or(Expired)?;
        let chunk = source.chunk(self.after, filter, is_newest);
        self.resources += chunk.resources;
        self.after = chunk.next;
        self.is_whole = chunk.next.is_none();
        Ok((!self.is_whole || !chunk.bytes.is_empty()).then_some(chunk.bytes))
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        let source = self.snapshots.lock().sources.remove(&self.id);
        // Not under the lock: it may be the last that holds a large view.
        drop(source);
    }
}

fn encode(view: &View, filter: &Filter, after: Option<ResourceName>) -> Chunk {
    let state = &view.state;
    if filter.names.is_empty() {
        return gather(state.records_after(after), filter);
    }
    // A handful of names out of a hundred thousand: look them up instead of walking.
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    gather(filter.names.range((from, Bound::Unbounded)).filter_map(|name| state.record(*name)), filter)
}

fn gather(records: impl Iterator<Item = Record>, filter: &Filter) -> Chunk {
    let (mut bytes, mut resources) = (Vec::new(), 0);
    for (walked, record) in records.enumerate() {
        if filter.passes(record.name(), record.operation_state()) {
            mask::put_message(&mut bytes, CHUNK_RESOURCES, &resource(&record).encode_to_vec());
            resources += 1;
        }
        if bytes.len() >= CHUNK_BYTES || walked + 1 >= WALK {
            return Chunk { bytes: bytes.into(), resources, next: Some(record.name()) };
        }
    }
    Chunk { bytes: bytes.into(), resources, next: None }
}
