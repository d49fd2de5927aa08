//! Whole models into segments: every component of every model of a tree, beside the digests that the catalog finds by
//! reading the same bytes in another way, and beside the reference reader of the format.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hoist_catalog::{Details, Known, Links, Pace, Root, Roots, Scan, Threads, Unit, Wanted};
use hoist_domain::{Bytes, Digest, Model, ModelId, ModelPath, Observation};
use hoist_runtime::{Clock, Shutdown, Tasks};
use hoist_segment::{Access, Directory, Sealed, Segment};
use hoist_staging::{Filled, Job, News, Plan, Pool, PoolSettings, Recipe, RecipeError, Target, open};
use safetensors::SafeTensors;

/// Larger ones are holes.
const LARGEST: Bytes = Bytes::gib(1);

struct Nothing;

impl Known for Nothing {
    fn count(&self) -> usize {
        0
    }

    fn at(&self, _: &ModelPath) -> Option<&Arc<Model>> {
        None
    }

    fn from<'a>(&'a self, _: &ModelPath) -> Box<dyn Iterator<Item = &'a Arc<Model>> + 'a> {
        Box::new(std::iter::empty())
    }

    fn of_file(&self, _: u64, _: u64) -> Vec<&Arc<Model>> {
        Vec::new()
    }

    fn below<'a>(&'a self, _: &'a ModelPath) -> Box<dyn Iterator<Item = &'a Arc<Model>> + 'a> {
        Box::new(std::iter::empty())
    }
}

/// The models below a folder.
fn models(top: &Path) -> (Roots, Vec<Unit>) {
    let roots = || Roots::new(vec![Root::open(top).unwrap()], Links::Roots);
    let scan = Scan {
        roots: Arc::new(roots()),
        paths: Vec::new(),
        reread: false,
        max_depth: usize::MAX,
        known: Arc::new(Nothing),
        progress: Arc::default(),
        stop: Arc::default(),
        threads: Threads::default(),
        stuck_after: Duration::from_secs(60),
        settled_by: OnceLock::new(),
        now_ns: Arc::new(|| i64::MAX),
        new_id: Arc::new(|| ModelId(uuid::Uuid::nil())),
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    hoist_catalog::run(scan, &|| Clock::system().monotonic(), &mut |seen| {
        if let Some(Observation::Found(found)) = seen {
            paths.push(found.path.as_path().to_owned());
        }
    });
    paths.sort();
    let roots = roots();
    let units = paths.iter().map(|path| hoist_catalog::unit_at(&roots, path).unwrap().unwrap()).collect();
    (roots, units)
}

/// What the background finds: every byte, in the order of the files.
fn digests(roots: &Roots, unit: &Unit, details: &Details) -> Option<Vec<(usize, Digest)>> {
    let (stop, bytes) = (AtomicBool::new(false), AtomicU64::new(0));
    let pace = Pace { stop: &stop, bytes: &bytes, is_gentle: false };
    let contents = hoist_catalog::read_contents(roots, unit, &details.reading, Wanted::default(), pace);
    contents.ok().map(|contents| hoist_catalog::digests(details, &contents))
}

/// All components of a model at once, each into a segment of its own; with the digest that came of it.
fn stage(
    pool: &Pool,
    segments: &Directory,
    roots: &Roots,
    unit: &Unit,
    recipes: &[Recipe],
) -> Vec<(Digest, Segment)> {
    let (sources, items) = open(recipes, roots, unit).unwrap();
    let targets = recipes.iter().map(|recipe| match recipe.target() {
        Target::Tensors(layout) => segments.create(layout).unwrap(),
        Target::Files(files) => segments.create_raw(files).unwrap(),
    });
    let job = Job::new(Plan::of(items), sources, targets.collect(), |_| {});
    let (tell, told) = channel();
    pool.run(job, 4, move |news| tell.send(news).unwrap());
    let filled = told.iter().map_while(|news| match news {
        News::Filled(filled) => Some(filled),
        News::Ended(outcome) => {
            outcome.unwrap();
            None
        }
    });
    let sealed = filled.map(|Filled { place, target, hashes }| {
        let digest = recipes[place].digest(&hashes);
        match target.seal(digest).unwrap() {
            Sealed::New(segment) => Some((digest, segment)),
            // Shared with another one of the same tree.
            Sealed::Duplicate(_) => None,
        }
    });
    sealed.flatten().collect()
}

/// How many components were staged.
fn check_tree(top: &Path) -> (usize, usize) {
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let segments = Directory::open(&memory.path().join("segments"), Access::Owner).unwrap();
    let pool = Pool::new(PoolSettings::default(), Tasks::new(Shutdown::new()), Clock::system());
    let (roots, units) = models(top);
    let (mut staged, mut left) = (0, 0);
    for unit in &units {
        let details = hoist_catalog::details(&roots, unit).unwrap();
        if details.content.bytes > LARGEST {
            continue;
        }
        let Some(expected) = digests(&roots, unit, &details) else {
            left += 1;
            continue;
        };
        let recipes = (0..details.content.components.len()).map(|number| Recipe::of(&details, number));
        let (recipes, refused): (Vec<_>, Vec<_>) = recipes.partition(Result::is_ok);
        for refusal in refused {
            let refusal = refusal.unwrap_err();
            assert!(!matches!(refusal, RecipeError::Missing), "{}: {refusal}", unit.path.display());
            left += 1;
        }
        let recipes: Vec<Recipe> = recipes.into_iter().map(Result::unwrap).collect();
        for (digest, segment) in stage(&pool, &segments, &roots, unit, &recipes) {
            let found = expected.iter().any(|(_, known)| *known == digest);
            assert!(found, "{}: {digest} of {expected:?}", unit.path.display());
            if !segment.is_raw() {
                let file = std::fs::read(segment.path()).unwrap();
                let read = SafeTensors::deserialize(&file).unwrap();
                assert_eq!(read.len(), segment.layout().unwrap().tensors().len());
            }
            staged += 1;
            segment.evict().unwrap();
        }
    }
    pool.close();
    (staged, left)
}

#[test]
fn every_component_of_the_demonstration_arrives_as_the_catalog_knows_it() {
    let place = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/demo-models");
    assert!(Command::new("python3").arg(script).arg(place.path()).status().unwrap().success());
    let (staged, _) = check_tree(&place.path().canonicalize().unwrap());
    assert!(staged >= 15, "{staged}");
}

/// Trees that the reference libraries wrote: safetensors, shards, pickles of both kinds, GGUF, scripts, graphs.
#[test]
#[ignore = "needs the trees of `make fixtures`"]
fn every_component_of_the_fixtures_arrives_as_the_catalog_knows_it() {
    #[expect(clippy::disallowed_methods, reason = "where the trees are is said to the test alone")]
    let fixtures = PathBuf::from(std::env::var_os("HOIST_FIXTURES").unwrap());
    let (staged, left) = check_tree(&fixtures.join("corpus").canonicalize().unwrap());
    println!("{staged} components, {left} left out");
    assert!(staged >= 200 && left * 20 <= staged, "{staged} staged, {left} left out");
}
