//! Segments that are complete, and those that are withdrawn but may still be open somewhere.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hoist_domain::{Bytes, Digest};
use rustix::fs::AtFlags;

use crate::directory::{Directory, Form};
use crate::kernel::is_open_elsewhere;
use crate::{Layout, Map};

/// A complete segment under its name. Of each of its files this is the coordinator's one descriptor: a second one would
/// look like somebody else's.
#[derive(Debug)]
pub struct Segment {
    directory: Directory,
    digest: Digest,
    form: Form,
    files: Vec<SegmentFile>,
    layout: Option<Arc<Layout>>,
}

/// A file of a segment.
#[derive(Debug)]
pub struct SegmentFile {
    /// Empty for the one file of a segment of tensors.
    name: Box<str>,
    file: File,
    length: u64,
}

impl SegmentFile {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Segment {
    pub(crate) fn new(
        directory: Directory,
        digest: Digest,
        form: Form,
        files: Vec<(Box<str>, File, u64)>,
        layout: Option<Arc<Layout>>,
    ) -> Self {
        let files = files.into_iter().map(|(name, file, length)| SegmentFile { name, file, length });
        Self { directory, digest, form, files: files.collect(), layout }
    }

    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it holds files as they are, not tensors.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        self.form == Form::Raw
    }

    #[must_use]
    pub fn files(&self) -> &[SegmentFile] {
        &self.files
    }

    /// Where it is: the file to give to any program that reads safetensors, or the folder of files as they are.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.path().join(self.form.name(self.digest))
    }

    /// Of all its files.
    #[must_use]
    pub fn length(&self) -> Bytes {
        Bytes(self.files.iter().map(|file| file.length).sum())
    }

    /// Whether its files are still under their names and no others, as long as they were: nobody but somebody with a hand on
    /// the directory changes that.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let name = self.form.name(self.digest);
        self.files.iter().all(|file| {
            let place = if file.name.is_empty() { name.clone() } else { format!("{name}/{}", file.name) };
            let named = rustix::fs::statat(self.directory.descriptor(), place, AtFlags::SYMLINK_NOFOLLOW);
            let (Ok(stat), Ok(named)) = (rustix::fs::fstat(&file.file), named) else { return false };
            let length = i64::try_from(file.length).unwrap_or(i64::MAX);
            stat.st_nlink == 1 && stat.st_size == length && stat.st_ino == named.st_ino
        })
    }

    /// What it takes of the memory.
    ///
    /// # Errors
    /// The file system's.
    pub fn held_bytes(&self) -> io::Result<Bytes> {
        held_bytes(self.files.iter().map(|file| &file.file))
    }

    /// Whether anybody else has it open or mapped, with a lease or without.
    ///
    /// # Errors
    /// The kernel's, where it does not tell.
    pub fn is_open_elsewhere(&self) -> io::Result<bool> {
        any_open(self.files.iter().map(|file| &file.file))
    }

    /// Where its tensors lie; none for files as they are.
    #[must_use]
    pub const fn layout(&self) -> Option<&Arc<Layout>> {
        self.layout.as_ref()
    }

    /// Maps it for reading; none for files as they are. The mapping is a second opener, by a descriptor of its own: one
    /// of this segment's own would not be told from it.
    ///
    /// # Errors
    /// The kernel's; InvalidData when the file is not what was sealed.
    pub fn map(&self) -> io::Result<Option<Map>> {
        match (self.form, self.files.as_slice()) {
            (Form::Tensors, [file]) => {
                let again = self.directory.open_file(&self.form.name(self.digest))?;
                if inode(&again)? != inode(&file.file)? {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "another file has its name"));
                }
                let layout = read_layout(&again, file.length)?;
                Map::of(&again, layout.tensors().to_vec(), layout.length()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Takes its name away, whoever has it by now. Nobody finds it any more; who has it open goes on. That somebody has
    /// removed its files already is no error: they are as open as they were.
    ///
    /// # Errors
    /// The file system's, with the segment as it was.
    pub fn evict(self) -> Result<Evicted, (Self, io::Error)> {
        if let Err(error) = self.directory.clear(self.digest) {
            return Err((self, error));
        }
        Ok(Evicted::new(self.digest, self.files.into_iter().map(|file| file.file).collect()))
    }
}

/// A segment without a name, whose bytes are free once nobody has it open. Dropped, it is not known any more.
#[derive(Debug)]
pub struct Evicted {
    digest: Digest,
    files: Vec<File>,
}

impl Evicted {
    pub(crate) const fn new(digest: Digest, files: Vec<File>) -> Self {
        Self { digest, files }
    }

    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether its bytes are kept by somebody else.
    ///
    /// # Errors
    /// The kernel's, where it does not tell.
    pub fn is_open_elsewhere(&self) -> io::Result<bool> {
        any_open(&self.files)
    }

    /// What it still takes of the memory, as long as somebody has it open.
    ///
    /// # Errors
    /// The file system's.
    pub fn held_bytes(&self) -> io::Result<Bytes> {
        held_bytes(&self.files)
    }
}

fn inode(file: &File) -> io::Result<u64> {
    Ok(rustix::fs::fstat(file)?.st_ino)
}

fn any_open<'a>(files: impl IntoIterator<Item = &'a File>) -> io::Result<bool> {
    for file in files {
        if is_open_elsewhere(file)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Memory that files take, in the kernel's own count.
pub(crate) fn held_bytes<'a>(files: impl IntoIterator<Item = &'a File>) -> io::Result<Bytes> {
    let mut bytes = 0_u64;
    for file in files {
        let blocks = rustix::fs::fstat(file)?.st_blocks;
        bytes = bytes.saturating_add(u64::try_from(blocks).unwrap_or(0).saturating_mul(512));
    }
    Ok(Bytes(bytes))
}

pub(crate) fn read_layout(file: &File, length: u64) -> io::Result<Layout> {
    use std::os::unix::fs::FileExt as _;
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is not the file that was sealed");
    if length < 8 {
        return Err(damaged());
    }
    let mut prefix = [0; 8];
    file.read_exact_at(&mut prefix, 0)?;
    let whole = u64::from_le_bytes(prefix).checked_add(8).filter(|whole| *whole <= length);
    let whole = whole.and_then(|whole| usize::try_from(whole).ok()).ok_or_else(damaged)?;
    let mut header = vec![0; whole];
    file.read_exact_at(&mut header, 0)?;
    Layout::read(&header).filter(|layout| layout.length() == length).ok_or_else(damaged)
}
