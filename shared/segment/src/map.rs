//! A segment's file in this process's memory: read-only, shared with everybody who maps it, never copied.
#![expect(unsafe_code, reason = "mapping a file is a promise that nobody shortens it or writes to it")]

use std::fs::File;
use std::io;

use memmap2::{Mmap, MmapOptions};

use crate::Placed;

/// The mapping, and where the tensors lie in it.
#[derive(Debug)]
pub struct Map {
    memory: Mmap,
    /// In the order of their places.
    tensors: Vec<Placed>,
}

impl Map {
    /// `file` is of a complete segment, of this length, with these tensors in it.
    pub(crate) fn of(file: &File, tensors: Vec<Placed>, length: u64) -> io::Result<Self> {
        Ok(Self { memory: map(file, length)?, tensors })
    }

    /// In the order of their places.
    #[must_use]
    pub fn tensors(&self) -> &[Placed] {
        &self.tensors
    }

    /// The bytes of a tensor of this segment.
    #[must_use]
    pub fn bytes(&self, tensor: &Placed) -> &[u8] {
        let range = usize::try_from(tensor.offset)
            .ok()
            .zip(usize::try_from(tensor.offset.saturating_add(tensor.length)).ok());
        range.and_then(|(from, to)| self.memory.get(from..to)).unwrap_or_default()
    }

    /// The whole file.
    #[must_use]
    pub fn file(&self) -> &[u8] {
        &self.memory
    }
}

/// `file` is of a complete segment, and of this length.
fn map(file: &File, length: u64) -> io::Result<Mmap> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    // SAFETY: the bytes must not change, and must stay backed, as long as the mapping lives.
    // - Nobody shortens or writes to the file: it is sealed, so its one writer (`Filling`) has closed it; its mode lets nobody
    //   open it for writing (`Opened::open` looks again); it is in a directory that only our user can enter or, with
    //   `Access::Group`, its group can read (`Directory::open` checks both). A process of our own user that means harm could
    //   write to our memory directly.
    // - It is backed by tmpfs pages that were all written before it was sealed (`Filling::seal` counts them), so no access finds
    //   a hole and no room for a page.
    // - It stays backed after eviction: unlinking a file does not free what is mapped.
    // - `length` is the file's: whoever calls has compared it, or has just read it from the same descriptor.
    unsafe { MmapOptions::new().len(length).map(file) }
}
