//! A whole worker, with a scripted device, against a coordinator that a test plays word by word.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "the lints spare only functions marked as tests, not what they share; a test's tasks need no policy"
)]

#[expect(dead_code, reason = "the tests of the worker's own socket use the rest")]
mod coordinator;

use std::time::Duration;

use coordinator::{Stage, desired, wanted};
use hoist_domain::{Bytes, Reason, ReplicaFailure};
use hoist_wire::worker::{self as wire, ReplicaState};
use hoist_worker::Ending;
use hoist_worker::fake::Mishap;

const LOADED: ReplicaState = ReplicaState::Active;

#[tokio::test]
async fn a_worker_says_who_it_is_then_what_it_has_and_then_does_what_is_desired() {
    let mut stage = Stage::new();
    let mut coordinator = stage.coordinator();
    let worker = stage.worker();
    let register = coordinator.registers(7).await;
    let facts = register.device.unwrap();
    assert_eq!((facts.device_id.as_str(), facts.capacity_bytes), ("cuda:0", stage.capacity.0));
    assert_eq!((register.taken, register.process_id), (None, std::process::id()));
    let first = coordinator.observed().await;
    assert!(first.full && first.sequence == 1 && first.replicas.is_empty(), "{first:?}");
    assert_eq!(first.memory.unwrap().free_bytes, stage.capacity.0);

    coordinator.desires(desired(7, 1, &[wanted(&stage, 1), wanted(&stage, 2)])).await;
    let seen = coordinator.until(|seen| seen.count(LOADED) == 2).await;
    assert_eq!(seen.answers, (7, 1));
    let replica = seen.replica(1);
    assert_eq!((replica.own_bytes, replica.mapped_bytes), (stage.size(1), 0));
    assert!(replica.load_time.is_some() && replica.tensors == 2, "{replica:?}");
    assert_eq!(seen.memory.used_bytes, stage.size(1) + stage.size(2));

    coordinator.desires(desired(7, 2, &[wanted(&stage, 2)])).await;
    let seen = coordinator.until(|seen| seen.removed.len() == 1).await;
    let removed = &seen.removed[0];
    assert_eq!(removed.replica, wanted(&stage, 1).replica);
    assert_eq!((removed.expected_bytes, removed.returned_bytes), (stage.size(1), stage.size(1)));
    assert_eq!(seen.memory.used_bytes, stage.size(2));

    coordinator.drains().await;
    assert_eq!(worker.await.unwrap(), Ending::Done);
    assert!(coordinator.ends().await.is_none(), "without an error");
}

#[tokio::test]
async fn what_is_older_is_ignored_and_what_contradicts_ends_the_session() {
    let mut stage = Stage::new();
    let mut coordinator = stage.coordinator();
    let _worker = stage.worker();
    coordinator.registers(7).await;
    coordinator.observed().await;
    coordinator.desires(desired(7, 5, &[wanted(&stage, 1)])).await;
    coordinator.until(|seen| seen.count(LOADED) == 1).await;
    coordinator.desires(desired(7, 4, &[])).await;
    coordinator.desires(desired(7, 5, &[wanted(&stage, 1)])).await;
    coordinator.desires(desired(7, 6, &[wanted(&stage, 1), wanted(&stage, 2)])).await;
    let seen = coordinator.until(|seen| seen.count(LOADED) == 2).await;
    assert!(seen.removed.is_empty(), "nothing was unloaded: {seen:?}");
    for wrong in [
        desired(7, 6, &[]),
        desired(8, 1, &[]),
        desired(7, 7, &[wanted(&stage, 1), wanted(&stage, 1)]),
        desired(7, 7, &[wire::DesiredReplica { digest: "nonsense".to_owned(), ..wanted(&stage, 1) }]),
    ] {
        coordinator.desires(wrong).await;
        coordinator.ends().await;
        // It comes back with everything that it had.
        let register = coordinator.registers(7).await;
        assert_eq!(register.taken, Some(wire::Generation { epoch: 7, number: 6 }));
        let all = coordinator.observed().await;
        assert!(all.full && all.replicas.len() == 2, "{all:?}");
    }
}

#[tokio::test]
async fn a_new_coordinator_finds_everything_and_an_old_one_is_not_listened_to() {
    let mut stage = Stage::new();
    let mut coordinator = stage.coordinator();
    let _worker = stage.worker();
    coordinator.registers(7).await;
    coordinator.observed().await;
    coordinator.desires(desired(7, 1, &[wanted(&stage, 1)])).await;
    let seen = coordinator.until(|seen| seen.count(LOADED) == 1).await;
    coordinator.dies();
    // Nobody is there; then the next start is.
    let mut next = stage.coordinator();
    next.registers(8).await;
    let all = next.observed().await;
    assert_eq!(all.replicas.first(), Some(&seen.replica(1)), "nothing was loaded again");
    next.desires(desired(8, 1, &[wanted(&stage, 1)])).await;
    next.until(|seen| seen.answers == (8, 1)).await;
    next.dies();
    let mut old = stage.coordinator();
    old.registers(7).await;
    // It hears an epoch that is over, and goes on looking.
    old.ends().await;
    old.registers(9).await;
    assert_eq!(old.observed().await.replicas.len(), 1);
}

#[tokio::test]
async fn accounts_that_nobody_acknowledged_are_told_to_the_next_and_others_are_not() {
    let mut stage = Stage::new();
    let mut coordinator = stage.coordinator();
    let _worker = stage.worker();
    coordinator.registers(7).await;
    coordinator.observed().await;
    for number in 1..=3 {
        coordinator.desires(desired(7, 2 * u64::from(number), &[wanted(&stage, number)])).await;
        let replica = wanted(&stage, number).replica;
        coordinator.until(|seen| seen.replicas.get(&replica).is_some_and(|it| it.state() == LOADED)).await;
    }
    // Two are gone, and the first of their accounts is acknowledged.
    let seen = coordinator.until(|seen| seen.removed.len() == 2).await;
    coordinator.acknowledges(seen.told_in[0]).await;
    coordinator.desires(desired(7, 99, &[])).await;
    coordinator.until(|seen| seen.removed.len() == 3).await;
    coordinator.dies();
    let mut next = stage.coordinator();
    next.registers(8).await;
    let all = next.observed().await;
    let told: Vec<&str> = all.removed.iter().map(|removed| removed.replica.as_str()).collect();
    let of = |number| wanted(&stage, number).replica;
    assert_eq!(told, [of(2).as_str(), of(3).as_str()]);
}

#[tokio::test]
async fn a_failure_is_told_and_the_worker_goes_on() {
    let mut stage = Stage::new();
    let failure = ReplicaFailure::NoMemory { needed: Bytes(9), free: Bytes(3) };
    stage.script.next_loads([Some(Mishap::Fail(failure)), None]);
    let mut coordinator = stage.coordinator();
    let _worker = stage.worker();
    coordinator.registers(7).await;
    coordinator.observed().await;
    coordinator.desires(desired(7, 1, &[wanted(&stage, 1), wanted(&stage, 2)])).await;
    let seen = coordinator.until(|seen| seen.count(LOADED) == 1).await;
    let failed = seen.replica(1);
    assert_eq!(failed.state(), ReplicaState::Failed);
    let failure = failed.failure.unwrap();
    assert_eq!((failure.needed_bytes, failure.free_bytes), (9, 3));
    assert_eq!(failure.kind(), wire::replica_failure::Kind::NoMemory);
    // Tried again as another one; the failed one is forgotten.
    let again = wire::DesiredReplica { replica: uuid::Uuid::from_u128(77).to_string(), ..wanted(&stage, 1) };
    coordinator.desires(desired(7, 2, &[wanted(&stage, 2), again])).await;
    let seen = coordinator.until(|seen| seen.count(LOADED) == 2).await;
    assert_eq!(seen.count(ReplicaState::Failed), 0);
}

/// W4: the session lives while the device's thread does not come back.
#[tokio::test]
async fn a_device_that_hangs_is_seen_by_its_progress_and_what_it_loads_can_be_withdrawn() {
    let mut stage = Stage::new();
    stage.script.next_loads([Some(Mishap::Hang)]);
    let mut coordinator = stage.coordinator();
    let _worker = stage.worker();
    coordinator.registers(7).await;
    coordinator.observed().await;
    coordinator.desires(desired(7, 1, &[wanted(&stage, 1)])).await;
    coordinator.until(|seen| seen.count(ReplicaState::Loading) == 1).await;
    let first = coordinator.heartbeat_that(|beat| beat.busy.is_some()).await;
    let later = coordinator.heartbeat_that(|beat| beat.busy.is_some()).await;
    assert_eq!(first.progress_counter, later.progress_counter, "it stands still");
    coordinator.desires(desired(7, 2, &[])).await;
    stage.script.go_on();
    let seen = coordinator.until(|seen| seen.removed.len() == 1).await;
    assert_eq!((seen.replicas.len(), seen.memory.used_bytes), (0, 0));
    let idle = coordinator.heartbeat_that(|beat| beat.busy.is_none()).await;
    assert!(idle.progress_counter > later.progress_counter);
}

/// W9.
#[tokio::test]
async fn a_device_that_cannot_go_on_ends_its_worker() {
    let mut stage = Stage::new();
    stage.script.next_loads([Some(Mishap::Poison)]);
    let mut coordinator = stage.coordinator();
    let worker = stage.worker();
    coordinator.registers(7).await;
    coordinator.observed().await;
    coordinator.desires(desired(7, 1, &[wanted(&stage, 1)])).await;
    let ending = worker.await.unwrap();
    assert!(matches!(ending, Ending::Poisoned(_)) && ending.exit_code() == 70, "{ending:?}");
}

#[tokio::test]
async fn what_is_being_filled_is_begun_and_completed_once_it_is_there() {
    let mut stage = Stage::new();
    let mut coordinator = stage.coordinator();
    let _worker = stage.worker();
    coordinator.registers(7).await;
    coordinator.observed().await;
    let unsealed =
        |number| wire::DesiredReplica { sealed: false, path: String::new(), ..wanted(&stage, number) };
    coordinator.tells_filled(1, 100 << 20).await;
    coordinator.desires(desired(7, 1, &[unsealed(1), unsealed(2)])).await;
    let seen = coordinator.until(|seen| seen.answers == (7, 1)).await;
    assert_eq!(seen.count(ReplicaState::Waiting), 2, "what was told before anybody wanted it is nothing");
    coordinator.tells_filled(1, 100).await;
    coordinator.tells_filled(3, 100 << 20).await;
    coordinator.tells_filled(1, 64 << 20).await;
    let seen = coordinator.until(|seen| seen.count(ReplicaState::Loading) == 1).await;
    let begun = seen.replica(1);
    assert!(begun.own_bytes > 0 && begun.state() == ReplicaState::Loading, "{begun:?}");
    assert_eq!(seen.memory.used_bytes, begun.own_bytes);
    coordinator.desires(desired(7, 2, &[wanted(&stage, 1), unsealed(2)])).await;
    let seen = coordinator.until(|seen| seen.count(LOADED) == 1).await;
    assert_eq!((seen.replica(1).own_bytes, seen.memory.used_bytes), (stage.size(1), stage.size(1)));
    // Given up in the middle: all of it is given back.
    coordinator.tells_filled(2, 64 << 20).await;
    let begun = coordinator.until(|seen| seen.count(ReplicaState::Loading) == 1).await.replica(2);
    coordinator.desires(desired(7, 3, &[wanted(&stage, 1)])).await;
    let seen = coordinator.until(|seen| seen.removed.len() == 1).await;
    let removed = &seen.removed[0];
    assert_eq!((removed.expected_bytes, removed.returned_bytes), (begun.own_bytes, begun.own_bytes));
    assert_eq!(seen.memory.used_bytes, stage.size(1));
}

#[tokio::test]
async fn a_process_that_keeps_too_much_is_renewed() {
    let mut stage = Stage::new();
    stage.capacity = Bytes::mib(8);
    stage.script.next_loads([Some(Mishap::Retain(Bytes::mib(1)))]);
    let mut coordinator = stage.coordinator();
    let worker = stage.worker();
    coordinator.registers(7).await;
    coordinator.observed().await;
    coordinator.desires(desired(7, 1, &[wanted(&stage, 1), wanted(&stage, 2)])).await;
    coordinator.until(|seen| seen.count(LOADED) == 2).await;
    coordinator.desires(desired(7, 2, &[wanted(&stage, 2)])).await;
    let ending = worker.await.unwrap();
    assert!(matches!(&ending, Ending::Renewed(why) if why.contains("1.0 MiB")), "{ending:?}");
    assert_eq!(ending.exit_code(), hoist_domain::WORKER_RENEWS);
}

#[tokio::test]
async fn what_is_not_given_back_is_told() {
    let mut stage = Stage::new();
    stage.script.next_loads([Some(Mishap::Retain(Bytes(4_096)))]);
    let mut coordinator = stage.coordinator();
    let _worker = stage.worker();
    coordinator.registers(7).await;
    coordinator.observed().await;
    coordinator.desires(desired(7, 1, &[wanted(&stage, 1)])).await;
    coordinator.until(|seen| seen.count(LOADED) == 1).await;
    coordinator.desires(desired(7, 2, &[])).await;
    let seen = coordinator.until(|seen| seen.removed.len() == 1).await;
    let removed = &seen.removed[0];
    assert_eq!(removed.expected_bytes - removed.returned_bytes, 4_096);
    assert_eq!(seen.memory.used_bytes, 4_096);
}

#[tokio::test]
async fn a_refusal_for_good_ends_the_worker_and_any_other_does_not() {
    for (reason, ending) in [
        (Reason::VersionSkew, Some(4)),
        (Reason::DeviceTaken, Some(4)),
        (Reason::WorkerQuarantined, Some(4)),
        // Its successor begins with nothing.
        (Reason::GenerationAhead, Some(0)),
        (Reason::Draining, None),
    ] {
        let mut stage = Stage::new();
        let mut coordinator = stage.coordinator();
        let worker = stage.worker();
        coordinator.refuses(reason).await;
        match ending {
            Some(code) => assert_eq!(worker.await.unwrap().exit_code(), code, "{reason:?}"),
            None => {
                coordinator.registers(7).await;
                coordinator.observed().await;
            }
        }
    }
}

#[tokio::test]
async fn bytes_of_a_tensor_can_be_read_back() {
    let mut stage = Stage::new();
    let mut coordinator = stage.coordinator();
    let _worker = stage.worker();
    coordinator.registers(7).await;
    coordinator.observed().await;
    coordinator.desires(desired(7, 1, &[wanted(&stage, 1)])).await;
    coordinator.until(|seen| seen.count(LOADED) == 1).await;
    let read = |tensor: &str, offset, length| wire::ReadTensor {
        replica: wanted(&stage, 1).replica,
        tensor: tensor.to_owned(),
        offset,
        length,
    };
    let piece = coordinator.reads(read("weight", 4, 8)).await.unwrap();
    assert_eq!((piece.dtype.as_str(), piece.shape.as_slice()), ("F32", &[1_024_u64][..]));
    assert_eq!(piece.data, stage.bytes(1)[4..12]);
    assert!(coordinator.reads(read("nothing", 0, 8)).await.is_err());
    assert!(
        coordinator
            .reads(wire::ReadTensor { replica: "x".to_owned(), ..read("weight", 0, 1) })
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_worker_that_nobody_comes_back_for_ends_and_one_that_is_told_to_end_does() {
    let mut stage = Stage::new();
    stage.alone_limit = Duration::from_millis(200);
    let worker = stage.worker();
    assert_eq!(worker.await.unwrap(), Ending::Done, "nobody was ever there");
    let mut stage = Stage::new();
    let mut coordinator = stage.coordinator();
    let worker = stage.worker();
    coordinator.registers(7).await;
    stage.stop.trigger("a signal");
    assert_eq!(worker.await.unwrap(), Ending::Done);
}

#[tokio::test]
async fn a_device_that_cannot_be_opened_ends_its_worker_with_why() {
    let stage = Stage::new();
    let worker = stage.worker_on(Box::new(|| Err("no such card".to_owned())));
    let ending = worker.await.unwrap();
    assert_eq!(ending, Ending::Failed("the device cannot be opened: no such card".to_owned()));
    assert_eq!(ending.exit_code(), 1);
}

/// A coordinator that says nothing any more is as good as none.
#[tokio::test]
async fn silence_ends_a_session_and_the_next_one_has_everything() {
    let mut stage = Stage::new();
    let mut coordinator = stage.coordinator();
    coordinator.silence = Duration::from_millis(300);
    let _worker = stage.worker();
    coordinator.registers(7).await;
    coordinator.observed().await;
    assert!(coordinator.ends().await.is_none());
    coordinator.registers(7).await;
    assert!(coordinator.observed().await.full);
}
