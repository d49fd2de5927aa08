//! Zip archives, read from their central directory, as strictly as the worst file demands.
//!
//! Called by [`crate::torch`]. It finds the end record, reads the directory and the local header of every entry, and
//! says what is wrong with them; entries are read one at a time, whole, bounded and checksummed. It never unpacks to
//! disk: an entry's name is text that is judged and shown, never opened.
//!
//! Readers of zips disagree about archives that say things twice (in directory and local headers, in two end records,
//! in two entries of one name). Here every such disagreement is a finding, because what one tool scans another loads.

mod directory;
mod end;
mod local;
mod read;

pub(crate) use read::{Content, read_entry, verify};

use crate::{Finding, FindingKind, Result, Source, Verdict};

/// What every entry's local header begins with, and so every ordinary archive.
pub(crate) const LOCAL_MAGIC: &[u8; 4] = b"PK\x03\x04";
/// What an archive without entries begins with.
pub(crate) const END_MAGIC: &[u8; 4] = b"PK\x05\x06";

/// An archive whose directory was understood; what is wrong beside that is in `findings`.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) entries: Vec<Entry>,
    pub(crate) findings: Vec<Finding>,
    /// Bytes that were read to know this.
    pub(crate) header_bytes: u64,
}

/// How an entry's bytes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Stored,
    Deflated,
    Other(u16),
}

/// One entry as the directory describes it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Box<str>,
    pub(crate) method: Method,
    pub(crate) encrypted: bool,
    pub(crate) crc: u32,
    pub(crate) packed_bytes: u64,
    pub(crate) bytes: u64,
    pub(crate) header_offset: u64,
    /// Where its bytes begin: known once the local header was read and agreed, and they lie within the file.
    pub(crate) data_offset: Option<u64>,
}

/// What became of opening an archive.
#[derive(Debug)]
pub(crate) enum Opened {
    Archive(Archive),
    /// It cannot be read as one at all.
    Refused(Finding),
}

/// Reads the directory and all local headers.
///
/// # Errors
/// The file system's.
pub(crate) fn open<S: Source + ?Sized>(source: &S) -> Result<Opened> {
    let end = match end::find(source)? {
        Ok(end) => end,
        Err(finding) => return Ok(Opened::Refused(finding)),
    };
    let mut archive = match directory::read(source, &end)? {
        Ok(archive) => archive,
        Err(finding) => return Ok(Opened::Refused(finding)),
    };
    archive.findings.splice(0..0, end.findings);
    local::check(source, &mut archive, end.directory_offset)?;
    Ok(Opened::Archive(archive))
}

/// Whether the file ends like a zip, wherever it begins.
///
/// # Errors
/// The file system's.
pub(crate) fn ends_like_one<S: Source + ?Sized>(source: &S) -> Result<bool> {
    Ok(end::find(source)?.is_ok_and(|end| end.entries > 0))
}

impl Archive {
    /// Keeps a finding; a bound on them lest every entry complains.
    fn find(&mut self, finding: Finding) {
        if self.findings.len() < crate::limits::FINDINGS {
            self.findings.push(finding);
        }
    }
}

fn corrupt(message: impl Into<String>) -> Finding {
    Finding::corrupt(FindingKind::Zip, message)
}

fn suspicious(message: impl Into<String>) -> Finding {
    Finding::new(FindingKind::Zip, Verdict::Suspicious, message)
}

/// Little-endian numbers at places in a record; none past its end.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u16(self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(self.array(at)?))
    }

    fn u32(self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.array(at)?))
    }

    fn u64(self, at: usize) -> Option<u64> {
        Some(u64::from_le_bytes(self.array(at)?))
    }

    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }
}
