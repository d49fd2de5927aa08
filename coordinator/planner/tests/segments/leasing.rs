//! Leases, and what is left of everything after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hoist_domain::{
    Bytes, Digest, Lease, LeaseId, LeaseState, Position, Principal, Priority, Reason, Segment, SegmentName,
    SegmentState,
};
use hoist_planner::cache::{Holder, LeaseAsk, adopt, grant, resume};
use hoist_planner::{State, expire, recover};

use crate::histories::{History, LIMITS, places};
use crate::world::{lease, machine};

/// So short that leases are often taken up again and often not.
const GRACE: Duration = Duration::from_millis(200);

impl History {
    pub(crate) fn grant(&mut self, model: usize, component: Option<usize>, priority: Priority, is_use: bool) {
        let contents = &self.models[model].contents;
        let components: Vec<(usize, u8)> =
            places(model, component).into_iter().map(|place| (place, contents[place])).collect();
        let lease = lease(self.fresh(), model, &components, self.now());
        let id = lease.id;
        let digests = lease.segments();
        let ask = LeaseAsk { lease, priority, is_use };
        let answer = self.decide(|state| grant(state, &ask, self.now())).unwrap();
        let is_there = digests.iter().all(|digest| self.naive.sealed(*digest).is_some());
        assert_eq!(answer.is_some(), is_there);
        let Some(events) = answer else {
            self.seen.insert("nothing to lease");
            return;
        };
        self.apply(&events);
        self.seen.insert("granted");
        let bytes = digests.iter().map(|digest| self.naive.sealed(*digest).unwrap().bytes.0).sum();
        for digest in digests {
            self.naive.want(
                SegmentName::Content(digest),
                Holder::Lease(id),
                ask.lease.model,
                priority,
                is_use,
            );
        }
        self.naive.hold(Lease { bytes: Bytes(bytes), ..ask.lease });
    }

    pub(crate) fn lease(&self, number: usize) -> Option<LeaseId> {
        let leases: Vec<LeaseId> = self.naive.leases.keys().copied().collect();
        (!leases.is_empty()).then(|| leases[number % leases.len()])
    }

    pub(crate) fn resume(&mut self, number: usize, is_own: bool) {
        let Some(id) = self.lease(number) else { return };
        let by = Principal::Uid(if is_own { 1 } else { 2 });
        let answer = self.decide(|state| resume(state, id, &by, "again".to_owned(), Some(2)));
        let lease = self.naive.leases[&id].clone();
        let refused = match (is_own, lease.state) {
            (false, _) => Some((Reason::PermissionDenied, "resumed by another")),
            (true, LeaseState::Held) => Some((Reason::InUse, "resumed twice")),
            (true, LeaseState::Awaited) => None,
        };
        self.seen.insert(refused.map_or("resumed", |(_, what)| what));
        match answer {
            Err(error) => assert_eq!(Some(error.reason()), refused.map(|(reason, _)| reason)),
            Ok(events) => {
                assert_eq!(refused, None);
                self.apply(&events);
                self.naive.hold(Lease {
                    state: LeaseState::Held,
                    holder: "again".to_owned(),
                    process: Some(2),
                    ..lease
                });
            }
        }
    }

    /// Time passes: leases whose holders did not come back in time end, at once and not before.
    pub(crate) fn tick(&mut self) {
        let events = self.decide(|state| expire(state, self.now(), &LIMITS, 100));
        self.apply(&events);
        let is_over = self.naive.until.is_some_and(|until| self.now().service >= until);
        let awaited = self.naive.leases.values().filter(|lease| lease.state == LeaseState::Awaited);
        let ids: Vec<LeaseId> = awaited.filter(|_| is_over).map(|lease| lease.id).collect();
        for id in ids {
            self.naive.end_lease(id);
            self.seen.insert("lease expired");
        }
    }

    pub(crate) fn restart(&mut self, found: u32) {
        let at = |position: Position| position.revision;
        let operations: Vec<_> =
            self.state.operations_with_position().map(|(of, one)| (at(of), one.as_ref().clone())).collect();
        let models: Vec<_> =
            self.state.models().with_position().map(|(of, one)| (at(of), one.as_ref().clone())).collect();
        let leases: Vec<Lease> = self.state.cache().leases().map(|lease| Lease::clone(lease)).collect();
        let policy = self.state.cache().changed_policy().map(|(of, policy)| (of, policy.clone()));
        let requests: Vec<_> = self.state.requests().cloned().collect();
        // Files with names: what is on its way out has its own until that is done.
        let sealed = self.naive.segments.values().filter(|segment| segment.state == SegmentState::Sealed);
        let mut files: BTreeMap<Digest, Bytes> =
            sealed.filter_map(|segment| Some((segment.name.digest()?, segment.bytes))).collect();
        files.extend(self.outs.iter().copied());
        let files: Vec<(Digest, Bytes)> = files.into_iter().collect();

        let Position { epoch, revision } = self.state.position();
        let position = Position { epoch: epoch.next(), revision };
        self.state = State::restore(position, machine(), operations, requests, models).with_policy(policy);
        self.mirror = self.records();
        let awaited = self.naive.restart();
        self.clients.clear();
        self.ended = None;
        self.outs.clear();
        self.naive.agree(&self.state);
        let events = self.decide(|state| recover(state, self.now()));
        self.apply(&events);

        let found = files.into_iter().enumerate().filter(|(place, _)| found >> place & 1 == 1);
        let adopted: Vec<Segment> = found
            .map(|(_, (digest, bytes))| Segment {
                name: SegmentName::Content(digest),
                state: SegmentState::Sealed,
                bytes,
                is_raw: false,
                component_type: None,
                priority: self.naive.policy.priority,
                wanted_by: BTreeSet::new(),
                sealed_at: None,
                is_zombie: false,
                eviction: None,
            })
            .collect();
        self.apply(&adopt(adopted.clone(), leases, GRACE, self.now()));
        for segment in adopted {
            self.naive.adopt(segment);
            self.seen.insert("adopted");
        }
        self.naive.until = Some(self.now().service.after(GRACE));
        for lease in awaited {
            if lease.segments().iter().all(|digest| self.naive.sealed(*digest).is_some()) {
                self.naive.hold(Lease { state: LeaseState::Awaited, ..lease });
            } else {
                self.seen.insert("lease lost its segments");
            }
        }
        self.open.retain(|digest| self.naive.sealed(*digest).is_some());
    }
}
