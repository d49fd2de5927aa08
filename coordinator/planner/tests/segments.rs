//! Random histories of the cache against plain maps that are walked from end to end.
//!
//! After every step everything that can be seen of the cache is compared, and so are the changes that watchers are told
//! with the records that there are. Which segments make room is the planner's choice: that it may choose them, that they
//! are enough and none too many is judged here.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests are tests, and a failed check is a panic"
)]

#[path = "segments/histories.rs"]
mod histories;
#[path = "segments/leasing.rs"]
mod leasing;
#[path = "segments/leaving.rs"]
mod leaving;
#[path = "segments/naive.rs"]
mod naive;
#[path = "segments/operations.rs"]
mod operations;
#[path = "segments/steps.rs"]
mod steps;
#[path = "segments/world.rs"]
mod world;

use std::cell::RefCell;
use std::collections::BTreeSet;

use histories::History;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};
use steps::step;

/// Histories in CI; `HOIST_SOAK` multiplies them.
const HISTORIES: u32 = 2 * 1_000;

/// `HOIST_SOAK` is read here and nowhere else in this test.
fn histories() -> u32 {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test is its own edge; only the number of rounds depends on it"
    )]
    let factor = std::env::var("HOIST_SOAK");
    HISTORIES.saturating_mul(factor.ok().and_then(|text| text.parse().ok()).unwrap_or(1))
}

/// What the histories must have come across, taken together: what never happens is not tested.
const EVERYTHING: [&str; 47] = [
    "abandoned",
    "adopted",
    "awaited",
    "cached for two",
    "component let go",
    "equal to its own",
    "equal to what is complete",
    "evicted",
    "evicted by its digest",
    "evicted dry",
    "evicted together",
    "filled beside a zombie",
    "found present",
    "freed",
    "freed in part",
    "granted",
    "idle",
    "kept: leased",
    "kept: open",
    "kept: other parts named",
    "kept: pinned",
    "kept: shared",
    "kept: filling",
    "known before it was read",
    "lease ended",
    "lease expired",
    "lease lost its segments",
    "left by those who have it open",
    "named",
    "named after another",
    "named after what goes",
    "named beside a zombie",
    "nothing to lease",
    "out",
    "pressure",
    "refused",
    "refused as it is cancelled",
    "reported by one that has ended",
    "reserved again",
    "resumed",
    "resumed by another",
    "resumed twice",
    "room made",
    "room made for what is being filled",
    "room not needed",
    "sealed",
    "tight",
];

#[test]
fn the_cache_is_what_plain_maps_would_be_after_every_step() {
    let config = ProptestConfig {
        cases: histories(),
        source_file: Some(file!()),
        // What failed once stands beside this file, and is tried first.
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    };
    let seen = RefCell::new(BTreeSet::new());
    // For each component of a model whether its digest is known from the beginning.
    let known = prop::collection::vec(any::<u8>(), world::MODELS.len());
    let outcome =
        TestRunner::new(config).run(&(known, prop::collection::vec(step(), 1..75)), |(known, steps)| {
            let mut history = History::new(&known);
            for step in steps {
                history.step(step);
            }
            history.come_to_an_end();
            seen.borrow_mut().append(&mut history.seen);
            Ok(())
        });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert_eq!(seen.take(), BTreeSet::from(EVERYTHING));
}
