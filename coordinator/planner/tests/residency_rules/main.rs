//! Where loads go, who makes room for them, what their end means, and what a worker is believed: rule by rule. Whole histories are in
//! the simulation.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

mod setting;

use hoist_domain::{
    Bytes, Error, Outcome, Placement, Priority, Reason, ReplicaFailure, ReplicaId, ReplicaState,
};
use hoist_planner::devices::{Whose, cordon, lost, uncordon};
use hoist_planner::residency::{Heard, LoadAsk, Placed, Removal, UnloadAsk, choose, offers, unload};
use setting::{Setting, ask, device, digest, done, model, now, wanted};
use uuid::Uuid;

fn chosen(setting: &Setting, placement: Placement, parts: &[(u8, u64)]) -> String {
    choose(&setting.state, &ask(wanted(9, parts), placement), None).unwrap().device.to_string()
}

#[test]
fn a_card_comes_before_memory_and_affinity_before_room() {
    let mut setting = Setting::new(&[("cpu:0", 100), ("cuda:0", 50), ("cuda:1", 60)]);
    assert_eq!(chosen(&setting, Placement::Any, &[(1, 5)]), "cuda:1", "more is free there");
    setting.loads(ask(wanted(1, &[(1, 5)]), Placement::On(device("cuda:0"))), 1).unwrap();
    assert_eq!(chosen(&setting, Placement::Any, &[(1, 5), (2, 5)]), "cuda:0", "half of it is there");
    assert_eq!(chosen(&setting, Placement::Any, &[(3, 70)]), "cpu:0", "no card is large enough");
}

#[test]
fn spread_takes_the_emptiest_and_pack_the_fullest_that_has_room() {
    let mut setting = Setting::new(&[("cuda:0", 40), ("cuda:1", 60), ("cuda:2", 60)]);
    setting.loads(ask(wanted(1, &[(1, 30)]), Placement::On(device("cuda:1"))), 1).unwrap();
    setting.loads(ask(wanted(2, &[(2, 10)]), Placement::On(device("cuda:2"))), 1).unwrap();
    assert_eq!(chosen(&setting, Placement::Spread, &[(3, 5)]), "cuda:0");
    assert_eq!(chosen(&setting, Placement::Pack, &[(3, 5)]), "cuda:1");
    assert_eq!(chosen(&setting, Placement::Pack, &[(3, 35)]), "cuda:0");
}

#[test]
fn the_same_state_has_the_same_plan_and_a_refusal_says_what_would_help() {
    let mut setting = Setting::new(&[("cuda:0", 10), ("cuda:1", 4)]);
    setting.loads(ask(wanted(1, &[(1, 8)]), Placement::On(device("cuda:0"))), 1).unwrap();
    let asked = ask(wanted(2, &[(2, 6)]), Placement::Any);
    let plan = |setting: &Setting| format!("{:?}", offers(&setting.state, &asked, None));
    assert_eq!(plan(&setting), plan(&setting));
    let refused = choose(&setting.state, &asked, None).unwrap_err();
    assert_eq!(refused.reason(), Reason::VramExhausted);
    let offer =
        offers(&setting.state, &asked, None).into_iter().find(|one| one.device == device("cuda:0")).unwrap();
    assert_eq!(
        (offer.needed, offer.free, offer.unload.as_slice()),
        (Bytes(6), Bytes(2), [model(1)].as_slice())
    );
}

#[test]
fn force_unloads_as_little_as_is_needed_of_what_matters_no_more() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let on = Placement::On(device("cuda:0"));
    let with = |number, bytes, priority| LoadAsk { priority, ..ask(wanted(number, &[(number, bytes)]), on) };
    setting.loads(with(1, 3, Priority::High), 1).unwrap();
    setting.loads(with(2, 2, Priority::Low), 3).unwrap();
    setting.loads(with(3, 4, Priority::Low), 2).unwrap();
    let forced = |number, bytes| LoadAsk { force: true, ..with(number, bytes, Priority::Normal) };
    // One byte is free. The longest loaded of the least is enough alone.
    setting.loads(forced(4, 4), 4).unwrap();
    assert_eq!(setting.intended("cuda:0"), [model(1), model(2), model(4)]);
    // Both that matter no more would not do.
    let refused = setting.loads(forced(5, 9), 5).unwrap_err();
    assert_eq!(refused.reason(), Reason::VramExhausted);
    assert_eq!(setting.intended("cuda:0"), [model(1), model(2), model(4)], "nothing goes for nothing");
}

#[test]
fn those_who_made_room_for_a_load_that_failed_have_their_place_back() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let on = Placement::On(device("cuda:0"));
    setting.loads(ask(wanted(1, &[(1, 8)]), on), 1).unwrap();
    let operation = setting.begun();
    let forced = LoadAsk { force: true, ..ask(wanted(2, &[(2, 4)]), on) };
    setting.places(operation, forced).unwrap();
    setting.catches_up("cuda:0");
    // As long as it is open who stays, nobody gets what the first needs to come back.
    let between = setting.loads(ask(wanted(3, &[(3, 3)]), on), 2).unwrap_err();
    assert_eq!(between.reason(), Reason::VramExhausted);
    assert_eq!(setting.state.residency().unmet().count(), 0, "it is not lost, it is displaced");
    setting.ends(operation, Outcome::Failed(Error::new(Reason::DeviceFailed, "so it is")), 3);
    assert_eq!(setting.intended("cuda:0"), [model(1)]);
    assert_eq!(setting.state.residency().unmet().count(), 1, "it is to be loaded again");
    setting.catches_up("cuda:0");
    let other = setting.loads(ask(wanted(3, &[(3, 3)]), on), 4).unwrap_err();
    assert_eq!(other.reason(), Reason::VramExhausted, "its room is its own");
    setting.loads(ask(wanted(1, &[(1, 8)]), on), 5).unwrap();
    assert_eq!(setting.state.residency().unmet().count(), 0);
}

#[test]
fn what_a_dead_worker_had_is_gone_at_once_and_its_room_is_kept() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let on = Placement::On(device("cuda:0"));
    setting.loads(ask(wanted(1, &[(1, 8)]), on), 1).unwrap();
    let session = setting.state.devices().get(device("cuda:0")).unwrap().worker.session;
    let before = setting.state.position().revision;
    let events = lost(&setting.state, device("cuda:0"), Whose::Session(session), "killed", now(2));
    setting.apply(&events);
    assert_eq!(setting.state.position().revision.0, before.0 + 1, "in one revision");
    assert_eq!(setting.state.residency().replica_count(), 0);
    setting.serves("cuda:0", 10);
    let other = setting.loads(ask(wanted(2, &[(2, 3)]), on), 3).unwrap_err();
    assert_eq!(other.reason(), Reason::VramExhausted);
    setting.loads(ask(wanted(1, &[(1, 8)]), on), 4).unwrap();
}

#[test]
fn equal_components_are_on_a_device_once_and_stay_for_who_is_left() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let on = Placement::On(device("cuda:0"));
    setting.loads(ask(wanted(1, &[(1, 3), (2, 2)]), on), 1).unwrap();
    setting.loads(ask(wanted(2, &[(3, 1), (2, 2)]), on), 1).unwrap();
    assert_eq!(setting.state.residency().replica_count(), 3);
    let out = |model| UnloadAsk {
        parts: vec![hoist_domain::ModelPart { model, components: Vec::new() }],
        device: None,
        force: false,
    };
    let (events, leaving) = unload(&setting.state, &out(model(1))).unwrap();
    let kept: Vec<_> = leaving.iter().filter(|one| one.kept.is_some()).map(|one| one.digest).collect();
    assert_eq!(kept, [digest(2)]);
    setting.apply(&events);
    setting.catches_up("cuda:0");
    let left: Vec<_> = setting.state.residency().replicas().map(|one| one.digest).collect();
    assert_eq!(left, [digest(2), digest(3)]);
}

#[test]
fn a_load_that_succeeded_after_its_worker_ended_has_failed() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let operation = setting.begun();
    setting.places(operation, ask(wanted(1, &[(1, 3)]), Placement::Any)).unwrap();
    setting.catches_up("cuda:0");
    let session = setting.state.devices().get(device("cuda:0")).unwrap().worker.session;
    let events = lost(&setting.state, device("cuda:0"), Whose::Session(session), "killed", now(2));
    setting.apply(&events);
    setting.ends(operation, done(device("cuda:0")), 3);
    let ended = setting.state.operation(operation).unwrap();
    assert!(
        matches!(&ended.outcome, Some(Outcome::Failed(error)) if error.reason() == Reason::WorkerLost),
        "{ended:?}"
    );
    assert_eq!(setting.intended("cuda:0"), []);
}

#[test]
fn a_cordoned_device_keeps_what_it_has_and_takes_nothing_new() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let on = Placement::On(device("cuda:0"));
    setting.loads(ask(wanted(1, &[(1, 3)]), on), 1).unwrap();
    let events = cordon(&setting.state, device("cuda:0"), "a new card comes");
    setting.apply(&events);
    assert!(cordon(&setting.state, device("cuda:0"), "a new card comes").is_empty(), "said again");
    let refused = setting.loads(ask(wanted(2, &[(2, 3)]), on), 2).unwrap_err();
    assert_eq!(refused.reason(), Reason::DeviceCordoned);
    assert!(refused.message().contains("a new card comes"), "{refused}");
    assert_eq!(setting.state.residency().replica_count(), 1);
    // It outlasts its worker.
    let session = setting.state.devices().get(device("cuda:0")).unwrap().worker.session;
    let events = lost(&setting.state, device("cuda:0"), Whose::Session(session), "killed", now(2));
    setting.apply(&events);
    setting.serves("cuda:0", 10);
    assert_eq!(setting.loads(ask(wanted(2, &[(2, 3)]), on), 2).unwrap_err().reason(), Reason::DeviceCordoned);
    let events = uncordon(&setting.state, device("cuda:0"), now(3));
    setting.apply(&events);
    setting.loads(ask(wanted(2, &[(2, 3)]), on), 4).unwrap();
}

/// W12.
#[test]
fn a_worker_is_not_believed_what_cannot_be() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    setting.loads(ask(wanted(1, &[(1, 3)]), Placement::Any), 1).unwrap();
    let id = setting.state.residency().replicas().next().unwrap().id;
    let seen = setting.seen(id, ReplicaState::Active);
    let stranger = ReplicaId(Uuid::from_u128(77));
    let lies = [
        vec![hoist_domain::ObservedReplica { id: stranger, ..seen.clone() }],
        vec![seen.clone(), seen.clone()],
        vec![hoist_domain::ObservedReplica { digest: digest(9), ..seen.clone() }],
        vec![hoist_domain::ObservedReplica { own: Bytes(11), ..seen.clone() }],
        vec![hoist_domain::ObservedReplica { state: ReplicaState::Loading, ..seen.clone() }],
    ];
    for lie in lies {
        let before = setting.state.position();
        let heard = setting.says("cuda:0", false, lie.clone(), Vec::new());
        assert!(matches!(heard, Heard::Lie(_)), "{lie:?}: {heard:?}");
        assert_eq!(setting.state.position(), before, "nothing of it counts");
    }
    let gone = Removal { id, expected: Bytes(3), returned: Bytes(3) };
    assert!(matches!(setting.says("cuda:0", false, vec![seen], vec![gone]), Heard::Lie(_)));
    let unknown = Removal { id: stranger, expected: Bytes(3), returned: Bytes(3) };
    assert_eq!(setting.says("cuda:0", false, Vec::new(), vec![unknown]), Heard::Applied, "told again");
}

#[test]
fn what_nobody_asked_for_is_let_go_and_counted() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    setting.loads(ask(wanted(1, &[(1, 3)]), Placement::Any), 1).unwrap();
    let id = setting.state.residency().replicas().next().unwrap().id;
    let seen = setting.seen(id, ReplicaState::Active);
    let stranger = hoist_domain::ObservedReplica {
        id: ReplicaId(Uuid::from_u128(77)),
        digest: digest(9),
        ..seen.clone()
    };
    assert_eq!(setting.says("cuda:0", true, vec![seen, stranger.clone()], Vec::new()), Heard::Applied);
    let desired = setting.state.residency().desired(device("cuda:0"));
    assert_eq!(desired.iter().map(|one| one.id).collect::<Vec<_>>(), [id]);
    assert_eq!(setting.state.residency().drift(device("cuda:0")), (1, 0));
    let gone = Removal { id: stranger.id, expected: Bytes(3), returned: Bytes(3) };
    setting.says("cuda:0", false, Vec::new(), vec![gone]);
    assert_eq!(setting.state.residency().drift(device("cuda:0")), (1, 1));
}

/// It may still follow what was desired of it before its present stream.
#[test]
fn what_a_worker_gives_up_by_itself_is_missed() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    setting.loads(ask(wanted(1, &[(1, 3)]), Placement::Any), 1).unwrap();
    let id = setting.state.residency().replicas().next().unwrap().id;
    let leaves = setting.seen(id, ReplicaState::Unloading);
    assert_eq!(setting.says("cuda:0", false, vec![leaves], Vec::new()), Heard::Applied);
    assert_eq!(setting.state.residency().unmet().count(), 1);
    setting.loads(ask(wanted(1, &[(1, 3)]), Placement::Any), 2).unwrap();
    assert!(setting.state.residency().replicas().all(|one| one.id != id), "under another name");
}

/// A worker that was half way with it when its stream broke, and was given up meanwhile.
#[test]
fn what_comes_back_half_loaded_has_its_room_and_is_missed_if_it_fails() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let on = Placement::On(device("cuda:0"));
    setting.loads(ask(wanted(1, &[(1, 8)]), on), 1).unwrap();
    let id = setting.state.residency().replicas().next().unwrap().id;
    let half = setting.seen(id, ReplicaState::Loading);
    let session = setting.state.devices().get(device("cuda:0")).unwrap().worker.session;
    let events = lost(&setting.state, device("cuda:0"), Whose::Session(session), "away", now(2));
    setting.apply(&events);
    setting.serves("cuda:0", 10);
    assert_eq!(setting.says("cuda:0", true, vec![half.clone()], Vec::new()), Heard::Applied);
    assert_eq!(setting.state.residency().unmet().count(), 0, "it is on its way");
    let other = setting.loads(ask(wanted(2, &[(2, 3)]), on), 3).unwrap_err();
    assert_eq!(other.reason(), Reason::VramExhausted, "what it will take is its own");
    let failure = Some(ReplicaFailure::Device("so it is".to_owned()));
    let failed = hoist_domain::ObservedReplica { state: ReplicaState::Failed, failure, ..half };
    assert_eq!(setting.says("cuda:0", false, vec![failed], Vec::new()), Heard::Applied);
    assert_eq!(setting.state.residency().unmet().count(), 1);
    assert!(setting.state.residency().desired(device("cuda:0")).is_empty(), "it is let go");
}

#[test]
fn what_a_full_word_leaves_out_is_gone_but_for_what_is_still_to_come() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let on = Placement::On(device("cuda:0"));
    setting.loads(ask(wanted(1, &[(1, 3)]), on), 1).unwrap();
    let operation = setting.begun();
    setting.places(operation, ask(wanted(2, &[(2, 3)]), on)).unwrap();
    assert_eq!(setting.says("cuda:0", true, Vec::new(), Vec::new()), Heard::Applied);
    let left: Vec<_> = setting.state.residency().replicas().map(|one| one.digest).collect();
    assert_eq!(left, [digest(2)], "nobody has begun with it");
    assert_eq!(setting.state.residency().unmet().count(), 1, "what is gone is missed");
}

#[test]
fn a_load_of_something_else_than_what_failed_is_another_attempt() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let on = Placement::On(device("cuda:0"));
    let first = setting.begun();
    let Placed::On { parts, .. } = setting.places(first, ask(wanted(1, &[(1, 3)]), on)).unwrap() else {
        panic!()
    };
    let id = parts.first().unwrap().replica;
    let failed = hoist_domain::ObservedReplica {
        failure: Some(ReplicaFailure::Device("so it is".to_owned())),
        ..setting.seen(id, ReplicaState::Failed)
    };
    setting.says("cuda:0", false, vec![failed], Vec::new());
    let second = setting.begun();
    let Placed::On { parts, .. } = setting.places(second, ask(wanted(1, &[(1, 3)]), on)).unwrap() else {
        panic!()
    };
    assert_ne!(parts.first().unwrap().replica, id, "what failed is tried under another name");
    assert!(!parts.first().unwrap().was_there);
}

#[test]
fn an_operation_that_has_ended_places_nothing() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let operation = setting.begun();
    setting.ends(operation, Outcome::Cancelled(Error::new(Reason::OperationCancelled, "so it is")), 1);
    let refused = setting.places(operation, ask(wanted(1, &[(1, 3)]), Placement::Any)).unwrap_err();
    assert_eq!(refused.reason(), Reason::OperationCancelled);
    assert_eq!(setting.state.residency().replica_count(), 0);
}
