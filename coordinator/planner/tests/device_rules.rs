//! Who drives a device: every order in which workers come, speak, fall silent and end.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use hoist_domain::{
    Bytes, Device, DeviceFacts, DeviceId, DeviceMemory, DeviceState, Epoch, Generation, Incarnation, Machine,
    MachineState, Position, Reason, Revision, ServiceTime, WallTime, WorkerId, WorkerState,
};
use hoist_planner::devices::{
    MOST_DEVICES, Registration, Whose, heard, lost, observed, quarantine, register, silent, starting,
};
use hoist_planner::residency::{Heard, Report};
use hoist_planner::{Event, Moment, State};
use proptest::prelude::*;
use uuid::Uuid;

const EPOCH: Epoch = Epoch(7);
const NOW: Moment = Moment { wall: WallTime(1), service: ServiceTime(1) };

fn state() -> State {
    let machine = Machine {
        state: MachineState::Serving,
        version: String::new(),
        process_id: 1,
        started_at: WallTime(0),
        measurements: Vec::new(),
    };
    State::restore(Position { epoch: EPOCH, revision: Revision(1) }, machine, [], [], [])
}

fn id(number: u16) -> DeviceId {
    format!("cuda:{number}").parse().unwrap()
}

fn incarnation(number: u8) -> Incarnation {
    Incarnation(Uuid::from_u128(number.into()))
}

fn ask(device: u16, number: u8) -> Registration {
    Registration {
        worker: WorkerId(Uuid::from_u128(1)),
        incarnation: incarnation(number),
        session: number.into(),
        facts: DeviceFacts {
            id: id(device),
            model: "scripted".to_owned(),
            capacity: Bytes::gib(1),
            maps_segments: false,
            granule: Bytes(0),
            alignment: Bytes(0),
            bus: Bytes(0),
            node: None,
            dtypes: Vec::new(),
            libraries: Vec::new(),
        },
        process: Some(u32::from(number)),
        release: "1".to_owned(),
        taken: None,
    }
}

fn memory(used: u64) -> DeviceMemory {
    DeviceMemory { used: Bytes(used), ..DeviceMemory::default() }
}

/// The state after these events, and the device then.
fn after(state: &mut State, events: &[Event]) -> Device {
    state.apply(events);
    Device::clone(state.devices().get(id(0)).unwrap())
}

/// What a worker of no replicas says of its memory, after it has said so once.
fn hears(state: &State, session: u64, memory: DeviceMemory) -> (Vec<Event>, bool) {
    let nothing = Report {
        is_full: false,
        answers: None,
        replicas: Vec::new(),
        removed: Vec::new(),
        problem: String::new(),
    };
    let (events, heard) = observed(state, id(0), session, memory, &nothing, NOW);
    (events, heard == Heard::Applied)
}

fn registered(state: &mut State, number: u8) -> Device {
    let events = register(state, &ask(0, number), EPOCH, NOW).unwrap();
    after(state, &events)
}

fn active(state: &mut State, number: u8) -> Device {
    registered(state, number);
    let (events, is_it) = hears(state, number.into(), memory(5));
    assert!(is_it);
    after(state, &events)
}

#[test]
fn a_device_is_open_once_its_worker_has_said_what_is_on_it() {
    let mut state = state();
    let device = registered(&mut state, 1);
    assert_eq!((device.state, device.worker.state), (DeviceState::Lost, WorkerState::Registered));
    let device = active(&mut state, 1);
    assert_eq!((device.state, device.worker.state), (DeviceState::Open, WorkerState::Active));
    assert_eq!(device.memory, memory(5));
    let (events, is_it) = hears(&state, 1, memory(5));
    assert!(is_it && events.is_empty(), "nothing new is no change");
}

#[test]
fn a_device_has_one_worker_and_the_same_one_may_come_back() {
    let mut state = state();
    active(&mut state, 1);
    let refused = register(&state, &ask(0, 2), EPOCH, NOW).unwrap_err();
    assert_eq!(refused.reason(), Reason::DeviceTaken);
    assert!(!hears(&state, 2, memory(9)).1, "nobody hears the other");
    let back = registered(&mut state, 1);
    assert_eq!((back.state, back.memory), (DeviceState::Open, memory(5)), "what it has is what it had");
    let events = lost(&state, id(0), Whose::Session(1), "gone", NOW);
    after(&mut state, &events);
    assert_eq!(active(&mut state, 2).worker.incarnation, Some(incarnation(2)));
}

#[test]
fn silence_is_no_loss_and_what_is_lost_is_gone() {
    let mut state = state();
    active(&mut state, 1);
    let events = silent(&state, id(0), 1, "quiet", NOW);
    let device = after(&mut state, &events);
    assert_eq!((device.state, device.worker.state), (DeviceState::Open, WorkerState::Suspect));
    assert_eq!((device.memory, device.worker.problem.as_str()), (memory(5), "quiet"));
    let events = heard(&state, id(0), 1, NOW);
    let device = after(&mut state, &events);
    assert_eq!((device.worker.state, device.worker.problem.as_str()), (WorkerState::Active, ""));
    for stranger in [
        silent(&state, id(0), 2, "quiet", NOW),
        lost(&state, id(0), Whose::Session(2), "gone", NOW),
        lost(&state, id(1), Whose::Child(None), "gone", NOW),
        lost(&state, id(0), Whose::Child(Some(99)), "gone", NOW),
        quarantine(&state, id(0), "words", NOW),
    ] {
        assert_eq!(stranger, [], "it is not the one");
    }
    let events = lost(&state, id(0), Whose::Child(Some(1)), "gone", NOW);
    let device = after(&mut state, &events);
    assert_eq!((device.state, device.worker.state), (DeviceState::Lost, WorkerState::Lost));
    assert_eq!((device.memory, device.worker.process), (DeviceMemory::default(), None));
}

#[test]
fn a_worker_that_was_driven_later_or_has_failed_too_often_is_not_taken() {
    let mut state = state();
    let ahead =
        Registration { taken: Some(Generation { epoch: Epoch(EPOCH.0 + 1), number: 1 }), ..ask(0, 1) };
    assert_eq!(register(&state, &ahead, EPOCH, NOW).unwrap_err().reason(), Reason::GenerationAhead);
    let same = Registration { taken: Some(Generation { epoch: EPOCH, number: 9 }), ..ask(0, 1) };
    let events = register(&state, &same, EPOCH, NOW).unwrap();
    after(&mut state, &events);
    let events = lost(&state, id(0), Whose::Session(1), "gone", NOW);
    after(&mut state, &events);
    let events = quarantine(&state, id(0), "words", NOW);
    let device = after(&mut state, &events);
    assert_eq!((device.state, device.worker.state), (DeviceState::Lost, WorkerState::Quarantined));
    let refused = register(&state, &ask(0, 2), EPOCH, NOW).unwrap_err();
    assert!(
        refused.reason() == Reason::WorkerQuarantined && refused.message().contains("words"),
        "{refused}"
    );
}

#[test]
fn who_is_started_again_is_counted_and_who_came_by_itself_is_left_alone() {
    let mut state = state();
    for restarts in 0..3 {
        let events = starting(&state, id(0), NOW);
        let device = after(&mut state, &events);
        assert_eq!((device.worker.restarts, device.worker.is_supervised), (restarts, true));
        assert_eq!(device.worker.state, WorkerState::Connecting);
    }
    active(&mut state, 1);
    assert_eq!(starting(&state, id(0), NOW), [], "it is driven");
}

#[test]
fn there_are_no_more_devices_than_a_machine_can_have() {
    let mut state = state();
    for number in 0..u16::try_from(MOST_DEVICES).unwrap() {
        let events = register(&state, &ask(number, 1), EPOCH, NOW).unwrap();
        state.apply(&events);
    }
    let one_more = u16::try_from(MOST_DEVICES).unwrap();
    assert_eq!(register(&state, &ask(one_more, 1), EPOCH, NOW).unwrap_err().reason(), Reason::Overloaded);
    register(&state, &ask(0, 1), EPOCH, NOW).unwrap();
}

#[derive(Clone, Copy, Debug)]
enum Word {
    Starting,
    Register(u8),
    Observed(u8, u64),
    Silent(u8),
    Heard(u8),
    Lost(Option<u8>),
    Quarantine,
}

fn word() -> impl Strategy<Value = Word> {
    let who = || 1..4_u8;
    prop_oneof![
        2 => Just(Word::Starting),
        6 => who().prop_map(Word::Register),
        6 => (who(), 0..3_u64).prop_map(|(who, used)| Word::Observed(who, used)),
        3 => who().prop_map(Word::Silent),
        3 => who().prop_map(Word::Heard),
        3 => prop::option::of(who()).prop_map(Word::Lost),
        1 => Just(Word::Quarantine),
    ]
}

proptest! {
    /// Whatever is said by whom in which order: `apply` takes it, one incarnation drives, and nobody else changes anything.
    #[test]
    fn every_history_of_a_device_is_legal(words in prop::collection::vec(word(), 1..60)) {
        let mut state = state();
        for word in words {
            let before = state.devices().get(id(0)).map(|device| Device::clone(device));
            let driver = before.as_ref().and_then(|device| {
                use WorkerState::{Active, Registered, Suspect};
                let is_driven = matches!(device.worker.state, Active | Registered | Suspect);
                device.worker.incarnation.filter(|_| is_driven)
            });
            let by = |who: u8| driver == Some(incarnation(who));
            let (events, may_change) = match word {
                Word::Starting => (starting(&state, id(0), NOW), driver.is_none()),
                Word::Register(who) => {
                    let is_free = driver.is_none() || by(who);
                    (register(&state, &ask(0, who), EPOCH, NOW).unwrap_or_default(), is_free)
                }
                Word::Observed(who, used) => {
                    let (events, is_it) = hears(&state, who.into(), memory(used));
                    prop_assert_eq!(is_it, by(who));
                    (events, by(who))
                }
                Word::Silent(who) => (silent(&state, id(0), who.into(), "", NOW), by(who)),
                Word::Heard(who) => (heard(&state, id(0), who.into(), NOW), by(who)),
                Word::Lost(who) => {
                    let whose = who.map_or(Whose::Child(Some(1)), |who| Whose::Session(who.into()));
                    let is_it = driver.is_none() || by(who.unwrap_or(1));
                    (lost(&state, id(0), whose, "", NOW), is_it)
                }
                Word::Quarantine => (quarantine(&state, id(0), "", NOW), driver.is_none()),
            };
            prop_assert!(may_change || events.is_empty(), "{word:?} of a stranger: {events:?}");
            state.apply(&events);
            if let Some(device) = state.devices().get(id(0)) {
                let is_there = matches!(device.worker.state, WorkerState::Active | WorkerState::Suspect);
                prop_assert!(device.state != DeviceState::Open || is_there || device.worker.state == WorkerState::Registered);
            }
        }
    }
}
