//! Reads every byte of a model's tensors, once, in the order of its files.
//!
//! ```text
//! file ─► chunks ─┬─► SHA-256, BLAKE3 of the file   (where something compares them)
//!                 └─► each tensor over the chunk ─► BLAKE3, values
//! ```
//!
//! Reads are positioned and bounded; the file that is read is the one that was described, before and after, or the
//! result is an error. Views that jump through their storage are gathered afterwards, row by row.

mod form;
mod pass;
mod strided;
mod values;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};

use hoist_domain::FileIdentity;

pub(crate) use form::is_by_tensors;
use pass::Reader;
pub use strided::{gather, is_gatherable};

use crate::reading::{PartReading, Reading};
use crate::roots::Roots;
use crate::walk::Unit;

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
    /// Set where the part has tensors that cannot be read one by one, or means something only as files.
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
        let read = PartOf { roots, unit, reading, part, wanted, pace };
        let (tensors, files) = read.all(&mut contents.bytes)?;
        contents.tensors.push(tensors);
        contents.files.push(files);
    }
    Ok(contents)
}

/// A part that is to be read, and all that is needed for it.
struct PartOf<'a> {
    roots: &'a Roots,
    unit: &'a Unit,
    reading: &'a Reading,
    part: &'a PartReading,
    wanted: Wanted,
    pace: Pace<'a>,
}

impl PartOf<'_> {
    fn all(&self, bytes: &mut u64) -> Result<(Vec<Option<TensorFacts>>, Vec<FileFacts>), ReadFailure> {
        let part = self.part;
        let mut tensors = vec![None; part.tensors.len()];
        let mut files = Vec::with_capacity(part.files.len());
        let form = if is_by_tensors(part, self.reading) { Form::Tensors } else { Form::Files };
        for (number, file) in part.files.iter().enumerate() {
            let read =
                |reader: &Reader<'_>| reader.read(part, number, self.wanted, form, &mut tensors, bytes);
            files.push(self.with(file, read)?);
        }
        let folder = part.files.first().and_then(|file| file.parent()).unwrap_or(Path::new(""));
        for beside in part.tensors.iter().filter_map(hoist_formats::beside).collect::<BTreeSet<_>>() {
            files.push(self.with(&folder.join(beside), |reader| reader.whole(bytes))?);
        }
        Ok((tensors, files))
    }

    /// Opens a file of the unit for somebody, who gets it as it was described or not at all.
    fn with<T>(
        &self,
        file: &Path,
        read: impl FnOnce(&Reader<'_>) -> Result<T, ReadFailure>,
    ) -> Result<T, ReadFailure> {
        let path = self.unit.path_of(file);
        let known = self.reading.files.iter().find(|known| known.path == *file).map(|known| known.identity);
        self.open(path, known, read)
    }

    fn open<T>(
        &self,
        path: PathBuf,
        known: Option<FileIdentity>,
        read: impl FnOnce(&Reader<'_>) -> Result<T, ReadFailure>,
    ) -> Result<T, ReadFailure> {
        let (opened, found) = self.roots.open_file(&path).map_err(|e| ReadFailure::Io(path.clone(), e))?;
        if known.is_some_and(|known| known != found) {
            return Err(ReadFailure::Changed(path));
        }
        let reader = Reader { file: &opened, path: &path, identity: found, pace: self.pace };
        let result = read(&reader)?;
        reader.is_as_it_was()?;
        Ok(result)
    }
}

/// What is digested of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Each tensor.
    Tensors,
    /// Where one tensor cannot be told apart: all of the part's files.
    Files,
}
