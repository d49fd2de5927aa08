//! The executor of CacheModel: from a model to segments that its operation holds.
//!
//! ```text
//!  headers ─► recipes ─► reserve ─┬─► present: held
//!                          ▲      ├─► fill: victims gone ─► read ─► sealed ─┐
//!                          │      └─► awaited: another fills it, or it goes ─┤
//!                          └──────────────────── again ◄────────────────────┘
//! ```
//!
//! Each round asks for everything; what was found or filled stays held, so a round asks for less. Two operations never wait
//! for each other: each fills its own before it waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use hoist_domain::{
    Bytes, CacheReport, CacheSpec, CachedComponent, ComponentSource, Digest, Error, Model, ModelComponent,
    ModelContent, ModelState, OperationId, Reason, ResourceName, Result, SegmentName, SegmentState,
    ValidateSpec, ValidationLevel, Verdict,
};
use hoist_planner::State;
use hoist_planner::cache::{Part, Reservation, Reserved};
use hoist_staging::Recipe;
use tokio_util::sync::CancellationToken;

use super::Cache;
use super::filling::{Order, Run, Work};
use crate::operations::ProgressCell;

/// Rounds until somebody is told that it does not come to an end. Each has to wait for others to change something.
const MOST_ROUNDS: usize = 1_000;

/// A component on its way.
struct Wanted {
    recipe: Recipe,
    /// Its content, once it is known.
    digest: Option<Digest>,
    source: ComponentSource,
}

/// One run of the executor.
struct Caching<'a> {
    cache: &'a Cache,
    spec: &'a CacheSpec,
    operation: OperationId,
    cell: &'a Arc<ProgressCell>,
    stop: &'a CancellationToken,
    arrived: &'a Arrived<'a>,
    work: Work,
    wanted: Vec<Wanted>,
}

/// Told of components, by name, as each is complete in RAM and held there, and before that as it begins to be filled, if its content
/// is known by then; of one perhaps more than once.
pub(super) type Arrived<'a> = dyn Fn(&str, Digest) + Send + Sync + 'a;

impl Cache {
    /// Brings a model's components into RAM. They are held by the operation until it ends. `arrived` hears of each that is
    /// there while others are still on their way.
    ///
    /// # Errors
    /// CACHE_UNAVAILABLE, CORRUPTED_MODEL, INCOMPATIBLE_MODEL, RAM_EXHAUSTED, SOURCE_*; FIELD_INVALID for a component that
    /// it has not.
    pub async fn cache(
        &self,
        spec: &CacheSpec,
        operation: OperationId,
        cell: &Arc<ProgressCell>,
        stop: &CancellationToken,
        arrived: &Arrived<'_>,
    ) -> Result<CacheReport> {
        self.shelf()?;
        let began = self.0.clock.monotonic();
        if spec.validate {
            self.validate(spec, cell, stop).await?;
        }
        cell.set_phase("reading headers");
        let view = self.0.control.view();
        let model = view.state.models().get(spec.model).cloned().ok_or_else(|| gone(spec))?;
        let (roots, unit, details) = self.0.catalog.to_stage(&model, stop).await?;
        let work = Work { model, roots, unit: Arc::new(unit), details: Arc::new(details) };
        may_be_cached(&work.model, &work.details.content, &spec.allow)?;
        let mut caching =
            Caching { cache: self, spec, operation, cell, stop, arrived, work, wanted: Vec::new() };
        let left_out = caching.recipes().await?;
        let (read, evicted) = caching.run().await?;
        let took = self.0.clock.monotonic().saturating_sub(began);
        Ok(CacheReport { model: spec.model, components: caching.placed()?, read, took, evicted, left_out })
    }

    async fn validate(
        &self,
        spec: &CacheSpec,
        cell: &Arc<ProgressCell>,
        stop: &CancellationToken,
    ) -> Result<()> {
        let closely = ValidateSpec {
            model: spec.model,
            level: ValidationLevel::Full,
            device: String::new(),
            sha256: String::new(),
            checksums: false,
        };
        let report = self.0.catalog.validate(&closely, cell, stop).await?;
        cell.set_done(0);
        if report.verdict > Verdict::Suspicious && !spec.allow.contains(&report.verdict) {
            let worst = report.findings.first().map(|finding| finding.message.clone()).unwrap_or_default();
            let error = Error::new(Reason::CorruptedModel, format!("it is {}: {worst}", report.verdict));
            return Err(error.with("model", ResourceName::Model(spec.model)));
        }
        Ok(())
    }

    /// Waits until the bytes of what is evicted are free, or known to stay.
    ///
    /// # Errors
    /// DRAINING; OPERATION_CANCELLED.
    pub async fn are_gone(&self, victims: &[Digest], stop: &CancellationToken) -> Result<()> {
        let is_going = |state: &State| {
            let names = victims.iter().map(|digest| SegmentName::Content(*digest));
            let mut segments = names.filter_map(|name| state.cache().segment(name));
            segments.any(|one| one.state == SegmentState::Evicting && !one.is_zombie)
        };
        self.until(|state| !is_going(state), stop).await
    }

    /// Waits until one of these is complete, or on nobody's way in or out any more.
    pub(super) async fn have_moved(&self, names: &[SegmentName], stop: &CancellationToken) -> Result<()> {
        let is_on_its_way = |state: &State, name: &SegmentName| {
            let segment = state.cache().segment(*name);
            segment.is_some_and(|one| one.state != SegmentState::Sealed && !one.is_zombie)
        };
        self.until(|state| !names.iter().all(|name| is_on_its_way(state, name)), stop).await
    }

    /// Waits until something is true of the state.
    async fn until(&self, is_so: impl Fn(&State) -> bool, stop: &CancellationToken) -> Result<()> {
        let mut changes = self.0.control.changes();
        loop {
            if is_so(&Arc::clone(&changes.borrow_and_update()).state) {
                return Ok(());
            }
            tokio::select! {
                changed = changes.changed() => {
                    changed.map_err(|_| Error::new(Reason::Draining, "the server is stopping"))?;
                }
                () = stop.cancelled() => {
                    return Err(Error::new(Reason::OperationCancelled, "the operation was stopped"));
                }
            }
        }
    }
}

impl Caching<'_> {
    /// How the wanted components are made, and which of them cannot be.
    async fn recipes(&mut self) -> Result<Vec<String>> {
        let (model, spec) = (&self.work.model, self.spec);
        let components = &self.work.details.content.components;
        has_components(model.name(), components, &spec.components)?;
        let is_wanted =
            |name: &str| spec.components.is_empty() || spec.components.iter().any(|one| **one == *name);
        let numbered = components.iter().enumerate().filter(|(_, component)| is_wanted(&component.name));
        let numbers: Vec<usize> = numbered.map(|(number, _)| number).collect();
        let details = Arc::clone(&self.work.details);
        let make = move || -> Vec<_> {
            numbers.into_iter().map(|number| (number, Recipe::of(&details, number))).collect()
        };
        let made = self.cache.0.tasks.run_blocking("recipes", make).await;
        let made = made.map_err(|panicked| Error::new(Reason::Internal, panicked.to_string()))?;
        let (mut wanted, mut left_out) = (Vec::new(), Vec::new());
        for (number, recipe) in made {
            let name = components.get(number).map_or("?", |component| &component.name);
            match recipe {
                Ok(recipe) => wanted.push(Wanted { recipe, digest: None, source: ComponentSource::Resident }),
                Err(error) => left_out.push(format!("{name}: {error}")),
            }
        }
        if wanted.is_empty() || (!spec.components.is_empty() && !left_out.is_empty()) {
            let why =
                if left_out.is_empty() { "it has no components".to_owned() } else { left_out.join("; ") };
            let message = format!("{} cannot be in RAM: {why}", model.name());
            let error = Error::new(Reason::IncompatibleModel, message);
            return Err(error.with("model", ResourceName::Model(spec.model)));
        }
        if model.content.vouches_for(&self.work.details.content) {
            known_digests(model, &mut wanted, components);
        }
        self.wanted = wanted;
        Ok(left_out)
    }

    /// Rounds until everything is there. Bytes that were read, and what made room.
    async fn run(&mut self) -> Result<(Bytes, Vec<Digest>)> {
        let (mut read, mut evicted) = (0_u64, Vec::new());
        for _ in 0..MOST_ROUNDS {
            let reserved = self.reserve(true).await?;
            evicted.extend(&reserved.victims);
            self.tell_present(&reserved);
            if !reserved.fill.is_empty() {
                self.cell.set_phase("making room");
                self.cache.are_gone(&reserved.victims, self.stop).await?;
                if self.is_any_left(&reserved.victims) {
                    // Somebody opened one in the last moment: what it keeps has to come from elsewhere.
                    let more = self.reserve(false).await?;
                    self.cache.are_gone(&more.victims, self.stop).await?;
                    evicted.extend(&more.victims);
                }
                self.cell.set_phase("filling");
                read = read.saturating_add(self.fill(&reserved).await?.0);
            }
            match (reserved.fill.is_empty(), reserved.awaited.is_empty()) {
                (true, true) => return Ok((Bytes(read), evicted)),
                (_, true) => {}
                (_, false) => {
                    self.cell.set_phase("waiting for another that reads the same");
                    let names: Vec<SegmentName> = reserved.awaited.iter().map(|(_, name)| *name).collect();
                    self.cache.have_moved(&names, self.stop).await?;
                    self.learn();
                }
            }
        }
        Err(Error::new(Reason::Internal, "caching does not come to an end; report it with the server's log"))
    }

    /// Asks for everything; or only whether what is reserved still has its room.
    async fn reserve(&self, with_parts: bool) -> Result<Reserved> {
        let model = &self.work.model;
        let parts = if with_parts {
            self.wanted.iter().map(|one| part(&self.work, one)).collect()
        } else {
            Vec::new()
        };
        let facts = self.cache.facts().await?;
        let ask = Reservation {
            operation: self.operation,
            model: model.id,
            priority: self.spec.priority,
            parts,
            facts,
        };
        self.cache.0.control.reserve(ask).await
    }

    /// Reads what was reserved. Bytes that were read.
    async fn fill(&mut self, reserved: &Reserved) -> Result<Bytes> {
        let order = |(place, name): &(usize, SegmentName)| {
            let one = self.wanted.get(*place)?;
            Some(Order { recipe: one.recipe.clone(), name: *name, digest: one.digest })
        };
        let orders: Vec<Order> = reserved.fill.iter().filter_map(order).collect();
        for order in &orders {
            if let Some(digest) = order.digest {
                self.tell(order.recipe.component, digest);
            }
        }
        let read = orders.iter().map(|order| order.recipe.read_bytes().0).fold(0, u64::saturating_add);
        self.cell.set_total(self.cell.done().saturating_add(read));
        let weight = self.spec.priority.weight();
        let arrivals = |component: usize, digest: Digest| self.tell(component, digest);
        let on =
            Run { operation: self.operation, weight, cell: self.cell, stop: self.stop, arrivals: &arrivals };
        let placed = self.cache.fill(&self.work, orders, &on).await?;
        for ((place, _), placed) in reserved.fill.iter().zip(placed) {
            if let Some(one) = self.wanted.get_mut(*place) {
                (one.digest, one.source) = (Some(placed.0), placed.1);
            }
        }
        Ok(Bytes(read))
    }

    /// What needs neither to be filled nor to be waited for is there.
    fn tell_present(&self, reserved: &Reserved) {
        let is_there =
            |place: &usize| !reserved.fill.iter().chain(&reserved.awaited).any(|(absent, _)| absent == place);
        for (_, one) in self.wanted.iter().enumerate().filter(|(place, _)| is_there(place)) {
            if let Some(digest) = one.digest {
                self.tell(one.recipe.component, digest);
            }
        }
    }

    fn tell(&self, component: usize, digest: Digest) {
        if let Some(component) = self.work.details.content.components.get(component) {
            (self.arrived)(&component.name, digest);
        }
    }

    fn is_any_left(&self, victims: &[Digest]) -> bool {
        let view = self.cache.0.control.view();
        let mut left =
            victims.iter().filter_map(|digest| view.state.cache().segment(SegmentName::Content(*digest)));
        left.any(|one| one.is_zombie)
    }

    /// What others have found out meanwhile about the content of what is still unknown.
    fn learn(&mut self) {
        let view = self.cache.0.control.view();
        let model = &self.work.model;
        if let Some(now) = view.state.models().get(model.id)
            && now.content.vouches_for(&model.content)
        {
            known_digests(now, &mut self.wanted, &model.content.components);
        }
    }

    /// Where everything is.
    fn placed(&self) -> Result<Vec<CachedComponent>> {
        let (shelf, view) = (self.cache.shelf()?, self.cache.0.control.view());
        let lost = || Error::new(Reason::Internal, "a segment is not where it was put; report this");
        let place = |one: &Wanted| {
            let digest = one.digest.ok_or_else(lost)?;
            let known = self.work.details.content.components.get(one.recipe.component).ok_or_else(lost)?;
            Ok(CachedComponent {
                name: known.name.clone(),
                digest,
                path: shelf.path_of(digest).ok_or_else(lost)?.display().to_string(),
                prefix: known.prefix.clone(),
                bytes: view.state.cache().sealed(digest).map(|segment| segment.bytes).ok_or_else(lost)?,
                source: one.source,
            })
        };
        self.wanted.iter().map(place).collect()
    }
}

fn part(work: &Work, wanted: &Wanted) -> Part {
    let number = wanted.recipe.component;
    let source =
        SegmentName::Source { model: work.model.id, component: u32::try_from(number).unwrap_or(u32::MAX) };
    let component = work.details.content.components.get(number);
    Part {
        name: wanted.digest.map_or(source, SegmentName::Content),
        source,
        bytes: wanted.recipe.held_bytes(),
        is_raw: matches!(wanted.recipe.target(), hoist_staging::Target::Files(_)),
        component_type: component.map_or(hoist_domain::ModelType::Unknown, |known| known.component_type),
    }
}

/// What the catalog knows of components' contents. Numbers mean the same only where names do.
fn known_digests(model: &Model, wanted: &mut [Wanted], read: &[hoist_domain::ModelComponent]) {
    let names: BTreeMap<(&str, &str), Option<Digest>> =
        model.content.components.iter().map(|one| ((&*one.name, &*one.prefix), one.digest)).collect();
    for one in wanted.iter_mut().filter(|one| one.digest.is_none()) {
        let component = read.get(one.recipe.component);
        one.digest =
            component.and_then(|known| names.get(&(&*known.name, &*known.prefix)).copied().flatten());
    }
}

fn gone(spec: &CacheSpec) -> Error {
    let name = ResourceName::Model(spec.model);
    Error::new(Reason::ResourceNotFound, format!("{name} is not in the catalog any more")).with("name", name)
}

/// Refuses names that no component of a model has.
///
/// # Errors
/// FIELD_INVALID, with the names that there are.
pub fn has_components(model: &str, known: &[ModelComponent], asked: &[Box<str>]) -> Result<()> {
    let Some(unknown) = asked.iter().find(|name| known.iter().all(|one| one.name != **name)) else {
        return Ok(());
    };
    let known: Vec<&str> = known.iter().map(|one| &*one.name).collect();
    let shown = hoist_domain::excerpt(unknown);
    let message = format!("{model} has no component `{shown}`; it has: {}", known.join(", "));
    Err(Error::invalid_field("components", message))
}

/// Whether a model with what was found about it may be in RAM.
///
/// # Errors
/// SOURCE_UNREADABLE, CORRUPTED_MODEL, INCOMPATIBLE_MODEL.
pub fn may_be_cached(model: &Model, found: &ModelContent, allow: &[Verdict]) -> Result<()> {
    let verdict = model.verdict().max(found.verdict);
    if model.state != ModelState::Available {
        let error =
            Error::new(Reason::SourceUnreadable, format!("the files of {} are missing", model.name()));
        return Err(error.with("model", ResourceName::Model(model.id)));
    }
    if verdict <= Verdict::Suspicious || allow.contains(&verdict) {
        return Ok(());
    }
    let findings = model.findings();
    let worst = found.findings.first().or(findings.first().copied());
    let worst = worst.map(|finding| finding.message.clone()).unwrap_or_default();
    let name = model.name();
    let (reason, said, advice) = match verdict {
        Verdict::Incomplete => (
            Reason::IncompatibleModel,
            "incomplete",
            "fetch what is missing; or cache what is there with `--allow incomplete`",
        ),
        Verdict::Corrupt => (
            Reason::CorruptedModel,
            "corrupt",
            "fetch it again; or cache what can be read of it with `--allow corrupt`",
        ),
        Verdict::Malicious => (
            Reason::IncompatibleModel,
            "malicious, and such files are never cached",
            "delete it, or get its weights as safetensors from somebody you trust",
        ),
        _ => (
            Reason::IncompatibleModel,
            "rejected, and such files are never cached",
            "put its files below a root",
        ),
    };
    let error = Error::new(reason, format!("{name} is {said}: {worst}")).with("advice", advice);
    Err(error.with("model", ResourceName::Model(model.id)).with("verdict", verdict))
}
