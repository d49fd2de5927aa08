//! The pages of redb's file (format 3) as this crate reads them for itself, when redb will not.
//!
//! Called by the salvage: [`crate::tree`] follows pages, [`crate::scan`] takes them as they lie. Owns the byte
//! layout of leaves, branches, page numbers and table definitions, and the reading of them within a budget. Every
//! byte is under suspicion here: what does not make sense is `None`, never a panic. Page checksums are not looked
//! at; the rows carry their own.

use std::sync::Arc;

use redb::StorageBackend;

use crate::disk::STORE;
use crate::fault::{Call, Fault};
use crate::header::Geometry;
use crate::inspect::Finding;

/// The smallest page, to which every page is aligned. A leaf with a large row is a power of two of them.
pub(crate) const PAGE_BYTES: u64 = 4096;
pub(crate) const PAGE: usize = 4096;

pub(crate) const LEAF: u8 = 1;
pub(crate) const BRANCH: u8 = 2;

/// How often each byte of the file may be read on average, by a walk or by a scan. Sound pages need one or two;
/// pages that contradict each other would need any number.
const READS_PER_BYTE: u64 = 16;
/// What the smallest file may be read, in bytes.
const LEAST_BYTES: u64 = 1 << 20;

/// A damaged file, and how much more of it may be read.
#[derive(Debug)]
pub(crate) struct Pages<'a> {
    backend: &'a Arc<dyn StorageBackend>,
    pub(crate) len: u64,
    left: u64,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(backend: &'a Arc<dyn StorageBackend>) -> Result<Self, Finding> {
        let len = backend.len().map_err(|error| unreadable(&error))?;
        Ok(Self { backend, len, left: len.saturating_mul(READS_PER_BYTE).saturating_add(LEAST_BYTES) })
    }

    /// Takes from the budget; whether there was enough.
    pub(crate) fn spend(&mut self, bytes: usize) -> bool {
        let left = self.left.checked_sub(bytes as u64);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// Up to this many bytes, fewer at the end of the file. `None`: beyond it, or the budget is spent.
    pub(crate) fn read(&mut self, offset: u64, most: u64) -> Result<Option<Vec<u8>>, Finding> {
        let there = self.len.saturating_sub(offset).min(most);
        let Ok(bytes) = usize::try_from(there) else { return Ok(None) };
        if bytes == 0 || !self.spend(bytes) {
            return Ok(None);
        }
        let mut out = vec![0; bytes];
        self.backend.read(offset, &mut out).map_err(|error| unreadable(&error))?;
        Ok(Some(out))
    }
}

fn unreadable(error: &std::io::Error) -> Finding {
    Finding::Unreadable(Fault::new(Call::Read, STORE, error))
}

/// Where a page lies: 20 bits index, 20 bits region, and in the highest 5 the power of two of its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageNumber(pub(crate) u64);

impl PageNumber {
    pub(crate) fn span(self, geometry: Geometry) -> Option<(u64, u64)> {
        let order = self.0 >> 59;
        let index = self.0 & (0xf_ffff >> order);
        let region = (self.0 >> 20) & 0xf_ffff;
        let bytes = PAGE_BYTES << order;
        let in_region = geometry.header_bytes.checked_add(index.checked_mul(bytes)?)?;
        let start = region.checked_mul(geometry.region_bytes)?.checked_add(in_region)?;
        Some((start.checked_add(PAGE_BYTES)?, bytes))
    }
}

/// `type (1) | - (1) | pairs (2) | end of each key (4 each) | end of each value (4 each) | keys | values`. The type
/// is not looked at: a flipped bit there costs no row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf<'a> {
    bytes: &'a [u8],
    pub(crate) pairs: usize,
}

impl<'a> Leaf<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let leaf = Self { bytes, pairs: usize::from(read_u16(bytes, 2)?) };
        (leaf.pairs > 0 && leaf.table_end() <= bytes.len()).then_some(leaf)
    }

    /// How many bytes the page uses, if its ends follow one another as those of a leaf do.
    pub(crate) fn extent(self) -> Option<usize> {
        let mut ends = (0..self.pairs * 2).map(|index| self.end(index));
        ends.try_fold(self.table_end(), |last, end| end.filter(|end| *end >= last))
    }

    /// Where a key and its value lie in the page.
    pub(crate) fn pair(self, index: usize) -> Option<(&'a [u8], &'a [u8])> {
        let key_start = if index == 0 { self.table_end() } else { self.end(index - 1)? };
        let value_start = self.end(self.pairs + index - 1)?;
        let key = self.bytes.get(key_start..self.end(index)?)?;
        let value = self.bytes.get(value_start..self.end(self.pairs + index)?)?;
        Some((key, value))
    }

    /// Where the value of a pair ends in the page.
    pub(crate) fn value_end(self, index: usize) -> Option<usize> {
        self.end(self.pairs + index)
    }

    fn table_end(self) -> usize {
        4 + 8 * self.pairs
    }

    fn end(self, index: usize) -> Option<usize> {
        usize::try_from(read_u32(self.bytes, 4 + 4 * index)?).ok()
    }
}

/// `type (1) | - (1) | keys (2) | - (4) | checksum of each child (16 each) | page of each child (8 each) | end of
/// each key (4 each) | keys`. There is one child more than keys; a key is not below what its left child holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Branch<'a> {
    bytes: &'a [u8],
    keys: usize,
}

impl<'a> Branch<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let branch = Self { bytes, keys: usize::from(read_u16(bytes, 2)?) };
        (branch.keys > 0 && branch.table_end() <= bytes.len()).then_some(branch)
    }

    pub(crate) fn children(self) -> usize {
        self.keys + 1
    }

    pub(crate) fn child(self, index: usize) -> Option<PageNumber> {
        read_u64(self.bytes, 8 + 16 * self.children() + 8 * index).map(PageNumber)
    }

    pub(crate) fn key(self, index: usize) -> Option<&'a [u8]> {
        let end =
            |index: usize| usize::try_from(read_u32(self.bytes, 8 + 24 * self.children() + 4 * index)?).ok();
        let start = if index == 0 { self.table_end() } else { end(index - 1)? };
        self.bytes.get(start..end(index)?)
    }

    /// Whether this can be nothing but a branch, whatever its type says: its keys are in order, its children are
    /// pages of the file, and no two of them are the same.
    pub(crate) fn is_sound(self, geometry: Geometry, len: u64) -> bool {
        let mut starts: Vec<u64> = (0..self.children())
            .filter_map(|index| self.child(index)?.span(geometry))
            .filter(|(start, bytes)| start.checked_add(*bytes).is_some_and(|end| end <= len))
            .map(|(start, _)| start)
            .collect();
        starts.sort_unstable();
        starts.dedup();
        let keys = || (0..self.keys).map(|index| self.key(index));
        starts.len() == self.children()
            && keys().all(|key| key.is_some())
            && keys().zip(keys().skip(1)).all(|(left, right)| left < right)
    }

    fn table_end(self) -> usize {
        8 + 24 * self.children() + 4 * self.keys
    }
}

/// What the master table says of a table: `kind (1) | rows (8) | has a root (1) | root (8) | checksum (16) |
/// rows (8) | ...`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) root: Option<PageNumber>,
    /// Not known if the two places that say it disagree.
    pub(crate) rows: Option<u64>,
}

impl Definition {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let rows = read_u64(bytes, 1)?;
        let has_root = *bytes.get(9)? != 0;
        let (root, root_rows) = (PageNumber(read_u64(bytes, 10)?), read_u64(bytes, 34)?);
        Some(if has_root {
            Self { root: Some(root), rows: (rows == root_rows).then_some(rows) }
        } else {
            Self { root: None, rows: (rows == 0).then_some(0) }
        })
    }
}

pub(crate) fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}
