//! How a server ends.
//!
//! DRAINING: health says NOT_SERVING and no new work is admitted; watches end; running operations get the grace period, then are
//! told to stop. Until they have ended whoever comes is served: they can be looked at, and cancelled. Then workers that the server
//! has started are told to end: loads need them until there. Then the sockets go, connections end, and what is done is committed and
//! exported. Each wait has an end.

use std::time::Duration;

use hoist_runtime::{Clock, Gate, Shutdown, ThreadHandle};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::warn;

use crate::api::StopRequest;
use crate::cache::Cache;
use crate::control::Control;
use crate::fleet::Fleet;
use crate::operations::Runner;

/// How long executors and workers get to stop once told, and connections to take their last answers.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long the store gets for its last export. Without it nothing is lost, but a start after damage has less to go by, and
/// tells again what was told.
const LAST_EXPORT: Duration = Duration::from_secs(8);

/// A server that is SERVING: everything that has to be told of its end, or waited for.
pub(super) struct Serving {
    pub(super) health: HealthReporter,
    pub(super) control: Control,
    pub(super) owner: ThreadHandle,
    pub(super) runner: Runner,
    pub(super) cache: Cache,
    pub(super) fleet: Fleet,
    /// Held by running operations.
    pub(super) operations: Gate,
    /// Held by open connections.
    pub(super) connections: Gate,
    /// Ends watches, and what the server does unasked.
    pub(super) draining: Shutdown,
    /// Ends workers.
    pub(super) leaving: Shutdown,
    /// Ends the sockets and the connections.
    pub(super) closing: Shutdown,
    pub(super) stop: StopRequest,
    pub(super) grace: Duration,
    pub(super) clock: Clock,
}

impl Serving {
    pub(super) async fn drain(mut self) {
        self.health.set_service_status("", ServingStatus::NotServing).await;
        self.control.drain().await;
        self.draining.trigger("the server is stopping");
        self.runner.stop_own();
        if !self.operations_end_in_time().await {
            let holders = self.operations.holders().join(",");
            warn!(operations = %holders, "grace period is over: telling operations to stop");
            self.runner.stop_all();
            wait("operations", &self.operations).await;
        }
        self.leaving.trigger("the server is stopping");
        // They get as long as executors, and are killed then: a moment more, so that it is seen.
        wait_for("workers", self.fleet.children(), LAST_WORDS + Duration::from_secs(1)).await;
        // Ends the watches of it, which have said NOT_SERVING and have no other end.
        self.health.clear_service_status("").await;
        self.closing.trigger("the server has stopped");
        self.cache.close();
        // Their ends are committed, and their waiters answered, before connections are given up.
        wait("connections", &self.connections).await;
        self.control.stop().await;
        if tokio::time::timeout(LAST_EXPORT, self.owner.join()).await.is_err() {
            warn!("the store is still busy: leaving without its export");
        }
    }

    /// Whether operations end within the grace period, which somebody may shorten meanwhile.
    async fn operations_end_in_time(&self) -> bool {
        let begun = self.clock.monotonic();
        let mut asked = self.stop.grace.subscribe();
        loop {
            let grace = asked.borrow_and_update().unwrap_or(self.grace);
            let left = grace.saturating_sub(self.clock.monotonic().saturating_sub(begun));
            tokio::select! {
                biased;
                () = self.operations.wait_open() => return true,
                Ok(()) = asked.changed() => {}
                () = tokio::time::sleep(left) => return false,
            }
        }
    }
}

async fn wait(what: &'static str, gate: &Gate) {
    wait_for(what, gate, LAST_WORDS).await;
}

async fn wait_for(what: &'static str, gate: &Gate, longest: Duration) {
    if tokio::time::timeout(longest, gate.wait_open()).await.is_err() {
        let holders = gate.holders();
        warn!(what, count = holders.len(), first = holders.first(), "leaving without waiting any longer");
    }
}
