//! Where loads go, who makes room for them, what their end means, and what a worker is believed: rule by rule. Whole histories are in
//! the simulation.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

mod ahead;
mod leases;
mod room;
mod setting;
mod words;

use hoist_domain::{
    Bytes, Error, ModelPart, Outcome, Placement, Principal, Priority, Reason, ReplicaFailure, ReplicaId,
    ReplicaState,
};
use hoist_planner::devices::{Whose, cordon, lost, uncordon};
use std::sync::Arc;

use hoist_planner::Event;
use hoist_planner::residency::{
    Heard, LoadAsk, Loading, Placed, Removal, UnloadAsk, Want, choose, landed, offers, unload,
};
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
    let (events, leaving) = unload(&setting.state, &out(model(1)), now(0)).unwrap();
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
    // Given up for a coordinator that has died, and wanted by this one: it is there.
    assert_eq!(setting.says("cuda:0", false, vec![seen], vec![gone]), Heard::Applied);
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

#[test]
fn what_is_in_ram_is_placed_early_and_the_rest_keeps_its_room() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let on = Placement::On(device("cuda:0"));
    let load = ask(wanted(1, &[(1, 4), (2, 5)]), on);
    let operation = setting.begun();
    setting.places_early(operation, load.clone(), &[]);
    assert_eq!(setting.state.residency().replica_count(), 0, "none of it is held");
    setting.places_early(operation, load.clone(), &[1]);
    let placed: Vec<_> = setting.state.residency().replicas().map(|one| one.digest).collect();
    assert_eq!(placed, [digest(1)]);
    assert_eq!(setting.state.residency().load(operation).unwrap().room, Bytes(5));
    let other = setting.loads(ask(wanted(3, &[(3, 2)]), on), 1).unwrap_err();
    assert_eq!(other.reason(), Reason::VramExhausted, "one byte is left");
    setting.catches_up("cuda:0");
    let Placed::On { parts, .. } = setting.places(operation, load).unwrap() else { panic!() };
    assert!(parts.iter().all(|part| !part.was_there), "this load has brought it: {parts:?}");
    assert_eq!(setting.state.residency().replica_count(), 2);
    setting.catches_up("cuda:0");
    setting.ends(operation, done(device("cuda:0")), 2);
    assert_eq!(setting.intended("cuda:0"), [model(1)]);
}

#[test]
fn what_was_placed_early_goes_with_a_load_that_fails() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let operation = setting.begun();
    let load = ask(wanted(1, &[(1, 4), (2, 5)]), Placement::On(device("cuda:0")));
    setting.places_early(operation, load, &[1]);
    setting.ends(operation, Outcome::Failed(Error::new(Reason::SourceUnreadable, "so it is")), 2);
    assert!(setting.state.residency().desired(device("cuda:0")).is_empty());
    setting.catches_up("cuda:0");
    assert_eq!(setting.state.residency().replica_count(), 0);
}

#[test]
fn nobody_makes_room_for_a_load_that_is_not_in_ram_yet() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let on = Placement::On(device("cuda:0"));
    setting.loads(ask(wanted(1, &[(1, 6)]), on), 1).unwrap();
    let operation = setting.begun();
    let load = LoadAsk { force: true, ..ask(wanted(2, &[(2, 3), (3, 3)]), on) };
    setting.places_early(operation, load.clone(), &[2]);
    assert_eq!(setting.state.residency().replica_count(), 1, "also what would fit waits for the rest");
    setting.places(operation, load).unwrap();
    assert_eq!(setting.state.residency().load(operation).unwrap().displaced, [model(1)]);
}

#[test]
fn what_a_displaced_model_shares_with_the_load_is_kept_for_it_too() {
    let mut setting = Setting::new(&[("cuda:0", 9)]);
    let on = Placement::On(device("cuda:0"));
    setting.loads(ask(wanted(1, &[(1, 5), (2, 2)]), on), 1).unwrap();
    let operation = setting.begun();
    // It shares the one of two, and makes the other go.
    let forced = LoadAsk { force: true, ..ask(wanted(2, &[(2, 2), (3, 3)]), on) };
    setting.places(operation, forced).unwrap();
    setting.catches_up("cuda:0");
    let other = setting.loads(ask(wanted(4, &[(4, 3)]), on), 2);
    assert_eq!(other.unwrap_err().reason(), Reason::VramExhausted);
    let smaller = setting.loads(ask(wanted(5, &[(5, 2)]), on), 2);
    setting.ends(operation, Outcome::Failed(Error::new(Reason::DeviceFailed, "so it is")), 3);
    setting.catches_up("cuda:0");
    setting.loads(ask(wanted(1, &[(1, 5), (2, 2)]), on), 4).unwrap();
    assert!(smaller.is_ok(), "{smaller:?}");
}

#[test]
fn two_who_were_displaced_and_come_back_at_once_stay() {
    let mut setting = Setting::new(&[("cuda:0", 20)]);
    let on = Placement::On(device("cuda:0"));
    setting.loads(ask(wanted(1, &[(1, 5)]), on), 1).unwrap();
    setting.loads(ask(wanted(2, &[(2, 5)]), on), 2).unwrap();
    let forced = setting.begun();
    setting.apply(&[Event::LoadAdmitted {
        id: forced,
        loading: Arc::new(Loading {
            device: device("cuda:0"),
            priority: Priority::Normal,
            room: Bytes(0),
            awaited: std::collections::BTreeSet::new(),
            displaced: vec![model(1), model(2)],
            parts: Vec::new(),
        }),
    }]);
    let both = [wanted(1, &[(1, 5)]), wanted(2, &[(2, 5)])].concat();
    setting.loads(ask(both, on), 3).unwrap();
    assert_eq!(setting.state.residency().load(forced).unwrap().displaced, []);
    setting.ends(forced, done(device("cuda:0")), 4);
    assert_eq!(setting.intended("cuda:0"), [model(1), model(2)]);
}

#[test]
fn as_few_as_needed_make_room_however_many_there_are() {
    let mut setting = Setting::new(&[("cuda:0", 100)]);
    let on = Placement::On(device("cuda:0"));
    for number in 1..=33 {
        setting.loads(ask(wanted(number, &[(number, 3)]), on), number.into()).unwrap();
    }
    let refused = |bytes| choose(&setting.state, &ask(wanted(40, &[(40, bytes)]), on), None).unwrap_err();
    assert_eq!(refused(101).metadata().get("evictable_bytes").map(String::as_str), Some("99"));
    for (bytes, made) in [(1, 0), (2, 1), (4, 1), (5, 2), (49, 16), (100, 33)] {
        let load = LoadAsk { force: true, ..ask(wanted(40, &[(40, bytes)]), on) };
        let offer = choose(&setting.state, &load, None).unwrap();
        let oldest: Vec<_> = (1..=made).map(model).collect();
        assert_eq!(offer.unload, oldest, "{bytes}");
    }
}

#[test]
fn what_is_being_loaded_is_unloaded_by_force_alone_and_then_for_good() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let on = Placement::On(device("cuda:0"));
    let operation = setting.begun_on(model(1), Principal::Uid(7));
    setting.places(operation, ask(wanted(1, &[(1, 3)]), on)).unwrap();
    let parts = vec![ModelPart { model: model(1), components: Vec::new() }];
    let out = |force| UnloadAsk { parts: parts.clone(), device: None, force };
    assert_eq!(unload(&setting.state, &out(false), now(0)).unwrap_err().reason(), Reason::InUse);
    let elsewhere = UnloadAsk { device: Some(device("cuda:1")), ..out(false) };
    assert_eq!(unload(&setting.state, &elsewhere, now(0)).unwrap().1, []);
    let (events, leaving) = unload(&setting.state, &out(true), now(0)).unwrap();
    assert!(events.contains(&Event::OperationCancelRequested { id: operation }), "{events:?}");
    assert!(leaving.len() == 1 && leaving.iter().all(|one| one.kept.is_none()), "{leaving:?}");
    setting.apply(&events);
    assert!(setting.state.residency().desired(device("cuda:0")).is_empty());
    setting.catches_up("cuda:0");
    // Its executor had seen everything there.
    setting.ends(operation, done(device("cuda:0")), 2);
    assert!(setting.intended("cuda:0").is_empty());
}

#[test]
fn what_is_durable_brings_with_it_what_follows_when_it_has_landed_alone() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let on = Placement::On(device("cuda:0"));
    setting.loads(ask(wanted(1, &[(1, 3)]), on), 1).unwrap();
    let operation = setting.begun();
    setting.places(operation, ask(wanted(2, &[(2, 3)]), on)).unwrap();
    setting.catches_up("cuda:0");
    let durable = |events: Vec<Event>| events.into_iter().filter(Event::is_durable).collect::<Vec<_>>();
    let apply = |setting: &mut Setting, events: Vec<Event>| {
        let events = landed(&setting.state, &durable(events));
        setting.apply(&events);
    };
    let ended = hoist_planner::finish(&setting.state, operation, done(device("cuda:0")), now(2));
    apply(&mut setting, ended);
    assert_eq!(setting.state.residency().unmet().count(), 0, "the second is wanted by its model");
    let wants: Vec<Want> = setting
        .state
        .residency()
        .replicas()
        .flat_map(|one| setting.state.residency().wants_of(one.id))
        .collect();
    assert_eq!(wants, [Want::Intent(model(1)), Want::Intent(model(2))]);
    let parts = vec![ModelPart { model: model(1), components: Vec::new() }];
    let (events, _) =
        unload(&setting.state, &UnloadAsk { parts, device: None, force: false }, now(0)).unwrap();
    apply(&mut setting, events);
    let desired = setting.state.residency().desired(device("cuda:0"));
    assert_eq!(desired.iter().map(|one| one.digest).collect::<Vec<_>>(), [digest(2)]);
    let events = cordon(&setting.state, device("cuda:0"), "so it is");
    apply(&mut setting, events);
    let refused = setting.loads(ask(wanted(3, &[(3, 1)]), on), 3).unwrap_err();
    assert_eq!(refused.reason(), Reason::DeviceCordoned);
    setting.loads(ask(wanted(2, &[(2, 3)]), on), 4).unwrap();
    let events = uncordon(&setting.state, device("cuda:0"), now(5));
    apply(&mut setting, events);
    setting.loads(ask(wanted(3, &[(3, 1)]), on), 6).unwrap();
}

#[test]
fn what_the_server_does_by_itself_takes_no_request_id() {
    let mut setting = Setting::new(&[]);
    setting.begun();
    assert_eq!(setting.state.request_count(), 0);
    setting.begun_on(model(1), Principal::Uid(7));
    assert_eq!(setting.state.request_count(), 1);
}

#[test]
fn what_was_placed_early_and_failed_is_not_tried_again_by_its_load() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let on = Placement::On(device("cuda:0"));
    let load = ask(wanted(1, &[(1, 4), (2, 5)]), on);
    let operation = setting.begun();
    setting.places_early(operation, load.clone(), &[1]);
    let id = setting.state.residency().replicas().next().unwrap().id;
    let failed = hoist_domain::ObservedReplica {
        failure: Some(ReplicaFailure::Device("so it is".to_owned())),
        ..setting.seen(id, ReplicaState::Failed)
    };
    setting.says("cuda:0", false, vec![failed], Vec::new());
    let Placed::On { parts, .. } = setting.places(operation, load.clone()).unwrap() else { panic!() };
    assert_eq!(parts.first().unwrap().replica, id, "its end is the load's");
    let next = setting.begun();
    let Placed::On { parts, .. } = setting.places(next, ask(wanted(1, &[(1, 4)]), on)).unwrap() else {
        panic!()
    };
    assert_ne!(parts.first().unwrap().replica, id, "another load is another attempt");
}

#[test]
fn what_does_not_fit_any_more_keeps_nobody_else_out() {
    let mut setting = Setting::new(&[("cuda:0", 20)]);
    let on = Placement::On(device("cuda:0"));
    let with = |number, bytes, priority| LoadAsk { priority, ..ask(wanted(number, &[(number, bytes)]), on) };
    for (number, bytes, priority) in [(1, 8, Priority::Low), (2, 4, Priority::Normal), (3, 7, Priority::High)]
    {
        setting.loads(with(number, bytes, priority), number.into()).unwrap();
    }
    let session = setting.state.devices().get(device("cuda:0")).unwrap().worker.session;
    let events = lost(&setting.state, device("cuda:0"), Whose::Session(session), "killed", now(4));
    setting.apply(&events);
    setting.serves("cuda:0", 12);
    // Eleven of twelve are kept for what matters most; the first has no place beside them.
    let other = setting.loads(with(4, 2, Priority::Critical), 5).unwrap_err();
    assert_eq!(other.reason(), Reason::VramExhausted);
    let first = setting.loads(with(1, 8, Priority::Low), 5).unwrap_err();
    assert_eq!(first.reason(), Reason::VramExhausted);
    setting.loads(with(2, 4, Priority::Normal), 6).unwrap();
    setting.loads(with(3, 7, Priority::High), 6).unwrap();
    setting.loads(with(4, 1, Priority::Critical), 7).unwrap();
    assert_eq!(setting.state.residency().unmet().count(), 1);
    // To let go of what is not there and has no place frees nothing.
    let forced = LoadAsk { force: true, ..with(5, 3, Priority::Normal) };
    let offer = choose(&setting.state, &forced, None).unwrap();
    assert_eq!(offer.unload, [model(2)]);
}

#[test]
fn what_a_worker_waited_for_and_nobody_knows_is_gone_with_its_next_full_word() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let id = ReplicaId(Uuid::from_u128(77));
    let waiting = hoist_domain::ObservedReplica {
        id,
        digest: digest(1),
        dtype: None,
        state: ReplicaState::Waiting,
        own: Bytes(0),
        mapped: Bytes(0),
        tensors: 0,
        load_time: None,
        failure: None,
    };
    assert_eq!(setting.says("cuda:0", true, vec![waiting], Vec::new()), Heard::Applied);
    assert_eq!(setting.state.residency().replica_count(), 1);
    assert_eq!(setting.says("cuda:0", true, Vec::new(), Vec::new()), Heard::Applied);
    assert_eq!(setting.state.residency().replica_count(), 0);
}
