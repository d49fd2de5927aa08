//! A wall clock that jumps changes dates, and nothing else: no deadline, no retention, no order, no watch.
//!
//! Each history happens twice: once by a clock that stands still, once by one that jumps by hours and decades in
//! both directions, and from which the ids of operations are made as the server makes them. But for the dates, and
//! those ids, every answer, every record and every message of a watch must be the same.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hoist_coordinator::watch::WatchSpec;
use hoist_domain::{Filter, OperationId, Outcome, Reason, WallTime};
use hoist_planner::Resource;
use hoist_tests::simulation::{Coordinator, Frames, Reply, Request, Workload, World, next_now};
use hoist_tests::{Random, soak};
use hoist_wire::v1;
use hoist_wire::v1::resource::Value;
use hoist_wire::v1::watch_response::Event;
use prost::Message;

/// Histories in CI.
const SEEDS: usize = 60;
const STEPS: usize = 120;

const HOUR: i64 = 3_600_000_000;
const DECADE: i64 = 10 * 8_766 * HOUR;

/// One of the two worlds of a history.
struct Side {
    world: World,
    life: Coordinator,
    frames: Frames,
    workload: Workload,
    random: Random,
    /// Where the wall clock jumps next; unset: it stands still.
    jumps: Option<Random>,
    wall: i64,
    /// Operations by the order of their acceptance, which is how the two sides compare them.
    accepted: BTreeMap<OperationId, usize>,
    /// Makes ids unique.
    made: u16,
}

impl Side {
    fn new(seed: u64, jumps: bool) -> Result<Self> {
        let mut world = World::new(40)?;
        // Deltas, deadlines and records all come of age within a history.
        world.history.age = Duration::from_secs(45);
        // As a server in 2026 has it.
        let wall = 56 * DECADE / 10;
        world.hands.set_wall(WallTime(wall));
        let life = world.start()?;
        let frames = watch(&world, &life)?;
        Ok(Self {
            world,
            life,
            frames,
            workload: Workload::default(),
            random: Random::new(seed),
            jumps: jumps.then(|| Random::new(seed ^ 0x5eed)),
            wall,
            accepted: BTreeMap::new(),
            made: 0,
        })
    }

    /// Hours, decades, or the little that a time service corrects.
    fn jump(&mut self) {
        let Some(random) = &mut self.jumps else { return };
        let by = random.pick(&[HOUR, -HOUR, DECADE, -DECADE, 250_000, -250_000]).copied().unwrap_or_default();
        // Before 1970 there are no ids, and no Hoist.
        self.wall = (self.wall + by).max(0);
        self.world.hands.set_wall(WallTime(self.wall));
    }

    /// One step: what everybody on this side was told.
    fn step(&mut self) -> Result<String> {
        self.jump();
        self.world.hands.advance(Duration::from_millis(self.random.below(6_000)));
        if self.random.percent(2) {
            self.restart()?;
        }
        let many = 1 + self.random.below(3);
        let mut requests: Vec<Request> =
            (0..many).map(|_| self.workload.request(&mut self.random, &self.life)).collect();
        if self.random.percent(30) {
            requests.push(Request::Tick);
        }
        // What is forgotten here is forgotten because of its age.
        requests.retain(|request| !matches!(request, Request::Delete(_)));
        for request in &mut requests {
            if let Request::Submit(submission) = request
                && self.jumps.is_some()
            {
                self.made += 1;
                let [high, low] = self.made.to_be_bytes();
                let millis = u64::try_from(self.wall / 1_000)?;
                let random = [high, low, 0, 0, 0, 0, 0, 0, 0, 0];
                submission.new_id =
                    OperationId(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid());
            }
        }
        let replies = self.life.serve(&requests)?;
        for reply in &replies {
            if let Reply::Operation(id) = reply {
                let next = self.accepted.len();
                self.accepted.entry(*id).or_insert(next);
            }
        }
        let told = format!("{replies:?}\n{}\n{}", self.known(), self.read()?);
        Ok(self.without_ids(told))
    }

    fn restart(&mut self) -> Result<()> {
        self.world.disk.power_cut(self.random.below(u64::MAX));
        self.life = self.world.start()?;
        self.frames = watch(&self.world, &self.life)?;
        Ok(())
    }

    /// Everything that the coordinator knows, but for dates.
    fn known(&self) -> String {
        let state = self.life.state();
        let mut told = format!("{} {:?}", state.position(), self.life.control.history().oldest());
        for record in state.records() {
            if let Resource::Operation(operation) = record.resource {
                let mut operation = operation.as_ref().clone();
                operation.created_at = WallTime(0);
                operation.started_at = operation.started_at.map(|_| WallTime(0));
                operation.ended_at = operation.ended_at.map(|_| WallTime(0));
                told = format!("{told}\n{} {operation:?}", record.position);
            }
        }
        let requests: Vec<_> = state.requests().collect();
        let running: Vec<_> = self.life.running.values().collect();
        format!("{told}\n{requests:?}\n{running:?}\n{:?}", state.operation_counts())
    }

    /// What the watch tells, but for dates.
    fn read(&mut self) -> Result<String> {
        let mut told = String::new();
        while let Some(frame) = next_now(&mut self.frames) {
            match frame.context("a watch ended without a reason")? {
                Ok(frame) => {
                    let mut message = v1::WatchResponse::decode(frame.encode_to_vec().as_slice())?;
                    forget_dates(&mut message);
                    told = format!("{told}\n{message:?}");
                }
                Err(error) => {
                    told = format!("{told}\n{error:?}");
                    self.frames = watch(&self.world, &self.life)?;
                }
            }
        }
        Ok(told)
    }

    /// The same with the order of acceptance in place of each id.
    fn without_ids(&self, told: String) -> String {
        self.accepted
            .iter()
            .fold(told, |told, (id, number)| told.replace(&id.to_string(), &format!("#{number}")))
    }
}

fn watch(world: &World, life: &Coordinator) -> Result<Frames> {
    let spec = WatchSpec {
        from: None,
        filter: Filter::default(),
        mark_interval: Duration::from_secs(3_600),
        progress_interval: None,
    };
    Ok(world.watch(life, spec)?)
}

fn forget_dates(message: &mut v1::WatchResponse) {
    let forget = |resource: &mut v1::Resource| match &mut resource.value {
        Some(Value::Machine(machine)) => machine.start_time = None,
        Some(Value::Operation(operation)) => {
            operation.create_time = None;
            // Whether there is one is not a matter of dates.
            operation.start_time = operation.start_time.map(|_| prost_types::Timestamp::default());
            operation.end_time = operation.end_time.map(|_| prost_types::Timestamp::default());
            // The encoded details name the operation; the state was compared with them.
            operation.error.as_mut().into_iter().for_each(|error| error.details.clear());
        }
        Some(
            Value::Condition(_)
            | Value::Model(_)
            | Value::Segment(_)
            | Value::Lease(_)
            | Value::Device(_)
            | Value::Replica(_),
        )
        | None => {}
    };
    match &mut message.event {
        Some(Event::Snapshot(chunk)) => chunk.resources.iter_mut().for_each(forget),
        Some(Event::Delta(delta)) => {
            delta.changes.iter_mut().filter_map(|change| change.resource.as_mut()).for_each(forget);
        }
        _ => {}
    }
}

/// What all histories together must have come across.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    overdue: usize,
    forgotten: usize,
}

fn history(seed: u64) -> Result<Seen> {
    let (mut still, mut jumping) = (Side::new(seed, false)?, Side::new(seed, true)?);
    let mut seen = Seen::default();
    for step in 0..STEPS {
        let before = still.life.state();
        let (expected, found) = (still.step()?, jumping.step()?);
        ensure!(
            found == expected,
            "step {step}: by a clock that jumps\n{found}\nby a clock that stands still\n{expected}"
        );
        let after = still.life.state();
        for operation in before.operations_newest_first(None) {
            let now = after.operation(operation.id).map(|operation| operation.outcome.clone());
            let overdue =
                matches!(&now, Some(Some(Outcome::Failed(e))) if e.reason() == Reason::DeadlineExceeded);
            seen.overdue += usize::from(overdue && operation.outcome.is_none());
            seen.forgotten += usize::from(now.is_none());
        }
    }
    Ok(seen)
}

#[test]
fn a_wall_clock_that_jumps_changes_dates_and_nothing_else() {
    let mut total = Seen::default();
    for seed in soak::seeds(SEEDS) {
        let seen = history(seed).unwrap_or_else(|error| panic!("HOIST_SEED={seed}: {error:?}"));
        total.overdue += seen.overdue;
        total.forgotten += seen.forgotten;
    }
    println!("{total:?}");
    if soak::seeds(SEEDS).count() >= SEEDS {
        assert!(total.overdue > 20 && total.forgotten > 100, "{total:?}");
    }
}
