//! A file that is read from: past the page cache, or out of it where it has the bytes.
//!
//! Reading past the cache is faster than through it and pushes nothing out of it; what it holds already is faster still.
//! The descriptor is the one that was described: what replaces the file at its path is not read.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use hoist_domain::FileIdentity;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::buffer::Buffer;

/// Offsets, lengths and addresses of reads past the cache: what all disks take that are sold.
pub(crate) const ALIGNMENT: u64 = 4096;

/// A file, open, as it was described.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: File,
    /// The same file, read past the page cache; none where its file system cannot.
    direct: Option<File>,
    /// The file system took the flag and refuses the reads.
    refused: AtomicBool,
    identity: FileIdentity,
    /// Names that it had when it was opened.
    links: u64,
}

/// Why a stretch could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Truncated,
    Io(io::Error),
}

impl Source {
    /// `file` is open for reading and was found to be `identity`; `path` is for messages.
    #[must_use]
    pub fn new(path: PathBuf, file: File, identity: FileIdentity) -> Self {
        let direct = directly(&file);
        let links = file.metadata().map_or(0, |metadata| metadata.nlink());
        Self { path, file, direct, refused: AtomicBool::new(false), identity, links }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is still the file that was described, and nobody has written to it.
    pub(crate) fn is_as_it_was(&self) -> io::Result<bool> {
        let metadata = self.file.metadata()?;
        let now = FileIdentity::of(&metadata);
        // Another file took its name: that changes its ctime, and none of its bytes.
        let lost_a_name = metadata.nlink() < self.links;
        let changed_ns = if lost_a_name { self.identity.changed_ns } else { now.changed_ns };
        Ok(FileIdentity { changed_ns, ..now } == self.identity)
    }

    /// The bytes of a stretch.
    pub(crate) fn read<'b>(
        &self,
        start: u64,
        end: u64,
        buffer: &'b mut Buffer,
    ) -> Result<&'b [u8], ReadError> {
        if end > self.identity.size {
            return Err(ReadError::Truncated);
        }
        let length = usize::try_from(end - start).map_err(|_| ReadError::Truncated)?;
        if let Some(direct) =
            self.direct.as_ref().filter(|_| !self.is_refused() && !self.is_cached(start, end))
        {
            let from = start / ALIGNMENT * ALIGNMENT;
            let to = end.next_multiple_of(ALIGNMENT);
            let room = usize::try_from(to - from).map_err(|_| ReadError::Truncated)?;
            let skip = usize::try_from(start - from).map_err(|_| ReadError::Truncated)?;
            match fill(direct, from, buffer.first(room), skip + length) {
                Ok(()) => return Ok(buffer.first(room).get(skip..skip + length).unwrap_or_default()),
                Err(ReadError::Io(error)) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    self.refused.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
        fill(&self.file, start, buffer.first(length), length)?;
        Ok(buffer.first(length))
    }

    /// Fills a part of memory, through the page cache: for those who jump about.
    pub(crate) fn read_into(&self, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let length = into.len();
        fill(&self.file, at, into, length)
    }

    fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether the page cache holds all of it.
    fn is_cached(&self, start: u64, end: u64) -> bool {
        hoist_segment::cached_bytes(&self.file, start, end - start).is_some_and(|bytes| bytes >= end - start)
    }
}

/// The same file with another way of reading it. Not by its path, which may be another's by now.
fn directly(file: &File) -> Option<File> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Some(rustix::fs::openat(CWD, own, flags, Mode::empty()).ok()?.into())
}

/// Reads until `least` bytes are there: past the cache, the last read of a file ends with the file.
fn fill(file: &File, at: u64, into: &mut [u8], least: usize) -> Result<(), ReadError> {
    let mut done = 0;
    while done < least {
        let rest = into.get_mut(done..).unwrap_or_default();
        match file.read_at(rest, at.saturating_add(done as u64)) {
            Ok(0) => return Err(ReadError::Truncated),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ReadError::Io(error)),
        }
    }
    Ok(())
}
