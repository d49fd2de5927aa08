//! The state directory: which files there are, who holds it, and how a file is replaced.
//!
//! Owns the lock for as long as it lives. Called by the opening, the engine and the exporter, through [`Disk`], whose
//! other implementation is the simulated disk. It must never leave a half-written file under a name that is read, nor
//! touch a directory that has come to stand where its own was: every name is looked up in the directory that was
//! opened at the start. Names that are not ours may stand in it, so nothing but a regular file is opened.

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

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
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const DIRECTORY_MODE: u32 = 0o700;

/// Writes the new content of a file that is being replaced.
pub(crate) type Content<'a> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'a;

/// A locked state directory. Used by the engine and the exporter at once: what they replace has different names.
pub(crate) trait Disk: Send + Sync {
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
    /// Whether the lock and the database still are what their names lead to. If not, somebody has removed or
    /// replaced them, and what is written goes nowhere, or another server owns the directory.
    fn check_held(&self) -> Result<(), Fault>;
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// A real directory.
#[derive(Debug)]
pub(crate) struct Directory {
    handle: File,
    /// Locked until dropped.
    _lock: File,
    lock: Identity,
    /// The database, once there is one.
    store: Mutex<Option<Identity>>,
}

impl Directory {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        create_directory(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(CWD, path, flags, Mode::empty());
        let handle = File::from(handle.map_err(|error| unusable(path, LOCK, "opened", error))?);
        let lock = take_lock(&handle, path)?;
        let identity = identity_of(&lock).map_err(|error| unusable(path, LOCK, "looked at", error))?;
        let directory = Self { handle, _lock: lock, lock: identity, store: Mutex::default() };
        // Whoever removed the name meanwhile has let another server take a lock of its own.
        directory.check_held().map_err(OpenError::from_fault)?;
        Ok(directory)
    }

    /// Makes the directory's own entries durable: without it a rename may be forgotten.
    fn sync(&self) -> Result<(), Fault> {
        self.handle.sync_all().map_err(|error| Fault::new(Call::Sync, ".", &error))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Fault> {
        rustix::fs::renameat(&self.handle, from, &self.handle, to)
            .map_err(|error| Fault::new(Call::Rename, from, &error.into()))
    }

    /// A new, empty file. What has the name is taken away, not written to: a link of somebody else's leads anywhere.
    fn create(&self, file: &str) -> Result<File, Fault> {
        let fault = |error: Errno| Fault::new(Call::Open, file, &error.into());
        match rustix::fs::unlinkat(&self.handle, file, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(fault(error)),
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.handle, file, flags, FILE_MODE).map(File::from).map_err(fault)
    }

    fn identity(&self, file: &str) -> Result<Identity, Errno> {
        let facts = rustix::fs::statat(&self.handle, file, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Identity { device: facts.st_dev, inode: facts.st_ino })
    }

    fn hold_store(&self, file: &File) -> Result<(), Fault> {
        let identity = identity_of(file).map_err(|error| Fault::new(Call::Open, STORE, &error.into()))?;
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(identity);
        Ok(())
    }
}

impl Disk for Directory {
    fn open_store(&self) -> Result<Option<Arc<dyn StorageBackend>>, Fault> {
        let Some(file) = open_regular(&self.handle, STORE, OFlags::RDWR)? else { return Ok(None) };
        self.hold_store(&file)?;
        Ok(Some(Arc::new(FileBackend(file))))
    }

    fn create_store(&self) -> Result<Arc<dyn StorageBackend>, Fault> {
        let file = self.create(STORE_BUILDING)?;
        Ok(Arc::new(FileBackend(file)))
    }

    fn keep_damaged(&self) -> Result<String, Fault> {
        for number in 1_u32.. {
            let name = format!("{STORE_DAMAGED}{number}");
            // A second name, so that a crash before the new database is in place finds the damaged one again and
            // salvages it again. Not every file system can do that; there the file is moved.
            match rustix::fs::linkat(&self.handle, STORE, &self.handle, &name, AtFlags::empty()) {
                Ok(()) => return Ok(name),
                Err(Errno::EXIST) => {}
                Err(_) if self.identity(&name).is_ok() => {}
                Err(_) => return self.rename(STORE, &name).map(|()| name),
            }
        }
        let none_left = io::Error::from(io::ErrorKind::AlreadyExists);
        Err(Fault::new(Call::Rename, STORE_DAMAGED, &none_left))
    }

    fn promote_store(&self) -> Result<(), Fault> {
        self.rename(STORE_BUILDING, STORE)?;
        let identity = self.identity(STORE).map_err(|error| Fault::new(Call::Open, STORE, &error.into()))?;
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(identity);
        self.sync()
    }

    fn read(&self, file: &str) -> Result<Option<Vec<u8>>, Fault> {
        let Some(mut open) = open_regular(&self.handle, file, OFlags::RDONLY)? else { return Ok(None) };
        let mut bytes = Vec::new();
        open.read_to_end(&mut bytes).map_err(|error| Fault::new(Call::Read, file, &error))?;
        Ok(Some(bytes))
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

    fn check_held(&self) -> Result<(), Fault> {
        let store = *self.store.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, held) in [(LOCK, Some(self.lock)), (STORE, store)] {
            let Some(held) = held else { continue };
            match self.identity(name) {
                Ok(found) if found == held => {}
                Ok(_) => return Err(Fault::not_held(name, "its name belongs to another file")),
                Err(error) => return Err(Fault::not_held(name, &io::Error::from(error).to_string())),
            }
        }
        Ok(())
    }
}

/// Opens what is a file and nothing else: a FIFO would hold the caller for ever, a link leads out of the directory.
fn open_regular(directory: &File, file: &str, access: OFlags) -> Result<Option<File>, Fault> {
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = match rustix::fs::openat(directory, file, flags, FILE_MODE) {
        Ok(open) => File::from(open),
        Err(Errno::NOENT) => return Ok(None),
        // A link; a FIFO nobody reads, or a socket; a directory.
        Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => return Err(Fault::not_a_file(file)),
        Err(error) => return Err(Fault::new(Call::Open, file, &error.into())),
    };
    let facts = rustix::fs::fstat(&open).map_err(|error| Fault::new(Call::Open, file, &error.into()))?;
    if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
        return Err(Fault::not_a_file(file));
    }
    Ok(Some(open))
}

fn identity_of(file: &File) -> Result<Identity, Errno> {
    let facts = rustix::fs::fstat(file)?;
    Ok(Identity { device: facts.st_dev, inode: facts.st_ino })
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

/// Descriptors that ran out are nothing wrong with the directory.
fn unusable(path: &Path, file: &str, what: &str, error: Errno) -> OpenError {
    if matches!(error, Errno::MFILE | Errno::NFILE) {
        return OpenError::from_fault(Fault::new(Call::Open, file, &error.into()));
    }
    let reason = format!("{} cannot be {what} ({error}): let this user read and write it", path.display());
    OpenError::Unwritable { reason }
}

fn take_lock(directory: &File, path: &Path) -> Result<File, OpenError> {
    let file = open_regular(directory, LOCK, OFlags::RDWR | OFlags::CREATE).map_err(|fault| {
        let opened = OpenError::from_fault(fault);
        match opened {
            OpenError::Io(fault) => OpenError::Unwritable {
                reason: format!("{} is not writable ({fault}): let this user write to it", path.display()),
            },
            other => other,
        }
    })?;
    let gone = || OpenError::Unwritable { reason: format!("{} was removed meanwhile", path.display()) };
    let mut file = file.ok_or_else(gone)?;
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
        .and_then(|()| file.set_permissions(Permissions::from_mode(0o600)))
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
