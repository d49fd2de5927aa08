//! What stands before every handler, on every listener: policy, bounds, deadline, and a net for panics.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use hoist_domain::{Error, Principal, Reason};
use hoist_runtime::{Tasks, panic_message};
use http::{HeaderMap, Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;
use tracing::{Instrument, debug_span};

use super::arrival::Arrival;
use super::call::{Caller, refuse};
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

    /// Handles one request of one connection. Never fails: a refusal is a response.
    pub fn call(
        &self,
        principal: Principal,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<> {
        let admitted = self.admit(&principal, request.uri().path());
        let guard = self.clone();
        async move {
            let Admitted { method, lane, place } = match admitted {
                Ok(admitted) => admitted,
                Err(error) => return Ok(refuse(&error).into_http()),
            };
            let deadline = deadline(request.headers());
            let span = debug_span!("call", method, %principal);
            request.extensions_mut().insert(Caller { principal, method: method.into() });
            // What is vital holds no place, and reflection takes requests for as long as its caller has any.
            let patience = (lane != Lane::Vital).then_some(guard.limits.first_request);
            let request = request.map(|body| Arrival::within(patience, body));
            let mut routes = guard.routes;
            let handled =
                AssertUnwindSafe(async move { routes.call(request).await }).catch_unwind().instrument(span);
            let outcome = match deadline {
                None => handled.await,
                Some(limit) => match tokio::time::timeout(limit, handled).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        let error = Error::new(
                            Reason::DeadlineExceeded,
                            format!("{method} was not done within the {limit:?} that the caller allows"),
                        );
                        return Ok(refuse(&error).into_http());
                    }
                },
            };
            drop(place);
            let net = Net { method, tasks: guard.tasks };
            match outcome {
                Ok(Ok(response)) => Ok(response.map(|body| Body::new(Caught { body: Some(body), net }))),
                Err(panic) => Ok(net.catch(panic.as_ref())),
            }
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
            Lane::Wait | Lane::Stream | Lane::Vital => None,
        };
        Ok(Admitted { method, lane: policy.lane, place })
    }
}

/// What becomes of a panic in a call.
struct Net {
    method: &'static str,
    tasks: Tasks,
}

impl Net {
    fn catch(&self, panic: &(dyn Any + Send)) -> Response<Body> {
        self.tasks.record_panic(self.method, panic_message(panic));
        let error = Error::new(
            Reason::Internal,
            format!("{} failed by a defect of Hoist; report it with the server's log", self.method),
        );
        refuse(&error).into_http()
    }
}

/// The body of a response. A stream runs here, long after its handler has returned: without this, its panic would
/// be a reset to the caller and nothing to anybody else.
struct Caught {
    /// Dropped once it has panicked.
    body: Option<Body>,
    net: Net,
}

impl hyper::body::Body for Caught {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(context))) {
            Ok(polled) => polled,
            Err(panic) => {
                self.body = None;
                let mut trailers = std::mem::take(self.net.catch(panic.as_ref()).headers_mut());
                // The headers are out already; this one is not for trailers.
                trailers.remove(http::header::CONTENT_TYPE);
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
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
