//! When to look: at the start, when the kernel says that something changed, and every now and then because it may not.
//!
//! What the kernel tells is a hint and nothing more: it loses events when its queue is full, tells nothing of network
//! file systems, and runs out of watches. Each hint leads to a look at the roots; the interval catches the rest.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hoist_catalog::UNSETTLED;
use hoist_domain::{Condition, ConditionKind, ScanSpec, Severity};
use hoist_runtime::{Clock, Shutdown};
use notify::event::ModifyKind;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Catalog;
use super::look::look_quietly;

/// From a hint to the look: what comes in a burst is looked at once.
const SETTLE: Duration = Duration::from_millis(200);

/// A tree in which something is always being written is looked at this many times less long than it is not.
const REST_FACTOR: u32 = 5;

/// How often a root that is not there is looked for.
const LOST_ROOT: Duration = Duration::from_secs(2);

/// What the kernel has told.
#[derive(Debug, Default)]
struct Hints {
    /// Something has changed.
    changed: Notify,
    /// It has lost count: folders may be there that nobody watches. The watches have to be set anew.
    lost: AtomicBool,
}

impl Hints {
    fn take(&self, event: &notify::Result<notify::Event>, roots: &[PathBuf]) {
        let lost = match event {
            // Reading a model is no change of it.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => return,
            Ok(event) => event.need_rescan() || is_end_of_root(event, roots),
            // A new folder that cannot be watched.
            Err(_) => true,
        };
        if lost {
            self.lost.store(true, Ordering::Relaxed);
        }
        self.changed.notify_one();
    }
}

/// What is at a root's path from now on, if anything is, is another folder than the one that is watched.
fn is_end_of_root(event: &notify::Event, roots: &[PathBuf]) -> bool {
    let is_end = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
    is_end && event.paths.iter().any(|path| roots.contains(path))
}

/// Keeps the catalog true until the server drains.
///
/// # Errors
/// Never: what fails is a condition, and looked at again.
pub async fn run(catalog: Catalog, clock: Clock, draining: Shutdown) -> Result<(), Infallible> {
    if catalog.0.settings.roots.is_empty() {
        return Ok(());
    }
    let stop = CancellationToken::new();
    tokio::select! {
        () = draining.triggered() => {}
        () = follow(&catalog, &clock, &stop) => {}
    }
    // A look that is under way ends soon, with what it has.
    stop.cancel();
    Ok(())
}

async fn follow(catalog: &Catalog, clock: &Clock, stop: &CancellationToken) {
    let hints = Arc::new(Hints::default());
    let mut watching: Option<RecommendedWatcher> = None;
    let mut why = "start";
    loop {
        // Watched first: what changes while it is looked at is looked at again.
        if catalog.0.settings.follow && watching.is_none() {
            catalog.open_roots().await;
            watching = watch(catalog, &hints, clock).await;
        }
        let began = clock.monotonic();
        let report = look_quietly(catalog, &ScanSpec::default(), stop, why).await;
        let took = clock.monotonic().saturating_sub(began);
        if report.is_some_and(|report| report.skipped.contains_key(UNSETTLED)) {
            hints.changed.notify_one();
        }
        if watching.is_some() && catalog.has_moved() {
            // Another folder has come to a root's place: nobody tells of changes below that one yet.
            (watching, why) = (None, "another folder");
            continue;
        }
        tokio::time::sleep(SETTLE + took * REST_FACTOR).await;
        tokio::select! {
            () = hints.changed.notified() => {
                // The rest of a burst.
                tokio::time::sleep(SETTLE).await;
                why = "change";
                if hints.lost.swap(false, Ordering::Relaxed) {
                    watching = None;
                }
            }
            () = tokio::time::sleep(catalog.0.settings.rescan_interval) => {
                why = "interval";
                // Folders that could not be watched may be watched now.
                if !catalog.are_watched() {
                    watching = None;
                }
            }
            () = comes_back(catalog) => (watching, why) = (None, "a root is back"),
        }
    }
}

/// Returns when a root can be read that could not before. Nobody tells of that.
async fn comes_back(catalog: &Catalog) {
    let lost = catalog.roots().into_iter().filter(|root| !root.available).map(|root| root.path);
    let lost: Vec<PathBuf> = lost.collect();
    if lost.is_empty() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(LOST_ROOT).await;
        for path in &lost {
            if catalog.open_root(path).await.is_ok() {
                return;
            }
        }
    }
}

/// Asks the kernel to tell of changes below the roots; none if it cannot tell of any.
async fn watch(catalog: &Catalog, hints: &Arc<Hints>, clock: &Clock) -> Option<RecommendedWatcher> {
    let signal = Arc::clone(hints);
    let roots = catalog.0.settings.roots.clone();
    // Setting watches walks the trees: not on a thread that others need.
    let set = catalog.0.tasks.run_blocking("watch roots", move || watch_all(&roots, signal)).await;
    let (watcher, told) = match set {
        Ok(Ok(set)) => set,
        Ok(Err(error)) => {
            polled(catalog, clock, vec![error.to_string()]).await;
            return None;
        }
        Err(panicked) => {
            polled(catalog, clock, vec![panicked.to_string()]).await;
            return None;
        }
    };
    let mut problems = Vec::new();
    for (path, result) in told {
        catalog.set_roots(|root| {
            if root.path == path {
                root.watched = root.key.filter(|_| result.is_ok());
            }
        });
        if let Err(error) = result {
            debug!(root = %path.display(), %error, "the kernel does not tell of changes below this root");
            // A root that is not there is another condition.
            if path.exists() {
                problems.push(format!("{}: {error}", path.display()));
            }
        }
    }
    if problems.is_empty() {
        catalog.0.control.clear(ConditionKind::RootsPolled).await;
    } else {
        polled(catalog, clock, problems).await;
    }
    Some(watcher)
}

type Told = Vec<(PathBuf, notify::Result<()>)>;

fn watch_all(roots: &[PathBuf], hints: Arc<Hints>) -> notify::Result<(RecommendedWatcher, Told)> {
    let watched = roots.to_vec();
    let mut watcher = notify::recommended_watcher(move |event| hints.take(&event, &watched))?;
    let told =
        roots.iter().map(|root| (root.clone(), watcher.watch(root, RecursiveMode::Recursive))).collect();
    Ok((watcher, told))
}

async fn polled(catalog: &Catalog, clock: &Clock, details: Vec<String>) {
    let interval = catalog.0.settings.rescan_interval.as_secs();
    let condition = Condition {
        kind: ConditionKind::RootsPolled,
        severity: Severity::Warning,
        message: format!(
            "the kernel does not tell of changes below some roots: they are looked at every {interval} s"
        ),
        advice: "raise fs.inotify.max_user_watches, or set catalog.rescan_interval to what you can wait for"
            .to_owned(),
        since: clock.wall(),
        details,
    };
    catalog.0.control.raise(condition).await;
}
