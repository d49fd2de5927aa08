//! What is in RAM and who relies on it, between the domain and messages.

use std::collections::BTreeSet;
use std::time::Duration;

use hoist_domain::{
    Bytes, CachePolicy, CacheReport, CachedComponent, ComponentSource, Digest, Error, Eviction,
    EvictionPolicy, EvictionReason, Lease, LeaseState, Priority, ResourceName, Result, Segment, SegmentName,
    SegmentState, Verdict,
};

use crate::encode::{duration, timestamp};
use crate::mask::Mask;
use crate::{decode, v1};

/// The shortest time after which something idle may go.
const SHORTEST_IDLE: Duration = Duration::from_secs(1);

/// The longest: ten years.
const LONGEST_IDLE: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

#[must_use]
pub const fn priority(priority: Priority) -> v1::Priority {
    match priority {
        Priority::Background => v1::Priority::Background,
        Priority::Low => v1::Priority::Low,
        Priority::Normal => v1::Priority::Normal,
        Priority::High => v1::Priority::High,
        Priority::Critical => v1::Priority::Critical,
    }
}

/// A priority, where the client said one.
///
/// # Errors
/// When it is none that is known.
pub fn read_priority(field: &str, number: i32) -> Result<Option<Priority>> {
    let known = |priority| {
        Some(match priority {
            v1::Priority::Unspecified => None,
            v1::Priority::Background => Some(Priority::Background),
            v1::Priority::Low => Some(Priority::Low),
            v1::Priority::Normal => Some(Priority::Normal),
            v1::Priority::High => Some(Priority::High),
            v1::Priority::Critical => Some(Priority::Critical),
        })
    };
    decode::value(field, number, known)
}

/// How long something may be idle.
///
/// # Errors
/// When it is out of bounds.
pub fn read_idle_ttl(field: &str, value: Option<&prost_types::Duration>) -> Result<Option<Duration>> {
    decode::bounded_duration(field, value, SHORTEST_IDLE..=LONGEST_IDLE)
}

/// Verdicts that are no obstacle, sorted.
///
/// # Errors
/// When one is none that may be allowed.
pub fn read_allowed(numbers: &[i32]) -> Result<Vec<Verdict>> {
    let read = |number: &i32| match v1::Verdict::try_from(*number) {
        Ok(v1::Verdict::Incomplete) => Ok(Verdict::Incomplete),
        Ok(v1::Verdict::Corrupt) => Ok(Verdict::Corrupt),
        _ => Err(Error::invalid_field("allow", "only VERDICT_INCOMPLETE and VERDICT_CORRUPT can be allowed")),
    };
    let allowed: BTreeSet<Verdict> = numbers.iter().map(read).collect::<Result<_>>()?;
    Ok(allowed.into_iter().collect())
}

#[must_use]
pub fn policy(policy: &CachePolicy) -> v1::CachePolicy {
    let eviction = match policy.eviction {
        EvictionPolicy::Cost => v1::EvictionPolicy::Cost,
        EvictionPolicy::Lru => v1::EvictionPolicy::Lru,
    };
    v1::CachePolicy {
        budget_bytes: policy.budget.map(|budget| budget.0),
        eviction: eviction.into(),
        idle_ttl: policy.idle_ttl.map(duration),
        priority: priority(policy.priority).into(),
    }
}

/// Which fields of a policy a request changes: those that its mask names, or those that are set if it names none.
///
/// # Errors
/// When it names one that a policy has not.
pub fn policy_fields(
    asked: &v1::CachePolicy,
    mask: Option<&prost_types::FieldMask>,
) -> Result<BTreeSet<String>> {
    let fields = [
        ("budget_bytes", asked.budget_bytes.is_some()),
        ("eviction", asked.eviction != 0),
        ("idle_ttl", asked.idle_ttl.is_some()),
        ("priority", asked.priority != 0),
    ];
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    if paths.is_empty() {
        let set = fields.iter().filter(|(_, is_set)| *is_set);
        return Ok(set.map(|(field, _)| (*field).to_owned()).collect());
    }
    Mask::parse("hoist.api.v1.CachePolicy", "update_mask", paths)?;
    // A part of a field is none: each is changed as a whole.
    if let Some((index, path)) = paths.iter().enumerate().find(|(_, path)| path.contains('.')) {
        let shown = hoist_domain::excerpt(path);
        let message = format!("`{shown}` is a part of a field, which is changed as a whole");
        return Err(Error::invalid_field(format!("update_mask.paths[{index}]"), message));
    }
    Ok(paths.iter().cloned().collect())
}

/// The policy with these fields as they are asked for.
///
/// # Errors
/// When a value is none.
pub fn edited_policy(
    before: &CachePolicy,
    asked: &v1::CachePolicy,
    fields: &BTreeSet<String>,
) -> Result<CachePolicy> {
    let mut policy = before.clone();
    if fields.contains("budget_bytes") {
        policy.budget = asked.budget_bytes.map(Bytes);
    }
    if fields.contains("eviction") {
        let known = |eviction| {
            Some(match eviction {
                v1::EvictionPolicy::Unspecified | v1::EvictionPolicy::Cost => EvictionPolicy::Cost,
                v1::EvictionPolicy::Lru => EvictionPolicy::Lru,
            })
        };
        policy.eviction = decode::value("policy.eviction", asked.eviction, known)?;
    }
    if fields.contains("idle_ttl") {
        policy.idle_ttl = read_idle_ttl("policy.idle_ttl", asked.idle_ttl.as_ref())?;
    }
    if fields.contains("priority") {
        policy.priority = read_priority("policy.priority", asked.priority)?.unwrap_or_default();
    }
    Ok(policy)
}

/// A digest as the name of its segment.
#[must_use]
pub fn segment_name(digest: Digest) -> String {
    ResourceName::Segment(SegmentName::Content(digest)).to_string()
}

#[must_use]
pub fn segment(segment: &Segment) -> v1::Segment {
    let state = match segment.state {
        SegmentState::Filling => v1::segment::State::Filling,
        SegmentState::Sealed => v1::segment::State::Sealed,
        // What is gone is not shown.
        SegmentState::Evicting | SegmentState::Gone => v1::segment::State::Evicting,
    };
    v1::Segment {
        name: ResourceName::Segment(segment.name).to_string(),
        state: state.into(),
        size_bytes: segment.bytes.0,
        raw: segment.is_raw,
        r#type: segment.component_type.map(|kind| kind.to_string()).unwrap_or_default(),
        priority: priority(segment.priority).into(),
        models: segment.wanted_by.iter().map(|model| ResourceName::Model(*model).to_string()).collect(),
        seal_time: segment.sealed_at.map(timestamp),
        zombie: segment.is_zombie,
        eviction: segment.eviction.as_ref().map(eviction),
    }
}

fn eviction(eviction: &Eviction) -> v1::Eviction {
    use v1::eviction::Reason;
    let reason = match eviction.reason {
        EvictionReason::Asked => Reason::Asked,
        EvictionReason::Room => Reason::Room,
        EvictionReason::Pressure => Reason::Pressure,
        EvictionReason::Idle => Reason::Idle,
    };
    let beneficiary = eviction.beneficiary.map(|model| ResourceName::Model(model).to_string());
    v1::Eviction { reason: reason.into(), beneficiary: beneficiary.unwrap_or_default() }
}

#[must_use]
pub fn lease(lease: &Lease) -> v1::Lease {
    let state = match lease.state {
        LeaseState::Held => v1::lease::State::Held,
        LeaseState::Awaited => v1::lease::State::Awaited,
    };
    v1::Lease {
        name: ResourceName::Lease(lease.id).to_string(),
        state: state.into(),
        model: ResourceName::Model(lease.model).to_string(),
        segments: lease.segments().into_iter().map(segment_name).collect(),
        size_bytes: lease.bytes.0,
        holder: lease.holder.clone(),
        principal: lease.principal.to_string(),
        grant_time: Some(timestamp(lease.granted_at)),
        process_id: lease.process.unwrap_or(0),
        device_id: lease.on.as_ref().map(|on| on.device.to_string()).unwrap_or_default(),
        replicas: lease.replicas().into_iter().map(|id| ResourceName::Replica(id).to_string()).collect(),
    }
}

#[must_use]
pub fn report(report: &CacheReport) -> v1::CacheModelResponse {
    v1::CacheModelResponse {
        model: ResourceName::Model(report.model).to_string(),
        components: report.components.iter().map(component).collect(),
        read_bytes: report.read.0,
        took: Some(duration(report.took)),
        evicted: report.evicted.iter().map(|digest| segment_name(*digest)).collect(),
        left_out: report.left_out.clone(),
    }
}

#[must_use]
pub fn component(cached: &CachedComponent) -> v1::CachedComponent {
    use v1::cached_component::Source;
    let source = match cached.source {
        ComponentSource::Resident => Source::Resident,
        ComponentSource::Read => Source::Read,
        ComponentSource::Shared => Source::Shared,
    };
    v1::CachedComponent {
        component: cached.name.to_string(),
        segment: segment_name(cached.digest),
        path: cached.path.clone(),
        prefix: cached.prefix.to_string(),
        size_bytes: cached.bytes.0,
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_changes_in_what_is_named_and_what_is_named_and_unset_is_the_default() {
        let before = CachePolicy {
            budget: Some(Bytes(7)),
            idle_ttl: Some(Duration::from_secs(60)),
            eviction: EvictionPolicy::Lru,
            priority: Priority::High,
        };
        let asked = v1::CachePolicy { budget_bytes: Some(9), ..Default::default() };
        let set = policy_fields(&asked, None).unwrap();
        let after = edited_policy(&before, &asked, &set).unwrap();
        assert_eq!(after, CachePolicy { budget: Some(Bytes(9)), ..before.clone() });
        let mask = |paths: &[&str]| prost_types::FieldMask {
            paths: paths.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(policy_fields(&asked, Some(&mask(&[]))).unwrap(), set, "a mask without paths is none");
        let none = v1::CachePolicy::default();
        let every = ["budget_bytes", "eviction", "idle_ttl", "priority"];
        let named = policy_fields(&none, Some(&mask(&every))).unwrap();
        assert_eq!(edited_policy(&before, &none, &named).unwrap(), CachePolicy::default());
        for unknown in ["budget", "idle_ttl.seconds", "priority.x"] {
            let error = policy_fields(&none, Some(&mask(&["priority", unknown]))).unwrap_err();
            assert_eq!(error.fields()[0].field, "update_mask.paths[1]", "{unknown}");
        }
    }

    #[test]
    fn a_value_of_no_enum_is_refused_by_its_field() {
        let refused = |asked: v1::CachePolicy| {
            let fields = policy_fields(&asked, None).unwrap();
            edited_policy(&CachePolicy::default(), &asked, &fields).unwrap_err().fields()[0].clone()
        };
        let odd = v1::CachePolicy { priority: 9, ..Default::default() };
        assert_eq!(refused(odd).field, "policy.priority");
        let odd = refused(v1::CachePolicy { eviction: 8, ..Default::default() });
        assert_eq!(
            (odd.field.as_str(), odd.description.as_str()),
            ("policy.eviction", "8 is not a value this server knows")
        );
    }

    #[test]
    fn only_what_is_no_attack_can_be_allowed() {
        let numbers = |of: &[v1::Verdict]| of.iter().map(|one| i32::from(*one)).collect::<Vec<_>>();
        let twice = numbers(&[v1::Verdict::Corrupt, v1::Verdict::Incomplete, v1::Verdict::Corrupt]);
        assert_eq!(read_allowed(&twice).unwrap(), [Verdict::Incomplete, Verdict::Corrupt]);
        for refused in [v1::Verdict::Malicious, v1::Verdict::Rejected, v1::Verdict::Unspecified] {
            assert!(read_allowed(&numbers(&[refused])).is_err());
        }
    }
}
