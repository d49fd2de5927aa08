//! Opens the roots, none of which may keep the others waiting: a network file system that is gone does not answer.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use hoist_catalog::{Root, Roots};
use hoist_domain::ModelPath;

use super::Catalog;

/// How long a root may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Roots that a thread waits for in vain, and whether it has returned since. Nobody else is sent after them until then.
#[derive(Clone, Debug, Default)]
pub(super) struct Opening(Arc<Mutex<HashMap<PathBuf, Arc<AtomicBool>>>>);

impl Opening {
    /// Whether a thread still hangs there.
    fn is_stuck(&self, path: &Path) -> bool {
        let mut stuck = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.retain(|_, has_returned| !has_returned.load(Ordering::Relaxed));
        stuck.contains_key(path)
    }

    fn add(&self, path: &Path, has_returned: Arc<AtomicBool>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), has_returned);
    }
}

impl Catalog {
    /// Opens the roots that are there, and notes which are not.
    pub(super) async fn open_roots(&self) -> Arc<Roots> {
        let opened = join_all(self.0.settings.roots.iter().map(|path| self.open_root(path))).await;
        let mut open: Vec<Root> = Vec::new();
        for (path, result) in self.0.settings.roots.iter().zip(opened) {
            self.set_roots(|root| {
                if root.path != *path {
                    return;
                }
                root.available = result.is_ok();
                root.problem = result.as_ref().err().cloned().unwrap_or_default();
                if let Ok(opened) = &result {
                    root.real = Some(opened.path().to_owned());
                    root.key = Some(opened.key());
                }
            });
            if let Ok(root) = result {
                // A root within a root is looked at with the outer one.
                if !open.iter().any(|other| root.path().starts_with(other.path())) {
                    open.retain(|other| !other.path().starts_with(root.path()));
                    open.push(root);
                }
            }
        }
        Arc::new(Roots::new(open, self.0.settings.links))
    }

    /// Whether a model that is known below a root was on another file system.
    fn was_elsewhere(&self, root: &Root) -> bool {
        let (device, _) = root.key();
        let view = self.0.control.view();
        let path = ModelPath::new(root.path());
        let mut known = view.state.models().below(&path);
        known.any(|model| model.content.main_file().is_some_and(|file| file.identity.device != device))
    }

    pub(super) async fn open_root(&self, path: &Path) -> Result<Root, String> {
        let silent = || format!("has not answered for {} s", ANSWERS_WITHIN.as_secs());
        if self.0.opening.is_stuck(path) {
            return Err(silent());
        }
        let has_returned = Arc::new(AtomicBool::new(false));
        let returned = Arc::clone(&has_returned);
        let wanted = path.to_owned();
        let opened = self.0.tasks.run_blocking("open root", move || {
            let opened = Root::open(&wanted).map(|root| {
                let is_empty = root.is_empty();
                (root, is_empty)
            });
            returned.store(true, Ordering::Relaxed);
            opened
        });
        let opened = match tokio::time::timeout(ANSWERS_WITHIN, opened).await {
            Err(_) => {
                self.0.opening.add(path, has_returned);
                return Err(silent());
            }
            Ok(Err(panicked)) => return Err(panicked.to_string()),
            Ok(Ok(opened)) => opened.map_err(|error| error.to_string()),
        };
        opened.and_then(|(root, is_empty)| {
            if is_empty && self.was_elsewhere(&root) {
                return Err("is an empty folder on another file system than its models were: is it mounted?"
                    .to_owned());
            }
            Ok(root)
        })
    }
}
