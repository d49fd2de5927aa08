//! The state as chunks of encoded resources; made once for all who join at the same time.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use hoist_domain::{Error, Filter, Position, Reason, Result};
use hoist_planner::Record;
use hoist_runtime::Tasks;
use hoist_wire::mask;
use prost::Message;
use tokio::sync::Mutex;

use crate::control::{Control, View, resource};

/// Large enough that framing does not matter, small enough that one chunk in the send buffer of ten thousand
/// watchers is bounded by the connections' windows and not by this.
const CHUNK_BYTES: usize = 256 << 10;

// Field number of hoist.api.v1.SnapshotChunk.
const CHUNK_RESOURCES: u32 = 1;

/// The state at one position, ready to send.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) position: Position,
    pub(super) chunks: Vec<Bytes>,
    pub(super) resources: u64,
}

/// The newest whole snapshot, as long as somebody still sends it.
#[derive(Debug, Default)]
pub(super) struct Snapshots(Mutex<Weak<Snapshot>>);

impl Snapshots {
    /// A whole snapshot that is at least as new as the state at this call. Whoever comes while one is being made
    /// waits for it, and takes it if it is new enough.
    pub(super) async fn whole(&self, control: &Control, tasks: &Tasks) -> Result<Arc<Snapshot>> {
        let asked_at = control.view().state.position();
        let mut newest = self.0.lock().await;
        if let Some(shared) = newest.upgrade().filter(|snapshot| snapshot.position >= asked_at) {
            return Ok(shared);
        }
        let made = make(control.view(), Filter::default(), tasks).await?;
        *newest = Arc::downgrade(&made);
        Ok(made)
    }
}

/// What passes a filter: encoded for one watcher.
pub(super) async fn filtered(view: &Arc<View>, filter: &Filter, tasks: &Tasks) -> Result<Arc<Snapshot>> {
    make(Arc::clone(view), filter.clone(), tasks).await
}

/// Off the async threads: a hundred thousand resources take a tenth of a second.
async fn make(view: Arc<View>, filter: Filter, tasks: &Tasks) -> Result<Arc<Snapshot>> {
    tasks.run_blocking("encode snapshot", move || Arc::new(encode(&view, &filter))).await.map_err(
        |panicked| {
            Error::new(Reason::Internal, format!("the snapshot could not be made ({panicked}); report this"))
        },
    )
}

fn encode(view: &View, filter: &Filter) -> Snapshot {
    let mut snapshot = Snapshot { position: view.state.position(), chunks: Vec::new(), resources: 0 };
    let mut chunk = Vec::new();
    let mut add = |record: &Record, snapshot: &mut Snapshot| {
        mask::put_message(&mut chunk, CHUNK_RESOURCES, &resource(record).encode_to_vec());
        snapshot.resources += 1;
        if chunk.len() >= CHUNK_BYTES {
            snapshot.chunks.push(std::mem::take(&mut chunk).into());
        }
    };
    if filter.names.is_empty() {
        for record in
            view.state.records().filter(|record| filter.passes(record.name(), record.operation_state()))
        {
            add(&record, &mut snapshot);
        }
    } else {
        // A handful of names out of a hundred thousand: look them up instead of walking.
        for record in filter.names.iter().filter_map(|name| view.state.record(*name)) {
            if filter.passes(record.name(), record.operation_state()) {
                add(&record, &mut snapshot);
            }
        }
    }
    if !chunk.is_empty() {
        snapshot.chunks.push(chunk.into());
    }
    snapshot
}
