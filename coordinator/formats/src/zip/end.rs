//! The end of a zip: its end record, and the 64-bit one before it. Nothing here is believed without a cross-check.

use crate::{Finding, FindingKind, Result, Source, limits, read_at_most};

use super::{END_MAGIC, Fields, LOCAL_MAGIC, corrupt, suspicious};

const END_BYTES: usize = 22;
const COMMENT_BYTES: usize = 65_535;
const LOCATOR_MAGIC: &[u8] = b"PK\x06\x07";
const LOCATOR_BYTES: u64 = 20;
const END64_MAGIC: &[u8] = b"PK\x06\x06";
const END64_BYTES: u64 = 56;
const ENTRY_MAGIC: &[u8] = b"PK\x01\x02";

/// What the end says about the directory, with whatever is odd about the end itself.
#[derive(Debug)]
pub(super) struct End {
    pub(super) directory_offset: u64,
    pub(super) directory_bytes: u64,
    pub(super) entries: u64,
    /// What to add to offsets: not zero when something was put before the archive.
    pub(super) shift: u64,
    pub(super) findings: Vec<Finding>,
}

/// The numbers of an end record, of either width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    disk: u32,
    directory_disk: u32,
    disk_entries: u64,
    entries: u64,
    directory_bytes: u64,
    directory_offset: u64,
}

/// Finds the end record: the last one, as all readers do. Inner errors are about the file's content.
pub(super) fn find<S: Source + ?Sized>(source: &S) -> Result<std::result::Result<End, Finding>> {
    let size = source.size();
    let tail_bytes = size.min((END_BYTES + COMMENT_BYTES) as u64);
    let tail_offset = size - tail_bytes;
    let tail = read_at_most(source, tail_offset, tail_bytes)?;
    let Some((at, record)) = last_record(&tail) else {
        return Ok(Err(no_end(source)?));
    };
    let mut findings = tail_findings(&tail, at);
    let position = tail_offset + at as u64;
    let (record, directory_end) = match widen(source, record, position, &mut findings)? {
        Ok(pair) => pair,
        Err(finding) => return Ok(Err(finding)),
    };
    if record.disk != 0 || record.directory_disk != 0 || record.disk_entries != record.entries {
        return Ok(Err(corrupt(format!(
            "the end record names disk {} and {} of {} entries: archives of several disks are not read",
            record.disk, record.disk_entries, record.entries
        ))));
    }
    place(source, record, directory_end, findings)
}

/// The last place with the signature whose fixed part is whole.
fn last_record(tail: &[u8]) -> Option<(usize, Record)> {
    let last = tail.len().checked_sub(END_BYTES)?;
    (0..=last).rev().find_map(|at| {
        let fields = Fields(tail.get(at..).filter(|rest| rest.starts_with(END_MAGIC))?);
        Some((
            at,
            Record {
                disk: fields.u16(4)?.into(),
                directory_disk: fields.u16(6)?.into(),
                disk_entries: fields.u16(8)?.into(),
                entries: fields.u16(10)?.into(),
                directory_bytes: fields.u32(12)?.into(),
                directory_offset: fields.u32(16)?.into(),
            },
        ))
    })
}

/// A file that has no end record was cut, or never was a zip.
fn no_end<S: Source + ?Sized>(source: &S) -> Result<Finding> {
    let head = read_at_most(source, 0, 4)?;
    Ok(if head == LOCAL_MAGIC || head == END_MAGIC {
        Finding::corrupt(FindingKind::Partial, "the archive has no end record: its tail is missing")
    } else {
        Finding::corrupt(FindingKind::Header, "this is not a zip archive")
    })
}

/// What stands after the record, and whether an earlier record claims the same tail for its comment.
fn tail_findings(tail: &[u8], at: usize) -> Vec<Finding> {
    let comment_of = |at: usize| {
        tail.get(at..).and_then(|rest| Fields(rest).u16(20)).map(|bytes| at + END_BYTES + usize::from(bytes))
    };
    let mut findings = Vec::new();
    match comment_of(at).map(|end| end.cmp(&tail.len())) {
        Some(std::cmp::Ordering::Greater) => {
            findings.push(Finding::corrupt(FindingKind::Partial, "the archive's comment is cut"));
        }
        Some(std::cmp::Ordering::Less) => {
            findings.push(suspicious("there are bytes after the end of the archive"))
        }
        _ => {}
    }
    let rival = (0..at).any(|earlier| {
        tail.get(earlier..).is_some_and(|rest| rest.starts_with(END_MAGIC))
            && comment_of(earlier) == Some(tail.len())
    });
    if rival {
        findings.push(suspicious("the archive has two end records: which one counts is up to the reader"));
    }
    findings
}

/// Replaces the record by its 64-bit form where there is one. Also tells where the directory must end.
fn widen<S: Source + ?Sized>(
    source: &S,
    record: Record,
    position: u64,
    findings: &mut Vec<Finding>,
) -> Result<std::result::Result<(Record, u64), Finding>> {
    let Some(locator_offset) = position.checked_sub(LOCATOR_BYTES) else { return Ok(Ok((record, position))) };
    let locator = read_at_most(source, locator_offset, LOCATOR_BYTES)?;
    let Some(offset) = locator.starts_with(LOCATOR_MAGIC).then(|| Fields(&locator).u64(8)).flatten() else {
        return Ok(Ok((record, position)));
    };
    // Where the record says it is, or right before its locator if something was put before the archive.
    let adjacent = locator_offset.saturating_sub(END64_BYTES);
    for offset in [offset, adjacent] {
        let bytes = read_at_most(source, offset, END64_BYTES)?;
        if let Some(wide) = record64(&bytes).filter(|_| offset <= adjacent) {
            if !agrees(record, wide) {
                findings.push(suspicious("the 32-bit and the 64-bit end record disagree"));
            }
            return Ok(Ok((wide, offset)));
        }
    }
    Ok(Err(corrupt("the 64-bit end record is not where its locator says").at(locator_offset)))
}

fn record64(bytes: &[u8]) -> Option<Record> {
    let fields = Fields(Some(bytes).filter(|bytes| bytes.starts_with(END64_MAGIC))?);
    Some(Record {
        disk: fields.u32(16)?,
        directory_disk: fields.u32(20)?,
        disk_entries: fields.u64(24)?,
        entries: fields.u64(32)?,
        directory_bytes: fields.u64(40)?,
        directory_offset: fields.u64(48)?,
    })
}

/// A field of the narrow record is either saturated or the same.
fn agrees(narrow: Record, wide: Record) -> bool {
    let same = |narrow: u64, wide: u64, saturated: u64| narrow == saturated || narrow == wide;
    same(narrow.entries, wide.entries, 0xffff)
        && same(narrow.directory_bytes, wide.directory_bytes, 0xffff_ffff)
        && same(narrow.directory_offset, wide.directory_offset, 0xffff_ffff)
}

/// Finds the directory that the record speaks of and checks it against the file's bounds.
fn place<S: Source + ?Sized>(
    source: &S,
    record: Record,
    directory_end: u64,
    mut findings: Vec<Finding>,
) -> Result<std::result::Result<End, Finding>> {
    let Record { directory_offset, directory_bytes, entries, .. } = record;
    if entries > limits::ZIP_ENTRIES || directory_bytes > limits::ZIP_DIRECTORY_BYTES {
        return Ok(Err(corrupt(format!(
            "the directory claims {entries} entries in {directory_bytes} bytes: the limits are {} and {}",
            limits::ZIP_ENTRIES,
            limits::ZIP_DIRECTORY_BYTES
        ))));
    }
    let claimed_end = directory_offset.checked_add(directory_bytes).filter(|end| *end <= directory_end);
    let Some(claimed_end) = claimed_end else {
        return Ok(Err(corrupt(format!(
            "the directory is said to take {directory_bytes} bytes at {directory_offset}: past the end record"
        ))));
    };
    if entries == 0 {
        return Ok(Err(Finding::corrupt(FindingKind::Partial, "the archive has no entries")));
    }
    let mut shift = 0;
    if claimed_end < directory_end {
        // Some readers take offsets as they are, others count back from the end; it is one or the other.
        if read_at_most(source, directory_offset, 4)? != ENTRY_MAGIC {
            shift = directory_end - claimed_end;
        }
        findings.push(suspicious(format!(
            "{} bytes stand where an archive has none: before it, or between its directory and its end",
            directory_end - claimed_end
        )));
    }
    Ok(Ok(End { directory_offset: directory_offset + shift, directory_bytes, entries, shift, findings }))
}
