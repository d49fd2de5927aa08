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

use std::collections::BTreeMap;
use std::sync::Arc;

use hoist_domain::{Epoch, Position};
use redb::StorageBackend;

use crate::disk::Disk;
use crate::engine::{Connection, Engine, build};
use crate::epoch::{self, EpochFile};
use crate::export::{self, Export, ExportFile};
use crate::fault::{Call, Fault, OpenError};
use crate::frame::{Head, Stored};
use crate::header::{self, Slot};
use crate::inspect::{Contents, Finding, inspect};
use crate::salvage::{Salvaged, SalvagedTable, salvage};
use crate::{OpenOptions, Opened, Recovery, Row, SCHEMA_VERSION, Store, Table, disk};

/// Lines about single damaged rows, per table, before the rest is counted: a report is for people to read.
const MOST_LINES: usize = 100;

type Joined = BTreeMap<(Table, Vec<u8>), Stored>;

pub(crate) fn open_on(
    disk: Box<dyn Disk>,
    options: OpenOptions,
) -> Result<(Box<dyn Store>, Opened), OpenError> {
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
    Ok((Box::new(Engine::new(connection, disk, options, opened.epoch)), opened))
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
    let mut lost = Vec::new();
    if export_file == ExportFile::Damaged {
        lost.push("the export is damaged and was not used".to_owned());
    }
    if epoch_file == EpochFile::Damaged {
        lost.push("the epoch file is damaged: the epoch follows from the store and the export".to_owned());
    }
    let export = if let ExportFile::Good(export) = export_file { Some(export) } else { None };
    let salvaged = match damaged {
        Some(backend) => {
            let nothing = export::Rows::new();
            let wanted = export.as_ref().map_or(&nothing, |export| &export.rows);
            salvage(backend, wanted).map_err(refuse)?
        }
        None => Salvaged { unreadable: Some("there is no database".to_owned()), ..Salvaged::default() },
    };
    let (rows, account) = join(&salvaged, export.as_ref());
    lost.extend(account);

    let head = rebuilt_head(epoch_file, &salvaged, export.as_ref(), &rows);
    let mut moved_to = String::new();
    let connection = build(disk, options, head, rows.values(), || {
        if damaged.is_some() {
            moved_to = disk.keep_damaged()?;
        }
        Ok(())
    })
    .map_err(OpenError::from_fault)?;
    let from = match (salvaged.unreadable.is_none(), export.is_some()) {
        (true, true) => "salvage and export",
        (true, false) => "salvage",
        (false, true) => "export",
        (false, false) => "nothing",
    };
    let recovery = if first_start { Recovery::Clean } else { Recovery::Rebuilt { moved_to, from, lost } };
    Ok((connection, describe(head, rows.into_values().map(|stored| stored.row), recovery)))
}

/// The newest of everything that was read: a revision or a time that is too new harms nothing, one that has been
/// given out before does.
fn rebuilt_head(epoch_file: EpochFile, salvaged: &Salvaged, export: Option<&Export>, rows: &Joined) -> Head {
    let heads = salvaged.head.into_iter().chain(export.map(|export| export.head));
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

/// All rows that exist anywhere, the newer of two, and one line for each thing that does not.
fn join(salvaged: &Salvaged, export: Option<&Export>) -> (Joined, Vec<String>) {
    let mut rows = Joined::new();
    for (table, found) in &salvaged.tables {
        rows.extend(found.rows.iter().map(|(key, stored)| ((*table, key.clone()), stored.clone())));
    }
    let mut lost = Vec::new();
    if let Some(reason) = &salvaged.unreadable {
        lost.push(match export {
            Some(export) => format!(
                "nothing was read from the database ({reason}): what changed after the export of revision {} is lost",
                export.head.revision
            ),
            None => format!("nothing was read from the database ({reason}) and there is no export"),
        });
    }
    for table in Table::ALL {
        let taken = export.map_or(0, |export| take_newer(&mut rows, export, table));
        if let Some(export) = export
            && taken > 0
            && salvaged.unreadable.is_none()
        {
            lost.push(format!(
                "{}: {taken} rows are as of the export of revision {}: later changes and deletions are lost",
                table.as_str(),
                export.head.revision
            ));
        }
        if let Some(found) = salvaged.tables.get(&table) {
            account(table, found, &rows, &mut lost);
        }
        if let (true, Some(head)) = (salvaged.is_of_other_slot, salvaged.head) {
            lost.push(format!(
                "{}: rows are as of revision {}: a later commit is not readable, and what it changed is lost",
                table.as_str(),
                head.revision
            ));
        }
    }
    (rows, lost)
}

/// Takes the export's row where it is the only one, or newer than the salvaged one. Says how many.
fn take_newer(rows: &mut Joined, export: &Export, table: Table) -> usize {
    let mut taken = 0;
    for ((_, key), value) in export.rows.iter().filter(|((of, _), _)| *of == table) {
        let place = (table, key.clone());
        let known = rows.get(&place);
        // A row that was written before the export and reads the same is the same row.
        if known.is_some_and(|known| known.written > export.position() || known.row.value == *value) {
            continue;
        }
        let row = Row { table, key: key.clone(), value: value.clone() };
        rows.insert(place, Stored { row, written: export.position() });
        taken += 1;
    }
    taken
}

/// What the damaged table held, as far as it says, and is not among the rows now.
fn account(table: Table, found: &SalvagedTable, rows: &Joined, lost: &mut Vec<String>) {
    let name = table.as_str();
    let missing: Vec<_> =
        found.damaged.iter().filter(|key| !rows.contains_key(&(table, (*key).clone()))).collect();
    for key in missing.iter().take(MOST_LINES) {
        let shown = key.get(..64).unwrap_or(key).escape_ascii();
        lost.push(format!("{name}: the row \"{shown}\" does not match its checksum"));
    }
    if missing.len() > MOST_LINES {
        lost.push(format!("{name}: {} more rows do not match their checksums", missing.len() - MOST_LINES));
    }
    let kept = rows.keys().filter(|(of, _)| *of == table).count() as u64;
    match found.expected {
        Some(expected) if kept < expected => {
            lost.push(format!("{name}: {} of {expected} rows are lost", expected - kept));
        }
        Some(_) if !found.complete => {
            lost.push(format!("{name}: some rows may be lost, the table was not readable to its end"));
        }
        Some(_) => {}
        None => lost.push(format!("{name}: the table was not readable; how many rows are lost is not known")),
    }
}
