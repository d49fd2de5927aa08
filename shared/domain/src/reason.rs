//! Every reason for which Hoist says no or fails: one enum, and one table of what each means for the caller.
//!
//! The names are on the wire (`ErrorInfo.reason`) and in people's scripts: they are added to, never renamed. A
//! reason that nothing can produce yet is here because clients of the replaced system branch on it.

use serde::{Deserialize, Serialize};

/// What kind of failure it is; each maps to one gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// The request can never succeed as it is.
    InvalidArgument,
    /// The named thing does not exist.
    NotFound,
    /// The id is taken by something else.
    AlreadyExists,
    /// The caller may not do this.
    PermissionDenied,
    /// Some bound is reached; there will be room later.
    ResourceExhausted,
    /// The thing is not in a state for this; the caller must change that first.
    FailedPrecondition,
    /// Lost against a concurrent change; read again and retry.
    Aborted,
    /// The position asked for is not in the kept history.
    OutOfRange,
    /// This server cannot do this now; another moment or another server can.
    Unavailable,
    /// It took longer than allowed.
    DeadlineExceeded,
    /// Somebody asked for it to stop.
    Cancelled,
    /// Nothing here does that.
    Unimplemented,
    /// What was stored or read is damaged.
    DataLoss,
    /// A defect of Hoist.
    Internal,
}

/// How bad it is for the one who runs the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorSeverity {
    /// The caller's own business.
    Low,
    /// Something is degraded or full.
    Medium,
    /// Something is broken until somebody acts.
    High,
}

/// What happens if the caller does the same again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recovery {
    /// The same request may succeed later.
    Retry,
    /// Another request may succeed.
    Change,
    /// Only an operator can help.
    Operator,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $wire:literal, $kind:ident, $severity:ident, $recovery:ident, $advice:literal;)*) => {
        /// Why something was refused or failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $wire)] $name,)*
        }

        impl Reason {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $wire,)* }
            }

            #[must_use]
            pub const fn kind(self) -> ErrorKind {
                match self { $(Self::$name => ErrorKind::$kind,)* }
            }

            #[must_use]
            pub const fn severity(self) -> ErrorSeverity {
                match self { $(Self::$name => ErrorSeverity::$severity,)* }
            }

            #[must_use]
            pub const fn recovery(self) -> Recovery {
                match self { $(Self::$name => Recovery::$recovery,)* }
            }

            /// What the caller is advised to do, as one clause.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)* }
            }
        }
    };
}

reasons! {
    /// A field has a value that can never be right. The fields are listed.
    FieldInvalid = "FIELD_INVALID", InvalidArgument, Low, Change, "correct the named fields";
    /// A resource name is malformed.
    NameInvalid = "NAME_INVALID", InvalidArgument, Low, Change, "use the name as a list or status shows it";
    /// A request id is not a UUID.
    RequestIdInvalid = "REQUEST_ID_INVALID", InvalidArgument, Low, Change, "send a fresh version 4 UUID";
    /// No such resource.
    ResourceNotFound = "RESOURCE_NOT_FOUND", NotFound, Low, Change, "list what exists";
    /// Several models have this name.
    NameAmbiguous = "NAME_AMBIGUOUS", InvalidArgument, Low, Change, "use one of the listed names";
    /// Somebody else has edited it since it was read.
    EtagMismatch = "ETAG_MISMATCH", Aborted, Low, Change, "read it again, and repeat the edit";
    /// The path is not below a configured root.
    PathOutsideRoots = "PATH_OUTSIDE_ROOTS", InvalidArgument, Low, Change, "name a path below one of the roots";
    /// A page token does not belong to this list.
    PageTokenInvalid = "PAGE_TOKEN_INVALID", InvalidArgument, Low, Change, "start from the first page";
    /// The request id was used for another request.
    RequestIdReused = "REQUEST_ID_REUSED", AlreadyExists, Low, Change, "make a fresh id for each new request";
    /// As many request ids are kept as may be.
    RequestIdsExhausted = "REQUEST_IDS_EXHAUSTED", ResourceExhausted, Medium, Retry,
        "wait, or delete finished operations";
    /// As many operations are pending or running as may be.
    OperationsExhausted = "OPERATIONS_EXHAUSTED", ResourceExhausted, Medium, Retry,
        "wait for running operations or cancel some";
    /// As many calls are in flight as may be.
    Overloaded = "OVERLOADED", ResourceExhausted, Medium, Retry, "retry after the stated delay";
    /// As many watches are open as may be.
    WatchesExhausted = "WATCHES_EXHAUSTED", ResourceExhausted, Medium, Retry, "close watches or share one";
    /// The caller's role does not allow this.
    PermissionDenied = "PERMISSION_DENIED", PermissionDenied, Low, Change,
        "use the Unix socket as the owner of the server";
    /// No such RPC.
    MethodUnknown = "METHOD_UNKNOWN", Unimplemented, Low, Change, "ask reflection for what exists";
    /// The store cannot be written now.
    StoreReadonly = "STORE_READONLY", ResourceExhausted, High, Retry,
        "make room on the state directory's disk; reads go on";
    /// The position is older than the kept history.
    RevisionCompacted = "REVISION_COMPACTED", OutOfRange, Low, Change, "watch again without a position";
    /// The position is of another epoch, or ahead.
    EpochMismatch = "EPOCH_MISMATCH", OutOfRange, Low, Change, "watch again without a position";
    /// This watcher fell behind the kept history.
    TooSlow = "TOO_SLOW", OutOfRange, Low, Change, "watch again without a position, and read faster";
    /// What arrived is not one message of the method's type.
    RequestMalformed = "REQUEST_MALFORMED", InvalidArgument, Low, Change,
        "send one message of the method's type by gRPC over HTTP/2";
    /// A request message is larger than the server takes.
    RequestTooLarge = "REQUEST_TOO_LARGE", OutOfRange, Low, Change, "ask for less in one request";
    /// The request is compressed in a way that the server does not read.
    EncodingUnsupported = "ENCODING_UNSUPPORTED", Unimplemented, Low, Change, "send requests uncompressed";
    /// The server is stopping.
    Draining = "DRAINING", Unavailable, Medium, Retry, "connect again once the server is back";
    /// The coordinator was restarted while the operation was not finished.
    CoordinatorRestarted = "COORDINATOR_RESTARTED", Unavailable, Medium, Retry,
        "send the request again with a fresh id";
    /// The deadline passed.
    DeadlineExceeded = "DEADLINE_EXCEEDED", DeadlineExceeded, Low, Retry, "allow more time";
    /// The operation was cancelled.
    OperationCancelled = "OPERATION_CANCELLED", Cancelled, Low, Change, "start it again if it is still wanted";
    /// The operation has not ended yet.
    OperationNotDone = "OPERATION_NOT_DONE", FailedPrecondition, Low, Change, "cancel it or wait for it first";
    /// What was to be measured cannot be measured here.
    ProbeFailed = "PROBE_FAILED", FailedPrecondition, Medium, Operator, "see the message for what is missing";
    /// A defect of Hoist.
    Internal = "INTERNAL", Internal, High, Operator, "report it with the log around the request id";
    /// A device has too little memory.
    VramExhausted = "VRAM_EXHAUSTED", ResourceExhausted, Medium, Retry,
        "unload something, or allow another strategy";
    /// The machine has too little RAM for the cache.
    RamExhausted = "RAM_EXHAUSTED", ResourceExhausted, Medium, Retry, "evict something or raise the budget";
    /// There is no place in memory for segments.
    CacheUnavailable = "CACHE_UNAVAILABLE", FailedPrecondition, High, Operator,
        "start the server with a runtime directory on tmpfs";
    /// A model's files are damaged.
    CorruptedModel = "CORRUPTED_MODEL", DataLoss, Medium, Operator, "validate the model and recover it";
    /// A model cannot be used as asked.
    IncompatibleModel = "INCOMPATIBLE_MODEL", FailedPrecondition, Low, Change,
        "convert it, or allow the named finding";
    /// Components depend on each other in a circle.
    CircularDependency = "CIRCULAR_DEPENDENCY", FailedPrecondition, Low, Change, "break the chain that is named";
    /// Components that are needed do not exist.
    MissingDependencies = "MISSING_DEPENDENCIES", FailedPrecondition, Low, Change, "provide what is listed";
    /// A component exists in another version than required.
    VersionConflict = "VERSION_CONFLICT", FailedPrecondition, Low, Change, "provide the required version";
    /// The worker ended while it was at it.
    WorkerLost = "WORKER_LOST", Unavailable, Medium, Retry, "retry; the worker is being restarted";
    /// Another worker drives the device.
    DeviceTaken = "DEVICE_TAKEN", AlreadyExists, Medium, Operator, "end one of the two workers";
    /// The device takes nothing new.
    DeviceCordoned = "DEVICE_CORDONED", FailedPrecondition, Low, Change, "uncordon it, or name another device";
    /// The device failed at it.
    DeviceFailed = "DEVICE_FAILED", Unavailable, High, Operator, "look at the device's health and its worker's log";
    /// A worker was driven by a coordinator with a later epoch.
    GenerationAhead = "GENERATION_AHEAD", FailedPrecondition, Low, Retry, "start the worker again";
    /// A worker has crashed too often.
    WorkerQuarantined = "WORKER_QUARANTINED", FailedPrecondition, High, Operator,
        "read its last words, mend what they name, and release it";
    /// The coordinator and a worker do not speak the same version.
    VersionSkew = "VERSION_SKEW", FailedPrecondition, Medium, Operator, "install the same release of both";
    /// A source file changed while it was read.
    SourceChanged = "SOURCE_CHANGED", Aborted, Low, Retry, "retry once the file is written";
    /// A source file ended too early.
    SourceTruncated = "SOURCE_TRUNCATED", DataLoss, Medium, Operator, "fetch the file again";
    /// A source file is there and cannot be read.
    SourceUnreadable = "SOURCE_UNREADABLE", FailedPrecondition, Medium, Operator,
        "make the file readable for the server, or check its disk";
    /// A source file's storage does not answer.
    SourceUnresponsive = "SOURCE_UNRESPONSIVE", Unavailable, High, Retry, "check the storage of the named root";
    /// Somebody holds a lease on it.
    InUse = "IN_USE", FailedPrecondition, Low, Change, "release the listed leases, or force";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn reasons_are_unique_upper_snake() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for name in names {
            assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{name}");
            assert!(name.len() <= 63, "{name}: ErrorInfo allows 63 bytes");
        }
    }

    #[test]
    fn a_reason_is_stored_under_its_wire_name() {
        for reason in Reason::ALL {
            let stored = serde_json::to_string(reason).unwrap();
            assert_eq!(stored, format!("\"{}\"", reason.as_str()));
        }
    }
}
