//! A database file that can be opened without being changed.
//!
//! Called by the inspection: redb writes to a file by the act of opening it, and a file that may
//! be damaged, or belong to a newer build, must stay as it is. Changes are kept in memory, reads are counted: a
//! damaged page may point back at its parent, and a walk that reads far more than the file holds is stopped.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::fault::{Call, Fault};

const BLOCK_BYTES: u64 = 4096;
const BLOCK: usize = 4096;
/// How often each block of the file may be read on average. Opening, checking and loading read a page about ten
/// times; a walk in circles passes any number.
const READS_PER_BLOCK: u64 = 64;
/// What the smallest file may be read: 100,000 reads of memory or page cache are over in a tenth of a second.
const LEAST_READS: u64 = 100_000;

#[derive(Clone, Debug)]
pub(crate) struct Overlay(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    base: Arc<dyn StorageBackend>,
    changes: Mutex<Changes>,
    reads_left: AtomicU64,
    stopped: AtomicBool,
    fault: Mutex<Option<Fault>>,
}

#[derive(Debug)]
struct Changes {
    /// Length that readers see; zeros where neither the base nor a block has anything.
    len: u64,
    /// How much of the base still shows through: less than all once the file has been shrunk.
    base_len: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

impl Overlay {
    pub(crate) fn new(base: Arc<dyn StorageBackend>) -> io::Result<Self> {
        let len = base.len()?;
        let base_len = len;
        let reads = (len / BLOCK_BYTES).saturating_mul(READS_PER_BLOCK).saturating_add(LEAST_READS);
        Ok(Self(Arc::new(Shared {
            base,
            changes: Mutex::new(Changes { len, base_len, blocks: BTreeMap::new() }),
            reads_left: AtomicU64::new(reads),
            stopped: AtomicBool::new(false),
            fault: Mutex::new(None),
        })))
    }

    /// Refuses everything from now on, so that closing the database costs nothing and cannot go astray.
    pub(crate) fn stop(&self) {
        self.0.stopped.store(true, Ordering::Release);
    }

    /// The file system's own failure, if there was one: that is no damage of the file.
    pub(crate) fn take_fault(&self) -> Option<Fault> {
        self.0.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn changes(&self) -> io::Result<MutexGuard<'_, Changes>> {
        if self.0.stopped.load(Ordering::Acquire) {
            return Err(io::Error::other("the inspection is over"));
        }
        Ok(self.0.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn read_base(&self, changes: &Changes, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let shown = changes.base_len.saturating_sub(offset);
        let shown = usize::try_from(shown).unwrap_or(usize::MAX).min(out.len());
        let (from_base, beyond) = out.split_at_mut(shown);
        beyond.fill(0);
        if from_base.is_empty() {
            return Ok(());
        }
        self.0.base.read(offset, from_base).inspect_err(|error| {
            let mut fault = self.0.fault.lock().unwrap_or_else(PoisonError::into_inner);
            fault.get_or_insert(Fault::new(Call::Read, crate::disk::STORE, error));
        })
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changes()?.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changes = self.changes()?;
        // Only this place counts down, under the lock.
        let left = self.0.reads_left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the pages lead in circles"));
        }
        self.0.reads_left.store(left - 1, Ordering::Relaxed);
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= changes.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.read_base(&changes, offset, out)?;
        for (index, block) in changes.blocks.range(offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)) {
            copy_overlap(index * BLOCK_BYTES, block.as_slice(), offset, out);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changes = self.changes()?;
        if len < changes.len {
            changes.base_len = changes.base_len.min(len);
            drop(changes.blocks.split_off(&len.div_ceil(BLOCK_BYTES)));
            let kept = usize::try_from(len % BLOCK_BYTES).unwrap_or(0);
            if kept > 0
                && let Some(block) = changes.blocks.get_mut(&(len / BLOCK_BYTES))
                && let Some(cut) = block.get_mut(kept..)
            {
                cut.fill(0);
            }
        }
        changes.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.changes().map(|_| ())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changes = self.changes()?;
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= changes.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        for index in offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES) {
            let start = index * BLOCK_BYTES;
            if !changes.blocks.contains_key(&index) {
                let mut block = Box::new([0; BLOCK]);
                self.read_base(&changes, start, block.as_mut_slice())?;
                changes.blocks.insert(index, block);
            }
            if let Some(block) = changes.blocks.get_mut(&index) {
                copy_overlap(offset, data, start, block.as_mut_slice());
            }
        }
        Ok(())
    }
}

/// Copies what two stretches of one file have in common; each is given by its offset and its bytes.
fn copy_overlap(from_offset: u64, from: &[u8], to_offset: u64, to: &mut [u8]) {
    let start = from_offset.max(to_offset);
    let within = |base: u64| usize::try_from(start - base).unwrap_or(usize::MAX);
    if let Some(from) = from.get(within(from_offset)..)
        && let Some(to) = to.get_mut(within(to_offset)..)
    {
        let common = from.len().min(to.len());
        if let (Some(from), Some(to)) = (from.get(..common), to.get_mut(..common)) {
            to.copy_from_slice(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_reads_back_its_changes_and_leaves_the_base_alone() {
        let base = Arc::new(redb::backends::InMemoryBackend::new());
        base.set_len(10_000).unwrap();
        base.write(4_090, &[7; 20]).unwrap();
        let overlay = Overlay::new(base.clone()).unwrap();
        overlay.set_len(12_000).unwrap();
        overlay.write(4_000, &[9; 92]).unwrap();
        let mut out = [1; 200];
        overlay.read(3_950, &mut out).unwrap();
        assert_eq!(out[..50], [0; 50]);
        assert_eq!(out[50..142], [9; 92]);
        assert_eq!(out[142..160], [7; 18]);
        assert_eq!(out[160..], [0; 40]);
        overlay.read(11_900, &mut out[..100]).unwrap();
        assert_eq!(out[..100], [0; 100]);
        assert!(overlay.read(11_901, &mut out[..100]).is_err());
        overlay.set_len(4_050).unwrap();
        overlay.set_len(10_000).unwrap();
        overlay.read(4_000, &mut out).unwrap();
        assert_eq!(out[..50], [9; 50]);
        assert_eq!(out[50..], [0; 150]);
        base.read(4_000, &mut out).unwrap();
        assert_eq!(out[..90], [0; 90]);
    }

    #[test]
    fn a_walk_in_circles_ends() {
        let base = Arc::new(redb::backends::InMemoryBackend::new());
        base.set_len(4096).unwrap();
        let overlay = Overlay::new(base).unwrap();
        let reads = (0..).take_while(|_| overlay.read(0, &mut [0; 16]).is_ok()).count();
        assert_eq!(reads as u64, LEAST_READS + READS_PER_BLOCK);
    }
}
