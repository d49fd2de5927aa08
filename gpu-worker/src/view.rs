//! Tensors of libtorch over memory that libtorch does not own: a mapped segment.
#![expect(unsafe_code, reason = "a tensor over foreign memory is a promise about that memory")]

use std::collections::HashMap;

use hoist_domain::{Bytes, Dtype};
use hoist_segment::{Attached, Placed};
use tch::{Device, Kind, TchError, Tensor};

/// A tensor of a replica: what it is, and where libtorch has it.
#[derive(Debug)]
pub(crate) struct Placing {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) size: Bytes,
    /// Of `dtype` and `shape` where libtorch knows both; else its bytes, in one row.
    pub(crate) tensor: Tensor,
}

impl Placing {
    /// Bytes of it. None: there are none at this place.
    pub(crate) fn read(&self, offset: u64, length: usize) -> Result<Option<Vec<u8>>, TchError> {
        let Some(left) = self.size.0.checked_sub(offset) else { return Ok(None) };
        let length = left.min(length as u64);
        if length == 0 {
            return Ok(Some(Vec::new()));
        }
        let (Ok(from), Ok(count), Ok(bytes)) =
            (i64::try_from(offset), i64::try_from(length), usize::try_from(length))
        else {
            return Ok(None);
        };
        let row = self.tensor.f_reshape([-1_i64])?.f_view_dtype(Kind::Uint8)?.f_narrow(0, from, count)?;
        let mut data = vec![0; bytes];
        row.f_copy_data_u8(&mut data, bytes)?;
        Ok(Some(data))
    }
}

/// A mapped segment, and tensors over it.
///
/// Invariant: no tensor outlives the map. They are private to it and dropped before it: fields are dropped in this order.
#[derive(Debug)]
pub(crate) struct Viewed {
    tensors: HashMap<Box<str>, Placing>,
    segment: Attached,
}

impl Viewed {
    /// # Errors
    /// libtorch's, or what it cannot hold.
    pub(crate) fn of(segment: Attached) -> Result<Self, String> {
        let mut tensors = HashMap::new();
        for placed in segment.tensors() {
            let (_, bytes) = segment.find(&placed.name).ok_or("a tensor is not where it was")?;
            let tensor = over(bytes, placed)?;
            let placing = Placing {
                dtype: placed.dtype,
                shape: placed.shape.to_vec(),
                size: Bytes(placed.length),
                tensor,
            };
            tensors.insert(placed.name.clone(), placing);
        }
        Ok(Self { tensors, segment })
    }

    pub(crate) const fn tensors(&self) -> &HashMap<Box<str>, Placing> {
        &self.tensors
    }

    /// What is mapped.
    pub(crate) fn length(&self) -> Bytes {
        self.segment.length()
    }
}

/// A tensor over these bytes, which are a tensor's. The caller sees to it that they outlive it.
fn over(bytes: &[u8], placed: &Placed) -> Result<Tensor, String> {
    if bytes.len() as u64 != placed.length {
        return Err(format!("tensor `{}` is not all there", placed.name));
    }
    let row = || i64::try_from(bytes.len()).map(|length| (vec![length], Kind::Uint8));
    let (shape, kind) = match known(placed) {
        Some(known) => known,
        // libtorch has no such elements, or not so many: they are kept, and come back, as bytes.
        None => row().map_err(|_| format!("tensor `{}` is larger than any", placed.name))?,
    };
    // SAFETY: the memory must be valid for reads of `shape` elements of `kind` as long as the tensor or any view of it lives,
    // aligned for them, and nobody may write to it.
    // - `bytes` are that many: `known` multiplies the shape and compares it with the tensor's length, a row is their number.
    // - They live as long as the map: the tensor goes into a `Viewed`, which owns the map and drops it last, and gives out
    //   references alone. Whoever derives tensors from one (`Placing::read`, the conversion) drops those before it returns or
    //   copies them.
    // - A segment's tensors lie on multiples of their elements' size (`Layout`), in a file that begins on a page; bytes lie
    //   anywhere.
    // - The map is read-only and no function of this crate writes to such a tensor: one that did would fault.
    let tensor = unsafe { Tensor::f_from_blob(bytes.as_ptr(), &shape, &[], kind, Device::Cpu) };
    tensor.map_err(|error| error.to_string())
}

/// The shape and the kind that libtorch has for it.
fn known(placed: &Placed) -> Option<(Vec<i64>, Kind)> {
    let kind = kind(placed.dtype)?;
    let shape: Option<Vec<i64>> = placed.shape.iter().map(|count| i64::try_from(*count).ok()).collect();
    let shape = shape?;
    let elements = shape.iter().try_fold(1_i64, |product, count| product.checked_mul(*count))?;
    let length = u64::try_from(elements).ok()?.checked_mul(u64::try_from(kind.elt_size_in_bytes()).ok()?)?;
    (length == placed.length).then_some((shape, kind))
}

/// What libtorch calls elements of a type.
pub(crate) const fn kind(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::Bool => Kind::Bool,
        Dtype::U8 => Kind::Uint8,
        Dtype::I8 => Kind::Int8,
        Dtype::I16 => Kind::Int16,
        Dtype::I32 => Kind::Int,
        Dtype::I64 => Kind::Int64,
        Dtype::F16 => Kind::Half,
        Dtype::Bf16 => Kind::BFloat16,
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        _ => return None,
    })
}
