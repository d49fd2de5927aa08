//! The other side of a session, played by a test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use hoist_domain::{Bytes, Error, Incarnation, Reason, WorkerId};
use hoist_runtime::{Clock, Shutdown, Tasks};
use hoist_wire::server::worker::worker_service_server::{WorkerService, WorkerServiceServer};
use hoist_wire::worker::session_request::Message as Said;
use hoist_wire::worker::session_response::Message as Heard;
use hoist_wire::worker::{self as wire, ReplicaState, SessionRequest, SessionResponse};
use hoist_wire::workers::PROTOCOL;
use hoist_worker::device::Open;
use hoist_worker::fake::{Fake, Script};
use hoist_worker::suite::{self, Segments};
use hoist_worker::{Ending, Process, SessionSettings, run};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

/// What nothing here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A place for a worker and its coordinator, and three segments.
pub(crate) struct Stage {
    pub(crate) script: Script,
    pub(crate) capacity: Bytes,
    pub(crate) alone_limit: Duration,
    pub(crate) stop: Shutdown,
    _segments: Segments,
    paths: Vec<PathBuf>,
    home: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let mut segments = Segments::new();
        let tensors = |number: u8| {
            let of = |name: &str, bytes| (name.to_owned(), hoist_domain::Dtype::F32, vec![1_024], bytes);
            [of("weight", bytes(number)), of("bias", suite::bytes(4_096, 99))]
        };
        let paths = (1..=3).map(|number| segments.tensors(number, &tensors(number))).collect();
        Self {
            script: Script::default(),
            capacity: Bytes::mib(1),
            alone_limit: PATIENCE,
            stop: Shutdown::new(),
            _segments: segments,
            paths,
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn socket(&self) -> PathBuf {
        self.home.path().join("hoist.sock")
    }

    fn path(&self, number: u8) -> &PathBuf {
        &self.paths[usize::from(number) - 1]
    }

    /// Of a segment's file.
    pub(crate) fn size(&self, number: u8) -> u64 {
        std::fs::metadata(self.path(number)).unwrap().len()
    }

    /// Of its tensor `weight`.
    pub(crate) fn bytes(&self, number: u8) -> Vec<u8> {
        bytes(number)
    }

    pub(crate) fn worker(&self) -> JoinHandle<Ending> {
        let (id, capacity, script) = ("cuda:0".parse().unwrap(), self.capacity, self.script.clone());
        self.worker_on(Box::new(move || Ok(Box::new(Fake::new(id, capacity, script)))))
    }

    pub(crate) fn worker_on(&self, open: Open) -> JoinHandle<Ending> {
        let settings = SessionSettings {
            socket: self.socket(),
            device: "cuda:0".parse().unwrap(),
            worker: WorkerId(Uuid::from_u128(1)),
            incarnation: Incarnation(Uuid::new_v4()),
            boot_id: Uuid::nil().to_string(),
            process_id: std::process::id(),
            alone_limit: self.alone_limit,
        };
        let shutdown = self.stop.clone();
        let process = Process { clock: Clock::system(), tasks: Tasks::new(Shutdown::new()), shutdown };
        tokio::task::spawn(run(settings, open, process))
    }

    /// One that listens from now on, in the place of the last one.
    pub(crate) fn coordinator(&mut self) -> Coordinator {
        let _ = std::fs::remove_file(self.socket());
        let listener = tokio::net::UnixListener::bind(self.socket()).unwrap();
        let (sessions, arrived) = mpsc::channel(4);
        let served = tonic::transport::Server::builder()
            .add_service(WorkerServiceServer::new(Service { sessions }))
            .serve_with_incoming(UnixListenerStream::new(listener));
        let server = tokio::task::spawn(async move { served.await.unwrap() });
        Coordinator { arrived, server, talk: None, seen: Seen::default(), silence: PATIENCE }
    }
}

fn bytes(number: u8) -> Vec<u8> {
    suite::bytes(4_096, number.into())
}

/// Replica and segment of this number.
pub(crate) fn wanted(stage: &Stage, number: u8) -> wire::DesiredReplica {
    wire::DesiredReplica {
        replica: Uuid::from_u128(number.into()).to_string(),
        digest: suite::digest(number).to_string(),
        path: stage.path(number).display().to_string(),
        sealed: true,
        dtype: String::new(),
    }
}

pub(crate) fn desired(epoch: u64, number: u64, replicas: &[wire::DesiredReplica]) -> wire::Desired {
    let generation = Some(wire::Generation { epoch, number });
    wire::Desired { generation, replicas: replicas.to_vec() }
}

type Answers = Pin<Box<dyn tokio_stream::Stream<Item = Result<SessionResponse, Status>> + Send>>;

/// A stream that has come in: what is said on it, where answers go, and how it is accepted or refused.
struct Arrival {
    says: Streaming<SessionRequest>,
    judge: oneshot::Sender<Result<mpsc::Receiver<Result<SessionResponse, Status>>, Status>>,
}

struct Service {
    sessions: mpsc::Sender<Arrival>,
}

#[tonic::async_trait]
impl WorkerService for Service {
    type SessionStream = Answers;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let (judge, judged) = oneshot::channel();
        let gone = || Status::unavailable("the test is over");
        self.sessions.send(Arrival { says: request.into_inner(), judge }).await.map_err(|_| gone())?;
        let answers = judged.await.map_err(|_| gone())??;
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

/// What was heard of the device so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) answers: (u64, u64),
    pub(crate) replicas: BTreeMap<String, wire::ObservedReplica>,
    pub(crate) removed: Vec<wire::RemovedReplica>,
    /// By removal: the message that told of it.
    pub(crate) told_in: Vec<u64>,
    pub(crate) memory: wire::DeviceMemory,
    sequence: u64,
}

impl Seen {
    pub(crate) fn count(&self, state: ReplicaState) -> usize {
        self.replicas.values().filter(|replica| replica.state() == state).count()
    }

    pub(crate) fn replica(&self, number: u8) -> wire::ObservedReplica {
        self.replicas[&Uuid::from_u128(number.into()).to_string()].clone()
    }

    /// Keeps to the contract, or panics.
    fn hear(&mut self, observed: &wire::Observed) {
        assert_eq!(observed.sequence, self.sequence + 1, "each message once, in order");
        assert_eq!(observed.full, observed.sequence == 1, "everything first");
        self.sequence = observed.sequence;
        if let Some(answers) = observed.answers {
            let answers = (answers.epoch, answers.number);
            assert!(answers >= self.answers, "it never goes back");
            self.answers = answers;
        }
        for replica in &observed.replicas {
            hoist_wire::workers::read_observed(replica.clone()).unwrap();
            self.replicas.insert(replica.replica.clone(), replica.clone());
        }
        for removed in &observed.removed {
            self.replicas.remove(&removed.replica);
            self.removed.push(removed.clone());
            self.told_in.push(observed.sequence);
        }
        self.memory = observed.memory.unwrap();
    }
}

struct Talk {
    says: Streaming<SessionRequest>,
    answers: mpsc::Sender<Result<SessionResponse, Status>>,
}

/// A coordinator that does what a test says, and nothing else.
pub(crate) struct Coordinator {
    arrived: mpsc::Receiver<Arrival>,
    server: JoinHandle<()>,
    talk: Option<Talk>,
    seen: Seen,
    pub(crate) silence: Duration,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} does not come"))
}

impl Coordinator {
    async fn arrival(&mut self) -> Arrival {
        soon("a worker", self.arrived.recv()).await.unwrap()
    }

    /// Takes the next worker that registers, as a coordinator of this epoch.
    pub(crate) async fn registers(&mut self, epoch: u64) -> wire::Register {
        let Arrival { mut says, judge } = self.arrival().await;
        let (answers, answered) = mpsc::channel(64);
        let _ = judge.send(Ok(answered));
        let first = soon("a word", says.message()).await.unwrap().unwrap().message.unwrap();
        let Said::Register(register) = first else { panic!("{first:?}") };
        let span = |span: Duration| Some(hoist_wire::encode::duration(span));
        let registered = wire::Registered {
            version: Some(wire::ProtocolVersion { major: PROTOCOL.0, minor: PROTOCOL.1 }),
            epoch,
            heartbeat_interval: span(Duration::from_millis(30)),
            progress_interval: span(Duration::from_millis(30)),
            silence_limit: span(self.silence),
        };
        self.talk = Some(Talk { says, answers });
        self.seen = Seen::default();
        self.says(Heard::Registered(registered)).await;
        register
    }

    pub(crate) async fn refuses(&mut self, reason: Reason) {
        let Arrival { judge, .. } = self.arrival().await;
        let _ = judge.send(Err(hoist_wire::status::to_status(&Error::new(reason, "not you"))));
    }

    async fn says(&mut self, message: Heard) {
        let answer = SessionResponse { message: Some(message) };
        // A session that is over by now is seen by what is asked of it next.
        let _ = self.talk.as_ref().unwrap().answers.send(Ok(answer)).await;
    }

    pub(crate) async fn desires(&mut self, desired: wire::Desired) {
        self.says(Heard::Desired(desired)).await;
    }

    /// So much of what will be this segment is there.
    pub(crate) async fn tells_filled(&mut self, number: u8, bytes: u64) {
        let digest = suite::digest(number).to_string();
        let segment = wire::FilledSegment { digest, path: "/nowhere/.filling-1".to_owned(), bytes };
        self.says(Heard::Filled(wire::Filled { segments: vec![segment] })).await;
    }

    pub(crate) async fn acknowledges(&mut self, observed: u64) {
        self.says(Heard::Ack(wire::Ack { observed })).await;
    }

    pub(crate) async fn drains(&mut self) {
        self.says(Heard::Drain(wire::Drain { reason: "the test".to_owned() })).await;
    }

    pub(crate) async fn reads(&mut self, read: wire::ReadTensor) -> Result<wire::TensorBytes, String> {
        match self.asks(wire::request::Ask::ReadTensor(read)).await {
            wire::response::Answer::Tensor(bytes) => Ok(bytes),
            wire::response::Answer::Error(why) => Err(why),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn shares(&mut self, share: wire::ShareReplica) -> Result<wire::SharedReplica, String> {
        match self.asks(wire::request::Ask::ShareReplica(share)).await {
            wire::response::Answer::Shared(shared) => Ok(shared),
            wire::response::Answer::Error(why) => Err(why),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn withdraws(&mut self, token: [u8; 32]) {
        let withdraw = wire::WithdrawTokens { tokens: vec![token.to_vec()] };
        let answer = self.asks(wire::request::Ask::WithdrawTokens(withdraw)).await;
        assert_eq!(answer, wire::response::Answer::Withdrawn(wire::WithdrawnTokens {}));
    }

    async fn asks(&mut self, ask: wire::request::Ask) -> wire::response::Answer {
        let request_id = Uuid::new_v4().to_string();
        self.says(Heard::Request(wire::Request { request_id: request_id.clone(), ask: Some(ask) })).await;
        loop {
            if let Said::Response(response) = self.next().await {
                assert_eq!(response.request_id, request_id);
                return response.answer.unwrap();
            }
        }
    }

    async fn next(&mut self) -> Said {
        let talk = self.talk.as_mut().unwrap();
        let said = soon("a word", talk.says.message()).await.unwrap().expect("the session goes on");
        let said = said.message.unwrap();
        if let Said::Observed(observed) = &said {
            self.seen.hear(observed);
        }
        said
    }

    /// The next word about the device.
    pub(crate) async fn observed(&mut self) -> wire::Observed {
        loop {
            if let Said::Observed(observed) = self.next().await {
                return observed;
            }
        }
    }

    pub(crate) async fn until(&mut self, is_so: impl Fn(&Seen) -> bool) -> Seen {
        while !is_so(&self.seen) {
            self.observed().await;
        }
        self.seen.clone()
    }

    pub(crate) async fn heartbeat_that(
        &mut self,
        is_it: impl Fn(&wire::Heartbeat) -> bool,
    ) -> wire::Heartbeat {
        loop {
            if let Said::Heartbeat(beat) = self.next().await
                && is_it(&beat)
            {
                return beat;
            }
        }
    }

    /// Waits until the worker has ended the session; the error, if it ended with one.
    pub(crate) async fn ends(&mut self) -> Option<Status> {
        let mut talk = self.talk.take().unwrap();
        loop {
            match soon("the end", talk.says.message()).await {
                Ok(None) => return None,
                // How a stream is seen from here that the other side drops.
                Err(status)
                    if status.code() == tonic::Code::Cancelled || status.code() == tonic::Code::Unknown =>
                {
                    return None;
                }
                Err(status) => return Some(status),
                Ok(Some(_)) => {}
            }
        }
    }

    /// With everything that it holds.
    pub(crate) fn dies(mut self) {
        self.talk = None;
        self.server.abort();
    }
}
