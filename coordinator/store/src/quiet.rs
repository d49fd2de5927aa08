//! Runs code that may panic on damaged input, without letting the panic out or onto the terminal.
//!
//! Called around everything that reads a database nobody has verified yet: redb checks most of what it reads, and
//! panics on the rest. Never for code that writes. Relies on panics unwinding, as in every profile of the workspace.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What `work` returns, or the text of its panic.
///
/// The values `work` captures must not be used after a panic, unless a half-done change leaves them usable.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // A hook is per process and cannot be swapped without a race, so one that asks the thread stays in place.
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    result.map_err(|payload| panic_text(payload.as_ref()))
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked".to_owned())
}
