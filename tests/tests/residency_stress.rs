//! Many at once: loads and unloads of the same models by many callers, undisturbed, and while workers are killed under them. However that
//! goes, everything ends, what is there is what is told, and both sides agree.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use hoist_tests::library::{Library, Open, Watcher, reason};
use hoist_tests::loading::{
    self, devices_are_true, library, load_with, replicas, single, unload, until_open,
};
use hoist_tests::{Channels, Random, process, soak};
use hoist_wire::{longrunning, v1};
use rustix::process::{Pid, Signal, kill_process};

const CALLERS: usize = 32;
const MODELS: usize = 12;

/// Two devices, neither of which has room for all.
fn many() -> Library {
    let library = library("cpu:0=6MiB,cpu:1=5MiB").unwrap();
    for number in 0..MODELS {
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let value = number as f32;
        single(&library, &format!("m{number}"), value, 1).unwrap();
    }
    library
}

/// What may become of a request when others want the same.
fn is_fair(reason: &str, is_disturbed: bool) -> bool {
    let always = ["VRAM_EXHAUSTED", "OVERLOADED", "OPERATIONS_EXHAUSTED", "IN_USE"];
    let disturbed = ["WORKER_LOST"];
    always.contains(&reason) || (is_disturbed && disturbed.contains(&reason))
}

/// Loads and unloads until `goes_on` says no more; how often it has gone well, by what it was.
async fn call(
    at: Channels,
    seed: u64,
    is_disturbed: bool,
    goes_on: impl Fn() -> bool,
) -> BTreeMap<String, usize> {
    let mut random = Random::new(seed);
    let mut counts = BTreeMap::new();
    let mut count = |what: &str| *counts.entry(what.to_owned()).or_default() += 1;
    while goes_on() {
        let name = format!("m{}", random.index(MODELS));
        let told = if random.percent(60) {
            let device_id = random.pick(&["", "cpu:0", "cpu:1"]).copied().unwrap_or_default().to_owned();
            let options = v1::LoadOptions { device_id, force: random.percent(30), ..Default::default() };
            load_with(&at, &name, &[], options).await.map(|_| "loaded")
        } else {
            unload(&at, &name, &[]).await.map(|_| "unloaded")
        };
        match told {
            Ok(what) => count(what),
            Err(error) => {
                assert!(is_fair(&reason(&error), is_disturbed), "{error:?}");
                count(&reason(&error));
            }
        }
    }
    counts
}

/// All callers at once; how often what has come of their requests.
async fn all_at_once(
    at: &Channels,
    is_disturbed: bool,
    goes_on: impl Fn() -> bool + Clone,
) -> BTreeMap<String, usize> {
    let callers = (0..CALLERS as u64).map(|seed| call(at.clone(), seed, is_disturbed, goes_on.clone()));
    let mut all = BTreeMap::new();
    for (what, count) in join_all(callers).await.into_iter().flatten() {
        *all.entry(what).or_default() += count;
    }
    all
}

async fn active(at: &Channels) -> usize {
    let request =
        |filter: &str| longrunning::ListOperationsRequest { filter: filter.to_owned(), ..Default::default() };
    let mut count = 0;
    for filter in ["state = PENDING", "state = RUNNING"] {
        count +=
            at.operations().list_operations(request(filter)).await.unwrap().into_inner().operations.len();
    }
    count
}

async fn agreement(at: &Channels) -> v1::SyncHealth {
    let request = v1::GetSyncHealthRequest::default();
    at.state().get_sync_health(request).await.unwrap().into_inner().overall.unwrap()
}

/// Everything is as it is told to be, and nothing is left once everything was unloaded.
async fn ends_well(library: &Library, open: &mut Open) {
    // Nobody has read the last one for as long as this went on.
    open.watch = Watcher::of(&open.at).await.unwrap();
    until_open(open, &["cpu:0", "cpu:1"]).await.unwrap();
    // What was lost is on its way back.
    open.watch
        .until("rest", |mirror| {
            let is_there =
                |one: &v1::Replica| one.state() == v1::replica::State::Active && !one.models.is_empty();
            let has_ended = |one: &v1::OperationMetadata| one.end_time.is_some();
            mirror.replicas().all(is_there) && mirror.operations().all(has_ended)
        })
        .await
        .unwrap();
    assert_eq!(active(&open.at).await, 0);
    devices_are_true(library, open).await.unwrap();
    for number in 0..MODELS {
        unload(&open.at, &format!("m{number}"), &[]).await.unwrap();
    }
    assert_eq!(replicas(&open.at).await.unwrap(), []);
    devices_are_true(library, open).await.unwrap();
}

fn descriptors(open: &Open, id: &str) -> usize {
    process::open_files(loading::worker(&open.watch.mirror, id).process_id).unwrap()
}

/// I3, X6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_at_once_all_get_an_answer_and_leave_nothing_behind() {
    let library = many();
    let mut open = library.open().await.unwrap();
    until_open(&mut open, &["cpu:0", "cpu:1"]).await.unwrap();
    let before = (descriptors(&open, "cpu:0"), process::open_files(open.server.process_id()).unwrap());
    // 1,024 a caller in the long run.
    let left = Arc::new(AtomicUsize::new(CALLERS * soak::rounds(16)));
    let goes_on =
        move || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    let counts = all_at_once(&open.at, false, goes_on).await;
    println!("{counts:?}");
    assert!(counts.get("loaded").is_some_and(|count| *count > 0), "{counts:?}");
    let health = agreement(&open.at).await;
    assert!(health.agreement > 0.99, "{health:?}");
    ends_well(&library, &mut open).await;
    // A segment in RAM has a descriptor.
    hoist_tests::caching::evict(&open.at, "").await.unwrap();
    let after = (descriptors(&open, "cpu:0"), process::open_files(open.server.process_id()).unwrap());
    assert!(after.0 <= before.0 && after.1 <= before.1 + 4, "{before:?} became {after:?}");
}

/// How often a worker is killed while both sides are to agree for more than 99 of 100 seconds: a scenario's number, not a wait.
const KILL_EVERY: Duration = Duration::from_secs(5);

/// W1, W2, R2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_killed_under_many_callers_cost_their_loads_and_nothing_else() {
    let library = many();
    let mut open = library.open().await.unwrap();
    until_open(&mut open, &["cpu:0", "cpu:1"]).await.unwrap();
    let (at, is_over) = (open.at.clone(), AtomicBool::new(false));
    let killing = async {
        let mut kills = tokio::time::interval(KILL_EVERY);
        // The first one is at once.
        kills.tick().await;
        for number in 0..soak::rounds(4) {
            kills.tick().await;
            let id = if number % 2 == 0 { "cpu:0" } else { "cpu:1" };
            open.watch.until("a worker", |mirror| loading::is_open(mirror, id)).await.unwrap();
            let worker = loading::worker(&open.watch.mirror, id);
            let process = Pid::from_raw(i32::try_from(worker.process_id).unwrap()).unwrap();
            kill_process(process, Signal::KILL).unwrap();
            let is_gone = |mirror: &hoist_tests::Mirror| {
                loading::worker(mirror, id).incarnation != worker.incarnation || !loading::is_open(mirror, id)
            };
            open.watch.until("its end", is_gone).await.unwrap();
        }
        kills.tick().await;
        is_over.store(true, Ordering::Relaxed);
    };
    let (counts, ()) = tokio::join!(all_at_once(&at, true, || !is_over.load(Ordering::Relaxed)), killing);
    println!("{counts:?}");
    let health = agreement(&open.at).await;
    println!("{health:?}");
    assert!(health.agreement > 0.99, "{health:?}");
    ends_well(&library, &mut open).await;
}
