//! Leases: granted, taken up again after a restart, ended.

use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    Bytes, Error, Lease, LeaseId, LeaseState, Lifecycle, Principal, Priority, Reason, ResourceName, Result,
    SegmentName,
};

use super::holdings::{Holder, Interest};
use crate::decide::must_not_drain;
use crate::{Decision, Event, Moment, State, residency};

/// How long holders may take to come back after a restart. Clients ask again within a second.
pub const LEASE_GRACE: Duration = Duration::from_secs(30);

/// Leases at a time. Each is a stream, and some hundred bytes.
pub const MOST_LEASES: usize = 16_384;

/// Of leases that nobody has come back for, so many end at once: each has a record to remove, and watchers are told.
pub const MOST_EXPIRED: usize = 4_096;

/// What somebody wants to hold. All of it is there, or was a moment ago.
#[derive(Clone, Debug)]
pub struct LeaseAsk {
    /// As it would be; what it takes is found out.
    pub lease: Lease,
    pub priority: Priority,
    /// It is one more use, and not a part of one that was counted.
    pub is_use: bool,
}

/// Judges a lease. None: something of it is not in RAM, or on the device, (any more).
///
/// # Errors
/// DRAINING; RESOURCE_EXHAUSTED when there are too many.
pub fn grant(state: &State, ask: &LeaseAsk, now: Moment) -> Result<Option<Decision>> {
    must_not_drain(state)?;
    let cache = state.cache();
    if cache.lease_count() >= MOST_LEASES {
        let awaited = match cache.awaited().count() {
            0 => String::new(),
            awaited => format!(" ({awaited} of them for holders that may come back, for seconds yet)"),
        };
        let message = format!("{MOST_LEASES} leases are held, which is the limit{awaited}; release some");
        return Err(Error::new(Reason::Overloaded, message).retry_after(Duration::from_secs(1)));
    }
    let mut lease = Lease { state: LeaseState::Held, bytes: Bytes(0), ..ask.lease.clone() };
    let mut events = Vec::new();
    for id in lease.replicas() {
        let Some(replica) = residency::leasable(state, &lease, id) else { return Ok(None) };
        lease.bytes.0 = lease.bytes.0.saturating_add(replica.charge().0);
    }
    for digest in lease.segments() {
        let Some(segment) = cache.sealed(digest) else { return Ok(None) };
        lease.bytes.0 = lease.bytes.0.saturating_add(segment.bytes.0);
        let interest = Interest {
            by: Holder::Lease(lease.id),
            model: lease.model,
            priority: ask.priority,
            is_use: ask.is_use,
            at: now.service,
        };
        events.push(Event::SegmentWanted { name: SegmentName::Content(digest), interest });
    }
    events.push(Event::LeaseGranted(Arc::new(lease)));
    Ok(Some(events))
}

/// Takes up a lease again after a restart.
///
/// # Errors
/// RESOURCE_NOT_FOUND when it has ended; PERMISSION_DENIED when it was another's; IN_USE when somebody holds it.
pub fn resume(
    state: &State,
    id: LeaseId,
    principal: &Principal,
    holder: String,
    process: Option<u32>,
) -> Result<Decision> {
    let name = ResourceName::Lease(id);
    let known = find(state, id, "has ended; acquire a new one")?;
    if known.principal != *principal {
        return Err(Error::new(Reason::PermissionDenied, format!("{name} is another's")).with("name", name));
    }
    let held = known.state.to(LeaseState::Held).map_err(|_| {
        Error::new(Reason::InUse, format!("{name} is held by an open stream")).with("name", name)
    })?;
    // What is on a device is told by its worker, after the start.
    let on_device = known.replicas().into_iter().filter_map(|id| state.residency().replica(id));
    let on_device = on_device.map(|replica| replica.charge().0).fold(0, u64::saturating_add);
    let bytes = if known.on.is_some() { Bytes(on_device) } else { known.bytes };
    let lease = Lease { state: held, holder, process, bytes, ..Lease::clone(known) };
    Ok(vec![Event::LeaseGranted(Arc::new(lease))])
}

fn find<'a>(state: &'a State, id: LeaseId, otherwise: &str) -> Result<&'a Arc<Lease>> {
    let name = ResourceName::Lease(id);
    state
        .cache()
        .lease(id)
        .ok_or_else(|| Error::new(Reason::ResourceNotFound, format!("{name} {otherwise}")).with("name", name))
}

/// It ends, if it has not: by its holder, or with why somebody else has revoked it.
#[must_use]
pub fn end(state: &State, id: LeaseId, revoked: Option<Arc<str>>, now: Moment) -> Decision {
    let known = state.cache().lease(id);
    known.map(|_| Event::LeaseEnded { id, at: now.service, revoked }).into_iter().collect()
}

/// Somebody else ends it.
///
/// # Errors
/// RESOURCE_NOT_FOUND when it has ended.
pub fn revoke(state: &State, id: LeaseId, reason: &str, now: Moment) -> Result<Decision> {
    find(state, id, "is not held, or not any more; `hoist leases` lists what is")?;
    Ok(end(state, id, Some(reason.into()), now))
}

/// Leases whose holders did not come back in time, as many as may end at once.
#[must_use]
pub fn expired(state: &State, now: Moment) -> Decision {
    let cache = state.cache();
    if cache.awaited_until().is_none_or(|until| now.service < until) {
        return Vec::new();
    }
    let ended = |id| Event::LeaseEnded { id, at: now.service, revoked: None };
    cache.awaited().take(MOST_EXPIRED).map(ended).collect()
}
