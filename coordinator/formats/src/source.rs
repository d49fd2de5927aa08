//! Where bytes come from: one open file, read at offsets.
//!
//! Never a mapping: a file that is truncated while mapped kills the process, a positioned read just comes back short.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes at offsets. A length that was true once may not be any more: reads may come back short at any time.
pub trait Source {
    /// The size when it was opened.
    fn size(&self) -> u64;

    /// Reads up to `buffer.len()` bytes at `offset`; 0 at and past the end.
    ///
    /// # Errors
    /// The file system's.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// An open regular file.
#[derive(Debug)]
pub struct FileSource<'a> {
    file: &'a File,
    size: u64,
}

impl<'a> FileSource<'a> {
    /// `size` is from the `fstat` that also told its identity, so that all checks are against one size.
    #[must_use]
    pub const fn new(file: &'a File, size: u64) -> Self {
        Self { file, size }
    }
}

impl Source for FileSource<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

impl Source for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.get(start..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

/// Reads until `length` bytes are there or the file ends. Memory is taken as bytes arrive, so a length that lies costs
/// nothing.
///
/// # Errors
/// The file system's.
pub fn read_at_most<S: Source + ?Sized>(source: &S, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let there = source.size().saturating_sub(offset).min(length);
    let there = usize::try_from(there).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let mut bytes = vec![0; there];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read_at(offset + filled as u64, rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Reads exactly `length` bytes; none if the file ends before.
///
/// # Errors
/// The file system's.
pub fn read_exactly<S: Source + ?Sized>(source: &S, offset: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
    let bytes = read_at_most(source, offset, length)?;
    Ok((bytes.len() as u64 == length).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_file_costs_no_memory() {
        let bytes: &[u8] = b"abc";
        assert_eq!(read_at_most(bytes, 1, u64::MAX).unwrap(), b"bc");
        assert_eq!(read_exactly(bytes, 1, 3).unwrap(), None);
        assert_eq!(read_at_most(bytes, u64::MAX, 1).unwrap(), b"");
    }
}
