//! A process that no wait is for. Opened by its number when its stream has ended: from then on its descriptor is it, and until then
//! its number may, in theory, have become another's.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process of this machine.
#[derive(Debug)]
pub(super) struct Process(AsyncFd<OwnedFd>);

impl Process {
    /// None: there is no such process any more.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn open(number: u32) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(number).ok().and_then(Pid::from_raw) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => {
                // Its successor is unsafe code, which is forbidden here.
                #[expect(
                    deprecated,
                    reason = "unsound only for types whose descriptor can change; this one is owned"
                )]
                Ok(Some(Self(AsyncFd::with_interest(descriptor, Interest::READABLE)?)))
            }
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        let mut asked = [PollFd::from_borrowed_fd(self.0.get_ref().as_fd(), PollFlags::IN)];
        poll(&mut asked, Some(&Timespec::default())).is_ok_and(|ended| ended > 0)
    }

    /// Returns once it has ended.
    pub(super) async fn ended(&self) {
        while !self.has_ended() {
            match self.0.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return,
            }
        }
    }

    pub(super) fn kill(&self) {
        // It has ended already, or ends now.
        let _ = pidfd_send_signal(self.0.get_ref(), Signal::KILL);
    }
}

/// Whether there is a process of this number that has not ended; also where the kernel does not tell.
pub(super) fn may_be_alive(number: u32) -> bool {
    match Process::open(number) {
        Ok(process) => process.is_some_and(|process| !process.has_ended()),
        Err(_) => true,
    }
}
