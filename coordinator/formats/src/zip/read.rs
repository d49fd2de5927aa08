//! Entries' bytes: whole and bounded for those that describe, as a stream for a check of everything.

use miniz_oxide::inflate::decompress_to_vec_with_limit;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

use crate::{Finding, FindingKind, Result, Source, read_at_most, read_exactly};

use super::{Archive, Entry, Method, corrupt, suspicious};

/// Data is checked in pieces of this size: large enough for a disk, small beside any model.
const PIECE_BYTES: usize = 1 << 20;

/// What became of reading an entry.
#[derive(Debug)]
pub(crate) enum Content {
    Whole(Vec<u8>),
    /// The finding says why not.
    Refused(Finding),
    /// It was reported with the directory already: encrypted, packed by an unknown method, not within the file.
    Unreadable,
}

/// Reads an entry of at most `limit` bytes and compares its checksum.
///
/// # Errors
/// The file system's.
pub(crate) fn read_entry<S: Source + ?Sized>(source: &S, entry: &Entry, limit: u64) -> Result<Content> {
    let shown = || hoist_domain::excerpt(&entry.name);
    let Some(offset) = entry.data_offset.filter(|_| !entry.encrypted) else { return Ok(Content::Unreadable) };
    if entry.bytes > limit || entry.packed_bytes > limit {
        let message =
            format!("entry `{}` has {} bytes: more than {limit} are not read", shown(), entry.bytes);
        return Ok(Content::Refused(suspicious(message).at(offset)));
    }
    let Some(packed) = read_exactly(source, offset, entry.packed_bytes)? else {
        return Ok(Content::Refused(Finding::corrupt(
            FindingKind::Partial,
            format!("entry `{}` is cut", shown()),
        )));
    };
    let bytes = match entry.method {
        Method::Stored if entry.bytes == entry.packed_bytes => packed,
        Method::Deflated => {
            let length = usize::try_from(entry.bytes).unwrap_or(usize::MAX);
            match decompress_to_vec_with_limit(&packed, length) {
                Ok(bytes) if bytes.len() == length => bytes,
                _ => {
                    let message = format!("entry `{}` does not unpack to its {} bytes", shown(), entry.bytes);
                    return Ok(Content::Refused(corrupt(message).at(offset)));
                }
            }
        }
        Method::Stored | Method::Other(_) => return Ok(Content::Unreadable),
    };
    Ok(match wrong_checksum(entry, crc32fast::hash(&bytes)) {
        Some(finding) => Content::Refused(finding.at(offset)),
        None => Content::Whole(bytes),
    })
}

/// `torch.save` can be told to leave checksums out; it then writes zero.
fn wrong_checksum(entry: &Entry, computed: u32) -> Option<Finding> {
    (entry.crc != 0 && entry.crc != computed).then(|| {
        Finding::corrupt(
            FindingKind::Checksum,
            format!(
                "entry `{}` has the checksum {computed:08x}, not {:08x}",
                hoist_domain::excerpt(&entry.name),
                entry.crc
            ),
        )
    })
}

/// Compares the checksum of every readable entry, reading all of the file once. Bombs are not unpacked.
///
/// # Errors
/// The file system's.
pub(crate) fn verify<S: Source + ?Sized>(source: &S, archive: &Archive, limit: u64) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for entry in &archive.entries {
        let Some(offset) = entry.data_offset.filter(|_| !entry.encrypted && entry.crc != 0) else { continue };
        let computed = match entry.method {
            Method::Stored if entry.bytes == entry.packed_bytes => {
                Some(stored_checksum(source, offset, entry)?)
            }
            Method::Deflated if entry.bytes <= limit => deflated_checksum(source, offset, entry)?,
            _ => continue,
        };
        let finding = match computed {
            Some(computed) => wrong_checksum(entry, computed),
            None => Some(corrupt(format!("entry `{}` does not unpack", hoist_domain::excerpt(&entry.name)))),
        };
        findings.extend(finding.map(|finding| finding.at(offset)));
        if findings.len() >= crate::limits::FINDINGS {
            break;
        }
    }
    Ok(findings)
}

fn stored_checksum<S: Source + ?Sized>(source: &S, offset: u64, entry: &Entry) -> Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut done = 0;
    while done < entry.packed_bytes {
        let piece = read_at_most(source, offset + done, (entry.packed_bytes - done).min(PIECE_BYTES as u64))?;
        if piece.is_empty() {
            break;
        }
        hasher.update(&piece);
        done += piece.len() as u64;
    }
    Ok(hasher.finalize())
}

/// The checksum of what an entry unpacks to; none if it does not unpack to its size.
fn deflated_checksum<S: Source + ?Sized>(source: &S, offset: u64, entry: &Entry) -> Result<Option<u32>> {
    let mut state = InflateState::new_boxed(DataFormat::Raw);
    let mut hasher = crc32fast::Hasher::new();
    let mut output = vec![0; PIECE_BYTES];
    let (mut read, mut written) = (0_u64, 0_u64);
    let mut input = Vec::new();
    let mut used = 0;
    loop {
        if used == input.len() && read < entry.packed_bytes {
            input = read_at_most(source, offset + read, (entry.packed_bytes - read).min(PIECE_BYTES as u64))?;
            if input.is_empty() {
                return Ok(None);
            }
            read += input.len() as u64;
            used = 0;
        }
        let step = inflate(&mut state, input.get(used..).unwrap_or_default(), &mut output, MZFlush::None);
        used += step.bytes_consumed;
        written += step.bytes_written as u64;
        hasher.update(output.get(..step.bytes_written).unwrap_or_default());
        match step.status {
            Ok(MZStatus::StreamEnd) => return Ok((written == entry.bytes).then(|| hasher.finalize())),
            Ok(_) if step.bytes_consumed + step.bytes_written > 0 && written <= entry.bytes => {}
            _ => return Ok(None),
        }
    }
}
