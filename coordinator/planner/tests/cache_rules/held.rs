//! What is held, for how long, and what is idle once it is not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{CachePolicy, Lease, LeaseId, LeaseState, ModelConfig, Principal, Reason, Segment};
use hoist_planner::cache::{LEASE_GRACE, MOST_EXPIRED, adopt, lost, resume};
use hoist_planner::{Event, State, expire};

use crate::setting::{LIMITS, World, at};
use crate::world::{START, content_name, digest, machine};
use crate::{TEXT, VAE};

#[test]
fn what_is_held_by_two_leases_stays_until_both_have_ended() {
    let mut world = World::new();
    world.cache(0, 1);
    let (one, other) = (world.lease(0, 1), world.lease(1, 1));
    assert_eq!(world.state.cache().lease_counts()[&content_name(VAE)], 2);
    for id in [other, one] {
        assert_eq!(world.going(0), []);
        assert_eq!(world.evict(None, &[]), [(digest(VAE), Some("it is leased".to_owned()))]);
        world.end_lease(id);
    }
    assert_eq!(world.going(0), [digest(VAE)]);
    assert_eq!(world.evict(None, &[]), [(digest(VAE), None)]);
}

#[test]
fn what_a_lease_holds_is_in_use_until_it_ends() {
    let idle_ttl = Some(Duration::from_millis(100));
    let mut world = World::new();
    world.apply(&[Event::CachePolicyChanged(Arc::new(CachePolicy { idle_ttl, ..CachePolicy::default() }))]);
    world.cache(0, 1);
    let id = world.lease(0, 1);
    world.now = at(1_000);
    world.end_lease(id);
    assert_eq!(world.going(1_000), [], "it begins to be idle");
    world.now = at(1_099);
    assert_eq!(world.going(1_000), []);
    world.now = at(1_100);
    assert_eq!(world.going(1_000), [digest(VAE)]);
}

#[test]
fn an_awaited_lease_ends_after_the_grace_and_not_before() {
    let mut world = World::new();
    world.cache(0, 1);
    let (late, back) = (world.lease(0, 1), world.lease(0, 1));
    let segment = Segment::clone(world.segment(VAE).unwrap());
    let mut leases: Vec<Lease> = world.state.cache().leases().map(|lease| Lease::clone(lease)).collect();
    let lost = LeaseId(uuid::Uuid::from_u128(0xdead));
    leases.push(Lease { id: lost, components: vec![("vae".into(), digest(0xee))], ..leases[0].clone() });
    world.state = State::restore(START, machine(), [], [], []);
    world.apply(&adopt(vec![segment], leases, LEASE_GRACE, world.now));
    assert!(world.state.cache().leases().all(|lease| lease.state == LeaseState::Awaited));
    assert_eq!(world.state.cache().lease(lost), None, "what it held is gone");
    assert_eq!(world.going(0), [], "nothing is evicted before the holders could come back");
    let events = resume(&world.state, back, &Principal::Uid(1), "again".to_owned(), None).unwrap();
    world.apply(&events);
    let grace = u64::try_from(LEASE_GRACE.as_millis()).unwrap();
    assert_eq!(expire(&world.state, at(grace - 1), &LIMITS, 9), []);
    let events = expire(&world.state, at(grace), &LIMITS, 9);
    assert_eq!(events, [Event::LeaseEnded { id: late, at: at(grace).service, revoked: None }]);
    world.apply(&events);
    assert_eq!(world.going(0), [], "the one that came back holds it");
    let refused = resume(&world.state, late, &Principal::Uid(1), String::new(), None).unwrap_err();
    assert_eq!(refused.reason(), Reason::ResourceNotFound);
    assert_eq!(world.state.cache().awaited_until(), None, "nobody is awaited any more");
    world.end_lease(back);
    assert_eq!(world.going(0), [digest(VAE)]);
}

#[test]
fn no_more_leases_end_at_once_than_may() {
    let mut world = World::new();
    world.cache(0, 1);
    let one = world.lease(0, 1);
    let segment = Segment::clone(world.segment(VAE).unwrap());
    let one = Lease::clone(world.state.cache().lease(one).unwrap());
    let id = |number: usize| LeaseId(uuid::Uuid::from_u128(number as u128));
    let leases = (0..=MOST_EXPIRED).map(|number| Lease { id: id(number), ..one.clone() });
    world.state = State::restore(START, machine(), [], [], []);
    world.apply(&adopt(vec![segment], leases.collect(), Duration::ZERO, world.now));
    for left in [MOST_EXPIRED, 1] {
        let events = expire(&world.state, world.now, &LIMITS, 9);
        assert_eq!(events.len(), left);
        world.apply(&events);
    }
    assert_eq!((world.state.cache().lease_count(), world.going(0)), (0, vec![digest(VAE)]));
}

#[test]
fn what_was_lost_goes_and_its_leases_end_pinned_or_not() {
    let mut world = World::new();
    world.cache(0, 1);
    world.configure(0, &ModelConfig { is_pinned: true, ..ModelConfig::default() });
    let gone = BTreeSet::from([digest(VAE), digest(TEXT)]);
    let id = world.lease(0, 1);
    let events = lost(&world.state, &gone, world.now);
    assert!(
        matches!(&*events, [
            Event::LeaseEnded { id: ended, revoked: Some(_), .. },
            Event::SegmentEvicting { digest: of, .. },
        ] if (*ended, *of) == (id, digest(VAE))),
        "{events:?}"
    );
    world.apply(&events);
    assert!(!world.is_sealed(VAE));
    assert_eq!(lost(&world.state, &gone, world.now), [], "once");
}

#[test]
fn idle_ttl_of_a_model_wins_over_the_policys() {
    let ttl =
        |ms: u64| ModelConfig { cache_idle_ttl: Some(Duration::from_millis(ms)), ..ModelConfig::default() };
    let expires_at = |configs: &[(usize, &ModelConfig)], policy: Option<u64>| {
        let mut world = World::new();
        let idle_ttl = policy.map(Duration::from_millis);
        world.apply(&[Event::CachePolicyChanged(Arc::new(CachePolicy {
            idle_ttl,
            ..CachePolicy::default()
        }))]);
        for (model, config) in configs {
            world.configure(*model, config);
            world.cache(*model, 1);
        }
        [99, 100, 499, 500, u64::from(u32::MAX)].into_iter().find(|ms| {
            world.now = at(*ms);
            !world.going(1_000).is_empty()
        })
    };
    let plain = ModelConfig::default();
    assert_eq!(expires_at(&[(0, &plain)], None), None);
    assert_eq!(expires_at(&[(0, &plain)], Some(100)), Some(100));
    assert_eq!(expires_at(&[(0, &ttl(500))], Some(100)), Some(500));
    assert_eq!(expires_at(&[(0, &ttl(100))], Some(500)), Some(100));
    assert_eq!(expires_at(&[(0, &ttl(100))], None), Some(100));
    assert_eq!(
        expires_at(&[(0, &ttl(100)), (1, &ttl(500))], None),
        Some(500),
        "the longest of those it is for"
    );
    assert_eq!(expires_at(&[(0, &ttl(100)), (1, &plain)], None), None, "one may have it for ever");
}
