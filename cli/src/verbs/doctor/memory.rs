//! Checks of the memory: how much there is, what the control groups leave of it, and how the kernel manages it.

use std::path::Path;

use hoist_domain::Bytes;
use hoist_runtime::machine::{self, CgroupMemory, Limit, Memory};

use super::Check;

/// Less than this holds no model worth sharing.
const LITTLE: Bytes = Bytes::gib(1);

pub(super) fn checks() -> Vec<Check> {
    let root = Path::new("/");
    let memory = machine::memory(root);
    let has_swap = memory.as_ref().map(|memory| memory.swap_total > Bytes(0)).unwrap_or(false);
    let mut checks = vec![match &memory {
        Ok(memory) => whole(memory),
        Err(error) => Check::unknown("memory", error),
    }];
    match machine::cgroup_memory(root) {
        Ok(groups) => checks.extend(cgroups(&groups)),
        Err(error) => checks.push(Check::unknown("cgroup_memory", &error)),
    }
    checks.push(locked(machine::memlock(), has_swap));
    checks.push(if machine::has_memory_pressure(root) {
        Check::ok("memory_pressure", "the kernel tells (PSI)")
    } else {
        Check::warn(
            "memory_pressure",
            "the kernel does not tell (no PSI): Hoist notices later that memory is short",
            "boot with psi=1",
        )
    });
    checks.push(match machine::shmem_huge_pages(root) {
        Ok(policy) => huge_pages(&policy),
        Err(error) => Check::unknown("shmem_huge_pages", &error),
    });
    checks
}

fn whole(memory: &Memory) -> Check {
    let swap = match memory.swap_total {
        Bytes(0) => "no swap".to_owned(),
        swap => format!("{swap} swap"),
    };
    let found = format!("{}, {} available, {swap}", memory.total, memory.available);
    if memory.available < LITTLE {
        return Check::warn("memory", found, "end something, or expect models to be evicted at once");
    }
    Check::ok("memory", found)
}

/// One check for each limit, because each ancestor can end the process; one in all where there is none.
fn cgroups(groups: &[CgroupMemory]) -> Vec<Check> {
    const NAME: &str = "cgroup_memory";
    let limits: Vec<Check> = groups
        .iter()
        .filter_map(|group| {
            let limit = group.limit?;
            let headroom = group.headroom();
            let left = headroom.map(|left| format!(", {left} of it unused")).unwrap_or_default();
            let found = format!("{limit} at {}{left}", group.path.display());
            let is_tight = headroom.unwrap_or(limit) < LITTLE;
            Some(if is_tight {
                Check::warn(
                    NAME,
                    found,
                    "cached weights count against it: raise it (MemoryMax=, --memory), or keep --ram-budget below it",
                )
            } else {
                Check::ok(NAME, found)
            })
        })
        .collect();
    if limits.is_empty() { vec![Check::ok(NAME, "no limit")] } else { limits }
}

/// Without swap nothing can push locked or unlocked pages out, so a low limit does no harm.
fn locked(limit: Limit, has_swap: bool) -> Check {
    const NAME: &str = "memory_lock";
    match limit.hard {
        None => Check::ok(NAME, "unlimited"),
        Some(hard) if has_swap => Check::warn(
            NAME,
            format!("at most {}, and this machine swaps", Bytes(hard)),
            "set LimitMEMLOCK=infinity in the systemd unit, or `memlock unlimited` in /etc/security/limits.conf",
        ),
        Some(hard) => {
            Check::ok(NAME, format!("at most {}; no swap, so nothing can be pushed out", Bytes(hard)))
        }
    }
}

/// The policy for memory that no mount decides. `deny` overrides every mount.
fn huge_pages(policy: &str) -> Check {
    const NAME: &str = "shmem_huge_pages";
    if policy == "deny" {
        return Check::warn(
            NAME,
            "deny: no mount can have huge pages",
            "echo never > /sys/kernel/mm/transparent_hugepage/shmem_enabled, so that mounts decide",
        );
    }
    Check::ok(NAME, format!("{policy}; the mount of the runtime directory decides"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::doctor::Verdict;
    use hoist_runtime::machine::CgroupVersion;

    fn group(limit: Option<u64>, usage: Option<u64>) -> CgroupMemory {
        CgroupMemory {
            version: CgroupVersion::V2,
            path: "/sys/fs/cgroup/a".into(),
            limit: limit.map(Bytes::gib),
            usage: usage.map(Bytes::gib),
            reclaimable: None,
        }
    }

    #[test]
    fn every_ancestor_with_a_limit_is_shown() {
        let checks = cgroups(&[group(Some(8), Some(8)), group(None, Some(9)), group(Some(64), Some(9))]);
        let verdicts: Vec<_> = checks.iter().map(|check| check.verdict).collect();
        assert_eq!(verdicts, [Verdict::Warn, Verdict::Ok]);
        assert_eq!(cgroups(&[group(None, None)]).len(), 1);
        assert_eq!(cgroups(&[]).len(), 1);
    }

    #[test]
    fn a_lock_limit_matters_only_with_swap() {
        let limit = Limit { soft: Some(8 << 20), hard: Some(8 << 20) };
        assert_eq!(locked(limit, true).verdict, Verdict::Warn);
        assert_eq!(locked(limit, false).verdict, Verdict::Ok);
    }
}
