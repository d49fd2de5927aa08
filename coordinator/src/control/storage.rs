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

use std::time::Duration;

use hoist_domain::{
    Condition, ConditionKind, Error, Machine, Position, Reason, Revision, Severity, WallTime,
};
use hoist_planner::{Event, State};
use hoist_store::{Batch, Call, CommitError, ExportError, Fault, Opened, Store, Write};
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

impl Readonly {
    /// What people are told.
    pub(super) fn condition(why: Option<Self>, now: WallTime) -> Condition {
        let (message, advice) = match why {
            Some(Self::Full) | None => (
                "the state directory's disk is full: changes are refused, reads go on",
                "make room on that disk; Hoist goes on by itself within seconds",
            ),
            Some(Self::Broken) => (
                "the state directory's disk failed a write: changes are refused until Hoist is restarted, reads go on",
                "check the disk (kernel log, SMART), then restart Hoist",
            ),
            Some(Self::Lost) => (
                "the state directory was removed or replaced while Hoist was running: changes are refused, reads go on",
                "stop Hoist, put the state directory back if it was moved, and start again; nothing is written to what stands there now",
            ),
        };
        Condition {
            kind: ConditionKind::StoreReadonly,
            severity: Severity::Error,
            message: message.to_owned(),
            advice: advice.to_owned(),
            since: now,
            details: Vec::new(),
        }
    }

    /// What a caller is told whose change was not made.
    pub(super) fn error(why: Option<Self>) -> Error {
        let (message, retry) = match why {
            Some(Self::Broken) => (
                "the store failed a write and takes no changes until the server is restarted; nothing was changed for certain, so \
                 repeat the request with the same id afterwards",
                Duration::from_secs(60),
            ),
            Some(Self::Lost) => (
                "the state directory was removed or replaced under the server, which takes no changes until it is restarted",
                Duration::from_secs(60),
            ),
            Some(Self::Full) | None => (
                "the state directory's disk is full; make room and repeat the request with the same id",
                Duration::from_secs(5),
            ),
        };
        Error::new(Reason::StoreReadonly, message).retry_after(retry)
    }
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

    /// Whether an export that was not written has ended the store. Otherwise it costs the copy, not the store.
    pub(super) fn export_failed(&mut self, error: &ExportError) -> bool {
        match error {
            ExportError::Failed(cause) => {
                warn!(%cause, "export of the store failed; the store itself is not affected");
                false
            }
            // A commit has met it before.
            ExportError::Broken(_) if matches!(self.mode, Mode::Ended(_)) => false,
            ExportError::Broken(cause) => {
                error!(%cause, "no export was written: the store is read-only until restart");
                self.mode = Mode::Ended(Ended::of(cause));
                true
            }
        }
    }
}

/// The rows that hold everything durable of a state: what [`restore`] reads.
pub fn durable_rows(state: &State) -> impl Iterator<Item = hoist_store::Row> + '_ {
    rows::all(state)
}

/// What a store held.
#[derive(Debug)]
pub struct Restored {
    pub state: State,
    /// One line for each row that is not in the state: it says nothing to this version, or not without another row
    /// that is lost, or a newer one has its place.
    pub left_out: Vec<String>,
    /// Removes those of them that no version would want: the others stay for one that can read them.
    pub superseded: Vec<Write>,
}

/// The state that a store holds. Takes the rows out of what was opened: nobody needs them twice.
#[must_use]
pub fn restore(opened: &mut Opened, mut machine: Machine) -> Restored {
    let mut read = rows::restore(std::mem::take(&mut opened.rows));
    let superseded = rows::leave_one_model_each_path(&mut read);
    machine.measurements = read.measurements;
    let position = Position { epoch: opened.epoch, revision: opened.revision };
    let state = State::restore(position, machine, read.operations, read.requests, read.models)
        .with_policy(read.policy)
        .with_devices_policy(read.devices_policy)
        .with_intents(read.intents);
    let mut left_out = read.left_out;
    left_out.extend(state.orphaned_requests().map(|request| {
        format!("requests: what request {} made is lost; the id counts as unused", request.key.id)
    }));
    Restored { state, left_out, superseded }
}
