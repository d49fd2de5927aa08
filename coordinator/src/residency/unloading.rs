//! The executor of unloads: waits for what the owner has let go, and accounts for its bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use hoist_domain::{Bytes, Error, Reason, ReplicaId, Result, UnloadReport, UnloadSpec, UnloadedReplica};
use hoist_planner::residency::{Account, Leaving, UnloadAsk};
use tokio_util::sync::CancellationToken;

use super::Loader;
use crate::operations::ProgressCell;

impl Loader {
    /// Takes models off devices. What is let go goes, also when the operation is stopped while it waits.
    ///
    /// # Errors
    /// IN_USE, STORE_READONLY, DRAINING.
    pub async fn unload(
        &self,
        spec: &UnloadSpec,
        cell: &Arc<ProgressCell>,
        stop: &CancellationToken,
    ) -> Result<UnloadReport> {
        let began = self.0.clock.monotonic();
        let ask = UnloadAsk { parts: spec.parts.clone(), device: spec.device, force: spec.force };
        cell.set_phase("unloading");
        let mut changes = self.0.control.changes();
        let leaving = self.0.control.unload(ask).await?;
        let total: u64 = leaving.iter().map(|one| one.expected.0).fold(0, u64::saturating_add);
        cell.set_total(total);
        let mut left: Vec<ReplicaId> =
            leaving.iter().filter(|one| one.kept.is_none()).map(|one| one.replica).collect();
        let mut accounts: BTreeMap<ReplicaId, Option<Account>> = BTreeMap::new();
        loop {
            {
                let view = Arc::clone(&changes.borrow_and_update());
                let residency = view.state.residency();
                left.retain(|id| {
                    let is_there = residency.replica(*id).is_some();
                    if !is_there {
                        accounts.insert(*id, residency.account(*id));
                    }
                    is_there
                });
            }
            if left.is_empty() {
                break;
            }
            tokio::select! {
                changed = changes.changed() => {
                    changed.map_err(|_| Error::new(Reason::Draining, "the server is stopping"))?;
                }
                () = stop.cancelled() => {
                    return Err(Error::new(Reason::OperationCancelled, "the operation was stopped"));
                }
            }
        }
        cell.set_done(total);
        let replicas = leaving.into_iter().map(|one| told(one, &accounts)).collect();
        Ok(UnloadReport { replicas, took: self.0.clock.monotonic().saturating_sub(began) })
    }
}

fn told(one: Leaving, accounts: &BTreeMap<ReplicaId, Option<Account>>) -> UnloadedReplica {
    let (expected, returned) = match accounts.get(&one.replica) {
        Some(Some(account)) => (account.expected, account.returned),
        // It went with its worker's process: the kernel takes everything back.
        Some(None) => (one.expected, one.expected),
        None => (one.expected, Bytes(0)),
    };
    UnloadedReplica {
        replica: one.replica,
        device: one.device,
        digest: one.digest,
        expected,
        returned,
        kept: one.kept,
    }
}
