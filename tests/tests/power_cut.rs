//! What was acknowledged survives: power cuts, disks that fail to sync, and disks that are full for a while.
//!
//! The whole owner on a simulated disk, beside a twin whose store never fails. After a fault the coordinator must
//! be where its twin is, or was before the commit that failed: never anywhere else.

#[path = "power_cut/cached.rs"]
mod cached;
#[path = "power_cut/full.rs"]
mod full;
#[path = "power_cut/twin.rs"]
mod twin;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hoist_domain::{ConditionKind, Epoch, ModelState, ResourceName};
use hoist_tests::simulation::{Coordinator, Request, Workload, World};
use hoist_tests::{Random, soak};
use twin::{Candidate, Durable, Twin};

/// Histories in CI, each with a few lives of the machine.
const SEEDS: usize = 200;
const LIVES: u64 = 4;
const STEPS: u64 = 16;

/// What all histories together must have come across.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    commits_cut: u64,
    /// The commit that nobody was told of was there all the same.
    landed: u64,
    starts_cut: u64,
    syncs_failed: u64,
    /// Models that a start found, with notes, and missing.
    models: u64,
    noted: u64,
    missing: u64,
}

struct History {
    world: World,
    /// What the disk may hold now.
    candidates: Vec<Candidate>,
    epoch: Epoch,
    workload: Workload,
    random: Random,
    seen: Seen,
}

fn is_readonly(coordinator: &Coordinator) -> bool {
    let state = coordinator.state();
    state.record(ResourceName::Condition(ConditionKind::StoreReadonly)).is_some()
}

impl History {
    fn new(seed: u64) -> Result<Self> {
        Ok(Self {
            world: World::new(1_000)?,
            candidates: Vec::new(),
            epoch: Epoch(0),
            workload: Workload::with_models(),
            random: Random::new(seed),
            seen: Seen::default(),
        })
    }

    /// Starts the machine, now and then after a start during which the power fails.
    fn start(&mut self) -> Result<Coordinator> {
        if self.random.percent(30) {
            self.world.disk.stop_after(self.random.below(40));
        }
        if let Ok(life) = self.world.start() {
            self.check(&life)?;
            return Ok(life);
        }
        // It may have come as far as to resolve what was left behind.
        self.seen.starts_cut += 1;
        let recovered: Vec<Candidate> = self
            .candidates
            .iter()
            .map(|candidate| candidate.recovered(&self.world))
            .collect::<Result<_>>()?;
        self.candidates.extend(recovered);
        self.cut();
        let life = self.world.start()?;
        self.check(&life)?;
        Ok(life)
    }

    fn cut(&mut self) {
        self.world.disk.power_cut(self.random.below(u64::MAX));
        self.world.disk.fail_syncs(false);
    }

    fn check(&mut self, life: &Coordinator) -> Result<()> {
        let position = life.restored.position();
        ensure!(position.epoch > self.epoch, "epoch {} after {}", position.epoch, self.epoch);
        self.epoch = position.epoch;
        let Some(acknowledged) = self.candidates.first() else {
            ensure!(life.restored.record_count() == 1 && life.restored.request_count() == 0, "not empty");
            return Ok(());
        };
        let found = self.candidates.iter().position(|candidate| candidate.is(life));
        let found = found.with_context(|| {
            let heads: Vec<_> = self.candidates.iter().map(|candidate| candidate.head).collect();
            let difference = Durable::of(&life.restored)
                .differs_from(&Durable::of(&acknowledged.state))
                .unwrap_or_default();
            format!("{position} was found, none of {heads:?}; against what was acknowledged: {difference}")
        })?;
        self.seen.landed += u64::from(found > 0);
        for model in life.restored.models().iter() {
            self.seen.models += 1;
            self.seen.noted += u64::from(model.notes.is_some());
            self.seen.missing += u64::from(model.state == ModelState::Missing);
        }
        Ok(())
    }

    /// Requests until the disk fails, or enough has been done.
    fn live(&mut self, mut life: Coordinator) -> Result<()> {
        let mut twin = Twin::of(&self.world, &life)?;
        let syncs_fail_from = match self.random.below(10) {
            0..6 => {
                self.world.disk.stop_after(self.random.below(250));
                None
            }
            6..8 => Some(self.random.below(STEPS)),
            _ => None,
        };
        self.candidates = vec![twin.candidate()];
        let begun = self.world.clock.monotonic();
        for step in 0..STEPS {
            if syncs_fail_from == Some(step) {
                self.world.disk.fail_syncs(true);
                self.seen.syncs_failed += 1;
            }
            self.world.hands.advance(Duration::from_millis(self.random.below(4_000)));
            let many = 1 + self.random.below(5);
            let requests: Vec<Request> =
                (0..many).map(|_| self.workload.request(&mut self.random, &life)).collect();
            let acknowledged = twin.candidate();
            let replies = life.serve(&requests)?;
            let expected = twin.coordinator.serve(&requests)?;
            if is_readonly(&life) {
                self.seen.commits_cut += 1;
                ensure!(
                    Durable::of(&life.state()) == Durable::of(&acknowledged.state),
                    "what was refused can be seen"
                );
                self.candidates = vec![acknowledged, twin.candidate()];
                return self.live_on_readonly(life);
            }
            ensure!(replies == expected, "{requests:?}: {replies:?}, where {expected:?} is due");
            ensure!(Durable::of(&life.state()) == Durable::of(&twin.coordinator.state()), "{requests:?}");
            let committed = twin.candidate();
            if committed.head != acknowledged.head {
                let age = life.restored_at.after(self.world.clock.monotonic().saturating_sub(begun));
                ensure!(committed.head.service_time == age, "{:?} at {age:?}", committed.head);
            }
            self.candidates = vec![committed];
        }
        if self.random.percent(30) {
            // An orderly end writes nothing that matters.
            drop(life);
        }
        Ok(())
    }

    /// Nothing is acknowledged any more that would have to survive.
    fn live_on_readonly(&mut self, mut life: Coordinator) -> Result<()> {
        let held = Durable::of(&life.state());
        for _ in 0..self.random.below(4) {
            let request = self.workload.request(&mut self.random, &life);
            life.serve(std::slice::from_ref(&request))?;
            ensure!(Durable::of(&life.state()) == held, "{request:?} changed a store that is broken");
        }
        Ok(())
    }
}

#[test]
fn what_was_acknowledged_survives_every_power_cut_exactly() {
    let mut total = Seen::default();
    for seed in soak::seeds(SEEDS) {
        let run = || -> Result<Seen> {
            let mut history = History::new(seed)?;
            for life in 0..LIVES {
                let started = history.start().with_context(|| format!("start {life}"))?;
                history.live(started).with_context(|| format!("life {life}"))?;
                history.cut();
            }
            history.start().context("the last start")?;
            Ok(history.seen)
        };
        let seen = run().unwrap_or_else(|error| panic!("HOIST_SEED={seed}: {error:?}"));
        total.commits_cut += seen.commits_cut;
        total.landed += seen.landed;
        total.starts_cut += seen.starts_cut;
        total.syncs_failed += seen.syncs_failed;
        total.models += seen.models;
        total.noted += seen.noted;
        total.missing += seen.missing;
    }
    println!("{total:?}");
    if soak::seeds(SEEDS).count() >= SEEDS {
        let Seen { commits_cut, landed, starts_cut, syncs_failed, models, noted, missing } = total;
        assert!(models > 100 && noted > 50 && missing > 10, "{total:?}");
        assert!(commits_cut > 50 && landed > 3 && starts_cut > 20 && syncs_failed > 20, "{total:?}");
    }
}
