//! Checks of the kernel, the processors, the open files and the GPUs.

use std::path::Path;

use hoist_runtime::machine::{self, Limit, Nvidia};

use super::Check;

/// openat2 (5.6), pidfd_getfd (5.6), close_range (5.9) and MADV_COLD on shared memory: all are there from the long-term
/// kernel 5.10 on, which is what Hoist is tested on.
const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// One file for each segment and several for each connection: what a busy machine needs, with room.
const NOFILE_WANTED: u64 = 65_536;
/// Below this even a handful of clients with a few models each would be refused.
const NOFILE_NEEDED: u64 = 1_024;

pub(super) fn checks() -> Vec<Check> {
    let root = Path::new("/");
    let kernel = match machine::kernel_release(root) {
        Ok(release) => kernel(&release),
        Err(error) => Check::unknown("kernel", &error),
    };
    let cpus = machine::cpus(root);
    let online = cpus.online.map(|online| format!(" of {online}")).unwrap_or_default();
    let processors = Check::ok("processors", format!("{}{online} usable", cpus.usable));
    vec![kernel, processors, open_files(machine::nofile()), gpu(&machine::nvidia(root))]
}

fn kernel(release: &str) -> Check {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return Check::warn(
            "kernel",
            format!("{release}, of unknown age"),
            "Hoist needs Linux 5.10 or newer",
        );
    };
    if (major, minor) >= OLDEST_KERNEL {
        Check::ok("kernel", release)
    } else {
        Check::fail("kernel", release, "Hoist needs Linux 5.10 or newer: update the kernel")
    }
}

fn open_files(limit: Limit) -> Check {
    const NAME: &str = "open_files";
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let found = format!("{} now, may be raised to {}", shown(limit.soft), shown(limit.hard));
    let advice = "raise the hard limit: LimitNOFILE= in the systemd unit, `nofile` in /etc/security/limits.conf, or \
                  --ulimit nofile= for a container";
    // The server raises its soft limit as far as the hard one lets it, so the hard one is what counts.
    match limit.hard {
        Some(hard) if hard < NOFILE_NEEDED => Check::fail(NAME, found, advice),
        Some(hard) if hard < NOFILE_WANTED => Check::warn(NAME, found, advice),
        Some(_) | None => Check::ok(NAME, found),
    }
}

fn gpu(nvidia: &Nvidia) -> Check {
    const NAME: &str = "gpu";
    let driver = nvidia.driver.as_deref();
    let count = nvidia.devices.len();
    let closed: Vec<String> = nvidia
        .devices
        .iter()
        .filter(|device| !(device.is_readable && device.is_writable))
        .map(|device| device.path.display().to_string())
        .collect();
    match (driver, count) {
        (None, 0) => Check::ok(NAME, "no NVIDIA GPU: Hoist uses the cpu device"),
        (Some(driver), 0) => Check::warn(
            NAME,
            format!("a driver but no device files ({driver})"),
            "run `nvidia-smi` once as root to make them; in a container, pass the devices in (--gpus all)",
        ),
        (None, _) => Check::warn(
            NAME,
            format!("{count} device files but no driver"),
            "load the nvidia kernel module, or install the driver again after a kernel update",
        ),
        (Some(driver), _) if closed.is_empty() => Check::ok(NAME, format!("{count}, {driver}")),
        (Some(_), _) => Check::warn(
            NAME,
            format!("not open to you: {}", closed.join(", ")),
            "let this user read and write them, most often by membership in the group `video` or `render`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::doctor::Verdict;

    #[test]
    fn kernels_from_5_10_on_will_do() {
        for (release, verdict) in [
            ("6.8.0-45-generic", Verdict::Ok),
            ("5.10", Verdict::Ok),
            ("5.9.16", Verdict::Fail),
            ("4.19.0", Verdict::Fail),
            ("odd", Verdict::Warn),
        ] {
            assert_eq!(kernel(release).verdict, verdict, "{release}");
        }
    }

    #[test]
    fn the_hard_limit_of_open_files_is_what_counts() {
        let verdict = |soft, hard| open_files(Limit { soft, hard }).verdict;
        assert_eq!(verdict(Some(1_024), Some(1 << 20)), Verdict::Ok);
        assert_eq!(verdict(Some(1_024), Some(4_096)), Verdict::Warn);
        assert_eq!(verdict(Some(256), Some(256)), Verdict::Fail);
        assert_eq!(verdict(None, None), Verdict::Ok);
    }

    #[test]
    fn a_machine_without_a_gpu_is_well() {
        let check = gpu(&Nvidia { devices: Vec::new(), driver: None });
        assert_eq!(check.verdict, Verdict::Ok);
        assert!(check.found.contains("cpu device"));
    }
}
