//! Exit codes: the one table from what went wrong to what a script sees. The numbers are a public contract.

use std::process::ExitCode;

use hoist_domain::Reason;
use tonic::Code;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done,
    /// It was tried and did not work, or a check found a fault.
    Failed,
    /// The command line, or a value in it, can never be right.
    Usage,
    /// The named thing does not exist.
    NotFound,
    /// The server said no: state, quota, in use, permission.
    Refused,
    /// No server answers, or it is stopping.
    Unreachable,
    /// It took longer than allowed.
    TimedOut,
    /// As the command that was run did.
    Of(u8),
}

impl Exit {
    const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Unreachable => 5,
            Self::TimedOut => 6,
            Self::Of(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The exit code for a failed call or operation. The reason decides where the code alone would mislead; an empty
/// or unknown reason leaves it to the code.
pub(crate) fn exit_for(code: Code, reason: &str) -> Exit {
    let of_work = [
        Reason::CoordinatorRestarted,
        Reason::ProbeFailed,
        Reason::WorkerLost,
        Reason::DeviceFailed,
        Reason::SourceChanged,
        Reason::SourceUnreadable,
        Reason::SourceUnresponsive,
    ];
    // Their codes speak of the server or of a precondition, but it is the work that failed.
    if of_work.iter().any(|known| known.as_str() == reason) {
        return Exit::Failed;
    }
    // Lost data is a failure, but here nothing was tried: the server will not touch a model that is damaged.
    if reason == Reason::CorruptedModel.as_str() {
        return Exit::Refused;
    }
    match code {
        Code::Ok => Exit::Done,
        Code::InvalidArgument => Exit::Usage,
        Code::NotFound => Exit::NotFound,
        Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange => Exit::Refused,
        Code::Unavailable => Exit::Unreachable,
        Code::DeadlineExceeded => Exit::TimedOut,
        Code::Cancelled | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
            Exit::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_domain::Error;

    #[test]
    fn every_reason_has_the_exit_code_that_scripts_rely_on() {
        let exit = |reason: Reason| {
            let status = hoist_wire::status::to_status(&Error::new(reason, "x"));
            exit_for(status.code(), reason.as_str())
        };
        let with = |wanted: Exit| -> Vec<&str> {
            Reason::ALL.iter().filter(|r| exit(**r) == wanted).map(|r| r.as_str()).collect()
        };
        assert_eq!(with(Exit::Done), [""; 0]);
        assert_eq!(
            with(Exit::Usage),
            [
                "FIELD_INVALID",
                "NAME_INVALID",
                "REQUEST_ID_INVALID",
                "NAME_AMBIGUOUS",
                "PATH_OUTSIDE_ROOTS",
                "PAGE_TOKEN_INVALID",
                "REQUEST_MALFORMED"
            ]
        );
        assert_eq!(with(Exit::NotFound), ["RESOURCE_NOT_FOUND"]);
        assert_eq!(with(Exit::Unreachable), ["DRAINING"]);
        assert_eq!(with(Exit::TimedOut), ["DEADLINE_EXCEEDED"]);
        assert_eq!(
            with(Exit::Failed),
            [
                "METHOD_UNKNOWN",
                "ENCODING_UNSUPPORTED",
                "COORDINATOR_RESTARTED",
                "OPERATION_CANCELLED",
                "PROBE_FAILED",
                "INTERNAL",
                "WORKER_LOST",
                "DEVICE_FAILED",
                "SOURCE_CHANGED",
                "SOURCE_TRUNCATED",
                "SOURCE_UNREADABLE",
                "SOURCE_UNRESPONSIVE",
            ]
        );
        for refused in [
            "STORE_READONLY",
            "IN_USE",
            "PERMISSION_DENIED",
            "OVERLOADED",
            "OPERATION_NOT_DONE",
            "RAM_EXHAUSTED",
            "VRAM_EXHAUSTED",
            "CACHE_UNAVAILABLE",
            "CORRUPTED_MODEL",
            "INCOMPATIBLE_MODEL",
        ] {
            assert!(with(Exit::Refused).contains(&refused), "{refused}");
        }
    }

    #[test]
    fn the_numbers_are_those_that_scripts_know() {
        let codes = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::NotFound,
            Exit::Refused,
            Exit::Unreachable,
            Exit::TimedOut,
            Exit::Of(42),
        ];
        assert_eq!(codes.map(Exit::code), [0, 1, 2, 3, 4, 5, 6, 42]);
        assert!(codes.is_sorted(), "the worst of several is the greatest");
    }

    #[test]
    fn an_unknown_reason_leaves_it_to_the_code() {
        assert_eq!(exit_for(Code::ResourceExhausted, "SOMETHING_NEW"), Exit::Refused);
        assert_eq!(exit_for(Code::Unavailable, ""), Exit::Unreachable);
        assert_eq!(exit_for(Code::Unknown, ""), Exit::Failed);
    }
}
