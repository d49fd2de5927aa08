//! The store as the owner sees it: it takes a commit, or it is read-only for a while or for good.
//!
//! ```text
//! Healthy ──disk full──► Full ──space again──► Healthy
//!    ├──fsync or other I/O error──► Broken*        (only a restart helps: what is on disk is not known)
//!    └──its files were taken away─► Lost*          (only a restart helps: what is written goes nowhere)
//! ```
//!
//! After a full disk nobody knows whether the failed commit landed. Reopening tells: the owner then publishes it
//! after all, or forgets it, and either way memory and disk agree before the next commit.

use hoist_domain::{Machine, Position, Revision};
use hoist_planner::{Event, State};
use hoist_store::{Batch, Call, CommitError, ExportError, Fault, Opened, Store};
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
    Ended(Ended),
}

/// Why the store is read-only for good.
#[derive(Clone, Copy)]
enum Ended {
    Broken,
    Lost,
}

impl Ended {
    fn of(fault: &Fault) -> Self {
        if fault.call == Call::Hold { Self::Lost } else { Self::Broken }
    }
}

/// Why nothing can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readonly {
    Full,
    Broken,
    /// The state directory, or a file of it, was removed or replaced under the server.
    Lost,
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
            Mode::Ended(Ended::Broken) => Some(Readonly::Broken),
            Mode::Ended(Ended::Lost) => Some(Readonly::Lost),
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
            Err(CommitError::Broken(cause)) => {
                error!(%cause, revision = %batch.revision, "store cannot be trusted with writes: read-only until restart");
                let ended = Ended::of(&cause);
                self.mode = Mode::Ended(ended);
                Err(match ended {
                    Ended::Broken => Readonly::Broken,
                    Ended::Lost => Readonly::Lost,
                })
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
            Err(CommitError::Broken(cause)) => {
                error!(%cause, "store did not come back: read-only until restart");
                self.mode = Mode::Ended(Ended::of(&cause));
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
        match &written {
            Ok(()) => {}
            Err(ExportError::Failed(cause)) => {
                warn!(%cause, "export of the store failed; the store itself is not affected");
            }
            Err(ExportError::Broken(cause)) => {
                error!(%cause, "no export was written: the store is read-only until restart");
                self.mode = Mode::Ended(Ended::of(cause));
            }
        }
        written.is_ok()
    }
}

/// The rows that hold everything durable of a state: what [`restore`] reads.
pub fn durable_rows(state: &State) -> impl Iterator<Item = hoist_store::Row> + '_ {
    rows::all(state)
}

/// The state that a store holds, and one line for each row that says nothing: to this version, or without another
/// row that is lost. Takes the rows out of what was opened: nobody needs them twice.
#[must_use]
pub fn restore(opened: &mut Opened, mut machine: Machine) -> (State, Vec<String>) {
    let restored = rows::restore(std::mem::take(&mut opened.rows));
    machine.measurements = restored.measurements;
    let position = Position { epoch: opened.epoch, revision: opened.revision };
    let state = State::restore(position, machine, restored.operations, restored.requests, restored.models);
    let mut unreadable = restored.unreadable;
    unreadable.extend(state.orphaned_requests().map(|request| {
        format!("requests: what request {} made is lost; the id counts as unused", request.key.id)
    }));
    (state, unreadable)
}
