//! One lease's stream, from its first message to its end, on a task of its own.
//!
//! ```text
//!  first message ─┬─► all in RAM ───────────────────────┬─► grant ─► Granted ─┬─► stream ends: lease ends
//!                 ├─► not: CacheModel, with progress ───┘      │              ├─► revoked: told, stream ends
//!                 └─► a lease's name ─► resume ────────────────┘              └─► the server drains: the lease stays
//! ```
//!
//! How a lease is come by is in [`super::acquiring`]. Whatever happens to the task, its lease does not outlive it.

use std::convert::Infallible;
use std::time::Duration;

use hoist_domain::{DeviceId, Error, LeaseId, Reason, RequestId, Result};
use hoist_runtime::OnError;
use hoist_wire::v1::acquire_response::Event;
use hoist_wire::{decode, v1};
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};

use super::Api;
use super::call::{Caller, refuse};
use crate::fleet::ShareToken;

/// One stream.
pub(super) struct Holding {
    pub(super) api: Api,
    pub(super) caller: Caller,
    pub(super) answers: mpsc::Sender<Result<v1::AcquireResponse, Status>>,
    pub(super) id: RequestId,
}

/// A lease that a stream holds, or is about to. Dropped, it ends, unless it was left.
pub(super) struct Held {
    pub(super) id: LeaseId,
    api: Api,
    /// Why somebody has ended it.
    revoked: oneshot::Receiver<String>,
    /// What may be said for it at a device's worker.
    tokens: Option<(DeviceId, Vec<ShareToken>)>,
    is_left: bool,
}

impl Held {
    /// Hears of the lease's end from now on.
    pub(super) fn of(api: &Api, id: LeaseId, process: Option<u32>) -> Self {
        let revoked = api.cache.hear_of(id, process);
        Self { id, api: api.clone(), revoked, tokens: None, is_left: false }
    }

    /// With it end these.
    pub(super) fn lets_say(&mut self, device: DeviceId, tokens: Vec<ShareToken>) {
        self.tokens = Some((device, tokens));
    }

    /// It stays as it is, or is not there any more.
    fn leave(mut self) {
        self.is_left = true;
    }

    /// Ends it. Whoever has asked for that and sees the end of the stream finds it ended.
    async fn end(self) {
        // First: a kill behind the end must not bring it back.
        self.api.cache.lease_ended(self.id, None);
        self.api.control.end_lease(self.id).await;
        self.leave();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((device, tokens)) = &self.tokens {
            self.api.fleet.withdraw(*device, tokens);
        }
        if self.is_left {
            return;
        }
        // The owner tells of the end of what it knows. It may never have known this one.
        self.api.cache.lease_ended(self.id, None);
        let (control, id) = (self.api.control.clone(), self.id);
        self.api.tasks.spawn("end lease", OnError::Log, async move {
            control.end_lease(id).await;
            Ok::<(), Infallible>(())
        });
    }
}

impl Holding {
    pub(super) async fn run(mut self, messages: &mut Streaming<v1::AcquireRequest>) {
        let first = match messages.message().await {
            Ok(Some(first)) => first,
            // Gone before it has said anything, or what it said was nothing.
            Ok(None) => {
                let error = Error::invalid_field("name", "the stream ended before it said what is wanted");
                return self.refuse(&error).await;
            }
            Err(status) => return drop(self.answers.send(Err(status)).await),
        };
        match decode::request_id(&first.request_id) {
            Ok(id) => self.id = id.unwrap_or(self.id),
            Err(error) => return self.refuse(&error).await,
        }
        let acquired = tokio::select! {
            biased;
            // Whoever goes away while waiting wants nothing any more; the caching of it ends with its last waiter.
            () = self.answers.closed() => return,
            () = ended(messages) => return,
            () = self.api.draining.triggered() => Err(draining()),
            acquired = self.acquire(&first) => acquired,
        };
        match acquired {
            Ok(held) => self.hold(held, messages).await,
            Err(error) => self.refuse(&error).await,
        }
    }

    /// From the grant to the end.
    async fn hold(&self, mut held: Held, messages: &mut Streaming<v1::AcquireRequest>) {
        tokio::select! {
            biased;
            () = self.api.draining.triggered() => {
                // The holder comes back to the next coordinator with its name.
                held.leave();
                self.refuse(&draining()).await;
            }
            reason = &mut held.revoked => {
                held.leave();
                let reason = reason.unwrap_or_default();
                self.tell(Event::Revoked(v1::Revoked { reason })).await;
            }
            () = self.answers.closed() => {}
            () = ended(messages) => held.end().await,
        }
    }

    async fn refuse(&self, error: &Error) {
        let error = error.clone().with("request_id", self.id);
        let _ = self.answers.send(Err(refuse(&error))).await;
    }

    pub(super) async fn tell(&self, event: Event) {
        let response = v1::AcquireResponse { request_id: self.id.to_string(), event: Some(event) };
        let _ = self.answers.send(Ok(response)).await;
    }
}

pub(super) fn draining() -> Error {
    Error::new(
        Reason::Draining,
        "the server is stopping; a lease that is held stays, to be taken up again by its name",
    )
    .retry_after(Duration::from_secs(1))
}

/// Until a stream of requests ends. What comes before that says nothing.
async fn ended(messages: &mut Streaming<v1::AcquireRequest>) {
    while let Ok(Some(_)) = messages.message().await {}
}
