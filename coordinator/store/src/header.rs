//! The few bytes of redb's file header (format 3) that this crate reads for itself.
//!
//! Called by the opening and the salvage. redb keeps its two newest commits in two slots, and one bit that no
//! checksum covers says which of them counts. It must never change more than that bit, and only for a slot that
//! has been verified from its root to its last row.
//!
//! Two-phase commit writes a slot and syncs, then turns the bit and syncs. So a slot that is newer than the one
//! that counts is a commit that was in flight, or an acknowledged one whose bit was flipped since. Taking it is
//! right in both cases.

use redb::StorageBackend;

use crate::pages::{PAGE_BYTES, PageNumber, read_u32, read_u64};

const FLAGS: usize = 9;
const FLAGS_OFFSET: u64 = 9;
const PRIMARY_BIT: u8 = 1;
/// Where each slot begins, and where in it stand the root of the tables and the number of the transaction.
const SLOTS: [usize; 2] = [64, 192];
const HAS_ROOT: usize = 1;
const ROOT: usize = 8;
const TRANSACTION: usize = 104;
const PAGE_SIZE: usize = 12;
/// redb numbers the pages of a region, and the regions, with 20 bits.
const MOST_PAGES: u64 = 1 << 20;
/// How much of the file is read as its header.
pub(crate) const HEADER_BYTES: u64 = 320;

/// Which of the two commits in the file to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The one that counts, by the header.
    Recorded,
    Other,
}

/// How page numbers become places in the file; fixed when the file is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// At the start of each region, before its pages.
    pub(crate) header_bytes: u64,
    pub(crate) region_bytes: u64,
}

/// Whether the slot that does not count claims to be the newer one.
pub(crate) fn other_is_newer(backend: &dyn StorageBackend) -> bool {
    let newer = || {
        let mut header = vec![0; usize::try_from(HEADER_BYTES).ok()?];
        backend.read(0, &mut header).ok()?;
        let number = |slot| read_u64(&header, slot_start(&header, slot)? + TRANSACTION);
        Some(number(Slot::Other)? > number(Slot::Recorded)?)
    };
    newer().unwrap_or(false)
}

/// Makes the other slot count. Not durable before a sync.
pub(crate) fn switch(backend: &dyn StorageBackend) -> std::io::Result<()> {
    let mut flags = [0];
    backend.read(FLAGS_OFFSET, &mut flags)?;
    backend.write(FLAGS_OFFSET, &flags.map(|flags| flags ^ PRIMARY_BIT))
}

/// The page of the table of tables, if the slot says one.
pub(crate) fn root(header: &[u8], slot: Slot) -> Option<PageNumber> {
    let start = slot_start(header, slot)?;
    let has_root = *header.get(start + HAS_ROOT)? != 0;
    let root = PageNumber(read_u64(header, start + ROOT)?);
    has_root.then_some(root)
}

pub(crate) fn geometry(header: &[u8]) -> Option<Geometry> {
    let word = |index: usize| read_u32(header, PAGE_SIZE + 4 * index).map(u64::from);
    let (page, header_pages, pages) = (word(0)?, word(1)?, word(2)?);
    let is_sound = page == PAGE_BYTES && header_pages <= MOST_PAGES && (1..=MOST_PAGES).contains(&pages);
    is_sound.then_some(Geometry {
        header_bytes: header_pages * PAGE_BYTES,
        region_bytes: (header_pages + pages) * PAGE_BYTES,
    })
}

fn slot_start(header: &[u8], slot: Slot) -> Option<usize> {
    let [first, second] = SLOTS;
    let recorded_is_second = header.get(FLAGS)? & PRIMARY_BIT != 0;
    Some(if recorded_is_second == (slot == Slot::Recorded) { second } else { first })
}
