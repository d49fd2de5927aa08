//! One watcher: a position, and what it still has to send.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use hoist_domain::{Error, OperationState, Position, Reason, ResourceName, Result};
use hoist_wire::frame::WatchFrame;
use hoist_wire::{encode, v1};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Interval, MissedTickBehavior};

use super::snapshot::{Expired, Taking};
use super::{WatchSpec, Watcher, draining};
use crate::control::{EncodedDelta, View, assemble, change_added, change_removed};

/// Deltas taken from the history at once: bounds what one watcher holds that the history may have dropped already.
const TAKE: usize = 32;

/// See `ProgressSample.operations`.
const MAX_SAMPLED: usize = 1_000;

pub(super) struct Cursor {
    watcher: Watcher,
    changes: watch::Receiver<Arc<View>>,
    spec: WatchSpec,
    /// Everything up to here was sent, or did not pass the filter.
    position: Position,
    unsent: Unsent,
    marks: Interval,
    samples: Option<Interval>,
    /// Something was sent since the marks were last told.
    has_sent: bool,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

enum Unsent {
    Snapshot(Taking),
    Deltas(VecDeque<Arc<EncodedDelta>>),
}

/// What there is to say without waiting.
enum Unsaid {
    Frame(WatchFrame),
    /// Something, after a longer search.
    NotYet,
    Nothing,
}

enum Woken {
    Changed,
    MarkDue,
    SampleDue,
    Draining,
}

/// First tick after one period, not at once; a tick that came late does not bring others with it.
fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval.reset();
    interval
}

impl Cursor {
    pub(super) fn live(
        watcher: Watcher,
        changes: watch::Receiver<Arc<View>>,
        from: Position,
        spec: WatchSpec,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self::new(watcher, changes, from, Unsent::Deltas(VecDeque::new()), spec, place)
    }

    pub(super) fn snapshot(
        watcher: Watcher,
        changes: watch::Receiver<Arc<View>>,
        snapshot: Taking,
        spec: WatchSpec,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let position = snapshot.position;
        Self::new(watcher, changes, position, Unsent::Snapshot(snapshot), spec, place)
    }

    fn new(
        watcher: Watcher,
        changes: watch::Receiver<Arc<View>>,
        position: Position,
        unsent: Unsent,
        spec: WatchSpec,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let marks = every(spec.mark_interval);
        let samples = spec.progress_interval.map(every);
        Self {
            watcher,
            changes,
            spec,
            position,
            unsent,
            marks,
            samples,
            has_sent: false,
            ended: false,
            _place: place,
        }
    }

    /// The stream that tonic polls whenever the connection has room for more.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<WatchFrame>> {
        // Boxed: it moves in and out with each message, and is large.
        stream::unfold(Box::new(self), |mut cursor| async move {
            if cursor.ended {
                return None;
            }
            let next = cursor.next().await;
            cursor.ended = next.is_err();
            Some((next, cursor))
        })
    }

    async fn next(&mut self) -> Result<WatchFrame> {
        loop {
            match self.take_unsent()? {
                Unsaid::Frame(frame) => {
                    self.has_sent = true;
                    return Ok(frame);
                }
                // On a long way others get their turn.
                Unsaid::NotYet => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Unsaid::Nothing => {}
            }
            if self.refill()? {
                continue;
            }
            if std::mem::take(&mut self.has_sent) {
                self.marks.reset();
            }
            match self.wait().await {
                Woken::Changed => {}
                Woken::MarkDue => {
                    self.has_sent = true;
                    return Ok(WatchFrame::of_mark(&v1::Mark {
                        position: Some(encode::position(self.position)),
                    }));
                }
                Woken::SampleDue => {
                    if let Some(sample) = self.sample() {
                        return Ok(WatchFrame::of_progress(&sample));
                    }
                }
                // What was published before the drain, its own delta included, has been sent by now.
                Woken::Draining if !self.refill()? => return Err(draining()),
                Woken::Draining => {}
            }
        }
    }

    /// The next frame of what is at hand.
    fn take_unsent(&mut self) -> Result<Unsaid> {
        match &mut self.unsent {
            Unsent::Snapshot(snapshot) => match snapshot.next(&self.spec.filter) {
                Ok(Some(chunk)) if chunk.is_empty() => Ok(Unsaid::NotYet),
                Ok(Some(chunk)) => Ok(Unsaid::Frame(WatchFrame::of_snapshot(chunk))),
                Ok(None) => {
                    let end = v1::SnapshotEnd {
                        position: Some(encode::position(snapshot.position)),
                        resources: snapshot.resources,
                    };
                    // Lets go of the view: it lives as long as somebody takes it.
                    self.unsent = Unsent::Deltas(VecDeque::new());
                    Ok(Unsaid::Frame(WatchFrame::of_snapshot_end(&end)))
                }
                Err(Expired) => Err(self.taken_too_slowly()),
            },
            Unsent::Deltas(deltas) => {
                while let Some(delta) = deltas.pop_front() {
                    self.position = delta.position;
                    if let Some(bytes) = visible(&delta, &self.spec) {
                        return Ok(Unsaid::Frame(WatchFrame::of_delta(bytes)));
                    }
                }
                Ok(Unsaid::Nothing)
            }
        }
    }

    fn taken_too_slowly(&self) -> Error {
        let history = self.watcher.control.history();
        let message = format!(
            "this watch did not take its snapshot within {:?}, for which changes are kept; watch again and read \
             faster",
            history.age()
        );
        Error::new(Reason::TooSlow, message)
            .with("epoch", self.position.epoch)
            .with("oldest_revision", history.oldest())
    }

    /// Takes what follows from the history. `false`: nothing does.
    fn refill(&mut self) -> Result<bool> {
        // Marks the newest publication as seen before the history is read: one that comes later wakes the wait.
        self.changes.borrow_and_update();
        let taken = self.watcher.control.history().after(self.position.revision, TAKE).map_err(|behind| {
            Error::new(
                Reason::TooSlow,
                format!(
                    "this watch fell behind: what followed revision {} is no longer kept; watch again without `from`",
                    self.position.revision
                ),
            )
            .with("epoch", self.position.epoch)
            .with("last_revision", self.position.revision)
            .with("oldest_revision", behind.oldest)
        })?;
        let any = !taken.is_empty();
        self.unsent = Unsent::Deltas(taken.into());
        Ok(any)
    }

    async fn wait(&mut self) -> Woken {
        let sample_due = async {
            match &mut self.samples {
                Some(samples) => {
                    samples.tick().await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // The owner outlives every watch; were it gone, the drain is what ends this one.
            Ok(()) = self.changes.changed() => Woken::Changed,
            () = self.watcher.draining.triggered() => Woken::Draining,
            () = sample_due => Woken::SampleDue,
            _ = self.marks.tick() => Woken::MarkDue,
        }
    }

    fn sample(&self) -> Option<v1::ProgressSample> {
        let now = self.watcher.clock.monotonic();
        let view = self.watcher.control.view();
        let operations: Vec<_> = view
            .state
            .active_operations()
            .filter(|operation| operation.state == OperationState::Running)
            .filter(|operation| {
                self.spec.filter.passes(ResourceName::Operation(operation.id), Some(operation.state))
            })
            .take(MAX_SAMPLED)
            .filter_map(|operation| {
                let progress = self.watcher.board.sample(operation.id, now)?;
                Some(v1::OperationProgress {
                    name: ResourceName::Operation(operation.id).to_string(),
                    progress: Some(encode::progress(&progress)),
                })
            })
            .collect();
        (!operations.is_empty()).then_some(v1::ProgressSample { operations })
    }
}

/// A `Delta` with what passes the filter; `None` when nothing does.
fn visible(delta: &EncodedDelta, spec: &WatchSpec) -> Option<Bytes> {
    if delta.changes.is_empty() {
        return None;
    }
    if spec.filter.is_all() {
        return Some(delta.whole.clone());
    }
    let changes: Vec<Bytes> = delta
        .changes
        .iter()
        .filter_map(|change| {
            let existed = change.kind != v1::change::Kind::Added;
            let (before, after) = change.states;
            let was_seen = existed && spec.filter.passes(change.name, before);
            let is_seen = change.exists() && spec.filter.passes(change.name, after);
            match change.entering() {
                Some(record) if is_seen && existed && !was_seen => Some(change_added(record)),
                _ if is_seen => Some(delta.encoded(change)),
                _ if was_seen => Some(change_removed(change.name)),
                _ => None,
            }
        })
        .collect();
    (!changes.is_empty()).then(|| assemble(delta.position, changes.into_iter()))
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor").field("position", &self.position).finish_non_exhaustive()
    }
}
