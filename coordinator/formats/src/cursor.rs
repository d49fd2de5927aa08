//! Reads forward through a file by small pieces: GGUF's table, ONNX's messages.
//!
//! A window of the file is in memory, never more, whatever the lengths in it say; what is skipped is not read. The end
//! of the file is an answer (none), because what it means is for the format to say.

use std::io;

use crate::{Source, read_at_most};

/// Bytes read at once: a header of a few hundred tensors, in about the time of a single disk access.
const WINDOW_BYTES: u64 = 64 << 10;

/// A place in a file.
#[derive(Debug)]
pub(crate) struct Cursor<'s, S: ?Sized> {
    source: &'s S,
    at: u64,
    window: Vec<u8>,
    window_start: u64,
    read: u64,
}

impl<'s, S: Source + ?Sized> Cursor<'s, S> {
    pub(crate) const fn new(source: &'s S) -> Self {
        Self { source, at: 0, window: Vec::new(), window_start: 0, read: 0 }
    }

    /// The offset of the next byte.
    pub(crate) const fn at(&self) -> u64 {
        self.at
    }

    /// The size of the file.
    pub(crate) fn size(&self) -> u64 {
        self.source.size()
    }

    /// Bytes given out so far, without what was skipped.
    pub(crate) const fn read(&self) -> u64 {
        self.read
    }

    /// Goes on by so many bytes; false, and nowhere, if the file ends before.
    pub(crate) fn skip(&mut self, count: u64) -> bool {
        match self.at.checked_add(count) {
            Some(at) if at <= self.size() => {
                self.at = at;
                true
            }
            _ => false,
        }
    }

    /// Goes back to where it was before.
    pub(crate) fn rewind(&mut self, at: u64) {
        self.at = at.min(self.at);
    }

    /// The next bytes, as many as are asked for.
    pub(crate) fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let there = self.there(N)?;
        let bytes = there.first_chunk::<N>().copied();
        if bytes.is_some() {
            self.at += N as u64;
            self.read += N as u64;
        }
        Ok(bytes)
    }

    /// The next bytes, as many as are asked for: the caller has bounded them.
    pub(crate) fn bytes(&mut self, count: usize) -> io::Result<Option<Vec<u8>>> {
        let there = self.there(count)?;
        let bytes = there.get(..count).map(<[u8]>::to_vec);
        if bytes.is_some() {
            self.at += count as u64;
            self.read += count as u64;
        }
        Ok(bytes)
    }

    /// At least so many bytes from here on, fewer only at the end of the file.
    fn there(&mut self, count: usize) -> io::Result<&[u8]> {
        let from = |window_start: u64, at: u64| {
            at.checked_sub(window_start).and_then(|ahead| usize::try_from(ahead).ok())
        };
        let held = from(self.window_start, self.at)
            .and_then(|start| self.window.len().checked_sub(start))
            .is_some_and(|left| left >= count);
        if !held {
            self.window = read_at_most(self.source, self.at, WINDOW_BYTES.max(count as u64))?;
            self.window_start = self.at;
        }
        let start = from(self.window_start, self.at).unwrap_or(usize::MAX);
        Ok(self.window.get(start..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_order_across_windows_and_the_end_is_none() {
        let file: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut cursor = Cursor::new(file.as_slice());
        for number in 0..200_000_u32 {
            if number % 7 == 3 {
                assert!(cursor.skip(4));
            } else if number % 2 == 0 {
                assert_eq!(cursor.array().unwrap(), Some(number.to_le_bytes()));
            } else {
                assert_eq!(cursor.bytes(4).unwrap().as_deref(), Some(&number.to_le_bytes()[..]));
            }
        }
        assert_eq!(cursor.array::<1>().unwrap(), None);
        assert_eq!((cursor.at(), cursor.skip(1), cursor.skip(u64::MAX)), (800_000, false, false));
        assert_eq!(Cursor::new(file.as_slice()).bytes(800_001).unwrap(), None);
    }
}
