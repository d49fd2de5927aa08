//! Reads every byte of a model's tensors, once, in the order of its files.
//!
//! ```text
//! file ─► chunks ─┬─► SHA-256, BLAKE3 of the file   (where something compares them)
//!                 └─► each tensor over the chunk ─► BLAKE3, values
//! ```
//!
//! Reads are positioned and bounded; the file that is read is the one that was described, before and after, or the
//! result is an error. Views that jump through their storage are gathered afterwards, row by row.

mod strided;
mod values;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hoist_domain::FileIdentity;
use hoist_formats::{Place, Tensor};
use rustix::fs::Advice;
use rustix::io::ReadWriteFlags;
use sha2::{Digest as _, Sha256};

use crate::reading::{PartReading, Reading};
use crate::roots::{Roots, identity};
use crate::walk::Unit;
use values::Values;

/// Read at once: enough to keep a disk busy, little enough to stay in a core's cache.
const CHUNK: usize = 1 << 20;

/// What is to be found out beside the tensors' hashes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Values that are not finite, tensors of zeros.
    pub values: bool,
    /// The SHA-256 of files, and of what follows a safetensors header.
    pub sha256: bool,
}

/// How to read, and who looks on.
#[derive(Clone, Copy, Debug)]
pub struct Pace<'a> {
    pub stop: &'a AtomicBool,
    /// Grows with each byte that was read.
    pub bytes: &'a AtomicU64,
    /// Leave the page cache as it was: what was not in it is taken out again.
    pub is_gentle: bool,
}

/// What one tensor's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorFacts {
    pub hash: [u8; 32],
    pub non_finite: u64,
    /// It has bytes, and all are zero.
    pub is_zero: bool,
}

/// What one file's bytes are, as far as it was wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileFacts {
    pub sha256: Option<[u8; 32]>,
    /// Of what follows the header; for safetensors.
    pub data_sha256: Option<[u8; 32]>,
    /// Set where the file has tensors that cannot be read one by one.
    pub blake3: Option<[u8; 32]>,
}

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// By part, by tensor; none for those whose bytes cannot be told apart in the file.
    pub tensors: Vec<Vec<Option<TensorFacts>>>,
    /// By part, by file.
    pub files: Vec<Vec<FileFacts>>,
    pub bytes: u64,
}

/// Why a model's bytes could not be read to their end.
#[derive(Debug)]
pub enum ReadFailure {
    Stopped,
    /// The file is not, or not any more, the one that was described.
    Changed(PathBuf),
    /// It ends before its header says.
    Truncated(PathBuf),
    Io(PathBuf, io::Error),
}

impl ReadFailure {
    /// One line, with the file.
    #[must_use]
    pub fn message(&self) -> String {
        let shown = |path: &Path| hoist_domain::excerpt(&path.to_string_lossy());
        match self {
            Self::Stopped => "stopped".to_owned(),
            Self::Changed(path) => format!("`{}` was written to while it was read", shown(path)),
            Self::Truncated(path) => format!("`{}` ends before its header says", shown(path)),
            Self::Io(path, error) => format!("`{}` cannot be read: {error}", shown(path)),
        }
    }
}

/// Reads all parts of a reading.
///
/// # Errors
/// When a file cannot be read as it was described, or somebody said stop.
pub fn read_contents(
    roots: &Roots,
    unit: &Unit,
    reading: &Reading,
    wanted: Wanted,
    pace: Pace<'_>,
) -> Result<Contents, ReadFailure> {
    let mut contents = Contents::default();
    for part in &reading.parts {
        let mut tensors = vec![None; part.tensors.len()];
        let mut files = Vec::with_capacity(part.files.len());
        for (number, file) in part.files.iter().enumerate() {
            let path = unit.path_of(file);
            let known = reading.files.iter().find(|known| known.path == *file).map(|known| known.identity);
            let (opened, found) = roots.open_file(&path).map_err(|e| ReadFailure::Io(path.clone(), e))?;
            if known.is_some_and(|known| known != found) {
                return Err(ReadFailure::Changed(path));
            }
            let reader = Reader { file: &opened, path: &path, identity: found, pace };
            files.push(reader.read(part, number, wanted, &mut tensors, &mut contents.bytes)?);
        }
        contents.tensors.push(tensors);
        contents.files.push(files);
    }
    Ok(contents)
}

struct Reader<'a> {
    file: &'a File,
    path: &'a Path,
    identity: FileIdentity,
    pace: Pace<'a>,
}

/// A tensor whose bytes lie together.
struct Span {
    tensor: usize,
    start: u64,
    end: u64,
}

/// A tensor that is being read.
struct Active {
    span: Span,
    hasher: blake3::Hasher,
    values: Option<Values>,
}

impl Active {
    fn new(span: Span, tensor: &Tensor, wanted: Wanted) -> Self {
        Self { span, hasher: blake3::Hasher::new(), values: wanted.values.then(|| Values::new(tensor.dtype)) }
    }

    /// Takes what of the chunk, which begins at `at`, is the tensor's.
    fn take(&mut self, at: u64, chunk: &[u8]) {
        let from = usize::try_from(self.span.start.saturating_sub(at)).unwrap_or(usize::MAX);
        let to = usize::try_from(self.span.end.saturating_sub(at)).unwrap_or(usize::MAX).min(chunk.len());
        let Some(bytes) = chunk.get(from..to) else { return };
        self.hasher.update(bytes);
        if let Some(values) = &mut self.values {
            values.take(bytes);
        }
    }

    fn end(self) -> TensorFacts {
        let values = self.values.unwrap_or_default();
        TensorFacts {
            hash: *self.hasher.finalize().as_bytes(),
            non_finite: values.non_finite(),
            is_zero: self.span.end > self.span.start && values.is_zero(),
        }
    }
}

impl Reader<'_> {
    fn read(
        &self,
        part: &PartReading,
        number: usize,
        wanted: Wanted,
        facts: &mut [Option<TensorFacts>],
        bytes: &mut u64,
    ) -> Result<FileFacts, ReadFailure> {
        let here = |(index, tensor): (usize, &'_ Tensor)| {
            let is_here = part.file_of.get(index).is_some_and(|file| usize::try_from(*file) == Ok(number));
            (is_here && facts.len() == part.tensors.len()).then_some((index, tensor.place.clone()))
        };
        let mut spans = Vec::new();
        let mut gathered = Vec::new();
        let mut is_opaque = false;
        for (tensor, place) in part.tensors.iter().enumerate().filter_map(here) {
            match place {
                Place::Extent { offset, length } => {
                    spans.push(Span { tensor, start: offset, end: offset.saturating_add(length) });
                }
                Place::Strided { .. } => gathered.push(tensor),
                Place::Beside { .. } | Place::Unmapped => is_opaque = true,
            }
        }
        spans.sort_by_key(|span| (span.start, span.end));
        if part.tensors.is_empty() {
            is_opaque = true;
        }
        let before = *bytes;
        let file = self.pass(part, wanted, spans, is_opaque || wanted.sha256, facts, bytes)?;
        for tensor in gathered {
            let Some(found) = part.tensors.get(tensor) else { continue };
            let gathered = strided::gather(found, wanted, &mut |offset, into| self.fill(offset, into))?;
            is_opaque |= gathered.is_none();
            if let Some(place) = facts.get_mut(tensor) {
                *place = gathered;
            }
        }
        // One whose views are too many to gather is digested as a whole; that is found out late, and is rare.
        let file = if is_opaque && file.blake3.is_none() {
            *bytes = before;
            self.pass(part, wanted, Vec::new(), true, facts, bytes)?
        } else {
            file
        };
        let after = rustix::fs::fstat(self.file)
            .map_err(|error| ReadFailure::Io(self.path.to_owned(), error.into()))?;
        if identity(&after) != self.identity {
            return Err(ReadFailure::Changed(self.path.to_owned()));
        }
        Ok(file)
    }

    /// From the file's beginning to its end, or from one tensor to the next.
    fn pass(
        &self,
        part: &PartReading,
        wanted: Wanted,
        spans: Vec<Span>,
        whole: bool,
        facts: &mut [Option<TensorFacts>],
        bytes: &mut u64,
    ) -> Result<FileFacts, ReadFailure> {
        let size = self.identity.size;
        let data_start = (wanted.sha256 && part.format == hoist_domain::ModelFormat::Safetensors)
            .then(|| self.header_end())
            .transpose()?;
        let mut sha256 = wanted.sha256.then(Sha256::new);
        let mut data_sha256 = data_start.map(|_| Sha256::new());
        let mut blake3 = whole.then(blake3::Hasher::new);
        let mut waiting = spans.into_iter().peekable();
        let mut active: Vec<Active> = Vec::new();
        // Clearing a whole chunk takes longer than reading a small file.
        let mut chunk = vec![0; usize::try_from(size).unwrap_or(CHUNK).min(CHUNK)];
        let mut at = 0;
        loop {
            if active.is_empty() && !whole {
                match waiting.peek() {
                    None => break,
                    Some(span) => at = at.max(span.start),
                }
            }
            if at >= size
                && (whole || active.is_empty())
                && waiting.peek().is_none_or(|span| span.start >= size)
            {
                break;
            }
            let length = usize::try_from(size.saturating_sub(at)).unwrap_or(CHUNK).min(CHUNK);
            let Some(chunk) = chunk.get_mut(..length).filter(|chunk| !chunk.is_empty()) else {
                return Err(ReadFailure::Truncated(self.path.to_owned()));
            };
            self.fill(at, chunk)?;
            *bytes += chunk.len() as u64;
            let end = at + chunk.len() as u64;
            if let Some(sha256) = &mut sha256 {
                sha256.update(&*chunk);
            }
            if let (Some(sha256), Some(start)) = (&mut data_sha256, data_start) {
                let skip = usize::try_from(start.saturating_sub(at)).unwrap_or(usize::MAX).min(chunk.len());
                sha256.update(chunk.get(skip..).unwrap_or_default());
            }
            if let Some(blake3) = &mut blake3 {
                blake3.update(chunk);
            }
            while let Some(span) = waiting.next_if(|span| span.start < end || span.start == span.end) {
                let Some(tensor) = part.tensors.get(span.tensor) else { continue };
                active.push(Active::new(span, tensor, wanted));
            }
            for tensor in &mut active {
                tensor.take(at, chunk);
            }
            let (done, rest) = active.into_iter().partition(|tensor| tensor.span.end <= end);
            active = rest;
            finish(done, facts);
            at = end;
        }
        // Those of no bytes, behind the last byte.
        let empty = waiting
            .filter(|span| span.start == span.end)
            .filter_map(|span| part.tensors.get(span.tensor).map(|tensor| Active::new(span, tensor, wanted)));
        finish(active.into_iter().chain(empty).collect(), facts);
        Ok(FileFacts {
            sha256: sha256.map(|hasher| hasher.finalize().into()),
            data_sha256: data_sha256.map(|hasher| hasher.finalize().into()),
            blake3: blake3.map(|hasher| *hasher.finalize().as_bytes()),
        })
    }

    /// Where a safetensors file's data begins.
    fn header_end(&self) -> Result<u64, ReadFailure> {
        let mut length = [0; 8];
        if self.identity.size < 8 {
            return Ok(self.identity.size);
        }
        self.fill(0, &mut length)?;
        Ok(u64::from_le_bytes(length).saturating_add(8).min(self.identity.size))
    }

    /// Fills a buffer from the file, in full.
    fn fill(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadFailure> {
        if self.pace.stop.load(Ordering::Relaxed) {
            return Err(ReadFailure::Stopped);
        }
        let was_cached = self.pace.is_gentle && self.is_cached(offset, into);
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + filled as u64) {
                Ok(0) => return Err(ReadFailure::Truncated(self.path.to_owned())),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ReadFailure::Io(self.path.to_owned(), error)),
            }
        }
        if self.pace.is_gentle && !was_cached {
            // A hint: where it is not taken, the cache is a little fuller.
            let length = std::num::NonZeroU64::new(into.len() as u64);
            let _ = rustix::fs::fadvise(self.file, offset, length, Advice::DontNeed);
        }
        self.pace.bytes.fetch_add(into.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Whether somebody has these bytes in the page cache: a read that may not wait returns some.
    fn is_cached(&self, offset: u64, into: &mut [u8]) -> bool {
        let mut first = [io::IoSliceMut::new(into.get_mut(..1).unwrap_or_default())];
        rustix::io::preadv2(self.file, &mut first, offset, ReadWriteFlags::NOWAIT)
            .is_ok_and(|count| count > 0)
    }
}

fn finish(done: Vec<Active>, facts: &mut [Option<TensorFacts>]) {
    for tensor in done {
        let place = facts.get_mut(tensor.span.tensor);
        let found = tensor.end();
        if let Some(place) = place {
            *place = Some(found);
        }
    }
}
