//! Every bound of the readers, in one place. Beyond one, a file is refused with a finding that names it.

/// A safetensors header: the limit of the format's own reference reader.
pub const SAFETENSORS_HEADER_BYTES: u64 = 100_000_000;

/// Tensors in one file. The largest published ones have some 100,000; a table of this many takes about 200 MB.
pub const TENSORS: usize = 1_000_000;

/// Dimensions of a tensor. The libraries stop at 64 or before; real files have at most 6.
pub const RANK: usize = 64;

/// A tensor's name in bytes. Real ones stay below 300.
pub const NAME_BYTES: usize = 4_096;

/// The pickle of a checkpoint (`data.pkl`), which holds names and shapes, not data.
pub const PICKLE_BYTES: u64 = 64 << 20;

/// A zip's central directory. One entry a tensor, about 100 bytes each.
pub const ZIP_DIRECTORY_BYTES: u64 = 128 << 20;

/// Key-value pairs of a GGUF header.
pub const GGUF_PAIRS: u64 = 100_000;

/// Everything before the tensors of a GGUF file: the vocabulary is most of it, some tens of MB at worst.
pub const GGUF_HEADER_BYTES: u64 = 256 << 20;

/// What is kept of one metadata value: long enough for a licence, short enough for a hundred thousand models.
pub const METADATA_VALUE_BYTES: usize = 64 << 10;

/// What is kept of all metadata of one file.
pub const METADATA_BYTES: usize = 1 << 20;

/// Findings kept of one file; a header that breaks a rule in every entry would fill memory with complaints.
pub const FINDINGS: usize = 32;
