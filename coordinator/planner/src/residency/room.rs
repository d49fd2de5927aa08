//! How much of a device may still be promised, and who could make room on it.
//!
//! What nobody wants any more counts as free: a worker gives it back before it takes anything new.

use std::collections::BTreeSet;
use std::sync::Arc;

use hoist_domain::{
    Bytes, DeviceId, Intent, ModelId, OperationId, Priority, Replica, ReplicaId, ReplicaState, SegmentName,
};

use super::resident::Want;
use crate::State;
use crate::cache::Holder;

/// What may still be put on a device: the least of what its size leaves beside what was promised, and of what its worker says
/// is free. An operation's own reservation counts as free for it.
#[must_use]
pub fn free(state: &State, id: DeviceId, own: Option<OperationId>) -> Bytes {
    let Some(device) = state.devices().get(id) else { return Bytes(0) };
    let capacity = device.facts.as_ref().map_or(0, |facts| facts.capacity.0);
    let residency = state.residency();
    let (mut promised, mut coming, mut leaving) = (0_u64, 0_u64, 0_u64);
    for replica in residency.on(id) {
        let charge = replica.charge().0;
        if !residency.is_wanted(replica.id) {
            leaving = leaving.saturating_add(charge_of_leaving(replica));
            continue;
        }
        promised = promised.saturating_add(charge);
        if replica.state != ReplicaState::Active {
            coming = coming.saturating_add(charge);
        }
    }
    let reserved = residency.loads().filter(|(of, load)| Some(**of) != own && load.device == id);
    let reserved = reserved.map(|(_, load)| load.room.0).fold(0, u64::saturating_add);
    let by_size = capacity.saturating_sub(promised).saturating_sub(reserved);
    let said = device.memory.free.0.saturating_add(leaving).saturating_sub(coming).saturating_sub(reserved);
    Bytes(by_size.min(said))
}

/// What a worker has taken for it and will give back: of what it has not begun it has taken nothing.
fn charge_of_leaving(replica: &Replica) -> u64 {
    replica.own.0.saturating_add(replica.mapped.0)
}

/// Models that could make room, and what each would free beyond those before it: what matters least goes first, of equal
/// weight what was loaded longest ago.
/// What is asked for is not made room for by itself: neither the models nor the replicas that it shares.
pub(super) fn victims(
    state: &State,
    device: DeviceId,
    priority: Priority,
    not: &BTreeSet<ModelId>,
    kept: &BTreeSet<ReplicaId>,
) -> Vec<(ModelId, Bytes)> {
    let residency = state.residency();
    let is_displaced = |model: &ModelId| {
        residency.loads().any(|(_, load)| load.device == device && load.displaced.contains(model))
    };
    let mut candidates: Vec<_> = residency
        .intents()
        .filter(|intent| intent.device == device && intent.priority <= priority)
        .filter(|intent| !not.contains(&intent.model) && !is_displaced(&intent.model))
        .filter(|intent| leased(state, intent).is_none())
        .collect();
    candidates.sort_by_key(|intent| (intent.priority, intent.recorded_at, intent.model));
    let mut going = BTreeSet::new();
    let freed = candidates.into_iter().map(|intent| {
        going.insert(intent.model);
        let own = residency.wanted_by_intent(intent.model).filter(|one| one.device == device);
        // With all that go before it, nobody is left who wants it.
        let leaves = |one: &&Arc<Replica>| {
            !kept.contains(&one.id)
                && residency.wants_of(one.id).all(|want| match want {
                    Want::Intent(model) => going.contains(&model),
                    Want::Operation(..) => false,
                })
        };
        (intent.model, Bytes(own.filter(leaves).map(|one| one.charge().0).fold(0, u64::saturating_add)))
    });
    freed.collect()
}

/// Of these, as few as are needed, from the first on.
pub(super) fn enough(victims: &[(ModelId, Bytes)], needed: Bytes) -> Option<Vec<ModelId>> {
    let (mut freed, mut chosen) = (0_u64, Vec::new());
    for (model, bytes) in victims {
        if freed >= needed.0 {
            break;
        }
        if bytes.0 > 0 {
            freed = freed.saturating_add(bytes.0);
            chosen.push(*model);
        }
    }
    (freed >= needed.0).then_some(chosen)
}

/// Who has leased a segment that is, mapped, what an intent has on a device.
pub(super) fn leased(state: &State, intent: &Intent) -> Option<String> {
    let device = state.devices().get(intent.device)?;
    if !device.facts.as_ref().is_some_and(|facts| facts.maps_segments) {
        return None;
    }
    let mapped = intent.parts.iter().filter(|part| part.dtype.is_none());
    mapped.into_iter().find_map(|part| {
        let mut holders = state.cache().holders(SegmentName::Content(part.digest));
        let lease = holders.find_map(|holder| match holder {
            Holder::Lease(id) => state.cache().lease(id),
            Holder::Operation(_) | Holder::Replica(_) => None,
        })?;
        let who = if lease.holder.is_empty() { format!("leases/{}", lease.id) } else { lease.holder.clone() };
        Some(format!("{} is leased by {who}", part.component))
    })
}
