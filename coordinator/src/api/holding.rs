//! One lease's stream, from its first message to its end, on a task of its own.
//!
//! ```text
//!  first message ─┬─► all in RAM ───────────────────────┬─► grant ─► Granted ─┬─► stream ends: lease ends
//!                 ├─► not: CacheModel, with progress ───┘      │              ├─► revoked: told, stream ends
//!                 └─► a lease's name ─► resume ────────────────┘              └─► the server drains: the lease stays
//! ```
//!
//! Whatever happens to the task, its lease does not outlive it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    CacheSpec, CachedComponent, ComponentSource, ContentHash, Digest, Error, Lease, LeaseId, Lifecycle,
    Model, ModelState, Operation, OperationId, OperationOutput, Outcome, Reason, RequestId, RequestKey,
    ResourceName, Result, Work,
};
use hoist_planner::Submission;
use hoist_planner::cache::{LEASE_GRACE, LeaseAsk};
use hoist_runtime::OnError;
use hoist_wire::v1::acquire_response::Event;
use hoist_wire::{cache as wire, decode, encode, v1};
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};
use tracing::info;
use uuid::Uuid;

use super::Api;
use super::cache::{components, has_components};
use super::call::{Caller, refuse};
use super::leases::{lease_id, said};

/// How often progress is told while it is being cached.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Times that a lease is tried again because something of it was evicted just before.
const TRIES: usize = 8;

/// Deadlines that a request may set.
const DEADLINES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(24 * 3600);

/// One stream.
pub(super) struct Holding {
    pub(super) api: Api,
    pub(super) caller: Caller,
    pub(super) answers: mpsc::Sender<Result<v1::AcquireResponse, Status>>,
    pub(super) id: RequestId,
}

/// A lease that is held by this stream.
struct Held {
    id: LeaseId,
    revoked: oneshot::Receiver<String>,
}

/// A task may be dropped at any moment; its lease must not outlive it.
struct Ending<'a> {
    api: &'a Api,
    id: Option<LeaseId>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let control = self.api.control.clone();
            self.api.tasks.spawn("end lease", OnError::Log, async move {
                control.end_lease(id).await;
                Ok::<(), Infallible>(())
            });
        }
    }
}

impl Holding {
    pub(super) async fn run(mut self, messages: &mut Streaming<v1::AcquireRequest>) {
        let first = match messages.message().await {
            Ok(Some(first)) => first,
            // Gone before it has said anything, or what it said was nothing.
            Ok(None) => {
                let error = Error::invalid_field("name", "the stream ended before it said what is wanted");
                return self.refuse(&error).await;
            }
            Err(status) => return drop(self.answers.send(Err(status)).await),
        };
        match decode::request_id(&first.request_id) {
            Ok(id) => self.id = id.unwrap_or(self.id),
            Err(error) => return self.refuse(&error).await,
        }
        let acquired = tokio::select! {
            biased;
            // Whoever goes away while waiting wants nothing any more; the caching of it ends with its last waiter.
            () = self.answers.closed() => return,
            () = ended(messages) => return,
            () = self.api.draining.triggered() => Err(draining()),
            acquired = self.acquire(&first) => acquired,
        };
        let held = match acquired {
            Ok(held) => held,
            Err(error) => return self.refuse(&error).await,
        };
        self.hold(held, messages).await;
    }

    /// From the grant to the end.
    async fn hold(&self, held: Held, messages: &mut Streaming<v1::AcquireRequest>) {
        let mut ending = Ending { api: &self.api, id: Some(held.id) };
        tokio::select! {
            biased;
            () = self.api.draining.triggered() => {
                // It stays for the next coordinator: the holder comes back with its name.
                ending.id = None;
                self.refuse(&draining()).await;
            }
            reason = held.revoked => {
                ending.id = None;
                let reason = reason.unwrap_or_default();
                self.tell(Event::Revoked(v1::Revoked { reason })).await;
            }
            () = self.answers.closed() => {}
            () = ended(messages) => {
                // Whoever has ended it and sees the end of the stream finds it ended.
                self.api.control.end_lease(held.id).await;
                ending.id = None;
            }
        }
    }

    async fn refuse(&self, error: &Error) {
        let error = error.clone().with("request_id", self.id);
        let _ = self.answers.send(Err(refuse(&error))).await;
    }

    async fn tell(&self, event: Event) {
        let response = v1::AcquireResponse { request_id: self.id.to_string(), event: Some(event) };
        let _ = self.answers.send(Ok(response)).await;
    }

    async fn acquire(&self, first: &v1::AcquireRequest) -> Result<Held> {
        self.api.cache.shelf()?;
        if first.holder.len() > Lease::MAX_HOLDER_BYTES {
            let limit = Lease::MAX_HOLDER_BYTES;
            return Err(Error::invalid_field("holder", format!("has more than {limit} bytes")));
        }
        if !first.lease.is_empty() {
            return self.resume(first).await;
        }
        let names = components(&first.components)?;
        let allow = wire::read_allowed(&first.allow)?;
        let deadline = decode::bounded_duration("deadline", first.deadline.as_ref(), DEADLINES)?;
        let deadline = deadline.unwrap_or(CacheSpec::DEFAULT_DEADLINE);
        let mut model = self.api.named(&first.name).await?;
        has_components(&model, names.iter().map(|name| &**name))?;
        let priority = self.api.priority_of(first.priority, &model)?;
        // What the disk has by now may be something else: the catalog looks only now and then.
        let is_current = self.api.catalog.is_as_recorded(&model).await;
        let mut components = if is_current { resident(&self.api, &model, &names) } else { None };
        let mut is_use = true;
        for _ in 0..TRIES {
            if components.is_none() {
                let spec = CacheSpec {
                    model: model.id,
                    components: names.clone(),
                    priority,
                    validate: false,
                    allow: allow.clone(),
                };
                components = Some(self.cached(spec, deadline).await?);
                is_use = false;
                model = self.api.named(&ResourceName::Model(model.id).to_string()).await?;
            }
            let found = components.take().unwrap_or_default();
            let id = LeaseId(Uuid::now_v7());
            let ask = LeaseAsk {
                id,
                model: model.id,
                priority,
                components: found.iter().map(|one| (one.name.clone(), one.digest)).collect(),
                holder: self.holder(&first.holder),
                principal: self.caller.principal.clone(),
                process: self.caller.process,
                is_use,
            };
            // Before the grant: nobody ends it unheard.
            let revoked = self.api.cache.hear_of(id, self.caller.process);
            let mut ending = Ending { api: &self.api, id: Some(id) };
            let granted = self.api.control.grant(ask).await;
            if !matches!(granted, Ok(true)) {
                ending.id = None;
                self.api.cache.lease_ended(id, None);
            }
            if granted? {
                info!(lease = %id, model = %model.id, principal = %self.caller.principal, "lease granted");
                self.tell_granted(id, &model, &found, first.skip_tensors).await?;
                ending.id = None;
                return Ok(Held { id, revoked });
            }
        }
        let message = format!(
            "{} is evicted again as fast as it is cached: give it a higher priority, or more memory",
            model.name()
        );
        Err(Error::new(Reason::RamExhausted, message).with("model", ResourceName::Model(model.id)))
    }

    fn holder(&self, named: &str) -> String {
        match (named, self.caller.process) {
            ("", Some(process)) => format!("process {process}"),
            (text, _) => said(text),
        }
    }

    async fn resume(&self, first: &v1::AcquireRequest) -> Result<Held> {
        let id = lease_id(&first.lease)?;
        let principal = self.caller.principal.clone();
        // Not before it is certain that it is nobody else's.
        self.api.control.resume(id, principal, self.caller.process).await?;
        let revoked = self.api.cache.hear_of(id, self.caller.process);
        let mut ending = Ending { api: &self.api, id: Some(id) };
        let view = self.api.control.view();
        let lost =
            || Error::new(Reason::ResourceNotFound, format!("leases/{id} has ended; acquire a new one"));
        let lease = view.state.cache().lease(id).ok_or_else(lost)?;
        let model = view.state.models().get(lease.model).cloned();
        let components: Vec<CachedComponent> = lease
            .components
            .iter()
            .map(|(name, digest)| self.component(model.as_deref(), name, *digest))
            .collect::<Option<_>>()
            .ok_or_else(lost)?;
        self.tell_lease(id, model.as_deref(), &components, first.skip_tensors).await?;
        ending.id = None;
        Ok(Held { id, revoked })
    }

    fn component(&self, model: Option<&Model>, name: &str, digest: Digest) -> Option<CachedComponent> {
        component(&self.api, model, name, digest)
    }

    /// Caches what is not there, and tells how far that is. What came of it.
    async fn cached(&self, spec: CacheSpec, deadline: Duration) -> Result<Vec<CachedComponent>> {
        let submission = Submission {
            key: RequestKey {
                principal: self.caller.principal.clone(),
                method: self.caller.method.clone(),
                // A stream may have to ask more than once.
                id: RequestId(Uuid::new_v4()),
            },
            content: ContentHash([0; 32]),
            work: Work::CacheModel(spec),
            deadline,
            new_id: OperationId(Uuid::now_v7()),
        };
        let id = self.api.control.submit(submission).await?;
        let principal = self.caller.principal.clone();
        // Dropped unanswered, the claim cancels what nobody else waits for.
        let claim = self.api.waiters.wait(id, principal, &self.api.control, &self.api.tasks);
        let operation = self.followed(id).await?;
        claim.answered();
        match operation.outcome.clone() {
            Some(Outcome::Output(OperationOutput::CacheModel(report))) => Ok(report.components),
            Some(Outcome::Failed(error) | Outcome::Cancelled(error)) => Err(error),
            _ => Err(Error::new(Reason::Internal, "the caching has no result; report this")),
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
        model: &Model,
        components: &[CachedComponent],
        skip_tensors: bool,
    ) -> Result<()> {
        self.tell_lease(id, Some(model), components, skip_tensors).await
    }

    async fn tell_lease(
        &self,
        id: LeaseId,
        model: Option<&Model>,
        components: &[CachedComponent],
        skip_tensors: bool,
    ) -> Result<()> {
        let view = self.api.control.view();
        let lost = || Error::new(Reason::ResourceNotFound, format!("leases/{id} has ended already"));
        let lease = view.state.cache().lease(id).ok_or_else(lost)?;
        let shelf = self.api.cache.shelf()?;
        let mut leased = Vec::with_capacity(components.len());
        for one in components {
            let kind =
                model.and_then(|model| model.content.components.iter().find(|known| known.name == one.name));
            let unreadable =
                |error: std::io::Error| Error::new(Reason::Internal, format!("{}: {error}", one.path));
            let layout = if skip_tensors { None } else { shelf.layout(one.digest).map_err(unreadable)? };
            leased.push(v1::LeasedComponent {
                component: Some(wire::component(one)),
                r#type: kind.map(|known| known.component_type.to_string()).unwrap_or_default(),
                tensors: layout.iter().flat_map(|layout| layout.tensors()).map(tensor).collect(),
                files: shelf.file_names(one.digest),
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
fn component(api: &Api, model: Option<&Model>, name: &str, digest: Digest) -> Option<CachedComponent> {
    let view = api.control.view();
    let segment = view.state.cache().sealed(digest)?;
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

/// What is wanted of a model, if all of it is in RAM by what the catalog knows.
fn resident(api: &Api, model: &Model, names: &[Box<str>]) -> Option<Vec<CachedComponent>> {
    let content = &model.content;
    if content.is_touched || content.components.is_empty() || model.state != ModelState::Available {
        return None;
    }
    if !names.iter().all(|name| content.components.iter().any(|one| one.name == *name)) {
        return None;
    }
    let wanted = content.components.iter().filter(|one| names.is_empty() || names.contains(&one.name));
    wanted.map(|one| component(api, Some(model), &one.name, one.digest?)).collect()
}

fn draining() -> Error {
    Error::new(
        Reason::Draining,
        "the server is stopping; a lease that is held stays, to be taken up again by its name",
    )
    .retry_after(Duration::from_secs(1))
}

/// Until a stream of requests ends. What comes before that says nothing.
async fn ended(messages: &mut Streaming<v1::AcquireRequest>) {
    while let Ok(Some(_)) = messages.message().await {}
}
