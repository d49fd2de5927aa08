//! Staging: from files on disks to segments in RAM.
//!
//! ```text
//!  sources ─┐                        ┌─ a thread of the pool, one of some ─────────────────────────┐
//!           ├─► Plan: units of reads │ a unit ─► aligned buffer ─► hash each piece ─► pwrite pieces │─► hashes of items
//!  targets ─┘        (pure)          └─ past the page cache, or out of it where that has the bytes ┘     (combined)
//!                                                      the last piece of a target ─► told of, while the rest is read
//!                                                      what a target has from its beginning ─► seen by anybody (Rising)
//! ```
//!
//! A unit is one stretch of one file; its pieces are the parts of tensors in it. Large tensors are cut at powers of two, so
//! that the hashes of the pieces combine to that of the whole, in whatever order they were read. One pool serves all jobs;
//! each gets its share of the disk by its priority.
//!
//! Who calls: the coordinator's cache. Nothing here decides what to read; nothing is believed of a file that is not, from
//! beginning to end, the one that was described.

mod buffer;
mod job;
mod plan;
mod pool;
mod recipe;
mod rising;
mod source;
mod tree;

pub use job::{Failure, Filled, Job, News, Outcome};
pub use plan::{Item, PIECE, Plan};
pub use pool::{Pool, PoolSettings, Ticket};
pub use recipe::{Recipe, RecipeError, Target, open};
pub use rising::Rising;
pub use source::Source;
