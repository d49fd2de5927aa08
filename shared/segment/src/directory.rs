//! The directory that segments are in: private, on tmpfs, of one coordinator at a time.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hoist_domain::{Bytes, Digest};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// What a statfs of a tmpfs says.
pub(crate) const TMPFS: i64 = 0x0102_1994;

/// Before a name: it is being filled.
pub(crate) const FILLING: &str = ".filling-";

/// Before a name: it is being removed.
pub(crate) const EVICTING: &str = ".evicting-";

/// Who may read segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// The user that the coordinator runs as.
    #[default]
    Owner,
    /// The directory's group as well.
    Group,
}

impl Access {
    const fn mode(self) -> Mode {
        match self {
            Self::Owner => Mode::RWXU,
            Self::Group => Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP),
        }
    }
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Weights would be on a disk, or in memory that nobody can count.
    #[error("{} is not on tmpfs", path.display())]
    NotTmpfs { path: PathBuf },
    /// Somebody else could put files there, or read them.
    #[error("{} is not a directory of ours alone: {why}", path.display())]
    NotOurs { path: PathBuf, why: &'static str },
    /// Another coordinator has it.
    #[error("{} is in use by another coordinator", path.display())]
    InUse { path: PathBuf },
    #[error("{} cannot hold segments", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The open directory. Cloning is a reference count; it is locked until the last clone is gone.
#[derive(Clone, Debug)]
pub struct Directory(Arc<Open>);

#[derive(Debug)]
struct Open {
    path: PathBuf,
    descriptor: OwnedFd,
    /// See [`Taken`].
    filling: AtomicU64,
}

impl Directory {
    /// Opens the directory, and makes it if nothing is there.
    ///
    /// # Errors
    /// When it cannot be, or is nothing to keep weights in.
    pub fn open(path: &Path, access: Access) -> Result<Self, DirectoryError> {
        let failed = |error: Errno| DirectoryError::Io { path: path.to_owned(), source: error.into() };
        let not_ours = |why| DirectoryError::NotOurs { path: path.to_owned(), why };
        match rustix::fs::mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
        let kind = rustix::fs::fstatfs(&descriptor).map_err(failed)?.f_type;
        if kind != TMPFS {
            return Err(DirectoryError::NotTmpfs { path: path.to_owned() });
        }
        let stat = rustix::fs::fstat(&descriptor).map_err(failed)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(not_ours("it belongs to another user"));
        }
        if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::RWXO) {
            return Err(not_ours("others may write to it, or read it"));
        }
        match rustix::fs::flock(&descriptor, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return Err(DirectoryError::InUse { path: path.to_owned() }),
            Err(error) => return Err(failed(error)),
        }
        rustix::fs::fchmod(&descriptor, access.mode()).map_err(failed)?;
        Ok(Self(Arc::new(Open { path: path.to_owned(), descriptor, filling: AtomicU64::new(0) })))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.0.descriptor
    }

    /// What segments that are not sealed yet take of the memory, or are about to: never less than they do.
    #[must_use]
    pub fn filling(&self) -> Bytes {
        Bytes(self.0.filling.load(Ordering::Relaxed))
    }

    /// How large the tmpfs is, and what it still takes; none where it has no limit.
    ///
    /// # Errors
    /// The file system's.
    pub fn room(&self) -> io::Result<Option<Room>> {
        let stat = rustix::fs::fstatvfs(&self.0.descriptor)?;
        let bytes = |blocks: u64| Bytes(blocks.saturating_mul(stat.f_frsize));
        Ok((stat.f_blocks > 0).then(|| Room { size: bytes(stat.f_blocks), free: bytes(stat.f_bavail) }))
    }

    /// Opens a file for reading and nothing else, by a path below the directory, and never by a link.
    pub(crate) fn open_file(&self, below: &str) -> io::Result<File> {
        open_to_read(&self.0.descriptor, Path::new(below))
    }
}

/// Opens what is at a path for reading and nothing else, never by a link, and without waiting for whoever writes to a pipe.
pub(crate) fn open_to_read(folder: impl AsFd, path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&folder, path, flags | OFlags::NONBLOCK, Mode::empty()) {
        // Its coordinator is just asking the kernel who has it open (`is_open_elsewhere`): an instant, which is waited for.
        Err(Errno::AGAIN) if is_file(&folder, path)? => {
            Ok(rustix::fs::openat(&folder, path, flags, Mode::empty())?.into())
        }
        opened => Ok(opened?.into()),
    }
}

fn is_file(folder: impl AsFd, path: &Path) -> io::Result<bool> {
    let facts = rustix::fs::statat(folder, path, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile)
}

/// Of a tmpfs that has an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub size: Bytes,
    pub free: Bytes,
}

/// What one filling takes of the memory: counted before it is written, and until its files are closed or sealed.
#[derive(Debug)]
pub(crate) struct Taken {
    directory: Directory,
    own: AtomicU64,
}

impl Taken {
    pub(crate) const fn nothing(directory: Directory) -> Self {
        Self { directory, own: AtomicU64::new(0) }
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.directory.0.filling.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.directory.0.filling.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

/// What is kept under a name: tensors in one file, or files as they are in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Tensors,
    Raw,
}

impl Form {
    pub(crate) fn name(self, digest: Digest) -> String {
        match self {
            Self::Tensors => format!("{digest}.safetensors"),
            Self::Raw => format!("{digest}.raw"),
        }
    }

    /// What a name says, if it is one that a complete segment has.
    pub(crate) fn parse(name: &str) -> Option<(Self, Digest)> {
        let (digest, form) = match name.rsplit_once('.')? {
            (digest, "safetensors") => (digest, Self::Tensors),
            (digest, "raw") => (digest, Self::Raw),
            _ => return None,
        };
        let digest: Digest = digest.parse().ok()?;
        (form.name(digest) == name).then_some((form, digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn shm() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").unwrap()
    }

    #[test]
    fn it_is_made_private_and_locked() {
        let above = shm();
        let path = above.path().join("segments");
        let directory = Directory::open(&path, Access::Owner).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(Directory::open(&path, Access::Owner), Err(DirectoryError::InUse { .. })));
        drop(directory);
        Directory::open(&path, Access::Group).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o750);
    }

    #[test]
    fn a_place_on_a_disk_or_open_to_others_is_refused() {
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let refused = Directory::open(&disk.path().join("segments"), Access::Owner);
        assert!(matches!(refused, Err(DirectoryError::NotTmpfs { .. })), "{refused:?}");
        let above = shm();
        let path = above.path().join("segments");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(Directory::open(&path, Access::Owner), Err(DirectoryError::NotOurs { .. })));
        let link = above.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(Directory::open(&link, Access::Owner), Err(DirectoryError::Io { .. })));
    }

    #[test]
    fn only_names_that_a_segment_has_are_names_of_segments() {
        let digest = Digest([0xab; 32]);
        for form in [Form::Tensors, Form::Raw] {
            assert_eq!(Form::parse(&form.name(digest)), Some((form, digest)));
        }
        let upper = Form::Tensors.name(digest).to_uppercase().replace("SAFETENSORS", "safetensors");
        for name in
            ["", "x", "ab.safetensors", &upper, &format!("{digest}.safetensors.raw"), &format!("{digest}")]
        {
            assert_eq!(Form::parse(name), None, "{name}");
        }
    }
}
