//! Trees that are made to mislead: a scan of a real server passes them over or says what is wrong, reads nothing outside
//! its roots, and starts nothing.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hoist_runtime::Clock;
use hoist_tests::inject::Injection;
use hoist_tests::library::{Library, Open, at, condition, reason};
use hoist_tests::{Server, making, process, soak};
use hoist_wire::v1;
use rustix::fs::{CWD, RenameFlags};
use rustix::process::Signal;

/// Beyond this a scan of any tree here has run away. A server without models takes about 40 MiB.
const MEMORY: u64 = 400 << 20;

fn skipped(report: &v1::ScanModelsResponse, why: &str) -> u64 {
    report.skipped.get(why).copied().unwrap_or_default()
}

#[tokio::test]
async fn what_is_no_file_is_passed_over_and_never_waited_for() {
    let library = Library::new().unwrap();
    let good = library.write("good.safetensors", &making::four(0.5)).unwrap();
    let make = |kind: &[&str], name: &str, rest: &[&str]| {
        let path = library.path(name);
        assert!(Command::new(kind[0]).args(&kind[1..]).arg(path).args(rest).status().unwrap().success());
    };
    make(&["mkfifo"], "pipe.safetensors", &[]);
    let _socket = std::os::unix::net::UnixListener::bind(library.path("socket.gguf")).unwrap();
    std::fs::create_dir(library.path("folder.safetensors")).unwrap();
    for (target, link) in [
        ("pipe.safetensors", "to-pipe.ckpt"),
        ("self.safetensors", "self.safetensors"),
        ("two.pt", "one.pt"),
        ("one.pt", "two.pt"),
        ("nowhere", "dangling.safetensors"),
        (".", "here"),
        ("..", "up"),
        ("/dev/zero", "zero.safetensors"),
        ("/proc/self/fd/0", "magic.safetensors"),
    ] {
        symlink(target, library.path(link)).unwrap();
    }
    // A chain longer than the kernel follows.
    for link in 0..50 {
        symlink(format!("chain{}.pth", link + 1), library.path(&format!("chain{link}.pth"))).unwrap();
    }
    symlink("good.safetensors", library.path("chain50.pth")).unwrap();
    let open = library.open().await.unwrap();
    let mut open = open;
    let report = open.look().await.unwrap();
    assert_eq!(skipped(&report, "not a file"), 3, "the pipe, the link to it, the socket: {report:?}");
    assert_eq!(skipped(&report, "link to nothing"), 1, "{report:?}");
    assert!(skipped(&report, "link in a circle") >= 3, "{report:?}");
    assert_eq!(open.watch.at(&good).unwrap().verdict(), v1::Verdict::Ok);
    for model in open.watch.models() {
        let is_link =
            model.path.contains("zero") || model.path.contains("magic") || model.path.contains("up");
        assert_eq!(model.verdict() == v1::Verdict::Rejected, is_link, "{model:?}");
        assert!(!is_link || model.tensor_count == 0, "{model:?}");
        // Looked at as closely as can be, it is still not opened.
        for level in [v1::ValidationLevel::Header, v1::ValidationLevel::Full] {
            let report = open.validate(&model.name, level).await.unwrap();
            assert_eq!((report.verdict(), is_link), (model.verdict(), report.read_bytes == 0), "{report:?}");
        }
    }
    assert_eq!(process::children(open.server.process_id()).unwrap(), Vec::<u32>::new());
}

#[tokio::test]
async fn what_has_taken_the_place_of_a_file_is_not_waited_for_nor_followed() {
    let library = Library::new().unwrap();
    let path = library.write("a.safetensors", &making::four(0.5)).unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(outside.path(), making::four(0.5)).unwrap();
    let open = library.open().await.unwrap();
    let beside = library.path("beside");
    let no_file: [&dyn Fn(); 4] = [
        &|| assert!(Command::new("mkfifo").arg(&beside).status().unwrap().success()),
        &|| symlink(outside.path(), &beside).unwrap(),
        &|| symlink("a.safetensors", &beside).unwrap(),
        &|| symlink("/dev/zero", &beside).unwrap(),
    ];
    for (number, make) in no_file.iter().enumerate() {
        make();
        std::fs::rename(&beside, &path).unwrap();
        let name = path.display().to_string();
        for level in [v1::ValidationLevel::Header, v1::ValidationLevel::Full] {
            let refused = open.validate(&name, level).await.unwrap_err();
            assert_eq!(reason(&refused), "SOURCE_CHANGED", "{number}: {refused:?}");
        }
        let request = v1::GetModelRequest { name, details: true, ..Default::default() };
        let refused = open.at.catalog().get_model(request).await.unwrap_err();
        assert_eq!(reason(&refused), "SOURCE_CHANGED", "{number}: {refused:?}");
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_hides_what_is_below_it_and_nothing_else() {
    let library = Library::new().unwrap();
    let closed = library.write("closed/a.safetensors", &making::four(0.5)).unwrap();
    let beside = library.write("beside.safetensors", &making::four(0.5)).unwrap();
    let folder = library.path("closed");
    // For root, too: without the capabilities that let it pass.
    let drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    let wrapper: &[&str] = if rustix::process::geteuid().is_root() { &drop } else { &[] };
    let mut open = Open::to(Server::spawn(library.sandbox.command_under(wrapper)).unwrap()).await.unwrap();
    let before = open.watch.at(&closed).unwrap().clone();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o000)).unwrap();
    let report = open.look().await.unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!((report.models, report.missing, report.problems.len()), (1, 0, 1), "{report:?}");
    assert_eq!(Path::new(&report.problems[0].path), folder);
    assert_eq!(open.watch.at(&closed), Some(&before), "what is below it stays as it was last seen");
    assert!(open.watch.at(&beside).is_some());
    assert_eq!(open.look().await.unwrap().unchanged, 2);
}

/// When a file was last read. The file system may not say: then the content alone has to tell.
fn read_at(path: &Path) -> (i64, i64) {
    use std::os::unix::fs::MetadataExt;
    let facts = std::fs::metadata(path).unwrap();
    (facts.atime(), facts.atime_nsec())
}

/// Sets it back to long ago, so that the next read is noted under `relatime`.
fn forget_reads(path: &Path) {
    assert!(Command::new("touch").args(["-a", "-d", "2001-01-01"]).arg(path).status().unwrap().success());
}

/// Exchanges, until told to stop, what the names in the root lead to.
struct Swapper {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Swapper {
    fn start(pairs: Vec<[PathBuf; 2]>) -> Self {
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (told, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        let work = move || {
            while !told.load(Ordering::Relaxed) {
                for [one, other] in &pairs {
                    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
        };
        let thread = std::thread::Builder::new().name("swapper".into()).spawn(work).unwrap();
        Self { stop, rounds, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_exchanged_with_links_out_of_the_root_lead_nowhere() {
    const CANARY: &str = "canary.that.nobody.may.read";
    let library = Library::new().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().canonicalize().unwrap();
    let secret = making::safetensors(&[(CANARY, vec![1.0; 4])], &[("modelspec.title", CANARY)]);
    let canaries = ["x.safetensors", "d/y.safetensors", "d/config.json", "d/deeper/z.safetensors"];
    for name in canaries {
        let path = outside.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &secret).unwrap();
    }
    // Each name stands for a good thing or for a link: straight out, out by an absolute path within, a folder.
    for (good, bad) in [("x.safetensors", "x.tmp"), ("in/x.safetensors", "in/x.tmp")] {
        library.write(good, &making::four(0.5)).unwrap();
        symlink(outside.join("x.safetensors"), library.path(bad)).unwrap();
    }
    library.write("target.safetensors", &making::four(0.25)).unwrap();
    symlink(library.path("target.safetensors"), library.path("absolute.safetensors")).unwrap();
    symlink(outside.join("x.safetensors"), library.path("absolute.tmp")).unwrap();
    library.write("d/y.safetensors", &making::four(0.5)).unwrap();
    library.write("d/deeper/z.safetensors", &making::four(0.5)).unwrap();
    symlink(outside.join("d"), library.path("e.tmp")).unwrap();
    // A control: that reads are noted at all.
    let control = library.path("d/y.safetensors");
    forget_reads(&control);
    let long_ago = read_at(&control);
    let mut open = library.open().await.unwrap();
    let is_noted = read_at(&control) != long_ago;
    println!("reads are noted by this file system: {is_noted}");
    let before: Vec<_> = canaries
        .map(|name| outside.join(name))
        .into_iter()
        .map(|path| {
            forget_reads(&path);
            (read_at(&path), path)
        })
        .collect();

    let pairs = [
        ["x.safetensors", "x.tmp"],
        ["in/x.safetensors", "in/x.tmp"],
        ["absolute.safetensors", "absolute.tmp"],
        ["d", "e.tmp"],
    ];
    let swapper = Swapper::start(pairs.map(|pair| pair.map(|name| library.path(name))).to_vec());
    let clock = Clock::system();
    let until = clock.monotonic() + Duration::from_secs(soak::rounds(3) as u64);
    let (mut looks, mut answers) = (0_u64, 0_u64);
    while clock.monotonic() < until {
        open.scan(v1::ScanModelsRequest { reread: true, ..Default::default() }).await.unwrap();
        looks += 1;
        for name in ["x.safetensors", "in/x.safetensors", "absolute.safetensors", "d/y.safetensors"] {
            let request = v1::GetModelRequest {
                name: library.path(name).display().to_string(),
                details: true,
                tensors: true,
                ..Default::default()
            };
            // Refused or answered: either is right, as long as it is of what is in the root.
            let Ok(answer) = open.at.catalog().get_model(request.clone()).await else { continue };
            answers += 1;
            let answer = format!("{:?}", answer.into_inner());
            assert!(!answer.contains(CANARY), "{answer}");
            let _ = open.validate(&request.name, v1::ValidationLevel::Full).await;
        }
        for model in open.watch.models() {
            assert!(!format!("{model:?}").contains(CANARY), "{model:?}");
        }
    }
    let rounds = swapper.rounds.load(Ordering::Relaxed);
    drop(swapper);
    println!("{looks} looks and {answers} answers in {rounds} rounds of exchanges");
    assert!(looks > 3 && answers > 3 && rounds > 100);
    for (then, path) in before {
        assert!(!is_noted || read_at(&path) == then, "{} was read", path.display());
    }
}

#[tokio::test]
async fn a_folder_of_fifty_thousand_entries_is_looked_at_within_bounds() {
    const ENTRIES: usize = 50_000;
    const MODELS: usize = 2_000;
    let library = Library::new().unwrap();
    let bytes = making::four(0.5);
    for entry in 0..ENTRIES {
        let is_model = entry % (ENTRIES / MODELS) == 0;
        let name = if is_model { format!("m{entry}.safetensors") } else { format!("m{entry}.txt") };
        std::fs::write(library.path(&name), if is_model { &bytes[..] } else { b"" }).unwrap();
    }
    let mut open = library.open().await.unwrap();
    assert_eq!(open.watch.models().len(), MODELS);
    let clock = Clock::system();
    let begun = clock.monotonic();
    let report = open.look().await.unwrap();
    let took = clock.monotonic().saturating_sub(begun);
    println!(
        "{took:?} for a second look, {} MiB",
        process::peak_bytes(open.server.process_id()).unwrap() >> 20
    );
    assert_eq!((report.files, report.unchanged), (ENTRIES as u64, MODELS as u64));
    assert_eq!((skipped(&report, "other"), report.header_bytes), ((ENTRIES - MODELS) as u64, 0));
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(process::peak_bytes(open.server.process_id()).unwrap() < MEMORY);
}

#[tokio::test]
async fn a_kernel_that_has_lost_count_of_changes_is_not_believed() {
    // A quarter of the changes that its queue takes; each is told several times.
    const CHANGES: usize = 6_000;
    let library = Library::followed().unwrap();
    let mut open = library.open().await.unwrap();
    open.server.signal(Signal::STOP).unwrap();
    for change in 0..CHANGES {
        let path = library.path(&format!("{change}.tmp"));
        std::fs::write(&path, b"x").unwrap();
        std::fs::remove_file(&path).unwrap();
    }
    // After what was still told: nobody hears of these.
    let path = library.write("new/a.safetensors", &making::four(0.5)).unwrap();
    open.server.signal(Signal::CONT).unwrap();
    open.watch.until("what nobody told of", |mirror| at(mirror, &path).is_some()).await.unwrap();
    is_watched(&open, path.parent().unwrap()).await;
}

/// From now on the kernel tells of this folder. Nothing but time says when that is arranged.
async fn is_watched(open: &Open, folder: &Path) {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(folder).unwrap().ino();
    let watched = || process::watched_inodes(open.server.process_id()).unwrap();
    let clock = Clock::system();
    let until = clock.monotonic() + Duration::from_secs(20);
    while !watched().contains(&inode) && clock.monotonic() < until {
        open.at.state().get_status(v1::GetStatusRequest::default()).await.unwrap();
    }
    assert!(watched().contains(&inode), "{} is not watched", folder.display());
}

#[tokio::test]
async fn a_root_that_is_replaced_by_another_folder_is_watched_again() {
    let mut library = Library::followed().unwrap();
    let base = tempfile::tempdir().unwrap();
    let base = base.path().canonicalize().unwrap();
    let root = base.join("root");
    std::fs::create_dir(&root).unwrap();
    library.serve_root(&root);
    let mut open = library.open().await.unwrap();
    is_watched(&open, &root).await;
    let next = base.join("next");
    std::fs::create_dir(&next).unwrap();
    std::fs::write(next.join("a.safetensors"), making::four(0.5)).unwrap();
    rustix::fs::renameat_with(CWD, &root, CWD, &next, RenameFlags::EXCHANGE).unwrap();
    let path = root.join("a.safetensors");
    open.watch.until("what is there now", |mirror| at(mirror, &path).is_some()).await.unwrap();
    is_watched(&open, &root).await;
}

#[tokio::test]
async fn folders_that_cannot_be_watched_are_looked_at_every_now_and_then_and_that_is_said() {
    let mut library = Library::followed().unwrap();
    library.set("CATALOG_RESCAN_INTERVAL", "1s");
    library.write("folder/a.safetensors", &making::four(0.5)).unwrap();
    let fault =
        Injection { calls: "inotify_add_watch", fault: "error=ENOSPC", when: "2+", within: None, slow: "" };
    let words = fault.from_the_start();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut open = Open::to(Server::spawn(library.sandbox.command_under(&words)).unwrap()).await.unwrap();
    open.watch.until("the condition", |mirror| condition(mirror, "ROOTS_POLLED").is_some()).await.unwrap();
    let path = library.write("folder/b.safetensors", &making::four(0.25)).unwrap();
    open.watch.until("a look", |mirror| at(mirror, &path).is_some()).await.unwrap();
    let roots =
        open.at.catalog().list_roots(v1::ListRootsRequest::default()).await.unwrap().into_inner().roots;
    assert!(!roots[0].watched && roots[0].available, "{roots:?}");
}
