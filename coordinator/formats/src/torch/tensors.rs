//! From tensors as a pickle asks for them to tensors whose every byte lies within the file.

use hoist_domain::Dtype;

use crate::pickle::{Heap, Pickle, RawStorage, RawTensor, StorageClass, Value, dtype_named, walk};
use crate::{Finding, FindingKind, Place, Tensor, Verdict, limits};

use super::report::Report;

/// What the container knows about a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    Missing,
    /// Its bytes as they are.
    Plain {
        offset: u64,
        length: u64,
    },
    /// Compressed, or in another byte order than ours.
    Opaque {
        length: u64,
    },
    /// Already reported: nothing more can be said.
    Unreadable,
}

/// Where checked tensors go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// Into the report, under their own names.
    Named,
    /// Into the report, as constants of a program.
    Constants,
    /// Nowhere: they are part of a program's code.
    CheckedOnly,
}

/// Checks every tensor below the root, and lists it. `storage_of` finds storages by key.
pub(super) fn add_all(
    pickle: &Pickle<'_>,
    listing: Listing,
    storage_of: impl Fn(&str) -> Storage,
    report: &mut Report,
) {
    let walk = walk(&pickle.heap, pickle.root, pickle.length);
    report.find_all(walk.findings);
    for (name, index) in walk.tensors {
        if report.tensor_count() >= limits::TENSORS {
            let message = "it names more tensors than a file may have";
            return report.find(Finding::corrupt(FindingKind::Pickle, message));
        }
        let Some(raw) = pickle.heap.tensors.get(index as usize) else { continue };
        let name = if listing == Listing::Constants { format!("constants.{name}").into() } else { name };
        match resolve(&pickle.heap, *raw, &storage_of) {
            Ok((described, remark)) => {
                report.find_all(remark.map(|remark| remark.tensor(&name)));
                if let Some((dtype, shape, place)) = described.filter(|_| listing != Listing::CheckedOnly) {
                    report.add_tensor(Tensor { name, dtype, shape, place });
                }
            }
            Err(finding) => report.find(finding.tensor(&name)),
        }
    }
}

type Described = (Option<(Dtype, Box<[u64]>, Place)>, Option<Finding>);

fn data(message: impl Into<String>) -> Finding {
    Finding::corrupt(FindingKind::Data, message)
}

fn resolve(
    heap: &Heap<'_>,
    raw: RawTensor,
    storage_of: &impl Fn(&str) -> Storage,
) -> std::result::Result<Described, Finding> {
    let Some(storage) = heap.storages.get(raw.storage as usize) else { return Ok((None, None)) };
    let dtype = match dtype_of(heap, raw, storage.class)? {
        Ok(dtype) => dtype,
        Err(remark) => return Ok((None, remark)),
    };
    let shape = lengths(heap, raw.size, "a dimension")?;
    let strides = lengths(heap, raw.stride, "a stride")?;
    if shape.len() != strides.len() {
        return Err(data(format!("it has {} dimensions and {} strides", shape.len(), strides.len())));
    }
    let first_element = length(heap, raw.offset, "its offset")?;
    let Located { offset, bytes: storage_bytes, excess } = locate(heap, storage, storage_of)?;
    let view =
        View { element_bytes: dtype.block_bits() / 8, shape: &shape, strides: &strides, first_element };
    let logical_bytes = view.check(storage_bytes)?;
    let trap = limits::REPEATED_VIEW_BYTES.max(storage_bytes.saturating_mul(64));
    let remark = if logical_bytes > trap {
        Some(format!("it repeats a storage of {storage_bytes} bytes into {logical_bytes}"))
    } else {
        (excess > 0)
            .then(|| format!("its storage is followed by {excess} bytes that the pickle does not know of"))
    };
    let remark = remark.map(|message| Finding::new(FindingKind::Data, Verdict::Suspicious, message));
    let place = match offset {
        Some(offset) => view.place(offset, storage_bytes, logical_bytes),
        None => Place::Unmapped,
    };
    Ok((Some((dtype, shape, place)), remark))
}

/// The element type. Without one the tensor is left out: with a remark, or because its storage's class was reported.
fn dtype_of(
    heap: &Heap<'_>,
    raw: RawTensor,
    class: StorageClass,
) -> std::result::Result<std::result::Result<Dtype, Option<Finding>>, Finding> {
    let Some(named) = raw.dtype else {
        return Ok(match class {
            StorageClass::Of(dtype) => Ok(dtype),
            StorageClass::Untyped => Ok(Dtype::U8),
            StorageClass::Unknown => Err(None),
        });
    };
    let Some(global) = heap.global(named) else { return Err(data("its element type is no type")) };
    let dtype = global.name.strip_prefix("torch.").and_then(dtype_named);
    Ok(dtype.ok_or_else(|| {
        let message = format!("its element type `{}` is not supported", hoist_domain::excerpt(&global.name));
        Some(Finding::new(FindingKind::Unsupported, Verdict::Ok, message))
    }))
}

fn length(heap: &Heap<'_>, value: Value, what: &str) -> std::result::Result<u64, Finding> {
    let int = heap.as_int(value).ok_or_else(|| data(format!("{what} is not a number")))?;
    u64::try_from(int).map_err(|_| data(format!("{what} is negative: {int}")))
}

fn lengths(heap: &Heap<'_>, value: Value, what: &str) -> std::result::Result<Box<[u64]>, Finding> {
    let items = heap.as_tuple(value).ok_or_else(|| data("its shape is no tuple"))?;
    if items.len() > limits::RANK {
        return Err(data(format!("it has {} dimensions: the limit is {}", items.len(), limits::RANK)));
    }
    items.iter().map(|item| length(heap, *item, what)).collect()
}

/// A storage that is there.
struct Located {
    /// None if its bytes cannot be used as they are.
    offset: Option<u64>,
    bytes: u64,
    /// Bytes in the container beyond those that the pickle claims: torch loads them, and no tensor has them.
    excess: u64,
}

/// Finds a storage and compares its length with what the pickle says.
fn locate(
    heap: &Heap<'_>,
    storage: &RawStorage,
    storage_of: &impl Fn(&str) -> Storage,
) -> std::result::Result<Located, Finding> {
    let key = storage_key(heap, storage.key).ok_or_else(|| data("its storage has no key"))?;
    let shown = hoist_domain::excerpt(&key);
    if key.contains(['/', '\\', '\0']) || key == ".." {
        return Err(Finding::corrupt(FindingKind::Path, format!("its storage's key is a path: `{shown}`")));
    }
    let elements = length(heap, storage.elements, "its storage's length")?;
    let claimed = elements
        .checked_mul(storage.element_bytes())
        .ok_or_else(|| data(format!("its storage `{shown}` claims {elements} elements")))?;
    if storage.is_view {
        // The key is the view's own; what it is a view of was checked under its key.
        return Ok(Located { offset: None, bytes: claimed, excess: 0 });
    }
    let (offset, there) = match storage_of(&key) {
        Storage::Missing => {
            return Err(Finding::corrupt(FindingKind::Partial, format!("its storage `{shown}` is missing")));
        }
        Storage::Unreadable => return Ok(Located { offset: None, bytes: claimed, excess: 0 }),
        Storage::Plain { offset, length } => (Some(offset), length),
        Storage::Opaque { length } => (None, length),
    };
    match there.checked_sub(claimed) {
        Some(excess) => Ok(Located { offset, bytes: claimed, excess }),
        None => Err(data(format!("its storage `{shown}` has {there} bytes, the pickle says {claimed}"))),
    }
}

/// Keys are text; some writers made them numbers.
pub(super) fn storage_key(heap: &Heap<'_>, key: Value) -> Option<String> {
    heap.as_text(key).map(str::to_owned).or_else(|| heap.as_int(key).map(|int| int.to_string()))
}

/// A tensor as a window onto its storage.
struct View<'s> {
    element_bytes: u64,
    shape: &'s [u64],
    strides: &'s [u64],
    first_element: u64,
}

impl View<'_> {
    /// That every element lies within the storage. The bytes of all elements, repeated ones counted again.
    fn check(&self, storage_bytes: u64) -> std::result::Result<u64, Finding> {
        let overflow = || data("its shape is beyond all numbers");
        // Zeros are left out, so that one cannot hide an overflow.
        let product = |total: u64, dimension: &u64| total.checked_mul((*dimension).max(1));
        let all = self.shape.iter().try_fold(self.element_bytes, product).ok_or_else(overflow)?;
        let is_empty = self.shape.contains(&0);
        let last =
            self.shape.iter().zip(self.strides).try_fold(self.first_element, |last, (dimension, stride)| {
                last.checked_add(dimension.saturating_sub(1).checked_mul(*stride)?)
            });
        let past =
            if is_empty { Some(self.first_element) } else { last.and_then(|last| last.checked_add(1)) };
        let end = past.and_then(|past| past.checked_mul(self.element_bytes)).ok_or_else(overflow)?;
        if end > storage_bytes {
            return Err(data(format!("it reaches {end} bytes into a storage of {storage_bytes}")));
        }
        Ok(if is_empty { 0 } else { all })
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1_u64;
        for (dimension, stride) in self.shape.iter().zip(self.strides).rev() {
            if *dimension != 1 && *stride != expected {
                return self.shape.contains(&0);
            }
            expected = expected.saturating_mul(*dimension);
        }
        true
    }

    fn place(&self, offset: u64, storage_bytes: u64, logical_bytes: u64) -> Place {
        if self.is_contiguous() {
            // Within the storage, as was checked: it cannot overflow.
            let start = self.first_element.saturating_mul(self.element_bytes);
            Place::Extent { offset: offset.saturating_add(start), length: logical_bytes }
        } else {
            Place::Strided {
                offset,
                length: storage_bytes,
                first_element: self.first_element,
                strides: self.strides.into(),
            }
        }
    }
}
