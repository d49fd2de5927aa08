//! What this process may take of the kernel: open files and locked memory.
//!
//! The limits are the kernel's word and not a file, so these functions take no root.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A resource limit. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In force now.
    pub soft: Option<u64>,
    /// How far the process may raise the soft limit.
    pub hard: Option<u64>,
}

impl From<Rlimit> for Limit {
    fn from(limit: Rlimit) -> Self {
        Self { soft: limit.current, hard: limit.maximum }
    }
}

/// How many files may be open at once.
#[must_use]
pub fn nofile() -> Limit {
    getrlimit(Resource::Nofile).into()
}

/// How many bytes may be locked in memory.
#[must_use]
pub fn memlock() -> Limit {
    getrlimit(Resource::Memlock).into()
}

/// Lifts the limit of open files as far as it goes and returns it, soft and hard; `u64::MAX` is no limit. `main` calls
/// it once at the start. Where the kernel refuses, the soft limit is still below the hard one.
pub fn raise_nofile() -> (u64, u64) {
    let before = getrlimit(Resource::Nofile);
    // A refusal shows in what is returned.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum });
    let after = nofile();
    (after.soft.unwrap_or(u64::MAX), after.hard.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_goes_up_to_the_hard_one() {
        let hard = nofile().hard;
        // Other tests may run in this process at the same time, and 256 files are more than they open.
        let lowered = Rlimit { current: Some(hard.map_or(256, |hard| hard.min(256))), maximum: hard };
        setrlimit(Resource::Nofile, lowered).unwrap();
        let (soft, lifted_hard) = raise_nofile();
        assert_eq!((soft, lifted_hard), (hard.unwrap_or(u64::MAX), hard.unwrap_or(u64::MAX)));
        assert_eq!(nofile(), Limit { soft: hard, hard });
    }
}
