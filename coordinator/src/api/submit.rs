//! What every call that makes an operation does with it: submit, claim, wait.

use std::convert::Infallible;
use std::time::Duration;

use hoist_domain::{Error, OperationId, Reason, Result};
use hoist_planner::{Answer, Submission};
use hoist_runtime::OnError;
use hoist_wire::longrunning;
use tokio::sync::oneshot;
use tracing::info;

use super::Api;
use super::call::Call;

/// Deadlines that a request may set.
pub(super) const SHORTEST_DEADLINE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// How long a caller waits for an operation, and what it means when they go away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Unset: the operation is answered as it is.
    pub(super) wait: Option<Duration>,
    /// The caller wants it only as long as they wait. Without a wait it means nothing.
    pub(super) only_while_waiting: bool,
}

impl Api {
    /// The operation that this request led to before, if it is still kept. For requests that name what may be gone since.
    pub(super) fn led_to<T: Sync>(&self, call: &Call<T>) -> Option<OperationId> {
        match self.control.view().state.request(&call.key())?.answer {
            Answer::Operation(id) => Some(id),
            Answer::Done => None,
        }
    }

    /// Submits work and answers with its operation, done or not.
    ///
    /// Submission and claim are on a task of their own: a caller who goes away at any moment leaves no operation
    /// behind that nobody claims, nor takes a wish with them that others would miss.
    pub(super) async fn submit<T: Sync>(
        &self,
        call: &Call<T>,
        submission: Submission,
        patience: Patience,
    ) -> Result<longrunning::Operation> {
        let (send, receive) = oneshot::channel();
        let (api, principal, request_id) = (self.clone(), call.caller.principal.clone(), call.id);
        let fleeting = patience.only_while_waiting && patience.wait.is_some();
        self.tasks.spawn("submit", OnError::Log, async move {
            let submitted = api.control.submit(submission).await.map(|id| {
                info!(%request_id, %principal, operation = %id, "operation submitted");
                if fleeting {
                    (id, Some(api.waiters.wait(id, principal, &api.control, &api.tasks)))
                } else {
                    api.waiters.want(id, &api.control);
                    (id, None)
                }
            });
            // A caller who is gone already drops the claim here.
            drop(send.send(submitted));
            Ok::<(), Infallible>(())
        });
        let lost = |_| Error::new(Reason::Internal, "the submission was lost; report this");
        let (id, claim) = receive.await.map_err(lost)??;
        let operation = self.wait(id, Some(patience.wait.unwrap_or_default())).await;
        if let Some(claim) = claim {
            claim.answered();
        }
        operation
    }
}
