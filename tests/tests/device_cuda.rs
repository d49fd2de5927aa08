//! The real worker on `cuda:0`, with a driver that runs without a card and ends the worker at the first call that its
//! documentation forbids. What this shows of a card is that every call is a right one; what a card does is shown on one.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the lints spare only functions marked as tests, not what they share"
)]

use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use hoist_tests::caching::{acquire_as, cache, evict, leases};
use hoist_tests::library::{Library, Open, reason};
use hoist_tests::loading::{
    begin, devices_are_true, end, library, load, load_as, pipeline, replicas, residency, seen, single, twins,
    unload, until_open, worker,
};
use hoist_wire::v1;
use hoist_worker::peer::Peer;
use rustix::process::{Pid, Signal, kill_process};
use safetensors::SafeTensors;

const CARD: &str = "cuda:0";

/// A worker looks at its card twice a second.
const NOTICED: Duration = Duration::from_secs(5);

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

/// D6: what is read is on its way to the card before its last byte is in RAM, also of one component; and is right when it is there.
#[tokio::test]
async fn one_component_is_copied_while_it_is_still_read() {
    let (library, mut open) = card("cuda:0=1GiB", &[]).await;
    let file = single(&library, "large", 0.5, 600).unwrap();
    open.look().await.unwrap();
    until_open(&mut open, &[CARD]).await.unwrap();
    let mut was_begun = false;
    // Its content is known from the first time. How fast a disk is nobody knows: once is enough.
    for _ in 0..6 {
        load(&open.at, "large", &[]).await.unwrap();
        assert!(is_bit_equal(&open, "large").await > 0);
        unload(&open.at, "large", &[]).await.unwrap();
        evict(&open.at, "").await.unwrap();
        open.until_no_segments().await.unwrap();
        if was_begun {
            break;
        }
        let weights = std::fs::File::open(&file).unwrap();
        weights.sync_all().unwrap();
        rustix::fs::fadvise(&weights, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let request = v1::LoadModelRequest { name: "large".to_owned(), ..Default::default() };
        let operation = begin(&open.at, request).await.unwrap();
        let begun = open.watch.until("its copy", |mirror| {
            let mut replicas = mirror.replicas();
            replicas
                .any(|one| matches!(one.state(), v1::replica::State::Loading | v1::replica::State::Active))
        });
        begun.await.unwrap();
        was_begun = open.watch.mirror.segments().any(|one| one.state() == v1::segment::State::Filling);
        end(&open.at, &operation).await.unwrap();
        assert!(is_bit_equal(&open, "large").await > 0);
        unload(&open.at, "large", &[]).await.unwrap();
        evict(&open.at, "").await.unwrap();
        open.until_no_segments().await.unwrap();
    }
    assert!(was_begun, "nothing was copied before all was read");
    devices_are_true(&library, &mut open).await.unwrap();
}

/// What somebody has written into the card's memory is found by the card's own sums.
#[tokio::test]
async fn what_differs_on_the_card_from_what_is_in_ram_is_found() {
    let (library, mut open) = card("cuda:0=512MiB", &[]).await;
    until_open(&mut open, &[CARD]).await.unwrap();
    load(&open.at, "pipeline", &[]).await.unwrap();
    let request =
        || v1::VerifyReplicasRequest { name: "pipeline".to_owned(), ..v1::VerifyReplicasRequest::default() };
    let verify = async || residency(&open.at).verify_replicas(request()).await.unwrap().into_inner().replicas;
    let all = verify().await;
    assert!(all.iter().all(|one| one.verdict() == v1::verified_replica::Verdict::Equal), "{all:?}");
    assert_eq!(all.iter().map(|one| one.tensors).sum::<u32>(), 2);
    let ask =
        v1::AcquireRequest { name: "pipeline".to_owned(), device_id: CARD.to_owned(), ..Default::default() };
    let held = acquire_as(&open.at, ask).await.unwrap();
    let share = held.granted.components[0].share.clone().unwrap();
    let peer = Peer::says(&share.socket, share.token.as_slice().try_into().unwrap()).await;
    let memory = std::fs::File::from(peer.memory.unwrap());
    memory.write_all_at(&[0xff], 17).unwrap();
    let all = verify().await;
    let wrong: Vec<_> = all.iter().filter(|one| one.wrong_count > 0).collect();
    assert_eq!((wrong.len(), wrong[0].replica.as_str()), (1, share.replica.as_str()), "{all:?}");
    assert_eq!(wrong[0].wrong.len(), 1);
    // What is wrong in RAM is not the card's fault.
    let segment = cache(&open.at, "pipeline", &[]).await.unwrap().components[0].path.clone();
    std::fs::set_permissions(&segment, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(&[0xff], std::fs::metadata(&segment).unwrap().len() - 1).unwrap();
    std::fs::set_permissions(&segment, std::fs::Permissions::from_mode(0o440)).unwrap();
    let all = verify().await;
    drop(file);
    let damaged = v1::verified_replica::Verdict::SegmentDamaged;
    assert_eq!(all.iter().filter(|one| one.verdict() == damaged).count(), 1, "{all:?}");
    evict(&open.at, "").await.unwrap();
    let all = verify().await;
    assert!(all.iter().all(|one| one.reason.contains("hoist cache")), "{all:?}");
    held.release(&open.at).await.unwrap();
    unload(&open.at, "pipeline", &[]).await.unwrap();
    let none = residency(&open.at).verify_replicas(request()).await.unwrap_err();
    assert_eq!(reason(&none), "RESOURCE_NOT_FOUND");
    drop(library);
}

/// What is on the card needs neither RAM nor disk, nor an operation, to be leased and loaded again.
#[tokio::test]
async fn what_is_there_is_leased_and_loaded_again_with_nothing_in_ram_and_no_file() {
    let (library, mut open) = card("cuda:0=512MiB", &[]).await;
    until_open(&mut open, &[CARD]).await.unwrap();
    load(&open.at, "a", &[]).await.unwrap();
    evict(&open.at, "").await.unwrap();
    open.until_no_segments().await.unwrap();
    let file = library.path("a.safetensors");
    std::fs::rename(&file, file.with_extension("away")).unwrap();
    let ask =
        || v1::AcquireRequest { name: "a".to_owned(), device_id: CARD.to_owned(), ..Default::default() };
    open.watch.catch_up(&open.at).await.unwrap();
    let before = open.watch.mirror.operations().count();
    for _ in 0..3 {
        let held = acquire_as(&open.at, ask()).await.unwrap();
        held.release(&open.at).await.unwrap();
    }
    open.watch.catch_up(&open.at).await.unwrap();
    assert_eq!(open.watch.mirror.operations().count(), before, "a lease on what is there is no work");
    let again = load(&open.at, "a", &[]).await.unwrap();
    assert!(again.components.iter().all(|one| one.resident) && again.read_bytes == 0, "{again:?}");
    open.until_no_segments().await.unwrap();
    devices_are_true(&library, &mut open).await.unwrap();
}

/// Two components of one content are one replica; each can be attached to.
#[tokio::test]
async fn equal_components_have_a_token_each() {
    let (library, mut open) = card("cuda:0=512MiB", &[]).await;
    twins(&library, "twins").unwrap();
    open.look().await.unwrap();
    until_open(&mut open, &[CARD]).await.unwrap();
    load(&open.at, "twins", &[]).await.unwrap();
    assert_eq!(replicas(&open.at).await.unwrap().len(), 1, "one content");
    let tensors = is_bit_equal(&open, "twins").await;
    assert_eq!(tensors % 2, 0, "of two components");
    devices_are_true(&library, &mut open).await.unwrap();
}

/// What a process keeps of a card beyond its replicas is given back by its end; its successor has everything from RAM.
#[tokio::test]
async fn a_worker_that_keeps_too_much_of_a_card_is_renewed_and_everything_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("card");
    the_card_is(&file, "used 500000000\n");
    let (library, mut open) =
        card("cuda:0=512MiB", &[("HOIST_STANDIN_NVML", &file.display().to_string())]).await;
    until_open(&mut open, &[CARD]).await.unwrap();
    load(&open.at, "a", &[]).await.unwrap();
    let ask = v1::AcquireRequest { name: "a".to_owned(), device_id: CARD.to_owned(), ..Default::default() };
    let held = acquire_as(&open.at, ask).await.unwrap();
    let share = held.granted.components[0].share.clone().unwrap();
    let peer = Peer::says(&share.socket, share.token.as_slice().try_into().unwrap()).await;
    let process = worker(&open.watch.mirror, CARD).process_id;
    the_card_is(&file, "used 2500000000\n");
    // Somebody has its memory: it stays as long as that is so.
    load(&open.at, "b", &[]).await.unwrap();
    unload(&open.at, "b", &[]).await.unwrap();
    open.watch.catch_up(&open.at).await.unwrap();
    assert_eq!(worker(&open.watch.mirror, CARD).process_id, process);
    drop(peer);
    held.release(&open.at).await.unwrap();
    let renewed = open.watch.until("another process", |mirror| {
        let now = worker(mirror, CARD);
        now.restarts > 0 && now.problem.contains("than its replicas take")
    });
    renewed.await.unwrap();
    the_card_is(&file, "used 500000000\n");
    let back = open.watch.until("the model again", |mirror| {
        mirror.replicas().any(|replica| replica.state() == v1::replica::State::Active)
    });
    back.await.unwrap();
    assert!(is_bit_equal(&open, "a").await > 0);
    devices_are_true(&library, &mut open).await.unwrap();
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
    assert!(refused.message().contains("has refused"), "{refused:?}");
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

/// Says how the card is; the words are those of `gpu-worker/tests/driver`. All of it at once: half of it is another card.
fn the_card_is(file: &Path, words: &str) {
    let next = file.with_extension("next");
    std::fs::write(&next, words).unwrap();
    std::fs::rename(next, file).unwrap();
}

/// W10: the driver wants the card reset.
#[tokio::test]
async fn a_card_that_is_to_be_reset_keeps_what_it_has_and_takes_nothing_new_until_its_driver_is_content() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("card");
    let (library, mut open) =
        card("cuda:0=512MiB", &[("HOIST_STANDIN_NVML", &file.display().to_string())]).await;
    until_open(&mut open, &[CARD]).await.unwrap();
    load(&open.at, "a", &[]).await.unwrap();
    let ask = v1::AcquireRequest { name: "a".to_owned(), device_id: CARD.to_owned(), ..Default::default() };
    let held = acquire_as(&open.at, ask).await.unwrap();
    assert_eq!(seen(&open.watch.mirror, CARD).unwrap().problem, "");

    the_card_is(&file, "action 1\nxid 79\n");
    let told = open.watch.until("what is wrong", |mirror| !seen(mirror, CARD).unwrap().problem.is_empty());
    tokio::time::timeout(NOTICED, told).await.expect("it takes too long").unwrap();
    let problem = seen(&open.watch.mirror, CARD).unwrap().problem.clone();
    assert!(problem.contains("wants the card reset (xid 79)"), "{problem}");
    let refused = load(&open.at, "b", &[]).await.unwrap_err();
    assert_eq!(reason(&refused), "DEVICE_FAILED", "{refused:?}");
    assert!(refused.message().contains(&problem), "{refused:?}");

    load(&open.at, "a", &[]).await.unwrap();
    assert!(is_bit_equal(&open, "a").await > 0, "what is there is handed out");
    devices_are_true(&library, &mut open).await.unwrap();
    assert_eq!(replicas(&open.at).await.unwrap().len(), 1);
    assert!(leases(&open.at).await.unwrap().iter().any(|lease| lease.name == held.name()));

    the_card_is(&file, "action 0\nxid 79\n");
    let well = open.watch.until("that it is well", |mirror| seen(mirror, CARD).unwrap().problem.is_empty());
    tokio::time::timeout(NOTICED, well).await.expect("it takes too long").unwrap();
    load(&open.at, "b", &[]).await.unwrap();
    assert_eq!(worker(&open.watch.mirror, CARD).restarts, 0, "the worker stays");
    held.release(&open.at).await.unwrap();
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
