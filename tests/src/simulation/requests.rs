//! What can be asked of a simulated coordinator, and what whoever asks is told.

use hoist_coordinator::control::{Change, Control};
use hoist_domain::{
    Bytes, CachePolicy, Condition, ConditionKind, ContentHash, Digest, Error, LeaseId, ModelId, ModelNotes,
    Observation, OperationId, Outcome, Principal, Reason, RequestKey, SegmentName,
};
use hoist_planner::cache::{Evicted, EvictionAsk, Facts, Identity, LeaseAsk, Reservation, Reserved, Sealing};
use hoist_planner::{CatalogChanges, Examination, Submission};

/// What somebody wants.
#[derive(Clone, Debug)]
pub enum Request {
    Submit(Submission),
    Record {
        key: RequestKey,
        content: ContentHash,
    },
    Cancel {
        id: OperationId,
        by: Principal,
    },
    Delete(OperationId),
    Finish {
        id: OperationId,
        outcome: Outcome,
    },
    Observe(Vec<Observation>),
    Examined(Vec<Examination>),
    /// Notes for a model, or its deletion.
    Edit {
        key: RequestKey,
        content: ContentHash,
        model: ModelId,
        notes: Option<ModelNotes>,
    },
    Reserve(Reservation),
    Identify {
        operation: OperationId,
        found: Vec<(SegmentName, Digest)>,
    },
    Sealed {
        operation: OperationId,
        sealings: Vec<Sealing>,
    },
    Evict {
        key: RequestKey,
        content: ContentHash,
        ask: EvictionAsk,
    },
    /// A name was taken away.
    Out {
        digest: Digest,
        still_open: Option<Bytes>,
    },
    Shrink(Facts),
    Grant(LeaseAsk),
    Revoke {
        key: RequestKey,
        content: ContentHash,
        id: LeaseId,
    },
    SetPolicy {
        key: RequestKey,
        content: ContentHash,
        policy: CachePolicy,
    },
    Raise(Condition),
    Clear(ConditionKind),
    Drain,
    Tick,
}

/// What they are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Operation(OperationId),
    Reserved(Reserved),
    Identified(Vec<Identity>),
    Evicted(Vec<Evicted>),
    /// Whether it was enough, or all was there.
    Enough(bool),
    /// Whether it was new.
    Recorded(bool),
    Observed(CatalogChanges),
    Done,
    Refused(Error),
}

impl Reply {
    /// Whether the store could not be written.
    #[must_use]
    pub fn is_readonly(&self) -> bool {
        matches!(self, Self::Refused(error) if error.reason() == Reason::StoreReadonly)
    }
}

pub(super) async fn ask(control: Control, request: Request) -> Reply {
    let answered = match request {
        Request::Submit(submission) => control.submit(submission).await.map(Reply::Operation),
        Request::Record { key, content } => control.record(key, content).await.map(Reply::Recorded),
        Request::Cancel { id, by } => control.cancel(id, by).await.map(|()| Reply::Done),
        Request::Delete(id) => control.delete(id).await.map(|()| Reply::Done),
        Request::Finish { id, outcome } => done(control.finish(id, outcome)).await,
        Request::Observe(observations) => control.observe(observations).await.map(Reply::Observed),
        Request::Examined(examinations) => control.examined(examinations).await.map(|()| Reply::Done),
        Request::Edit { key, content, model, notes } => {
            let change = notes.map(|notes| Change(Box::new(move |_: &ModelNotes| Ok(notes))));
            control.edit(key, content, model, None, change).await.map(|()| Reply::Done)
        }
        Request::Reserve(ask) => control.reserve(ask).await.map(Reply::Reserved),
        Request::Identify { operation, found } => {
            control.identify(operation, found).await.map(Reply::Identified)
        }
        Request::Sealed { operation, sealings } => {
            control.sealed(operation, sealings).await.map(|()| Reply::Done)
        }
        Request::Evict { key, content, ask } => {
            control.evict(Some((key, content)), ask).await.map(Reply::Evicted)
        }
        Request::Out { digest, still_open } => {
            control.out_blocking(digest, still_open);
            Ok(Reply::Done)
        }
        Request::Shrink(facts) => control.shrink(facts).await.map(Reply::Enough),
        Request::Grant(ask) => control.grant(ask).await.map(Reply::Enough),
        Request::Revoke { key, content, id } => {
            control.revoke(key, content, id, "a test".to_owned()).await.map(|()| Reply::Done)
        }
        Request::SetPolicy { key, content, policy } => {
            let change = Change(Box::new(move |_: &CachePolicy| Ok(policy)));
            control.set_policy(key, content, change).await.map(|()| Reply::Done)
        }
        Request::Raise(condition) => done(control.raise(condition)).await,
        Request::Clear(kind) => done(control.clear(kind)).await,
        Request::Drain => done(control.drain()).await,
        Request::Tick => done(control.tick()).await,
    };
    answered.unwrap_or_else(Reply::Refused)
}

/// What is never refused.
async fn done(told: impl Future<Output = ()>) -> hoist_domain::Result<Reply> {
    told.await;
    Ok(Reply::Done)
}
