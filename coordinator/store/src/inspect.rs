//! Reads and verifies a whole database without changing it.
//!
//! Called by the opening, before redb may open the file for writing. redb's own check walks the trees from the
//! commit's root by checksum, so no row can be missing, stale or foreign without a finding; the frames then vouch
//! for each row's bytes. It must never report a database as good of which it has not seen every page in use.

use std::sync::Arc;

use redb::{Builder, Database, ReadableDatabase, ReadableTable, StorageBackend};

use crate::fault::Fault;
use crate::frame::{HEAD_KEY, Head, META, SCHEMA_KEY, Stored, decode_schema, decode_value, definition};
use crate::header::{self, Slot};
use crate::overlay::Overlay;
use crate::quiet;
use crate::{OLDEST_SCHEMA, SCHEMA_VERSION, Table};

/// Everything in a database that is as it should be.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) head: Head,
    /// Ordered by table, then key.
    pub(crate) rows: Vec<Stored>,
}

/// What is wrong with a database.
#[derive(Debug)]
pub(crate) enum Finding {
    /// Written by a newer build: hands off.
    Newer(u32),
    /// Damaged; the text says how, for the log.
    Damaged(String),
    /// The file system could not read it, which says nothing about what it holds.
    Unreadable(Fault),
}

impl<E: Into<redb::Error>> From<E> for Finding {
    fn from(error: E) -> Self {
        Self::Damaged(error.into().to_string())
    }
}

pub(crate) fn inspect(backend: Arc<dyn StorageBackend>, slot: Slot) -> Result<Contents, Finding> {
    with_overlay(backend, |overlay| {
        if overlay.len().unwrap_or(0) == 0 {
            return Err(Finding::Damaged("the file is empty".to_owned()));
        }
        if slot == Slot::Other {
            header::switch(overlay).map_err(redb::Error::Io)?;
        }
        let mut db = open_overlay(overlay)?;
        let result = examine(&mut db);
        // Before the database is dropped, which would otherwise write its closing record.
        overlay.stop();
        result
    })
}

fn examine(db: &mut Database) -> Result<Contents, Finding> {
    let schema = check_schema(db)?;
    if !db.check_integrity()? {
        return Err(Finding::Damaged("the check found pages that do not belong together".to_owned()));
    }
    load(db, schema)
}

/// Runs `work` on an overlay of the file. A panic is a finding; so is nothing said after the file system failed.
fn with_overlay<T>(
    backend: Arc<dyn StorageBackend>,
    work: impl FnOnce(&Overlay) -> Result<T, Finding>,
) -> Result<T, Finding> {
    let overlay = Overlay::new(backend)
        .map_err(|error| Finding::Unreadable(Fault::new(crate::Call::Read, crate::disk::STORE, &error)))?;
    let result = quiet::catch(|| work(&overlay)).unwrap_or_else(|text| Err(Finding::Damaged(text)));
    overlay.stop();
    match overlay.take_fault() {
        Some(fault) => Err(Finding::Unreadable(fault)),
        None => result,
    }
}

/// No page cache: every page read passes the overlay's count, and each page is needed about once.
fn open_overlay(overlay: &Overlay) -> Result<Database, Finding> {
    Ok(Builder::new().set_cache_size(0).create_with_backend(overlay.clone())?)
}

/// The layout of what is stored, if this build knows it.
fn check_schema(db: &Database) -> Result<u32, Finding> {
    let record = db.begin_read()?.open_table(META)?.get(SCHEMA_KEY)?;
    match record.as_ref().and_then(|record| decode_schema(record.value())) {
        Some(version) if version > SCHEMA_VERSION => Err(Finding::Newer(version)),
        Some(version) if version >= OLDEST_SCHEMA => Ok(version),
        Some(_) | None => Err(Finding::Damaged("the schema record is not readable".to_owned())),
    }
}

fn read_head(db: &Database) -> Result<Option<Head>, Finding> {
    let record = db.begin_read()?.open_table(META)?.get(HEAD_KEY)?;
    Ok(record.as_ref().and_then(|record| Head::decode(record.value())))
}

fn load(db: &Database, schema: u32) -> Result<Contents, Finding> {
    let head = read_head(db)?;
    let head = head.ok_or_else(|| Finding::Damaged("the head record is not readable".to_owned()))?;
    let transaction = db.begin_read()?;
    let mut rows = Vec::new();
    for table in Table::of(schema) {
        for item in transaction.open_table(definition(table))?.iter()? {
            let (key, framed) = item?;
            let stored = decode_value(table, key.value(), framed.value());
            let damaged =
                || Finding::Damaged(format!("a row of {} does not match its checksum", table.as_str()));
            rows.push(stored.ok_or_else(damaged)?);
        }
    }
    Ok(Contents { head, rows })
}
