//! Where something changed, as the kernel tells it: the folders to look at, so that one new file among a hundred
//! thousand costs a look at its folder.
//!
//! A folder that was hinted at may lie within a model of several folders; what is looked at then is the whole of that
//! model. Whenever it is not certain what to look at, everything is.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoist_catalog::{Links, Roots};
use hoist_domain::ModelPath;
use hoist_planner::Models;
use tokio::sync::Notify;

/// Folders that are remembered one by one. From here on a look at everything costs about as much.
const MOST: usize = 64;

/// Names that the hub's cache begins its repositories with.
const REPOSITORIES: [&str; 3] = ["models--", "datasets--", "spaces--"];

/// Hints that nobody has acted on yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Hints(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    came: Notify,
    /// The kernel has lost count: folders may be there that nobody watches.
    lost: AtomicBool,
    where_to: Mutex<Where>,
}

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Where {
    Everything,
    Folders(BTreeSet<PathBuf>),
}

impl Default for Where {
    fn default() -> Self {
        Self::Folders(BTreeSet::new())
    }
}

impl Hints {
    fn lock(&self) -> MutexGuard<'_, Where> {
        self.0.where_to.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was changed, made or removed at these paths; at none: nobody knows where.
    pub(super) fn add(&self, paths: &[PathBuf]) {
        let mut known = self.lock();
        if let Where::Folders(folders) = &mut *known {
            folders.extend(paths.iter().filter_map(|path| path.parent()).map(Path::to_owned));
            let is_certain = !paths.is_empty() && paths.iter().all(|path| path.parent().is_some());
            if !is_certain || folders.len() > MOST {
                *known = Where::Everything;
            }
        }
        drop(known);
        self.0.came.notify_one();
    }

    /// Nobody knows what has changed, nor whether everything is watched.
    pub(super) fn lose(&self) {
        self.0.lost.store(true, Ordering::Relaxed);
        self.add(&[]);
    }

    /// Whether the watches have to be set anew.
    pub(super) fn take_lost(&self) -> bool {
        self.0.lost.swap(false, Ordering::Relaxed)
    }

    /// Returns when there is one that was not there at the last call.
    pub(super) async fn come(&self) {
        self.0.came.notified().await;
    }

    /// All that came since the last call.
    pub(super) fn take(&self) -> Where {
        std::mem::take(&mut *self.lock())
    }
}

impl Where {
    /// The folders below the roots that have to be looked at, as they really are; none: everything. Asks the disk.
    pub(super) fn resolved(self, roots: &Roots, links: Links, models: &Models) -> Option<Vec<ModelPath>> {
        let Self::Folders(folders) = self else { return None };
        // Where links may lead anywhere, a place has many names.
        if links != Links::Roots {
            return None;
        }
        let mut tops = BTreeSet::new();
        for folder in folders {
            // What is gone is missed from where it was.
            let real = folder.ancestors().find_map(|path| path.canonicalize().ok())?;
            let Some((root, below)) = roots.of(&real) else {
                // A link's target: not looked at by that name. What lies above a root concerns all of it.
                if roots.iter().any(|root| root.path().starts_with(&real)) {
                    return None;
                }
                continue;
            };
            if let Some(top) = top_of(root.path(), below, models) {
                tops.insert(ModelPath::new(&top));
            }
        }
        Some(tops.into_iter().collect())
    }
}

/// The outermost folder that is one model together with this one; none if a look would pass it over.
pub(super) fn top_of(root: &Path, below: &Path, models: &Models) -> Option<PathBuf> {
    let mut path = root.to_owned();
    let is_one = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        REPOSITORIES.iter().any(|start| name.starts_with(start))
            || models.at(&ModelPath::new(path)).is_some()
            || path.join("model_index.json").exists()
    };
    let mut top = is_one(root).then(|| root.to_owned());
    for part in below.components() {
        let Component::Normal(name) = part else { continue };
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            return None;
        }
        path.push(part);
        if top.is_none() && is_one(&path) {
            top = Some(path.clone());
        }
    }
    Some(top.unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_catalog::Root;

    fn looked_at(top: &Path, changed: &[&str]) -> Option<Vec<String>> {
        let roots = Roots::new(vec![Root::open(&top.join("m")).unwrap()], Links::Roots);
        let hints = Hints::default();
        hints.add(&changed.iter().map(|path| top.join(path)).collect::<Vec<_>>());
        let found = hints.take().resolved(&roots, Links::Roots, &Models::default())?;
        let real = top.canonicalize().unwrap();
        let shown = |path: &ModelPath| path.as_path().strip_prefix(&real).unwrap().display().to_string();
        Some(found.iter().map(shown).collect())
    }

    #[test]
    fn the_folder_of_a_change_is_looked_at_and_what_it_is_part_of() {
        let place = tempfile::tempdir().unwrap();
        let top = place.path();
        for folder in ["m/loras/new", "m/.trash", "m/pipe/unet", "m/models--a--b/snapshots/1", "away"] {
            std::fs::create_dir_all(top.join(folder)).unwrap();
        }
        std::fs::write(top.join("m/pipe/model_index.json"), "{}").unwrap();
        std::os::unix::fs::symlink(top.join("away"), top.join("m/link")).unwrap();
        let some = |paths: &[&str]| Some(paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
        for (changed, expected) in [
            (&["m/loras/a.safetensors"][..], some(&["m/loras"])),
            (&["m/loras/new"], some(&["m/loras"])),
            (&["m/loras/gone/x.safetensors"], some(&["m/loras"])),
            (&["m/a.safetensors"], some(&["m"])),
            (&["m/.trash/a.safetensors"], some(&[])),
            (&["m/link/a.safetensors"], some(&[])),
            (&["m/pipe/unet/a.safetensors"], some(&["m/pipe"])),
            (&["m/models--a--b/snapshots/1/a.safetensors"], some(&["m/models--a--b"])),
            (&["m/loras/a.ckpt", "m/pipe/b.ckpt", "m/loras/c.ckpt"], some(&["m/loras", "m/pipe"])),
            (&["m"], None),
            (&[], None),
        ] {
            assert_eq!(looked_at(top, changed), expected, "{changed:?}");
        }
    }

    #[test]
    fn many_folders_are_everything() {
        let hints = Hints::default();
        let paths: Vec<PathBuf> = (0..=MOST).map(|number| format!("/m/{number}/x").into()).collect();
        hints.add(&paths);
        assert_eq!(hints.take(), Where::Everything);
        assert_eq!(hints.take(), Where::default());
    }
}
