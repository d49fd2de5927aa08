//! One bad page costs the rows on it and no other, whatever redb says of the file.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;

use std::fs;
use std::path::Path;

use hoist_store::{Losses, OpenOptions, Opened, Recovery, Table, open};
use support::{Rows, apply, as_map, batch, put};

const PAGE: usize = 4096;
const ROWS: u64 = 180;
const VALUE_BYTES: usize = 200;
/// More than fit into a page.
const MOST_ON_A_PAGE: usize = 24;

/// A store of as many rows, in as many commits, never exported, as a kill leaves it.
fn fill(directory: &Path, count: u64, value_bytes: usize) -> (Rows, Vec<u8>) {
    let (mut store, _, _) = open(directory, OpenOptions::default()).unwrap();
    let mut rows = Rows::new();
    for number in 1..=count {
        let table = Table::ALL[usize::try_from(number % 3).unwrap()];
        let batch = batch(number, vec![put(table, &format!("row/{number:04}"), &vec![b'v'; value_bytes])]);
        store.commit(&batch).unwrap();
        apply(&mut rows, &batch);
    }
    let killed = fs::read(directory.join("store.redb")).unwrap();
    (rows, killed)
}

fn reopen(store: &[u8]) -> Opened {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("store.redb"), store).unwrap();
    open(directory.path(), OpenOptions::default()).unwrap().2
}

fn told(opened: &Opened) -> (&str, &[String], Losses) {
    match &opened.recovery {
        Recovery::Rebuilt { from, lost, losses, .. } => (from, lost, *losses),
        Recovery::Clean => panic!("clean"),
    }
}

#[test]
fn a_flipped_byte_at_the_start_of_any_page_loses_no_row() {
    // Many rows to a page, two to a page, and rows of more than one.
    for (count, value_bytes) in [(ROWS, VALUE_BYTES), (ROWS, 1_400), (30, 9_000)] {
        flip_every_page(count, value_bytes);
    }
}

fn flip_every_page(count: u64, value_bytes: usize) {
    let directory = tempfile::tempdir().unwrap();
    let (rows, store) = fill(directory.path(), count, value_bytes);
    let is_used = |page: &usize| store[page * PAGE..][..PAGE].iter().any(|byte| *byte != 0);
    let (mut rebuilt, mut pages, mut doubtful, mut incomplete) = (0, 0, 0, 0);
    for page in (0..store.len() / PAGE).filter(is_used) {
        pages += 1;
        let mut damaged = store.clone();
        damaged[page * PAGE] ^= 0xff;
        let opened = reopen(&damaged);
        let found = as_map(&opened.rows);
        // Within a large row, it is that row's own byte.
        let may_miss = usize::from(value_bytes > PAGE);
        let missing = rows.len() - found.len();
        assert!(missing <= may_miss, "page {page}: {missing} are missing, {:?}", opened.recovery);
        assert!(found.iter().all(|(key, value)| rows.get(key) == Some(value)), "page {page}");
        incomplete += missing;
        if opened.recovery != Recovery::Clean {
            rebuilt += 1;
            let (from, lost, losses) = told(&opened);
            assert_eq!((from, losses.rows), ("salvage", missing as u64), "page {page}: {lost:?}");
            doubtful += u32::from(losses.is_lower_bound);
        }
    }
    println!(
        "{count} rows of {value_bytes} bytes: {pages} pages, {rebuilt} rebuilt, {incomplete} without one row, \
         {doubtful} not sure of everything"
    );
    assert!(rebuilt > 10, "only {rebuilt} pages mattered");
}

#[test]
fn a_page_of_garbage_costs_at_most_the_rows_on_it() {
    let directory = tempfile::tempdir().unwrap();
    let (rows, store) = fill(directory.path(), ROWS, VALUE_BYTES);
    let mut worst = 0;
    for page in 1..store.len() / PAGE {
        if store[page * PAGE..][..PAGE].iter().all(|byte| *byte == 0) {
            continue;
        }
        for garbage in [0_u8, 0xa5] {
            let mut damaged = store.clone();
            damaged[page * PAGE..][..PAGE].fill(garbage);
            let opened = reopen(&damaged);
            let found = as_map(&opened.rows);
            assert!(found.iter().all(|(key, value)| rows.get(key) == Some(value)), "page {page}");
            let missing = rows.len() - found.len();
            worst = worst.max(missing);
            assert!(missing <= MOST_ON_A_PAGE, "page {page}: {missing} rows, {:?}", opened.recovery);
            if missing > 0 {
                let (_, lost, losses) = told(&opened);
                assert!(losses.rows > 0 || losses.is_lower_bound, "page {page}: {lost:?}");
                assert!(losses.rows <= missing as u64, "page {page}: {lost:?}");
            }
        }
    }
    println!("the worst page cost {worst} rows");
}

#[test]
fn a_file_without_its_header_or_its_end_gives_back_what_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let (rows, store) = fill(directory.path(), ROWS, VALUE_BYTES);
    let mut headless = store.clone();
    headless[..PAGE].fill(0);
    let opened = reopen(&headless);
    assert_eq!(as_map(&opened.rows), rows);
    let (from, lost, losses) = told(&opened);
    assert_eq!(from, "salvage");
    assert!(losses.is_lower_bound && lost.iter().any(|line| line.contains("wherever they lie")), "{lost:?}");

    let used = store.iter().rposition(|byte| *byte != 0).unwrap();
    for cut in [1, PAGE + 1, used / 4, used / 2] {
        let opened = reopen(&store[..used - cut]);
        let found = as_map(&opened.rows);
        assert!(found.iter().all(|(key, value)| rows.get(key) == Some(value)), "cut by {cut}");
        let missing = rows.len() - found.len();
        if missing > 0 {
            let (_, lost, losses) = told(&opened);
            assert!(losses.is_lower_bound || losses.rows == missing as u64, "cut by {cut}: {lost:?}");
        }
        println!("cut by {cut}: {} of {ROWS} rows", found.len());
    }
}

#[test]
fn a_row_found_outside_the_tree_is_told_and_only_where_the_tree_has_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _, _) = open(directory.path(), OpenOptions::default()).unwrap();
    let value = |number: u64| [number.to_le_bytes()[0]; 300];
    for number in 1..=60 {
        store
            .commit(&batch(number, vec![put(Table::Requests, &format!("{number:04}"), &value(number))]))
            .unwrap();
    }
    let gone = |number: u64| hoist_store::Write::Delete {
        table: Table::Requests,
        key: format!("{number:04}").into_bytes(),
    };
    store.commit(&batch(61, (1..=60).step_by(2).map(gone).collect())).unwrap();
    let bytes = fs::read(directory.path().join("store.redb")).unwrap();
    drop(store);
    let mut worst = 0;
    for page in 1..bytes.len() / PAGE {
        let mut damaged = bytes.clone();
        damaged[page * PAGE..][..PAGE].fill(0x5a);
        let opened = reopen(&damaged);
        let back = opened.rows.iter().filter(|row| row.key[3] % 2 == 1).count();
        worst = worst.max(back);
        if back > 0 {
            let (_, lost, losses) = told(&opened);
            let is_told =
                lost.iter().any(|line| line.contains("outside the tree") || line.contains("a later commit"));
            assert!(losses.is_lower_bound && is_told, "{lost:?}");
        }
    }
    println!("at worst {worst} of 30 deleted rows came back");
}

#[test]
fn garbage_of_any_kind_is_read_in_bounded_time_and_gives_no_row() {
    for seed in 0..24_u64 {
        let mut random = support::Random::new(seed);
        let mut bytes = vec![0; 1 << 20];
        // Offsets that are too plausible: every page claims to be a leaf of as much as there is.
        for page in bytes.chunks_mut(PAGE) {
            page.fill_with(|| random.below(if seed % 2 == 0 { 256 } else { 3 }).to_le_bytes()[0]);
            page[..4].copy_from_slice(&[1, 0, 255, 1]);
            if seed % 3 == 0 {
                page[4..]
                    .chunks_exact_mut(4)
                    .for_each(|end| end.copy_from_slice(&0x000f_0000_u32.to_le_bytes()));
            }
        }
        let opened = reopen(&bytes);
        assert!(opened.rows.is_empty(), "seed {seed}");
        assert_eq!(told(&opened).0, "nothing", "seed {seed}");
    }
}
