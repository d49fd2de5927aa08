//! What was acknowledged is so after a restart, wherever the server was killed.
//!
//! The server is the shipped binary; strace kills it before the first, second, third ... system call of each kind
//! that makes something durable, until what it was doing gets through. The oracle is the client's own ledger.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use hoist_domain::Reason;
use hoist_runtime::Clock;
use hoist_tests::inject::Injection;
use hoist_tests::ledger::{Seen, list};
use hoist_tests::quick::{QuickPlace, long_work, probe};
use hoist_tests::soak::{rounds, seeds};
use hoist_tests::{Channels, Ledger, Random, Sandbox, Server, connect, request_id};
use hoist_wire::longrunning::{CancelOperationRequest, GetOperationRequest, Operation};
use hoist_wire::status::Failure;
use hoist_wire::v1;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// System calls by which a commit reaches the disk.
const COMMIT: [&str; 2] = ["pwrite64", "fdatasync"];

/// System calls by which anything in the state directory reaches the disk.
const ALL: [&str; 6] = ["pwrite64", "fdatasync", "write", "fsync", "ftruncate", "renameat"];

/// At least this many kills over the tests of this file that count them, for every change.
const KILLS: usize = 50;

fn is_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

fn is_quiet(log: &str) -> bool {
    !log.contains("ERROR") && !log.contains("panic")
}

/// What the server does when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A submission, then the report of its end.
    Operation,
    Cancel,
    Delete,
    /// The last commit, the export, the closing of the store.
    Shutdown,
}

impl Step {
    /// Brings the server to where the step begins. The operation that the step is about, if it is about one.
    async fn prepare(self, place: &QuickPlace, ledger: &mut Ledger, at: &Channels) -> String {
        match self {
            Self::Operation => String::new(),
            Self::Cancel => {
                // Probes run one at a time, so the second one waits.
                ledger.submit(at, long_work()).await.unwrap();
                ledger.submit(at, place.work()).await.unwrap()
            }
            Self::Delete | Self::Shutdown => {
                let name = ledger.submit(at, place.work()).await.unwrap();
                ledger.end(at, &name).await.unwrap();
                name
            }
        }
    }

    /// An error: the server is dead.
    async fn act(
        self,
        place: &QuickPlace,
        ledger: &mut Ledger,
        at: &Channels,
        name: &str,
    ) -> Result<(), Status> {
        match self {
            Self::Operation => {
                let name = ledger.submit(at, place.work()).await?;
                ledger.end(at, &name).await.map(drop)
            }
            Self::Cancel => {
                at.operations().cancel_operation(CancelOperationRequest { name: name.to_owned() }).await?;
                let seen = ledger.end(at, name).await?;
                assert!(seen.ended_by(Reason::OperationCancelled), "{seen:?}");
                Ok(())
            }
            Self::Delete => ledger.delete(at, name).await,
            Self::Shutdown => {
                at.admin().shutdown(v1::ShutdownRequest::default()).await?;
                Ok(())
            }
        }
    }
}

/// How often the server was killed in this step.
async fn kill_everywhere(step: Step, calls: &[&str]) -> usize {
    let place = QuickPlace::new().unwrap();
    let mut ledger = Ledger::default();
    let mut kills = 0;
    for call in (0..rounds(1)).flat_map(|_| calls) {
        for nth in 1.. {
            let server = place.start().unwrap();
            let at = connect(&server.socket).await.unwrap();
            ledger.survived(&at).await.unwrap_or_else(|error| panic!("{step:?}, {call} {nth}: {error:#}"));
            let name = step.prepare(&place, &mut ledger, &at).await;
            ledger.look(&at).await.unwrap();
            let when = nth.to_string();
            let within = Some(place.sandbox.state_dir());
            let slow = if *call == "fdatasync" { "pwrite64" } else { "fdatasync" };
            let injection = Injection { calls: call, fault: "signal=SIGKILL", when: &when, within, slow };
            let tracer = injection.in_thread(server.process_id(), "control").unwrap();
            let acted = step.act(&place, &mut ledger, &at, &name).await;
            if step != Step::Shutdown && acted.is_ok() {
                tracer.detach().unwrap();
                server.kill().unwrap();
                break;
            }
            let (status, log) = server.wait().unwrap();
            assert!(is_quiet(&log), "{log}");
            if !is_killed(status) {
                assert!(step == Step::Shutdown && status.success(), "{status}: {log}");
                break;
            }
            kills += 1;
        }
    }
    println!("{step:?}: {kills} kills");
    kills
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_operation_survives_sigkill_at_every_durable_step() {
    assert!(kill_everywhere(Step::Operation, &COMMIT).await >= KILLS / 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_operation_stays_deleted_after_sigkill_at_every_durable_step() {
    assert!(kill_everywhere(Step::Delete, &COMMIT).await >= KILLS / 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_operation_stays_cancelled_after_sigkill_at_every_durable_step() {
    assert!(kill_everywhere(Step::Cancel, &COMMIT).await >= KILLS / 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_by_sigkill_at_every_durable_step_of_a_shutdown() {
    assert!(kill_everywhere(Step::Shutdown, &ALL).await >= KILLS / 4);
}

/// A start that is killed before the nth call of a kind. `Some`: it got through, and serves.
fn start_killed(place: &QuickPlace, call: &str, nth: usize) -> Option<Server> {
    let when = nth.to_string();
    let within = Some(place.sandbox.state_dir());
    let injection = Injection { calls: call, fault: "signal=SIGKILL", when: &when, within, slow: "" };
    let words = injection.from_the_start();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match Server::spawn(place.sandbox.command_under(&words)) {
        Ok(server) => Some(server),
        Err(error) => {
            let error = format!("{error:#}");
            assert!(error.contains("signal: 9") && is_quiet(&error), "{call} {nth}: {error}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_was_killed_anywhere_leaves_an_empty_store_or_none() {
    let mut kills = 0;
    for call in (0..rounds(1)).flat_map(|_| ALL) {
        for nth in 1.. {
            let place = QuickPlace::new().unwrap();
            if start_killed(&place, call, nth).is_some() {
                break;
            }
            kills += 1;
            let server = place.start().unwrap();
            let at = connect(&server.socket).await.unwrap();
            let status = at.state().get_status(v1::GetStatusRequest::default()).await.unwrap();
            let machine = status.into_inner().status.unwrap().machine.unwrap();
            assert_eq!(machine.conditions, [], "{call} {nth}: there was nothing to lose");
            let mut ledger = Ledger::default();
            ledger.survived(&at).await.unwrap();
            let name = ledger.submit(&at, place.work()).await.unwrap();
            ledger.end(&at, &name).await.unwrap();
            assert!(is_quiet(&server.kill().unwrap()));
            let server = place.start().unwrap();
            ledger.survived(&connect(&server.socket).await.unwrap()).await.unwrap();
        }
    }
    println!("first start: {kills} kills");
    assert!(kills >= KILLS / 3, "{kills}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_was_killed_anywhere_loses_nothing_and_resolves_what_ran() {
    let place = QuickPlace::new().unwrap();
    let mut ledger = Ledger::default();
    let mut kills = 0;
    for call in (0..rounds(1)).flat_map(|_| ALL) {
        for nth in 1.. {
            let server = place.start().unwrap();
            let at = connect(&server.socket).await.unwrap();
            ledger.survived(&at).await.unwrap_or_else(|error| panic!("{call} {nth}: {error:#}"));
            // One runs and one waits when the server dies: the start to come has a commit to make.
            let running = ledger.submit(&at, long_work()).await.unwrap();
            let waiting = ledger.submit(&at, place.work()).await.unwrap();
            ledger.look(&at).await.unwrap();
            server.kill().unwrap();
            if let Some(server) = start_killed(&place, call, nth) {
                // Resolved before it was ready.
                let at = connect(&server.socket).await.unwrap();
                for name in [running, waiting] {
                    let operation =
                        at.operations().get_operation(GetOperationRequest { name }).await.unwrap();
                    let seen = Seen::of(operation.get_ref()).unwrap();
                    assert!(seen.ended_by(Reason::CoordinatorRestarted), "{seen:?}");
                }
                break;
            }
            kills += 1;
        }
    }
    println!("next start: {kills} kills");
    assert!(kills >= KILLS / 3, "{kills}");
}

/// Every operation that this request id made.
async fn made_by(at: &Channels, id: &str) -> Vec<Operation> {
    let made = |operation: &Operation| Seen::of(operation).unwrap().metadata.request_id == id;
    list(at).await.unwrap().into_values().filter(made).collect()
}

/// Kills the server when it is about to write an answer to any socket. The connection is settled, so that the next
/// thing to be written is the answer to the next call.
fn kill_at_the_answer(server: &Server) -> hoist_tests::inject::Tracer {
    let calls = "writev,sendmsg,sendto";
    let injection = Injection { calls, fault: "signal=SIGKILL", when: "1", within: None, slow: "" };
    injection.in_every_thread(server.process_id()).unwrap()
}

/// C4. Between the commit and the answer, the client cannot know; its retry finds out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_answer_was_cut_off_is_answered_by_its_retry() {
    let place = QuickPlace::new().unwrap();
    let mut ledger = Ledger::default();
    for round in 0..rounds(6) {
        let server = place.start().unwrap();
        let at = connect(&server.socket).await.unwrap();
        ledger.survived(&at).await.unwrap();
        let tracer = kill_at_the_answer(&server);
        let message = ledger.ask(place.work());
        let id = message.request_id.clone();
        assert!(at.admin().probe_machine(message).await.is_err(), "round {round}");
        assert!(is_killed(server.wait().unwrap().0));
        drop(tracer);

        let server = place.start().unwrap();
        let at = connect(&server.socket).await.unwrap();
        let made = made_by(&at, &id).await;
        assert_eq!(made.len(), 1, "it was committed before the answer was written: {made:?}");
        // Retries, and finds that nothing else was made.
        ledger.survived(&at).await.unwrap();
        let after = made_by(&at, &id).await;
        assert_eq!(after.len(), 1);
        assert_eq!(after[0].name, made[0].name);

        let tracer = kill_at_the_answer(&server);
        assert!(ledger.delete(&at, &made[0].name).await.is_err());
        assert!(is_killed(server.wait().unwrap().0));
        drop(tracer);
        let server = place.start().unwrap();
        let at = connect(&server.socket).await.unwrap();
        let again = at.operations().get_operation(GetOperationRequest { name: made[0].name.clone() }).await;
        assert_eq!(again.unwrap_err().code(), Code::NotFound);
        ledger.survived(&at).await.unwrap();
        server.kill().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_whose_answer_was_cut_off_does_not_stop_the_next_coordinator() {
    let place = Sandbox::new().unwrap();
    let server = place.start().unwrap();
    let at = connect(&server.socket).await.unwrap();
    Ledger::default().look(&at).await.unwrap();
    let tracer = kill_at_the_answer(&server);
    let request = v1::ShutdownRequest { request_id: request_id(), grace: None };
    assert!(at.admin().shutdown(request.clone()).await.is_err());
    assert!(is_killed(server.wait().unwrap().0));
    drop(tracer);

    let server = place.start().unwrap();
    let at = connect(&server.socket).await.unwrap();
    at.admin().shutdown(request).await.unwrap();
    // A stop would have drained the state before it was answered; a mutation shows that it is not so.
    let probe = probe(v1::MeasurementKind::MemoryCopy, 16 << 20);
    at.admin().probe_machine(probe).await.unwrap();
    at.admin().shutdown(v1::ShutdownRequest::default()).await.unwrap();
    let (status, log) = server.wait().unwrap();
    assert!(status.success() && is_quiet(&log), "{status}: {log}");
}

/// One client of many: asks for this and that until the server is gone.
async fn work(
    at: Channels,
    quick: v1::ProbeMachineRequest,
    mut random: Random,
    acks: mpsc::Sender<()>,
) -> Ledger {
    let mut ledger = Ledger::default();
    let mut mine = Vec::new();
    loop {
        let done = match (random.below(8), mine.is_empty()) {
            (0..4, _) | (_, true) => {
                // Not all alike: equal work that is not done is joined.
                let bytes = quick.bytes + (random.below(4) << 20);
                let message = v1::ProbeMachineRequest { bytes, ..quick.clone() };
                ledger.submit(&at, message).await.map(|name| mine.push(name))
            }
            (4..6, _) => ledger.end(&at, &mine[random.index(mine.len())]).await.map(drop),
            (6, _) => {
                let name = mine[random.index(mine.len())].clone();
                at.operations().cancel_operation(CancelOperationRequest { name }).await.map(drop)
            }
            _ => {
                let name = mine.swap_remove(random.index(mine.len()));
                ledger.delete(&at, &name).await
            }
        };
        match done.map_err(|status| Failure::from(&status)) {
            Ok(()) => {}
            // Others delete what we joined, or what we have deleted is asked for again.
            Err(failure) if failure.is(Reason::ResourceNotFound) || failure.is(Reason::OperationNotDone) => {}
            Err(_) => return ledger,
        }
        if acks.send(()).await.is_err() {
            return ledger;
        }
    }
}

/// R6, at any moment rather than at the durable ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_sigkill_at_any_moment() {
    const CLIENTS: u64 = 8;
    let place = QuickPlace::new().unwrap();
    let mut ledger = Ledger::default();
    let clock = Clock::system();
    let mut longest = Duration::ZERO;
    for seed in seeds(12) {
        let begun = clock.monotonic();
        let server = place.start().unwrap();
        longest = longest.max(clock.monotonic() - begun);
        let at = connect(&server.socket).await.unwrap();
        ledger.survived(&at).await.unwrap_or_else(|error| panic!("before seed {seed}: {error:#}"));
        let (acks, mut acked) = mpsc::channel(1);
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let at = connect(&server.socket).await.unwrap();
            clients.spawn(work(at, place.work(), Random::new(seed << 8 | client), acks.clone()));
        }
        drop(acks);
        for _ in 0..=Random::new(seed).below(100) {
            acked.recv().await.unwrap();
        }
        assert!(is_quiet(&server.kill().unwrap()));
        drop(acked);
        while let Some(told) = clients.join_next().await {
            ledger.absorb(told.unwrap()).unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
        }
    }
    println!("{} operations are known, the longest start took {longest:?}", ledger.len());
}

/// I1, R14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_duplicates_of_one_request_make_one_operation_and_a_restart_makes_no_other() {
    const DUPLICATES: usize = 1_000;
    // A connection carries at most 256 calls at once.
    const CONNECTIONS: usize = 8;
    let place = QuickPlace::new().unwrap();
    let message = v1::ProbeMachineRequest { request_id: request_id(), ..place.work() };
    let mut names = std::collections::BTreeSet::new();
    for life in 0..2 {
        let server = place.start().unwrap();
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(connect(&server.socket).await.unwrap());
        }
        let mut calls = JoinSet::new();
        for at in connections.iter().cycle().take(DUPLICATES) {
            let (message, mut admin) = (message.clone(), at.admin());
            calls.spawn(async move { admin.probe_machine(message).await });
        }
        let answers = calls.join_all().await;
        assert_eq!(answers.len(), DUPLICATES);
        names.extend(answers.into_iter().map(|answer| answer.unwrap().into_inner().name));
        assert_eq!(names.len(), 1, "in life {life}: {names:?}");
        assert_eq!(list(&connections[0]).await.unwrap().len(), 1, "in life {life}");

        let other = v1::ProbeMachineRequest { bytes: 17 << 20, ..message.clone() };
        let refused = connections[0].admin().probe_machine(other).await.unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists);
        assert!(Failure::from(&refused).is(Reason::RequestIdReused), "{refused:?}");
        // How long the caller waits is not content.
        let patient = prost_types::Duration { seconds: 5, nanos: 0 };
        let waits = v1::ProbeMachineRequest { wait_for: Some(patient), ..message.clone() };
        let answer = connections[0].admin().probe_machine(waits).await.unwrap().into_inner();
        assert!(names.contains(&answer.name) && answer.done, "{answer:?}");
        assert!(is_quiet(&server.kill().unwrap()));
    }
}
