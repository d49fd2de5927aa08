//! The thread between the walker and the readers: what is as it was known goes no further.
//!
//! Nearly everything is, in every look but the first. So that a look at it costs little more than listing and asking for
//! identities, this goes on beside the walk, and files that are models of their own are compared as the walk lists them:
//! the known models are in the order of their paths, as the files of a folder are in that of their names, and the next
//! file is the next model. Only what differs becomes a unit and is looked up.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::time::Duration;

use hoist_domain::{FileIdentity, Model, ModelContent, ModelId, ModelPath, ModelState, ScanReport};

use super::{Event, Scan, Unchanged, Work};
use crate::group::Entry;
use crate::probe::READER;
use crate::roots::{Target, is_still_at};
use crate::walk::{Found, Unit, UnitFile, unit_of_file};

/// From the walker: what it came across, and at last how it went.
pub(super) enum Walking {
    Found(Found),
    Done { report: Box<ScanReport>, unlisted: Vec<PathBuf> },
}

/// Units and folders that the walker is ahead of the comparison.
pub(super) const AHEAD: usize = 4;

/// Unchanged units that the collector is woken for. With each of them, waking it would be a good part of a rescan; with
/// too many, a slow storage would look like one that does not answer.
const TOLD_TOGETHER: usize = 64;

/// Compares what the walker comes across until it is done, or nobody wants to know any more.
pub(super) fn compare_all(
    scan: &Scan,
    walked: &Receiver<Walking>,
    work: SyncSender<Work>,
    events: &Sender<Event>,
) {
    let mut comparing = Comparing { scan, work, events, unchanged: Vec::new(), claimed: HashSet::new() };
    for one in walked {
        match one {
            Walking::Found(Found::Unit(unit)) => comparing.unit(unit),
            Walking::Found(Found::Files(directory, files)) => comparing.files(&directory, &files),
            Walking::Done { report, unlisted } => {
                comparing.tell();
                let _ = events.send(Event::Walked { report, unlisted });
                return;
            }
        }
    }
}

struct Comparing<'a> {
    scan: &'a Scan,
    work: SyncSender<Work>,
    events: &'a Sender<Event>,
    /// Not told of yet.
    unchanged: Vec<Unchanged>,
    /// Models that were found at another place: each is in one only.
    claimed: HashSet<ModelId>,
}

impl Comparing<'_> {
    fn unit(&mut self, unit: Unit) {
        self.scan.progress.found.fetch_add(1, Ordering::Relaxed);
        match compare(self.scan, &unit, &mut self.claimed) {
            Compared::Unchanged(unchanged) => self.keep(unchanged),
            // Nobody takes it only when the scan is over.
            Compared::Changed(moved_from) => drop(self.work.send(Work { unit, moved_from })),
            Compared::Torn => {
                let _ = self.events.send(Event::Unsettled { path: unit.path, moved_from: None });
            }
        }
    }

    fn files(&mut self, directory: &Path, files: &[Entry]) {
        let scan = self.scan;
        for (entry, known) in files.iter().zip(InStep::new(scan, directory, files)) {
            match known.filter(|model| is_as_known(scan, model, entry)) {
                Some(model) => {
                    scan.progress.found.fetch_add(1, Ordering::Relaxed);
                    self.keep(Unchanged::of(model));
                }
                None => self.unit(unit_of_file(directory, entry)),
            }
        }
    }

    fn keep(&mut self, unchanged: Unchanged) {
        self.unchanged.push(unchanged);
        if self.unchanged.len() >= TOLD_TOGETHER {
            self.tell();
        }
    }

    fn tell(&mut self) {
        let _ = self.events.send(Event::Unchanged(std::mem::take(&mut self.unchanged)));
    }
}

/// The known model at the place of each file of a folder. Looked up where the one that follows the last is another.
struct InStep<'a> {
    scan: &'a Scan,
    directory: &'a Path,
    files: std::slice::Iter<'a, Entry>,
    following: Box<dyn Iterator<Item = &'a Arc<Model>> + 'a>,
}

impl<'a> InStep<'a> {
    fn new(scan: &'a Scan, directory: &'a Path, files: &'a [Entry]) -> Self {
        Self { scan, directory, files: files.iter(), following: Box::new(std::iter::empty()) }
    }
}

impl<'a> Iterator for InStep<'a> {
    type Item = Option<&'a Arc<Model>>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.files.next()?;
        let is_it = |model: &&Arc<Model>| is_at(model, self.directory, entry);
        let next = self.following.next().filter(is_it);
        if next.is_some() {
            return Some(next);
        }
        self.following = self.scan.known.from(&ModelPath::new(&self.directory.join(&entry.name)));
        Some(self.following.next().filter(is_it))
    }
}

/// Whether it is at the place of this entry, without putting the entry's path together.
fn is_at(model: &Model, directory: &Path, entry: &Entry) -> bool {
    let path = model.path.as_path().as_os_str().as_bytes();
    let above = path.strip_suffix(entry.name.as_bytes()).and_then(|above| above.strip_suffix(b"/"));
    above == Some(directory.as_os_str().as_bytes())
}

/// What [`compare`] says of the unit that this file is: one file, which is all of the model, and nothing beside it.
fn is_as_known(scan: &Scan, model: &Model, entry: &Entry) -> bool {
    let content = &model.content;
    let is_file = |path: &ModelPath| path.as_path().as_os_str().is_empty();
    !scan.reread
        && model.state == ModelState::Available
        && content.reader == READER
        && content.bytes.0 == entry.identity.size
        && matches!(&*content.files, [one] if one.identity == entry.identity && is_file(&one.path))
}

#[derive(Debug, PartialEq)]
enum Compared {
    Unchanged(Unchanged),
    Changed(Option<(ModelId, ModelPath)>),
    /// Files change places while the walk is at it: what it has put together was never so.
    Torn,
}

/// A file that was renamed less long ago may be on its way through several places.
const IN_FLUX: Duration = Duration::from_secs(10);

fn compare(scan: &Scan, unit: &Unit, claimed: &mut HashSet<ModelId>) -> Compared {
    let path = ModelPath::new(&unit.path);
    let moved = |claimed: &mut HashSet<ModelId>| {
        let found = moved_from(scan, unit, claimed);
        if found.is_none() && is_torn(scan, unit, claimed) {
            return Compared::Torn;
        }
        claimed.extend(found.iter().map(|(id, _)| *id));
        Compared::Changed(found)
    };
    let Some(known) = scan.known.at(&path) else { return moved(claimed) };
    let is_readable = known.state == ModelState::Available && known.content.reader == READER;
    let is_same = is_readable && same_files(scan, &known.content, unit);
    if is_same && !scan.reread {
        return Compared::Unchanged(Unchanged::of(known));
    }
    // Another file is at its place: perhaps one that was somewhere else before. It takes its notes along.
    let key = |identity: FileIdentity| (identity.device, identity.inode);
    let its = known.content.main_file().map(|file| key(file.identity));
    let is_other = main_file(unit).is_some_and(|file| its != Some(key(file.identity)));
    match is_other {
        true => moved(claimed),
        // It was come across somewhere else before.
        false if claimed.contains(&known.id) => Compared::Torn,
        false => Compared::Changed(None),
    }
}

fn main_file(unit: &Unit) -> Option<&UnitFile> {
    unit.files.iter().find(|file| file.is_weights)
}

/// Whether a known model's files are as they were: those that the walk lists, and those that only a header names.
fn same_files(scan: &Scan, content: &ModelContent, unit: &Unit) -> bool {
    let Some((listed, named)) = content.files.split_at_checked(unit.files.len()) else { return false };
    let found = |path: &Path| match scan.roots.resolve(&unit.path_of(path)) {
        Ok(Target::File(identity)) => identity,
        _ => FileIdentity::default(),
    };
    let is_as_listed = listed
        .iter()
        .zip(&unit.files)
        .all(|(known, file)| known.identity == file.identity && known.path.as_path() == file.path);
    is_as_listed
        && content.bytes.0 == unit.bytes_with(content.files.iter().map(|file| file.identity))
        && named.iter().all(|known| found(known.path.as_path()) == known.identity)
}

/// The known model whose bytes these are, if its file is not at its place any more, or is there as another path's model:
/// a folder's file on its own, or the other way round. A rename changes ctime and nothing else. Of several names that one
/// file had, hard links or links, it is the one of the same name, and rather one that is gone than a link to nothing.
fn moved_from(scan: &Scan, unit: &Unit, claimed: &HashSet<ModelId>) -> Option<(ModelId, ModelPath)> {
    let file = main_file(unit)?;
    let (main, here) = (file.identity, unit.path_of(&file.path));
    // The file itself, or the folder it lies in: not a pipeline, whose components are models of their own until it comes.
    let is_near = |path: &Path| path == here || Some(path) == here.parent();
    let same = |known: &&Arc<Model>| {
        let bytes = |identity: FileIdentity| FileIdentity { changed_ns: 0, ..identity };
        known.content.main_file().is_some_and(|file| {
            let below = file.path.as_path();
            let own = known.path.as_path();
            let place = if below.as_os_str().is_empty() { own.to_owned() } else { own.join(below) };
            let is_same = place == here && is_near(own) && is_near(&unit.path);
            let is_elsewhere =
                || own != unit.path && (is_same || !is_still_at(&place, main.device, main.inode));
            let is_displaced = known.state == ModelState::Displaced;
            bytes(file.identity) == bytes(main) && (is_displaced || is_elsewhere())
        })
    };
    let all = scan.known.of_file(main.device, main.inode).into_iter();
    let name = unit.path.file_name();
    let likely = |known: &&Arc<Model>| {
        let path = known.path.as_path();
        let is_link = path.symlink_metadata().is_ok_and(|now| now.is_symlink());
        (is_link, path.file_name() != name, known.id)
    };
    let known = all.filter(|known| !claimed.contains(&known.id)).filter(same).min_by_key(likely);
    known.map(|known| (known.id, known.path.clone()))
}

/// Whether the unit's file is also where it was known, or was found at another place just now, though it has one name: a look
/// that goes on while files are exchanged sees one of them at several places, and concluding from that would give its notes
/// to the others. Not so for links, and not for a file that has been at both places for long: the folder is there twice.
fn is_torn(scan: &Scan, unit: &Unit, claimed: &HashSet<ModelId>) -> bool {
    let Some(file) = main_file(unit) else { return false };
    let (main, here) = (file.identity, unit.path_of(&file.path));
    let is_link = |path: &Path| path.symlink_metadata().is_ok_and(|now| now.is_symlink());
    let is_there = |known: &&Arc<Model>| {
        let place = known.content.main_file().map(|file| known.path_of(file));
        let place = place.filter(|place| *place != here && !is_link(place));
        let is_there = |place: PathBuf| is_still_at(&place, main.device, main.inode);
        let is_elsewhere = claimed.contains(&known.id) && known.path.as_path() != unit.path;
        is_elsewhere || known.state == ModelState::Available && place.is_some_and(is_there)
    };
    let has_names = |now: std::fs::Metadata| {
        now.is_symlink() || (now.nlink() > 1 && (now.dev(), now.ino()) == (main.device, main.inode))
    };
    let is_recent = || {
        let age = (scan.now_ns)().saturating_sub(main.changed_ns);
        u64::try_from(age).is_ok_and(|age| Duration::from_nanos(age) < IN_FLUX)
    };
    scan.known.of_file(main.device, main.inode).iter().any(is_there)
        && !here.symlink_metadata().is_ok_and(has_names)
        && is_recent()
}

#[cfg(test)]
mod tests;
