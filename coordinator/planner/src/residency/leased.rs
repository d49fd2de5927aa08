//! Replicas that somebody holds: they stay, and whoever held one that is gone all the same is told.
//!
//! Where a replica is its segment, mapped, a lease on the segment holds it; elsewhere a lease on the replica itself does.

use std::collections::BTreeSet;
use std::sync::Arc;

use hoist_domain::{
    DeviceId, Digest, Dtype, Intent, IntentPart, Lease, LeaseId, ModelComponent, ModelId, Replica, ReplicaId,
    ReplicaState, SegmentName,
};

use super::resident::Want;
use crate::cache::Holder;
use crate::{Decision, Event, Moment, State};

/// A replica that can be held: it can be used, on that device, and its model is kept there.
pub(crate) fn leasable<'a>(state: &'a State, lease: &Lease, id: ReplicaId) -> Option<&'a Arc<Replica>> {
    let residency = state.residency();
    let replica = residency.replica(id)?;
    let is_kept = residency.wants_of(id).any(|want| want == Want::Intent(lease.model));
    let on = lease.on.as_ref();
    let is_it = replica.state == ReplicaState::Active && on.is_some_and(|on| on.device == replica.device);
    (is_it && is_kept).then_some(replica)
}

/// What a lease on a device holds of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdable {
    pub component: Box<str>,
    pub digest: Digest,
    pub replica: ReplicaId,
}

/// These components of a model, or all of it, if all of them can be used on a device as they are asked for and are kept there for
/// the model: then nothing is to be loaded. None also where the model may have changed since.
#[must_use]
pub fn holdable(
    state: &State,
    device: DeviceId,
    model: ModelId,
    (names, dtype): (&[Box<str>], Option<Dtype>),
) -> Option<Vec<Holdable>> {
    let content = &state.models().get(model)?.content;
    let intent = state.residency().intent(device, model)?;
    let is_meant = |one: &&ModelComponent| names.is_empty() || names.contains(&one.name);
    let meant: Vec<&ModelComponent> = content.components.iter().filter(is_meant).collect();
    let holdable = |one: &&ModelComponent| {
        let digest = one.digest?;
        let is_it =
            |part: &&IntentPart| (&part.component, part.digest, part.dtype) == (&one.name, digest, dtype);
        let part = intent.parts.iter().find(is_it)?;
        let replica = state.residency().sharing(device, part.digest, part.dtype)?;
        let is_usable = replica.state == ReplicaState::Active;
        is_usable.then(|| Holdable { component: one.name.clone(), digest, replica: replica.id })
    };
    let all = meant.iter().map(holdable).collect::<Option<Vec<_>>>()?;
    (!all.is_empty() && !content.is_touched).then_some(all)
}

/// Who has leased what an intent has on its device.
pub(super) fn leased(state: &State, intent: &Intent) -> Option<String> {
    let device = state.devices().get(intent.device)?;
    let maps = device.facts.as_ref().is_some_and(|facts| facts.maps_segments);
    intent.parts.iter().find_map(|part| {
        let replica = state.residency().sharing(intent.device, part.digest, part.dtype);
        // Another model that shares it may go: it stays for the one that is leased.
        let mut on_it = replica.into_iter().flat_map(|replica| state.cache().leases_on(replica.id));
        let on_it = on_it.find(|lease| lease.model == intent.model);
        let on_segment = || {
            let mut holders = state.cache().holders(SegmentName::Content(part.digest));
            holders.find_map(|holder| match holder {
                Holder::Lease(id) => state.cache().lease(id),
                Holder::Operation(_) | Holder::Replica(_) => None,
            })
        };
        let lease = on_it.or_else(|| (maps && part.dtype.is_none()).then(on_segment).flatten())?;
        let who = if lease.holder.is_empty() { format!("leases/{}", lease.id) } else { lease.holder.clone() };
        Some(format!("{} is leased by {who}", part.component))
    })
}

/// Leases of a model on these replicas end: nobody keeps them for it any more.
pub(super) fn revoked_of(
    state: &State,
    going: impl IntoIterator<Item = (ReplicaId, ModelId)>,
    why: &str,
    now: Moment,
) -> Decision {
    let on = |(replica, model)| {
        let leases = state.cache().leases_on(replica).filter(move |lease| lease.model == model);
        leases.map(|lease| lease.id)
    };
    ended(going.into_iter().flat_map(on).collect(), why, now)
}

/// Leases on these replicas end: they are gone.
pub(super) fn revoked(
    state: &State,
    replicas: impl IntoIterator<Item = ReplicaId>,
    why: &str,
    now: Moment,
) -> Decision {
    let on = |replica| state.cache().leases_on(replica).map(|lease| lease.id);
    ended(replicas.into_iter().flat_map(on).collect(), why, now)
}

/// Leases on a device end of which not everything is there: these replicas are.
pub(super) fn revoked_but(
    state: &State,
    device: DeviceId,
    there: &BTreeSet<ReplicaId>,
    now: Moment,
) -> Decision {
    let is_lost = |lease: &&Arc<Lease>| {
        let on = lease.on.as_ref().filter(|on| on.device == device);
        on.is_some_and(|on| on.replicas.iter().any(|replica| !there.contains(replica)))
    };
    let lost = state.cache().leases().filter(is_lost).map(|lease| lease.id).collect();
    ended(lost, "it is not on the device any more; acquire it again", now)
}

fn ended(leases: BTreeSet<LeaseId>, why: &str, now: Moment) -> Decision {
    let why: Arc<str> = why.into();
    let end = |id| Event::LeaseEnded { id, at: now.service, revoked: Some(Arc::clone(&why)) };
    leases.into_iter().map(end).collect()
}
