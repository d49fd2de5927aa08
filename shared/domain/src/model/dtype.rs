//! Element types of tensors: what safetensors, PyTorch and GGUF can hold, under one name each.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! dtypes {
    ($($(#[$doc:meta])* $name:ident = $wire:literal, $elements:literal, $bits:literal;)*) => {
        /// The type of a tensor's elements. Block types hold several elements in one indivisible block.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Dtype {
            $($(#[$doc])* #[serde(rename = $wire)] $name,)*
        }

        impl Dtype {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in safetensors headers, in GGUF for block types.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $wire,)* }
            }

            /// Elements that one block holds; 1 for all but block types and sub-byte floats.
            #[must_use]
            pub const fn block_elements(self) -> u64 {
                match self { $(Self::$name => $elements,)* }
            }

            /// Bits that one block takes.
            #[must_use]
            pub const fn block_bits(self) -> u64 {
                match self { $(Self::$name => $bits,)* }
            }
        }
    };
}

dtypes! {
    Bool = "BOOL", 1, 8;
    U8 = "U8", 1, 8;
    I8 = "I8", 1, 8;
    U16 = "U16", 1, 16;
    I16 = "I16", 1, 16;
    U32 = "U32", 1, 32;
    I32 = "I32", 1, 32;
    U64 = "U64", 1, 64;
    I64 = "I64", 1, 64;
    F16 = "F16", 1, 16;
    Bf16 = "BF16", 1, 16;
    F32 = "F32", 1, 32;
    F64 = "F64", 1, 64;
    C64 = "C64", 1, 64;
    C128 = "C128", 1, 128;
    F8E4m3 = "F8_E4M3", 1, 8;
    F8E5m2 = "F8_E5M2", 1, 8;
    F8E4m3Fnuz = "F8_E4M3FNUZ", 1, 8;
    F8E5m2Fnuz = "F8_E5M2FNUZ", 1, 8;
    F8E8m0 = "F8_E8M0", 1, 8;
    /// Two elements a byte.
    F4 = "F4", 2, 8;
    U4 = "U4", 2, 8;
    I4 = "I4", 2, 8;
    F6E2m3 = "F6_E2M3", 4, 24;
    F6E3m2 = "F6_E3M2", 4, 24;
    Q4_0 = "Q4_0", 32, 144;
    Q4_1 = "Q4_1", 32, 160;
    Q5_0 = "Q5_0", 32, 176;
    Q5_1 = "Q5_1", 32, 192;
    Q8_0 = "Q8_0", 32, 272;
    Q8_1 = "Q8_1", 32, 288;
    Q2K = "Q2_K", 256, 672;
    Q3K = "Q3_K", 256, 880;
    Q4K = "Q4_K", 256, 1152;
    Q5K = "Q5_K", 256, 1408;
    Q6K = "Q6_K", 256, 1680;
    Q8K = "Q8_K", 256, 2336;
    Iq2Xxs = "IQ2_XXS", 256, 528;
    Iq2Xs = "IQ2_XS", 256, 592;
    Iq3Xxs = "IQ3_XXS", 256, 784;
    Iq1S = "IQ1_S", 256, 400;
    Iq4Nl = "IQ4_NL", 32, 144;
    Iq3S = "IQ3_S", 256, 880;
    Iq2S = "IQ2_S", 256, 656;
    Iq4Xs = "IQ4_XS", 256, 1088;
    Iq1M = "IQ1_M", 256, 448;
    Tq1_0 = "TQ1_0", 256, 432;
    Tq2_0 = "TQ2_0", 256, 528;
    Mxfp4 = "MXFP4", 32, 136;
    Nvfp4 = "NVFP4", 64, 288;
    Q1_0 = "Q1_0", 128, 144;
}

impl Dtype {
    /// Bytes of so many elements; none if they do not fill whole blocks and bytes, or if it overflows.
    #[must_use]
    pub fn bytes_of(self, elements: u64) -> Option<u64> {
        if !elements.is_multiple_of(self.block_elements()) {
            return None;
        }
        // Every block is a whole number of bytes.
        (elements / self.block_elements()).checked_mul(self.block_bits() / 8)
    }

    /// Whether its elements can be converted to another type of floating point.
    #[must_use]
    pub const fn is_convertible(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// What so many bytes of it take once they are converted. What cannot be converted stays as it is.
    #[must_use]
    pub const fn converted(self, length: u64, to: Self) -> u64 {
        if !self.is_convertible() || !to.is_convertible() {
            return length;
        }
        (length / (self.block_bits() / 8)).saturating_mul(to.block_bits() / 8)
    }

    /// Whether the safetensors format has it.
    #[must_use]
    pub const fn is_safetensors(self) -> bool {
        use Dtype::{
            Bf16, Bool, C64, F4, F6E2m3, F6E3m2, F8E4m3, F8E4m3Fnuz, F8E5m2, F8E5m2Fnuz, F8E8m0, F16, F32,
            F64, I8, I16, I32, I64, U8, U16, U32, U64,
        };
        let is_integer = matches!(self, Bool | U8 | I8 | U16 | I16 | U32 | I32 | U64 | I64);
        let is_float = matches!(self, F16 | Bf16 | F32 | F64 | C64);
        let is_small =
            matches!(self, F8E4m3 | F8E5m2 | F8E4m3Fnuz | F8E5m2Fnuz | F8E8m0 | F4 | F6E2m3 | F6E3m2);
        is_integer || is_float || is_small
    }

    /// The type with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dtype| dtype.as_str() == name)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_whole_bytes_and_names_are_unique() {
        for (at, dtype) in Dtype::ALL.iter().enumerate() {
            assert_eq!(dtype.block_bits() % 8, 0, "{dtype}");
            assert_eq!(Dtype::from_name(dtype.as_str()), Some(*dtype));
            assert!(Dtype::ALL[at + 1..].iter().all(|other| other.as_str() != dtype.as_str()), "{dtype}");
        }
    }

    #[test]
    fn only_floating_point_is_converted() {
        assert_eq!(Dtype::F32.converted(400, Dtype::Bf16), 200);
        assert_eq!(Dtype::F16.converted(200, Dtype::F64), 800);
        assert_eq!(Dtype::Bf16.converted(200, Dtype::F16), 200);
        for kept in [Dtype::I64, Dtype::U8, Dtype::F8E4m3, Dtype::Q4_0, Dtype::Bool] {
            assert_eq!(kept.converted(100, Dtype::F16), 100, "{kept}");
        }
    }

    #[test]
    fn partial_blocks_and_overflow_have_no_size() {
        assert_eq!(Dtype::Q4_0.bytes_of(64), Some(36));
        assert_eq!(Dtype::Q4_0.bytes_of(65), None);
        assert_eq!(Dtype::F4.bytes_of(3), None);
        assert_eq!(Dtype::F64.bytes_of(u64::MAX), None);
    }
}
