//! The peer: the same tonic with nothing behind it. Run as `hoist-bench --echo SOCKET` in a process of its own.
//!
//! It speaks a part of Hoist's contract so that one client drives both: GetStatus answers with the request id it was
//! given, DeleteOperation sends one event to every watcher, Watch hands out those events, or those after a position.
//! No state, no checks, no limits: what is left is what tonic costs.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use hoist_wire::frame::WatchFrame;
use hoist_wire::server::longrunning::operations_server::{Operations, OperationsServer};
use hoist_wire::server::v1::state_service_server::{StateService, StateServiceServer};
use hoist_wire::{longrunning, v1};
use prost::Message;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Events kept for watchers that are behind: more than any benchmark sends in one go.
const KEPT: usize = 1 << 16;

#[derive(Clone, Debug)]
struct Echo {
    events: broadcast::Sender<Bytes>,
    /// All there ever were, for watchers that begin at a position.
    log: Arc<Mutex<Vec<Bytes>>>,
}

impl Echo {
    fn log(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until it is killed; says `ready` as `hoist serve` does.
pub(super) async fn serve(socket: &Path) -> Result<()> {
    let unix = UnixListener::bind(socket)?;
    let tcp = TcpListener::bind("127.0.0.1:0").await?;
    let listen = tcp.local_addr()?;
    let echo = Echo { events: broadcast::Sender::new(KEPT), log: Arc::default() };
    let router = || {
        Server::builder()
            .add_service(StateServiceServer::new(echo.clone()))
            .add_service(OperationsServer::new(echo.clone()))
    };
    println!("ready socket={} listen={listen}", socket.display());
    let over_tcp = router().serve_with_incoming(TcpIncoming::from(tcp).with_nodelay(Some(true)));
    let over_unix = router().serve_with_incoming(UnixListenerStream::new(unix));
    tokio::try_join!(over_tcp, over_unix)?;
    Ok(())
}

/// What Hoist's watchers get when an operation is deleted, byte for byte save for the numbers.
fn event(name: String) -> Bytes {
    let change = v1::Change { kind: v1::change::Kind::Removed.into(), name, ..v1::Change::default() };
    let position = Some(v1::Position { epoch: 1, revision: 1_000 });
    v1::Delta { position, changes: vec![change] }.encode_to_vec().into()
}

#[tonic::async_trait]
impl StateService for Echo {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let v1::GetStatusRequest { request_id, name, .. } = request.into_inner();
        // An empty call has no name and gets an empty answer.
        let status = (!name.is_empty()).then(|| v1::Status {
            position: Some(v1::Position { epoch: 1, revision: self.log().len() as u64 }),
            ..v1::Status::default()
        });
        Ok(Response::new(v1::GetStatusResponse { request_id, status }))
    }

    async fn batch_get_status(
        &self,
        _: Request<v1::BatchGetStatusRequest>,
    ) -> Result<Response<v1::BatchGetStatusResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_sync_health(
        &self,
        _: Request<v1::GetSyncHealthRequest>,
    ) -> Result<Response<v1::GetSyncHealthResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn diagnose_sync(
        &self,
        _: Request<v1::DiagnoseSyncRequest>,
    ) -> Result<Response<v1::DiagnoseSyncResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn reset_sync(
        &self,
        _: Request<v1::ResetSyncRequest>,
    ) -> Result<Response<v1::ResetSyncResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn configure_sync(
        &self,
        _: Request<v1::ConfigureSyncRequest>,
    ) -> Result<Response<v1::ConfigureSyncResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchFrame, Status>> + Send>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        if let Some(from) = request.into_inner().from {
            let skip = usize::try_from(from.revision).unwrap_or(usize::MAX);
            let missed: Vec<Bytes> = self.log().iter().skip(skip).cloned().collect();
            return Ok(Response::new(Box::pin(
                stream::iter(missed).map(|event| Ok(WatchFrame::of_delta(event))),
            )));
        }
        let events = BroadcastStream::new(self.events.subscribe()).map(|event| match event {
            Ok(event) => Ok(WatchFrame::of_delta(event)),
            Err(lagged) => Err(Status::data_loss(lagged.to_string())),
        });
        let begin = stream::once(async { Ok(WatchFrame::of_snapshot_end(&v1::SnapshotEnd::default())) });
        Ok(Response::new(Box::pin(begin.chain(events))))
    }
}

#[tonic::async_trait]
impl Operations for Echo {
    async fn delete_operation(
        &self,
        request: Request<longrunning::DeleteOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let event = event(request.into_inner().name);
        self.log().push(event.clone());
        // Nobody may be watching.
        let _ = self.events.send(event);
        Ok(Response::new(()))
    }

    async fn list_operations(
        &self,
        _: Request<longrunning::ListOperationsRequest>,
    ) -> Result<Response<longrunning::ListOperationsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_operation(
        &self,
        _: Request<longrunning::GetOperationRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn cancel_operation(
        &self,
        _: Request<longrunning::CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn wait_operation(
        &self,
        _: Request<longrunning::WaitOperationRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        Err(Status::unimplemented(""))
    }
}
