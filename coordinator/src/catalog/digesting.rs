//! Finds out digests unasked: after each look that found something new, as an operation like any other.
//!
//! Its progress is that operation's. Cancelled, it pauses until somebody asks for digests without naming models, or the
//! server starts anew. What could not be read is not tried again until its files change.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use hoist_domain::{
    ContentHash, DigestSpec, Lifecycle, Model, ModelContent, ModelId, ModelState, OperationId,
    OperationState, Principal, RequestId, RequestKey, Verdict, Work,
};
use hoist_planner::Submission;
use hoist_runtime::Shutdown;
use tracing::{debug, info};
use uuid::Uuid;

use super::Catalog;
use crate::operations::Waiters;

/// From the news to the reading: files are mostly written by the dozen.
const SETTLE: Duration = Duration::from_secs(1);

/// After a refusal.
const AGAIN: Duration = Duration::from_secs(30);

/// Models that are read before what was found is kept: by number and by bytes, whichever is first.
const BATCH: usize = 64;
const BATCH_BYTES: u64 = 1 << 30;

/// What is to be left alone.
#[derive(Debug, Default)]
pub(super) struct Digesting {
    is_paused: bool,
    /// Models that could not be read as they were then.
    given_up: HashMap<ModelId, Arc<ModelContent>>,
}

impl Digesting {
    /// Whether there is something to find out. What is damaged is not worth the reading: its headers lie.
    pub(super) fn wants(&self, model: &Model) -> bool {
        model.state == ModelState::Available
            && model.content.verdict <= Verdict::Suspicious
            && model.content.components.iter().any(|component| component.digest.is_none())
            && self.given_up.get(&model.id).is_none_or(|then| then.files != model.content.files)
    }

    pub(super) fn give_up(&mut self, model: &Model) {
        self.given_up.insert(model.id, Arc::clone(&model.content));
    }
}

impl Catalog {
    pub(super) fn digesting(&self) -> MutexGuard<'_, Digesting> {
        self.0.digesting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody wants all digests, or does not want them any more.
    pub fn pause_digests(&self, is_paused: bool) {
        self.digesting().is_paused = is_paused;
    }

    fn has_work(&self) -> bool {
        let reachable = self.reachable();
        let digesting = self.digesting();
        let wants = |model: &Arc<Model>| digesting.wants(model) && is_below(&reachable, model);
        !digesting.is_paused && self.0.control.view().state.models().iter().any(wants)
    }

    /// The roots that can be read, where they really are.
    pub(super) fn reachable(&self) -> Vec<PathBuf> {
        self.roots().into_iter().filter(|root| root.available).filter_map(|root| root.real).collect()
    }

    /// Forgets what was given up of models that are not there any more.
    fn tidy(&self) {
        let view = self.0.control.view();
        self.digesting().given_up.retain(|id, _| view.state.models().get(*id).is_some());
    }
}

pub(super) fn is_below(roots: &[PathBuf], model: &Model) -> bool {
    roots.iter().any(|root| model.path.as_path().starts_with(root))
}

/// What is read before it is kept. A large one is on its own: nobody waits for it.
pub(super) fn in_batches(wanted: Vec<Arc<Model>>) -> Vec<Vec<Arc<Model>>> {
    let (mut batches, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0_u64);
    for model in wanted {
        let with_it = bytes.saturating_add(bytes_of(&model));
        if !batch.is_empty() && (batch.len() >= BATCH || with_it > BATCH_BYTES) {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes = bytes.saturating_add(bytes_of(&model));
        batch.push(model);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// What is read of it, about: a header may claim more than its file has.
pub(super) fn bytes_of(model: &Model) -> u64 {
    let claimed = model.content.components.iter().fold(0_u64, |sum, c| sum.saturating_add(c.bytes.0));
    claimed.min(model.content.bytes.0)
}

/// Keeps digests complete until the server drains.
///
/// # Errors
/// Never: what fails is tried again later.
pub async fn run(catalog: Catalog, waiters: Waiters, draining: Shutdown) -> Result<(), Infallible> {
    if !catalog.0.settings.digest || catalog.0.settings.roots.is_empty() {
        return Ok(());
    }
    tokio::select! {
        () = draining.triggered() => {}
        () = keep(&catalog, &waiters) => {}
    }
    Ok(())
}

async fn keep(catalog: &Catalog, waiters: &Waiters) {
    loop {
        catalog.0.found.notified().await;
        tokio::time::sleep(SETTLE).await;
        catalog.tidy();
        while catalog.has_work() {
            let submission = submission();
            match catalog.0.control.submit(submission).await {
                Ok(id) => {
                    debug!(operation = %id, "digests are found out");
                    // Who joins it and goes away does not take it along.
                    waiters.want(id, &catalog.0.control);
                    let end = ended(catalog, id).await;
                    catalog.give_back_memory().await;
                    match end {
                        Some(OperationState::Succeeded) => {}
                        Some(OperationState::Cancelled) => {
                            info!("digests are paused: `hoist digest` goes on with them");
                            break;
                        }
                        _ => tokio::time::sleep(AGAIN).await,
                    }
                }
                Err(error) => {
                    debug!(%error, "digests have to wait");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

fn submission() -> Submission {
    let spec = DigestSpec::default();
    Submission {
        key: RequestKey {
            principal: Principal::Hoist,
            method: "digest".into(),
            id: RequestId(Uuid::new_v4()),
        },
        content: ContentHash([0; 32]),
        work: Work::DigestModels(spec),
        deadline: DigestSpec::DEFAULT_DEADLINE,
        new_id: OperationId(Uuid::now_v7()),
    }
}

/// How the operation ended; none if it is not kept any more.
async fn ended(catalog: &Catalog, id: OperationId) -> Option<OperationState> {
    let mut changes = catalog.0.control.changes();
    loop {
        let state = {
            let view = Arc::clone(&changes.borrow_and_update());
            view.state.operation(id).map(|operation| operation.state)
        };
        if state.is_none_or(Lifecycle::is_terminal) {
            return state;
        }
        if changes.changed().await.is_err() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::test_models::vae;

    #[test]
    fn a_large_model_is_read_on_its_own_and_nobody_waits_for_it() {
        let sizes = |models: &[u64]| -> Vec<Vec<u64>> {
            let batches = in_batches(models.iter().map(|bytes| Arc::new(vae("x", *bytes, None))).collect());
            batches.iter().map(|batch| batch.iter().map(|model| bytes_of(model)).collect()).collect()
        };
        assert_eq!(sizes(&[]), Vec::<Vec<u64>>::new());
        assert_eq!(sizes(&[1, 2, 1 << 40]), [vec![1, 2], vec![1 << 40]]);
        assert_eq!(sizes(&[1 << 40, 1]), [vec![1 << 40], vec![1]]);
        assert_eq!(sizes(&[BATCH_BYTES / 2; 3]), [vec![BATCH_BYTES / 2; 2], vec![BATCH_BYTES / 2]]);
        let many: Vec<u64> = (0..70).collect();
        assert_eq!(sizes(&many).iter().map(Vec::len).collect::<Vec<_>>(), [BATCH, 6]);
    }
}
