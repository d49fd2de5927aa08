//! What goes out of RAM without anybody needing its room: asked for, idle, or because the machine has less.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hoist_domain::{
    Bytes, Digest, Eviction, EvictionReason, LeaseId, Model, ModelId, Priority, Segment, SegmentName,
    SegmentState, Veto,
};

use super::holdings::Holder;
use super::reserving::{Facts, candidates, evicting, pinned, veto};
use super::victims::{Shortage, victims};
use crate::{Decision, Event, Moment, State};

/// What somebody wants out of RAM.
#[derive(Clone, Debug)]
pub struct EvictionAsk {
    pub out: Out,
    /// Segments that somebody has open.
    pub open: BTreeSet<Digest>,
}

#[derive(Clone, Debug)]
pub enum Out {
    /// Whatever nobody uses.
    All,
    /// All of this is judged together.
    Named {
        /// What these were cached for, but for what others were, too.
        models: Parts,
        /// These, whosever they are.
        segments: BTreeSet<Digest>,
    },
}

/// Models, and the names of their components that are meant; none for all of them.
#[derive(Clone, Debug, Default)]
pub struct Parts(BTreeMap<ModelId, Vec<Box<str>>>);

impl Parts {
    /// Names more of a model, or all of it.
    pub fn add(&mut self, model: ModelId, components: Vec<Box<str>>) {
        match self.0.entry(model) {
            Entry::Vacant(new) => drop(new.insert(components)),
            Entry::Occupied(known) if components.is_empty() => known.into_mut().clear(),
            Entry::Occupied(known) if known.get().is_empty() => {}
            Entry::Occupied(known) => known.into_mut().extend(components),
        }
    }
}

/// What becomes of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evicted {
    pub digest: Digest,
    pub bytes: Bytes,
    /// Why it stays.
    pub kept: Option<String>,
}

/// Judges what somebody wants out. A segment that other models were cached for stays; these models are not among them any
/// more. Named itself, it goes whosever it is.
#[must_use]
pub fn evict(state: &State, ask: &EvictionAsk, now: Moment) -> (Decision, Vec<Evicted>) {
    let cache = state.cache();
    let pinned = pinned(state);
    let eviction = Eviction { reason: EvictionReason::Asked, beneficiary: None };
    let (mut events, mut told) = (Vec::new(), Vec::new());
    for (digest, asking) in asked(state, &ask.out) {
        let name = SegmentName::Content(digest);
        let Some(segment) = cache.segment(name).filter(|segment| segment.state != SegmentState::Evicting)
        else {
            continue;
        };
        let other = asking.as_ref().and_then(|these| other_user(state, segment, these));
        let other = other.map(|other| format!("{} shares it, and is cached", other.name()));
        let vetoed = veto(cache, segment, digest, &pinned, &ask.open);
        let vetoed = vetoed.map(|veto| because(state, name, veto));
        match (&vetoed, &other) {
            (None, None) => events.push(evicting(digest, eviction, now)),
            // What stays for others alone is not theirs any more.
            (None, Some(_)) => {
                let their = asking.iter().flatten().filter(|(id, _)| segment.wanted_by.contains(id));
                let their = their.filter(|(_, (model, parts))| !has_it_otherwise(model, parts, digest));
                events.extend(their.map(|(id, _)| Event::SegmentUnwanted { name, model: *id }));
            }
            _ => {}
        }
        let kept = vetoed.or(other);
        told.push(Evicted { digest, bytes: segment.bytes, kept });
    }
    (events, told)
}

fn is_named(components: &[Box<str>], name: &str) -> bool {
    components.is_empty() || components.iter().any(|one| **one == *name)
}

/// Models that ask a content out, each with the names of its components that are asked out.
type Asking<'a> = BTreeMap<ModelId, (&'a Arc<Model>, &'a [Box<str>])>;

/// The contents that are asked out, and by which models: one that is named for other parts of it alone has an interest in a
/// content like any other. None where it goes whosever it is.
fn asked<'a>(state: &'a State, out: &'a Out) -> BTreeMap<Digest, Option<Asking<'a>>> {
    let segments = || state.cache().segments().filter_map(|one| Some((one.name.digest()?, one)));
    let (models, named) = match out {
        Out::All => return segments().map(|(digest, _)| (digest, None)).collect(),
        Out::Named { models, segments } => (&models.0, segments),
    };
    let mut asked: BTreeMap<Digest, Option<Asking<'a>>> = BTreeMap::new();
    let mut ask = |digest: Digest, id: ModelId, parts: &'a [Box<str>]| {
        if let Some(model) = state.models().get(id) {
            asked.entry(digest).or_default().get_or_insert_default().insert(id, (model, parts));
        }
    };
    for (id, parts) in models {
        let components = state.models().get(*id).into_iter().flat_map(|model| &model.content.components);
        let components = components.filter(|one| is_named(parts, &one.name));
        components.filter_map(|one| one.digest).for_each(|digest| ask(digest, *id, parts));
    }
    // What was cached for them may have other digests by now: their files have changed.
    for (digest, segment) in segments() {
        for id in &segment.wanted_by {
            if let Some(parts) = models.get(id).filter(|parts| parts.is_empty()) {
                ask(digest, *id, parts);
            }
        }
    }
    asked.extend(named.iter().map(|digest| (*digest, None)));
    asked
}

/// A model that a segment was cached for, beside these.
fn other_user<'a>(state: &'a State, segment: &Segment, these: &Asking<'_>) -> Option<&'a Arc<Model>> {
    let mut others = segment.wanted_by.iter().filter(|id| !these.contains_key(*id));
    others.find_map(|id| state.models().get(*id))
}

/// Two components of one model may be equal: then one keeps what is asked out as the other.
fn has_it_otherwise(model: &Model, asked: &[Box<str>], digest: Digest) -> bool {
    let mut others = model.content.components.iter().filter(|one| !is_named(asked, &one.name));
    others.any(|one| one.digest == Some(digest))
}

/// Why it stays, with who is in the way where that is known.
fn because(state: &State, name: SegmentName, veto: Veto) -> String {
    let cache = state.cache();
    let lease = cache.holders(name).find_map(|holder| match holder {
        Holder::Lease(id) => cache.lease(id),
        Holder::Operation(_) | Holder::Replica(_) => None,
    });
    let replica = cache.holders(name).find_map(|holder| match holder {
        Holder::Replica(id) => state.residency().replica(id),
        Holder::Operation(_) | Holder::Lease(_) => None,
    });
    match (veto, lease) {
        (Veto::Leased, None) if replica.is_some() => {
            let device = replica.map(|replica| replica.device.to_string()).unwrap_or_default();
            format!("it is on {device}: unload it there first")
        }
        (Veto::Leased, Some(lease)) if !lease.holder.is_empty() => {
            format!("it is leased by {}", lease.holder)
        }
        (Veto::Leased, Some(_)) => "it is leased".to_owned(),
        (Veto::Leased, None) => "an operation has just cached it".to_owned(),
        _ => format!("it is {}", veto.as_str()),
    }
}

/// What was in these is lost: somebody has removed, replaced or cut their files. They go, pinned or not: there is nothing left
/// to keep, and whoever asks again gets it anew. Leases on them end with that word; what their holders have open stays as it
/// is. What an operation has just put there waits for its end.
#[must_use]
pub fn lost(state: &State, digests: &BTreeSet<Digest>, now: Moment) -> Decision {
    let cache = state.cache();
    let eviction = Eviction { reason: EvictionReason::Asked, beneficiary: None };
    let (mut leases, mut out) = (BTreeSet::new(), Vec::new());
    for segment in digests.iter().filter_map(|digest| cache.sealed(*digest)) {
        let held = cache.holders(segment.name).map(|holder| match holder {
            Holder::Lease(id) => Some(Some(id)),
            // It has it mapped, and keeps that; or waits for it, and its load fails.
            Holder::Replica(_) => Some(None),
            Holder::Operation(_) => None,
        });
        if let Some(held) = held.collect::<Option<Vec<Option<LeaseId>>>>() {
            leases.extend(held.into_iter().flatten());
            out.extend(segment.name.digest());
        }
    }
    let revoked: Arc<str> = "somebody has removed, replaced or cut the file; acquire it again".into();
    let ended = leases.into_iter().map(|id| Event::LeaseEnded {
        id,
        at: now.service,
        revoked: Some(Arc::clone(&revoked)),
    });
    ended.chain(out.into_iter().map(|digest| evicting(digest, eviction, now))).collect()
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
