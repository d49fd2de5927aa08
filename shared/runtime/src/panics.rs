//! What a panic says, and who says it: each panic's message is logged once.
//!
//! The panic hook, installed by `telemetry::init`, sees the place but not whose work it was; whoever catches the
//! panic knows the work but not the place. So inside [`catch`] the hook logs the place alone and the catcher logs
//! name and message; everywhere else the hook logs all of it. Work that runs inside and catches a panic of its own must therefore hand the
//! message to `Tasks::record_panic`. Nothing here ends the process.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};

thread_local! {
    /// True while this thread is inside [`catch`], that is, while someone is sure to log the message.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// The text of a panic's payload. Payloads that are not text come only from `resume_unwind` and `panic_any`.
#[must_use]
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "a panic whose payload is not text"
    }
}

/// Runs `work` and returns the message of its panic, which the caller must log.
///
/// The work is asserted to be unwind safe: after a panic it is dropped, and what it shared is behind locks whose
/// users decide what poison means.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = CAUGHT.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(outer);
    outcome.map_err(|payload| panic_message(payload.as_ref()).to_owned())
}

/// Replaces the hook that prints to stderr, so that a panic is a log line like any other.
pub(crate) fn install_hook() {
    set_hook(Box::new(log_panic));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    // Captured only where RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    if CAUGHT.get() {
        tracing::error!(location, thread, backtrace, "panic");
    } else {
        let payload = panic.payload_as_str().unwrap_or("a panic whose payload is not text");
        tracing::error!(location, thread, backtrace, panic = payload, "panic");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_every_kind_of_payload_is_text() {
        assert_eq!(catch(|| panic!("plain")), Err::<(), _>("plain".to_owned()));
        assert_eq!(catch(|| panic!("made {}", 1)), Err::<(), _>("made 1".to_owned()));
        let odd = catch(|| std::panic::panic_any(7_u8));
        assert_eq!(odd, Err::<(), _>("a panic whose payload is not text".to_owned()));
        assert_eq!(catch(|| 5), Ok(5));
    }

    #[test]
    fn the_mark_of_a_catcher_ends_with_the_catch() {
        catch(|| {
            assert!(catch(|| panic!("within")).is_err());
            assert!(CAUGHT.get(), "the outer catch still holds");
        })
        .unwrap();
        assert!(!CAUGHT.get());
    }
}
