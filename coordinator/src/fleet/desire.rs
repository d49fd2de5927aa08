//! What a worker is told shall be on its device, and what it tells of its way there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{Bytes, DeviceId, Digest, Generation, Replica, ReplicaId, ReplicaState};
use hoist_planner::State;
use hoist_wire::{worker as wire, workers};
use tracing::error;

use super::Fleet;
use super::session::{MOST_LIES, Who};
use crate::control::Turn;

/// A lie counts towards the quarantine for so long after it.
const FORGIVEN_AFTER: Duration = Duration::from_secs(5 * 60);

/// What one stream was told.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// The number of what was desired.
    number: Option<u64>,
    /// What of that waits for its segment, with how much of it was told to be there.
    waiting: BTreeMap<Digest, Bytes>,
}

impl Telling {
    /// Whether it does not know yet what shall be on its device.
    pub(super) fn is_behind(&self, state: &State, id: DeviceId) -> bool {
        self.number != Some(state.residency().generation(id))
    }

    /// Whether something that it was told of waits for its segment.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn number(&self) -> u64 {
        self.number.unwrap_or_default()
    }
}

impl Fleet {
    /// Everything that shall be on a device, unless this stream knows that.
    pub(super) fn desired(
        &self,
        state: &State,
        id: DeviceId,
        telling: &mut Telling,
    ) -> Option<wire::Desired> {
        if !telling.is_behind(state, id) {
            return None;
        }
        let residency = state.residency();
        let number = residency.generation(id);
        telling.number = Some(number);
        let told = std::mem::take(&mut telling.waiting);
        let replica = |desire: hoist_planner::residency::Desire| {
            let path = self.0.cache.shelf().ok().and_then(|shelf| shelf.path_of(desire.digest));
            // What can be used already needs no segment any more.
            let is_there = |one: &Arc<Replica>| one.state == ReplicaState::Active;
            if path.is_none() && !residency.replica(desire.id).is_some_and(is_there) {
                let known = told.get(&desire.digest).copied().unwrap_or_default();
                telling.waiting.insert(desire.digest, known);
            }
            wire::DesiredReplica {
                replica: desire.id.to_string(),
                digest: desire.digest.to_string(),
                // Where there is none it is being filled; or the replica is there already, or its segment is being lost this moment.
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

    /// How far segments are that this stream waits for, if it is further than was told.
    pub(super) fn filled(&self, telling: &mut Telling) -> Option<wire::Filled> {
        let news = telling.waiting.iter_mut().filter_map(|(digest, told)| {
            let (path, there) = self.0.cache.rising(*digest)?;
            if there <= *told {
                return None;
            }
            *told = there;
            let (digest, path) = (digest.to_string(), path.display().to_string());
            Some(wire::FilledSegment { digest, path, bytes: there.0 })
        });
        let segments: Vec<_> = news.collect();
        (!segments.is_empty()).then_some(wire::Filled { segments })
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
