//! Local headers: where each entry's bytes begin, and whether the header before them says what the directory says.

use crate::{Finding, FindingKind, Result, Source, read_at_most};

use super::{Archive, Entry, Fields, LOCAL_MAGIC, Method, corrupt, suspicious};

const HEADER_BYTES: u64 = 30;
/// The sizes and the checksum follow the data; in the header they are zero, or whatever the writer left.
const SIZES_FOLLOW: u16 = 1 << 3;

/// Reads every local header, fills in `data_offset` of entries that lie within the file, and looks for overlaps.
pub(super) fn check<S: Source + ?Sized>(
    source: &S,
    archive: &mut Archive,
    directory_offset: u64,
) -> Result<()> {
    let mut entries = std::mem::take(&mut archive.entries);
    let mut read = 0;
    for entry in &mut entries {
        let wanted = HEADER_BYTES + entry.name.len() as u64;
        let header = read_at_most(source, entry.header_offset, wanted)?;
        read += header.len() as u64;
        match judge(&header, entry, directory_offset) {
            Ok((data_offset, finding)) => {
                entry.data_offset = Some(data_offset);
                finding.into_iter().for_each(|finding| archive.find(finding.at(entry.header_offset)));
            }
            Err(finding) => archive.find(finding.at(entry.header_offset)),
        }
    }
    archive.header_bytes = archive.header_bytes.saturating_add(read);
    if let Some(finding) = overlap(&entries) {
        archive.find(finding);
    }
    archive.entries = entries;
    Ok(())
}

/// Where the data begins; an error if that cannot be said, a finding beside it if the header tells another story.
fn judge(header: &[u8], entry: &Entry, end: u64) -> std::result::Result<(u64, Option<Finding>), Finding> {
    let shown = hoist_domain::excerpt(&entry.name);
    let missing = || missing_header(entry, &shown, end);
    let fields = Fields(Some(header).filter(|header| header.starts_with(LOCAL_MAGIC)).ok_or_else(missing)?);
    let (Some(flags), Some(method), Some(crc)) = (fields.u16(6), fields.u16(8), fields.u32(14)) else {
        return Err(missing());
    };
    let (Some(packed), Some(name_bytes), Some(extra_bytes)) =
        (fields.u32(18), fields.u16(26), fields.u16(28))
    else {
        return Err(missing());
    };
    let data_offset = entry.header_offset + HEADER_BYTES + u64::from(name_bytes) + u64::from(extra_bytes);
    if data_offset.checked_add(entry.packed_bytes).is_none_or(|data_end| data_end > end) {
        return Err(corrupt(format!(
            "entry `{shown}` claims {} bytes: they are not there",
            entry.packed_bytes
        )));
    }
    // As much was read as the directory's name is long, so it ends the header or differs.
    let same_name = usize::from(name_bytes) == entry.name.len() && header.ends_with(entry.name.as_bytes());
    let lossy_name = entry.name.contains(char::REPLACEMENT_CHARACTER);
    let packed_differs = u64::from(packed) != entry.packed_bytes && packed != u32::MAX;
    let finding = if !same_name && !lossy_name {
        Some(suspicious(format!("entry `{shown}` has another name in its own header")))
    } else if method != number(entry.method) || entry.encrypted != (flags & 1 != 0) {
        Some(corrupt(format!("entry `{shown}` is packed in another way by its own header")))
    } else if flags & SIZES_FOLLOW == 0 && (crc != entry.crc || packed_differs) {
        Some(corrupt(format!("entry `{shown}` has another size or checksum in its own header")))
    } else {
        None
    };
    Ok((data_offset, finding))
}

/// No header where the directory says. At the very beginning it is the file's head that is gone.
fn missing_header(entry: &Entry, shown: &str, end: u64) -> Finding {
    let message = format!("the header of entry `{shown}` is not where the directory says");
    if entry.header_offset == 0 {
        Finding::corrupt(FindingKind::Header, message)
    } else if entry.header_offset >= end {
        corrupt(format!("entry `{shown}` is said to begin past the archive's entries"))
    } else {
        corrupt(message)
    }
}

const fn number(method: Method) -> u16 {
    match method {
        Method::Stored => 0,
        Method::Deflated => 8,
        Method::Other(other) => other,
    }
}

/// Entries over the same bytes: one kernel, many files.
fn overlap(entries: &[Entry]) -> Option<Finding> {
    let mut ranges: Vec<(u64, u64)> = entries
        .iter()
        .filter_map(|entry| {
            Some((entry.header_offset, entry.data_offset?.saturating_add(entry.packed_bytes)))
        })
        .collect();
    ranges.sort_unstable();
    ranges
        .iter()
        .zip(ranges.iter().skip(1))
        .find(|((_, end), (start, _))| start < end)
        .map(|(_, (start, _))| suspicious("entries of the archive overlap").at(*start))
}
