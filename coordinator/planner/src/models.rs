//! The models of the state, and the indexes over them that decisions need.
//!
//! Persistent like the rest of the state: a copy costs a few reference counts, a change the path to it.

use std::ops::Bound;
use std::sync::Arc;

use hoist_domain::{Model, ModelId, ModelPath, ModelState, Position};
use imbl::{OrdMap, OrdSet};

use crate::state::Stamped;

/// What tells a file apart on this machine: device and inode.
type FileKey = (u64, u64);

#[derive(Clone, Debug, Default)]
pub struct Models {
    by_id: OrdMap<ModelId, Stamped<Model>>,
    /// With the model itself: a scan asks for each path there is, and lists go along it. Without the displaced.
    by_path: OrdMap<ModelPath, Arc<Model>>,
    /// Those at whose path another one is. Few, and most of the time none.
    displaced: OrdMap<(ModelPath, ModelId), Arc<Model>>,
    /// By the file that stands for a model: a moved model is found by it. Hard links share one.
    by_file: OrdSet<(FileKey, ModelId)>,
    /// Those that are to stay in RAM.
    pinned: OrdSet<ModelId>,
}

fn is_pinned(model: &Model) -> bool {
    model.notes.as_ref().is_some_and(|notes| notes.config.is_pinned)
}

fn file_key(model: &Model) -> Option<FileKey> {
    model.content.main_file().map(|file| (file.identity.device, file.identity.inode))
}

impl Models {
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    #[must_use]
    pub fn get(&self, id: ModelId) -> Option<&Arc<Model>> {
        self.by_id.get(&id).map(|stamped| &stamped.value)
    }

    /// The model at exactly this path: the one that is not displaced.
    #[must_use]
    pub fn at(&self, path: &ModelPath) -> Option<&Arc<Model>> {
        self.by_path.get(path)
    }

    /// All, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.by_id.values().map(|stamped| &stamped.value)
    }

    /// All, in the order of their paths.
    pub fn by_path(&self) -> impl Iterator<Item = &Arc<Model>> {
        merged(self.by_path.values(), self.displaced.values())
    }

    /// With the position at which each last changed.
    pub fn with_position(&self) -> impl Iterator<Item = (Position, &Arc<Model>)> {
        self.by_id.values().map(|stamped| (stamped.position, &stamped.value))
    }

    /// The one at this path, if there is one, and those that follow it in the order of paths.
    pub fn from<'a>(&'a self, path: &ModelPath) -> impl Iterator<Item = &'a Arc<Model>> + use<'a> {
        self.by_path.range(path.clone()..).map(|(_, model)| model)
    }

    /// Those at or below a path, in the order of paths.
    pub fn below<'a>(&'a self, path: &'a ModelPath) -> impl Iterator<Item = &'a Arc<Model>> {
        // A path's own children do not follow it without a gap: `a`, `a.b`, `a/c` is the order of bytes but not of
        // components. `Path` compares by components, so here they do.
        let is_below = |model: &&Arc<Model>| model.path.as_path().starts_with(path.as_path());
        let first = (path.clone(), ModelId(uuid::Uuid::nil()));
        merged(
            self.from(path).take_while(is_below),
            self.displaced.range(first..).map(|(_, model)| model).take_while(is_below),
        )
    }

    /// Those that this file stands for.
    pub fn of_file(&self, device: u64, inode: u64) -> impl Iterator<Item = &Arc<Model>> {
        let key = (device, inode);
        self.by_file
            .range((key, ModelId(uuid::Uuid::nil()))..)
            .take_while(move |(of, _)| *of == key)
            .filter_map(|(_, id)| self.get(*id))
    }

    /// Those of which something is pinned.
    pub fn pinned(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.pinned.iter().filter_map(|id| self.get(*id))
    }

    /// In the order of their ids, from here on.
    pub(crate) fn stamped_from(&self, from: Bound<ModelId>) -> impl Iterator<Item = &Stamped<Model>> {
        self.by_id.range((from, Bound::Unbounded)).map(|(_, stamped)| stamped)
    }

    pub(crate) fn stamped(&self, id: ModelId) -> Option<&Stamped<Model>> {
        self.by_id.get(&id)
    }

    pub(crate) fn put(&mut self, position: Position, model: Arc<Model>) {
        self.remove(model.id);
        self.add(position, model);
    }

    /// One whose id is not there yet.
    pub(crate) fn add(&mut self, position: Position, model: Arc<Model>) {
        if model.state == ModelState::Displaced {
            self.displaced.insert((model.path.clone(), model.id), Arc::clone(&model));
        } else {
            let taken = self.by_path.insert(model.path.clone(), Arc::clone(&model));
            let taken = taken.map(|taken| taken.id);
            assert!(taken.is_none(), "two models at one path: {taken:?} and {}", model.id);
        }
        if let Some(key) = file_key(&model) {
            self.by_file.insert((key, model.id));
        }
        if is_pinned(&model) {
            self.pinned.insert(model.id);
        }
        self.by_id.insert(model.id, Stamped { position, value: model });
    }

    pub(crate) fn remove(&mut self, id: ModelId) {
        if let Some(stamped) = self.by_id.remove(&id) {
            self.pinned.remove(&id);
            let path = &stamped.value.path;
            if stamped.value.state == ModelState::Displaced {
                self.displaced.remove(&(path.clone(), id));
            } else {
                self.by_path.remove(path);
            }
            if let Some(key) = file_key(&stamped.value) {
                self.by_file.remove(&(key, id));
            }
        }
    }
}

/// Two lists in the order of paths as one; of one path, the first list's comes first.
fn merged<'a>(
    first: impl Iterator<Item = &'a Arc<Model>>,
    second: impl Iterator<Item = &'a Arc<Model>>,
) -> impl Iterator<Item = &'a Arc<Model>> {
    let (mut first, mut second) = (first.peekable(), second.peekable());
    std::iter::from_fn(move || {
        let is_second = match (first.peek(), second.peek()) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(one), Some(other)) => other.path < one.path,
        };
        if is_second { second.next() } else { first.next() }
    })
}
