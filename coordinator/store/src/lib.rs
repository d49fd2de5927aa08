//! Durable rows for the coordinator's owner of state.
//!
//! Owns the state directory: its lock, the database file, the export and the epoch file. The [`Store`] is called,
//! blocking, by the one thread that owns the coordinator's state, the [`Exporter`] by another. The crate knows tables, keys and values as bytes: it must never look
//! into a value, acknowledge what is not on stable storage, start silently empty where something was kept before,
//! or write again after a failed sync.
//!
//! What stands in the state directory:
//!
//! | file | what it is |
//! | --- | --- |
//! | `lock` | locked for as long as a store is open; holds the owner's process id, for the error message |
//! | `store.redb` | the rows; every value carries the position that wrote it and a checksum |
//! | `store.redb.damaged-<n>` | a database that was found damaged and rebuilt; never read or removed again |
//! | `store.export` | all rows as of one revision, in a format that needs no database to read |
//! | `epoch` | the newest epoch, so that it grows even when the database is lost |

mod account;
mod backend;
mod checksum;
mod disk;
mod engine;
mod epoch;
mod export;
mod exporter;
mod fault;
mod frame;
mod header;
mod inspect;
mod opening;
mod overlay;
mod pages;
mod quiet;
mod salvage;
mod scan;
pub mod simulate;
mod standing;
mod tree;

use std::path::Path;
use std::sync::Arc;

use hoist_domain::{Bytes, Epoch, Revision, ServiceTime};

pub use fault::{Call, CommitError, ExportError, Fault, OpenError};

/// The layout of what is stored. A store with a greater number is refused, untouched. One with a smaller number is
/// brought up when it is opened: a table that is newer than the store begins empty ([`Table::since`]). Changing a
/// frame or the export needs a number and a migration of its own.
///
/// 1: operations, requests, measurements. 2: models. 3: policies. 4: intents.
pub const SCHEMA_VERSION: u32 = 4;

/// The oldest layout that can be brought up.
pub(crate) const OLDEST_SCHEMA: u32 = 1;

/// What a row is about. The store gives each its own key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Operations,
    Requests,
    Measurements,
    Models,
    Policies,
    Intents,
}

impl Table {
    pub const ALL: [Self; 6] =
        [Self::Operations, Self::Requests, Self::Measurements, Self::Models, Self::Policies, Self::Intents];

    /// The layout that brought this table.
    #[must_use]
    pub(crate) const fn since(self) -> u32 {
        match self {
            Self::Operations | Self::Requests | Self::Measurements => 1,
            Self::Models => 2,
            Self::Policies => 3,
            Self::Intents => 4,
        }
    }

    /// The tables that a store of this layout has.
    pub(crate) fn of(schema: u32) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |table| table.since() <= schema)
    }

    /// The name on disk. Never changes for a table that has been released.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operations => "operations",
            Self::Requests => "requests",
            Self::Measurements => "measurements",
            Self::Models => "models",
            Self::Policies => "policies",
            Self::Intents => "intents",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    pub table: Table,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Replaces the row with this key, if there is one.
    Put(Row),
    /// Nothing happens if there is no such row.
    Delete { table: Table, key: Vec<u8> },
}

/// Everything one commit makes durable at once. Writes to one key take effect in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub revision: Revision,
    pub service_time: ServiceTime,
    pub writes: Vec<Write>,
}

/// What an export describes: all rows as of this revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportHeader {
    pub revision: Revision,
    pub service_time: ServiceTime,
}

/// What the store held when it was opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Greater than any epoch this directory has seen, and already durable.
    pub epoch: Epoch,
    /// The newest revision known to have been committed. After a rebuild it may be older than what was lost.
    pub revision: Revision,
    pub service_time: ServiceTime,
    /// Ordered by table, then key.
    pub rows: Vec<Row>,
    pub recovery: Recovery,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Everything acknowledged is there. Also said of the first start in an empty directory.
    Clean,
    /// The database was damaged or missing. What could be read is there; what could not is told in `lost`.
    Rebuilt {
        /// Name of the file that holds the damaged database; empty if there was none.
        moved_to: String,
        /// `salvage`, `export`, `salvage and export` or `nothing`.
        from: &'static str,
        /// One line each. Empty: every row was read and verified.
        lost: Vec<String>,
        losses: Losses,
    },
}

/// How much a rebuilt store lacks of what was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Rows that are known to be lost.
    pub rows: u64,
    /// More may be lost, or outdated; how many is not known.
    pub is_lower_bound: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// Memory for database pages. Reading the rows does not go through it, so it only has to hold the upper
    /// levels of the trees: 16 MiB does for millions of rows.
    pub cache: Bytes,
    /// The first epoch of a directory that has none: seconds since 1970, so that one that was wiped does not give
    /// out positions of the history before, which clients may still hold.
    pub first_epoch: Epoch,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { cache: Bytes::mib(16), first_epoch: Epoch(1) }
    }
}

/// An open store. Dropping it closes the database.
pub trait Store: Send {
    /// Makes a batch durable: all of it or, on an error, possibly none of it.
    ///
    /// After [`CommitError::Full`] every commit is refused the same way until [`Store::reopen`] succeeds; after
    /// [`CommitError::Broken`] everything is refused for the life of this store.
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError>;

    /// Opens the database anew after [`CommitError::Full`], and says which revision it holds: the failed batch's
    /// if it landed all the same, the one before if not. Costs nothing when the store is already open.
    fn reopen(&mut self) -> Result<Revision, CommitError>;
}

/// Writes exports beside an open store: there is one of each, and the directory is released when both are dropped.
pub trait Exporter: Send {
    /// Replaces the export with these rows, which must be every row as of `header.revision`. On an error the
    /// export before is still there. An older one than it has written is left out: what is there holds more.
    ///
    /// After [`ExportError::Broken`] the store takes no commit either, and the other way about.
    fn export(
        &mut self,
        header: ExportHeader,
        rows: &mut dyn Iterator<Item = Row>,
    ) -> Result<(), ExportError>;
}

/// An open store, what writes its exports, and what it held.
pub type Opening = (Box<dyn Store>, Box<dyn Exporter>, Opened);

/// Opens the store in this directory, creating both if there is nothing yet.
pub fn open(state_dir: &Path, options: OpenOptions) -> Result<Opening, OpenError> {
    let disk = disk::Directory::open(state_dir)?;
    opening::open_on(Arc::new(disk), options)
}
