//! What a worker decides: whether it takes what is desired, and what it does next. Pure.
//!
//! Properties, kept by the tests: what is taken never grows older; nothing is loaded that is not desired by the newest;
//! room is made before it is taken; with nothing new desired the steps come to an end, and what is there then is what was
//! desired, but for what failed or waits for its segment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use hoist_domain::{Digest, Dtype, Epoch, Generation, ObservedReplica, ReplicaId, ReplicaState};

use crate::device::{Ahead, Load};

/// Everything that shall be on the device, the most urgent first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    pub generation: Generation,
    pub replicas: Vec<Wanted>,
}

/// One component that shall be on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub id: ReplicaId,
    pub digest: Digest,
    pub path: PathBuf,
    /// Its segment is complete. Until then it waits.
    pub is_sealed: bool,
    pub dtype: Option<Dtype>,
}

impl Wanted {
    pub(crate) fn load(&self) -> Load {
        Load { id: self.id, digest: self.digest, path: self.path.clone(), dtype: self.dtype }
    }
}

/// What came of something desired that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    New,
    /// It was taken before.
    Known,
}

/// Why something desired is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Overtaken on its way: harmless.
    #[error("generation {0} is older than {1}, which was taken")]
    Older(Generation, Generation),
    /// The coordinator errs.
    #[error("generation {0} was taken with other content")]
    OtherContent(Generation),
    /// The coordinator errs.
    #[error("generation {0} is not of epoch {1}, in which the worker is registered")]
    OtherEpoch(Generation, Epoch),
    /// The coordinator errs.
    #[error("replica {0} is desired twice")]
    Twice(ReplicaId),
    /// The coordinator errs.
    #[error("replica {0} has become another one")]
    Changed(ReplicaId),
}

impl Refused {
    /// Whether it shows that the coordinator does not keep to the protocol.
    #[must_use]
    pub const fn is_error(&self) -> bool {
        !matches!(self, Self::Older(..))
    }
}

/// Judges what a coordinator of this epoch desires.
///
/// # Errors
/// See [`Refused`].
pub fn take(taken: Option<&Desired>, new: &Desired, epoch: Epoch) -> Result<Taken, Refused> {
    if new.generation.epoch != epoch {
        return Err(Refused::OtherEpoch(new.generation, epoch));
    }
    let mut known = BTreeSet::new();
    if let Some(twice) = new.replicas.iter().find(|wanted| !known.insert(wanted.id)) {
        return Err(Refused::Twice(twice.id));
    }
    let Some(taken) = taken else { return Ok(Taken::New) };
    if new.generation < taken.generation {
        return Err(Refused::Older(new.generation, taken.generation));
    }
    if new.generation == taken.generation {
        return if new == taken { Ok(Taken::Known) } else { Err(Refused::OtherContent(new.generation)) };
    }
    // What a handle stands for never changes. This sees it from one set to the next; `next` compares with what is there.
    let before: BTreeMap<ReplicaId, &Wanted> = taken.replicas.iter().map(|one| (one.id, one)).collect();
    let is_other = |wanted: &&Wanted| {
        before.get(&wanted.id).is_some_and(|one| (one.digest, one.dtype) != (wanted.digest, wanted.dtype))
    };
    match new.replicas.iter().find(is_other) {
        Some(other) => Err(Refused::Changed(other.id)),
        None => Ok(Taken::New),
    }
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is not desired: what it holds is given back; one that failed is forgotten.
    Unload(ReplicaId),
    Load(Load),
    /// More of a segment is there that is still being filled.
    Ahead(Ahead),
    /// Nothing, until something else is desired, or there.
    Rest,
}

/// The next step, by what is there. A replica that is LOADING is one whose segment was not complete when it began; what more there
/// is for it, or for one that waits, `ahead` says.
#[must_use]
pub fn next(
    desired: Option<&Desired>,
    there: &BTreeMap<ReplicaId, ObservedReplica>,
    ahead: impl Fn(&Wanted) -> Option<Ahead>,
) -> Step {
    // Before anything was desired nobody knows what is not.
    let Some(desired) = desired else { return Step::Rest };
    let wanted: BTreeMap<ReplicaId, &Wanted> =
        desired.replicas.iter().map(|wanted| (wanted.id, wanted)).collect();
    // A handle that was gone for a generation nobody has acted on may have come back as something else.
    let is_wanted = |there: &ObservedReplica| {
        wanted
            .get(&there.id)
            .is_some_and(|wanted| (wanted.digest, wanted.dtype) == (there.digest, there.dtype))
    };
    if let Some((id, _)) = there.iter().find(|(_, replica)| !is_wanted(replica)) {
        return Step::Unload(*id);
    }
    let is_to_come = |wanted: &&Wanted| {
        let state = there.get(&wanted.id).map_or(ReplicaState::Waiting, |replica| replica.state);
        matches!(state, ReplicaState::Waiting | ReplicaState::Loading)
    };
    let to_come = || desired.replicas.iter().filter(is_to_come);
    // Whatever is complete first: what is still being filled is there no sooner than its last byte.
    if let Some(wanted) = to_come().find(|wanted| wanted.is_sealed) {
        return Step::Load(wanted.load());
    }
    // What is converted is converted whole.
    let unsealed = to_come().filter(|wanted| wanted.dtype.is_none());
    unsealed.into_iter().find_map(ahead).map_or(Step::Rest, Step::Ahead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_domain::Bytes;
    use uuid::Uuid;

    fn id(number: u128) -> ReplicaId {
        ReplicaId(Uuid::from_u128(number))
    }

    fn wanted(number: u8) -> Wanted {
        Wanted {
            id: id(number.into()),
            digest: Digest([number; 32]),
            path: format!("/segments/{number}").into(),
            is_sealed: true,
            dtype: None,
        }
    }

    fn desired(epoch: u64, number: u64, replicas: &[Wanted]) -> Desired {
        let generation = Generation { epoch: Epoch(epoch), number };
        Desired { generation, replicas: replicas.to_vec() }
    }

    fn never(_: &Wanted) -> Option<Ahead> {
        None
    }

    fn there(replicas: &[(u8, ReplicaState)]) -> BTreeMap<ReplicaId, ObservedReplica> {
        let observed = |&(number, state): &(u8, ReplicaState)| {
            let wanted = wanted(number);
            let replica = ObservedReplica {
                id: wanted.id,
                digest: wanted.digest,
                dtype: None,
                state,
                own: Bytes(0),
                mapped: Bytes(0),
                tensors: 0,
                load_time: None,
                failure: None,
            };
            (wanted.id, replica)
        };
        replicas.iter().map(observed).collect()
    }

    #[test]
    fn what_is_older_or_of_another_epoch_is_not_taken() {
        let taken = desired(2, 5, &[wanted(1)]);
        let judged = |new: &Desired, epoch| take(Some(&taken), new, Epoch(epoch));
        assert_eq!(judged(&desired(2, 6, &[]), 2), Ok(Taken::New));
        assert_eq!(judged(&desired(3, 1, &[]), 3), Ok(Taken::New), "a later start begins anew");
        assert_eq!(judged(&taken.clone(), 2), Ok(Taken::Known));
        let older = judged(&desired(2, 4, &[wanted(1)]), 2).unwrap_err();
        assert!(matches!(older, Refused::Older(..)) && !older.is_error());
        let other = judged(&desired(2, 5, &[wanted(2)]), 2).unwrap_err();
        assert!(matches!(other, Refused::OtherContent(_)) && other.is_error());
        assert!(matches!(judged(&desired(1, 9, &[]), 2), Err(Refused::OtherEpoch(..))));
        assert!(matches!(judged(&desired(9, 9, &[]), 2), Err(Refused::OtherEpoch(..))));
    }

    #[test]
    fn a_handle_is_desired_once_and_stands_for_one_thing() {
        let taken = desired(1, 1, &[wanted(1)]);
        let twice = desired(1, 2, &[wanted(1), wanted(1)]);
        assert_eq!(take(Some(&taken), &twice, Epoch(1)), Err(Refused::Twice(id(1))));
        let other = Wanted { digest: Digest([9; 32]), ..wanted(1) };
        assert_eq!(take(Some(&taken), &desired(1, 2, &[other]), Epoch(1)), Err(Refused::Changed(id(1))));
        let converted = Wanted { dtype: Some(Dtype::F16), ..wanted(1) };
        assert_eq!(take(Some(&taken), &desired(1, 2, &[converted]), Epoch(1)), Err(Refused::Changed(id(1))));
        let moved = Wanted { path: "/elsewhere".into(), is_sealed: false, ..wanted(1) };
        assert_eq!(take(Some(&taken), &desired(1, 2, &[moved]), Epoch(1)), Ok(Taken::New));
    }

    #[test]
    fn room_is_made_before_it_is_taken_and_the_most_urgent_comes_first() {
        use ReplicaState::{Active, Failed};
        let desired = desired(1, 1, &[wanted(3), wanted(1), wanted(2)]);
        assert_eq!(
            next(None, &there(&[(1, Active)]), never),
            Step::Rest,
            "nobody has said what shall be there"
        );
        assert_eq!(next(Some(&desired), &there(&[(1, Active), (9, Active)]), never), Step::Unload(id(9)));
        assert_eq!(next(Some(&desired), &there(&[(8, Failed)]), never), Step::Unload(id(8)), "forgotten");
        assert_eq!(next(Some(&desired), &there(&[(1, Active)]), never), Step::Load(wanted(3).load()));
        assert_eq!(
            next(Some(&desired), &there(&[(3, Failed), (1, Active)]), never),
            Step::Load(wanted(2).load())
        );
        assert_eq!(next(Some(&desired), &there(&[(3, Failed), (1, Active), (2, Active)]), never), Step::Rest);
    }

    #[test]
    fn what_has_come_to_stand_for_something_else_is_loaded_anew() {
        let other = Wanted { digest: Digest([9; 32]), ..wanted(1) };
        let desired = desired(1, 3, std::slice::from_ref(&other));
        assert_eq!(next(Some(&desired), &there(&[(1, ReplicaState::Active)]), never), Step::Unload(id(1)));
        assert_eq!(next(Some(&desired), &there(&[]), never), Step::Load(other.load()));
    }

    #[test]
    fn what_is_being_filled_is_copied_when_there_is_nothing_else_to_do() {
        use ReplicaState::{Active, Failed, Loading};
        let unsealed = |number| Wanted { is_sealed: false, ..wanted(number) };
        let more = |wanted: &Wanted| {
            Some(Ahead { id: wanted.id, path: "/segments/.filling-1".into(), there: Bytes(9) })
        };
        let step = |wanted: &[Wanted], there: &BTreeMap<ReplicaId, ObservedReplica>| match next(
            Some(&desired(1, 1, wanted)),
            there,
            more,
        ) {
            Step::Ahead(ahead) => format!("ahead {}", ahead.id.0.as_u128()),
            Step::Load(load) => format!("load {}", load.id.0.as_u128()),
            Step::Unload(id) => format!("unload {}", id.0.as_u128()),
            Step::Rest => "rest".to_owned(),
        };
        assert_eq!(step(&[unsealed(1), wanted(2)], &there(&[])), "load 2", "it is there sooner");
        assert_eq!(step(&[unsealed(1), wanted(2)], &there(&[(2, Active)])), "ahead 1");
        assert_eq!(step(&[unsealed(1)], &there(&[(1, Loading)])), "ahead 1", "further");
        assert_eq!(step(&[wanted(1)], &there(&[(1, Loading)])), "load 1", "to its end");
        assert_eq!(step(&[unsealed(1)], &there(&[(1, Failed)])), "rest");
        assert_eq!(step(&[unsealed(1)], &there(&[(1, Loading), (9, Loading)])), "unload 9");
        let converted = Wanted { dtype: Some(Dtype::F16), ..unsealed(1) };
        assert_eq!(step(&[converted, unsealed(2)], &there(&[])), "ahead 2");
    }

    #[test]
    fn what_waits_for_its_segment_keeps_nobody_waiting() {
        let unsealed = Wanted { is_sealed: false, ..wanted(1) };
        let desired = desired(1, 1, &[unsealed, wanted(2)]);
        assert_eq!(next(Some(&desired), &there(&[]), never), Step::Load(wanted(2).load()));
        assert_eq!(next(Some(&desired), &there(&[(2, ReplicaState::Active)]), never), Step::Rest);
    }
}
