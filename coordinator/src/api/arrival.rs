//! The body of a request, which has to arrive in time.
//!
//! The guard wraps every request. Without a bound, a call whose message never comes to its end would keep its place
//! among the calls in flight for ever, and a few such connections would keep everybody else out.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hoist_domain::{Error, Reason};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;
use tonic::Status;

use super::call::refuse;

/// A request's body, until it has arrived or taken too long.
pub(super) struct Arrival {
    body: Incoming,
    /// Unset: as long as it likes.
    patience: Option<Duration>,
    /// Made when there is something to wait for: most messages are there with their headers.
    until: Option<Pin<Box<Sleep>>>,
}

impl Arrival {
    pub(super) fn within(patience: Option<Duration>, body: Incoming) -> Self {
        Self { body, patience, until: None }
    }
}

impl Body for Arrival {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| Status::from_error(error.into()))));
        }
        let Some(patience) = self.patience else { return Poll::Pending };
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        until.as_mut().poll(context).map(|()| {
            let message = format!("the request did not arrive within {patience:?}; send it again");
            Some(Err(refuse(&Error::new(Reason::DeadlineExceeded, message))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
