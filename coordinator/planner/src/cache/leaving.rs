//! What goes out of RAM without anybody needing its room: asked for, idle, or because the machine has less.

use std::collections::BTreeSet;
use std::sync::Arc;

use hoist_domain::{
    Bytes, Digest, Eviction, EvictionReason, Model, ModelId, Priority, SegmentName, SegmentState,
};

use super::reserving::{Facts, candidates, evicting, pinned, veto};
use super::victims::{Shortage, victims};
use crate::{Decision, Event, Moment, State};

/// What somebody wants out of RAM.
#[derive(Clone, Debug, Default)]
pub struct EvictionAsk {
    /// Unset: whatever nobody uses.
    pub model: Option<ModelId>,
    /// Names of its components; empty: all.
    pub components: Vec<Box<str>>,
    /// Segments that somebody has open.
    pub open: BTreeSet<Digest>,
}

/// What becomes of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evicted {
    pub digest: Digest,
    pub bytes: Bytes,
    /// Why it stays.
    pub kept: Option<String>,
}

/// Judges what somebody wants out. A segment that other models were cached for stays; this model is not one of them any
/// more.
#[must_use]
pub fn evict(state: &State, ask: &EvictionAsk, now: Moment) -> (Decision, Vec<Evicted>) {
    let cache = state.cache();
    let pinned = pinned(state);
    let is_named = |name: &str| ask.components.is_empty() || ask.components.iter().any(|one| **one == *name);
    let asked = ask.model.and_then(|id| state.models().get(id));
    let digests: Vec<Digest> = match asked {
        Some(model) => {
            let components = model.content.components.iter().filter(|one| is_named(&one.name));
            let known = components.filter_map(|one| one.digest);
            // What was cached for it may have other digests by now: its files have changed.
            let former =
                cache.segments().filter(|one| ask.components.is_empty() && one.wanted_by.contains(&model.id));
            let mut digests: Vec<Digest> = known.chain(former.filter_map(|one| one.name.digest())).collect();
            digests.sort_unstable();
            digests.dedup();
            digests
        }
        None if ask.model.is_some() => Vec::new(),
        None => cache.segments().filter_map(|segment| segment.name.digest()).collect(),
    };
    let mut events = Vec::new();
    let mut told = Vec::new();
    let eviction = Eviction { reason: EvictionReason::Asked, beneficiary: None };
    for digest in digests {
        let name = SegmentName::Content(digest);
        let Some(segment) = cache.segment(name) else { continue };
        if segment.state == SegmentState::Evicting {
            continue;
        }
        let others = segment.wanted_by.iter().filter(|other| {
            ask.model.is_some_and(|model| model != **other) && state.models().get(**other).is_some()
        });
        let other = others.min().and_then(|other| state.models().get(*other));
        let mut is_shared = false;
        let kept = if segment.state == SegmentState::Filling {
            Some("it is being filled".to_owned())
        } else if let Some(veto) = veto(cache, segment, digest, &pinned, &ask.open) {
            Some(veto.as_str().to_owned())
        } else {
            is_shared = other.is_some();
            other.map(|other| format!("{} shares it, and is cached", other.name()))
        };
        // Two components of one model may be equal: then one keeps what is asked out as the other.
        let is_still_its = |model: &Arc<Model>| {
            let mut others = model.content.components.iter().filter(|one| !is_named(&one.name));
            others.any(|one| one.digest == Some(digest))
        };
        if let Some(model) = asked.filter(|model| is_shared && segment.wanted_by.contains(&model.id))
            && !is_still_its(model)
        {
            events.push(Event::SegmentUnwanted { name, model: model.id });
        }
        if kept.is_none() {
            events.push(evicting(digest, eviction, now));
        }
        told.push(Evicted { digest, bytes: segment.bytes, kept });
    }
    (events, told)
}

/// What has to go because the budget has become less than what is used, and what was idle for too long.
///
/// # Errors
/// When what may go is not enough; then all of that goes, and the events are in it.
pub fn shrink(state: &State, facts: &Facts, now: Moment) -> Result<Decision, (Decision, Shortage)> {
    let cache = state.cache();
    let candidates = candidates(state, &facts.open, &BTreeSet::new(), now);
    let idle = Eviction { reason: EvictionReason::Idle, beneficiary: None };
    let pressure = Eviction { reason: EvictionReason::Pressure, beneficiary: None };
    let (expired, others): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|one| one.is_expired && one.veto.is_none());
    let mut events: Decision =
        expired.iter().filter_map(|one| one.key.digest()).map(|digest| evicting(digest, idle, now)).collect();
    let freed: u64 = expired.iter().map(|one| one.bytes.0).sum();
    let over = cache.totals().used().0.saturating_sub(freed).saturating_sub(facts.budget.0);
    if over == 0 {
        return Ok(events);
    }
    let out = |key: SegmentName| key.digest().map(|digest| evicting(digest, pressure, now));
    match victims(&others, Bytes(over), Priority::Critical, cache.policy().eviction, cache.tick()) {
        Ok(chosen) => {
            events.extend(chosen.into_iter().filter_map(out));
            Ok(events)
        }
        Err(shortage) => {
            let all = others.into_iter().filter(|one| one.veto.is_none());
            events.extend(all.filter_map(|one| out(one.key)));
            Err((events, shortage))
        }
    }
}
