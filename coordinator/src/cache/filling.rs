//! One filling: from reserved names to sealed segments. A component gets its name as soon as all of it was read as it was
//! described, while the next ones are still read.
//!
//! ```text
//!  pool: a target is complete ─► digest, told to the catalog ─► named: new (sealed), equal, or awaited
//!                                                                └─ awaited: tried again with the next, waited for at the end
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hoist_catalog::{Details, Roots, Unit};
use hoist_domain::{Bytes, ComponentSource, Digest, Model, OperationId, Result, SegmentName};
use hoist_planner::Examination;
use hoist_planner::cache::{Identity, Sealing};
use hoist_segment::{Filling, SealError};
use hoist_staging::{Failure, Filled, Job, News, Outcome, Plan, Recipe, open};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Cache;
use super::refusals::{internal, other_bytes, refused, unreadable, untaken};
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

/// What is shown while it is filled, and not after it.
struct Rises<'a> {
    cache: &'a Cache,
    digests: Vec<Digest>,
}

impl Drop for Rises<'_> {
    fn drop(&mut self) {
        for digest in &self.digests {
            self.cache.0.rising.remove(digest);
        }
    }
}

/// A content, and how its component came by it.
pub(super) type Named = (Digest, ComponentSource);

/// Told of components as each is complete in RAM, by its number in its model.
type Arrivals<'a> = dyn Fn(usize, Digest) + Send + Sync + 'a;

/// For whom, how fast, and until when.
pub(super) struct Run<'a> {
    pub(super) operation: OperationId,
    pub(super) weight: u32,
    pub(super) cell: &'a Arc<ProgressCell>,
    pub(super) stop: &'a CancellationToken,
    pub(super) arrivals: &'a Arrivals<'a>,
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
        let job = prepared.map_err(|panicked| internal(&panicked.to_string()))??;
        let _rising = self.rises(&orders, &job);
        // What cannot be named stops the reading.
        let halt = on.stop.child_token();
        let (tell, told) = mpsc::unbounded_channel();
        let reading = async {
            self.run(job, on.weight, &halt, tell).await?;
            let took = self.0.clock.monotonic().saturating_sub(began);
            self.0.control.filled(read_bytes(&orders), took).await;
            Ok(())
        };
        let naming = async {
            let named = self.name_as_they_come(work, &orders, told, on).await;
            if named.is_err() {
                halt.cancel();
            }
            named
        };
        let (read, named) = tokio::join!(reading, naming);
        match (read, named) {
            // It was stopped for that, or would have been.
            (_, Err(error)) => Err(error),
            (Err(failure), _) => Err(refused(&work.model, failure)),
            (Ok(()), Ok(named)) => Ok(named),
        }
    }

    /// Shows how far those are whose content is known, as long as they are filled.
    fn rises(&self, orders: &[Order], job: &Job) -> Rises<'_> {
        let known = orders.iter().zip(job.rising()).filter_map(|(order, rising)| {
            self.0.rising.insert(order.digest?, rising.clone()?);
            order.digest
        });
        Rises { cache: self, digests: known.collect() }
    }

    /// How much of a content is there that is being filled now, and where.
    #[must_use]
    pub fn rising(&self, digest: Digest) -> Option<(PathBuf, Bytes)> {
        self.0.rising.get(&digest).map(|rising| (rising.path.clone(), rising.there()))
    }

    /// Gives each target its name once it is complete; ends with the reading. What another fills as well is waited for last: who
    /// waits keeps nobody waiting meanwhile, and what can be named is named first.
    async fn name_as_they_come(
        &self,
        work: &Work,
        orders: &[Order],
        mut told: mpsc::UnboundedReceiver<Filled>,
        on: &Run<'_>,
    ) -> Result<Vec<Named>> {
        let mut named: Vec<(usize, Named)> = Vec::with_capacity(orders.len());
        let mut ready = Vec::new();
        while let Some(first) = told.recv().await {
            let mut complete = vec![first];
            while let Ok(next) = told.try_recv() {
                complete.push(next);
            }
            ready.extend(self.identified(work, orders, complete).await?);
            ready = self.name(orders, ready, &mut named, on).await?;
        }
        // Of what was not read to its end nothing is waited for: its operation fails.
        while !ready.is_empty() && named.len() + ready.len() == orders.len() {
            let awaited: Vec<SegmentName> =
                ready.iter().map(|one| SegmentName::Content(one.digest)).collect();
            self.have_moved(&awaited, on.stop).await?;
            ready = self.name(orders, ready, &mut named, on).await?;
        }
        named.sort_by_key(|(place, _)| *place);
        Ok(named.into_iter().map(|(_, one)| one).collect())
    }

    /// What the complete ones contain; it must be what is known of them.
    async fn identified(&self, work: &Work, orders: &[Order], complete: Vec<Filled>) -> Result<Vec<Ready>> {
        let digested = complete.into_iter().filter_map(|Filled { place, target, hashes }| {
            let order = orders.get(place)?;
            let digest = order.recipe.digest(&hashes);
            Some((order, Ready { place, name: order.name, filling: target, digest }))
        });
        let digested: Vec<(&Order, Ready)> = digested.collect();
        let differs =
            |(order, ready): &&(&Order, Ready)| order.digest.is_some_and(|expected| expected != ready.digest);
        let other = digested.iter().find(differs).map(|(order, _)| *order);
        let is_explained = other.is_none() || self.was_just_written(work);
        if is_explained {
            self.tell_digests(work, &digested).await;
        }
        match other {
            None => Ok(digested.into_iter().map(|(_, ready)| ready).collect()),
            // Within one tick of the clock stat cannot tell what was read from what was written behind it.
            Some(_) if is_explained => {
                Err(refused(&work.model, Failure::Changed(work.model.path.as_path().to_owned())))
            }
            Some(order) => Err(other_bytes(&work.model, &order.recipe)),
        }
    }

    /// Gives each its name, unless there is one like it. Those that another is about to name come back.
    async fn name(
        &self,
        orders: &[Order],
        ready: Vec<Ready>,
        named: &mut Vec<(usize, Named)>,
        on: &Run<'_>,
    ) -> Result<Vec<Ready>> {
        let shelf = self.shelf()?;
        let found = ready.iter().map(|one| (one.name, one.digest)).collect();
        let identities = self.0.control.identify(on.operation, found).await?;
        let before = named.len();
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
        named.extend(sealed.into_iter().map(|(place, digest, _)| (place, (digest, ComponentSource::Read))));
        for (place, (digest, _)) in named.iter().skip(before) {
            if let Some(order) = orders.get(*place) {
                (on.arrivals)(order.recipe.component, *digest);
            }
        }
        Ok(awaited)
    }

    /// Whether its files were written to a moment ago.
    fn was_just_written(&self, work: &Work) -> bool {
        let now = self.0.clock.wall().0.saturating_mul(1_000);
        let just = i64::try_from(JUST.as_nanos()).unwrap_or(i64::MAX);
        let files = work.details.content.files.iter().filter(|file| file.is_weights);
        files.into_iter().any(|file| now.saturating_sub(file.identity.changed_ns) < just)
    }

    /// What the catalog learns on the way; whoever waits for the same finds it by that.
    async fn tell_digests(&self, work: &Work, digested: &[(&Order, Ready)]) {
        let digests = digested.iter().map(|(order, ready)| (order.recipe.component, ready.digest)).collect();
        let of = Arc::new(work.details.content.clone());
        let examined = Examination { id: work.model.id, of, digests, validation: None };
        // Not kept, whoever waits reads it again. That is no reason to fail.
        if let Err(error) = self.0.control.examined(vec![examined]).await {
            debug!(%error, "digests that were found on the way are not kept");
        }
    }

    /// Lets the pool read, and stops it when that is wished or memory runs out. `tell` gets what is complete.
    async fn run(
        &self,
        job: Job,
        weight: u32,
        stop: &CancellationToken,
        tell: mpsc::UnboundedSender<Filled>,
    ) -> Outcome {
        let (end, mut ended) = mpsc::unbounded_channel();
        let ticket = self.0.pool.run(job, weight, move |news| match news {
            News::Filled(filled) => drop(tell.send(filled)),
            News::Ended(outcome) => drop(end.send(outcome)),
        });
        let mut checks = tokio::time::interval(RECHECK);
        checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_short = false;
        loop {
            tokio::select! {
                biased;
                outcome = ended.recv() => return conclude(outcome, is_short),
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
        if let Ok(outcome) = tokio::time::timeout(MOMENT, ended.recv()).await {
            return conclude(outcome, is_short);
        }
        ticket.abandon();
        conclude(ended.recv().await, is_short)
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

/// The job; its targets are the orders.
fn prepare(
    orders: &[Order],
    work: &Work,
    shelf: &Shelf,
    count: impl Fn(u64) + Send + Sync + 'static,
) -> Result<Job> {
    let recipes: Vec<Recipe> = orders.iter().map(|order| order.recipe.clone()).collect();
    let (sources, items) = open(&recipes, &work.roots, &work.unit)
        .map_err(|(path, error)| unreadable(&work.model, path, &error))?;
    let targets = recipes.iter().map(|recipe| shelf.begin(recipe.target()));
    let targets = targets.collect::<std::io::Result<Vec<_>>>();
    let targets = targets.map_err(|error| refused(&work.model, Failure::Target(error)))?;
    Ok(Job::new(Plan::of(items), sources, targets, count))
}

fn read_bytes(orders: &[Order]) -> Bytes {
    Bytes(orders.iter().map(|order| order.recipe.read_bytes().0).fold(0, u64::saturating_add))
}

fn conclude(outcome: Option<Outcome>, is_short: bool) -> Outcome {
    match outcome {
        Some(Err(Failure::Stopped)) if is_short => {
            Err(Failure::Target(std::io::Error::from(std::io::ErrorKind::OutOfMemory)))
        }
        Some(outcome) => outcome,
        None => Err(Failure::Defect),
    }
}
