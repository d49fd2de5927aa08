//! Jobs through the pool, beside a plain read of the same bytes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use hoist_domain::{Digest, Dtype, FileIdentity};
use hoist_runtime::{Clock, Shutdown, Tasks};
use hoist_segment::{Access, Directory, Layout, RawFile, Sealed, TensorShape};
use hoist_staging::{Failure, Filled, Item, Job, News, PIECE, Plan, Pool, PoolSettings, Rising, Source};
use proptest::prelude::*;

struct Place {
    _disk: tempfile::TempDir,
    _memory: tempfile::TempDir,
    disk: PathBuf,
    segments: Directory,
}

fn place() -> Place {
    // Not in the temporary directory, which may be a tmpfs: reads past the page cache are what is tested.
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let segments = Directory::open(&memory.path().join("segments"), Access::Owner).unwrap();
    Place { disk: disk.path().to_owned(), _disk: disk, segments, _memory: memory }
}

fn pool(threads: usize) -> Pool {
    let settings = PoolSettings { threads, ..PoolSettings::default() };
    Pool::new(settings, Tasks::new(Shutdown::new()), Clock::system())
}

fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn write(path: &Path, content: &[u8]) -> PathBuf {
    File::create(path).unwrap().write_all(content).unwrap();
    path.to_owned()
}

fn open(path: &Path) -> Source {
    let file = File::open(path).unwrap();
    let identity = FileIdentity::of(&file.metadata().unwrap());
    Source::new(path.to_owned(), file, identity)
}

fn told() -> (impl Fn(News) + Send + Sync + 'static, Receiver<News>) {
    let (tell, told) = channel();
    (move |news| tell.send(news).unwrap(), told)
}

/// All that was filled, in the order in which it was told of, once the job has ended.
fn end(told: &Receiver<News>) -> Result<Vec<Filled>, Failure> {
    let mut filled = Vec::new();
    loop {
        match told.recv().unwrap() {
            News::Filled(one) => filled.push(one),
            News::Ended(outcome) => {
                assert!(told.try_recv().is_err(), "the end is the last word");
                return outcome.map(|()| filled);
            }
        }
    }
}

/// One segment of one raw file that takes the items one behind the other, and a job that fills it.
fn job(place: &Place, sources: &[PathBuf], parts: &[(usize, u64, u64)]) -> Job {
    let mut at = 0;
    let items = parts.iter().map(|(source, offset, length)| {
        let item =
            Item { source: *source, offset: *offset, length: *length, target: 0, file: 0, at, view: None };
        at += length;
        item
    });
    let plan = Plan::of(items.collect());
    let target = place.segments.create_raw(&[RawFile { name: "data".into(), length: at }]).unwrap();
    Job::new(plan, sources.iter().map(|path| open(path)).collect(), vec![target], |_| {})
}

fn run(job: Job) -> Result<Vec<Filled>, Failure> {
    let (tell, told) = told();
    let pool = pool(4);
    pool.run(job, 1, tell);
    let outcome = end(&told);
    pool.close();
    outcome
}

/// What the one file of the one segment holds.
fn content(outcome: Result<Vec<Filled>, Failure>) -> (Vec<u8>, Vec<[u8; 32]>) {
    let mut all = outcome.unwrap();
    assert_eq!(all.len(), 1);
    let filled = all.remove(0);
    let Sealed::New(segment) = filled.target.seal(Digest([1; 32])).unwrap() else { panic!("it is new") };
    let content = std::fs::read(segment.path().join("data")).unwrap();
    segment.evict().unwrap();
    (content, filled.hashes)
}

fn drop_from_cache(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

fn check(place: &Place, files: &[Vec<u8>], parts: &[(usize, u64, u64)], is_cached: bool) {
    let paths: Vec<PathBuf> = files
        .iter()
        .enumerate()
        .map(|(number, content)| write(&place.disk.join(format!("f{number}")), content))
        .collect();
    if !is_cached {
        paths.iter().for_each(|path| drop_from_cache(path));
    }
    let (content, hashes) = content(run(job(place, &paths, parts)));
    let mut at = 0;
    for ((source, offset, length), hash) in parts.iter().zip(&hashes) {
        let range = usize::try_from(*offset).unwrap()..usize::try_from(offset + length).unwrap();
        let expected = &files[*source][range];
        let length = usize::try_from(*length).unwrap();
        assert!(content[at..at + length] == *expected, "{source} {offset} {length}");
        assert_eq!(*hash, *blake3::hash(expected).as_bytes());
        at += length;
    }
    assert_eq!(content.len(), at);
}

#[test]
fn large_items_at_odd_places_arrive_whole_from_the_disk_and_from_the_cache() {
    let place = place();
    let piece = usize::try_from(PIECE).unwrap();
    let files = [bytes(3 * piece + 12_345, 1), bytes(100, 2), bytes(piece + 1, 3)];
    let parts =
        [(0, 777, 2 * PIECE + 5), (1, 0, 100), (2, 0, PIECE + 1), (0, 2 * PIECE + 782, 1_000), (1, 50, 0)];
    for is_cached in [true, false] {
        check(&place, &files, &parts, is_cached);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_items_arrive_as_they_are(
        sizes in prop::collection::vec(1_usize..300_000, 1..4),
        parts in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), any::<u64>()), 1..20),
        is_cached: bool,
    ) {
        let place = place();
        let files: Vec<Vec<u8>> = sizes.iter().map(|size| bytes(*size, *size as u64)).collect();
        let parts: Vec<(usize, u64, u64)> = parts
            .iter()
            .map(|(source, offset, length)| {
                let source = source.index(files.len());
                let size = files[source].len() as u64;
                let offset = offset % size;
                (source, offset, length % (size - offset + 1))
            })
            .collect();
        check(&place, &files, &parts, is_cached);
    }
}

#[test]
fn a_source_that_changed_or_ended_early_caches_nothing() {
    let place = place();
    let path = write(&place.disk.join("f"), &bytes(1 << 20, 1));
    let part = [(0, 0, 1 << 20)];
    let changed = job(&place, std::slice::from_ref(&path), &part);
    File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    assert!(matches!(run(changed), Err(Failure::Changed(at)) if at == path));
    let cut = job(&place, std::slice::from_ref(&path), &part);
    File::options().write(true).open(&path).unwrap().set_len(5_000).unwrap();
    assert!(matches!(run(cut), Err(Failure::Truncated(at)) if at == path));
    // The header said more than there is.
    let short = job(&place, std::slice::from_ref(&path), &part);
    assert!(matches!(run(short), Err(Failure::Truncated(at)) if at == path));
    assert_eq!(std::fs::read_dir(place.segments.path()).unwrap().count(), 0);
}

#[test]
fn a_file_replaced_at_its_path_is_read_as_the_one_that_was_opened() {
    let place = place();
    let content_before = bytes(1 << 20, 1);
    let path = write(&place.disk.join("f"), &content_before);
    let job = job(&place, std::slice::from_ref(&path), &[(0, 0, 1 << 20)]);
    std::fs::rename(write(&place.disk.join("g"), &bytes(1 << 20, 2)), &path).unwrap();
    assert!(content(run(job)).0 == content_before);
}

#[test]
fn a_job_without_bytes_is_done() {
    let place = place();
    let path = write(&place.disk.join("f"), b"x");
    let (content, hashes) = content(run(job(&place, &[path], &[(0, 0, 0)])));
    assert!(content.is_empty());
    assert_eq!(hashes, [*blake3::hash(b"").as_bytes()]);
}

/// Two segments, each of its own file, and a count of what has reached them.
/// What of a segment is said to be there is there, as long as it is read: seen after each write, by whoever opens the file.
#[test]
fn what_is_said_to_be_there_of_a_segment_stays_as_it_is() {
    let place = place();
    // By size and name in the segment; in another order, with gaps, in the file.
    let tensors: Vec<(String, u64)> =
        (0..40).map(|n| (format!("t{n:02}"), [10, 70_000, 2_000_000, 5_000_000][n % 4] + n as u64)).collect();
    let shape = |(name, length): &(String, u64)| TensorShape {
        name: name.as_str().into(),
        dtype: Dtype::U8,
        shape: Box::new([*length]),
    };
    let layout = Layout::of(tensors.iter().map(shape)).unwrap();
    let mut file = Vec::new();
    let mut offsets = BTreeMap::new();
    for n in 0..tensors.len() {
        let (name, length) = &tensors[n * 7 % tensors.len()];
        file.extend(vec![0xcc; n * 977 % 90_000]);
        offsets.insert(name.as_str(), file.len() as u64);
        file.extend(bytes(usize::try_from(*length).unwrap(), n as u64 + 1));
    }
    let mut whole = layout.header().to_vec();
    let items = layout.tensors().iter().map(|placed| {
        let offset = offsets[&*placed.name];
        let from = usize::try_from(offset).unwrap();
        whole.extend(&file[from..from + usize::try_from(placed.length).unwrap()]);
        let (length, at) = (placed.length, placed.offset);
        Item { source: 0, offset, length, target: 0, file: 0, at, view: None }
    });
    let plan = Plan::of(items.collect());
    let path = write(&place.disk.join("f"), &file);
    let target = place.segments.create(&layout).unwrap();
    let seen = Arc::new(Mutex::new((None::<Rising>, Vec::new())));
    let (looking, whole) = (Arc::clone(&seen), Arc::new(whole));
    let expected = Arc::clone(&whole);
    let count = move |_| {
        let mut seen = looking.lock().unwrap();
        let Some(rising) = seen.0.clone() else { return };
        let there = usize::try_from(rising.there().0).unwrap();
        let mut prefix = vec![0; there];
        File::open(&rising.path).unwrap().read_exact(&mut prefix).unwrap();
        assert!(prefix == expected[..there], "not all of {there} bytes is there");
        seen.1.push(there);
    };
    let job = Job::new(plan, vec![open(&path)], vec![target], count);
    let rising = job.rising()[0].clone().unwrap();
    seen.lock().unwrap().0 = Some(rising.clone());
    assert_eq!(run(job).unwrap().len(), 1);
    assert_eq!(rising.there().0, whole.len() as u64);
    let seen = &seen.lock().unwrap().1;
    let steps = seen.windows(2).filter(|pair| pair[0] < pair[1] && pair[1] < whole.len()).count();
    assert!(seen.is_sorted() && steps > 2, "it is told while it rises: {seen:?}");
}

fn two_targets(place: &Place, paths: &[PathBuf], length: u64) -> (Job, Arc<Mutex<u64>>) {
    let item = |number: usize| Item {
        source: number,
        offset: 0,
        length,
        target: number,
        file: 0,
        at: 0,
        view: None,
    };
    let target = || place.segments.create_raw(&[RawFile { name: "data".into(), length }]).unwrap();
    let done: Arc<Mutex<u64>> = Arc::default();
    let counted = Arc::clone(&done);
    let sources = paths.iter().map(|path| open(path)).collect();
    let count = move |bytes| *counted.lock().unwrap() += bytes;
    (Job::new(Plan::of(vec![item(0), item(1)]), sources, vec![target(), target()], count), done)
}

#[test]
fn a_target_is_told_of_as_soon_as_it_is_complete() {
    let place = place();
    let length = 4 * PIECE;
    let contents = [bytes(4 << 22, 1), bytes(4 << 22, 2)];
    let paths: Vec<PathBuf> = contents
        .iter()
        .enumerate()
        .map(|(number, content)| write(&place.disk.join(format!("f{number}")), content))
        .collect();
    let (job, done) = two_targets(&place, &paths, length);
    let (tell, told) = channel();
    let pool = pool(1);
    pool.run(job, 1, move |news| {
        let news = match news {
            News::Filled(filled) => Ok((filled.place, *done.lock().unwrap(), filled.hashes)),
            News::Ended(outcome) => Err(outcome),
        };
        tell.send(news).unwrap();
    });
    let hash = |content: &[u8]| vec![*blake3::hash(content).as_bytes()];
    assert_eq!(
        told.recv().unwrap().unwrap(),
        (0, length, hash(&contents[0])),
        "one thread: the second waits"
    );
    assert_eq!(told.recv().unwrap().unwrap(), (1, 2 * length, hash(&contents[1])));
    told.recv().unwrap().unwrap_err().unwrap();
    pool.close();
}

#[test]
fn what_is_complete_stays_so_when_the_rest_cannot_be_read() {
    let place = place();
    let paths = [write(&place.disk.join("f"), &bytes(5_000, 1)), write(&place.disk.join("g"), b"short")];
    let (job, _) = two_targets(&place, &paths, 5_000);
    let (tell, told) = told();
    let pool = pool(1);
    pool.run(job, 1, tell);
    let News::Filled(first) = told.recv().unwrap() else { panic!("the first is whole") };
    assert_eq!((first.place, first.hashes.len()), (0, 1));
    assert!(matches!(end(&told), Err(Failure::Truncated(at)) if at == paths[1]));
    let entries = || std::fs::read_dir(place.segments.path()).unwrap().count();
    assert_eq!(entries(), 1, "what was not complete is gone");
    drop(first);
    assert_eq!(entries(), 0);
    pool.close();
}

#[test]
fn a_stopped_job_ends_and_leaves_nothing() {
    let place = place();
    let path = write(&place.disk.join("f"), &bytes(64 << 20, 1));
    let pool = pool(2);
    let (tell, told) = told();
    let ticket = pool.run(job(&place, &[path], &[(0, 0, 64 << 20)]), 1, tell);
    ticket.stop();
    assert!(matches!(end(&told), Err(Failure::Stopped)));
    assert_eq!(std::fs::read_dir(place.segments.path()).unwrap().count(), 0);
    ticket.stop();
    ticket.abandon();
    pool.close();
}

#[test]
fn a_job_of_twice_the_weight_gets_twice_the_disk() {
    let place = place();
    let path = write(&place.disk.join("f"), &bytes(48 << 20, 1));
    let log: Arc<Mutex<Vec<usize>>> = Arc::default();
    let order = |number: usize| {
        let items: Vec<Item> = (0..12)
            .map(|part| Item {
                source: 0,
                offset: part * PIECE,
                length: PIECE,
                target: 0,
                file: 0,
                at: part * PIECE,
                view: None,
            })
            .collect();
        let target =
            place.segments.create_raw(&[RawFile { name: "data".into(), length: 12 * PIECE }]).unwrap();
        let log = Arc::clone(&log);
        Job::new(Plan::of(items), vec![open(&path)], vec![target], move |_| log.lock().unwrap().push(number))
    };
    // One thread: what it takes up is the order.
    let pool = pool(1);
    let (first, first_told) = told();
    let (second, second_told) = told();
    pool.run(order(1), 1, first);
    pool.run(order(2), 2, second);
    end(&first_told).unwrap();
    end(&second_told).unwrap();
    pool.close();
    let log = log.lock().unwrap();
    let second_came = log.iter().position(|number| *number == 2).unwrap();
    let until_second_ends = &log[second_came..=log.iter().rposition(|number| *number == 2).unwrap()];
    let ones = until_second_ends.iter().filter(|number| **number == 1).count();
    assert!((5..=6).contains(&ones), "{log:?}");
}
