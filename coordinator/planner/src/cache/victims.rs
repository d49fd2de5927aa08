//! Which segments go when room is needed.
//!
//! Vetoes come first: what is leased, pinned, open or being filled is no candidate at all, nor is what matters more than
//! the request. Among the rest, what matters least goes first; then what was idle longer than it may; then by the policy.
//!
//! The cost policy evicts what is missed least: the time to read it again, a byte that it takes, over the distance of its
//! next use. That distance is the usual gap between its uses, or the time since the last if that is longer. What was used
//! once is expected back after the rest of the cache, twice over: a scan evicts itself. Of those that come out alike, the
//! one goes that was used *last* if their rhythm is known: in a cycle over more than fits, the others come before it.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use hoist_domain::{Bytes, EvictionPolicy, Priority, Veto};

use super::usage::Use;

/// A segment as the policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<K> {
    pub key: K,
    pub bytes: Bytes,
    pub priority: Priority,
    pub used: Use,
    /// Reading it again would take so long, in microseconds.
    pub reload_us: u64,
    /// It was idle longer than it may.
    pub is_expired: bool,
    pub veto: Option<Veto>,
}

/// There is no room, and none can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shortage {
    /// What eviction could free.
    pub evictable: Bytes,
    /// What stands in the way of the rest.
    pub vetoed: Vec<Vetoed>,
}

/// What somebody's interest keeps in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vetoed {
    /// Unset: it matters more than the request.
    pub veto: Option<Veto>,
    pub bytes: Bytes,
}

/// The segments to evict so that so many bytes become free; none when nothing is needed.
///
/// Properties: nothing vetoed, and nothing that matters more than `priority`; enough; no victim could be spared; none
/// could be replaced by one that is to go before it.
///
/// # Errors
/// When all that may go is not enough: then nothing goes.
pub fn victims<K: Ord + Clone>(
    candidates: &[Candidate<K>],
    needed: Bytes,
    priority: Priority,
    policy: EvictionPolicy,
    tick: u64,
) -> Result<Vec<K>, Shortage> {
    let may_go = |candidate: &&Candidate<K>| candidate.veto.is_none() && candidate.priority <= priority;
    let mut ranked: Vec<&Candidate<K>> = candidates.iter().filter(may_go).collect();
    let population = candidates.len() as u64;
    ranked.sort_by(|one, other| order(one, other, policy, tick, population));
    let mut chosen = Vec::new();
    let mut freed = 0_u64;
    for candidate in &ranked {
        if freed >= needed.0 {
            break;
        }
        freed = freed.saturating_add(candidate.bytes.0);
        chosen.push(*candidate);
    }
    if freed < needed.0 {
        return Err(shortage(candidates, Bytes(freed), priority));
    }
    // The last made it enough; of those before it some may not be needed any more, the most missed first.
    let mut kept = Vec::new();
    for candidate in chosen.into_iter().rev() {
        if freed.saturating_sub(candidate.bytes.0) >= needed.0 {
            freed = freed.saturating_sub(candidate.bytes.0);
        } else {
            kept.push(candidate.key.clone());
        }
    }
    kept.reverse();
    Ok(kept)
}

/// Who goes first is less.
fn order<K: Ord>(
    one: &Candidate<K>,
    other: &Candidate<K>,
    policy: EvictionPolicy,
    tick: u64,
    population: u64,
) -> Ordering {
    let first = |candidate: &Candidate<K>| (candidate.priority, !candidate.is_expired);
    let by_policy = match policy {
        EvictionPolicy::Lru => one.used.last.cmp(&other.used.last),
        EvictionPolicy::Cost => {
            let value = |candidate: &Candidate<K>| value(candidate, tick, population);
            let rhythm = |candidate: &Candidate<K>| match candidate.used.gap {
                // Used once: the oldest first, before those that are known to come back.
                None => (false, candidate.used.last, Reverse(0)),
                Some(_) => (true, 0, Reverse(candidate.used.last)),
            };
            value(one).cmp(&value(other)).then_with(|| rhythm(one).cmp(&rhythm(other)))
        }
    };
    first(one).cmp(&first(other)).then(by_policy).then_with(|| one.key.cmp(&other.key))
}

/// How much it is missed, on a logarithmic scale of half octaves: what differs by less is alike.
fn value<K>(candidate: &Candidate<K>, tick: u64, population: u64) -> u32 {
    let idle = tick.saturating_sub(candidate.used.last);
    let distance = match candidate.used.gap {
        Some(gap) => gap.max(idle),
        None => idle.saturating_add(population).saturating_mul(2),
    };
    let held = u128::from(candidate.bytes.0.max(1)).saturating_mul(u128::from(distance.max(1)));
    let density = (u128::from(candidate.reload_us.max(1)) << 64) / held;
    let density = density.max(1);
    let octave = density.ilog2();
    let half = octave.checked_sub(1).map_or(0, |bit| u32::from(density >> bit & 1 == 1));
    2 * octave + half
}

fn shortage<K>(candidates: &[Candidate<K>], evictable: Bytes, priority: Priority) -> Shortage {
    let mut vetoed: BTreeMap<Option<Veto>, u64> = BTreeMap::new();
    for candidate in candidates {
        if candidate.veto.is_some() || candidate.priority > priority {
            let bytes = vetoed.entry(candidate.veto).or_default();
            *bytes = bytes.saturating_add(candidate.bytes.0);
        }
    }
    let vetoed = vetoed.into_iter();
    let vetoed = vetoed.map(|(veto, bytes)| Vetoed { veto, bytes: Bytes(bytes) });
    Shortage { evictable, vetoed: vetoed.collect() }
}
