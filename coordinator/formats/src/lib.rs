//! Readers of model files' headers: from the bytes of an open file to its tensor table, its metadata and findings.
//!
//! Who calls: the catalog's probe, on a blocking thread, once for each file that changed. What every reader here
//! keeps, whatever the bytes are:
//!
//! - it reads headers, never tensor data, through [`Source`]: positioned reads of one descriptor, nothing mapped;
//! - it executes nothing: a pickle is interpreted by a machine that knows tensors and nothing else;
//! - it checks before it allocates: a length in a file buys no memory beyond the file's own size and [`limits`];
//! - it takes at most eight times the header's bytes of memory, and time linear in them;
//! - it does not panic, recurse without bound, or return an error for damage: damage is a [`Finding`], and what was
//!   readable before it is returned beside it. An `Err` is the file system's.

mod companions;
mod cursor;
pub mod gguf;
pub mod index;
mod inspect;
pub mod json;
mod layout;
pub mod limits;
mod metadata;
pub mod onnx;
mod pickle;
pub mod safetensors;
mod source;
mod table;
pub mod torch;
mod zip;

pub use companions::{DATA_FILES, beside, companions};
pub use inspect::inspect;
pub use source::{FileSource, Source, read_at_most, read_exactly};
pub use table::{Format, Inspection, Place, Tensor};

/// What an I/O failure during an inspection is: the file system's, never the file's content.
pub type Result<T> = std::io::Result<T>;

pub use hoist_domain::{Finding, FindingKind, Verdict};
