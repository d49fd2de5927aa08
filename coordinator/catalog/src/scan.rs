//! One look at the roots: walk, leave out what is known, read the rest on several threads.
//!
//! ```text
//! walker ──listings, units──► comparing with what is known ──changed──► readers ──content──► collector ──► whoever asked
//! ```
//!
//! Storage may stop answering, and a thread in such a read cannot be stopped: readers are threads of their own that
//! share nothing but channels. One that has been silent for too long is written off and replaced, a few times; then the
//! scan ends with what it has. The collector itself never touches a disk.

mod comparing;
mod readers;
mod threads;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use hoist_domain::{
    FoundModel, Model, ModelContent, ModelId, ModelPath, ModelState, Observation, ScanReport, Verdict,
};

use comparing::{AHEAD, Walking, compare_all};
use readers::{READERS, Readers, SPARE_READERS};
pub use threads::Threads;

use crate::names;
use crate::roots::Roots;
use crate::walk::{Found, Stop, Unit, Walk};

/// Units found and not yet read.
const QUEUE: usize = 1_024;

/// Why a unit was passed over that somebody is writing.
pub const UNSETTLED: &str = "being written";

/// Why nothing more is heard of a thread that has ended.
const DEFECT: &str = "looking at it ended by a defect of Hoist: report it with the server's log";

/// How long the collector waits before it looks whether somebody is stuck.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the scan asks its caller: the state as it was when the scan began.
pub trait Known: Send + Sync + 'static {
    /// How many there are.
    fn count(&self) -> usize;
    /// The model at exactly this path.
    fn at(&self, path: &ModelPath) -> Option<&Arc<Model>>;
    /// The model at this path, if there is one, and all that follow it in the order of paths.
    fn from<'a>(&'a self, path: &ModelPath) -> Box<dyn Iterator<Item = &'a Arc<Model>> + 'a>;
    /// Models that this file stands for.
    fn of_file(&self, device: u64, inode: u64) -> Vec<&Arc<Model>>;
    /// Models at or below a path, those included at whose place another model's file is.
    fn below<'a>(&'a self, path: &'a ModelPath) -> Box<dyn Iterator<Item = &'a Arc<Model>> + 'a>;
}

/// How far a scan is; anybody may look.
#[derive(Debug, Default)]
pub struct ScanProgress {
    pub found: AtomicU64,
    pub done: AtomicU64,
    pub header_bytes: AtomicU64,
    /// Entries of folders that were listed, whatever they are: that the storage answers.
    pub listed: AtomicU64,
}

/// What to look at.
pub struct Scan {
    pub roots: Arc<Roots>,
    /// Empty: every root from its top.
    pub paths: Vec<PathBuf>,
    pub reread: bool,
    /// Folders below each path that are looked at.
    pub max_depth: usize,
    pub known: Arc<dyn Known>,
    pub progress: Arc<ScanProgress>,
    pub stop: Stop,
    /// Counts its threads while they live: one that hangs in a read outlives the look.
    pub threads: Threads,
    /// Silence after which a reader counts as stuck.
    pub stuck_after: Duration,
    /// Nanoseconds since 1970, as files are stamped.
    pub now_ns: Arc<dyn Fn() -> i64 + Send + Sync>,
    pub new_id: Arc<dyn Fn() -> ModelId + Send + Sync>,
    /// Until when this look waits for what is being written, once it has come across some.
    pub settled_by: OnceLock<i64>,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("paths", &self.paths).finish_non_exhaustive()
    }
}

/// How a look ended.
#[derive(Debug)]
pub struct Looked {
    /// Without what only the caller can count.
    pub report: ScanReport,
    /// It ended itself because storage did not answer. What it saw until then holds.
    pub was_given_up: bool,
}

/// From those who compare and those who read to the collector.
enum Event {
    /// Units that are as they were known.
    Unchanged(Vec<Unchanged>),
    Read {
        unit: Box<Unit>,
        result: std::io::Result<Option<(ModelContent, u64)>>,
        moved_from: Option<(ModelId, ModelPath)>,
    },
    /// Somebody is writing it: what it will be is not known yet.
    Unsettled {
        path: PathBuf,
        moved_from: Option<(ModelId, ModelPath)>,
    },
    Walked {
        report: Box<ScanReport>,
        unlisted: Vec<PathBuf>,
    },
}

#[derive(Debug, PartialEq)]
struct Unchanged {
    id: ModelId,
    bytes: u64,
    verdict: Verdict,
    model_type: hoist_domain::ModelType,
}

impl Unchanged {
    fn of(model: &Model) -> Self {
        let content = &model.content;
        Self {
            id: model.id,
            bytes: content.bytes.0,
            verdict: content.verdict,
            model_type: content.model_type,
        }
    }
}

struct Work {
    unit: Unit,
    moved_from: Option<(ModelId, ModelPath)>,
}

/// Looks, and hands out what it sees as it sees it.
///
/// `emit` gets nothing now and then while it has to wait: the moment to pass on what has been handed out.
pub fn run(scan: Scan, clock: &dyn Fn() -> Duration, emit: &mut dyn FnMut(Option<Observation>)) -> Looked {
    let started = clock();
    let scan = Arc::new(scan);
    let (events, received) = channel();
    let (work, taken) = sync_channel::<Work>(QUEUE);
    let taken = Arc::new(Mutex::new(taken));
    let mut collector = Collector {
        scan: &scan,
        report: ScanReport::default(),
        seen: HashSet::with_capacity(scan.known.count()),
        taken: Vec::new(),
        unlisted: Vec::new(),
        is_walk_done: false,
        was_given_up: false,
    };
    let mut readers = Readers {
        scan: Arc::clone(&scan),
        taken,
        events: events.clone(),
        desks: Vec::new(),
        spares: SPARE_READERS,
    };
    // Fewer readers do as well; without any, or without a walk, nothing is seen and nothing concluded.
    let has_readers = (0..READERS).filter(|_| readers.add()).count() > 0;
    let (walking, walked) = sync_channel(AHEAD);
    let comparing = if has_readers { spawn_comparing(&scan, walked, work, events) } else { None };
    let comparing = comparing.filter(|_| spawn_walker(&scan, walking).is_some());
    let Some(comparing) = comparing else {
        let message = "no thread could be started: nothing was looked at".to_owned();
        collector.report.problem(ModelPath::new(Path::new("/")), message);
        return Looked { report: collector.report, was_given_up: true };
    };
    collector.collect(&received, &mut readers, &comparing, clock, emit);
    let Collector { mut report, mut seen, taken, unlisted, is_walk_done, was_given_up, .. } = collector;
    let is_whole = is_walk_done && !scan.stop.load(Ordering::Relaxed) && readers.spares == SPARE_READERS;
    // Only known models are ever seen: when as many were, nothing is gone, and none has to be asked for.
    if is_whole && seen.len() < scan.known.count() {
        let (lost, _): (Vec<ModelId>, Vec<ModelId>) = taken.into_iter().partition(|id| seen.insert(*id));
        lost.into_iter().for_each(|id| emit(Some(Observation::Overwritten { id })));
        gone(&scan, &seen, &unlisted, &mut report, emit);
    }
    report.took = clock().saturating_sub(started);
    Looked { report, was_given_up }
}

/// None if there is no room for a thread.
fn spawn(scan: &Scan, name: &str, work: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    let alive = scan.threads.enter();
    let counted = move || {
        work();
        drop(alive);
    };
    // Not a supervised task: it may have to be left behind in a read that never returns.
    std::thread::Builder::new().name(name.to_owned()).spawn(counted).ok()
}

fn spawn_comparing(
    scan: &Arc<Scan>,
    walked: Receiver<Walking>,
    work: SyncSender<Work>,
    events: Sender<Event>,
) -> Option<JoinHandle<()>> {
    let own = Arc::clone(scan);
    spawn(scan, "catalog compare", move || compare_all(&own, &walked, work, &events))
}

fn spawn_walker(scan: &Arc<Scan>, walking: SyncSender<Walking>) -> Option<JoinHandle<()>> {
    let own = Arc::clone(scan);
    spawn(scan, "catalog walk", move || {
        let scan = own;
        let mut walk = Walk::new(&scan.roots, &scan.stop, &scan.progress.listed);
        // Nobody takes it only when the scan is over.
        let mut found = |found: Found| drop(walking.send(Walking::Found(found)));
        if scan.paths.is_empty() {
            for root in scan.roots.iter() {
                walk.tree(root.path().to_owned(), scan.max_depth, &mut found);
            }
        } else {
            for path in &scan.paths {
                // Nothing there is an answer, not a folder that could not be listed: asked beneath the open root, which
                // stays the same when its own path is gone meanwhile.
                let is_nothing = |path: &Path| {
                    scan.roots.resolve(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
                };
                let is_gone = is_nothing(path);
                let folder = path.parent().unwrap_or(path);
                if is_gone && (scan.roots.of(folder).is_none() || is_nothing(folder)) {
                    continue;
                }
                // What is gone may have been a part of a model beside it.
                let is_file = is_gone || path.symlink_metadata().is_ok_and(|facts| !facts.is_dir());
                let top = if is_file { folder } else { path };
                // The folder of a file, and nothing below it.
                let max_depth = if is_file { 1 } else { scan.max_depth };
                walk.tree(top.to_owned(), max_depth, &mut found);
            }
        }
        let Walk { report, unlisted, .. } = walk;
        let _ = walking.send(Walking::Done { report: Box::new(report), unlisted });
    })
}

struct Collector<'a> {
    scan: &'a Scan,
    report: ScanReport,
    /// Known models that are somewhere: where they were, moved, or not to be read right now. The rest is gone.
    seen: HashSet<ModelId>,
    /// Known models at whose places another one's file is. Their own may still be come across.
    taken: Vec<ModelId>,
    unlisted: Vec<PathBuf>,
    is_walk_done: bool,
    was_given_up: bool,
}

impl Collector<'_> {
    fn collect(
        &mut self,
        events: &Receiver<Event>,
        readers: &mut Readers,
        comparing: &JoinHandle<()>,
        clock: &dyn Fn() -> Duration,
        emit: &mut dyn FnMut(Option<Observation>),
    ) {
        let progress = Arc::clone(&self.scan.progress);
        let mut written_off = 0;
        let mut heard = clock();
        let mut listed = 0;
        loop {
            let done = progress.done.load(Ordering::Relaxed) + written_off;
            if self.is_walk_done && done >= progress.found.load(Ordering::Relaxed) {
                return;
            }
            if self.scan.stop.load(Ordering::Relaxed) {
                return;
            }
            match events.recv_timeout(PATIENCE) {
                Ok(event) => {
                    heard = clock();
                    self.take(event, emit);
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    emit(None);
                    let listed_now = progress.listed.load(Ordering::Relaxed);
                    if listed_now != std::mem::replace(&mut listed, listed_now) {
                        heard = clock();
                    }
                    for (path, why) in readers.write_off(clock()) {
                        written_off += 1;
                        self.report.problem(ModelPath::new(&path), why.to_owned());
                        self.unlisted.push(path);
                    }
                    // It ends with the walk, and its last word comes before: one that ended without will never say it.
                    if !self.is_walk_done && comparing.is_finished() {
                        while let Ok(event) = events.try_recv() {
                            self.take(event, emit);
                        }
                        if !self.is_walk_done {
                            self.report.problem(ModelPath::new(Path::new("/")), DEFECT.to_owned());
                            self.scan.stop.store(true, Ordering::Relaxed);
                        }
                        continue;
                    }
                    let silent = clock().saturating_sub(heard);
                    let is_silent = !self.is_walk_done && silent >= self.scan.stuck_after.saturating_mul(2);
                    // Without readers what is still to be read never will be.
                    if is_silent || readers.desks.is_empty() {
                        let message =
                            "the storage of a root does not answer: the scan was given up".to_owned();
                        self.report.problem(ModelPath::new(Path::new("/")), message);
                        // Somebody may have stopped it before.
                        self.was_given_up = !self.scan.stop.swap(true, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    fn take(&mut self, event: Event, emit: &mut dyn FnMut(Option<Observation>)) {
        let progress = &self.scan.progress;
        match event {
            Event::Walked { report, unlisted } => {
                let mine = std::mem::replace(&mut self.report, *report);
                self.merge(mine);
                self.unlisted.extend(unlisted);
                self.is_walk_done = true;
                return;
            }
            Event::Unchanged(units) => {
                progress.done.fetch_add(units.len() as u64, Ordering::Relaxed);
                for Unchanged { id, bytes, verdict, model_type } in units {
                    self.seen.insert(id);
                    self.report.unchanged += 1;
                    self.count(bytes, verdict, model_type);
                }
                return;
            }
            Event::Unsettled { path, moved_from } => {
                // What is known of it stays as it was until it is finished.
                let known = self.scan.known.at(&ModelPath::new(&path));
                self.seen.extend(known.map(|known| known.id));
                self.seen.extend(moved_from.map(|(id, _)| id));
                self.report.skip(UNSETTLED);
            }
            Event::Read { unit, result, moved_from } => {
                let path = ModelPath::new(&unit.path);
                let known = self.scan.known.at(&path).map(|known| known.id);
                let moved = moved_from.as_ref().map(|(id, _)| *id);
                match result {
                    Ok(Some((content, header_bytes))) => {
                        progress.header_bytes.fetch_add(header_bytes, Ordering::Relaxed);
                        self.report.header_bytes.0 += header_bytes;
                        if moved.is_some() {
                            self.taken.extend(known);
                        }
                        self.seen.extend(moved.or(known));
                        self.count(content.bytes.0, content.verdict, content.model_type);
                        let path_name = names::display(&unit.path, unit.is_folder()).into();
                        emit(Some(Observation::Found(Box::new(FoundModel {
                            path,
                            path_name,
                            content: Arc::new(content),
                            moved_from,
                            new_id: (self.scan.new_id)(),
                        }))));
                    }
                    Ok(None) => self.report.skip("not a model"),
                    Err(error) => {
                        // What is known of it stays as it was: it is there, it just cannot be read.
                        self.seen.extend(known);
                        self.seen.extend(moved);
                        self.report.problem(path, error.to_string());
                    }
                }
            }
        }
        progress.done.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&mut self, bytes: u64, verdict: Verdict, model_type: hoist_domain::ModelType) {
        self.report.models += 1;
        self.report.bytes.0 = self.report.bytes.0.saturating_add(bytes);
        self.report.damaged += u64::from(verdict != Verdict::Ok);
        *self.report.by_type.entry(model_type).or_default() += 1;
    }

    /// Adds what was counted before the walk's own report came.
    fn merge(&mut self, counted: ScanReport) {
        self.report.models += counted.models;
        self.report.unchanged += counted.unchanged;
        self.report.damaged += counted.damaged;
        self.report.bytes.0 = self.report.bytes.0.saturating_add(counted.bytes.0);
        self.report.header_bytes.0 += counted.header_bytes.0;
        for (model_type, count) in counted.by_type {
            *self.report.by_type.entry(model_type).or_default() += count;
        }
        for (why, count) in counted.skipped {
            *self.report.skipped.entry(why).or_default() += count;
        }
        for problem in counted.problems {
            self.report.problem(problem.path, problem.message);
        }
        self.report.more_problems += counted.more_problems;
    }
}

/// What was known below the places that were looked at, and is not there.
fn gone(
    scan: &Scan,
    seen: &HashSet<ModelId>,
    unlisted: &[PathBuf],
    report: &mut ScanReport,
    emit: &mut dyn FnMut(Option<Observation>),
) {
    let tops: BTreeSet<PathBuf> = if scan.paths.is_empty() {
        scan.roots.iter().map(|root| root.path().to_owned()).collect()
    } else {
        scan.paths.iter().cloned().collect()
    };
    for top in tops {
        let top = ModelPath::new(&top);
        for model in scan.known.below(&top) {
            // One that is known to be missing is told of once more if nobody wrote about it: then it is forgotten.
            let is_to_be_told = model.state == ModelState::Available || model.notes.is_none();
            let is_hidden = unlisted.iter().any(|folder| model.path.as_path().starts_with(folder));
            if is_to_be_told && !is_hidden && !seen.contains(&model.id) {
                report.missing += 1;
                emit(Some(Observation::Gone { id: model.id, path: model.path.clone() }));
            }
        }
    }
}

#[cfg(test)]
mod tests;
