//! Workers as processes: started, killed, stopped and silent; and a server that dies beside them.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hoist_tests::library::{Library, Open, reason};
use hoist_tests::{Channels, Mirror};
use hoist_wire::v1;
use hoist_wire::worker::session_request::Message as Said;
use hoist_wire::worker::session_response::Message as Told;
use hoist_wire::{worker as wire, workers};
use rustix::process::{Pid, Signal, kill_process};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use uuid::Uuid;

const FAKE: &str = env!("CARGO_BIN_EXE_hoist-fake-worker");

/// A library whose server starts this program for `cuda:0`.
fn library(binary: &str) -> Library {
    let mut library = Library::new().unwrap();
    library.set("WORKERS_START", "true");
    library.set("WORKERS_BINARY", binary);
    library.set("WORKERS_DEVICES", "cuda:0=3GiB");
    library.set("WORKERS_RESTART_DELAY", "20ms");
    // What a test leaves when its server is killed.
    library.set("WORKERS_ALONE_LIMIT", "5s");
    library
}

fn device(mirror: &Mirror) -> Option<&v1::Device> {
    mirror.devices().next()
}

fn worker(mirror: &Mirror) -> v1::Worker {
    device(mirror).and_then(|device| device.worker.clone()).unwrap_or_default()
}

async fn until(open: &mut Open, what: &str, is_so: impl Fn(&v1::Worker) -> bool) -> v1::Worker {
    open.watch.until(what, |mirror| device(mirror).is_some() && is_so(&worker(mirror))).await.unwrap();
    worker(&open.watch.mirror)
}

fn is_active(worker: &v1::Worker) -> bool {
    worker.state() == v1::worker::State::Active
}

fn signal(worker: &v1::Worker, signal: Signal) {
    let process = Pid::from_raw(i32::try_from(worker.process_id).unwrap()).unwrap();
    kill_process(process, signal).unwrap();
}

/// A worker that nobody supervises but the test.
struct Foreign(Child);

impl Foreign {
    fn start(socket: &Path, more: &[&str]) -> Self {
        let child = Command::new(FAKE)
            .args(["--device", "cuda:0=1GiB", "--coordinator", &format!("unix://{}", socket.display())])
            .args(more)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// W1.
#[tokio::test]
async fn a_worker_is_started_and_one_that_is_killed_is_replaced() {
    let library = library(FAKE);
    let mut open = library.open().await.unwrap();
    let first = until(&mut open, "a worker", is_active).await;
    assert!(first.supervised && first.restarts == 0, "{first:?}");
    let listed = open.at.devices().list_devices(v1::ListDevicesRequest::default()).await.unwrap();
    let listed = listed.into_inner().devices;
    assert_eq!(listed.iter().collect::<Vec<_>>(), [device(&open.watch.mirror).unwrap()]);
    let one = listed.first().unwrap();
    assert_eq!(
        (one.device_id.as_str(), one.state(), one.capacity_bytes),
        ("cuda:0", v1::device::State::Open, 3 << 30)
    );
    signal(&first, Signal::KILL);
    let lost = until(&mut open, "its end", |worker| !is_active(worker)).await;
    assert!(lost.problem.contains("SIGKILL") || lost.problem.contains("has ended"), "{lost:?}");
    assert_eq!(device(&open.watch.mirror).unwrap().state(), v1::device::State::Lost);
    let next = until(&mut open, "the next", is_active).await;
    assert_eq!((next.worker_id, next.restarts), (first.worker_id, 1));
    assert!(next.incarnation != first.incarnation && next.problem.is_empty());
    open.watch.catch_up(&open.at).await.unwrap();
    for name in ["devices/cuda:0", "cuda:0", "GPU_0"] {
        let request = v1::GetDeviceRequest { name: name.to_owned(), ..Default::default() };
        assert!(open.at.devices().get_device(request).await.unwrap().into_inner().device.is_some(), "{name}");
    }
    let request = v1::GetDeviceRequest { name: "cuda:1".to_owned(), ..Default::default() };
    assert_eq!(reason(&open.at.devices().get_device(request).await.unwrap_err()), "RESOURCE_NOT_FOUND");
    // An orderly stop takes its worker with it.
    let process = next.process_id;
    assert!(open.server.terminate().unwrap().0.success());
    assert!(!Path::new(&format!("/proc/{process}")).exists(), "its worker is still there");
}

/// W5: silent for a while, and back; then silent for too long.
#[tokio::test]
async fn a_worker_that_stands_still_is_suspect_and_then_replaced() {
    let library = library(FAKE);
    let mut open = library.open().await.unwrap();
    let first = until(&mut open, "a worker", is_active).await;
    signal(&first, Signal::STOP);
    let suspect = until(&mut open, "a suspicion", |worker| !is_active(worker)).await;
    assert_eq!(suspect.state(), v1::worker::State::Suspect, "{suspect:?}");
    assert_eq!(
        device(&open.watch.mirror).unwrap().state(),
        v1::device::State::Open,
        "what it has is not gone"
    );
    signal(&first, Signal::CONT);
    let back = until(&mut open, "it back", is_active).await;
    assert_eq!((back.incarnation, back.restarts), (first.incarnation.clone(), 0));
    signal(&first, Signal::STOP);
    let next = until(&mut open, "another", |worker| is_active(worker) && worker.restarts == 1).await;
    assert!(next.incarnation != first.incarnation);
}

/// A server that stood still blames nobody for it: neither for the silence, nor for coming back on another stream.
#[tokio::test]
async fn a_server_that_stood_still_keeps_its_worker() {
    let library = library(FAKE);
    let mut open = library.open().await.unwrap();
    let first = until(&mut open, "a worker", is_active).await;
    let server = Pid::from_raw(i32::try_from(open.server.process_id()).unwrap()).unwrap();
    kill_process(server, Signal::STOP).unwrap();
    // As long as a worker waits for a word before it looks for another stream, and longer.
    tokio::time::sleep(Duration::from_secs(13)).await;
    kill_process(server, Signal::CONT).unwrap();
    // Whatever becomes of the old stream has become of it by then.
    tokio::time::sleep(Duration::from_secs(12)).await;
    open.watch.catch_up(&open.at).await.unwrap();
    let after = worker(&open.watch.mirror);
    assert!(is_active(&after), "{after:?}");
    assert_eq!((after.incarnation, after.restarts), (first.incarnation, 0));
}

/// W6.
#[tokio::test]
async fn a_worker_that_keeps_failing_is_quarantined_with_its_last_words() {
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("broken-worker");
    std::fs::write(&program, "#!/bin/sh\necho 'error: no such card' >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let library = library(program.to_str().unwrap());
    let mut open = library.open().await.unwrap();
    let is_out = |worker: &v1::Worker| worker.state() == v1::worker::State::Quarantined;
    let out = until(&mut open, "the quarantine", is_out).await;
    assert!(out.problem.contains("5 times") && out.problem.ends_with("error: no such card"), "{out:?}");
    assert_eq!(out.restarts, 4);
    // Nor is one that comes by itself let in.
    let mut foreign = Foreign::start(&library.sandbox.socket(), &[]);
    assert_eq!(foreign.0.wait().unwrap().code(), Some(4));
    // Mended, and forgiven: it is started again.
    std::fs::write(&program, format!("#!/bin/sh\nexec {FAKE} \"$@\"\n")).unwrap();
    let request = v1::UncordonDeviceRequest { name: "cuda:0".to_owned(), ..Default::default() };
    open.at.devices().uncordon_device(request).await.unwrap();
    let again = until(&mut open, "another try", is_active).await;
    assert!(again.supervised && again.problem.is_empty(), "{again:?}");
}

/// A runtime directory that was wiped has no lock: nothing is started beside the worker that drives the device all the same, and
/// nothing is given up for that.
#[tokio::test]
async fn a_worker_without_its_lock_is_followed_by_another_when_it_ends() {
    let mut library = library(FAKE);
    let mut open = library.open().await.unwrap();
    let first = until(&mut open, "a worker", is_active).await;
    drop(open.server.kill().unwrap());
    // What the next server starts comes later than the one that is there.
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("late-worker");
    std::fs::write(&program, format!("#!/bin/sh\nsleep 0.5\nexec {FAKE} \"$@\"\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    library.set("WORKERS_BINARY", program.to_str().unwrap());
    std::fs::remove_file(library.sandbox.socket().with_file_name("worker-cuda:0.lock")).unwrap();
    let mut open = library.open().await.unwrap();
    let again = until(&mut open, "the worker", is_active).await;
    assert_eq!(again.process_id, first.process_id);
    // As long as five tries take.
    tokio::time::sleep(Duration::from_secs(5)).await;
    signal(&first, Signal::KILL);
    let next =
        until(&mut open, "the next", |worker| is_active(worker) && worker.process_id != first.process_id)
            .await;
    assert!(next.supervised, "{next:?}");
}

/// C5: workers and what they have outlive a server that is killed, and the next one finds them.
#[tokio::test]
async fn a_server_that_is_killed_leaves_its_worker_to_the_next() {
    let library = library(FAKE);
    let mut open = library.open().await.unwrap();
    let first = until(&mut open, "a worker", is_active).await;
    drop(open.server.kill().unwrap());
    let mut open = library.open().await.unwrap();
    let again = until(&mut open, "the worker", is_active).await;
    assert_eq!((&again.incarnation, again.process_id), (&first.incarnation, first.process_id));
    assert!(again.supervised && again.restarts == 0, "{again:?}");
    // It is this server's now: it ends with it.
    assert!(open.server.terminate().unwrap().0.success());
    let process = format!("/proc/{}", again.process_id);
    assert!(!Path::new(&process).exists(), "it is still there");
}

#[tokio::test]
async fn a_worker_that_comes_by_itself_is_welcome_alone_and_stays_for_the_next_server() {
    let library = Library::new().unwrap();
    let mut open = library.open().await.unwrap();
    let socket = library.sandbox.socket();
    let foreign = Foreign::start(&socket, &[]);
    let first = until(&mut open, "the worker", is_active).await;
    assert!(!first.supervised && first.process_id == foreign.0.id(), "{first:?}");
    let mut second = Foreign::start(&socket, &[]);
    assert_eq!(second.0.wait().unwrap().code(), Some(4), "a device has one worker");
    assert!(open.server.terminate().unwrap().0.success());
    let mut open = library.open().await.unwrap();
    let again = until(&mut open, "the worker", is_active).await;
    assert_eq!(again.incarnation, first.incarnation);
    drop(foreign);
    let lost = until(&mut open, "its end", |worker| worker.state() == v1::worker::State::Lost).await;
    assert_eq!(lost.problem, "its process has ended");
    let _next = Foreign::start(&socket, &[]);
    until(&mut open, "the next", is_active).await;
}

/// Without a server it ends by itself.
#[tokio::test]
async fn a_worker_that_nobody_needs_ends() {
    let home = tempfile::tempdir().unwrap();
    let mut alone = Foreign::start(&home.path().join("hoist.sock"), &["--alone-limit", "1"]);
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(status) = alone.0.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(ended.await.unwrap().code(), Some(0));
}

/// A session that says these things, to its end.
async fn says(at: &Channels, messages: Vec<Said>) -> (Vec<Told>, Option<Status>) {
    let (send, receive) = tokio::sync::mpsc::channel(16);
    for message in messages {
        send.send(wire::SessionRequest { message: Some(message) }).await.unwrap();
    }
    let mut told = Vec::new();
    let mut stream: Streaming<wire::SessionResponse> =
        match at.workers().session(ReceiverStream::new(receive)).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => return (told, Some(status)),
        };
    loop {
        match stream.message().await {
            Ok(Some(message)) => told.extend(message.message),
            Ok(None) => return (told, None),
            Err(status) => return (told, Some(status)),
        }
    }
}

fn register() -> wire::Register {
    wire::Register {
        version: Some(wire::ProtocolVersion { major: workers::PROTOCOL.0, minor: workers::PROTOCOL.1 }),
        worker_id: Uuid::new_v4().to_string(),
        boot_id: Uuid::nil().to_string(),
        incarnation: Uuid::new_v4().to_string(),
        process_id: 1,
        release: "a test".to_owned(),
        device: Some(wire::DeviceFacts {
            device_id: "cuda:7".to_owned(),
            capacity_bytes: 1 << 30,
            ..Default::default()
        }),
        taken: None,
    }
}

fn observed(sequence: u64, full: bool) -> Said {
    Said::Observed(wire::Observed {
        sequence,
        full,
        memory: Some(wire::DeviceMemory::default()),
        ..Default::default()
    })
}

/// W11, W12: nothing that a worker says breaks anything but its own session.
#[tokio::test]
async fn a_worker_that_breaks_the_protocol_is_told_so_and_changes_nothing() {
    let library = Library::new().unwrap();
    let mut open = library.open().await.unwrap();
    type Change = fn(&mut wire::Register);
    let refusals: [(&str, Change); 7] = [
        ("VERSION_SKEW", |it| it.version = Some(wire::ProtocolVersion { major: 99, minor: 0 })),
        ("VERSION_SKEW", |it| it.version = None),
        ("FIELD_INVALID", |it| it.worker_id = "me".to_owned()),
        ("FIELD_INVALID", |it| it.incarnation = String::new()),
        ("FIELD_INVALID", |it| it.device = None),
        ("NAME_INVALID", |it| it.device.as_mut().unwrap().device_id = "../cpu:0".to_owned()),
        ("GENERATION_AHEAD", |it| it.taken = Some(wire::Generation { epoch: u64::MAX, number: 1 })),
    ];
    for (expected, change) in refusals {
        let mut it = register();
        change(&mut it);
        let (told, refused) = says(&open.at, vec![Said::Register(it)]).await;
        assert_eq!((told.len(), reason(&refused.unwrap()).as_str()), (0, expected));
    }
    let (_, refused) = says(&open.at, vec![observed(1, true)]).await;
    assert_eq!(reason(&refused.unwrap()), "FIELD_INVALID", "it says not who it is");
    assert!(device(&open.watch.mirror).is_none(), "nobody was taken");
    let replica = wire::ObservedReplica { replica: "x".to_owned(), ..Default::default() };
    let lies = Said::Observed(wire::Observed {
        sequence: 1,
        full: true,
        replicas: vec![replica],
        ..Default::default()
    });
    for (number, wrong) in [
        vec![observed(1, false)],
        vec![observed(2, true)],
        vec![observed(1, true), observed(1, true)],
        vec![observed(1, true), observed(2, true)],
        vec![lies],
        vec![Said::Register(register())],
    ]
    .into_iter()
    .enumerate()
    {
        let mut it = register();
        it.device.as_mut().unwrap().device_id = format!("cuda:{number}");
        let incarnation = it.incarnation.clone();
        let first = vec![Said::Register(it)];
        let (told, refused) = says(&open.at, first.into_iter().chain(wrong).collect()).await;
        assert!(matches!(told.first(), Some(Told::Registered(_))), "{told:?}");
        assert_eq!(reason(&refused.unwrap()), "FIELD_INVALID");
        // Its process is this test, which lives: it could come back for a while.
        let is_suspect = |device: &v1::Device| {
            let worker = device.worker.clone().unwrap_or_default();
            worker.incarnation == incarnation && worker.state() == v1::worker::State::Suspect
        };
        open.watch.until("the end", |mirror| mirror.devices().any(is_suspect)).await.unwrap();
    }
    open.watch.catch_up(&open.at).await.unwrap();
}

/// Workers share the server's memory: they come over its socket, as its user.
#[tokio::test]
async fn nobody_registers_over_tcp() {
    let mut library = Library::new().unwrap();
    library.sandbox.flags.extend(["--listen".to_owned(), "127.0.0.1:0".to_owned()]);
    let open = library.open().await.unwrap();
    let tcp = Channels::tcp(open.server.listen.as_ref().unwrap()).await.unwrap();
    let (_, refused) = says(&tcp, vec![Said::Register(register())]).await;
    assert_eq!(reason(&refused.unwrap()), "PERMISSION_DENIED");
}
