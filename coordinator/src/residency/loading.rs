//! The executor of loads: from models to replicas that can be used.
//!
//! ```text
//!  sizes ─┬─ all in RAM, or on the device ─────────────────────────────► place ─► arrival: all ACTIVE
//!         └─ admit ─► cache, model by model ─► each component: place early ┘
//! ```
//!
//! What is read is on its way to the device while the rest is still read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    Bytes, DeviceId, Error, IntentPart, LoadReport, LoadSpec, LoadedComponent, OperationId, Placement,
    Reason, Replica, ReplicaId, ReplicaState, Result, WorkerState,
};
use hoist_planner::State;
use hoist_planner::residency::{LoadAsk, Offer, PlaceAsk, Placed, PlacedPart, Wanted};
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

/// One run of the executor.
pub(super) struct Run<'a> {
    pub(super) loader: &'a Loader,
    pub(super) spec: &'a LoadSpec,
    pub(super) operation: OperationId,
    pub(super) cell: &'a Arc<ProgressCell>,
    pub(super) stop: &'a CancellationToken,
    pub(super) read: Bytes,
    pub(super) reasons: Option<Vec<String>>,
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
            if sizes.is_at_hand && !self.spec.validate {
                let placed = self.place_all(sizes.wanted(), sizes.left_out.clone(), true).await?;
                if let Some(placed) = placed {
                    return Ok(placed);
                }
                // It has gone since, or is on another device.
            }
            let (wanted, left_out) = self.stage(&sizes).await?;
            if let Some(placed) = self.place_all(wanted, left_out, false).await? {
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

    pub(super) fn ask(&self, parts: Vec<Wanted>) -> LoadAsk {
        LoadAsk {
            parts,
            placement: self.spec.placement,
            priority: self.spec.priority,
            force: self.spec.force,
        }
    }

    pub(super) fn placing(&self, parts: Vec<Wanted>, is_use: bool) -> PlaceAsk {
        let ids = parts.iter().map(|_| ReplicaId(Uuid::now_v7())).collect();
        PlaceAsk { operation: self.operation, load: self.ask(parts), ids, is_use }
    }

    /// Asks the owner; and again, for a while, as long as all that is missing is a worker that is being started.
    pub(super) async fn once_it_is_there<T, F: Future<Output = Result<T>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T> {
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
