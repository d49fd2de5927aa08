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

/// Pickles interpreted of one file: a legacy checkpoint has five, an archive two or three.
pub const PICKLES: usize = 64;

/// A pickle is refused when its objects take more than so many times its own bytes. Real ones stay below four.
pub const PICKLE_MEMORY_FACTOR: usize = 8;

/// What every pickle may take beside that, so that tiny ones of one-byte opcodes pass.
pub const PICKLE_MEMORY_FLOOR: usize = 64 << 10;

/// Values on the stack of the pickle machine. Picklers write collections in batches of a thousand; tuples are whole.
pub const PICKLE_STACK: usize = 1_000_000;

/// Containers within containers. Python's own pickler gives up near 300, a module tree nests three deep a level.
pub const PICKLE_DEPTH: usize = 500;

/// Values that a pickle would have if every shared one were written out, beyond eight times what it holds.
pub const PICKLE_EXPANDED: u64 = 16 << 20;

/// Different globals of one pickle. A whole module pickled with its optimiser has some hundred.
pub const GLOBALS: usize = 10_000;

/// Module and name of a global together. Real ones stay below 120.
pub const GLOBAL_BYTES: usize = 1_024;

/// Entries of a zip: a checkpoint has one a storage. The local header of each one is read.
pub const ZIP_ENTRIES: u64 = 1_000_000;

/// An entry that unpacks to more than so many times its bytes is a bomb; deflate ends near 1,032.
pub const ZIP_RATIO: u64 = 100;

/// Below this size nobody is hurt by any ratio.
pub const ZIP_RATIO_FROM_BYTES: u64 = 1 << 20;

/// A view that repeats its storage into more bytes than this, and sixty-four times over, is a trap for who copies it.
pub const REPEATED_VIEW_BYTES: u64 = 64 << 20;

/// The index of a sharded model: some 100 bytes a tensor.
pub const INDEX_BYTES: u64 = 64 << 20;
