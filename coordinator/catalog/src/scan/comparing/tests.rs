//! Folders compared in step against each file compared by itself, on trees that have changed in every way.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{channel, sync_channel};
use std::time::Duration;

use hoist_domain::{BaseModel, Bytes, ModelFile, ModelFormat, ModelType, Verdict, WallTime};
use proptest::prelude::*;

use super::super::Threads;
use super::*;
use crate::roots::{Links, Root, Roots};
use crate::walk::Walk;

/// A collection has its files one by one, and beside them a folder that is a model, shards, and what is no model.
const FOLDERS: [&str; 5] = ["", "a", "a/b", "a b", "a.c"];
const NAMES: [&str; 12] = [
    "x.safetensors",
    "x y.safetensors",
    "x-y.ckpt",
    "x.y.pt",
    "X.gguf",
    "y.safetensors",
    "yy.safetensors",
    "m-00001-of-00002.gguf",
    "m-00002-of-00002.gguf",
    "config.json",
    "notes.txt",
    "b.bin",
];

#[derive(Clone, Copy, Debug)]
enum Change {
    Write(usize),
    Delete,
    Rename(usize, usize),
    Link(usize, usize),
    LinkOut,
    BecomeFolder,
}

fn place() -> impl Strategy<Value = (usize, usize)> {
    (0..FOLDERS.len(), 0..NAMES.len())
}

fn change() -> impl Strategy<Value = ((usize, usize), Change)> {
    let change = prop_oneof![
        3 => (0..4_usize).prop_map(Change::Write),
        2 => Just(Change::Delete),
        3 => place().prop_map(|(folder, name)| Change::Rename(folder, name)),
        1 => place().prop_map(|(folder, name)| Change::Link(folder, name)),
        1 => Just(Change::LinkOut),
        1 => Just(Change::BecomeFolder),
    ];
    (place(), change)
}

fn path_of(top: &Path, (folder, name): (usize, usize)) -> PathBuf {
    top.join(FOLDERS[folder]).join(NAMES[name])
}

/// Changes that cannot be made change nothing.
fn make(top: &Path, place: (usize, usize), change: Change) {
    let path = path_of(top, place);
    let _ = match change {
        Change::Write(bytes) => fs::write(&path, vec![0; bytes]),
        Change::Delete => fs::remove_file(&path),
        Change::Rename(folder, name) => fs::rename(&path, path_of(top, (folder, name))),
        Change::Link(folder, name) => symlink(path_of(top, (folder, name)), &path),
        Change::LinkOut => symlink("/", &path),
        Change::BecomeFolder => fs::remove_file(&path).and_then(|()| fs::create_dir(&path)),
    };
}

#[derive(Default)]
struct Catalog(BTreeMap<ModelPath, Arc<Model>>);

impl super::super::Known for Catalog {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn at(&self, path: &ModelPath) -> Option<&Arc<Model>> {
        self.0.get(path)
    }

    fn from<'a>(&'a self, path: &ModelPath) -> Box<dyn Iterator<Item = &'a Arc<Model>> + 'a> {
        Box::new(self.0.range(path.clone()..).map(|(_, model)| model))
    }

    fn of_file(&self, device: u64, inode: u64) -> Vec<&Arc<Model>> {
        let is_of = |model: &&Arc<Model>| {
            let file = model.content.main_file();
            file.is_some_and(|file| (file.identity.device, file.identity.inode) == (device, inode))
        };
        self.0.values().filter(is_of).collect()
    }

    fn below<'a>(&'a self, path: &'a ModelPath) -> Box<dyn Iterator<Item = &'a Arc<Model>> + 'a> {
        Box::new(self.from(path).take_while(|model| model.path.as_path().starts_with(path.as_path())))
    }
}

/// What a look keeps of a unit. Some models are missing, as of a look before.
fn model(unit: &Unit, number: u128, state: ModelState) -> Arc<Model> {
    let file = |file: &crate::walk::UnitFile| ModelFile {
        path: ModelPath::new(&file.path),
        identity: file.identity,
        is_weights: file.is_weights,
    };
    let bytes = unit.files.iter().map(|file| file.identity.size).sum::<u64>() + unit.other_bytes;
    let content = ModelContent {
        format: ModelFormat::Safetensors,
        model_type: ModelType::Other,
        base: BaseModel::none(),
        variant: "".into(),
        candidates: [].into(),
        confidence_percent: 0,
        prediction: "".into(),
        resolution: 0,
        title: "".into(),
        tensors: 0,
        parameters: 0,
        dtypes: [].into(),
        bytes: Bytes(bytes),
        components: [].into(),
        files: unit.files.iter().map(file).collect(),
        verdict: Verdict::Ok,
        findings: [].into(),
        is_touched: false,
        reader: crate::READER,
    };
    Arc::new(Model {
        id: ModelId(uuid(number)),
        path: ModelPath::new(&unit.path),
        path_name: "".into(),
        state,
        content: Arc::new(content),
        notes: None,
        validation: None,
        discovered_at: WallTime(0),
        read_at: WallTime(0),
    })
}

fn uuid(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

fn scan_of(top: &Path, known: Catalog, reread: bool) -> Scan {
    Scan {
        roots: Arc::new(Roots::new(vec![Root::open(top).unwrap()], Links::Roots)),
        paths: Vec::new(),
        reread,
        max_depth: usize::MAX,
        known: Arc::new(known),
        progress: Arc::default(),
        stop: Arc::default(),
        threads: Threads::default(),
        stuck_after: Duration::from_secs(60),
        settled_by: OnceLock::new(),
        now_ns: Arc::new(|| 0),
        new_id: Arc::new(|| ModelId(uuid(0))),
    }
}

fn walk(roots: &Roots) -> Vec<Found> {
    let (never, listed, mut found) = (AtomicBool::new(false), AtomicU64::new(0), Vec::new());
    let top = roots.iter().next().unwrap().path().to_owned();
    Walk::new(roots, &never, &listed).tree(top, usize::MAX, &mut |one| found.push(one));
    found
}

fn units(found: Vec<Found>) -> Vec<Unit> {
    found.into_iter().flat_map(units_of).collect()
}

fn units_of(found: Found) -> Vec<Unit> {
    match found {
        Found::Unit(unit) => vec![unit],
        Found::Files(directory, files) => files.iter().map(|entry| unit_of_file(&directory, entry)).collect(),
    }
}

/// What goes to the readers: a unit, and where it was before.
type Changed = (Unit, Option<(ModelId, ModelPath)>);

/// What comes of a walk, in its order: what is unchanged, and what goes to the readers.
fn compared(scan: &Scan, found: Vec<Found>) -> (Vec<Unchanged>, Vec<Changed>) {
    let (walking, walked) = channel();
    let (work, taken) = sync_channel(1_000);
    let (events, told) = channel();
    for one in found {
        walking.send(Walking::Found(one)).unwrap();
    }
    walking.send(Walking::Done { report: Box::default(), unlisted: Vec::new() }).unwrap();
    compare_all(scan, &walked, work, &events);
    drop(events);
    let unchanged = told.into_iter().flat_map(|event| match event {
        Event::Unchanged(unchanged) => unchanged,
        _ => Vec::new(),
    });
    (unchanged.collect(), taken.into_iter().map(|work| (work.unit, work.moved_from)).collect())
}

proptest! {
    #[test]
    fn a_folder_compared_in_step_is_each_file_compared_by_itself(
        first in proptest::collection::vec((place(), 0..4_usize), 0..40),
        changes in proptest::collection::vec(change(), 0..12),
        missing in 0..8_u128,
        reread in proptest::bool::weighted(0.1),
    ) {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().canonicalize().unwrap();
        FOLDERS.iter().for_each(|folder| fs::create_dir_all(top.join(folder)).unwrap());
        first.iter().for_each(|(place, bytes)| make(&top, *place, Change::Write(*bytes)));
        let empty = scan_of(&top, Catalog::default(), false);
        let mut known = Catalog::default();
        for (unit, number) in units(walk(&empty.roots)).iter().zip(0..) {
            let state = if number % 8 == missing { ModelState::Missing } else { ModelState::Available };
            let model = model(unit, number, state);
            known.0.insert(model.path.clone(), model);
        }
        changes.iter().for_each(|(place, change)| make(&top, *place, *change));

        let scan = scan_of(&top, known, reread);
        let mut torn = 0;
        let (mut unchanged, mut changed, mut claimed) = (Vec::new(), Vec::new(), HashSet::new());
        for unit in units(walk(&scan.roots)) {
            match compare(&scan, &unit, &mut claimed) {
                Compared::Unchanged(one) => unchanged.push(one),
                Compared::Changed(moved_from) => changed.push((unit, moved_from)),
                // At its place, and claimed as another name of its file before.
                Compared::Torn => torn += 1,
            }
        }
        let found = unchanged.len() + changed.len() + torn;
        prop_assert_eq!(compared(&scan, walk(&scan.roots)), (unchanged, changed));
        prop_assert_eq!(scan.progress.found.load(Ordering::Relaxed), found as u64);
    }
}

#[test]
fn the_next_file_is_the_next_model() {
    let place = tempfile::tempdir().unwrap();
    let top = place.path().canonicalize().unwrap();
    for folder in FOLDERS {
        fs::create_dir_all(top.join(folder)).unwrap();
        for name in ["x y.ckpt", "x-y.ckpt", "x.ckpt", "x0.ckpt"] {
            fs::write(top.join(folder).join(name), name).unwrap();
        }
    }
    let scan = scan_of(&top, Catalog::default(), false);
    let mut known = Catalog::default();
    for (unit, number) in units(walk(&scan.roots)).iter().zip(0..) {
        known.0.insert(ModelPath::new(&unit.path), model(unit, number, ModelState::Available));
    }
    let scan = scan_of(&top, known, false);
    for found in walk(&scan.roots) {
        let Found::Files(directory, files) = found else { panic!("no collection") };
        let in_step: BTreeSet<_> =
            InStep::new(&scan, &directory, &files).map(|known| known.map(|model| model.id)).collect();
        assert!(!in_step.contains(&None) && in_step.len() == files.len(), "{directory:?}: {in_step:?}");
    }
}

#[test]
fn one_file_seen_at_two_places_is_no_news_of_either_but_for_links() {
    let place = tempfile::tempdir().unwrap();
    let top = place.path().canonicalize().unwrap();
    let [a, b] = ["a.ckpt", "b.ckpt"].map(|name| top.join(name));
    fs::write(&a, "a").unwrap();
    fs::write(&b, "b of another length").unwrap();
    let first = units(walk(&scan_of(&top, Catalog::default(), false).roots));
    let mut known = Catalog::default();
    for (unit, number) in first.iter().zip(0..) {
        known.0.insert(ModelPath::new(&unit.path), model(unit, number, ModelState::Available));
    }
    let later = |seconds: i64| {
        let changed_ns = first[0].files[0].identity.changed_ns;
        Arc::new(move || changed_ns + seconds * 1_000_000_000)
    };
    let scan = Scan { now_ns: later(1), ..scan_of(&top, known, false) };
    // What a walk has put together that came by while both changed places and back.
    let mut torn = first[0].clone();
    torn.path.clone_from(&b);
    assert_eq!(compare(&scan, &torn, &mut HashSet::new()), Compared::Torn);
    torn.path = top.join("new.ckpt");
    assert_eq!(compare(&scan, &torn, &mut HashSet::new()), Compared::Torn);
    // Long after, it is really there twice: the folder is mounted at two places.
    let scan = Scan { now_ns: later(60), ..scan };
    assert_eq!(compare(&scan, &torn, &mut HashSet::new()), Compared::Changed(None));
    // A second name, or a link, is a model of its own.
    let scan = Scan { now_ns: later(1), ..scan };
    fs::hard_link(&a, &torn.path).unwrap();
    assert_eq!(compare(&scan, &torn, &mut HashSet::new()), Compared::Changed(None));
    fs::remove_file(&torn.path).unwrap();
    symlink(&a, &torn.path).unwrap();
    assert_eq!(compare(&scan, &torn, &mut HashSet::new()), Compared::Changed(None));
}
