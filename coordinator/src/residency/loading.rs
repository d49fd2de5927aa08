//! The executor of loads: from models to replicas that can be used.
//!
//! ```text
//!  sizes ─┬─ all in RAM ───────────────────────────────────────────────► place ─► arrival: all ACTIVE
//!         └─ admit ─► cache, model by model ─► each component: place early ┘
//! ```
//!
//! What is read is on its way to the device while the rest is still read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    Bytes, CacheReport, CacheSpec, DeviceId, Digest, Error, IntentPart, LoadReport, LoadSpec,
    LoadedComponent, ModelPart, OperationId, Placement, Reason, Replica, ReplicaId, ReplicaState, Result,
    WorkerState,
};
use hoist_planner::State;
use hoist_planner::residency::{LoadAsk, Offer, PlaceAsk, Placed, PlacedPart, Wanted};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::arriving::all_there;
use super::{Loader, Sizes};
use crate::operations::ProgressCell;

/// How long a load waits for a worker that is being started. Longer than one takes to start, and to be started again.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

/// How often the worker's word on its progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Times that something goes out of RAM between its filling and its placing, which its operation's hold prevents.
const MOST_TRIES: usize = 3;

/// What is loaded, what cannot be, where, and by which replicas.
type Begun = (Vec<Wanted>, Vec<String>, Offer, Vec<PlacedPart>);

/// What is on its way to RAM, and what of it is there and held for this load.
struct Coming {
    wanted: Vec<Wanted>,
    held: BTreeSet<Digest>,
}

/// One run of the executor.
struct Run<'a> {
    loader: &'a Loader,
    spec: &'a LoadSpec,
    operation: OperationId,
    cell: &'a Arc<ProgressCell>,
    stop: &'a CancellationToken,
    read: Bytes,
    reasons: Option<Vec<String>>,
}

impl Loader {
    /// Brings models to a device. What it has brought there is the operation's until that ends.
    ///
    /// # Errors
    /// As caching them; VRAM_EXHAUSTED, WORKER_LOST, DEVICE_FAILED, DEVICE_CORDONED, RESOURCE_NOT_FOUND.
    pub async fn load(
        &self,
        spec: &LoadSpec,
        operation: OperationId,
        cell: &Arc<ProgressCell>,
        stop: &CancellationToken,
    ) -> Result<LoadReport> {
        let began = self.0.clock.monotonic();
        let mut run = Run { loader: self, spec, operation, cell, stop, read: Bytes(0), reasons: None };
        let (wanted, left_out, offer, parts) = run.place().await?;
        let there = run.arrival(offer.device, &parts, &wanted).await?;
        let component = |(part, wanted): (&PlacedPart, &Wanted)| {
            let replica = there.get(&part.replica)?;
            Some(LoadedComponent {
                model: wanted.model,
                name: wanted.component.clone(),
                replica: replica.id,
                digest: replica.digest,
                dtype: replica.dtype,
                own: replica.own,
                mapped: replica.mapped,
                tensors: replica.tensors,
                was_there: part.was_there,
                load_time: replica.load_time,
            })
        };
        Ok(LoadReport {
            device: offer.device,
            components: parts.iter().zip(&wanted).filter_map(component).collect(),
            read: run.read,
            took: self.0.clock.monotonic().saturating_sub(began),
            unloaded: offer.unload,
            left_out,
            reasons: run.reasons.unwrap_or(offer.reasons),
        })
    }
}

impl Run<'_> {
    /// Everything in RAM, and replicas for it.
    async fn place(&mut self) -> Result<Begun> {
        for _ in 0..MOST_TRIES {
            self.cell.set_phase("looking what there is");
            if let Some(wanted) = self.as_it_was() {
                if let Some(placed) = self.place_all(wanted, Vec::new(), true).await? {
                    return Ok(placed);
                }
                continue;
            }
            let sizes = self.loader.sizes(&self.spec.parts, self.spec.dtype, &self.spec.allow, self.stop);
            let sizes = sizes.await?;
            if sizes.components.is_empty() {
                return Err(nothing_to_load(&sizes));
            }
            let was_in_ram = sizes.is_in_ram && !self.spec.validate;
            let (wanted, left_out) =
                if was_in_ram { (sizes.wanted(), sizes.left_out) } else { self.stage(&sizes).await? };
            if let Some(placed) = self.place_all(wanted, left_out, was_in_ram).await? {
                return Ok(placed);
            }
        }
        Err(Error::new(
            Reason::Internal,
            "segments go out of RAM while they are held; report this with the log",
        ))
    }

    /// Replicas for what is in RAM. None: something of it is not there (any more).
    async fn place_all(
        &self,
        wanted: Vec<Wanted>,
        left_out: Vec<String>,
        is_use: bool,
    ) -> Result<Option<Begun>> {
        let ask = self.placing(wanted.clone(), is_use);
        let control = &self.loader.0.control;
        Ok(match self.once_it_is_there(|| control.place(ask.clone())).await? {
            Placed::On { offer, parts } => Some((wanted, left_out, offer, parts)),
            Placed::NotInRam => None,
        })
    }

    /// What is to be brought back, if it is in RAM as it was loaded, whatever has become of its files.
    fn as_it_was(&self) -> Option<Vec<Wanted>> {
        let view = self.loader.0.control.view();
        let model = self.spec.parts.first()?.model;
        let wanted = |part: &IntentPart| {
            view.state.cache().sealed(part.digest)?;
            let (component, digest) = (part.component.clone(), Some(part.digest));
            Some(Wanted { model, component, digest, dtype: part.dtype, bytes: part.bytes, tensors: 0 })
        };
        let wanted: Vec<Wanted> = self.spec.restores.iter().map(wanted).collect::<Option<_>>()?;
        (!wanted.is_empty()).then_some(wanted)
    }

    fn ask(&self, parts: Vec<Wanted>) -> LoadAsk {
        LoadAsk {
            parts,
            placement: self.spec.placement,
            priority: self.spec.priority,
            force: self.spec.force,
        }
    }

    fn placing(&self, parts: Vec<Wanted>, is_use: bool) -> PlaceAsk {
        let ids = parts.iter().map(|_| ReplicaId(Uuid::now_v7())).collect();
        PlaceAsk { operation: self.operation, load: self.ask(parts), ids, is_use }
    }

    /// Room on a device first, then everything to RAM; what has come there is on its way to the device meanwhile.
    async fn stage(&mut self, sizes: &Sizes) -> Result<(Vec<Wanted>, Vec<String>)> {
        let control = &self.loader.0.control;
        let ask = self.ask(sizes.wanted());
        let offer = self.once_it_is_there(|| control.admit(self.operation, ask.clone())).await?;
        self.reasons = Some(offer.reasons);
        let mut coming = Coming { wanted: sizes.wanted(), held: BTreeSet::new() };
        let mut wanted = Vec::new();
        let mut left_out = Vec::new();
        for part in &self.spec.parts {
            let cached = self.cache(part, &mut coming).await?;
            self.read.0 = self.read.0.saturating_add(cached.read.0);
            left_out.extend(cached.left_out);
            for component in cached.components {
                let is_it = |one: &&Wanted| one.model == part.model && one.component == component.name;
                let known = sizes.components.iter().map(|one| &one.wanted).find(is_it);
                let known = known.ok_or_else(|| {
                    let name =
                        self.loader.model(part).map(|model| model.name().to_owned()).unwrap_or_default();
                    Error::new(Reason::SourceChanged, format!("{name} has changed while it was read"))
                })?;
                self.must_be_as_it_was(&component.name, component.digest)?;
                wanted.push(Wanted { digest: Some(component.digest), ..known.clone() });
            }
        }
        Ok((wanted, left_out))
    }

    /// A model to RAM. Of what is coming, each component has its digest from the moment on at which it is there, and is placed.
    async fn cache(&self, part: &ModelPart, coming: &mut Coming) -> Result<CacheReport> {
        let spec = CacheSpec {
            model: part.model,
            components: part.components.clone(),
            priority: self.spec.priority,
            validate: self.spec.validate,
            allow: self.spec.allow.clone(),
        };
        let (tell, mut told) = mpsc::unbounded_channel::<(Box<str>, Digest)>();
        let arrived = move |name: &str, digest: Digest| drop(tell.send((name.into(), digest)));
        let cache = &self.loader.0.cache;
        // The teller ends with the caching, and with it the placing.
        let caching = async move { cache.cache(&spec, self.operation, self.cell, self.stop, &arrived).await };
        let placing = async {
            while let Some(first) = told.recv().await {
                let mut arrived = vec![first];
                while let Ok(next) = told.try_recv() {
                    arrived.push(next);
                }
                for (name, digest) in arrived {
                    // What is not what it was fails its load once all is read: nobody wants it on a device.
                    if self.must_be_as_it_was(&name, digest).is_err() {
                        continue;
                    }
                    let is_it = |one: &&mut Wanted| one.model == part.model && one.component == name;
                    if let Some(one) = coming.wanted.iter_mut().find(is_it) {
                        one.digest = Some(digest);
                    }
                    coming.held.insert(digest);
                }
                let ask = self.placing(coming.wanted.clone(), false);
                // What cannot be placed now is placed, or refused, when everything is there.
                let _ = self.loader.0.control.place_early(ask, coming.held.clone()).await;
            }
        };
        tokio::join!(caching, placing).0
    }

    /// What is brought back is what was loaded: nobody has asked for what has come in its place.
    fn must_be_as_it_was(&self, component: &str, digest: Digest) -> Result<()> {
        match self.spec.restores.iter().find(|part| *part.component == *component) {
            Some(part) if part.digest != digest => {
                let message =
                    format!("{component} has changed since it was loaded: load it again, or unload it");
                Err(Error::new(Reason::SourceChanged, message))
            }
            _ => Ok(()),
        }
    }

    /// Asks the owner; and again, for a while, as long as all that is missing is a worker that is being started.
    async fn once_it_is_there<T, F: Future<Output = Result<T>>>(&self, ask: impl Fn() -> F) -> Result<T> {
        let mut changes = self.loader.0.control.changes();
        let clock = &self.loader.0.clock;
        let until = clock.monotonic().saturating_add(STARTS_WITHIN);
        loop {
            drop(changes.borrow_and_update());
            let refusal = match ask().await {
                Err(error) if error.reason() == Reason::WorkerLost => error,
                answer => return answer,
            };
            let left = until.saturating_sub(clock.monotonic());
            let is_coming = {
                let view = changes.borrow();
                is_coming(&view.state, self.spec.placement)
            };
            if !is_coming || left.is_zero() {
                return Err(refusal);
            }
            self.cell.set_phase("waiting for the device's worker");
            tokio::select! {
                _ = tokio::time::timeout(left, changes.changed()) => {}
                () = self.stop.cancelled() => return Err(stopped()),
            }
        }
    }

    fn is_to_stop(&self, state: &State) -> bool {
        state.operation(self.operation).is_some_and(|operation| operation.cancel_requested)
    }

    /// Waits until everything can be used.
    async fn arrival(
        &self,
        device: DeviceId,
        parts: &[PlacedPart],
        wanted: &[Wanted],
    ) -> Result<BTreeMap<ReplicaId, Arc<Replica>>> {
        self.cell.set_phase("loading");
        let new: BTreeMap<ReplicaId, Bytes> = parts
            .iter()
            .zip(wanted)
            .filter(|(part, _)| !part.was_there)
            .map(|(part, wanted)| (part.replica, wanted.bytes))
            .collect();
        let before = self.cell.done();
        let total = new.values().map(|bytes| bytes.0).fold(before, u64::saturating_add);
        self.cell.set_total(total);
        let ids: BTreeSet<ReplicaId> = parts.iter().map(|part| part.replica).collect();
        let mut changes = self.loader.0.control.changes();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let view = Arc::clone(&changes.borrow_and_update());
            match all_there(&view.state, device, &ids) {
                Ok(Some(there)) => {
                    self.cell.set_done(total);
                    return Ok(there);
                }
                Ok(None) => {}
                // Whoever stops it may have taken its replicas in the same moment: the word of that is on its way.
                Err(_) if self.is_to_stop(&view.state) => {
                    self.stop.cancelled().await;
                    return Err(stopped());
                }
                Err(error) => return Err(error),
            }
            let done = |(id, bytes): (&ReplicaId, &Bytes)| match view.state.residency().replica(*id) {
                Some(one) if one.state == ReplicaState::Active => bytes.0,
                _ => self.loader.0.fleet.loading(*id).map_or(0, |(done, _)| done.0.min(bytes.0)),
            };
            self.cell.set_done(new.iter().map(done).fold(before, u64::saturating_add));
            tokio::select! {
                changed = changes.changed() => {
                    changed.map_err(|_| Error::new(Reason::Draining, "the server is stopping"))?;
                }
                _ = looks.tick() => {}
                () = self.stop.cancelled() => return Err(stopped()),
            }
        }
    }
}

/// Whether a device that could take it has a worker that is being started.
fn is_coming(state: &State, placement: Placement) -> bool {
    if state.is_draining() {
        return false;
    }
    let is_meant = |id: DeviceId| match placement {
        Placement::On(device) => device == id,
        Placement::Any | Placement::Spread | Placement::Pack => true,
    };
    let starts = |state: WorkerState| {
        matches!(
            state,
            WorkerState::Connecting | WorkerState::Registered | WorkerState::Lost | WorkerState::Suspect
        )
    };
    let mut devices = state.devices().iter().filter(|device| is_meant(device.id));
    devices.any(|device| device.worker.is_supervised && starts(device.worker.state))
}

fn nothing_to_load(sizes: &Sizes) -> Error {
    let why =
        if sizes.left_out.is_empty() { "it has no components".to_owned() } else { sizes.left_out.join("; ") };
    Error::new(Reason::IncompatibleModel, format!("nothing of it can be loaded: {why}"))
}

fn stopped() -> Error {
    Error::new(Reason::OperationCancelled, "the operation was stopped")
}
