//! When to look: at the start, when the kernel says that something changed, and every now and then because it may not.
//!
//! What the kernel tells is a hint and nothing more: it loses events when its queue is full, tells nothing of network
//! file systems, and runs out of watches. Each hint leads to a look at the folder at once, and to one at the roots when
//! the last of those has been a while; the interval catches the rest.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use hoist_catalog::UNSETTLED;
use hoist_domain::{Condition, ConditionKind, ScanReport, ScanSpec, Severity};
use hoist_runtime::{Clock, Shutdown};
use notify::event::ModifyKind;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Catalog;
use super::hints::Hints;
use super::look::look_quietly;

/// From a hint to the look: what comes in a burst is looked at once.
const SETTLE: Duration = Duration::from_millis(200);

/// A tree in which something is always being written is looked at, from end to end, this many times less long than it
/// is not.
const REST_FACTOR: u32 = 5;

/// How often a root that is not there is looked for.
const LOST_ROOT: Duration = Duration::from_secs(2);

/// Why everything is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Start,
    Change,
    Interval,
    /// The kernel has lost count, or a root is another folder than the one that is watched.
    Unwatched,
    RootIsBack,
}

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Change => "change",
            Self::Interval => "interval",
            Self::Unwatched => "watches were lost",
            Self::RootIsBack => "a root is back",
        }
    }
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
    let hints = Hints::default();
    let mut watching: Option<RecommendedWatcher> = None;
    let mut why = Why::Start;
    loop {
        // Watched first: what changes while it is looked at is looked at again.
        if catalog.0.settings.follow && watching.is_none() {
            catalog.open_roots().await;
            watching = watch(catalog, &hints, clock).await;
        }
        let report = look_quietly(catalog, &ScanSpec::default(), stop, why.as_str()).await;
        if why == Why::Start {
            // Digests that the last life of the server did not come to.
            catalog.0.found.notify_one();
        }
        again_if_unsettled(&hints, report.as_ref());
        let rest = SETTLE + report.as_ref().map_or(Duration::ZERO, again) * REST_FACTOR;
        why = until_next(catalog, clock, stop, &hints, rest).await;
        match why {
            Why::Unwatched | Why::RootIsBack => watching = None,
            // Folders that could not be watched may be watched now.
            Why::Interval if !catalog.are_watched() => watching = None,
            Why::Start | Why::Change | Why::Interval => {}
        }
    }
}

/// What the same look would take if nothing were new: headers are read once.
fn again(report: &ScanReport) -> Duration {
    let share = report.unchanged as f64 / report.models.max(1) as f64;
    report.took.mul_f64(share.clamp(0.0, 1.0))
}

/// What is being written is looked at again, also if nobody tells of its end.
fn again_if_unsettled(hints: &Hints, report: Option<&ScanReport>) {
    if report.is_some_and(|report| report.skipped.contains_key(UNSETTLED)) {
        hints.add(&[]);
    }
}

/// Waits until everything is to be looked at again, and says why. Meanwhile the folders that are hinted at are looked
/// at by themselves, which takes milliseconds where all takes most of a second.
async fn until_next(
    catalog: &Catalog,
    clock: &Clock,
    stop: &CancellationToken,
    hints: &Hints,
    rest: Duration,
) -> Why {
    let began = clock.monotonic();
    let left = |whole: Duration| whole.saturating_sub(clock.monotonic().saturating_sub(began));
    let mut changed = false;
    loop {
        if catalog.has_moved() {
            return Why::Unwatched;
        }
        tokio::select! {
            () = hints.come() => {
                // The rest of a burst.
                tokio::time::sleep(SETTLE).await;
                if hints.take_lost() {
                    return Why::Unwatched;
                }
                changed = true;
                let took = look_where(catalog, clock, stop, hints).await;
                tokio::time::sleep(took * 2).await;
            }
            // What a hint does not say, such as other names of a file, a look at everything finds.
            () = tokio::time::sleep(left(rest)), if changed => return Why::Change,
            () = tokio::time::sleep(left(catalog.0.settings.rescan_interval)) => return Why::Interval,
            () = comes_back(catalog) => return Why::RootIsBack,
        }
    }
}

/// Looks at the folders that were hinted at, if it is certain which those are. How long that took.
async fn look_where(catalog: &Catalog, clock: &Clock, stop: &CancellationToken, hints: &Hints) -> Duration {
    let began = clock.monotonic();
    let roots = catalog.open_roots().await;
    let (links, view, hinted) = (catalog.0.settings.links, catalog.0.control.view(), hints.take());
    let resolved = catalog.apart("hints", stop, move |_| hinted.resolved(&roots, links, view.state.models()));
    if let Ok(Some(paths)) = resolved.await
        && !paths.is_empty()
    {
        let spec = ScanSpec { paths, ..ScanSpec::default() };
        again_if_unsettled(hints, look_quietly(catalog, &spec, stop, "hint").await.as_ref());
    }
    clock.monotonic().saturating_sub(began)
}

/// Returns when a root can be read that could not before. Nobody tells of that.
async fn comes_back(catalog: &Catalog) {
    loop {
        tokio::time::sleep(LOST_ROOT).await;
        // A scan that somebody asked for may have found out meanwhile.
        for root in catalog.roots().into_iter().filter(|root| !root.available) {
            if catalog.open_root(&root.path).await.is_ok() {
                return;
            }
        }
    }
}

/// What is at a root's path from now on, if anything is, is another folder than the one that is watched.
fn is_end_of_root(event: &notify::Event, roots: &[PathBuf]) -> bool {
    let is_end = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
    is_end && event.paths.iter().any(|path| roots.contains(path))
}

/// Asks the kernel to tell of changes below the roots; none if it cannot tell of any.
async fn watch(catalog: &Catalog, hints: &Hints, clock: &Clock) -> Option<RecommendedWatcher> {
    let signal = hints.clone();
    // Those that are there: the kernel would be waited for at the others.
    let there = catalog.roots().into_iter().filter(|root| root.available).map(|root| root.path);
    let roots: Vec<PathBuf> = there.collect();
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
            problems.push(format!("{}: {error}", path.display()));
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

fn watch_all(roots: &[PathBuf], hints: Hints) -> notify::Result<(RecommendedWatcher, Told)> {
    let watched = roots.to_vec();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
        // Reading a model is no change of it.
        Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
        Ok(event) if !event.need_rescan() && !is_end_of_root(&event, &watched) => hints.add(&event.paths),
        // It has lost count, or there is a new folder that cannot be watched.
        Ok(_) | Err(_) => hints.lose(),
    })?;
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
