//! The one place where an error becomes a `google.rpc.Status`, and where a client turns one back.
//!
//! Every error carries one ErrorInfo: the stable reason, the domain `hoist.dev`, and as metadata the ids and numbers
//! of the case plus what the reason means in general (`severity`, `recoverable`, `advice`). Fields in error become a
//! BadRequest, a delay becomes a RetryInfo.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hoist_domain::{Error, ErrorKind, ErrorSeverity, FieldViolation, Reason, Recovery};
use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::{StatusExt, pb};

/// ErrorInfo.domain of every error that Hoist makes.
pub const DOMAIN: &str = "hoist.dev";

/// Trailers that exceed a client's header limit (often 8 KiB) turn into a meaningless error there.
const MAX_MESSAGE_BYTES: usize = 1024;
const MAX_FIELDS: usize = 16;

/// The gRPC code for a kind of error.
#[must_use]
pub const fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::Aborted => Code::Aborted,
        ErrorKind::OutOfRange => Code::OutOfRange,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::DataLoss => Code::DataLoss,
        ErrorKind::Internal => Code::Internal,
    }
}

const fn severity(severity: ErrorSeverity) -> &'static str {
    match severity {
        ErrorSeverity::Low => "LOW",
        ErrorSeverity::Medium => "MEDIUM",
        ErrorSeverity::High => "HIGH",
    }
}

const fn recovery(recovery: Recovery) -> &'static str {
    match recovery {
        Recovery::Retry => "RETRY",
        Recovery::Change => "CHANGE",
        Recovery::Operator => "OPERATOR",
    }
}

fn clipped(message: &str) -> String {
    if message.len() <= MAX_MESSAGE_BYTES {
        return message.to_owned();
    }
    let end = (0..=MAX_MESSAGE_BYTES).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
    format!("{}…", message.get(..end).unwrap_or_default())
}

/// Wire twin of `google.rpc.ErrorInfo` with its metadata in order. The same error is the same bytes, every time: the
/// fields of a change are found by comparing encodings, and a repeated request gets the very same answer.
#[derive(Clone, PartialEq, Eq, Message)]
struct OrderedErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

fn detail(message_type: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/google.rpc.{message_type}"), value: message.encode_to_vec() }
}

/// An error as a call's status.
#[must_use]
pub fn to_status(error: &Error) -> Status {
    let message = to_proto(error);
    Status::with_details(code(error.reason().kind()), message.message.clone(), message.encode_to_vec().into())
}

/// An error as a message inside another one.
#[must_use]
pub fn to_proto(error: &Error) -> tonic_types::Status {
    let reason = error.reason();
    let mut metadata: BTreeMap<String, String> =
        error.metadata().iter().map(|(key, value)| (key.clone(), clipped(value))).collect();
    metadata.insert("severity".into(), severity(reason.severity()).into());
    metadata.insert("recoverable".into(), recovery(reason.recovery()).into());
    // Who knows the case knows better than the reason in general.
    metadata.entry("advice".into()).or_insert_with(|| reason.advice().into());
    let info = OrderedErrorInfo { reason: reason.as_str().into(), domain: DOMAIN.into(), metadata };
    let mut details = vec![detail("ErrorInfo", &info)];
    if !error.fields().is_empty() {
        let violation = |violation: &FieldViolation| pb::bad_request::FieldViolation {
            field: clipped(&violation.field),
            description: clipped(&violation.description),
            ..Default::default()
        };
        let field_violations = error.fields().iter().take(MAX_FIELDS).map(violation).collect();
        details.push(detail("BadRequest", &pb::BadRequest { field_violations }));
    }
    if let Some(delay) = error.retry_delay() {
        details
            .push(detail("RetryInfo", &pb::RetryInfo { retry_delay: Some(crate::encode::duration(delay)) }));
    }
    tonic_types::Status { code: code(reason.kind()).into(), message: clipped(error.message()), details }
}

/// What a client can read from a failed call or operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    /// The stable reason; empty when the other side was not Hoist.
    pub reason: String,
    pub message: String,
    pub metadata: HashMap<String, String>,
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// Whether the failure has this reason.
    #[must_use]
    pub fn is(&self, reason: Reason) -> bool {
        self.reason == reason.as_str()
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<&Status> for Failure {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        Self {
            code: status.code(),
            reason: info.map(|i| i.reason.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            metadata: info.map(|i| i.metadata.clone()).unwrap_or_default(),
            retry_after: details.retry_info().and_then(|r| r.retry_delay),
        }
    }
}

impl From<&tonic_types::Status> for Failure {
    fn from(status: &tonic_types::Status) -> Self {
        let code = Code::from(status.code);
        Self::from(&Status::with_details(code, status.message.clone(), status.encode_to_vec().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything a caller can be told, on one page: a change of any code, severity or advice shows as a diff.
    #[test]
    fn every_reason_as_a_status() {
        let mut page = String::new();
        for reason in Reason::ALL {
            let status = to_status(&Error::new(*reason, "what happened"));
            let failure = Failure::from(&status);
            assert_eq!(failure.reason, reason.as_str());
            page += &format!(
                "{:<22} {:?} severity={} recoverable={} advice={:?}\n",
                failure.reason,
                failure.code,
                failure.metadata["severity"],
                failure.metadata["recoverable"],
                failure.metadata["advice"],
            );
        }
        insta::assert_snapshot!(page);
    }

    #[test]
    fn fields_numbers_and_delay_survive_the_way_to_a_client() {
        let error = Error::invalid_field("bytes", "must be at most 16 GiB")
            .with("limit_bytes", 17_179_869_184_u64)
            .retry_after(Duration::from_millis(250));
        let status = to_status(&error);
        let violations = status.get_error_details().bad_request().unwrap().field_violations.clone();
        assert_eq!((violations[0].field.as_str(), violations.len()), ("bytes", 1));
        for failure in [Failure::from(&status), Failure::from(&to_proto(&error))] {
            assert_eq!(failure.code, Code::InvalidArgument);
            assert_eq!(failure.metadata["limit_bytes"], "17179869184");
            assert_eq!(failure.retry_after, Some(Duration::from_millis(250)));
            assert_eq!(failure.message, "bytes: must be at most 16 GiB");
        }
    }

    #[test]
    fn the_same_error_is_the_same_bytes() {
        let error = (0..8).fold(Error::new(Reason::Internal, "x"), |e, n| e.with(&format!("key{n}"), n));
        let bytes = to_proto(&error).encode_to_vec();
        for _ in 0..20 {
            assert_eq!(to_proto(&error.clone()).encode_to_vec(), bytes);
        }
    }

    #[test]
    fn a_status_fits_into_trailers() {
        let mut error = Error::new(Reason::FieldInvalid, "é".repeat(5_000));
        for index in 0..1_000 {
            error = error.field(format!("names[{index}]"), "x");
        }
        assert!(to_status(&error).details().len() < 6_000);
    }
}
