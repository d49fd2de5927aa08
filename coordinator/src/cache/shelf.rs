//! The files of segments: one descriptor for each, here and nowhere else in this process.
//!
//! A second one would look like somebody else's, and nothing could ever be said to be unused.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hoist_domain::{Bytes, Digest};
use hoist_segment::{Directory, Evicted, Filling, Layout, Leftover, SealError, Sealed, Segment};
use hoist_staging::Target;

/// The shelf. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct Shelf(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    directory: Directory,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    complete: HashMap<Digest, Kept>,
    /// Without names, and open somewhere.
    zombies: Vec<Zombie>,
    /// Withdrawn, with names that could not be taken away; with what was told of their size.
    stuck: Vec<(Digest, Bytes)>,
}

#[derive(Debug)]
struct Kept {
    segment: Segment,
    layout: OnceLock<Arc<Layout>>,
}

/// Bytes without a name that somebody has open.
#[derive(Debug)]
pub(super) struct Zombie {
    evicted: Evicted,
    /// As it is told.
    pub(super) bytes: Bytes,
}

/// Digest, bytes, whether files as they are.
type Found = (Digest, Bytes, bool);

/// A segment as it was sealed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
    /// It was not there before.
    pub(super) is_new: bool,
}

impl Shelf {
    pub(super) fn new(directory: Directory) -> Self {
        Self(Arc::new(Inside { directory, files: Mutex::default() }))
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.directory.path()
    }

    /// What the tmpfs still takes.
    pub(super) fn free(&self) -> io::Result<Option<Bytes>> {
        self.0.directory.free()
    }

    pub(super) fn adopt(&self) -> io::Result<(Vec<Found>, Vec<Leftover>)> {
        let adopted = self.0.directory.adopt()?;
        let mut files = self.files();
        let mut found = Vec::with_capacity(adopted.segments.len());
        for segment in adopted.segments {
            found.push((segment.digest(), segment.held_bytes()?, segment.is_raw()));
            files.complete.insert(segment.digest(), Kept { segment, layout: OnceLock::new() });
        }
        Ok((found, adopted.leftovers))
    }

    /// Begins a segment.
    pub(super) fn begin(&self, target: &Target) -> io::Result<Filling> {
        match target {
            Target::Tensors(layout) => self.0.directory.create(layout),
            Target::Files(files) => self.0.directory.create_raw(files),
        }
    }

    /// Gives it its name, and keeps it; or lets it go, if there is one like it.
    pub(super) fn seal(
        &self,
        filling: Filling,
        digest: Digest,
        target: &Target,
    ) -> Result<Placed, SealError> {
        if !self.files().complete.contains_key(&digest) {
            // The owner has given it the name: whatever has it is nobody's.
            self.0.directory.clear(digest)?;
        }
        let sealed = filling.seal(digest)?;
        let mut files = self.files();
        match sealed {
            Sealed::New(segment) => {
                let bytes = segment.held_bytes()?;
                let layout = OnceLock::new();
                if let Target::Tensors(known) = target {
                    let _ = layout.set(Arc::new(known.clone()));
                }
                files.complete.insert(digest, Kept { segment, layout });
                Ok(Placed { digest, bytes, is_new: true })
            }
            Sealed::Duplicate(_) => {
                let gone = || SealError::Io(io::ErrorKind::AlreadyExists.into());
                let bytes = files.complete.get(&digest).ok_or_else(gone)?.segment.held_bytes()?;
                Ok(Placed { digest, bytes, is_new: false })
            }
        }
    }

    /// Takes a segment's name away. What of it is still open somewhere, which is to be kept in mind once that was told.
    pub(super) fn take_away(&self, digest: Digest) -> io::Result<Option<Zombie>> {
        let Some(kept) = self.files().complete.remove(&digest) else { return Ok(None) };
        let evicted = match kept.segment.evict() {
            Ok(evicted) => evicted,
            Err((segment, error)) => {
                self.files().complete.insert(digest, Kept { segment, layout: kept.layout });
                return Err(error);
            }
        };
        // Where the kernel does not tell, nothing may be said to be free.
        if evicted.is_open_elsewhere().unwrap_or(true) {
            let bytes = evicted.held_bytes()?;
            return Ok(Some(Zombie { evicted, bytes }));
        }
        Ok(None)
    }

    /// Looks at it from now on.
    pub(super) fn keep_in_mind(&self, zombie: Zombie) {
        self.files().zombies.push(zombie);
    }

    /// What a segment takes that cannot be taken away now; it is tried again.
    pub(super) fn stuck(&self, digest: Digest) -> Bytes {
        let mut files = self.files();
        let bytes =
            files.complete.get(&digest).and_then(|kept| kept.segment.held_bytes().ok()).unwrap_or_default();
        files.stuck.push((digest, bytes));
        bytes
    }

    /// Lets go of what nobody has open any more.
    pub(super) fn bury(&self) -> Vec<(Digest, Bytes)> {
        let mut gone = Vec::new();
        let stuck = std::mem::take(&mut self.files().stuck);
        for (digest, bytes) in stuck {
            match self.take_away(digest) {
                Ok(Some(zombie)) => self.keep_in_mind(Zombie { bytes, ..zombie }),
                Ok(None) => gone.push((digest, bytes)),
                Err(_) => self.files().stuck.push((digest, bytes)),
            }
        }
        self.files().zombies.retain(|zombie| {
            let is_open = zombie.evicted.is_open_elsewhere().unwrap_or(true);
            if !is_open {
                gone.push((zombie.evicted.digest(), zombie.bytes));
            }
            is_open
        });
        gone
    }

    /// Segments whose files somebody has removed, replaced or cut: nobody can rely on them.
    pub(super) fn unsound(&self) -> BTreeSet<Digest> {
        let files = self.files();
        let unsound = files.complete.iter().filter(|(_, kept)| !kept.segment.is_sound());
        unsound.map(|(digest, _)| *digest).collect()
    }

    /// Everything that has its name.
    pub(super) fn digests(&self) -> Vec<Digest> {
        self.files().complete.keys().copied().collect()
    }

    pub(super) fn has_zombies(&self) -> bool {
        let files = self.files();
        !files.zombies.is_empty() || !files.stuck.is_empty()
    }

    /// Segments that anybody has open.
    pub(super) fn open(&self) -> BTreeSet<Digest> {
        let files = self.files();
        let open = files.complete.iter().filter(|(_, kept)| kept.segment.is_open_elsewhere().unwrap_or(true));
        open.map(|(digest, _)| *digest).collect()
    }

    /// What all of it takes of the memory, in the kernel's own count.
    pub(super) fn held(&self) -> Bytes {
        let files = self.files();
        let complete = files.complete.values().filter_map(|kept| kept.segment.held_bytes().ok());
        let zombies = files.zombies.iter().filter_map(|zombie| zombie.evicted.held_bytes().ok());
        Bytes(complete.chain(zombies).map(|bytes| bytes.0).fold(0, u64::saturating_add))
    }

    /// The file or the folder of a segment.
    #[must_use]
    pub fn path_of(&self, digest: Digest) -> Option<PathBuf> {
        self.files().complete.get(&digest).map(|kept| kept.segment.path())
    }

    /// Where a segment's tensors are; none for files as they are, or none that is there.
    ///
    /// # Errors
    /// The file system's; InvalidData when the file is not what was sealed.
    pub fn layout(&self, digest: Digest) -> io::Result<Option<Arc<Layout>>> {
        let files = self.files();
        let Some(kept) = files.complete.get(&digest) else { return Ok(None) };
        if let Some(layout) = kept.layout.get() {
            return Ok(Some(Arc::clone(layout)));
        }
        let Some(layout) = kept.segment.layout()? else { return Ok(None) };
        Ok(Some(Arc::clone(kept.layout.get_or_init(|| Arc::new(layout)))))
    }

    /// The files of a segment that holds them as they are, by name.
    #[must_use]
    pub fn file_names(&self, digest: Digest) -> Vec<String> {
        let files = self.files();
        let Some(kept) = files.complete.get(&digest).filter(|kept| kept.segment.is_raw()) else {
            return Vec::new();
        };
        kept.segment.files().iter().map(|file| file.name().to_owned()).collect()
    }
}
