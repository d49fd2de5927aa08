//! The kernel and the processors: release, pressure information, huge pages for shared memory, processor count.

use std::path::Path;
use std::thread::available_parallelism;

use super::{FactError, read_text, under};

/// The kernel's release, `6.8.0-45-generic`.
///
/// # Errors
/// The file cannot be read or is empty.
pub fn kernel_release(root: &Path) -> Result<String, FactError> {
    let path = under(root, "/proc/sys/kernel/osrelease");
    match read_text(&path)?.trim() {
        "" => Err(FactError::Malformed { path, problem: "it is empty" }),
        release => Ok(release.to_owned()),
    }
}

/// Whether the kernel tells how long work waits for memory. A kernel started with `psi=0` has the file, but reading
/// it fails.
#[must_use]
pub fn has_memory_pressure(root: &Path) -> bool {
    read_text(&under(root, "/proc/pressure/memory")).is_ok_and(|text| text.starts_with("some avg10="))
}

/// The policy in force for huge pages in shared memory that no mount option decides: `never`, `advise`, `always`,
/// `within_size`, `deny` or `force`.
///
/// # Errors
/// The kernel has no such policy, or none is marked as in force.
pub fn shmem_huge_pages(root: &Path) -> Result<String, FactError> {
    let path = under(root, "/sys/kernel/mm/transparent_hugepage/shmem_enabled");
    let text = read_text(&path)?;
    let chosen = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    chosen.map(str::to_owned).ok_or(FactError::Malformed { path, problem: "no policy is in brackets" })
}

/// Processors. The machine may have more than this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus {
    /// Of the whole machine; `None` if it does not tell.
    pub online: Option<u32>,
    /// For this process, after affinity and control group quota. At least one.
    pub usable: u32,
}

/// What is usable is asked of the kernel, whatever the root.
#[must_use]
pub fn cpus(root: &Path) -> Cpus {
    let online = read_text(&under(root, "/sys/devices/system/cpu/online")).ok();
    let usable = available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
    Cpus { online: online.and_then(|text| count_list(text.trim())), usable }
}

/// `0-3,8` is five.
fn count_list(text: &str) -> Option<u32> {
    let mut count: u32 = 0;
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Tree;

    #[test]
    fn processors_are_counted_from_ranges() {
        for (text, count) in [
            ("0", Some(1)),
            ("0-3,8", Some(5)),
            ("", None),
            ("3-0", None),
            ("0-4294967295", None),
            ("a-b", None),
        ] {
            assert_eq!(count_list(text), count, "{text}");
        }
        assert!(cpus(Path::new("/nonexistent")).usable >= 1);
    }

    #[test]
    fn the_policy_in_brackets_is_the_one_in_force() {
        let of = |text| {
            shmem_huge_pages(Tree::new(&[("/sys/kernel/mm/transparent_hugepage/shmem_enabled", text)]).root())
        };
        assert_eq!(of("always within_size advise [never] deny force\n").unwrap(), "never");
        assert!(matches!(of("always never"), Err(FactError::Malformed { .. })));
        assert!(matches!(of("[ always"), Err(FactError::Malformed { .. })));
    }

    #[test]
    fn pressure_and_release_are_absent_or_sound() {
        let full = Tree::new(&[
            ("/proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
            ("/proc/sys/kernel/osrelease", "6.8.0\n"),
        ]);
        assert!(has_memory_pressure(full.root()));
        assert_eq!(kernel_release(full.root()).unwrap(), "6.8.0");

        let empty = Tree::new(&[("/proc/pressure/memory", ""), ("/proc/sys/kernel/osrelease", "")]);
        assert!(!has_memory_pressure(empty.root()));
        assert!(matches!(kernel_release(empty.root()), Err(FactError::Malformed { .. })));
    }
}
