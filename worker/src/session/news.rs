//! What one stream has told of the device: everything first, then what is news.

use std::collections::VecDeque;
use std::sync::Arc;

use hoist_wire::{worker as wire, workers};

use crate::shared::Shared;
use crate::view::{View, delta};

/// Acknowledgements that are waited for; more are told without an account of what was removed.
const MOST_UNHEARD: usize = 1_024;

#[derive(Debug, Default)]
pub(super) struct News {
    sequence: u64,
    /// What the coordinator knows of this stream; none: nothing yet.
    told: Option<Arc<View>>,
    /// The last removal that was told.
    removed: u64,
    /// By message: the last removal in it.
    unheard: VecDeque<(u64, u64)>,
}

impl News {
    /// For a new stream: what was acknowledged on an earlier one is not told again.
    pub(super) fn new(shared: &Shared) -> Self {
        Self { removed: shared.heard(), ..Self::default() }
    }

    /// Whether something was removed that this stream has not told and cannot tell any more: only a new one tells everything.
    pub(super) fn has_missed(&self, view: &View) -> bool {
        let next = view.removed.front().map_or(0, |removed| removed.number);
        self.told.is_some() && next > self.removed.saturating_add(1)
    }

    /// The message that tells of this view; none when there is nothing in it.
    pub(super) fn of(&mut self, view: &Arc<View>) -> Option<wire::Observed> {
        let is_full = self.told.is_none();
        let before = self.told.clone().unwrap_or_default();
        let news = delta(&before, view, self.removed);
        let is_same =
            before.answers == view.answers && before.memory == view.memory && before.problem == view.problem;
        if !is_full && is_same && news.replicas.is_empty() && news.removed.is_empty() {
            return None;
        }
        self.sequence += 1;
        if let Some(last) = news.removed.last() {
            self.removed = last.number;
            if self.unheard.len() < MOST_UNHEARD {
                self.unheard.push_back((self.sequence, last.number));
            }
        }
        self.told = Some(Arc::clone(view));
        let removed = news.removed.iter().map(|removed| wire::RemovedReplica {
            replica: removed.id.to_string(),
            expected_bytes: removed.expected.0,
            returned_bytes: removed.returned.0,
        });
        Some(wire::Observed {
            sequence: self.sequence,
            full: is_full,
            answers: view.answers.map(workers::generation),
            replicas: news.replicas.iter().map(|replica| workers::observed(replica)).collect(),
            removed: removed.collect(),
            memory: Some(workers::memory(view.memory)),
            problem: view.problem.to_string(),
        })
    }

    /// The coordinator has applied messages up to this one.
    pub(super) fn heard(&mut self, sequence: u64, shared: &Shared) {
        while let Some((_, removed)) = self.unheard.pop_front_if(|(told, _)| *told <= sequence) {
            shared.heard_removed(removed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Removed;
    use hoist_domain::{
        Bytes, DeviceMemory, Digest, Epoch, Generation, ObservedReplica, ReplicaId, ReplicaState,
    };
    use hoist_runtime::Clock;
    use uuid::Uuid;

    fn view(replicas: &[(u8, ReplicaState)], removed: &[u64], number: u64) -> Arc<View> {
        let replica = |&(id, state): &(u8, ReplicaState)| {
            let id = ReplicaId(Uuid::from_u128(id.into()));
            let replica = ObservedReplica {
                id,
                digest: Digest([1; 32]),
                dtype: None,
                state,
                own: Bytes(0),
                mapped: Bytes(0),
                tensors: 0,
                load_time: None,
                failure: None,
            };
            (id, Arc::new(replica))
        };
        let gone = |number: &u64| Removed {
            number: *number,
            id: ReplicaId(Uuid::from_u128(u128::from(*number))),
            expected: Bytes(1),
            returned: Bytes(1),
        };
        Arc::new(View {
            answers: Some(Generation { epoch: Epoch(1), number }),
            replicas: replicas.iter().map(replica).collect(),
            removed: removed.iter().map(gone).collect(),
            memory: DeviceMemory::default(),
            problem: "".into(),
        })
    }

    #[test]
    fn everything_is_told_once_and_then_only_what_changed() {
        use ReplicaState::{Active, Loading};
        let mut news = News::default();
        let first = news.of(&view(&[(1, Active), (2, Loading)], &[], 1)).unwrap();
        assert!(first.full && first.sequence == 1 && first.replicas.len() == 2, "{first:?}");
        assert_eq!(news.of(&view(&[(1, Active), (2, Loading)], &[], 1)), None);
        let second = news.of(&view(&[(1, Active), (2, Active)], &[], 1)).unwrap();
        assert!(!second.full && second.sequence == 2 && second.replicas.len() == 1, "{second:?}");
        let third = news.of(&view(&[(2, Active)], &[1], 2)).unwrap();
        assert_eq!((third.replicas.len(), third.removed.len()), (0, 1), "{third:?}");
        assert_eq!(news.of(&view(&[(2, Active)], &[1], 2)), None, "a removal is told once");
        assert!(news.of(&view(&[(2, Active)], &[1], 3)).is_some(), "another generation is answered");
    }

    #[test]
    fn a_removal_that_was_never_told_is_missed() {
        let mut news = News::default();
        assert!(!news.has_missed(&view(&[], &[7], 1)), "the first word tells everything");
        news.of(&view(&[], &[7], 1));
        assert!(!news.has_missed(&view(&[], &[7, 8], 1)));
        assert!(!news.has_missed(&view(&[], &[8], 1)));
        assert!(!news.has_missed(&view(&[], &[], 1)));
        assert!(news.has_missed(&view(&[], &[9], 1)), "the eighth was pushed out");
    }

    #[test]
    fn a_removal_that_nobody_acknowledged_is_told_again_by_the_next_stream() {
        let shared = Shared::new(Clock::system());
        let mut news = News::default();
        news.of(&view(&[], &[1, 2], 1));
        news.of(&view(&[], &[1, 2, 3], 1));
        news.heard(1, &shared);
        // The driver forgets what was heard.
        let left = view(&[], &[3], 1);
        let again = News::default().of(&left).unwrap();
        assert_eq!(again.removed.len(), 1);
        assert_eq!(shared.heard(), 2);
        news.heard(2, &shared);
        assert_eq!(shared.heard(), 3);
    }
}
