//! SIGKILL after every system call by which a segment or a lease comes or goes, and after every answer: what was complete
//! and what was heard is there after the next start, and nothing half-done is.
//!
//! The server is the shipped binary. An undisturbed run counts the calls; then each is the last of one run.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoist_runtime::Clock;
use hoist_tests::caching::{
    Held, Tensor, acquire, acquire_as, cache, counts_are_true, evict, leases, segments, status, tensors,
};
use hoist_tests::library::{Library, Open, PATIENCE, Watcher, reason};
use hoist_tests::stepping::Stepper;
use hoist_tests::{Channels, Server, connect, making, process, soak};
use hoist_wire::v1;
use rustix::process::Signal;
use tonic::Status;

/// The largest model: who reads so much at a start has read it again.
const KEPT_MEBIBYTES: usize = 8;

/// How long a server waits for the holders of leases, and a few paces.
const GRACE: Duration = Duration::from_secs(30 + 4);

/// Before names of what is half-done.
const HALF_DONE: [&str; 3] = [".filling-", ".evicting-", ".writing-"];

/// What the server does when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Fill,
    Evict,
    Grant,
    Resume,
    End,
}

/// What a client has heard of it.
#[derive(Debug)]
enum Heard {
    Done,
    Granted(String),
    Nothing,
}

/// What a source holds, which a segment of it has to hold.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Tensors(BTreeMap<String, Tensor>),
    Files(BTreeMap<String, Vec<u8>>),
}

impl Content {
    fn of(path: &Path) -> Self {
        if path.is_file() {
            return Self::Tensors(tensors(path).unwrap());
        }
        let files = std::fs::read_dir(path).unwrap().map(|file| {
            let file = file.unwrap();
            (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())
        });
        Self::Files(files.collect())
    }
}

/// A library with a server on it, one lease that is held all the time, and what is right.
struct Place {
    library: Library,
    /// By the paths of their segments.
    contents: BTreeMap<PathBuf, Content>,
    server: Option<Server>,
    at: Channels,
    kept: Held,
    /// Leases that nobody has heard of.
    unheard: BTreeSet<String>,
    /// How many half-done names kills have left.
    half_done: usize,
}

impl Place {
    /// All of it is in RAM.
    async fn new() -> Self {
        let library = Library::new().unwrap();
        library.write("two/weights.bin", &[7; 16]).unwrap();
        library.write("two/model.onnx", &making::onnx("weights.bin")).unwrap();
        let sources = [
            ("kept", library.write("kept.safetensors", &making::uniform(3.0, KEPT_MEBIBYTES)).unwrap()),
            ("one", library.write("one.safetensors", &making::uniform(1.0, 6)).unwrap()),
            ("two", library.path("two")),
        ];
        let Open { server, at, .. } = library.open().await.unwrap();
        let mut contents = BTreeMap::new();
        for (name, source) in sources {
            let report = cache(&at, name, &[]).await.unwrap();
            assert_eq!(report.components.len(), 1, "{report:?}");
            let path = PathBuf::from(&report.components[0].path);
            assert_eq!(Content::of(&path), Content::of(&source));
            contents.insert(path, Content::of(&source));
        }
        let kept = acquire(&at, "kept", &[]).await.unwrap();
        Self { library, contents, server: Some(server), at, kept, unheard: BTreeSet::new(), half_done: 0 }
    }

    fn names(&self, below: &str) -> Vec<String> {
        let directory = self.library.sandbox.runtime_dir().join(below);
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Segments that have their names, and which files those are.
    fn complete(&self) -> BTreeMap<PathBuf, u64> {
        let inode = |path: &PathBuf| std::fs::metadata(path).ok().map(|found| (path.clone(), found.ino()));
        self.contents.keys().filter_map(inode).collect()
    }

    /// SIGKILL, and the next server.
    async fn restart(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill().unwrap();
        }
        let server = self.library.sandbox.start().unwrap();
        self.at = connect(&server.socket).await.unwrap();
        self.server = Some(server);
    }

    fn process(&self) -> u32 {
        self.server.as_ref().unwrap().process_id()
    }

    async fn take_up(&self, lease: &str) -> Result<Held, Status> {
        acquire_as(&self.at, v1::AcquireRequest { lease: lease.to_owned(), ..Default::default() }).await
    }

    /// Brings the server to where the work begins. The lease that it is about.
    async fn prepare(&mut self, work: Work) -> Option<Held> {
        for name in ["one", "two"] {
            if work == Work::Fill {
                evict(&self.at, name).await.unwrap();
            } else {
                cache(&self.at, name, &[]).await.unwrap();
            }
        }
        if work == Work::Fill {
            assert_eq!(self.complete().len(), 1);
        }
        if !matches!(work, Work::Resume | Work::End) {
            return None;
        }
        let held = acquire(&self.at, "one", &[]).await.unwrap();
        if work == Work::Resume {
            self.restart().await;
            let kept = self.take_up(self.kept.name()).await.unwrap();
            self.kept = kept;
        }
        Some(held)
    }

    async fn act(&self, work: Work, lease: Option<Held>) -> Heard {
        let done = match (work, lease) {
            (Work::Fill, _) => {
                let one = cache(&self.at, "one", &[]).await;
                if one.is_ok() { cache(&self.at, "two", &[]).await.map(drop) } else { one.map(drop) }
            }
            (Work::Evict, _) => {
                let one = evict(&self.at, "one").await;
                if one.is_ok() { evict(&self.at, "two").await.map(drop) } else { one.map(drop) }
            }
            (Work::End, Some(held)) => {
                let ended = held.end().await;
                // Its record goes after its end is told, which is a step to be killed after.
                let is_alive = || process::directory(self.process()).join("exe").read_link().is_ok();
                while self.names("leases").len() > 1 && is_alive() {
                    tokio::task::yield_now().await;
                }
                ended
            }
            (Work::Resume, Some(held)) => self.take_up(held.name()).await.map(drop),
            _ => match acquire(&self.at, "one", &[]).await {
                Ok(held) => return Heard::Granted(held.name().to_owned()),
                Err(broken) => Err(broken),
            },
        };
        done.map_or(Heard::Nothing, |()| Heard::Done)
    }

    /// One run that ends with a kill: after the nth step, or after the last. The steps that it took.
    async fn run(&mut self, work: Work, kill_after: Option<usize>) -> Vec<String> {
        let lease = self.prepare(work).await;
        let name = lease.as_ref().map(|held| held.name().to_owned());
        let before = self.complete();
        let stepper = Stepper::attach(self.process(), self.library.sandbox.runtime_dir(), kill_after);
        let stepper = stepper.unwrap();
        let heard = self.act(work, lease).await;
        let _ = self.server.as_ref().unwrap().signal(Signal::KILL);
        let steps = stepper.steps().unwrap();
        let told = format!("{work:?}, killed after {kill_after:?}, {heard:?}: {steps:#?}");

        let halves = |name: &String| HALF_DONE.iter().any(|half| name.starts_with(half));
        self.half_done += ["segments", "leases"]
            .map(|below| self.names(below))
            .iter()
            .flatten()
            .filter(|name| halves(name))
            .count();
        let complete = self.complete();
        let stay = |path: &PathBuf| work != Work::Evict || *path == self.kept.path("rest");
        for (path, inode) in before.iter().filter(|(path, _)| stay(path)) {
            assert_eq!(complete.get(path), Some(inode), "{told}");
        }
        match (work, &heard) {
            (Work::Fill, Heard::Done) => assert_eq!(complete.len(), 3, "{told}"),
            (Work::Evict, Heard::Done) => assert_eq!(complete.len(), 1, "{told}"),
            _ => {}
        }
        self.restart().await;
        self.check_segments(&complete, &told).await;
        self.check_leases(work, &heard, name, &told).await;
        for name in ["kept", "one", "two"] {
            cache(&self.at, name, &[]).await.unwrap();
        }
        for (path, content) in &self.contents {
            assert!(Content::of(path) == *content, "{}: {told}", path.display());
        }
        counts_are_true(&self.at, self.library.sandbox.runtime_dir()).await.unwrap();
        steps
    }

    /// What was complete is there, whole, and was not read again; nothing else is.
    async fn check_segments(&self, complete: &BTreeMap<PathBuf, u64>, told: &str) {
        let read = process::read_bytes(self.process()).unwrap();
        assert!(read < (KEPT_MEBIBYTES as u64) << 19, "{read} bytes were read for a start: {told}");
        for name in ["segments", "leases"].iter().flat_map(|below| self.names(below)) {
            assert!(!HALF_DONE.iter().any(|half| name.starts_with(half)), "{name} is left: {told}");
        }
        counts_are_true(&self.at, self.library.sandbox.runtime_dir()).await.unwrap();
        assert_eq!(self.complete(), *complete, "{told}");
        let adopted = status(&self.at).await.unwrap().statistics.unwrap().adopted;
        assert_eq!(adopted, complete.len() as u64, "{told}");
        let listed = segments(&self.at).await.unwrap();
        assert_eq!(listed.len(), complete.len(), "{told}");
        for segment in listed {
            assert_eq!(segment.segment.unwrap().state(), v1::segment::State::Sealed, "{told}");
            let path = PathBuf::from(segment.path);
            assert!(Content::of(&path) == self.contents[&path], "{} is not whole: {told}", path.display());
        }
    }

    /// What was heard of can be taken up again; what was not is awaited at most.
    async fn check_leases(&mut self, work: Work, heard: &Heard, lease: Option<String>, told: &str) {
        let known: BTreeSet<String> = leases(&self.at)
            .await
            .unwrap()
            .into_iter()
            .map(|lease| {
                assert_eq!(lease.state(), v1::lease::State::Awaited, "{told}");
                lease.name
            })
            .collect();
        let kept = self.take_up(self.kept.name()).await;
        self.kept = kept.unwrap_or_else(|refused| panic!("{refused:?}: {told}"));
        let mut ours = BTreeSet::from([self.kept.name().to_owned()]);
        if let Heard::Granted(name) = heard {
            ours.insert(name.clone());
            let again = self.take_up(name).await.unwrap_or_else(|refused| panic!("{refused:?}: {told}"));
            again.release(&self.at).await.unwrap();
        }
        if let Some(name) = lease {
            match self.take_up(&name).await {
                // Its record goes after its end is told: a kill in between leaves it to the grace.
                Ok(again) => again.release(&self.at).await.unwrap(),
                Err(refused) => {
                    let has_ended = work == Work::End && reason(&refused) == "RESOURCE_NOT_FOUND";
                    assert!(has_ended, "{refused:?}: {told}");
                }
            }
            ours.insert(name);
        }
        let unheard: BTreeSet<String> = known.difference(&ours).cloned().collect();
        assert!(work == Work::Grant || unheard.is_empty(), "{unheard:?}: {told}");
        assert!(unheard.len() <= self.unheard.len() + 1, "{unheard:?}: {told}");
        self.unheard = unheard;
    }
}

/// Kills the server after every step of this work.
async fn kill_everywhere(work: Work) -> Place {
    let mut place = Place::new().await;
    let steps = place.run(work, None).await;
    let (mut runs, mut kills) = (0, 0);
    for _ in 0..soak::rounds(1) {
        // The undisturbed run may end before strace has told of its last answer: until one gets through.
        for nth in 1.. {
            runs += 1;
            let taken = place.run(work, Some(nth)).await.len();
            kills += usize::from(taken == nth);
            if taken < nth && nth > steps.len() {
                break;
            }
        }
    }
    let (half_done, unheard) = (place.half_done, place.unheard.len());
    println!("{work:?}: {kills} kills in {runs} runs, {half_done} times half-done, {unheard} leases unheard");
    // How often a client is told something changes from run to run; what happens to files hardly does: threads that read
    // side by side may take one step together, and a record may be removed twice.
    let files = steps.iter().filter(|step| !step.contains("writev(")).count();
    assert!((kills + 1) * 4 >= files * 3, "{kills} of {runs}: {steps:#?}");
    place
}

#[tokio::test]
async fn a_filling_that_was_killed_anywhere_leaves_whole_segments_or_none() {
    let place = kill_everywhere(Work::Fill).await;
    assert!(place.half_done > 2, "no kill was in the midst of it");
}

#[tokio::test]
async fn an_eviction_that_was_killed_anywhere_leaves_whole_segments_or_none() {
    let place = kill_everywhere(Work::Evict).await;
    assert!(place.half_done > 0, "no kill was in the midst of it");
}

#[tokio::test]
async fn a_lease_whose_grant_was_killed_anywhere_is_there_if_it_was_heard_and_ends_with_the_grace_if_not() {
    let place = kill_everywhere(Work::Grant).await;
    assert!(place.half_done > 0 && !place.unheard.is_empty(), "no kill was in the midst of it");
    let clock = Clock::system();
    let begun = clock.monotonic();
    let mut watch = Watcher::of(&place.at).await.unwrap();
    watch.until("the end of what nobody heard of", |mirror| mirror.count("leases/") == 1).await.unwrap();
    assert!(clock.monotonic() - begun < GRACE);
    assert_eq!(leases(&place.at).await.unwrap()[0].name, place.kept.name());
    // A record goes after its lease.
    let gone = async {
        while place.names("leases").len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn a_lease_whose_resumption_was_killed_anywhere_can_be_taken_up_again() {
    kill_everywhere(Work::Resume).await;
}

#[tokio::test]
async fn a_lease_whose_end_was_killed_anywhere_has_ended_or_can_be_taken_up_again() {
    kill_everywhere(Work::End).await;
}
