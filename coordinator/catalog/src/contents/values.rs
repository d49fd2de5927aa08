//! Looks at elements: which are not finite, and whether all bytes are zero.

use hoist_domain::Dtype;

/// What of an element's bits says that it is not finite, in the integer of its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// All exponent bits set: infinity or not a number.
    Two {
        exponent: u16,
    },
    Four {
        exponent: u32,
    },
    Eight {
        exponent: u64,
    },
    /// One byte: these bits set mean not finite.
    OneMasked {
        mask: u8,
        not_finite: u8,
    },
    /// One byte: exactly this value.
    OneEqual {
        not_finite: u8,
    },
    /// Integers and block types: every bit pattern is a value.
    Any,
}

const fn shape(dtype: Dtype) -> Shape {
    match dtype {
        Dtype::F16 => Shape::Two { exponent: 0x7c00 },
        Dtype::Bf16 => Shape::Two { exponent: 0x7f80 },
        // Complex numbers are pairs.
        Dtype::F32 | Dtype::C64 => Shape::Four { exponent: 0x7f80_0000 },
        Dtype::F64 | Dtype::C128 => Shape::Eight { exponent: 0x7ff0_0000_0000_0000 },
        Dtype::F8E4m3 => Shape::OneMasked { mask: 0x7f, not_finite: 0x7f },
        Dtype::F8E5m2 => Shape::OneMasked { mask: 0x7c, not_finite: 0x7c },
        Dtype::F8E4m3Fnuz | Dtype::F8E5m2Fnuz => Shape::OneEqual { not_finite: 0x80 },
        Dtype::F8E8m0 => Shape::OneEqual { not_finite: 0xff },
        _ => Shape::Any,
    }
}

impl Shape {
    const fn bytes(self) -> usize {
        match self {
            Self::Two { .. } => 2,
            Self::Four { .. } => 4,
            Self::Eight { .. } => 8,
            Self::OneMasked { .. } | Self::OneEqual { .. } | Self::Any => 1,
        }
    }
}

/// Follows a tensor's bytes as they come, in pieces of any length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values {
    shape: Shape,
    non_finite: u64,
    is_zero: bool,
    /// The beginning of an element whose rest is in the next piece.
    carry: [u8; 8],
    carried: usize,
}

impl Default for Values {
    fn default() -> Self {
        Self { shape: Shape::Any, non_finite: 0, is_zero: false, carry: [0; 8], carried: 0 }
    }
}

impl Values {
    pub(super) const fn new(dtype: Dtype) -> Self {
        Self { shape: shape(dtype), non_finite: 0, is_zero: true, carry: [0; 8], carried: 0 }
    }

    pub(super) const fn non_finite(&self) -> u64 {
        self.non_finite
    }

    pub(super) const fn is_zero(&self) -> bool {
        self.is_zero
    }

    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        self.is_zero = self.is_zero && bytes.iter().all(|byte| *byte == 0);
        let size = self.shape.bytes();
        while self.carried > 0 && self.carried < size {
            let Some((first, rest)) = bytes.split_first() else { return };
            if let Some(place) = self.carry.get_mut(self.carried) {
                *place = *first;
            }
            self.carried += 1;
            bytes = rest;
        }
        if self.carried > 0 {
            let whole = self.carry;
            self.non_finite += count(self.shape, whole.get(..size).unwrap_or_default());
            self.carried = 0;
        }
        let whole = bytes.len() / size * size;
        self.non_finite += count(self.shape, bytes.get(..whole).unwrap_or_default());
        let rest = bytes.get(whole..).unwrap_or_default();
        if let Some(place) = self.carry.get_mut(..rest.len()) {
            place.copy_from_slice(rest);
        }
        self.carried = rest.len();
    }
}

/// Elements that are not finite among whole ones. Plain loops over fixed sizes: the compiler makes vectors of them.
fn count(shape: Shape, bytes: &[u8]) -> u64 {
    match shape {
        Shape::Any => 0,
        Shape::Two { exponent } => {
            let (elements, _) = bytes.as_chunks::<2>();
            elements.iter().map(|e| u64::from(u16::from_le_bytes(*e) & exponent == exponent)).sum()
        }
        Shape::Four { exponent } => {
            let (elements, _) = bytes.as_chunks::<4>();
            elements.iter().map(|e| u64::from(u32::from_le_bytes(*e) & exponent == exponent)).sum()
        }
        Shape::Eight { exponent } => {
            let (elements, _) = bytes.as_chunks::<8>();
            elements.iter().map(|e| u64::from(u64::from_le_bytes(*e) & exponent == exponent)).sum()
        }
        Shape::OneMasked { mask, not_finite } => {
            bytes.iter().map(|byte| u64::from(byte & mask == not_finite)).sum()
        }
        Shape::OneEqual { not_finite } => bytes.iter().map(|byte| u64::from(*byte == not_finite)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_in_pieces(dtype: Dtype, bytes: &[u8], piece: usize) -> u64 {
        let mut values = Values::new(dtype);
        bytes.chunks(piece).for_each(|piece| values.take(piece));
        values.non_finite()
    }

    #[test]
    fn what_is_not_finite_is_counted_however_the_bytes_come() {
        let of = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let f32s = of(&[0.0, 1.0, f32::NAN, -1e38, f32::INFINITY, f32::NEG_INFINITY, f32::MAX]);
        let f64s: Vec<u8> =
            [0.0, f64::NAN, f64::MAX, f64::INFINITY].iter().flat_map(|v| v.to_le_bytes()).collect();
        let f16s: Vec<u8> =
            [0x0000_u16, 0x7c00, 0xfc00, 0x7e00, 0x7bff].iter().flat_map(|v| v.to_le_bytes()).collect();
        let bf16s: Vec<u8> = [0x7f80_u16, 0x7f7f, 0xffc0].iter().flat_map(|v| v.to_le_bytes()).collect();
        for piece in [1, 2, 3, 5, 7, 1_000] {
            assert_eq!(count_in_pieces(Dtype::F32, &f32s, piece), 3, "{piece}");
            assert_eq!(count_in_pieces(Dtype::F64, &f64s, piece), 2, "{piece}");
            assert_eq!(count_in_pieces(Dtype::F16, &f16s, piece), 3, "{piece}");
            assert_eq!(count_in_pieces(Dtype::Bf16, &bf16s, piece), 2, "{piece}");
            assert_eq!(count_in_pieces(Dtype::F8E4m3, &[0x7f, 0xff, 0x7e, 0x00], piece), 2, "{piece}");
            assert_eq!(count_in_pieces(Dtype::F8E5m2, &[0x7c, 0x7f, 0xfd, 0x7b], piece), 3, "{piece}");
            assert_eq!(count_in_pieces(Dtype::I8, &[0x7f, 0x80, 0xff], piece), 0, "{piece}");
        }
    }

    #[test]
    fn zeros_are_zeros_to_the_last_byte() {
        let mut values = Values::new(Dtype::F16);
        values.take(&[0; 5]);
        assert!(values.is_zero());
        values.take(&[0, 1]);
        assert!(!values.is_zero());
    }
}
