//! The memory limits of the control groups that this process is in, from its own up to the topmost one visible.
//!
//! A process is stopped by the tightest of them, so all are listed; what to make of them is the budget's business.
//! Both versions are read, because container hosts still run the first. A container without a cgroup namespace sees
//! the host's path in `/proc/self/cgroup` but only its own part of the tree: the mount's root says how much to cut.

use std::path::{Component, Path, PathBuf};

use hoist_domain::Bytes;

use super::mountinfo::{Mount, mounts};
use super::{FactError, read_text, under};

/// The kernel writes "no limit" of version 1 as the largest multiple of the page size: anything this large is none.
const NO_LIMIT: u64 = 1 << 62;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    V1,
    V2,
}

/// One control group's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMemory {
    pub version: CgroupVersion,
    /// Its directory.
    pub path: PathBuf,
    /// `None` is no limit.
    pub limit: Option<Bytes>,
    /// What its processes use, page cache and tmpfs included; `None` if the group does not say.
    pub usage: Option<Bytes>,
    /// Of that: pages of files on disks, which the kernel gives up for others. Pages of a tmpfs are none.
    pub reclaimable: Option<Bytes>,
}

impl CgroupMemory {
    /// What is left below the limit. Page cache counts as used, though the kernel would give it up: the true room may
    /// be larger. `None` if there is no limit or no usage.
    #[must_use]
    pub fn headroom(&self) -> Option<Bytes> {
        Some(Bytes(self.limit?.0.saturating_sub(self.usage?.0)))
    }
}

/// The groups that account for this process's memory, its own first. Empty if no memory controller is visible.
///
/// # Errors
/// The process's groups or the mount table cannot be read, or a limit is not a number. A limit that cannot be
/// understood is an error and not "no limit": a budget above it would get the process killed.
pub fn cgroup_memory(root: &Path) -> Result<Vec<CgroupMemory>, FactError> {
    let table = under(root, "/proc/self/cgroup");
    let text = read_text(&table)?;
    let Some((version, group)) = memory_group(&text) else { return Ok(Vec::new()) };
    let has_controller = |mount: &Mount| match version {
        CgroupVersion::V1 => mount.filesystem == "cgroup" && mount.option("memory").is_some(),
        CgroupVersion::V2 => mount.filesystem == "cgroup2",
    };
    let Some(mount) = mounts(root)?.into_iter().find(has_controller) else { return Ok(Vec::new()) };

    let mut groups = Vec::new();
    for group in visible_part(group, &mount.root).ancestors() {
        let mut directory = under(root, &mount.mount_point);
        // Joining nothing would leave a slash at the end.
        if !group.as_os_str().is_empty() {
            directory.push(group);
        }
        groups.extend(read_group(version, directory)?);
    }
    Ok(groups)
}

/// The line that counts: `4:memory:/path`, or else `0::/path`. On a hybrid machine the first version has memory.
fn memory_group(text: &str) -> Option<(CgroupVersion, &str)> {
    let mut unified = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if controllers.split(',').any(|controller| controller == "memory") {
            return Some((CgroupVersion::V1, path));
        }
        if id == "0" && controllers.is_empty() {
            unified = Some((CgroupVersion::V2, path));
        }
    }
    unified
}

/// The group's path below the mount. Empty if the mount does not hold the group, which is so in some containers: then
/// the mount's own directory is the nearest known.
fn visible_part<'a>(group: &'a str, mount_root: &Path) -> &'a Path {
    let below = Path::new(group).strip_prefix(mount_root).unwrap_or(Path::new(""));
    // `/../sibling` is how the kernel names a group outside of the namespace.
    let is_inside = below.components().all(|part| matches!(part, Component::Normal(_)));
    if is_inside { below } else { Path::new("") }
}

/// `None` where the directory has no memory files: the root of version 2, or a group without the controller.
fn read_group(version: CgroupVersion, path: PathBuf) -> Result<Option<CgroupMemory>, FactError> {
    let (limit_file, usage_file) = match version {
        CgroupVersion::V1 => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        CgroupVersion::V2 => ("memory.max", "memory.current"),
    };
    let limit = read_bytes(&path.join(limit_file))?;
    let usage = read_bytes(&path.join(usage_file))?;
    if limit.is_none() && usage.is_none() {
        return Ok(None);
    }
    let limit = limit.filter(|limit| *limit < NO_LIMIT).map(Bytes);
    let reclaimable = reclaimable(version, &path);
    Ok(Some(CgroupMemory { version, path, limit, usage: usage.map(Bytes), reclaimable }))
}

/// The lists of file pages; unset where the group does not say.
fn reclaimable(version: CgroupVersion, path: &Path) -> Option<Bytes> {
    let names = match version {
        CgroupVersion::V1 => ["total_inactive_file ", "total_active_file "],
        CgroupVersion::V2 => ["inactive_file ", "active_file "],
    };
    let text = read_text(&path.join("memory.stat")).ok()?;
    let mut sum = 0_u64;
    for name in names {
        let value: u64 = text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()?;
        sum = sum.checked_add(value)?;
    }
    Some(Bytes(sum))
}

/// `max` is the largest number; `None` if there is no such file.
fn read_bytes(path: &Path) -> Result<Option<u64>, FactError> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(FactError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    match text.trim() {
        "max" => Ok(Some(u64::MAX)),
        number => match number.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(FactError::Malformed { path: path.to_owned(), problem: "not a number of bytes" }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Tree;

    const V2_MOUNT: &str = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

    /// Directory below the root, limit and usage.
    fn read(tree: &Tree) -> Vec<(String, Option<u64>, Option<u64>)> {
        let groups = cgroup_memory(tree.root()).unwrap();
        let short = |path: &Path| path.strip_prefix(tree.root()).unwrap().to_string_lossy().into_owned();
        groups
            .iter()
            .map(|group| {
                let bytes = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.0);
                (short(&group.path), bytes(group.limit), bytes(group.usage))
            })
            .collect()
    }

    #[test]
    fn every_ancestor_of_version_2_is_listed() {
        let tree = Tree::new(&[
            ("/proc/self/cgroup", "0::/system.slice/hoist.service\n"),
            ("/proc/self/mountinfo", V2_MOUNT),
            ("/sys/fs/cgroup/system.slice/hoist.service/memory.max", "max\n"),
            ("/sys/fs/cgroup/system.slice/hoist.service/memory.current", "7\n"),
            ("/sys/fs/cgroup/system.slice/memory.max", "100\n"),
            ("/sys/fs/cgroup/system.slice/memory.current", "40\n"),
            ("/sys/fs/cgroup/cgroup.procs", ""),
        ]);
        let slice = "sys/fs/cgroup/system.slice";
        assert_eq!(
            read(&tree),
            [(format!("{slice}/hoist.service"), None, Some(7)), (slice.to_owned(), Some(100), Some(40))]
        );
        let groups = cgroup_memory(tree.root()).unwrap();
        assert_eq!([groups[0].headroom(), groups[1].headroom()], [None, Some(Bytes(60))]);
    }

    #[test]
    fn pages_of_files_are_told_apart_from_those_of_a_tmpfs() {
        let with = |stat: &str| {
            let tree = Tree::new(&[
                ("/proc/self/cgroup", "0::/\n"),
                ("/proc/self/mountinfo", V2_MOUNT),
                ("/sys/fs/cgroup/memory.max", "100"),
                ("/sys/fs/cgroup/memory.stat", stat),
            ]);
            cgroup_memory(tree.root()).unwrap()[0].reclaimable
        };
        assert_eq!(with("file 60\nshmem 50\ninactive_file 7\nactive_file 3\n"), Some(Bytes(10)));
        assert_eq!(with("file 60\ninactive_file 7\n"), None);
        assert_eq!(with(""), None);
    }

    #[test]
    fn a_hybrid_machine_accounts_memory_in_version_1() {
        let mounts = "\
35 31 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
36 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
        let tree = Tree::new(&[
            ("/proc/self/cgroup", "9:name=systemd:/\n4:hugetlb,memory:/job\n0::/other\n"),
            ("/proc/self/mountinfo", mounts),
            ("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "4096\n"),
            ("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "5000\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        let memory = "sys/fs/cgroup/memory";
        assert_eq!(
            read(&tree),
            [(format!("{memory}/job"), Some(4096), Some(5000)), (memory.to_owned(), None, None)]
        );
        assert_eq!(cgroup_memory(tree.root()).unwrap()[0].headroom(), Some(Bytes(0)));
    }

    #[test]
    fn a_container_sees_the_part_that_is_mounted() {
        let cases = [
            // The host's path, and only the container's part mounted.
            ("/docker/abc/sub", "/docker/abc", vec!["sys/fs/cgroup/sub", "sys/fs/cgroup"]),
            ("/docker/abc", "/docker/abc", vec!["sys/fs/cgroup"]),
            // The mount is of another group, or the group is outside of the namespace.
            ("/docker/abc", "/elsewhere", vec!["sys/fs/cgroup"]),
            ("/../../init.scope", "/", vec!["sys/fs/cgroup"]),
        ];
        for (group, mount_root, expected) in cases {
            let tree = Tree::new(&[
                ("/proc/self/cgroup", &format!("0::{group}\n")),
                ("/proc/self/mountinfo", &V2_MOUNT.replacen(" / ", &format!(" {mount_root} "), 1)),
                ("/sys/fs/cgroup/memory.max", "10"),
                ("/sys/fs/cgroup/sub/memory.max", "5"),
            ]);
            let paths: Vec<_> = read(&tree).into_iter().map(|(path, ..)| path).collect();
            assert_eq!(paths, expected, "{group} in {mount_root}");
        }
    }

    #[test]
    fn a_limit_that_cannot_be_understood_is_never_no_limit() {
        for text in ["", "-1", "lots", "1 2", "18446744073709551616", "\u{1}"] {
            let tree = Tree::new(&[
                ("/proc/self/cgroup", "0::/\n"),
                ("/proc/self/mountinfo", V2_MOUNT),
                ("/sys/fs/cgroup/memory.max", text),
            ]);
            assert!(matches!(cgroup_memory(tree.root()), Err(FactError::Malformed { .. })), "{text:?}");
        }
    }

    #[test]
    fn a_machine_without_a_memory_controller_has_no_groups() {
        for (groups, mounts) in [
            ("", V2_MOUNT),
            ("nonsense\n3:cpu\n", V2_MOUNT),
            ("0::/\n", "27 1 254:0 / / rw - ext4 /dev/vda rw\n"),
        ] {
            let tree = Tree::new(&[("/proc/self/cgroup", groups), ("/proc/self/mountinfo", mounts)]);
            assert_eq!(read(&tree), []);
        }
        assert!(matches!(cgroup_memory(Tree::new(&[]).root()), Err(FactError::Read { .. })));
    }
}
