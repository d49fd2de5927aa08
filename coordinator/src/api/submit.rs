//! What every call that makes an operation does with it: submit, claim, wait.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::time::Duration;

use hoist_domain::{ContentHash, Error, OperationId, Reason, RequestKey, Result, Work};
use hoist_planner::{Answer, Submission};
use hoist_runtime::OnError;
use hoist_wire::{decode, longrunning};
use prost::Message;
use tokio::sync::oneshot;
use tracing::info;
use uuid::Uuid;

use super::Api;
use super::call::Call;
use crate::operations::Waiting;

/// Deadlines that a request may set.
pub(super) const DEADLINES: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(24 * 3600);

/// How long a caller waits for an operation, and what it means when they go away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Unset: the operation is answered as it is.
    pub(super) wait: Option<Duration>,
    /// The caller wants it only as long as they wait. Without a wait it means nothing.
    pub(super) only_while_waiting: bool,
}

/// How long work may take, and how long its caller waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    deadline: Duration,
    patience: Patience,
}

impl Terms {
    /// What the fields of a request say that all long work has.
    pub(super) fn read(
        wait_for: Option<&prost_types::Duration>,
        deadline: Option<&prost_types::Duration>,
        default_deadline: Duration,
        cancel_on_disconnect: bool,
    ) -> Result<Self> {
        let deadline = decode::bounded_duration("deadline", deadline, DEADLINES)?.unwrap_or(default_deadline);
        let wait = decode::duration("wait_for", wait_for)?;
        Ok(Self { deadline, patience: Patience { wait, only_while_waiting: cancel_on_disconnect } })
    }
}

/// What a request asks for, as it is written: all of its message but its id, its wait and its deadline.
pub(super) fn message_hash(message: &impl Message) -> ContentHash {
    ContentHash(*blake3::hash(&message.encode_to_vec()).as_bytes())
}

impl Api {
    /// What this request was answered with, if it was made before. Asked before anything that it names is looked up:
    /// names may mean something else by now, or nothing.
    pub(super) fn repeated<T: Sync>(&self, call: &Call<T>, content: ContentHash) -> Result<Option<Answer>> {
        hoist_planner::repeated(&self.control.view().state, &call.key(), content)
    }

    /// Answers a request that led to this operation before, and waits for it as it was asked to this time.
    pub(super) async fn again<T: Sync>(
        &self,
        call: &Call<T>,
        content: ContentHash,
        id: OperationId,
        terms: Terms,
    ) -> Result<longrunning::Operation> {
        let known = self.control.view().state.operation(id).map(|operation| operation.work.clone());
        match known {
            // The same request with the same content: nothing new is started.
            Some(work) => self.start(call, content, work, terms).await,
            None => self.operation(id),
        }
    }

    /// Submits this work on these terms, and answers with its operation, done or not.
    pub(super) async fn start<T: Sync>(
        &self,
        call: &Call<T>,
        content: ContentHash,
        work: Work,
        terms: Terms,
    ) -> Result<longrunning::Operation> {
        let submission = Submission {
            key: call.key(),
            content,
            work,
            deadline: terms.deadline,
            new_id: OperationId(Uuid::now_v7()),
        };
        let Patience { wait, only_while_waiting } = terms.patience;
        let (id, claim) = self.claimed(submission, only_while_waiting && wait.is_some()).await?;
        let operation = self.wait(id, Some(wait.unwrap_or_default())).await;
        if let Some(claim) = claim {
            claim.answered();
        }
        operation
    }

    /// Submits work, and claims its operation: for good, or (`fleeting`) for as long as the claim is kept.
    ///
    /// Both are on a task of their own: a caller who goes away at any moment leaves no operation behind that nobody
    /// claims, nor takes a wish with them that others would miss.
    pub(super) async fn claimed(
        &self,
        submission: Submission,
        fleeting: bool,
    ) -> Result<(OperationId, Option<Waiting>)> {
        let (send, receive) = oneshot::channel();
        let (api, key) = (self.clone(), submission.key.clone());
        let RequestKey { principal, id: request_id, .. } = key;
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
        receive.await.map_err(lost)?
    }
}
