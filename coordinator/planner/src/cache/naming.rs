//! What was read gets a name, is complete, or is given up.

use std::collections::BTreeSet;

use hoist_domain::{Bytes, DeviceId, Digest, OperationId, ReplicaState, SegmentName, SegmentState};

use crate::{Decision, Event, Moment, State};

/// What something that was read turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nothing like it is in RAM: it gets its name.
    New,
    /// It is in RAM, and held: what was read is not needed.
    Equal,
    /// Another fills the same, or it is just being withdrawn: to be asked again.
    Awaited,
}

/// Judges what an operation has read, before any of it gets its name: a name is given to one at a time.
#[must_use]
pub fn identify(
    state: &State,
    id: OperationId,
    found: &[(SegmentName, Digest)],
    now: Moment,
) -> (Decision, Vec<Identity>) {
    let cache = state.cache();
    let (mut events, mut given) = (Vec::new(), BTreeSet::new());
    let mut identities = Vec::with_capacity(found.len());
    for (from, digest) in found {
        let name = SegmentName::Content(*digest);
        let known = cache.segment(name);
        let identity = match known.map(|known| known.state) {
            // It went by this name all along.
            _ if *from == name => Identity::New,
            Some(SegmentState::Filling) if cache.filler(name) == Some(id) => Identity::Equal,
            Some(SegmentState::Sealed) => Identity::Equal,
            Some(SegmentState::Evicting) if known.is_some_and(|known| known.is_zombie) => Identity::New,
            Some(_) => Identity::Awaited,
            None => Identity::New,
        };
        let identity =
            if identity == Identity::New && !given.insert(name) { Identity::Equal } else { identity };
        let filled = cache.segment(*from).filter(|_| *from != name && cache.filler(*from) == Some(id));
        match (identity, filled) {
            (Identity::New, Some(_)) => {
                events.push(Event::SegmentIdentified { from: *from, digest: *digest });
            }
            (Identity::Equal, Some(_)) => events.push(if cache.sealed(*digest).is_some() {
                Event::SegmentMerged { from: *from, into: *digest, at: now.service }
            } else {
                // Of two that this operation has read, one is enough.
                Event::SegmentAbandoned { name: *from }
            }),
            _ => {}
        }
        identities.push(identity);
    }
    (events, identities)
}

/// What was filled, as it is when it is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealing {
    pub digest: Digest,
    /// What it takes of the memory.
    pub bytes: Bytes,
}

/// What an operation has filled is complete, all of it at once.
#[must_use]
pub fn complete(state: &State, id: OperationId, sealings: &[Sealing], now: Moment) -> Decision {
    let is_own = |one: &&Sealing| state.cache().filler(SegmentName::Content(one.digest)) == Some(id);
    let sealed = |&Sealing { digest, bytes }: &Sealing| Event::SegmentSealed {
        digest,
        bytes,
        wall: now.wall,
        at: now.service,
    };
    let own: Vec<&Sealing> = sealings.iter().filter(is_own).collect();
    // Who waits for it on a device is told that it is there.
    let awaits = |device: &DeviceId| {
        let here = own.iter().filter_map(|one| state.residency().sharing(*device, one.digest, None));
        here.into_iter().any(|one| one.state != ReplicaState::Active)
    };
    let devices = state.devices().iter().map(|device| device.id).filter(awaits);
    own.iter().copied().map(sealed).chain(devices.map(Event::DesireRaised)).collect()
}

/// What an operation was filling is given up.
#[must_use]
pub fn abandoned(state: &State, id: OperationId) -> Decision {
    state.cache().filled_by(id).map(|name| Event::SegmentAbandoned { name }).collect()
}
