//! Leases on devices.

use std::sync::Arc;

use hoist_domain::{
    Bytes, DeviceFacts, Lease, LeaseId, LeaseState, LeasedOn, ModelPart, Placement, Principal, Priority,
    Reason, ReplicaId, ReplicaState, WallTime,
};
use hoist_planner::Event;
use hoist_planner::cache::{LeaseAsk, grant};
use hoist_planner::devices::{Whose, lost};
use hoist_planner::residency::{LoadAsk, UnloadAsk, choose, unload};
use uuid::Uuid;

use crate::setting::{Setting, ask, device, model, now, wanted};

/// A device with model 1 (contents 1 and 2) on it, and model 2 that shares content 2.
fn loaded() -> Setting {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let on = Placement::On(device("cuda:0"));
    setting.loads(ask(wanted(1, &[(1, 3), (2, 2)]), on), 1).unwrap();
    setting.loads(ask(wanted(2, &[(3, 1), (2, 2)]), on), 2).unwrap();
    setting
}

/// The replicas of a model on the device.
fn replicas(setting: &Setting, of: u8) -> Vec<ReplicaId> {
    setting.state.residency().wanted_by_intent(model(of)).map(|one| one.id).collect()
}

fn lease(number: u128, on: &str, replicas: Vec<ReplicaId>) -> LeaseAsk {
    let lease = Lease {
        id: LeaseId(Uuid::from_u128(number)),
        state: LeaseState::Held,
        model: model(1),
        components: Vec::new(),
        on: Some(LeasedOn { device: device(on), replicas }),
        bytes: Bytes(0),
        holder: "a trainer".to_owned(),
        principal: Principal::Uid(7),
        process: None,
        granted_at: WallTime(0),
    };
    LeaseAsk { lease, priority: Priority::Normal, is_use: true }
}

/// It is granted.
fn held(setting: &mut Setting, number: u128, replicas: Vec<ReplicaId>) {
    let events = grant(&setting.state, &lease(number, "cuda:0", replicas), now(3)).unwrap().unwrap();
    setting.apply(&events);
}

fn out(of: u8, force: bool) -> UnloadAsk {
    let parts = vec![ModelPart { model: model(of), components: Vec::new() }];
    UnloadAsk { parts, device: None, force }
}

fn ended(events: &[Event]) -> Vec<u128> {
    let ended = |event: &Event| match event {
        Event::LeaseEnded { id, revoked: Some(_), .. } => Some(id.0.as_u128()),
        _ => None,
    };
    events.iter().filter_map(ended).collect()
}

#[test]
fn only_what_can_be_used_and_is_kept_can_be_leased() {
    let mut setting = loaded();
    let there = replicas(&setting, 1);
    let refused = |setting: &Setting, ask: &LeaseAsk| grant(&setting.state, ask, now(3)).unwrap().is_none();
    assert!(refused(&setting, &lease(1, "cuda:1", there.clone())), "it is on another device");
    assert!(refused(&setting, &lease(1, "cuda:0", vec![ReplicaId(Uuid::from_u128(99))])));
    let operation = setting.begun();
    setting.places(operation, ask(wanted(3, &[(4, 1)]), Placement::On(device("cuda:0")))).unwrap();
    let coming = setting.state.residency().wanted_by_operation(operation).next().unwrap().1;
    assert!(refused(&setting, &lease(1, "cuda:0", vec![coming])), "it is not there yet");
    setting.catches_up("cuda:0");
    assert_eq!(setting.state.residency().replica(coming).unwrap().state, ReplicaState::Active);
    assert!(refused(&setting, &lease(1, "cuda:0", vec![coming])), "it is there for an operation alone");
    held(&mut setting, 1, there);
    let lease = setting.state.cache().leases().next().unwrap();
    assert_eq!((lease.bytes, lease.segments().len()), (Bytes(5), 0), "it holds nothing in RAM");
}

#[test]
fn what_is_leased_stays_unless_by_force_and_then_its_holders_are_told() {
    let mut setting = loaded();
    let there = replicas(&setting, 1);
    held(&mut setting, 1, there.clone());
    held(&mut setting, 2, there);
    let refused = unload(&setting.state, &out(1, false), now(4)).unwrap_err();
    assert_eq!(refused.reason(), Reason::InUse);
    assert!(refused.message().contains("a trainer"), "{refused}");
    // What the other model shares goes on being there for the first.
    for force in [false, true] {
        let (events, leaving) = unload(&setting.state, &out(2, force), now(4)).unwrap();
        assert_eq!(ended(&events), []);
        assert_eq!(leaving.iter().filter(|one| one.kept.is_some()).count(), 1);
    }
    let (events, _) = unload(&setting.state, &out(1, true), now(4)).unwrap();
    assert_eq!(ended(&events), [1, 2]);
    // Also on what the other model keeps: nobody would keep it for this one.
    let shared = replicas(&setting, 2).into_iter().filter(|id| replicas(&setting, 1).contains(id)).collect();
    held(&mut setting, 3, shared);
    let (events, _) = unload(&setting.state, &out(1, true), now(4)).unwrap();
    assert_eq!(ended(&events), [1, 2, 3]);
    setting.apply(&events);
    assert_eq!(setting.state.cache().lease_count(), 0);
}

#[test]
fn nobody_makes_room_by_what_is_leased() {
    let mut setting = loaded();
    let there = replicas(&setting, 1);
    held(&mut setting, 1, there);
    let on = Placement::On(device("cuda:0"));
    let load = |bytes| LoadAsk { force: true, ..ask(wanted(5, &[(5, bytes)]), on) };
    // Model 2 has one byte of its own.
    assert_eq!(choose(&setting.state, &load(5), None).unwrap().unload, [model(2)]);
    assert_eq!(choose(&setting.state, &load(6), None).unwrap_err().reason(), Reason::VramExhausted);
    setting.apply(&[Event::LeaseEnded {
        id: LeaseId(Uuid::from_u128(1)),
        at: now(4).service,
        revoked: None,
    }]);
    assert!(choose(&setting.state, &load(6), None).is_ok());
}

/// W3.
#[test]
fn a_worker_that_ends_or_has_lost_something_ends_the_leases_on_it() {
    let mut setting = loaded();
    let there = replicas(&setting, 1);
    held(&mut setting, 1, there[..1].to_vec());
    held(&mut setting, 2, there[1..].to_vec());
    let session = setting.state.devices().get(device("cuda:0")).unwrap().worker.session;
    let events = lost(&setting.state, device("cuda:0"), Whose::Session(session), "it was killed", now(5));
    assert_eq!(ended(&events), [1, 2]);

    let before = setting.state.clone();
    let kept: Vec<_> = there[1..].iter().map(|id| setting.seen(*id, ReplicaState::Active)).collect();
    setting.says("cuda:0", true, kept, Vec::new());
    let left: Vec<_> = setting.state.cache().leases().map(|lease| lease.id.0.as_u128()).collect();
    assert_eq!(left, [2], "it does not have the first any more");
    assert_eq!(before.cache().lease_count(), 2);
    // By the word that it is gone alone, too.
    setting.loses("cuda:0");
    assert_eq!(setting.state.cache().lease_count(), 0);
}

/// What the planner counts is what the card takes.
#[test]
fn a_device_that_gives_memory_in_pieces_is_planned_in_pieces() {
    let facts = DeviceFacts {
        id: device("cuda:0"),
        model: String::new(),
        capacity: Bytes(100),
        maps_segments: false,
        granule: Bytes(16),
        alignment: Bytes(4),
        bus: Bytes(0),
        node: None,
        dtypes: Vec::new(),
        libraries: Vec::new(),
    };
    let takes = |bytes, tensors| facts.takes(Bytes(bytes), tensors).0;
    assert_eq!([takes(0, 0), takes(1, 1), takes(13, 1), takes(14, 1), takes(16, 0)], [0, 16, 16, 32, 16]);
    assert_eq!(takes(u64::MAX, 9), u64::MAX);
    let mut setting = Setting::new(&[("cuda:0", 100)]);
    let device_now = setting.state.devices().get(device("cuda:0")).unwrap();
    let changed = hoist_domain::Device { facts: Some(facts), ..hoist_domain::Device::clone(device_now) };
    setting.apply(&[Event::DeviceChanged(Arc::new(changed))]);
    let offer = choose(&setting.state, &ask(wanted(1, &[(1, 3), (2, 17)]), Placement::Any), None).unwrap();
    assert_eq!(offer.needed, Bytes(16 + 32));
}
