//! The cache through the end of its server: complete segments are taken over, half-done ones swept, leases kept by those who
//! come back for them.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::path::Path;
use std::time::Duration;

use hoist_tests::caching::{
    acquire, acquire_as, cache, counts_are_true, evict, leases, on_tmpfs, segments, status, tensors,
};
use hoist_tests::library::{Library, PATIENCE, reason};
use hoist_tests::{Random, connect, making, process, soak};
use hoist_wire::v1;
use rustix::process::Signal;

fn large(library: &Library, name: &str, mebibytes: usize, seed: u8) {
    let values: Vec<f32> =
        (0..mebibytes << 18).map(|at| f32::from(u8::try_from(at % 251).unwrap()) + f32::from(seed)).collect();
    library.write(&format!("{name}.safetensors"), &making::safetensors(&[("weight", values)], &[])).unwrap();
}

#[tokio::test]
async fn a_killed_server_s_segments_are_taken_over_without_reading_them_and_leases_can_be_taken_up() {
    let library = Library::new().unwrap();
    large(&library, "one", 8, 1);
    large(&library, "two", 4, 2);
    let open = library.open().await.unwrap();
    cache(&open.at, "two", &[]).await.unwrap();
    let held = acquire(&open.at, "one", &[]).await.unwrap();
    let component = held.granted.components[0].component.clone().unwrap();
    let (name, path) = (held.name().to_owned(), held.path(&component.component));
    let content = tensors(&path).unwrap();
    let before = on_tmpfs(&library.sandbox.runtime_dir().join("segments")).unwrap();
    open.server.signal(Signal::KILL).unwrap();
    open.server.wait().unwrap();

    // Half-done leftovers of such a death, and something that is not ours.
    let segments_dir = library.sandbox.runtime_dir().join("segments");
    std::fs::write(segments_dir.join(".filling-00000000-0000-4000-8000-000000000000"), b"half").unwrap();
    std::fs::write(segments_dir.join("notes.txt"), b"mine").unwrap();
    let mut open = library.open().await.unwrap();
    std::fs::remove_file(segments_dir.join("notes.txt")).unwrap();
    let said = status(&open.at).await.unwrap();
    assert_eq!((said.statistics.unwrap().adopted, said.segments), (2, 2));
    assert_eq!(on_tmpfs(&segments_dir).unwrap(), before, "nothing was read or written again");
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();

    // Awaited, it holds as well as ever.
    let known = leases(&open.at).await.unwrap();
    assert_eq!((known.len(), known[0].state()), (1, v1::lease::State::Awaited));
    let kept = evict(&open.at, "one").await.unwrap();
    assert!(kept.segments[0].kept_because.starts_with("it is leased by "), "{kept:?}");
    let again =
        acquire_as(&open.at, v1::AcquireRequest { lease: name.clone(), ..Default::default() }).await.unwrap();
    assert_eq!((again.name(), again.path(&component.component)), (name.as_str(), path.clone()));
    assert_eq!(tensors(&path).unwrap(), content);
    assert_eq!(leases(&open.at).await.unwrap()[0].state(), v1::lease::State::Held);
    // Nobody else has it a second time.
    let twice = acquire_as(&open.at, v1::AcquireRequest { lease: name.clone(), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(reason(&twice), "IN_USE");
    again.release(&open.at).await.unwrap();
    let read = process::read_bytes(open.server.process_id()).unwrap();
    assert!(evict(&open.at, "").await.unwrap().segments.iter().all(|one| one.evicted));
    open.until_no_segments().await.unwrap();
    assert!(read < 4 << 20, "{read} bytes were read for a start");
    let ended =
        acquire_as(&open.at, v1::AcquireRequest { lease: name, ..Default::default() }).await.unwrap_err();
    assert_eq!(reason(&ended), "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn a_server_that_stops_in_order_leaves_segments_and_leases_to_the_next() {
    let library = Library::new().unwrap();
    large(&library, "one", 2, 1);
    let open = library.open().await.unwrap();
    let mut held = acquire(&open.at, "one", &[]).await.unwrap();
    open.server.signal(Signal::TERM).unwrap();
    let ended = held.answers.message().await.unwrap_err();
    assert_eq!(reason(&ended), "DRAINING", "{ended:?}");
    let (status_code, log) = open.server.wait().unwrap();
    assert!(status_code.success(), "{log}");
    let open = library.open().await.unwrap();
    let lease = v1::AcquireRequest { lease: held.name().to_owned(), ..Default::default() };
    let again = acquire_as(&open.at, lease).await.unwrap();
    assert_eq!(again.name(), held.name());
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
}

#[tokio::test]
async fn a_lease_whose_segment_was_lost_with_the_memory_has_ended() {
    let library = Library::new().unwrap();
    large(&library, "one", 2, 1);
    let open = library.open().await.unwrap();
    let held = acquire(&open.at, "one", &[]).await.unwrap();
    let name = held.name().to_owned();
    open.server.signal(Signal::KILL).unwrap();
    open.server.wait().unwrap();
    std::fs::remove_dir_all(library.sandbox.runtime_dir().join("segments")).unwrap();
    let open = library.open().await.unwrap();
    assert_eq!(leases(&open.at).await.unwrap(), []);
    let ended =
        acquire_as(&open.at, v1::AcquireRequest { lease: name, ..Default::default() }).await.unwrap_err();
    assert_eq!(reason(&ended), "RESOURCE_NOT_FOUND");
}

/// Kills at random moments of filling, evicting and leasing: what is complete afterwards is right to the byte, what is not is
/// gone, and what was leased is there.
#[tokio::test]
async fn killed_at_any_moment_it_serves_nothing_torn_and_loses_nothing_leased() {
    let library = Library::new().unwrap();
    let names = ["one", "two", "three"];
    for (number, name) in names.iter().enumerate() {
        large(&library, name, 6, u8::try_from(number).unwrap());
    }
    let mut random = Random::new(0x5eed);
    for round in 0..soak::rounds(30) {
        let server = library.sandbox.start().unwrap();
        let at = connect(&server.socket).await.unwrap();
        // What an earlier round left is whole.
        for segment in segments(&at).await.unwrap() {
            assert_eq!(segment.segment.as_ref().unwrap().state(), v1::segment::State::Sealed);
            let read = tensors(Path::new(&segment.path)).unwrap();
            let (_, shape, bytes) = &read["weight"];
            assert_eq!(bytes.len(), shape[0] * 4);
            let first = f32::from_le_bytes(bytes[..4].try_into().unwrap());
            let is_right = |at: usize| {
                let value = f32::from_le_bytes(bytes[at * 4..at * 4 + 4].try_into().unwrap());
                (value - (f32::from(u8::try_from(at % 251).unwrap()) + first)).abs() < f32::EPSILON
            };
            assert!((0..shape[0]).step_by(509).all(is_right), "round {round}: {} is torn", segment.path);
        }
        counts_are_true(&at, library.sandbox.runtime_dir()).await.unwrap();
        // Models are known by the first look; then everything at once, and a kill somewhere in it.
        let acquired = tokio::time::timeout(PATIENCE, async {
            loop {
                match acquire(&at, names[round % 3], &[]).await {
                    Ok(held) => break held,
                    Err(refused) if reason(&refused) == "RESOURCE_NOT_FOUND" => {}
                    Err(refused) => panic!("{refused:?}"),
                }
            }
        });
        let held = acquired.await.unwrap();
        let leased = held.name().to_owned();
        let mut others = tokio::task::JoinSet::new();
        for name in names {
            let at = at.clone();
            others.spawn(async move {
                for _ in 0..20 {
                    if cache(&at, name, &[]).await.is_err() || evict(&at, name).await.is_err() {
                        return;
                    }
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(random.below(120))).await;
        server.signal(Signal::KILL).unwrap();
        server.wait().unwrap();
        others.join_all().await;
        let server = library.sandbox.start().unwrap();
        let at = connect(&server.socket).await.unwrap();
        let again = acquire_as(&at, v1::AcquireRequest { lease: leased, ..Default::default() }).await;
        assert!(again.is_ok(), "round {round}: {again:?}");
        counts_are_true(&at, library.sandbox.runtime_dir()).await.unwrap();
        server.signal(Signal::KILL).unwrap();
        server.wait().unwrap();
    }
}
