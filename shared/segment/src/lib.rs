//! Components in RAM.
//!
//! A segment is one component on a private tmpfs: a file that *is* a valid `.safetensors` file, so that whatever reads
//! safetensors can map it; or, where tensors mean nothing without their file (GGUF, scripts, graphs), a folder with the
//! files as they are. Its name is the digest of its content, and a segment that has its name is complete.
//!
//! ```text
//!             create                 seal (rename, never over another)            evict (unlink)
//!  Layout ──────────► Filling ───────────────────────────────────────► Segment ──────────────────► Evicted ─► gone*
//!                        │ drop: unlinked                                 ▲                            │
//!                        ▼                                      adopt ────┘                            └ counted as long
//!                      gone*                             (after a restart)                               as anyone has it open
//! ```
//!
//! Who calls: the coordinator, which fills, seals, adopts and evicts; workers, which map. The only code in the workspace
//! that maps files (`map`) or speaks to the kernel where nothing safe does (`kernel`). It never writes to a segment that
//! has its name, and never decides what is to be kept.

mod adopt;
mod attach;
mod directory;
mod filling;
mod held;
mod kernel;
mod layout;
mod map;

pub use adopt::{Adopted, Leftover};
pub use attach::{Attached, Opened};
pub use directory::{Access, Directory, DirectoryError, Room};
pub use filling::{Filling, SealError, Sealed};
pub use held::{Evicted, Segment, SegmentFile};
pub use kernel::{cached_bytes, give_back_free_memory, idle_io_priority};
pub use layout::{Layout, LayoutError, PAGE, Placed, RawFile, TensorShape};
pub use map::Map;
