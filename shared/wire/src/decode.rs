//! From messages to the domain: the one gate at which what clients send is judged. Every refusal names its field.

use std::collections::BTreeSet;
use std::time::Duration;

use hoist_domain::{
    Bytes, Epoch, Error, Filter, MeasurementKind, OperationState, Position, ProbeSpec, RequestId,
    ResourceKind, ResourceName, Result, Revision,
};
use prost::UnknownEnumValue;

use crate::v1;

/// The most names in one request; see the protos.
pub const MAX_NAMES: usize = 1_000;

/// A request id, or `None` where the client sent none.
///
/// # Errors
/// When it is not a UUID.
pub fn request_id(text: &str) -> Result<Option<RequestId>> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

/// A span of time.
///
/// # Errors
/// When it is negative or malformed.
pub fn duration(field: &str, value: Option<&prost_types::Duration>) -> Result<Option<Duration>> {
    let Some(value) = value else { return Ok(None) };
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(value.seconds), u32::try_from(value.nanos)) else {
        return Err(Error::invalid_field(field, "must not be negative"));
    };
    if nanos >= 1_000_000_000 {
        return Err(Error::invalid_field(field, "nanos must be below 1,000,000,000"));
    }
    Ok(Some(Duration::new(seconds, nanos)))
}

/// A span of time within bounds, or `default` where the client sent none.
///
/// # Errors
/// When it is out of bounds.
pub fn bounded_duration(
    field: &str,
    value: Option<&prost_types::Duration>,
    bounds: std::ops::RangeInclusive<Duration>,
) -> Result<Option<Duration>> {
    match duration(field, value)? {
        Some(asked) if !bounds.contains(&asked) => Err(Error::invalid_field(
            field,
            format!("must be from {} s to {} s", bounds.start().as_secs_f64(), bounds.end().as_secs_f64()),
        )),
        asked => Ok(asked),
    }
}

#[must_use]
pub fn position(value: v1::Position) -> Position {
    Position { epoch: Epoch(value.epoch), revision: Revision(value.revision) }
}

/// One element of a repeated field, by its name in the request: `kinds[3]`.
fn element<T>(field: &str, index: usize, value: Result<T, String>) -> Result<T> {
    value.map_err(|description| Error::invalid_field(format!("{field}[{index}]"), description))
}

/// The domain's value for a known, specified enum value.
fn enumerated<P, D>(number: i32, known: impl Fn(P) -> Option<D>) -> Result<D, String>
where
    P: TryFrom<i32, Error = UnknownEnumValue>,
{
    P::try_from(number)
        .ok()
        .and_then(known)
        .ok_or_else(|| format!("{number} is not a value this server knows"))
}

/// A field that is one of an enum's values: what it stands for, where that is known.
///
/// # Errors
/// When it is none of them.
pub fn value<P, D>(field: &str, number: i32, known: impl Fn(P) -> Option<D>) -> Result<D>
where
    P: TryFrom<i32, Error = UnknownEnumValue>,
{
    enumerated(number, known).map_err(|description| Error::invalid_field(field, description))
}

fn measurement_kind(kind: v1::MeasurementKind) -> Option<MeasurementKind> {
    match kind {
        v1::MeasurementKind::Unspecified => None,
        v1::MeasurementKind::DiskRead => Some(MeasurementKind::DiskRead),
        v1::MeasurementKind::TmpfsWrite => Some(MeasurementKind::TmpfsWrite),
        v1::MeasurementKind::MemoryCopy => Some(MeasurementKind::MemoryCopy),
    }
}

fn resource_kind(kind: v1::ResourceKind) -> Option<ResourceKind> {
    match kind {
        v1::ResourceKind::Unspecified => None,
        v1::ResourceKind::Machine => Some(ResourceKind::Machine),
        v1::ResourceKind::Operation => Some(ResourceKind::Operation),
        v1::ResourceKind::Condition => Some(ResourceKind::Condition),
        v1::ResourceKind::Model => Some(ResourceKind::Model),
        v1::ResourceKind::Segment => Some(ResourceKind::Segment),
        v1::ResourceKind::Lease => Some(ResourceKind::Lease),
        v1::ResourceKind::Device => Some(ResourceKind::Device),
        v1::ResourceKind::Replica => Some(ResourceKind::Replica),
    }
}

fn operation_state(state: v1::OperationState) -> Option<OperationState> {
    match state {
        v1::OperationState::Unspecified => None,
        v1::OperationState::Pending => Some(OperationState::Pending),
        v1::OperationState::Running => Some(OperationState::Running),
        v1::OperationState::Succeeded => Some(OperationState::Succeeded),
        v1::OperationState::Failed => Some(OperationState::Failed),
        v1::OperationState::Cancelled => Some(OperationState::Cancelled),
    }
}

/// A set, each element decoded; an element may repeat.
fn set<T, D: Ord>(
    field: &str,
    values: &[T],
    decode: impl Fn(&T) -> Result<D, String>,
) -> Result<BTreeSet<D>> {
    if values.len() > MAX_NAMES {
        return Err(Error::invalid_field(field, format!("has {} values, at most {MAX_NAMES}", values.len())));
    }
    values.iter().enumerate().map(|(index, value)| element(field, index, decode(value))).collect()
}

/// Which resources a watcher wants.
///
/// # Errors
/// When a value is unknown or there are too many.
pub fn filter(value: Option<&v1::WatchFilter>) -> Result<Filter> {
    let Some(value) = value else { return Ok(Filter::default()) };
    Ok(Filter {
        kinds: set("filter.kinds", &value.kinds, |n| enumerated(*n, resource_kind))?,
        names: set("filter.names", &value.names, |n| {
            n.parse::<ResourceName>().map_err(|e| e.message().to_owned())
        })?,
        operation_states: set("filter.operation_states", &value.operation_states, |n| {
            enumerated(*n, operation_state)
        })?,
    })
}

/// What to measure.
///
/// # Errors
/// When a kind is unknown or the size is out of bounds.
pub fn probe_spec(request: &v1::ProbeMachineRequest) -> Result<ProbeSpec> {
    let kinds = set("kinds", &request.kinds, |n| enumerated(*n, measurement_kind))?;
    let bytes = if request.bytes == 0 { ProbeSpec::DEFAULT_BYTES } else { Bytes(request.bytes) };
    if !(ProbeSpec::MIN_BYTES..=ProbeSpec::MAX_BYTES).contains(&bytes) {
        return Err(Error::invalid_field(
            "bytes",
            // To the byte: rounded, what is just below a bound looks like the bound.
            format!(
                "must be from {} to {}, not {} bytes",
                ProbeSpec::MIN_BYTES,
                ProbeSpec::MAX_BYTES,
                bytes.0
            ),
        ));
    }
    let kinds = if kinds.is_empty() { MeasurementKind::ALL.to_vec() } else { kinds.into_iter().collect() };
    Ok(ProbeSpec { kinds, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_element_is_named_by_its_place() {
        let bad = v1::WatchFilter { kinds: vec![2, 99], ..Default::default() };
        assert_eq!(filter(Some(&bad)).unwrap_err().fields()[0].field, "filter.kinds[1]");
        let bad = v1::WatchFilter { operation_states: vec![0], ..Default::default() };
        assert_eq!(filter(Some(&bad)).unwrap_err().fields()[0].field, "filter.operation_states[0]");
        let bad = v1::WatchFilter { names: vec!["machine".into(), "x".into()], ..Default::default() };
        assert_eq!(filter(Some(&bad)).unwrap_err().fields()[0].field, "filter.names[1]");
        let bad = v1::WatchFilter { names: vec!["machine".into(); MAX_NAMES + 1], ..Default::default() };
        assert_eq!(filter(Some(&bad)).unwrap_err().fields()[0].field, "filter.names");
    }

    #[test]
    fn equal_probes_are_equal_however_they_are_written() {
        let spec = |kinds: &[i32], bytes| {
            probe_spec(&v1::ProbeMachineRequest { kinds: kinds.to_vec(), bytes, ..Default::default() })
        };
        assert_eq!(spec(&[], 0), spec(&[3, 1, 2, 1], 1 << 30));
        assert!(spec(&[], 1).is_err());
        assert!(spec(&[], (256 << 30) + 1).is_err());
        assert!(spec(&[0], 0).is_err());
    }

    #[test]
    fn a_size_just_out_of_bounds_is_told_to_the_byte() {
        let refused = |bytes| {
            probe_spec(&v1::ProbeMachineRequest { bytes, ..Default::default() }).unwrap_err().to_string()
        };
        assert!(refused((16 << 20) - 1).ends_with("not 16777215 bytes"), "{}", refused((16 << 20) - 1));
        assert!(refused((256 << 30) + 1).ends_with("not 274877906945 bytes"), "{}", refused((256 << 30) + 1));
    }

    #[test]
    fn durations_are_bounded_and_never_negative() {
        let of = |seconds, nanos| {
            duration("wait_for", Some(&prost_types::Duration { seconds, nanos }))
                .map_err(|e| e.fields()[0].field.clone())
        };
        assert_eq!(of(1, 500_000_000), Ok(Some(Duration::from_millis(1500))));
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
            assert_eq!(of(seconds, nanos), Err("wait_for".to_owned()));
        }
        let hour = prost_types::Duration { seconds: 3600, nanos: 1 };
        let bounds = Duration::from_millis(100)..=Duration::from_secs(3600);
        assert!(bounded_duration("mark_interval", Some(&hour), bounds).is_err());
    }
}
