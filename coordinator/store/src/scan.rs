//! Takes rows from a damaged file page by page, wherever they lie.
//!
//! Called by the salvage, for what no tree leads to. A page that is not in use any more looks like one that is:
//! what is found may have been replaced or deleted before. So this only says what there is, the newest of each key;
//! whether it counts is for the salvage. One pass, within the budget of [`Pages`].

use std::collections::BTreeMap;
use std::ops::Range;

use crate::Table;
use crate::frame::{HEAD_KEY, Head, SCHEMA_KEY, Stored, decode_schema, decode_value};
use crate::inspect::Finding;
use crate::pages::{Leaf, PAGE, PAGE_BYTES, Pages};

#[derive(Debug, Default)]
pub(crate) struct Scanned {
    pub(crate) rows: BTreeMap<Table, BTreeMap<Vec<u8>, Stored>>,
    /// The newest.
    pub(crate) head: Option<Head>,
    /// The newest.
    pub(crate) schema: Option<u32>,
}

pub(crate) fn scan(pages: &mut Pages<'_>) -> Result<Scanned, Finding> {
    let mut scanned = Scanned::default();
    // Rows that verify and go on beyond the page they begin in: nothing else begins within them, however it looks.
    let mut covered: Vec<Range<u64>> = Vec::new();
    // The first page is the file's header.
    let mut at = PAGE_BYTES;
    while at < pages.len {
        covered.retain(|range| range.end > at);
        if !covered.iter().any(|range| range.contains(&at)) {
            let Some(bytes) = read_leaf(pages, at)? else { break };
            if let Some(leaf) = Leaf::parse(&bytes) {
                scanned.take(pages, leaf, at, &mut covered);
            }
        }
        at += PAGE_BYTES;
    }
    Ok(scanned)
}

/// As much from here on as a leaf would have, if this is one. `None`: the budget is spent.
fn read_leaf(pages: &mut Pages<'_>, at: u64) -> Result<Option<Vec<u8>>, Finding> {
    let Some(page) = pages.read(at, PAGE_BYTES)? else { return Ok(None) };
    // No row is so small that the ends of a leaf would not fit into its first page. And only a leaf whose ends are
    // in order is worth more reads than one: whatever else is read as a leaf may claim any length.
    match Leaf::parse(&page).and_then(Leaf::extent) {
        Some(extent) if extent > page.len() => pages.read(at, extent as u64),
        _ => Ok(Some(page)),
    }
}

impl Scanned {
    fn take(&mut self, pages: &mut Pages<'_>, leaf: Leaf<'_>, at: u64, covered: &mut Vec<Range<u64>>) {
        for index in 0..leaf.pairs {
            let Some((key, framed)) = leaf.pair(index) else { continue };
            // Ends that contradict each other make any number of pairs of the same bytes.
            if !pages.spend(key.len() + framed.len()) {
                return;
            }
            let table = Table::ALL.into_iter().find_map(|table| {
                let stored = decode_value(table, key, framed)?;
                Some((table, stored))
            });
            if let Some((table, stored)) = table {
                let end = leaf.value_end(index).unwrap_or(0);
                if end > PAGE && framed.len() > PAGE / 2 {
                    covered.push(at + (end - framed.len()) as u64 + 1..at + end as u64);
                }
                let of_table = self.rows.entry(table).or_default();
                if of_table.get(key).is_none_or(|known| known.written < stored.written) {
                    of_table.insert(key.to_vec(), stored);
                }
            } else if key == HEAD_KEY.as_bytes() {
                let head = Head::decode(framed);
                let place = |head: &Head| (head.epoch, head.revision);
                self.head = self.head.into_iter().chain(head).max_by_key(place);
            } else if key == SCHEMA_KEY.as_bytes() {
                self.schema = self.schema.max(decode_schema(framed));
            }
        }
    }
}
