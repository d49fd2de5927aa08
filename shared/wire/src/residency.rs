//! Models on devices, between the domain and messages.

use hoist_domain::{
    DeviceId, Dtype, Error, LoadReport, Placement, Reason, Replica, ReplicaState, ResourceName, Result,
    UnloadReport, excerpt,
};

use crate::cache::{priority, segment_name};
use crate::encode::{duration, timestamp};
use crate::{decode, v1};

/// The most strategies that a request may name.
const MOST_STRATEGIES: usize = 8;

fn text(dtype: Option<Dtype>) -> String {
    dtype.map(|dtype| dtype.to_string()).unwrap_or_default()
}

#[must_use]
pub fn replica(replica: &Replica) -> v1::Replica {
    use v1::replica::State;
    let state = match replica.state {
        ReplicaState::Waiting => State::Waiting,
        ReplicaState::Loading => State::Loading,
        ReplicaState::Active => State::Active,
        ReplicaState::Unloading => State::Unloading,
        ReplicaState::Failed => State::Failed,
        // Such a one is not in the state.
        ReplicaState::Absent | ReplicaState::Lost => State::Unspecified,
    };
    v1::Replica {
        name: ResourceName::Replica(replica.id).to_string(),
        device_id: replica.device.to_string(),
        segment: segment_name(replica.digest),
        dtype: text(replica.dtype),
        state: state.into(),
        models: replica.models.iter().map(|model| ResourceName::Model(*model).to_string()).collect(),
        priority: priority(replica.priority).into(),
        planned_bytes: replica.planned.0,
        own_bytes: replica.own.0,
        mapped_bytes: replica.mapped.0,
        tensors: replica.tensors,
        load_time: replica.load_time.map(duration),
        failure: replica.failure.as_ref().map(ToString::to_string).unwrap_or_default(),
        create_time: Some(timestamp(replica.since)),
    }
}

#[must_use]
pub fn loaded(report: &LoadReport) -> v1::LoadModelResponse {
    let components = report.components.iter().map(|one| v1::LoadedComponent {
        model: ResourceName::Model(one.model).to_string(),
        component: one.name.to_string(),
        replica: ResourceName::Replica(one.replica).to_string(),
        segment: segment_name(one.digest),
        dtype: text(one.dtype),
        own_bytes: one.own.0,
        mapped_bytes: one.mapped.0,
        tensors: one.tensors,
        resident: one.was_there,
        load_time: one.load_time.map(duration),
    });
    v1::LoadModelResponse {
        device_id: report.device.to_string(),
        components: components.collect(),
        read_bytes: report.read.0,
        took: Some(duration(report.took)),
        unloaded: report.unloaded.iter().map(|model| ResourceName::Model(*model).to_string()).collect(),
        left_out: report.left_out.clone(),
        reasons: report.reasons.clone(),
        strategy: v1::LoadStrategy::Standard.into(),
    }
}

#[must_use]
pub fn unloaded(report: &UnloadReport) -> v1::UnloadModelResponse {
    let gone = || report.replicas.iter().filter(|one| one.kept.is_none());
    let sum = |bytes: &mut dyn Iterator<Item = u64>| bytes.fold(0, u64::saturating_add);
    let replicas = report.replicas.iter().map(|one| v1::UnloadedReplica {
        replica: ResourceName::Replica(one.replica).to_string(),
        device_id: one.device.to_string(),
        segment: segment_name(one.digest),
        expected_bytes: one.expected.0,
        returned_bytes: one.returned.0,
        kept_because: one.kept.clone().unwrap_or_default(),
    });
    v1::UnloadModelResponse {
        replicas: replicas.collect(),
        expected_bytes: sum(&mut gone().map(|one| one.expected.0)),
        returned_bytes: sum(&mut gone().map(|one| one.returned.0)),
        retained_bytes: sum(&mut gone().map(|one| one.retained().0)),
        took: Some(duration(report.took)),
    }
}

/// A device as clients name it: `cpu:0`, `devices/cpu:0`, `GPU_0`; none where the text is empty.
///
/// # Errors
/// When it is no device's name.
pub fn read_device(field: &str, name: &str) -> Result<Option<DeviceId>> {
    if name.is_empty() {
        return Ok(None);
    }
    let id = name.strip_prefix("devices/").unwrap_or(name).parse();
    id.map(Some).map_err(|error: Error| Error::invalid_field(field, error.message().to_owned()))
}

/// What tensors are to be converted to; none where the text is empty.
///
/// # Errors
/// When it is no type of elements.
pub fn read_dtype(field: &str, name: &str) -> Result<Option<Dtype>> {
    if name.is_empty() {
        return Ok(None);
    }
    let known = Dtype::from_name(&name.to_ascii_uppercase());
    known.map(Some).ok_or_else(|| {
        let message = format!("`{}` is no type of elements: write BF16, F16, F32 or F64", excerpt(name));
        Error::invalid_field(field, message)
    })
}

/// Where something is to be.
///
/// # Errors
/// When it is said twice, or is nothing that is known.
pub fn read_placement(options: &v1::LoadOptions) -> Result<Placement> {
    let said = decode::value("options.placement", options.placement, |placement| {
        Some(match placement {
            v1::Placement::Unspecified => None,
            v1::Placement::Any => Some(Placement::Any),
            v1::Placement::Spread => Some(Placement::Spread),
            v1::Placement::Pack => Some(Placement::Pack),
        })
    })?;
    match (read_device("options.device_id", &options.device_id)?, said) {
        (Some(_), Some(_)) => {
            Err(Error::invalid_field("options.placement", "a device is named: there is nothing to choose"))
        }
        (Some(device), None) => Ok(Placement::On(device)),
        (None, said) => Ok(said.unwrap_or(Placement::Any)),
    }
}

/// Refuses what this release does not do.
///
/// # Errors
/// METHOD_UNKNOWN, or FIELD_INVALID for what nothing is.
pub fn must_be_built(options: &v1::LoadOptions) -> Result<()> {
    use v1::{LoadStrategy, MemoryPool, OptimizationLevel};
    if options.strategies.len() > MOST_STRATEGIES {
        let message = format!("has {} of them, at most {MOST_STRATEGIES}", options.strategies.len());
        return Err(Error::invalid_field("options.strategies", message));
    }
    let mut is_built = options.strategies.is_empty();
    for strategy in &options.strategies {
        let known = decode::value("options.strategies", *strategy, Some::<LoadStrategy>)?;
        is_built |= matches!(known, LoadStrategy::Unspecified | LoadStrategy::Standard);
    }
    let level = decode::value("options.optimization", options.optimization, Some::<OptimizationLevel>)?;
    let pool = decode::value("options.memory_pool", options.memory_pool, Some::<MemoryPool>)?;
    let what = if !is_built {
        "a strategy other than STANDARD"
    } else if !matches!(level, OptimizationLevel::Unspecified | OptimizationLevel::Standard) {
        "an optimization other than STANDARD"
    } else if pool == MemoryPool::Dedicated {
        "a dedicated memory pool"
    } else if options.max_resident_components > 0 {
        "`max_resident_components`"
    } else {
        return Ok(());
    };
    Err(Error::new(Reason::MethodUnknown, format!("{what} is not built yet: leave it out")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_or_chosen_and_not_both() {
        let of = |device_id: &str, placement: i32| {
            read_placement(&v1::LoadOptions {
                device_id: device_id.to_owned(),
                placement,
                ..Default::default()
            })
        };
        let cuda = Placement::On("cuda:0".parse().unwrap());
        for name in ["cuda:0", "devices/cuda:0", "GPU_0", "gpu:0"] {
            assert_eq!(of(name, 0), Ok(cuda), "{name}");
        }
        assert_eq!(of("", 0), Ok(Placement::Any));
        assert_eq!(of("", 3), Ok(Placement::Pack));
        let field = |refused: Result<Placement>| refused.unwrap_err().fields()[0].field.clone();
        assert_eq!(field(of("cuda:0", 1)), "options.placement");
        assert_eq!(field(of("", 9)), "options.placement");
        assert_eq!(field(of("tpu:0", 0)), "options.device_id");
    }

    #[test]
    fn what_is_not_built_is_refused_unless_something_built_is_allowed_too() {
        let with = |change: fn(&mut v1::LoadOptions)| {
            let mut options = v1::LoadOptions::default();
            change(&mut options);
            must_be_built(&options).map_err(|error| error.reason())
        };
        assert_eq!(with(|_| {}), Ok(()));
        assert_eq!(with(|it| it.strategies = vec![5, 1]), Ok(()));
        assert_eq!(with(|it| it.strategies = vec![5]), Err(Reason::MethodUnknown));
        assert_eq!(with(|it| it.strategies = vec![77, 1]), Err(Reason::FieldInvalid));
        assert_eq!(with(|it| it.optimization = 3), Err(Reason::MethodUnknown));
        assert_eq!(with(|it| it.memory_pool = 2), Err(Reason::MethodUnknown));
        assert_eq!(with(|it| it.max_resident_components = 1), Err(Reason::MethodUnknown));
    }

    #[test]
    fn a_type_of_elements_is_read_in_either_case() {
        assert_eq!(read_dtype("dtype", "bf16"), Ok(Some(Dtype::Bf16)));
        assert_eq!(read_dtype("dtype", ""), Ok(None));
        assert!(read_dtype("dtype", "float17").is_err());
    }
}
