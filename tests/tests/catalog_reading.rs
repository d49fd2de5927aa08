//! Files that change under a reader, and readers that are told to stop: a FULL validation of a real server, with a
//! file so large (and empty: it is sparse) that there is time to do something to it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::collections::BTreeSet;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hoist_runtime::Clock;
use hoist_tests::library::{Library, Open, reason, result, waiting};
use hoist_tests::{Random, making, process, request_id, soak};
use hoist_wire::longrunning::{CancelOperationRequest, Operation, WaitOperationRequest};
use hoist_wire::v1;
use hoist_wire::v1::watch_response::Event;
use sha2::{Digest, Sha256};
use tonic::Status;

/// More than any machine reads while a test acts on it; none of it is on disk.
const LARGE: u64 = 64 << 30;

/// So much that a test has time to act, and so little that it is read to its end.
const MEDIUM: u64 = 384 << 20;

/// Begins to read every byte, and waits until some have been read.
async fn reading(open: &Open, path: &Path) -> String {
    let request = v1::ValidateModelRequest {
        request_id: request_id(),
        name: path.display().to_string(),
        level: v1::ValidationLevel::Full.into(),
        ..Default::default()
    };
    let name = open.at.integrity().validate_model(request).await.unwrap().into_inner().name;
    let request = v1::WatchRequest {
        filter: Some(v1::WatchFilter { names: vec![name.clone()], ..Default::default() }),
        progress_interval: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
        ..Default::default()
    };
    let mut watch = open.at.state().watch(request).await.unwrap().into_inner();
    loop {
        let message = watch.message().await.unwrap().unwrap();
        let Some(Event::Progress(sample)) = message.event else { continue };
        let progress = sample.operations[0].progress.as_ref().unwrap();
        assert!(progress.total_bytes > 0, "{progress:?}");
        if progress.done_bytes > 0 {
            return name;
        }
    }
}

async fn end(open: &Open, name: &str) -> Operation {
    let request = WaitOperationRequest { name: name.to_owned(), timeout: waiting() };
    open.at.operations().wait_operation(request).await.unwrap().into_inner()
}

async fn outcome(open: &Open, name: &str) -> Result<v1::ValidateModelResponse, Status> {
    result(end(open, name).await)
}

/// The server is alive, has no children, and keeps nothing of what it read as a result.
async fn unharmed(open: &Open, path: &Path) {
    let status = open.at.state().get_status(v1::GetStatusRequest::default()).await.unwrap().into_inner();
    assert!(status.status.is_some());
    let model = open.list().await.unwrap().into_iter().find(|model| Path::new(&model.path) == path).unwrap();
    assert_eq!(model.validate_time, None, "nothing that was read is kept");
    assert!(model.components.iter().all(|component| component.digest.is_empty()), "{model:?}");
    assert_eq!(process::children(open.server.process_id()).unwrap(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_file_that_is_replaced_while_it_is_read_has_changed() {
    let library = Library::new().unwrap();
    let path = library.sparse("a.safetensors", MEDIUM).unwrap();
    let mut open = library.open().await.unwrap();
    let name = reading(&open, &path).await;
    let beside = library.write("beside.tmp", &making::four(0.5)).unwrap();
    std::fs::rename(beside, &path).unwrap();
    let failed = outcome(&open, &name).await.unwrap_err();
    assert_eq!(reason(&failed), "SOURCE_CHANGED", "{failed:?}");
    unharmed(&open, &path).await;
    assert_eq!(open.look().await.unwrap().changed, 1);
    let read = open.validate(&path.display().to_string(), v1::ValidationLevel::Full).await.unwrap();
    assert_eq!(read.verdict(), v1::Verdict::Ok, "what is there now is read as it is");
}

#[tokio::test]
async fn a_file_that_is_written_to_while_it_is_read_has_changed() {
    let library = Library::new().unwrap();
    let path = library.sparse("a.safetensors", MEDIUM).unwrap();
    let open = library.open().await.unwrap();
    let name = reading(&open, &path).await;
    let mut file = std::fs::File::options().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(1_000)).unwrap();
    file.write_all(b"x").unwrap();
    let failed = outcome(&open, &name).await.unwrap_err();
    assert_eq!(reason(&failed), "SOURCE_CHANGED", "{failed:?}");
    unharmed(&open, &path).await;
}

#[tokio::test]
async fn a_file_that_is_cut_short_while_it_is_read_ends_the_reading_and_nothing_else() {
    let library = Library::new().unwrap();
    let path = library.sparse("a.safetensors", LARGE).unwrap();
    let mut open = library.open().await.unwrap();
    let name = reading(&open, &path).await;
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1_000).unwrap();
    let failed = outcome(&open, &name).await.unwrap_err();
    assert_eq!(reason(&failed), "SOURCE_TRUNCATED", "{failed:?}");
    unharmed(&open, &path).await;
    assert_eq!(open.look().await.unwrap().damaged, 1);
}

#[tokio::test]
async fn a_file_that_is_removed_while_it_is_read_has_changed() {
    let library = Library::new().unwrap();
    let path = library.sparse("a.safetensors", MEDIUM).unwrap();
    let mut open = library.open().await.unwrap();
    let name = reading(&open, &path).await;
    std::fs::remove_file(&path).unwrap();
    let failed = outcome(&open, &name).await.unwrap_err();
    assert_eq!(reason(&failed), "SOURCE_CHANGED", "{failed:?}");
    assert_eq!(open.look().await.unwrap().missing, 1);
    // Nobody has written about it: it is not there any more, and so is not read.
    let gone = open.validate(&path.display().to_string(), v1::ValidationLevel::Full).await.unwrap_err();
    assert_eq!(reason(&gone), "RESOURCE_NOT_FOUND", "{gone:?}");
}

#[tokio::test]
async fn a_long_reading_ends_within_a_second_of_its_cancel_and_keeps_nobody_waiting_meanwhile() {
    const CALLS: usize = 200;
    let library = Library::new().unwrap();
    let path = library.sparse("a.safetensors", LARGE).unwrap();
    library.write("small.safetensors", &making::four(0.5)).unwrap();
    let open = library.open().await.unwrap();
    let name = reading(&open, &path).await;

    let clock = Clock::system();
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..CALLS {
        let begun = clock.monotonic();
        open.at.state().get_status(v1::GetStatusRequest::default()).await.unwrap();
        open.at.catalog().list_models(v1::ListModelsRequest::default()).await.unwrap();
        took.push(clock.monotonic().saturating_sub(begun));
    }
    took.sort_unstable();
    // Two calls; 50 ms is the bound of one on a machine that has nothing else to do.
    assert!(took[CALLS * 95 / 100] < Duration::from_millis(250), "{:?}", took.last());
    let details = v1::GetModelRequest { name: "small".to_owned(), details: true, ..Default::default() };
    assert!(open.at.catalog().get_model(details).await.unwrap().into_inner().details.is_some());

    let begun = clock.monotonic();
    let request = CancelOperationRequest { name: name.clone() };
    open.at.operations().cancel_operation(request).await.unwrap();
    let cancelled = outcome(&open, &name).await.unwrap_err();
    let after = clock.monotonic().saturating_sub(begun);
    assert_eq!(reason(&cancelled), "OPERATION_CANCELLED", "{cancelled:?}");
    assert!(after < Duration::from_secs(1), "{after:?} from the cancel to the end");
    has_stopped(&open).await;
    unharmed(&open, &path).await;
}

/// No thread was left behind that still reads.
async fn has_stopped(open: &Open) {
    let read = || process::read_bytes(open.server.process_id()).unwrap();
    let before = read();
    for _ in 0..200 {
        open.at.state().get_status(v1::GetStatusRequest::default()).await.unwrap();
    }
    let more = read() - before;
    assert!(more < 4 << 20, "{more} bytes were read after the end");
}

/// What a file holds, from before it does until the end; each state by its checksum.
#[derive(Default)]
struct Versions(Mutex<BTreeSet<String>>);

impl Versions {
    fn add(&self, bytes: &[u8]) {
        let sum = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.lock().unwrap().insert(sum);
    }

    fn has(&self, sum: &str) -> bool {
        self.0.lock().unwrap().contains(sum)
    }
}

/// Replaces a file, or writes a byte into it, every now and then. Writes are further apart than the clock of files
/// ticks: what is written twice within one tick nobody can see.
fn write_at_random(path: &Path, mut bytes: Vec<u8>, versions: &Versions, stop: &AtomicBool, seed: u64) {
    let mut random = Random::new(seed);
    let data = bytes.len() - DATA;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(11 + random.below(120)));
        let at = data + random.index(DATA);
        bytes[at] = bytes[at].wrapping_add(1);
        versions.add(&bytes);
        if random.percent(50) {
            let beside = path.with_extension("tmp");
            std::fs::write(&beside, &bytes).unwrap();
            std::fs::rename(&beside, path).unwrap();
        } else {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
    }
}

/// Of the file that is written to at random.
const DATA: usize = 8 << 20;

#[tokio::test]
async fn what_is_read_to_its_end_was_never_two_versions_of_a_file() {
    const READS: usize = 40;
    for seed in soak::seeds(1) {
        println!("HOIST_SEED={seed}");
        let library = Library::new().unwrap();
        let bytes = making::large(DATA >> 20);
        let path = library.write("a.safetensors", &bytes).unwrap();
        let open = library.open().await.unwrap();
        let (versions, stop) = (Arc::<Versions>::default(), Arc::<AtomicBool>::default());
        versions.add(&bytes);
        let writer = {
            let (path, versions, stop) = (path.clone(), Arc::clone(&versions), Arc::clone(&stop));
            std::thread::Builder::new()
                .name("writer".into())
                .spawn(move || write_at_random(&path, bytes, &versions, &stop, seed))
                .unwrap()
        };
        let (mut whole, mut changed) = (0, 0);
        for _ in 0..READS {
            let request = v1::ValidateModelRequest {
                name: path.display().to_string(),
                level: v1::ValidationLevel::Full.into(),
                checksums: true,
                ..Default::default()
            };
            match open.validate_as(request).await {
                Ok(report) => {
                    whole += 1;
                    let sum = &report.checksums[0].sha256;
                    assert!(versions.has(sum), "HOIST_SEED={seed}: no version has the checksum {sum}");
                }
                Err(refused) => {
                    changed += 1;
                    assert_eq!(reason(&refused), "SOURCE_CHANGED", "HOIST_SEED={seed}: {refused:?}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        println!("{whole} whole, {changed} changed");
        assert!(whole > 0 && changed > 0, "HOIST_SEED={seed}: {whole} whole, {changed} changed");
        let model = open.list().await.unwrap().remove(0);
        assert_eq!(model.verdict(), v1::Verdict::Ok, "nothing was ever wrong with it: {model:?}");
    }
}

/// Their own checksums are compared by another reader, which must be as wary as the first.
#[tokio::test]
async fn an_archive_is_watched_and_let_go_of_like_any_other_file() {
    const HOLE: u32 = 3 << 30;
    let library = Library::new().unwrap();
    let path = library.path("a.ckpt");
    making::write_checkpoint_with_hole(&path, HOLE).unwrap();
    let open = library.open().await.unwrap();

    let name = reading(&open, &path).await;
    let clock = Clock::system();
    let begun = clock.monotonic();
    open.at.operations().cancel_operation(CancelOperationRequest { name: name.clone() }).await.unwrap();
    let cancelled = outcome(&open, &name).await.unwrap_err();
    let after = clock.monotonic().saturating_sub(begun);
    assert_eq!(reason(&cancelled), "OPERATION_CANCELLED", "{cancelled:?}");
    assert!(after < Duration::from_secs(1), "{after:?} from the cancel to the end");

    has_stopped(&open).await;

    let name = reading(&open, &path).await;
    std::fs::File::options().append(true).open(&path).unwrap().write_all(b"x").unwrap();
    let failed = outcome(&open, &name).await.unwrap_err();
    assert_eq!(reason(&failed), "SOURCE_CHANGED", "{failed:?}");
    unharmed(&open, &path).await;
}
