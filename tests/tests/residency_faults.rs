//! What goes wrong on a device, and with the worker that drives it: each load ends with a reason, whoever had nothing to do with
//! it keeps or gets back what it had, and nothing of what failed stays.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use hoist_tests::caching::{cache, counts_are_true, evict};
use hoist_tests::library::{Library, Open, reason};
use hoist_tests::loading::{
    Played, Stage, begin, device, devices_are_true, is_open, load, load_as, loaded, mapped, pipeline,
    replicas, residency, single, staged, unload, until_open, worker,
};
use hoist_tests::{Channels, Mirror, loading};
use hoist_wire::status::Failure;
use hoist_wire::v1;
use hoist_wire::v1::replica::State;
use hoist_wire::worker as wire;
use hoist_wire::worker::session_response::Message as Told;
use rustix::process::{Pid, Signal, kill_process};
use tonic::Status;
use uuid::Uuid;

const FAKE: &str = env!("CARGO_BIN_EXE_hoist-fake-worker");
const CARD: &str = "cuda:0";

/// Three models of two mebibytes, and a scripted card.
async fn card(lines: &[&str]) -> (Library, Stage, Open) {
    let (library, stage) = staged(FAKE, "cuda:0=64MiB").unwrap();
    for (name, value) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
        single(&library, name, value, 2).unwrap();
    }
    stage.next_loads(CARD, lines).unwrap();
    let mut open = library.open().await.unwrap();
    until_open(&mut open, &[CARD]).await.unwrap();
    (library, stage, open)
}

fn ask(name: &str) -> v1::LoadModelRequest {
    v1::LoadModelRequest { name: name.to_owned(), ..Default::default() }
}

fn signal(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), signal).unwrap();
}

fn states(mirror: &Mirror) -> Vec<State> {
    mirror.replicas().map(v1::Replica::state).collect()
}

/// A load of this model that hangs on the device.
async fn hanging(open: &mut Open, stage: &Stage, request: v1::LoadModelRequest) -> String {
    open.watch.catch_up(&open.at).await.unwrap();
    let operation = begin(&open.at, request).await.unwrap();
    let loads = |mirror: &Mirror| states(mirror).contains(&State::Loading);
    open.watch.until("a load under way", loads).await.unwrap();
    stage.until_taken(CARD).await.unwrap();
    operation
}

/// Segments of the models that are on a device.
async fn contents(at: &Channels) -> Vec<String> {
    let mut contents: Vec<String> =
        replicas(at).await.unwrap().into_iter().map(|replica| replica.segment).collect();
    contents.sort();
    contents
}

/// W1, W2: what was loaded comes back, what was being loaded does not.
#[tokio::test]
async fn a_load_whose_worker_is_killed_fails_and_leaves_nothing_and_the_next_worker_has_the_rest() {
    let (library, stage, mut open) = card(&["well", "hang"]).await;
    load(&open.at, "a", &[]).await.unwrap();
    let before = contents(&open.at).await;
    let operation = hanging(&mut open, &stage, ask("b")).await;
    let kept = evict(&open.at, "b").await.unwrap();
    assert!(kept.segments.iter().all(|one| !one.evicted), "it is being loaded from there: {kept:?}");
    let first = worker(&open.watch.mirror, CARD);
    signal(first.process_id, Signal::KILL);
    let failed = loaded(&open.at, &operation).await.unwrap_err();
    assert_eq!(reason(&failed), "WORKER_LOST", "{failed:?}");
    // All that was there went in one revision: nobody has seen some of it without a worker.
    let lost = |mirror: &Mirror| !is_open(mirror, CARD);
    open.watch.until("its end", lost).await.unwrap();
    assert_eq!(states(&open.watch.mirror), [], "gone with its worker");
    assert!(evict(&open.at, "b").await.unwrap().segments.iter().all(|one| one.evicted), "nobody holds it");
    let is_back = |mirror: &Mirror| is_open(mirror, CARD) && states(mirror) == [State::Active];
    open.watch.until("what was there before", is_back).await.unwrap();
    assert!(worker(&open.watch.mirror, CARD).incarnation != first.incarnation);
    assert_eq!(contents(&open.at).await, before);
    devices_are_true(&library, &mut open).await.unwrap();
    // And asked for again, it is loaded.
    load(&open.at, "b", &[]).await.unwrap();
    devices_are_true(&library, &mut open).await.unwrap();
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
}

/// W7.
#[tokio::test]
async fn a_device_that_has_no_room_or_fails_ends_the_load_alone() {
    let (library, _stage, mut open) = card(&["well", "no-memory 2097152 4096", "device it is too hot"]).await;
    load(&open.at, "a", &[]).await.unwrap();
    let first = worker(&open.watch.mirror, CARD);
    let there = replicas(&open.at).await.unwrap();
    let full = Failure::from(&load(&open.at, "b", &[]).await.unwrap_err());
    assert_eq!(full.reason, "VRAM_EXHAUSTED", "{full:?}");
    let said = |key: &str| full.metadata.get(key).cloned().unwrap_or_default();
    assert_eq!((said("needed_bytes"), said("free_bytes")), ("2097152".to_owned(), "4096".to_owned()));
    let hot = load(&open.at, "b", &[]).await.unwrap_err();
    assert_eq!(reason(&hot), "DEVICE_FAILED");
    assert!(hot.message().contains("it is too hot"), "{}", hot.message());
    open.watch.catch_up(&open.at).await.unwrap();
    open.watch.until("the failed one's end", |mirror| states(mirror) == [State::Active]).await.unwrap();
    assert_eq!(replicas(&open.at).await.unwrap(), there, "nobody else has noticed");
    devices_are_true(&library, &mut open).await.unwrap();
    load(&open.at, "b", &[]).await.unwrap();
    assert_eq!(worker(&open.watch.mirror, CARD), first, "it stays");
    devices_are_true(&library, &mut open).await.unwrap();
}

/// W9: the worker ends, and its successor has what was there.
#[tokio::test]
async fn a_device_that_cannot_go_on_fails_the_load_and_is_driven_by_another_worker() {
    let (library, _stage, mut open) = card(&["well", "poison"]).await;
    load(&open.at, "a", &[]).await.unwrap();
    // What is still read when its worker ends would go to the next one.
    cache(&open.at, "b", &[]).await.unwrap();
    let failed = load(&open.at, "b", &[]).await.unwrap_err();
    assert_eq!(reason(&failed), "WORKER_LOST", "{failed:?}");
    let is_back = |mirror: &Mirror| {
        worker(mirror, CARD).restarts == 1 && is_open(mirror, CARD) && states(mirror) == [State::Active]
    };
    open.watch.until("what was there before", is_back).await.unwrap();
    devices_are_true(&library, &mut open).await.unwrap();
}

#[tokio::test]
async fn what_a_device_does_not_give_back_is_told_of() {
    let (_library, _stage, mut open) = card(&["retain 4096"]).await;
    let report = load(&open.at, "a", &[]).await.unwrap();
    let taken: u64 = report.components.iter().map(|one| one.own_bytes).sum();
    let gone = unload(&open.at, "a", &[]).await.unwrap();
    assert_eq!(
        (gone.expected_bytes, gone.returned_bytes, gone.retained_bytes),
        (taken, taken - 4096, 4096),
        "{gone:?}"
    );
    open.watch.catch_up(&open.at).await.unwrap();
    assert_eq!(device(&open.at, CARD).await.unwrap().used_bytes, 4096, "it is not free");
    // Of what goes with its process the kernel takes back everything.
    signal(worker(&open.watch.mirror, CARD).process_id, Signal::KILL);
    let next = |mirror: &Mirror| worker(mirror, CARD).restarts == 1 && is_open(mirror, CARD);
    open.watch.until("the next worker", next).await.unwrap();
    assert_eq!(device(&open.at, CARD).await.unwrap().used_bytes, 0);
}

/// W4.
#[tokio::test]
async fn a_worker_that_hangs_is_told_of_and_once_nobody_waits_for_it_replaced() {
    let (library, stage, mut open) = card(&["well", "hang"]).await;
    load(&open.at, "a", &[]).await.unwrap();
    let first = worker(&open.watch.mirror, CARD);
    let deadline = Some(prost_types::Duration { seconds: 8, nanos: 0 });
    let operation = hanging(&mut open, &stage, v1::LoadModelRequest { deadline, ..ask("b") }).await;
    let slow = |mirror: &Mirror| !worker(mirror, CARD).problem.is_empty();
    open.watch.until("a word of that", slow).await.unwrap();
    let said = worker(&open.watch.mirror, CARD);
    assert_eq!((said.state(), &said.incarnation), (v1::worker::State::Active, &first.incarnation));
    assert!(said.problem.contains("no progress"), "{said:?}");
    let failed = loaded(&open.at, &operation).await.unwrap_err();
    assert_eq!(reason(&failed), "DEADLINE_EXCEEDED", "{failed:?}");
    let is_back = |mirror: &Mirror| {
        worker(mirror, CARD).restarts == 1 && is_open(mirror, CARD) && states(mirror) == [State::Active]
    };
    open.watch.until("another one with what was there", is_back).await.unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{}", first.process_id)).exists(), "it hangs still");
    devices_are_true(&library, &mut open).await.unwrap();
    assert!(evict(&open.at, "b").await.unwrap().segments.iter().all(|one| one.evicted));
}

/// The real one, whose memory is what it has mapped.
#[tokio::test]
async fn what_was_mapped_is_mapped_again_by_the_next_worker_though_its_file_is_gone_from_the_disk() {
    let library = loading::library("cpu:0=64MiB").unwrap();
    let file = single(&library, "a", 1.0, 2).unwrap();
    let mut open = library.open().await.unwrap();
    until_open(&mut open, &["cpu:0"]).await.unwrap();
    load(&open.at, "a", &[]).await.unwrap();
    let first = worker(&open.watch.mirror, "cpu:0");
    let before = mapped(&library, first.process_id).unwrap();
    std::fs::remove_file(file).unwrap();
    signal(first.process_id, Signal::KILL);
    let is_back = |mirror: &Mirror| {
        worker(mirror, "cpu:0").restarts == 1 && is_open(mirror, "cpu:0") && states(mirror) == [State::Active]
    };
    open.watch.until("it back", is_back).await.unwrap();
    devices_are_true(&library, &mut open).await.unwrap();
    assert_eq!(mapped(&library, worker(&open.watch.mirror, "cpu:0").process_id).unwrap(), before);
}

fn replica(id: Uuid, digest: &str, state: wire::ReplicaState, own_bytes: u64) -> wire::ObservedReplica {
    let (replica, digest) = (id.to_string(), digest.to_owned());
    wire::ObservedReplica { replica, digest, state: state.into(), own_bytes, ..Default::default() }
}

/// W12.
#[tokio::test]
async fn a_worker_that_says_what_cannot_be_is_not_believed_and_after_three_times_not_heard() {
    use wire::ReplicaState::Active;
    let library = Library::new().unwrap();
    let mut open = library.open().await.unwrap();
    let incarnation = Uuid::new_v4();
    let (digest, id) = ("ab".repeat(32), Uuid::new_v4());
    let twice = vec![replica(id, &digest, Active, 1), replica(id, &digest, Active, 1)];
    let too_many = vec![replica(id, &digest, Active, 2 << 30)];
    // The first of each tells of everything, the others of what has changed.
    for (number, lies) in [vec![twice], vec![too_many], vec![vec![], vec![replica(id, &digest, Active, 1)]]]
        .into_iter()
        .enumerate()
    {
        let mut played = Played::register(&open.at, CARD, incarnation).await.unwrap();
        for lie in lies {
            played.tell(&lie, &[], None).await.unwrap();
        }
        assert_eq!(reason(&played.over().await.unwrap()), "FIELD_INVALID", "lie {number}");
        assert_eq!(replicas(&open.at).await.unwrap(), [], "nothing of it counts");
        assert_eq!(device(&open.at, CARD).await.unwrap().used_bytes, 0);
    }
    let is_out = |mirror: &Mirror| worker(mirror, CARD).state() == v1::worker::State::Quarantined;
    open.watch.until("the quarantine", is_out).await.unwrap();
    let problem = worker(&open.watch.mirror, CARD).problem;
    assert!(problem.contains("3 times") && problem.contains("never asked for"), "{problem}");
    let refused = Played::register(&open.at, CARD, Uuid::new_v4()).await.unwrap_err();
    assert_eq!(reason(&refused), "WORKER_QUARANTINED");
    single(&library, "a", 1.0, 1).unwrap();
    open.look().await.unwrap();
    let refused: Status = load(&open.at, "a", &[]).await.unwrap_err();
    assert_eq!(reason(&refused), "WORKER_QUARANTINED", "{refused:?}");
    devices_are_true(&library, &mut open).await.unwrap();
}

/// W4: a worker that reads nothing keeps nobody waiting, and is found silent like any other.
#[tokio::test]
async fn a_worker_that_reads_nothing_is_found_silent() {
    const MODELS: u8 = 150;
    let library = Library::new().unwrap();
    for number in 0..MODELS {
        pipeline(&library, &format!("m{number}"), f32::from(number), 16).unwrap();
    }
    single(&library, "a", 1.0, 1).unwrap();
    let mut open = library.open().await.unwrap();
    let names: Vec<String> = (0..MODELS).map(|number| format!("m{number}")).collect();
    for name in names.iter().map(String::as_str).chain(["a"]) {
        cache(&open.at, name, &[]).await.unwrap();
    }
    open.watch.catch_up(&open.at).await.unwrap();
    let mut played = Played::register(&open.at, CARD, Uuid::new_v4()).await.unwrap();
    played.tell(&[], &[], None).await.unwrap();
    played.desired(|_| true).await.unwrap();
    open.watch.until("the card", |mirror| is_open(mirror, CARD)).await.unwrap();
    let is_silent = |mirror: &Mirror| worker(mirror, CARD).state() == v1::worker::State::Suspect;
    let wanted = |mirror: &Mirror| mirror.replicas().filter(|one| !one.models.is_empty()).count();
    let all = usize::from(MODELS) + 1;
    let parts = names.iter().map(|name| loading::part(name, &[])).collect();
    let request = v1::LoadComponentsRequest { parts, options: Some(loading::on(CARD)), ..Default::default() };
    residency(&open.at).load_components(request).await.unwrap();
    open.watch.until("all of it waits", |mirror| wanted(mirror) == all).await.unwrap();
    // Each of these is told of, with all there is: soon more than a stream holds that nobody reads.
    for _ in 0..50 {
        if is_silent(&open.watch.mirror) {
            break;
        }
        let operation = begin(&open.at, ask("a")).await.unwrap();
        let more = |mirror: &Mirror| wanted(mirror) == all + 1 || is_silent(mirror);
        open.watch.until("one more", more).await.unwrap();
        loading::cancel(&open.at, &operation).await.unwrap();
        open.watch.until("one less", |mirror| wanted(mirror) == all || is_silent(mirror)).await.unwrap();
    }
    open.watch.until("it is told of as silent", is_silent).await.unwrap();
    drop(played);
}

/// C5: what a worker has that nobody wants is not kept; and nothing is asked of one before it has said what it has.
#[tokio::test]
async fn what_nobody_wants_is_told_to_go_and_nothing_is_wanted_before_all_is_known() {
    use wire::ReplicaState::{Active, Unloading};
    let library = Library::new().unwrap();
    single(&library, "a", 1.0, 1).unwrap();
    let mut open = library.open().await.unwrap();
    cache(&open.at, "a", &[]).await.unwrap();
    let mut played = Played::register(&open.at, CARD, Uuid::new_v4()).await.unwrap();
    // Two of its words, a second apart at least: not one of them asks for anything.
    for _ in 0..2 {
        let told = played.hear().await.unwrap();
        assert!(matches!(told, Told::Ack(wire::Ack { observed: 0 })), "{told:?}");
    }
    let (digest, id) = ("ab".repeat(32), Uuid::new_v4());
    played.memory.used_bytes = 5;
    played.memory.free_bytes -= 5;
    played.tell(&[replica(id, &digest, Active, 5)], &[], None).await.unwrap();
    let desired = played.desired(|_| true).await.unwrap();
    assert_eq!(desired.replicas, []);
    let leaves = |mirror: &Mirror| states(mirror) == [State::Unloading];
    open.watch.until("it on its way out", leaves).await.unwrap();
    // What nobody has the room of yet is not promised to anybody twice.
    let operation = begin(&open.at, ask("a")).await.unwrap();
    let desired = played.desired(|desired| desired.replicas.len() == 1).await.unwrap();
    let wanted = desired.replicas.first().unwrap().clone();
    assert!(wanted.sealed && std::path::Path::new(&wanted.path).is_file(), "{wanted:?}");
    played.tell(&[replica(id, &digest, Unloading, 5)], &[], desired.generation).await.unwrap();
    let account = wire::RemovedReplica { replica: id.to_string(), expected_bytes: 5, returned_bytes: 5 };
    let new = Uuid::parse_str(&wanted.replica).unwrap();
    played.memory = wire::DeviceMemory { used_bytes: 1 << 20, free_bytes: 1023 << 20, ..Default::default() };
    let there = replica(new, &wanted.digest, Active, 1 << 20);
    played.tell(&[there], &[account], desired.generation).await.unwrap();
    let report = loaded(&open.at, &operation).await.unwrap();
    assert_eq!(report.components.first().unwrap().replica, format!("replicas/{new}"));
    devices_are_true(&library, &mut open).await.unwrap();
}

/// Work that is asked for while its worker is away waits for it, as long as one is coming.
#[tokio::test]
async fn a_load_waits_for_a_worker_that_is_being_started() {
    let (library, _stage, mut open) = card(&[]).await;
    let first = worker(&open.watch.mirror, CARD);
    signal(first.process_id, Signal::KILL);
    let lost = |mirror: &Mirror| !is_open(mirror, CARD);
    open.watch.until("its end", lost).await.unwrap();
    load_as(&open.at, ask("a")).await.unwrap();
    devices_are_true(&library, &mut open).await.unwrap();
    assert!(worker(&open.watch.mirror, CARD).incarnation != first.incarnation);
}
