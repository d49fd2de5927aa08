//! Models to devices and off them: the executors of loads and unloads, and who brings back what was lost.
//!
//! ```text
//!  load:    all in RAM, or there ───────────────────► place (owner) ─► workers ─► all ACTIVE ─► ended (owner)
//!           not all ─► headers ─► admit (owner) ─► to RAM ─┘               └─► one FAILED or gone ─► ended, nothing stays
//!  unload:  unload (owner) ─► workers ─► gone, with an account of their bytes ─► ended
//!  restore: an intent of which something is not there ─► load, on the server's own account
//! ```
//!
//! The owner decides, and what is to last is in its state. What is remembered here is of this process alone: what was tried to be
//! brought back (`restoring`), and for how long both sides have agreed (`sync`). An executor that is stopped, however it is, leaves nothing behind, since
//! with its operation ends all that was wanted on its account.

mod arriving;
mod loading;
mod restoring;
mod sizing;
mod staging;
pub mod sync;
mod unloading;

use std::sync::Arc;

use hoist_runtime::{Clock, Tasks};
use tokio::sync::Notify;

use crate::cache::Cache;
use crate::catalog::Catalog;
use crate::control::Control;
use crate::fleet::Fleet;

pub use restoring::{Of, Restorer, restore};
pub use sizing::{ComponentSize, Sizes};

/// The handle to it. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct Loader(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cache: Cache,
    catalog: Catalog,
    fleet: Fleet,
    control: Control,
    tasks: Tasks,
    clock: Clock,
    /// What was put off is to be tried now.
    retry: Notify,
}

impl Loader {
    #[must_use]
    pub fn new(
        cache: Cache,
        catalog: Catalog,
        fleet: Fleet,
        control: Control,
        tasks: Tasks,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Shared { cache, catalog, fleet, control, tasks, clock, retry: Notify::new() }))
    }

    /// What could not be brought back and was put off is tried at once.
    pub fn retry(&self) {
        self.0.retry.notify_one();
    }
}
