//! GGUF: key-values, a table of tensors, their data; little or big endian, versions 1 to 3.
//!
//! Who calls: [`crate::inspect`]. The rules are those of ggml's reader: offsets are aligned, tensors lie one behind the
//! other without overlap or holes, an architecture is named. It must never take a count for more than a promise: every
//! item has to be there before it is believed.

mod reader;
mod types;

use std::collections::HashSet;

use hoist_domain::excerpt;

use crate::layout::drop_duplicates;
use crate::metadata::{Keeper, number};
use crate::{Finding, FindingKind, Format, Inspection, Place, Result, Source, Tensor, Verdict, limits};
use reader::{Reader, Stop, Value};

/// Where the data may begin, and its tensors, unless the file says otherwise.
const DEFAULT_ALIGNMENT: u64 = 32;

/// ggml's bounds: dimensions of a tensor, bytes of its name, bytes of a key.
const DIMENSIONS: u32 = 4;
const GGML_NAME_BYTES: usize = 63;
const KEY_BYTES: usize = 65_535;

/// Reads the header of a GGUF file. The name tells whether the parts of a split file can be found.
///
/// # Errors
/// The file system's.
pub fn inspect<S: Source + ?Sized>(source: &S, file_name: &str) -> Result<Inspection> {
    let mut inspection = Inspection::new(Format::Gguf);
    let mut reader = Reader::new(source);
    let outcome = read(&mut reader, &mut inspection);
    inspection.header_bytes = reader.at().min(source.size());
    match outcome {
        Ok(None) => unmap(&mut inspection),
        Ok(Some(alignment)) => {
            let unique = drop_duplicates(&mut inspection);
            let data =
                Data { start: reader.at().next_multiple_of(alignment), alignment, size: source.size() };
            data.check(&mut inspection, unique);
            parts(&mut inspection, file_name);
        }
        Err(stop) => {
            unmap(&mut inspection);
            match stop {
                Stop::Io(error) => return Err(error),
                Stop::Cut => {
                    let message = format!("the file ends within the header, after {} bytes", source.size());
                    inspection.find(Finding::corrupt(FindingKind::Partial, message).at(source.size()));
                }
                Stop::Broken(finding) => inspection.find(finding),
            }
        }
    }
    Ok(inspection)
}

/// Reads everything before the data. The alignment of the data is given back, if what was read tells where it lies; until
/// they are placed, the extents of the tensors are relative to it.
fn read<S: Source + ?Sized>(
    reader: &mut Reader<'_, S>,
    inspection: &mut Inspection,
) -> std::result::Result<Option<u64>, Stop> {
    reader.preamble()?;
    let tensors = reader.count()?;
    if tensors > limits::TENSORS as u64 {
        return Err(reader.broken(format!("{tensors} tensors: at most {}", limits::TENSORS)));
    }
    let pairs = reader.count()?;
    if pairs > limits::GGUF_PAIRS {
        return Err(reader.broken(format!("{pairs} key-values: at most {}", limits::GGUF_PAIRS)));
    }
    let alignment = metadata(reader, inspection, pairs)?;
    let mut sound = true;
    for _ in 0..tensors {
        sound &= tensor(reader, inspection)?;
    }
    Ok(alignment.filter(|_| sound))
}

/// Reads the key-values; the alignment is given back if it is one.
fn metadata<S: Source + ?Sized>(
    reader: &mut Reader<'_, S>,
    inspection: &mut Inspection,
    pairs: u64,
) -> std::result::Result<Option<u64>, Stop> {
    let mut keeper = Keeper::new();
    let mut keys = HashSet::new();
    let mut alignment = Some(DEFAULT_ALIGNMENT);
    let mut architecture = None;
    for _ in 0..pairs {
        let key = reader.text(KEY_BYTES, "a key")?;
        let value = reader.value()?;
        if keys.contains(&key) {
            let message = format!("key `{}` is there twice", excerpt(&key));
            inspection.find(Finding::corrupt(FindingKind::Metadata, message));
            continue;
        }
        if let Value::NotUtf8 = value {
            let message = format!("the value of `{}` is not UTF-8", excerpt(&key));
            inspection.find(Finding::corrupt(FindingKind::Metadata, message));
        }
        match &*key {
            "general.alignment" => alignment = alignment_of(&value, inspection),
            "general.architecture" => architecture = Some(matches!(&value, Value::Text(_))),
            _ => {}
        }
        keeper.keep(inspection, &key, &value.to_string());
        keys.insert(key);
    }
    architecture_is_named(architecture, inspection);
    Ok(alignment)
}

fn alignment_of(value: &Value, inspection: &mut Inspection) -> Option<u64> {
    if let Value::Unsigned(alignment) = *value
        && alignment.is_power_of_two()
        && alignment <= limits::GGUF_HEADER_BYTES
    {
        return Some(alignment);
    }
    let message = format!("general.alignment is {}: a power of two is needed", excerpt(&value.to_string()));
    inspection.find(Finding::corrupt(FindingKind::Metadata, message));
    None
}

/// Only the first part of a split file says what the whole is, and statistics of a model's weights say it elsewhere.
fn architecture_is_named(architecture: Option<bool>, inspection: &mut Inspection) {
    let later_part = number(&inspection.metadata, "split.no").is_some_and(|part| part > 0);
    let statistics = inspection.metadata.get("general.type").is_some_and(|kind| kind == "imatrix");
    let problem = match architecture {
        Some(true) => return,
        Some(false) => "general.architecture is not a string",
        None if later_part || statistics => return,
        None => "general.architecture is missing",
    };
    inspection.find(Finding::corrupt(FindingKind::Metadata, problem));
}

/// Reads one tensor's description. False if it cannot be kept.
fn tensor<S: Source + ?Sized>(
    reader: &mut Reader<'_, S>,
    inspection: &mut Inspection,
) -> std::result::Result<bool, Stop> {
    let name = reader.text(limits::NAME_BYTES, "a tensor's name")?;
    let rank = reader.u32()?;
    if rank > DIMENSIONS {
        let message = format!("{rank} dimensions: at most {DIMENSIONS}");
        return Err(Stop::Broken(Finding::corrupt(FindingKind::Header, message).tensor(&name)));
    }
    let mut shape = Vec::new();
    for _ in 0..rank {
        shape.push(reader.count()?);
    }
    let kind = reader.u32()?;
    let offset = reader.u64()?;
    let problem = match size(kind, &shape) {
        Ok((dtype, length)) if offset.checked_add(length).is_some() => {
            if name.len() > GGML_NAME_BYTES {
                let message = format!("a name of {} bytes: ggml takes {GGML_NAME_BYTES}", name.len());
                inspection.find(Finding::new(FindingKind::Header, Verdict::Ok, message).tensor(&name));
            }
            // The first dimension is the innermost; torch writes it last.
            shape.reverse();
            let place = Place::Extent { offset, length };
            inspection.tensors.push(Tensor { name: name.into(), dtype, shape: shape.into(), place });
            return Ok(true);
        }
        Ok((_, length)) => format!("{length} bytes at {offset} go beyond 64 bits"),
        Err(problem) => problem,
    };
    inspection.find(Finding::corrupt(FindingKind::Header, problem).tensor(&name));
    Ok(false)
}

/// The type and the bytes of a tensor of ggml's dimensions.
fn size(kind: u32, dimensions: &[u64]) -> std::result::Result<(hoist_domain::Dtype, u64), String> {
    let Some(dtype) = types::dtype(kind) else { return Err(format!("ggml type {kind} is not known")) };
    if dimensions.contains(&0) {
        return Err(format!("shape {dimensions:?} has a dimension of 0"));
    }
    let elements = dimensions.iter().try_fold(1_u64, |product, dimension| product.checked_mul(*dimension));
    // ggml counts in signed numbers.
    let elements = elements.filter(|elements| *elements <= i64::MAX as u64);
    let Some(bytes) = elements.and_then(|elements| elements.checked_mul(dtype.block_bits() / 8)) else {
        return Err(format!("shape {dimensions:?} goes beyond 64 bits"));
    };
    let row = dimensions.first().copied().unwrap_or(1);
    if !row.is_multiple_of(dtype.block_elements()) {
        return Err(format!("rows of {row} do not fill {dtype}'s blocks of {}", dtype.block_elements()));
    }
    Ok((dtype, bytes / dtype.block_elements()))
}

/// The bytes behind the header.
struct Data {
    start: u64,
    alignment: u64,
    size: u64,
}

impl Data {
    /// Tensors are aligned and lie one behind the other up to the end of the file; then they are placed in it.
    fn check(&self, inspection: &mut Inspection, complete: bool) {
        let length = self.size.saturating_sub(self.start);
        let mut extents: Vec<(u64, u64, usize)> = Vec::with_capacity(inspection.tensors.len());
        for (at, tensor) in inspection.tensors.iter_mut().enumerate() {
            if let Place::Extent { offset, length: taken } = &mut tensor.place {
                let end = offset.saturating_add(*taken);
                extents.push((*offset, end, at));
                if end <= length {
                    *offset += self.start;
                } else {
                    tensor.place = Place::Unmapped;
                }
            }
        }
        extents.sort_unstable();
        let aligned = self.aligned(&extents, inspection);
        let apart = self.apart(&extents, inspection);
        let end = extents.iter().map(|extent| extent.1).max().unwrap_or_default();
        // Without tensors the padding before the data may be missing too.
        if end > length {
            let message = format!("the file ends within the data: {length} of {end} bytes");
            inspection.find(Finding::corrupt(FindingKind::Partial, message).at(self.size));
            return;
        }
        if !(aligned && apart && complete) {
            return;
        }
        self.without_holes(&extents, inspection);
        if length > end.next_multiple_of(self.alignment) {
            let message = format!("{} bytes follow the last tensor", length - end);
            inspection.find(Finding::corrupt(FindingKind::Data, message).at(self.start + end));
        }
    }

    fn aligned(&self, extents: &[(u64, u64, usize)], inspection: &mut Inspection) -> bool {
        let crooked = extents.iter().find(|extent| !extent.0.is_multiple_of(self.alignment));
        if let Some((offset, _, at)) = crooked {
            let message = format!("its offset {offset} is not a multiple of {}", self.alignment);
            complain(inspection, *at, message);
        }
        crooked.is_none()
    }

    fn apart(&self, extents: &[(u64, u64, usize)], inspection: &mut Inspection) -> bool {
        let overlap = extents.windows(2).find_map(|pair| match pair {
            [(_, end, _), (begin, _, at)] if begin < end => Some((*begin, *end, *at)),
            _ => None,
        });
        if let Some((begin, end, at)) = overlap {
            let message = format!("its data begins at {begin}, before byte {end} where other data ends");
            complain(inspection, at, message);
        }
        overlap.is_none()
    }

    fn without_holes(&self, extents: &[(u64, u64, usize)], inspection: &mut Inspection) {
        let mut due = 0_u64;
        for (begin, end, at) in extents {
            if *begin != due {
                complain(inspection, *at, format!("its data begins at {begin} where {due} is due"));
                return;
            }
            due = end.next_multiple_of(self.alignment);
        }
    }
}

fn complain(inspection: &mut Inspection, at: usize, message: String) {
    let name = inspection.tensors.get(at).map(|tensor| tensor.name.clone()).unwrap_or_default();
    inspection.find(Finding::corrupt(FindingKind::Header, message).tensor(&name));
}

/// Where the data begins is not known: no extent can be told.
fn unmap(inspection: &mut Inspection) {
    for tensor in &mut inspection.tensors {
        tensor.place = Place::Unmapped;
    }
}

/// A part of a split file needs a name from which the names of the others follow, as ggml's reader makes them.
fn parts(inspection: &mut Inspection, file_name: &str) {
    let count = number(&inspection.metadata, "split.count").unwrap_or_default();
    if count < 2 {
        return;
    }
    let part = number(&inspection.metadata, "split.no").unwrap_or_default();
    if part >= count {
        let message = format!("split.no is {part} of {count}: parts count from 0");
        inspection.find(Finding::corrupt(FindingKind::Metadata, message));
    } else if !file_name.ends_with(&format!("-{:05}-of-{count:05}.gguf", part + 1)) {
        let message = format!("part {} of {count}, under a name that does not lead to the others", part + 1);
        inspection.find(Finding::new(FindingKind::Partial, Verdict::Incomplete, message));
    }
}

#[cfg(test)]
mod tests;
