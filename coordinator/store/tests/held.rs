//! The store holds the files it opened, not whatever has their names by now, and opens nothing but files.
#![expect(clippy::panic, reason = "helpers of tests are tests")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use hoist_domain::{Epoch, Revision};
use hoist_store::{
    Call, CommitError, ExportError, ExportHeader, Exporter, OpenError, OpenOptions, Recovery, Store, Table,
    open,
};
use support::{as_map, batch, put};

fn commit(store: &mut dyn Store, revision: u64) -> Result<(), CommitError> {
    store.commit(&batch(revision, vec![put(Table::Operations, "a", b"1")]))
}

fn is_lost(store: &mut dyn Store, exporter: &mut dyn Exporter) {
    let Err(CommitError::Broken(fault)) = commit(store, 2) else { panic!("acknowledged") };
    assert_eq!(fault.call, Call::Hold);
    assert!(fault.to_string().contains("removed or replaced"), "{fault}");
    assert!(matches!(store.reopen(), Err(CommitError::Broken(_))));
    let export = exporter.export(ExportHeader::default(), &mut std::iter::empty());
    assert!(matches!(export, Err(ExportError::Broken(_))), "{export:?}");
}

fn refusal(path: &Path) -> OpenError {
    match open(path, OpenOptions::default()) {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

#[test]
fn nothing_is_acknowledged_once_a_name_is_gone() {
    for name in ["store.redb", "lock"] {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, mut exporter, _) = open(directory.path(), OpenOptions::default()).unwrap();
        commit(store.as_mut(), 1).unwrap();
        fs::remove_file(directory.path().join(name)).unwrap();
        is_lost(store.as_mut(), exporter.as_mut());
        assert!(!directory.path().join("store.export").exists());
    }
}

#[test]
fn an_export_is_not_written_once_a_name_belongs_to_another_file() {
    for name in ["store.redb", "lock"] {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, mut exporter, _) = open(directory.path(), OpenOptions::default()).unwrap();
        let file = directory.path().join(name);
        fs::copy(&file, directory.path().join("copy")).unwrap();
        fs::rename(directory.path().join("copy"), &file).unwrap();
        let export = exporter.export(ExportHeader::default(), &mut std::iter::empty());
        assert!(matches!(export, Err(ExportError::Broken(_))), "{export:?}");
        assert!(!directory.path().join("store.export").exists());
        is_lost(store.as_mut(), exporter.as_mut());
    }
}

#[test]
fn a_store_whose_directory_was_replaced_leaves_the_other_one_alone() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    let (mut first, mut exporter, _) = open(&path, OpenOptions::default()).unwrap();
    commit(first.as_mut(), 1).unwrap();
    fs::remove_dir_all(&path).unwrap();
    let (mut second, _, opened) =
        open(&path, OpenOptions { first_epoch: Epoch(9), ..OpenOptions::default() }).unwrap();
    assert_eq!((opened.recovery, opened.epoch), (Recovery::Clean, Epoch(9)));
    is_lost(first.as_mut(), exporter.as_mut());
    drop((first, exporter));
    assert!(!path.join("store.export").exists());
    commit(second.as_mut(), 1).unwrap();
    drop(second);
    let (_, _, again) = open(&path, OpenOptions::default()).unwrap();
    assert_eq!((again.recovery, again.revision, again.epoch), (Recovery::Clean, Revision(1), Epoch(10)));
}

#[test]
fn a_directory_that_was_moved_is_still_ours() {
    let parent = tempfile::tempdir().unwrap();
    let (here, there) = (parent.path().join("here"), parent.path().join("there"));
    let (mut store, mut exporter, _) = open(&here, OpenOptions::default()).unwrap();
    fs::rename(&here, &there).unwrap();
    commit(store.as_mut(), 1).unwrap();
    exporter.export(ExportHeader::default(), &mut std::iter::empty()).unwrap();
    drop((store, exporter));
    assert!(!here.exists() && there.join("store.export").exists());
    assert_eq!(as_map(&open(&there, OpenOptions::default()).unwrap().2.rows).len(), 1);
}

#[test]
fn what_is_no_file_is_refused_by_name_and_never_waited_for() {
    for name in ["epoch", "store.export", "store.redb", "lock"] {
        for kind in ["fifo", "link", "directory"] {
            let directory = tempfile::tempdir().unwrap();
            let place = directory.path().join(name);
            let target = directory.path().join("mine");
            fs::write(&target, "mine").unwrap();
            match kind {
                "fifo" => assert!(Command::new("mkfifo").arg(&place).status().unwrap().success()),
                "link" => symlink(&target, &place).unwrap(),
                _ => fs::create_dir(&place).unwrap(),
            }
            let error = refusal(directory.path());
            assert!(matches!(error, OpenError::Foreign(_)), "{kind} {name}: {error:?}");
            assert!(error.to_string().contains(name), "{kind} {name}: {error}");
            assert!(error.to_string().contains("not a regular file"), "{kind} {name}: {error}");
            assert_eq!(fs::read(&target).unwrap(), b"mine", "{kind} {name}");
        }
    }
}

#[test]
fn a_link_under_the_name_of_a_file_being_written_is_taken_away_and_not_followed() {
    for name in ["epoch.new", "store.export.new", "store.redb.new"] {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("mine");
        fs::write(&target, "mine").unwrap();
        symlink(&target, directory.path().join(name)).unwrap();
        let (mut store, mut exporter, _) = open(directory.path(), OpenOptions::default()).unwrap();
        commit(store.as_mut(), 1).unwrap();
        exporter.export(ExportHeader::default(), &mut std::iter::empty()).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"mine", "{name}");
    }
}

#[test]
fn a_fresh_directory_begins_with_the_epoch_it_is_given_and_a_used_one_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let at = |first_epoch| OpenOptions { first_epoch: Epoch(first_epoch), ..OpenOptions::default() };
    assert_eq!(open(directory.path(), at(1_700_000_000)).unwrap().2.epoch, Epoch(1_700_000_000));
    assert_eq!(open(directory.path(), at(1_800_000_000)).unwrap().2.epoch, Epoch(1_700_000_001));
    fs::remove_file(directory.path().join("epoch")).unwrap();
    assert_eq!(open(directory.path(), at(1)).unwrap().2.epoch, Epoch(1_700_000_002));
    // All that told of an epoch is gone, though something was here.
    fs::write(directory.path().join("epoch"), "ruined").unwrap();
    fs::write(directory.path().join("store.redb"), "ruined").unwrap();
    assert_eq!(open(directory.path(), at(1_800_000_000)).unwrap().2.epoch, Epoch(1_800_000_000));
}
