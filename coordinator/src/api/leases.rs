//! LeaseService. The stream is the lease: a task of its own holds it from the first message to the end of the stream,
//! whoever ends it and how.

use std::convert::Infallible;
use std::pin::Pin;

use hoist_domain::{Error, Lease, LeaseId, Reason, RequestId, ResourceName, Result};
use hoist_runtime::OnError;
use hoist_wire::server::v1::lease_service_server::LeaseService;
use hoist_wire::{cache as wire, encode, v1};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::Api;
use super::call::{Call, Caller, answer, refuse};
use super::holding::Holding;
use super::submit::message_hash;

type Answers = Pin<Box<dyn Stream<Item = Result<v1::AcquireResponse, Status>> + Send>>;

#[tonic::async_trait]
impl LeaseService for Api {
    type AcquireStream = Answers;

    async fn acquire(
        &self,
        request: Request<Streaming<v1::AcquireRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let caller = request.extensions().get::<Caller>().cloned().ok_or_else(|| {
            refuse(&Error::new(
                Reason::PermissionDenied,
                "the caller is not known; this is a defect of Hoist",
            ))
        })?;
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
        let view = self.control.view();
        let mut leases: Vec<_> = view.state.cache().leases().collect();
        leases.sort_by_key(|lease| (lease.granted_at, lease.id));
        let response = v1::ListLeasesResponse {
            request_id: call.id.to_string(),
            leases: leases.into_iter().map(|lease| wire::lease(lease)).collect(),
            position: Some(encode::position(view.state.position())),
        };
        answer(call.id, Ok(response))
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
