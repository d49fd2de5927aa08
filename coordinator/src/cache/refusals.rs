//! What it means for a caller that something could not be brought into RAM.

use std::path::PathBuf;
use std::time::Duration;

use hoist_domain::{Error, Model, ModelId, Reason, ResourceName};
use hoist_staging::{Failure, Recipe};
use rustix::io::Errno;

/// What the segments' tmpfs, or the kernel, did not do.
pub(super) fn untaken(what: &str, error: &std::io::Error) -> Error {
    let errno = error.raw_os_error();
    if errno == Some(Errno::MFILE.raw_os_error()) || errno == Some(Errno::NFILE.raw_os_error()) {
        let message = format!("{what}: the server has as many files open as it may");
        return Error::new(Reason::Overloaded, message)
            .with(
                "advice",
                "evict segments, or raise the server's limit of open files (LimitNOFILE, ulimit -n)",
            )
            .retry_after(Duration::from_secs(5));
    }
    internal(&format!("{what}: {error}"))
}

pub(super) fn internal(what: &str) -> Error {
    Error::new(Reason::Internal, format!("{what}; report it with the server's log"))
}

pub(super) fn of_model(error: Error, model: ModelId) -> Error {
    error.with("model", ResourceName::Model(model))
}

pub(super) fn unreadable(model: &Model, path: PathBuf, error: &std::io::Error) -> Error {
    let (name, path) = (model.name(), path.display());
    let stale = error.raw_os_error() == Some(Errno::STALE.raw_os_error());
    let error = if stale || error.kind() == std::io::ErrorKind::NotFound {
        let message = format!("{path} of {name} is not the file that was looked at; scan, and try again");
        Error::new(Reason::SourceChanged, message)
    } else {
        Error::new(Reason::SourceUnreadable, format!("{path} of {name} cannot be read: {error}"))
    };
    of_model(error, model.id)
}

/// Why nothing was cached.
pub(super) fn refused(model: &Model, failure: Failure) -> Error {
    use std::io::ErrorKind;
    let name = model.name();
    let error = match failure {
        Failure::Stopped => Error::new(Reason::OperationCancelled, "the operation was stopped"),
        Failure::Changed(path) => Error::new(
            Reason::SourceChanged,
            format!(
                "{} of {name} was written to while it was read; try again when that is done",
                path.display()
            ),
        ),
        Failure::Truncated(path) => Error::new(
            Reason::SourceTruncated,
            format!("{} of {name} ends before its header says; fetch it again", path.display()),
        ),
        Failure::Source(path, error) => return unreadable(model, path, &error),
        Failure::Unresponsive(paths) => {
            let first = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
            let message = format!("the storage of {first} does not answer: reads were left behind; check it");
            Error::new(Reason::SourceUnresponsive, message)
        }
        Failure::Target(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::OutOfMemory) => {
            let message = format!(
                "there was less memory than had been reserved before {name} was filled; evict something and try again"
            );
            Error::new(Reason::RamExhausted, message)
        }
        Failure::Target(error) => untaken(&format!("a segment of {name} could not be written"), &error),
        Failure::Defect => internal(&format!("filling {name} ended by a defect of Hoist")),
    };
    of_model(error, model.id)
}

pub(super) fn other_bytes(model: &Model, recipe: &Recipe) -> Error {
    let component = model.content.components.get(recipe.component).map_or("?", |component| &component.name);
    let message = format!(
        "the bytes of {} ({component}) are not those that were read before, though its files were not written to: \
         `hoist validate --full` it",
        model.name()
    );
    of_model(Error::new(Reason::CorruptedModel, message), model.id)
}
