//! One pass over a file: each chunk goes to everybody whose bytes are in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use hoist_domain::{FileIdentity, ModelFormat};
use hoist_formats::{Place, Tensor};
use rustix::fs::Advice;
use rustix::io::ReadWriteFlags;
use sha2::{Digest as _, Sha256};

use super::form::is_plausible;
use super::strided::{gather, is_gatherable};
use super::values::Values;
use super::{CHUNK, FileFacts, Form, Pace, ReadFailure, TensorFacts, Wanted};
use crate::reading::PartReading;
use crate::roots::identity;

/// An open file of a part.
pub(super) struct Reader<'a> {
    pub(super) file: &'a File,
    pub(super) path: &'a Path,
    pub(super) identity: FileIdentity,
    pub(super) pace: Pace<'a>,
}

/// Tensors whose bytes are these.
struct Span {
    /// Tied ones share their bytes; they are of one type.
    tensors: Vec<usize>,
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
    fn new(span: Span, part: &PartReading, wanted: Wanted) -> Option<Self> {
        let dtype = part.tensors.get(*span.tensors.first()?)?.dtype;
        Some(Self { span, hasher: blake3::Hasher::new(), values: wanted.values.then(|| Values::new(dtype)) })
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

    /// Tells what it has found, of each tensor that has these bytes.
    fn end(self, facts: &mut [Option<TensorFacts>]) {
        let values = self.values.unwrap_or_default();
        let found = TensorFacts {
            hash: *self.hasher.finalize().as_bytes(),
            non_finite: values.non_finite(),
            is_zero: self.span.end > self.span.start && values.is_zero(),
        };
        for tensor in self.span.tensors {
            if let Some(place) = facts.get_mut(tensor) {
                *place = Some(found);
            }
        }
    }
}

impl Reader<'_> {
    /// What a file says of itself and of its tensors; and whether some of them could not be read one by one.
    pub(super) fn read(
        &self,
        part: &PartReading,
        number: usize,
        wanted: Wanted,
        form: Form,
        facts: &mut [Option<TensorFacts>],
        bytes: &mut u64,
    ) -> Result<FileFacts, ReadFailure> {
        let mut spans = Vec::new();
        let mut gathered = Vec::new();
        let here = part.tensors.iter().zip(&part.file_of).enumerate();
        for (tensor, (found, _)) in here.filter(|(_, (_, file))| usize::try_from(**file) == Ok(number)) {
            match found.place {
                Place::Extent { offset, length } => {
                    let end = offset.saturating_add(length);
                    spans.push(Span { tensors: vec![tensor], start: offset, end });
                }
                Place::Strided { .. } => gathered.push(tensor),
                Place::Beside { .. } | Place::Unmapped => {}
            }
        }
        let mut spans = tied(spans, part);
        if !is_plausible(spans.iter().map(|span| (span.start, span.end)), self.identity.size) {
            spans.clear();
        }
        let is_whole = form == Form::Files || wanted.sha256;
        let mut file = self.pass(part, wanted, spans, is_whole, facts, bytes)?;
        for tensor in gathered {
            let Some(found) = part.tensors.get(tensor).filter(|found| is_gatherable(found)) else { continue };
            if let Some(place) = facts.get_mut(tensor) {
                *place = Some(self.gathered(found, wanted)?);
            }
        }
        file.blake3 = file.blake3.filter(|_| form == Form::Files);
        Ok(file)
    }

    /// What the bytes of a view are, in the order of its elements.
    fn gathered(&self, tensor: &Tensor, wanted: Wanted) -> Result<TensorFacts, ReadFailure> {
        let mut hasher = blake3::Hasher::new();
        let mut values = wanted.values.then(|| Values::new(tensor.dtype));
        let mut has_any = false;
        gather(tensor, &mut |offset, into| self.fill(offset, into), &mut |piece| {
            has_any = true;
            hasher.update(piece);
            values.iter_mut().for_each(|values| values.take(piece));
            Ok(())
        })?;
        let values = values.unwrap_or_default();
        let hash = *hasher.finalize().as_bytes();
        Ok(TensorFacts { hash, non_finite: values.non_finite(), is_zero: has_any && values.is_zero() })
    }

    /// A file as a whole.
    pub(super) fn whole(&self, bytes: &mut u64) -> Result<FileFacts, ReadFailure> {
        let nothing = PartReading {
            place: String::new(),
            format: ModelFormat::Unknown,
            files: Vec::new(),
            tensors: Vec::new(),
            file_of: Vec::new(),
            metadata: std::collections::BTreeMap::new(),
            globals: Vec::new(),
        };
        self.pass(&nothing, Wanted::default(), Vec::new(), true, &mut [], bytes)
    }

    /// It still is the file that was opened, and nobody has written to it.
    pub(super) fn is_as_it_was(&self) -> Result<(), ReadFailure> {
        let after = rustix::fs::fstat(self.file);
        let after = after.map_err(|error| ReadFailure::Io(self.path.to_owned(), error.into()))?;
        if identity(&after) == self.identity {
            Ok(())
        } else {
            Err(ReadFailure::Changed(self.path.to_owned()))
        }
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
        let data_start = (wanted.sha256 && part.format == ModelFormat::Safetensors)
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
                let Some(mut one) = Active::new(span, part, wanted) else { continue };
                // Most begin and end within a chunk: those take no place among the others.
                if one.span.end <= end {
                    one.take(at, chunk);
                    one.end(facts);
                } else {
                    active.push(one);
                }
            }
            let mut going_on = Vec::with_capacity(active.len());
            for mut one in active {
                one.take(at, chunk);
                if one.span.end <= end {
                    one.end(facts);
                } else {
                    going_on.push(one);
                }
            }
            active = going_on;
            at = end;
        }
        // Those of no bytes, behind the last byte.
        let empty = waiting.filter(|span| span.start == span.end);
        empty.filter_map(|span| Active::new(span, part, wanted)).for_each(|one| one.end(facts));
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

/// In the order of their places, with those of the same bytes and type together.
fn tied(mut spans: Vec<Span>, part: &PartReading) -> Vec<Span> {
    let dtype =
        |span: &Span| span.tensors.first().and_then(|tensor| part.tensors.get(*tensor)).map(|t| t.dtype);
    spans.sort_by_key(|span| (span.start, span.end, dtype(span)));
    let mut tied: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match tied.last_mut() {
            Some(last) if (last.start, last.end, dtype(last)) == (span.start, span.end, dtype(&span)) => {
                last.tensors.extend(span.tensors);
            }
            _ => tied.push(span),
        }
    }
    tied
}
