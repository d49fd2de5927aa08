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
use std::time::Duration;

use hoist_domain::{
    Bytes, CacheReport, CacheSpec, CachedComponent, ComponentSource, Digest, Error, Model, ModelState,
    OperationId, Reason, ResourceName, Result, SegmentName, SegmentState, ValidateSpec, ValidationLevel,
    Verdict,
};
use hoist_planner::State;
use hoist_planner::cache::{Reservation, Reserved, Want};
use hoist_staging::Recipe;
use tokio_util::sync::CancellationToken;

use super::Cache;
use super::filling::Work;
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

impl Cache {
    /// Brings a model's components into RAM. They are held by the operation until it ends.
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
        may_be_cached(&work, spec)?;
        let (mut wanted, left_out) = self.recipes(&work, spec).await?;
        let mut report = CacheReport {
            model: spec.model,
            components: Vec::new(),
            read: Bytes(0),
            took: Duration::ZERO,
            evicted: Vec::new(),
            left_out,
        };
        cell.set_total(0);
        for _ in 0..MOST_ROUNDS {
            let reserved = self.reserve(&work, spec, operation, &wanted).await?;
            report.evicted.extend(&reserved.victims);
            if !reserved.fill.is_empty() {
                cell.set_phase("making room");
                self.are_gone(&reserved.victims, stop).await?;
                if self.victims_stayed(&reserved.victims) {
                    // Somebody opened one in the last moment: what it keeps has to come from elsewhere.
                    self.make_more_room(&work, spec, operation).await?;
                }
                cell.set_phase("filling");
                let read =
                    self.fill_reserved(&work, spec, operation, &mut wanted, &reserved, cell, stop).await?;
                report.read.0 = report.read.0.saturating_add(read.0);
            }
            if reserved.awaited.is_empty() {
                if reserved.fill.is_empty() {
                    report.took = self.0.clock.monotonic().saturating_sub(began);
                    report.components = self.placed(&work.model, &wanted)?;
                    return Ok(report);
                }
                continue;
            }
            cell.set_phase("waiting for another that reads the same");
            self.have_moved(&wanted, &work.model, &reserved.awaited, stop).await?;
            self.learn(&work.model, &mut wanted);
        }
        Err(Error::new(Reason::Internal, "caching does not come to an end; report it with the server's log"))
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

    /// How the wanted components are made, and which of them cannot be.
    async fn recipes(&self, work: &Work, spec: &CacheSpec) -> Result<(Vec<Wanted>, Vec<String>)> {
        let components = &work.details.content.components;
        for asked in &spec.components {
            if !components.iter().any(|component| component.name == *asked) {
                let known: Vec<&str> = components.iter().map(|component| &*component.name).collect();
                let message = format!(
                    "{} has no component `{}`; it has: {}",
                    work.model.name(),
                    hoist_domain::excerpt(asked),
                    known.join(", ")
                );
                return Err(Error::invalid_field("components", message));
            }
        }
        let is_wanted =
            |name: &str| spec.components.is_empty() || spec.components.iter().any(|one| **one == *name);
        let numbers: Vec<usize> = (0..components.len())
            .filter(|at| components.get(*at).is_some_and(|one| is_wanted(&one.name)))
            .collect();
        let details = Arc::clone(&work.details);
        let make = move || -> Vec<_> {
            numbers.into_iter().map(|number| (number, Recipe::of(&details, number))).collect()
        };
        let made = self.0.tasks.run_blocking("recipes", make).await;
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
            let message = format!("{} cannot be in RAM: {why}", work.model.name());
            let error = Error::new(Reason::IncompatibleModel, message);
            return Err(error.with("model", ResourceName::Model(spec.model)));
        }
        if work.model.content.vouches_for(&work.details.content) {
            known_digests(&work.model, &mut wanted, &work.details.content.components);
        }
        Ok((wanted, left_out))
    }

    async fn reserve(
        &self,
        work: &Work,
        spec: &CacheSpec,
        operation: OperationId,
        wanted: &[Wanted],
    ) -> Result<Reserved> {
        let wants = wanted.iter().map(|one| want(&work.model, one)).collect();
        let facts = self.facts_apart().await?;
        let ask = Reservation { operation, model: spec.model, priority: spec.priority, wants, facts };
        self.0.control.reserve(ask).await
    }

    /// After a victim turned out to be in use: room for what is reserved already, or the end.
    async fn make_more_room(&self, work: &Work, spec: &CacheSpec, operation: OperationId) -> Result<()> {
        let facts = self.facts_apart().await?;
        let ask = Reservation {
            operation,
            model: work.model.id,
            priority: spec.priority,
            wants: Vec::new(),
            facts,
        };
        let more = self.0.control.reserve(ask).await?;
        self.are_gone(&more.victims, &CancellationToken::new()).await
    }

    async fn facts_apart(&self) -> Result<hoist_planner::cache::Facts> {
        let cache = self.clone();
        let facts = self.0.tasks.run_blocking("facts", move || cache.facts()).await;
        facts.map_err(|panicked| Error::new(Reason::Internal, panicked.to_string()))
    }

    async fn fill_reserved(
        &self,
        work: &Work,
        spec: &CacheSpec,
        operation: OperationId,
        wanted: &mut [Wanted],
        reserved: &Reserved,
        cell: &Arc<ProgressCell>,
        stop: &CancellationToken,
    ) -> Result<Bytes> {
        let began = self.0.clock.monotonic();
        let recipes: Vec<(Recipe, Option<Digest>)> = reserved
            .fill
            .iter()
            .filter_map(|(place, _)| wanted.get(*place))
            .map(|one| (one.recipe.clone(), one.digest))
            .collect();
        let read = recipes.iter().map(|(recipe, _)| recipe.read_bytes().0).fold(0, u64::saturating_add);
        cell.set_total(cell.done().saturating_add(read));
        let components: Vec<usize> = recipes.iter().map(|(recipe, _)| recipe.component).collect();
        let placed = self.fill(work, recipes, spec.priority.weight(), cell, stop).await?;
        let took = self.0.clock.monotonic().saturating_sub(began);
        let names = reserved.fill.iter().map(|(_, name)| *name);
        let filled: Vec<_> = components
            .into_iter()
            .zip(names)
            .zip(&placed)
            .map(|((at, name), one)| (at, name, *one))
            .collect();
        self.tell(work, operation, &filled, Bytes(read), took).await?;
        for ((place, _), placed) in reserved.fill.iter().zip(placed) {
            if let Some(one) = wanted.get_mut(*place) {
                one.digest = Some(placed.digest);
                one.source = if placed.is_new { ComponentSource::Read } else { ComponentSource::Shared };
            }
        }
        Ok(Bytes(read))
    }

    /// Waits until the bytes of victims are free, or known to stay.
    async fn are_gone(&self, victims: &[Digest], stop: &CancellationToken) -> Result<()> {
        let is_going = |state: &State| {
            let segments =
                victims.iter().filter_map(|digest| state.cache().segment(SegmentName::Content(*digest)));
            segments.into_iter().any(|one| one.state == SegmentState::Evicting && !one.is_zombie)
        };
        self.until(|state| !is_going(state), stop).await
    }

    fn victims_stayed(&self, victims: &[Digest]) -> bool {
        let view = self.0.control.view();
        let mut left =
            victims.iter().filter_map(|digest| view.state.cache().segment(SegmentName::Content(*digest)));
        left.any(|one| one.is_zombie)
    }

    /// Waits until something of what is awaited is there, or on nobody's way any more.
    async fn have_moved(
        &self,
        wanted: &[Wanted],
        model: &Model,
        awaited: &[usize],
        stop: &CancellationToken,
    ) -> Result<()> {
        let names: Vec<SegmentName> =
            awaited.iter().filter_map(|place| wanted.get(*place)).map(|one| want(model, one).name).collect();
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

    /// What others have found out meanwhile about the content of what is still unknown.
    fn learn(&self, model: &Model, wanted: &mut [Wanted]) {
        let view = self.0.control.view();
        if let Some(now) = view.state.models().get(model.id)
            && now.content.vouches_for(&model.content)
        {
            known_digests(now, wanted, &model.content.components);
        }
    }

    /// Where everything is.
    fn placed(&self, model: &Model, wanted: &[Wanted]) -> Result<Vec<CachedComponent>> {
        let (shelf, view) = (self.shelf()?, self.0.control.view());
        let lost = || Error::new(Reason::Internal, "a segment is not where it was put; report this");
        let mut components = Vec::with_capacity(wanted.len());
        for one in wanted {
            let digest = one.digest.ok_or_else(lost)?;
            let known = model.content.components.get(one.recipe.component).ok_or_else(lost)?;
            components.push(CachedComponent {
                name: known.name.clone(),
                digest,
                path: shelf.path_of(digest).ok_or_else(lost)?.display().to_string(),
                prefix: known.prefix.clone(),
                bytes: view.state.cache().sealed(digest).map(|segment| segment.bytes).ok_or_else(lost)?,
                source: one.source,
            });
        }
        Ok(components)
    }
}

fn want(model: &Model, wanted: &Wanted) -> Want {
    let number = wanted.recipe.component;
    let source =
        SegmentName::Source { model: model.id, component: u32::try_from(number).unwrap_or(u32::MAX) };
    let component = model.content.components.get(number);
    Want {
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

/// Whether a model with what was found about it may be in RAM.
fn may_be_cached(work: &Work, spec: &CacheSpec) -> Result<()> {
    let (model, found) = (&work.model, &work.details.content);
    let verdict = model.verdict().max(found.verdict);
    let refuse = |reason, message| {
        Err(Error::new(reason, message).with("model", ResourceName::Model(model.id)).with("verdict", verdict))
    };
    if model.state != ModelState::Available {
        let message = format!("the files of {} are missing", model.name());
        return refuse(Reason::SourceUnreadable, message);
    }
    if verdict <= Verdict::Suspicious || spec.allow.contains(&verdict) {
        return Ok(());
    }
    let findings = model.findings();
    let worst = found.findings.first().or(findings.first().copied());
    let worst = worst.map(|finding| finding.message.clone()).unwrap_or_default();
    let name = model.name();
    match verdict {
        Verdict::Incomplete => {
            let message =
                format!("{name} is incomplete: {worst}; cached all the same with `--allow incomplete`");
            refuse(Reason::IncompatibleModel, message)
        }
        Verdict::Corrupt => {
            let message = format!(
                "{name} is corrupt: {worst}; what can be read of it is cached with `--allow corrupt`"
            );
            refuse(Reason::CorruptedModel, message)
        }
        _ => refuse(
            Reason::IncompatibleModel,
            format!("{name} is {verdict}: {worst}; such files are never cached"),
        ),
    }
}
