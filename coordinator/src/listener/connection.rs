//! One connection: HTTP/2 with bounds, from its first byte to its last.

use std::sync::Arc;
use std::time::Duration;

use hoist_domain::Principal;
use hoist_runtime::Shutdown;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::connections::Peer;
use crate::api::Guard;
use crate::settings::ListenerLimits;

/// Request headers beyond this are refused while they arrive: gRPC metadata is a few hundred bytes.
const HEADER_BYTES: u32 = 16 << 10;

/// What a stream may send before its handler reads it; requests are small.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What the server buffers for a stream that its client does not read.
const SEND_BUFFER: usize = 64 << 10;

/// Streams that were reset before they were handled: more is an attack, and ends the connection.
const PENDING_RESETS: usize = 64;

/// Pings that find out whether the peer is still there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keepalive {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

/// Serves a connection until it ends, the peer is too slow to begin, it is told to end, or the end of the server has
/// let its calls finish.
pub(super) async fn serve<S>(
    stream: S,
    principal: Principal,
    guard: &Guard,
    limits: &ListenerLimits,
    keepalive: Option<Keepalive>,
    peer: &Peer,
    closing: &Shutdown,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = {
        let (guard, calls) = (guard.clone(), Arc::clone(&peer.calls));
        service_fn(move |request| guard.call(principal.clone(), request, &calls))
    };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(PENDING_RESETS);
    if let Some(keepalive) = keepalive {
        builder.keep_alive_interval(keepalive.interval).keep_alive_timeout(keepalive.timeout);
    }
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut patience = std::pin::pin!(tokio::time::sleep(limits.first_request));
    let (mut waiting, mut serving) = (true, true);
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    debug!(%error, "connection ended");
                }
                return;
            }
            () = &mut patience, if waiting => {
                waiting = false;
                if !peer.calls.have_begun() {
                    debug!("connection closed: no request within {:?}", limits.first_request);
                    return;
                }
            }
            () = peer.close.triggered() => {
                debug!(reason = peer.close.reason().unwrap_or_default(), "connection closed");
                return;
            }
            () = async { tokio::select! { () = closing.triggered() => {} () = peer.retire.triggered() => {} } },
                if serving =>
            {
                serving = false;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
