//! The catalog: keeps what the state says about models true to what is on disk.
//!
//! ```text
//!  notify (a hint) ─┐
//!  interval (truth) ┼─► look ─► hoist_catalog::run (threads) ─► observations ─► owner ─► state, store, watches
//!  ScanModels ──────┘
//!  DigestModels, ValidateModel ─► every byte ─► examinations ─► owner
//!  ListModels, GetModel ◄─ the published state
//! ```
//!
//! One look at a time. What it sees goes to the owner in batches and is decided there; nothing here changes the state.
//! Roots that cannot be read are a condition, and the models below them stay as they were last seen.

mod apart;
mod compatibility;
mod components;
mod digesting;
mod examine;
mod files;
mod filter;
mod following;
mod hints;
mod known;
mod look;
mod lookup;
mod opening;
mod search;
#[cfg(test)]
mod test_models;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hoist_catalog::Links;
use hoist_domain::WallTime;
use hoist_runtime::{Clock, Tasks};
use tokio::sync::{Notify, Semaphore};

use crate::control::Control;

pub use components::{Group, components};
pub use digesting::run as keep_digests;
pub use following::run as follow;
pub use lookup::find;
pub use search::{Order, Page, Query, Verdicts, search};

/// Where models are looked for, and how.
#[derive(Clone, Debug)]
pub struct CatalogSettings {
    pub roots: Vec<PathBuf>,
    pub links: Links,
    pub rescan_interval: Duration,
    /// Whether the kernel is asked to tell of changes.
    pub follow: bool,
    /// Whether digests are found out unasked.
    pub digest: bool,
}

/// What is known of a root's own state.
#[derive(Clone, Debug, Default)]
pub struct RootStatus {
    pub path: PathBuf,
    /// Where it leads; models' paths begin with it.
    pub real: Option<PathBuf>,
    pub available: bool,
    pub problem: String,
    /// Which folder it was when it was last opened.
    pub key: Option<(u64, u64)>,
    /// Which folder the kernel tells of changes below.
    pub watched: Option<(u64, u64)>,
    pub looked_at: Option<WallTime>,
    pub took: Duration,
}

impl RootStatus {
    /// Before it is opened for the first time nothing is known to be wrong with it.
    fn is_awaited(&self) -> bool {
        self.looked_at.is_none() && (self.available || self.problem.is_empty())
    }
}

/// The handle to the catalog. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct Catalog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: CatalogSettings,
    control: Control,
    tasks: Tasks,
    clock: Clock,
    /// One look at a time: two would read the same disks and race each other's observations.
    looking: tokio::sync::Mutex<()>,
    /// Of looks, those that storage holds included.
    lookers: hoist_catalog::Threads,
    /// A look has found something new.
    found: Notify,
    digesting: Mutex<digesting::Digesting>,
    roots: Mutex<Vec<RootStatus>>,
    opening: opening::Opening,
    /// Turns of those who read below each root.
    reads: Mutex<HashMap<PathBuf, Arc<Semaphore>>>,
    /// By root, too: turns to ask whether files are what they were.
    stats: Mutex<HashMap<PathBuf, Arc<Semaphore>>>,
}

impl Catalog {
    #[must_use]
    pub fn new(settings: CatalogSettings, control: Control, tasks: Tasks, clock: Clock) -> Self {
        let status = |path: &PathBuf| RootStatus { path: path.clone(), ..RootStatus::default() };
        Self(Arc::new(Shared {
            roots: Mutex::new(settings.roots.iter().map(status).collect()),
            opening: opening::Opening::default(),
            reads: Mutex::default(),
            stats: Mutex::default(),
            looking: tokio::sync::Mutex::new(()),
            lookers: hoist_catalog::Threads::default(),
            found: Notify::new(),
            digesting: Mutex::default(),
            settings,
            control,
            tasks,
            clock,
        }))
    }

    #[must_use]
    pub fn roots(&self) -> Vec<RootStatus> {
        self.0.roots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a root that answers has not been looked at from end to end in this life of the server. What cannot be
    /// read is not waited for: a condition tells of it.
    #[must_use]
    pub fn looks_for_the_first_time(&self) -> bool {
        self.roots().iter().any(RootStatus::is_awaited)
    }

    /// Whether another folder is at the place of one that is watched.
    fn has_moved(&self) -> bool {
        self.roots().iter().any(|root| root.available && root.watched.is_some() && root.watched != root.key)
    }

    /// Whether the kernel tells of changes below each root that is there.
    fn are_watched(&self) -> bool {
        self.roots().iter().all(|root| !root.available || root.watched == root.key)
    }

    /// The roots as they really are: what models' paths begin with.
    #[must_use]
    pub fn real_roots(&self) -> Vec<PathBuf> {
        self.roots().into_iter().filter_map(|root| root.real).collect()
    }

    fn set_roots(&self, change: impl Fn(&mut RootStatus)) {
        self.0.roots.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().for_each(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_awaited_until_it_was_looked_at_or_cannot_be_read() {
        let unopened = RootStatus::default();
        let unreadable = RootStatus { problem: "is gone".to_owned(), ..RootStatus::default() };
        let open = RootStatus { available: true, ..RootStatus::default() };
        let unwatched = RootStatus { problem: "is not watched".to_owned(), ..open.clone() };
        let looked_at = RootStatus { looked_at: Some(WallTime(1)), ..open.clone() };
        let lost = RootStatus { available: false, problem: "is gone".to_owned(), ..looked_at.clone() };
        for (root, is_awaited) in [
            (unopened, true),
            (unreadable, false),
            (open, true),
            (unwatched, true),
            (looked_at, false),
            (lost, false),
        ] {
            assert_eq!(root.is_awaited(), is_awaited, "{root:?}");
        }
    }
}
