//! What every handler does first and last: who calls, under which request id; and the echo of that id.

use std::sync::Arc;

use hoist_domain::{ContentHash, Error, Principal, Reason, RequestId, RequestKey, Result};
use hoist_wire::{decode, status};
use serde::Serialize;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// Response metadata that carries the request id, on every call.
const REQUEST_ID_HEADER: &str = "hoist-request-id";

/// Who calls what; put on each request by the guard.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) principal: Principal,
    pub(super) method: Arc<str>,
    /// Where the kernel says.
    pub(super) process: Option<u32>,
}

impl Caller {
    /// Only the guard leads to a handler, and it names the caller; without one nothing may be done.
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| {
            refuse(&Error::new(
                Reason::PermissionDenied,
                "the caller is not known; this is a defect of Hoist",
            ))
        })
    }
}

/// One call: its caller, its id, its message.
#[derive(Debug)]
pub(super) struct Call<T> {
    pub(super) caller: Caller,
    pub(super) id: RequestId,
    pub(super) message: T,
}

impl<T> Call<T> {
    /// Takes a request apart; `id` picks the request id, and an empty one gets a fresh one.
    pub(super) fn open(request: Request<T>, id: impl Fn(&T) -> &str) -> Result<Self, Status> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let id = decode::request_id(id(&message)).map_err(|e| refuse(&e))?;
        Ok(Self { caller, id: id.unwrap_or_else(|| RequestId(Uuid::new_v4())), message })
    }

    pub(super) fn key(&self) -> RequestKey {
        RequestKey {
            principal: self.caller.principal.clone(),
            method: Arc::clone(&self.caller.method),
            id: self.id,
        }
    }
}

/// The end of a call: the answer with the request id, or the status of the error.
pub(super) fn answer<R>(id: RequestId, result: Result<R>) -> Result<Response<R>, Status> {
    match result {
        Ok(message) => {
            let mut response = Response::new(message);
            stamp(response.metadata_mut(), id);
            Ok(response)
        }
        Err(error) => {
            let mut status = refuse(&error.with("request_id", id));
            stamp(status.metadata_mut(), id);
            Err(status)
        }
    }
}

fn stamp(metadata: &mut tonic::metadata::MetadataMap, id: RequestId) {
    if let Ok(value) = MetadataValue::try_from(id.to_string()) {
        metadata.insert(REQUEST_ID_HEADER, value);
    }
}

pub(super) fn refuse(error: &Error) -> Status {
    status::to_status(error)
}

/// What a request asks for, without how long its caller would wait.
pub(super) fn content_hash(request: &impl Serialize) -> ContentHash {
    // Plain data always serialises; were it not to, equal ids would still be equal requests of one method.
    ContentHash(*blake3::hash(&serde_json::to_vec(request).unwrap_or_default()).as_bytes())
}
