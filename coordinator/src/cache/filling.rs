//! One filling: from reserved names to sealed segments. Nothing gets its name unless all of it was read as it was described.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hoist_catalog::{Details, Roots, Unit};
use hoist_domain::{
    Bytes, ComponentSource, Digest, Error, Model, ModelId, OperationId, Reason, ResourceName, Result,
    SegmentName,
};
use hoist_planner::Examination;
use hoist_planner::cache::{Identity, Sealing};
use hoist_segment::{Filling, SealError};
use hoist_staging::{Failure, Filled, Job, Outcome, Plan, Recipe, open};
use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Cache;
use super::shelf::Shelf;
use crate::operations::ProgressCell;

/// From the wish to stop to giving up the wait for reads in flight. A healthy disk answers within milliseconds.
const MOMENT: Duration = Duration::from_millis(500);

/// What was written to less long ago may have been read while it was: whoever writes may not be done.
const JUST: Duration = Duration::from_secs(60);

/// How often memory is looked at while it is being filled.
const RECHECK: Duration = Duration::from_millis(250);

/// What is filled, and out of what.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) model: Arc<Model>,
    pub(super) roots: Arc<Roots>,
    pub(super) unit: Arc<Unit>,
    pub(super) details: Arc<Details>,
}

/// One component to be filled.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) recipe: Recipe,
    /// As it was reserved.
    pub(super) name: SegmentName,
    /// Its content, where that is known.
    pub(super) digest: Option<Digest>,
}

/// Everything of one component is in memory.
struct Ready {
    /// Among the orders.
    place: usize,
    /// As it was reserved.
    name: SegmentName,
    filling: Filling,
    digest: Digest,
}

/// A content, and how its component came by it.
pub(super) type Named = (Digest, ComponentSource);

/// For whom, how fast, and until when.
pub(super) struct Run<'a> {
    pub(super) operation: OperationId,
    pub(super) weight: u32,
    pub(super) cell: &'a Arc<ProgressCell>,
    pub(super) stop: &'a CancellationToken,
}

impl Cache {
    /// Reads what these orders need. The digests that are known must come out. What became of each, in their order.
    pub(super) async fn fill(&self, work: &Work, orders: Vec<Order>, on: &Run<'_>) -> Result<Vec<Named>> {
        let began = self.0.clock.monotonic();
        let shelf = self.shelf()?.clone();
        let orders = Arc::new(orders);
        let (prepared, from, making) = (Arc::clone(&orders), work.clone(), shelf.clone());
        let cell = Arc::clone(on.cell);
        let prepare = move || prepare(&prepared, &from, &making, move |bytes| cell.add(bytes));
        let prepared = self.0.tasks.run_blocking("prepare", prepare).await;
        let (job, of_target) = prepared.map_err(|panicked| internal(&panicked.to_string()))??;
        let filled =
            self.run(job, on.weight, on.stop).await.map_err(|failure| refused(&work.model, failure))?;
        let Filled { targets, hashes } = filled;
        let digests: Vec<Digest> = orders
            .iter()
            .enumerate()
            .map(|(number, order)| {
                let own = of_target.iter().zip(&hashes).filter(|(of, _)| **of == number);
                order.recipe.digest(&own.map(|(_, hash)| *hash).collect::<Vec<_>>())
            })
            .collect();
        for (found, order) in digests.iter().zip(orders.iter()) {
            if order.digest.is_some_and(|expected| expected != *found) {
                if self.was_just_written(work) {
                    // Within one tick of the clock stat cannot tell what was read from what was written behind it.
                    self.tell_digests(work, &orders, &digests).await;
                    return Err(refused(&work.model, Failure::Changed(work.model.path.as_path().to_owned())));
                }
                return Err(other_bytes(&work.model, &order.recipe));
            }
        }
        self.tell_digests(work, &orders, &digests).await;
        let read = orders.iter().map(|order| order.recipe.read_bytes().0).fold(0, u64::saturating_add);
        self.0.control.filled(Bytes(read), self.0.clock.monotonic().saturating_sub(began)).await;
        let ready = orders.iter().zip(targets).zip(digests).enumerate();
        let ready = ready.map(|(place, ((order, filling), digest))| Ready {
            place,
            name: order.name,
            filling,
            digest,
        });
        self.name(ready.collect(), on).await
    }

    /// Gives each its name, unless there is one like it. Whoever has to wait for another keeps nobody waiting meanwhile: what
    /// can be named is named first.
    async fn name(&self, mut ready: Vec<Ready>, on: &Run<'_>) -> Result<Vec<Named>> {
        let shelf = self.shelf()?;
        let mut named: Vec<(usize, Named)> = Vec::with_capacity(ready.len());
        while !ready.is_empty() {
            let found = ready.iter().map(|one| (one.name, one.digest)).collect();
            let identities = self.0.control.identify(on.operation, found).await?;
            let (mut new, mut awaited) = (Vec::new(), Vec::new());
            for (one, identity) in ready.into_iter().zip(identities) {
                match identity {
                    Identity::New => new.push(one),
                    Identity::Equal => named.push((one.place, (one.digest, ComponentSource::Shared))),
                    Identity::Awaited => awaited.push(one),
                }
            }
            let shelved = shelf.clone();
            let sealed = self.0.tasks.run_blocking("seal", move || seal(&shelved, new)).await;
            let sealed = sealed.map_err(|panicked| internal(&panicked.to_string()))?;
            let sealed = sealed.map_err(|error| match error {
                SealError::Io(error) => untaken("a segment could not be sealed", &error),
                SealError::Incomplete { .. } => internal(&format!("a segment could not be sealed: {error}")),
            })?;
            let sealings = sealed.iter().map(|(_, digest, bytes)| Sealing { digest: *digest, bytes: *bytes });
            if let Err(error) = self.0.control.sealed(on.operation, sealings.collect()).await {
                let shelved = shelf.clone();
                let _ = self.0.tasks.run_blocking("take back", move || take_back(&shelved, &sealed)).await;
                return Err(error);
            }
            named.extend(
                sealed.into_iter().map(|(place, digest, _)| (place, (digest, ComponentSource::Read))),
            );
            if !awaited.is_empty() {
                let names: Vec<SegmentName> =
                    awaited.iter().map(|one| SegmentName::Content(one.digest)).collect();
                self.have_moved(&names, on.stop).await?;
            }
            ready = awaited;
        }
        named.sort_by_key(|(place, _)| *place);
        Ok(named.into_iter().map(|(_, one)| one).collect())
    }

    /// Whether its files were written to a moment ago.
    fn was_just_written(&self, work: &Work) -> bool {
        let now = self.0.clock.wall().0.saturating_mul(1_000);
        let just = i64::try_from(JUST.as_nanos()).unwrap_or(i64::MAX);
        let files = work.details.content.files.iter().filter(|file| file.is_weights);
        files.into_iter().any(|file| now.saturating_sub(file.identity.changed_ns) < just)
    }

    /// What the catalog learns on the way; whoever waits for the same finds it by that.
    async fn tell_digests(&self, work: &Work, orders: &[Order], digests: &[Digest]) {
        let digests =
            orders.iter().zip(digests).map(|(order, digest)| (order.recipe.component, *digest)).collect();
        let of = Arc::new(work.details.content.clone());
        let examined = Examination { id: work.model.id, of, digests, validation: None };
        // Not kept, whoever waits reads it again. That is no reason to fail.
        if let Err(error) = self.0.control.examined(vec![examined]).await {
            debug!(%error, "digests that were found on the way are not kept");
        }
    }

    /// Lets the pool read, and stops it when that is wished or memory runs out.
    async fn run(&self, job: Job, weight: u32, stop: &CancellationToken) -> Outcome {
        let (tell, mut told) = oneshot::channel();
        let ticket = self.0.pool.run(job, weight, move |outcome| drop(tell.send(outcome)));
        let mut checks = tokio::time::interval(RECHECK);
        checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_short = false;
        loop {
            tokio::select! {
                biased;
                outcome = &mut told => return conclude(outcome, is_short),
                () = stop.cancelled() => break,
                _ = checks.tick() => {
                    if self.is_out_of_memory().await {
                        is_short = true;
                        break;
                    }
                }
            }
        }
        ticket.stop();
        if let Ok(outcome) = tokio::time::timeout(MOMENT, &mut told).await {
            return conclude(outcome, is_short);
        }
        ticket.abandon();
        conclude(told.await, is_short)
    }

    /// Whether there is less room than was reserved, and none can be made.
    async fn is_out_of_memory(&self) -> bool {
        let Ok(budget) = self.budget().await else { return false };
        if self.0.control.view().state.cache().totals().used() <= budget.bytes {
            return false;
        }
        let Ok(facts) = self.facts_within(budget).await else { return false };
        matches!(self.0.control.shrink(facts).await, Ok(false))
    }
}

/// Gives names to what is new: all of it, or none. With what each takes of the memory.
fn seal(shelf: &Shelf, new: Vec<Ready>) -> std::result::Result<Vec<(usize, Digest, Bytes)>, SealError> {
    let mut sealed: Vec<(usize, Digest, Bytes)> = Vec::with_capacity(new.len());
    for Ready { place, filling, digest, .. } in new {
        match shelf.seal(filling, digest) {
            Ok(bytes) => sealed.push((place, digest, bytes)),
            Err(error) => {
                take_back(shelf, &sealed);
                return Err(error);
            }
        }
    }
    Ok(sealed)
}

/// What was sealed and is not to be.
fn take_back(shelf: &Shelf, sealed: &[(usize, Digest, Bytes)]) {
    for (_, digest, _) in sealed {
        // What cannot be removed is swept within a second.
        if let Ok(Some(zombie)) = shelf.take_away(*digest) {
            shelf.keep_in_mind(zombie);
        }
    }
}

/// The job, and which target each of its items is for.
fn prepare(
    orders: &[Order],
    work: &Work,
    shelf: &Shelf,
    count: impl Fn(u64) + Send + Sync + 'static,
) -> Result<(Job, Vec<usize>)> {
    let recipes: Vec<Recipe> = orders.iter().map(|order| order.recipe.clone()).collect();
    let (sources, items) = open(&recipes, &work.roots, &work.unit)
        .map_err(|(path, error)| unreadable(&work.model, path, &error))?;
    let targets = recipes.iter().map(|recipe| shelf.begin(recipe.target()));
    let targets = targets.collect::<std::io::Result<Vec<_>>>();
    let targets = targets.map_err(|error| refused(&work.model, Failure::Target(error)))?;
    let of_target = items.iter().map(|item| item.target).collect();
    Ok((Job::new(Plan::of(items), sources, targets, count), of_target))
}

fn conclude(outcome: Result<Outcome, oneshot::error::RecvError>, is_short: bool) -> Outcome {
    match outcome {
        Ok(Err(Failure::Stopped)) if is_short => {
            Err(Failure::Target(std::io::Error::from(std::io::ErrorKind::OutOfMemory)))
        }
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::Defect),
    }
}

/// What the segments' tmpfs, or the kernel, did not do.
fn untaken(what: &str, error: &std::io::Error) -> Error {
    let errno = error.raw_os_error();
    if errno == Some(Errno::MFILE.raw_os_error()) || errno == Some(Errno::NFILE.raw_os_error()) {
        let message = format!("{what}: the server has as many files open as it may");
        return Error::new(Reason::Overloaded, message)
            .with(
                "advice",
                "evict segments, or raise the server's limit of open files (LimitNOFILE, ulimit -n)",
            )
            .retry_after(Duration::from_secs(5));
    }
    internal(&format!("{what}: {error}"))
}

fn internal(what: &str) -> Error {
    Error::new(Reason::Internal, format!("{what}; report it with the server's log"))
}

fn of_model(error: Error, model: ModelId) -> Error {
    error.with("model", ResourceName::Model(model))
}

fn unreadable(model: &Model, path: PathBuf, error: &std::io::Error) -> Error {
    let (name, path) = (model.name(), path.display());
    let stale = error.raw_os_error() == Some(Errno::STALE.raw_os_error());
    let error = if stale || error.kind() == std::io::ErrorKind::NotFound {
        let message = format!("{path} of {name} is not the file that was looked at; scan, and try again");
        Error::new(Reason::SourceChanged, message)
    } else {
        Error::new(Reason::SourceUnreadable, format!("{path} of {name} cannot be read: {error}"))
    };
    of_model(error, model.id)
}

/// Why nothing was cached.
fn refused(model: &Model, failure: Failure) -> Error {
    use std::io::ErrorKind;
    let name = model.name();
    let error = match failure {
        Failure::Stopped => Error::new(Reason::OperationCancelled, "the operation was stopped"),
        Failure::Changed(path) => Error::new(
            Reason::SourceChanged,
            format!("{} of {name} was written to while it was read; nothing of it is cached", path.display()),
        ),
        Failure::Truncated(path) => Error::new(
            Reason::SourceTruncated,
            format!("{} of {name} ends before its header says; fetch it again", path.display()),
        ),
        Failure::Source(path, error) => return unreadable(model, path, &error),
        Failure::Unresponsive(paths) => {
            let first = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
            let message = format!("the storage of {first} does not answer: reads were left behind; check it");
            Error::new(Reason::SourceUnresponsive, message)
        }
        Failure::Target(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::OutOfMemory) => {
            let message = format!(
                "there was less memory than had been reserved before {name} was filled; evict something and try again"
            );
            Error::new(Reason::RamExhausted, message)
        }
        Failure::Target(error) => untaken(&format!("a segment of {name} could not be written"), &error),
        Failure::Defect => internal(&format!("filling {name} ended by a defect of Hoist")),
    };
    of_model(error, model.id)
}

fn other_bytes(model: &Model, recipe: &Recipe) -> Error {
    let component = model.content.components.get(recipe.component).map_or("?", |component| &component.name);
    let message = format!(
        "the bytes of {} ({component}) are not those that were read before, though its files were not written to: \
         `hoist validate --full` it",
        model.name()
    );
    of_model(Error::new(Reason::CorruptedModel, message), model.id)
}
