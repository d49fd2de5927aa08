//! The catalog: keeps what the state says about models true to what is on disk.
//!
//! ```text
//!  notify (a hint) ─┐
//!  interval (truth) ┼─► look ─► hoist_catalog::run (threads) ─► observations ─► owner ─► state, store, watches
//!  ScanModels ──────┘
//! ```
//!
//! One look at a time. What it sees goes to the owner in batches and is decided there; nothing here changes the state.
//! Roots that cannot be read are a condition, and the models below them stay as they were last seen.

mod components;
mod filter;
mod hints;
mod known;
mod lookup;
mod search;
#[cfg(test)]
mod test_models;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hoist_catalog::{Details, Links, Root, Roots, Scan, ScanProgress, Seen};
use hoist_domain::{
    Condition, ConditionKind, Error, Model, ModelId, ModelPath, Reason, Result, ScanReport, ScanSpec,
    Severity, WallTime,
};
use hoist_planner::{Observation, Sighting};
use hoist_runtime::{Clock, Tasks};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::control::Control;
use crate::operations::ProgressCell;

pub use components::{Group, groups};
pub use hints::run as follow;
pub use lookup::find;
pub use search::{Order, Page, Query, search};

/// Observations that become one revision: a delta of some hundred kilobytes at most.
const BATCH: usize = 128;

/// A reader of headers that says nothing for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(20);

/// How long a details request may wait for the disk.
const DETAILS_WITHIN: Duration = Duration::from_secs(10);

/// Where models are looked for, and how.
#[derive(Clone, Debug)]
pub struct CatalogSettings {
    pub roots: Vec<PathBuf>,
    pub links: Links,
    pub rescan_interval: Duration,
    /// Whether the kernel is asked to tell of changes.
    pub follow: bool,
}

/// What is known of a root's own state.
#[derive(Clone, Debug, Default)]
pub struct RootStatus {
    pub path: PathBuf,
    /// Where it leads; models' paths begin with it.
    pub real: Option<PathBuf>,
    pub available: bool,
    pub problem: String,
    pub watched: bool,
    pub looked_at: Option<WallTime>,
    pub took: Duration,
}

/// The handle to the catalog. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct Catalog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: CatalogSettings,
    control: Control,
    tasks: Tasks,
    clock: Clock,
    /// One look at a time: two would read the same disks and race each other's observations.
    looking: tokio::sync::Mutex<()>,
    roots: Mutex<Vec<RootStatus>>,
}

impl Catalog {
    #[must_use]
    pub fn new(settings: CatalogSettings, control: Control, tasks: Tasks, clock: Clock) -> Self {
        let roots =
            settings.roots.iter().map(|path| RootStatus { path: path.clone(), ..RootStatus::default() });
        let roots = Mutex::new(roots.collect());
        Self(Arc::new(Shared {
            settings,
            control,
            tasks,
            clock,
            looking: tokio::sync::Mutex::new(()),
            roots,
        }))
    }

    #[must_use]
    pub fn roots(&self) -> Vec<RootStatus> {
        self.0.roots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn settings(&self) -> &CatalogSettings {
        &self.0.settings
    }

    fn set_roots(&self, change: impl Fn(&mut RootStatus)) {
        self.0.roots.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().for_each(change);
    }

    /// Looks at the roots, or at paths below them, and tells the owner what is there.
    ///
    /// # Errors
    /// PATH_OUTSIDE_ROOTS, or what keeps the owner from taking observations: STORE_READONLY, DRAINING.
    pub async fn look(
        &self,
        spec: &ScanSpec,
        progress: &Arc<ProgressCell>,
        stop: &Arc<AtomicBool>,
    ) -> Result<ScanReport> {
        let _looking = self.0.looking.lock().await;
        let catalog = self.clone();
        let (spec, cell, flag) = (spec.clone(), Arc::clone(progress), Arc::clone(stop));
        let looked =
            self.0.tasks.run_blocking("catalog", move || catalog.look_blocking(&spec, &cell, &flag)).await;
        let report = looked.unwrap_or_else(|panicked| {
            Err(Error::new(
                Reason::Internal,
                format!("the scan ended by a defect of Hoist ({panicked}); report it"),
            ))
        })?;
        self.tell_of_roots().await;
        Ok(report)
    }

    fn look_blocking(
        &self,
        spec: &ScanSpec,
        cell: &Arc<ProgressCell>,
        stop: &Arc<AtomicBool>,
    ) -> Result<ScanReport> {
        cell.set_phase("looking for models");
        let roots = Arc::new(self.open_roots());
        let paths = spec.paths.iter().map(|path| below_a_root(&roots, path)).collect::<Result<Vec<_>>>()?;
        let progress = Arc::new(ScanProgress::default());
        let scan = Scan {
            roots: Arc::clone(&roots),
            paths,
            reread: spec.reread,
            known: Arc::new(known::View(self.0.control.view())),
            progress: Arc::clone(&progress),
            stop: Arc::clone(stop),
            stuck_after: STUCK_AFTER,
        };
        let mut teller =
            Teller { catalog: self, waiting: Vec::new(), report: ScanReport::default(), failed: None };
        let clock = self.0.clock.clone();
        let mut report = hoist_catalog::run(scan, &|| clock.monotonic(), &mut |seen| {
            cell.set_items(progress.done.load(Ordering::Relaxed), progress.found.load(Ordering::Relaxed));
            cell.set_done(progress.header_bytes.load(Ordering::Relaxed));
            teller.tell(seen, stop);
        });
        teller.flush(stop);
        cell.set_items(progress.done.load(Ordering::Relaxed), progress.found.load(Ordering::Relaxed));
        if let Some(error) = teller.failed {
            return Err(error);
        }
        report.added = teller.report.added;
        report.changed = teller.report.changed;
        report.moved = teller.report.moved;
        if spec.paths.is_empty() && !stop.load(Ordering::Relaxed) {
            let now = self.0.clock.wall();
            let took = report.took;
            self.set_roots(|root| {
                if root.available {
                    (root.looked_at, root.took) = (Some(now), took);
                }
            });
        }
        debug!(models = report.models, added = report.added, changed = report.changed, took = ?report.took, "looked at the roots");
        Ok(report)
    }

    /// Opens the roots that are there, and notes which are not.
    fn open_roots(&self) -> Roots {
        let mut open: Vec<Root> = Vec::new();
        for path in &self.0.settings.roots {
            let result = Root::open(path);
            let noted = match &result {
                Ok(root) => (true, String::new(), Some(root.path().to_owned())),
                Err(error) => (false, error.to_string(), None),
            };
            let (is_available, problem, real) = &noted;
            self.set_roots(|root| {
                if root.path == *path {
                    root.available = *is_available;
                    root.problem.clone_from(problem);
                    if real.is_some() {
                        root.real.clone_from(real);
                    }
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
        Roots::new(open, self.0.settings.links)
    }

    async fn tell_of_roots(&self) {
        let unavailable: Vec<String> = self
            .roots()
            .iter()
            .filter(|root| !root.available)
            .map(|root| format!("{}: {}", root.path.display(), root.problem))
            .collect();
        if unavailable.is_empty() {
            self.0.control.clear(ConditionKind::RootUnavailable).await;
            return;
        }
        let condition = Condition {
            kind: ConditionKind::RootUnavailable,
            severity: Severity::Warning,
            message: format!(
                "{} of {} roots cannot be read; models below them are kept as they were",
                unavailable.len(),
                self.0.settings.roots.len()
            ),
            advice: "mount or create them, or take them out of `models`; Hoist looks again by itself"
                .to_owned(),
            since: self.0.clock.wall(),
            details: unavailable,
        };
        self.0.control.raise(condition).await;
    }

    /// Reads a model's headers again, for what the catalog does not keep.
    ///
    /// # Errors
    /// SOURCE_UNRESPONSIVE when the disk does not answer in time, SOURCE_CHANGED when its files are not there.
    pub async fn details(&self, model: &Arc<Model>) -> Result<Details> {
        let (catalog, reread) = (self.clone(), Arc::clone(model));
        let reading = self.0.tasks.run_blocking("model details", move || {
            let roots = catalog.open_roots();
            hoist_catalog::details(&roots, &known::unit_of(&reread))
        });
        let name = model.name().to_owned();
        match tokio::time::timeout(DETAILS_WITHIN, reading).await {
            Err(_) => Err(Error::new(
                Reason::SourceUnresponsive,
                format!(
                    "the storage of {name} has not answered for {} s; check it and try again",
                    DETAILS_WITHIN.as_secs()
                ),
            )),
            Ok(Err(panicked)) => Err(Error::new(
                Reason::Internal,
                format!("reading {name} ended by a defect of Hoist ({panicked}); report it"),
            )),
            Ok(Ok(Err(error))) => Err(Error::new(
                Reason::SourceChanged,
                format!("the files of {name} cannot be read as they were: {error}; scan again"),
            )),
            Ok(Ok(Ok(details))) => Ok(details),
        }
    }

    /// Removes a model's files from the disk: nothing but what the catalog says is its own, and only below roots.
    ///
    /// # Errors
    /// PATH_OUTSIDE_ROOTS, SOURCE_CHANGED when a file cannot be removed.
    pub async fn remove_files(&self, model: &Arc<Model>) -> Result<u32> {
        let (catalog, model) = (self.clone(), Arc::clone(model));
        let removed =
            self.0.tasks.run_blocking("remove files", move || catalog.remove_blocking(&model)).await;
        removed.unwrap_or_else(|panicked| {
            Err(Error::new(
                Reason::Internal,
                format!("removing ended by a defect of Hoist ({panicked}); report it"),
            ))
        })
    }

    fn remove_blocking(&self, model: &Model) -> Result<u32> {
        let roots = self.open_roots();
        below_a_root(&roots, &model.path)?;
        let mut removed = 0;
        for file in &model.content.files {
            let below = file.path.as_path();
            let path = if below.as_os_str().is_empty() {
                model.path.as_path().to_owned()
            } else {
                model.path.as_path().join(below)
            };
            let failed = |error: std::io::Error| {
                Error::new(
                    Reason::SourceChanged,
                    format!(
                        "{removed} files were removed, then one could not be: {error}; scan to see what is left"
                    ),
                )
            };
            // The folder is opened beneath its root and the entry removed in it: no name leads anywhere else.
            roots.remove_entry(&path).map_err(failed)?;
            removed += 1;
        }
        Ok(removed)
    }
}

/// A path that a request names, where it really is.
fn below_a_root(roots: &Roots, path: &ModelPath) -> Result<PathBuf> {
    let outside = || {
        let known: Vec<String> = roots.iter().map(|root| root.path().display().to_string()).collect();
        Error::new(
            Reason::PathOutsideRoots,
            format!(
                "`{}` is not below a root; the roots are: {}",
                hoist_domain::excerpt(&path.text()),
                known.join(", ")
            ),
        )
    };
    let is_plain =
        |path: &Path| path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    if is_plain(path.as_path()) && roots.of(path.as_path()).is_some() {
        return Ok(path.as_path().to_owned());
    }
    let real = path.as_path().canonicalize().map_err(|_| outside())?;
    if roots.of(&real).is_some() { Ok(real) } else { Err(outside()) }
}

/// Hands what a scan sees to the owner, in batches.
struct Teller<'a> {
    catalog: &'a Catalog,
    waiting: Vec<Observation>,
    report: ScanReport,
    failed: Option<Error>,
}

impl Teller<'_> {
    fn tell(&mut self, seen: Seen, stop: &AtomicBool) {
        self.waiting.push(match seen {
            Seen::Model { path, path_name, content, moved_from } => Observation::Seen(Box::new(Sighting {
                path,
                path_name,
                content,
                moved_from,
                new_id: ModelId(Uuid::now_v7()),
            })),
            Seen::Gone { id, path } => Observation::Gone { id, path },
        });
        if self.waiting.len() >= BATCH {
            self.flush(stop);
        }
    }

    fn flush(&mut self, stop: &AtomicBool) {
        let batch = std::mem::take(&mut self.waiting);
        if batch.is_empty() || self.failed.is_some() {
            return;
        }
        match self.catalog.0.control.observe_blocking(batch) {
            Ok(observed) => {
                self.report.added += observed.added;
                self.report.changed += observed.changed;
                self.report.moved += observed.moved;
            }
            Err(error) => {
                stop.store(true, Ordering::Relaxed);
                self.failed = Some(error);
            }
        }
    }
}

/// Looks at the roots once in the background, and says what came of it.
async fn look_quietly(
    catalog: &Catalog,
    spec: &ScanSpec,
    stop: &Arc<AtomicBool>,
    why: &str,
) -> Option<ScanReport> {
    match catalog.look(spec, &Arc::default(), stop).await {
        Ok(report) => {
            if report.added + report.changed + report.moved + report.missing > 0 {
                info!(
                    why,
                    models = report.models,
                    added = report.added,
                    changed = report.changed,
                    moved = report.moved,
                    missing = report.missing,
                    took_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
                    "the catalog has changed"
                );
            }
            Some(report)
        }
        Err(error) if error.reason() == Reason::Draining => None,
        Err(error) => {
            warn!(why, %error, "the roots could not be looked at");
            None
        }
    }
}
