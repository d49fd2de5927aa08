//! What goes on by itself: names are taken away as the owner says, what nobody has open any more is told, and room is given
//! back when the machine needs it.

use std::convert::Infallible;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use futures_util::future::join_all;
use hoist_domain::{Bytes, Condition, ConditionKind, Digest, SegmentName, Severity};
use hoist_planner::cache::Facts;
use hoist_runtime::Shutdown;
use tracing::{debug, error, info, warn};

use super::Cache;
use super::shelf::{Entry, Shelf};
use crate::control::Control;

/// How often the machine is looked at.
const PACE: Duration = Duration::from_secs(1);

/// Over the budget, this part of it is freed beyond what is needed: memory that is just enough is too little a second later.
const SLACK_DIVISOR: u64 = 32;

/// Takes names away, one after the other: on a thread of its own, since freeing some gigabytes takes a while.
pub fn withdraw(shelf: &Shelf, control: &Control, evictions: &Receiver<Digest>) {
    // Ends with the last handle of the cache.
    while let Ok(digest) = evictions.recv() {
        match shelf.take_away(digest) {
            Ok(None) => control.out_blocking(digest, None),
            Ok(Some(zombie)) => {
                info!(%digest, bytes = %zombie.bytes, "evicted, and still open in some process");
                // Told before it is looked at: its end comes after its beginning.
                control.out_blocking(digest, Some(zombie.bytes));
                shelf.keep_in_mind(zombie);
            }
            Err(cause) => {
                error!(%digest, error = %cause, "a segment cannot be removed: it counts until it can");
                let bytes = shelf.stuck(digest);
                control.out_blocking(digest, Some(bytes));
            }
        }
    }
}

/// Keeps the cache within what the machine has to spare, until the server drains.
///
/// # Errors
/// Never.
pub async fn keep(cache: Cache, draining: Shutdown) -> Result<(), Infallible> {
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut is_tight = false;
    loop {
        tokio::select! {
            () = draining.triggered() => return Ok(()),
            _ = ticks.tick() => {}
        }
        cache.0.pool.tend();
        join_all(cache.orphans().into_iter().map(|orphan| cache.0.control.end_lease(orphan))).await;
        cache.sweep().await;
        cache.drop_unsound().await;
        is_tight = cache.look_at_memory(is_tight).await;
    }
}

impl Cache {
    /// Lets go of what was sealed for an operation that had ended by then: nobody knows of it.
    async fn sweep(&self) {
        let Ok(shelf) = self.shelf().cloned() else { return };
        // In this order: whatever gets its name is known before that, and only what is not any more is unknown after it.
        let named = shelf.entries();
        let view = self.0.control.view();
        let is_known =
            |(digest, _): &Entry| view.state.cache().segment(SegmentName::Content(*digest)).is_some();
        let unknown: Vec<Entry> = named.into_iter().filter(|entry| !is_known(entry)).collect();
        if unknown.is_empty() {
            return;
        }
        let sweep = move || {
            for entry in unknown {
                // What cannot be removed now is tried again in a second.
                if let Ok(Some(zombie)) = shelf.take_away_one(entry) {
                    shelf.keep_in_mind(zombie);
                }
            }
        };
        let _ = self.0.tasks.run_blocking("sweep", sweep).await;
    }

    /// Withdraws segments whose files somebody has removed, replaced or cut, and ends the leases on them.
    async fn drop_unsound(&self) {
        let Ok(shelf) = self.shelf().cloned() else { return };
        let unsound = self.0.tasks.run_blocking("unsound", move || shelf.unsound()).await;
        let unsound = unsound.unwrap_or_default();
        if unsound.is_empty() {
            return;
        }
        match self.0.control.lost(unsound).await {
            Ok(withdrawn) => {
                for digest in withdrawn {
                    warn!(%digest, "somebody has removed, replaced or cut a segment's file: it is withdrawn");
                }
            }
            Err(error) => debug!(%error, "unsound segments could not be withdrawn; tried again in a second"),
        }
    }

    /// One look. Whether what is used is more than there is, and cannot be evicted.
    async fn look_at_memory(&self, was_tight: bool) -> bool {
        let Ok(shelf) = self.shelf().cloned() else { return false };
        if shelf.has_zombies() {
            let cache = self.clone();
            let bury = move || {
                for (digest, bytes) in shelf.bury() {
                    cache.0.control.freed_blocking(digest, bytes);
                }
            };
            let _ = self.0.tasks.run_blocking("bury", bury).await;
        }
        let view = self.0.control.view();
        let state = &view.state;
        if state.cache().segment_count() == 0 {
            return self.tell_of_memory(was_tight, None).await;
        }
        let Ok(budget) = self.budget().await else { return was_tight };
        let used = state.cache().totals().used();
        let may_expire = state.cache().policy().idle_ttl.is_some()
            || state.cache().segments().flat_map(|segment| &segment.wanted_by).any(|model| {
                let notes = state.models().get(*model).and_then(|model| model.notes.as_ref());
                notes.is_some_and(|notes| notes.config.cache_idle_ttl.is_some())
            });
        let is_over = used > budget.bytes;
        if !is_over && !may_expire {
            return self.tell_of_memory(was_tight, None).await;
        }
        let Ok(facts) = self.facts_within(budget).await else { return was_tight };
        let slack = if is_over { facts.budget.0 / SLACK_DIVISOR } else { 0 };
        let target = Bytes(facts.budget.0.saturating_sub(slack));
        let budget = facts.budget.0;
        let limit = facts.limit.clone();
        let is_enough = self.0.control.shrink(Facts { budget: target, ..facts }).await;
        let is_short = matches!(is_enough, Ok(false)) && is_over;
        let message = is_short.then(|| {
            let left = self.0.control.view().state.cache().totals().used().0;
            let over = Bytes(left.saturating_sub(budget));
            format!("segments that are in use take {over} more than there is for them ({limit})")
        });
        self.tell_of_memory(was_tight, message).await
    }

    async fn tell_of_memory(&self, was_tight: bool, message: Option<String>) -> bool {
        match message {
            None if was_tight => {
                self.0.control.clear(ConditionKind::MemoryTight).await;
                false
            }
            None => false,
            Some(message) => {
                // Said once: how much it is changes all the time.
                if !was_tight {
                    self.0
                        .control
                        .raise(Condition {
                            kind: ConditionKind::MemoryTight,
                            severity: Severity::Warning,
                            message,
                            advice: "release leases, unpin models, or give the machine more memory"
                                .to_owned(),
                            since: self.0.clock.wall(),
                            details: Vec::new(),
                        })
                        .await;
                }
                true
            }
        }
    }
}
