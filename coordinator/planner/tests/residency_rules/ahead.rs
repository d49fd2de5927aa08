//! What is on its way to a device while its segment is still being filled.

use std::collections::BTreeSet;

use hoist_domain::{
    Bytes, Error, ModelType, ObservedReplica, OperationId, Outcome, Placement, Priority, Reason, ReplicaId,
    ReplicaState, SegmentName,
};
use hoist_planner::cache::{Facts, Part, Reservation, Sealing, complete, reserve};
use hoist_planner::residency::{Heard, Placed, Want};

use crate::setting::{Setting, ask, device, digest, done, model, now, wanted};

/// Not in RAM.
const COLD: u8 = 50;

fn on(name: &str) -> Placement {
    Placement::On(device(name))
}

/// An operation fills this content.
fn fills(setting: &mut Setting, operation: OperationId) {
    let name = SegmentName::Content(digest(COLD));
    let part =
        Part { name, source: name, bytes: Bytes(8), is_raw: false, component_type: ModelType::Unknown };
    let facts = Facts { budget: Bytes::gib(1), limit: String::new(), open: BTreeSet::new() };
    let ask =
        Reservation { operation, model: model(1), priority: Priority::Normal, parts: vec![part], facts };
    let (events, reserved) = reserve(&setting.state, &ask, now(1));
    setting.apply(&events);
    assert_eq!(reserved.unwrap().fill.len(), 1);
}

fn is_complete(setting: &mut Setting, operation: OperationId) {
    let sealing = Sealing { digest: digest(COLD), bytes: Bytes(8) };
    setting.apply(&complete(&setting.state, operation, &[sealing], now(1)));
}

fn replica(setting: &Setting) -> Option<ReplicaId> {
    setting.state.residency().replicas().next().map(|one| one.id)
}

/// So much of it has been taken, as its worker says.
fn loading(setting: &Setting, id: ReplicaId, own: u64) -> ObservedReplica {
    ObservedReplica { own: Bytes(own), ..setting.seen(id, ReplicaState::Loading) }
}

#[test]
fn what_its_operation_fills_is_placed_where_it_is_copied_and_told_again_when_it_is_complete() {
    let mut setting = Setting::new(&[("cuda:0", 10), ("cuda:1", 10)]);
    let operation = setting.begun();
    let load = ask(wanted(1, &[(COLD, 4)]), on("cuda:0"));
    setting.places_early(operation, load.clone(), &[COLD]);
    assert_eq!(replica(&setting), None, "nobody fills it");
    fills(&mut setting, operation);
    setting.places_early(operation, load.clone(), &[COLD]);
    let id = replica(&setting).unwrap();
    assert_eq!(setting.state.residency().desired(device("cuda:0")).len(), 1);
    assert_eq!(setting.says("cuda:0", false, vec![loading(&setting, id, 4)], Vec::new()), Heard::Applied);
    let (here, there) = (setting.generation("cuda:0"), setting.generation("cuda:1"));
    is_complete(&mut setting, operation);
    assert_eq!(setting.generation("cuda:0"), here + 1, "its worker is to hear of it");
    assert_eq!(setting.generation("cuda:1"), there, "and nobody else");
    let Placed::On { parts, .. } = setting.places(operation, load).unwrap() else { panic!() };
    assert_eq!((parts.first().unwrap().replica, parts.first().unwrap().was_there), (id, false));
    setting.catches_up("cuda:0");
    setting.ends(operation, done(device("cuda:0")), 2);
    assert_eq!(setting.intended("cuda:0"), [model(1)]);
}

#[test]
fn what_another_fills_or_is_mapped_or_converted_waits() {
    let mut setting = Setting::new(&[("cuda:0", 10), ("cpu:0", 10)]);
    let (operation, other) = (setting.begun(), setting.begun());
    fills(&mut setting, operation);
    setting.places_early(other, ask(wanted(1, &[(COLD, 4)]), on("cuda:0")), &[COLD]);
    assert_eq!(replica(&setting), None, "it may come to nothing, and nobody would say so to this one");
    setting.places_early(operation, ask(wanted(1, &[(COLD, 4)]), on("cpu:0")), &[COLD]);
    assert_eq!(replica(&setting), None, "it is its segment");
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let operation = setting.begun();
    fills(&mut setting, operation);
    let mut converted = wanted(1, &[(COLD, 4)]);
    converted.first_mut().unwrap().dtype = Some(hoist_domain::Dtype::F16);
    setting.places_early(operation, ask(converted, on("cuda:0")), &[COLD]);
    assert_eq!(replica(&setting), None);
}

#[test]
fn what_comes_to_nothing_goes_with_its_operation() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let operation = setting.begun();
    fills(&mut setting, operation);
    setting.places_early(operation, ask(wanted(1, &[(COLD, 4)]), on("cuda:0")), &[COLD]);
    let id = replica(&setting).unwrap();
    assert_eq!(setting.says("cuda:0", false, vec![loading(&setting, id, 4)], Vec::new()), Heard::Applied);
    setting.ends(operation, Outcome::Failed(Error::new(Reason::SourceUnreadable, "so it is")), 2);
    assert!(setting.state.residency().desired(device("cuda:0")).is_empty());
    // It says so once more before it has heard that.
    let before = setting.generation("cuda:0") - 1;
    let still = vec![loading(&setting, id, 4)];
    assert_eq!(setting.says_of("cuda:0", before, still, Vec::new()), Heard::Applied);
    // Somebody else fills it meanwhile, and is not kept from it.
    let other = setting.begun();
    fills(&mut setting, other);
    is_complete(&mut setting, other);
    setting.loses("cuda:0");
    assert_eq!(setting.state.residency().replica_count(), 0);
    setting.loads(ask(wanted(1, &[(COLD, 4)]), on("cuda:0")), 3).unwrap();
}

/// What its worker has taken for it is not among what it says is free: it does not count twice.
#[test]
fn what_is_taken_already_counts_once() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let operation = setting.begun();
    fills(&mut setting, operation);
    setting.places_early(operation, ask(wanted(1, &[(COLD, 4)]), on("cuda:0")), &[COLD]);
    let id = replica(&setting).unwrap();
    assert_eq!(setting.says("cuda:0", false, vec![loading(&setting, id, 4)], Vec::new()), Heard::Applied);
    setting.loads(ask(wanted(2, &[(1, 6)]), on("cuda:0")), 1).unwrap();
    let refused = setting.loads(ask(wanted(3, &[(2, 1)]), on("cuda:0")), 1).unwrap_err();
    assert_eq!(refused.reason(), Reason::VramExhausted);
}

/// A server that starts finds a worker in the middle of what nobody fills any more: it is not what an intent waits for.
#[test]
fn half_of_what_nobody_fills_any_more_is_not_taken_over() {
    for is_in_ram in [false, true] {
        let mut setting = Setting::new(&[("cuda:0", 10)]);
        let content = if is_in_ram { 1 } else { COLD };
        if !is_in_ram {
            setting.cached(COLD);
        }
        setting.loads(ask(wanted(1, &[(content, 4)]), on("cuda:0")), 1).unwrap();
        let id = replica(&setting).unwrap();
        let half = loading(&setting, id, 4);
        setting.loses("cuda:0");
        if !is_in_ram {
            setting.evicts(COLD);
        }
        assert_eq!(setting.says("cuda:0", true, vec![half], Vec::new()), Heard::Applied);
        let wants: Vec<Want> = setting.state.residency().wants_of(id).collect();
        assert_eq!(!wants.is_empty(), is_in_ram, "{wants:?}");
    }
}
