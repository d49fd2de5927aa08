//! What a worker sees on its device, as the driver last knew it, and what of that is news.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hoist_domain::{Bytes, DeviceMemory, Generation, ObservedReplica, ReplicaId};

/// A replica that is gone, and the account of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Counts those of this process.
    pub number: u64,
    pub id: ReplicaId,
    pub expected: Bytes,
    pub returned: Bytes,
}

/// Everything on the device at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// What the driver works by.
    pub answers: Option<Generation>,
    pub replicas: BTreeMap<ReplicaId, Arc<ObservedReplica>>,
    /// The last ones that nobody has acknowledged, the oldest first.
    pub removed: VecDeque<Removed>,
    pub memory: DeviceMemory,
    /// Why the device is to get nothing new. Empty: nothing is wrong.
    pub problem: Arc<str>,
}

impl View {
    /// Accounts that are kept for a coordinator that is away. Some hundred bytes each.
    pub const MOST_REMOVED: usize = 4_096;
}

/// What changed between two views.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    pub replicas: Vec<Arc<ObservedReplica>>,
    pub removed: Vec<Removed>,
}

/// What is news to whoever knows `before` and has heard of removals up to `told`.
#[must_use]
pub(crate) fn delta(before: &View, now: &View, told: u64) -> Delta {
    let is_news = |replica: &&Arc<ObservedReplica>| {
        before.replicas.get(&replica.id).is_none_or(|known| !Arc::ptr_eq(known, replica) && known != *replica)
    };
    Delta {
        replicas: now.replicas.values().filter(is_news).cloned().collect(),
        removed: now.removed.iter().filter(|removed| removed.number > told).copied().collect(),
    }
}
