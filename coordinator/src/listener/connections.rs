//! Who is connected, so that a connection on which nothing goes on can make room for one that wants something.
//!
//! The accept loops put connections in and ask for room; a tick ends those that are idle or do not take their
//! answers. Nobody is ended here: each connection is told, and ends itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoist_runtime::Shutdown;
use tracing::debug;

use crate::api::Calls;

/// How a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    Unix,
    Tcp,
}

/// A connection, as the others see it.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) via: Via,
    pub(super) calls: Arc<Calls>,
    /// End when no call is open, and tell the peer first: it makes its next call on another connection.
    pub(super) retire: Shutdown,
    /// End now.
    pub(super) close: Shutdown,
}

impl Peer {
    pub(super) fn new(via: Via, calls: Arc<Calls>) -> Self {
        Self { via, calls, retire: Shutdown::new(), close: Shutdown::new() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    next_id: u64,
    peers: BTreeMap<u64, Peer>,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(self: &Arc<Self>, peer: Peer) -> Entry {
        let mut entries = self.lock();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.peers.insert(id, peer);
        Entry { connections: Arc::clone(self), id }
    }

    /// Ends the connection that has been idle for the longest. `false`: there is none. TCP makes room for TCP only,
    /// or a flood there would end the owner's connections.
    pub(super) fn make_room(&self, wanted_by: Via) -> bool {
        let entries = self.lock();
        let longest_idle = entries
            .peers
            .values()
            .filter(|peer| wanted_by == Via::Unix || peer.via == Via::Tcp)
            .filter(|peer| !peer.close.is_triggered())
            .filter_map(|peer| Some((peer.calls.idle_since()?, peer)))
            .min_by_key(|(since, _)| *since);
        let Some((_, peer)) = longest_idle else { return false };
        peer.close.trigger("room is needed");
        true
    }

    /// Time has passed.
    pub(super) fn tick(&self, now: Duration, idle: Duration, patience: Duration) {
        let over =
            |since: Option<Duration>, limit| since.is_some_and(|since| now.saturating_sub(since) >= limit);
        for peer in self.lock().peers.values() {
            if over(peer.calls.unsent_since(), patience) && !peer.close.is_triggered() {
                debug!("connection closed: an answer was not taken within {patience:?}");
                peer.close.trigger("an answer was not taken");
            } else if peer.via == Via::Tcp && over(peer.calls.idle_since(), idle) {
                peer.retire.trigger("idle");
            }
        }
    }
}

/// A place in the list, as long as the connection lives.
#[derive(Debug)]
pub(super) struct Entry {
    connections: Arc<Connections>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.lock().peers.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_runtime::Clock;

    #[test]
    fn the_longest_idle_makes_room_and_tcp_only_for_tcp() {
        let (clock, hands) = Clock::manual();
        let connections = Arc::new(Connections::default());
        let peers: Vec<(Peer, Entry)> = [Via::Unix, Via::Tcp, Via::Unix, Via::Tcp]
            .into_iter()
            .map(|via| {
                hands.advance(Duration::from_secs(1));
                let peer = Peer::new(via, Calls::new(clock.clone(), None));
                (peer.clone(), connections.enter(peer))
            })
            .collect();
        let closed = || peers.iter().map(|(peer, _)| peer.close.is_triggered()).collect::<Vec<_>>();
        assert!(connections.make_room(Via::Tcp));
        assert_eq!(closed(), [false, true, false, false]);
        assert!(connections.make_room(Via::Unix));
        assert_eq!(closed(), [true, true, false, false]);
        assert!(connections.make_room(Via::Tcp) && !connections.make_room(Via::Tcp));
        assert_eq!(closed(), [true, true, false, true]);
        drop(peers);
        assert!(!connections.make_room(Via::Unix));
    }

    #[test]
    fn an_idle_connection_is_retired_on_tcp_alone() {
        let (clock, hands) = Clock::manual();
        let connections = Arc::new(Connections::default());
        let unix = Peer::new(Via::Unix, Calls::new(clock.clone(), None));
        let tcp = Peer::new(Via::Tcp, Calls::new(clock.clone(), None));
        let _entries = [connections.enter(unix.clone()), connections.enter(tcp.clone())];
        let tick = || connections.tick(clock.monotonic(), Duration::from_secs(9), Duration::from_secs(1));
        hands.advance(Duration::from_secs(8));
        tick();
        assert!(!tcp.retire.is_triggered());
        hands.advance(Duration::from_secs(1));
        tick();
        assert!(tcp.retire.is_triggered() && !tcp.close.is_triggered() && !unix.retire.is_triggered());
    }
}
