//! A damaged store is never believed, never silently empty, and gives back what can be read.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hoist_domain::Revision;
use hoist_store::{Batch, ExportHeader, Losses, OpenOptions, Opened, Recovery, Row, Table, Write, open};
use support::{Random, Rows, apply, as_map, as_rows, batch, put, scattered, seeds};

/// What was in a directory when it was damaged.
struct Before {
    rows: Rows,
    /// The same without the newest commit.
    older: Rows,
    exported: Option<Rows>,
    /// Every row there ever was.
    ever: BTreeSet<Row>,
    store: Vec<u8>,
}

fn ever(ever: &mut BTreeSet<Row>, batch: &Batch) {
    ever.extend(batch.writes.iter().filter_map(|write| match write {
        Write::Put(row) => Some(row.clone()),
        Write::Delete { .. } => None,
    }));
}

/// A directory whose store has a few hundred bytes to a few pages in each table; closed, or as a kill leaves it.
fn fill(directory: &Path, random: &mut Random) -> Before {
    let (mut store, mut exporter, opened) = open(directory, OpenOptions::default()).unwrap();
    assert_eq!(opened.recovery, Recovery::Clean);
    let mut rows = Rows::new();
    let mut known = BTreeSet::new();
    let (mut older, mut exported) = (Rows::new(), None);
    let export_at = random.below(12);
    for revision in 1..=8 {
        let mut batch = scattered(random, revision);
        for number in 0..random.below(20) {
            let value = vec![revision.to_le_bytes()[0]; 300];
            batch.writes.push(put(Table::Operations, &format!("many/{}", revision * 100 + number), &value));
        }
        store.commit(&batch).unwrap();
        older.clone_from(&rows);
        apply(&mut rows, &batch);
        ever(&mut known, &batch);
        if revision == export_at {
            let header = ExportHeader { revision: batch.revision, service_time: batch.service_time };
            exporter.export(header, &mut as_rows(&rows)).unwrap();
            exported = Some(rows.clone());
        }
    }
    let file = directory.join("store.redb");
    let mut bytes = fs::read(&file).unwrap();
    drop((store, exporter));
    if random.below(2) == 0 {
        bytes = fs::read(&file).unwrap();
    }
    Before { rows, older, exported, ever: known, store: bytes }
}

/// Opens what has been damaged, and holds the result against what was there. Says whether it was rebuilt.
fn check(directory: &Path, before: &Before, damaged: &[u8], what: &str) -> bool {
    fs::write(directory.join("store.redb"), damaged).unwrap();
    let (store, _, opened) =
        open(directory, OpenOptions::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
    drop(store);
    let rows = as_map(&opened.rows);
    let rebuilt = match &opened.recovery {
        Recovery::Clean => {
            // Not `assert_eq`: the maps would fill pages.
            assert!(rows == before.rows, "{what}: silently lost or changed something");
            false
        }
        Recovery::Rebuilt { moved_to, from, lost, losses } => {
            assert_eq!(fs::read(directory.join(moved_to)).unwrap(), damaged, "{what}: the evidence changed");
            assert_eq!(from.contains("export"), before.exported.is_some(), "{what}");
            check_account(before, &rows, lost, what);
            check_losses(before, &rows, *losses, what);
            true
        }
    };
    let (_store, _, again) = open(directory, OpenOptions::default()).unwrap();
    assert_eq!(again.recovery, Recovery::Clean, "{what}");
    assert_eq!(as_map(&again.rows), rows, "{what}");
    assert!(again.epoch > opened.epoch && again.revision == opened.revision, "{what}");
    rebuilt
}

fn check_account(before: &Before, rows: &Rows, lost: &[String], what: &str) {
    let exported = before.exported.clone().unwrap_or_default();
    for key in exported.keys() {
        assert!(rows.contains_key(key), "{what}: {key:?} was in the export");
    }
    for table in Table::ALL {
        let told =
            |part: &str| lost.iter().any(|line| line.starts_with(table.as_str()) && line.contains(part));
        let nothing_read = lost.iter().any(|line| line.starts_with("nothing was read"));
        let of_table = |map: &Rows| map.iter().filter(|((of, _), _)| *of == table).count();
        for (key, value) in rows.iter().filter(|((of, _), _)| *of == table) {
            if before.rows.get(key) != Some(value) {
                let row = Row { table, key: key.1.clone(), value: value.clone() };
                assert!(before.ever.contains(&row), "{what}: {key:?} was never like this");
                let is_older = told("a later commit") && before.older.get(key) == Some(value);
                let is_exported = exported.get(key) == Some(value) && (told("export") || nothing_read);
                let is_told = is_older || is_exported || told("outside the tree");
                assert!(is_told, "{what}: nobody said {key:?} is outdated: {lost:?}");
            }
        }
        let missing = before.rows.keys().any(|key| key.0 == table && !rows.contains_key(key));
        let kept = of_table(rows);
        assert!(
            !missing || told("") || nothing_read,
            "{what}: kept {kept} of {} {table:?}, told: {lost:?}",
            of_table(&before.rows)
        );
    }
}

/// What is missing is counted, or it is said that the number is not the whole.
fn check_losses(before: &Before, rows: &Rows, losses: Losses, what: &str) {
    let missing = before.rows.keys().filter(|key| !rows.contains_key(*key)).count() as u64;
    assert!(losses.rows <= missing, "{what}: {losses:?}, but {missing} are missing");
    assert!(
        losses.is_lower_bound || (losses.rows == missing),
        "{what}: {losses:?}, but {missing} are missing"
    );
    let is_changed = rows.iter().any(|(key, value)| before.rows.get(key) != Some(value));
    assert!(losses.is_lower_bound || !is_changed, "{what}: {losses:?}, but some rows are outdated");
}

/// Half of all damage goes where something is written: most of a small file is not in use.
fn damaged_place(random: &mut Random, bytes: &[u8]) -> usize {
    let start = usize::try_from(random.below(bytes.len() as u64)).unwrap();
    if random.below(8) == 0 {
        return start;
    }
    (start..bytes.len()).find(|at| bytes[*at] != 0).unwrap_or(start)
}

#[test]
fn flipped_bits_never_change_a_row_unnoticed() {
    let mut rebuilt = 0;
    for seed in 0..seeds(300) {
        let directory = tempfile::tempdir().unwrap();
        let mut random = Random::new(seed);
        let before = fill(directory.path(), &mut random);
        let mut damaged = before.store.clone();
        for _ in 0..=random.below(3) {
            let at = if random.below(6) == 0 {
                usize::try_from(random.below(320)).unwrap()
            } else {
                damaged_place(&mut random, &damaged)
            };
            damaged[at] ^= 1 << random.below(8);
        }
        rebuilt += u64::from(check(directory.path(), &before, &damaged, &format!("seed {seed}")));
    }
    assert!(rebuilt > 30, "only {rebuilt} stores were hit");
}

#[test]
fn no_bit_of_the_database_header_can_undo_a_commit() {
    for seed in 0..2 {
        let directory = tempfile::tempdir().unwrap();
        let mut random = Random::new(seed);
        let before = fill(directory.path(), &mut random);
        // The flags, the numbers by which the newer commit is known, and some of the rest.
        let numbers = (168 * 8..170 * 8).chain(296 * 8..298 * 8);
        for bit in (72..80).chain(numbers).chain((0..320 * 8).step_by(if seed == 0 { 37 } else { 41 })) {
            let mut damaged = before.store.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            check(directory.path(), &before, &damaged, &format!("seed {seed}, bit {bit}"));
        }
    }
}

#[test]
fn garbage_and_missing_pieces_are_survived() {
    for seed in 0..seeds(90) {
        let directory = tempfile::tempdir().unwrap();
        let mut random = Random::new(seed + 10_000);
        let before = fill(directory.path(), &mut random);
        let mut damaged = before.store.clone();
        let at = damaged_place(&mut random, &damaged);
        match seed % 3 {
            0 => damaged.truncate(at),
            1 => {
                let end = (at + 4096).min(damaged.len());
                damaged[at..end].fill_with(|| random.below(256).to_le_bytes()[0]);
            }
            _ => {
                let end = (at / 4096 * 4096 + 4096).min(damaged.len());
                damaged[at / 4096 * 4096..end].fill(0);
            }
        }
        check(directory.path(), &before, &damaged, &format!("seed {seed}"));
    }
}

#[test]
fn files_that_are_no_store_are_moved_aside() {
    for (what, content) in [("empty", vec![]), ("short", b"redb".to_vec()), ("text", vec![b'x'; 100_000])] {
        for exported in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let (mut store, mut exporter, _) = open(directory.path(), OpenOptions::default()).unwrap();
            let only = batch(1, vec![put(Table::Requests, "key", b"value")]);
            store.commit(&only).unwrap();
            let mut rows = Rows::new();
            apply(&mut rows, &only);
            if exported {
                let header = ExportHeader { revision: only.revision, service_time: only.service_time };
                exporter.export(header, &mut as_rows(&rows)).unwrap();
            }
            drop((store, exporter));
            let before = Before {
                rows: rows.clone(),
                older: Rows::new(),
                exported: exported.then_some(rows),
                ever: {
                    let mut known = BTreeSet::new();
                    ever(&mut known, &only);
                    known
                },
                store: vec![],
            };
            assert!(check(directory.path(), &before, &content, what), "{what} is not a store");
        }
    }
}

fn rebuilt(opened: &Opened) -> (&str, &str, &[String]) {
    match &opened.recovery {
        Recovery::Rebuilt { moved_to, from, lost, .. } => (moved_to, from, lost),
        Recovery::Clean => panic!("clean"),
    }
}

#[test]
fn a_missing_store_is_never_silently_empty() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (mut store, _, first) = open(path, OpenOptions::default()).unwrap();
    store.commit(&batch(7, vec![put(Table::Operations, "a", b"1")])).unwrap();
    drop(store);

    fs::remove_file(path.join("store.redb")).unwrap();
    let (mut store, mut exporter, second) = open(path, OpenOptions::default()).unwrap();
    let (moved_to, from, lost) = rebuilt(&second);
    assert_eq!((moved_to, from, lost.len()), ("", "nothing", 1), "{lost:?}");
    assert!(second.epoch > first.epoch && second.rows.is_empty());

    let again = batch(9, vec![put(Table::Operations, "a", b"2")]);
    store.commit(&again).unwrap();
    let mut rows = Rows::new();
    apply(&mut rows, &again);
    let header = ExportHeader { revision: again.revision, service_time: again.service_time };
    exporter.export(header, &mut as_rows(&rows)).unwrap();
    drop((store, exporter));

    // The export alone, without the epoch file, still carries the epoch on.
    fs::remove_file(path.join("store.redb")).unwrap();
    fs::remove_file(path.join("epoch")).unwrap();
    let (store, _, third) = open(path, OpenOptions::default()).unwrap();
    assert_eq!(rebuilt(&third).1, "export");
    assert_eq!((third.revision, third.service_time.0), (Revision(9), 90));
    assert_eq!(as_map(&third.rows), rows);
    assert!(third.epoch > second.epoch);
    drop(store);

    // A torn export is not used, and that is said.
    fs::remove_file(path.join("store.redb")).unwrap();
    let export = fs::read(path.join("store.export")).unwrap();
    fs::write(path.join("store.export"), &export[..export.len() - 5]).unwrap();
    let (_store, _, fourth) = open(path, OpenOptions::default()).unwrap();
    let (_, from, lost) = rebuilt(&fourth);
    assert_eq!(from, "nothing");
    assert!(lost.iter().any(|line| line.contains("export is damaged")), "{lost:?}");
    assert!(fourth.epoch > third.epoch);
}

#[test]
fn a_row_written_after_the_export_wins_over_the_export() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (mut store, mut exporter, _) = open(path, OpenOptions::default()).unwrap();
    let old = batch(1, vec![put(Table::Operations, "a", b"old"), put(Table::Operations, "b", b"old")]);
    store.commit(&old).unwrap();
    let mut rows = Rows::new();
    apply(&mut rows, &old);
    let header = ExportHeader { revision: old.revision, service_time: old.service_time };
    exporter.export(header, &mut as_rows(&rows)).unwrap();
    store.commit(&batch(2, vec![put(Table::Operations, "a", b"new value of a")])).unwrap();
    store.commit(&batch(3, vec![put(Table::Operations, "b", b"new value of b")])).unwrap();
    drop((store, exporter));
    let file = path.join("store.redb");
    let mut bytes = fs::read(&file).unwrap();
    let needle = b"new value of b";
    // Every copy: which page is the one in use is the database's business.
    for at in 0..bytes.len() - needle.len() {
        if bytes[at..at + needle.len()] == *needle {
            bytes[at] ^= 4;
        }
    }
    fs::write(&file, bytes).unwrap();
    let (_store, _, opened) = open(path, OpenOptions::default()).unwrap();
    assert_eq!(opened.revision, Revision(3));
    let (_, from, lost) = rebuilt(&opened);
    assert_eq!(from, "salvage and export");
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(lost[0].starts_with("operations: 1 rows were found outside the tree"), "{lost:?}");
    let rows = as_map(&opened.rows);
    assert_eq!(rows[&(Table::Operations, b"a".to_vec())], b"new value of a");
    assert_eq!(rows[&(Table::Operations, b"b".to_vec())], b"old");
}
