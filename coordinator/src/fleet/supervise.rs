//! A worker that this server starts, and starts again: one task for each device.
//!
//! ```text
//!  lock free ─► start ─► runs ─► ended: told to ─► done*
//!      ▲                           └─ by itself ─► back off 1, 2, 4, 8 s ───┐
//!      └──── five times in five minutes: quarantined* ◄─────────────────────┘
//! ```
//!
//! Nothing is started beside a worker that drives the device already, however it came to: a worker without the lock of a runtime
//! directory that was wiped is one. A child that does not register is killed after a while, which counts as a failure.
//!
//! What a worker says goes to a file, not to a pipe: it outlives a server that dies, and goes on saying it. Such a one still
//! has the device's lock when the next server comes; it registers by itself, and nothing is started beside it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use hoist_domain::{DeviceSpec, WORKER_RENEWS, WorkerState};
use hoist_runtime::DeviceLock;
use tokio::process::{Child, Command};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::Fleet;
use hoist_planner::devices::Whose;

use crate::control::Turn;

/// The longest wait after a failure.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// So many failures in so long a time, and it is not started again.
const MOST_FAILURES: usize = 5;
const WITHIN: Duration = Duration::from_secs(5 * 60);

/// One that has lived so long has not failed at its start: what was before it does not count any more.
const LIVED: Duration = Duration::from_secs(4);

/// How long a worker may take from its start to its registration. A card is opened within some seconds.
const REGISTERS_WITHIN: Duration = Duration::from_secs(60);

/// How long a worker gets to end once it is told to.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How often it is looked whether another process has let go of a device.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A worker's file is begun anew when it is larger.
const MOST_LOG: u64 = 1 << 20;

const LOOK_AT_LOG_EVERY: Duration = Duration::from_secs(60);

/// Of its end, shown.
const TAIL: u64 = 64 << 10;
const LAST_LINES: usize = 5;

/// Keeps a worker running until the server stops, or it fails too often.
pub(super) async fn supervise(fleet: Fleet, spec: DeviceSpec, binary: PathBuf) {
    let (control, leaving) = (&fleet.0.control, &fleet.0.leaving);
    let log = fleet.0.settings.logs.join(format!("worker-{}.log", spec.id));
    let worker_id = Uuid::new_v4();
    let mut failures: VecDeque<Duration> = VecDeque::new();
    let mut has_begun = false;
    loop {
        tokio::select! {
            () = is_free(&fleet, spec, has_begun) => {}
            () = leaving.triggered() => {
                // It is told to end by its session.
                let _ = tokio::time::timeout(LAST_WORDS, is_free(&fleet, spec, false)).await;
                return;
            }
        }
        if is_distrusted(&fleet, spec) {
            return;
        }
        if has_begun {
            control.starting(spec.id).await;
        }
        has_begun = true;
        let begun = fleet.0.clock.monotonic();
        let (process, status) = match start(&fleet, spec, &binary, &log, worker_id) {
            Err(error) => (None, Err(error)),
            Ok(mut child) => {
                let process = child.id();
                info!(device = %spec.id, process, "worker started");
                let status = tokio::select! {
                    status = child.wait() => Some(status),
                    () = leaving.triggered() => return finish(&mut child).await,
                    () = keep_short(&log) => return,
                    () = has_not_registered(&fleet, spec) => None,
                };
                match status {
                    Some(status) => (process, status),
                    None => {
                        error!(device = %spec.id, process, "a worker does not register: it is killed");
                        let _ = child.start_kill();
                        (process, child.wait().await)
                    }
                }
            }
        };
        let renews = |status: &ExitStatus| status.code() == Some(WORKER_RENEWS.into());
        let was_told = status.as_ref().is_ok_and(|status| status.success() || renews(status));
        let has_said = status.as_ref().is_ok_and(|status| status.code().is_some_and(|code| code != 0));
        let ended = match status {
            Ok(status) => format!("it has ended ({status})"),
            Err(error) => format!("{} cannot be run: {error}", binary.display()),
        };
        // One that was ended by a signal has said nothing of it.
        let error = last_error(&log).filter(|_| has_said);
        let why = error.map_or_else(|| ended.clone(), |error| format!("{ended}: {error}"));
        warn!(device = %spec.id, why, log = %log.display(), "a worker has ended");
        control.turned(spec.id, Turn::Lost(Whose::Child(process), why.clone())).await;
        if was_told {
            // By somebody else than this server, or by itself: it is no failure, and there is to be one.
            tokio::select! {
                () = tokio::time::sleep(fleet.0.settings.restart_delay) => continue,
                () = leaving.triggered() => return,
            }
        }
        let now = fleet.0.clock.monotonic();
        if now.saturating_sub(begun) >= LIVED {
            failures.clear();
        }
        failures.push_back(now);
        while failures.front().is_some_and(|at| now.saturating_sub(*at) > WITHIN) {
            failures.pop_front();
        }
        if failures.len() >= MOST_FAILURES {
            let words = last_words(&log).unwrap_or_default();
            error!(device = %spec.id, words, "a worker has failed too often, and is not started again");
            let why = format!("{ended}, {MOST_FAILURES} times in {} minutes: {words}", WITHIN.as_secs() / 60);
            return control.turned(spec.id, Turn::Quarantined(why)).await;
        }
        let delay = delay_after(fleet.0.settings.restart_delay, failures.len());
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = leaving.triggered() => return,
        }
    }
}

/// Whether the worker is not listened to any more: another process of it would say the same.
fn is_distrusted(fleet: &Fleet, spec: DeviceSpec) -> bool {
    let view = fleet.0.control.view();
    view.state.devices().get(spec.id).is_some_and(|device| device.worker.state == WorkerState::Quarantined)
}

/// Doubled with each failure that follows soon.
fn delay_after(first: Duration, failures: usize) -> Duration {
    let doubled = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    first.saturating_mul(1 << doubled).min(LONGEST_DELAY)
}

/// Returns once no process has the device's lock; where that cannot be told, the worker that is started says why. After the first try
/// it also waits for the end of a worker that drives the device without that lock. A lock that nobody lets go of is told of.
async fn is_free(fleet: &Fleet, spec: DeviceSpec, is_again: bool) {
    let control = &fleet.0.control;
    let began = fleet.0.clock.monotonic();
    let mut is_told = false;
    loop {
        let worker = control.view().state.devices().get(spec.id).map(|device| device.worker.state);
        let is_driven =
            matches!(worker, Some(WorkerState::Registered | WorkerState::Active | WorkerState::Suspect));
        let is_locked = matches!(DeviceLock::take(&fleet.0.settings.socket, spec.id), Ok(None));
        let is_taken = is_locked || (is_again && is_driven);
        if !is_taken {
            return;
        }
        let waited = fleet.0.clock.monotonic().saturating_sub(began);
        if is_locked && !is_driven && !is_told && waited >= REGISTERS_WITHIN {
            is_told = true;
            let why = "a process has the device's lock and does not register: see which hoist-worker runs, and end it";
            warn!(device = %spec.id, why, "no worker is started");
            control.turned(spec.id, Turn::Lost(Whose::Child(None), why.to_owned())).await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Returns if its worker has not registered within the time that any device needs to be opened; otherwise never.
async fn has_not_registered(fleet: &Fleet, spec: DeviceSpec) {
    tokio::time::sleep(REGISTERS_WITHIN).await;
    let view = fleet.0.control.view();
    let is_waiting =
        |device: &std::sync::Arc<hoist_domain::Device>| device.worker.state == WorkerState::Connecting;
    if !view.state.devices().get(spec.id).is_some_and(is_waiting) {
        std::future::pending::<()>().await;
    }
}

fn start(fleet: &Fleet, spec: DeviceSpec, binary: &Path, log: &Path, id: Uuid) -> std::io::Result<Child> {
    let device = spec.capacity.map_or_else(|| spec.id.to_string(), |size| format!("{}={}", spec.id, size.0));
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(log)?;
    shorten(&file)?;
    Command::new(binary)
        .args(["--device", &device])
        .args(["--coordinator", &format!("unix://{}", fleet.0.settings.socket.display())])
        .args(["--worker-id", &id.to_string()])
        .args(["--alone-limit", &fleet.0.settings.alone_limit.as_secs().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        // A terminal's Ctrl-C is for the server, which tells its workers.
        .process_group(0)
        .spawn()
}

/// What a worker says is appended, wherever the end is: it may be cut while it is written.
fn shorten(file: &File) -> std::io::Result<()> {
    if file.metadata()?.len() > MOST_LOG { file.set_len(0) } else { Ok(()) }
}

/// Looks after a running worker's file, for ever: it lies beside the store, whose disk it must not fill.
async fn keep_short(log: &Path) {
    loop {
        tokio::time::sleep(LOOK_AT_LOG_EVERY).await;
        if let Err(error) = OpenOptions::new().append(true).open(log).and_then(|file| shorten(&file)) {
            warn!(%error, log = %log.display(), "a worker's log cannot be looked after");
        }
    }
}

/// The server stops: its worker has been told by its session, if it has one.
async fn finish(child: &mut Child) {
    if tokio::time::timeout(LAST_WORDS, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// What a worker that has failed said last.
fn last_error(log: &Path) -> Option<String> {
    let words = last_words(log).ok()?;
    words.rsplit(" | ").next()?.strip_prefix("error: ").map(str::to_owned)
}

/// The end of what a worker said, without control characters.
fn last_words(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
    let clean = |line: &&str| -> String {
        line.chars().take(400).map(|c| if c.is_control() { ' ' } else { c }).collect()
    };
    let mut words: Vec<String> = last.iter().map(clean).collect();
    // One that fails again and again says the same again and again.
    words.dedup();
    Ok(words.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_longer_after_each_failure_and_a_minute_at_most() {
        let delays: Vec<u64> =
            (1..=9).map(|failures| delay_after(Duration::from_secs(1), failures).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn last_words_are_the_last_lines_and_fit_to_be_shown() {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("worker.log");
        let many: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
        std::fs::write(&log, format!("{many}\nerror: \u{1b}[31mno card\u{7}\n")).unwrap();
        let words = last_words(&log).unwrap();
        assert!(words.starts_with("line 19996 | ") && words.ends_with("error:  [31mno card "), "{words}");
        std::fs::write(&log, "").unwrap();
        assert_eq!(last_words(&log).unwrap(), "");
    }
}
