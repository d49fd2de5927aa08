//! The worker's own socket: who says what there, and what that process has afterwards.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "the lints spare only functions marked as tests, not what they share; a test's tasks need no policy"
)]

#[expect(dead_code, reason = "the sessions' tests use all of it")]
mod coordinator;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use coordinator::{Coordinator, Stage, desired, wanted};
use hoist_wire::worker::{self as wire, ReplicaState};
use hoist_worker::Ending;
use hoist_worker::peer::Peer;

fn share(number: u128, token: [u8; 32]) -> wire::ShareReplica {
    wire::ShareReplica { replica: uuid::Uuid::from_u128(number).to_string(), token: token.to_vec() }
}

/// With replica 1 on the device.
async fn loaded(stage: &mut Stage) -> (Coordinator, tokio::task::JoinHandle<Ending>) {
    let mut coordinator = stage.coordinator();
    let worker = stage.worker();
    coordinator.registers(7).await;
    coordinator.observed().await;
    coordinator.desires(desired(7, 1, &[wanted(stage, 1)])).await;
    coordinator.until(|seen| seen.count(ReplicaState::Active) == 1).await;
    (coordinator, worker)
}

#[tokio::test]
async fn memory_is_handed_over_for_a_token_once_and_stays_when_the_replica_goes() {
    let mut stage = Stage::new();
    let (mut coordinator, worker) = loaded(&mut stage).await;
    let shared = coordinator.shares(share(1, [5; 32])).await.unwrap();
    assert_eq!(shared.size_bytes, stage.size(1));
    let mode = std::fs::metadata(&shared.socket).unwrap().permissions().mode();
    let theirs = std::fs::metadata(std::path::Path::new(&shared.socket).with_file_name("hoist.sock"));
    assert_eq!(
        mode & 0o777,
        theirs.unwrap().permissions().mode() & 0o777,
        "whoever may call the one may call the other"
    );

    let holder = Peer::says(&shared.socket, [5; 32]).await;
    assert_eq!(holder.answer["kind"], "memory");
    assert_eq!(holder.tensor("weight"), stage.bytes(1));
    assert!(Peer::says(&shared.socket, [5; 32]).await.error().contains("was used"));
    assert!(Peer::says(&shared.socket, [6; 32]).await.error().contains("not known"));
    coordinator.shares(share(1, [7; 32])).await.unwrap();
    coordinator.withdraws([7; 32]).await;
    assert!(Peer::says(&shared.socket, [7; 32]).await.error().contains("not known"));

    let memory = Peer { stream: holder.stream.try_clone().unwrap(), ..holder };
    coordinator.desires(desired(7, 2, &[])).await;
    coordinator.until(|seen| seen.removed.len() == 1).await;
    assert_eq!(memory.tensor("weight"), stage.bytes(1), "what a process has stays its own");
    let size = memory.answer["size"].as_u64().unwrap();
    // Said to the process, and to everybody, as long as it is so.
    let still = memory.stream.try_clone().unwrap();
    memory.hears_hanging_up().await;
    let lent = (size, 1);
    coordinator.until(|seen| (seen.memory.lent_bytes, seen.memory.lent_processes) == lent).await;
    drop((still, holder.stream));
    coordinator.until(|seen| (seen.memory.lent_bytes, seen.memory.lent_processes) == (0, 0)).await;

    coordinator.drains().await;
    assert_eq!(worker.await.unwrap(), Ending::Done);
    assert!(!std::path::Path::new(&shared.socket).exists(), "the socket goes with its worker");
}

#[tokio::test]
async fn what_is_not_there_is_not_shared_and_what_has_gone_since_is_told() {
    let mut stage = Stage::new();
    let (mut coordinator, _worker) = loaded(&mut stage).await;
    assert!(coordinator.shares(share(2, [1; 32])).await.unwrap_err().contains("not there"));
    let short = wire::ShareReplica { token: vec![1; 31], ..share(1, [1; 32]) };
    assert!(coordinator.shares(short).await.unwrap_err().contains("32 bytes"));
    let nonsense = wire::ShareReplica { replica: "nonsense".to_owned(), ..share(1, [1; 32]) };
    assert!(coordinator.shares(nonsense).await.is_err());

    let shared = coordinator.shares(share(1, [2; 32])).await.unwrap();
    coordinator.desires(desired(7, 2, &[])).await;
    coordinator.until(|seen| seen.removed.len() == 1).await;
    assert!(Peer::says(&shared.socket, [2; 32]).await.error().contains("not there any more"));
}

/// A5: nothing that is said there breaks anything but its own connection.
#[tokio::test]
async fn whoever_says_nonsense_or_goes_in_the_middle_disturbs_nobody() {
    let mut stage = Stage::new();
    let (mut coordinator, _worker) = loaded(&mut stage).await;
    let shared = coordinator.shares(share(1, [3; 32])).await.unwrap();
    for length in [0, 1, 31, 33, 100_000] {
        let mut stream = UnixStream::connect(&shared.socket).unwrap();
        // The worker may hang up before all of it is said.
        let _ = stream.write_all(&vec![0xff; length]);
    }
    let idle: Vec<UnixStream> = (0..50).map(|_| UnixStream::connect(&shared.socket).unwrap()).collect();
    let holder = Peer::says(&shared.socket, [3; 32]).await;
    assert_eq!(holder.tensor("weight"), stage.bytes(1));
    drop(idle);
    // Who has the memory and says more has none of the connection any more; what it has stays.
    let mut talker = holder.stream.try_clone().unwrap();
    talker.write_all(b"thanks").unwrap();
    assert_eq!(holder.tensor("bias").len(), 4_096);
    holder.hears_hanging_up().await;
}

#[tokio::test]
async fn what_a_dead_worker_left_is_taken_over_and_what_is_no_socket_is_left_alone() {
    let mut stage = Stage::new();
    let path = {
        let (mut coordinator, worker) = loaded(&mut stage).await;
        let shared = coordinator.shares(share(1, [1; 32])).await.unwrap();
        // As a kill leaves it.
        worker.abort();
        std::path::PathBuf::from(shared.socket)
    };
    let _ = std::fs::remove_file(&path);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists() && UnixStream::connect(&path).is_err());
    let mut stage = stage;
    let (mut coordinator, worker) = loaded(&mut stage).await;
    let shared = coordinator.shares(share(1, [2; 32])).await.unwrap();
    assert_eq!(Peer::says(&shared.socket, [2; 32]).await.tensor("weight"), stage.bytes(1));
    coordinator.drains().await;
    worker.await.unwrap();

    std::fs::write(&path, b"somebody's file").unwrap();
    let (mut coordinator, _worker) = loaded(&mut stage).await;
    let why = coordinator.shares(share(1, [3; 32])).await.unwrap_err();
    assert!(why.contains("something else is there"), "{why}");
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody's file");
}
