//! What a worker is told shall be on its device, and what it tells of its way there.

use std::time::Duration;

use hoist_domain::{Bytes, DeviceId, Generation, ReplicaId};
use hoist_planner::State;
use hoist_wire::{worker as wire, workers};
use tracing::error;

use super::Fleet;
use super::session::{MOST_LIES, Who};
use crate::control::Turn;

/// A lie counts towards the quarantine for so long after it.
const FORGIVEN_AFTER: Duration = Duration::from_secs(5 * 60);

impl Fleet {
    /// Whether a stream to which this number was told last does not know yet what shall be on its device.
    pub(super) fn is_news(&self, state: &State, id: DeviceId, told: Option<u64>) -> bool {
        told != Some(state.residency().generation(id))
    }

    /// Everything that shall be on a device, unless it was told in this number on this stream.
    pub(super) fn desired(
        &self,
        state: &State,
        id: DeviceId,
        told: &mut Option<u64>,
    ) -> Option<wire::Desired> {
        let residency = state.residency();
        let number = residency.generation(id);
        if *told == Some(number) {
            return None;
        }
        *told = Some(number);
        let replica = |desire: hoist_planner::residency::Desire| {
            let path = self.0.cache.shelf().ok().and_then(|shelf| shelf.path_of(desire.digest));
            wire::DesiredReplica {
                replica: desire.id.to_string(),
                digest: desire.digest.to_string(),
                // Where there is none the replica is there already, or its segment is being lost this moment.
                sealed: path.is_some(),
                path: path.map(|path| path.display().to_string()).unwrap_or_default(),
                dtype: desire.dtype.map(|dtype| dtype.to_string()).unwrap_or_default(),
            }
        };
        let generation = Generation { epoch: state.position().epoch, number };
        Some(wire::Desired {
            generation: Some(workers::generation(generation)),
            replicas: residency.desired(id).into_iter().map(replica).collect(),
        })
    }

    /// A worker says how far it is. Only what is known to be on its way there counts.
    pub(super) fn progress(&self, id: DeviceId, progress: &wire::Progress) {
        let view = self.0.control.view();
        let residency = view.state.residency();
        for one in &progress.replicas {
            let Ok(replica) = workers::replica_id(&one.replica) else { continue };
            if residency.replica(replica).is_some_and(|known| known.device == id) {
                self.0.loading.insert(replica, (Bytes(one.done_bytes), Bytes(one.total_bytes)));
            }
        }
        self.0.loading.retain(|known, _| residency.replica(*known).is_some());
    }

    /// How far a replica is, as its worker has said last.
    #[must_use]
    pub fn loading(&self, id: ReplicaId) -> Option<(Bytes, Bytes)> {
        self.0.loading.get(&id).map(|known| *known)
    }

    /// A worker has said what cannot be. Too often, and nobody listens to it any more.
    pub(super) async fn lied(&self, who: Who, lie: &str) {
        let now = self.0.clock.monotonic();
        let lies = {
            let mut known = self.0.lies.entry(who.id).or_default();
            // What is long ago is no habit.
            let before = if now.saturating_sub(known.1) > FORGIVEN_AFTER { 0 } else { known.0 };
            *known = (before.saturating_add(1), now);
            known.0
        };
        if lies >= MOST_LIES {
            error!(device = %who.id, lie, "a worker has said what cannot be too often");
            let why = format!("it has said what cannot be {lies} times: {lie}");
            self.0.lies.remove(&who.id);
            self.0.control.turned(who.id, Turn::Distrusted(who.session, why)).await;
        }
    }
}
