//! What a load would take, as far as that is known: for plans and estimates.

use std::collections::BTreeSet;
use std::time::Duration;

use hoist_domain::{Bytes, MeasurementKind, ReplicaState, ResourceName};
use hoist_planner::State;
use hoist_planner::residency::Offer;
use hoist_wire::{cache as cached, v1};

use crate::residency::{ComponentSize, Sizes};

/// Each content once; what is not known to be equal counts as if it were not.
pub(super) fn unique(sizes: &Sizes) -> Vec<&ComponentSize> {
    let mut seen = BTreeSet::new();
    let is_new = |one: &&ComponentSize| one.wanted.digest.is_none_or(|digest| seen.insert(digest));
    sizes.components.iter().filter(is_new).collect()
}

/// What of a load is not in RAM, and what would be read for it.
pub(super) fn missing(state: &State, sizes: &Sizes) -> (Bytes, Bytes) {
    let is_missing =
        |one: &&&ComponentSize| one.wanted.digest.is_none_or(|digest| state.cache().sealed(digest).is_none());
    let unique = unique(sizes);
    let missing = unique.iter().filter(is_missing);
    let (ram, read) = missing.fold((0_u64, 0_u64), |(ram, read), one| {
        (ram.saturating_add(one.held.0), read.saturating_add(one.read.0))
    });
    (Bytes(ram), Bytes(read))
}

pub(super) fn estimate(state: &State, one: &ComponentSize) -> v1::ComponentEstimate {
    let wanted = &one.wanted;
    let on = state.residency().replicas().filter(|replica| {
        Some(replica.digest) == wanted.digest
            && replica.dtype == wanted.dtype
            && replica.state == ReplicaState::Active
    });
    v1::ComponentEstimate {
        model: ResourceName::Model(wanted.model).to_string(),
        component: wanted.component.to_string(),
        segment: wanted.digest.map(cached::segment_name).unwrap_or_default(),
        ram_bytes: one.held.0,
        in_ram: wanted.digest.is_some_and(|digest| state.cache().sealed(digest).is_some()),
        device_bytes: wanted.bytes.0,
        on_devices: on.map(|replica| replica.device.to_string()).collect(),
    }
}

/// How long reading and writing so much takes, by what was measured of this machine, and bringing it to a device. None: it is not known.
pub(super) fn expected(state: &State, read: Bytes, written: Bytes, offer: &Offer) -> Option<Duration> {
    let milliseconds = |bytes: Bytes, speed: u64| bytes.0.saturating_mul(1_000).checked_div(speed);
    let facts = state.devices().get(offer.device).and_then(|device| device.facts.as_ref())?;
    let copied = match (facts.maps_segments, offer.needed) {
        (true, _) | (_, Bytes(0)) => 0,
        (false, needed) => milliseconds(needed, facts.bus.0)?,
    };
    if read == Bytes(0) {
        return Some(Duration::from_millis(copied));
    }
    let speed = |kind: MeasurementKind| {
        let measured = state.machine().measurements.iter().find(|one| one.kind == kind)?;
        (measured.bytes_per_second > 0).then_some(measured.bytes_per_second)
    };
    let disk = speed(MeasurementKind::DiskRead)?;
    let memory = speed(MeasurementKind::TmpfsWrite).unwrap_or(u64::MAX);
    // All go on at the same time: the slowest sets the pace.
    let paces = [milliseconds(read, disk)?, milliseconds(written, memory)?, copied];
    paces.into_iter().max().map(Duration::from_millis)
}
