//! The central directory: one record an entry. It is the only list of entries; local headers must agree with it.

use std::collections::HashSet;

use crate::{Finding, FindingKind, Result, Source, Verdict, limits, read_exactly};

use super::end::End;
use super::{Archive, Entry, Fields, Method, corrupt, suspicious};

const ENTRY_MAGIC: &[u8] = b"PK\x01\x02";
const ENTRY_BYTES: usize = 46;
const WIDE_FIELD: u16 = 1;
const ENCRYPTED: u16 = 1;
const UTF8_NAME: u16 = 1 << 11;

/// Reads the records that the end promises. Inner errors are about the file's content.
pub(super) fn read<S: Source + ?Sized>(
    source: &S,
    end: &End,
) -> Result<std::result::Result<Archive, Finding>> {
    let Some(bytes) = read_exactly(source, end.directory_offset, end.directory_bytes)? else {
        return Ok(Err(Finding::corrupt(FindingKind::Partial, "the directory is cut")));
    };
    Ok(parse(&bytes, end))
}

fn parse(bytes: &[u8], end: &End) -> std::result::Result<Archive, Finding> {
    let mut archive = Archive {
        entries: Vec::new(),
        findings: Vec::new(),
        header_bytes: end.directory_bytes.saturating_add(22),
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = end.directory_offset + (bytes.len() - rest.len()) as u64;
        let record =
            Record::split(&mut rest).ok_or_else(|| corrupt("a directory record is not one").at(at))?;
        let entry =
            record.entry(end.shift).ok_or_else(|| corrupt("a directory record lacks its sizes").at(at))?;
        for finding in record.findings(&entry) {
            archive.find(finding.at(at));
        }
        archive.entries.push(entry);
    }
    if archive.entries.len() as u64 != end.entries {
        return Err(corrupt(format!(
            "the end record promises {} entries, the directory has {}",
            end.entries,
            archive.entries.len()
        )));
    }
    if let Some(name) = first_repeated(&archive.entries) {
        let finding = suspicious(format!(
            "two entries are named `{}`: which one counts is up to the reader",
            hoist_domain::excerpt(name)
        ));
        archive.find(finding);
    }
    Ok(archive)
}

fn first_repeated(entries: &[Entry]) -> Option<&str> {
    let mut seen = HashSet::with_capacity(entries.len());
    entries.iter().map(|entry| &*entry.name).find(|name| !seen.insert(*name))
}

/// One record, cut out of the directory.
struct Record<'a> {
    fields: Fields<'a>,
    name: &'a [u8],
    extra: &'a [u8],
}

impl<'a> Record<'a> {
    fn split(rest: &mut &'a [u8]) -> Option<Self> {
        let fields = Fields(rest.get(..ENTRY_BYTES).filter(|fixed| fixed.starts_with(ENTRY_MAGIC))?);
        let [name_bytes, extra_bytes, comment_bytes] =
            [fields.u16(28)?, fields.u16(30)?, fields.u16(32)?].map(usize::from);
        let (name, after) = rest.get(ENTRY_BYTES..)?.split_at_checked(name_bytes)?;
        let (extra, after) = after.split_at_checked(extra_bytes)?;
        *rest = after.get(comment_bytes..)?;
        Some(Self { fields, name, extra })
    }

    fn entry(&self, shift: u64) -> Option<Entry> {
        let fields = self.fields;
        let mut bytes = u64::from(fields.u32(24)?);
        let mut packed_bytes = u64::from(fields.u32(20)?);
        let mut header_offset = u64::from(fields.u32(42)?);
        let mut wide = WideField::of(self.extra);
        for narrow in [&mut bytes, &mut packed_bytes, &mut header_offset] {
            if *narrow == u64::from(u32::MAX) {
                // Saturated without a wide field: a size of exactly 2^32 - 1 is legal.
                *narrow = wide.as_mut().map_or(Some(*narrow), WideField::next)?;
            }
        }
        Some(Entry {
            name: String::from_utf8_lossy(self.name).into(),
            method: match fields.u16(10)? {
                0 => Method::Stored,
                8 => Method::Deflated,
                other => Method::Other(other),
            },
            encrypted: fields.u16(8)? & ENCRYPTED != 0,
            crc: fields.u32(16)?,
            packed_bytes,
            bytes,
            header_offset: header_offset.checked_add(shift)?,
            data_offset: None,
        })
    }

    /// What is wrong with this entry by its record alone.
    fn findings(&self, entry: &Entry) -> Vec<Finding> {
        let shown = hoist_domain::excerpt(&entry.name);
        let mut findings = Vec::new();
        if let Some(what) = leads_out(self.name) {
            findings.push(Finding::new(
                FindingKind::Path,
                Verdict::Rejected,
                format!("entry `{shown}` {what}"),
            ));
        }
        if let Some(what) = self.fields.u32(38).and_then(|attributes| special_file(attributes >> 16)) {
            findings.push(Finding::new(
                FindingKind::Path,
                Verdict::Rejected,
                format!("entry `{shown}` is {what}"),
            ));
        }
        if self.fields.u16(34) != Some(0) {
            findings.push(corrupt(format!("entry `{shown}` is on another disk")));
        }
        if entry.encrypted {
            findings.push(corrupt(format!("entry `{shown}` is encrypted")));
        }
        if self.fields.u16(8).is_some_and(|flags| flags & UTF8_NAME != 0)
            && str::from_utf8(self.name).is_err()
        {
            findings.push(corrupt(format!("the name `{shown}` is marked as UTF-8 and is not")));
        }
        match entry.method {
            Method::Other(method) => {
                findings.push(corrupt(format!(
                    "entry `{shown}` is packed by method {method}, which is not known"
                )));
            }
            Method::Stored if entry.bytes != entry.packed_bytes => findings.push(corrupt(format!(
                "entry `{shown}` is stored, yet has {} bytes in the archive and {} outside",
                entry.packed_bytes, entry.bytes
            ))),
            Method::Deflated if is_bomb(entry) => findings.push(suspicious(format!(
                "entry `{shown}` unpacks {} bytes to {}",
                entry.packed_bytes, entry.bytes
            ))),
            _ => {}
        }
        findings
    }
}

fn is_bomb(entry: &Entry) -> bool {
    entry.bytes > limits::ZIP_RATIO_FROM_BYTES && entry.bytes / limits::ZIP_RATIO > entry.packed_bytes
}

/// Why a name may not be unpacked, whatever the separator of the system that would do it.
fn leads_out(name: &[u8]) -> Option<&'static str> {
    let is_separator = |byte: &u8| matches!(byte, b'/' | b'\\');
    if name.is_empty() {
        Some("has no name")
    } else if name.contains(&0) {
        Some("has a NUL in its name")
    } else if name.first().is_some_and(is_separator)
        || matches!(name, [drive, b':', ..] if drive.is_ascii_alphabetic())
    {
        Some("has an absolute name")
    } else if name.split(is_separator).any(|part| part == b"..") {
        Some("leaves the archive's folder")
    } else if name.contains(&b'\\') {
        Some("has a backslash in its name")
    } else {
        None
    }
}

/// Links, devices and the like by their Unix mode; plain files, folders and no mode at all are fine.
fn special_file(mode: u32) -> Option<&'static str> {
    match mode & 0o170_000 {
        0 | 0o040_000 | 0o100_000 => None,
        0o120_000 => Some("a symbolic link"),
        _ => Some("neither a file nor a folder"),
    }
}

/// The 64-bit values of an entry, in the order of the saturated fields.
struct WideField<'a>(Fields<'a>, usize);

impl<'a> WideField<'a> {
    fn of(mut extra: &'a [u8]) -> Option<Self> {
        while let Some(header) = extra.first_chunk::<4>() {
            let fields = Fields(header);
            let (id, length) = (fields.u16(0)?, usize::from(fields.u16(2)?));
            let body = extra.get(4..)?.get(..length)?;
            if id == WIDE_FIELD {
                return Some(Self(Fields(body), 0));
            }
            extra = extra.get(4 + length..)?;
        }
        None
    }

    fn next(&mut self) -> Option<u64> {
        let value = self.0.u64(self.1)?;
        self.1 += 8;
        Some(value)
    }
}
