//! Every lifecycle of Hoist as one table of legal transitions each. `*` marks terminal states.
//!
//! ```text
//! Operation  Pending -> Running -> Succeeded* | Failed* | Cancelled*        (Pending may also fail or be cancelled)
//! Replica    Absent -> Waiting -> Loading -> Active -> Unloading -> Absent
//!            Waiting | Loading -> Failed -> Absent,  Loading -> Absent (cancelled),  Active -> Lost -> Absent
//! Segment    Filling -> Sealed -> Evicting -> Gone*,  Filling -> Gone (abandoned)
//! Worker     Connecting -> Registered -> Active <-> Suspect -> Lost -> Connecting | Registered (the next process),
//!            Active | Suspect -> Registered (it comes back),  Active -> Draining -> Lost,
//!            any -> Quarantined -> Connecting (released by an operator)
//! Device     Open <-> Cordoned,  Open | Cordoned -> Draining -> Cordoned | Open,  any -> Lost -> Open | Cordoned
//! Machine    Serving -> Draining*
//! Lease      Awaited (after a restart) -> Held                  (either may end: that is its absence, and no state)
//! Model      Available <-> Missing                                  (a missing one is forgotten unless people wrote about it)
//! ```
//!
//! The planner asks [`Lifecycle::to`] and gets a typed error; `apply` asserts, because an event that breaks the
//! table must never have been made.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A state machine that is nothing but its table.
pub trait Lifecycle: Copy + Eq + fmt::Debug + 'static {
    /// What has this life, for messages: `operation`.
    const SUBJECT: &'static str;
    /// Every legal step. What is not here is illegal.
    const TRANSITIONS: &'static [(Self, Self)];

    /// The next state, if the table allows it.
    ///
    /// # Errors
    /// When the table has no such step.
    fn to(self, next: Self) -> Result<Self, IllegalTransition> {
        if Self::TRANSITIONS.contains(&(self, next)) {
            Ok(next)
        } else {
            Err(IllegalTransition {
                subject: Self::SUBJECT,
                from: format!("{self:?}"),
                to: format!("{next:?}"),
            })
        }
    }

    /// Nothing leaves a terminal state.
    fn is_terminal(self) -> bool {
        !Self::TRANSITIONS.iter().any(|(from, _)| *from == self)
    }
}

/// A step that a lifecycle's table does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject} cannot go from {from} to {to}")]
pub struct IllegalTransition {
    pub subject: &'static str,
    pub from: String,
    pub to: String,
}

/// An operation's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OperationState {
    /// Accepted and durable. Says nothing about whether it can succeed.
    Pending,
    /// Its executor has been told to start; it may not have done anything yet.
    Running,
    /// It has a response.
    Succeeded,
    /// It has an error. Whatever it did before is undone or harmless.
    Failed,
    /// Somebody asked it to stop, and it stopped before it was done.
    Cancelled,
}

impl OperationState {
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];
}

impl Lifecycle for OperationState {
    const SUBJECT: &'static str = "operation";
    const TRANSITIONS: &'static [(Self, Self)] = &[
        (Self::Pending, Self::Running),
        (Self::Pending, Self::Failed),
        (Self::Pending, Self::Cancelled),
        (Self::Running, Self::Succeeded),
        (Self::Running, Self::Failed),
        (Self::Running, Self::Cancelled),
    ];
}

/// A component's life on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReplicaState {
    /// Not on the device, and no bytes of the device are held for it.
    Absent,
    /// Wanted; its segment is not far enough filled to start.
    Waiting,
    /// Bytes of the device are held; the content is not usable yet.
    Loading,
    /// Usable.
    Active,
    /// No longer usable; bytes may still be held.
    Unloading,
    /// It did not get there; bytes may still be held.
    Failed,
    /// Its worker ended; whether the device still holds the bytes is not known here.
    Lost,
}

impl Lifecycle for ReplicaState {
    const SUBJECT: &'static str = "replica";
    const TRANSITIONS: &'static [(Self, Self)] = &[
        (Self::Absent, Self::Waiting),
        (Self::Waiting, Self::Loading),
        (Self::Waiting, Self::Failed),
        (Self::Waiting, Self::Absent),
        (Self::Loading, Self::Active),
        (Self::Loading, Self::Failed),
        (Self::Loading, Self::Absent),
        (Self::Active, Self::Unloading),
        (Self::Active, Self::Lost),
        (Self::Unloading, Self::Absent),
        (Self::Failed, Self::Absent),
        (Self::Lost, Self::Absent),
    ];
}

/// A component's life in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SegmentState {
    /// Bytes are reserved and being written. A prefix may be readable, the whole is not.
    Filling,
    /// Complete, under its final name, never written again.
    Sealed,
    /// Withdrawn from new readers; old ones may still map it.
    Evicting,
    /// Its bytes are free.
    Gone,
}

impl Lifecycle for SegmentState {
    const SUBJECT: &'static str = "segment";
    const TRANSITIONS: &'static [(Self, Self)] = &[
        (Self::Filling, Self::Sealed),
        (Self::Filling, Self::Gone),
        (Self::Sealed, Self::Evicting),
        (Self::Evicting, Self::Gone),
    ];
}

/// A lease's life. Its end is its absence: the table knows only what becomes of one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LeaseState {
    /// Its stream is open.
    Held,
    /// The coordinator was restarted; its holder may come back, and its segments stay until then.
    Awaited,
}

impl Lifecycle for LeaseState {
    const SUBJECT: &'static str = "lease";
    const TRANSITIONS: &'static [(Self, Self)] = &[(Self::Awaited, Self::Held)];
}

/// The life of a device's worker, as the coordinator sees it: of its place, over all the processes that have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkerState {
    /// Started or dialling; nothing is known about it.
    Connecting,
    /// It said who it is; what it holds is not known yet.
    Registered,
    /// What it holds is known; it may be given work.
    Active,
    /// Silent for a few beats. What it holds is unknown, not gone.
    Suspect,
    /// Finishes what it has; gets nothing new.
    Draining,
    /// Its process ended, or its grace period did.
    Lost,
    /// It failed too often or sent nonsense; it gets nothing until an operator releases it.
    Quarantined,
}

impl Lifecycle for WorkerState {
    const SUBJECT: &'static str = "worker";
    const TRANSITIONS: &'static [(Self, Self)] = &[
        (Self::Connecting, Self::Registered),
        (Self::Connecting, Self::Lost),
        (Self::Registered, Self::Active),
        (Self::Registered, Self::Suspect),
        (Self::Registered, Self::Lost),
        (Self::Active, Self::Suspect),
        (Self::Active, Self::Draining),
        (Self::Active, Self::Lost),
        (Self::Suspect, Self::Active),
        (Self::Active, Self::Registered),
        (Self::Suspect, Self::Registered),
        (Self::Suspect, Self::Lost),
        (Self::Draining, Self::Lost),
        (Self::Lost, Self::Connecting),
        (Self::Lost, Self::Registered),
        (Self::Lost, Self::Quarantined),
        (Self::Connecting, Self::Quarantined),
        (Self::Registered, Self::Quarantined),
        (Self::Active, Self::Quarantined),
        (Self::Suspect, Self::Quarantined),
        (Self::Draining, Self::Quarantined),
        (Self::Quarantined, Self::Connecting),
    ];
}

/// A device's life, as placement sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeviceState {
    /// Takes new replicas.
    Open,
    /// Keeps what it has, takes nothing new.
    Cordoned,
    /// Gives up what it has.
    Draining,
    /// Not there, or not to be trusted.
    Lost,
}

impl Lifecycle for DeviceState {
    const SUBJECT: &'static str = "device";
    const TRANSITIONS: &'static [(Self, Self)] = &[
        (Self::Open, Self::Cordoned),
        (Self::Cordoned, Self::Open),
        (Self::Open, Self::Draining),
        (Self::Cordoned, Self::Draining),
        (Self::Draining, Self::Cordoned),
        (Self::Draining, Self::Open),
        (Self::Open, Self::Lost),
        (Self::Cordoned, Self::Lost),
        (Self::Draining, Self::Lost),
        (Self::Lost, Self::Cordoned),
        (Self::Lost, Self::Open),
    ];
}

/// The coordinator's own life, as far as anybody can see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MachineState {
    /// It answers calls.
    Serving,
    /// It ends soon and takes no new work.
    Draining,
}

impl Lifecycle for MachineState {
    const SUBJECT: &'static str = "machine";
    const TRANSITIONS: &'static [(Self, Self)] = &[(Self::Serving, Self::Draining)];
}

/// A model's files, as the last look at their root found them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ModelState {
    /// They were there. Whether they are good says the verdict.
    Available,
    /// They were not, though their root was. Kept for what people wrote about the model.
    Missing,
    /// As `Missing`, and another model's file is at their place by now. Only such a model shares a path.
    Displaced,
}

impl ModelState {
    pub const ALL: [Self; 3] = [Self::Available, Self::Missing, Self::Displaced];
}

impl Lifecycle for ModelState {
    const SUBJECT: &'static str = "model";
    const TRANSITIONS: &'static [(Self, Self)] = &[
        (Self::Available, Self::Missing),
        (Self::Available, Self::Displaced),
        (Self::Missing, Self::Available),
        (Self::Missing, Self::Displaced),
        (Self::Displaced, Self::Available),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminals<L: Lifecycle>(all: &[L]) -> Vec<L> {
        all.iter().copied().filter(|s| s.is_terminal()).collect()
    }

    #[test]
    fn an_operation_ends_exactly_once() {
        use OperationState::{Cancelled, Failed, Pending, Running, Succeeded};
        assert_eq!(terminals(&OperationState::ALL), [Succeeded, Failed, Cancelled]);
        for end in [Succeeded, Failed, Cancelled] {
            for next in OperationState::ALL {
                assert!(end.to(next).is_err(), "{end:?} -> {next:?}");
            }
        }
        assert!(Pending.to(Succeeded).is_err(), "nothing succeeds that never ran");
        assert!(Running.to(Pending).is_err());
    }

    #[test]
    fn a_segment_that_is_gone_is_final_and_no_worker_is() {
        use SegmentState::{Evicting, Filling, Gone, Sealed};
        use WorkerState::{Active, Connecting, Draining, Lost, Quarantined, Registered, Suspect};
        assert_eq!(terminals(&[Filling, Sealed, Evicting, Gone]), [Gone]);
        assert_eq!(terminals(&[Connecting, Registered, Active, Suspect, Draining, Lost, Quarantined]), []);
    }

    #[test]
    fn no_worker_is_active_that_has_not_registered() {
        use WorkerState::{Active, Connecting, Draining, Lost, Quarantined, Registered, Suspect};
        for from in [Connecting, Draining, Lost, Quarantined] {
            assert!(from.to(Active).is_err(), "{from:?}");
        }
        for from in [Registered, Suspect] {
            assert!(from.to(Active).is_ok(), "{from:?}");
        }
    }

    #[test]
    fn no_replica_is_active_without_having_loaded() {
        use ReplicaState::{Absent, Active, Failed, Loading, Lost, Unloading, Waiting};
        for from in [Absent, Waiting, Unloading, Failed, Lost] {
            assert!(from.to(Active).is_err(), "{from:?}");
        }
        assert!(Loading.to(Active).is_ok());
        for from in [Unloading, Failed, Lost, Loading, Waiting] {
            assert!(from.to(Absent).is_ok(), "{from:?} must find its way home");
        }
    }

    #[test]
    fn an_illegal_step_names_both_ends() {
        let error = SegmentState::Gone.to(SegmentState::Sealed).map_err(|e| e.to_string());
        assert_eq!(error, Err("segment cannot go from Gone to Sealed".to_owned()));
    }
}
