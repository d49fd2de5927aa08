//! The threads that read, shared by all jobs.
//!
//! Each thread takes a step of the job that has had the least of the disk for its weight, and carries it out with the
//! pool unlocked. A thread whose read does not come back is written off: another one takes its place, up to a bound, and
//! it ends when the read does.
//!
//! ```text
//!  Running: begun, steps left ──► no steps left or stopped ──► none in flight ──► concluded, told*
//!                                                          └──► abandoned: told at once*, reads left behind
//! ```

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoist_runtime::{Clock, OnError, Tasks};
use tracing::warn;

use crate::buffer::Buffer;
use crate::job::{Failure, Hashed, Job, News};
use crate::rising::Lacking;

/// How many threads, and when one is lost.
#[derive(Clone, Copy, Debug)]
pub struct PoolSettings {
    /// Reads in flight. Disks are saturated by 16 of the plan's size.
    pub threads: usize,
    /// A read that takes longer is not waited for.
    pub stuck_after: Duration,
    /// Threads that may be written off at a time.
    pub most_lost: usize,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self { threads: 16, stuck_after: Duration::from_secs(20), most_lost: 32 }
    }
}

/// The pool. Cloning is a reference count; its threads end when it is closed.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Shared>);

struct Shared {
    settings: PoolSettings,
    tasks: Tasks,
    clock: Clock,
    queue: Mutex<Queue>,
    work: Condvar,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Running>,
    next_id: u64,
    threads: Vec<Arc<Thread>>,
    /// Threads that wait for work.
    idle: usize,
    is_closed: bool,
}

/// What others see of a thread.
#[derive(Default)]
struct Thread {
    /// When the step began that it is at, in milliseconds of the clock and one more; 0 when it is at none.
    since: AtomicU64,
    is_lost: AtomicBool,
}

type Tell = Arc<dyn Fn(News) + Send + Sync>;

/// A target that has all its pieces, with their hashes.
type Complete = (usize, Vec<Hashed>);

struct Running {
    id: u64,
    job: Arc<Job>,
    weight: u64,
    /// The next step to begin.
    next: usize,
    in_flight: usize,
    /// Bytes begun, by weight: the least is served first.
    served: u64,
    /// By target.
    left: Vec<Lacking>,
    /// By target.
    hashed: Vec<Vec<Hashed>>,
    failed: Option<Failure>,
    tell: Tell,
}

impl Running {
    fn wants_thread(&self) -> bool {
        self.failed.is_none() && !self.job.is_stopped() && self.next < self.job.plan.steps()
    }

    /// Takes in what a step has come to. The targets that are complete by it.
    fn note(&mut self, step: usize, hashed: Vec<Hashed>) -> Vec<Complete> {
        for one in hashed {
            if let Some(of_target) = self.hashed.get_mut(self.job.target_of(one.0)) {
                of_target.push(one);
            }
        }
        let mut complete = Vec::new();
        for (target, at) in self.job.plan.targets_of(step) {
            if let (Some(left), Some(hashed)) = (self.left.get_mut(target), self.hashed.get_mut(target)) {
                left.has(at, step);
                if let Some(Some(rising)) = self.job.rising().get(target) {
                    rising.is_there(left.there());
                }
                if left.is_nothing() {
                    complete.push((target, std::mem::take(hashed)));
                }
            }
        }
        complete
    }
}

/// A job that runs, for who wants it to stop.
#[derive(Clone, Debug)]
pub struct Ticket {
    pool: Pool,
    id: u64,
    job: std::sync::Weak<Job>,
}

impl Ticket {
    /// Begins nothing more. The outcome follows when the reads in flight are back.
    pub fn stop(&self) {
        if let Some(job) = self.job.upgrade() {
            job.stop();
        }
        self.pool.settle(self.id);
    }

    /// Waits no longer for reads in flight: the outcome follows at once.
    pub fn abandon(&self) {
        let taken = self.pool.take(|running| running.id == self.id);
        let Some(Running { job, failed, tell, .. }) = taken else { return };
        job.stop();
        let failure = failed.unwrap_or_else(|| Failure::Unresponsive(job.paths()));
        // Threads that are still in it hold the job, and with it its segments' memory, until they are back.
        drop(job);
        tell(News::Ended(Err(failure)));
    }
}

impl Pool {
    #[must_use]
    pub fn new(settings: PoolSettings, tasks: Tasks, clock: Clock) -> Self {
        Self(Arc::new(Shared { settings, tasks, clock, queue: Mutex::default(), work: Condvar::new() }))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a job among the others; a job of twice the weight gets twice the disk. `tell` hears of it, on threads of the pool:
    /// of its end once, and of nothing after that unless it was abandoned.
    pub fn run(&self, job: Job, weight: u32, tell: impl Fn(News) + Send + Sync + 'static) -> Ticket {
        let job = Arc::new(job);
        let left = job.lacking();
        let without_steps = left.iter().enumerate().filter(|(_, left)| left.is_nothing());
        let complete: Vec<Complete> = without_steps.map(|(target, _)| (target, Vec::new())).collect();
        let mut queue = self.queue();
        let id = queue.next_id;
        queue.next_id += 1;
        // Who comes later has no arrears to collect.
        let served = queue.jobs.iter().map(|running| running.served).min().unwrap_or(0);
        let ticket = Ticket { pool: self.clone(), id, job: Arc::downgrade(&job) };
        queue.jobs.push(Running {
            id,
            weight: u64::from(weight.max(1)),
            next: 0,
            // Ourselves, until what has no steps is told of: it has no thread that would.
            in_flight: 1,
            served,
            hashed: left.iter().map(|_| Vec::new()).collect(),
            left,
            job,
            failed: None,
            tell: Arc::new(tell),
        });
        self.replenish(&mut queue);
        drop(queue);
        self.0.work.notify_all();
        self.land(id, |_| Ok(complete));
        ticket
    }

    /// Writes off threads whose reads do not come back. To be called now and then.
    pub fn tend(&self) {
        let now = self.0.clock.monotonic();
        let mut queue = self.queue();
        let lost = |thread: &Arc<Thread>| thread.is_lost.load(Ordering::Relaxed);
        let mut room =
            self.0.settings.most_lost.saturating_sub(queue.threads.iter().filter(|t| lost(t)).count());
        for thread in queue.threads.iter().filter(|thread| !lost(thread)) {
            let since = thread.since.load(Ordering::Relaxed);
            let is_stuck =
                since > 0 && now.saturating_sub(Duration::from_millis(since)) >= self.0.settings.stuck_after;
            if is_stuck && room > 0 {
                warn!("a read does not come back: its thread is left to itself");
                thread.is_lost.store(true, Ordering::Relaxed);
                room -= 1;
            }
        }
        self.replenish(&mut queue);
    }

    /// Threads whose reads did not come back yet.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.queue().threads.iter().filter(|thread| thread.is_lost.load(Ordering::Relaxed)).count()
    }

    /// Its threads end; jobs that are not done are stopped.
    pub fn close(&self) {
        let mut queue = self.queue();
        queue.is_closed = true;
        for running in &queue.jobs {
            running.job.stop();
        }
        let ids: Vec<u64> = queue.jobs.iter().map(|running| running.id).collect();
        drop(queue);
        self.0.work.notify_all();
        for id in ids {
            self.settle(id);
        }
    }

    /// As many threads as there is work for, up to the bound.
    fn replenish(&self, queue: &mut Queue) {
        let steps: usize = queue.jobs.iter().map(|running| running.job.plan.steps() - running.next).sum();
        let alive = queue.threads.iter().filter(|thread| !thread.is_lost.load(Ordering::Relaxed)).count();
        let wanted = steps.saturating_sub(queue.idle);
        for _ in alive..self.0.settings.threads.min(alive.saturating_add(wanted)) {
            let thread = Arc::<Thread>::default();
            let (pool, own) = (self.clone(), Arc::clone(&thread));
            let started = self.0.tasks.spawn_thread("staging", OnError::Log, move || {
                pool.serve(&own);
                Ok::<(), std::convert::Infallible>(())
            });
            match started {
                Ok(_) => queue.threads.push(thread),
                Err(error) => {
                    warn!(%error, "no thread to read with");
                    break;
                }
            }
        }
    }

    /// A thread's life.
    fn serve(&self, own: &Arc<Thread>) {
        let _gone = Gone { pool: self, own };
        let mut buffer: Option<Buffer> = None;
        while let Some((id, job, step)) = self.next(own, &mut buffer) {
            let mut report = Report { pool: self, id, step, result: Err(Failure::Defect) };
            let buffer = buffer.get_or_insert_with(Buffer::new);
            report.result = job.carry_out(step, buffer);
            own.since.store(0, Ordering::Relaxed);
            // Before the report: whoever concludes the job takes it apart.
            drop(job);
            drop(report);
        }
    }

    /// The next step to carry out; none when the thread is to end. An idle thread keeps no buffer.
    fn next(&self, own: &Thread, buffer: &mut Option<Buffer>) -> Option<(u64, Arc<Job>, usize)> {
        let mut queue = self.queue();
        loop {
            if queue.is_closed || own.is_lost.load(Ordering::Relaxed) {
                return None;
            }
            let wanting = queue.jobs.iter_mut().filter(|running| running.wants_thread());
            if let Some(running) = wanting.min_by_key(|running| (running.served, running.id)) {
                let number = running.next;
                let length = running.job.plan.step_bytes(number);
                running.next += 1;
                running.in_flight += 1;
                running.served = running.served.saturating_add(length.div_ceil(running.weight));
                let since = u64::try_from(self.0.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
                own.since.store(since.saturating_add(1), Ordering::Relaxed);
                return Some((running.id, Arc::clone(&running.job), number));
            }
            *buffer = None;
            queue.idle += 1;
            queue = self.0.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    /// A step, or the beginning, has come to its end: tells of the targets that are complete by it, and of the job's end if
    /// nothing else is in flight.
    fn land(&self, id: u64, complete: impl FnOnce(&mut Running) -> Result<Vec<Complete>, Failure>) {
        let landed = {
            let mut queue = self.queue();
            // An abandoned job is not there any more.
            let Some(running) = queue.jobs.iter_mut().find(|running| running.id == id) else { return };
            complete(running).map(|complete| (complete, Arc::clone(&running.job), Arc::clone(&running.tell)))
        };
        // Counted as in flight as long as it is not told: the end is the last word.
        let told = landed.and_then(|(complete, job, tell)| {
            for (target, hashed) in complete {
                tell(News::Filled(job.conclude(target, hashed)?));
            }
            Ok(())
        });
        if let Some(running) = self.queue().jobs.iter_mut().find(|running| running.id == id) {
            running.in_flight -= 1;
            if let Err(failure) = told {
                running.failed.get_or_insert(failure);
            }
        }
        self.settle(id);
    }

    /// Ends a job that has nothing left to do.
    fn settle(&self, id: u64) {
        let is_done =
            |running: &Running| running.id == id && running.in_flight == 0 && !running.wants_thread();
        let Some(Running { job, failed, tell, .. }) = self.take(is_done) else { return };
        let is_stopped = job.is_stopped();
        // The job is gone, and with it what it wrote, before anybody is told that it failed: threads let go of it before.
        drop(job);
        tell(News::Ended(match failed {
            Some(failure) => Err(failure),
            None if is_stopped => Err(Failure::Stopped),
            None => Ok(()),
        }));
    }

    fn take(&self, which: impl Fn(&Running) -> bool) -> Option<Running> {
        let mut queue = self.queue();
        let at = queue.jobs.iter().position(which)?;
        Some(queue.jobs.swap_remove(at))
    }
}

/// Tells what became of a step, also when its thread panics.
struct Report<'a> {
    pool: &'a Pool,
    id: u64,
    step: usize,
    result: Result<Vec<Hashed>, Failure>,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        let result = std::mem::replace(&mut self.result, Err(Failure::Defect));
        let step = self.step;
        self.pool.land(self.id, |running| Ok(running.note(step, result?)));
    }
}

/// Takes a thread that ends off the list.
struct Gone<'a> {
    pool: &'a Pool,
    own: &'a Arc<Thread>,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.pool.queue().threads.retain(|thread| !Arc::ptr_eq(thread, self.own));
    }
}
