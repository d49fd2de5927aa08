//! Memory that the disk can write to directly.

use crate::plan::UNIT;
use crate::source::ALIGNMENT;

/// A block that begins on a multiple of [`ALIGNMENT`], with room for a unit whose ends are rounded outwards.
pub(crate) struct Buffer {
    memory: Vec<u8>,
    start: usize,
}

/// Room for a unit, rounded outwards.
const ROOM: usize = (4 << 20) + 2 * STEP;

/// [`ALIGNMENT`] as a length in memory.
const STEP: usize = 4096;

const _: () = assert!(ROOM as u64 == UNIT + 2 * ALIGNMENT && STEP as u64 == ALIGNMENT);

impl Buffer {
    pub(crate) fn new() -> Self {
        let memory = vec![0; ROOM + STEP];
        // A multiple of the alignment is never further away than the alignment.
        let start = memory.as_ptr().align_offset(STEP).min(STEP);
        Self { memory, start }
    }

    /// The first bytes of it.
    pub(crate) fn first(&mut self, length: usize) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + length.min(ROOM)).unwrap_or_default()
    }
}
