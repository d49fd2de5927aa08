//! Brings back what was lost: whatever an intent names and is not there is loaded again, on the server's own account.
//!
//! Level-triggered: it looks at what is missing, not at how that came. What cannot be brought back is tried again, at
//! growing intervals, for as long as it is wanted; of each only the last try is kept. What matters most comes first, and some of
//! the room for loads is left to those who ask.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    Bytes, ContentHash, DeviceId, DeviceState, Dtype, Intent, IntentPart, Lifecycle, LoadSpec, ModelId,
    ModelPart, OperationId, OperationState, Placement, Principal, RequestId, RequestKey, Work, WorkerState,
};
use hoist_planner::{State, Submission};
use hoist_runtime::Shutdown;
use tracing::{info, warn};
use uuid::Uuid;

use super::Loader;
use crate::operations::Waiters;

/// After a failure, doubled with each that follows.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Loads under way at a time: half of those that run.
const MOST_AT_ONCE: usize = 16;

/// Between two looks, while there is anything to be brought back.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Looks after everything that shall be on devices, until the server drains.
///
/// # Errors
/// Never.
pub async fn restore(loader: Loader, waiters: Waiters, draining: Shutdown) -> Result<(), Infallible> {
    let (control, clock) = (loader.0.control.clone(), loader.0.clock.clone());
    let mut changes = control.changes();
    let mut restorer = Restorer::default();
    loop {
        let view = Arc::clone(&changes.borrow_and_update());
        for (of, submission) in restorer.look(&view.state, clock.monotonic()) {
            match control.submit(submission).await {
                Ok(id) => {
                    info!(operation = %id, device = %of.0, model = %of.1, "what was lost is loaded again");
                    // Who joins it and goes away does not take it along.
                    waiters.want(id, &control);
                    restorer.began(of, id);
                }
                Err(error) => {
                    warn!(%error, device = %of.0, model = %of.1, "what was lost cannot be loaded again now");
                    restorer.put_off(of, clock.monotonic());
                }
            }
        }
        for id in restorer.past() {
            // One that somebody else has deleted is gone.
            let _ = control.delete(id).await;
        }
        drop(view);
        tokio::select! {
            () = draining.triggered() => return Ok(()),
            () = loader.0.retry.notified() => restorer.forgive(),
            () = tokio::time::sleep(LOOK_EVERY), if !restorer.is_at_rest() => {}
            changed = changes.changed(), if restorer.is_at_rest() => if changed.is_err() { return Ok(()) },
        }
    }
}

/// Whose intent it is, and where.
pub type Of = (DeviceId, ModelId);

/// What was tried for intents that are not met. Decides; whoever has it submits.
#[derive(Debug, Default)]
pub struct Restorer {
    attempts: BTreeMap<Of, Attempt>,
    /// Tries that others have followed: nobody will look them up.
    past: Vec<OperationId>,
    /// What was free of each device at the last look.
    free: BTreeMap<DeviceId, Bytes>,
}

#[derive(Debug, Default)]
struct Attempt {
    running: Vec<OperationId>,
    failed: Vec<OperationId>,
    failures: u32,
    not_before: Duration,
}

impl Attempt {
    /// What has become of its loads.
    fn look(&mut self, state: &State, now: Duration) {
        let before = self.failed.len();
        let failed = &mut self.failed;
        self.running.retain(|id| match state.operation(*id).map(|operation| operation.state) {
            Some(OperationState::Succeeded) | None => false,
            Some(ended) if ended.is_terminal() => {
                failed.push(*id);
                false
            }
            Some(_) => true,
        });
        if self.failed.len() > before {
            self.put_off(now);
        }
    }

    fn put_off(&mut self, now: Duration) {
        let delay = FIRST_DELAY.saturating_mul(1 << self.failures.min(16)).min(LONGEST_DELAY);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.saturating_add(delay);
    }
}

impl Restorer {
    /// Nothing is missing.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.attempts.is_empty()
    }

    pub fn began(&mut self, of: Of, id: OperationId) {
        if let Some(attempt) = self.attempts.get_mut(&of) {
            attempt.running.push(id);
        }
    }

    /// What was put off is due.
    pub fn forgive(&mut self) {
        self.attempts
            .values_mut()
            .for_each(|attempt| (attempt.failures, attempt.not_before) = (0, Duration::ZERO));
    }

    pub fn put_off(&mut self, of: Of, now: Duration) {
        if let Some(attempt) = self.attempts.get_mut(&of) {
            attempt.put_off(now);
        }
    }

    /// What is to be loaded again now.
    #[must_use]
    pub fn look(&mut self, state: &State, now: Duration) -> Vec<(Of, Submission)> {
        if state.residency().unmet_count() == 0 {
            self.attempts.clear();
            return Vec::new();
        }
        let mut unmet: Vec<&Arc<Intent>> = state.residency().unmet().collect();
        let wanted: BTreeSet<Of> = unmet.iter().map(|intent| (intent.device, intent.model)).collect();
        self.attempts.retain(|of, _| wanted.contains(of));
        unmet.sort_by_key(|intent| std::cmp::Reverse(intent.priority));
        self.look_at_room(state);
        for intent in &unmet {
            self.attempts.entry((intent.device, intent.model)).or_default().look(state, now);
        }
        let under_way: usize = self.attempts.values().map(|attempt| attempt.running.len()).sum();
        let mut room = MOST_AT_ONCE.saturating_sub(under_way);
        let mut submissions = Vec::new();
        for intent in unmet {
            let of = (intent.device, intent.model);
            let is_open = state.devices().get(intent.device).is_some_and(|device| {
                device.state == DeviceState::Open && device.worker.state == WorkerState::Active
            });
            let Some(attempt) = self.attempts.get_mut(&of).filter(|_| is_open && room > 0) else { continue };
            if attempt.running.is_empty() && now >= attempt.not_before {
                room -= 1;
                self.past.append(&mut attempt.failed);
                submissions.extend(loads(intent).into_iter().map(|spec| (of, submission(spec))));
            }
        }
        submissions
    }

    /// What had no place may have one where more is free than before.
    fn look_at_room(&mut self, state: &State) {
        for device in state.devices().iter() {
            let before = self.free.insert(device.id, device.memory.free);
            if before.is_some_and(|before| before < device.memory.free) {
                let there = self.attempts.iter_mut().filter(|((of, _), _)| *of == device.id);
                there.for_each(|(_, attempt)| attempt.not_before = Duration::ZERO);
            }
        }
    }

    /// Operations that are to be forgotten: each is told once.
    #[must_use]
    pub fn past(&mut self) -> Vec<OperationId> {
        std::mem::take(&mut self.past)
    }
}

/// An intent as loads: one for each type of elements in it.
fn loads(intent: &Intent) -> Vec<LoadSpec> {
    let mut by_dtype: BTreeMap<Option<Dtype>, Vec<IntentPart>> = BTreeMap::new();
    for part in &intent.parts {
        by_dtype.entry(part.dtype).or_default().push(part.clone());
    }
    let load = |(dtype, mut restores): (Option<Dtype>, Vec<IntentPart>)| {
        restores.sort();
        let components = restores.iter().map(|part| part.component.clone()).collect();
        LoadSpec {
            parts: vec![ModelPart { model: intent.model, components }],
            placement: Placement::On(intent.device),
            dtype,
            priority: intent.priority,
            validate: false,
            // It was allowed when it was loaded.
            allow: vec![hoist_domain::Verdict::Incomplete, hoist_domain::Verdict::Corrupt],
            force: false,
            restores,
        }
    };
    by_dtype.into_iter().map(load).collect()
}

fn submission(spec: LoadSpec) -> Submission {
    Submission {
        key: RequestKey {
            principal: Principal::Hoist,
            method: "restore".into(),
            id: RequestId(Uuid::new_v4()),
        },
        content: ContentHash([0; 32]),
        work: Work::LoadModel(spec),
        deadline: LoadSpec::DEFAULT_DEADLINE,
        new_id: OperationId(Uuid::now_v7()),
    }
}
