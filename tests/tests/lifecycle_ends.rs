//! Operations, watches and the server from their beginnings to their ends, as clients see them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use hoist_domain::Reason;
use hoist_runtime::Clock;
use hoist_tests::ledger::Seen;
use hoist_tests::quick::{QuickPlace, probe};
use hoist_tests::soak::seeds;
use hoist_tests::{Channels, Ledger, Mirror, Random, Sandbox, Server, connect, process};
use hoist_wire::longrunning::{CancelOperationRequest, GetOperationRequest};
use hoist_wire::status::Failure;
use hoist_wire::v1;
use hoist_wire::v1::resource::Value;
use hoist_wire::v1::watch_response::Event;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// C9, R24.
const STOP: Duration = Duration::from_secs(10);

const fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

const fn milliseconds(milliseconds: i32) -> prost_types::Duration {
    prost_types::Duration { seconds: 0, nanos: milliseconds * 1_000_000 }
}

fn is_quiet(log: &str) -> bool {
    !log.contains("ERROR") && !log.contains("panic")
}

const fn is_end(state: v1::OperationState) -> bool {
    use v1::OperationState::{Cancelled, Failed, Succeeded};
    matches!(state, Succeeded | Failed | Cancelled)
}

/// Work that keeps processors busy for a second at least, and stops within milliseconds of being told to.
fn busy_work() -> v1::ProbeMachineRequest {
    probe(v1::MeasurementKind::MemoryCopy, 256 << 30)
}

async fn operation(at: &Channels, name: &str) -> Seen {
    let request = GetOperationRequest { name: name.to_owned() };
    Seen::of(at.operations().get_operation(request).await.unwrap().get_ref()).unwrap()
}

/// A watch, and what it makes of the state.
struct Follower {
    stream: Streaming<v1::WatchResponse>,
    mirror: Mirror,
}

impl Follower {
    async fn of(at: &Channels, request: v1::WatchRequest) -> Self {
        let stream = at.state().watch(request).await.unwrap().into_inner();
        let mut follower = Self { stream, mirror: Mirror::new() };
        while follower.mirror.position.is_none() {
            follower.next().await.unwrap();
        }
        follower
    }

    async fn next(&mut self) -> Result<v1::WatchResponse, Status> {
        let message = self.stream.message().await?.expect("a watch ends with a status");
        self.mirror.take(message.clone()).unwrap();
        Ok(message)
    }

    fn state_of(&self, name: &str) -> Option<v1::OperationState> {
        match &self.mirror.resources.get(name)?.value {
            Some(Value::Operation(operation)) => Some(operation.state()),
            other => panic!("{name} is {other:?}"),
        }
    }
}

/// Waits until a running operation has moved bytes, from now on: it has not been told to stop, and ends soon after it
/// is.
async fn is_at_work(at: &Channels, name: &str) {
    let request = v1::WatchRequest {
        filter: Some(v1::WatchFilter { names: vec![name.to_owned()], ..Default::default() }),
        progress_interval: Some(milliseconds(100)),
        ..Default::default()
    };
    let mut follower = Follower::of(at, request).await;
    let mut first = None;
    loop {
        let message = follower.next().await.unwrap();
        assert!(!follower.state_of(name).is_some_and(is_end), "{name} is {:?}", follower.state_of(name));
        let Some(Event::Progress(sample)) = message.event else { continue };
        let done = sample.operations[0].progress.as_ref().unwrap().done_bytes;
        if done > *first.get_or_insert(done) {
            return;
        }
    }
}

/// C9, R24. On the way out: R22.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_watches_and_work_and_loses_nothing() {
    const WATCHES: usize = 200;
    let mut sandbox = Sandbox::new().unwrap();
    sandbox.environment.push(("HOIST_SHUTDOWN_GRACE".into(), "50ms".into()));
    let server = sandbox.start().unwrap();
    let mut ledger = Ledger::default();
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(connect(&server.socket).await.unwrap());
    }
    let at = connections[0].clone();
    let running = ledger.submit(&at, busy_work()).await.unwrap();
    let waiting = ledger.submit(&at, probe(v1::MeasurementKind::MemoryCopy, 16 << 20)).await.unwrap();
    ledger.look(&at).await.unwrap();
    let mut watches = JoinSet::new();
    for at in connections.iter().cycle().take(WATCHES) {
        let mut follower = Follower::of(at, v1::WatchRequest::default()).await;
        watches.spawn(async move {
            let ended = loop {
                if let Err(status) = follower.next().await {
                    break status;
                }
            };
            (ended, follower)
        });
    }
    is_at_work(&at, &running).await;
    maps_no_gpu_library(&server);

    let clock = Clock::system();
    let begun = clock.monotonic();
    server.signal(Signal::TERM).unwrap();
    for (ended, follower) in watches.join_all().await {
        assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
        assert!(Failure::from(&ended).is(Reason::Draining), "{ended:?}");
        // The drain itself is part of the history, and was sent before the end.
        let Some(Value::Machine(machine)) = &follower.mirror.resources["machine"].value else { panic!() };
        assert_eq!(machine.state(), v1::machine::State::Draining);
        assert_eq!(follower.state_of(&waiting), Some(v1::OperationState::Cancelled));
    }
    let (status, log) = server.wait().unwrap();
    let took = clock.monotonic() - begun;
    println!("ended after {took:?}");
    assert!(status.success() && is_quiet(&log), "{status}: {log}");
    assert!(took <= STOP, "{took:?}");

    let server = sandbox.start().unwrap();
    let at = connect(&server.socket).await.unwrap();
    for name in [running, waiting] {
        let seen = operation(&at, &name).await;
        assert!(seen.state() == v1::OperationState::Cancelled && seen.ended_by(Reason::Draining), "{seen:?}");
    }
    ledger.survived(&at).await.unwrap();
}

/// R22: the coordinator must not die of a driver.
fn maps_no_gpu_library(server: &Server) {
    let mapped = process::mapped_files(server.process_id()).unwrap();
    assert!(mapped.iter().any(|path| path.contains("libc.so")), "{mapped:?}");
    for library in ["cuda", "torch", "nvidia", "c10", "cudnn", "nccl"] {
        assert!(
            !mapped.iter().any(|path| path.to_lowercase().contains(&format!("lib{library}"))),
            "{mapped:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_the_server_at_once() {
    let mut sandbox = Sandbox::new().unwrap();
    sandbox.environment.push(("HOIST_SHUTDOWN_GRACE".into(), "10s".into()));
    let server = sandbox.start().unwrap();
    let at = connect(&server.socket).await.unwrap();
    let mut ledger = Ledger::default();
    let name = ledger.submit(&at, busy_work()).await.unwrap();
    is_at_work(&at, &name).await;
    ledger.look(&at).await.unwrap();
    let mut follower = Follower::of(&at, v1::WatchRequest::default()).await;
    server.signal(Signal::TERM).unwrap();
    while follower.next().await.is_ok() {}
    // It drains now, and waits for the operation.
    // A terminal and a supervisor may both pass one wish on: what comes at once is no second wish.
    server.signal(Signal::INT).unwrap();
    let clock = Clock::system();
    let begun = clock.monotonic();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    server.signal(Signal::TERM).unwrap();
    let (status, log) = server.wait().unwrap();
    let took = clock.monotonic() - begun;
    assert!(took <= Duration::from_secs(3), "{took:?}");
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("error: stopped at once by a second signal (SIGTERM)"), "{log}");
    assert!(is_quiet(&log), "{log}");

    let server = sandbox.start().unwrap();
    let at = connect(&server.socket).await.unwrap();
    assert!(operation(&at, &name).await.ended_by(Reason::CoordinatorRestarted));
    ledger.survived(&at).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_the_grace_period_whoever_comes_can_look_and_cancel_and_hurry_but_not_begin() {
    let mut sandbox = Sandbox::new().unwrap();
    sandbox.environment.push(("HOIST_SHUTDOWN_GRACE".into(), "10s".into()));
    let server = sandbox.start().unwrap();
    let before = connect(&server.socket).await.unwrap();
    let first = before.admin().probe_machine(busy_work()).await.unwrap().into_inner().name;
    is_at_work(&before, &first).await;
    let mut follower = Follower::of(&before, v1::WatchRequest::default()).await;
    let clock = Clock::system();
    let begun = clock.monotonic();
    server.signal(Signal::TERM).unwrap();
    while follower.next().await.is_ok() {}

    // On a connection from before, and on one that is made now.
    for at in [&before, &connect(&server.socket).await.unwrap()] {
        let seen = operation(at, &first).await;
        assert_eq!(seen.state(), v1::OperationState::Running, "too fast to show anything");
        let mut health = HealthClient::new(at.channel.clone());
        let health = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::NotServing);
        for refused in [
            at.admin().probe_machine(probe(v1::MeasurementKind::MemoryCopy, 16 << 20)).await.unwrap_err(),
            at.state().watch(v1::WatchRequest::default()).await.unwrap_err(),
        ] {
            assert!(Failure::from(&refused).is(Reason::Draining), "{refused:?}");
        }
    }
    let at = connect(&server.socket).await.unwrap();
    at.operations().cancel_operation(CancelOperationRequest { name: first.clone() }).await.unwrap();
    let (status, log) = server.wait().unwrap();
    assert!(status.success() && is_quiet(&log) && !log.contains("WARN"), "{status}: {log}");
    assert!(clock.monotonic() - begun < Duration::from_secs(8), "it was not cancelled");
    assert!(!sandbox.socket().exists());

    // The same again, with somebody who is in a hurry.
    let server = sandbox.start().unwrap();
    let at = connect(&server.socket).await.unwrap();
    assert_eq!(operation(&at, &first).await.state(), v1::OperationState::Cancelled);
    let second = at.admin().probe_machine(busy_work()).await.unwrap().into_inner().name;
    is_at_work(&at, &second).await;
    let begun = clock.monotonic();
    server.signal(Signal::TERM).unwrap();
    let hurry = v1::ShutdownRequest { grace: Some(milliseconds(1)), ..Default::default() };
    at.admin().shutdown(hurry).await.unwrap();
    let (status, log) = server.wait().unwrap();
    assert!(status.success() && log.contains("grace period is over"), "{status}: {log}");
    assert!(clock.monotonic() - begun < Duration::from_secs(8), "it was not hurried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_somebody_removed_comes_back() {
    let sandbox = Sandbox::new().unwrap();
    let server = sandbox.start().unwrap();
    let before = connect(&server.socket).await.unwrap();
    std::fs::remove_file(&server.socket).unwrap();
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let at = loop {
        looks.tick().await;
        if let Ok(at) = connect(&server.socket).await {
            break at;
        }
    };
    assert_eq!(watch_streams(&at).await, watch_streams(&before).await);
    let (status, log) = server.terminate().unwrap();
    assert!(status.success() && log.contains("somebody removed the socket"), "{status}: {log}");
    assert!(!sandbox.socket().exists());
}

/// Somebody who waits, on a connection of their own, with a watch on it: when the server has noticed that they are
/// gone, it has one watch less.
struct Waiter {
    task: tokio::task::AbortHandle,
    tasks: JoinSet<()>,
    at: Channels,
    follower: Follower,
}

impl Waiter {
    async fn for_work(server: &Server, message: v1::ProbeMachineRequest) -> Self {
        let at = connect(&server.socket).await.unwrap();
        let follower = Follower::of(&at, v1::WatchRequest::default()).await;
        let mut tasks = JoinSet::new();
        let waits = v1::ProbeMachineRequest { wait_for: Some(seconds(60)), ..message };
        let mut admin = at.admin();
        let task = tasks.spawn(async move { drop(admin.probe_machine(waits).await) });
        Self { task, tasks, at, follower }
    }

    async fn goes_away(mut self) {
        self.task.abort();
        while self.tasks.join_next().await.is_some() {}
        drop((self.follower, self.at));
    }
}

async fn watch_streams(at: &Channels) -> u32 {
    let answer = at.state().get_status(v1::GetStatusRequest::default()).await.unwrap().into_inner();
    answer.status.unwrap().machine.unwrap().watch_streams
}

/// N1's stage: a server, a watch of everything on it, and a way to know what it has noticed.
struct Stage {
    server: Server,
    at: Channels,
    follower: Follower,
    _sandbox: Sandbox,
}

impl Stage {
    async fn new() -> Self {
        let sandbox = Sandbox::new().unwrap();
        let server = sandbox.start().unwrap();
        let at = connect(&server.socket).await.unwrap();
        let follower = Follower::of(&at, v1::WatchRequest::default()).await;
        Self { server, at, follower, _sandbox: sandbox }
    }

    /// The one operation there is, once it runs.
    async fn running(&mut self) -> String {
        loop {
            let running = |name: &&String| self.follower.state_of(name) == Some(v1::OperationState::Running);
            let mut names =
                self.follower.mirror.resources.keys().filter(|name| name.starts_with("operations/"));
            if let Some(name) = names.find(running) {
                return name.clone();
            }
            self.follower.next().await.unwrap();
        }
    }

    /// Waits until the server has so many requests to remember: each of those that wait has arrived.
    async fn requests(&self, count: u32) {
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        loop {
            let answer = self.at.state().get_status(v1::GetStatusRequest::default()).await.unwrap();
            if answer.into_inner().status.unwrap().machine.unwrap().request_ids == count {
                return;
            }
            looks.tick().await;
        }
    }

    /// Waits until the server has noticed that all but so many watches are gone.
    async fn watches(&self, count: u32) {
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        while watch_streams(&self.at).await != count {
            looks.tick().await;
        }
    }

    async fn end_of(&mut self, name: &str) -> Seen {
        while !self.follower.state_of(name).is_some_and(is_end) {
            self.follower.next().await.unwrap();
        }
        operation(&self.at, name).await
    }
}

fn work(cancel_on_disconnect: bool) -> v1::ProbeMachineRequest {
    v1::ProbeMachineRequest { cancel_on_disconnect, ..busy_work() }
}

fn is_cancelled(seen: &Seen) -> bool {
    seen.state() == v1::OperationState::Cancelled && seen.ended_by(Reason::OperationCancelled)
}

/// N1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_waiter_takes_its_operation_with_it_if_it_said_so() {
    let mut stage = Stage::new().await;
    let waiter = Waiter::for_work(&stage.server, work(true)).await;
    let name = stage.running().await;
    waiter.goes_away().await;
    let seen = stage.end_of(&name).await;
    assert!(is_cancelled(&seen) && seen.metadata.cancel_requested, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_waiter_leaves_its_operation_running_unless_it_said_so() {
    let mut stage = Stage::new().await;
    let waiter = Waiter::for_work(&stage.server, work(false)).await;
    let name = stage.running().await;
    waiter.goes_away().await;
    stage.watches(1).await;
    assert_eq!(
        operation(&stage.at, &name).await.state(),
        v1::OperationState::Running,
        "too fast to show anything"
    );
    let seen = stage.end_of(&name).await;
    assert!(seen.state() == v1::OperationState::Succeeded && !seen.metadata.cancel_requested, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_several_waiters_takes_the_operation_with_it_and_no_other() {
    let mut stage = Stage::new().await;
    let first = Waiter::for_work(&stage.server, work(true)).await;
    let second = Waiter::for_work(&stage.server, work(true)).await;
    let name = stage.running().await;
    stage.requests(2).await;
    first.goes_away().await;
    stage.watches(2).await;
    is_at_work(&stage.at, &name).await;
    let seen = operation(&stage.at, &name).await;
    assert!(seen.state() == v1::OperationState::Running && !seen.metadata.cancel_requested, "{seen:?}");
    second.goes_away().await;
    let seen = stage.end_of(&name).await;
    assert!(is_cancelled(&seen), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_somebody_wants_done_outlives_its_waiters() {
    let mut stage = Stage::new().await;
    // Seconds, and an end that can be waited for.
    let of = |cancel| v1::ProbeMachineRequest { bytes: 64 << 30, ..work(cancel) };
    let waiter = Waiter::for_work(&stage.server, of(true)).await;
    let name = stage.running().await;
    let wanted = stage.at.admin().probe_machine(of(false)).await.unwrap().into_inner();
    assert_eq!(wanted.name, name, "equal work is joined");
    waiter.goes_away().await;
    stage.watches(1).await;
    assert_eq!(
        operation(&stage.at, &name).await.state(),
        v1::OperationState::Running,
        "too fast to show anything"
    );
    assert_eq!(stage.end_of(&name).await.state(), v1::OperationState::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_takes_too_long_fails_by_its_deadline() {
    let mut stage = Stage::new().await;
    let first = v1::ProbeMachineRequest { deadline: Some(milliseconds(300)), ..busy_work() };
    let running = stage.at.admin().probe_machine(first).await.unwrap().into_inner().name;
    // This one waits for the first, which takes longer than both are given.
    let second = v1::ProbeMachineRequest { deadline: Some(milliseconds(100)), bytes: 1 << 30, ..busy_work() };
    let waiting = stage.at.admin().probe_machine(second).await.unwrap().into_inner().name;
    for name in [waiting, running] {
        let seen = stage.end_of(&name).await;
        assert_eq!(seen.state(), v1::OperationState::Failed, "{seen:?}");
        assert!(seen.ended_by(Reason::DeadlineExceeded) && !seen.metadata.cancel_requested, "{seen:?}");
    }
}

/// Every end that a watch has seen, by operation.
#[derive(Default)]
struct Ends(BTreeMap<String, (v1::Position, v1::OperationState)>);

impl Ends {
    /// Takes a message that the follower has just taken. An operation that has ended never changes again.
    fn note(&mut self, message: v1::WatchResponse, follower: &Follower) {
        let Some(Event::Delta(delta)) = message.event else { return };
        for change in delta.changes.iter().filter(|change| change.name.starts_with("operations/")) {
            let at = delta.position.unwrap();
            let state = follower.state_of(&change.name).unwrap();
            assert!(
                !self.0.contains_key(&change.name),
                "{change:?} at {at:?}, after {:?}",
                self.0[&change.name]
            );
            if is_end(state) {
                self.0.insert(change.name.clone(), (at, state));
            }
        }
    }
}

/// I2. Whoever was first has decided, and everybody sees one end, in one revision.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_that_races_the_end_makes_exactly_one_end() {
    const QUEUE: u64 = 5;
    let place = QuickPlace::new().unwrap();
    let server = place.start().unwrap();
    let at = connect(&server.socket).await.unwrap();
    let mut follower = Follower::of(&at, v1::WatchRequest::default()).await;
    let mut ends = Ends::default();
    let (mut succeeded, mut cancelled, mut too_late) = (0, 0, 0);
    for seed in seeds(200) {
        let mut random = Random::new(seed);
        // Probes run one at a time: the end of one is the beginning of the next.
        let submit = |number: u64| {
            let message =
                v1::ProbeMachineRequest { bytes: place.work().bytes + (number << 20), ..place.work() };
            let mut admin = at.admin();
            async move { admin.probe_machine(message).await.unwrap().into_inner().name }
        };
        let names = futures_util::future::join_all((0..QUEUE).map(submit)).await;
        // Not to wait for anything: it is the chance that the race needs.
        tokio::time::sleep(Duration::from_micros(random.below(8_000))).await;
        let name = random.pick(&names).unwrap().clone();
        at.operations().cancel_operation(CancelOperationRequest { name: name.clone() }).await.unwrap();
        while !names.iter().all(|name| ends.0.contains_key(name)) {
            let message = follower.next().await.unwrap();
            ends.note(message, &follower);
        }
        let seen = operation(&at, &name).await;
        assert_eq!(seen.state(), ends.0[&name].1, "seed {seed}");
        too_late += u32::from(seen.metadata.cancel_requested);
        match seen.state() {
            v1::OperationState::Succeeded => succeeded += 1,
            v1::OperationState::Cancelled => cancelled += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    println!("{succeeded} succeeded, {cancelled} were cancelled, {too_late} were running when they were");
    assert!(succeeded > 9 && cancelled > 9, "no race: {succeeded} succeeded, {cancelled} were cancelled");
    for (name, (_, state)) in &ends.0 {
        assert_eq!(operation(&at, name).await.state(), *state, "{name} has changed since");
    }
    assert!(is_quiet(&server.kill().unwrap()));
}

/// Makes changes, and gives every delta of a watch that saw them.
async fn history(at: &Channels, place: &QuickPlace, operations: usize) -> Vec<v1::Delta> {
    let mut follower = Follower::of(at, v1::WatchRequest::default()).await;
    let mut deltas = Vec::new();
    for _ in 0..operations {
        let name = at.admin().probe_machine(place.work()).await.unwrap().into_inner().name;
        while !follower.state_of(&name).is_some_and(is_end) {
            if let Some(Event::Delta(delta)) = follower.next().await.unwrap().event {
                deltas.push(delta);
            }
        }
    }
    deltas
}

async fn refused_from(at: &Channels, from: v1::Position) -> Failure {
    let request = v1::WatchRequest { from: Some(from), ..Default::default() };
    let refused = at.state().watch(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    Failure::from(&refused)
}

/// N3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_from_where_it_was_or_is_told_why_not() {
    const KEPT: usize = 12;
    let mut place = QuickPlace::new().unwrap();
    place.sandbox.environment.push(("HOIST_WATCH_HISTORY_EVENTS".into(), KEPT.to_string()));
    let server = place.start().unwrap();
    let at = connect(&server.socket).await.unwrap();
    let deltas = history(&at, &place, 16).await;
    let last = deltas.last().unwrap().position.unwrap();
    let status = at.state().get_status(v1::GetStatusRequest::default()).await.unwrap().into_inner();
    let oldest = status.status.unwrap().machine.unwrap().oldest_revision;
    let mut continued = 0;
    for from in 1..=last.revision {
        let from = v1::Position { epoch: last.epoch, revision: from };
        if from.revision < oldest {
            let failure = refused_from(&at, from).await;
            assert!(failure.is(Reason::RevisionCompacted), "{from:?}, oldest {oldest}: {failure:?}");
            assert_eq!(failure.metadata["oldest_revision"], oldest.to_string());
            continue;
        }
        continued += 1;
        let soon = Some(milliseconds(100));
        let request = v1::WatchRequest { from: Some(from), mark_interval: soon, ..Default::default() };
        let mut stream = at.state().watch(request).await.unwrap().into_inner();
        let expected = deltas.iter().filter(|delta| delta.position.unwrap().revision > from.revision);
        for delta in expected {
            let message = stream.message().await.unwrap().unwrap();
            assert_eq!(message.event, Some(Event::Delta(delta.clone())), "from {from:?}");
        }
        let mark = stream.message().await.unwrap().unwrap();
        assert_eq!(mark.event, Some(Event::Mark(v1::Mark { position: Some(last) })), "from {from:?}");
    }
    assert!(continued >= KEPT && oldest > 1, "{continued} of {} continued, oldest {oldest}", last.revision);
    for (epoch, revision) in [(0, 1), (0, 100), (1, 0), (-1, 0)] {
        let epoch = last.epoch.checked_add_signed(epoch).unwrap();
        let failure = refused_from(&at, v1::Position { epoch, revision: last.revision + revision }).await;
        assert!(failure.is(Reason::EpochMismatch), "{failure:?}");
    }

    // Nothing of an earlier life is continued: not even what nothing came after.
    server.kill().unwrap();
    let server = place.start().unwrap();
    let at = connect(&server.socket).await.unwrap();
    let failure = refused_from(&at, last).await;
    assert!(failure.is(Reason::EpochMismatch), "{failure:?}");
    let mut follower = Follower::of(&at, v1::WatchRequest::default()).await;
    assert_eq!(follower.mirror.resources.len(), 17);
    let name = at.admin().probe_machine(place.work()).await.unwrap().into_inner().name;
    while !follower.state_of(&name).is_some_and(is_end) {
        follower.next().await.unwrap();
    }
}
