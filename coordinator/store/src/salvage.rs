//! Reads what is readable in a damaged database.
//!
//! Called by the opening once the inspection has failed. Works on overlays, so the damaged file stays as it is, and
//! opens a fresh one for every walk, because redb refuses everything after its first failure. It must never return
//! a row whose checksum does not match, nor conceal that a row was there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend};

use crate::export;
use crate::frame::{Head, Stored, decode_value, definition};
use crate::header::{self, Slot};
use crate::inspect::{Finding, check_schema, open_overlay, read_head, with_overlay};
use crate::{SCHEMA_VERSION, Table};

/// What could be read of one table.
#[derive(Debug, Default)]
pub(crate) struct SalvagedTable {
    pub(crate) rows: BTreeMap<Vec<u8>, Stored>,
    /// How many rows the table says it has; unknown if not even that is readable.
    pub(crate) expected: Option<u64>,
    /// Keys, as read, of rows that do not match their checksum.
    pub(crate) damaged: BTreeSet<Vec<u8>>,
    /// Whether a walk reached the table's end.
    pub(crate) complete: bool,
}

/// What could be read of the whole.
#[derive(Debug, Default)]
pub(crate) struct Salvaged {
    pub(crate) head: Option<Head>,
    pub(crate) tables: BTreeMap<Table, SalvagedTable>,
    /// Why nothing at all could be read.
    pub(crate) unreadable: Option<String>,
    /// The commit that counts was not readable, and this is the other one: most likely the one before.
    pub(crate) is_of_other_slot: bool,
}

/// `wanted` are keys to ask for one by one where a walk did not get through.
pub(crate) fn salvage(backend: &Arc<dyn StorageBackend>, wanted: &export::Rows) -> Result<Salvaged, Finding> {
    let recorded = salvage_slot(backend, Slot::Recorded, wanted)?;
    if recorded.unreadable.is_none() {
        return Ok(recorded);
    }
    let other = salvage_slot(backend, Slot::Other, wanted)?;
    Ok(if other.unreadable.is_none() { Salvaged { is_of_other_slot: true, ..other } } else { recorded })
}

fn salvage_slot(
    backend: &Arc<dyn StorageBackend>,
    slot: Slot,
    wanted: &export::Rows,
) -> Result<Salvaged, Finding> {
    let source = Source { backend, slot, least_len: header::stated_len(backend.as_ref()).unwrap_or(0) };
    let mut salvaged = Salvaged::default();
    let mut schema = SCHEMA_VERSION;
    let survey = source.read(|db| {
        // Asked first and for one thing only: a newer build's store is not ours to take apart.
        match check_schema(db) {
            Err(Finding::Newer(version)) => return Err(Finding::Newer(version)),
            Ok(version) => schema = version,
            // Which tables there are is not known then: each one that is not there counts as lost.
            Err(_) => {}
        }
        salvaged.head = read_head(db).ok().flatten();
        Ok(())
    });
    if let Err(Finding::Damaged(reason)) = go_on(survey)? {
        salvaged.unreadable = Some(reason);
        return Ok(salvaged);
    }
    for table in Table::of(schema) {
        let mut found = SalvagedTable::default();
        go_on(source.read(|db| walk(db, table, Direction::Forward, &mut found)))?.ok();
        if !found.complete {
            go_on(source.read(|db| walk(db, table, Direction::Backward, &mut found)))?.ok();
            let keys = wanted.keys().filter(|(of, _)| *of == table).map(|(_, key)| key);
            go_on(source.read(|db| ask(db, table, keys, &mut found)))?.ok();
        }
        salvaged.tables.insert(table, found);
    }
    Ok(salvaged)
}

/// Damage is what a salvage expects; anything else ends it.
fn go_on<T>(result: Result<T, Finding>) -> Result<Result<T, Finding>, Finding> {
    match result {
        Err(finding @ (Finding::Newer(_) | Finding::Unreadable(_))) => Err(finding),
        other => Ok(other),
    }
}

struct Source<'a> {
    backend: &'a Arc<dyn StorageBackend>,
    slot: Slot,
    least_len: u64,
}

impl Source<'_> {
    fn read<T>(&self, work: impl FnOnce(&Database) -> Result<T, Finding>) -> Result<T, Finding> {
        with_overlay(self.backend.clone(), self.least_len, |overlay| {
            if self.slot == Slot::Other {
                header::switch(overlay).map_err(redb::Error::Io)?;
            }
            let db = open_overlay(overlay)?;
            let result = work(&db);
            overlay.stop();
            result
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// Stops at the first page that makes no sense; from the other end, at the first row that is already known.
fn walk(db: &Database, table: Table, direction: Direction, found: &mut SalvagedTable) -> Result<(), Finding> {
    let open = db.begin_read()?.open_table(definition(table))?;
    found.expected = open.len().ok().or(found.expected);
    let mut rows = open.iter()?;
    loop {
        let item = match direction {
            Direction::Forward => rows.next(),
            Direction::Backward => rows.next_back(),
        };
        let Some(item) = item else { break };
        let (key, framed) = item?;
        if direction == Direction::Backward && found.rows.contains_key(key.value()) {
            return Ok(());
        }
        found.take(table, key.value(), framed.value());
    }
    found.complete = true;
    Ok(())
}

fn ask<'k>(
    db: &Database,
    table: Table,
    keys: impl Iterator<Item = &'k Vec<u8>>,
    found: &mut SalvagedTable,
) -> Result<(), Finding> {
    let open = db.begin_read()?.open_table(definition(table))?;
    for key in keys {
        if !found.rows.contains_key(key)
            && let Ok(Some(framed)) = open.get(key.as_slice())
        {
            found.take(table, key, framed.value());
        }
    }
    Ok(())
}

impl SalvagedTable {
    fn take(&mut self, table: Table, key: &[u8], framed: &[u8]) {
        match decode_value(table, key, framed) {
            // Two leaves can hold one key only if a page leads to an outdated one: the newer row is the right one.
            Some(stored) if self.rows.get(key).is_some_and(|known| known.written > stored.written) => {}
            Some(stored) => drop(self.rows.insert(key.to_vec(), stored)),
            None => drop(self.damaged.insert(key.to_vec())),
        }
    }
}
