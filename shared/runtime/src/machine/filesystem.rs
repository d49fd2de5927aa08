//! The filesystem that a path lies on: its kind, its room and its mount options.

use std::path::{Path, PathBuf};

use hoist_domain::Bytes;
use rustix::fs::statfs;

use super::FactError;
use super::mountinfo::{Mount, mounts};

/// What kind a filesystem is, as far as it matters to Hoist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilesystemKind {
    Tmpfs,
    /// Memory as well, but without a size and never swapped.
    Ramfs,
    /// ext2, ext3 or ext4, which share one number; the mount says which.
    Ext,
    Xfs,
    Btrfs,
    Zfs,
    F2fs,
    Nfs,
    Smb,
    Ceph,
    Lustre,
    Overlay,
    Fuse,
    /// 9p, as in some virtual machines.
    NineP,
    Hugetlbfs,
    /// Any other, with its number.
    Other(u64),
}

impl FilesystemKind {
    /// From linux/magic.h, and from the filesystems that are not in it (zfs, lustre).
    const fn from_magic(magic: u64) -> Self {
        match magic {
            0x0102_1994 => Self::Tmpfs,
            0x8584_58f6 => Self::Ramfs,
            0xef53 => Self::Ext,
            0x5846_5342 => Self::Xfs,
            0x9123_683e => Self::Btrfs,
            0x2fc1_2fc1 => Self::Zfs,
            0xf2f5_2010 => Self::F2fs,
            0x6969 => Self::Nfs,
            0xff53_4d42 | 0xfe53_4d42 | 0x517b => Self::Smb,
            0x00c3_6400 => Self::Ceph,
            0x0bd0_0bd0 => Self::Lustre,
            0x794c_7630 => Self::Overlay,
            0x6573_5546 => Self::Fuse,
            0x0102_1997 => Self::NineP,
            0x9584_58f6 => Self::Hugetlbfs,
            other => Self::Other(other),
        }
    }

    /// Whether what is written here takes memory and not a disk.
    #[must_use]
    pub const fn is_memory(self) -> bool {
        matches!(self, Self::Tmpfs | Self::Ramfs | Self::Hugetlbfs)
    }

    /// Whether another machine holds the bytes, so that speed and presence are not this one's to promise.
    #[must_use]
    pub const fn is_remote(self) -> bool {
        matches!(self, Self::Nfs | Self::Smb | Self::Ceph | Self::Lustre)
    }
}

/// The filesystem of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filesystem {
    /// What was looked at: the path with its links resolved, or the nearest ancestor that exists.
    pub path: PathBuf,
    pub kind: FilesystemKind,
    /// Zero on a tmpfs without a limit, and on a ramfs.
    pub total: Bytes,
    /// For a user without privileges.
    pub free: Bytes,
    /// Absent if the mount table cannot be read or does not have it.
    pub mount: Option<Mount>,
}

impl Filesystem {
    /// The name that people know: the mount's, else the kind's.
    #[must_use]
    pub fn name(&self) -> String {
        self.mount
            .as_ref()
            .map_or_else(|| format!("{:?}", self.kind).to_ascii_lowercase(), |mount| mount.filesystem.clone())
    }

    /// The huge page policy of a tmpfs mount; none is said where it is `never`.
    #[must_use]
    pub fn huge(&self) -> Option<&str> {
        self.mount.as_ref()?.option("huge")
    }

    /// Whether a tmpfs was mounted so that its pages stay in memory.
    #[must_use]
    pub fn is_noswap(&self) -> bool {
        self.mount.as_ref().is_some_and(|mount| mount.option("noswap").is_some())
    }

    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.mount.as_ref().is_some_and(|mount| mount.option("ro").is_some())
    }
}

/// The filesystem that `path` lies on, or would lie on if it were made. `root` is where the mount table is; the path
/// itself is asked of the kernel.
///
/// # Errors
/// Nothing of the path exists, or the kernel does not answer for it.
pub fn filesystem(root: &Path, path: &Path) -> Result<Filesystem, FactError> {
    let path = existing(path)?;
    let found =
        statfs(&path).map_err(|error| FactError::Read { path: path.clone(), source: error.into() })?;
    let block_bytes = u64::try_from(found.f_bsize).unwrap_or(0);
    Ok(Filesystem {
        kind: FilesystemKind::from_magic(magic(found.f_type)),
        total: Bytes(found.f_blocks.saturating_mul(block_bytes)),
        free: Bytes(found.f_bavail.saturating_mul(block_bytes)),
        mount: mounts(root).ok().and_then(|mounts| mount_of(&path, mounts)),
        path,
    })
}

/// The word is signed on some machines and as wide as a pointer; every magic number fits 32 bits.
fn magic(word: rustix::fs::FsWord) -> u64 {
    u64::try_from(i128::from(word) & 0xffff_ffff).unwrap_or(0)
}

/// The nearest ancestor that exists, its links resolved, because the mount table knows no links.
fn existing(path: &Path) -> Result<PathBuf, FactError> {
    let mut error = None;
    for ancestor in path.ancestors() {
        let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        match ancestor.canonicalize() {
            Ok(found) => return Ok(found),
            Err(refused) => error = error.or(Some(refused)),
        }
    }
    let source = error.unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
    Err(FactError::Read { path: path.to_owned(), source })
}

/// The mount with the longest mount point; of two mounts on one point the later covers the earlier.
fn mount_of(path: &Path, mounts: Vec<Mount>) -> Option<Mount> {
    mounts
        .into_iter()
        .filter(|mount| path.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Tree;

    #[test]
    fn the_latest_mount_on_the_longest_point_counts() {
        let table = "\
27 1 254:0 / / rw - ext4 /dev/vda rw
25 24 0:23 / /dev/shm rw - tmpfs first rw
30 25 0:27 / /dev/shm rw - tmpfs second rw,huge=advise,noswap
31 25 0:28 / /dev/shm-not rw - tmpfs third rw
";
        let tree = Tree::new(&[("/proc/self/mountinfo", table)]);
        let source = |path: &str| mount_of(Path::new(path), mounts(tree.root()).unwrap()).unwrap().source;
        assert_eq!(source("/dev/shm/hoist-0/a"), "second");
        assert_eq!(source("/dev/shm-not"), "third");
        assert_eq!(source("/dev/shm-nor"), "/dev/vda");
    }

    #[test]
    fn a_path_that_is_not_made_yet_lies_where_its_ancestor_lies() {
        let tree = Tree::new(&[("/here/file", "")]);
        let here = tree.root().join("here").canonicalize().unwrap();
        let table = format!("1 1 0:1 / {} ro - tmpfs none rw,huge=advise,noswap\n", here.display());
        tree.write("/proc/self/mountinfo", table);

        let found = filesystem(tree.root(), &here.join("not/yet")).unwrap();
        assert_eq!(found.path, here);
        assert_eq!((found.name().as_str(), found.huge()), ("tmpfs", Some("advise")));
        assert!(found.is_noswap() && found.is_read_only());
        assert!(found.total >= found.free && found.total > Bytes(0));

        let unknown = filesystem(Path::new("/nonexistent"), &here).unwrap();
        assert_eq!(unknown.mount, None);
    }

    #[test]
    fn the_kernel_names_proc_by_its_number() {
        assert_eq!(
            filesystem(Path::new("/"), Path::new("/proc")).unwrap().kind,
            FilesystemKind::Other(0x9fa0)
        );
    }
}
