//! What a start finds in RAM: complete segments, and leases that somebody may come back for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{Bytes, Digest, Lease, LeaseState, Segment, SegmentName};

use crate::{Decision, Event, Moment};

/// Takes over what the last coordinator left; holders may come back for `grace`. A lease holds all of its segments or is not taken over: of what was lost
/// with the memory nobody can have anything back.
#[must_use]
pub fn adopt(segments: Vec<Segment>, leases: Vec<Lease>, grace: Duration, now: Moment) -> Decision {
    let bytes_of: BTreeMap<SegmentName, Bytes> =
        segments.iter().map(|segment| (segment.name, segment.bytes)).collect();
    let bytes_of = |digest: &Digest| bytes_of.get(&SegmentName::Content(*digest)).copied();
    let until = now.service.after(grace);
    let awaited = leases.into_iter().filter_map(|lease| {
        if lease.on.is_some() {
            // Whether it is still there its worker says.
            let lease = Arc::new(Lease { state: LeaseState::Awaited, ..lease });
            return Some(Event::LeaseAwaited { lease, until });
        }
        let bytes: Option<Vec<Bytes>> = lease.segments().iter().map(bytes_of).collect();
        let bytes = Bytes(bytes?.iter().map(|bytes| bytes.0).fold(0, u64::saturating_add));
        let lease = Arc::new(Lease { state: LeaseState::Awaited, bytes, ..lease });
        Some(Event::LeaseAwaited { lease, until })
    });
    let awaited: Decision = awaited.collect();
    let adopted = segments
        .into_iter()
        .map(|segment| Event::SegmentAdopted { segment: Arc::new(segment), at: now.service });
    adopted.chain(awaited).collect()
}
