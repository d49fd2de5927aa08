//! Reads what is readable in a damaged database.
//!
//! Called by the opening once the inspection has failed; only reads. First from a commit's root, which tells what
//! belongs together; then, for what the root does not lead to, from pages anywhere in the file. It must never return
//! a row whose checksum does not match, nor conceal that a row was there, nor call a row certain that was found
//! outside the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hoist_domain::Position;
use redb::StorageBackend;

use crate::frame::{Head, Stored};
use crate::header::Slot;
use crate::inspect::Finding;
use crate::pages::Pages;
use crate::scan::{Scanned, scan};
use crate::tree::{self, Gap, TreeTable};
use crate::{SCHEMA_VERSION, Table};

/// What could be read of one table.
#[derive(Debug, Default)]
pub(crate) struct SalvagedTable {
    pub(crate) rows: BTreeMap<Vec<u8>, Stored>,
    /// How many rows the table says it has; unknown if not even that is readable.
    pub(crate) expected: Option<u64>,
    /// Keys, as read, of rows that do not match their checksum.
    pub(crate) damaged: BTreeSet<Vec<u8>>,
    /// Whether all of it could be seen from the root.
    pub(crate) complete: bool,
    /// How many of the rows were found outside the tree: they may be outdated, or may have been deleted.
    pub(crate) outside: u64,
}

/// What could be read of the whole.
#[derive(Debug, Default)]
pub(crate) struct Salvaged {
    /// Of the commit whose root was followed, or else the newest found anywhere.
    pub(crate) head: Option<Head>,
    /// The newest found anywhere, if it is of a later commit than the root that was followed.
    pub(crate) later: Option<Head>,
    pub(crate) tables: BTreeMap<Table, SalvagedTable>,
    /// Neither of the two newest commits could be followed from its root.
    pub(crate) rootless: bool,
    /// The commit that was followed does not say which it is: `head` is of an older one.
    pub(crate) headless: bool,
    /// The commit that counts was not readable, and this is the other one: most likely the one before.
    pub(crate) is_of_other_slot: bool,
}

impl Salvaged {
    pub(crate) fn rows(&self) -> usize {
        self.tables.values().map(|table| table.rows.len()).sum()
    }

    /// Whether a commit is missing that is later than what the root says.
    pub(crate) fn is_outdated(&self) -> bool {
        self.is_of_other_slot || self.later.is_some()
    }
}

pub(crate) fn salvage(backend: &Arc<dyn StorageBackend>) -> Result<Salvaged, Finding> {
    let mut found = tree::read(&mut Pages::new(backend)?, Slot::Recorded)?;
    let is_recorded = found.is_some();
    if !is_recorded {
        found = tree::read(&mut Pages::new(backend)?, Slot::Other)?;
    }
    let is_of_other_slot = !is_recorded && found.is_some();
    let mut scanned = scan(&mut Pages::new(backend)?)?;
    let rootless = found.is_none();
    let tree = found.unwrap_or_default();
    let schema = tree.schema.or(scanned.schema).unwrap_or(SCHEMA_VERSION);
    if schema > SCHEMA_VERSION {
        // A newer build's store is not ours to take apart.
        return Err(Finding::Newer(schema));
    }
    let place = |head: Head| (head.epoch, head.revision);
    let later = scanned.head.filter(|newest| tree.head.is_some_and(|head| place(*newest) > place(head)));
    let tables = join(tree.tables, &mut scanned, tree.head, is_of_other_slot || later.is_some(), schema);
    let head = tree.head.or(scanned.head);
    let headless = !rootless && tree.head.is_none();
    Ok(Salvaged { head, later, tables, rootless, headless, is_of_other_slot })
}

fn join(
    mut trees: BTreeMap<Table, TreeTable>,
    scanned: &mut Scanned,
    head: Option<Head>,
    is_outdated: bool,
    schema: u32,
) -> BTreeMap<Table, SalvagedTable> {
    let as_of = head.map(|head| Position { epoch: head.epoch, revision: head.revision });
    let mut tables = BTreeMap::new();
    for table in Table::ALL {
        let outside = scanned.rows.remove(&table).unwrap_or_default();
        let tree = match trees.remove(&table) {
            Some(tree) => tree,
            // Not there yet in a store of this layout, rather than not readable.
            None if table.since() > schema => continue,
            None => TreeTable { gaps: vec![Gap::EVERYTHING], ..TreeTable::default() },
        };
        let later = as_of.filter(|_| is_outdated);
        tables.insert(table, complete(tree, outside, later));
    }
    tables
}

/// Joins what the root leads to with what lies elsewhere. With `later`, rows that were written after it count too:
/// the root is not the newest one.
fn complete(tree: TreeTable, outside: BTreeMap<Vec<u8>, Stored>, later: Option<Position>) -> SalvagedTable {
    let TreeTable { rows, expected, damaged, gaps } = tree;
    let is_all_there = expected == Some(rows.len() as u64);
    let mut found =
        SalvagedTable { rows, expected, damaged, complete: gaps.is_empty() && is_all_there, outside: 0 };
    let known = |found: &SalvagedTable, key: &[u8], stored: &Stored| {
        found.rows.get(key).is_some_and(|known| known.written >= stored.written)
    };
    let (mut inside_gaps, mut rest) = (Vec::new(), Vec::new());
    for (key, stored) in outside {
        if known(&found, &key, &stored) {
            continue;
        }
        if later.is_some_and(|later| stored.written > later) || gaps.iter().any(|gap| gap.contains(&key)) {
            inside_gaps.push((key, stored));
        } else {
            rest.push((key, stored));
        }
    }
    let take = |found: &mut SalvagedTable, rows: Vec<(Vec<u8>, Stored)>| {
        for (key, stored) in rows {
            found.outside += 1;
            found.rows.insert(key, stored);
        }
    };
    take(&mut found, inside_gaps);
    // Bounds of gaps are read from pages that may be damaged too: rows are missing that are not where they should be.
    if found.expected.is_some_and(|expected| (found.rows.len() as u64) < expected) {
        rest.retain(|(key, _)| !found.rows.contains_key(key));
        take(&mut found, rest);
    }
    found
}
