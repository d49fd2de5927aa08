//! The real binary, stopped by strace after every call of some kinds, and killed after a chosen one: the calls are counted
//! over all threads, which strace's own `when` cannot do, and only those that touch the segments, the leases or a client.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::process;

/// By these, files and folders come, change, and go; by `writev`, a client hears of it. Not `fcntl`: who asks the kernel
/// whether a segment is open leaves nothing behind by that.
const STEPS: &str =
    "openat,ftruncate,pwrite64,write,fchmod,fchmodat,renameat2,rename,unlinkat,unlink,mkdirat,rmdir,writev";

/// strace says so of each thread.
const STOPPED: &str = "stopped by SIGSTOP";

/// Nothing was heard for so long: a thread that is new, or has ended, may say nothing of its own.
const GLANCE: Duration = Duration::from_millis(100);

/// A process that goes from step to step.
#[derive(Debug)]
pub struct Stepper {
    driver: JoinHandle<Result<Vec<String>>>,
}

impl Stepper {
    /// Lets a server go on by steps; after the nth that touches its runtime directory or a client, it is killed.
    ///
    /// # Errors
    /// When strace is not installed, or may not look at the process.
    pub fn attach(process: u32, runtime_dir: &Path, kill_after: Option<usize>) -> Result<Self> {
        let mut strace = Command::new("strace")
            .args(["-f", "-y", "-s", "0", "-e", "signal=SIGSTOP", "-e"])
            .arg(format!("trace={STEPS}"))
            .args(["-e", &format!("inject={STEPS}:signal=SIGSTOP"), "-p", &process.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run strace: apt-get install strace")?;
        let said = BufReader::new(strace.stderr.take().context("no stderr")?);
        let lines = lines_of(said)?;
        // Said once every thread is held, and before any is let go.
        loop {
            match lines.recv() {
                Ok(line) if line.contains(" attached") => break,
                Ok(line) if line.contains("not permitted") => {
                    bail!("{line}: run as root, or set kernel.yama.ptrace_scope to 0")
                }
                Ok(_) => {}
                Err(_) => bail!("strace cannot attach: run as root, or set kernel.yama.ptrace_scope to 0"),
            }
        }
        let places = ["segments", "leases"].map(|name| runtime_dir.join(name).display().to_string());
        let driver = std::thread::Builder::new().name("stepper".to_owned()).spawn(move || {
            let driven = drive(process, &lines, &places, kill_after);
            // The process may have been left as it stopped.
            let _ = signal(process, Signal::CONT);
            let _ = strace.kill();
            strace.wait()?;
            driven
        })?;
        Ok(Self { driver })
    }

    /// Every step that it took, once the process has ended.
    ///
    /// # Errors
    /// When it could not be followed.
    pub fn steps(self) -> Result<Vec<String>> {
        self.driver.join().ok().context("the stepper panicked")?
    }
}

fn lines_of(said: BufReader<ChildStderr>) -> Result<Receiver<String>> {
    let (tell, told) = channel();
    std::thread::Builder::new().name("strace".to_owned()).spawn(move || {
        for line in said.lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(told)
}

fn drive(
    process: u32,
    lines: &Receiver<String>,
    places: &[String],
    kill_after: Option<usize>,
) -> Result<Vec<String>> {
    let mut steps = Vec::new();
    // Threads within a step that strace has begun to tell of, and those that have stopped.
    let (mut within, mut stopped) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let is_late = match lines.recv_timeout(GLANCE) {
            Ok(line) => {
                let is_step = takes_a_step(&line, places);
                let thread = line.split(']').next().unwrap_or_default().to_owned();
                if line.contains(STOPPED) {
                    stopped.insert(thread);
                } else if line.ends_with("= ?") {
                    // The kill was faster.
                } else if is_step && line.contains("<unfinished") {
                    within.insert(thread);
                } else if is_step || line.contains(" resumed>") && within.remove(&thread) {
                    steps.push(line);
                    if kill_after == Some(steps.len()) {
                        signal(process, Signal::KILL)?;
                    }
                }
                false
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => return Ok(steps),
        };
        let is_killed = kill_after.is_some_and(|nth| steps.len() >= nth);
        let is_stopped =
            stopped.len() >= process::threads(process) || is_late && process::is_stopped(process);
        // Not before every thread has said so: a signal to go on takes back each one to stop that was not obeyed yet, and a
        // thread that was to stop after its step takes the next.
        if !stopped.is_empty() && is_stopped && !is_killed {
            stopped.clear();
            signal(process, Signal::CONT)?;
        }
    }
}

/// Whether a line tells of a call on one of these places, or to a socket.
fn takes_a_step(line: &str, places: &[String]) -> bool {
    // A folder of files is removed by a path through its directory's descriptor.
    let is_below = line.contains("/proc/self/fd/") && line.contains("/.");
    let is_answer = line.contains("writev(") && line.contains("<socket:");
    is_answer || is_below || places.iter().any(|place| line.contains(place))
}

fn signal(process: u32, signal: Signal) -> Result<()> {
    let id = Pid::from_raw(i32::try_from(process)?).context("no process id")?;
    // It may have ended, and then nobody needs it.
    let _ = kill_process(id, signal);
    Ok(())
}
