//! What an earlier coordinator left: complete segments are taken over, everything half-done is swept.

use std::io;
use std::sync::Arc;

use rustix::fs::{Dir, FileType, Mode, OFlags};

use crate::Layout;
use crate::directory::{Directory, EVICTING, FILLING, Form};
use crate::filling::remove_entry;
use crate::held::{Segment, held_bytes, read_layout};

/// Name, file, length.
type Files = Vec<(Box<str>, std::fs::File, u64)>;

/// What was found in a directory of segments.
#[derive(Debug, Default)]
pub struct Adopted {
    pub segments: Vec<Segment>,
    pub leftovers: Vec<Leftover>,
}

/// Something that is no complete segment.
#[derive(Debug)]
pub struct Leftover {
    pub name: String,
    pub what: String,
    /// It is gone; what is not ours stays.
    pub removed: bool,
}

impl Directory {
    /// Takes over what is complete. Its bytes are not read: the name was given after the last of them was written.
    ///
    /// # Errors
    /// The file system's: the directory cannot be listed.
    pub fn adopt(&self) -> io::Result<Adopted> {
        let mut adopted = Adopted::default();
        let mut names = Vec::new();
        for entry in Dir::read_from(self.descriptor())? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        for name in names {
            let Ok(name) = String::from_utf8(name) else {
                adopted.leave("?".to_owned(), "its name is not one that Hoist gives");
                continue;
            };
            if name.starts_with(FILLING) || name.starts_with(EVICTING) {
                self.sweep(&name, "it was not complete", &mut adopted);
            } else if let Some((form, digest)) = Form::parse(&name) {
                match self.check(&name, form) {
                    Ok((files, layout)) => {
                        adopted.segments.push(Segment::new(self.clone(), digest, form, files, layout));
                    }
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        self.sweep(&name, &error.to_string(), &mut adopted);
                    }
                    Err(error) => adopted.leave(name, &error.to_string()),
                }
            } else {
                adopted.leave(name, "its name is not one that Hoist gives");
            }
        }
        Ok(adopted)
    }

    fn sweep(&self, name: &str, what: &str, adopted: &mut Adopted) {
        let is_folder = rustix::fs::statat(self.descriptor(), name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        let form = if is_folder { Form::Raw } else { Form::Tensors };
        let removed = remove_entry(self, name, form);
        let what = match &removed {
            Ok(()) => what.to_owned(),
            Err(error) => format!("{what}, and it cannot be removed: {error}"),
        };
        adopted.leftovers.push(Leftover { name: name.to_owned(), what, removed: removed.is_ok() });
    }

    fn check(&self, name: &str, form: Form) -> io::Result<(Files, Option<Arc<Layout>>)> {
        if form == Form::Tensors {
            let (file, length) = self.whole(name)?;
            let layout = Arc::new(read_layout(&file, length)?);
            return Ok((vec![("".into(), file, length)], Some(layout)));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(self.descriptor(), name, flags, Mode::empty())?;
        let mut files = Files::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let bytes = entry.file_name().to_bytes();
            if bytes == b"." || bytes == b".." {
                continue;
            }
            let inner = std::str::from_utf8(bytes).map_err(|_| damaged("a name that Hoist does not give"))?;
            let (file, length) = self.whole(&format!("{name}/{inner}"))?;
            files.push((inner.into(), file, length));
        }
        files.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        if files.is_empty() { Err(damaged("an empty folder")) } else { Ok((files, None)) }
    }

    /// A file that nobody writes to any more, all of which is in memory.
    fn whole(&self, below: &str) -> io::Result<(std::fs::File, u64)> {
        let file = self.open_file(below)?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(damaged("not a file"));
        }
        if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WUSR | Mode::WGRP | Mode::WOTH) {
            return Err(damaged("it can still be written to"));
        }
        if stat.st_nlink != 1 {
            return Err(damaged("it has another name"));
        }
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        if held_bytes([&file])?.0 < length {
            return Err(damaged("parts of it were never written"));
        }
        Ok((file, length))
    }
}

impl Adopted {
    fn leave(&mut self, name: String, what: &str) {
        self.leftovers.push(Leftover { name, what: what.to_owned(), removed: false });
    }
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
