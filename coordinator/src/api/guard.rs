//! What stands before every handler, on every listener: policy, bounds, deadline, and a net for panics.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hoist_domain::{Error, Principal, Reason};
use hoist_runtime::Tasks;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;
use tracing::{Instrument, debug_span};

use super::answer::{Answer, Deadline, Held, Net};
use super::arrival::{Arrival, Bounds};
use super::call::{Caller, refuse};
use super::malformed::{explained, not_grpc};
use super::open_call::Calls;
use super::policy::{self, Lane};
use crate::settings::ListenerLimits;

/// The longest deadline that is taken at its word: what a client sends may say centuries.
const MAX_DEADLINE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Stands between a connection and the handlers.
#[derive(Clone, Debug)]
pub struct Guard {
    routes: Routes,
    calls: Arc<Semaphore>,
    limits: ListenerLimits,
    tasks: Tasks,
}

/// A call that may go on.
struct Admitted {
    method: &'static str,
    lane: Lane,
    place: Option<OwnedSemaphorePermit>,
}

impl Guard {
    #[must_use]
    pub fn new(routes: Routes, limits: ListenerLimits, tasks: Tasks) -> Self {
        Self { routes, calls: Arc::new(Semaphore::new(limits.calls)), limits, tasks }
    }

    /// Handles one request of one connection, whose calls are given. Never fails: a refusal is a response.
    pub fn call(
        &self,
        principal: Principal,
        mut request: Request<Incoming>,
        calls: &Arc<Calls>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<> {
        let open = calls.open();
        let process = calls.process();
        let no_grpc = not_grpc(&request);
        let admitted = self.admit(&principal, request.uri().path());
        let guard = self.clone();
        async move {
            if let Some(refusal) = no_grpc {
                return Ok(refusal);
            }
            let Admitted { method, lane, place } = match admitted {
                Ok(admitted) => admitted,
                Err(error) => return Ok(refuse(&error).into_http()),
            };
            let mut deadline = deadline(request.headers()).map(Deadline::begin);
            let span = debug_span!("call", method, %principal);
            request.extensions_mut().insert(Caller { principal, method: method.into(), process });
            let bounds = match lane {
                Lane::Call | Lane::Wait | Lane::Stream => Bounds::message_within(guard.limits.first_request),
                Lane::Lease => Bounds::begun_within(guard.limits.first_request),
                // Reflection takes requests for as long as its caller has any.
                Lane::Vital => Bounds::NONE,
            };
            let request = request.map(|body| Arrival::new(body, bounds));
            let mut routes = guard.routes;
            let handled =
                AssertUnwindSafe(async move { routes.call(request).await }).catch_unwind().instrument(span);
            let outcome = match &mut deadline {
                None => handled.await,
                Some(deadline) => tokio::select! {
                    biased;
                    outcome = handled => outcome,
                    () = deadline.passed() => return Ok(deadline.refusal(method)),
                },
            };
            let net = Net { method, tasks: guard.tasks };
            let response = match outcome {
                Ok(Ok(response)) => explained(response),
                Err(panic) => return Ok(net.catch(panic.as_ref())),
            };
            let is_stream = matches!(lane, Lane::Stream | Lane::Lease | Lane::Vital);
            if !is_stream {
                open.answered();
            }
            let held = Held::new(place, open, is_stream);
            Ok(response.map(|body| Body::new(Answer::new(body, net, deadline, held))))
        }
    }

    fn admit(&self, principal: &Principal, path: &str) -> Result<Admitted, Error> {
        let Some((method, policy)) = policy::of(path) else {
            let message =
                "no such method; ask the server's reflection service, or `hoist --help`, for what exists";
            return Err(Error::new(Reason::MethodUnknown, message));
        };
        if principal.role() < policy.role {
            return Err(Error::new(
                Reason::PermissionDenied,
                format!("{principal} may not call {method}; use the Unix socket as the owner of the server"),
            )
            .with("method", method)
            .with("principal", principal));
        }
        let place = match policy.lane {
            Lane::Call => Some(Arc::clone(&self.calls).try_acquire_owned().map_err(|_| {
                let limit = self.limits.calls;
                let message = format!("{limit} calls are in flight, which is the limit; try again shortly");
                Error::new(Reason::Overloaded, message)
                    .with("limit", limit)
                    .retry_after(Duration::from_millis(100))
            })?),
            Lane::Wait | Lane::Stream | Lane::Lease | Lane::Vital => None,
        };
        Ok(Admitted { method, lane: policy.lane, place })
    }
}

/// The caller's own deadline: `grpc-timeout` is up to eight digits and a unit.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    let limit = match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Some(limit.min(MAX_DEADLINE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            deadline(&headers)
        };
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("1S"), Some(Duration::from_secs(1)));
        assert_eq!(of("99999999H"), Some(MAX_DEADLINE));
        for bad in ["", "S", "1", "1x", "-1S", "123456789S", "1 S"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
