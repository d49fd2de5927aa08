//! Room for what is to be cached: what is there, what has to be read, and what makes way for it.
//!
//! Properties, kept by the tests: after a reservation of room what counts is not more than the budget; nothing held, pinned,
//! open or more important is evicted; refused, nothing has changed; asked again, it asks for nothing that it has.

use std::collections::BTreeSet;
use std::sync::Arc;

use hoist_domain::{
    Bytes, Digest, Error, Eviction, EvictionReason, Model, ModelId, ModelType, OperationId, OperationState,
    Priority, Reason, ResourceName, Result, Segment, SegmentName, SegmentState, Veto,
};

use super::holdings::{Holder, Interest};
use super::resident::Cache;
use super::usage::Use;
use super::victims::{Candidate, Shortage, victims};
use crate::{Decision, Event, Moment, State};

/// Bytes in a second that a disk is taken to read where nobody has measured it.
const USUAL_DISK: u64 = 1_000_000_000;

/// What reading anything takes beside its bytes, in microseconds: opening, headers, sealing.
const ANY_RELOAD_US: u64 = 5_000;

/// A component that somebody wants in RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// By its content, where that is known.
    pub name: SegmentName,
    /// What to call it if its name is taken by what is on its way out.
    pub source: SegmentName,
    /// In whole pages.
    pub bytes: Bytes,
    pub is_raw: bool,
    pub component_type: ModelType,
}

/// What an operation wants, and the facts that decide about it.
#[derive(Clone, Debug)]
pub struct Reservation {
    pub operation: OperationId,
    pub model: ModelId,
    pub priority: Priority,
    pub parts: Vec<Part>,
    pub facts: Facts,
}

/// What only the world knows, as it was a moment ago.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub budget: Bytes,
    /// What sets it, for messages.
    pub limit: String,
    /// Segments that somebody has open, with a lease or without.
    pub open: BTreeSet<Digest>,
}

/// How a reservation came out: by the places of the parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// There, and held.
    pub present: Vec<usize>,
    /// To be filled by this operation, under these names.
    pub fill: Vec<(usize, SegmentName)>,
    /// Being filled by another, or on its way out: to be asked for again.
    pub awaited: Vec<(usize, SegmentName)>,
    /// What makes room. Its bytes are free when it is gone.
    pub victims: Vec<Digest>,
}

/// Judges a reservation. To be repeated until nothing is awaited. A refusal for want of room is counted; whoever asks for
/// an operation that does not run any more is refused, too, with OPERATION_CANCELLED.
pub fn reserve(state: &State, ask: &Reservation, now: Moment) -> (Decision, Result<Reserved>) {
    let is_running = state
        .operation(ask.operation)
        .is_some_and(|operation| operation.state == OperationState::Running && !operation.cancel_requested);
    if !is_running {
        let error = Error::new(Reason::OperationCancelled, "the operation does not run any more");
        return (Vec::new(), Err(error.with("operation", ask.operation)));
    }
    let cache = state.cache();
    let interest = |is_use| Interest {
        by: Holder::Operation(ask.operation),
        model: ask.model,
        priority: ask.priority,
        is_use,
        at: now.service,
    };
    let mut reserved = Reserved::default();
    let mut events = Vec::new();
    let mut asked = BTreeSet::new();
    let mut needed = 0_u64;
    for (place, part) in ask.parts.iter().enumerate() {
        let is_taken = cache.segment(part.name).is_some_and(|known| known.is_zombie);
        let name = if is_taken { part.source } else { part.name };
        match cache.segment(name).map(|known| known.state) {
            Some(SegmentState::Sealed) => {
                let is_new = !cache.holders(name).any(|one| one == Holder::Operation(ask.operation));
                if asked.insert(name) && is_new {
                    events.push(Event::SegmentWanted { name, interest: interest(true) });
                }
                reserved.present.push(place);
                continue;
            }
            Some(SegmentState::Filling) => {
                // Its own is nothing to ask for, and nothing to wait for.
                if cache.filler(name) != Some(ask.operation) {
                    if asked.insert(name) {
                        events.push(Event::SegmentWanted { name, interest: interest(false) });
                    }
                    reserved.awaited.push((place, name));
                }
                continue;
            }
            Some(SegmentState::Evicting | SegmentState::Gone) => {
                reserved.awaited.push((place, name));
                continue;
            }
            None => {}
        }
        if !asked.insert(name) {
            // Two components of one model with one content.
            reserved.awaited.push((place, name));
            continue;
        }
        needed = needed.saturating_add(part.bytes.0);
        reserved.fill.push((place, name));
        events.push(Event::SegmentReserved {
            segment: Arc::new(Segment {
                name,
                state: SegmentState::Filling,
                bytes: part.bytes,
                is_raw: part.is_raw,
                component_type: Some(part.component_type),
                priority: ask.priority,
                wanted_by: [ask.model].into(),
                sealed_at: None,
                is_zombie: false,
                eviction: None,
            }),
            by: ask.operation,
        });
    }
    // What is found takes no room: only who fills has to make some.
    let fills = needed > 0 || cache.filled_by(ask.operation).next().is_some();
    let over = cache.totals().used().0.saturating_add(needed).saturating_sub(ask.facts.budget.0);
    if fills && over > 0 {
        let candidates = candidates(state, &ask.facts.open, &asked, now);
        let policy = cache.policy().eviction;
        let chosen = match victims(&candidates, Bytes(over), ask.priority, policy, cache.tick()) {
            Ok(chosen) => chosen,
            Err(shortage) => {
                let lack = Lack { needed: Bytes(needed), over: Bytes(over) };
                return (vec![Event::RoomRefused], Err(refusal(state, ask, lack, &shortage)));
            }
        };
        reserved.victims = chosen.into_iter().filter_map(SegmentName::digest).collect();
        let eviction = Eviction { reason: EvictionReason::Room, beneficiary: Some(ask.model) };
        let evicting = reserved.victims.iter().map(|digest| evicting(*digest, eviction, now));
        // First out, then in.
        events.splice(0..0, evicting);
    }
    (events, Ok(reserved))
}

pub(super) fn evicting(digest: Digest, eviction: Eviction, now: Moment) -> Event {
    Event::SegmentEvicting { digest, eviction, at: now.service }
}

/// What there is no room for.
#[derive(Clone, Copy)]
struct Lack {
    /// Asked for now; none where it was asked for before, and the budget has become less since.
    needed: Bytes,
    /// What would have to go.
    over: Bytes,
}

fn refusal(state: &State, ask: &Reservation, lack: Lack, shortage: &Shortage) -> Error {
    let Lack { needed, over } = lack;
    let used = state.cache().totals().used();
    let free = Bytes(ask.facts.budget.0.saturating_sub(used.0));
    let mut stands = Vec::new();
    for vetoed in &shortage.vetoed {
        let why = vetoed.veto.map_or("matters more", Veto::as_str);
        stands.push(format!("{} {why}", vetoed.bytes));
    }
    let stands = if stands.is_empty() { String::new() } else { format!("; {}", stands.join(", ")) };
    let (missing, wanted) = if needed == Bytes(0) {
        (over, format!("{over} more are needed for what is being filled"))
    } else {
        (needed, format!("{needed} are needed"))
    };
    let advice = if missing > ask.facts.budget {
        "raise the budget (`hoist cache-policy --budget`, `hoist serve --ram-budget`), or cache single components"
    } else if shortage.vetoed.is_empty() {
        "raise the budget with `hoist cache-policy --budget`"
    } else {
        "release leases, unpin or evict something, give it a higher priority, or raise the budget"
    };
    let message = format!(
        "{wanted}; the budget is {} ({}), of which {free} are free and {} could be freed{stands}",
        ask.facts.budget, ask.facts.limit, shortage.evictable
    );
    Error::new(Reason::RamExhausted, message)
        .with("advice", advice)
        .with("model", ResourceName::Model(ask.model))
        .with("needed_bytes", missing.0)
        .with("free_bytes", free.0)
        .with("budget_bytes", ask.facts.budget.0)
        .with("evictable_bytes", shortage.evictable.0)
}

/// Digests of components that are to stay once they are there.
#[must_use]
pub fn pinned(state: &State) -> BTreeSet<Digest> {
    let mut pinned = BTreeSet::new();
    for model in state.models().pinned() {
        let Some(notes) = &model.notes else { continue };
        let components = model.content.components.iter();
        pinned.extend(components.filter(|one| notes.config.pins(&one.name)).filter_map(|one| one.digest));
    }
    pinned
}

/// Everything that is complete, with what stands against evicting it. What is in `asked` is not to be touched.
pub(super) fn candidates(
    state: &State,
    open: &BTreeSet<Digest>,
    asked: &BTreeSet<SegmentName>,
    now: Moment,
) -> Vec<Candidate<SegmentName>> {
    let cache = state.cache();
    let pinned = pinned(state);
    let disk = disk_speed(state);
    let sealed = cache.segments().filter(|segment| segment.state == SegmentState::Sealed);
    let candidate = |segment: &Arc<Segment>| {
        let digest = segment.name.digest()?;
        let veto = veto(cache, segment, digest, &pinned, open).or_else(|| {
            // It is wanted by who asks, in the very same breath.
            asked.contains(&segment.name).then_some(Veto::Leased)
        });
        Some(Candidate {
            key: segment.name,
            bytes: segment.bytes,
            priority: segment.priority,
            used: cache.use_of(segment.name).unwrap_or(Use { last: 0, gap: None, count: 0 }),
            reload_us: ANY_RELOAD_US.saturating_add(
                u64::try_from(u128::from(segment.bytes.0) * 1_000_000 / u128::from(disk)).unwrap_or(u64::MAX),
            ),
            is_expired: is_expired(state, segment, now),
            veto,
        })
    };
    sealed.filter_map(candidate).collect()
}

/// What stands against evicting a segment.
pub(super) fn veto(
    cache: &Cache,
    segment: &Segment,
    digest: Digest,
    pinned: &BTreeSet<Digest>,
    open: &BTreeSet<Digest>,
) -> Option<Veto> {
    if segment.state == SegmentState::Filling {
        Some(Veto::Filling)
    } else if cache.is_held(segment.name) {
        Some(Veto::Leased)
    } else if pinned.contains(&digest) {
        Some(Veto::Pinned)
    } else if open.contains(&digest) {
        Some(Veto::Open)
    } else {
        None
    }
}

/// Whether nobody has used it for longer than it may be idle: by the longest that any of its models allows.
fn is_expired(state: &State, segment: &Segment, now: Moment) -> bool {
    let cache = state.cache();
    let own = |model: &ModelId| -> Option<&Arc<Model>> { state.models().get(*model) };
    let of_models = segment.wanted_by.iter().filter_map(own);
    let ttl = of_models
        .map(|model| model.notes.as_ref().and_then(|notes| notes.config.cache_idle_ttl))
        .map(|ttl| ttl.or(cache.policy().idle_ttl))
        // One that may stay for ever keeps it for all.
        .reduce(|one, other| one.zip(other).map(|(one, other)| one.max(other)))
        .unwrap_or(cache.policy().idle_ttl);
    let used = cache.used_at(segment.name);
    ttl.zip(used).is_some_and(|(ttl, used)| now.service.since(used) >= ttl)
}

fn disk_speed(state: &State) -> u64 {
    let measured = state.machine().measurements.iter();
    let mut measured = measured.filter(|one| one.kind == hoist_domain::MeasurementKind::DiskRead);
    measured.next().map(|one| one.bytes_per_second).filter(|speed| *speed > 0).unwrap_or(USUAL_DISK)
}
