//! Faults in the system calls of a real, running process: killed at the N-th, or refused as long as wanted.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::Server;

/// Tampers with a process until dropped.
#[derive(Debug)]
pub struct Strace(Child);

impl Strace {
    /// Tampers with these system calls of all threads: `signal=KILL:when=3`, `error=ENOSPC`.
    ///
    /// # Errors
    /// When strace is missing or may not attach.
    pub fn attach(server: &Server, calls: &str, tampering: &str) -> Result<Self> {
        let mut strace = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{tampering}")])
            .args(["-p", &server.process_id().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("strace is needed: run scripts/setup strace")?;
        // It says so once it holds the process.
        let mut lines = BufReader::new(strace.stderr.take().context("no stderr")?).lines();
        let first = lines.next().context("strace said nothing")??;
        ensure!(first.contains("attached"), "strace: {first}");
        // Read on, so that it never waits for a reader.
        std::thread::Builder::new().name("strace log".into()).spawn(move || lines.for_each(drop))?;
        Ok(Self(strace))
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Asked politely it lets go of the process, which then runs on untouched.
        if let Some(process) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}
