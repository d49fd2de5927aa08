//! What goes on on one connection: how many calls are open, since when there is none, and whether answers pile up.
//!
//! The guard notes it, the listener looks at it: a connection on which nothing goes on can be closed to make room,
//! and one whose peer does not take its answers has to be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoist_runtime::Clock;

/// The calls of one connection. Times are those of the monotonic clock.
#[derive(Debug)]
pub struct Calls {
    clock: Clock,
    /// The peer's, where the kernel says.
    process: Option<u32>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How many there have been.
    begun: u64,
    open: usize,
    /// When the last of them ended, or the connection began.
    idle_since: Duration,
    /// Answers that have been given and not been sent whole, by call.
    unsent: BTreeMap<u64, Duration>,
}

impl Calls {
    #[must_use]
    pub fn new(clock: Clock, process: Option<u32>) -> Arc<Self> {
        let idle_since = clock.monotonic();
        let state = State { begun: 0, open: 0, idle_since, unsent: BTreeMap::new() };
        Arc::new(Self { clock, process, state: Mutex::new(state) })
    }

    pub(super) const fn process(&self) -> Option<u32> {
        self.process
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(self: &Arc<Self>) -> OpenCall {
        let mut state = self.lock();
        state.begun += 1;
        state.open += 1;
        OpenCall { id: state.begun, calls: Arc::clone(self) }
    }

    /// Whether there has been any.
    #[must_use]
    pub fn have_begun(&self) -> bool {
        self.lock().begun > 0
    }

    /// Since when none is open.
    #[must_use]
    pub fn idle_since(&self) -> Option<Duration> {
        let state = self.lock();
        (state.open == 0).then_some(state.idle_since)
    }

    /// Since when the oldest unsent answer waits for the peer to take it.
    #[must_use]
    pub fn unsent_since(&self) -> Option<Duration> {
        // In the order of the calls, which is not that of the answers; there are no more than streams.
        self.lock().unsent.values().min().copied()
    }
}

/// A call from its headers to the last byte of its answer.
#[derive(Debug)]
pub(super) struct OpenCall {
    id: u64,
    calls: Arc<Calls>,
}

impl OpenCall {
    /// The one message that answers it is on its way.
    pub(super) fn answered(&self) {
        let now = self.calls.clock.monotonic();
        self.calls.lock().unsent.insert(self.id, now);
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let now = self.calls.clock.monotonic();
        let mut state = self.calls.lock();
        state.open -= 1;
        state.unsent.remove(&self.id);
        state.idle_since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_since_its_last_call_ended() {
        let (clock, hands) = Clock::manual();
        let calls = Calls::new(clock, None);
        let begun = calls.idle_since();
        assert!(begun.is_some() && !calls.have_begun());
        let (first, second) = (calls.open(), calls.open());
        hands.advance(Duration::from_secs(1));
        first.answered();
        hands.advance(Duration::from_secs(1));
        second.answered();
        let since = |seconds| begun.map(|begun| begun + Duration::from_secs(seconds));
        assert_eq!((calls.idle_since(), calls.unsent_since()), (None, since(1)));
        drop(first);
        assert_eq!((calls.idle_since(), calls.unsent_since()), (None, since(2)));
        drop(second);
        assert_eq!((calls.idle_since(), calls.unsent_since()), (since(2), None));
    }
}
