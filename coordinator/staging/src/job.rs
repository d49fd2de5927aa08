//! One job: what is read for one operation, and what came of it. Each of its targets is complete by itself, and told of then.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hoist_catalog::gather;
use hoist_segment::Filling;

use crate::buffer::Buffer;
use crate::plan::{Piece, Plan, Unit};
use crate::rising::{Lacking, Rising};
use crate::source::{ReadError, Source};
use crate::tree;

/// Told of bytes as they reach their segments.
type Count = dyn Fn(u64) + Send + Sync;

/// Sources, targets, and how to get from the ones to the others.
pub struct Job {
    pub(crate) plan: Plan,
    sources: Vec<Source>,
    /// Each until it is complete.
    targets: Vec<Mutex<Option<Arc<Filling>>>>,
    rising: Vec<Option<Rising>>,
    count: Box<Count>,
    stop: AtomicBool,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("sources", &self.sources)
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}

/// A target that has every byte, out of files that are what they were.
#[derive(Debug)]
pub struct Filled {
    /// Its place among the targets.
    pub place: usize,
    /// To be sealed.
    pub target: Filling,
    /// BLAKE3 of each of its items, in the order of the plan.
    pub hashes: Vec<[u8; 32]>,
}

/// What is heard of a job.
#[derive(Debug)]
pub enum News {
    /// As soon as it is so; each target once.
    Filled(Filled),
    /// The last word: all targets were filled, or why not. What was not is gone.
    Ended(Outcome),
}

/// Why a job did not fill all its targets.
#[derive(Debug)]
pub enum Failure {
    Stopped,
    /// The file is not, or not any more, the one that was described.
    Changed(PathBuf),
    /// It ends before its header says.
    Truncated(PathBuf),
    /// It cannot be read.
    Source(PathBuf, io::Error),
    /// A read of one of these did not come back; it was left behind.
    Unresponsive(Vec<PathBuf>),
    /// The segments' tmpfs did not take it: StorageFull when it has no room.
    Target(io::Error),
    /// A thread of the pool panicked.
    Defect,
}

pub type Outcome = Result<(), Failure>;

/// The hash of one piece: item, where in it, hash.
pub(crate) type Hashed = (usize, u64, [u8; 32]);

impl Job {
    /// The plan's items name sources and targets by their place in these.
    #[must_use]
    pub fn new(
        plan: Plan,
        sources: Vec<Source>,
        targets: Vec<Filling>,
        count: impl Fn(u64) + Send + Sync + 'static,
    ) -> Self {
        let rising = targets.iter().map(|target| target.path().map(Rising::new)).collect();
        let targets = targets.into_iter().map(|target| Mutex::new(Some(Arc::new(target)))).collect();
        Self { plan, sources, targets, rising, count: Box::new(count), stop: AtomicBool::new(false) }
    }

    /// What each target waits for, before anything is read.
    pub(crate) fn lacking(&self) -> Vec<Lacking> {
        Lacking::of(&self.plan, self.targets.len())
    }

    /// Of each target, how much of it is there already; none of one that is several files.
    #[must_use]
    pub fn rising(&self) -> &[Option<Rising>] {
        &self.rising
    }

    fn target(&self, number: usize) -> Option<Arc<Filling>> {
        self.targets.get(number)?.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// No further unit is begun.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.sources.iter().map(|source| source.path().to_owned()).collect()
    }

    /// One step of the plan.
    pub(crate) fn carry_out(&self, step: usize, buffer: &mut Buffer) -> Result<Vec<Hashed>, Failure> {
        match self.plan.units.get(step) {
            Some(unit) => self.unit(unit, buffer),
            None => self.plan.views.iter().map(|item| self.view(*item)).collect(),
        }
    }

    /// Gathers a view, piece by piece in the order of its elements.
    fn view(&self, number: usize) -> Result<Hashed, Failure> {
        let missing = || Failure::Target(io::ErrorKind::InvalidInput.into());
        let item = self.plan.items.get(number).ok_or_else(missing)?;
        let view = item.view.as_ref().ok_or_else(missing)?;
        let source = self.sources.get(item.source).ok_or_else(missing)?;
        let target = self.target(item.target).ok_or_else(missing)?;
        let mut hasher = blake3::Hasher::new();
        let mut done = 0_u64;
        let mut fill =
            |offset: u64, into: &mut [u8]| source.read_into(offset, into).map_err(|e| e.of(source));
        let mut take = |piece: &[u8]| {
            if self.is_stopped() {
                return Err(Failure::Stopped);
            }
            hasher.update(piece);
            target.write_at(item.file, item.at.saturating_add(done), piece).map_err(Failure::Target)?;
            done += piece.len() as u64;
            (self.count)(piece.len() as u64);
            Ok(())
        };
        gather(view, &mut fill, &mut take)?;
        if done == item.length { Ok((number, 0, *hasher.finalize().as_bytes())) } else { Err(missing()) }
    }

    /// Reads a unit and puts its pieces where they belong.
    fn unit(&self, unit: &Unit, buffer: &mut Buffer) -> Result<Vec<Hashed>, Failure> {
        let missing = || Failure::Target(io::ErrorKind::InvalidInput.into());
        let source = self.sources.get(unit.source).ok_or_else(missing)?;
        let bytes = source.read(unit.start, unit.end, buffer).map_err(|error| error.of(source))?;
        // A read that came back after everybody had given up must not write to what is not there any more.
        if self.is_stopped() {
            return Err(Failure::Stopped);
        }
        let mut hashed = Vec::with_capacity(unit.pieces.len());
        let mut write: Option<Run> = None;
        for piece in &unit.pieces {
            let item = self.plan.items.get(piece.item).ok_or_else(missing)?;
            let run = Run::of(item, piece, unit).ok_or_else(missing)?;
            let data = run.bytes(bytes).ok_or_else(missing)?;
            hashed.push((piece.item, piece.at, tree::of_piece(data, piece.at, item.length)));
            write = match write.take() {
                None => Some(run),
                Some(before) => match before.and(&run) {
                    Some(both) => Some(both),
                    None => {
                        self.write(&before, bytes)?;
                        Some(run)
                    }
                },
            };
        }
        if let Some(run) = write {
            self.write(&run, bytes)?;
        }
        Ok(hashed)
    }

    fn write(&self, run: &Run, bytes: &[u8]) -> Result<(), Failure> {
        let data = run.bytes(bytes).unwrap_or_default();
        let target = self.target(run.target);
        let target = target.ok_or_else(|| Failure::Target(io::ErrorKind::InvalidInput.into()))?;
        target.write_at(run.file, run.to, data).map_err(Failure::Target)?;
        (self.count)(data.len() as u64);
        Ok(())
    }

    /// After the last step for a target: what the pieces' hashes come to, if its sources are what they were.
    pub(crate) fn conclude(&self, place: usize, mut hashed: Vec<Hashed>) -> Result<Filled, Failure> {
        let own =
            |(number, item): (usize, &crate::Item)| (item.target == place).then_some((number, item.source));
        let items: Vec<(usize, usize)> = self.plan.items.iter().enumerate().filter_map(own).collect();
        let sources: BTreeSet<usize> = items.iter().map(|(_, source)| *source).collect();
        for source in sources.into_iter().filter_map(|source| self.sources.get(source)) {
            match source.is_as_it_was() {
                Ok(true) => {}
                Ok(false) => return Err(Failure::Changed(source.path().to_owned())),
                Err(error) => return Err(Failure::Source(source.path().to_owned(), error)),
            }
        }
        hashed.sort_unstable();
        let mut hashed = hashed.into_iter().peekable();
        let mut hashes = Vec::with_capacity(items.len());
        let mut pieces = Vec::new();
        for (item, _) in items {
            pieces.clear();
            while let Some((.., hash)) = hashed.next_if(|(of, ..)| *of == item) {
                pieces.push(hash);
            }
            hashes.push(tree::of_whole(&pieces));
        }
        let taken = self
            .targets
            .get(place)
            .and_then(|target| target.lock().unwrap_or_else(PoisonError::into_inner).take());
        // Threads let go of a target before they report.
        let target = taken.and_then(Arc::into_inner).ok_or(Failure::Defect)?;
        Ok(Filled { place, target, hashes })
    }

    /// Which target an item goes to.
    pub(crate) fn target_of(&self, item: usize) -> usize {
        self.plan.items.get(item).map_or(0, |item| item.target)
    }
}

impl ReadError {
    fn of(self, source: &Source) -> Failure {
        match self {
            Self::Truncated => Failure::Truncated(source.path().to_owned()),
            Self::Io(error) => Failure::Source(source.path().to_owned(), error),
        }
    }
}

/// Bytes that lie together on both sides.
struct Run {
    /// In the unit.
    from: usize,
    length: usize,
    target: usize,
    file: usize,
    to: u64,
}

impl Run {
    fn of(item: &crate::Item, piece: &Piece, unit: &Unit) -> Option<Self> {
        let start = item.offset.checked_add(piece.at)?.checked_sub(unit.start)?;
        Some(Self {
            from: usize::try_from(start).ok()?,
            length: usize::try_from(piece.length).ok()?,
            target: item.target,
            file: item.file,
            to: item.at.checked_add(piece.at)?,
        })
    }

    fn bytes<'b>(&self, unit: &'b [u8]) -> Option<&'b [u8]> {
        unit.get(self.from..self.from.checked_add(self.length)?)
    }

    /// Both in one, if the second follows the first on both sides.
    fn and(&self, next: &Self) -> Option<Self> {
        let follows = (self.target, self.file) == (next.target, next.file)
            && self.from + self.length == next.from
            && self.to + self.length as u64 == next.to;
        follows.then_some(Self { length: self.length + next.length, ..*self })
    }
}
