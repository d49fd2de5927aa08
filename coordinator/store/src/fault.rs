//! Why the store cannot do what it was asked, one variant per decision the caller can take.
//!
//! Owns the line between "out of space, try again later" and "never write again". Used throughout this crate and
//! by the owner of state. It must never call a failed sync anything but broken: after it nobody knows which of the
//! written pages the kernel has thrown away.

use std::fmt;
use std::io;

/// What was asked of the file system when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Open,
    Read,
    Write,
    Resize,
    Sync,
    Rename,
    /// Not a call: the name leads to another file, or to none. Somebody has removed or replaced it.
    Hold,
    /// Not a file operation: the database refused for a reason of its own.
    Database,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "cannot open",
            Self::Read => "cannot read",
            Self::Write => "cannot write",
            Self::Resize => "cannot resize",
            Self::Sync => "cannot sync",
            Self::Rename => "cannot rename",
            Self::Hold => "the state directory was removed or replaced; lost",
            Self::Database => "the database refused",
        })
    }
}

/// One failed call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} {file}: {text}")]
pub struct Fault {
    pub call: Call,
    /// Name of the file inside the state directory.
    pub file: String,
    pub kind: io::ErrorKind,
    cause: Cause,
    text: String,
}

/// What the kinds of the standard library do not tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Descriptors,
    NotAFile,
    Other,
}

impl Fault {
    pub(crate) fn new(call: Call, file: &str, error: &io::Error) -> Self {
        let errno = rustix::io::Errno::from_io_error(error);
        let cause = match errno {
            Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => Cause::Descriptors,
            _ => Cause::Other,
        };
        Self { call, file: file.to_owned(), kind: error.kind(), cause, text: error.to_string() }
    }

    pub(crate) fn not_held(file: &str, text: &str) -> Self {
        let (kind, cause) = (io::ErrorKind::NotFound, Cause::Other);
        Self { call: Call::Hold, file: file.to_owned(), kind, cause, text: text.to_owned() }
    }

    pub(crate) fn not_a_file(file: &str) -> Self {
        Self {
            call: Call::Open,
            file: file.to_owned(),
            kind: io::ErrorKind::InvalidInput,
            cause: Cause::NotAFile,
            text: "it is not a regular file".to_owned(),
        }
    }

    pub(crate) fn database(file: &str, error: impl fmt::Display) -> Self {
        Self {
            call: Call::Database,
            file: file.to_owned(),
            kind: io::ErrorKind::Other,
            cause: Cause::Other,
            text: error.to_string(),
        }
    }

    /// Whether freeing space can cure it. A sync never counts, whatever its error: some file systems report a
    /// full disk only there, and by then written pages are gone.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        self.call != Call::Sync && matches!(self.kind, StorageFull | QuotaExceeded | FileTooLarge)
    }
}

/// Why a commit was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Nothing was acknowledged; whether the batch landed is known after [`crate::Store::reopen`].
    #[error("the store is out of space")]
    Full(#[source] Fault),
    /// Nothing may be written for the life of this process; whether the batch landed is known after a restart.
    #[error("the store is broken until the coordinator is restarted")]
    Broken(#[source] Fault),
}

impl CommitError {
    pub(crate) fn from_fault(fault: Fault) -> Self {
        if fault.is_out_of_space() { Self::Full(fault) } else { Self::Broken(fault) }
    }
}

/// Why there is no new export. The one before is untouched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// Try again later.
    #[error("the export was not written")]
    Failed(#[source] Fault),
    /// Never try again in this process.
    #[error("the store is broken until the coordinator is restarted")]
    Broken(#[source] Fault),
}

/// Why the store does not open. The text is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns the directory.
    #[error("the state directory is in use by {}: stop it, or give this one another directory", holder(.pid))]
    Locked {
        /// As the owner wrote it; not known if the owner was only just starting.
        pid: Option<u32>,
    },
    /// Nothing was touched.
    #[error(
        "the store has format version {found} and this build reads up to {supported}: start the newer build that \
         wrote it, or give this one another directory"
    )]
    NewerVersion { found: u32, supported: u32 },
    /// The directory cannot be used as it is.
    #[error("the state directory cannot be used: {reason}")]
    Unwritable { reason: String },
    /// There is no room to open the store.
    #[error("the store needs room to open: free space on its disk and start again ({0})")]
    Full(Fault),
    /// The process may not open more files.
    #[error("file descriptors ran out ({0}): raise the limit (`ulimit -n`) and start again")]
    Descriptors(Fault),
    /// Something else has a name that is the store's.
    #[error("{0}: it is none of Hoist's; remove it from the state directory and start again")]
    Foreign(Fault),
    /// The file system failed. Nothing was rebuilt: a disk that cannot be read is not a damaged file.
    #[error("the store cannot be opened: {0}; check the disk and start again")]
    Io(Fault),
}

impl OpenError {
    pub(crate) fn from_fault(fault: Fault) -> Self {
        match fault.cause {
            _ if fault.is_out_of_space() => Self::Full(fault),
            Cause::Descriptors => Self::Descriptors(fault),
            Cause::NotAFile => Self::Foreign(fault),
            Cause::Other => Self::Io(fault),
        }
    }
}

fn holder(pid: &Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
