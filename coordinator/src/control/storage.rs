//! The store as the owner sees it: it takes a commit, or it is read-only for a while or for good.
//!
//! ```text
//! Healthy ──disk full──► Full ──space again──► Healthy
//!    └──fsync or other I/O error──► Broken*        (only a restart helps: what is on disk is not known)
//! ```
//!
//! After a full disk nobody knows whether the failed commit landed. Reopening tells: the owner then publishes it
//! after all, or forgets it, and either way memory and disk agree before the next commit.

use hoist_domain::{Machine, Position, Revision};
use hoist_planner::{Event, State};
use hoist_store::{Batch, CommitError, Opened, Store};
use tracing::{error, info, warn};

use super::rows;

/// The store behind the owner.
pub(super) struct Storage {
    store: Box<dyn Store>,
    mode: Mode,
    /// What the store holds for certain.
    committed: Revision,
}

enum Mode {
    Healthy,
    /// The revision and events of the commit that failed.
    Full {
        attempted: Revision,
        events: Vec<Vec<Event>>,
    },
    Broken,
}

/// Why nothing can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readonly {
    Full,
    Broken,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("committed", &self.committed).finish_non_exhaustive()
    }
}

impl Storage {
    pub(super) fn new(store: Box<dyn Store>, committed: Revision) -> Self {
        Self { store, mode: Mode::Healthy, committed }
    }

    pub(super) fn readonly(&self) -> Option<Readonly> {
        match self.mode {
            Mode::Healthy => None,
            Mode::Full { .. } => Some(Readonly::Full),
            Mode::Broken => Some(Readonly::Broken),
        }
    }

    /// Makes a batch durable. `events` are those of each of its revisions, kept in case the outcome is in doubt.
    pub(super) fn commit(
        &mut self,
        batch: &Batch,
        events: impl FnOnce() -> Vec<Vec<Event>>,
    ) -> Result<(), Readonly> {
        match self.store.commit(batch) {
            Ok(()) => {
                self.committed = batch.revision;
                Ok(())
            }
            Err(cause @ CommitError::Full(_)) => {
                warn!(%cause, revision = %batch.revision, "store is full: read-only until there is room");
                self.mode = Mode::Full { attempted: batch.revision, events: events() };
                Err(Readonly::Full)
            }
            Err(cause @ CommitError::Broken(_)) => {
                error!(%cause, revision = %batch.revision, "store cannot be trusted with writes: read-only until restart");
                self.mode = Mode::Broken;
                Err(Readonly::Broken)
            }
        }
    }

    /// Tries to leave `Full`. `Some`: healthy again, with the events of the commit that turned out to have landed.
    pub(super) fn recover(&mut self) -> Option<Vec<Vec<Event>>> {
        let Mode::Full { attempted, .. } = self.mode else { return None };
        match self.store.reopen() {
            Ok(found) => {
                let Mode::Full { events, .. } = std::mem::replace(&mut self.mode, Mode::Healthy) else {
                    return None;
                };
                let landed = found == attempted && found != self.committed;
                self.committed = found;
                info!(revision = %found, landed, "store can be written again");
                Some(if landed { events } else { Vec::new() })
            }
            Err(CommitError::Full(_)) => None,
            Err(cause @ CommitError::Broken(_)) => {
                error!(%cause, "store did not come back: read-only until restart");
                self.mode = Mode::Broken;
                None
            }
        }
    }

    /// Writes everything durable beside the store; whether that is done. A failure costs the copy, not the store.
    pub(super) fn export(&mut self, state: &State, batch_head: &Batch) -> bool {
        let header = hoist_store::ExportHeader {
            revision: batch_head.revision,
            service_time: batch_head.service_time,
        };
        let written = self.store.export(header, &mut rows::all(state));
        if let Err(cause) = &written {
            warn!(%cause, "export of the store failed; the store itself is not affected");
        }
        written.is_ok()
    }
}

/// The rows that hold everything durable of a state: what [`restore`] reads.
pub fn durable_rows(state: &State) -> impl Iterator<Item = hoist_store::Row> + '_ {
    rows::all(state)
}

/// The state that a store holds, and one line for each row that says nothing: to this version, or without another
/// row that is lost.
#[must_use]
pub fn restore(opened: &Opened, mut machine: Machine) -> (State, Vec<String>) {
    let restored = rows::restore(&opened.rows);
    machine.measurements = restored.measurements;
    let position = Position { epoch: opened.epoch, revision: opened.revision };
    let state = State::restore(position, machine, restored.operations, restored.requests, restored.models);
    let mut unreadable = restored.unreadable;
    unreadable.extend(state.orphaned_requests().map(|request| {
        format!("requests: what request {} made is lost; the id counts as unused", request.key.id)
    }));
    (state, unreadable)
}
