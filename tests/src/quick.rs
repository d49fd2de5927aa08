//! Operations that end as soon as they begin, for tests that need hundreds of them.

use std::process::Command;

use anyhow::Result;
use hoist_wire::v1::{MeasurementKind, ProbeMachineRequest};

use crate::{Sandbox, Server};

/// The smallest that a probe may move.
const LEAST_BYTES: u64 = 16 << 20;

/// Directories for a server whose runtime directory is taken away once it serves: a probe of tmpfs then finds
/// nothing to write to, says so, and has succeeded. On the way it was accepted, started, reported and committed like
/// any other.
#[derive(Debug)]
pub struct QuickPlace {
    pub sandbox: Sandbox,
    _socket: tempfile::TempDir,
}

impl QuickPlace {
    /// Fresh directories.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new() -> Result<Self> {
        let mut sandbox = Sandbox::new()?;
        let socket = tempfile::Builder::new().prefix("hoist-test-").tempdir_in("/dev/shm")?;
        sandbox.flags.extend(["--socket".to_owned(), socket.path().join("s").display().to_string()]);
        Ok(Self { sandbox, _socket: socket })
    }

    /// Starts a server, and waits until it serves.
    ///
    /// # Errors
    /// When it ends before that.
    pub fn start(&self) -> Result<Server> {
        self.spawn(self.sandbox.command())
    }

    /// The same, with a command that was changed.
    ///
    /// # Errors
    /// When it ends before it serves.
    pub fn spawn(&self, command: Command) -> Result<Server> {
        let server = Server::spawn(command)?;
        std::fs::remove_dir_all(self.sandbox.runtime_dir())?;
        Ok(server)
    }

    /// Work that ends at once here.
    #[must_use]
    pub fn work(&self) -> ProbeMachineRequest {
        probe(MeasurementKind::TmpfsWrite, LEAST_BYTES)
    }
}

/// A request to measure one thing.
#[must_use]
pub fn probe(kind: MeasurementKind, bytes: u64) -> ProbeMachineRequest {
    ProbeMachineRequest { kinds: vec![kind.into()], bytes, ..Default::default() }
}

/// Work that goes on for a while on any disk.
#[must_use]
pub fn long_work() -> ProbeMachineRequest {
    probe(MeasurementKind::DiskRead, 4 << 30)
}
