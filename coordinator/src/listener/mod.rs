//! Listeners: the Unix socket, and loopback TCP when asked for.
//!
//! ```text
//! bind ─► accept loop ─► connection (first request within 10 s, else closed) ─► guard ─► handlers
//!             │ no room: the longest idle connection is closed, or this one where none is idle
//!             └ out of descriptors: back off, never spin
//! ```
//!
//! Everything that a stranger can make the server hold has a bound here: connections, streams, header bytes, time
//! without a request. The Unix socket keeps a share of the connections for itself, so that its owner gets in when
//! TCP is flooded.

mod accept;
mod authority;
mod bind;
mod connection;
mod connections;

use std::sync::Arc;

use hoist_runtime::{Clock, Gate, Shutdown, Tasks};
use tokio::sync::Semaphore;

use crate::api::Guard;
use crate::settings::ListenerLimits;
use connections::Connections;

pub use bind::{BindError, Bound, SocketFile, bind, prepare_directory};

/// What every connection shares.
#[derive(Clone, Debug)]
pub struct Listener {
    guard: Guard,
    limits: ListenerLimits,
    tasks: Tasks,
    clock: Clock,
    /// Nothing is accepted any more, and connections end with their calls.
    closing: Shutdown,
    connections: Arc<Connections>,
    /// Held by each connection: the end of a shutdown waits for it, for a while.
    open: Gate,
    /// Places for connections of any kind, and of those the ones that TCP may take.
    places: Arc<Semaphore>,
    tcp_places: Arc<Semaphore>,
}

/// Descriptors that the process needs for itself: store, logs, timers, probes, shared libraries, a few to spare.
const OWN_DESCRIPTORS: u64 = 64;

impl Listener {
    /// `nofile` is how many descriptors the process may open: more connections than fit are not promised.
    #[must_use]
    pub fn new(
        guard: Guard,
        asked: ListenerLimits,
        nofile: u64,
        tasks: Tasks,
        clock: Clock,
        closing: Shutdown,
        open: Gate,
    ) -> Self {
        let fit =
            usize::try_from(nofile.saturating_sub(OWN_DESCRIPTORS).max(nofile / 2)).unwrap_or(usize::MAX);
        let connections = asked.connections.min(fit).max(1);
        let reserved_connections = asked.reserved_connections.min(connections / 2);
        let limits = ListenerLimits { connections, reserved_connections, ..asked };
        if connections < asked.connections {
            tracing::warn!(
                connections,
                asked = asked.connections,
                nofile,
                "fewer connections than configured: raise the limit of open files"
            );
        }
        Self {
            guard,
            limits,
            tasks,
            clock,
            closing,
            connections: Arc::default(),
            open,
            places: Arc::new(Semaphore::new(connections)),
            tcp_places: Arc::new(Semaphore::new(connections - reserved_connections)),
        }
    }

    /// Time has passed: who has been idle for too long on TCP, or does not take an answer, has to go.
    pub fn tick(&self) {
        self.connections.tick(self.clock.monotonic(), self.limits.idle, self.limits.first_request);
    }
}
