//! The files of segments: one descriptor for each, here and nowhere else in this process.
//!
//! A second one would look like somebody else's, and nothing could ever be said to be unused.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoist_domain::{Bytes, Digest};
use hoist_segment::{Directory, Evicted, Filling, Layout, Leftover, Room, SealError, Sealed, Segment};
use hoist_staging::Target;

/// The shelf. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct Shelf(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    directory: Directory,
    files: Mutex<Files>,
}

/// Names are given and taken under the lock of this: what it says of a name is true of the directory.
#[derive(Debug, Default)]
struct Files {
    complete: HashMap<Digest, Kept>,
    /// Without names, and open somewhere.
    zombies: Vec<Zombie>,
    /// Withdrawn, with names that could not be taken away.
    stuck: Vec<Stuck>,
    /// Without names, and free in a moment.
    leaving: u64,
    /// Segments so far.
    count: u64,
}

/// One segment, and which that is: another may have its digest later.
#[derive(Debug)]
struct Kept {
    segment: Segment,
    number: u64,
}

/// A digest, and which of the segments that had it.
pub(super) type Entry = (Digest, u64);

#[derive(Debug)]
struct Stuck {
    entry: Entry,
    /// As it was told.
    bytes: Bytes,
}

impl Files {
    /// Takes a name away, of this one or of whichever has it. What that leaves counts as leaving.
    fn take(&mut self, digest: Digest, number: Option<u64>) -> io::Result<Option<Zombie>> {
        let is_it = |kept: &Kept| number.is_none_or(|number| number == kept.number);
        if !self.complete.get(&digest).is_some_and(is_it) {
            return Ok(None);
        }
        let Some(Kept { segment, number }) = self.complete.remove(&digest) else { return Ok(None) };
        match segment.evict() {
            Ok(evicted) => {
                let bytes = evicted.held_bytes().unwrap_or_default();
                self.leaving += bytes.0;
                Ok(Some(Zombie { evicted, bytes }))
            }
            Err((segment, error)) => {
                self.complete.insert(digest, Kept { segment, number });
                Err(error)
            }
        }
    }

    fn keep(&mut self, segment: Segment) {
        self.count += 1;
        self.complete.insert(segment.digest(), Kept { segment, number: self.count });
    }
}

/// Bytes without a name that somebody has open.
#[derive(Debug)]
#[must_use]
pub(super) struct Zombie {
    evicted: Evicted,
    /// As it is told.
    pub(super) bytes: Bytes,
}

/// Digest, bytes, whether files as they are.
type Found = (Digest, Bytes, bool);

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

    /// What the tmpfs still takes, if it has an end.
    pub(super) fn room(&self) -> io::Result<Option<Room>> {
        self.0.directory.room()
    }

    pub(super) fn adopt(&self) -> io::Result<(Vec<Found>, Vec<Leftover>)> {
        let adopted = self.0.directory.adopt()?;
        let mut files = self.files();
        let mut found = Vec::with_capacity(adopted.segments.len());
        for segment in adopted.segments {
            found.push((segment.digest(), segment.held_bytes()?, segment.is_raw()));
            files.keep(segment);
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

    /// Gives it its name, and keeps it; what it takes of the memory. The owner has decided that the name is its: whatever has
    /// it was left there.
    pub(super) fn seal(&self, filling: Filling, digest: Digest) -> Result<Bytes, SealError> {
        let mut files = self.files();
        if let Some(left) = files.take(digest, None)? {
            files.stuck.retain(|stuck| stuck.entry.0 != digest);
            files.leaving -= left.bytes.0;
            files.zombies.push(left);
        }
        self.0.directory.clear(digest)?;
        match filling.seal(digest)? {
            Sealed::New(segment) => {
                let bytes = segment.held_bytes()?;
                files.keep(segment);
                Ok(bytes)
            }
            // Put there since, by somebody with a hand on the directory.
            Sealed::Duplicate(_) => Err(SealError::Io(io::ErrorKind::AlreadyExists.into())),
        }
    }

    /// Takes a segment's name away. What of it is still open somewhere, which is to be kept in mind once that was told.
    pub(super) fn take_away(&self, digest: Digest) -> io::Result<Option<Zombie>> {
        let taken = self.files().take(digest, None)?;
        Ok(taken.and_then(|taken| self.settle(taken)))
    }

    /// The same, if it is still this one that has the digest.
    pub(super) fn take_away_one(&self, (digest, number): Entry) -> io::Result<Option<Zombie>> {
        let taken = self.files().take(digest, Some(number))?;
        Ok(taken.and_then(|taken| self.settle(taken)))
    }

    /// Lets go of bytes that nobody has open; gives back what somebody has. Freeing some gigabytes takes a while.
    fn settle(&self, taken: Zombie) -> Option<Zombie> {
        // Where the kernel does not tell, nothing may be said to be free.
        if taken.evicted.is_open_elsewhere().unwrap_or(true) {
            return Some(taken);
        }
        let Zombie { evicted, bytes } = taken;
        drop(evicted);
        self.files().leaving -= bytes.0;
        None
    }

    /// Looks at it from now on.
    pub(super) fn keep_in_mind(&self, zombie: Zombie) {
        let mut files = self.files();
        files.leaving -= zombie.bytes.0;
        files.zombies.push(zombie);
    }

    /// What a segment takes that cannot be taken away now; it is tried again.
    pub(super) fn stuck(&self, digest: Digest) -> Bytes {
        let mut files = self.files();
        let Some(kept) = files.complete.get(&digest) else { return Bytes(0) };
        let bytes = kept.segment.held_bytes().unwrap_or_default();
        let entry = (digest, kept.number);
        files.stuck.push(Stuck { entry, bytes });
        bytes
    }

    /// Lets go of what nobody has open any more.
    pub(super) fn bury(&self) -> Vec<(Digest, Bytes)> {
        let mut gone = Vec::new();
        let stuck = std::mem::take(&mut self.files().stuck);
        for stuck in stuck {
            match self.take_away_one(stuck.entry) {
                Ok(Some(zombie)) => self.keep_in_mind(zombie),
                Ok(None) => gone.push((stuck.entry.0, stuck.bytes)),
                Err(_) => self.files().stuck.push(stuck),
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
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.files().complete.iter().map(|(digest, kept)| (*digest, kept.number)).collect()
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

    /// What all of it takes of the memory, in the kernel's own count; of what is on its way in or out never less than that.
    pub(super) fn held(&self) -> Bytes {
        let files = self.files();
        let complete = files.complete.values().filter_map(|kept| kept.segment.held_bytes().ok());
        let zombies = files.zombies.iter().filter_map(|zombie| zombie.evicted.held_bytes().ok());
        let ways = [Bytes(files.leaving), self.0.directory.filling()];
        Bytes(complete.chain(zombies).chain(ways).map(|bytes| bytes.0).fold(0, u64::saturating_add))
    }

    /// The file or the folder of a segment.
    #[must_use]
    pub fn path_of(&self, digest: Digest) -> Option<PathBuf> {
        self.files().complete.get(&digest).map(|kept| kept.segment.path())
    }

    /// Where a segment's tensors are; none for files as they are, or none that is there.
    #[must_use]
    pub fn layout(&self, digest: Digest) -> Option<Arc<Layout>> {
        self.files().complete.get(&digest).and_then(|kept| kept.segment.layout().cloned())
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
