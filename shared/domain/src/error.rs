//! The one error that may leave the process: a reason, a sentence, and the ids and numbers behind it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Reason;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A refusal or a failure, complete enough to be shown to a caller and to be kept with an operation.
///
/// Boxed inside, because it travels in the `Err` of nearly everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Error(Box<Content>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    reason: Reason,
    message: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fields: Vec<FieldViolation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after: Option<Duration>,
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldViolation {
    /// Path in the request: `filter.names[3]`.
    pub field: String,
    pub description: String,
}

impl Error {
    /// `message` says what happened, to what, and what to do; it holds no path, secret or foreign text unescaped.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Content {
            reason,
            message: message.into(),
            metadata: BTreeMap::new(),
            fields: Vec::new(),
            retry_after: None,
        }))
    }

    /// A field of the request is wrong, and nothing else is.
    pub fn invalid_field(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        Self::new(Reason::FieldInvalid, format!("{field}: {description}")).field(field, description)
    }

    /// A page token that no answer about this list had.
    #[must_use]
    pub fn other_page() -> Self {
        let message = "this page token is not of this list; start from the first page";
        Self::new(Reason::PageTokenInvalid, message).field("page_token", "is not of this list")
    }

    /// Adds an id or a number that a program may branch on.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.0.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    #[must_use]
    pub fn field(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.0.fields.push(FieldViolation { field: field.into(), description: description.into() });
        self
    }

    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    #[must_use]
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    #[must_use]
    pub fn fields(&self) -> &[FieldViolation] {
        &self.0.fields
    }

    #[must_use]
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}
