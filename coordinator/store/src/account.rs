//! Joins what was salvaged with the export, and says what is lost by it.
//!
//! Called by the opening when it rebuilds. Every row that exists anywhere is kept, the newer of two; a row that may
//! be outdated is said to be so. It must never make a loss look smaller than it may be.

use std::collections::BTreeMap;

use crate::export::Export;
use crate::frame::Stored;
use crate::salvage::{Salvaged, SalvagedTable};
use crate::{Losses, Row, Table};

/// Lines about single damaged rows, per table, before the rest is counted: a report is for people to read.
const MOST_LINES: usize = 100;

pub(crate) type Joined = BTreeMap<(Table, Vec<u8>), Stored>;

/// What is lost, for people, one line each; and how much that is.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) lines: Vec<String>,
    pub(crate) losses: Losses,
}

impl Account {
    /// Something whose extent nobody knows.
    pub(crate) fn add_unknown(&mut self, line: String) {
        self.lines.push(line);
        self.losses.is_lower_bound = true;
    }

    fn add(&mut self, rows: u64, line: String) {
        self.lines.push(line);
        self.losses.rows = self.losses.rows.saturating_add(rows);
    }
}

/// All rows that exist anywhere, the newer of two; what does not exist goes to the account. Nothing salvaged: there
/// was no database.
pub(crate) fn join(salvaged: Option<&Salvaged>, export: Option<&Export>, account: &mut Account) -> Joined {
    let mut rows = Joined::new();
    let read = salvaged.filter(|salvaged| !salvaged.rootless || salvaged.rows() > 0);
    match (salvaged, read) {
        (_, Some(salvaged)) if salvaged.rootless => account.add_unknown(
            "neither of the newest commits is readable; rows were taken from wherever they lie in the file"
                .to_owned(),
        ),
        (_, Some(salvaged)) if salvaged.headless => account.lines.push(
            "the record of the newest commit is not readable: its revision follows from the rows".to_owned(),
        ),
        (_, Some(_)) => {}
        (Some(_), None) => account.add_unknown(nothing_read("no row was found in it", export)),
        (None, None) => account.add_unknown(nothing_read("there is none", export)),
    }
    for (table, found) in read.iter().flat_map(|salvaged| &salvaged.tables) {
        rows.extend(found.rows.iter().map(|(key, stored)| ((*table, key.clone()), stored.clone())));
    }
    for table in Table::ALL {
        let taken = export.map_or(0, |export| take_newer(&mut rows, export, table));
        let Some(salvaged) = read else { continue };
        let name = table.as_str();
        if let Some(export) = export
            && taken > 0
        {
            account.add_unknown(format!(
                "{name}: {taken} rows are as of the export of revision {}: later changes and deletions are lost",
                export.head.revision
            ));
        }
        if let Some(found) = salvaged.tables.get(&table) {
            tell(table, found, &rows, account);
        }
        if let (true, Some(head)) = (salvaged.is_outdated(), salvaged.head) {
            account.add_unknown(format!(
                "{name}: rows are as of revision {}: a later commit is not readable, and what it changed may be lost",
                head.revision
            ));
        }
    }
    rows
}

fn nothing_read(reason: &str, export: Option<&Export>) -> String {
    match export {
        Some(export) => format!(
            "nothing was read from the database ({reason}): what changed after the export of revision {} is lost",
            export.head.revision
        ),
        None => format!("nothing was read from the database ({reason}) and there is no export"),
    }
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
fn tell(table: Table, found: &SalvagedTable, rows: &Joined, account: &mut Account) {
    let name = table.as_str();
    let missing: Vec<_> =
        found.damaged.iter().filter(|key| !rows.contains_key(&(table, (*key).clone()))).collect();
    for key in missing.iter().take(MOST_LINES) {
        let shown = key.get(..64).unwrap_or(key).escape_ascii();
        account.lines.push(format!("{name}: the row \"{shown}\" does not match its checksum"));
    }
    if missing.len() > MOST_LINES {
        let more = missing.len() - MOST_LINES;
        account.lines.push(format!("{name}: {more} more rows do not match their checksums"));
    }
    if found.outside > 0 {
        account.add_unknown(format!(
            "{name}: {} rows were found outside the tree: some of them may be outdated, or may have been deleted before",
            found.outside
        ));
    }
    let kept = rows.keys().filter(|(of, _)| *of == table).count() as u64;
    match found.expected {
        Some(expected) if kept < expected => {
            account.add(expected - kept, format!("{name}: {} of {expected} rows are lost", expected - kept));
        }
        Some(expected) if kept > expected => account.add_unknown(format!(
            "{name}: there were {expected} rows, and now there are {kept}: deleted ones have come back"
        )),
        // What was found outside has filled the table up, as far as numbers tell; that it may be wrong has been said.
        Some(_) if !found.complete && found.outside == 0 => account
            .add_unknown(format!("{name}: some rows may be lost, the table was not readable to its end")),
        Some(_) => {}
        None => account
            .add_unknown(format!("{name}: the table was not readable; how many rows are lost is not known")),
    }
}
