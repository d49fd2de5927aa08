//! Loads and unloads at work, step by step as the real executors go.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};
use hoist_domain::{
    Bytes, DeviceId, Digest, Error, LoadReport, LoadSpec, ModelType, OperationId, OperationOutput, Outcome,
    Reason, ReplicaId, ReplicaState, SegmentName, UnloadSpec, Work,
};
use hoist_planner::cache::{Facts, Part, Reservation};
use hoist_planner::residency::{LoadAsk, PlaceAsk, Placed, UnloadAsk, Wanted};
use uuid::Uuid;

use super::{DevicesWorld, shelf};
use crate::Random;

/// One at work.
#[derive(Clone, Debug)]
pub(super) enum Executor {
    Begin,
    /// It has its device, and reads what is not in RAM.
    Filling,
    Arriving(DeviceId, BTreeSet<ReplicaId>),
    /// It has seen everything there, and has not said so yet.
    Arrived(DeviceId),
    Leaving(BTreeSet<ReplicaId>),
}

fn asked(spec: &LoadSpec) -> LoadAsk {
    let parts: Vec<Wanted> =
        spec.parts.iter().flat_map(|part| shelf::parts(part.model, &part.components)).collect();
    LoadAsk { parts, placement: spec.placement, priority: spec.priority, force: spec.force }
}

impl DevicesWorld {
    /// An executor takes a step.
    pub(super) fn execute(&mut self, random: &mut Random) -> Result<bool> {
        let running: Vec<OperationId> = self.life().running.keys().copied().collect();
        let Some(id) = random.pick(&running).copied() else { return Ok(false) };
        let state = self.state();
        let Some(operation) = state.operation(id).cloned() else { bail!("{id} runs and does not exist") };
        if self.life().running.get(&id).is_some_and(|running| running.told_to_stop) {
            self.end(id, Outcome::Cancelled(Error::new(Reason::OperationCancelled, "as asked")))?;
            return Ok(true);
        }
        let at = self.executors.get(&id).cloned().unwrap_or(Executor::Begin);
        match (&operation.work, at) {
            (Work::LoadModel(spec), Executor::Begin) => self.begin_load(id, spec),
            (Work::LoadModel(spec), Executor::Filling) => self.fill(id, spec, random),
            (Work::LoadModel(_), Executor::Arriving(device, ids)) => self.arrive(id, device, &ids),
            (Work::LoadModel(_), Executor::Arrived(device)) => self.report(id, device),
            (Work::UnloadModel(spec), Executor::Begin) => self.begin_unload(id, spec),
            (Work::UnloadModel(_), Executor::Leaving(ids)) => self.leave(id, &ids),
            (work, at) => bail!("{work:?} is at {at:?}"),
        }
    }

    fn begin_load(&mut self, id: OperationId, spec: &LoadSpec) -> Result<bool> {
        let state = self.state();
        let ask = asked(spec);
        let is_in_ram =
            |part: &Wanted| part.digest.is_some_and(|digest| state.cache().sealed(digest).is_some());
        if ask.parts.iter().all(is_in_ram) {
            return self.place(id, ask, true);
        }
        let control = self.life().control.clone();
        match self.life().turn(control.admit(id, ask))? {
            Ok(_) => {
                self.note("filling", id);
                self.executors.insert(id, Executor::Filling);
            }
            Err(error) => self.end(id, Outcome::Failed(error))?,
        }
        Ok(true)
    }

    fn fill(&mut self, id: OperationId, spec: &LoadSpec, random: &mut Random) -> Result<bool> {
        let ask = asked(spec);
        let digests: Vec<_> = ask.parts.iter().filter_map(|part| part.digest).collect();
        if random.percent(50) {
            // Some of it has come, or is on its way.
            let mut held: BTreeSet<_> = digests.iter().copied().filter(|_| random.percent(50)).collect();
            self.fill_ram(id, &held.iter().copied().collect::<Vec<_>>())?;
            let coming: Vec<_> = digests.into_iter().filter(|_| random.percent(50)).collect();
            self.begin_to_fill(id, spec, &coming)?;
            held.extend(coming);
            let early = self.placing(id, ask, false);
            let control = self.life().control.clone();
            let before = self.state().residency().replica_count();
            if let Err(error) = self.life().turn(control.place_early(early, held))? {
                self.end(id, Outcome::Failed(error))?;
            }
            if self.state().residency().replica_count() > before {
                self.note("placed early", id);
            }
            return Ok(true);
        }
        if !self.fill_ram(id, &digests)? {
            // Another fills some of it.
            return Ok(false);
        }
        self.place(id, ask, false)
    }

    /// What of these nobody has or fills, this one begins to fill.
    fn begin_to_fill(&mut self, id: OperationId, spec: &LoadSpec, digests: &[Digest]) -> Result<()> {
        let state = self.state();
        let Some(model) = spec.parts.first().map(|part| part.model) else { return Ok(()) };
        let names = digests.iter().map(|digest| SegmentName::Content(*digest));
        let names = names.filter(|name| state.cache().segment(*name).is_none()).collect::<BTreeSet<_>>();
        let part = |name: SegmentName| Part {
            name,
            source: name,
            bytes: Bytes(1),
            is_raw: false,
            component_type: ModelType::Unknown,
        };
        let facts = Facts { budget: Bytes::gib(1), limit: String::new(), open: BTreeSet::new() };
        let parts = names.into_iter().map(part).collect();
        let ask = Reservation { operation: id, model, priority: spec.priority, parts, facts };
        let control = self.life().control.clone();
        if let Ok(reserved) = self.life().turn(control.reserve(ask))? {
            for (_, name) in reserved.fill {
                self.note("fills", format!("{id} {name}"));
            }
        }
        Ok(())
    }

    fn placing(&mut self, id: OperationId, load: LoadAsk, is_use: bool) -> PlaceAsk {
        let ids = load.parts.iter().map(|_| ReplicaId(Uuid::from_u128(self.number().into()))).collect();
        PlaceAsk { operation: id, load, ids, is_use }
    }

    fn place(&mut self, id: OperationId, load: LoadAsk, is_use: bool) -> Result<bool> {
        let ask = self.placing(id, load, is_use);
        let control = self.life().control.clone();
        match self.life().turn(control.place(ask))? {
            Ok(Placed::On { offer, parts }) => {
                let ids = parts.iter().map(|part| part.replica).collect();
                self.executors.insert(id, Executor::Arriving(offer.device, ids));
            }
            Ok(Placed::NotInRam) => drop(self.executors.insert(id, Executor::Begin)),
            Err(error) => self.end(id, Outcome::Failed(error))?,
        }
        Ok(true)
    }

    fn arrive(&mut self, id: OperationId, device: DeviceId, ids: &BTreeSet<ReplicaId>) -> Result<bool> {
        let state = self.state();
        let mut is_there = true;
        for replica in ids {
            match state.residency().replica(*replica).map(|replica| replica.state) {
                None => {
                    let lost = Error::new(Reason::WorkerLost, "its worker has ended");
                    self.end(id, Outcome::Failed(lost))?;
                    return Ok(true);
                }
                Some(ReplicaState::Failed) => {
                    let failed = Error::new(Reason::DeviceFailed, "as it happens");
                    self.end(id, Outcome::Failed(failed))?;
                    return Ok(true);
                }
                Some(ReplicaState::Active) => {}
                Some(_) => is_there = false,
            }
        }
        if is_there {
            self.executors.insert(id, Executor::Arrived(device));
        }
        Ok(is_there)
    }

    fn report(&mut self, id: OperationId, device: DeviceId) -> Result<bool> {
        let report = LoadReport {
            device,
            components: Vec::new(),
            read: Bytes(0),
            took: Duration::ZERO,
            unloaded: Vec::new(),
            left_out: Vec::new(),
            reasons: Vec::new(),
        };
        self.end(id, Outcome::Output(OperationOutput::LoadModel(Box::new(report))))?;
        Ok(true)
    }

    fn begin_unload(&mut self, id: OperationId, spec: &UnloadSpec) -> Result<bool> {
        let ask = UnloadAsk { parts: spec.parts.clone(), device: spec.device, force: spec.force };
        let control = self.life().control.clone();
        match self.life().turn(control.unload(ask))? {
            Ok(leaving) => {
                self.intended.unloaded(spec);
                self.note("leaving", format!("{id} {leaving:?}"));
                let gone = leaving.into_iter().filter(|one| one.kept.is_none());
                self.executors.insert(id, Executor::Leaving(gone.map(|one| one.replica).collect()));
            }
            Err(error) => self.end(id, Outcome::Failed(error))?,
        }
        Ok(true)
    }

    fn leave(&mut self, id: OperationId, ids: &BTreeSet<ReplicaId>) -> Result<bool> {
        let state = self.state();
        if ids.iter().any(|replica| state.residency().replica(*replica).is_some()) {
            return Ok(false);
        }
        let report = OperationOutput::UnloadModel(Box::default());
        self.end(id, Outcome::Output(report))?;
        Ok(true)
    }

    fn end(&mut self, id: OperationId, outcome: Outcome) -> Result<()> {
        let before = self.state();
        self.executors.remove(&id);
        self.life().running.remove(&id);
        let control = self.life().control.clone();
        self.life().turn(control.finish(id, outcome))?;
        let after = self.state();
        if self.is_full && after.operation(id).is_some_and(|operation| operation.outcome.is_none()) {
            self.note("owed", id);
            return Ok(());
        }
        if let Some(operation) = after.operation(id) {
            let kind = match operation.outcome.as_ref() {
                Some(Outcome::Output(_)) => "succeeded",
                Some(Outcome::Failed(_)) => "failed",
                Some(Outcome::Cancelled(_)) => "cancelled",
                None => bail!("{id} was reported and has not ended"),
            };
            let why = match &operation.outcome {
                Some(Outcome::Failed(error) | Outcome::Cancelled(error)) => error.to_string(),
                _ => String::new(),
            };
            self.note(kind, format!("{id} {why}"));
            let load = before.residency().load(id);
            match (kind, load.is_some_and(|load| !load.displaced.is_empty())) {
                ("succeeded", true) => self.note(
                    "displaced",
                    format!(
                        "{id} {:?}",
                        load.map(|load| (
                            load.device,
                            &load.displaced,
                            load.parts
                                .iter()
                                .map(|part| (part.model, part.component.clone()))
                                .collect::<Vec<_>>()
                        ))
                    ),
                ),
                (_, true) => self.note("given back", id),
                _ => {}
            }
            if kind == "succeeded" {
                self.intended.loaded(&before, id);
            }
        }
        Ok(())
    }
}
