//! Exports beside commits: what the one finds holds for the other, and what is there is never replaced by less.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::fs;

use hoist_domain::Revision;
use hoist_store::simulate::{SimulatedDisk, open_simulated};
use hoist_store::{
    Call, CommitError, ExportError, ExportHeader, OpenOptions, Opened, Recovery, Row, Table, open,
};
use support::{Rows, apply, as_map, as_rows, batch, put};

fn header(revision: u64) -> ExportHeader {
    ExportHeader { revision: Revision(revision), ..ExportHeader::default() }
}

/// What the export holds, seen by a start that has nothing else.
fn exported(disk: &SimulatedDisk) -> Opened {
    disk.power_cut(1);
    disk.remove_store();
    let (_, _, opened) = open_simulated(disk).unwrap();
    assert!(matches!(opened.recovery, Recovery::Rebuilt { from: "export", .. }), "{:?}", opened.recovery);
    opened
}

/// Rows, and something that happens before the last of them is asked for.
fn interrupted(rows: &Rows, happens: impl FnOnce()) -> impl Iterator<Item = Row> {
    let mut rows: Vec<Row> = as_rows(rows).collect();
    let last = rows.pop();
    rows.into_iter().chain(
        std::iter::once_with(move || {
            happens();
            last
        })
        .flatten(),
    )
}

#[test]
fn a_commit_does_not_wait_for_an_export_and_is_not_in_it() {
    let disk = SimulatedDisk::new();
    let (mut store, mut exporter, _) = open_simulated(&disk).unwrap();
    let mut rows = Rows::new();
    let first = batch(1, vec![put(Table::Operations, "a", b"1"), put(Table::Operations, "b", b"1")]);
    store.commit(&first).unwrap();
    apply(&mut rows, &first);
    let second = batch(2, vec![put(Table::Operations, "a", b"2")]);
    let meanwhile = || store.commit(&second).unwrap();
    exporter.export(header(1), &mut interrupted(&rows, meanwhile)).unwrap();
    let opened = exported(&disk);
    assert_eq!((opened.revision, as_map(&opened.rows)), (Revision(1), rows));
}

#[test]
fn an_export_never_replaces_one_that_is_newer() {
    let disk = SimulatedDisk::new();
    let (mut store, mut exporter, _) = open_simulated(&disk).unwrap();
    let mut rows = Rows::new();
    let newer = batch(2, vec![put(Table::Operations, "a", b"2")]);
    store.commit(&newer).unwrap();
    apply(&mut rows, &newer);
    exporter.export(header(2), &mut as_rows(&rows)).unwrap();
    let older = put(Table::Operations, "a", b"1");
    let hoist_store::Write::Put(older) = older else { panic!("{older:?}") };
    exporter.export(header(1), &mut std::iter::once(older)).unwrap();
    let opened = exported(&disk);
    assert_eq!((opened.revision, as_map(&opened.rows)), (Revision(2), rows));
}

#[test]
fn a_store_that_breaks_while_it_is_exported_keeps_the_export_before() {
    let disk = SimulatedDisk::new();
    let (mut store, mut exporter, _) = open_simulated(&disk).unwrap();
    let mut rows = Rows::new();
    let first = batch(1, vec![put(Table::Operations, "a", b"1"), put(Table::Operations, "b", b"1")]);
    store.commit(&first).unwrap();
    apply(&mut rows, &first);
    exporter.export(header(1), &mut as_rows(&rows)).unwrap();
    let mut later = rows.clone();
    apply(&mut later, &batch(2, vec![put(Table::Operations, "c", b"2")]));
    let breaks = || {
        disk.fail_syncs(true);
        assert!(matches!(store.commit(&batch(2, vec![])), Err(CommitError::Broken(_))));
        disk.fail_syncs(false);
    };
    let error = exporter.export(header(2), &mut interrupted(&later, breaks)).unwrap_err();
    let ExportError::Broken(fault) = error else { panic!("{error:?}") };
    assert_eq!(fault.call, Call::Sync, "as the commit has found it");
    let opened = exported(&disk);
    assert_eq!((opened.revision, as_map(&opened.rows)), (Revision(1), rows));
}

#[test]
fn what_is_taken_away_while_it_is_exported_ends_the_store_and_is_not_written_to_by_closing_it() {
    for name in ["lock", "store.redb"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (mut store, mut exporter, _) = open(path, OpenOptions::default()).unwrap();
        let mut rows = Rows::new();
        let first = batch(1, vec![put(Table::Operations, "a", b"1"), put(Table::Operations, "b", b"1")]);
        store.commit(&first).unwrap();
        apply(&mut rows, &first);
        exporter.export(header(1), &mut as_rows(&rows)).unwrap();
        let before = fs::read(path.join("store.export")).unwrap();
        let taken = || fs::rename(path.join(name), path.join("taken")).unwrap();
        let error = exporter.export(header(2), &mut interrupted(&rows, taken)).unwrap_err();
        let ExportError::Broken(fault) = error else { panic!("{error:?}") };
        assert_eq!(fault.call, Call::Hold);
        assert_eq!(fs::read(path.join("store.export")).unwrap(), before, "{name}");
        // Put back, it may have been another server's meanwhile.
        fs::rename(path.join("taken"), path.join(name)).unwrap();
        let held = fs::read(path.join("store.redb")).unwrap();
        let error = store.commit(&batch(2, vec![])).unwrap_err();
        assert_eq!(error, CommitError::Broken(fault), "{name}");
        drop((store, exporter));
        assert!(fs::read(path.join("store.redb")).unwrap() == held, "{name}: written to");
    }
}

#[test]
fn closing_a_store_that_an_export_has_found_lost_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (mut store, mut exporter, _) = open(path, OpenOptions::default()).unwrap();
    store.commit(&batch(1, vec![put(Table::Operations, "a", b"1")])).unwrap();
    fs::remove_file(path.join("lock")).unwrap();
    let held = fs::read(path.join("store.redb")).unwrap();
    let export = exporter.export(header(1), &mut std::iter::empty());
    assert!(matches!(export, Err(ExportError::Broken(_))), "{export:?}");
    drop((store, exporter));
    assert!(fs::read(path.join("store.redb")).unwrap() == held, "written to");
}
