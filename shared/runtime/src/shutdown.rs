//! How a process stops: one request to stop, with its reason, and gates that say who is still busy.
//!
//! `main` owns the order of the stop: it waits for [`stop_signal`] or for [`Shutdown::triggered`], gives
//! [`Gate::wait_open`] a bounded time, and if that runs out it reports [`Gate::holders`] by name and goes on.
//! Nothing here exits, aborts, or waits for a time of its own.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The one request of this process to stop. Every clone is the same request; it cannot be taken back.
#[derive(Clone, Debug)]
pub struct Shutdown {
    // The reason and the fact are one value, so nobody can see the stop without its reason.
    reason: Arc<watch::Sender<Option<String>>>,
}

impl Shutdown {
    #[must_use]
    pub fn new() -> Self {
        Self { reason: Arc::new(watch::Sender::new(None)) }
    }

    /// Asks the process to stop. The first reason wins, because later ones are mostly consequences of it.
    pub fn trigger(&self, reason: impl Into<String>) {
        self.reason.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason.into());
            }
            first
        });
    }

    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.reason.borrow().is_some()
    }

    /// Returns once a stop was asked for; at once if it was before.
    pub async fn triggered(&self) {
        // An error would mean that the sender is gone, and `self` holds it.
        let _ = self.reason.subscribe().wait_for(Option::is_some).await;
    }

    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts, by name, those who are not done yet. Open while nobody holds it.
#[derive(Clone, Debug)]
pub struct Gate {
    held: Arc<watch::Sender<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    /// Ordered by when each was taken.
    names: BTreeMap<u64, String>,
}

impl Gate {
    #[must_use]
    pub fn new() -> Self {
        Self { held: Arc::new(watch::Sender::new(Held::default())) }
    }

    /// Keeps the gate shut until the returned hold is dropped. Two holders may have one name.
    #[must_use = "the gate is held only as long as the hold lives"]
    pub fn hold(&self, name: impl Into<String>) -> Hold {
        let name = name.into();
        let mut id = 0;
        self.held.send_modify(|held| {
            id = held.next;
            held.next = held.next.wrapping_add(1);
            held.names.insert(id, name);
        });
        Hold { gate: self.clone(), id }
    }

    /// Who holds the gate now, the oldest first.
    #[must_use]
    pub fn holders(&self) -> Vec<String> {
        self.held.borrow().names.values().cloned().collect()
    }

    /// Returns when nobody holds the gate. It may be held again before the caller looks.
    pub async fn wait_open(&self) {
        // An error would mean that the sender is gone, and `self` holds it.
        let _ = self.held.subscribe().wait_for(|held| held.names.is_empty()).await;
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps a [`Gate`] shut while it lives.
#[derive(Debug)]
pub struct Hold {
    gate: Gate,
    id: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.gate.held.send_modify(|held| {
            held.names.remove(&self.id);
        });
    }
}

/// Returns the name of the next SIGTERM or SIGINT. Call it again for the second one; a signal that comes between
/// two calls is not lost, but several of one kind in that time count as one.
///
/// Until the first call, and if listening is impossible, the signals end the process as the kernel does by default.
pub async fn stop_signal() -> &'static str {
    let mut listening = match Listening::start() {
        Ok(listening) => listening,
        Err(error) => {
            tracing::error!(%error, "cannot listen for stop signals, so they end the process at once");
            return pending().await;
        }
    };
    listening.next().await
}

/// The listeners between two calls of [`stop_signal`]. A listener made anew would miss what came before it.
static IDLE: Mutex<Option<Listeners>> = Mutex::new(None);

struct Listeners {
    terminate: Signal,
    interrupt: Signal,
}

/// The listeners during one call; `None` only while it is dropped, which puts them back.
struct Listening(Option<Listeners>);

impl Listening {
    fn start() -> std::io::Result<Self> {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).take();
        let listeners = match idle {
            Some(listeners) => listeners,
            None => Listeners {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
        };
        Ok(Self(Some(listeners)))
    }

    async fn next(&mut self) -> &'static str {
        let Some(listeners) = &mut self.0 else { return pending().await };
        tokio::select! {
            _ = listeners.terminate.recv() => "SIGTERM",
            _ = listeners.interrupt.recv() => "SIGINT",
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        *IDLE.lock().unwrap_or_else(PoisonError::into_inner) = self.0.take();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use rustix::process::{Signal as Number, getpid, kill_process};

    use super::*;

    /// Compiles only if every wait can be part of a task.
    #[test]
    fn waits_can_be_spawned() {
        fn spawnable(_: impl Future<Output: Send> + Send) {}
        spawnable(Shutdown::new().triggered());
        spawnable(Gate::new().wait_open());
        spawnable(stop_signal());
    }

    #[tokio::test]
    async fn the_first_reason_wins() {
        let shutdown = Shutdown::new();
        let waiter = shutdown.clone();
        let mut waiting = Box::pin(waiter.triggered());
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(!shutdown.is_triggered());

        shutdown.trigger("disk full");
        shutdown.trigger("a consequence");
        waiting.await;
        shutdown.triggered().await;
        assert!(shutdown.is_triggered());
        assert_eq!(shutdown.reason().as_deref(), Some("disk full"));
    }

    #[tokio::test]
    async fn a_gate_names_its_holders_and_opens_after_the_last() {
        let gate = Gate::new();
        gate.wait_open().await;
        let store = gate.hold("store");
        let watch = gate.hold("watch stream");
        let again = gate.hold("store");
        assert_eq!(gate.holders(), ["store", "watch stream", "store"]);

        let mut open = Box::pin(gate.wait_open());
        drop(store);
        assert_eq!(gate.holders(), ["watch stream", "store"]);
        drop(watch);
        assert!(open.as_mut().now_or_never().is_none());
        drop(again);
        open.await;
        assert!(gate.holders().is_empty());
    }

    #[tokio::test]
    async fn a_second_signal_between_two_calls_is_not_lost() {
        let mut first = Box::pin(stop_signal());
        assert!(first.as_mut().now_or_never().is_none(), "no signal was sent yet");
        kill_process(getpid(), Number::TERM).unwrap();
        assert_eq!(first.await, "SIGTERM");

        kill_process(getpid(), Number::INT).unwrap();
        assert_eq!(stop_signal().await, "SIGINT");

        // A wait that was given up keeps listening for the next one.
        assert!(stop_signal().now_or_never().is_none());
        kill_process(getpid(), Number::TERM).unwrap();
        assert_eq!(stop_signal().await, "SIGTERM");
    }
}
