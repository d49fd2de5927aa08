//! What the cache asks of the owner, and what the planner makes of it.

use std::collections::BTreeSet;
use std::time::Duration;

use hoist_domain::{
    Bytes, CachePolicy, ContentHash, Digest, Lease, LeaseId, OperationId, Principal, RequestKey, Result,
    Segment, SegmentName,
};
use hoist_planner::cache::{
    Evicted, EvictionAsk, Facts, Identity, LEASE_GRACE, LeaseAsk, Reservation, Reserved, Sealing, adopt,
    complete, end, evict, grant, identify, lost, reserve, resume, revoke, shrink,
};
use hoist_planner::{Answer as Repeated, Decision, Event, Limits, Moment, State, once};
use std::sync::Arc;
use tokio::sync::oneshot;

use super::decide::{Answer, Decided, FollowUp, Report};
use super::{Change, Command, Control};

/// Something about what is in RAM.
#[derive(Debug)]
pub enum CacheCommand {
    /// What was found complete at the start.
    Adopt {
        segments: Vec<Segment>,
        leases: Vec<Lease>,
        reply: oneshot::Sender<Result<()>>,
    },
    Reserve {
        ask: Box<Reservation>,
        reply: oneshot::Sender<Result<Reserved>>,
    },
    /// What an operation has read turned out to be this.
    Identify {
        operation: OperationId,
        found: Vec<(SegmentName, Digest)>,
        reply: oneshot::Sender<Result<Vec<Identity>>>,
    },
    /// So many bytes were read in so long.
    Filled {
        read: Bytes,
        took: Duration,
    },
    /// What an operation has filled has its names.
    Sealed {
        operation: OperationId,
        sealings: Vec<Sealing>,
        reply: oneshot::Sender<Result<()>>,
    },
    Evict {
        /// Unset: only to be told.
        request: Option<(RequestKey, ContentHash)>,
        ask: EvictionAsk,
        reply: oneshot::Sender<Result<Vec<Evicted>>>,
    },
    /// The files of these are not what was sealed any more. What of them is withdrawn is the answer.
    Lost {
        digests: BTreeSet<Digest>,
        reply: oneshot::Sender<Result<Vec<Digest>>>,
    },
    /// A segment has lost its name; so many bytes of it are still open somewhere, or none.
    Out {
        digest: Digest,
        still_open: Option<Bytes>,
    },
    /// So much of what was open of it is not any more.
    Freed {
        digest: Digest,
        freed: Bytes,
    },
    /// What has to go by these facts. Whether that is enough is the answer.
    Shrink {
        facts: Box<Facts>,
        reply: oneshot::Sender<Result<bool>>,
    },
    Grant {
        ask: Box<LeaseAsk>,
        reply: oneshot::Sender<Result<bool>>,
    },
    Resume {
        id: LeaseId,
        by: Principal,
        holder: String,
        process: Option<u32>,
        reply: oneshot::Sender<Result<()>>,
    },
    /// Its holder is gone.
    EndLease {
        id: LeaseId,
        reply: oneshot::Sender<Result<()>>,
    },
    Revoke {
        key: RequestKey,
        content: ContentHash,
        id: LeaseId,
        reason: String,
        reply: oneshot::Sender<Result<()>>,
    },
    SetPolicy {
        key: RequestKey,
        content: ContentHash,
        change: Change<CachePolicy>,
        reply: oneshot::Sender<Result<()>>,
    },
    /// What a request that is recorded has not done yet.
    FollowUp(FollowUp),
}

/// Asks the planner what a command means.
pub(super) fn decide(state: &State, command: CacheCommand, now: Moment, limits: &Limits) -> Decided {
    let unit = |reply, result: Result<Decision>| match result {
        Ok(events) => (Answer::to(reply, Ok(())), events),
        Err(error) => (Answer::to(reply, Err(error)), Vec::new()),
    };
    let (mut report, mut follow_up) = (None, None);
    let (answer, events) = match command {
        CacheCommand::Adopt { segments, leases, reply } => {
            (Answer::to(reply, Ok(())), adopt(segments, leases, LEASE_GRACE, now))
        }
        CacheCommand::Reserve { ask, reply } => {
            let (events, reserved) = reserve(state, &ask, now);
            (Answer::to(reply, reserved), events)
        }
        CacheCommand::Identify { operation, found, reply } => {
            let (events, identities) = identify(state, operation, &found, now);
            (Answer::to(reply, Ok(identities)), events)
        }
        CacheCommand::Filled { read, took } => (Answer::Nobody, vec![Event::SegmentsFilled { read, took }]),
        CacheCommand::Sealed { operation, sealings, reply } => {
            (Answer::to(reply, Ok(())), complete(state, operation, &sealings, now))
        }
        CacheCommand::Evict { request: None, ask, reply } => {
            (Answer::to(reply, Ok(evict(state, &ask, now).1)), Vec::new())
        }
        CacheCommand::Evict { request: Some((key, content)), ask, reply } => {
            // Nothing is told again of what was done before.
            let mut told = Vec::new();
            let evicted = once(state, &key, content, Repeated::Done, now, limits, || {
                let (events, evicted) = evict(state, &ask, now);
                told = evicted;
                follow_up = Some(FollowUp::Evict(ask));
                Ok(events)
            });
            match evicted {
                Ok(events) => (Answer::to(reply, Ok(told)), events),
                Err(error) => (Answer::to(reply, Err(error)), Vec::new()),
            }
        }
        CacheCommand::Lost { digests, reply } => {
            let events = lost(state, &digests, now);
            let withdrawn = events.iter().filter_map(|event| match event {
                Event::SegmentEvicting { digest, .. } => Some(*digest),
                _ => None,
            });
            (Answer::to(reply, Ok(withdrawn.collect())), events)
        }
        CacheCommand::Out { digest, still_open } => {
            report = Some(Report::Out(digest, still_open));
            (Answer::Nobody, vec![Event::SegmentOut { digest, still_open }])
        }
        CacheCommand::Freed { digest, freed } => {
            report = Some(Report::Freed(digest, freed));
            (Answer::Nobody, vec![Event::ZombieFreed { digest, freed }])
        }
        CacheCommand::Shrink { facts, reply } => match shrink(state, &facts, now) {
            Ok(events) => (Answer::to(reply, Ok(true)), events),
            Err((events, _)) => (Answer::to(reply, Ok(false)), events),
        },
        CacheCommand::Grant { ask, reply } => match grant(state, &ask, now) {
            Ok(None) => (Answer::to(reply, Ok(false)), Vec::new()),
            Ok(Some(events)) => (Answer::to(reply, Ok(true)), events),
            Err(error) => (Answer::to(reply, Err(error)), Vec::new()),
        },
        CacheCommand::Resume { id, by, holder, process, reply } => {
            unit(reply, resume(state, id, &by, holder, process))
        }
        CacheCommand::EndLease { id, reply } => (Answer::to(reply, Ok(())), end(state, id, None, now)),
        CacheCommand::Revoke { key, content, id, reason, reply } => {
            let events = once(state, &key, content, Repeated::Done, now, limits, || {
                let ended = revoke(state, id, &reason, now)?;
                follow_up = Some(FollowUp::Revoke(id, reason));
                Ok(ended)
            });
            unit(reply, events)
        }
        CacheCommand::FollowUp(left) => {
            let events = match &left {
                FollowUp::Evict(ask) => evict(state, ask, now).0,
                FollowUp::Revoke(id, reason) => end(state, *id, Some(reason.as_str().into()), now),
            };
            report = Some(Report::FollowUp(left));
            (Answer::Nobody, events)
        }
        CacheCommand::SetPolicy { key, content, change, reply } => {
            let events = once(state, &key, content, Repeated::Done, now, limits, || {
                let policy = (change.0)(state.cache().policy())?;
                let is_other = policy != *state.cache().policy();
                Ok(is_other.then(|| Event::CachePolicyChanged(Arc::new(policy))).into_iter().collect())
            });
            unit(reply, events)
        }
    };
    Decided { answer, events, report, follow_up, is_bound: true }
}

/// For the cache. Calls wait for room in the queue: what they tell or ask for cannot be done without.
impl Control {
    /// Tells what was found complete at the start.
    ///
    /// # Errors
    /// STORE_READONLY, DRAINING.
    pub async fn adopt(&self, segments: Vec<Segment>, leases: Vec<Lease>) -> Result<()> {
        self.ask_surely(|reply| Command::Cache(CacheCommand::Adopt { segments, leases, reply })).await?
    }

    /// Asks for room.
    ///
    /// # Errors
    /// As the planner refuses, or STORE_READONLY, DRAINING.
    pub async fn reserve(&self, ask: Reservation) -> Result<Reserved> {
        self.ask_surely(|reply| Command::Cache(CacheCommand::Reserve { ask: Box::new(ask), reply })).await?
    }

    /// Tells what an operation has read, before any of it gets its name.
    ///
    /// # Errors
    /// STORE_READONLY, DRAINING.
    pub async fn identify(
        &self,
        operation: OperationId,
        found: Vec<(SegmentName, Digest)>,
    ) -> Result<Vec<Identity>> {
        self.ask_surely(|reply| Command::Cache(CacheCommand::Identify { operation, found, reply })).await?
    }

    /// Tells that everything that an operation has reserved has its names.
    ///
    /// # Errors
    /// STORE_READONLY, DRAINING: then nobody knows of it.
    pub async fn sealed(&self, operation: OperationId, sealings: Vec<Sealing>) -> Result<()> {
        self.ask_surely(|reply| Command::Cache(CacheCommand::Sealed { operation, sealings, reply })).await?
    }

    /// Tells how fast bytes were read.
    pub async fn filled(&self, read: Bytes, took: Duration) {
        let _ = self.commands.send(Command::Cache(CacheCommand::Filled { read, took })).await;
    }

    /// Takes segments out of RAM, or tells what would become of them.
    ///
    /// # Errors
    /// As the planner refuses, or STORE_READONLY, DRAINING.
    pub async fn evict(
        &self,
        request: Option<(RequestKey, ContentHash)>,
        ask: EvictionAsk,
    ) -> Result<Vec<Evicted>> {
        self.ask_surely(|reply| Command::Cache(CacheCommand::Evict { request, ask, reply })).await?
    }

    /// Tells that somebody has removed, replaced or cut the files of these; what of them is withdrawn.
    ///
    /// # Errors
    /// STORE_READONLY, DRAINING.
    pub async fn lost(&self, digests: BTreeSet<Digest>) -> Result<Vec<Digest>> {
        self.ask_surely(|reply| Command::Cache(CacheCommand::Lost { digests, reply })).await?
    }

    /// Tells that a segment has lost its name, and what of it is still open.
    pub fn out_blocking(&self, digest: Digest, still_open: Option<Bytes>) {
        let _ = self.commands.blocking_send(Command::Cache(CacheCommand::Out { digest, still_open }));
    }

    /// Tells that so much of what was open of a segment is free.
    pub fn freed_blocking(&self, digest: Digest, freed: Bytes) {
        let _ = self.commands.blocking_send(Command::Cache(CacheCommand::Freed { digest, freed }));
    }

    /// Lets go what has to by these facts; `false` when what may go is not enough.
    ///
    /// # Errors
    /// STORE_READONLY, DRAINING: then nothing goes.
    pub async fn shrink(&self, facts: Facts) -> Result<bool> {
        self.ask_surely(|reply| Command::Cache(CacheCommand::Shrink { facts: Box::new(facts), reply }))
            .await?
    }

    /// Grants a lease; `false` when something of it is not in RAM (any more).
    ///
    /// # Errors
    /// As the planner refuses, or STORE_READONLY, DRAINING.
    pub async fn grant(&self, ask: LeaseAsk) -> Result<bool> {
        self.ask_surely(|reply| Command::Cache(CacheCommand::Grant { ask: Box::new(ask), reply })).await?
    }

    /// Takes up a lease again.
    ///
    /// # Errors
    /// As the planner refuses, or STORE_READONLY, DRAINING.
    pub async fn resume(
        &self,
        id: LeaseId,
        by: Principal,
        holder: String,
        process: Option<u32>,
    ) -> Result<()> {
        self.ask_surely(|reply| Command::Cache(CacheCommand::Resume { id, by, holder, process, reply }))
            .await?
    }

    /// Tells that a lease's holder is gone, and waits until everybody can see that.
    pub async fn end_lease(&self, id: LeaseId) {
        let _ = self.ask_surely(|reply| Command::Cache(CacheCommand::EndLease { id, reply })).await;
    }

    /// Ends somebody's lease.
    ///
    /// # Errors
    /// RESOURCE_NOT_FOUND, or STORE_READONLY, DRAINING.
    pub async fn revoke(
        &self,
        key: RequestKey,
        content: ContentHash,
        id: LeaseId,
        reason: String,
    ) -> Result<()> {
        self.ask_surely(|reply| Command::Cache(CacheCommand::Revoke { key, content, id, reason, reply }))
            .await?
    }

    /// Changes the policy.
    ///
    /// # Errors
    /// What the change says; STORE_READONLY, DRAINING.
    pub async fn set_policy(
        &self,
        key: RequestKey,
        content: ContentHash,
        change: Change<CachePolicy>,
    ) -> Result<()> {
        self.ask_surely(|reply| Command::Cache(CacheCommand::SetPolicy { key, content, change, reply }))
            .await?
    }
}
