//! Requests that are not what gRPC says they are, told in the same way as every other refusal.
//!
//! What is no gRPC at all is refused here, before anything looks at it. What is no message is found by tonic, whose
//! words for it are INTERNAL and no more; this is the one place where its verdicts are put into ours.

use hoist_domain::{Error, Reason};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tonic::body::Body;
use tonic::{Code, Status};

use super::call::refuse;

/// In the trailers of every error that Hoist makes, and of none that tonic makes.
const DETAILS: &str = "grpc-status-details-bin";

/// Which encodings the server reads; goes with a refusal of another.
const ACCEPTED_ENCODINGS: &str = "grpc-accept-encoding";

/// A refusal of what is no gRPC: by an HTTP status, for whoever sent it, and a gRPC one, as gRPC servers do.
pub(super) fn not_grpc<B>(request: &Request<B>) -> Option<Response<Body>> {
    if request.method() != Method::POST {
        let mut refused = malformed("gRPC calls are made with POST");
        *refused.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Some(refused);
    }
    if !request.headers().get(CONTENT_TYPE).is_some_and(is_grpc) {
        let mut refused =
            malformed("the content type of a call is application/grpc or application/grpc+proto");
        *refused.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Some(refused);
    }
    None
}

/// With parameters or without. Other subtypes are other codecs, which nobody here speaks.
fn is_grpc(content_type: &HeaderValue) -> bool {
    let kind = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/grpc") || kind.eq_ignore_ascii_case("application/grpc+proto")
}

fn malformed(message: &str) -> Response<Body> {
    refuse(&Error::new(Reason::RequestMalformed, message)).into_http()
}

/// More came after the one message of a call.
pub(super) fn more_than_one() -> Status {
    refuse(&Error::new(Reason::RequestMalformed, "the method takes one message, and more was sent"))
}

/// The same response, unless it is tonic's own word on a request that it could not read.
pub(super) fn explained(response: Response<Body>) -> Response<Body> {
    if response.headers().contains_key(DETAILS) {
        return response;
    }
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    let error = match status.code() {
        // Its text names a message, a field and what was found, and repeats nothing that was sent.
        Code::Internal => Error::new(
            Reason::RequestMalformed,
            format!("the request is not a message of this method: {}", status.message()),
        ),
        Code::OutOfRange | Code::ResourceExhausted => {
            Error::new(Reason::RequestTooLarge, format!("the request is too large: {}", status.message()))
        }
        Code::Unimplemented => Error::new(
            Reason::EncodingUnsupported,
            "the request is compressed, and requests are read uncompressed only; send it without compression",
        ),
        _ => return response,
    };
    let mut explained = refuse(&error).into_http();
    if let Some(accepted) = response.headers().get(ACCEPTED_ENCODINGS) {
        explained.headers_mut().insert(ACCEPTED_ENCODINGS, accepted.clone());
    }
    explained
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_is_served() {
        let of = |method: &str, content_type: Option<&str>| {
            let mut request = Request::builder().method(method);
            if let Some(content_type) = content_type {
                request = request.header(CONTENT_TYPE, content_type);
            }
            not_grpc(&request.body(()).unwrap()).map(|refused| refused.status().as_u16())
        };
        for good in ["application/grpc", "application/grpc+proto", "Application/gRPC ; charset=utf-8"] {
            assert_eq!(of("POST", Some(good)), None, "{good}");
        }
        for bad in
            [None, Some(""), Some("text/html"), Some("application/grpc-web"), Some("application/grpc+json")]
        {
            assert_eq!(of("POST", bad), Some(415), "{bad:?}");
        }
        for method in ["GET", "PUT", "DELETE", "OPTIONS", "HEAD"] {
            assert_eq!(of(method, Some("application/grpc")), Some(405), "{method}");
        }
    }

    #[test]
    fn only_what_tonic_says_is_put_into_our_words() {
        let reason = |status: Status| {
            let explained = Status::from_header_map(explained(status.into_http()).headers()).unwrap();
            (explained.code(), hoist_wire::status::Failure::from(&explained).reason)
        };
        let ours = refuse(&Error::new(Reason::Internal, "a defect"));
        assert_eq!(reason(ours), (Code::Internal, "INTERNAL".to_owned()));
        assert_eq!(reason(Status::internal("x")), (Code::InvalidArgument, "REQUEST_MALFORMED".to_owned()));
        assert_eq!(reason(Status::out_of_range("x")), (Code::OutOfRange, "REQUEST_TOO_LARGE".to_owned()));
        assert_eq!(
            reason(Status::unimplemented("x")),
            (Code::Unimplemented, "ENCODING_UNSUPPORTED".to_owned())
        );
        // The health service's word on a service that it does not know.
        assert_eq!(reason(Status::not_found("x")), (Code::NotFound, String::new()));
    }
}
