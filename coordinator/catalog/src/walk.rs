//! Walks the roots and finds the units: the files that are one model together.
//!
//! One thread; it lists directories and stats what may belong to a model, opens nothing for reading, and is bounded in
//! depth, entries a directory, and memory. What cannot be read is a problem of that path and of nothing else.

mod hub;

use std::collections::HashSet;
use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hoist_domain::{FileIdentity, Finding, FindingKind, ModelPath, ScanReport, Verdict};
use rustix::fs::{Dir, FileType};
use rustix::io::Errno;

use crate::group::{self, Entry, Groups};
use crate::names::{self, Named};
use crate::roots::{Links, Roots, Target, stat_entry};

/// Directories below each other. Real trees have a dozen; the kernel stops at 4,096 bytes of path.
pub(crate) const MAX_DEPTH: usize = 256;

/// Entries of one directory that may belong to models. More are passed over, and the scan says so.
const MAX_ENTRIES: usize = 200_000;

/// Files that belong to one model. The largest have some hundred shards.
pub(crate) const MAX_UNIT_FILES: usize = 4_096;

/// How the files of a unit belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitKind {
    /// One file, or the shards of one set among other files: at the path of the first.
    File,
    /// The files of one folder that its configuration or their names tie together.
    Folder,
    /// A folder with a `model_index.json` and a sub-folder for each component.
    Pipeline,
    /// A repository in the hub's cache; the files are those of this snapshot.
    Hub { snapshot: String },
    /// A link that leads out of the roots: listed, never opened.
    Rejected,
}

/// The files that are one model together, as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Absolute.
    pub path: PathBuf,
    pub kind: UnitKind,
    /// In the order of their paths.
    pub files: Vec<UnitFile>,
    /// What the walk itself found wrong.
    pub findings: Vec<Finding>,
    /// Bytes of the folder's other files: tokenizers, cards, previews.
    pub other_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitFile {
    /// Below the unit's path; empty for the file that is at this path itself, and then the others are beside it.
    pub path: PathBuf,
    pub identity: FileIdentity,
    pub is_weights: bool,
}

impl Unit {
    /// Where a file of it is.
    #[must_use]
    pub fn path_of(&self, file: &Path) -> PathBuf {
        if file.as_os_str().is_empty() {
            self.path.clone()
        } else if self.is_folder() {
            self.path.join(file)
        } else {
            self.path.with_file_name("").join(file)
        }
    }

    /// Its size with these files, the unit's own first. In a folder all others have been counted.
    pub(crate) fn bytes_with(&self, files: impl Iterator<Item = FileIdentity>) -> u64 {
        let counted = if self.is_folder() { self.files.len() } else { usize::MAX };
        files.take(counted).fold(self.other_bytes, |sum, identity| sum.saturating_add(identity.size))
    }

    /// Whether the files lie below `path`, or `path` is the file.
    #[must_use]
    pub const fn is_folder(&self) -> bool {
        !matches!(self.kind, UnitKind::File | UnitKind::Rejected)
    }
}

pub(crate) struct Walk<'a> {
    pub(crate) roots: &'a Roots,
    pub(crate) stop: &'a AtomicBool,
    listed: &'a AtomicU64,
    pub(crate) report: ScanReport,
    /// Directories that could not be listed: nothing is known of what is below them.
    pub(crate) unlisted: Vec<PathBuf>,
    visited: HashSet<(u64, u64)>,
    /// Links that lead out of the roots.
    outside: u64,
}

/// All that matters below a folder.
#[derive(Default)]
struct Collected {
    files: Vec<UnitFile>,
    findings: Vec<Finding>,
    other_bytes: u64,
    /// Something could not be listed: what is missing is not known.
    is_partial: bool,
}

impl Collected {
    fn keep(&mut self, below: &Path, entries: Vec<Entry>) {
        for entry in entries {
            let path = below.join(&entry.name);
            if entry.is_rejected {
                self.findings.push(
                    Finding::new(FindingKind::Path, Verdict::Rejected, "a link leads out of the root")
                        .in_file(&path.to_string_lossy()),
                );
            } else if self.files.len() < MAX_UNIT_FILES {
                self.files.push(UnitFile { path, identity: entry.identity, is_weights: entry.is_weights });
            }
        }
    }
}

/// What a walk comes across.
pub(crate) enum Found {
    Unit(Unit),
    /// Files of this folder that are each a model of their own, in the order of their names. Most models are: they become
    /// units only where something has changed.
    Files(PathBuf, Vec<Entry>),
}

/// The listing of one directory: what may matter.
#[derive(Default)]
struct Listing {
    files: Vec<Entry>,
    directories: Vec<OsString>,
    /// Names of regular files that hold no model: they count for the size of a folder that is one.
    others: Vec<OsString>,
}

/// The unit that is at this place now, if there is one: a file, or the folder that several belong to.
///
/// # Errors
/// The file system's.
pub fn unit_at(roots: &Roots, path: &Path) -> io::Result<Option<Unit>> {
    let never = AtomicBool::new(false);
    let nobody = AtomicU64::new(0);
    let mut walk = Walk::new(roots, &never, &nobody);
    let is_folder = matches!(roots.resolve(path), Ok(Target::Directory));
    let folder = if is_folder { path } else { path.parent().unwrap_or(path) };
    let mut found = None;
    walk.directory(folder, &mut |one| match one {
        Found::Unit(unit) if unit.path == path => found = Some(unit),
        Found::Unit(_) => {}
        Found::Files(directory, files) => {
            let units = files.iter().map(|entry| unit_of_file(&directory, entry));
            found = found.take().or(units.into_iter().find(|unit| unit.path == path));
        }
    })?;
    Ok(found)
}

impl<'a> Walk<'a> {
    pub(crate) fn new(roots: &'a Roots, stop: &'a AtomicBool, listed: &'a AtomicU64) -> Self {
        Self {
            roots,
            stop,
            listed,
            report: ScanReport::default(),
            unlisted: Vec::new(),
            visited: HashSet::new(),
            outside: 0,
        }
    }

    /// Walks a root, or a folder below one, so many folders deep.
    pub(crate) fn tree(&mut self, top: PathBuf, max_depth: usize, found: &mut dyn FnMut(Found)) {
        let mut waiting = vec![(top, 0_usize)];
        while let Some((path, depth)) = waiting.pop() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            match self.directory(&path, found) {
                // Nothing is concluded of what somebody did not want to be looked at.
                Ok(below) if depth + 1 >= max_depth => {
                    self.unlisted.extend(below.into_iter().map(|name| path.join(name)));
                }
                Ok(below) if depth < MAX_DEPTH => {
                    waiting.extend(below.into_iter().rev().map(|name| (path.join(name), depth + 1)));
                }
                Ok(below) if below.is_empty() => {}
                Ok(_) => self.unreadable(&path, &format!("deeper than {MAX_DEPTH} folders: not looked at")),
                Err(error) => {
                    self.problem(&path, &error.to_string());
                    self.unlisted.push(path);
                }
            }
        }
    }

    /// Nothing is known of what is there: what was known of it stays.
    fn unreadable(&mut self, path: &Path, message: &str) {
        self.problem(path, message);
        self.unlisted.push(path.to_owned());
    }

    fn problem(&mut self, path: &Path, message: &str) {
        self.report.problem(ModelPath::new(path), message.to_owned());
    }

    /// Finds the units of one directory; the sub-folders that are still to be looked at.
    fn directory(&mut self, path: &Path, found: &mut dyn FnMut(Found)) -> io::Result<Vec<OsString>> {
        let mut listing = self.list(path)?;
        self.report.directories += 1;
        let name = path.file_name().unwrap_or_default().as_bytes();
        let has = |wanted: &str| listing.directories.iter().any(|name| name == wanted);
        if name.starts_with(b"models--") && (has("snapshots") || has("blobs") || has("refs")) {
            if let Some(unit) = self.hub(path) {
                found(Found::Unit(unit));
            }
            return Ok(Vec::new());
        }
        if (name.starts_with(b"datasets--") || name.starts_with(b"spaces--")) && has("snapshots") {
            self.report.skip("not a model");
            return Ok(Vec::new());
        }
        if listing.files.iter().any(|entry| entry.name == "model_index.json") {
            if let Some(unit) = self.pipeline(path) {
                found(Found::Unit(unit));
            }
            return Ok(Vec::new());
        }
        let Groups { folder, sets, files } = group::of(std::mem::take(&mut listing.files));
        if let Some(entries) = folder {
            found(Found::Unit(unit_of_folder(path, &entries, self.sizes(path, &listing.others))));
        }
        for shards in sets {
            found(Found::Unit(unit_of_set(path, &shards)));
        }
        if !files.is_empty() {
            found(Found::Files(path.to_owned(), files));
        }
        Ok(listing.directories)
    }

    fn list(&mut self, path: &Path) -> io::Result<Listing> {
        let descriptor = self.roots.open_directory(path)?;
        if self.roots.links() == Links::Anywhere {
            let stat = rustix::fs::fstat(&descriptor)?;
            if !self.visited.insert((stat.st_dev as u64, stat.st_ino as u64)) {
                self.report.skip("seen already");
                return Ok(Listing::default());
            }
        }
        let mut listing = Listing::default();
        let mut full = false;
        for entry in Dir::read_from(&descriptor)? {
            let entry = entry?;
            self.listed.fetch_add(1, Ordering::Relaxed);
            let bytes = entry.file_name().to_bytes();
            if bytes == b"." || bytes == b".." {
                continue;
            }
            let name = OsStr::from_bytes(bytes);
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    stat_entry(&descriptor, entry.file_name()).map_or(FileType::Unknown, |(kind, _)| kind)
                }
                known => known,
            };
            if kind == FileType::Directory {
                if bytes.starts_with(b".") {
                    self.report.skip("hidden");
                } else if listing.directories.len() < MAX_ENTRIES {
                    listing.directories.push(name.to_owned());
                } else {
                    full = true;
                }
                continue;
            }
            self.report.files += 1;
            if listing.files.len() >= MAX_ENTRIES {
                full = true;
                continue;
            }
            self.entry(path, &descriptor, entry.file_name(), kind, &mut listing);
        }
        if full {
            // Which of them are seen is chance: nothing is concluded of any.
            self.unreadable(path, &format!("more than {MAX_ENTRIES} entries: the rest is not looked at"));
        }
        listing.directories.sort();
        listing.files.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(listing)
    }

    /// Takes an entry that is not a directory into the listing, if it may matter.
    fn entry(
        &mut self,
        directory: &Path,
        descriptor: &std::os::fd::OwnedFd,
        name: &CStr,
        kind: FileType,
        listing: &mut Listing,
    ) {
        let named = names::judge(name.to_bytes());
        let (entry, name) = (name, OsStr::from_bytes(name.to_bytes()));
        let path = || directory.join(name);
        let identity = match kind {
            FileType::RegularFile => {
                if let Named::Skipped(why) = named {
                    self.report.skip(why);
                    if listing.others.len() < MAX_UNIT_FILES {
                        listing.others.push(name.to_owned());
                    }
                    return;
                }
                stat_entry(descriptor, entry).map(|(_, identity)| identity)
            }
            FileType::Symlink => match self.link(directory, name, named, listing) {
                Some(identity) => Ok(identity),
                None => return,
            },
            _ => {
                self.report.skip("not a file");
                return;
            }
        };
        match identity {
            Ok(identity) => listing.files.push(Entry {
                name: name.to_owned(),
                identity,
                is_weights: named == Named::Weights,
                is_rejected: false,
            }),
            Err(error) => self.unreadable(&path(), &error.to_string()),
        }
    }

    /// Where a link leads: the file's identity, if it is one that may be read.
    fn link(
        &mut self,
        directory: &Path,
        name: &OsStr,
        named: Named,
        listing: &mut Listing,
    ) -> Option<FileIdentity> {
        let path = directory.join(name);
        let target = self.roots.resolve(&path);
        match (target, named) {
            (Ok(Target::File(identity)), Named::Weights | Named::Config | Named::Data) => {
                return Some(identity);
            }
            (Ok(Target::File(_)), Named::Skipped(why)) => {
                self.report.skip(why);
                if listing.others.len() < MAX_UNIT_FILES {
                    listing.others.push(name.to_owned());
                }
            }
            // Below a root it is looked at in its own place.
            (Ok(Target::Directory), _) if self.roots.links() == Links::Roots => {
                self.report.skip("link to a folder")
            }
            (Ok(Target::Directory), _) => listing.directories.push(name.to_owned()),
            (Ok(Target::Special), _) => self.report.skip("not a file"),
            (Err(error), named) => self.bad_link(&path, name, &error, named, listing),
        }
        None
    }

    fn bad_link(
        &mut self,
        path: &Path,
        name: &OsStr,
        error: &io::Error,
        named: Named,
        listing: &mut Listing,
    ) {
        let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
        if is(Errno::NOENT) || is(Errno::NOTDIR) {
            self.report.skip("link to nothing");
        } else if is(Errno::LOOP) && !path.canonicalize().is_ok_and(|real| real.exists()) {
            self.report.skip("link in a circle");
        } else if is(Errno::XDEV) || is(Errno::LOOP) {
            self.report.skip("link out of the roots");
            self.outside += 1;
            let is_folder = path.is_dir();
            // A folder that is not looked at is as missing to people as a file.
            if named == Named::Weights || is_folder {
                listing.files.push(Entry {
                    name: name.to_owned(),
                    identity: FileIdentity::default(),
                    is_weights: true,
                    is_rejected: true,
                });
            } else if matches!(named, Named::Config | Named::Data) {
                self.problem(path, "leads out of the roots: not followed (catalog.links allows it)");
            }
        } else {
            self.unreadable(path, &error.to_string());
        }
    }

    /// All that matters below a folder, with paths below it.
    fn collect(&mut self, top: &Path, depth: usize) -> Collected {
        let mut collected = Collected::default();
        let mut waiting = vec![(PathBuf::new(), 0_usize)];
        while let Some((below, level)) = waiting.pop() {
            match self.list(&top.join(&below)) {
                Ok(listing) => {
                    self.report.directories += 1;
                    let others = self.sizes(&top.join(&below), &listing.others);
                    collected.other_bytes = collected.other_bytes.saturating_add(others);
                    collected.keep(&below, listing.files);
                    if level < depth {
                        waiting.extend(
                            listing.directories.into_iter().map(|name| (below.join(name), level + 1)),
                        );
                    }
                }
                Err(error) => {
                    collected.is_partial = true;
                    self.unreadable(&top.join(&below), &error.to_string());
                }
            }
        }
        collected.files.sort_by(|one, other| one.path.cmp(&other.path));
        collected
    }

    /// Bytes of files together; one that cannot be asked counts nothing.
    fn sizes(&self, directory: &Path, names: &[OsString]) -> u64 {
        let Ok(descriptor) = self.roots.open_directory(directory) else { return 0 };
        let size = |name: &OsString| match stat_entry(&descriptor, name).ok()? {
            (FileType::RegularFile, identity) => Some(identity.size),
            // A hub's snapshot is made of links.
            _ => match self.roots.resolve(&directory.join(name)).ok()? {
                Target::File(identity) => Some(identity.size),
                _ => None,
            },
        };
        names.iter().filter_map(size).fold(0, u64::saturating_add)
    }

    fn pipeline(&mut self, path: &Path) -> Option<Unit> {
        let Collected { mut files, findings, other_bytes, is_partial } = self.collect(path, 2);
        if is_partial {
            self.unlisted.push(path.to_owned());
            return None;
        }
        // Beside the components' folders people put single-file versions of the same: another model, not a part.
        files.retain(|file| {
            !file.is_weights || file.path.parent().is_some_and(|place| !place.as_os_str().is_empty())
        });
        Some(Unit { path: path.to_owned(), kind: UnitKind::Pipeline, files, findings, other_bytes })
    }
}

/// The unit of a set of shards among other files, at the path of the first.
fn unit_of_set(directory: &Path, entries: &[Entry]) -> Unit {
    let files = entries.iter().take(MAX_UNIT_FILES).enumerate().map(|(number, entry)| UnitFile {
        path: if number == 0 { PathBuf::new() } else { PathBuf::from(&entry.name) },
        identity: entry.identity,
        is_weights: entry.is_weights,
    });
    Unit {
        path: entries.first().map_or_else(|| directory.to_owned(), |first| directory.join(&first.name)),
        kind: UnitKind::File,
        files: files.collect(),
        findings: Vec::new(),
        other_bytes: 0,
    }
}

fn unit_of_folder(directory: &Path, entries: &[Entry], other_bytes: u64) -> Unit {
    let file = |entry: &Entry| UnitFile {
        path: PathBuf::from(&entry.name),
        identity: entry.identity,
        is_weights: entry.is_weights,
    };
    Unit {
        path: directory.to_owned(),
        kind: UnitKind::Folder,
        files: entries.iter().take(MAX_UNIT_FILES).map(file).collect(),
        findings: Vec::new(),
        other_bytes,
    }
}

/// The unit that a file is by itself.
pub(crate) fn unit_of_file(directory: &Path, entry: &Entry) -> Unit {
    let rejected = || {
        let message = "a link that leads out of the roots: it was not opened";
        Finding::new(FindingKind::Fs, Verdict::Rejected, message)
    };
    Unit {
        path: directory.join(&entry.name),
        kind: if entry.is_rejected { UnitKind::Rejected } else { UnitKind::File },
        files: vec![UnitFile {
            path: PathBuf::new(),
            identity: entry.identity,
            is_weights: entry.is_weights,
        }],
        findings: entry.is_rejected.then(rejected).into_iter().collect(),
        other_bytes: 0,
    }
}

/// A flag that stops a walk, shared with whoever may set it.
pub(crate) type Stop = Arc<AtomicBool>;
