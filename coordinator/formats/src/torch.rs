//! Everything that `torch.save`, `torch.jit.save` and `torch.export.save` write, and what passes for it.
//!
//! Called by the dispatcher with any file that may be one: zips, legacy checkpoints, plain pickles. What a file is
//! decides its first bytes and its last ones, never its name. Pickles are followed by [`crate::pickle`] alone; nothing
//! here unpacks, loads or imports. A file that is two things at once is looked at as both.

mod archive;
mod legacy;
mod nested;
mod report;
mod streams;
mod tensors;

use crate::{Finding, FindingKind, Format, Inspection, Result, Source, Verdict, limits, read_at_most, zip};

use report::Report;

/// Reads what describes the file. `file_name` only tells what to call it in messages.
///
/// # Errors
/// The file system's.
pub fn inspect<S: Source + ?Sized>(source: &S, file_name: &str) -> Result<Inspection> {
    let mut report = Report::new(Format::Unknown);
    if !inspect_into(source, Within::File, &mut report)? {
        let name = hoist_domain::excerpt(file_name);
        report.find(if source.size() == 0 {
            Finding::corrupt(FindingKind::Partial, format!("`{name}` is empty"))
        } else {
            Finding::corrupt(FindingKind::Header, format!("`{name}` is neither a zip nor a pickle"))
        });
    }
    Ok(report.into_inspection(source.size()))
}

/// What the bytes at hand are part of. Archives are looked into once, not endlessly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    File,
    Archive,
}

/// Adds what is known of a checkpoint to the report; false if it is none.
fn inspect_into<S: Source + ?Sized>(source: &S, within: Within, report: &mut Report) -> Result<bool> {
    let head = read_at_most(source, 0, 4)?;
    if head.starts_with(zip::LOCAL_MAGIC) || head.starts_with(zip::END_MAGIC) {
        archive::inspect(source, within, report)?;
    } else if streams::may_be_pickle(&head) {
        legacy::inspect(source, report)?;
        if zip::ends_like_one(source)? {
            let format = report.format();
            let message = "a zip archive follows the pickle";
            report.find(Finding::new(FindingKind::Zip, Verdict::Suspicious, message));
            archive::inspect(source, within, report)?;
            report.set_format(format);
        }
    } else if zip::ends_like_one(source)? {
        archive::inspect(source, within, report)?;
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// Compares the checksum of everything in an archive, reading the whole file once. A file that is none, or that
/// cannot be read as one, has nothing to compare: that is for [`inspect`] to say.
///
/// # Errors
/// The file system's.
pub fn verify<S: Source + ?Sized>(source: &S) -> Result<Vec<Finding>> {
    match zip::open(source)? {
        zip::Opened::Archive(archive) => zip::verify(source, &archive, limits::PICKLE_BYTES),
        zip::Opened::Refused(_) => Ok(Vec::new()),
    }
}
