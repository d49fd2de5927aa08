//! The log of the process: lines on stderr, for people or as JSON, and panics among them.
//!
//! `main` calls [`init`] once, before anything else speaks, and keeps the guard to its end. Logging never delays or
//! ends the process: a line goes into a bounded queue, and when that is full, or stderr is gone, the line is dropped
//! and counted. No secrets pass through here on purpose; see `redact`.

mod queue;

use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use self::queue::LineQueue;

/// Bytes of lines that wait for stderr: some ten thousand lines, a burst of a few seconds. As much again may be in
/// the hands of the writer. Smaller drops lines in a burst, larger only costs memory.
const QUEUE_BYTES: usize = 2 << 20;

/// How long the end of the process waits for a slow stderr. Longer would let a stuck terminal hold up a restart.
const FLUSH: Duration = Duration::from_secs(1);

/// Lines dropped by this process. A static, because the log is one for the process and so is its count.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For a terminal, in colour if stderr is one.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A wrong setting: the filter's text is not one.
    #[error(
        "`{filter}` is not a log filter; accepted: a level such as info, or target=level pairs joined by commas"
    )]
    Filter {
        filter: String,
        #[source]
        source: ParseError,
    },
    /// The machine has no room for a thread.
    #[error("the log writer's thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// A defect of the caller: the process has a log already.
    #[error("the log was started twice")]
    AlreadyStarted,
}

/// Starts the log and sends panics to it. `filter` is in the syntax of `EnvFilter`, such as `info,hyper=warn`.
///
/// # Errors
/// See [`TelemetryError`].
pub fn init(format: LogFormat, filter: &str) -> Result<LogGuard, TelemetryError> {
    let parsed = EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let queue = LineQueue::new(QUEUE_BYTES, &DROPPED);

    // Not one of `Tasks`: it must outlive them to write their last lines, and it cannot log its own failure.
    let writer = queue.clone();
    std::thread::Builder::new()
        .name("log-writer".to_owned())
        .spawn(move || writer.write_to(&mut std::io::stderr()))
        .map_err(TelemetryError::Thread)?;
    let guard = LogGuard { queue: queue.clone() };

    // A failed write would otherwise be reported on stderr itself, which may block.
    let lines =
        tracing_subscriber::fmt().with_env_filter(parsed).log_internal_errors(false).with_writer(queue);
    let started = match format {
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
    started.map_err(|_| TelemetryError::AlreadyStarted)?;
    crate::panics::install_hook();
    Ok(guard)
}

/// Log lines that were dropped since the start, because stderr was too slow or gone.
#[must_use]
pub fn dropped_log_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Writes out what is queued when it is dropped, for at most a second. Lines logged after that are dropped.
#[must_use = "the last lines are lost unless the guard lives to the end of main"]
#[derive(Debug)]
pub struct LogGuard {
    queue: LineQueue,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.queue.close();
        // What is still queued after that is lost; there is nobody left to tell.
        let _ = self.queue.wait_drained(FLUSH);
    }
}
