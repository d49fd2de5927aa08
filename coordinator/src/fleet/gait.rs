//! Whether a worker's device gets on with what it does, by its heartbeats. Decides; the session tells.

use std::time::Duration;

use hoist_domain::{DeviceId, ReplicaId, ReplicaState};
use hoist_planner::State;
use hoist_wire::{worker as wire, workers};

/// A worker at one and the same step for so long is told of as slow.
const SLOW_AFTER: Duration = Duration::from_secs(3);

/// One that has nothing to do and has not answered what is desired of it for so long is told of as well.
const DEAF_AFTER: Duration = Duration::from_secs(5);

/// One that is at something that nobody wants any more, for so long, is stuck: it would have looked up by then.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// What was seen of it so far.
#[derive(Debug, Default)]
pub(super) struct Gait {
    counter: u64,
    is_busy: bool,
    /// What it is at, if it says.
    at: Option<ReplicaId>,
    /// Since when it is at one and the same step.
    frozen: Option<Duration>,
    /// Since when nobody wants what it is at, and it does not look up.
    unwanted: Option<Duration>,
    is_slow: bool,
}

/// What is to be told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Felt {
    /// Why it does not get on; or that it does again. The first is said again each time: whoever was told may not have listened.
    pub(super) slow: Option<Option<&'static str>>,
    pub(super) is_stuck: bool,
}

impl Gait {
    pub(super) fn beat(&mut self, beat: &wire::Heartbeat, now: Duration) {
        let is_moving = beat.busy.is_none() || beat.progress_counter != self.counter;
        self.counter = beat.progress_counter;
        self.is_busy = beat.busy.is_some();
        self.at = workers::replica_id(&beat.replica).ok();
        self.frozen = if is_moving { None } else { self.frozen.or(Some(now)) };
    }

    /// `unanswered`: since how long something is desired that it has not answered.
    pub(super) fn look(
        &mut self,
        state: &State,
        device: DeviceId,
        unanswered: Option<Duration>,
        now: Duration,
    ) -> Felt {
        let residency = state.residency();
        let is_idle_work = match self.at {
            Some(at) => !residency.is_wanted(at),
            // It does not say.
            None => residency.on(device).any(|one| {
                !residency.is_wanted(one.id)
                    && matches!(one.state, ReplicaState::Loading | ReplicaState::Unloading)
            }),
        };
        let frozen = self.frozen.map(|since| now.saturating_sub(since));
        self.unwanted = frozen.filter(|_| is_idle_work).and(self.unwanted.or(Some(now)));
        let is_deaf = !self.is_busy && unanswered.is_some_and(|unanswered| unanswered >= DEAF_AFTER);
        let why = if frozen.is_some_and(|frozen| frozen >= SLOW_AFTER) {
            Some("it makes no progress with what it is at")
        } else {
            is_deaf.then_some("it does not answer what is desired of it")
        };
        let was_slow = std::mem::replace(&mut self.is_slow, why.is_some());
        let unwanted = self.unwanted.map(|since| now.saturating_sub(since));
        Felt {
            slow: (why.is_some() || was_slow).then_some(why),
            is_stuck: unwanted.is_some_and(|unwanted| unwanted >= STUCK_AFTER),
        }
    }
}
