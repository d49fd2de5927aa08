//! A model's files: read again for what the catalog does not keep, or removed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hoist_catalog::{Details, Roots, Unit};
use hoist_domain::{Error, FileIdentity, Model, ModelFormat, ModelPath, ModelState, Reason, Result};
use hoist_planner::Models;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::look::below_a_root;
use super::{Catalog, known};

/// Turns to read below one root at a time. A header of some thousand tensors takes one.
const READS: u32 = 16;

/// Tensors whose table and message take some mebibytes. The largest header that is read has a million and takes all turns:
/// sixteen of those at a time would take gigabytes.
const TENSORS_A_TURN: u64 = 62_500;

/// How long what is in RAM may wait for the disk to say that it is another by now.
const STATS_WITHIN: Duration = Duration::from_millis(500);

/// How long a request may wait for the disk.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

impl Catalog {
    /// Reads a model's headers again, for what the catalog does not keep.
    ///
    /// # Errors
    /// SOURCE_UNRESPONSIVE when the disk does not answer in time, SOURCE_CHANGED when its files are not there.
    pub async fn details(&self, model: &Arc<Model>) -> Result<Details> {
        let name = model.name().to_owned();
        let never = CancellationToken::new();
        let reading = self.read_details(model, &never);
        let Ok(details) = tokio::time::timeout(ANSWERS_WITHIN, reading).await else {
            let seconds = ANSWERS_WITHIN.as_secs();
            return Err(Error::new(
                Reason::SourceUnresponsive,
                format!("the storage of {name} has not answered for {seconds} s; check it and try again"),
            ));
        };
        details
    }

    /// A turn to read below the root of a model. A root that does not answer keeps its own and nobody else's.
    async fn turn(&self, roots: &Roots, model: &Model) -> Result<OwnedSemaphorePermit> {
        let root = roots.of(model.path.as_path()).map(|(root, _)| root.path().to_owned()).unwrap_or_default();
        let turns = turns_below(&self.0.reads, root);
        let busy = || {
            let message =
                format!("{READS} reads below the root of {} wait for its storage already", model.name());
            Error::new(Reason::SourceUnresponsive, message)
        };
        let turn = tokio::time::timeout(ANSWERS_WITHIN, turns.acquire_many_owned(turns_of(model))).await;
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }

    /// The same, for as long as it takes.
    pub(super) async fn read_details(&self, model: &Arc<Model>, stop: &CancellationToken) -> Result<Details> {
        has_its_place(model)?;
        let roots = self.open_roots().await;
        let turn = self.turn(&roots, model).await?;
        let is_reachable = roots.of(model.path.as_path()).is_some();
        let wanted = Arc::clone(model);
        let read = self.apart("model details", stop, move |_| {
            let details = hoist_catalog::details(&roots, &known::unit_of(&roots, &wanted));
            // Kept by a read that hangs, for as long as it does.
            drop(turn);
            details
        });
        let read = read.await?;
        read.map_err(|error| {
            let name = model.name();
            if !is_reachable {
                return unreachable(model);
            }
            if is_other(&error) {
                let message = format!("the files of {name} are not where they were; scan again");
                return Error::new(Reason::SourceChanged, message);
            }
            Error::new(Reason::SourceUnreadable, format!("the files of {name} cannot be read: {error}"))
        })
    }

    /// Whether a model's files are what the catalog knows, as far as the storage tells at once: what is not there, or does not
    /// answer, is no reason to do without what is in RAM.
    pub async fn is_as_recorded(&self, model: &Arc<Model>) -> bool {
        let model = Arc::clone(model);
        let root = self.0.settings.roots.iter().find(|root| model.path.as_path().starts_with(root));
        let turns = turns_below(&self.0.stats, root.cloned().unwrap_or_default());
        // None is left: its storage does not answer as it is.
        let Ok(turn) = turns.try_acquire_owned() else { return true };
        let look = move || {
            let is_same = model.content.files.iter().filter(|file| file.is_weights).all(|file| {
                let found = std::fs::metadata(model.path_of(file));
                found.map_or(true, |found| FileIdentity::of(&found) == file.identity)
            });
            // Kept by a look that hangs, for as long as it does.
            drop(turn);
            is_same
        };
        let looking = self.0.tasks.run_blocking("stat model", look);
        matches!(tokio::time::timeout(STATS_WITHIN, looking).await, Ok(Ok(true)) | Err(_))
    }

    /// Everything that is needed to read a model's bytes: its roots, its files, its headers.
    ///
    /// # Errors
    /// As [`Self::details`], without a bound in time.
    pub async fn to_stage(
        &self,
        model: &Arc<Model>,
        stop: &CancellationToken,
    ) -> Result<(Arc<Roots>, Unit, Details)> {
        let details = self.read_details(model, stop).await?;
        let (roots, wanted) = (self.open_roots().await, Arc::clone(model));
        let within = Arc::clone(&roots);
        let unit = self.apart("unit", stop, move |_| known::unit_of(&within, &wanted)).await?;
        Ok((roots, unit, details))
    }

    /// Removes a model's files from the disk: nothing but what the catalog says is its own, and only below roots. Of a
    /// hub's repository the blobs go with the links.
    ///
    /// # Errors
    /// PATH_OUTSIDE_ROOTS, SOURCE_CHANGED when a file cannot be removed.
    pub async fn remove_files(&self, model: &Arc<Model>) -> Result<u32> {
        has_its_place(model)?;
        let roots = self.open_roots().await;
        let model = Arc::clone(model);
        let view = self.0.control.view();
        self.apart("remove files", &CancellationToken::new(), move |_| {
            remove(&roots, &model, &shared(view.state.models(), &model))
        })
        .await?
    }
}

/// Files beside a model that another model has, too: two graphs may have their data in one file, and a graph may name
/// whatever it likes. A model's own file is its own, whoever names it.
fn shared(models: &Models, model: &Model) -> HashSet<PathBuf> {
    let beside = model.content.files.iter().filter(|file| !file.path.as_path().as_os_str().is_empty());
    let mut named: HashSet<PathBuf> = beside.map(|file| model.path_of(file)).collect();
    let folder = model.path.as_path().parent().filter(|_| model.content.is_file() && !named.is_empty());
    let Some(folder) = folder.map(ModelPath::new) else { return HashSet::new() };
    let others = models.below(&folder).filter(|other| other.id != model.id);
    let theirs: HashSet<PathBuf> =
        others.flat_map(|other| other.content.files.iter().map(|file| other.path_of(file))).collect();
    named.retain(|path| theirs.contains(path));
    named
}

/// How many turns a model's headers take, as it was last seen.
fn turns_of(model: &Model) -> u32 {
    let share = model.content.tensors / TENSORS_A_TURN;
    u32::try_from(share).unwrap_or(READS).saturating_add(1).min(READS)
}

fn remove(roots: &Roots, model: &Model, shared: &HashSet<PathBuf>) -> Result<u32> {
    below_a_root(roots, &model.path)?;
    let own = model.path.as_path();
    // Other snapshots may share the blobs: those stay then.
    let snapshots = std::fs::read_dir(own.join("snapshots")).map_or(0, Iterator::count);
    let mut paths = Vec::new();
    for file in &model.content.files {
        let path = model.path_of(file);
        if shared.contains(&path) {
            continue;
        }
        let blob = (model.content.format == ModelFormat::HfCache && snapshots == 1)
            .then(|| blob(own, &path))
            .flatten();
        paths.extend(std::iter::once(path).chain(blob).map(|path| (path, file.identity)));
    }
    let is_gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    // All of them or none, as far as that can be known before.
    for (path, identity) in &paths {
        if let Err(error) = roots.is_removable(path, *identity)
            && !is_gone(&error)
        {
            return Err(kept(path, &error, 0));
        }
    }
    let mut removed = 0;
    for (path, identity) in &paths {
        // The folder is opened beneath its root and the entry removed in it: no name leads anywhere else.
        match roots.remove_file(path, *identity) {
            Ok(()) => removed += 1,
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(kept(path, &error, removed)),
        }
    }
    // What is left of a folder that was the model; what else lies in it stays, and with it the folder.
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    for file in model.content.files.iter().filter(|_| !model.content.is_file()) {
        folders.extend(file.path.as_path().ancestors().skip(1).map(|below| model.path.as_path().join(below)));
    }
    for folder in folders.iter().rev() {
        let _ = roots.remove_empty_folder(folder);
    }
    Ok(removed)
}

/// What is at the place is nothing, or nothing that was ever read there.
pub(super) fn is_other(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput | ErrorKind::NotADirectory)
        // A link that goes in a circle, or out of the roots.
        || [rustix::io::Errno::LOOP, rustix::io::Errno::XDEV]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The turns below one root. One that does not answer keeps its own and nobody else's.
fn turns_below(turns: &Mutex<HashMap<PathBuf, Arc<Semaphore>>>, root: PathBuf) -> Arc<Semaphore> {
    let mut turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
    let all = usize::try_from(READS).unwrap_or(usize::MAX);
    Arc::clone(turns.entry(root).or_insert_with(|| Arc::new(Semaphore::new(all))))
}

/// What is at a displaced model's path is another model's: it says nothing of this one.
pub(super) fn has_its_place(model: &Model) -> Result<()> {
    if model.state != ModelState::Displaced {
        return Ok(());
    }
    let name = model.name();
    let message = format!(
        "another model's file is where {name} was, and its own was not found; it is kept for its notes, `hoist rm` \
         takes it out"
    );
    Err(Error::new(Reason::SourceChanged, message).with("model", hoist_domain::ResourceName::Model(model.id)))
}

/// Its root is not there now, or it is not below one any more.
pub(super) fn unreachable(model: &Model) -> Error {
    let path = hoist_domain::excerpt(&model.path.text());
    Error::new(
        Reason::SourceUnreadable,
        format!(
            "{} lies at `{path}`, which is below no root that can be read now; see `hoist roots`",
            model.name()
        ),
    )
    .with("model", hoist_domain::ResourceName::Model(model.id))
}

/// Why a file stays.
fn kept(path: &Path, error: &std::io::Error, removed: u32) -> Error {
    let name = hoist_domain::excerpt(&path.to_string_lossy());
    let why = if error.raw_os_error() == Some(rustix::io::Errno::STALE.raw_os_error()) {
        "it was written to or replaced since the catalog read it".to_owned()
    } else {
        error.to_string()
    };
    let before = match removed {
        0 => "nothing was removed".to_owned(),
        1 => "1 file was removed".to_owned(),
        many => format!("{many} files were removed"),
    };
    Error::new(
        Reason::SourceChanged,
        format!(
            "{before}, because `{name}` is not to be removed: {why}; scan, look at it, and delete it then"
        ),
    )
}

/// Where a hub's link leads, within the repository.
fn blob(repository: &Path, link: &Path) -> Option<PathBuf> {
    let target = std::fs::read_link(link).ok()?;
    let is_blob = target.parent()?.file_name()? == "blobs";
    is_blob.then(|| repository.join("blobs").join(target.file_name().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::test_models;
    use hoist_domain::ModelContent;

    #[test]
    fn the_largest_header_is_read_alone() {
        let turns = |tensors: u64| {
            let made = test_models::model("/m/a.safetensors", "vae", "sdxl", 1, &[]);
            let content = ModelContent { tensors, ..ModelContent::clone(&made.content) };
            turns_of(&Model { content: Arc::new(content), ..Model::clone(&made) })
        };
        assert_eq!([0, 2_000, TENSORS_A_TURN].map(turns), [1, 1, 2]);
        assert_eq!(
            [1_000_000, u64::MAX].map(turns),
            [READS, READS],
            "all turns, and never more than there are"
        );
    }
}
