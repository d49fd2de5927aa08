//! What a watcher must know: the whole state as a test has recorded it, filtered in the plainest way.
//!
//! Nothing here knows of deltas, masks or cursors. The filter is judged on messages, not on the server's types.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use hoist_planner::{Resource, State};
use hoist_wire::v1::resource::Value;
use hoist_wire::v1::watch_response::Event;
use hoist_wire::{encode, v1};

use crate::Mirror;

/// The state, by name.
pub type Resources = BTreeMap<String, v1::Resource>;

/// Every resource of a state as its message.
#[must_use]
pub fn resources(state: &State) -> Resources {
    state
        .records()
        .map(|record| {
            let (name, value) = match &record.resource {
                Resource::Machine(machine) => {
                    ("machine".to_owned(), Value::Machine(encode::machine(machine)))
                }
                Resource::Operation(operation) => (
                    format!("operations/{}", operation.id),
                    Value::Operation(encode::operation_metadata(operation)),
                ),
                Resource::Condition(condition) => (
                    format!("conditions/{}", condition.kind.as_str()),
                    Value::Condition(encode::condition(condition)),
                ),
                Resource::Model(model) => {
                    (format!("models/{}", model.id), Value::Model(hoist_wire::models::model(model)))
                }
                Resource::Segment(segment) => (
                    format!("segments/{}", segment.name),
                    Value::Segment(hoist_wire::cache::segment(segment)),
                ),
                Resource::Lease(lease) => {
                    (format!("leases/{}", lease.id), Value::Lease(hoist_wire::cache::lease(lease)))
                }
                Resource::Device(device) => {
                    (format!("devices/{}", device.id), Value::Device(hoist_wire::workers::device(device)))
                }
                Resource::Replica(replica) => (
                    format!("replicas/{}", replica.id),
                    Value::Replica(hoist_wire::residency::replica(replica)),
                ),
            };
            let position = Some(encode::position(record.position));
            (name.clone(), v1::Resource { name, position, value: Some(value) })
        })
        .collect()
}

/// What the contract says of filters: a resource must pass every field that is not empty.
#[must_use]
pub fn passes(filter: &v1::WatchFilter, resource: &v1::Resource) -> bool {
    let (kind, state) = match &resource.value {
        Some(Value::Machine(_)) => (v1::ResourceKind::Machine, None),
        Some(Value::Operation(operation)) => (v1::ResourceKind::Operation, Some(operation.state)),
        Some(Value::Condition(_)) => (v1::ResourceKind::Condition, None),
        Some(Value::Model(_)) => (v1::ResourceKind::Model, None),
        Some(Value::Segment(_)) => (v1::ResourceKind::Segment, None),
        Some(Value::Lease(_)) => (v1::ResourceKind::Lease, None),
        Some(Value::Device(_)) => (v1::ResourceKind::Device, None),
        Some(Value::Replica(_)) => (v1::ResourceKind::Replica, None),
        None => return false,
    };
    (filter.kinds.is_empty() || filter.kinds.contains(&kind.into()))
        && (filter.names.is_empty() || filter.names.contains(&resource.name))
        && (filter.operation_states.is_empty()
            || state.is_none_or(|state| filter.operation_states.contains(&state)))
}

/// The state as a test saw it, at each revision of one epoch at which it looked.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub epoch: u64,
    /// Nothing later has happened, as far as the test knows.
    pub newest: u64,
    states: BTreeMap<u64, Resources>,
}

impl Ledger {
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    pub fn record(&mut self, revision: u64, resources: Resources) {
        self.newest = self.newest.max(revision);
        self.states.insert(revision, resources);
    }

    /// At how many revisions the test looked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.states.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Whether this is what the filter shows at each recorded revision of this range.
    ///
    /// # Errors
    /// Where it is not.
    pub fn check(
        &self,
        filter: &v1::WatchFilter,
        known: &Resources,
        revisions: std::ops::RangeInclusive<u64>,
    ) -> Result<()> {
        if revisions.is_empty() {
            return Ok(());
        }
        for (revision, state) in self.states.range(revisions) {
            let mut expected = state.iter().filter(|(_, resource)| passes(filter, resource));
            let mut shown = known.iter();
            loop {
                let pair = (expected.next(), shown.next());
                ensure!(
                    pair.0 == pair.1,
                    "at revision {revision} the watcher knows {:?} where the state has {:?}",
                    pair.1,
                    pair.0
                );
                if pair.0.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// A client of one watch: believes what it is told, and compares it with the ledger at every position.
#[derive(Clone, Debug)]
pub struct Follower {
    pub filter: v1::WatchFilter,
    pub mirror: Mirror,
}

impl Follower {
    /// A client that knows nothing yet.
    #[must_use]
    pub fn new(filter: v1::WatchFilter) -> Self {
        Self { filter, mirror: Mirror::new() }
    }

    /// The revision up to which this client knows everything.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        self.mirror.position.map(|position| position.revision)
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// When it breaks the contract, or tells anything but the truth.
    pub fn take(&mut self, message: v1::WatchResponse, ledger: &Ledger) -> Result<()> {
        // A message that moves on says that nothing visible happened in between.
        let silent = match (&message.event, self.revision()) {
            (Some(Event::Delta(delta)), Some(at)) => {
                delta.position.map(|to| (at, to.revision.saturating_sub(1)))
            }
            (Some(Event::Mark(mark)), Some(at)) => mark.position.map(|to| (at, to.revision)),
            _ => None,
        };
        if let Some((at, until)) = silent {
            ledger
                .check(&self.filter, &self.mirror.resources, at.saturating_add(1)..=until)
                .with_context(|| format!("silence from revision {at} to {until}"))?;
        }
        self.mirror.take(message)?;
        if let Some(position) = self.mirror.position {
            ensure!(position.epoch == ledger.epoch, "epoch {} in epoch {}", position.epoch, ledger.epoch);
            ensure!(position.revision <= ledger.newest, "revision {} has not happened", position.revision);
            self.check_at(position.revision, ledger)?;
        }
        Ok(())
    }

    /// Whether this client knows what is to be known at a revision.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_at(&self, revision: u64, ledger: &Ledger) -> Result<()> {
        ledger.check(&self.filter, &self.mirror.resources, revision..=revision)
    }
}
