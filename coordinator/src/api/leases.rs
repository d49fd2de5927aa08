//! LeaseService. The stream is the lease: a task of its own holds it from the first message to the end of the stream,
//! whoever ends it and how.

use std::convert::Infallible;
use std::pin::Pin;

use hoist_domain::{Error, Lease, LeaseId, Reason, RequestId, ResourceName, Result, WallTime};
use hoist_runtime::OnError;
use hoist_wire::server::v1::lease_service_server::LeaseService;
use hoist_wire::{cache as wire, encode, v1};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::Api;
use super::call::{Call, Caller, answer};
use super::holding::Holding;
use super::page;
use super::submit::message_hash;

type Answers = Pin<Box<dyn Stream<Item = Result<v1::AcquireResponse, Status>> + Send>>;

#[tonic::async_trait]
impl LeaseService for Api {
    type AcquireStream = Answers;

    async fn acquire(
        &self,
        request: Request<Streaming<v1::AcquireRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let caller = Caller::of(&request)?;
        let mut messages = request.into_inner();
        let (send, receive) = mpsc::channel(4);
        let api = self.clone();
        self.tasks.spawn("lease", OnError::Log, async move {
            let holding = Holding { api, caller, answers: send, id: RequestId(Uuid::new_v4()) };
            holding.run(&mut messages).await;
            Ok::<(), Infallible>(())
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn list_leases(
        &self,
        request: Request<v1::ListLeasesRequest>,
    ) -> Result<Response<v1::ListLeasesResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.leases_page(&call))
    }

    async fn revoke_lease(
        &self,
        request: Request<v1::RevokeLeaseRequest>,
    ) -> Result<Response<v1::RevokeLeaseResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.revoke(&call).await)
    }
}

impl Api {
    fn leases_page(&self, call: &Call<v1::ListLeasesRequest>) -> Result<v1::ListLeasesResponse> {
        let size = page::size(call.message.page_size)?;
        let token = &call.message.page_token;
        let after = (!token.is_empty()).then(|| place_of(token)).transpose()?;
        let view = self.control.view();
        // Oldest first, by a clock that may have been set back.
        let place = |lease: &Lease| (lease.granted_at, lease.id);
        let mut leases: Vec<_> = view.state.cache().leases().collect();
        leases.sort_unstable_by_key(|lease| place(lease));
        let from = after.map_or(0, |after| leases.partition_point(|lease| place(lease) <= after));
        let rest = leases.get(from..).unwrap_or_default();
        let shown = page::fitting(rest.iter().take(size).map(|lease| wire::lease(lease)));
        let next = if shown.len() < rest.len() { shown.len().checked_sub(1) } else { None };
        let next =
            next.and_then(|last| rest.get(last)).map(|last| format!("{}:{}", last.granted_at.0, last.id));
        Ok(v1::ListLeasesResponse {
            request_id: call.id.to_string(),
            total_size: leases.len() as u64,
            next_page_token: next.unwrap_or_default(),
            leases: shown,
            position: Some(encode::position(view.state.position())),
        })
    }

    async fn revoke(&self, call: &Call<v1::RevokeLeaseRequest>) -> Result<v1::RevokeLeaseResponse> {
        let message = &call.message;
        let id = lease_id(&message.name)?;
        if message.reason.len() > Lease::MAX_HOLDER_BYTES {
            let limit = Lease::MAX_HOLDER_BYTES;
            return Err(Error::invalid_field("reason", format!("has more than {limit} bytes")));
        }
        let reason = match message.reason.as_str() {
            "" => format!("{} has revoked it", call.caller.principal),
            text => said(text),
        };
        let content = message_hash(&v1::RevokeLeaseRequest { request_id: String::new(), ..message.clone() });
        let revoked = self.control.revoke(call.key(), content, id, reason).await;
        revoked.map(|()| v1::RevokeLeaseResponse { request_id: call.id.to_string() })
    }
}

/// Where a page ended.
fn place_of(token: &str) -> Result<(WallTime, LeaseId)> {
    let place = token.split_once(':').and_then(|(at, id)| {
        let id = Uuid::parse_str(id).ok()?;
        Some((WallTime(at.parse().ok()?), LeaseId(id)))
    });
    place.ok_or_else(Error::other_page)
}

/// What somebody says, fit to be shown: no control characters.
pub(super) fn said(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The lease that a name means.
pub(super) fn lease_id(name: &str) -> Result<LeaseId> {
    match name.parse()? {
        ResourceName::Lease(id) => Ok(id),
        _ => Err(Error::new(Reason::NameInvalid, format!("`{}` is no lease", hoist_domain::excerpt(name)))),
    }
}
