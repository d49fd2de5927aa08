//! How a stream comes by its lease: on what is in RAM, on what is brought there for it, or by taking up one it had.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    Bytes, CacheSpec, CachedComponent, ComponentSource, ContentHash, Digest, Error, Lease, LeaseId,
    LeaseState, Lifecycle, Model, ModelState, Operation, OperationId, OperationOutput, Outcome, Reason,
    RequestId, RequestKey, ResourceName, Result, Verdict, Work,
};
use hoist_planner::cache::{LEASE_GRACE, LeaseAsk};
use hoist_planner::{State, Submission};
use hoist_runtime::OnError;
use hoist_wire::v1::acquire_response::Event;
use hoist_wire::{cache as wire, decode, encode, residency, v1};
use tokio::sync::oneshot;
use tracing::info;
use uuid::Uuid;

use super::Api;
use super::cache::components;
use super::holding::{Held, Holding, draining};
use super::leases::{lease_id, said};
use super::submit::DEADLINES;
use crate::cache::has_components;

/// How often progress is told while it is being cached.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Times that a lease is tried again because something of it was evicted just before.
pub(super) const TRIES: usize = 8;

impl Holding {
    pub(super) async fn acquire(&self, first: &v1::AcquireRequest) -> Result<Held> {
        self.api.cache.shelf()?;
        if first.holder.len() > Lease::MAX_HOLDER_BYTES {
            let limit = Lease::MAX_HOLDER_BYTES;
            return Err(Error::invalid_field("holder", format!("has more than {limit} bytes")));
        }
        if !first.lease.is_empty() {
            return self.resume(first).await;
        }
        let deadline = decode::bounded_duration("deadline", first.deadline.as_ref(), DEADLINES)?;
        let deadline = deadline.unwrap_or(CacheSpec::DEFAULT_DEADLINE);
        let granted = tokio::time::timeout(deadline, self.grant_where(first, deadline)).await;
        granted.unwrap_or_else(|_| {
            let message = format!("it was not granted within {deadline:?}");
            Err(Error::new(Reason::DeadlineExceeded, message))
        })
    }

    /// A new lease, in RAM or on a device.
    async fn grant_where(&self, first: &v1::AcquireRequest, deadline: Duration) -> Result<Held> {
        let Some(device) = residency::read_device("device_id", &first.device_id)? else {
            if !first.dtype.is_empty() {
                return Err(Error::invalid_field(
                    "dtype",
                    "is for a device: what is in RAM is as its file is",
                ));
            }
            return self.grant(first, deadline).await;
        };
        self.grant_on(device, first, deadline).await
    }

    /// A new lease on what is in RAM, or will be.
    pub(super) async fn grant(&self, first: &v1::AcquireRequest, deadline: Duration) -> Result<Held> {
        let names = components(&first.components)?;
        let allow = wire::read_allowed(&first.allow)?;
        let mut model = self.api.named(&first.name).await?;
        has_components(model.name(), &model.content.components, &names)?;
        let priority = self.api.priority_of(first.priority, &model)?;
        let spec = CacheSpec { model: model.id, components: names, priority, validate: false, allow };
        // What the disk has by now may be something else: the catalog looks only now and then.
        let mut found = if self.api.catalog.is_as_recorded(&model).await {
            resident(&self.api, &self.api.control.view().state, &model, &spec)
        } else {
            None
        };
        let mut is_use = true;
        for _ in 0..TRIES {
            let components = match found.take() {
                Some(found) => found,
                None => {
                    is_use = false;
                    let Some(cached) = self.cached(spec.clone(), deadline).await? else { continue };
                    model = self.api.model(spec.model)?;
                    cached
                }
            };
            let lease = Lease {
                id: LeaseId(Uuid::now_v7()),
                state: LeaseState::Held,
                model: model.id,
                components: components.iter().map(|one| (one.name.clone(), one.digest)).collect(),
                on: None,
                bytes: Bytes(0),
                holder: self.holder(&first.holder),
                principal: self.caller.principal.clone(),
                process: self.caller.process,
                granted_at: self.api.clock.wall(),
            };
            // Before the grant: nobody ends it unheard, and no kill loses it.
            self.api.cache.keep_lease(&lease)?;
            let held = Held::of(&self.api, lease.id, lease.process);
            if self.api.control.grant(LeaseAsk { lease, priority, is_use }).await? {
                info!(lease = %held.id, model = %model.id, principal = %self.caller.principal, "lease granted");
                self.tell_granted(held.id, Some(&model), &components, first.skip_tensors).await?;
                return Ok(held);
            }
        }
        let message = format!(
            "{} is evicted again as fast as it is cached: give it a higher priority, or more memory",
            model.name()
        );
        Err(Error::new(Reason::RamExhausted, message).with("model", ResourceName::Model(model.id)))
    }

    pub(super) fn holder(&self, named: &str) -> String {
        match (named, self.caller.process) {
            ("", Some(process)) => format!("process {process}"),
            (text, _) => said(text),
        }
    }

    /// A lease that it held before the server, or the connection, was gone.
    async fn resume(&self, first: &v1::AcquireRequest) -> Result<Held> {
        let id = lease_id(&first.lease)?;
        let (send, receive) = oneshot::channel();
        let (api, process) = (self.api.clone(), self.caller.process);
        let (principal, holder) = (self.caller.principal.clone(), self.holder(&first.holder));
        // Apart: taken up for somebody who is gone by then, it ends; and only then, for it may be another's.
        self.api.tasks.spawn("resume lease", OnError::Log, async move {
            let resumed = api.control.resume(id, principal, holder, process).await;
            drop(send.send(resumed.map(|()| Held::of(&api, id, process))));
            Ok::<(), Infallible>(())
        });
        let held = receive.await.map_err(|_| draining())??;
        let view = self.api.control.view();
        let lease = view.state.cache().lease(id).ok_or_else(|| has_ended(id))?;
        let model = view.state.models().get(lease.model).cloned();
        if lease.on.is_some() {
            let lease = Arc::clone(lease);
            // What it has of the device it has: nothing is handed over again.
            self.tell_granted_on(&lease, model.as_deref(), &Vec::new()).await?;
            return Ok(held);
        }
        let component = |(name, digest): &(Box<str>, Digest)| {
            component(&self.api, &view.state, model.as_deref(), name, *digest)
        };
        let components: Option<Vec<CachedComponent>> = lease.components.iter().map(component).collect();
        let components = components.ok_or_else(|| has_ended(id))?;
        self.tell_granted(id, model.as_deref(), &components, first.skip_tensors).await?;
        Ok(held)
    }

    /// Caches what is not there, and tells how far that is. What came of it; none if somebody else, who had asked for the same
    /// before, has given it up.
    async fn cached(&self, spec: CacheSpec, deadline: Duration) -> Result<Option<Vec<CachedComponent>>> {
        match self.carried_out(Work::CacheModel(spec), deadline).await? {
            Some(OperationOutput::CacheModel(report)) => Ok(Some(report.components)),
            Some(_) => Err(Error::new(Reason::Internal, "the caching has another result; report this")),
            None => Ok(None),
        }
    }

    /// Has an operation done, and tells how far it is. What came of it; none if somebody else, who had asked for the same before,
    /// has given it up.
    pub(super) async fn carried_out(
        &self,
        work: Work,
        deadline: Duration,
    ) -> Result<Option<OperationOutput>> {
        let new_id = OperationId(Uuid::now_v7());
        let submission = Submission {
            key: RequestKey {
                principal: self.caller.principal.clone(),
                method: self.caller.method.clone(),
                // A stream may have to ask more than once.
                id: RequestId(Uuid::new_v4()),
            },
            content: ContentHash([0; 32]),
            work,
            deadline,
            new_id,
        };
        // Dropped unanswered, the claim cancels what nobody else waits for.
        let (id, claim) = self.api.claimed(submission, true).await?;
        let operation = self.followed(id).await?;
        if let Some(claim) = claim {
            claim.answered();
        }
        match operation.outcome.clone() {
            Some(Outcome::Output(output)) => Ok(Some(output)),
            Some(Outcome::Failed(error) | Outcome::Cancelled(error))
                if id != new_id
                    && matches!(error.reason(), Reason::OperationCancelled | Reason::DeadlineExceeded) =>
            {
                Ok(None)
            }
            Some(Outcome::Failed(error) | Outcome::Cancelled(error)) => Err(error),
            None => Err(Error::new(Reason::Internal, "the operation has no result; report this")),
        }
    }

    /// Waits for an operation, and tells how far it is.
    async fn followed(&self, id: OperationId) -> Result<Arc<Operation>> {
        let mut changes = self.api.control.changes();
        let mut ticks = tokio::time::interval(PROGRESS_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first is at once: who acquires what is there hears nothing of this.
        ticks.tick().await;
        loop {
            let operation = Arc::clone(&changes.borrow_and_update()).state.operation(id).cloned();
            let operation = operation
                .ok_or_else(|| Error::new(Reason::Internal, "the operation is lost; report this"))?;
            if operation.state.is_terminal() {
                return Ok(operation);
            }
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| draining())?,
                _ = ticks.tick() => {
                    let progress = self.api.progress(&operation).as_ref().map(encode::progress);
                    let name = ResourceName::Operation(id).to_string();
                    self.tell(Event::Progress(v1::AcquireProgress { operation: name, progress })).await;
                }
            }
        }
    }

    async fn tell_granted(
        &self,
        id: LeaseId,
        model: Option<&Model>,
        components: &[CachedComponent],
        skip_tensors: bool,
    ) -> Result<()> {
        let view = self.api.control.view();
        let lease = view.state.cache().lease(id).ok_or_else(|| has_ended(id))?;
        let shelf = self.api.cache.shelf()?;
        let mut leased = Vec::with_capacity(components.len());
        for one in components {
            let kind =
                model.and_then(|model| model.content.components.iter().find(|known| known.name == one.name));
            let layout = if skip_tensors { None } else { shelf.layout(one.digest) };
            leased.push(v1::LeasedComponent {
                component: Some(wire::component(one)),
                r#type: kind.map(|known| known.component_type.to_string()).unwrap_or_default(),
                tensors: layout.iter().flat_map(|layout| layout.tensors()).map(tensor).collect(),
                files: shelf.file_names(one.digest),
                share: None,
            });
        }
        let granted = v1::Granted {
            lease: Some(wire::lease(lease)),
            components: leased,
            grace: Some(encode::duration(LEASE_GRACE)),
        };
        self.tell(Event::Granted(granted)).await;
        Ok(())
    }
}

pub(super) fn has_ended(id: LeaseId) -> Error {
    let name = ResourceName::Lease(id);
    Error::new(Reason::ResourceNotFound, format!("{name} has ended; acquire a new one")).with("name", name)
}

fn tensor(placed: &hoist_segment::Placed) -> v1::TensorPlace {
    v1::TensorPlace {
        name: placed.name.to_string(),
        dtype: placed.dtype.to_string(),
        shape: placed.shape.to_vec(),
        offset: placed.offset,
        size_bytes: placed.length,
    }
}

/// A component that is in RAM.
fn component(
    api: &Api,
    state: &State,
    model: Option<&Model>,
    name: &str,
    digest: Digest,
) -> Option<CachedComponent> {
    let segment = state.cache().sealed(digest)?;
    let known = model.and_then(|model| model.content.components.iter().find(|known| *known.name == *name));
    Some(CachedComponent {
        name: name.into(),
        digest,
        path: api.cache.shelf().ok()?.path_of(digest)?.display().to_string(),
        prefix: known.map(|known| known.prefix.clone()).unwrap_or_default(),
        bytes: segment.bytes,
        source: ComponentSource::Resident,
    })
}

/// What is wanted of a model, if all of it is in RAM by what the catalog knows, and may be handed out. Caching it says why
/// it may not.
fn resident(api: &Api, state: &State, model: &Model, spec: &CacheSpec) -> Option<Vec<CachedComponent>> {
    let content = &model.content;
    if content.is_touched || content.components.is_empty() || model.state != ModelState::Available {
        return None;
    }
    let verdict = model.verdict();
    if verdict > Verdict::Suspicious && !spec.allow.contains(&verdict) {
        return None;
    }
    let wanted = content
        .components
        .iter()
        .filter(|one| spec.components.is_empty() || spec.components.contains(&one.name));
    wanted.map(|one| component(api, state, Some(model), &one.name, one.digest?)).collect()
}
