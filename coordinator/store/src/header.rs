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

const FLAGS_OFFSET: u64 = 9;
const PRIMARY_BIT: u8 = 1;
/// Where each slot has the number of its transaction.
const TRANSACTION_OFFSETS: [u64; 2] = [64 + 104, 192 + 104];
const PAGE_SIZE_OFFSET: u64 = 12;
/// More than any store of rows; what a damaged header may claim has no bound of its own.
const MOST_BYTES: u64 = 64 << 30;

/// Which of the two commits in the file to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The one that counts, by the header.
    Recorded,
    Other,
}

/// Whether the slot that does not count claims to be the newer one.
pub(crate) fn other_is_newer(backend: &dyn StorageBackend) -> bool {
    let newer = || {
        let [flags] = read(backend, FLAGS_OFFSET)?;
        let [first, second] = TRANSACTION_OFFSETS.map(|offset| read(backend, offset).map(u64::from_le_bytes));
        let recorded_is_second = flags & PRIMARY_BIT != 0;
        Some(if recorded_is_second { first? > second? } else { second? > first? })
    };
    newer().unwrap_or(false)
}

/// Makes the other slot count. Not durable before a sync.
pub(crate) fn switch(backend: &dyn StorageBackend) -> std::io::Result<()> {
    let mut flags = [0];
    backend.read(FLAGS_OFFSET, &mut flags)?;
    backend.write(FLAGS_OFFSET, &flags.map(|flags| flags ^ PRIMARY_BIT))
}

/// How long the file says it is: one that was cut short opens only if its missing pages can be taken for zeros.
pub(crate) fn stated_len(backend: &dyn StorageBackend) -> Option<u64> {
    let words: [u8; 20] = read(backend, PAGE_SIZE_OFFSET)?;
    let (words, _) = words.as_chunks::<4>();
    let mut words = words.iter().map(|word| u64::from(u32::from_le_bytes(*word)));
    let [page, header_pages, full_pages, regions, trailing] =
        [words.next()?, words.next()?, words.next()?, words.next()?, words.next()?];
    let trailing = if trailing == 0 { 0 } else { header_pages.checked_add(trailing)? };
    let pages = header_pages.checked_add(full_pages)?.checked_mul(regions)?.checked_add(trailing)?;
    let bytes = pages.checked_add(1)?.checked_mul(page)?;
    (bytes <= MOST_BYTES).then_some(bytes)
}

fn read<const N: usize>(backend: &dyn StorageBackend, offset: u64) -> Option<[u8; N]> {
    let mut out = [0; N];
    backend.read(offset, &mut out).ok()?;
    Some(out)
}
