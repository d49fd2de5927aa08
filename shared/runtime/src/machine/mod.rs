//! Facts about the machine, for `hoist doctor` and for the budgets of the coordinator.
//!
//! Every function takes the root under which `/proc`, `/sys` and `/dev` lie: `/` in a process, a made-up tree in a
//! test. Each fact stands alone, because machines lack them one by one (containers hide files, kernels differ): it is
//! a `Result` or an `Option`, and a malformed file is an error of that one fact. Nothing here judges a fact, and
//! nothing but [`raise_nofile`] changes the machine.

mod cgroup;
mod filesystem;
mod kernel;
mod limits;
mod memory;
mod mountinfo;
mod nvidia;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use cgroup::{CgroupMemory, CgroupVersion, cgroup_memory};
pub use filesystem::{Filesystem, FilesystemKind, filesystem};
pub use kernel::{Cpus, cpus, has_memory_pressure, kernel_release, shmem_huge_pages};
pub use limits::{Limit, memlock, nofile, raise_nofile};
pub use memory::{Memory, memory};
pub use mountinfo::Mount;
pub use nvidia::{DeviceNode, Nvidia, nvidia};

/// Why a fact is not known.
#[derive(Debug, thiserror::Error)]
pub enum FactError {
    /// The machine does not tell: no such file, no permission, or a file of an absurd size.
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The machine tells something else than expected.
    #[error("{} is malformed: {problem}", path.display())]
    Malformed { path: PathBuf, problem: &'static str },
}

/// The mount table of a host with thousands of containers takes a few megabytes; every other file a few kilobytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// `path` is as the machine names it, `/proc/meminfo`.
fn under(root: &Path, path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn read(path: &Path) -> Result<Vec<u8>, FactError> {
    let refuse = |source| FactError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(refuse)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(refuse)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(refuse(std::io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

fn read_text(path: &Path) -> Result<String, FactError> {
    String::from_utf8(read(path)?)
        .map_err(|_| FactError::Malformed { path: path.to_owned(), problem: "not UTF-8" })
}

/// A made-up machine: files by path, under a directory that lives as long as the value.
#[cfg(test)]
struct Tree(tempfile::TempDir);

#[cfg(test)]
impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            tree.write(path, text);
        }
        tree
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = under(self.root(), path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn root(&self) -> &Path {
        self.0.path()
    }
}
