//! Leases on a device: what is held there stays, its memory is another process's for a token, and whoever loses it is told.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the lints spare only functions marked as tests, not what they share"
)]

use hoist_tests::caching::{Held, acquire_as, leases};
use hoist_tests::library::{Library, Open, reason};
use hoist_tests::loading::{
    Stage, device, devices_are_true, load_as, replicas, single, staged, unload, unload_as, until_open, worker,
};
use hoist_wire::v1;
use hoist_worker::peer::Peer;
use rustix::process::{Pid, Signal, kill_process};
use tonic::Status;

const FAKE: &str = env!("CARGO_BIN_EXE_hoist-fake-worker");
const CARD: &str = "cuda:0";

/// Three models of two mebibytes, and a scripted card of five.
async fn card() -> (Library, Stage, Open) {
    let (library, stage) = staged(FAKE, "cuda:0=5MiB").unwrap();
    for (name, value) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
        single(&library, name, value, 2).unwrap();
    }
    let mut open = library.open().await.unwrap();
    until_open(&mut open, &[CARD]).await.unwrap();
    (library, stage, open)
}

async fn hold(open: &Open, name: &str) -> Result<Held, Status> {
    let request = v1::AcquireRequest {
        name: name.to_owned(),
        device_id: CARD.to_owned(),
        holder: "a trainer".to_owned(),
        ..Default::default()
    };
    acquire_as(&open.at, request).await
}

fn share(held: &Held) -> v1::DeviceShare {
    held.granted.components[0].share.clone().unwrap()
}

async fn attach(held: &Held) -> Peer {
    let share = share(held);
    Peer::says(&share.socket, share.token.as_slice().try_into().unwrap()).await
}

/// The first tensor's first number.
fn value(peer: &Peer) -> f32 {
    let name = peer.answer["tensors"][0]["name"].as_str().unwrap().to_owned();
    f32::from_le_bytes(peer.tensor(&name)[..4].try_into().unwrap())
}

fn forced(name: &str) -> v1::UnloadModelRequest {
    v1::UnloadModelRequest { name: name.to_owned(), force: true, ..Default::default() }
}

#[tokio::test]
async fn what_is_held_on_a_device_is_loaded_handed_out_and_kept() {
    let (library, _stage, mut open) = card().await;
    let held = hold(&open, "a").await.unwrap();
    let lease = held.granted.lease.clone().unwrap();
    assert_eq!((lease.device_id.as_str(), lease.segments.len(), lease.replicas.len()), (CARD, 0, 1));
    assert_eq!(share(&held).replica, lease.replicas[0]);
    assert_eq!(lease.size_bytes, replicas(&open.at).await.unwrap()[0].own_bytes);
    let component = held.granted.components[0].component.clone().unwrap();
    assert_eq!((component.path.as_str(), component.component.is_empty()), ("", false));

    let peer = attach(&held).await;
    assert!((value(&peer) - 1.0).abs() < f32::EPSILON);
    assert!(attach(&held).await.error().contains("was used"), "a token is good once");

    let refused = unload(&open.at, "a", &[]).await.unwrap_err();
    assert_eq!(reason(&refused), "IN_USE");
    assert!(refused.message().contains("leased by a trainer"), "{refused:?}");
    // Nobody makes room by what is held.
    load_as(&open.at, v1::LoadModelRequest { name: "b".to_owned(), ..Default::default() }).await.unwrap();
    let options = Some(v1::LoadOptions { force: true, ..Default::default() });
    let third = v1::LoadModelRequest { name: "c".to_owned(), options, ..Default::default() };
    load_as(&open.at, third).await.unwrap();
    let there: Vec<String> = replicas(&open.at).await.unwrap().into_iter().map(|one| one.name).collect();
    assert!(there.contains(&lease.replicas[0]), "b has gone for c, and a has not");

    held.release(&open.at).await.unwrap();
    // The lease is over, and the model is still loaded: the memory stays the process's until it goes.
    unload(&open.at, "a", &[]).await.unwrap();
    assert!((value(&peer) - 1.0).abs() < f32::EPSILON);
    peer.hears_hanging_up().await;
    devices_are_true(&library, &mut open).await.unwrap();
}

#[tokio::test]
async fn what_is_unloaded_by_force_is_revoked_and_told() {
    let (library, _stage, mut open) = card().await;
    let mut held = hold(&open, "a").await.unwrap();
    let peer = attach(&held).await;
    unload_as(&open.at, forced("a")).await.unwrap();
    assert!(held.revoked().await.unwrap().contains("by force"));
    peer.hears_hanging_up().await;
    assert!(leases(&open.at).await.unwrap().is_empty());
    devices_are_true(&library, &mut open).await.unwrap();
    // A token that nobody has said is worth nothing any more.
    let other = hold(&open, "a").await.unwrap();
    unload_as(&open.at, forced("a")).await.unwrap();
    assert!(attach(&other).await.error().contains("its lease has ended"));
}

/// W3: its worker dies while another process has its memory.
#[tokio::test]
async fn a_dead_worker_ends_leases_and_its_successor_hands_out_anew() {
    let (library, _stage, mut open) = card().await;
    let mut held = hold(&open, "a").await.unwrap();
    let peer = attach(&held).await;
    open.watch.catch_up(&open.at).await.unwrap();
    let process = worker(&open.watch.mirror, CARD).process_id;
    kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), Signal::KILL).unwrap();
    let why = held.revoked().await.unwrap();
    assert!(why.contains("the worker of cuda:0 has ended"), "{why}");
    assert!((value(&peer) - 1.0).abs() < f32::EPSILON, "what a process has outlives the worker");
    peer.hears_hanging_up().await;
    let successor = open.watch.until("a successor", |mirror| {
        let now = worker(mirror, CARD);
        now.state() == v1::worker::State::Active && now.process_id != process
    });
    successor.await.unwrap();
    let again = hold(&open, "a").await.unwrap();
    assert_ne!(share(&again).token, share(&held).token);
    assert!((value(&attach(&again).await) - 1.0).abs() < f32::EPSILON);
    drop(again);
    devices_are_true(&library, &mut open).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_held_there_is_refused_in_words() {
    let (_library, _stage, open) = card().await;
    let ask = |device: &str, dtype: &str| v1::AcquireRequest {
        name: "a".to_owned(),
        device_id: device.to_owned(),
        dtype: dtype.to_owned(),
        ..Default::default()
    };
    for (device, dtype, why) in [
        ("cuda:7", "", "RESOURCE_NOT_FOUND"),
        ("nonsense", "", "FIELD_INVALID"),
        ("", "BF16", "FIELD_INVALID"),
        (CARD, "BF16", "INCOMPATIBLE_MODEL"),
        (CARD, "nonsense", "FIELD_INVALID"),
    ] {
        let refused = acquire_as(&open.at, ask(device, dtype)).await.unwrap_err();
        assert_eq!(reason(&refused), why, "{device} {dtype}: {refused:?}");
    }
    assert!(leases(&open.at).await.unwrap().is_empty());
    assert_eq!(device(&open.at, CARD).await.unwrap().used_bytes, 0);
}

/// C1, C5: the server dies; worker, memory and lease do not.
#[tokio::test]
async fn a_lease_on_a_device_outlives_its_server_and_is_taken_up_again() {
    let (library, _stage, mut open) = card().await;
    let held = hold(&open, "a").await.unwrap();
    let (name, peer) = (held.name().to_owned(), attach(&held).await);
    let replica = held.granted.lease.clone().unwrap().replicas;
    open.server.signal(Signal::KILL).unwrap();
    open.server.wait().unwrap();
    drop(held);

    open = library.open().await.unwrap();
    until_open(&mut open, &[CARD]).await.unwrap();
    let known = leases(&open.at).await.unwrap();
    assert_eq!((known.len(), known[0].state(), &known[0].replicas), (1, v1::lease::State::Awaited, &replica));
    assert_eq!(reason(&unload(&open.at, "a", &[]).await.unwrap_err()), "IN_USE", "awaited, it holds as well");
    let holder = "a trainer".to_owned();
    let again = v1::AcquireRequest { lease: name.clone(), holder, ..Default::default() };
    let again = acquire_as(&open.at, again).await.unwrap();
    assert_eq!(again.name(), name);
    assert!(again.granted.components[0].share.is_none(), "it has the memory already");
    assert!((value(&peer) - 1.0).abs() < f32::EPSILON);
    again.release(&open.at).await.unwrap();
    unload(&open.at, "a", &[]).await.unwrap();
    peer.hears_hanging_up().await;
    devices_are_true(&library, &mut open).await.unwrap();
}

/// Server and worker die together: what the lease was on is gone, and it ends with the successor's first word.
#[tokio::test]
async fn a_lease_whose_device_has_lost_everything_ends() {
    let (library, _stage, mut open) = card().await;
    let held = hold(&open, "a").await.unwrap();
    let name = held.name().to_owned();
    open.watch.catch_up(&open.at).await.unwrap();
    let process = worker(&open.watch.mirror, CARD).process_id;
    // The server first: it is not to see its worker die.
    open.server.signal(Signal::STOP).unwrap();
    kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), Signal::KILL).unwrap();
    open.server.signal(Signal::KILL).unwrap();
    open.server.wait().unwrap();
    drop(held);

    open = library.open().await.unwrap();
    until_open(&mut open, &[CARD]).await.unwrap();
    assert!(leases(&open.at).await.unwrap().is_empty());
    let gone =
        acquire_as(&open.at, v1::AcquireRequest { lease: name, ..Default::default() }).await.unwrap_err();
    assert_eq!(reason(&gone), "RESOURCE_NOT_FOUND");
    let anew = hold(&open, "a").await.unwrap();
    assert!((value(&attach(&anew).await) - 1.0).abs() < f32::EPSILON);
}

/// That somebody has brought a damaged model there is nobody else's leave to use it.
#[tokio::test]
async fn what_is_damaged_is_leased_by_who_says_so_alone_also_where_it_is_already() {
    let (library, _stage, mut open) = card().await;
    let whole = std::fs::read(library.path("a.safetensors")).unwrap();
    library.write("broken.safetensors", &whole[..whole.len() - 4_096]).unwrap();
    open.look().await.unwrap();
    let allow = vec![v1::Verdict::Corrupt.into(), v1::Verdict::Incomplete.into()];
    let options = v1::LoadOptions { allow: allow.clone(), ..Default::default() };
    let request =
        v1::LoadModelRequest { name: "broken".to_owned(), options: Some(options), ..Default::default() };
    load_as(&open.at, request).await.unwrap();
    let refused = hold(&open, "broken").await.unwrap_err();
    assert!(["CORRUPTED_MODEL", "INCOMPATIBLE_MODEL"].contains(&reason(&refused).as_str()), "{refused:?}");
    let ask = v1::AcquireRequest {
        name: "broken".to_owned(),
        device_id: CARD.to_owned(),
        allow,
        ..Default::default()
    };
    acquire_as(&open.at, ask).await.unwrap().release(&open.at).await.unwrap();
}

/// What is on the device is what the file was; whoever asks gets what it is.
#[tokio::test]
async fn what_has_another_file_by_now_is_leased_as_that_is() {
    let (library, _stage, open) = card().await;
    hold(&open, "a").await.unwrap().release(&open.at).await.unwrap();
    let other = library.path("a.safetensors.next");
    std::fs::write(&other, hoist_tests::making::uniform(9.0, 2)).unwrap();
    std::fs::rename(&other, library.path("a.safetensors")).unwrap();
    // Before anybody has looked at the disk.
    let held = hold(&open, "a").await.unwrap();
    assert!((value(&attach(&held).await) - 9.0).abs() < f32::EPSILON);
    held.release(&open.at).await.unwrap();
}
