//! The state directory: which files there are, who holds it, and how a file is replaced.
//!
//! Owns the lock for as long as it lives. Called by the opening and the engine, through [`Disk`], whose other
//! implementation is the simulated disk. It must never leave a half-written file under a name that is read.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::StorageBackend;

use crate::backend::FileBackend;
use crate::fault::{Call, Fault, OpenError};

pub(crate) const LOCK: &str = "lock";
pub(crate) const STORE: &str = "store.redb";
/// A database that is being built. It gets its real name only when it is complete and durable.
pub(crate) const STORE_BUILDING: &str = "store.redb.new";
pub(crate) const STORE_DAMAGED: &str = "store.redb.damaged-";
pub(crate) const EXPORT: &str = "store.export";
pub(crate) const EPOCH: &str = "epoch";

/// Files are the coordinator's own: rows hold names and paths that other users have no business with.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Writes the new content of a file that is being replaced.
pub(crate) type Content<'a> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'a;

/// A locked state directory.
pub(crate) trait Disk: Send {
    /// The database file, or nothing if there is none.
    fn open_store(&self) -> Result<Option<Arc<dyn StorageBackend>>, Fault>;
    /// An empty database file under [`STORE_BUILDING`].
    fn create_store(&self) -> Result<Arc<dyn StorageBackend>, Fault>;
    /// Keeps the database file under a name that is not read, and says which. Until [`Disk::promote_store`], a
    /// database may still stand under its own name.
    fn keep_damaged(&self) -> Result<String, Fault>;
    /// Gives the file under [`STORE_BUILDING`] its real name, durably, in place of what is there.
    fn promote_store(&self) -> Result<(), Fault>;
    fn read(&self, file: &str) -> Result<Option<Vec<u8>>, Fault>;
    /// Replaces a small file: after a crash it is there as it was, or as it is to be.
    fn replace(&self, file: &str, content: &mut Content<'_>) -> Result<(), Fault>;
}

/// A real directory.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Locked until dropped.
    _lock: File,
}

impl Directory {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        create_directory(path)?;
        let lock = take_lock(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Makes the directory's own entries durable: without it a rename may be forgotten.
    fn sync(&self) -> Result<(), Fault> {
        let directory = File::open(&self.path).map_err(|error| Fault::new(Call::Open, ".", &error))?;
        directory.sync_all().map_err(|error| Fault::new(Call::Sync, ".", &error))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Fault> {
        std::fs::rename(self.path.join(from), self.path.join(to))
            .map_err(|error| Fault::new(Call::Rename, from, &error))
    }

    fn create(&self, file: &str) -> Result<File, Fault> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(self.path.join(file))
            .map_err(|error| Fault::new(Call::Open, file, &error))
    }
}

impl Disk for Directory {
    fn open_store(&self) -> Result<Option<Arc<dyn StorageBackend>>, Fault> {
        match OpenOptions::new().read(true).write(true).open(self.path.join(STORE)) {
            Ok(file) => Ok(Some(Arc::new(FileBackend(file)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Fault::new(Call::Open, STORE, &error)),
        }
    }

    fn create_store(&self) -> Result<Arc<dyn StorageBackend>, Fault> {
        Ok(Arc::new(FileBackend(self.create(STORE_BUILDING)?)))
    }

    fn keep_damaged(&self) -> Result<String, Fault> {
        for number in 1_u32.. {
            let name = format!("{STORE_DAMAGED}{number}");
            // A second name, so that a crash before the new database is in place finds the damaged one again and
            // salvages it again. Not every file system can do that; there the file is moved.
            match std::fs::hard_link(self.path.join(STORE), self.path.join(&name)) {
                Ok(()) => return Ok(name),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(_) if self.path.join(&name).exists() => {}
                Err(_) => return self.rename(STORE, &name).map(|()| name),
            }
        }
        let none_left = io::Error::from(io::ErrorKind::AlreadyExists);
        Err(Fault::new(Call::Rename, STORE_DAMAGED, &none_left))
    }

    fn promote_store(&self) -> Result<(), Fault> {
        self.rename(STORE_BUILDING, STORE)?;
        self.sync()
    }

    fn read(&self, file: &str) -> Result<Option<Vec<u8>>, Fault> {
        match std::fs::read(self.path.join(file)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Fault::new(Call::Read, file, &error)),
        }
    }

    fn replace(&self, file: &str, content: &mut Content<'_>) -> Result<(), Fault> {
        let building = format!("{file}.new");
        let mut writer = BufWriter::new(self.create(&building)?);
        content(&mut writer)
            .and_then(|()| writer.flush())
            .map_err(|error| Fault::new(Call::Write, file, &error))?;
        writer.get_ref().sync_all().map_err(|error| Fault::new(Call::Sync, file, &error))?;
        self.rename(&building, file)?;
        self.sync()
    }
}

fn create_directory(path: &Path) -> Result<(), OpenError> {
    let unwritable = |what: &str| OpenError::Unwritable { reason: format!("{} {what}", path.display()) };
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(unwritable("is not a directory: name another")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(|error| {
                unwritable(&format!("cannot be created ({error}): create it for this user, or name another"))
            })?;
            sync_parent(path)
        }
        Err(error) => Err(unwritable(&format!("cannot be looked at ({error}): check its permissions"))),
    }
}

/// A new directory is durable only with its parent's entry. Where there is no parent to open, there is nothing to do.
fn sync_parent(path: &Path) -> Result<(), OpenError> {
    let Some(parent) = path.parent().and_then(|parent| File::open(parent).ok()) else { return Ok(()) };
    parent.sync_all().map_err(|error| OpenError::from_fault(Fault::new(Call::Sync, "..", &error)))
}

fn take_lock(path: &Path) -> Result<File, OpenError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path.join(LOCK))
        .map_err(|error| OpenError::Unwritable {
            reason: format!("{} is not writable ({error}): let this user write to it", path.display()),
        })?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { pid: read_pid(&mut file) }),
        Err(TryLockError::Error(error)) => {
            return Err(OpenError::Unwritable {
                reason: format!("{} cannot be locked ({error}): use a local disk", path.display()),
            });
        }
    }
    // For people only: a lock whose owner could not be written down is a lock all the same.
    if let Err(error) = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .and_then(|()| file.set_permissions(Permissions::from_mode(FILE_MODE)))
    {
        tracing::warn!(%error, "the lock file does not name its owner");
    }
    Ok(file)
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
