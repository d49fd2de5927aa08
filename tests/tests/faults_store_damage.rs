//! A store that was damaged between two runs: the server serves, what it says is true, and what it cannot say any
//! more it lists. It never starts silently empty.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hoist_store::SCHEMA_VERSION;
use hoist_tests::ledger::{Seen, list};
use hoist_tests::quick::QuickPlace;
use hoist_tests::soak::seeds;
use hoist_tests::{Channels, Random, Server, connect, request_id};
use hoist_wire::longrunning::DeleteOperationRequest;
use hoist_wire::v1;

const STORE: &str = "store.redb";

/// Operations in the store that is damaged: enough for several pages.
const OPERATIONS: usize = 24;

/// What a client knows of a server that has ended.
#[derive(Default)]
struct Past {
    /// What existed at the end.
    operations: BTreeMap<String, Seen>,
    /// Request id and the operation that answers it.
    requests: BTreeMap<String, String>,
    measurements: Vec<v1::Measurement>,
    epoch: u64,
}

async fn machine(at: &Channels) -> v1::Status {
    at.state().get_status(v1::GetStatusRequest::default()).await.unwrap().into_inner().status.unwrap()
}

fn measurements(status: &v1::Status) -> Vec<v1::Measurement> {
    match &status.resource.as_ref().unwrap().value {
        Some(v1::resource::Value::Machine(machine)) => machine.measurements.clone(),
        other => panic!("{other:?}"),
    }
}

fn rebuilt(status: &v1::Status) -> Option<v1::Condition> {
    let conditions = &status.machine.as_ref().unwrap().conditions;
    conditions.iter().find(|condition| condition.kind == "STORE_REBUILT").cloned()
}

async fn operations(at: &Channels) -> BTreeMap<String, Seen> {
    let listed = list(at).await.unwrap();
    listed.into_iter().map(|(name, operation)| (name, Seen::of(&operation).unwrap())).collect()
}

/// Makes operations, and deletes some.
async fn live(at: &Channels, place: &QuickPlace, requests: &mut BTreeMap<String, String>) {
    for number in 0..OPERATIONS {
        let message = v1::ProbeMachineRequest {
            request_id: request_id(),
            wait_for: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
            ..place.work()
        };
        let id = message.request_id.clone();
        let operation = at.admin().probe_machine(message).await.unwrap().into_inner();
        assert!(operation.done);
        if number % 4 == 0 {
            let request = DeleteOperationRequest { name: operation.name };
            at.operations().delete_operation(request).await.unwrap();
        } else {
            requests.insert(id, operation.name);
        }
    }
}

/// How a store came to an end.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// Exported, closed.
    Clean,
    /// Never exported.
    Killed,
    /// Killed long after its export.
    KilledAfterExport,
}

async fn past(place: &QuickPlace, ending: Ending) -> Past {
    let mut past = Past::default();
    if matches!(ending, Ending::KilledAfterExport) {
        let server = place.start().unwrap();
        live(&connect(&server.socket).await.unwrap(), place, &mut past.requests).await;
        assert!(server.terminate().unwrap().0.success());
    }
    let server = place.start().unwrap();
    let at = connect(&server.socket).await.unwrap();
    live(&at, place, &mut past.requests).await;
    let status = machine(&at).await;
    past.operations = operations(&at).await;
    past.measurements = measurements(&status);
    past.epoch = status.position.unwrap().epoch;
    drop(at);
    match ending {
        Ending::Clean => assert!(server.terminate().unwrap().0.success()),
        Ending::Killed | Ending::KilledAfterExport => drop(server.kill().unwrap()),
    }
    past
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn byte(random: &mut Random) -> u8 {
    u8::try_from(random.below(256)).unwrap()
}

/// Damages the store, mostly where something stands. What was done, for people.
fn damage(store: &Path, random: &mut Random) -> String {
    let mut bytes = std::fs::read(store).unwrap();
    let used: Vec<usize> = bytes
        .chunks(512)
        .enumerate()
        .filter(|(_, chunk)| chunk.iter().any(|byte| *byte != 0))
        .map(|(at, _)| at)
        .collect();
    let somewhere = |random: &mut Random| used[random.index(used.len())] * 512 + random.index(512);
    let told = match random.below(8) {
        0..3 => {
            let at = somewhere(random);
            bytes[at] ^= 1 << random.below(8);
            format!("a bit at {at}")
        }
        3 | 4 => {
            let places: Vec<usize> = (0..16).map(|_| somewhere(random)).collect();
            places.iter().for_each(|at| bytes[*at] = byte(random));
            format!("bytes at {places:?}")
        }
        5 => {
            let page = somewhere(random) / 4096 * 4096;
            bytes[page..(page + 4096)].fill(0);
            format!("a page of zeros at {page}")
        }
        6 => {
            let at = random.index(512);
            let noise: Vec<u8> = (0..64).map(|_| byte(random)).collect();
            bytes[at..at + 64].copy_from_slice(&noise);
            format!("noise in the header at {at}")
        }
        _ => {
            bytes.truncate(random.index(bytes.len()));
            format!("cut to {} bytes", bytes.len())
        }
    };
    std::fs::write(store, bytes).unwrap();
    told
}

/// Whether anything was lost; panics if that was not said, or if something is untrue.
async fn judge(at: &Channels, place: &QuickPlace, past: &Past, damaged: &[u8], what: &str) -> bool {
    let status = machine(at).await;
    assert!(status.position.unwrap().epoch > past.epoch, "{what}: the epoch did not grow");
    let condition = rebuilt(&status);
    let listed = operations(at).await;
    for seen in listed.values() {
        assert!(seen.is_done(), "{what}: {seen:?}");
    }
    let mut is_whole = listed == past.operations && measurements(&status) == past.measurements;
    for (id, name) in &past.requests {
        let message = v1::ProbeMachineRequest { request_id: id.clone(), ..place.work() };
        let answer = at.admin().probe_machine(message).await.unwrap().into_inner();
        is_whole &= answer.name == *name;
    }
    let Some(condition) = condition else {
        assert!(is_whole, "{what}: silently lost something");
        return false;
    };
    let is_admitted =
        condition.severity() == v1::condition::Severity::Warning && !condition.details.is_empty();
    assert!(is_whole || is_admitted, "{what}: lost something and says {condition:?}");
    let kept = condition.message.split("kept as ").nth(1).and_then(|rest| rest.split(';').next());
    if damaged.is_empty() {
        return !is_whole;
    }
    let kept = kept.unwrap_or_else(|| panic!("{what}: {condition:?}"));
    let kept = std::fs::read(place.sandbox.state_dir().join(kept)).unwrap();
    assert!(kept == damaged, "{what}: the file that was put aside is not the damaged one");
    !is_whole
}

/// D3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_store_is_served_and_what_is_lost_is_listed() {
    for ending in [Ending::Clean, Ending::Killed, Ending::KilledAfterExport] {
        let origin = QuickPlace::new().unwrap();
        let past = past(&origin, ending).await;
        let (mut losses, mut damages) = (0, 0);
        for seed in seeds(14) {
            let place = QuickPlace::new().unwrap();
            copy(origin.sandbox.state_dir(), place.sandbox.state_dir());
            let store = place.sandbox.state_dir().join(STORE);
            let what = format!("{ending:?}, seed {seed}, {}", damage(&store, &mut Random::new(seed)));
            let damaged = std::fs::read(&store).unwrap();
            let server = place.start().unwrap_or_else(|error| panic!("{what}: {error:#}"));
            let at = connect(&server.socket).await.unwrap();
            damages += usize::from(rebuilt(&machine(&at).await).is_some());
            losses += usize::from(judge(&at, &place, &past, &damaged, &what).await);
            drop(at);
            let (status, log) = server.terminate().unwrap();
            assert!(status.success() && !log.contains("panic") && !log.contains("ERROR"), "{what}: {log}");
            // What was rebuilt is sound.
            let server = place.start().unwrap();
            let status = machine(&connect(&server.socket).await.unwrap()).await;
            assert!(rebuilt(&status).is_none(), "{what}: rebuilt again: {status:?}");
        }
        println!("{ending:?}: {damages} rebuilt, {losses} with losses");
        assert!(damages > 0, "nothing was damaged: the test shows nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_gone_is_rebuilt_from_its_export_or_missed_aloud() {
    for ending in [Ending::Clean, Ending::Killed, Ending::KilledAfterExport] {
        let place = QuickPlace::new().unwrap();
        let past = past(&place, ending).await;
        std::fs::remove_file(place.sandbox.state_dir().join(STORE)).unwrap();
        let server = place.start().unwrap();
        let at = connect(&server.socket).await.unwrap();
        let condition = rebuilt(&machine(&at).await).expect("it was used before");
        assert!(!condition.details.is_empty(), "{condition:?}");
        let found: BTreeSet<String> = operations(&at).await.into_keys().collect();
        match ending {
            Ending::Clean => assert!(found.iter().eq(past.operations.keys())),
            Ending::Killed => assert!(found.is_empty()),
            Ending::KilledAfterExport => assert!(!found.is_empty() && found.len() < past.operations.len()),
        }
        judge(&at, &place, &past, &[], &format!("{ending:?}, removed")).await;
    }
}

/// The directory is taken away under a server and another server begins in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_state_directory_was_replaced_takes_no_changes_and_leaves_the_other_alone() {
    let place = QuickPlace::new().unwrap();
    let directory = place.sandbox.state_dir();
    let server = place.start().unwrap();
    let at = connect(&server.socket).await.unwrap();
    let epoch = machine(&at).await.position.unwrap().epoch;
    std::fs::remove_dir_all(directory).unwrap();
    std::fs::create_dir(directory).unwrap();
    std::fs::write(directory.join("theirs"), "theirs").unwrap();
    let message = v1::ProbeMachineRequest { request_id: request_id(), ..place.work() };
    let refused = at.admin().probe_machine(message).await.unwrap_err();
    assert!(refused.message().contains("removed or replaced"), "{refused:?}");
    let status = machine(&at).await;
    let conditions = &status.machine.as_ref().unwrap().conditions;
    let told = conditions.iter().find(|condition| condition.kind == "STORE_READONLY").unwrap();
    assert!(told.message.contains("removed or replaced"), "{told:?}");
    drop(at);
    let (ended, _) = server.terminate().unwrap();
    assert!(ended.success());
    let left: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["theirs"]);

    // Another history: no position of the one before is taken for one of its own. Epochs of fresh directories are
    // seconds, and people do not wipe two in one.
    let clock = hoist_runtime::Clock::system();
    while u64::try_from(clock.wall().0 / 1_000_000).unwrap() <= epoch {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let server = place.start().unwrap();
    let now = machine(&connect(&server.socket).await.unwrap()).await.position.unwrap().epoch;
    assert!(now > epoch, "{now} after {epoch}");
}

/// As the store's format says: the checksum of length-prefixed parts.
fn checksum(parts: &[&[u8]]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().as_bytes()[..8].try_into().unwrap()
}

/// U2. What a newer build has written is not ours to touch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_of_a_newer_build_is_refused_untouched() {
    let place = QuickPlace::new().unwrap();
    past(&place, Ending::Clean).await;
    let store = place.sandbox.state_dir().join(STORE);
    let version = SCHEMA_VERSION + 6;
    let record = [&version.to_le_bytes()[..], &checksum(&[b"schema", &version.to_le_bytes()])].concat();
    let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
    let database = redb::Database::open(&store).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(meta).unwrap().insert("schema", record.as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);

    let newer = std::fs::read(&store).unwrap();
    let files = || std::fs::read_dir(place.sandbox.state_dir()).unwrap().count();
    let before = files();
    let error = format!("{:#}", Server::spawn(place.sandbox.command()).unwrap_err());
    assert!(error.contains("exit status: 4") && !error.contains("panic"), "{error}");
    let said: Vec<&str> = error.lines().filter(|line| line.contains("error: ")).collect();
    assert_eq!(said.len(), 1, "{error}");
    assert!(
        said[0].contains(&format!("format version {version} and this build reads up to {SCHEMA_VERSION}"))
    );
    assert!(said[0].contains("start the newer build"), "{error}");
    assert!(std::fs::read(&store).unwrap() == newer && files() == before, "it was touched");
}
