//! A defect in one call is that caller's INTERNAL, and nobody else's business.
//!
//! The real listener and guard before a service that panics when it is asked to. No part of Hoist knows of it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{Stream, StreamExt, stream};
use hoist_coordinator::api::Guard;
use hoist_coordinator::listener::{Listener, bind};
use hoist_coordinator::settings::ListenerLimits;
use hoist_domain::Reason;
use hoist_runtime::{Clock, Gate, OnError, Shutdown, Tasks};
use hoist_tests::{Channels, connect};
use hoist_wire::frame::WatchFrame;
use hoist_wire::server::v1::state_service_server::{StateService, StateServiceServer};
use hoist_wire::status::Failure;
use hoist_wire::v1;
use tokio::sync::Semaphore;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

/// Panics on demand; `wait` is answered once the test allows it.
struct Fragile {
    go_on: Arc<Semaphore>,
}

#[tonic::async_trait]
impl StateService for Fragile {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let name = request.into_inner().name;
        assert!(name != "panic", "as the caller wished");
        if name == "panic later" {
            tokio::task::yield_now().await;
        }
        assert!(name != "panic later", "as the caller wished, between two polls");
        if name == "wait" {
            let _allowed = self.go_on.acquire().await;
        }
        Ok(Response::new(v1::GetStatusResponse { request_id: name, status: None }))
    }

    async fn batch_get_status(
        &self,
        _: Request<v1::BatchGetStatusRequest>,
    ) -> Result<Response<v1::BatchGetStatusResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
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

    /// A mark and, once the test allows it, for whoever names a position a panic, for others another mark.
    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let panics = request.into_inner().from.is_some();
        let mark = || Ok(WatchFrame::of_mark(&v1::Mark { position: None }));
        let go_on = Arc::clone(&self.go_on);
        let then = stream::once(async move {
            let _allowed = go_on.acquire().await;
            assert!(!panics, "as the caller wished, in a stream");
            mark()
        });
        Ok(Response::new(Box::pin(stream::once(async move { mark() }).chain(then))))
    }
}

/// A server of which only the service is not Hoist's.
struct Server {
    directory: tempfile::TempDir,
    tasks: Tasks,
    shutdown: Shutdown,
    go_on: Arc<Semaphore>,
}

impl Server {
    async fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let shutdown = Shutdown::new();
        let tasks = Tasks::new(shutdown.clone());
        let go_on = Arc::new(Semaphore::new(0));
        let routes = Routes::new(StateServiceServer::new(Fragile { go_on: Arc::clone(&go_on) }));
        let limits = ListenerLimits {
            connections: 8,
            reserved_connections: 1,
            streams_per_connection: 16,
            calls: 8,
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
        };
        let guard = Guard::new(routes, limits, tasks.clone());
        let listener = Listener::new(
            guard,
            limits,
            1_024,
            tasks.clone(),
            Clock::system(),
            shutdown.clone(),
            Gate::new(),
        );
        let bound = bind(&directory.path().join("s"), None).await?;
        tasks.spawn("accept unix", OnError::Shutdown, async move {
            listener.serve_unix(bound.unix, bound.socket).await?;
            Ok::<(), Infallible>(())
        });
        Ok(Self { directory, tasks, shutdown, go_on })
    }

    async fn connect(&self) -> Result<Channels> {
        connect(&self.directory.path().join("s")).await
    }
}

async fn ask(channels: &Channels, name: &str) -> Result<String, Status> {
    let request = v1::GetStatusRequest { name: name.to_owned(), ..Default::default() };
    channels.state().get_status(request).await.map(|response| response.into_inner().request_id)
}

fn is_internal(status: &Status) -> bool {
    status.code() == Code::Internal && Failure::from(status).is(Reason::Internal)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_call_is_internal_for_that_caller_alone() -> Result<()> {
    let server = Server::start().await?;
    let (mine, other) = (server.connect().await?, server.connect().await?);
    // Somebody waits on the same connection, and somebody else on another.
    let waiting = [mine.clone(), other.clone()].map(|channels| async move { ask(&channels, "wait").await });
    let mut waiting = Box::pin(futures_util::future::join_all(waiting));
    let mut watching = mine.state().watch(v1::WatchRequest::default()).await?.into_inner();
    ensure!(watching.message().await?.is_some());

    for (number, name) in (1..).zip(["panic", "panic later", "panic"]) {
        let status = tokio::select! {
            _ = &mut waiting => anyhow::bail!("nobody allowed it"),
            answer = ask(&mine, name) => answer.err().context("no error")?,
        };
        ensure!(is_internal(&status), "{name}: {status:?}");
        ensure!(!status.message().contains("wished"), "what a panic says is for the log: {status:?}");
        ensure!(server.tasks.panics() == number, "{} panics were counted", server.tasks.panics());
        ensure!(ask(&mine, "fine").await? == "fine" && ask(&other, "fine").await? == "fine");
    }
    server.go_on.add_permits(3);
    for answer in waiting.await {
        ensure!(answer? == "wait", "somebody else was hurt");
    }
    ensure!(watching.message().await?.is_some(), "a watch on the same connection was hurt");
    ensure!(!server.shutdown.is_triggered(), "the process would end");
    Ok(())
}

/// More often than the guard admits calls at once: a place is given back however a call ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_gives_its_place_back() -> Result<()> {
    let server = Server::start().await?;
    let channels = server.connect().await?;
    for number in 1..=40 {
        ensure!(ask(&channels, "panic").await.is_err_and(|status| is_internal(&status)));
        ensure!(server.tasks.panics() == number);
    }
    ensure!(ask(&channels, "fine").await? == "fine");
    Ok(())
}

/// A stream has answered already when it panics: its caller must hear of it all the same, and so must the counter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_stream_is_internal_for_that_caller_alone() -> Result<()> {
    let server = Server::start().await?;
    let channels = server.connect().await?;
    let mut healthy = channels.state().watch(v1::WatchRequest::default()).await?.into_inner();
    ensure!(healthy.message().await?.is_some());
    let request = v1::WatchRequest { from: Some(v1::Position::default()), ..Default::default() };
    let mut broken = channels.state().watch(request).await?.into_inner();
    ensure!(broken.message().await?.is_some());
    server.go_on.add_permits(1);
    let status = broken.message().await.err().context("no error")?;
    ensure!(is_internal(&status), "{status:?}");
    ensure!(server.tasks.panics() == 1, "{} panics were counted", server.tasks.panics());
    ensure!(healthy.message().await?.is_some(), "another stream of the connection was hurt");
    ensure!(ask(&channels, "fine").await? == "fine");
    Ok(())
}
