//! Between coordinator and workers: devices and what is on them, between the domain and messages.
//!
//! Neither side believes the other: whatever cannot be what it says is an error, never a default.

use std::time::Duration;

use hoist_domain::{
    Bytes, Device, DeviceFacts, DeviceMemory, DeviceState, Digest, Dtype, Epoch, Error, Generation,
    Incarnation, ObservedReplica, ReplicaFailure, ReplicaId, ReplicaState, ResourceName, Result, Worker,
    WorkerId, WorkerState, excerpt,
};
use uuid::Uuid;

use crate::encode::{duration, timestamp};
use crate::worker as wire;
use crate::worker::replica_failure::Kind;
use crate::{decode, v1};

/// What coordinator and workers of this release speak: major, minor.
pub const PROTOCOL: (u32, u32) = (1, 1);

/// From this minor version on a worker is told of segments that are being filled.
pub const TELLS_FILLED: u32 = 1;

/// Longer texts of a worker are cut.
const MOST_TEXT: usize = 4 << 10;

#[must_use]
pub const fn generation(generation: Generation) -> wire::Generation {
    wire::Generation { epoch: generation.epoch.0, number: generation.number }
}

#[must_use]
pub const fn read_generation(generation: wire::Generation) -> Generation {
    Generation { epoch: Epoch(generation.epoch), number: generation.number }
}

#[must_use]
pub fn facts(facts: &DeviceFacts) -> wire::DeviceFacts {
    wire::DeviceFacts {
        device_id: facts.id.to_string(),
        model: facts.model.clone(),
        capacity_bytes: facts.capacity.0,
        maps_segments: facts.maps_segments,
        dtypes: facts.dtypes.iter().map(ToString::to_string).collect(),
        libraries: facts.libraries.clone(),
        granularity_bytes: facts.granule.0,
        alignment_bytes: facts.alignment.0,
        bus_bytes_per_second: facts.bus.0,
        memory_node: facts.node,
    }
}

/// Types, and libraries, that a device tells of.
const MOST_FACTS: usize = 64;

/// # Errors
/// When they are those of no device.
pub fn read_facts(facts: wire::DeviceFacts) -> Result<DeviceFacts> {
    if facts.dtypes.len().max(facts.libraries.len()) > MOST_FACTS {
        return Err(Error::invalid_field("device", format!("has lists of more than {MOST_FACTS}")));
    }
    Ok(DeviceFacts {
        id: facts.device_id.parse()?,
        model: text(facts.model),
        capacity: Bytes(facts.capacity_bytes),
        maps_segments: facts.maps_segments,
        dtypes: facts.dtypes.iter().map(|name| dtype("dtypes", name)).collect::<Result<_>>()?,
        libraries: facts.libraries.into_iter().map(text).collect(),
        granule: Bytes(facts.granularity_bytes),
        alignment: Bytes(facts.alignment_bytes),
        bus: Bytes(facts.bus_bytes_per_second),
        node: facts.memory_node,
    })
}

/// A device as clients see it.
#[must_use]
pub fn device(device: &Device) -> v1::Device {
    let state = match device.state {
        DeviceState::Open => v1::device::State::Open,
        DeviceState::Cordoned => v1::device::State::Cordoned,
        DeviceState::Draining => v1::device::State::Draining,
        DeviceState::Lost => v1::device::State::Lost,
    };
    let facts = device.facts.as_ref();
    v1::Device {
        name: ResourceName::Device(device.id).to_string(),
        device_id: device.id.to_string(),
        state: state.into(),
        model: facts.map(|facts| facts.model.clone()).unwrap_or_default(),
        capacity_bytes: facts.map_or(0, |facts| facts.capacity.0),
        used_bytes: device.memory.used.0,
        free_bytes: device.memory.free.0,
        mapped_bytes: device.memory.mapped.0,
        maps_segments: facts.is_some_and(|facts| facts.maps_segments),
        dtypes: facts.iter().flat_map(|facts| &facts.dtypes).map(ToString::to_string).collect(),
        libraries: facts.map(|facts| facts.libraries.clone()).unwrap_or_default(),
        worker: Some(self::worker(&device.worker)),
        cordoned: device.cordoned.is_some(),
        cordon_reason: device.cordoned.as_deref().unwrap_or_default().to_owned(),
        granularity_bytes: facts.map_or(0, |facts| facts.granule.0),
        alignment_bytes: facts.map_or(0, |facts| facts.alignment.0),
        others_bytes: device.memory.others.0,
        lent_bytes: device.memory.lent.0,
        lent_processes: device.memory.lent_to,
        bus_bytes_per_second: facts.map_or(0, |facts| facts.bus.0),
        memory_node: facts.and_then(|facts| facts.node),
        problem: device.problem.clone(),
    }
}

fn worker(worker: &Worker) -> v1::Worker {
    use v1::worker::State;
    let state = match worker.state {
        WorkerState::Connecting => State::Connecting,
        WorkerState::Registered => State::Registered,
        WorkerState::Active => State::Active,
        WorkerState::Suspect => State::Suspect,
        WorkerState::Draining => State::Draining,
        WorkerState::Lost => State::Lost,
        WorkerState::Quarantined => State::Quarantined,
    };
    v1::Worker {
        state: state.into(),
        worker_id: worker.id.map(|id| id.to_string()).unwrap_or_default(),
        incarnation: worker.incarnation.map(|id| id.to_string()).unwrap_or_default(),
        process_id: worker.process.unwrap_or_default(),
        release: worker.release.clone(),
        supervised: worker.is_supervised,
        restarts: worker.restarts,
        problem: worker.problem.clone(),
        state_time: Some(timestamp(worker.since)),
    }
}

#[must_use]
pub const fn memory(memory: DeviceMemory) -> wire::DeviceMemory {
    wire::DeviceMemory {
        used_bytes: memory.used.0,
        free_bytes: memory.free.0,
        mapped_bytes: memory.mapped.0,
        others_bytes: memory.others.0,
        lent_bytes: memory.lent.0,
        lent_processes: memory.lent_to,
    }
}

#[must_use]
pub const fn read_memory(memory: wire::DeviceMemory) -> DeviceMemory {
    DeviceMemory {
        used: Bytes(memory.used_bytes),
        free: Bytes(memory.free_bytes),
        mapped: Bytes(memory.mapped_bytes),
        others: Bytes(memory.others_bytes),
        lent: Bytes(memory.lent_bytes),
        lent_to: memory.lent_processes,
    }
}

#[must_use]
pub fn observed(replica: &ObservedReplica) -> wire::ObservedReplica {
    let state = match replica.state {
        ReplicaState::Waiting => wire::ReplicaState::Waiting,
        ReplicaState::Loading => wire::ReplicaState::Loading,
        ReplicaState::Active => wire::ReplicaState::Active,
        ReplicaState::Unloading => wire::ReplicaState::Unloading,
        ReplicaState::Failed => wire::ReplicaState::Failed,
        // No worker sees these.
        ReplicaState::Absent | ReplicaState::Lost => wire::ReplicaState::Unspecified,
    };
    wire::ObservedReplica {
        replica: replica.id.to_string(),
        digest: replica.digest.to_string(),
        state: state.into(),
        own_bytes: replica.own.0,
        mapped_bytes: replica.mapped.0,
        tensors: replica.tensors,
        dtype: replica.dtype.map(|dtype| dtype.to_string()).unwrap_or_default(),
        load_time: replica.load_time.map(duration),
        failure: replica.failure.as_ref().map(failure),
    }
}

/// # Errors
/// When it is no replica that a worker can have.
pub fn read_observed(replica: wire::ObservedReplica) -> Result<ObservedReplica> {
    let state = decode::value("state", replica.state, |state| {
        Some(match state {
            wire::ReplicaState::Unspecified => return None,
            wire::ReplicaState::Waiting => ReplicaState::Waiting,
            wire::ReplicaState::Loading => ReplicaState::Loading,
            wire::ReplicaState::Active => ReplicaState::Active,
            wire::ReplicaState::Unloading => ReplicaState::Unloading,
            wire::ReplicaState::Failed => ReplicaState::Failed,
        })
    })?;
    let failure = replica.failure.map(read_failure).transpose()?;
    if (state == ReplicaState::Failed) != failure.is_some() {
        return Err(Error::invalid_field("failure", "is set for what FAILED, and for nothing else"));
    }
    Ok(ObservedReplica {
        id: replica_id(&replica.replica)?,
        digest: digest(&replica.digest)?,
        dtype: read_dtype(&replica.dtype)?,
        state,
        own: Bytes(replica.own_bytes),
        mapped: Bytes(replica.mapped_bytes),
        tensors: replica.tensors,
        load_time: decode::duration("load_time", replica.load_time.as_ref())?,
        failure,
    })
}

fn failure(failure: &ReplicaFailure) -> wire::ReplicaFailure {
    let of = |kind: Kind, message: &str| wire::ReplicaFailure {
        kind: kind.into(),
        message: message.to_owned(),
        ..Default::default()
    };
    match failure {
        ReplicaFailure::NoMemory { needed, free } => wire::ReplicaFailure {
            needed_bytes: needed.0,
            free_bytes: free.0,
            ..of(Kind::NoMemory, &failure.to_string())
        },
        ReplicaFailure::Segment(why) => of(Kind::Segment, why),
        ReplicaFailure::Unsupported(why) => of(Kind::Unsupported, why),
        ReplicaFailure::Device(why) => of(Kind::Device, why),
    }
}

fn read_failure(failure: wire::ReplicaFailure) -> Result<ReplicaFailure> {
    let known = decode::value("failure.kind", failure.kind, |kind: Kind| {
        (kind != Kind::Unspecified).then_some(kind)
    })?;
    let why = text(failure.message);
    Ok(match known {
        Kind::NoMemory => {
            ReplicaFailure::NoMemory { needed: Bytes(failure.needed_bytes), free: Bytes(failure.free_bytes) }
        }
        Kind::Segment => ReplicaFailure::Segment(why),
        Kind::Unsupported => ReplicaFailure::Unsupported(why),
        Kind::Device | Kind::Unspecified => ReplicaFailure::Device(why),
    })
}

/// # Errors
/// When it is no UUID.
pub fn replica_id(text: &str) -> Result<ReplicaId> {
    uuid("replica", text).map(ReplicaId)
}

/// # Errors
/// When it is no UUID.
pub fn worker_id(text: &str) -> Result<WorkerId> {
    uuid("worker_id", text).map(WorkerId)
}

/// # Errors
/// When it is no UUID.
pub fn incarnation(text: &str) -> Result<Incarnation> {
    uuid("incarnation", text).map(Incarnation)
}

/// # Errors
/// When it is none.
pub fn digest(text: &str) -> Result<Digest> {
    text.parse().map_err(|_| Error::invalid_field("digest", format!("`{}` is no digest", excerpt(text))))
}

/// What something is converted to; none where the text is empty.
///
/// # Errors
/// When it is no type of elements.
pub fn read_dtype(name: &str) -> Result<Option<Dtype>> {
    (!name.is_empty()).then(|| dtype("dtype", name)).transpose()
}

/// A time that a peer states, within what is sensible between two processes of one machine.
///
/// # Errors
/// When it is unset or out of bounds.
pub fn interval(field: &str, value: Option<&prost_types::Duration>) -> Result<Duration> {
    let bounds = Duration::from_millis(10)..=Duration::from_secs(3_600);
    decode::bounded_duration(field, value, bounds)?.ok_or_else(|| Error::invalid_field(field, "is not set"))
}

fn dtype(field: &str, name: &str) -> Result<Dtype> {
    Dtype::from_name(name)
        .ok_or_else(|| Error::invalid_field(field, format!("`{}` is no type of elements", excerpt(name))))
}

fn uuid(field: &str, text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| Error::invalid_field(field, format!("`{}` is no UUID", excerpt(text))))
}

/// Words of a worker, cut where they are long.
#[must_use]
pub fn text(mut text: String) -> String {
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= MOST_TEXT).last().unwrap_or(0);
    if text.len() > MOST_TEXT {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica() -> ObservedReplica {
        ObservedReplica {
            id: ReplicaId(Uuid::from_u128(1)),
            digest: Digest([7; 32]),
            dtype: Some(Dtype::Bf16),
            state: ReplicaState::Active,
            own: Bytes(5),
            mapped: Bytes(6),
            tensors: 3,
            load_time: Some(Duration::from_millis(4)),
            failure: None,
        }
    }

    #[test]
    fn a_replica_comes_back_as_it_went() {
        let failed = |failure| ObservedReplica {
            state: ReplicaState::Failed,
            load_time: None,
            failure: Some(failure),
            ..replica()
        };
        for one in [
            replica(),
            ObservedReplica { state: ReplicaState::Waiting, dtype: None, load_time: None, ..replica() },
            failed(ReplicaFailure::NoMemory { needed: Bytes(9), free: Bytes(3) }),
            failed(ReplicaFailure::Segment("gone".to_owned())),
            failed(ReplicaFailure::Unsupported("F4".to_owned())),
            failed(ReplicaFailure::Device("ecc".to_owned())),
        ] {
            assert_eq!(read_observed(observed(&one)), Ok(one));
        }
    }

    #[test]
    fn what_no_worker_can_have_is_refused() {
        type Change = fn(&mut wire::ObservedReplica);
        let changes: [(&str, Change); 6] = [
            ("replica", |it| it.replica = "7".to_owned()),
            ("digest", |it| it.digest = "xyz".to_owned()),
            ("state", |it| it.state = 0),
            ("state", |it| it.state = 99),
            ("dtype", |it| it.dtype = "F99".to_owned()),
            ("failure", |it| it.state = wire::ReplicaState::Failed.into()),
        ];
        for (field, change) in changes {
            let mut it = observed(&replica());
            change(&mut it);
            let error = read_observed(it).unwrap_err();
            assert_eq!(error.fields().first().map(|one| one.field.as_str()), Some(field), "{error:?}");
        }
    }

    #[test]
    fn facts_come_back_and_long_texts_are_cut() {
        let all = DeviceFacts {
            id: "cpu:0".parse().unwrap(),
            model: "a processor".to_owned(),
            capacity: Bytes::gib(8),
            maps_segments: true,
            dtypes: vec![Dtype::F16, Dtype::F32],
            libraries: vec!["libtorch 2.11.0".to_owned()],
            granule: Bytes::mib(2),
            bus: Bytes(64_000_000_000),
            node: Some(1),
            alignment: Bytes(256),
        };
        assert_eq!(read_facts(facts(&all)), Ok(all.clone()));
        let long = DeviceFacts { model: "ö".repeat(100_000), ..all };
        assert!(read_facts(facts(&long)).unwrap().model.len() <= MOST_TEXT);
    }
}
