//! From a directory to an open store, whatever is found there.
//!
//! Called once per life of the coordinator, through [`crate::open`]. Decides between a first start, a good store
//! and a rebuild; joins what was salvaged with the export; advances the epoch. Until a database is verified, or
//! its replacement complete and durable, nothing is written to it.
//!
//! ```text
//!  store.redb   epoch, export    what happens
//!  ----------   -------------    ------------------------------------------------------
//!  missing      both missing     first start: an empty store
//!  missing      either there     rebuilt from the export
//!  verified     any              opened
//!  damaged      any              kept under another name, rebuilt from it and the export
//!  newer        any              refused
//!  unreadable   any              refused
//! ```

use std::sync::Arc;

use hoist_domain::{Epoch, Position};
use redb::StorageBackend;

use crate::account::{Account, Joined, join};
use crate::disk::Disk;
use crate::engine::{Connection, Engine, build};
use crate::epoch::{self, EpochFile};
use crate::export::{self, Export, ExportFile};
use crate::exporter::FileExporter;
use crate::fault::{Call, Fault, OpenError};
use crate::frame::{Head, Stored};
use crate::header::{self, Slot};
use crate::inspect::{Contents, Finding, inspect};
use crate::salvage::{Salvaged, salvage};
use crate::standing::Standing;
use crate::{OpenOptions, Opened, Opening, Recovery, Row, SCHEMA_VERSION, disk};

pub(crate) fn open_on(disk: Arc<dyn Disk>, options: OpenOptions) -> Result<Opening, OpenError> {
    let epoch_file = epoch::read(disk.as_ref()).map_err(OpenError::from_fault)?;
    let (connection, opened) = match disk.open_store().map_err(OpenError::from_fault)? {
        Some(backend) => match read_newest(&backend) {
            Ok(contents) => adopt(backend, options, epoch_file, contents)?,
            Err(Finding::Damaged(reason)) => {
                tracing::warn!(%reason, "the store is damaged and will be rebuilt");
                rebuild(disk.as_ref(), options, epoch_file, Some(&backend))?
            }
            Err(finding) => return Err(refuse(finding)),
        },
        None => rebuild(disk.as_ref(), options, epoch_file, None)?,
    };
    // After the store, so that a file ahead of its store tells of a store that was replaced by an older one.
    epoch::write(disk.as_ref(), opened.epoch).map_err(OpenError::from_fault)?;
    let standing = Arc::new(Standing::default());
    let exporter = FileExporter::new(disk.clone(), standing.clone(), opened.epoch);
    let engine = Engine::new(connection, disk, standing, options, opened.epoch);
    Ok((Box::new(engine), Box::new(exporter), opened))
}

/// The newest whole commit in the file, which from here on is the one that counts.
fn read_newest(backend: &Arc<dyn StorageBackend>) -> Result<Contents, Finding> {
    // Of a slot that does not verify not even the number is to be believed: the other one may be the older commit,
    // and taking it would undo an acknowledged one without a word. That is for the salvage, which says so.
    let recorded = inspect(backend.clone(), Slot::Recorded)?;
    if !header::other_is_newer(backend.as_ref()) {
        return Ok(recorded);
    }
    let Ok(other) = inspect(backend.clone(), Slot::Other) else { return Ok(recorded) };
    if recorded.head.revision >= other.head.revision {
        return Ok(recorded);
    }
    let switched = header::switch(backend.as_ref())
        .map_err(|error| Fault::new(Call::Write, disk::STORE, &error))
        .and_then(|()| backend.sync_data().map_err(|error| Fault::new(Call::Sync, disk::STORE, &error)));
    switched.map_err(Finding::Unreadable)?;
    Ok(other)
}

fn refuse(finding: Finding) -> OpenError {
    match finding {
        Finding::Newer(found) => OpenError::NewerVersion { found, supported: SCHEMA_VERSION },
        Finding::Unreadable(fault) => OpenError::from_fault(fault),
        Finding::Damaged(reason) => OpenError::Io(Fault::database(disk::STORE, reason)),
    }
}

fn adopt(
    backend: Arc<dyn StorageBackend>,
    options: OpenOptions,
    epoch_file: EpochFile,
    contents: Contents,
) -> Result<(Connection, Opened), OpenError> {
    let Contents { head, rows } = contents;
    if epoch_file.seen() > head.epoch {
        tracing::warn!(store = %head.epoch, file = %epoch_file.seen(), "the store is older than the epoch file");
    }
    let head = Head { epoch: next_epoch([head.epoch, epoch_file.seen()]), ..head };
    let connection = Connection::open(disk::STORE, backend, options).map_err(OpenError::from_fault)?;
    connection.write_head(head).map_err(OpenError::from_fault)?;
    Ok((connection, describe(head, rows.into_iter().map(|stored| stored.row), Recovery::Clean)))
}

fn next_epoch(seen: impl IntoIterator<Item = Epoch>) -> Epoch {
    seen.into_iter().max().unwrap_or_default().next()
}

fn describe(head: Head, rows: impl Iterator<Item = Row>, recovery: Recovery) -> Opened {
    Opened {
        epoch: head.epoch,
        revision: head.revision,
        service_time: head.service_time,
        rows: rows.collect(),
        recovery,
    }
}

/// Builds a store from what there is, which on a first start is nothing.
fn rebuild(
    disk: &dyn Disk,
    options: OpenOptions,
    epoch_file: EpochFile,
    damaged: Option<&Arc<dyn StorageBackend>>,
) -> Result<(Connection, Opened), OpenError> {
    let export_file = export::read(disk).map_err(OpenError::from_fault)?;
    if let ExportFile::Newer(found) = export_file {
        return Err(OpenError::NewerVersion { found, supported: SCHEMA_VERSION });
    }
    let first_start =
        damaged.is_none() && epoch_file == EpochFile::Missing && export_file == ExportFile::Missing;
    let mut account = Account::default();
    if export_file == ExportFile::Damaged {
        account.add_unknown("the export is damaged and was not used".to_owned());
    }
    if epoch_file == EpochFile::Damaged {
        account
            .lines
            .push("the epoch file is damaged: the epoch follows from the store and the export".to_owned());
    }
    let export = if let ExportFile::Good(export) = export_file { Some(export) } else { None };
    let salvaged = damaged.map(salvage).transpose().map_err(refuse)?;
    let rows = join(salvaged.as_ref(), export.as_ref(), &mut account);

    let mut head = rebuilt_head(epoch_file, salvaged.as_ref(), export.as_ref(), &rows);
    // Where nothing tells of an epoch, there may have been any.
    if head.epoch == Epoch(0).next() {
        head.epoch = options.first_epoch.max(head.epoch);
    }
    let mut moved_to = String::new();
    let connection = build(disk, options, head, rows.values(), || {
        if damaged.is_some() {
            moved_to = disk.keep_damaged()?;
        }
        Ok(())
    })
    .map_err(OpenError::from_fault)?;
    let from = match (salvaged.is_some_and(|salvaged| salvaged.rows() > 0), export.is_some()) {
        (true, true) => "salvage and export",
        (true, false) => "salvage",
        (false, true) => "export",
        (false, false) => "nothing",
    };
    let Account { lines: lost, losses } = account;
    let recovery =
        if first_start { Recovery::Clean } else { Recovery::Rebuilt { moved_to, from, lost, losses } };
    Ok((connection, describe(head, rows.into_values().map(|stored| stored.row), recovery)))
}

/// The newest of everything that was read: a revision or a time that is too new harms nothing, one that has been
/// given out before does.
fn rebuilt_head(
    epoch_file: EpochFile,
    salvaged: Option<&Salvaged>,
    export: Option<&Export>,
    rows: &Joined,
) -> Head {
    let read = salvaged.into_iter().flat_map(|salvaged| salvaged.head.into_iter().chain(salvaged.later));
    let heads = read.chain(export.map(|export| export.head));
    let mut newest = Head { epoch: epoch_file.seen(), ..Head::default() };
    for head in heads {
        newest.epoch = newest.epoch.max(head.epoch);
        newest.revision = newest.revision.max(head.revision);
        newest.service_time = newest.service_time.max(head.service_time);
    }
    for Stored { written: Position { epoch, revision }, .. } in rows.values() {
        newest.epoch = newest.epoch.max(*epoch);
        newest.revision = newest.revision.max(*revision);
    }
    newest.epoch = next_epoch([newest.epoch]);
    newest
}
