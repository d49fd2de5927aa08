//! One initializer: `TensorProto`.
//!
//! It must never give a place to a tensor whose data is not as long as its shape says, or lies in a file elsewhere than
//! below the model's folder.

use hoist_domain::{Dtype, excerpt};

use super::wire::{Payload, Result, Stop, Wire};
use crate::companions::is_within;
use crate::layout::elements;
use crate::{Finding, FindingKind, Inspection, Place, Source, Tensor, Verdict, limits};

/// What a path to external data, or a number in text, may take.
const ENTRY_BYTES: usize = 4096;

/// What the message says, as far as it was read.
#[derive(Debug, Default)]
struct Description {
    name: String,
    dims: Vec<u64>,
    kind: u64,
    /// Bytes of numbers that lie in the file as they lie in memory, and where, if in one piece.
    inline: Option<(Option<u64>, u64)>,
    /// Whether there is data in a form that has to be decoded.
    encoded: bool,
    external: bool,
    location: Option<String>,
    offset: Option<String>,
    length: Option<String>,
    /// What is wrong with what was read.
    problem: Option<String>,
}

/// Reads the message that ends there. A tensor that the file's end cuts is known, but its data is nowhere.
pub(super) fn read<S: Source + ?Sized>(
    wire: &mut Wire<'_, S>,
    end: u64,
    inspection: &mut Inspection,
) -> Result<()> {
    let mut description = Description::default();
    let outcome = fields(wire, end, &mut description);
    match &outcome {
        Ok(()) => keep(description, inspection),
        Err(Stop::Cut) if !description.name.is_empty() => {
            if let Some(dtype) = dtype(description.kind).filter(|_| description.problem.is_none()) {
                push(description, dtype, Place::Unmapped, inspection);
            }
        }
        Err(_) => {}
    }
    outcome
}

fn fields<S: Source + ?Sized>(wire: &mut Wire<'_, S>, end: u64, description: &mut Description) -> Result<()> {
    while let Some(field) = wire.field(end)? {
        match (field.number, field.payload) {
            (1, Payload::Varint(dimension)) => dimension_of(dimension, description),
            (1, Payload::Bytes { end, .. }) => {
                while wire.at() < end {
                    dimension_of(wire.varint(end)?, description);
                }
            }
            (2, Payload::Varint(kind)) => description.kind = kind,
            (8, payload @ Payload::Bytes { .. }) => match wire.text(payload, limits::NAME_BYTES)? {
                Some(name) => description.name = name,
                None => complain(description, "its name is too long, or not UTF-8"),
            },
            // raw_data, and floats and doubles, which protobuf packs as they lie in memory.
            (4 | 9 | 10, payload @ Payload::Bytes { start, end }) => {
                inline(description, Some(start), end - start);
                wire.skip(payload)?;
            }
            (4 | 10, Payload::Fixed(bytes)) => inline(description, None, bytes),
            // Whole numbers and texts.
            (5 | 6 | 7 | 11, payload @ (Payload::Bytes { .. } | Payload::Varint(_))) => {
                description.encoded = true;
                wire.skip(payload)?;
            }
            (13, Payload::Bytes { end, .. }) => external_entry(wire, end, description)?,
            (14, Payload::Varint(location)) => match location {
                0 | 1 => description.external = location == 1,
                other => complain(description, format!("its data is in place {other}: 0 and 1 are known")),
            },
            (1..=14, payload) if !matches!((field.number, payload), (3 | 12, Payload::Bytes { .. })) => {
                return Err(Stop::Broken(format!("a tensor's field {} is of another type", field.number)));
            }
            (_, payload) => wire.skip(payload)?,
        }
    }
    Ok(())
}

fn dimension_of(dimension: u64, description: &mut Description) {
    if description.dims.len() == limits::RANK {
        complain(description, format!("more than {} dimensions", limits::RANK));
    } else if dimension > i64::MAX as u64 {
        complain(description, "a negative dimension");
    } else {
        description.dims.push(dimension);
    }
}

fn inline(description: &mut Description, start: Option<u64>, bytes: u64) {
    description.inline = Some(match description.inline {
        None => (start, bytes),
        Some((_, before)) => (None, before.saturating_add(bytes)),
    });
}

fn external_entry<S: Source + ?Sized>(
    wire: &mut Wire<'_, S>,
    end: u64,
    description: &mut Description,
) -> Result<()> {
    let (mut key, mut value) = (None, None);
    while let Some(field) = wire.field(end)? {
        match field.number {
            1 => key = wire.text(field.payload, ENTRY_BYTES)?,
            2 => value = wire.text(field.payload, ENTRY_BYTES)?,
            _ => wire.skip(field.payload)?,
        }
    }
    match (key.as_deref(), value) {
        (Some("location"), Some(value)) => description.location = Some(value),
        (Some("offset"), Some(value)) => description.offset = Some(value),
        (Some("length"), Some(value)) => description.length = Some(value),
        (Some(_), Some(_)) => {}
        _ => complain(description, "a broken entry on its external data"),
    }
    Ok(())
}

/// The first thing that is wrong says enough.
fn complain(description: &mut Description, problem: impl Into<String>) {
    description.problem.get_or_insert_with(|| problem.into());
}

/// Keeps a tensor if what was said of it fits together.
fn keep(description: Description, inspection: &mut Inspection) {
    if let Some(problem) = &description.problem {
        return refuse(&description.name, problem, inspection);
    }
    let Some(dtype) = dtype(description.kind) else {
        return without_dtype(&description, inspection);
    };
    let Some(length) = bytes_of(dtype, &description.dims) else {
        let problem = format!("shape {:?} goes beyond 64 bits", description.dims);
        return refuse(&description.name, &problem, inspection);
    };
    let place = if description.external {
        match beside(&description, length, inspection) {
            Ok(place) => place,
            Err(problem) => return refuse(&description.name, &problem, inspection),
        }
    } else {
        match description.inline {
            Some((_, bytes)) if bytes != length => {
                let problem =
                    format!("{dtype} of shape {:?} takes {length} bytes, not {bytes}", description.dims);
                return refuse(&description.name, &problem, inspection);
            }
            Some((Some(offset), length)) => Place::Extent { offset, length },
            None if !description.encoded && length > 0 => {
                return refuse(&description.name, "it has no data", inspection);
            }
            _ => Place::Unmapped,
        }
    };
    push(description, dtype, place, inspection);
}

/// Types that no tensor of numbers has.
fn without_dtype(description: &Description, inspection: &mut Inspection) {
    let what = match description.kind {
        8 => "text, which is not shown as a tensor",
        25 | 26 => "numbers of two bits, which are not shown as a tensor",
        other => {
            let problem = format!("data type {other} is not known");
            return refuse(&description.name, &problem, inspection);
        }
    };
    let finding = Finding::new(FindingKind::Unsupported, Verdict::Ok, what);
    inspection.find(finding.tensor(&description.name));
}

/// The place of external data. A path that leaves the model's folder is worse than a broken description.
fn beside(
    description: &Description,
    length: u64,
    inspection: &mut Inspection,
) -> std::result::Result<Place, String> {
    let Some(file) = &description.location else { return Err("its external data has no location".into()) };
    if !is_within(file) {
        let message = format!("its external data is `{}`, out of the model's folder", excerpt(file));
        let finding = Finding::new(FindingKind::Path, Verdict::Rejected, message);
        inspection.find(finding.tensor(&description.name));
        return Ok(Place::Unmapped);
    }
    let number = |text: &Option<String>, absent: u64| {
        text.as_ref().map_or(Ok(absent), |text| {
            text.parse().map_err(|_| format!("its external data is at `{}`, not a number", excerpt(text)))
        })
    };
    let offset: u64 = number(&description.offset, 0)?;
    let said: u64 = number(&description.length, length)?;
    if said != length || offset.checked_add(length).is_none() {
        return Err(format!("its external data is {said} bytes at {offset}, its shape takes {length}"));
    }
    Ok(Place::Beside { file: file.as_str().into(), offset, length })
}

fn push(description: Description, dtype: Dtype, place: Place, inspection: &mut Inspection) {
    let shape = description.dims.into();
    inspection.tensors.push(Tensor { name: description.name.into(), dtype, shape, place });
}

fn refuse(name: &str, problem: &str, inspection: &mut Inspection) {
    inspection.find(Finding::corrupt(FindingKind::Header, problem).tensor(name));
}

/// Bytes of a tensor; a last byte that is half full counts.
fn bytes_of(dtype: Dtype, dims: &[u64]) -> Option<u64> {
    dtype.bytes_of(elements(dims)?.checked_next_multiple_of(dtype.block_elements())?)
}

/// ONNX's numbers for element types.
const fn dtype(kind: u64) -> Option<Dtype> {
    Some(match kind {
        1 => Dtype::F32,
        2 => Dtype::U8,
        3 => Dtype::I8,
        4 => Dtype::U16,
        5 => Dtype::I16,
        6 => Dtype::I32,
        7 => Dtype::I64,
        9 => Dtype::Bool,
        10 => Dtype::F16,
        11 => Dtype::F64,
        12 => Dtype::U32,
        13 => Dtype::U64,
        14 => Dtype::C64,
        15 => Dtype::C128,
        16 => Dtype::Bf16,
        17 => Dtype::F8E4m3,
        18 => Dtype::F8E4m3Fnuz,
        19 => Dtype::F8E5m2,
        20 => Dtype::F8E5m2Fnuz,
        21 => Dtype::U4,
        22 => Dtype::I4,
        23 => Dtype::F4,
        24 => Dtype::F8E8m0,
        _ => return None,
    })
}
