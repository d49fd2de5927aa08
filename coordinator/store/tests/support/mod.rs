//! What the store's tests share: a scattered workload, and a plain map that says what the rows must be.
//!
//! The map is the oracle: it is told what was committed and knows nothing of files.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;

use hoist_domain::{Revision, ServiceTime};
use hoist_store::{Batch, Row, Table, Write};

pub(crate) type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// `xorshift64*`: another generator than the simulated disk's, so that the two do not keep step.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound
    }
}

pub(crate) fn batch(revision: u64, writes: Vec<Write>) -> Batch {
    Batch { revision: Revision(revision), service_time: ServiceTime(revision * 10), writes }
}

pub(crate) fn put(table: Table, key: &str, value: &[u8]) -> Write {
    Write::Put(Row { table, key: key.as_bytes().to_vec(), value: value.to_vec() })
}

/// A few writes to few keys, so that rows are replaced and deleted; now and then a value that spans pages, or
/// one that makes the file grow.
pub(crate) fn scattered(random: &mut Random, revision: u64) -> Batch {
    let writes = (0..=random.below(6))
        .map(|_| {
            let table = Table::ALL[usize::try_from(random.below(Table::ALL.len() as u64)).unwrap()];
            let key = format!("key/{}", random.below(12)).into_bytes();
            if random.below(4) == 0 {
                return Write::Delete { table, key };
            }
            let length = match random.below(80) {
                0 => 600_000,
                1..8 => 9_000,
                _ => random.below(400),
            };
            let mut value = revision.to_le_bytes().to_vec();
            value.resize(8 + usize::try_from(length).unwrap(), random.below(256).to_le_bytes()[0]);
            Write::Put(Row { table, key, value })
        })
        .collect();
    batch(revision, writes)
}

pub(crate) fn apply(rows: &mut Rows, batch: &Batch) {
    for write in &batch.writes {
        match write.clone() {
            Write::Put(row) => drop(rows.insert((row.table, row.key), row.value)),
            Write::Delete { table, key } => drop(rows.remove(&(table, key))),
        }
    }
}

pub(crate) fn as_map(rows: &[Row]) -> Rows {
    let map: Rows = rows.iter().map(|row| ((row.table, row.key.clone()), row.value.clone())).collect();
    assert_eq!(map.len(), rows.len(), "a row came twice");
    map
}

pub(crate) fn as_rows(map: &Rows) -> impl Iterator<Item = Row> + '_ {
    map.iter().map(|((table, key), value)| Row { table: *table, key: key.clone(), value: value.clone() })
}

/// How many seeds a soak test runs: the constant, or what the environment asks for.
pub(crate) fn seeds(default: u64) -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test is its own edge; only the number of seeds depends on it"
    )]
    let asked = std::env::var("HOIST_SOAK_SEEDS");
    asked.ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
