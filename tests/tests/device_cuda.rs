//! The real worker on `cuda:0`, with a driver that runs without a card and ends the worker at the first call that its
//! documentation forbids. What this shows of a card is that every call is a right one; what a card does is shown on one.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the lints spare only functions marked as tests, not what they share"
)]

use hoist_tests::caching::{acquire_as, evict};
use hoist_tests::library::{Library, Open, reason};
use hoist_tests::loading::{
    devices_are_true, library, load, load_as, pipeline, replicas, seen, single, unload, until_open, worker,
};
use hoist_wire::v1;
use hoist_worker::peer::Peer;
use rustix::process::{Pid, Signal, kill_process};
use safetensors::SafeTensors;

const CARD: &str = "cuda:0";

/// A server with the real worker, whose driver is told so much.
async fn card(devices: &str, told: &[(&str, &str)]) -> (Library, Open) {
    let mut library = library(devices).unwrap();
    let driver = hoist_worker::standin::built();
    let folder = driver.parent().unwrap().display().to_string();
    let told = [("LD_LIBRARY_PATH", folder.as_str()), ("HOIST_STANDIN_VIOLATIONS", "abort")]
        .into_iter()
        .chain(told.iter().copied());
    library.sandbox.environment.extend(told.map(|(name, value)| (name.to_owned(), value.to_owned())));
    pipeline(&library, "pipeline", 1.0, 100_000).unwrap();
    for (name, value) in [("a", 1.0), ("b", 2.0)] {
        single(&library, name, value, 24).unwrap();
    }
    let open = library.open().await.unwrap();
    (library, open)
}

/// What a lease on the card hands out, compared with the files in RAM, tensor by tensor.
async fn is_bit_equal(open: &Open, name: &str) -> usize {
    let ask = |device: &str| v1::AcquireRequest {
        name: name.to_owned(),
        device_id: device.to_owned(),
        ..Default::default()
    };
    let there = acquire_as(&open.at, ask(CARD)).await.unwrap();
    let in_ram = acquire_as(&open.at, ask("")).await.unwrap();
    let mut compared = 0;
    for (one, other) in there.granted.components.iter().zip(&in_ram.granted.components) {
        let share = one.share.clone().unwrap();
        let peer = Peer::says(&share.socket, share.token.as_slice().try_into().unwrap()).await;
        assert_eq!(peer.answer["kind"], "cuda");
        assert!(peer.answer["device"].as_str().unwrap().starts_with("GPU-"), "{}", peer.answer["device"]);
        let file = std::fs::read(&other.component.clone().unwrap().path).unwrap();
        let file = SafeTensors::deserialize(&file).unwrap();
        assert_eq!(peer.answer["tensors"].as_array().unwrap().len(), file.len());
        for (name, tensor) in file.tensors() {
            assert!(peer.tensor(&name) == tensor.data(), "{name}");
            compared += 1;
        }
    }
    compared
}

#[tokio::test]
async fn a_model_is_on_the_card_bit_for_bit_and_all_of_it_is_given_back() {
    let (library, mut open) = card("cuda:0=512MiB", &[]).await;
    until_open(&mut open, &[CARD]).await.unwrap();
    let device = seen(&open.watch.mirror, CARD).unwrap().clone();
    assert_eq!((device.granularity_bytes, device.alignment_bytes), (2 << 20, 256));
    assert!(device.libraries.iter().any(|one| one.starts_with("CUDA driver 13")), "{device:?}");
    assert!(device.dtypes.is_empty(), "nothing converts without libtorch's other half: {device:?}");
    for name in ["pipeline", "a"] {
        let loaded = load(&open.at, name, &[]).await.unwrap();
        assert_eq!(loaded.device_id, CARD);
        assert!(is_bit_equal(&open, name).await > 0);
    }
    for replica in replicas(&open.at).await.unwrap() {
        assert_eq!((replica.own_bytes % (2 << 20), replica.mapped_bytes), (0, 0), "{replica:?}");
    }
    devices_are_true(&library, &mut open).await.unwrap();
    // What is on the card needs nothing in RAM any more.
    assert!(evict(&open.at, "").await.unwrap().segments.iter().all(|one| one.evicted));
    for name in ["pipeline", "a"] {
        let gone = unload(&open.at, name, &[]).await.unwrap();
        assert_eq!(gone.retained_bytes, 0, "{gone:?}");
    }
    devices_are_true(&library, &mut open).await.unwrap();
    let ended = open.server.terminate().unwrap();
    assert!(ended.0.success(), "{ended:?}");
}

/// W7: the card is full, or others have most of it.
#[tokio::test]
async fn what_does_not_fit_is_refused_with_what_is_missing_and_leaves_nothing() {
    let told = [("HOIST_STANDIN_TOTAL", "1073741824"), ("HOIST_STANDIN_USE", "1030000000")];
    let (library, mut open) = card("cuda:0=512MiB", &told).await;
    until_open(&mut open, &[CARD]).await.unwrap();
    let device = seen(&open.watch.mirror, CARD).unwrap().clone();
    assert!(device.others_bytes > 1_000_000_000 && device.free_bytes < 48 << 20, "{device:?}");
    load(&open.at, "a", &[]).await.unwrap();
    let refused = load(&open.at, "b", &[]).await.unwrap_err();
    assert_eq!(reason(&refused), "VRAM_EXHAUSTED", "{refused:?}");
    unload(&open.at, "a", &[]).await.unwrap();
    load(&open.at, "b", &[]).await.unwrap();
    // Others count, so what is used and free is less than the capacity.
    let now = hoist_tests::loading::device(&open.at, CARD).await.unwrap();
    assert_eq!(now.used_bytes + now.free_bytes + now.others_bytes, 1 << 30);
    drop(library);
}

#[tokio::test]
async fn a_driver_that_answers_that_it_is_full_fails_that_load_alone() {
    let (library, mut open) = card("cuda:0=512MiB", &[("HOIST_STANDIN_FAIL", "cuMemCreate:2:2")]).await;
    until_open(&mut open, &[CARD]).await.unwrap();
    load(&open.at, "a", &[]).await.unwrap();
    let refused = load(&open.at, "b", &[]).await.unwrap_err();
    assert_eq!(reason(&refused), "VRAM_EXHAUSTED", "{refused:?}");
    load(&open.at, "b", &[]).await.unwrap();
    assert!(is_bit_equal(&open, "b").await > 0);
    let process = worker(&open.watch.mirror, CARD);
    assert_eq!(process.restarts, 0, "the worker stays");
    devices_are_true(&library, &mut open).await.unwrap();
}

/// W9: an error that stays ends the worker; its successor has everything back.
#[tokio::test]
async fn an_error_that_stays_ends_the_worker_and_everything_comes_back() {
    // A look each half second, and one at the start.
    let (library, mut open) =
        card("cuda:0=512MiB", &[("HOIST_STANDIN_FAIL", "cuCtxSynchronize:700:6")]).await;
    until_open(&mut open, &[CARD]).await.unwrap();
    load(&open.at, "a", &[]).await.unwrap();
    let ended = open.watch.until("an end", |mirror| {
        let worker = worker(mirror, CARD);
        worker.restarts > 0 && worker.problem.contains("CUDA_ERROR_ILLEGAL_ADDRESS")
    });
    ended.await.unwrap();
    let back = open.watch.until("the model again", |mirror| {
        mirror.replicas().any(|replica| replica.state() == v1::replica::State::Active)
    });
    back.await.unwrap();
    drop(library);
}

/// W1, W2 on a card: what a dead worker had is the driver's again.
#[tokio::test]
async fn a_killed_worker_is_followed_by_one_that_has_everything() {
    let (library, mut open) = card("cuda:0=512MiB", &[]).await;
    until_open(&mut open, &[CARD]).await.unwrap();
    load_as(&open.at, v1::LoadModelRequest { name: "pipeline".to_owned(), ..Default::default() })
        .await
        .unwrap();
    open.watch.catch_up(&open.at).await.unwrap();
    let process = worker(&open.watch.mirror, CARD).process_id;
    let before = replicas(&open.at).await.unwrap().len();
    kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), Signal::KILL).unwrap();
    let back = open.watch.until("everything again", |mirror| {
        let active = mirror.replicas().filter(|one| one.state() == v1::replica::State::Active);
        worker(mirror, CARD).process_id != process && active.count() == before
    });
    back.await.unwrap();
    assert!(is_bit_equal(&open, "pipeline").await > 0);
    devices_are_true(&library, &mut open).await.unwrap();
}

#[tokio::test]
async fn without_a_driver_the_worker_says_what_is_missing_and_is_given_up() {
    let mut library = library("cuda:0").unwrap();
    library.set("WORKERS_RESTART_DELAY", "10ms");
    let mut open = library.open().await.unwrap();
    let given_up = open.watch.until("that it is given up", |mirror| {
        let worker = worker(mirror, CARD);
        worker.state() == v1::worker::State::Quarantined && worker.problem.contains("libcuda.so.1")
    });
    given_up.await.unwrap();
    let refused = load(&open.at, "nothing", &[]).await.unwrap_err();
    assert_eq!(reason(&refused), "RESOURCE_NOT_FOUND");
}
