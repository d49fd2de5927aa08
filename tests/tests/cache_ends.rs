//! What ends before its time: a caching that is cancelled, late, or wanted by nobody any more, and a holder that dies. Nothing
//! is left of it.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use hoist_tests::caching::{acquire, acquire_as, cache_as, counts_are_true, evict, leases, status};
use hoist_tests::library::{Library, PATIENCE, reason, result, waiting};
use hoist_tests::{Channels, Mirror, Random, making, soak};
use hoist_wire::longrunning::{CancelOperationRequest, WaitOperationRequest};
use hoist_wire::v1;
use rustix::process::{Pid, Signal, kill_process};
use tonic::Code;

/// So much that a test can act while it is read.
const LARGE: u64 = 1 << 30;

/// Waits until something of a filling is in memory.
async fn is_filling(at: &Channels) {
    let begun = async {
        while status(at).await.unwrap().filling_bytes == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.unwrap();
}

/// Waits until nothing is filled, and nobody holds anything.
async fn is_settled(at: &Channels) {
    let settled = async {
        loop {
            let said = status(at).await.unwrap();
            if said.filling_bytes == 0 && said.leases == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.unwrap();
}

/// Cachings that were cancelled.
fn cancelled(mirror: &Mirror) -> usize {
    let cachings = mirror.operations().filter(|one| one.kind() == v1::OperationKind::CacheModel);
    cachings.filter(|one| one.state() == v1::OperationState::Cancelled).count()
}

/// X1: a client that dies lets go at once.
#[tokio::test]
async fn a_client_that_is_killed_lets_go_at_once() {
    let library = Library::new().unwrap();
    library.write("one.safetensors", &making::uniform(1.0, 1)).unwrap();
    let mut open = library.open().await.unwrap();
    let binary = hoist_tests::binary();
    let mut client = Command::new(binary)
        .args(["--endpoint", &format!("unix://{}", library.sandbox.socket().display()), "hold", "one", "--"])
        .args(["sh", "-c", "echo $$; exec sleep 600"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It is run once the lease is held.
    let mut said = String::new();
    BufReader::new(client.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let run = Pid::from_raw(said.trim().parse().unwrap()).unwrap();
    assert_eq!(leases(&open.at).await.unwrap().len(), 1);
    assert_eq!(leases(&open.at).await.unwrap().first().unwrap().process_id, client.id());
    client.kill().unwrap();
    client.wait().unwrap();
    open.watch.until("the end of the lease", |mirror| mirror.count("leases/") == 0).await.unwrap();
    assert!(evict(&open.at, "one").await.unwrap().segments.iter().all(|one| one.evicted));
    // What it ran is not the server's to end: it is still there.
    kill_process(run, Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_caching_that_is_cancelled_while_it_fills_leaves_nothing_behind() {
    let library = Library::new().unwrap();
    library.sparse("large.safetensors", LARGE).unwrap();
    let open = library.open().await.unwrap();
    let request = v1::CacheModelRequest { name: "large".to_owned(), ..Default::default() };
    let name = open.at.cache().cache_model(request).await.unwrap().into_inner().name;
    is_filling(&open.at).await;
    let mut operations = open.at.operations();
    operations.cancel_operation(CancelOperationRequest { name: name.clone() }).await.unwrap();
    let request = WaitOperationRequest { name, timeout: waiting() };
    let ended = operations.wait_operation(request).await.unwrap().into_inner();
    let ended = result::<v1::CacheModelResponse>(ended).unwrap_err();
    assert_eq!(reason(&ended), "OPERATION_CANCELLED", "{ended:?}");
    is_settled(&open.at).await;
    let said = status(&open.at).await.unwrap();
    assert_eq!((said.used_bytes, said.statistics.unwrap().fills), (0, 0), "{said:?}");
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
}

/// A caller who goes away cancels what nobody else wants, at any moment of it.
#[tokio::test]
async fn a_caching_whose_only_caller_goes_away_is_cancelled_and_leaves_nothing_behind() {
    let library = Library::new().unwrap();
    library.sparse("large.safetensors", LARGE).unwrap();
    for number in 0..4_u8 {
        library.write(&format!("m{number}.safetensors"), &making::uniform(f32::from(number), 32)).unwrap();
    }
    let mut open = library.open().await.unwrap();
    // Dropped where it is, it is a client that has gone away.
    tokio::select! {
        granted = acquire(&open.at, "large", &[]) => panic!("{granted:?}"),
        () = is_filling(&open.at) => {}
    }
    open.watch.until("the end of it", |mirror| cancelled(mirror) == 1).await.unwrap();
    assert_eq!(status(&open.at).await.unwrap().statistics.unwrap().fills, 0);
    let mut random = Random::new(7);
    let mut cut = 0;
    for round in 0..soak::rounds(24) {
        let name = format!("m{}", round % 4);
        let patience = std::time::Duration::from_millis(random.below(40));
        let acquired = tokio::time::timeout(patience, acquire(&open.at, &name, &[])).await;
        cut += u32::from(acquired.is_err());
    }
    is_settled(&open.at).await;
    assert!(cut > 0, "nothing was cut short");
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
}

#[tokio::test]
async fn a_caching_with_a_deadline_that_is_too_short_fails_and_leaves_nothing_behind() {
    let library = Library::new().unwrap();
    library.sparse("large.safetensors", LARGE).unwrap();
    let open = library.open().await.unwrap();
    let hasty = v1::CacheModelRequest {
        name: "large".to_owned(),
        deadline: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
        ..Default::default()
    };
    let late = cache_as(&open.at, hasty).await.unwrap_err();
    assert_eq!((late.code(), reason(&late).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    is_settled(&open.at).await;
    assert_eq!(status(&open.at).await.unwrap().used_bytes, 0);
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
}

#[tokio::test]
async fn who_waits_for_what_somebody_else_has_asked_for_has_a_deadline_of_their_own() {
    let library = Library::new().unwrap();
    library.sparse("large.safetensors", LARGE).unwrap();
    let open = library.open().await.unwrap();
    let hasty = v1::AcquireRequest {
        name: "large".to_owned(),
        deadline: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
        ..Default::default()
    };
    let (late, patient) = tokio::join!(acquire_as(&open.at, hasty.clone()), async {
        is_filling(&open.at).await;
        acquire(&open.at, "large", &[]).await
    });
    assert_eq!(reason(&late.unwrap_err()), "DEADLINE_EXCEEDED");
    patient.unwrap().release(&open.at).await.unwrap();
    // The other way round.
    assert!(evict(&open.at, "large").await.unwrap().segments.iter().all(|one| one.evicted));
    let (patient, late) = tokio::join!(acquire(&open.at, "large", &[]), async {
        is_filling(&open.at).await;
        acquire_as(&open.at, hasty).await
    });
    assert_eq!(reason(&late.unwrap_err()), "DEADLINE_EXCEEDED");
    patient.unwrap();
}
