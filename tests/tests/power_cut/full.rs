//! A disk that is full for a while. Acknowledged requests stay, refused ones never show up unless they are made
//! again, and what executors reported meanwhile is not lost.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use hoist_coordinator::control::restore;
use hoist_coordinator::watch::WatchSpec;
use hoist_domain::{
    Condition, ConditionKind, Filter, OperationId, OperationState, Principal, ResourceName, Revision,
    Severity, WallTime,
};
use hoist_store::simulate::{SimulatedDisk, open_simulated};
use hoist_store::{Batch, CommitError, Exporter, Store};
use hoist_tests::oracle::{Follower, Ledger, resources};
use hoist_tests::simulation::{Coordinator, Frames, Reply, Request, Workload, World, machine, next_now};
use hoist_tests::{Random, soak};
use hoist_wire::v1;
use prost::Message;

use super::is_readonly;
use super::twin::{Durable, Twin};

const SEEDS: usize = 150;
const PHASES: u64 = 4;

/// A store on which a commit may land although it is reported as failed for lack of room: after a full disk nobody
/// knows, until the store is opened anew. A simulated disk leaves that doubt once in ten thousand times.
struct Doubtful {
    inner: Box<dyn Store>,
    /// Refuses everything, in the words of the real store.
    full: Box<dyn Store>,
    attempted: Revision,
    in_doubt: bool,
    doubt: Doubt,
}

/// What the test and the store tell each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubt {
    /// The next commit lands, and is reported as failed.
    pub(super) next: Arc<AtomicBool>,
    /// The commit that failed has turned out to be there.
    landed: Arc<AtomicBool>,
}

impl Doubtful {
    fn open(disk: &SimulatedDisk) -> Result<(Self, Box<dyn Exporter>, hoist_store::Opened, Doubt)> {
        let (inner, exporter, opened) = open_simulated(disk)?;
        let other = SimulatedDisk::new();
        let (full, _, _) = open_simulated(&other)?;
        other.fail_writes(Some(ErrorKind::StorageFull));
        let doubt = Doubt::default();
        let attempted = opened.revision;
        let doubtful = Self { inner, full, attempted, in_doubt: false, doubt: doubt.clone() };
        Ok((doubtful, exporter, opened, doubt))
    }
}

impl Store for Doubtful {
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        self.attempted = batch.revision;
        if self.doubt.next.swap(false, Ordering::Relaxed) {
            self.inner.commit(batch)?;
            self.in_doubt = true;
        }
        if self.in_doubt { self.full.commit(batch) } else { self.inner.commit(batch) }
    }

    fn reopen(&mut self) -> Result<Revision, CommitError> {
        let found = self.inner.reopen()?;
        self.in_doubt = false;
        self.doubt.landed.store(found == self.attempted, Ordering::Relaxed);
        Ok(found)
    }
}

pub(super) fn start(world: &World) -> Result<(Coordinator, Doubt)> {
    let (store, exporter, mut opened, doubt) = Doubtful::open(&world.disk)?;
    let restored = restore(&mut opened, machine(&world.clock));
    Ok((world.start_with(restored, opened.service_time, Box::new(store), exporter)?, doubt))
}

/// What the twin gets to hear once the fault is over.
#[derive(Debug, Default)]
struct Missed {
    /// The commit that failed, in case it landed.
    attempted: Vec<Request>,
    /// What executors have reported.
    owed: Vec<Request>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    readonly: u64,
    landed: u64,
    refused: u64,
    owed: u64,
}

struct History {
    world: World,
    life: Coordinator,
    doubt: Doubt,
    twin: Twin,
    ledger: Ledger,
    follower: Follower,
    frames: Frames,
    workload: Workload,
    random: Random,
    seen: Seen,
}

impl History {
    fn new(seed: u64) -> Result<Self> {
        let world = World::new(100_000)?;
        let (life, doubt) = start(&world)?;
        let twin = Twin::of(&world, &life)?;
        let spec = WatchSpec {
            from: None,
            filter: Filter::default(),
            mark_interval: Duration::from_secs(3600),
            progress_interval: None,
        };
        let frames = world.watch(&life, spec)?;
        let mut ledger = Ledger::new(life.state().position().epoch.0);
        ledger.record(life.state().position().revision.0, resources(&life.state()));
        Ok(Self {
            world,
            life,
            doubt,
            twin,
            ledger,
            follower: Follower::new(v1::WatchFilter::default()),
            frames,
            workload: Workload::default(),
            random: Random::new(seed),
            seen: Seen::default(),
        })
    }

    fn requests(&mut self) -> Vec<Request> {
        let many = 1 + self.random.below(4);
        let mut requests: Vec<Request> =
            (0..many).map(|_| self.workload.request(&mut self.random, &self.life)).collect();
        // Each executor reports once, and only what it has run.
        let mut running: Vec<OperationId> = self.life.running.keys().copied().collect();
        requests.retain(|request| match request {
            Request::Finish { id, .. } => running.extract_if(.., |running| running == id).next().is_some(),
            _ => true,
        });
        requests
    }

    fn serve(&mut self, requests: &[Request]) -> Result<Vec<Reply>> {
        let replies = self.life.serve(requests)?;
        let state = self.life.state();
        self.ledger.record(state.position().revision.0, resources(&state));
        Ok(replies)
    }

    /// Both are asked the same, and are the same.
    fn serve_both(&mut self, requests: &[Request]) -> Result<Vec<Reply>> {
        let replies = self.serve(requests)?;
        let expected = self.twin.coordinator.serve(requests)?;
        ensure!(replies == expected, "{requests:?}: {replies:?}, where {expected:?} is due");
        self.compare().with_context(|| format!("{requests:?}"))?;
        Ok(replies)
    }

    fn compare(&self) -> Result<()> {
        let due = Durable::of(&self.twin.coordinator.state()).content();
        match Durable::of(&self.life.state()).content().differs_from(&due) {
            None => Ok(()),
            Some(difference) => Err(anyhow!("{difference}")),
        }
    }

    fn phase(&mut self) -> Result<()> {
        for _ in 0..self.random.below(8) {
            self.world.hands.advance(Duration::from_millis(self.random.below(4_000)));
            let requests = self.requests();
            self.serve_both(&requests)?;
        }
        self.read()?;
        if self.random.percent(30) {
            self.doubt.next.store(true, Ordering::Relaxed);
        } else {
            self.world.disk.fail_writes_after(self.random.below(12), ErrorKind::StorageFull);
        }
        let mut refused = Vec::new();
        let mut missed = Missed::default();
        for _ in 0..8 {
            let requests = self.requests();
            let was_readonly = is_readonly(&self.life);
            let before = self.life.state();
            let replies = self.serve(&requests)?;
            if !is_readonly(&self.life) {
                // In doubt about one commit, but not about room: the first tick has helped.
                self.catch_up(&mut missed, &requests, &replies)?;
                continue;
            }
            ensure!(
                Durable::of(&self.life.state()) == Durable::of(&before),
                "{requests:?} is seen although it was refused"
            );
            if !was_readonly {
                missed.attempted.clone_from(&requests);
            }
            for (request, reply) in requests.into_iter().zip(replies) {
                if matches!(request, Request::Finish { .. }) {
                    missed.owed.push(request);
                    self.seen.owed += 1;
                } else if reply.is_readonly() {
                    refused.push(request);
                }
            }
            self.seen.readonly += 1;
            if self.random.percent(50) {
                self.read()?;
            }
        }
        self.world.disk.fail_writes(None);
        self.doubt.next.store(false, Ordering::Relaxed);
        self.seen.refused += refused.len() as u64;
        let replies = self.serve(&[Request::Tick])?;
        ensure!(!is_readonly(&self.life), "there is room again, and nobody noticed");
        self.catch_up(&mut missed, &[Request::Tick], &replies).context("after the recovery")?;
        self.repeat(refused)
    }

    /// The fault is over, and these requests were served. The twin hears of what it missed, and must then be the same.
    fn catch_up(&mut self, missed: &mut Missed, requests: &[Request], replies: &[Reply]) -> Result<()> {
        let attempted = std::mem::take(&mut missed.attempted);
        if self.doubt.landed.swap(false, Ordering::Relaxed) {
            self.seen.landed += 1;
            self.twin.coordinator.serve(&attempted)?;
        }
        let mut all = std::mem::take(&mut missed.owed);
        let owed = all.len();
        all.extend_from_slice(requests);
        let due = self.twin.coordinator.serve(&all)?;
        ensure!(due.get(owed..) == Some(replies), "{requests:?}: {replies:?}, where {due:?} is due");
        self.compare().with_context(|| format!("{requests:?}"))?;
        let running: Vec<_> = self.life.running.keys().collect();
        ensure!(running == self.twin.coordinator.running.keys().collect::<Vec<_>>(), "executors");
        Ok(())
    }

    /// Whoever was refused asks again, with the same id; the server makes a new operation id each time.
    fn repeat(&mut self, mut refused: Vec<Request>) -> Result<()> {
        while !refused.is_empty() {
            let mut request = refused.swap_remove(self.random.index(refused.len()));
            if let Request::Submit(submission) = &mut request {
                submission.new_id = self.workload.submission(&mut self.random).new_id;
            }
            let replies = self.serve_both(std::slice::from_ref(&request))?;
            if let (Request::Submit(submission), Some(Reply::Operation(id))) = (&request, replies.first()) {
                let state = self.life.state();
                let made = state.operations_newest_first(None).filter(|operation| {
                    operation.request_id == submission.key.id
                        && operation.principal == submission.key.principal
                });
                ensure!(made.count() <= 1, "two operations of one request");
                ensure!(state.operation(*id).is_some(), "{id} was promised");
            }
        }
        Ok(())
    }

    /// The watcher reads all there is: nothing was left out, before, during and after.
    fn read(&mut self) -> Result<()> {
        while let Some(frame) = next_now(&mut self.frames) {
            let frame = frame.context("the watch ended")??;
            let message = v1::WatchResponse::decode(frame.encode_to_vec().as_slice())?;
            self.follower.take(message, &self.ledger)?;
        }
        let newest = self.ledger.newest;
        let known = self.follower.revision().context("no snapshot")?;
        self.ledger.check(&self.follower.filter, &self.follower.mirror.resources, known..=newest)?;
        let history = self.life.control.history();
        let kept = history.after(history.oldest(), usize::MAX).ok().context("the history has moved")?;
        let revisions: Vec<u64> = kept.iter().map(|delta| delta.position.revision.0).collect();
        let expected: Vec<u64> = (history.oldest().0 + 1..=newest).collect();
        ensure!(revisions == expected, "revisions are not contiguous: {revisions:?}");
        Ok(())
    }

    fn end(mut self) -> Result<Seen> {
        self.read()?;
        // What landed was published later than it was written, and is restored with the revision that was written.
        let held = Durable::of(&self.life.state()).content();
        self.world.disk.power_cut(self.random.below(u64::MAX));
        drop(self.life);
        let next = self.world.start()?;
        if let Some(difference) = Durable::of(&next.restored).content().differs_from(&held) {
            return Err(anyhow!("not what the next start finds: {difference}"));
        }
        Ok(self.seen)
    }
}

#[test]
fn a_disk_that_is_full_for_a_while_loses_nothing_and_invents_nothing() {
    let mut total = Seen::default();
    for seed in soak::seeds(SEEDS) {
        let run = || -> Result<Seen> {
            let mut history = History::new(seed)?;
            for phase in 0..PHASES {
                history.phase().with_context(|| format!("phase {phase}"))?;
            }
            history.end()
        };
        let seen = run().unwrap_or_else(|error| panic!("HOIST_SEED={seed}: {error:?}"));
        total.readonly += seen.readonly;
        total.landed += seen.landed;
        total.refused += seen.refused;
        total.owed += seen.owed;
    }
    println!("{total:?}");
    if soak::seeds(SEEDS).count() >= SEEDS {
        let Seen { readonly, landed, refused, owed } = total;
        assert!(readonly > 500 && landed > 50 && refused > 200 && owed > 100, "{total:?}");
    }
}

/// The one commit that holds everything: new work, work to stop, a condition, and the end of the server.
#[test]
fn a_commit_that_landed_although_it_was_refused_is_published_once() {
    let run = || -> Result<()> {
        let world = World::new(1_000)?;
        let (mut life, doubt) = start(&world)?;
        let (mut workload, mut random) = (Workload::default(), Random::new(1));
        let first = workload.submission(&mut random);
        let mut second = workload.submission(&mut random);
        second.work = hoist_domain::Work::ProbeMachine(hoist_domain::ProbeSpec {
            kinds: hoist_domain::MeasurementKind::ALL.to_vec(),
            bytes: hoist_domain::Bytes::mib(99),
        });
        let replies = life.serve(&[Request::Submit(first)])?;
        let Some(Reply::Operation(running)) = replies.first().cloned() else { anyhow::bail!("{replies:?}") };
        ensure!(life.running.contains_key(&running));
        doubt.next.store(true, Ordering::Relaxed);
        let condition = Condition {
            kind: ConditionKind::TaskPanicked,
            severity: Severity::Warning,
            message: String::new(),
            advice: String::new(),
            since: WallTime(0),
            details: Vec::new(),
        };
        let replies = life.serve(&[
            Request::Submit(second.clone()),
            Request::Cancel { id: running, by: Principal::Loopback },
            Request::Raise(condition),
            Request::Drain,
        ])?;
        ensure!(replies.iter().map(Reply::is_readonly).eq([true, true, false, false]), "{replies:?}");
        let state = life.state();
        ensure!(state.is_draining(), "a stop works although the disk is full");
        ensure!(state.operation(second.new_id).is_none(), "it was refused");
        ensure!(life.running.get(&running).is_some_and(|running| !running.told_to_stop));
        let raised = |coordinator: &Coordinator| {
            let name = ResourceName::Condition(ConditionKind::TaskPanicked);
            coordinator.state().record(name).map(|record| record.position)
        };
        let raised_at = raised(&life).context("not raised")?;

        life.serve(&[Request::Tick])?;
        let state = life.state();
        ensure!(state.is_draining() && !is_readonly(&life));
        let landed = state.operation(second.new_id).context("it landed")?;
        ensure!(landed.state == OperationState::Cancelled, "pending work ends with the server");
        ensure!(state.operation(running).is_some_and(|operation| operation.cancel_requested));
        ensure!(life.running.get(&running).is_some_and(|running| running.told_to_stop), "nobody told it");
        ensure!(raised(&life) == Some(raised_at), "raised twice");
        let again = life.serve(&[Request::Submit(second.clone())])?;
        ensure!(again == [Reply::Operation(second.new_id)], "asked again: {again:?}");
        Ok(())
    };
    run().unwrap_or_else(|error| panic!("{error:?}"));
}
