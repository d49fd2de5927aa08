use std::sync::atomic::AtomicBool;

use super::*;
use crate::roots::{Links, Root};

/// Knows nothing, and does not survive to be asked about a place of this name.
struct Fragile(&'static str);

impl Known for Fragile {
    fn count(&self) -> usize {
        0
    }

    fn at(&self, path: &ModelPath) -> Option<&Arc<Model>> {
        assert!(!path.text().contains(self.0), "asked about {path}");
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

fn look(known: Fragile, now_ns: Arc<dyn Fn() -> i64 + Send + Sync>) -> ScanReport {
    let place = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        // Damaged, so that a reader asks how late it is.
        std::fs::write(place.path().join(format!("{name}.safetensors")), b"no model").unwrap();
    }
    let root = Root::open(place.path()).unwrap();
    let scan = Scan {
        roots: Arc::new(Roots::new(vec![root], Links::Roots)),
        paths: Vec::new(),
        reread: false,
        max_depth: usize::MAX,
        known: Arc::new(known),
        progress: Arc::default(),
        stop: Arc::new(AtomicBool::new(false)),
        threads: Threads::default(),
        // Nobody who waits for this sees the end of the test.
        stuck_after: Duration::from_secs(3_600),
        now_ns,
        new_id: Arc::new(|| ModelId(uuid::Uuid::nil())),
        settled_by: OnceLock::new(),
    };
    run(scan, &|| Duration::ZERO, &mut |_| {}).report
}

#[test]
fn a_walk_that_ends_by_a_defect_is_called_so() {
    let report = look(Fragile("b.safetensors"), Arc::new(|| 0));
    let told: Vec<&str> = report.problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(told, [DEFECT], "{report:?}");
}

#[test]
fn a_reader_that_ends_by_a_defect_costs_its_unit_and_is_called_so() {
    let asked = AtomicBool::new(false);
    let once = Arc::new(move || {
        assert!(asked.swap(true, Ordering::Relaxed), "the first who asks");
        i64::MAX
    });
    let report = look(Fragile("nothing"), once);
    let told: Vec<&str> = report.problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!((told, report.models), (vec![DEFECT], 2), "{report:?}");
}
