//! Faults at chosen system calls of the real binary, by strace: nothing in Hoist knows of them.
//!
//! strace counts calls by thread and by kind, and what it injects happens instead of the call or, for a signal,
//! before it. So SIGKILL at the third `fdatasync` leaves exactly what two of them have made durable, plus what the
//! kernel was told without one.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;

/// Names in a state directory that are written. strace sees a file by the name under which it was opened.
const FILES: [&str; 9] = [
    "",
    "lock",
    "store.redb",
    "store.redb.new",
    "epoch",
    "epoch.new",
    "store.export",
    "store.export.new",
    "store.redb.damaged-1",
];

/// Calls that change files; always in the log.
const CHANGES: &str = "pwrite64,fdatasync,fsync,ftruncate,rename,renameat";

/// A call over the Unix socket takes a tenth of this.
const SLOWLY: &str = "10ms";

/// What happens, and where.
#[derive(Clone, Debug)]
pub struct Injection<'a> {
    /// System calls, separated by commas. Each kind is counted for itself.
    pub calls: &'a str,
    /// In strace's words: `signal=SIGKILL`, `error=ENOSPC`.
    pub fault: &'a str,
    /// In strace's words: `3` is the third call, `3+` that one and all that follow.
    pub when: &'a str,
    /// Only calls on the files of this state directory. Unset: all.
    pub within: Option<&'a Path>,
    /// Other system calls, each of which takes [`SLOWLY`]: long enough for an answer that is given too early to get
    /// out. Empty: none.
    pub slow: &'a str,
}

impl Injection<'_> {
    fn words(&self, log: &Path) -> Vec<String> {
        let mut words = vec!["-o".into(), log.display().to_string(), "-e".into()];
        words.push(format!("trace={CHANGES},{}", self.calls));
        words.extend(["-e".into(), format!("inject={}:{}:when={}", self.calls, self.fault, self.when)]);
        if !self.slow.is_empty() {
            words.extend(["-e".into(), format!("inject={}:delay_enter={SLOWLY}", self.slow)]);
        }
        for file in self.within.iter().flat_map(|directory| FILES.map(|file| directory.join(file))) {
            let path = file.display().to_string();
            words.extend(["-P".into(), path.trim_end_matches('/').to_owned()]);
        }
        words
    }

    /// What to put before a command, so that the fault happens while it starts. The command keeps its process id and
    /// its parent: strace steps aside.
    #[must_use]
    pub fn from_the_start(&self) -> Vec<String> {
        let mut words: Vec<String> = ["strace", "-D", "-f"].map(Into::into).into();
        words.extend(self.words(Path::new("/dev/null")));
        words
    }

    /// Lets it happen in one thread of a running process from here on.
    ///
    /// # Errors
    /// When strace is not installed, or may not look at the process.
    pub fn in_thread(&self, process: u32, name: &str) -> Result<Tracer> {
        self.attach(&["-p".into(), process::thread(process, name)?.to_string()])
    }

    /// Lets it happen in every thread of a running process from here on.
    ///
    /// # Errors
    /// As [`Self::in_thread`].
    pub fn in_every_thread(&self, process: u32) -> Result<Tracer> {
        self.attach(&["-f".into(), "-p".into(), process.to_string()])
    }

    fn attach(&self, whom: &[String]) -> Result<Tracer> {
        let place = tempfile::tempdir()?;
        let log = place.path().join("calls");
        let mut child = Command::new("strace")
            .args(whom)
            .args(self.words(&log))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run strace: apt-get install strace")?;
        let mut said = BufReader::new(child.stderr.take().context("no stderr")?);
        let mut line = String::new();
        // Said once every thread is held, and before any is let go.
        while !line.contains(" attached") {
            line.clear();
            if said.read_line(&mut line)? == 0 {
                let _ = child.wait();
                bail!("strace cannot attach: run as root, or set kernel.yama.ptrace_scope to 0");
            }
            if line.contains("Operation not permitted") {
                bail!("{line}run as root, or set kernel.yama.ptrace_scope to 0");
            }
        }
        Ok(Tracer { child, log, _said: said, _place: place })
    }
}

/// strace, attached to a process. Dropped, it lets go.
#[derive(Debug)]
pub struct Tracer {
    child: Child,
    log: PathBuf,
    /// Kept open: strace must not die of a closed pipe.
    _said: BufReader<ChildStderr>,
    _place: tempfile::TempDir,
}

impl Tracer {
    /// Lets the process go on without faults; the calls that were seen, one a line.
    ///
    /// # Errors
    /// When strace does not end.
    pub fn detach(mut self) -> Result<String> {
        let strace = rustix::process::Pid::from_child(&self.child);
        // Gone already, if the process is.
        let _ = rustix::process::kill_process(strace, rustix::process::Signal::INT);
        self.child.wait()?;
        Ok(std::fs::read_to_string(&self.log)?)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
