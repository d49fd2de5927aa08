//! Who may open a state directory, and what stands in it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hoist_domain::{Revision, ServiceTime};
use hoist_store::{
    Batch, ExportHeader, OpenError, OpenOptions, Recovery, Row, SCHEMA_VERSION, Table, Write, open,
};

fn refusal(path: &Path) -> OpenError {
    match open(path, OpenOptions::default()) {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

#[test]
fn a_first_start_creates_private_files_and_is_clean() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/state");
    let (_store, mut exporter, opened) = open(&path, OpenOptions::default()).unwrap();
    assert_eq!(opened.recovery, Recovery::Clean);
    assert_eq!((opened.epoch.0, opened.revision.0, opened.rows.len()), (1, 0, 0));
    exporter.export(ExportHeader::default(), &mut std::iter::empty()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let mut names: Vec<_> = fs::read_dir(&path)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
            entry.file_name().into_string().unwrap()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["epoch", "lock", "store.export", "store.redb"]);
}

#[test]
fn a_second_opener_is_told_who_holds_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _, _) = open(directory.path(), OpenOptions::default()).unwrap();
    let error = refusal(directory.path());
    let pid = std::process::id();
    assert!(matches!(error, OpenError::Locked { pid: Some(found) } if found == pid), "{error:?}");
    assert!(error.to_string().contains(&format!("in use by process {pid}: stop it")), "{error}");
    drop(store);
    open(directory.path(), OpenOptions::default()).unwrap();
}

#[test]
fn the_epoch_grows_with_every_opening_even_without_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for round in 0..9 {
        let (_, _, opened) = open(directory.path(), OpenOptions::default()).unwrap();
        assert!(opened.epoch.0 > seen, "round {round}");
        seen = opened.epoch.0;
        match round % 3 {
            0 => fs::remove_file(directory.path().join("store.redb")).unwrap(),
            1 => fs::remove_file(directory.path().join("epoch")).unwrap(),
            _ => {}
        }
    }
}

fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let read =
        |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    fs::read_dir(path).unwrap().map(|entry| read(entry.unwrap())).collect()
}

/// The record as its format says: version, then eight bytes of BLAKE3 over the length-prefixed key and version.
fn schema_record(version: u32) -> Vec<u8> {
    let version = version.to_le_bytes();
    let mut hasher = blake3::Hasher::new();
    for part in [b"schema".as_slice(), &version] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    [version.as_slice(), &hasher.finalize().as_bytes()[..8]].concat()
}

#[test]
fn a_newer_store_is_refused_and_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path(), OpenOptions::default()).unwrap();
    let meta: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");
    {
        let db = redb::Database::create(directory.path().join("store.redb")).unwrap();
        let transaction = db.begin_write().unwrap();
        transaction
            .open_table(meta)
            .unwrap()
            .insert("schema", schema_record(SCHEMA_VERSION + 1).as_slice())
            .unwrap();
        transaction.commit().unwrap();
    }
    let before = contents(directory.path());
    let error = refusal(directory.path());
    assert!(
        matches!(error, OpenError::NewerVersion { found, supported } if found == supported + 1),
        "{error:?}"
    );
    assert!(error.to_string().contains("start the newer build"), "{error}");
    assert_eq!(contents(directory.path()), before);
}

/// The tables that came after a layout.
fn tables_after(schema: u32) -> &'static [&'static str] {
    match schema {
        1 => &["models", "policies", "intents"],
        2 => &["policies", "intents"],
        3 => &["intents"],
        newer => panic!("say which tables came after layout {newer}"),
    }
}

/// What an older layout lacks is made, what it holds is kept, and its export still counts.
#[test]
fn an_older_store_is_brought_up_with_all_it_holds() {
    (1..SCHEMA_VERSION).for_each(brings_up);
}

fn brings_up(schema: u32) {
    let directory = tempfile::tempdir().unwrap();
    let row = Row { table: Table::Requests, key: b"k".to_vec(), value: b"v".to_vec() };
    {
        let (mut store, mut exporter, _) = open(directory.path(), OpenOptions::default()).unwrap();
        let writes = vec![Write::Put(row.clone())];
        store.commit(&Batch { revision: Revision(7), service_time: ServiceTime(1), writes }).unwrap();
        let header = ExportHeader { revision: Revision(7), service_time: ServiceTime(1) };
        exporter.export(header, &mut std::iter::once(row.clone())).unwrap();
    }
    let meta: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");
    {
        let db = redb::Database::create(directory.path().join("store.redb")).unwrap();
        let transaction = db.begin_write().unwrap();
        transaction.open_table(meta).unwrap().insert("schema", schema_record(schema).as_slice()).unwrap();
        for newer in tables_after(schema) {
            let newer: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new(newer);
            assert!(transaction.delete_table(newer).unwrap(), "the table was there");
        }
        transaction.commit().unwrap();
    }
    let export = directory.path().join("store.export");
    let mut old = fs::read(&export).unwrap();
    let body = old.len() - 32;
    old[8..12].copy_from_slice(&schema.to_le_bytes());
    let sum = *blake3::hash(&old[..body]).as_bytes();
    old[body..].copy_from_slice(&sum);
    fs::write(&export, &old).unwrap();

    let (mut store, _, opened) = open(directory.path(), OpenOptions::default()).unwrap();
    assert_eq!((opened.recovery, opened.rows), (Recovery::Clean, vec![row.clone()]));
    let model = Row { table: Table::Models, key: b"m".to_vec(), value: b"new".to_vec() };
    let policy = Row { table: Table::Policies, key: b"p".to_vec(), value: b"new".to_vec() };
    let intent = Row { table: Table::Intents, key: b"i".to_vec(), value: b"new".to_vec() };
    let writes = [&model, &policy, &intent].map(|row| Write::Put(row.clone())).to_vec();
    store.commit(&Batch { revision: Revision(8), service_time: ServiceTime(2), writes }).unwrap();
    drop(store);
    let (_, _, again) = open(directory.path(), OpenOptions::default()).unwrap();
    assert_eq!(again.rows, [row.clone(), model, policy, intent], "the store was brought up once and for all");

    fs::write(directory.path().join("store.redb"), b"ruined").unwrap();
    let (_, _, rebuilt) = open(directory.path(), OpenOptions::default()).unwrap();
    assert_eq!(rebuilt.rows, [row], "the older export is read");
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    fs::write(&path, b"not a directory").unwrap();
    let error = refusal(&path);
    assert!(error.to_string().contains("is not a directory"), "{error}");
}

#[test]
fn a_directory_without_write_permission_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).unwrap();
    // Root writes everywhere; there the permission means nothing.
    if fs::write(path.join("probe"), b"").is_err() {
        let error = refusal(&path);
        assert!(matches!(error, OpenError::Unwritable { .. }), "{error:?}");
    }
}
