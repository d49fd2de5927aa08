//! Measures what a commit and an opening cost on this machine's disk.
//!
//! Run by people: `cargo run --release -p hoist-store --example commit_latency -- <directory>`. The directory must
//! not exist; it is removed afterwards.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use hoist_domain::{Revision, ServiceTime};
use hoist_store::{Batch, ExportHeader, OpenOptions, Row, Store, Table, Write, open};

const ROWS: u32 = 100_000;
const VALUE_BYTES: usize = 300;
const COMMITS: u32 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("name a directory that does not exist")?;
    let directory = Path::new(&directory);
    std::fs::create_dir(directory)?;
    let result = measure(directory);
    std::fs::remove_dir_all(directory)?;
    result
}

fn measure(directory: &Path) -> Result<(), Box<dyn Error>> {
    let mut revision = 0;
    let (mut store, mut exporter, _) = open(directory, OpenOptions::default())?;
    commits(store.as_mut(), "empty store, 1 row", 1, &mut revision)?;
    commits(store.as_mut(), "empty store, 64 rows", 64, &mut revision)?;
    let filling = Instant::now();
    commit(store.as_mut(), 0..ROWS, &mut revision)?;
    println!("{ROWS} rows in one commit: {:?}", filling.elapsed());
    let exporting = Instant::now();
    let header = ExportHeader { revision: Revision(revision), service_time: ServiceTime(revision) };
    exporter.export(header, &mut (0..ROWS).map(|number| row(number, revision)))?;
    println!("export of {ROWS} rows: {:?}", exporting.elapsed());
    commits(store.as_mut(), "100,000 rows, 1 row", 1, &mut revision)?;
    commits(store.as_mut(), "100,000 rows, 64 rows", 64, &mut revision)?;

    // A copy of the open file is what a kill would leave.
    let unclean = directory.join("store.redb.copy");
    std::fs::copy(directory.join("store.redb"), &unclean)?;
    drop((store, exporter));
    reopen(directory, "after a clean end")?;
    reopen(directory, "after a clean end")?;
    std::fs::rename(&unclean, directory.join("store.redb"))?;
    reopen(directory, "after an unclean end")?;

    let mut bytes = std::fs::read(directory.join("store.redb"))?;
    let middle = bytes.len() / 2;
    bytes.get_mut(middle..middle + 8192).ok_or("too short")?.fill(0xa5);
    std::fs::write(directory.join("store.redb"), bytes)?;
    reopen(directory, "damaged, with an export")
}

fn reopen(directory: &Path, what: &str) -> Result<(), Box<dyn Error>> {
    let opening = Instant::now();
    let (store, _, opened) = open(directory, OpenOptions::default())?;
    println!("open, {what}: {:?}, {} rows, {:?}", opening.elapsed(), opened.rows.len(), opened.recovery);
    drop(store);
    Ok(())
}

fn commits(store: &mut dyn Store, what: &str, rows: u32, revision: &mut u64) -> Result<(), Box<dyn Error>> {
    let mut took = Vec::new();
    for round in 0..COMMITS {
        let start = round.wrapping_mul(7_919) % (ROWS - rows);
        let begun = Instant::now();
        commit(store, start..start + rows, revision)?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let at = |permille: usize| took.get(took.len() * permille / 1000).copied().unwrap_or(Duration::ZERO);
    println!("{what}: p50 {:?}, p99 {:?}", at(500), at(990));
    Ok(())
}

fn commit(
    store: &mut dyn Store,
    rows: std::ops::Range<u32>,
    revision: &mut u64,
) -> Result<(), Box<dyn Error>> {
    *revision += 1;
    let writes = rows.map(|number| Write::Put(row(number, *revision))).collect();
    let batch = Batch { revision: Revision(*revision), service_time: ServiceTime(*revision), writes };
    Ok(store.commit(&batch)?)
}

fn row(number: u32, revision: u64) -> Row {
    let mut value = revision.to_le_bytes().to_vec();
    value.resize(VALUE_BYTES, b'v');
    Row { table: Table::Operations, key: format!("operations/{number:08}").into_bytes(), value }
}
