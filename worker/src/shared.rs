//! Between the session and the driver: what is desired, what is seen, and whether the driver is alive.
//!
//! Of what is desired only the newest counts: a driver that is busy misses what was overtaken. Nobody waits for the driver but
//! who reads a tensor back, or wants a replica's memory for another process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoist_domain::{Bytes, DeviceFacts, Digest, Epoch, ReplicaId};
use hoist_runtime::Clock;
use tokio::sync::{oneshot, watch};

use crate::device::{LOOK_EVERY, PROGRESS_EVERY, Pace, Piece, Share, Sums};
use crate::policy::{Desired, Refused, Taken, Wanted, take};
use crate::side::{Lent, MOST_CONNECTIONS, Tokens};
use crate::view::View;

/// Who waits for the driver: everybody who may be at the worker's own socket, and some who read.
const MOST_ASKS: usize = MOST_CONNECTIONS + 64;

/// Bytes of a tensor that somebody wants to see.
#[derive(Debug)]
pub struct Read {
    pub id: ReplicaId,
    pub tensor: String,
    pub offset: u64,
    pub length: usize,
    pub reply: oneshot::Sender<Option<Piece>>,
}

/// What somebody asks the driver for, beside what is desired.
#[derive(Debug)]
pub(crate) enum Ask {
    Read(Read),
    /// A replica's memory, for another process.
    Share(ReplicaId, oneshot::Sender<Result<Share, String>>),
    /// Sums of a replica's tensors.
    Sum(ReplicaId, oneshot::Sender<Result<Sums, String>>),
}

/// How far a load is.
pub(crate) type Loading = Option<(ReplicaId, Bytes, Bytes)>;

/// The one thing that both sides hold. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    orders: Mutex<Orders>,
    /// Told at each change of the orders.
    changed: Condvar,
    /// Set once, when the device is open.
    facts: watch::Sender<Option<Arc<DeviceFacts>>>,
    view: watch::Sender<Arc<View>>,
    loading: Mutex<Loading>,
    /// Steps of work so far.
    steps: AtomicU64,
    /// Milliseconds of the clock at which the present step began, and one; 0: there is none.
    step_began: AtomicU64,
    /// The replica that it is about.
    at: Mutex<Option<ReplicaId>>,
    tokens: Tokens,
    lent: Lent,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Orders {
    desired: Option<Arc<Desired>>,
    asks: VecDeque<Ask>,
    /// What is there of segments that are being filled, of those that are desired.
    filled: BTreeMap<Digest, (PathBuf, Bytes)>,
    /// More of one than the driver knows.
    is_fuller: bool,
    /// Removals up to this one are known to the coordinator.
    heard_removed: u64,
    is_ending: bool,
}

/// What the driver is to do.
#[derive(Debug)]
pub(crate) enum Turn {
    Ask(Ask),
    Desired(Arc<Desired>),
    /// Nothing new: go on.
    Go,
    /// Nothing new for a while, and nothing to do.
    Look,
    End,
}

impl Shared {
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Inside {
            orders: Mutex::default(),
            changed: Condvar::new(),
            facts: watch::Sender::new(None),
            view: watch::Sender::new(Arc::default()),
            loading: Mutex::default(),
            steps: AtomicU64::new(0),
            step_began: AtomicU64::new(0),
            at: Mutex::default(),
            tokens: Tokens::default(),
            lent: Lent::default(),
            clock,
        }))
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.0.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is desired, if that may be.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn take(&self, new: Desired, epoch: Epoch) -> Result<Taken, Refused> {
        let mut orders = self.orders();
        let taken = take(orders.desired.as_deref(), &new, epoch)?;
        if taken == Taken::New {
            let waits: BTreeSet<Digest> =
                new.replicas.iter().filter(|one| !one.is_sealed).map(|one| one.digest).collect();
            orders.filled.retain(|digest, _| waits.contains(digest));
            orders.desired = Some(Arc::new(new));
            self.0.changed.notify_all();
        }
        Ok(taken)
    }

    /// So much of a segment is there that is being filled. What nobody waits for means nothing.
    pub fn filled(&self, digest: Digest, path: PathBuf, there: Bytes) {
        let mut orders = self.orders();
        let waits = |wanted: &Wanted| wanted.digest == digest && !wanted.is_sealed;
        if orders.desired.as_ref().is_some_and(|desired| desired.replicas.iter().any(waits)) {
            orders.filled.insert(digest, (path, there));
            orders.is_fuller = true;
            self.0.changed.notify_all();
        }
    }

    /// What was taken last.
    #[must_use]
    pub fn desired(&self) -> Option<Arc<Desired>> {
        self.orders().desired.clone()
    }

    /// Asks for bytes of a tensor. Dropped unanswered, when too many ask.
    pub fn read(&self, read: Read) {
        self.ask(Ask::Read(read));
    }

    /// A replica's memory, for another process.
    ///
    /// # Errors
    /// Why it cannot be had, for people.
    pub(crate) async fn share(&self, id: ReplicaId) -> Result<Share, String> {
        let (reply, replied) = oneshot::channel();
        self.ask(Ask::Share(id, reply));
        replied.await.unwrap_or_else(|_| Err("too many ask at once, or the worker ends".to_owned()))
    }

    /// Sums of a replica's tensors, once the driver has time for them. Dropped unanswered, when too many ask.
    pub(crate) fn sum(&self, id: ReplicaId) -> oneshot::Receiver<Result<Sums, String>> {
        let (reply, replied) = oneshot::channel();
        self.ask(Ask::Sum(id, reply));
        replied
    }

    fn ask(&self, ask: Ask) {
        let mut orders = self.orders();
        if orders.asks.len() < MOST_ASKS && !orders.is_ending {
            orders.asks.push_back(ask);
            self.0.changed.notify_all();
        }
    }

    /// Who has memory of replicas.
    pub(crate) fn lent(&self) -> &Lent {
        &self.0.lent
    }

    /// What other processes may say at the worker's own socket.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// The coordinator knows of removals up to this one.
    pub fn heard_removed(&self, number: u64) {
        let mut orders = self.orders();
        orders.heard_removed = orders.heard_removed.max(number);
    }

    /// The driver is to give back everything and to end.
    pub fn end(&self) {
        self.orders().is_ending = true;
        self.0.changed.notify_all();
    }

    /// The newest view, and its successors.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.0.view.subscribe()
    }

    /// What the device is, once it is open; none when it could not be opened.
    pub async fn facts(&self) -> Option<Arc<DeviceFacts>> {
        let mut facts = self.0.facts.subscribe();
        facts.wait_for(Option::is_some).await.ok()?.clone()
    }

    #[must_use]
    pub fn steps(&self) -> u64 {
        self.0.steps.load(Ordering::Relaxed)
    }

    /// For how long the driver has been at its present step; none: it has nothing to do.
    #[must_use]
    pub fn busy(&self) -> Option<Duration> {
        let began = self.0.step_began.load(Ordering::Relaxed);
        let now = self.milliseconds();
        (began > 0).then(|| Duration::from_millis(now.saturating_sub(began - 1)))
    }

    /// The replica that the present step is about.
    pub(crate) fn at(&self) -> Option<ReplicaId> {
        *self.0.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the present load is.
    pub(crate) fn loading(&self) -> Loading {
        *self.0.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.0.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }
}

/// For the driver.
impl Shared {
    pub(crate) fn opened(&self, facts: DeviceFacts) {
        self.0.facts.send_replace(Some(Arc::new(facts)));
    }

    /// What to do now. Waits for something new, if there is nothing else to do; not for ever.
    pub(crate) fn turn(&self, known: Option<&Arc<Desired>>, may_wait: bool) -> Turn {
        let mut orders = self.orders();
        loop {
            if orders.is_ending {
                return Turn::End;
            }
            if let Some(ask) = orders.asks.pop_front() {
                return Turn::Ask(ask);
            }
            let newest = orders.desired.as_ref();
            if let Some(new) = newest.filter(|new| known.is_none_or(|known| !Arc::ptr_eq(known, new))) {
                return Turn::Desired(Arc::clone(new));
            }
            if std::mem::take(&mut orders.is_fuller) || !may_wait {
                return Turn::Go;
            }
            let waited =
                self.0.changed.wait_timeout(orders, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner);
            orders = waited.0;
            if waited.1.timed_out() {
                return Turn::Look;
            }
        }
    }

    /// What is there of a segment that is being filled, and where.
    pub(crate) fn there(&self, digest: Digest) -> Option<(PathBuf, Bytes)> {
        self.orders().filled.get(&digest).cloned()
    }

    /// Removals up to this one need not be told any more.
    pub(crate) fn heard(&self) -> u64 {
        self.orders().heard_removed
    }

    pub(crate) fn publish(&self, view: View) {
        self.0.view.send_replace(Arc::new(view));
    }

    /// The driver begins with a replica.
    pub(crate) fn begins(&self, id: ReplicaId) {
        *self.0.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
        self.step_begins();
    }

    /// The driver looks at the device, which may not answer.
    pub(crate) fn looks(&self) {
        self.step_begins();
    }

    fn step_begins(&self) {
        self.0.steps.fetch_add(1, Ordering::Relaxed);
        self.0.step_began.store(self.milliseconds().saturating_add(1), Ordering::Relaxed);
    }

    /// It is done with that.
    pub(crate) fn ends(&self) {
        self.0.step_began.store(0, Ordering::Relaxed);
        *self.0.at.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.0.loading.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.clock.monotonic()
    }
}

/// The pace of one load: it goes on as long as the newest desired set names it.
pub(crate) struct Steady<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) id: ReplicaId,
    pub(crate) told: Option<Duration>,
}

impl Pace for Steady<'_> {
    fn is_wanted(&mut self, done: Bytes, total: Bytes) -> bool {
        self.shared.step_begins();
        let now = self.shared.now();
        if self.told.is_none_or(|told| now.saturating_sub(told) >= PROGRESS_EVERY) {
            self.told = Some(now);
            let loading = Some((self.id, done, total));
            *self.shared.0.loading.lock().unwrap_or_else(PoisonError::into_inner) = loading;
        }
        let orders = self.shared.orders();
        let is_desired = |desired: &Arc<Desired>| desired.replicas.iter().any(|wanted| wanted.id == self.id);
        !orders.is_ending && orders.desired.as_ref().is_some_and(is_desired)
    }
}
