//! The database's file, and the record of what failed in it.
//!
//! Called by redb only, through [`Watched`]. redb hides which call failed behind "previous I/O error", and the
//! difference between a failed write and a failed sync decides whether the store may live on: so the first failure
//! of each kind is kept here. A sealed file must never be written again, not even by the database's own closing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::fault::{Call, Fault};

/// A file by the standard library. The directory's lock keeps others out, so redb's locks are not offered.
#[derive(Debug)]
pub(crate) struct FileBackend(pub(crate) File);

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}

/// The first failure of each kind since the watch was cleared.
#[derive(Debug, Default)]
struct Seen {
    sync: Option<Fault>,
    space: Option<Fault>,
    other: Option<Fault>,
}

/// What one opening of the database file has met.
#[derive(Debug)]
pub(crate) struct Watch {
    file: &'static str,
    sealed: AtomicBool,
    seen: Mutex<Seen>,
}

impl Watch {
    pub(crate) fn new(file: &'static str) -> Arc<Self> {
        Arc::new(Self { file, sealed: AtomicBool::new(false), seen: Mutex::default() })
    }

    /// From now on the file refuses every change.
    pub(crate) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    pub(crate) fn clear(&self) {
        *self.seen() = Seen::default();
    }

    /// Why the database failed: the worst the file has met, or else the database's own words.
    pub(crate) fn verdict(&self, error: &redb::Error) -> Fault {
        let mut seen = self.seen();
        seen.sync
            .take()
            .or_else(|| seen.other.take())
            .or_else(|| seen.space.take())
            .unwrap_or_else(|| Fault::database(self.file, error))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note<T>(&self, call: Call, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let fault = Fault::new(call, self.file, error);
            let mut seen = self.seen();
            let place = match call {
                Call::Sync => &mut seen.sync,
                _ if fault.is_out_of_space() => &mut seen.space,
                _ => &mut seen.other,
            };
            place.get_or_insert(fault);
        }
        result
    }
}

/// A backend whose failures are noted.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    backend: Arc<dyn StorageBackend>,
    watch: Arc<Watch>,
}

impl Watched {
    pub(crate) fn new(backend: Arc<dyn StorageBackend>, watch: Arc<Watch>) -> Self {
        Self { backend, watch }
    }

    fn change<T>(&self, call: Call, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.watch.sealed.load(Ordering::Acquire) {
            return Err(io::Error::other("sealed after a failure"));
        }
        self.watch.note(call, change())
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.watch.note(Call::Read, self.backend.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.watch.note(Call::Read, self.backend.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Call::Resize, || self.backend.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Call::Sync, || self.backend.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Call::Write, || self.backend.write(offset, data))
    }
}
