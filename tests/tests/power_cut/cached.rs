//! What no disk knows of, while a disk is full: segments and leases are true of this process alone, but the requests and the
//! operations that they follow from are not. A commit that fails and has landed holds only those.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hoist_domain::{
    Bytes, CachePolicy, CacheSpec, Digest, Error, Lease, LeaseId, LeaseState, ModelId, ModelType,
    OperationId, OperationState, Outcome, Principal, Priority, Reason, SegmentName, SegmentState, WallTime,
    Work,
};
use hoist_planner::Submission;
use hoist_planner::cache::{EvictionAsk, Facts, LeaseAsk, Out, Part, Reservation, Sealing};
use hoist_tests::simulation::{Coordinator, Reply, Request, World, content, key};
use uuid::Uuid;

use super::full::{Doubt, start};
use super::is_readonly;

const MODEL: ModelId = ModelId(Uuid::from_u128(1));
const DIGEST: Digest = Digest([7; 32]);
const NAME: SegmentName = SegmentName::Content(DIGEST);
const BYTES: Bytes = Bytes(4_096);

/// A coordinator whose disk can be made to fail.
struct Setting {
    world: World,
    life: Coordinator,
    doubt: Doubt,
    made: u128,
}

impl Setting {
    fn new() -> Result<Self> {
        let world = World::new(1_000)?;
        let (life, doubt) = start(&world)?;
        Ok(Self { world, life, doubt, made: 0 })
    }

    fn ask(&mut self, request: Request) -> Result<Reply> {
        self.life.serve(&[request])?.pop().context("no answer")
    }

    /// The next commit fails; and lands, or does not.
    fn fail(&mut self, lands: bool) {
        if lands {
            self.doubt.next.store(true, Ordering::Relaxed);
        } else {
            self.world.disk.fail_writes(Some(ErrorKind::StorageFull));
        }
    }

    /// There is room again.
    fn recover(&mut self) -> Result<()> {
        ensure!(is_readonly(&self.life), "nothing has failed");
        self.world.disk.fail_writes(None);
        self.ask(Request::Tick)?;
        ensure!(!is_readonly(&self.life), "there is room again, and nobody noticed");
        Ok(())
    }

    fn submission(&mut self) -> Submission {
        self.made += 1;
        let spec = CacheSpec {
            model: ModelId(Uuid::from_u128(self.made)),
            components: Vec::new(),
            priority: Priority::Normal,
            validate: false,
            allow: Vec::new(),
        };
        Submission {
            key: key("/cache", u64::try_from(self.made).unwrap_or_default()),
            content: content(0),
            work: Work::CacheModel(spec),
            deadline: Duration::from_secs(3600),
            new_id: OperationId(Uuid::from_u128(self.made << 80)),
        }
    }

    fn begin(&mut self) -> Result<OperationId> {
        let submission = self.submission();
        match self.ask(Request::Submit(submission))? {
            Reply::Operation(id) => Ok(id),
            other => anyhow::bail!("{other:?}"),
        }
    }

    fn segment(&self) -> Option<SegmentState> {
        self.life.state().cache().segment(NAME).map(|segment| segment.state)
    }

    /// One segment, complete, that nobody holds.
    fn cache(&mut self) -> Result<()> {
        let operation = self.begin()?;
        self.ask(reserve(operation))?;
        let sealings = vec![Sealing { digest: DIGEST, bytes: BYTES }];
        self.life.serve(&[
            Request::Identify { operation, found: vec![(NAME, DIGEST)] },
            Request::Sealed { operation, sealings },
            Request::Finish { id: operation, outcome: failed() },
        ])?;
        ensure!(self.segment() == Some(SegmentState::Sealed));
        Ok(())
    }
}

fn failed() -> Outcome {
    Outcome::Failed(Error::new(Reason::SourceUnreadable, "the disk is gone"))
}

fn reserve(operation: OperationId) -> Request {
    let want =
        Part { name: NAME, source: NAME, bytes: BYTES, is_raw: false, component_type: ModelType::Unet };
    let facts = Facts { budget: Bytes::mib(1), limit: "policy".to_owned(), open: BTreeSet::new() };
    let parts = vec![want];
    Request::Reserve(Reservation { operation, model: MODEL, priority: Priority::Normal, parts, facts })
}

fn evict() -> Request {
    let ask = EvictionAsk { out: Out::All, open: BTreeSet::new() };
    Request::Evict { key: key("/evict", 1), content: content(0), ask }
}

#[test]
fn an_end_that_landed_gives_up_what_was_being_filled() -> Result<()> {
    let mut one = Setting::new()?;
    let operation = one.begin()?;
    one.ask(reserve(operation))?;
    ensure!(one.segment() == Some(SegmentState::Filling));
    one.fail(true);
    one.ask(Request::Finish { id: operation, outcome: failed() })?;
    ensure!(one.segment() == Some(SegmentState::Filling), "its end is not known yet");
    one.recover()?;
    let state = one.life.state();
    ensure!(state.operation(operation).is_some_and(|one| one.state == OperationState::Failed), "it landed");
    ensure!(state.cache().segment_count() == 0, "nobody fills it any more");
    ensure!(state.cache().totals().used() == Bytes(0));
    Ok(())
}

#[test]
fn an_eviction_that_was_recorded_is_carried_out() -> Result<()> {
    for lands in [true, false] {
        let mut one = Setting::new()?;
        one.cache()?;
        one.fail(lands);
        ensure!(one.ask(evict())?.is_readonly());
        ensure!(one.segment() == Some(SegmentState::Sealed), "refused");
        one.recover()?;
        ensure!(one.life.withdrawn == if lands { vec![DIGEST] } else { vec![] }, "landed: {lands}");
        let Reply::Evicted(told) = one.ask(evict())? else { anyhow::bail!("refused again") };
        ensure!(told.is_empty() == lands, "what was done is not told again: {told:?}");
        ensure!(one.life.withdrawn == [DIGEST], "once, whether it landed or not");
        ensure!(one.segment() == Some(SegmentState::Evicting));
    }
    Ok(())
}

#[test]
fn a_revocation_that_was_recorded_is_carried_out() -> Result<()> {
    for lands in [true, false] {
        let mut one = Setting::new()?;
        one.cache()?;
        let id = LeaseId(Uuid::from_u128(9));
        let lease = Lease {
            id,
            state: LeaseState::Held,
            model: MODEL,
            components: vec![("unet".into(), DIGEST)],
            on: None,
            bytes: BYTES,
            holder: String::new(),
            principal: Principal::Loopback,
            process: None,
            granted_at: WallTime(0),
        };
        let grant = Request::Grant(LeaseAsk { lease, priority: Priority::Normal, is_use: true });
        ensure!(one.ask(grant)? == Reply::Enough(true));
        one.fail(lands);
        let revoke = Request::Revoke { key: key("/revoke", 1), content: content(0), id };
        ensure!(one.ask(revoke.clone())?.is_readonly());
        ensure!(one.life.state().cache().lease(id).is_some(), "refused");
        one.recover()?;
        ensure!(one.life.ended_leases == if lands { vec![id] } else { vec![] }, "landed: {lands}");
        ensure!(one.ask(revoke)? == Reply::Done);
        ensure!(one.life.ended_leases == [id], "once, whether it landed or not");
        ensure!(one.life.state().cache().lease(id).is_none());
    }
    Ok(())
}

#[test]
fn a_policy_that_landed_is_published_once() -> Result<()> {
    let mut one = Setting::new()?;
    let policy = CachePolicy { budget: Some(Bytes::gib(1)), ..CachePolicy::default() };
    let set = Request::SetPolicy { key: key("/policy", 1), content: content(0), policy: policy.clone() };
    one.fail(true);
    ensure!(one.ask(set.clone())?.is_readonly());
    ensure!(*one.life.state().cache().policy() == CachePolicy::default(), "refused");
    one.recover()?;
    let changed = one.life.state().cache().changed_policy().map(|(at, policy)| (at, policy.clone()));
    ensure!(changed.as_ref().is_some_and(|(_, found)| *found == policy), "it landed: {changed:?}");
    ensure!(one.ask(set)? == Reply::Done);
    let again = one.life.state().cache().changed_policy().map(|(at, policy)| (at, policy.clone()));
    ensure!(again == changed, "changed twice");
    Ok(())
}

/// Beside a commit that fails: what was decided on its draft means nothing, and what was reported is true all the same.
#[test]
fn what_was_decided_on_a_lost_draft_is_refused_and_what_was_reported_is_judged_again() -> Result<()> {
    let mut one = Setting::new()?;
    one.cache()?;
    ensure!(matches!(one.ask(evict())?, Reply::Evicted(_)));
    let operation = one.begin()?;
    let other = SegmentName::Content(Digest([8; 32]));
    let Request::Reserve(mut ask) = reserve(operation) else { anyhow::bail!("no reservation") };
    ask.parts.iter_mut().for_each(|want| want.name = other);
    one.fail(false);
    let submission = one.submission();
    let replies = one.life.serve(&[
        Request::Submit(submission),
        Request::Reserve(ask.clone()),
        Request::Out { digest: DIGEST, still_open: None },
    ])?;
    ensure!(replies.iter().map(Reply::is_readonly).eq([true, true, false]), "{replies:?}");
    ensure!(one.life.state().cache().segment(other).is_none(), "refused");
    ensure!(one.segment().is_none(), "its name is gone, whatever the disk says");
    // By itself it needs no disk.
    ensure!(matches!(one.ask(Request::Reserve(ask))?, Reply::Reserved(reserved) if reserved.fill.len() == 1));
    one.recover()
}

#[test]
fn whoever_is_refused_hears_what_is_wrong_with_the_store() -> Result<()> {
    let facts = Facts { budget: Bytes(0), limit: String::new(), open: BTreeSet::new() };
    for is_full in [true, false] {
        let mut one = Setting::new()?;
        let operation = one.begin()?;
        if is_full {
            one.fail(false);
        } else {
            one.world.disk.fail_syncs(true);
        }
        let submission = one.submission();
        let replies = one.life.serve(&[
            Request::Submit(submission),
            Request::Identify { operation, found: Vec::new() },
            Request::Shrink(facts.clone()),
        ])?;
        for reply in replies {
            let Reply::Refused(error) = &reply else { anyhow::bail!("{reply:?}") };
            ensure!(reply.is_readonly() && error.message().contains("disk is full") == is_full, "{error}");
        }
    }
    Ok(())
}
