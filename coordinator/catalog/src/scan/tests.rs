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

/// A scan of a tree, and of nothing known.
fn scan_of(place: &Path, stuck_after: Duration, now_ns: Arc<dyn Fn() -> i64 + Send + Sync>) -> Scan {
    Scan {
        roots: Arc::new(Roots::new(vec![Root::open(place).unwrap()], Links::Roots)),
        paths: Vec::new(),
        reread: false,
        max_depth: usize::MAX,
        known: Arc::new(Fragile("nothing")),
        progress: Arc::default(),
        stop: Arc::new(AtomicBool::new(false)),
        threads: Threads::default(),
        stuck_after,
        now_ns,
        new_id: Arc::new(|| ModelId(uuid::Uuid::nil())),
        settled_by: OnceLock::new(),
    }
}

#[test]
fn a_look_whose_readers_all_hang_ends_and_says_so() {
    let place = tempfile::tempdir().unwrap();
    let files = READERS + SPARE_READERS + 5;
    for number in 0..files {
        // Damaged, so that a reader asks how late it is; and it is never told, until the test is over.
        std::fs::write(place.path().join(format!("{number}.safetensors")), b"no model").unwrap();
    }
    let over = Arc::new(AtomicBool::new(false));
    let hang = Arc::clone(&over);
    let never = Arc::new(move || {
        while !hang.load(Ordering::Relaxed) {
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(20));
        }
        i64::MAX
    });
    // Each look at the clock finds it a second later.
    let (now, pauses) = (AtomicU64::new(0), AtomicU64::new(0));
    let clock = || Duration::from_secs(now.fetch_add(1, Ordering::Relaxed));
    let scan = scan_of(place.path(), Duration::from_secs(3), never);
    let looked = run(scan, &clock, &mut |told| {
        pauses.fetch_add(u64::from(told.is_none()), Ordering::Relaxed);
    });
    over.store(true, Ordering::Relaxed);
    assert!(looked.was_given_up);
    let told: Vec<String> = looked.report.problems.iter().map(|problem| problem.message.clone()).collect();
    assert_eq!(told.len(), READERS + SPARE_READERS + 1, "{told:?}");
    assert!(told.last().is_some_and(|last| last.contains("the scan was given up")), "{told:?}");
    assert!(pauses.load(Ordering::Relaxed) > 0, "what was handed out can be passed on meanwhile");
}

#[test]
fn a_walk_that_goes_on_is_waited_for_though_it_finds_nothing() {
    let place = tempfile::tempdir().unwrap();
    let scan = Arc::new(scan_of(place.path(), Duration::from_secs(3), Arc::new(|| 0)));
    let (events, received) = channel();
    let (_work, taken) = sync_channel::<Work>(1);
    let mut readers = Readers {
        scan: Arc::clone(&scan),
        taken: Arc::new(Mutex::new(taken)),
        events: events.clone(),
        desks: Vec::new(),
        spares: 0,
    };
    assert!(readers.add());
    let mut collector = Collector {
        scan: &scan,
        report: ScanReport::default(),
        seen: HashSet::new(),
        taken: Vec::new(),
        unlisted: Vec::new(),
        is_walk_done: false,
        was_given_up: false,
    };
    // A folder a second by the clock, of which the collector hears nothing but that there is one more.
    let now = AtomicU64::new(0);
    let clock = || {
        let seconds = now.fetch_add(1, Ordering::Relaxed);
        scan.progress.listed.fetch_add(1, Ordering::Relaxed);
        if seconds == 30 {
            let walked = Event::Walked { report: Box::default(), unlisted: Vec::new() };
            events.send(walked).unwrap();
        }
        Duration::from_secs(seconds)
    };
    let walking = std::thread::Builder::new().spawn(std::thread::park).unwrap();
    collector.collect(&received, &mut readers, &walking, &clock, &mut |_| {});
    walking.thread().unpark();
    assert!(collector.is_walk_done && !collector.was_given_up, "{:?}", collector.report);
}
