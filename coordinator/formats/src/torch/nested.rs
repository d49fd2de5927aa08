//! Checkpoints within an exported program: weights and inputs that its loader hands to `torch.load`.
//!
//! Only their imports and their damage count here; their tensors belong to the program, which describes them elsewhere.

use std::io;

use crate::zip::{Archive, Method};
use crate::{Format, Result, Source, limits};

use super::report::Report;
use super::{Within, inspect_into};

/// A part of a file, as a file.
struct Part<'a> {
    whole: &'a dyn Source,
    offset: u64,
    length: u64,
}

/// Any source behind a pointer of one kind: parts of parts would otherwise be types without end.
struct Whole<'a, S: ?Sized>(&'a S);

impl<S: Source + ?Sized> Source for Whole<'_, S> {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buffer)
    }
}

impl Source for Part<'_> {
    fn size(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = left.min(buffer.len());
        let Some(at) = self.offset.checked_add(offset).filter(|_| count > 0) else { return Ok(0) };
        self.whole.read_at(at, buffer.get_mut(..count).unwrap_or_default())
    }
}

/// Looks at the checkpoints in an archive that are stored as they are, which is how they are written.
pub(super) fn inspect<S: Source + ?Sized>(source: &S, archive: &Archive, report: &mut Report) -> Result<()> {
    let whole = Whole(source);
    let checkpoints = archive.entries.iter().filter(|entry| is_checkpoint(&entry.name) && entry.bytes > 0);
    for entry in checkpoints.take(limits::PICKLES) {
        let Some(offset) = entry.data_offset.filter(|_| entry.method == Method::Stored && !entry.encrypted)
        else {
            continue;
        };
        let part = Part { whole: &whole, offset, length: entry.packed_bytes };
        let mut found = Report::new(Format::Unknown);
        inspect_into(&part, Within::Archive, &mut found)?;
        let found = found.into_inspection(entry.packed_bytes);
        // Weights are also kept as bare bytes, under the same ending.
        if found.format == Format::Unknown {
            continue;
        }
        report.read(found.header_bytes);
        found.globals.iter().for_each(|name| report.name_global(name));
        report.find_all(found.findings.into_iter().map(|finding| {
            let offset = finding.offset.map(|at| at.saturating_add(offset));
            let mut finding = finding.in_file(&entry.name);
            finding.offset = offset;
            finding
        }));
    }
    Ok(())
}

fn is_checkpoint(name: &str) -> bool {
    let extension = name.rsplit('.').next().unwrap_or_default();
    ["pt", "pth", "ckpt", "bin"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}
