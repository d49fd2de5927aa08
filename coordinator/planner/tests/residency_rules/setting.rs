//! A state with devices and segments, and the steps of loads as their executors take them.

use hoist_domain::{
    Bytes, DeviceFacts, DeviceId, DeviceMemory, Digest, Dtype, Epoch, Error, Eviction, EvictionReason,
    Generation, Incarnation, LoadReport, LoadSpec, Machine, MachineState, ModelId, ModelPart,
    ObservedReplica, OperationId, OperationOutput, Outcome, Placement, Position, Principal, Priority,
    ReplicaId, ReplicaState, RequestId, RequestKey, Revision, Segment, SegmentName, SegmentState,
    ServiceTime, WallTime, Work, WorkerId,
};
use hoist_planner::devices::{Registration, observed, register};
use hoist_planner::residency::{
    Heard, LoadAsk, PlaceAsk, Placed, Removal, Report, Wanted, admit, place, place_early,
};
use hoist_planner::{Event, Limits, Moment, State, Submission, finish, schedule, submit};
use uuid::Uuid;

pub(crate) const EPOCH: Epoch = Epoch(7);

pub(crate) fn now(second: i64) -> Moment {
    Moment { wall: WallTime(second * 1_000_000), service: ServiceTime(1) }
}

pub(crate) fn digest(number: u8) -> Digest {
    Digest([number; 32])
}

pub(crate) fn model(number: u8) -> ModelId {
    ModelId(Uuid::from_u128(number.into()))
}

pub(crate) fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

/// A model of components of one content and size each.
pub(crate) fn wanted(of: u8, contents: &[(u8, u64)]) -> Vec<Wanted> {
    let part = |(content, bytes): &(u8, u64)| Wanted {
        model: model(of),
        component: format!("c{content}").into(),
        digest: Some(digest(*content)),
        dtype: None,
        bytes: Bytes(*bytes),
        tensors: 0,
    };
    contents.iter().map(part).collect()
}

pub(crate) fn ask(parts: Vec<Wanted>, placement: Placement) -> LoadAsk {
    LoadAsk { parts, placement, priority: Priority::Normal, force: false }
}

pub(crate) struct Setting {
    pub(crate) state: State,
    sequence: u128,
}

impl Setting {
    /// Devices, with what each holds, and every content in RAM.
    pub(crate) fn new(devices: &[(&str, u64)]) -> Self {
        let machine = Machine {
            state: MachineState::Serving,
            version: String::new(),
            process_id: 1,
            started_at: WallTime(0),
            measurements: Vec::new(),
        };
        let position = Position { epoch: EPOCH, revision: Revision(1) };
        let mut setting = Self { state: State::restore(position, machine, [], [], []), sequence: 0 };
        for number in 0..=40 {
            setting.cached(number);
        }
        for (name, capacity) in devices {
            setting.serves(name, *capacity);
        }
        setting
    }

    pub(crate) fn cached(&mut self, number: u8) {
        let segment = Segment {
            name: SegmentName::Content(digest(number)),
            state: SegmentState::Sealed,
            bytes: Bytes(1),
            is_raw: false,
            component_type: None,
            priority: Priority::Normal,
            wanted_by: [].into(),
            sealed_at: None,
            is_zombie: false,
            eviction: None,
        };
        self.state.apply(&hoist_planner::cache::adopt(
            vec![segment],
            Vec::new(),
            std::time::Duration::ZERO,
            now(0),
        ));
    }

    /// It is in RAM no more.
    pub(crate) fn evicts(&mut self, number: u8) {
        let eviction = Eviction { reason: EvictionReason::Asked, beneficiary: None };
        let digest = digest(number);
        let events = [
            Event::SegmentEvicting { digest, eviction, at: ServiceTime(2) },
            Event::SegmentOut { digest, still_open: None },
        ];
        self.apply(&events);
    }

    fn number(&mut self) -> u128 {
        self.sequence += 1;
        self.sequence
    }

    pub(crate) fn apply(&mut self, events: &[Event]) {
        self.state.apply(events);
    }

    /// Its worker registers, and has nothing.
    pub(crate) fn serves(&mut self, name: &str, capacity: u64) {
        let id = device(name);
        let session = u64::try_from(self.number()).unwrap();
        let ask = Registration {
            worker: WorkerId(Uuid::from_u128(1)),
            incarnation: Incarnation(Uuid::from_u128(session.into())),
            session,
            facts: DeviceFacts {
                id,
                model: String::new(),
                capacity: Bytes(capacity),
                maps_segments: name.starts_with("cpu"),
                granule: Bytes(0),
                alignment: Bytes(0),
                bus: Bytes(0),
                node: None,
                dtypes: vec![Dtype::F16],
                libraries: Vec::new(),
            },
            process: None,
            release: String::new(),
            taken: None,
        };
        let events = register(&self.state, &ask, EPOCH, now(0)).unwrap();
        self.apply(&events);
        let heard = self.says(name, true, Vec::new(), Vec::new());
        assert_eq!(heard, Heard::Applied);
    }

    /// Its worker tells that nothing is there any more.
    pub(crate) fn loses(&mut self, name: &str) {
        let gone = self.state.residency().on(device(name)).map(|one| Removal {
            id: one.id,
            expected: one.own,
            returned: one.own,
        });
        let gone = gone.collect();
        assert_eq!(self.says(name, false, Vec::new(), gone), Heard::Applied);
    }

    /// The newest of what is desired of a device.
    pub(crate) fn generation(&self, name: &str) -> u64 {
        self.state.residency().generation(device(name))
    }

    /// What a worker says that has taken the newest of what is desired; applied if it counts.
    pub(crate) fn says(
        &mut self,
        name: &str,
        is_full: bool,
        replicas: Vec<ObservedReplica>,
        removed: Vec<Removal>,
    ) -> Heard {
        self.tells(name, is_full, self.generation(name), replicas, removed)
    }

    /// What one says that has taken this: what has changed.
    pub(crate) fn says_of(
        &mut self,
        name: &str,
        taken: u64,
        replicas: Vec<ObservedReplica>,
        removed: Vec<Removal>,
    ) -> Heard {
        self.tells(name, false, taken, replicas, removed)
    }

    fn tells(
        &mut self,
        name: &str,
        is_full: bool,
        number: u64,
        replicas: Vec<ObservedReplica>,
        removed: Vec<Removal>,
    ) -> Heard {
        let id = device(name);
        let known = self.state.devices().get(id).unwrap();
        let (session, capacity) = (known.worker.session, known.facts.as_ref().unwrap().capacity.0);
        let answers = Some(Generation { epoch: EPOCH, number });
        let report = Report { is_full, answers, replicas, removed, problem: String::new() };
        let told = |one: &ObservedReplica| one.own.0 + one.mapped.0;
        let told: u64 = report.replicas.iter().map(told).sum();
        let known: u64 = self
            .state
            .residency()
            .on(id)
            .filter(|one| report.replicas.iter().all(|told| told.id != one.id))
            .filter(|one| report.removed.iter().all(|gone| gone.id != one.id))
            .map(|one| one.own.0 + one.mapped.0)
            .sum();
        let used = told.saturating_add(known).min(capacity);
        let memory =
            DeviceMemory { used: Bytes(used), free: Bytes(capacity - used), ..DeviceMemory::default() };
        let (events, heard) = observed(&self.state, id, session, memory, &report, now(0));
        self.apply(&events);
        heard
    }

    /// What its worker would say of a replica in this state.
    pub(crate) fn seen(&self, id: ReplicaId, state: ReplicaState) -> ObservedReplica {
        let known = self.state.residency().replica(id).unwrap();
        let bytes = if state == ReplicaState::Active { known.planned } else { Bytes(0) };
        ObservedReplica {
            id,
            digest: known.digest,
            dtype: known.dtype,
            state,
            own: bytes,
            mapped: Bytes(0),
            tensors: 1,
            load_time: None,
            failure: None,
        }
    }

    /// Its worker brings everything there that is desired, and gives back what is not.
    pub(crate) fn catches_up(&mut self, name: &str) {
        let residency = self.state.residency();
        let gone: Vec<_> = residency.on(device(name)).filter(|one| !residency.is_wanted(one.id)).collect();
        let removed =
            gone.iter().map(|one| Removal { id: one.id, expected: one.own, returned: one.own }).collect();
        let desired: Vec<ReplicaId> = residency
            .desired(device(name))
            .iter()
            .map(|one| one.id)
            .filter(|id| self.is_waiting(*id))
            .collect();
        let there = desired.into_iter().map(|id| self.seen(id, ReplicaState::Active)).collect();
        assert_eq!(self.says(name, false, there, removed), Heard::Applied);
    }

    fn is_waiting(&self, id: ReplicaId) -> bool {
        self.state.residency().replica(id).is_some_and(|one| one.state != ReplicaState::Active)
    }

    /// An operation that runs, on a model of its own.
    pub(crate) fn begun(&mut self) -> OperationId {
        let number = self.number();
        self.begun_on(ModelId(Uuid::from_u128(number)), Principal::Hoist)
    }

    /// An operation that runs: somebody's load of a model.
    pub(crate) fn begun_on(&mut self, model: ModelId, principal: Principal) -> OperationId {
        let number = self.number();
        let spec = LoadSpec {
            parts: vec![ModelPart { model, components: Vec::new() }],
            placement: Placement::Any,
            dtype: None,
            priority: Priority::Normal,
            validate: false,
            allow: Vec::new(),
            force: false,
            restores: Vec::new(),
        };
        let id = RequestId(Uuid::from_u128(number));
        let submission = Submission {
            key: RequestKey { principal, method: "test".into(), id },
            content: hoist_domain::ContentHash([0; 32]),
            work: Work::LoadModel(spec),
            deadline: std::time::Duration::from_secs(1),
            new_id: OperationId(Uuid::from_u128(number)),
        };
        let limits =
            Limits { request_ids: 1_000, active_operations: 1_000, retention: std::time::Duration::ZERO };
        let submitted = submit(&self.state, &submission, now(0), &limits).unwrap();
        self.apply(&submitted.events);
        let events = schedule(&self.state, now(0));
        self.apply(&events);
        submitted.operation
    }

    /// Places a load.
    pub(crate) fn places(&mut self, operation: OperationId, load: LoadAsk) -> Result<Placed, Error> {
        let mut ids = Vec::new();
        for _ in &load.parts {
            ids.push(ReplicaId(Uuid::from_u128(self.number())));
        }
        let (events, placed) = place(&self.state, &PlaceAsk { operation, load, ids, is_use: true }, now(1))?;
        self.apply(&events);
        Ok(placed)
    }

    /// Admits a load, and then places what its operation holds by now.
    pub(crate) fn places_early(&mut self, operation: OperationId, load: LoadAsk, held: &[u8]) {
        if self.state.residency().load(operation).is_none() {
            let (events, _) = admit(&self.state, operation, &load).unwrap();
            self.apply(&events);
        }
        let ids = load.parts.iter().map(|_| ReplicaId(Uuid::from_u128(self.number()))).collect();
        let held = held.iter().map(|number| digest(*number)).collect();
        let ask = PlaceAsk { operation, load, ids, is_use: false };
        let events = place_early(&self.state, &ask, &held, now(1)).unwrap();
        self.apply(&events);
    }

    /// A load from its begin to its end; when it is recorded.
    pub(crate) fn loads(&mut self, load: LoadAsk, second: i64) -> Result<DeviceId, Error> {
        let operation = self.begun();
        let placed = match self.places(operation, load) {
            Ok(placed) => placed,
            Err(error) => {
                self.ends(operation, Outcome::Failed(error.clone()), second);
                return Err(error);
            }
        };
        let Placed::On { offer, .. } = placed else { panic!("all of it is in RAM") };
        self.catches_up(&offer.device.to_string());
        self.ends(operation, done(offer.device), second);
        Ok(offer.device)
    }

    pub(crate) fn ends(&mut self, operation: OperationId, outcome: Outcome, second: i64) {
        let events = finish(&self.state, operation, outcome, now(second));
        self.apply(&events);
    }

    /// Models that shall be on a device.
    pub(crate) fn intended(&self, name: &str) -> Vec<ModelId> {
        let intents = self.state.residency().intents().filter(|intent| intent.device == device(name));
        intents.map(|intent| intent.model).collect()
    }
}

pub(crate) fn done(device: DeviceId) -> Outcome {
    Outcome::Output(OperationOutput::LoadModel(Box::new(LoadReport {
        device,
        components: Vec::new(),
        read: Bytes(0),
        took: std::time::Duration::ZERO,
        unloaded: Vec::new(),
        left_out: Vec::new(),
        reasons: Vec::new(),
    })))
}
