//! A disk that is full or fails: changes are refused, reads go on, and nothing that was acknowledged is lost.
//!
//! The full disk is a small tmpfs in a mount namespace of its own, which is gone with the test, whatever happens to
//! it; failing system calls are injected by strace.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::time::Duration;

use hoist_domain::Reason;
use hoist_runtime::Clock;
use hoist_tests::inject::Injection;
use hoist_tests::ledger::{Seen, list};
use hoist_tests::quick::{QuickPlace, probe};
use hoist_tests::small_disk::SmallDisk;
use hoist_tests::soak::rounds;
use hoist_tests::{Channels, Ledger, Mirror, Server, connect, request_id};
use hoist_wire::longrunning::{CancelOperationRequest, GetOperationRequest};
use hoist_wire::status::Failure;
use hoist_wire::v1;
use tonic::{Code, Status, Streaming};

const READONLY: &str = "conditions/STORE_READONLY";

/// R15: from room on the disk to a server that takes changes.
const RECOVERY: Duration = Duration::from_secs(5);

/// A server that sees the disk.
fn start(disk: &SmallDisk, place: &QuickPlace) -> anyhow::Result<Server> {
    let words = disk.entering();
    place.spawn(place.sandbox.command_under(&words.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// A watch, and what it makes of the state.
struct Follower {
    stream: Streaming<v1::WatchResponse>,
    mirror: Mirror,
}

impl Follower {
    async fn of(at: &Channels) -> Self {
        let soon = prost_types::Duration { seconds: 0, nanos: 100_000_000 };
        let request = v1::WatchRequest { mark_interval: Some(soon), ..Default::default() };
        let stream = at.state().watch(request).await.unwrap().into_inner();
        let mut follower = Self { stream, mirror: Mirror::new() };
        follower.until(|mirror| mirror.position.is_some()).await;
        follower
    }

    async fn next(&mut self) {
        let message = self.stream.message().await.unwrap().unwrap();
        self.mirror.take(message).unwrap();
    }

    async fn until(&mut self, holds: impl Fn(&Mirror) -> bool) {
        while !holds(&self.mirror) {
            self.next().await;
        }
    }

    fn is_readonly(mirror: &Mirror) -> bool {
        mirror.resources.contains_key(READONLY)
    }

    /// How long the state says that the store is read-only, from now.
    async fn until_writable(&mut self) -> Duration {
        let clock = Clock::system();
        let begun = clock.monotonic();
        self.until(|mirror| !Self::is_readonly(mirror)).await;
        clock.monotonic() - begun
    }
}

/// Whether a refusal is the one of a store that cannot be written, with a time to come back.
fn is_readonly_refusal(status: &Status) -> bool {
    let failure = Failure::from(status);
    failure.is(Reason::StoreReadonly)
        && status.code() == Code::ResourceExhausted
        && failure.retry_after.is_some_and(|delay| !delay.is_zero())
}

/// Reads are answered, and the watch goes on.
async fn reads_go_on(at: &Channels, follower: &mut Follower, operations: usize) {
    assert_eq!(list(at).await.unwrap().len(), operations);
    let status = at.state().get_status(v1::GetStatusRequest::default()).await.unwrap();
    let machine = status.into_inner().status.unwrap().machine.unwrap();
    let condition = machine.conditions.iter().find(|condition| condition.kind == "STORE_READONLY").unwrap();
    assert_eq!(condition.severity(), v1::condition::Severity::Error);
    assert!(!condition.advice.is_empty());
    for _ in 0..3 {
        follower.next().await;
    }
}

/// Another request under an id of its own, repeated until it is taken; how long that took.
async fn until_taken(ledger: &mut Ledger, at: &Channels, message: v1::ProbeMachineRequest) -> Duration {
    let clock = Clock::system();
    let begun = clock.monotonic();
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    while let Err(refused) = ledger.submit(at, message.clone()).await {
        assert!(is_readonly_refusal(&refused), "{refused:?}");
        looks.tick().await;
    }
    clock.monotonic() - begun
}

/// D1: every write fails for want of space, as long as the test says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_changes_goes_on_reading_and_is_left_behind_by_itself() {
    let place = QuickPlace::new().unwrap();
    let server = place.start().unwrap();
    let at = connect(&server.socket).await.unwrap();
    let mut ledger = Ledger::default();
    let mut follower = Follower::of(&at).await;
    for cycle in 0..rounds(3) {
        let done = ledger.submit(&at, place.work()).await.unwrap();
        ledger.end(&at, &done).await.unwrap();
        // Ends while nothing can be written. Another size each time: another request, not the same one joined.
        let bytes = (2 << 30) + u64::try_from(cycle).unwrap();
        let running = ledger.submit(&at, probe(v1::MeasurementKind::MemoryCopy, bytes)).await.unwrap();
        let waiting = ledger.submit(&at, place.work()).await.unwrap();
        let within = Some(place.sandbox.state_dir());
        let full =
            Injection { calls: "pwrite64,ftruncate", fault: "error=ENOSPC", when: "1+", within, slow: "" };
        let full = full.in_thread(server.process_id(), "control").unwrap();

        let message = v1::ProbeMachineRequest { request_id: request_id(), bytes: 17 << 20, ..place.work() };
        let refused = ledger.submit(&at, message.clone()).await.unwrap_err();
        assert!(is_readonly_refusal(&refused), "{refused:?}");
        follower.until(Follower::is_readonly).await;
        reads_go_on(&at, &mut follower, ledger.len()).await;
        let deletion = ledger.delete(&at, &done).await.unwrap_err();
        assert!(is_readonly_refusal(&deletion), "{deletion:?}");
        let cancel = CancelOperationRequest { name: waiting.clone() };
        assert!(is_readonly_refusal(&at.operations().cancel_operation(cancel).await.unwrap_err()));
        is_over_but_not_reported(&at, &running).await;

        full.detach().unwrap();
        let took = follower.until_writable().await;
        println!("cycle {cycle}: writable after {took:?}");
        assert!(took <= RECOVERY, "{took:?}");
        ledger.submit(&at, message).await.unwrap();
        assert_eq!(ledger.end(&at, &running).await.unwrap().state(), v1::OperationState::Succeeded);
        ledger.end(&at, &waiting).await.unwrap();
        ledger.delete(&at, &done).await.unwrap();
    }
    ledger.look(&at).await.unwrap();
    let log = server.kill().unwrap();
    assert!(!log.contains("ERROR") && !log.contains("panic"), "{log}");
    let server = place.start().unwrap();
    ledger.survived(&connect(&server.socket).await.unwrap()).await.unwrap();
}

/// D1, on a real file system. There a small change may fit where a larger one does not, so the store comes and goes;
/// what counts is that every answer is true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_without_a_byte_left_no_answer_is_untrue() {
    let place = QuickPlace::new().unwrap();
    let disk = SmallDisk::over(4, place.sandbox.state_dir()).unwrap();
    let server = start(&disk, &place).unwrap();
    let at = connect(&server.socket).await.unwrap();
    let mut ledger = Ledger::default();
    let mut follower = Follower::of(&at).await;
    for cycle in 0..rounds(3) {
        disk.fill().unwrap();
        let refused = loop {
            let message = v1::ProbeMachineRequest { request_id: request_id(), ..place.work() };
            match ledger.submit(&at, message.clone()).await {
                Ok(_) => {}
                Err(status) => {
                    assert!(is_readonly_refusal(&status), "{status:?}");
                    break message;
                }
            }
        };
        follower.until(Follower::is_readonly).await;
        // What was taken is there, though its end may wait to be written; what was refused may be there all the same.
        assert!(list(&at).await.unwrap().len() >= ledger.len());
        disk.make_room().unwrap();
        let took = until_taken(&mut ledger, &at, refused).await;
        println!("cycle {cycle}: {} operations, taken after {took:?}", ledger.len());
        assert!(took <= RECOVERY, "{took:?}");
        for name in list(&at).await.unwrap().into_keys() {
            assert_eq!(ledger.end(&at, &name).await.unwrap().state(), v1::OperationState::Succeeded);
        }
        follower.until(|mirror| !Follower::is_readonly(mirror)).await;
    }
    ledger.look(&at).await.unwrap();
    let log = server.kill().unwrap();
    assert!(!log.contains("ERROR") && !log.contains("panic"), "{log}");
    let server = start(&disk, &place).unwrap();
    ledger.survived(&connect(&server.socket).await.unwrap()).await.unwrap();
}

/// Its executor has ended, so that it has no progress any more; the state cannot say so yet.
async fn is_over_but_not_reported(at: &Channels, name: &str) {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    loop {
        let request = GetOperationRequest { name: name.to_owned() };
        let operation = at.operations().get_operation(request).await.unwrap().into_inner();
        let seen = Seen::of(&operation).unwrap();
        assert_eq!(seen.state(), v1::OperationState::Running);
        if seen.metadata.progress.is_none() {
            return;
        }
        looks.tick().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_a_full_disk_stops_and_is_not_started_but_loses_nothing() {
    let place = QuickPlace::new().unwrap();
    let disk = SmallDisk::over(4, place.sandbox.state_dir()).unwrap();
    let server = start(&disk, &place).unwrap();
    let at = connect(&server.socket).await.unwrap();
    let mut ledger = Ledger::default();
    disk.fill().unwrap();
    loop {
        match ledger.submit(&at, place.work()).await {
            Ok(_) => {}
            Err(status) if is_readonly_refusal(&status) => break,
            Err(status) => panic!("{status:?}"),
        }
    }
    drop(at);
    let (status, log) = server.terminate().unwrap();
    assert!(status.success(), "{status}: {log}");

    let refused = format!("{:#}", start(&disk, &place).unwrap_err());
    assert!(refused.contains("free space on its disk and start again"), "{refused}");
    assert!(refused.contains("exit status: 4") && !refused.contains("panic"), "{refused}");
    disk.make_room().unwrap();
    let server = start(&disk, &place).unwrap();
    ledger.survived(&connect(&server.socket).await.unwrap()).await.unwrap();
}

/// D1, at a chosen place within a commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_finds_no_space_at_any_write_is_taken_back_or_finished() {
    let place = QuickPlace::new().unwrap();
    let mut ledger = Ledger::default();
    let server = place.start().unwrap();
    let at = connect(&server.socket).await.unwrap();
    let mut follower = Follower::of(&at).await;
    let mut refusals = 0;
    for round in 0..rounds(6) {
        // A commit of a submission makes about a dozen writes; the last one is the one that counts.
        let when = format!("{}+", 1 + round * 5 % 14);
        let within = Some(place.sandbox.state_dir());
        let injection = Injection { calls: "pwrite64", fault: "error=ENOSPC", when: &when, within, slow: "" };
        let tracer = injection.in_thread(server.process_id(), "control").unwrap();
        let message = v1::ProbeMachineRequest { request_id: request_id(), ..place.work() };
        let answer = ledger.submit(&at, message.clone()).await;
        if let Err(status) = &answer {
            refusals += 1;
            assert!(is_readonly_refusal(status), "{status:?}");
            follower.until(Follower::is_readonly).await;
        }
        tracer.detach().unwrap();
        let name = match answer {
            // It can still meet the fault with its report.
            Ok(name) => name,
            Err(_) => {
                let took = follower.until_writable().await;
                assert!(took <= RECOVERY, "{took:?}");
                ledger.submit(&at, message).await.unwrap()
            }
        };
        assert_eq!(ledger.end(&at, &name).await.unwrap().state(), v1::OperationState::Succeeded);
    }
    println!("{refusals} refusals");
    assert!(refusals > 0);
    ledger.look(&at).await.unwrap();
    let log = server.kill().unwrap();
    assert!(!log.contains("ERROR") && !log.contains("panic"), "{log}");
    let server = place.start().unwrap();
    ledger.survived(&connect(&server.socket).await.unwrap()).await.unwrap();
}

/// D2. What the kernel has thrown away after a failed sync nobody knows, so nothing is written any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_nothing_is_written_until_a_restart() {
    let faults = [
        ("fdatasync", "error=EIO", "1"),
        ("fdatasync", "error=EIO", "2"),
        // A file system that tells of a full disk only here has thrown pages away all the same.
        ("fdatasync", "error=ENOSPC", "1"),
        ("pwrite64", "error=EIO", "6"),
    ];
    let place = QuickPlace::new().unwrap();
    let mut ledger = Ledger::default();
    for (calls, fault, when) in (0..rounds(1)).flat_map(|_| faults) {
        let server = place.start().unwrap();
        let at = connect(&server.socket).await.unwrap();
        ledger.survived(&at).await.unwrap_or_else(|error| panic!("before {calls} {when}: {error:#}"));
        let done = ledger.submit(&at, place.work()).await.unwrap();
        ledger.end(&at, &done).await.unwrap();
        ledger.look(&at).await.unwrap();
        let mut follower = Follower::of(&at).await;
        let injection = Injection { calls, fault, when, within: Some(place.sandbox.state_dir()), slow: "" };
        let tracer = injection.in_thread(server.process_id(), "control").unwrap();
        for _ in 0..3 {
            let refused = ledger.submit(&at, place.work()).await.unwrap_err();
            assert!(is_readonly_refusal(&refused), "{refused:?}");
        }
        assert!(is_readonly_refusal(&ledger.delete(&at, &done).await.unwrap_err()));
        follower.until(Follower::is_readonly).await;
        // Those three were asked for under fresh ids and may be there after the restart, or not.
        let kept = ledger.len();
        reads_go_on(&at, &mut follower, kept).await;
        let Some(v1::resource::Value::Condition(condition)) = &follower.mirror.resources[READONLY].value
        else {
            panic!("not a condition");
        };
        assert!(condition.advice.contains("restart Hoist"), "{condition:?}");
        // Ticks pass: a full disk would be tried again.
        let begun = Clock::system().monotonic();
        while Clock::system().monotonic() - begun < Duration::from_millis(1_500) {
            follower.next().await;
        }
        assert!(Follower::is_readonly(&follower.mirror));
        drop((at, follower));
        let (status, log) = server.terminate().unwrap();
        assert!(status.success() && !log.contains("panic"), "{status}: {log}");
        assert!(log.contains("ERROR") && log.contains("read-only until restart"), "{log}");

        let made = tracer.detach().unwrap();
        let after = made.lines().skip_while(|line| !line.contains("INJECTED")).skip(1);
        let written: Vec<&str> = after.filter(|line| line.contains('(')).collect();
        assert!(written.is_empty() && made.contains("INJECTED"), "after a failed {calls}: {made}");
    }
    let server = place.start().unwrap();
    ledger.survived(&connect(&server.socket).await.unwrap()).await.unwrap();
}
