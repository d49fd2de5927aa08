//! Checks of the runtime directory, where weights lie in memory, and of the state directory, which must last.

use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hoist_domain::Bytes;
use hoist_runtime::config::current_uid;
use hoist_runtime::machine::{self, Filesystem, FilesystemKind};
use rustix::fs::OFlags;

use super::{Check, Dirs};

/// A container gets 64 MiB of /dev/shm unless somebody asks for more: too little for any model.
const LITTLE_RUNTIME: Bytes = Bytes::gib(1);
/// The store grows to some hundred MiB at most and is written anew when it is compacted.
const LITTLE_STATE: Bytes = Bytes::gib(1);
/// Below this the store soon turns read-only.
const NO_STATE: Bytes = Bytes::mib(64);

pub(super) fn checks(dirs: &Dirs) -> Vec<Check> {
    let mut checks = runtime(&dirs.runtime);
    checks.extend(state(&dirs.state));
    checks
}

fn runtime(dir: &Path) -> Vec<Check> {
    const NAME: &str = "runtime_dir";
    let filesystem = match machine::filesystem(Path::new("/"), dir) {
        Ok(filesystem) => filesystem,
        Err(error) => return vec![Check::unknown(NAME, &error)],
    };
    let mut checks = vec![room_for_weights(dir, &filesystem)];
    if let Some(check) = ownership(dir) {
        checks.push(check);
    }
    if filesystem.kind == FilesystemKind::Tmpfs {
        checks.push(huge(&filesystem));
        checks.extend(swapped(&filesystem));
    }
    checks
}

fn room_for_weights(dir: &Path, filesystem: &Filesystem) -> Check {
    const NAME: &str = "runtime_dir";
    let shown = dir.display();
    let mount = mount_point(filesystem);
    match filesystem.kind {
        FilesystemKind::Tmpfs if filesystem.is_read_only() => {
            Check::fail(NAME, format!("{shown} is read-only"), "choose another one with --runtime-dir")
        }
        FilesystemKind::Tmpfs if filesystem.total == Bytes(0) => Check::warn(
            NAME,
            format!("{shown} on a tmpfs without a size"),
            format!("give it one, so that it cannot take all memory: mount -o remount,size=50% {mount}"),
        ),
        FilesystemKind::Tmpfs => {
            let found = format!("{shown} on tmpfs, {} free of {}", filesystem.free, filesystem.total);
            if filesystem.total < LITTLE_RUNTIME || filesystem.free < LITTLE_RUNTIME {
                let advice = format!(
                    "make it larger: mount -o remount,size=50% {mount}, or --shm-size for a container"
                );
                return Check::warn(NAME, found, advice);
            }
            Check::ok(NAME, found)
        }
        FilesystemKind::Ramfs => Check::warn(
            NAME,
            format!("{shown} on ramfs, which has no size"),
            "use a tmpfs: a ramfs can take all memory and tells nobody how much it has",
        ),
        _ => Check::fail(
            NAME,
            format!("{shown} on {}, which is no memory", filesystem.name()),
            "choose a directory on a tmpfs with --runtime-dir: weights are to lie in memory, not on a disk",
        ),
    }
}

/// Only where the directory exists: the server makes it with the right owner and mode.
fn ownership(dir: &Path) -> Option<Check> {
    const NAME: &str = "runtime_dir_owner";
    let metadata = std::fs::symlink_metadata(dir).ok()?;
    let shown = dir.display();
    if !metadata.is_dir() {
        return Some(Check::fail(
            NAME,
            format!("{shown} is no directory"),
            "remove it, or use another --runtime-dir",
        ));
    }
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
    if owner != current_uid() {
        return Some(Check::fail(
            NAME,
            format!("{shown} belongs to user {owner}, not to you"),
            "run as that user, or use another --runtime-dir",
        ));
    }
    if mode & 0o022 != 0 {
        let found = format!("{shown} may be written by others (mode {mode:03o})");
        return Some(Check::fail(NAME, found, format!("chmod 700 {shown}")));
    }
    Some(Check::ok(NAME, format!("yours, mode {mode:03o}")))
}

fn huge(filesystem: &Filesystem) -> Check {
    const NAME: &str = "runtime_dir_huge_pages";
    match filesystem.huge() {
        None | Some("never") => Check::warn(
            NAME,
            "off: filling and reading weights costs more time in the kernel",
            format!("mount -o remount,huge=within_size {}", mount_point(filesystem)),
        ),
        Some(policy) => Check::ok(NAME, format!("huge={policy}")),
    }
}

fn swapped(filesystem: &Filesystem) -> Option<Check> {
    const NAME: &str = "runtime_dir_swap";
    let memory = machine::memory(Path::new("/")).ok()?;
    if memory.swap_total == Bytes(0) {
        return Some(Check::ok(NAME, "no swap"));
    }
    Some(if filesystem.is_noswap() {
        Check::ok(NAME, "noswap: weights stay in memory")
    } else {
        Check::warn(
            NAME,
            format!("weights may be pushed out to {} of swap, and come back slowly", memory.swap_total),
            format!("mount -o remount,noswap {} (Linux 6.4 or newer), or swapoff", mount_point(filesystem)),
        )
    })
}

fn mount_point(filesystem: &Filesystem) -> String {
    let mount =
        filesystem.mount.as_ref().map_or(filesystem.path.as_path(), |mount| mount.mount_point.as_path());
    mount.display().to_string()
}

fn state(dir: &Path) -> Vec<Check> {
    const NAME: &str = "state_dir";
    let filesystem = match machine::filesystem(Path::new("/"), dir) {
        Ok(filesystem) => filesystem,
        Err(error) => return vec![Check::unknown(NAME, &error)],
    };
    let mut checks = vec![room_for_state(dir, &filesystem)];
    checks.extend(try_to_write(dir, &filesystem));
    checks
}

fn room_for_state(dir: &Path, filesystem: &Filesystem) -> Check {
    const NAME: &str = "state_dir";
    let found = format!("{} on {}, {} free", dir.display(), filesystem.name(), filesystem.free);
    if filesystem.is_read_only() {
        return Check::fail(NAME, format!("{found}, read-only"), "choose another one with --state-dir");
    }
    if filesystem.free < NO_STATE {
        return Check::fail(NAME, found, "make room: without it every change is refused");
    }
    if filesystem.kind.is_memory() {
        return Check::warn(
            NAME,
            found,
            "choose one on a disk with --state-dir: this one is empty after a reboot",
        );
    }
    if filesystem.kind.is_remote() {
        return Check::warn(
            NAME,
            found,
            "choose one on a local disk: locks and syncs over a network are not to be relied on",
        );
    }
    if filesystem.free < LITTLE_STATE {
        return Check::warn(NAME, found, "make room: at least 1 GiB is wanted");
    }
    Check::ok(NAME, found)
}

/// Makes a file in the directory, or in the nearest one that exists, and opens it past the page cache.
fn try_to_write(dir: &Path, filesystem: &Filesystem) -> Vec<Check> {
    const WRITABLE: &str = "state_dir_writable";
    let place = if dir.is_dir() { dir } else { filesystem.path.as_path() };
    let file = place.join(format!(".hoist-doctor-{}", uuid::Uuid::new_v4().simple()));
    if let Err(error) = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file) {
        let found = format!("{}: {error}", place.display());
        return vec![Check::fail(
            WRITABLE,
            found,
            "let this user write there, or choose another --state-dir",
        )];
    }
    let _removed_at_the_end = Removed(file.clone());
    let made = if place == dir { "yes" } else { "yes; the directory itself is made by the server" };
    vec![Check::ok(WRITABLE, made), direct(&file)]
}

fn direct(file: &Path) -> Check {
    const NAME: &str = "state_dir_direct_io";
    let opened = i32::try_from(OFlags::DIRECT.bits())
        .map_err(std::io::Error::other)
        .and_then(|flag| std::fs::OpenOptions::new().read(true).custom_flags(flag).open(file));
    match opened {
        Ok(_) => Check::ok(NAME, "yes (O_DIRECT)"),
        Err(error) => Check::warn(
            NAME,
            format!("no: {error}"),
            "the disk cannot be measured past the page cache here; a state directory on ext4 or xfs can",
        ),
    }
}

/// A file that goes away when this does.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // What cannot be removed is an empty file with a telling name.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::doctor::Verdict;

    #[test]
    fn a_writable_directory_is_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let checks = state(dir.path());
        assert!(
            checks.iter().any(|c| c.name == "state_dir_writable" && c.verdict == Verdict::Ok),
            "{checks:?}"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_runtime_directory_that_others_may_write_fails() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(ownership(dir.path()).unwrap().verdict, Verdict::Fail);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(ownership(dir.path()).unwrap().verdict, Verdict::Ok);
        assert!(ownership(&dir.path().join("absent")).is_none());
    }
}
