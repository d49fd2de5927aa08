//! The log as another process sees it. The parent test runs this very program again with a mode in the environment;
//! only there is the log started, because a process has one log and one panic hook.

#![expect(clippy::unwrap_used, clippy::panic, reason = "all of this file is tests")]

use std::io::Read;
use std::process::{Command, Output, Stdio};

use hoist_runtime::telemetry::dropped_log_lines;
use hoist_runtime::{LogFormat, OnError, Shutdown, Tasks, TelemetryError, telemetry};

const MODE: &str = "TEST_TELEMETRY_MODE";

/// Does nothing unless a test below runs it.
#[test]
fn child() {
    let mode = std::env::vars_os().find(|(name, _)| name == MODE).map(|(_, value)| value);
    match mode.as_ref().and_then(|mode| mode.to_str()) {
        Some("json") => speak(LogFormat::Json),
        Some("human") => speak(LogFormat::Human),
        Some("flood") => flood(),
        _ => {}
    }
}

fn speak(format: LogFormat) {
    assert!(matches!(telemetry::init(format, "x=nonsense"), Err(TelemetryError::Filter { .. })));
    let log = telemetry::init(format, "info").unwrap();
    assert!(matches!(telemetry::init(format, "info"), Err(TelemetryError::AlreadyStarted)));
    tracing::info!(bytes = 7, "speaking");
    tracing::debug!("filtered out");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn("scan", OnError::Log, async { broken() }).join().await;
    });
    let alone = std::thread::Builder::new().name("alone".to_owned()).spawn(|| panic!("on its own")).unwrap();
    assert!(alone.join().is_err());
    drop(log);
}

fn broken() -> Result<(), String> {
    panic!("in a task")
}

/// Says more than any pipe holds; its parent does not read, or has closed the pipe.
fn flood() {
    let log = telemetry::init(LogFormat::Human, "info").unwrap();
    let line = "x".repeat(1000);
    for _ in 0..10_000 {
        tracing::info!(line);
    }
    drop(log);
    assert!(dropped_log_lines() > 0);
    println!("flooded");
}

fn command(mode: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(MODE, mode)
        .env("RUST_BACKTRACE", "0");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn stderr_of(mode: &str) -> String {
    let Output { status, stdout, stderr } = command(mode).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{}{stderr}", String::from_utf8_lossy(&stdout));
    stderr
}

#[test]
fn json_lines_hold_events_and_each_panic_message_once() {
    let stderr = stderr_of("json");
    let lines: Vec<serde_json::Value> =
        stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [speaking, place, task, alone] = &lines[..] else { panic!("four lines, not\n{stderr}") };

    assert_eq!(
        (&speaking["message"], &speaking["bytes"], &speaking["level"]),
        (&"speaking".into(), &7.into(), &"INFO".into())
    );

    assert_eq!((&place["message"], &place["level"]), (&"panic".into(), &"ERROR".into()));
    assert!(place["location"].as_str().unwrap().contains("telemetry.rs:"), "{place}");
    assert_eq!(place["spans"][0]["task"], "scan");
    assert_eq!(
        (&task["message"], &task["task"], &task["panic"]),
        (&"task panicked".into(), &"scan".into(), &"in a task".into())
    );

    assert_eq!(
        (&alone["panic"], &alone["thread"], &alone["level"]),
        (&"on its own".into(), &"alone".into(), &"ERROR".into())
    );
    for message in ["in a task", "on its own"] {
        assert_eq!(stderr.matches(message).count(), 1, "{stderr}");
    }
}

#[test]
fn human_lines_have_no_colour_off_a_terminal() {
    let stderr = stderr_of("human");
    assert!(stderr.contains("INFO telemetry: speaking bytes=7"), "{stderr}");
    assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
}

#[test]
fn a_stderr_that_nobody_reads_delays_nothing() {
    let mut child = command("flood").spawn().unwrap();
    // Held open and never read: the pipe is full after 64 KiB, and the child ends all the same.
    let unread = child.stderr.take();
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert!(child.wait().unwrap().success(), "{stdout}");
    assert!(stdout.contains("flooded"));
    drop(unread);
}

#[test]
fn a_stderr_that_is_gone_kills_nothing() {
    let mut child = command("flood").spawn().unwrap();
    drop(child.stderr.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("flooded"));
}
