//! Looks: opens the roots, has them walked, and tells the owner what was seen.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hoist_catalog::{Looked, Roots, Scan, ScanProgress};
use hoist_domain::{
    Condition, ConditionKind, Error, Model, ModelId, ModelPath, Observation, Reason, Result, ScanReport,
    ScanSpec, Severity, excerpt, plural,
};
use hoist_planner::Models;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{Catalog, hints, known};
use crate::operations::ProgressCell;

/// Observations that become one revision, and one commit: a delta of some hundred kilobytes, usually.
const BATCH: usize = 512;

/// The same in bytes, about: deltas have to fit into a message.
const BATCH_BYTES: usize = 1 << 20;

/// Threads of looks that storage may hold, those of about seven looks: with more, none is begun until some have returned.
const MOST_LEFT_BEHIND: usize = 128;

/// Headers whose reading leaves memory behind that is worth giving back.
const MANY: u64 = 1_000;

/// A reader of headers that says nothing for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(20);

impl Catalog {
    /// Whether there is anything to look at for the paths of a request.
    ///
    /// # Errors
    /// RESOURCE_NOT_FOUND; PATH_OUTSIDE_ROOTS; SOURCE_UNRESPONSIVE.
    pub async fn must_know(&self, paths: &[ModelPath], stop: &CancellationToken) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let (roots, view, paths) = (self.open_roots().await, self.0.control.view(), paths.to_vec());
        self.apart("paths", stop, move |_| must_be_known(&roots, &paths, view.state.models())).await?
    }

    /// Looks at the roots, or at paths below them, and tells the owner what is there.
    ///
    /// # Errors
    /// PATH_OUTSIDE_ROOTS; SOURCE_UNRESPONSIVE; what keeps the owner from taking observations: STORE_READONLY, DRAINING.
    pub async fn look(
        &self,
        spec: &ScanSpec,
        progress: &Arc<ProgressCell>,
        stop: &CancellationToken,
    ) -> Result<ScanReport> {
        let _looking = self.0.looking.lock().await;
        let left_behind = self.0.lookers.count();
        if left_behind > MOST_LEFT_BEHIND {
            let message = format!(
                "{left_behind} threads of earlier looks still wait for storage that does not answer; check the disks of the roots"
            );
            return Err(Error::new(Reason::SourceUnresponsive, message));
        }
        progress.set_phase("looking for models");
        let roots = self.open_roots().await;
        let catalog = self.clone();
        let is_whole = spec.paths.is_empty() && spec.max_depth.is_none();
        let (spec, cell) = (spec.clone(), Arc::clone(progress));
        let looking =
            self.apart("catalog", stop, move |flag| catalog.look_blocking(&spec, &roots, &cell, flag));
        let report = looking.await??;
        self.tell_of_roots().await;
        if is_whole && !stop.is_cancelled() {
            self.tell_of_problems(&report).await;
        }
        if report.added + report.changed > 0 {
            self.0.found.notify_one();
        }
        if report.added + report.changed >= MANY {
            self.give_back_memory().await;
        }
        Ok(report)
    }

    fn look_blocking(
        &self,
        spec: &ScanSpec,
        roots: &Arc<Roots>,
        cell: &ProgressCell,
        stop: &Arc<AtomicBool>,
    ) -> Result<ScanReport> {
        // It asks for paths itself before the scan's own threads do.
        let _alive = self.0.lookers.enter();
        let paths = tops(roots, &spec.paths, self.0.control.view().state.models())?;
        if paths.is_empty() && !spec.paths.is_empty() {
            // All of them lie in hidden folders, which are passed over.
            return Ok(ScanReport::default());
        }
        let progress = Arc::new(ScanProgress::default());
        let wall = self.0.clock.clone();
        let scan = Scan {
            roots: Arc::clone(roots),
            paths,
            reread: spec.reread,
            max_depth: spec.max_depth.and_then(|depth| usize::try_from(depth).ok()).unwrap_or(usize::MAX),
            known: Arc::new(known::View(self.0.control.view())),
            progress: Arc::clone(&progress),
            stop: Arc::clone(stop),
            threads: self.0.lookers.clone(),
            stuck_after: STUCK_AFTER,
            settled_by: OnceLock::new(),
            new_id: Arc::new(|| ModelId(Uuid::now_v7())),
            now_ns: Arc::new(move || wall.wall().0.saturating_mul(1_000)),
        };
        let mut teller = Teller {
            catalog: self,
            waiting: Vec::new(),
            bytes: 0,
            report: ScanReport::default(),
            failed: None,
        };
        let clock = self.0.clock.clone();
        let Looked { mut report, was_given_up } =
            hoist_catalog::run(scan, &|| clock.monotonic(), &mut |observation| {
                cell.set_items(progress.done.load(Ordering::Relaxed), progress.found.load(Ordering::Relaxed));
                cell.set_done(progress.header_bytes.load(Ordering::Relaxed));
                match observation {
                    Some(observation) => teller.tell(observation, stop),
                    None if !stop.load(Ordering::Relaxed) => teller.flush(stop),
                    None => {}
                }
            });
        // Whoever has stopped it does not wait for it: the state may be another one by now.
        if was_given_up || !stop.load(Ordering::Relaxed) {
            teller.flush(stop);
        }
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
                "{} of {} cannot be read; models below are kept as they were",
                unavailable.len(),
                plural(self.0.settings.roots.len() as u64, "root")
            ),
            advice: "mount or create them, or take them out of `models`; Hoist looks again by itself"
                .to_owned(),
            since: self.0.clock.wall(),
            details: unavailable,
        };
        self.0.control.raise(condition).await;
    }
}

impl Catalog {
    /// Lets go of what the threads of finished work have left in the heap.
    pub(super) async fn give_back_memory(&self) {
        // A panic in it is logged where it happens, and nothing depends on it.
        let _ = self.0.tasks.run_blocking("give back memory", hoist_segment::give_back_free_memory).await;
    }

    /// What a look at everything could not read, as long as that is so.
    async fn tell_of_problems(&self, report: &ScanReport) {
        let count = report.problems.len() as u64 + report.more_problems;
        if count == 0 {
            self.0.control.clear(ConditionKind::PathsUnreadable).await;
            return;
        }
        let shown = report.problems.iter().take(Condition::MAX_DETAILS);
        let condition = Condition {
            kind: ConditionKind::PathsUnreadable,
            severity: Severity::Warning,
            message: format!("unreadable or passed over below the roots: {}", plural(count, "path")),
            advice: "see the reasons; what was known there is kept as it was".to_owned(),
            since: self.0.clock.wall(),
            details: shown.map(|problem| format!("{}: {}", problem.path, problem.message)).collect(),
        };
        self.0.control.raise(condition).await;
    }
}

/// A path that a request names, where it really is.
pub(super) fn below_a_root(roots: &Roots, path: &ModelPath) -> Result<PathBuf> {
    let outside = || {
        let known: Vec<String> = roots.iter().map(|root| root.path().display().to_string()).collect();
        Error::new(
            Reason::PathOutsideRoots,
            format!("`{}` is not below a root; the roots are: {}", excerpt(&path.text()), known.join(", ")),
        )
    };
    // A name that is a link to a file stays that name: it is where the model is.
    let named = match (path.as_path().parent(), path.as_path().file_name()) {
        (Some(folder), Some(name)) if !path.as_path().is_dir() => {
            folder.canonicalize().map(|real| real.join(name))
        }
        _ => path.as_path().canonicalize(),
    };
    let is_plain = path.as_path().components().all(|part| !matches!(part, Component::ParentDir));
    let real = match named {
        Ok(real) => real,
        // Nothing is there any more: what was there is to be told as gone.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_plain => path.as_path().to_owned(),
        Err(_) => return Err(outside()),
    };
    if roots.of(&real).is_some() { Ok(real) } else { Err(outside()) }
}

/// Whether a model that is a file among others, as the first of its shards, has another of its files there.
fn has_file_below(model: &Model, path: &Path) -> bool {
    let folder = model.path.as_path().parent().filter(|_| model.content.is_file());
    let mut files = model.content.files.iter().map(|file| file.path.as_path());
    folder.is_some_and(|folder| files.any(|file| folder.join(file).starts_with(path)))
}

/// Refuses a path at which nothing is, and nothing was: who asks for a look there has mistyped it. Where a model is known,
/// at it, below it or as a part of it, the look is what finds out that it is gone.
pub(super) fn must_be_known(roots: &Roots, paths: &[ModelPath], models: &Models) -> Result<()> {
    for path in paths {
        let real = below_a_root(roots, path)?;
        let is_gone = real.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
        let is_known = || {
            real.ancestors().any(|above| models.at(&ModelPath::new(above)).is_some())
                || models.below(&ModelPath::new(&real)).next().is_some()
                || models.iter().any(|model| has_file_below(model, &real))
        };
        if is_gone && !is_known() {
            let shown = excerpt(&path.text()).to_string();
            let message = format!("there is no `{shown}`, and no model is known there");
            return Err(Error::new(Reason::ResourceNotFound, message).with("path", shown));
        }
    }
    Ok(())
}

/// What to look at for the paths of a request: whole models where a path is within one, and nothing twice.
pub(super) fn tops(roots: &Roots, paths: &[ModelPath], models: &Models) -> Result<Vec<PathBuf>> {
    let mut tops = BTreeSet::new();
    for path in paths {
        let real = below_a_root(roots, path)?;
        let (root, below) =
            roots.of(&real).map_or((Path::new("/"), real.as_path()), |(r, below)| (r.path(), below));
        tops.extend(hints::top_of(root, below, models));
    }
    let is_within = |path: &PathBuf| path.ancestors().skip(1).any(|above| tops.contains(above));
    Ok(tops.iter().filter(|path| !is_within(path)).cloned().collect())
}

/// Hands what a scan sees to the owner, in batches.
struct Teller<'a> {
    catalog: &'a Catalog,
    waiting: Vec<Observation>,
    bytes: usize,
    report: ScanReport,
    failed: Option<Error>,
}

impl Teller<'_> {
    fn tell(&mut self, observation: Observation, stop: &AtomicBool) {
        if let Observation::Found(found) = &observation {
            let content = &found.content;
            self.bytes += 1_024 + 512 * (content.components.len() + content.findings.len());
        }
        self.waiting.push(observation);
        let is_full = self.waiting.len() >= BATCH || self.bytes >= BATCH_BYTES;
        if is_full && !stop.load(Ordering::Relaxed) {
            self.flush(stop);
        }
    }

    fn flush(&mut self, stop: &AtomicBool) {
        let batch = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        if batch.is_empty() || self.failed.is_some() {
            return;
        }
        match self.catalog.0.control.observe_blocking(batch) {
            Ok(changes) => {
                self.report.added += changes.added;
                self.report.changed += changes.changed;
                self.report.moved += changes.moved;
            }
            Err(error) => {
                stop.store(true, Ordering::Relaxed);
                self.failed = Some(error);
            }
        }
    }
}

/// Looks at the roots once in the background, and says what came of it.
pub(super) async fn look_quietly(
    catalog: &Catalog,
    spec: &ScanSpec,
    stop: &CancellationToken,
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
