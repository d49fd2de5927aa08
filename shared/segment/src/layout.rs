//! Where each tensor of a component lies in its segment's file: the same content is the same file, byte for byte.
//!
//! The header is padded so that the data begins on a page; tensors follow by the size of their elements, largest first,
//! then by name, so that each lies on a multiple of its element's size. The metadata says `format: pt` and nothing else:
//! where the tensors come from is the catalog's to know.

use std::cmp::Reverse;

use hoist_domain::Dtype;
use serde_json::{Map as JsonMap, Value};

/// Data begins on a multiple of this: the smallest page of all machines that run this.
pub const PAGE: u64 = 4096;

/// The reference reader takes no longer header.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Bytes of the length before the header.
const LENGTH_BYTES: u64 = 8;

/// A tensor by what it is, not by where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorShape {
    /// Without the component's prefix.
    pub name: Box<str>,
    pub dtype: Dtype,
    pub shape: Box<[u64]>,
}

/// A tensor in its segment's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub name: Box<str>,
    pub dtype: Dtype,
    pub shape: Box<[u64]>,
    /// From the beginning of the file.
    pub offset: u64,
    pub length: u64,
}

/// A file that is kept as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFile {
    /// A plain name; equal content has equal names, so they are made from the content, not from where it came from.
    pub name: Box<str>,
    pub length: u64,
}

/// Why tensors cannot be a safetensors file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("tensor `{0}` is there twice")]
    Twice(Box<str>),
    #[error("tensor `{name}` is of type {dtype}, which safetensors does not have")]
    Dtype { name: Box<str>, dtype: Dtype },
    #[error("tensor `{0}` is no whole number of bytes, or larger than any file")]
    Size(Box<str>),
    #[error("tensor `{0}` has the name of the metadata")]
    Name(Box<str>),
    #[error("a header of {0} bytes: readers take at most {MAX_HEADER_BYTES}")]
    Header(u64),
}

/// A component's file, before there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// In the order of their places.
    tensors: Vec<Placed>,
    /// From the first byte of the file to the first of the data.
    header: Vec<u8>,
    length: u64,
}

/// The power of two that an element's place is a multiple of.
const fn alignment(dtype: Dtype) -> u64 {
    let bytes = dtype.block_bits() / 8;
    1 << bytes.trailing_zeros()
}

impl Layout {
    /// # Errors
    /// When the tensors cannot be a safetensors file.
    pub fn of(tensors: impl IntoIterator<Item = TensorShape>) -> Result<Self, LayoutError> {
        let mut tensors: Vec<TensorShape> = tensors.into_iter().collect();
        tensors.sort_by(|one, other| {
            let key = |tensor: &TensorShape| Reverse(alignment(tensor.dtype));
            key(one).cmp(&key(other)).then_with(|| one.name.cmp(&other.name))
        });
        let mut names: Vec<&str> = tensors.iter().map(|tensor| &*tensor.name).collect();
        names.sort_unstable();
        if let Some([twice, _]) = names.array_windows().find(|[one, other]| one == other) {
            return Err(LayoutError::Twice((*twice).into()));
        }
        let mut placed = Vec::with_capacity(tensors.len());
        let mut end = 0_u64;
        for TensorShape { name, dtype, shape } in tensors {
            if !dtype.is_safetensors() {
                return Err(LayoutError::Dtype { name, dtype });
            }
            if &*name == METADATA {
                return Err(LayoutError::Name(name));
            }
            let elements = shape.iter().try_fold(1_u64, |product, count| product.checked_mul(*count));
            let length = elements.and_then(|elements| dtype.bytes_of(elements));
            let Some((length, after)) = length.and_then(|length| Some((length, end.checked_add(length)?)))
            else {
                return Err(LayoutError::Size(name));
            };
            placed.push(Placed { name, dtype, shape, offset: end, length });
            end = after;
        }
        let header = encode(&placed)?;
        let start = header.len() as u64;
        for tensor in &mut placed {
            tensor.offset += start;
        }
        let length = start.checked_add(end).ok_or_else(|| LayoutError::Size("".into()))?;
        Ok(Self { tensors: placed, header, length })
    }

    /// Reads the header of a segment's file: none if it is not, byte for byte, the one that these tensors have.
    pub(crate) fn read(header: &[u8]) -> Option<Self> {
        let (length, text) = header.split_first_chunk::<8>()?;
        if u64::from_le_bytes(*length) != text.len() as u64 {
            return None;
        }
        let Value::Object(table) = serde_json::from_slice(text).ok()? else { return None };
        let tensors = table.iter().filter(|(name, _)| *name != METADATA).map(|(name, entry)| {
            let shape = entry.get("shape")?.as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?;
            Some(TensorShape {
                name: name.as_str().into(),
                dtype: Dtype::from_name(entry.get("dtype")?.as_str()?)?,
                shape,
            })
        });
        let layout = Self::of(tensors.collect::<Option<Vec<_>>>()?).ok()?;
        (layout.header == header).then_some(layout)
    }

    /// In the order of their places.
    #[must_use]
    pub fn tensors(&self) -> &[Placed] {
        &self.tensors
    }

    /// The first bytes of the file, up to the data.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Of the whole file.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }
}

const METADATA: &str = "__metadata__";

/// The header with its length before it; offsets are from the beginning of the data.
fn encode(tensors: &[Placed]) -> Result<Vec<u8>, LayoutError> {
    let mut text = String::from("{\"__metadata__\":{\"format\":\"pt\"}");
    for tensor in tensors {
        let shape = tensor.shape.iter().map(|count| Value::from(*count)).collect::<Vec<_>>();
        let mut entry = JsonMap::new();
        entry.insert("dtype".to_owned(), tensor.dtype.as_str().into());
        entry.insert("shape".to_owned(), shape.into());
        entry.insert("data_offsets".to_owned(), vec![tensor.offset, tensor.offset + tensor.length].into());
        text.push(',');
        text.push_str(&Value::from(&*tensor.name).to_string());
        text.push(':');
        text.push_str(&Value::Object(entry).to_string());
    }
    text.push('}');
    let whole = (LENGTH_BYTES + text.len() as u64).next_multiple_of(PAGE);
    let length = whole - LENGTH_BYTES;
    let padded = usize::try_from(length).ok().filter(|_| length <= MAX_HEADER_BYTES);
    let padded = padded.ok_or(LayoutError::Header(length))?;
    let mut header = Vec::with_capacity(padded.saturating_add(8));
    header.extend_from_slice(&length.to_le_bytes());
    header.extend_from_slice(text.as_bytes());
    header.resize(padded.saturating_add(8), b' ');
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use safetensors::SafeTensors;

    fn shape(name: &str, dtype: Dtype, shape: &[u64]) -> TensorShape {
        TensorShape { name: name.into(), dtype, shape: shape.into() }
    }

    /// The file with data that tells where it came from.
    fn file(layout: &Layout) -> Vec<u8> {
        let mut file = layout.header().to_vec();
        file.resize(usize::try_from(layout.length()).unwrap(), 0);
        for (number, tensor) in layout.tensors().iter().enumerate() {
            let range = usize::try_from(tensor.offset).unwrap()
                ..usize::try_from(tensor.offset + tensor.length).unwrap();
            file[range].fill(u8::try_from(number % 251).unwrap() + 1);
        }
        file
    }

    #[test]
    fn the_reference_reader_takes_it_and_every_tensor_is_where_it_says() {
        let dtypes = Dtype::ALL.iter().copied().filter(|dtype| dtype.is_safetensors());
        let tensors = dtypes.flat_map(|dtype| {
            [
                shape(&format!("a \"{dtype}\"\\\n\u{1}ü"), dtype, &[3, 4, 8]),
                shape(&format!("z {dtype}"), dtype, &[]),
            ]
        });
        let whole = |tensor: &TensorShape| tensor.dtype.bytes_of(tensor.shape.iter().product()).is_some();
        let layout = Layout::of(tensors.filter(whole)).unwrap();
        let file = file(&layout);
        let read = SafeTensors::deserialize(&file).unwrap();
        assert_eq!(read.len(), layout.tensors().len());
        for (number, tensor) in layout.tensors().iter().enumerate() {
            let view = read.tensor(&tensor.name).unwrap();
            assert_eq!(view.data().len() as u64, tensor.length, "{tensor:?}");
            assert!(view.data().iter().all(|byte| usize::from(*byte) == number % 251 + 1), "{tensor:?}");
            assert!(tensor.offset.is_multiple_of(alignment(tensor.dtype)), "{tensor:?}");
        }
    }

    #[test]
    fn types_that_the_reference_reader_lacks_are_refused_and_no_others() {
        for dtype in Dtype::ALL.iter().copied() {
            let text = format!("\"{dtype}\"");
            let known = serde_json::from_str::<safetensors::Dtype>(&text).is_ok();
            let elements = dtype.block_elements();
            let layout = Layout::of([shape("w", dtype, &[elements])]);
            assert_eq!(layout.is_ok(), known, "{dtype}: {layout:?}");
        }
    }

    #[test]
    fn data_begins_on_a_page_whatever_the_header() {
        for count in [0_usize, 1, 10, 60, 1_000] {
            let tensors = (0..count).map(|number| shape(&format!("layer.{number}.weight"), Dtype::F16, &[2]));
            let layout = Layout::of(tensors).unwrap();
            assert_eq!(layout.header().len() as u64 % PAGE, 0);
            assert_eq!(layout.length(), layout.header().len() as u64 + 4 * count as u64);
            assert_eq!(Layout::read(layout.header()), Some(layout));
        }
    }

    #[test]
    fn what_cannot_be_a_file_is_refused() {
        let of = |tensors: &[TensorShape]| Layout::of(tensors.to_vec()).unwrap_err();
        let twice = shape("w", Dtype::F16, &[1]);
        assert_eq!(of(&[twice.clone(), shape("w", Dtype::F32, &[1])]), LayoutError::Twice("w".into()));
        assert_eq!(of(&[shape("w", Dtype::F64, &[1 << 61])]), LayoutError::Size("w".into()));
        assert_eq!(of(&[shape("w", Dtype::F16, &[1 << 40, 1 << 40])]), LayoutError::Size("w".into()));
        let half = [shape("v", Dtype::U8, &[1 << 63]), shape("w", Dtype::U8, &[1 << 63])];
        assert_eq!(of(&half), LayoutError::Size("w".into()));
        assert_eq!(of(&[shape("w", Dtype::F4, &[3])]), LayoutError::Size("w".into()));
        assert_eq!(of(&[shape(METADATA, Dtype::U8, &[3])]), LayoutError::Name(METADATA.into()));
        let long = "x".repeat(100_000_000);
        assert!(matches!(of(&[shape(&long, Dtype::U8, &[3])]), LayoutError::Header(_)));
    }

    fn any_tensors() -> impl Strategy<Value = Vec<TensorShape>> {
        let dtype = prop::sample::select(vec![
            Dtype::F32,
            Dtype::F16,
            Dtype::Bf16,
            Dtype::I64,
            Dtype::U8,
            Dtype::Bool,
        ]);
        let shapes = prop::collection::vec(0_u64..7, 0..4);
        prop::collection::btree_map(".{0,12}", (dtype, shapes), 0..12).prop_map(|tensors| {
            let named = tensors.into_iter().filter(|(name, _)| name != METADATA);
            named.map(|(name, (dtype, of))| shape(&name, dtype, &of)).collect()
        })
    }

    proptest! {
        #[test]
        fn the_order_in_which_tensors_come_means_nothing(tensors in any_tensors(), seed: u64) {
            let layout = Layout::of(tensors.clone()).unwrap();
            let mut other = tensors;
            let count = other.len().max(1);
            other.rotate_left(usize::try_from(seed % count as u64).unwrap());
            prop_assert_eq!(&layout, &Layout::of(other).unwrap());
            let read = Layout::read(layout.header());
            prop_assert_eq!(Some(layout), read);
        }

        #[test]
        fn a_header_that_is_not_exactly_ours_is_not_believed(tensors in any_tensors(), at: prop::sample::Index, bit in 0..8) {
            let layout = Layout::of(tensors).unwrap();
            let mut header = layout.header().to_vec();
            let at = at.index(header.len());
            header[at] ^= 1_u8 << bit;
            // A flipped bit may say something else that is just as well-formed; never the same.
            prop_assert_ne!(Layout::read(&header), Some(layout));
        }
    }
}
