//! Why a verb did not do what it was asked: one shape, whether the server said so, the way to it is broken, or the
//! command line cannot be right. How it is shown stands in `output`.

use std::collections::BTreeMap;

use hoist_domain::Reason;
use hoist_wire::status::Failure;
use tonic::{Code, Status};

use crate::exit::{Exit, exit_for};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug)]
pub(crate) enum Error {
    /// To be told on stderr. Boxed: it is large and rare.
    Told(Box<Told>),
    /// Stdout cannot be written. A broken pipe is no failure.
    Stdout(std::io::Error),
}

/// One failure, with everything that is shown of it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) exit: Exit,
    pub(crate) code: Code,
    /// The server's stable reason; empty when it was not the server who said no.
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) metadata: BTreeMap<String, String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// By this the server's log can be searched.
    pub(crate) request_id: Option<String>,
}

impl Error {
    fn told(exit: Exit, code: Code, message: String, hint: Option<String>) -> Self {
        Self::Told(Box::new(Told {
            exit,
            code,
            reason: String::new(),
            message,
            metadata: BTreeMap::new(),
            hint,
            request_id: None,
        }))
    }

    /// The command line cannot be right.
    pub(crate) fn usage(message: impl Into<String>, hint: Option<&str>) -> Self {
        Self::told(Exit::Usage, Code::InvalidArgument, message.into(), hint.map(str::to_owned))
    }

    /// The named thing does not exist.
    pub(crate) fn not_found(message: impl Into<String>, hint: &str) -> Self {
        Self::told(Exit::NotFound, Code::NotFound, message.into(), Some(hint.to_owned()))
    }

    /// No server answers.
    pub(crate) fn unreachable(message: impl Into<String>, hint: &str) -> Self {
        Self::told(Exit::Unreachable, Code::Unavailable, message.into(), Some(hint.to_owned()))
    }

    /// The time that the command line allows has passed.
    pub(crate) fn timed_out(message: impl Into<String>, hint: &str) -> Self {
        Self::told(Exit::TimedOut, Code::DeadlineExceeded, message.into(), Some(hint.to_owned()))
    }

    /// It does not work, for a reason at this end.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::told(Exit::Failed, Code::Unknown, message.into(), None)
    }

    /// The state of this machine does not allow it.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::told(Exit::Refused, Code::FailedPrecondition, message.into(), None)
    }

    /// Somebody at this end asked for it to stop.
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self::told(Exit::Failed, Code::Cancelled, message.into(), None)
    }

    /// The server sent something that this client cannot read.
    pub(crate) fn unreadable(what: &str) -> Self {
        let hint = "the server may be newer: use the `hoist` of the same release".to_owned();
        Self::told(Exit::Failed, Code::Internal, format!("cannot read {what}"), Some(hint))
    }

    /// A call failed.
    pub(crate) fn from_status(status: &Status, request_id: Option<&str>) -> Self {
        let failure = Failure::from(status);
        // What the server says has no source; a source is the transport's own trouble, under whatever code.
        let by_transport = failure.reason.is_empty()
            && (status.code() == Code::Unavailable
                || (std::error::Error::source(status).is_some()
                    && !matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled)));
        if by_transport {
            return Self::unreachable(
                format!("the connection to the server broke: {}", failure.message),
                "see with `hoist status` whether the server is back, then try again",
            );
        }
        Self::from_failure(failure, request_id)
    }

    /// A call or an operation failed, for a reason that the server gave.
    pub(crate) fn from_failure(failure: Failure, request_id: Option<&str>) -> Self {
        let mut metadata: BTreeMap<_, _> = failure.metadata.into_iter().collect();
        let of_field = failure.reason == Reason::FieldInvalid.as_str();
        // Many messages end with the advice already; that of a wrong field says no more than that it is wrong.
        let is_news =
            |advice: &&String| !of_field && !advice.is_empty() && !failure.message.contains(advice.as_str());
        let hint = metadata.get("advice").filter(is_news).cloned();
        // In the words of this program, what the server can only say of its calls.
        let is_of_model = metadata.get("kind").is_some_and(|kind| kind == "model");
        let is_early = metadata.contains_key("first_look");
        let hint = match failure.reason == Reason::ResourceNotFound.as_str() && is_of_model {
            true if is_early => Some("`hoist scan --wait` waits for it".to_owned()),
            true => Some("`hoist ls` lists the models, `hoist scan --wait` looks for new ones".to_owned()),
            false => hint,
        };
        let is_of_device = metadata.get("name").is_some_and(|name| name.starts_with("devices/"));
        let hint = match is_of_device {
            true => Some(
                "name one of those that `hoist devices` lists; a --device may also be left out".to_owned(),
            ),
            false => hint,
        };
        let request_id = metadata
            .remove("request_id")
            .or_else(|| request_id.map(str::to_owned))
            .filter(|id| !id.is_empty());
        let message =
            if failure.message.is_empty() { failure.code.description().to_owned() } else { failure.message };
        let message = if of_field { in_flags(message) } else { message };
        Self::Told(Box::new(Told {
            exit: exit_for(failure.code, &failure.reason),
            code: failure.code,
            reason: failure.reason,
            message,
            metadata,
            hint,
            request_id,
        }))
    }

    /// The same, told of the operation that somebody has named.
    #[must_use]
    pub(crate) fn about(mut self, name: &str) -> Self {
        let id = name.strip_prefix("operations/").unwrap_or(name);
        if let Self::Told(told) = &mut self
            && !told.message.contains(id)
        {
            told.message = format!("{name}: {}", told.message);
        }
        self.within(name)
    }

    /// The same, with the operation that it happened in. Who asked for something else than an operation is not told its
    /// name first, but must be able to find it again.
    #[must_use]
    pub(crate) fn within(mut self, name: &str) -> Self {
        let id = name.strip_prefix("operations/").unwrap_or(name);
        if let Self::Told(told) = &mut self {
            told.metadata.entry("operation".to_owned()).or_insert_with(|| id.to_owned());
            if matches!(told.exit, Exit::Unreachable | Exit::TimedOut) && told.reason != "DEADLINE_EXCEEDED" {
                told.hint = Some(format!(
                    "see with `hoist ops show {id}`, once the server is there, what became of it"
                ));
            }
        }
        self
    }

    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Told(told) => told.exit,
            Self::Stdout(_) => Exit::Failed,
        }
    }

    /// Ctrl-C, or a server that has gone: of several things that were asked for, nobody waits for the others any more.
    pub(crate) fn is_ours(&self) -> bool {
        match self {
            Self::Told(told) => {
                told.exit == Exit::Unreachable || told.code == Code::Cancelled && told.reason.is_empty()
            }
            Self::Stdout(_) => true,
        }
    }

    /// What went wrong, in one line.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Told(told) => told.message.clone(),
            Self::Stdout(cause) => format!("cannot write to stdout: {cause}"),
        }
    }

    /// The server's stable reason, or nothing.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Told(told) => &told.reason,
            Self::Stdout(_) => "",
        }
    }
}

/// A message about a field of a request, with the flag that sets the field in its place.
fn in_flags(message: String) -> String {
    const FLAGS: [(&str, &str); 44] = [
        ("filter.names", "--name"),
        ("filter.kinds", "--kind"),
        ("filter.operation_states", "--state"),
        ("filter", "--filter"),
        ("progress_interval", "--progress"),
        ("kinds", "--kind"),
        ("bytes", "--bytes"),
        ("grace", "--grace"),
        ("order_by", "--sort"),
        ("type", "--type"),
        ("paths", "PATH"),
        ("device", "--device"),
        ("sha256", "--sha256"),
        ("notes.display_name", "--name"),
        ("notes.aliases", "--alias"),
        ("notes.tags", "TAG"),
        ("notes.description", "--description"),
        ("notes.licence", "--licence"),
        ("notes.source", "--source"),
        ("notes.notes", "--notes"),
        ("notes.type_override", "--type"),
        ("notes.base_override", "--base"),
        ("notes.config.default_device", "--device"),
        ("components", "COMPONENT"),
        ("priority", "--priority"),
        ("allow", "--allow"),
        ("holder", "--holder"),
        ("reason", "--reason"),
        ("policy.budget_bytes", "--budget"),
        ("policy.eviction", "--eviction"),
        ("policy.idle_ttl", "--idle-ttl"),
        ("policy.priority", "--priority"),
        ("device_id", "--device"),
        ("dtype", "--dtype"),
        ("parts", "NAME"),
        ("options.device_id", "--device"),
        ("options.placement", "--place"),
        ("options.dtype", "--dtype"),
        ("options.priority", "--priority"),
        ("options.allow", "--allow"),
        ("options.strategies", "--strategy"),
        ("window", "--window"),
        ("validate_for", "--wait"),
        ("pace", "--pace"),
    ];
    let Some((path, rest)) = message.split_once(": ") else { return message };
    let field = path.split('[').next().unwrap_or(path);
    match FLAGS.iter().find(|(known, _)| *known == field) {
        Some((_, flag @ "--base")) => format!("{flag}: {}", rest.replacen("any_base", "--any-base", 1)),
        Some((_, flag)) => format!("{flag}: {rest}"),
        None => message,
    }
}

impl From<std::io::Error> for Error {
    fn from(cause: std::io::Error) -> Self {
        Self::Stdout(cause)
    }
}

/// A gRPC code as scripts read it: `not_found`.
pub(crate) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: &Error) -> &Told {
        match error {
            Error::Told(told) => told,
            Error::Stdout(_) => unreachable!(),
        }
    }

    #[test]
    fn a_wrong_field_is_told_by_its_flag() {
        let wrong = |field: &str| {
            let status =
                hoist_wire::status::to_status(&hoist_domain::Error::invalid_field(field, "is wrong"));
            let error = Error::from_status(&status, None);
            assert_eq!(told(&error).hint, None);
            error.message()
        };
        assert_eq!(wrong("filter.names[0]"), "--name: is wrong");
        assert_eq!(wrong("filter"), "--filter: is wrong");
        assert_eq!(wrong("page_token"), "page_token: is wrong");
        assert_eq!(wrong("components[1]"), "COMPONENT: is wrong");
        assert_eq!(wrong("policy.idle_ttl"), "--idle-ttl: is wrong");
        assert_eq!(in_flags("notes.base_override: any_base takes it".into()), "--base: --any-base takes it");
    }

    #[test]
    fn what_happens_to_one_thing_does_not_end_the_others() {
        assert!(Error::interrupted("interrupted").is_ours());
        assert!(Error::unreachable("gone", "start one").is_ours());
        assert!(!Error::refused("no room").is_ours());
    }

    #[test]
    fn an_error_about_an_operation_says_how_to_find_it() {
        let error = Error::unreachable("the connection broke", "start one").about("operations/0198-a");
        assert_eq!(error.message(), "operations/0198-a: the connection broke");
        assert!(told(&error).hint.as_ref().unwrap().contains("hoist ops show 0198-a"));
        let unasked = Error::unreachable("the connection broke", "start one").within("operations/0198-a");
        assert_eq!(unasked.message(), "the connection broke");
        assert!(told(&unasked).hint.as_ref().unwrap().contains("hoist ops show 0198-a"));
        let named = Error::failed("0198-a has failed").about("operations/0198-a");
        assert_eq!(named.message(), "0198-a has failed");
    }
}
