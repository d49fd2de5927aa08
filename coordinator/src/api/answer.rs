//! The body of a response, from the moment its handler has returned: what it holds, until when, and what becomes of
//! a panic in it.
//!
//! A handler's answer is in memory until its caller has taken it. So the call keeps its place until then: the place
//! travels with the bytes through HTTP/2's buffers and is given back when the last of them is on the socket.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hoist_domain::{Error, Reason};
use hoist_runtime::{Tasks, panic_message};
use http::Response;
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use super::call::refuse;
use super::open_call::OpenCall;

/// What becomes of a panic in a call.
pub(super) struct Net {
    pub(super) method: &'static str,
    pub(super) tasks: Tasks,
}

impl Net {
    pub(super) fn catch(&self, panic: &(dyn Any + Send)) -> Response<Body> {
        self.tasks.record_panic(self.method, panic_message(panic));
        let error = Error::new(
            Reason::Internal,
            format!("{} failed by a defect of Hoist; report it with the server's log", self.method),
        );
        refuse(&error).into_http()
    }
}

/// How long the caller waits, from the headers of the request to the end of the answer.
pub(super) struct Deadline {
    limit: Duration,
    passed: Pin<Box<Sleep>>,
}

impl Deadline {
    pub(super) fn begin(limit: Duration) -> Self {
        Self { limit, passed: Box::pin(tokio::time::sleep(limit)) }
    }

    pub(super) async fn passed(&mut self) {
        self.passed.as_mut().await;
    }

    pub(super) fn refusal(&self, method: &str) -> Response<Body> {
        let message = format!("{method} was not done within the {:?} that the caller allows", self.limit);
        refuse(&Error::new(Reason::DeadlineExceeded, message)).into_http()
    }
}

/// What a call holds until its answer is sent.
pub(super) struct Held {
    _place: Option<OwnedSemaphorePermit>,
    _open: OpenCall,
    /// A stream's messages are shared with others, and bounded by the place of the stream itself.
    is_stream: bool,
}

impl Held {
    pub(super) fn new(place: Option<OwnedSemaphorePermit>, open: OpenCall, is_stream: bool) -> Self {
        Self { _place: place, _open: open, is_stream }
    }
}

/// Bytes of an answer, with what their call holds.
struct Charged {
    bytes: Bytes,
    _held: Arc<Held>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A stream runs here, long after its handler has returned: without this, its panic would be a reset to the caller
/// and nothing to anybody else, and its deadline nobody's business.
pub(super) struct Answer {
    /// Dropped once it has panicked or its time is over.
    body: Option<Body>,
    net: Net,
    deadline: Option<Deadline>,
    held: Arc<Held>,
}

impl Answer {
    pub(super) fn new(body: Body, net: Net, deadline: Option<Deadline>, held: Held) -> Self {
        Self { body: Some(body), net, deadline, held: Arc::new(held) }
    }

    /// Ends it in place of what else would have come.
    fn end(&mut self, refusal: Response<Body>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.body = None;
        let mut trailers = refusal.into_parts().0.headers;
        // The headers are out already; this one is not for trailers.
        trailers.remove(http::header::CONTENT_TYPE);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn charged(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if self.held.is_stream {
            return frame;
        }
        frame.map_data(|bytes| Bytes::from_owner(Charged { bytes, _held: Arc::clone(&self.held) }))
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = match catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(context))) {
            Ok(polled) => polled,
            Err(panic) => {
                let refusal = self.net.catch(panic.as_ref());
                return self.end(refusal);
            }
        };
        // Trailers say how it has ended; nothing is to be said after them.
        let is_end = match &polled {
            Poll::Pending => false,
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers(),
            Poll::Ready(None | Some(Err(_))) => true,
        };
        let method = self.net.method;
        if let Some(deadline) = self.deadline.as_mut().filter(|_| !is_end)
            && deadline.passed.as_mut().poll(context).is_ready()
        {
            let refusal = deadline.refusal(method);
            return self.end(refusal);
        }
        polled.map(|frame| frame.map(|frame| frame.map(|frame| self.charged(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
