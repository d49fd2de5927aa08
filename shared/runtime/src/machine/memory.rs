//! The memory of the machine, `/proc/meminfo`.

use std::path::Path;

use hoist_domain::Bytes;

use super::{FactError, read_text, under};

/// The whole machine's memory: a cgroup may allow less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub total: Bytes,
    /// The kernel's estimate of what can be taken without swapping.
    pub available: Bytes,
    /// Zero where there is no swap.
    pub swap_total: Bytes,
}

/// # Errors
/// The file cannot be read, or lacks one of the three.
pub fn memory(root: &Path) -> Result<Memory, FactError> {
    let path = under(root, "/proc/meminfo");
    let text = read_text(&path)?;
    let find = |name, problem| {
        field(&text, name).ok_or_else(|| FactError::Malformed { path: path.clone(), problem })
    };
    Ok(Memory {
        total: find("MemTotal", "no MemTotal in kB")?,
        available: find("MemAvailable", "no MemAvailable in kB")?,
        swap_total: find("SwapTotal", "no SwapTotal in kB")?,
    })
}

/// `MemTotal:       24684096 kB`, where kB has always meant 1024 bytes.
fn field(text: &str, name: &str) -> Option<Bytes> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(Bytes::KIB).map(Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Tree;

    fn of(text: &str) -> Result<Memory, FactError> {
        memory(Tree::new(&[("/proc/meminfo", text)]).root())
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotalX:  1 kB\nMemTotal:  4 kB\nMemFree: 1 kB\nMemAvailable: 3 kB\nSwapTotal: 0 kB\n";
        let expected = Memory { total: Bytes(4096), available: Bytes(3072), swap_total: Bytes(0) };
        assert_eq!(of(text).unwrap(), expected);
    }

    #[test]
    fn what_is_missing_or_absurd_is_an_error() {
        let fine = "MemTotal: 4 kB\nMemAvailable: 3 kB\nSwapTotal: 0 kB\n";
        for (from, to) in [
            ("MemTotal", "Total"),
            ("4 kB", "4"),
            ("4 kB", "-4 kB"),
            ("4 kB", "18446744073709551615 kB"),
            ("SwapTotal: 0 kB", ""),
        ] {
            let refused = of(&fine.replace(from, to));
            assert!(matches!(refused, Err(FactError::Malformed { .. })), "{from} as {to}: {refused:?}");
        }
        assert!(matches!(memory(Tree::new(&[]).root()), Err(FactError::Read { .. })));
    }
}
