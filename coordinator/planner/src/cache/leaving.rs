//! What goes out of RAM without anybody needing its room: asked for, idle, or because the machine has less.

use std::collections::BTreeSet;
use std::sync::Arc;

use hoist_domain::{
    Bytes, Digest, Eviction, EvictionReason, Model, ModelId, Priority, Segment, SegmentName, SegmentState,
    Veto,
};

use super::holdings::Holder;
use super::reserving::{Facts, candidates, evicting, pinned, veto};
use super::resident::Cache;
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
    /// What these were cached for, but for what others were, too.
    Models {
        models: BTreeSet<ModelId>,
        /// Names of their components; empty: all.
        components: Vec<Box<str>>,
    },
    /// These, whosever they are.
    Segments(BTreeSet<Digest>),
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
    for digest in digests(state, &ask.out) {
        let name = SegmentName::Content(digest);
        let Some(segment) = cache.segment(name).filter(|segment| segment.state != SegmentState::Evicting)
        else {
            continue;
        };
        let other = match &ask.out {
            Out::Models { models, .. } => other_user(state, segment, models),
            Out::All | Out::Segments(_) => None,
        };
        let other = other.map(|other| format!("{} shares it, and is cached", other.name()));
        let vetoed = veto(cache, segment, digest, &pinned, &ask.open);
        let vetoed = vetoed.map(|veto| because(cache, name, veto));
        match (&vetoed, &other, &ask.out) {
            (None, None, _) => events.push(evicting(digest, eviction, now)),
            // What stays for others alone is not theirs any more.
            (None, Some(_), Out::Models { models, components }) => {
                let their = segment.wanted_by.intersection(models).filter_map(|id| state.models().get(*id));
                let their = their.filter(|model| !has_it_otherwise(model, components, digest));
                events.extend(their.map(|model| Event::SegmentUnwanted { name, model: model.id }));
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

/// The contents that are asked out.
fn digests(state: &State, out: &Out) -> BTreeSet<Digest> {
    let cache = state.cache();
    let (models, components) = match out {
        Out::All => return cache.segments().filter_map(|segment| segment.name.digest()).collect(),
        Out::Segments(digests) => return digests.clone(),
        Out::Models { models, components } => (models, components),
    };
    let models: BTreeSet<ModelId> =
        models.iter().copied().filter(|id| state.models().get(*id).is_some()).collect();
    let known = models.iter().filter_map(|id| state.models().get(*id)).flat_map(|model| {
        let named = model.content.components.iter().filter(|one| is_named(components, &one.name));
        named.filter_map(|one| one.digest)
    });
    // What was cached for them may have other digests by now: their files have changed.
    let is_former =
        |segment: &&Arc<Segment>| components.is_empty() && !segment.wanted_by.is_disjoint(&models);
    let former = cache.segments().filter(is_former).filter_map(|segment| segment.name.digest());
    known.chain(former).collect()
}

/// A model that a segment was cached for, beside these.
fn other_user<'a>(state: &'a State, segment: &Segment, these: &BTreeSet<ModelId>) -> Option<&'a Arc<Model>> {
    segment.wanted_by.difference(these).find_map(|id| state.models().get(*id))
}

/// Two components of one model may be equal: then one keeps what is asked out as the other.
fn has_it_otherwise(model: &Model, asked: &[Box<str>], digest: Digest) -> bool {
    let mut others = model.content.components.iter().filter(|one| !is_named(asked, &one.name));
    others.any(|one| one.digest == Some(digest))
}

/// Why it stays, with who is in the way where that is known.
fn because(cache: &Cache, name: SegmentName, veto: Veto) -> String {
    let lease = cache.holders(name).find_map(|holder| match holder {
        Holder::Lease(id) => cache.lease(id),
        Holder::Operation(_) => None,
    });
    match (veto, lease) {
        (Veto::Leased, Some(lease)) if !lease.holder.is_empty() => {
            format!("it is leased by {}", lease.holder)
        }
        (Veto::Leased, Some(_)) => "it is leased".to_owned(),
        (Veto::Leased, None) => "an operation has just cached it".to_owned(),
        _ => format!("it is {}", veto.as_str()),
    }
}

/// What was in these is lost: somebody has removed, replaced or cut their files. What nobody holds goes, pinned or not: there
/// is nothing left to keep. What is held stays until it is not: its holders may have it open.
#[must_use]
pub fn lost(state: &State, digests: &BTreeSet<Digest>, now: Moment) -> Decision {
    let cache = state.cache();
    let eviction = Eviction { reason: EvictionReason::Asked, beneficiary: None };
    let is_idle =
        |digest: &&Digest| cache.sealed(**digest).is_some_and(|segment| !cache.is_held(segment.name));
    digests.iter().filter(is_idle).map(|digest| evicting(*digest, eviction, now)).collect()
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
