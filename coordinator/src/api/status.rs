//! What a status joins that no resource holds: the machine as a whole, and where a model is.

use std::collections::BTreeSet;
use std::sync::Arc;

use hoist_domain::{
    Digest, Model, ModelId, OperationState, Replica, ReplicaState, SegmentName, SegmentState, Work,
    WorkerState,
};
use hoist_planner::State;
use hoist_wire::{cache, encode, residency, v1, workers};

use super::Api;
use crate::control::View;

impl Api {
    pub(super) fn machine_status(&self, view: &View) -> v1::MachineStatus {
        let state = &view.state;
        let counts = state.operation_counts();
        let operation_counts = OperationState::ALL
            .into_iter()
            .filter(|state| counts.of(*state) > 0)
            .map(|state| v1::OperationCount {
                state: encode::operation_state(state).into(),
                count: counts.of(state),
            })
            .collect();
        let active = state.residency().replicas().filter(|one| one.state == ReplicaState::Active);
        let sealed = state.cache().segments().filter(|one| one.state == SegmentState::Sealed);
        v1::MachineStatus {
            uptime: Some(encode::duration(self.clock.monotonic().saturating_sub(self.started))),
            conditions: state.conditions().map(|condition| encode::condition(condition)).collect(),
            operation_counts,
            watch_streams: count(self.watcher.open_count()),
            request_ids: count(state.request_count()),
            request_ids_limit: count(self.request_ids_limit),
            oldest_revision: self.control.history().oldest().0,
            first_look: self
                .catalog
                .looks_for_the_first_time()
                .then(|| v1::FirstLook { models: state.models().len() as u64 }),
            devices: state.devices().iter().map(|device| workers::device(device)).collect(),
            active_replicas: active.count() as u64,
            loaded_models: state.residency().intent_count() as u64,
            missing_models: state.residency().unmet_count() as u64,
            segments: sealed.count() as u64,
            segment_bytes: state.cache().totals().used().0,
        }
    }

    /// Where a model is, in RAM and on devices, and what is done with it.
    pub(super) fn model_status(&self, view: &View, model: &Model) -> v1::ModelStatus {
        let state = &view.state;
        let components: Vec<v1::ComponentStatus> = model
            .content
            .components
            .iter()
            .map(|one| v1::ComponentStatus {
                component: one.name.to_string(),
                ..one.digest.map(|digest| self.component(state, digest)).unwrap_or_default()
            })
            .collect();
        let is_on = |operation: &&Arc<hoist_domain::Operation>| is_about(&operation.work, model.id);
        let operations = state.active_operations().filter(is_on).map(|operation| v1::OperationMetadata {
            progress: self.progress(operation).as_ref().map(encode::progress),
            ..encode::operation_metadata(operation)
        });
        let leases = state.cache().leases().filter(|lease| lease.model == model.id).count();
        let sealed = v1::segment::State::Sealed as i32;
        let is_sealed =
            |one: &v1::ComponentStatus| one.segment.as_ref().is_some_and(|one| one.state == sealed);
        let intents = state.residency().intents().filter(|intent| intent.model == model.id);
        let (loaded, missing): (Vec<_>, Vec<_>) =
            intents.partition(|intent| state.residency().is_met(intent) && is_heard(state, intent.device));
        let on = |intents: Vec<&Arc<hoist_domain::Intent>>| {
            intents.into_iter().map(|intent| intent.device.to_string()).collect()
        };
        v1::ModelStatus {
            cached: !components.is_empty() && components.iter().all(is_sealed),
            loaded_on: on(loaded),
            missing_on: on(missing),
            components,
            operations: operations.collect(),
            leases: count(leases),
        }
    }

    /// A content in RAM and on devices; its name is the model's affair.
    fn component(&self, state: &State, digest: Digest) -> v1::ComponentStatus {
        let name = SegmentName::Content(digest);
        let (cache, now) = (state.cache(), self.control.service_time());
        let leases = cache.holders(name).filter(|one| matches!(one, hoist_planner::cache::Holder::Lease(_)));
        let replicas = state.residency().replicas().filter(|one| one.digest == digest);
        let segment = cache.segment(name);
        v1::ComponentStatus {
            component: String::new(),
            segment: segment.map(|segment| cache::segment(segment)),
            idle: segment.and(cache.used_at(name)).map(|used| encode::duration(now.since(used))),
            uses: cache.use_of(name).map_or(0, |used| used.count),
            leases: count(leases.count()),
            replicas: replicas.map(|one| replica(state, one)).collect(),
        }
    }
}

fn replica(state: &State, one: &Replica) -> v1::ReplicaStatus {
    v1::ReplicaStatus { unknown: !is_heard(state, one.device), replica: Some(residency::replica(one)) }
}

/// Whether what is known of a device is as of now.
fn is_heard(state: &State, device: hoist_domain::DeviceId) -> bool {
    state.devices().get(device).is_some_and(|device| device.worker.state == WorkerState::Active)
}

fn is_about(work: &Work, model: ModelId) -> bool {
    let models: BTreeSet<ModelId> = match work {
        Work::CacheModel(spec) => [spec.model].into(),
        Work::ValidateModel(spec) => [spec.model].into(),
        Work::DigestModels(spec) => spec.models.iter().copied().collect(),
        Work::LoadModel(spec) => spec.parts.iter().map(|part| part.model).collect(),
        Work::UnloadModel(spec) => spec.parts.iter().map(|part| part.model).collect(),
        Work::ProbeMachine(_) | Work::ScanModels(_) => return false,
    };
    models.contains(&model)
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
