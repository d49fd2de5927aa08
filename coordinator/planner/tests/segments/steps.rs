//! What happens in a history. Numbers pick among what there is, whatever that is by then.

use hoist_domain::{EvictionPolicy, Priority};
use proptest::prelude::*;

use crate::world::{CONTENTS, MODELS};

/// How a model is to be handled: pinned, with which components, and how long it may be idle.
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    pub(crate) is_pinned: bool,
    pub(crate) component: Option<usize>,
    pub(crate) ttl_ms: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// For the model of an operation that there is; it asks at once.
    SubmitAnother {
        operation: usize,
        priority: Priority,
        budget: u64,
    },
    /// All that becomes of an operation that nobody is in the way of.
    Cache {
        model: usize,
        component: usize,
        priority: Priority,
    },
    Submit {
        model: usize,
        component: Option<usize>,
        priority: Priority,
    },
    Reserve {
        operation: usize,
        budget: u64,
    },
    /// Room for what an operation fills already.
    ReserveMore {
        operation: usize,
        budget: u64,
    },
    /// An operation has read all that it fills, or has waited for others that do; in this order or the other. What has no
    /// digest turns out to be what it is, or this. Mostly it goes on at once.
    Identify {
        operation: usize,
        is_reversed: bool,
        odd: Option<u8>,
        is_learned: bool,
        is_sealed: bool,
    },
    /// What has its name is complete.
    Seal {
        operation: usize,
    },
    End {
        operation: usize,
        outcome: u8,
    },
    Cancel {
        operation: usize,
    },
    /// With nothing named: everything.
    Evict {
        parts: Vec<(usize, Option<usize>)>,
        content: Option<u8>,
        is_dry: bool,
    },
    /// The keeper takes a name away; somebody may have opened it in the last moment.
    Out {
        is_opened: bool,
    },
    /// Of a zombie all, or a part.
    Free {
        zombie: usize,
        part: Option<u64>,
    },
    /// Some process opens a segment, or closes it.
    Open {
        content: u8,
    },
    Shrink {
        budget: u64,
    },
    Grant {
        model: usize,
        component: Option<usize>,
        priority: Priority,
        is_use: bool,
    },
    Resume {
        lease: usize,
        is_own: bool,
    },
    EndLease {
        lease: usize,
    },
    Tick,
    Policy {
        eviction: EvictionPolicy,
        ttl_ms: Option<u64>,
    },
    Notes {
        model: usize,
        notes: Notes,
    },
    /// The catalog finds a digest out, or forgets it.
    Learn {
        model: usize,
        component: usize,
    },
    /// A file is written to: it has other bytes, and nobody knows which.
    Rewrite {
        model: usize,
        component: usize,
        content: u8,
    },
    /// A model leaves the catalog, or comes back.
    Catalog {
        model: usize,
    },
    Pass {
        ms: u64,
    },
    /// What is found again: a bit for each of the files that are there.
    Restart {
        found: u32,
    },
}

fn priority() -> impl Strategy<Value = Priority> {
    prop_oneof![3 => Just(Priority::Normal), 1 => Just(Priority::Low), 1 => Just(Priority::High)]
}

fn ttl() -> impl Strategy<Value = Option<u64>> {
    prop::option::of((0..4_u64).prop_map(|steps| steps * 100))
}

fn notes() -> impl Strategy<Value = Notes> {
    (prop::bool::weighted(0.4), prop::option::of(0..3_usize), ttl())
        .prop_map(|(is_pinned, component, ttl_ms)| Notes { is_pinned, component, ttl_ms })
}

fn budget() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 60..160_u64, 1 => 0..60_u64]
}

fn identified() -> impl Strategy<Value = Step> {
    let odd = prop::option::weighted(0.1, 0..CONTENTS);
    (0..64_usize, any::<bool>(), odd, prop::bool::weighted(0.7), prop::bool::weighted(0.6)).prop_map(
        |(operation, is_reversed, odd, is_learned, is_sealed)| Step::Identify {
            operation,
            is_reversed,
            odd,
            is_learned,
            is_sealed,
        },
    )
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    // Mostly the first: what collides is what matters.
    let model = || prop_oneof![2 => Just(0), 2 => 0..MODELS.len()];
    let some = || prop::option::weighted(0.3, 0..3_usize);
    let pick = || 0..64_usize;
    prop_oneof![
        10 => (model(), some(), priority())
            .prop_map(|(model, component, priority)| Step::Submit { model, component, priority }),
        8 => (model(), 0..3_usize, priority())
            .prop_map(|(model, component, priority)| Step::Cache { model, component, priority }),
        12 => (pick(), priority(), budget())
            .prop_map(|(operation, priority, budget)| Step::SubmitAnother { operation, priority, budget }),
        14 => (pick(), budget()).prop_map(|(operation, budget)| Step::Reserve { operation, budget }),
        6 => (pick(), budget()).prop_map(|(operation, budget)| Step::ReserveMore { operation, budget }),
        10 => identified(),
        5 => pick().prop_map(|operation| Step::Seal { operation }),
        7 => (pick(), 0..3_u8).prop_map(|(operation, outcome)| Step::End { operation, outcome }),
        1 => pick().prop_map(|operation| Step::Cancel { operation }),
        12 => evicted(),
        8 => prop::bool::weighted(0.6).prop_map(|is_opened| Step::Out { is_opened }),
        2 => (pick(), prop::option::of(1..20_u64)).prop_map(|(zombie, part)| Step::Free { zombie, part }),
        2 => (0..CONTENTS).prop_map(|content| Step::Open { content }),
        2 => budget().prop_map(|budget| Step::Shrink { budget }),
        9 => (model(), prop::option::weighted(0.7, 0..3_usize), priority(), any::<bool>())
            .prop_map(|(model, component, priority, is_use)| Step::Grant { model, component, priority, is_use }),
        2 => (pick(), prop::bool::weighted(0.8)).prop_map(|(lease, is_own)| Step::Resume { lease, is_own }),
        4 => pick().prop_map(|lease| Step::EndLease { lease }),
        6 => Just(Step::Tick),
        3 => (prop::bool::ANY, ttl()).prop_map(|(is_lru, ttl_ms)| {
            let eviction = if is_lru { EvictionPolicy::Lru } else { EvictionPolicy::Cost };
            Step::Policy { eviction, ttl_ms }
        }),
        2 => (model(), notes()).prop_map(|(model, notes)| Step::Notes { model, notes }),
        2 => (model(), 0..3_usize).prop_map(|(model, component)| Step::Learn { model, component }),
        1 => (model(), 0..3_usize, 0..CONTENTS)
            .prop_map(|(model, component, content)| Step::Rewrite { model, component, content }),
        1 => model().prop_map(|model| Step::Catalog { model }),
        4 => (0..6_u64).prop_map(|steps| Step::Pass { ms: steps * 100 }),
        3 => prop_oneof![2 => Just(u32::MAX), 1 => any::<u32>()].prop_map(|found| Step::Restart { found }),
    ]
}

/// Mostly one model; the more are named, the less is left for other steps.
fn evicted() -> impl Strategy<Value = Step> {
    let part = || (0..MODELS.len(), prop::option::weighted(0.7, 0..3_usize));
    let parts = prop_oneof![
        1 => Just(Vec::new()),
        7 => part().prop_map(|part| vec![part]),
        3 => prop::collection::vec(part(), 2..4),
        // All who share something.
        1 => Just((0..MODELS.len()).map(|model| (model, None)).collect()),
    ];
    let content = prop::option::weighted(0.05, 0..CONTENTS);
    (parts, content, prop::bool::weighted(0.2)).prop_map(|(parts, content, is_dry)| Step::Evict {
        parts,
        content,
        is_dry,
    })
}
