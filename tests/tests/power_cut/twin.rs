//! A coordinator that never meets a fault: what the one under test must be like once its faults are over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use hoist_coordinator::control::Restored;
use hoist_domain::{
    CachePolicy, Machine, Measurement, Model, ModelId, Operation, OperationId, Position, RequestKey,
    Revision, ServiceTime,
};
use hoist_planner::{RequestRecord, State};
use hoist_store::{Batch, CommitError, ExportError, ExportHeader, Exporter, Row, Store};
use hoist_tests::simulation::{Coordinator, World, machine};

/// Everything that must survive. Operations with the revision of their last change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Durable {
    pub(crate) operations: BTreeMap<OperationId, (Revision, Operation)>,
    pub(crate) requests: BTreeMap<RequestKey, RequestRecord>,
    pub(crate) measurements: Vec<Measurement>,
    pub(crate) models: BTreeMap<ModelId, (Revision, Model)>,
    /// With the revision of its last change, if it ever was changed.
    pub(crate) policy: Option<(Revision, CachePolicy)>,
}

impl Durable {
    pub(crate) fn of(state: &State) -> Self {
        Self {
            operations: state
                .operations_with_position()
                .map(|(at, operation)| (operation.id, (at.revision, operation.as_ref().clone())))
                .collect(),
            requests: state.requests().map(|request| (request.key.clone(), request.clone())).collect(),
            measurements: state.machine().measurements.clone(),
            models: state
                .models()
                .with_position()
                .map(|(at, model)| (model.id, (at.revision, model.as_ref().clone())))
                .collect(),
            policy: state.cache().changed_policy().map(|(at, policy)| (at, policy.clone())),
        }
    }

    /// What is not the same in the other one, if anything is.
    pub(crate) fn differs_from(&self, due: &Self) -> Option<String> {
        let mut told = String::new();
        let mut tell = |what: String| told = format!("{told}\n{what}");
        let ids: BTreeSet<_> = self.operations.keys().chain(due.operations.keys()).collect();
        for id in ids {
            let (found, due) = (self.operations.get(id), due.operations.get(id));
            if found != due {
                tell(format!("found {found:?}\n  due {due:?}"));
            }
        }
        let keys: BTreeSet<_> = self.requests.keys().chain(due.requests.keys()).collect();
        for key in keys {
            let (found, due) = (self.requests.get(key), due.requests.get(key));
            if found != due {
                tell(format!("found {found:?}\n  due {due:?}"));
            }
        }
        let ids: BTreeSet<_> = self.models.keys().chain(due.models.keys()).collect();
        for id in ids {
            let (found, due) = (self.models.get(id), due.models.get(id));
            if found != due {
                tell(format!("found {found:?}\n  due {due:?}"));
            }
        }
        if self.measurements != due.measurements {
            tell(format!("found {:?}\n  due {:?}", self.measurements, due.measurements));
        }
        if self.policy != due.policy {
            tell(format!("found {:?}\n  due {:?}", self.policy, due.policy));
        }
        (!told.is_empty()).then_some(told)
    }

    /// The same without revisions, which differ where one coordinator had more to tell than the other.
    pub(crate) fn content(mut self) -> Self {
        let operations = self.operations.values_mut().map(|(revision, _)| revision);
        let models = self.models.values_mut().map(|(revision, _)| revision);
        let policy = self.policy.iter_mut().map(|(revision, _)| revision);
        operations.chain(models).chain(policy).for_each(|revision| *revision = Revision(0));
        self
    }
}

/// What the last commit of a store says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) revision: Revision,
    pub(crate) service_time: ServiceTime,
}

/// Takes every commit, and keeps nothing but its head.
struct Perfect(Arc<Mutex<Head>>);

impl Store for Perfect {
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Head { revision: batch.revision, service_time: batch.service_time };
        Ok(())
    }

    fn reopen(&mut self) -> Result<Revision, CommitError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).revision)
    }
}

/// Says that it has exported, and keeps nothing.
struct Forgetful;

impl Exporter for Forgetful {
    fn export(&mut self, _: ExportHeader, _: &mut dyn Iterator<Item = Row>) -> Result<(), ExportError> {
        Ok(())
    }
}

/// What a store may hold after a fault.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) state: State,
    pub(crate) head: Head,
}

impl Candidate {
    /// Whether this is what was found.
    pub(crate) fn is(&self, found: &Coordinator) -> bool {
        let head = Head { revision: found.restored.position().revision, service_time: found.restored_at };
        head == self.head && Durable::of(&self.state) == Durable::of(&found.restored)
    }

    /// The same after a start that has resolved what was left behind.
    pub(crate) fn recovered(&self, world: &World) -> Result<Self> {
        let Durable { operations, requests, measurements, models, policy } = Durable::of(&self.state);
        // Revisions that held nothing durable are not on the disk.
        let position = Position { revision: self.head.revision, ..self.state.position() };
        let machine = Machine { measurements, ..machine(&world.clock) };
        let state = State::restore(
            position,
            machine,
            operations.into_values(),
            requests.into_values(),
            models.into_values(),
        )
        .with_policy(policy);
        Ok(Twin::start(world, state, self.head)?.candidate())
    }
}

pub(crate) struct Twin {
    pub(crate) coordinator: Coordinator,
    head: Arc<Mutex<Head>>,
}

impl Twin {
    /// Begins where a store was opened.
    pub(crate) fn start(world: &World, state: State, opened: Head) -> Result<Self> {
        let head = Arc::new(Mutex::new(opened));
        let restored = Restored { state, left_out: Vec::new(), superseded: Vec::new() };
        let store = Box::new(Perfect(Arc::clone(&head)));
        let coordinator = world.start_with(restored, opened.service_time, store, Box::new(Forgetful))?;
        Ok(Self { coordinator, head })
    }

    /// Begins beside another one.
    pub(crate) fn of(world: &World, other: &Coordinator) -> Result<Self> {
        let head = Head { revision: other.restored.position().revision, service_time: other.restored_at };
        Self::start(world, other.restored.clone(), head)
    }

    pub(crate) fn candidate(&self) -> Candidate {
        let head = *self.head.lock().unwrap_or_else(PoisonError::into_inner);
        Candidate { state: self.coordinator.state(), head }
    }
}
