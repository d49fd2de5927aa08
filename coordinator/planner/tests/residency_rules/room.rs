//! Whose room is whose.

use hoist_domain::{Bytes, ModelPart, Placement};
use hoist_planner::residency::{LoadAsk, UnloadAsk, free, unload};

use crate::setting::{Setting, ask, device, model, now, wanted};

/// What a forced load has let go counts as free once: those that have made room for it still need theirs.
#[test]
fn what_was_displaced_keeps_its_room_when_the_load_that_displaced_it_lets_go() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let card = device("cuda:0");
    let on = Placement::On(card);
    setting.loads(ask(wanted(1, &[(1, 5)]), on), 1).unwrap();
    let operation = setting.begun_on(model(2), hoist_domain::Principal::Uid(7));
    setting.places(operation, LoadAsk { force: true, ..ask(wanted(2, &[(2, 8)]), on) }).unwrap();
    assert_eq!(setting.state.residency().load(operation).unwrap().displaced, [model(1)]);
    let parts = vec![ModelPart { model: model(2), components: Vec::new() }];
    let (events, _) =
        unload(&setting.state, &UnloadAsk { parts, device: None, force: true }, now(2)).unwrap();
    setting.apply(&events);
    assert!(setting.state.residency().load(operation).is_some(), "its executor has not ended it yet");
    assert_eq!(free(&setting.state, card, None, &[]), Bytes(5));
    setting.catches_up("cuda:0");
    assert_eq!(free(&setting.state, card, None, &[]), Bytes(5));
}

/// What a running load has room for is not owed to an intent as well.
#[test]
fn what_is_on_its_way_for_one_and_owed_to_another_takes_room_once() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let card = device("cuda:0");
    let on = Placement::On(card);
    setting.loads(ask(wanted(1, &[(1, 3), (2, 5)]), on), 1).unwrap();
    setting.loses("cuda:0");
    assert_eq!(free(&setting.state, card, None, &[]), Bytes(2), "it comes back");
    let operation = setting.begun();
    let shared = ask(wanted(2, &[(2, 5)]), on);
    let (events, _) = hoist_planner::residency::admit(&setting.state, operation, &shared).unwrap();
    setting.apply(&events);
    assert_eq!(free(&setting.state, card, None, &[]), Bytes(2), "the same five bytes");
}
