//! The cache's policy, judged by what a choice must satisfy, and by traces beside plain LRU.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use hoist_domain::{Bytes, EvictionPolicy, Priority, Veto};
use hoist_planner::cache::{Candidate, Usage, Use, victims};
use proptest::prelude::*;

fn any_candidates() -> impl Strategy<Value = Vec<Candidate<usize>>> {
    let veto = prop_oneof![
        4 => Just(None),
        1 => prop::sample::select(vec![Veto::Filling, Veto::Leased, Veto::Pinned, Veto::Open]).prop_map(Some),
    ];
    let used = (1_u64..100, prop::option::of(1_u64..50), 1_u64..9).prop_map(|(last, gap, count)| Use {
        last,
        gap,
        count,
    });
    let priority = prop::sample::select(Priority::ALL.to_vec());
    let one = (1_u64..40, priority, used, 0_u64..1_000, prop::bool::weighted(0.1), veto);
    prop::collection::vec(one, 0..12).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered
            .map(|(key, (bytes, priority, used, reload_us, is_expired, veto))| Candidate {
                key,
                bytes: Bytes(bytes),
                priority,
                used,
                reload_us,
                is_expired,
                veto,
            })
            .collect()
    })
}

/// Whom the policy would evict for a single byte if there were only these two.
fn goes_first(one: &Candidate<usize>, other: &Candidate<usize>, all: usize, policy: EvictionPolicy) -> usize {
    let mut pair = vec![one.clone(), other.clone()];
    // As many as there are: how many there are is part of the judgement.
    pair.extend((pair.len()..all).map(|number| Candidate {
        key: 1_000 + number,
        veto: Some(Veto::Pinned),
        ..one.clone()
    }));
    victims(&pair, Bytes(1), Priority::Critical, policy, 100).unwrap()[0]
}

proptest! {
    #[test]
    fn a_choice_is_allowed_enough_least_and_in_order(
        all in any_candidates(),
        needed in 0_u64..200,
        priority in prop::sample::select(Priority::ALL.to_vec()),
        policy in prop::sample::select(vec![EvictionPolicy::Cost, EvictionPolicy::Lru]),
    ) {
        let may_go = |one: &&Candidate<usize>| one.veto.is_none() && one.priority <= priority;
        let evictable: u64 = all.iter().filter(may_go).map(|one| one.bytes.0).sum();
        match victims(&all, Bytes(needed), priority, policy, 100) {
            Err(shortage) => {
                prop_assert!(evictable < needed);
                prop_assert_eq!(shortage.evictable, Bytes(evictable));
                let kept: u64 = shortage.vetoed.iter().map(|vetoed| vetoed.bytes.0).sum();
                prop_assert_eq!(kept + evictable, all.iter().map(|one| one.bytes.0).sum::<u64>());
            }
            Ok(chosen) => {
                let chosen: Vec<&Candidate<usize>> = chosen.iter().map(|key| &all[*key]).collect();
                prop_assert!(chosen.iter().all(may_go));
                let freed: u64 = chosen.iter().map(|one| one.bytes.0).sum();
                prop_assert!(freed >= needed);
                prop_assert!(chosen.iter().all(|one| freed - one.bytes.0 < needed), "one could be spared");
                let spared = all.iter().filter(may_go).filter(|one| !chosen.iter().any(|c| c.key == one.key));
                for spared in spared {
                    for victim in &chosen {
                        let is_before = goes_first(spared, victim, all.len(), policy) == spared.key;
                        let would_do = freed - victim.bytes.0 + spared.bytes.0 >= needed;
                        prop_assert!(!(is_before && would_do), "{spared:?} goes before {victim:?}");
                    }
                }
                prop_assert_eq!(chosen.iter().map(|one| one.key).collect::<Vec<_>>(),
                    victims(&all, Bytes(needed), priority, policy, 100).unwrap(), "the same again");
            }
        }
    }

    #[test]
    fn what_matters_less_goes_first_whatever_its_use(
        mut pair in any_candidates().prop_filter("two", |all| all.len() >= 2),
        policy in prop::sample::select(vec![EvictionPolicy::Cost, EvictionPolicy::Lru]),
    ) {
        pair.truncate(2);
        for one in &mut pair {
            one.veto = None;
        }
        prop_assume!(pair[0].priority != pair[1].priority);
        let least = if pair[0].priority < pair[1].priority { 0 } else { 1 };
        prop_assert_eq!(victims(&pair, Bytes(1), Priority::Critical, policy, 100).unwrap(), [least]);
    }
}

/// Hits of a trace of (what, bytes) on a cache of this size.
fn replay(trace: &[(u32, u64)], capacity: u64, policy: EvictionPolicy) -> usize {
    let mut usage: Usage<u32> = Usage::default();
    let mut held: BTreeMap<u32, u64> = BTreeMap::new();
    let mut hits = 0;
    for &(key, bytes) in trace {
        usage.touch(key);
        if held.contains_key(&key) {
            hits += 1;
            continue;
        }
        let taken: u64 = held.values().sum();
        let candidates: Vec<Candidate<u32>> = held
            .iter()
            .map(|(key, bytes)| Candidate {
                key: *key,
                bytes: Bytes(*bytes),
                priority: Priority::Normal,
                used: usage.of(key).unwrap(),
                reload_us: 100 + bytes * 10,
                is_expired: false,
                veto: None,
            })
            .collect();
        let needed = (taken + bytes).saturating_sub(capacity);
        for victim in victims(&candidates, Bytes(needed), Priority::Normal, policy, usage.tick()).unwrap() {
            held.remove(&victim);
        }
        held.insert(key, bytes);
    }
    hits
}

/// Numbers that only a seed decides.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// By Zipf's law with exponent 1 over so many.
    fn zipf(&mut self, of: u32) -> u32 {
        let total: f64 = (1..=of).map(|rank| 1.0 / f64::from(rank)).sum();
        let mut left = (self.next() >> 11) as f64 / (1_u64 << 53) as f64 * total;
        for rank in 1..=of {
            left -= 1.0 / f64::from(rank);
            if left < 0.0 {
                return rank;
            }
        }
        of
    }
}

#[test]
fn a_cycle_over_more_than_fits_keeps_most_of_what_fits() {
    let trace: Vec<(u32, u64)> = (0..60).flat_map(|_| (0..20).map(|key| (key, 10))).collect();
    let lru = replay(&trace, 160, EvictionPolicy::Lru);
    let cost = replay(&trace, 160, EvictionPolicy::Cost);
    // 16 of 20 fit: the best possible is 15 hits a round, once the rhythm is known.
    assert_eq!(lru, 0);
    assert!(cost >= 56 * 15, "{cost} hits");
}

#[test]
fn popular_ones_stay_through_scans() {
    let mut random = Random(7);
    let mut trace = Vec::new();
    for round in 0..40 {
        trace.extend((0..100).map(|_| (random.zipf(60), 10)));
        // Somebody looks at every model once.
        trace.extend((0..30).map(|number| (1_000 + round * 30 + number, 10)));
    }
    let lru = replay(&trace, 150, EvictionPolicy::Lru);
    let cost = replay(&trace, 150, EvictionPolicy::Cost);
    assert!(cost as f64 > 1.1 * lru as f64, "cost {cost}, lru {lru}");
}

#[test]
fn by_zipfs_law_the_popular_stay() {
    for (seed, sizes) in [(1, 1), (2, 1), (3, 8), (4, 8)] {
        let mut random = Random(seed);
        let trace: Vec<(u32, u64)> = (0..6_000)
            .map(|_| {
                let key = random.zipf(200);
                (key, 5 + 10 * u64::from(key % sizes))
            })
            .collect();
        for capacity in [200, 500] {
            let misses = |policy| trace.len() - replay(&trace, capacity, policy);
            let (lru, cost) = (misses(EvictionPolicy::Lru), misses(EvictionPolicy::Cost));
            assert!(cost as f64 <= 0.95 * lru as f64, "seed {seed}, {capacity}: misses {cost}, by lru {lru}");
        }
    }
}

#[test]
fn a_favourite_of_yesterday_gives_way() {
    let mut trace: Vec<(u32, u64)> = (0..400).map(|number| (number % 4, 10)).collect();
    trace.extend((0..400).map(|number| (10 + number % 4, 10)));
    let hits = replay(&trace, 40, EvictionPolicy::Cost);
    assert!(hits > 790 - 100, "{hits}");
}

#[test]
fn what_takes_long_to_read_again_stays_before_what_does_not() {
    let one = |key, reload_us, bytes| Candidate {
        key,
        bytes: Bytes(bytes),
        priority: Priority::Normal,
        used: Use { last: 5, gap: Some(3), count: 4 },
        reload_us,
        is_expired: false,
        veto: None,
    };
    let network = one(0, 80_000, 1_000);
    let disk = one(1, 10_000, 1_000);
    let first =
        |all: &[Candidate<usize>]| victims(all, Bytes(1), Priority::Normal, EvictionPolicy::Cost, 9).unwrap();
    assert_eq!(first(&[network.clone(), disk.clone()]), [1]);
    let idle = Candidate { is_expired: true, ..network };
    assert_eq!(first(&[idle, disk]), [0]);
}
