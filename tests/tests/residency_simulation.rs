//! Histories of a coordinator, its workers and its clients: kills, cut and late streams, failing devices, and every request that
//! there is about devices. One seed is one history.
//!
//! `HOIST_SEED=n` repeats one; `HOIST_SOAK=n` runs so many times as many.

use std::collections::BTreeMap;

use hoist_tests::devices_world::DevicesWorld;
use hoist_tests::{Random, soak};

/// Things that happen in one history.
const STEPS: usize = 1_200;

#[test]
fn whatever_happens_what_is_desired_comes_to_be_and_nothing_else() {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in soak::seeds(200) {
        let mut random = Random::new(seed);
        let mut world = DevicesWorld::new().unwrap();
        let ran =
            (0..STEPS).try_for_each(|_| world.step(&mut random)).and_then(|()| world.settle(&mut random));
        if let Err(error) = ran {
            let from = world.log.len().saturating_sub(60);
            for line in &world.log[from..] {
                println!("{line}");
            }
            panic!("seed {seed}: {error:#}");
        }
        for (kind, count) in world.counts {
            *counts.entry(kind).or_default() += count;
        }
    }
    println!("{counts:?}");
    // Histories in which nothing happens prove nothing.
    let kinds = [
        "kill",
        "cut",
        "give up",
        "restore",
        "succeeded",
        "failed",
        "cancelled",
        "out",
        "refused",
        "displaced",
        "given back",
        "filling",
        "placed early",
        "fills",
        "copied ahead",
        "full",
        "owed",
        "in doubt",
        "left behind",
    ];
    for kind in kinds {
        assert!(
            soak::seeds(200).count() == 1 || counts.get(kind).copied().unwrap_or(0) >= 3,
            "{kind} never happened: {counts:?}"
        );
    }
}

#[test]
fn a_seed_is_a_history() {
    let history = |seed| {
        let mut random = Random::new(seed);
        let mut world = DevicesWorld::new().unwrap();
        (0..STEPS).try_for_each(|_| world.step(&mut random)).unwrap();
        world.log
    };
    assert_eq!(history(7), history(7));
    assert_ne!(history(7), history(8));
}
