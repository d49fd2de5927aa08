//! From directories to models: what is there, which files belong together, what their headers say.
//!
//! ```text
//! roots ─► walk (list, stat) ─► group (pure) ─► unchanged? ─► unit ─► probe (headers) ─► content
//! ```
//!
//! Who calls: the coordinator's catalog, on threads that may block. This crate holds no state: what is known is handed
//! in, what was seen is handed out. It never follows a name out of its root: every open is relative to the root's
//! descriptor and refused by the kernel if it leaves; it opens nothing but regular files, and never waits for a FIFO.

mod checks;
mod contents;
mod digest;
mod group;
mod names;
mod probe;
mod reading;
mod roots;
mod scan;
mod validate;
mod walk;

pub use contents::{
    Contents, FileFacts, Pace, ReadFailure, TensorFacts, Wanted, gather, is_gatherable, read_contents,
};
pub use digest::{DigestedTensor, Makeup, digest_of_files, digest_of_tensors, digests, makeup};
pub use probe::{Details, READER, details};
pub use reading::{PartReading, Reading};
pub use roots::{Links, Root, Roots};
pub use scan::{Known, Looked, Scan, ScanProgress, Threads, UNSETTLED, run};
pub use validate::{Examine, Examined, examine, first_of};
pub use walk::{Unit, UnitFile, UnitKind, unit_at};
