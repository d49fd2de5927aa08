//! A real `hoist-worker` of `cpu:0`, and the coordinator that it dials, which the test plays: only that one may ask for bytes back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hoist_tests::library::PATIENCE;
use hoist_wire::server::worker::worker_service_server::{WorkerService, WorkerServiceServer};
use hoist_wire::worker::session_request::Message as Said;
use hoist_wire::worker::session_response::Message as Heard;
use hoist_wire::worker::{self as wire, ReplicaState, SessionRequest, SessionResponse};
use hoist_wire::workers::PROTOCOL;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

/// Neither side of a session takes the other for dead while the reference libraries read something large.
const SILENCE: Duration = Duration::from_secs(3_600);

/// The test's own start, as workers count them.
const EPOCH: u64 = 1;

/// A segment that is to be on the device.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) digest: String,
    pub(crate) path: PathBuf,
    /// Empty: as it is.
    pub(crate) dtype: &'static str,
}

/// A tensor as it is on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) bytes: Vec<u8>,
}

type Answers = Pin<Box<dyn tokio_stream::Stream<Item = Result<SessionResponse, Status>> + Send>>;

/// A stream that came in, and where its answers go.
struct Talk {
    says: Streaming<SessionRequest>,
    answers: mpsc::Sender<Result<SessionResponse, Status>>,
}

struct Service {
    arrived: mpsc::Sender<Talk>,
}

#[tonic::async_trait]
impl WorkerService for Service {
    type SessionStream = Answers;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let (answers, answered) = mpsc::channel(64);
        let talk = Talk { says: request.into_inner(), answers };
        self.arrived.send(talk).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(answered))))
    }
}

/// The worker; its process ends with this.
pub(crate) struct Worker {
    process: Child,
    server: JoinHandle<()>,
    talk: Talk,
    taken: u64,
    there: BTreeMap<String, wire::ObservedReplica>,
    _home: tempfile::TempDir,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.server.abort();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The binary under test, beside that of the server.
fn binary() -> PathBuf {
    let found = hoist_tests::binary().with_file_name("hoist-worker");
    assert!(found.is_file(), "no {}: run `cargo build -p hoist-gpu-worker` first", found.display());
    found
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} does not come"))
}

impl Worker {
    /// One that is registered and has nothing.
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("hoist.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let (arrived, mut arrivals) = mpsc::channel(1);
        let served = tonic::transport::Server::builder()
            .add_service(WorkerServiceServer::new(Service { arrived }))
            .serve_with_incoming(UnixListenerStream::new(listener));
        let server = tokio::task::spawn(async move { served.await.unwrap() });
        let process = Command::new(binary())
            .args(["--device", "cpu:0=4GiB", "--log", "warn"])
            .args(["--coordinator", &format!("unix://{}", socket.display())])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let talk = soon("the worker", arrivals.recv()).await.unwrap();
        let mut worker = Self { process, server, talk, taken: 0, there: BTreeMap::new(), _home: home };
        let Said::Register(register) = worker.next().await else { panic!("it begins otherwise") };
        assert_eq!(register.device.unwrap().device_id, "cpu:0");
        let interval = |span| Some(hoist_wire::encode::duration(span));
        worker
            .says(Heard::Registered(wire::Registered {
                version: Some(wire::ProtocolVersion { major: PROTOCOL.0, minor: PROTOCOL.1 }),
                epoch: EPOCH,
                heartbeat_interval: interval(Duration::from_secs(1)),
                progress_interval: interval(Duration::from_secs(1)),
                silence_limit: interval(SILENCE),
            }))
            .await;
        worker
    }

    async fn says(&self, message: Heard) {
        self.talk.answers.send(Ok(SessionResponse { message: Some(message) })).await.unwrap();
    }

    async fn next(&mut self) -> Said {
        let said = soon("a word", self.talk.says.message()).await.unwrap();
        said.and_then(|said| said.message).expect("the session goes on")
    }

    /// Has these on the device and nothing else; their handles, in order.
    pub(crate) async fn has(&mut self, wanted: &[Wanted]) -> Vec<String> {
        self.taken += 1;
        let replica = |one: &Wanted| wire::DesiredReplica {
            replica: Uuid::new_v4().to_string(),
            digest: one.digest.clone(),
            path: one.path.display().to_string(),
            sealed: true,
            dtype: one.dtype.to_owned(),
        };
        let replicas: Vec<_> = wanted.iter().map(replica).collect();
        let handles: Vec<String> = replicas.iter().map(|one| one.replica.clone()).collect();
        let generation = Some(wire::Generation { epoch: EPOCH, number: self.taken });
        self.says(Heard::Desired(wire::Desired { generation, replicas })).await;
        while !self.is_exactly(&handles) {
            let Said::Observed(observed) = self.next().await else { continue };
            self.there.retain(|handle, _| !observed.removed.iter().any(|gone| gone.replica == *handle));
            for one in observed.replicas {
                assert_ne!(one.state(), ReplicaState::Failed, "{one:?} of {wanted:?}");
                self.there.insert(one.replica.clone(), one);
            }
        }
        handles
    }

    fn is_exactly(&self, handles: &[String]) -> bool {
        self.there.len() == handles.len()
            && handles
                .iter()
                .all(|handle| self.there.get(handle).is_some_and(|one| one.state() == ReplicaState::Active))
    }

    /// How many tensors the worker says that a replica has.
    pub(crate) fn tensors(&self, handle: &str) -> usize {
        self.there[handle].tensors.try_into().unwrap()
    }

    /// Reads a tensor back from the device, to its last byte.
    pub(crate) async fn read(&mut self, handle: &str, tensor: &str) -> Tensor {
        let mut read = Tensor { dtype: String::new(), shape: Vec::new(), bytes: Vec::new() };
        loop {
            let piece = self.piece(handle, tensor, read.bytes.len()).await;
            let is_first = read.bytes.is_empty();
            let is_same = (&piece.dtype, &piece.shape) == (&read.dtype, &read.shape);
            assert!(is_first || (is_same && !piece.data.is_empty()), "{tensor}: {} bytes", read.bytes.len());
            read.bytes.extend(&piece.data);
            (read.dtype, read.shape) = (piece.dtype, piece.shape);
            if read.bytes.len() as u64 >= piece.size_bytes {
                assert_eq!(read.bytes.len() as u64, piece.size_bytes, "{tensor}");
                return read;
            }
        }
    }

    async fn piece(&mut self, handle: &str, tensor: &str, offset: usize) -> wire::TensorBytes {
        let request_id = Uuid::new_v4().to_string();
        let (replica, tensor) = (handle.to_owned(), tensor.to_owned());
        let read = wire::ReadTensor { replica, tensor: tensor.clone(), offset: offset as u64, length: 0 };
        let ask = Some(wire::request::Ask::ReadTensor(read));
        self.says(Heard::Request(wire::Request { request_id: request_id.clone(), ask })).await;
        loop {
            let Said::Response(response) = self.next().await else { continue };
            assert_eq!(response.request_id, request_id);
            match response.answer.unwrap() {
                wire::response::Answer::Tensor(bytes) => return bytes,
                other => panic!("`{tensor}`: {other:?}"),
            }
        }
    }

    /// Everything that the process has of a segment in its memory is the segment itself, mapped.
    pub(crate) fn has_mapped(&self, path: &Path) -> bool {
        let mapped = hoist_tests::process::mapped_files(self.process.id()).unwrap();
        mapped.iter().any(|file| Path::new(file).starts_with(path))
    }
}
