//! One worker a device: a lock beside the coordinator's socket, which the kernel takes back when the process ends.

use std::fs::File;
use std::path::Path;

use hoist_domain::DeviceId;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

/// Held for as long as this is there.
#[derive(Debug)]
pub struct DeviceLock(#[expect(dead_code, reason = "it is held, not used")] File);

impl DeviceLock {
    /// Takes the lock of a device of the coordinator that listens at this socket. None: another worker has it.
    ///
    /// # Errors
    /// There is no such place, or it is not ours.
    pub fn take(socket: &Path, device: DeviceId) -> Result<Option<Self>, String> {
        let place = socket.with_file_name(format!("worker-{device}.lock"));
        let failed = |error: Errno| format!("{}: {}", place.display(), std::io::Error::from(error));
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&place, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file.into()))),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_one_worker_and_another_device_another() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("hoist.sock");
        let take = |device: &str| DeviceLock::take(&socket, device.parse().unwrap()).unwrap();
        let held = take("cpu:0").unwrap();
        assert!(take("cpu:0").is_none());
        let _other = take("cpu:1").unwrap();
        drop(held);
        assert!(take("cpu:0").is_some());
        assert!(DeviceLock::take(Path::new("/nowhere/hoist.sock"), "cpu:0".parse().unwrap()).is_err());
    }
}
