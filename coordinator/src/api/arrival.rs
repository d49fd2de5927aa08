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
use super::malformed::more_than_one;

/// What the body of a request may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Unset: as long as it likes.
    patience: Option<Duration>,
    one_message: bool,
}

impl Bounds {
    pub(super) const NONE: Self = Self { patience: None, one_message: false };

    /// A stream of messages, the first of which is here in time.
    pub(super) const fn begun_within(patience: Duration) -> Self {
        Self { patience: Some(patience), one_message: false }
    }

    /// One message, here in time.
    pub(super) const fn message_within(patience: Duration) -> Self {
        Self { patience: Some(patience), one_message: true }
    }
}

/// A request's body, until it has arrived or taken too long.
pub(super) struct Arrival {
    body: Incoming,
    bounds: Bounds,
    message: Message,
    /// Made when there is something to wait for: most messages are there with their headers.
    until: Option<Pin<Box<Sleep>>>,
}

impl Arrival {
    pub(super) fn new(body: Incoming, bounds: Bounds) -> Self {
        Self { body, bounds, message: Message::default(), until: None }
    }
}

/// How much of the one message is still to come. tonic reads what follows it and drops it; a caller who sends two
/// wants two things done.
#[derive(Debug, Default)]
struct Message {
    /// A flag byte and the length in four, as far as they have come.
    head: Vec<u8>,
    /// What may come after the head; known once that is whole.
    left: Option<usize>,
}

const HEAD_BYTES: usize = 5;

impl Message {
    /// `false`: there is more than one message.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        let left = match &mut self.left {
            Some(left) => left,
            None => {
                let (head, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES - self.head.len()));
                self.head.extend_from_slice(head);
                bytes = rest;
                let &[_, a, b, c, d] = self.head.as_slice() else { return true };
                let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                self.left.insert(length)
            }
        };
        let fits = bytes.len() <= *left;
        *left = left.saturating_sub(bytes.len());
        fits
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
            let bounds = self.bounds;
            return Poll::Ready(frame.map(|frame| {
                let frame = frame.map_err(|error| Status::from_error(error.into()))?;
                let fits = frame.data_ref().is_none_or(|bytes| self.message.take(bytes));
                if fits || !bounds.one_message { Ok(frame) } else { Err(more_than_one()) }
            }));
        }
        // A stream has begun with its first message; what is one message has to end as well.
        let has_begun = !self.bounds.one_message && self.message.left == Some(0);
        let patience = self.bounds.patience.filter(|_| !has_begun);
        let Some(patience) = patience else { return Poll::Pending };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_the_message_is_seen_however_it_arrives() {
        let one = [0, 0, 0, 0, 2, 7, 7];
        for step in 1..=one.len() {
            let mut message = Message::default();
            assert!(one.chunks(step).all(|bytes| message.take(bytes)), "{step}");
            assert!(message.take(&[]) && !message.take(&[0]), "{step}");
        }
        let two = [one, one].concat();
        for step in 1..=two.len() {
            let mut message = Message::default();
            assert!(!two.chunks(step).all(|bytes| message.take(bytes)), "{step}");
        }
        assert!(
            Message::default().take(&[1, 0xff, 0xff, 0xff, 0xff, 1]),
            "a length that lies is tonic's business"
        );
    }
}
