//! A full disk is waited out, a failed sync ends all writing.

mod support;

use std::io::ErrorKind;

use hoist_domain::Revision;
use hoist_store::simulate::{SimulatedDisk, open_simulated};
use hoist_store::{Call, CommitError, ExportError, ExportHeader, OpenError, Recovery, Table};
use support::{Random, Rows, apply, as_map, as_rows, batch, put, scattered, seeds};

#[test]
fn a_full_disk_loses_nothing_and_is_recovered_from() {
    let mut refused = 0;
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge] {
        for writes_left in 0..48 {
            let disk = SimulatedDisk::new();
            let (mut store, _, _) = open_simulated(&disk).unwrap();
            let mut random = Random::new(writes_left);
            let mut rows = Rows::new();
            let mut failed = None;
            disk.fail_writes_after(writes_left, kind);
            for revision in 1..=12 {
                let batch = scattered(&mut random, revision);
                match store.commit(&batch) {
                    Ok(()) => apply(&mut rows, &batch),
                    Err(CommitError::Full(fault)) => {
                        assert!(matches!(fault.call, Call::Write | Call::Resize), "{fault}");
                        assert_eq!(fault.kind, kind);
                        failed = Some(batch);
                        break;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            let Some(failed) = failed else { continue };
            refused += 1;
            // Still full: still refused, whatever is asked.
            assert!(matches!(store.commit(&failed), Err(CommitError::Full(_))));
            disk.fail_writes(None);
            let held = store.reopen().unwrap();
            if held == failed.revision {
                apply(&mut rows, &failed);
            } else if writes_left % 2 == 0 {
                // What the owner has been told holds, even if the next thing that happens is a cut.
                disk.power_cut(writes_left);
                let (_, _, opened) = open_simulated(&disk).unwrap();
                assert_eq!((opened.revision, as_map(&opened.rows)), (held, rows), "{writes_left} writes");
                continue;
            } else {
                assert_eq!(held.next(), failed.revision);
                store.commit(&failed).unwrap();
                apply(&mut rows, &failed);
            }
            let last = batch(failed.revision.0 + 1, vec![put(Table::Requests, "after", b"the flood")]);
            store.commit(&last).unwrap();
            apply(&mut rows, &last);
            disk.power_cut(writes_left);
            let (_, _, opened) = open_simulated(&disk).unwrap();
            assert_eq!(opened.recovery, Recovery::Clean);
            assert_eq!(opened.revision, last.revision);
            assert_eq!(as_map(&opened.rows), rows);
        }
    }
    assert!(refused > 50, "only {refused} commits met the full disk");
}

#[test]
fn a_disk_that_stays_full_keeps_the_store_full_and_a_restart_keeps_the_rows() {
    let disk = SimulatedDisk::new();
    let (mut store, mut exporter, _) = open_simulated(&disk).unwrap();
    store.commit(&batch(1, vec![put(Table::Operations, "a", b"1")])).unwrap();
    disk.fail_writes(Some(ErrorKind::StorageFull));
    for _ in 0..3 {
        assert!(matches!(store.commit(&batch(2, vec![])), Err(CommitError::Full(_))));
        assert!(matches!(store.reopen(), Err(CommitError::Full(_))));
        let export = exporter.export(ExportHeader::default(), &mut std::iter::empty());
        assert!(matches!(export, Err(ExportError::Failed(_))));
    }
    drop((store, exporter));
    let Err(error) = open_simulated(&disk) else { panic!("opened on a full disk") };
    assert!(matches!(error, OpenError::Full(_)), "{error}");
    assert!(error.to_string().contains("free space"), "{error}");
    disk.fail_writes(None);
    let (_, _, opened) = open_simulated(&disk).unwrap();
    assert_eq!((opened.revision, opened.rows.len()), (Revision(1), 1));
    assert_eq!(opened.recovery, Recovery::Clean);
}

#[test]
fn after_a_failed_sync_nothing_is_written_again() {
    for seed in 0..seeds(100) {
        let disk = SimulatedDisk::new();
        let (mut store, mut exporter, _) = open_simulated(&disk).unwrap();
        let mut random = Random::new(seed);
        let mut rows = Rows::new();
        for revision in 1..=4 {
            let batch = scattered(&mut random, revision);
            store.commit(&batch).unwrap();
            apply(&mut rows, &batch);
        }
        let mut attempted = rows.clone();
        let batch = scattered(&mut random, 5);
        apply(&mut attempted, &batch);
        disk.fail_syncs(true);
        let Err(CommitError::Broken(fault)) = store.commit(&batch) else { panic!("not broken") };
        assert_eq!(fault.call, Call::Sync);
        disk.fail_syncs(false);

        let before = disk.changes();
        assert!(matches!(store.commit(&batch), Err(CommitError::Broken(_))));
        assert!(matches!(store.reopen(), Err(CommitError::Broken(_))));
        let export = exporter.export(ExportHeader::default(), &mut as_rows(&rows));
        assert!(matches!(export, Err(ExportError::Broken(_))));
        drop((store, exporter));
        assert_eq!(disk.changes(), before, "seed {seed}: something was written");

        disk.power_cut(seed);
        let (_, _, opened) = open_simulated(&disk).unwrap();
        assert_eq!(opened.recovery, Recovery::Clean);
        let expected = if opened.revision.0 == 5 { &attempted } else { &rows };
        assert_eq!(&as_map(&opened.rows), expected, "seed {seed}");
        assert!(opened.revision.0 >= 4);
    }
}

#[test]
fn any_other_failed_write_breaks_the_store() {
    let disk = SimulatedDisk::new();
    let (mut store, _, _) = open_simulated(&disk).unwrap();
    disk.fail_writes(Some(ErrorKind::Other));
    assert!(matches!(store.commit(&batch(1, vec![])), Err(CommitError::Broken(_))));
    disk.fail_writes(None);
    assert!(matches!(store.reopen(), Err(CommitError::Broken(_))));
}

#[test]
fn a_failed_export_leaves_the_one_before() {
    let disk = SimulatedDisk::new();
    let (mut store, mut exporter, _) = open_simulated(&disk).unwrap();
    let mut rows = Rows::new();
    let first = batch(1, vec![put(Table::Operations, "a", b"1")]);
    store.commit(&first).unwrap();
    apply(&mut rows, &first);
    let header = |revision| ExportHeader { revision: Revision(revision), ..ExportHeader::default() };
    exporter.export(header(1), &mut as_rows(&rows)).unwrap();
    disk.fail_writes(Some(ErrorKind::StorageFull));
    assert!(matches!(exporter.export(header(2), &mut std::iter::empty()), Err(ExportError::Failed(_))));
    disk.fail_writes(None);
    drop((store, exporter));
    disk.remove_store();
    let (_, _, opened) = open_simulated(&disk).unwrap();
    assert_eq!(as_map(&opened.rows), rows);
    assert!(matches!(opened.recovery, Recovery::Rebuilt { from: "export", .. }));
}

#[test]
fn the_simulated_disk_has_one_owner() {
    let disk = SimulatedDisk::new();
    let (store, _, first) = open_simulated(&disk).unwrap();
    assert!(matches!(open_simulated(&disk), Err(OpenError::Locked { .. })));
    drop(store);
    let (_store, _, second) = open_simulated(&disk).unwrap();
    assert!(second.epoch > first.epoch);
    disk.power_cut(1);
    assert!(open_simulated(&disk).is_ok());
}
