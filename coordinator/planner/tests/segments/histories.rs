//! A state and what it must be, side by side, and the world around them: files, whoever has them open, operations.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    Bytes, CachePolicy, Digest, ModelConfig, OperationId, OperationState, Principal, Priority, ResourceName,
    SegmentName,
};
use hoist_planner::cache::end;
use hoist_planner::{Event, Limits, Moment, Record, State, cancel};
use uuid::Uuid;

use crate::naive::Naive;
use crate::steps::{Notes, Step};
use crate::world::{MODELS, START, digest, machine, model, model_id};

pub(crate) const LIMITS: Limits =
    Limits { request_ids: 1_000, active_operations: 6, retention: Duration::from_secs(1 << 20) };

/// An operation, and what its executor knows.
pub(crate) struct Client {
    pub(crate) id: OperationId,
    pub(crate) model: usize,
    pub(crate) priority: Priority,
    pub(crate) components: Vec<usize>,
    /// What the model's components were when it began.
    pub(crate) contents: Vec<u8>,
    /// Components whose digests it has found out itself.
    pub(crate) found: BTreeSet<usize>,
    /// What it may seal: everything of it was read, and has this name.
    pub(crate) named: BTreeSet<SegmentName>,
}

/// A model of the catalog, as the world has it.
pub(crate) struct Entry {
    pub(crate) contents: Vec<u8>,
    pub(crate) known: BTreeSet<usize>,
    pub(crate) config: ModelConfig,
    pub(crate) is_listed: bool,
}

pub(crate) struct History {
    pub(crate) state: State,
    pub(crate) naive: Naive,
    /// What watchers know who were told every change.
    pub(crate) mirror: BTreeMap<ResourceName, Record>,
    pub(crate) models: Vec<Entry>,
    pub(crate) clients: Vec<Client>,
    pub(crate) ended: Option<OperationId>,
    /// Names that are to be taken away, in this order.
    pub(crate) outs: VecDeque<(Digest, Bytes)>,
    /// Complete segments that some process has open.
    pub(crate) open: BTreeSet<Digest>,
    /// Makes ids unique.
    pub(crate) fresh: u64,
    /// What has happened, see `EVERYTHING`.
    pub(crate) seen: BTreeSet<&'static str>,
}

impl History {
    pub(crate) fn new(known: &[u8]) -> Self {
        let entry = |(model, known): (&&[(&str, u8)], &u8)| Entry {
            contents: model.iter().map(|(_, content)| *content).collect(),
            known: (0..model.len()).filter(|place| known >> place & 1 == 1).collect(),
            config: ModelConfig::default(),
            is_listed: true,
        };
        let mut history = Self {
            state: State::restore(START, machine(), [], [], []),
            naive: Naive::default(),
            mirror: BTreeMap::new(),
            models: MODELS.iter().zip(known).map(entry).collect(),
            clients: Vec::new(),
            ended: None,
            outs: VecDeque::new(),
            open: BTreeSet::new(),
            fresh: 0,
            seen: BTreeSet::new(),
        };
        history.mirror = history.records();
        (0..MODELS.len()).for_each(|model| history.list(model));
        history
    }

    pub(crate) fn records(&self) -> BTreeMap<ResourceName, Record> {
        self.state.records().map(|record| (record.name(), record)).collect()
    }

    pub(crate) fn now(&self) -> Moment {
        self.naive.now
    }

    pub(crate) fn fresh(&mut self) -> Uuid {
        self.fresh += 1;
        Uuid::from_u128(self.fresh.into())
    }

    /// Asks twice: the same state gets the same answer.
    pub(crate) fn decide<T: PartialEq + std::fmt::Debug>(&self, decision: impl Fn(&State) -> T) -> T {
        let decided = decision(&self.state);
        assert_eq!(decision(&self.state), decided, "one state, two decisions");
        decided
    }

    /// Applies events; watchers are told exactly what has changed.
    pub(crate) fn apply(&mut self, events: &[Event]) {
        let mut again = self.state.clone();
        let delta = self.state.apply(events);
        assert_eq!(again.apply(events), delta, "the same events, two deltas");
        for change in delta.into_iter().flat_map(|delta| delta.changes) {
            assert_eq!(self.mirror.get(&change.name), change.before.as_ref(), "before: {}", change.name);
            match change.after {
                Some(after) => {
                    assert_eq!(after.name(), change.name);
                    self.mirror.insert(change.name, after);
                }
                None => {
                    self.mirror.remove(&change.name);
                }
            }
        }
        for event in events {
            if let Event::SegmentEvicting { digest, .. } = event {
                let segment = self.state.cache().segment(SegmentName::Content(*digest)).unwrap();
                assert!(self.outs.iter().all(|(other, _)| other != digest), "{digest} has one name");
                self.outs.push_back((*digest, segment.bytes));
            }
        }
    }

    pub(crate) fn step(&mut self, step: Step) {
        let at = |number: usize, of: usize| if of == 0 { 0 } else { number % of };
        let operation = |number| at(number, self.clients.len());
        match step {
            Step::Cache { model, component, priority } => {
                let number = self.clients.len();
                self.submit(model, Some(component), priority);
                if number < self.clients.len() {
                    self.reserve(number, u64::MAX, true);
                    self.identify(number, false, None, true);
                    self.seal(number);
                    self.end(number, 2);
                }
            }
            Step::Submit { model, component, priority } => self.submit(model, component, priority),
            Step::SubmitAnother { operation: number, priority, budget } => {
                let Some(client) = self.clients.get(operation(number)) else { return };
                self.submit(client.model, None, priority);
                self.reserve(self.clients.len() - 1, budget, true);
            }
            Step::Reserve { operation: number, budget } => self.reserve(operation(number), budget, true),
            Step::ReserveMore { operation: number, budget } => self.reserve(operation(number), budget, false),
            Step::Identify { operation: number, is_reversed, odd, is_learned, is_sealed } => {
                let number = operation(number);
                self.identify(number, is_reversed, odd, is_learned);
                if is_sealed {
                    self.seal(number);
                }
            }
            Step::Seal { operation: number } => self.seal(operation(number)),
            Step::End { operation: number, outcome } => self.end(operation(number), outcome),
            Step::Cancel { operation: number } => {
                let Some(client) = self.clients.get(operation(number)) else { return };
                let (id, by) = (client.id, Principal::Uid(1));
                let events = self.decide(|state| cancel(state, id, &by, self.now())).unwrap();
                self.apply(&events);
                if self.state.operation(id).unwrap().state == OperationState::Cancelled {
                    self.clients.retain(|client| client.id != id);
                }
            }
            Step::Evict { parts, content, is_dry } => self.evict(&parts, content, is_dry),
            Step::Out { is_opened } => self.out(is_opened),
            Step::Free { zombie, part } => self.free(zombie, part),
            Step::Open { content } => {
                let digest = digest(content);
                if !self.open.remove(&digest) && self.naive.sealed(digest).is_some() {
                    self.open.insert(digest);
                }
            }
            Step::Shrink { budget } => self.shrink(budget),
            Step::Grant { model, component, priority, is_use } => {
                self.grant(model, component, priority, is_use);
            }
            Step::Resume { lease, is_own } => self.resume(lease, is_own),
            Step::EndLease { lease } => {
                let Some(id) = self.lease(lease) else { return };
                let events = self.decide(|state| end(state, id, None, self.now()));
                self.apply(&events);
                self.naive.end_lease(id);
                assert_eq!(self.decide(|state| end(state, id, None, self.now())), [], "ended again");
                self.seen.insert("lease ended");
            }
            Step::Tick => self.tick(),
            Step::Policy { eviction, ttl_ms } => {
                let idle_ttl = ttl_ms.map(Duration::from_millis);
                let policy = CachePolicy { eviction, idle_ttl, ..CachePolicy::default() };
                self.apply(&[Event::CachePolicyChanged(Arc::new(policy.clone()))]);
                self.naive.policy = policy;
            }
            Step::Notes { model, notes: Notes { is_pinned, component, ttl_ms } } => {
                let names = MODELS[model].iter().map(|(name, _)| (*name).to_owned());
                let pinned_components = component
                    .map_or(Vec::new(), |place| names.skip(place % MODELS[model].len()).take(1).collect());
                self.models[model].config = ModelConfig {
                    is_pinned,
                    pinned_components,
                    cache_idle_ttl: ttl_ms.map(Duration::from_millis),
                    ..ModelConfig::default()
                };
                self.list(model);
            }
            Step::Learn { model, component } => {
                let entry = &mut self.models[model];
                let component = component % entry.contents.len();
                if !entry.known.remove(&component) {
                    entry.known.insert(component);
                }
                self.list(model);
            }
            Step::Rewrite { model, component, content } => {
                let entry = &mut self.models[model];
                let component = component % entry.contents.len();
                entry.contents[component] = content;
                entry.known.clear();
                self.list(model);
            }
            Step::Catalog { model } => {
                self.models[model].is_listed ^= true;
                self.list(model);
            }
            Step::Pass { ms } => {
                self.naive.now.service.0 += ms;
                self.naive.now.wall.0 += 1;
            }
            Step::Restart { found } => self.restart(found),
        }
        self.agree();
    }

    pub(crate) fn agree(&self) {
        let records: Vec<Record> = self.state.records().collect();
        assert_eq!(
            self.mirror.values().collect::<Vec<_>>(),
            records.iter().collect::<Vec<_>>(),
            "what watchers know"
        );
        self.naive.agree(&self.state);
    }

    /// Makes the catalog say what the world has.
    pub(crate) fn list(&mut self, number: usize) {
        let Entry { contents, known, config, is_listed } = &self.models[number];
        let id = model_id(number);
        if *is_listed {
            let model = model(number, contents, known, config);
            self.naive.models.insert(id, model.clone());
            self.apply(&[Event::ModelRecorded(Arc::new(model))]);
        } else if self.naive.models.remove(&id).is_some() {
            self.apply(&[Event::ModelForgotten { id }]);
        }
    }
}

/// The places of a model's components that are meant: one, or all.
pub(crate) fn places(model: usize, component: Option<usize>) -> Vec<usize> {
    let count = MODELS[model].len();
    component.map_or_else(|| (0..count).collect(), |component| vec![component % count])
}
