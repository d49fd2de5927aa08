//! A complete segment, opened by a process that is not its coordinator: a worker, or a client. Who copies it reads it; who
//! uses it in place maps it.
//!
//! It is found by its path alone, so what is relied on is looked at again: on tmpfs, our own user's, closed for writing, whole.
//! That nobody else can put files there is the coordinator's word: it opened the directory.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use hoist_domain::{Bytes, Digest, Dtype};
use rustix::fs::{CWD, Dir, Mode, OFlags};

use crate::directory::{FILLING, Form, TMPFS, open_to_read};
use crate::held::read_layout;
use crate::{Map, Placed};

/// Files of a segment of files as they are, at most: a model in shards has hundreds.
const MOST_FILES: usize = 4_096;

/// A segment whose files are open. Reading them needs no map: a file that somebody cuts short is an error, not a signal, and no
/// page is faulted in.
#[derive(Debug)]
pub struct Opened {
    files: Vec<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    length: u64,
    /// In the order of their places.
    tensors: Vec<Placed>,
}

impl Opened {
    /// Opens the segment of this content at this path. Its name is believed: it was given when the last byte was there.
    ///
    /// # Errors
    /// The file system's; InvalidData when it is no complete segment of this content.
    pub fn open(path: &Path, digest: Digest) -> io::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str());
        let form = match name.and_then(Form::parse) {
            Some((form, named)) if named == digest => form,
            _ => return Err(invalid("its name is not that of the content")),
        };
        let files = match form {
            Form::Tensors => {
                let (file, length) = open_file(CWD, path)?;
                let tensors = read_layout(&file, length)?.tensors().to_vec();
                vec![OpenFile { file, length, tensors }]
            }
            Form::Raw => raw_files(path)?,
        };
        Ok(Self { files })
    }

    /// Opens a segment of tensors that is still being written, by the path that [`Filling::path`] gave. Where its tensors are is
    /// known from the beginning; who reads it reads what it was told is there.
    ///
    /// # Errors
    /// The file system's; NotFound when it is not being written any more; InvalidData when it is no such segment.
    ///
    /// [`Filling::path`]: crate::Filling::path
    pub fn filling(path: &Path) -> io::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(|name| name.starts_with(FILLING)) {
            return Err(invalid("its name is not that of a segment that is being written"));
        }
        let (file, length) = open_ours(CWD, path)?;
        let tensors = read_layout(&file, length)?.tensors().to_vec();
        Ok(Self { files: vec![OpenFile { file, length, tensors }] })
    }

    /// In the order of their places, with the number of the file that each lies in; a file that is kept as it is counts as one,
    /// of bytes.
    pub fn tensors(&self) -> impl Iterator<Item = (usize, &Placed)> {
        let numbered = self.files.iter().enumerate();
        numbered.flat_map(|(number, file)| file.tensors.iter().map(move |placed| (number, placed)))
    }

    /// Reads all that is asked for of one of its files.
    ///
    /// # Errors
    /// The file system's; UnexpectedEof when the file ends before it.
    pub fn read(&self, file: usize, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let file = self.files.get(file).ok_or_else(|| invalid("it has no such file"))?;
        file.file.read_exact_at(into, offset)
    }

    /// All of its files.
    #[must_use]
    pub fn length(&self) -> Bytes {
        Bytes(self.files.iter().map(|file| file.length).sum())
    }

    /// Whether it has lost its name: it is in memory for those alone who have it open.
    #[must_use]
    pub fn is_evicted(&self) -> bool {
        let has_no_name = |one: &OpenFile| one.file.metadata().is_ok_and(|facts| facts.nlink() == 0);
        self.files.iter().any(has_no_name)
    }

    /// Whether both are the very same files, whatever they are named by now.
    ///
    /// # Errors
    /// The file system's.
    pub fn is(&self, other: &Self) -> io::Result<bool> {
        // A file that is open keeps its number to itself.
        let numbers = |of: &Self| -> io::Result<Vec<(u64, u64)>> {
            of.files.iter().map(|one| one.file.metadata().map(|facts| (facts.dev(), facts.ino()))).collect()
        };
        Ok(numbers(self)? == numbers(other)?)
    }
}

/// A segment in this process's memory.
#[derive(Debug)]
pub struct Attached {
    maps: Vec<Map>,
    /// By name: which map, and which of its tensors.
    places: HashMap<Box<str>, (usize, usize)>,
}

impl Attached {
    /// Maps the segment of this content at this path.
    ///
    /// # Errors
    /// As [`Opened::open`].
    pub fn open(path: &Path, digest: Digest) -> io::Result<Self> {
        Self::of(&Opened::open(path, digest)?)
    }

    /// Maps what is open.
    ///
    /// # Errors
    /// The file system's.
    pub fn of(opened: &Opened) -> io::Result<Self> {
        let map = |one: &OpenFile| Map::of(&one.file, one.tensors.clone(), one.length);
        let maps = opened.files.iter().map(map).collect::<io::Result<Vec<_>>>()?;
        let mut places = HashMap::new();
        for (at, map) in maps.iter().enumerate() {
            places
                .extend(map.tensors().iter().enumerate().map(|(place, one)| (one.name.clone(), (at, place))));
        }
        Ok(Self { maps, places })
    }

    /// In the order of their places; a file that is kept as it is counts as one, of bytes.
    pub fn tensors(&self) -> impl Iterator<Item = &Placed> {
        self.maps.iter().flat_map(Map::tensors)
    }

    /// A tensor and its bytes.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<(&Placed, &[u8])> {
        let (map, place) = self.places.get(name)?;
        let map = self.maps.get(*map)?;
        let placed = map.tensors().get(*place)?;
        Some((placed, map.bytes(placed)))
    }

    /// Its files whole, in the order of their numbers.
    pub fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.maps.iter().map(Map::file)
    }

    /// What is mapped.
    #[must_use]
    pub fn length(&self) -> Bytes {
        Bytes(self.maps.iter().map(|map| map.file().len() as u64).sum())
    }
}

fn raw_files(path: &Path) -> io::Result<Vec<OpenFile>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name == "." || name == ".." {
            continue;
        }
        if names.len() == MOST_FILES {
            return Err(invalid("it has too many files"));
        }
        names.push(name);
    }
    names.sort_unstable();
    let open = |name: &String| {
        let (file, length) = open_file(&folder, Path::new(name))?;
        let all = Placed {
            name: name.as_str().into(),
            dtype: Dtype::U8,
            shape: Box::new([length]),
            offset: 0,
            length,
        };
        Ok(OpenFile { file, length, tensors: vec![all] })
    };
    let files = names.iter().map(open).collect::<io::Result<_>>()?;
    // An eviction takes the folder's name away before it takes its files: under its name, it was whole all the while.
    let (held, named) = (rustix::fs::fstat(&folder)?, rustix::fs::lstat(path)?);
    if (held.st_dev, held.st_ino) != (named.st_dev, named.st_ino) {
        return Err(invalid("it is being evicted"));
    }
    Ok(files)
}

/// A file that may be mapped, and its length.
fn open_file(folder: impl AsFd, path: &Path) -> io::Result<(File, u64)> {
    let (file, length) = open_ours(folder, path)?;
    if file.metadata()?.mode() & 0o222 != 0 {
        return Err(invalid("it can be written to"));
    }
    Ok((file, length))
}

/// A file in memory that is our own user's, and its length.
fn open_ours(folder: impl AsFd, path: &Path) -> io::Result<(File, u64)> {
    let file = open_to_read(folder, path)?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(invalid("it is no file"));
    }
    if rustix::fs::fstatfs(&file)?.f_type != TMPFS {
        return Err(invalid("it is not on tmpfs"));
    }
    // Whoever owns it could open it for writing again.
    if facts.uid() != rustix::process::geteuid().as_raw() {
        return Err(invalid("it is another user's"));
    }
    Ok((file, facts.len()))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
