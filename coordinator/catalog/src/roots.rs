//! Roots, and the only ways to open what is below them.
//!
//! Every open goes through `openat2` relative to the root's descriptor with RESOLVE_BENEATH: the kernel refuses what
//! leads out, however the tree changes meanwhile. Links with absolute targets are resolved by hand and opened again
//! the same way from the root that holds their target.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use hoist_domain::FileIdentity;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// Where links may lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// To anything below a root.
    #[default]
    Roots,
    /// Anywhere: whoever may write below a root decides what is read.
    Anywhere,
}

/// A folder below which models are looked for, open.
#[derive(Debug)]
pub struct Root {
    /// Absolute, without links.
    path: PathBuf,
    descriptor: OwnedFd,
    /// Device and inode: another folder may come to its place.
    key: (u64, u64),
}

impl Root {
    /// # Errors
    /// It is not there, not a folder, or not readable.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(&path, flags, Mode::empty())?;
        let found = identity(&rustix::fs::fstat(&descriptor)?);
        Ok(Self { path, descriptor, key: (found.device, found.inode) })
    }

    /// Whether nothing is in it: what a mount point looks like when nothing is mounted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let is_own = |name: &std::ffi::CStr| matches!(name.to_bytes(), b"." | b"..");
        Dir::read_from(&self.descriptor)
            .is_ok_and(|listing| listing.flatten().all(|entry| is_own(entry.file_name())))
    }

    /// What tells this folder from another at the same place.
    #[must_use]
    pub const fn key(&self) -> (u64, u64) {
        self.key
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open_below(&self, below: &Path, flags: OFlags, links: Links) -> io::Result<OwnedFd> {
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let resolve = match links {
            Links::Roots => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
            Links::Anywhere => ResolveFlags::NO_MAGICLINKS,
        };
        let flags = flags | OFlags::CLOEXEC;
        loop {
            match rustix::fs::openat2(&self.descriptor, below, flags, Mode::empty(), resolve) {
                // The tree was renamed while the kernel looked: it says so instead of guessing.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

/// All roots that can be read now.
#[derive(Debug, Default)]
pub struct Roots {
    roots: Vec<Root>,
    links: Links,
}

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Target {
    File(FileIdentity),
    Directory,
    /// A device, a pipe, a socket.
    Special,
}

impl Roots {
    #[must_use]
    pub const fn new(roots: Vec<Root>, links: Links) -> Self {
        Self { roots, links }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Root> {
        self.roots.iter()
    }

    pub(crate) const fn links(&self) -> Links {
        self.links
    }

    /// The root that holds a path, and the path below it.
    #[must_use]
    pub fn of<'a>(&'a self, path: &'a Path) -> Option<(&'a Root, &'a Path)> {
        self.roots.iter().find_map(|root| Some((root, path.strip_prefix(&root.path).ok()?)))
    }

    fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let (root, below) = self.of(path).ok_or(Errno::XDEV)?;
        match root.open_below(below, flags, self.links) {
            Err(error) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => {
                // An absolute link may still end below a root. The answer may be out of date at once; the open is not.
                let real = path.canonicalize()?;
                let (root, below) = self.of(&real).ok_or(Errno::XDEV)?;
                root.open_below(below, flags, self.links)
            }
            other => other,
        }
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// The file system's; EXDEV when it leads out of the roots; InvalidInput when it is not a regular file.
    pub fn open_file(&self, path: &Path) -> io::Result<(File, FileIdentity)> {
        // NONBLOCK: a FIFO must not wait for a writer. Nothing but regular files gets past the check.
        let descriptor = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = rustix::fs::fstat(&descriptor)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok((File::from(descriptor), identity(&stat)))
    }

    /// Removes a file if it still is the one that is known: its folder is opened beneath the root, and the name is
    /// looked up in it and nowhere else. A link is removed itself, whatever it leads to.
    ///
    /// # Errors
    /// The file system's; ESTALE when another file has taken its place, or it was written to.
    pub fn remove_file(&self, path: &Path, known: FileIdentity) -> io::Result<()> {
        let (folder, name) = self.entry(path)?;
        still_is(&folder, name, known)?;
        Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?)
    }

    /// Whether a file could be removed as the one that is known.
    ///
    /// # Errors
    /// As [`Self::remove_file`].
    pub fn is_removable(&self, path: &Path, known: FileIdentity) -> io::Result<()> {
        let (folder, name) = self.entry(path)?;
        still_is(&folder, name, known)
    }

    fn entry<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p std::ffi::OsStr)> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let (root, below) = self.of(folder).ok_or(Errno::XDEV)?;
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        // A folder that has become a link is not the one that the file was in.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok((rustix::fs::openat2(&root.descriptor, below, flags, Mode::empty(), resolve)?, name))
    }

    /// Removes a folder if nothing is left in it.
    ///
    /// # Errors
    /// The file system's: it is not empty, or not a folder.
    pub fn remove_empty_folder(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.entry(path)?;
        Ok(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
    }

    pub(crate) fn open_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// What a path leads to, links followed, without opening it for reading: a device is not disturbed.
    pub(crate) fn resolve(&self, path: &Path) -> io::Result<Target> {
        let descriptor = self.open(path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&descriptor)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Target::File(identity(&stat)),
            FileType::Directory => Target::Directory,
            _ => Target::Special,
        })
    }
}

fn still_is(folder: &OwnedFd, name: &std::ffi::OsStr, known: FileIdentity) -> io::Result<()> {
    let (kind, found) = stat_entry(folder, name)?;
    let bytes = |identity: FileIdentity| FileIdentity { changed_ns: 0, ..identity };
    let is_other = kind == FileType::RegularFile && bytes(found) != bytes(known);
    if is_other { Err(Errno::STALE.into()) } else { Ok(()) }
}

/// The identity of an entry itself, links not followed.
pub(crate) fn stat_entry(
    directory: impl AsFd,
    name: impl rustix::path::Arg,
) -> io::Result<(FileType, FileIdentity)> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((FileType::from_raw_mode(stat.st_mode), identity(&stat)))
}

/// Whether something is at a path that this file system entry once was: for models that may have moved.
pub(crate) fn is_still_at(path: &Path, device: u64, inode: u64) -> bool {
    rustix::fs::statat(CWD, path, AtFlags::empty()).is_ok_and(|stat| {
        let found = identity(&stat);
        (found.device, found.inode) == (device, inode)
    })
}

#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unnecessary_cast,
    reason = "the kernel's own types differ by platform; sizes and nanoseconds are not negative"
)]
pub(crate) fn identity(stat: &Stat) -> FileIdentity {
    let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    FileIdentity {
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        size: stat.st_size as u64,
        modified_ns: nanos(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        changed_ns: nanos(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
    }
}
