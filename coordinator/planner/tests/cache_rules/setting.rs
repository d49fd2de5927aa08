//! A cache whose operations, leases and clock are moved by hand.

use crate::world::{
    MODELS, START, bytes_of, content_name, digest, eviction, facts, lease, machine, model, model_id, report,
    spec, submission, want,
};
use hoist_domain::{
    Bytes, Digest, LeaseId, ModelConfig, OperationId, Priority, Segment, SegmentName, SegmentState,
    ServiceTime, WallTime,
};
use hoist_planner::cache::{
    Identity, LeaseAsk, Reservation, Reserved, Sealing, Totals, complete, end, evict, grant, identify,
    reserve, shrink,
};
use hoist_planner::{Decision, Event, Limits, Moment, State, finish, schedule, submit};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

pub(crate) const LIMITS: Limits =
    Limits { request_ids: 100, active_operations: 100, retention: Duration::from_secs(1 << 20) };

pub(crate) fn at(ms: u64) -> Moment {
    Moment { wall: WallTime(0), service: ServiceTime(ms) }
}

/// A cache in which everything happens at a time that its tests set.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) now: Moment,
    pub(crate) open: BTreeSet<Digest>,
    pub(crate) fresh: u128,
}

impl World {
    /// With models whose components' digests are known.
    pub(crate) fn new() -> Self {
        let state = State::restore(START, machine(), [], [], []);
        let mut world = Self { state, now: at(0), open: BTreeSet::new(), fresh: 0 };
        (0..MODELS.len()).for_each(|model| world.configure(model, &ModelConfig::default()));
        world
    }

    pub(crate) fn configure(&mut self, number: usize, config: &ModelConfig) {
        let contents: Vec<u8> = MODELS[number].iter().map(|(_, content)| *content).collect();
        let model = model(number, &contents, &(0..contents.len()).collect(), config);
        self.apply(&[Event::ModelRecorded(Arc::new(model))]);
    }

    pub(crate) fn apply(&mut self, events: &[Event]) {
        self.state.apply(events);
        let cache = self.state.cache();
        let walked = |state| {
            let those = cache.segments().filter(|one| one.state == state && !one.is_zombie);
            Bytes(those.map(|one| one.bytes.0).sum())
        };
        let Totals { filling, sealed, evicting, .. } = cache.totals();
        let states = [SegmentState::Filling, SegmentState::Sealed, SegmentState::Evicting];
        assert_eq!([filling, sealed, evicting], states.map(walked));
    }

    pub(crate) fn used(&self) -> u64 {
        self.state.cache().totals().used().0
    }

    pub(crate) fn segment(&self, content: u8) -> Option<&Arc<Segment>> {
        self.state.cache().segment(content_name(content))
    }

    pub(crate) fn is_sealed(&self, content: u8) -> bool {
        self.state.cache().sealed(digest(content)).is_some()
    }

    /// An operation that runs.
    pub(crate) fn begin(&mut self, model: usize, components: &[&str], priority: Priority) -> OperationId {
        self.fresh += 1;
        let id = Uuid::from_u128(self.fresh);
        let submission = submission(id, spec(model, components, priority));
        let submitted = submit(&self.state, &submission, self.now, &LIMITS).unwrap();
        self.apply(&submitted.events);
        self.apply(&schedule(&self.state, self.now));
        submitted.operation
    }

    /// Asks for components by place and content, known or not; the first is the model's.
    pub(crate) fn ask(
        &self,
        operation: OperationId,
        number: usize,
        wants: &[(usize, u8, bool)],
        budget: u64,
    ) -> (Decision, hoist_domain::Result<Reserved>) {
        let wants = wants.iter().map(|(place, content, is_known)| want(number, *place, *content, *is_known));
        let ask = Reservation {
            operation,
            model: model_id(number),
            priority: Priority::Normal,
            parts: wants.collect(),
            facts: facts(budget, &self.open),
        };
        reserve(&self.state, &ask, self.now)
    }

    pub(crate) fn reserve(
        &mut self,
        operation: OperationId,
        number: usize,
        wants: &[(usize, u8, bool)],
    ) -> Reserved {
        let (events, reserved) = self.ask(operation, number, wants, 1_000);
        self.apply(&events);
        reserved.unwrap()
    }

    /// What an operation has read turns out to be this.
    pub(crate) fn identify(&mut self, operation: OperationId, found: &[(SegmentName, u8)]) -> Vec<Identity> {
        let found: Vec<_> = found.iter().map(|(from, content)| (*from, digest(*content))).collect();
        let (events, identities) = identify(&self.state, operation, &found, self.now);
        self.apply(&events);
        identities
    }

    /// What has got its name is complete.
    pub(crate) fn seal(&mut self, operation: OperationId, contents: &[u8]) {
        let sealing = |content: &u8| Sealing { digest: digest(*content), bytes: bytes_of(*content) };
        let sealings: Vec<Sealing> = contents.iter().map(sealing).collect();
        let events = complete(&self.state, operation, &sealings, self.now);
        assert_eq!(events.len(), contents.len());
        self.apply(&events);
    }

    /// All of it is new, and complete.
    pub(crate) fn fill(&mut self, operation: OperationId, found: &[(SegmentName, u8)]) {
        assert!(self.identify(operation, found).iter().all(|identity| *identity == Identity::New));
        self.seal(operation, &found.iter().map(|(_, content)| *content).collect::<Vec<_>>());
    }

    pub(crate) fn finish(&mut self, operation: OperationId, model: usize) {
        self.apply(&finish(&self.state, operation, report(model_id(model)), self.now));
    }

    /// One component of a model in RAM, and nobody holds it.
    pub(crate) fn cache(&mut self, model: usize, place: usize) {
        let (name, content) = MODELS[model][place];
        let operation = self.begin(model, &[name], Priority::Normal);
        if !self.reserve(operation, model, &[(place, content, true)]).fill.is_empty() {
            self.fill(operation, &[(content_name(content), content)]);
        }
        self.finish(operation, model);
    }

    pub(crate) fn evict(
        &mut self,
        model: Option<usize>,
        components: &[&str],
    ) -> Vec<(Digest, Option<String>)> {
        match model {
            None => self.out(&[], &[]),
            Some(model) => self.evict_parts(&[(model, components)]),
        }
    }

    /// Some components of some models, or all of a model with none named.
    pub(crate) fn evict_parts(&mut self, parts: &[(usize, &[&str])]) -> Vec<(Digest, Option<String>)> {
        self.out(parts, &[])
    }

    fn out(&mut self, parts: &[(usize, &[&str])], contents: &[u8]) -> Vec<(Digest, Option<String>)> {
        let ask = eviction(parts, contents, &self.open);
        let (events, told) = evict(&self.state, &ask, self.now);
        self.apply(&events);
        told.into_iter().map(|one| (one.digest, one.kept)).collect()
    }

    pub(crate) fn lease(&mut self, model: usize, place: usize) -> LeaseId {
        self.fresh += 1;
        let lease = lease(Uuid::from_u128(self.fresh), model, &[(place, MODELS[model][place].1)], self.now);
        let id = lease.id;
        let ask = LeaseAsk { lease, priority: Priority::Normal, is_use: true };
        let events = grant(&self.state, &ask, self.now).unwrap().unwrap();
        self.apply(&events);
        id
    }

    pub(crate) fn end_lease(&mut self, id: LeaseId) {
        self.apply(&end(&self.state, id, None, self.now));
    }

    /// Its name is gone; somebody has it open.
    pub(crate) fn leave(&mut self, content: u8) {
        self.apply(&[Event::SegmentOut { digest: digest(content), still_open: Some(bytes_of(content)) }]);
    }

    pub(crate) fn gone(&mut self, content: u8) {
        self.apply(&[Event::SegmentOut { digest: digest(content), still_open: None }]);
    }

    pub(crate) fn free(&mut self, content: u8, bytes: u64) {
        self.apply(&[Event::ZombieFreed { digest: digest(content), freed: Bytes(bytes) }]);
    }

    /// What would have to go for so small a budget.
    pub(crate) fn going(&self, budget: u64) -> Vec<Digest> {
        let (Ok(events) | Err((events, _))) = shrink(&self.state, &facts(budget, &self.open), self.now);
        let digests = events.iter().map(|event| match event {
            Event::SegmentEvicting { digest, .. } => *digest,
            _ => Digest([0; 32]),
        });
        digests.collect()
    }
}
