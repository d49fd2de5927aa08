//! Watch: the state as a stream.
//!
//! ```text
//! open ──from unset──► Snapshot ──last chunk──► Live ──► ended* TOO_SLOW | DRAINING | client gone
//!   └──from given─────────────────────────────►  │
//!   └──► refused* REVISION_COMPACTED | EPOCH_MISMATCH | WATCHES_EXHAUSTED
//! ```
//!
//! A watcher is a cursor: a name in a snapshot, then a revision. It pulls what follows from the shared view and the
//! shared history when its connection has room, so a watcher that does not read costs its place and one message, and
//! learns at its next read whether it fell behind.

mod cursor;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use hoist_domain::{Error, Filter, Position, Reason, Result};
use hoist_runtime::{Clock, Shutdown};
use hoist_wire::frame::WatchFrame;
use tokio::sync::Semaphore;

use crate::control::Control;
use crate::operations::ProgressBoard;
use cursor::Cursor;
use snapshot::Snapshots;

/// What a client asked to follow.
#[derive(Clone, Debug)]
pub struct WatchSpec {
    /// Unset: begin with a snapshot.
    pub from: Option<Position>,
    pub filter: Filter,
    pub mark_interval: Duration,
    pub progress_interval: Option<Duration>,
}

/// Opens watches.
#[derive(Clone, Debug)]
pub struct Watcher {
    control: Control,
    board: ProgressBoard,
    clock: Clock,
    draining: Shutdown,
    snapshots: Arc<Snapshots>,
    places: Arc<Semaphore>,
    limit: usize,
}

impl Watcher {
    /// At most `limit` watches at the same time; they end when `draining` is triggered.
    #[must_use]
    pub fn new(
        control: Control,
        board: ProgressBoard,
        clock: Clock,
        draining: Shutdown,
        limit: usize,
    ) -> Self {
        let places = Arc::new(Semaphore::new(limit));
        Self { control, board, clock, draining, snapshots: Arc::default(), places, limit }
    }

    /// Time has passed: a watch that has not taken its snapshot by now will hear that it was too slow, if it ever
    /// reads again. It holds no view until then.
    pub fn tick(&self) {
        self.snapshots.expire(self.clock.monotonic());
    }

    /// How many watches are open.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.limit.saturating_sub(self.places.available_permits())
    }

    /// Opens a watch.
    ///
    /// # Errors
    /// WATCHES_EXHAUSTED, DRAINING; REVISION_COMPACTED and EPOCH_MISMATCH for a position that cannot be resumed.
    pub fn open(&self, spec: WatchSpec) -> Result<impl Stream<Item = Result<WatchFrame>> + use<>> {
        if self.draining.is_triggered() {
            return Err(draining());
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Error::new(
                Reason::WatchesExhausted,
                format!("{} watches are open, which is the limit; close some or share one", self.limit),
            )
            .with("limit", self.limit)
            .retry_after(Duration::from_secs(1))
        })?;
        // Before the state is looked at: a change in between wakes the cursor at once.
        let changes = self.control.changes();
        let view = self.control.view();
        let cursor = match spec.from {
            Some(from) => {
                self.resumable(from, view.state.position())?;
                Cursor::live(self.clone(), changes, from, spec, place)
            }
            None => {
                let until = self.clock.monotonic().saturating_add(self.control.history().age());
                let snapshot = self.snapshots.begin(view, spec.filter.is_all(), until);
                Cursor::snapshot(self.clone(), changes, snapshot, spec, place)
            }
        };
        Ok(cursor.into_stream())
    }

    /// Whether what follows `from` is known.
    fn resumable(&self, from: Position, now: Position) -> Result<()> {
        if from.epoch != now.epoch || from.revision > now.revision {
            return Err(Error::new(
                Reason::EpochMismatch,
                format!("position {from} is not in this server's history, which is at {now}; watch again without `from`"),
            )
            .with("epoch", now.epoch)
            .with("revision", now.revision));
        }
        let oldest = self.control.history().oldest();
        if from.revision < oldest {
            return Err(Error::new(
                Reason::RevisionCompacted,
                format!(
                    "what followed revision {} is no longer kept; watch again without `from`",
                    from.revision
                ),
            )
            .with("epoch", now.epoch)
            .with("oldest_revision", oldest));
        }
        Ok(())
    }
}

fn draining() -> Error {
    Error::new(Reason::Draining, "the server is stopping; watch again once it is back")
        .retry_after(Duration::from_secs(1))
}
