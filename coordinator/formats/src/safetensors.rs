//! safetensors: eight bytes of length, a JSON table of tensors, their data.
//!
//! Who calls: [`crate::inspect`]. The rules are those of the format's reference reader and stricter where it trusts:
//! the header begins with `{` and is padded with nothing but spaces, names are unique, every byte of data belongs to
//! exactly one tensor. It must never read the data, and never call a table sound that leaves bytes unexplained.

mod table;

use crate::json::Fault;
use crate::layout::drop_duplicates;
use crate::{Finding, FindingKind, Format, Inspection, Place, Result, Source, limits, read_at_most};
use table::Table;

/// Bytes of the length before the header.
const LENGTH_BYTES: u64 = 8;

/// Reads the header of a safetensors file.
///
/// # Errors
/// The file system's.
pub fn inspect<S: Source + ?Sized>(source: &S) -> Result<Inspection> {
    let mut inspection = Inspection::new(Format::Safetensors);
    let prefix = read_at_most(source, 0, LENGTH_BYTES)?;
    inspection.header_bytes = prefix.len() as u64;
    let Some(length) = prefix.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else {
        let message = format!("{} bytes: the file ends before its header", prefix.len());
        inspection.find(Finding::corrupt(FindingKind::Partial, message));
        return Ok(inspection);
    };
    if let Err(message) = plausible(length) {
        inspection.find(Finding::corrupt(FindingKind::Header, message).at(0));
        return Ok(inspection);
    }
    let header = read_at_most(source, LENGTH_BYTES, length)?;
    inspection.header_bytes += header.len() as u64;
    if header.first().is_some_and(|first| *first != b'{') {
        let finding = Finding::corrupt(FindingKind::Header, "the header does not begin with `{`");
        inspection.find(finding.at(LENGTH_BYTES));
        return Ok(inspection);
    }
    let mut table = Table::new(&header, inspection);
    let end = table.read();
    let complete = table.complete;
    inspection = table.inspection;
    let whole = header.len() as u64 == length;
    drop(header);

    let ended = ended(end, length, whole, &mut inspection);
    let data =
        Data { start: LENGTH_BYTES + length, length: source.size().saturating_sub(LENGTH_BYTES + length) };
    let unique = drop_duplicates(&mut inspection);
    if ended && complete && unique {
        data.check(&mut inspection);
    }
    data.place(&mut inspection);
    Ok(inspection)
}

fn plausible(length: u64) -> std::result::Result<(), String> {
    if length > limits::SAFETENSORS_HEADER_BYTES {
        return Err(format!("a header of {length} bytes: at most {}", limits::SAFETENSORS_HEADER_BYTES));
    }
    if length < 2 {
        return Err(format!("a header of {length} bytes: `{{}}` is the shortest"));
    }
    Ok(())
}

/// Whether the header was read to its end. A file that ends within a sound header is cut; a header that is not sound,
/// or sound and followed by something else, is broken, wherever the file ends.
fn ended(end: std::result::Result<(), Fault>, length: u64, whole: bool, inspection: &mut Inspection) -> bool {
    let finding = match end {
        Ok(()) if whole => return true,
        Err(Fault::Syntax { at, why }) => {
            Finding::corrupt(FindingKind::Header, format!("the header is not valid: {why}"))
                .at(LENGTH_BYTES + at as u64)
        }
        Err(Fault::Cut) if whole => {
            let message = format!("the header's JSON does not end within its {length} bytes");
            Finding::corrupt(FindingKind::Header, message)
        }
        Ok(()) | Err(Fault::Cut) => {
            let there = inspection.header_bytes - LENGTH_BYTES;
            let message = format!("the file ends within the header: {there} of {length} bytes");
            Finding::corrupt(FindingKind::Partial, message).at(LENGTH_BYTES + there)
        }
    };
    inspection.find(finding);
    false
}

/// The bytes behind the header. Until [`Data::place`] the extents of the tensors are relative to them.
struct Data {
    start: u64,
    length: u64,
}

impl Data {
    /// Every byte belongs to exactly one tensor, from the first to the last of the file.
    fn check(&self, inspection: &mut Inspection) {
        let mut extents: Vec<(u64, u64, usize)> = Vec::with_capacity(inspection.tensors.len());
        for (at, tensor) in inspection.tensors.iter().enumerate() {
            if let Place::Extent { offset, length } = tensor.place {
                extents.push((offset, offset.saturating_add(length), at));
            }
        }
        if !extents.is_sorted() {
            extents.sort_unstable();
        }
        let mut end = 0;
        for (begin, after, at) in extents {
            if begin != end {
                let message = if begin < end {
                    format!("its data begins at {begin}, before byte {end} where other data ends")
                } else {
                    format!("its data begins at {begin}, and bytes {end} to {begin} belong to no tensor")
                };
                let name = inspection.tensors.get(at).map(|tensor| tensor.name.clone()).unwrap_or_default();
                let finding = Finding::corrupt(FindingKind::Header, message).tensor(&name);
                inspection.find(finding.at(self.start.saturating_add(begin)));
                return;
            }
            end = after;
        }
        if end > self.length {
            let message = format!("the file ends within the data: {} of {end} bytes", self.length);
            inspection.find(Finding::corrupt(FindingKind::Partial, message).at(self.start + self.length));
        } else if end < self.length {
            let message = format!("{} bytes follow the last tensor", self.length - end);
            inspection.find(Finding::corrupt(FindingKind::Data, message).at(self.start + end));
        }
    }

    /// Turns extents within the data into extents of the file; those that are not in the file map nothing.
    fn place(&self, inspection: &mut Inspection) {
        for tensor in &mut inspection.tensors {
            if let Place::Extent { offset, length } = &mut tensor.place {
                if offset.checked_add(*length).is_some_and(|end| end <= self.length) {
                    *offset += self.start;
                } else {
                    tensor.place = Place::Unmapped;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
