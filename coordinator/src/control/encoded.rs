//! Deltas as watchers get them: encoded once, when they are published.
//!
//! For every change the bytes of one `Change` message as an unfiltered watcher sees it, and what a filter needs to
//! decide. The fields of a MODIFIED are found by comparing the two encodings, so no resource type has code for it.

use std::ops::Range;

use bytes::Bytes;
use hoist_domain::{OperationState, Position, ResourceName};
use hoist_planner::{Change, Delta, Record, Resource};
use hoist_wire::{cache, encode, mask, models, residency, v1, workers};
use prost::Message;

// Field numbers of hoist.api.v1.Delta.
const DELTA_POSITION: u32 = 1;
const DELTA_CHANGES: u32 = 2;

/// Everything that changed at one revision, ready to send.
#[derive(Debug)]
pub struct EncodedDelta {
    pub position: Position,
    pub changes: Box<[ChangeBytes]>,
    /// A whole `Delta` message, for those who see everything. Each change is a part of it, and kept nowhere else.
    pub whole: Bytes,
}

/// One change, ready to send.
#[derive(Debug)]
pub struct ChangeBytes {
    pub name: ResourceName,
    /// The operation's states before and after, for filters.
    pub states: (Option<OperationState>, Option<OperationState>),
    pub kind: v1::change::Kind,
    /// Where its `Change` message lies in the whole.
    place: Range<usize>,
    /// An operation as it is now: its state may make it enter a filter, and then all of it is told. Nothing else can
    /// enter one, so nothing else is kept from being forgotten by the history.
    entering: Option<Box<Record>>,
}

impl EncodedDelta {
    #[must_use]
    pub fn new(delta: &Delta) -> Self {
        let mut whole = head(delta.position);
        let changes = delta.changes.iter().map(|change| ChangeBytes::new(change, &mut whole)).collect();
        // Without the room it has grown into: it is kept for long.
        whole.shrink_to_fit();
        Self { position: delta.position, changes, whole: whole.into() }
    }

    /// The `Change` message of one of its changes.
    #[must_use]
    pub fn encoded(&self, change: &ChangeBytes) -> Bytes {
        self.whole.slice(change.place.clone())
    }

    /// Bytes that this holds on the heap, near enough for a bound.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// Of an operation, which nobody but the history may hold any more.
        const RECORD: usize = 512;
        let records = self.changes.iter().filter(|change| change.entering.is_some()).count();
        size_of::<Self>() + self.whole.len() + size_of_val(&*self.changes) + records * RECORD
    }
}

fn head(position: Position) -> Vec<u8> {
    let mut delta = Vec::new();
    mask::put_message(&mut delta, DELTA_POSITION, &encode::position(position).encode_to_vec());
    delta
}

/// A `Delta` message from `Change` messages.
#[must_use]
pub fn assemble(position: Position, changes: impl Iterator<Item = Bytes>) -> Bytes {
    let mut delta = head(position);
    for change in changes {
        mask::put_message(&mut delta, DELTA_CHANGES, &change);
    }
    delta.into()
}

impl ChangeBytes {
    /// Encodes a change at the end of its delta.
    fn new(change: &Change, delta: &mut Vec<u8>) -> Self {
        let (kind, encoded) = match (&change.before, &change.after) {
            (_, None) => (v1::change::Kind::Removed, change_removed(change.name)),
            (None, Some(after)) => (v1::change::Kind::Added, change_added(after)),
            (Some(before), Some(after)) => (v1::change::Kind::Modified, change_modified(before, after)),
        };
        mask::put_message(delta, DELTA_CHANGES, &encoded);
        let is_operation = |record: &&Record| matches!(record.resource, Resource::Operation(_));
        Self {
            name: change.name,
            states: change.operation_states(),
            kind,
            place: delta.len() - encoded.len()..delta.len(),
            entering: change.after.as_ref().filter(is_operation).cloned().map(Box::new),
        }
    }

    /// Whether the resource is there after the change.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.kind != v1::change::Kind::Removed
    }

    /// All of it, for a watcher who has not seen it yet; none where nobody can come to see it by this change.
    #[must_use]
    pub fn entering(&self) -> Option<&Record> {
        self.entering.as_deref()
    }
}

/// A `Change` that tells of a resource in full.
#[must_use]
pub fn change_added(record: &Record) -> Bytes {
    let change = v1::Change {
        kind: v1::change::Kind::Added.into(),
        name: record.name().to_string(),
        resource: Some(resource(record)),
        mask: None,
    };
    change.encode_to_vec().into()
}

/// A `Change` that tells that a resource is gone, or out of sight.
#[must_use]
pub fn change_removed(name: ResourceName) -> Bytes {
    let change = v1::Change {
        kind: v1::change::Kind::Removed.into(),
        name: name.to_string(),
        resource: None,
        mask: None,
    };
    change.encode_to_vec().into()
}

/// A record as the wire's resource.
#[must_use]
pub fn resource(record: &Record) -> v1::Resource {
    use v1::resource::Value;
    let value = match &record.resource {
        Resource::Machine(machine) => Value::Machine(encode::machine(machine)),
        Resource::Operation(operation) => Value::Operation(encode::operation_metadata(operation)),
        Resource::Condition(condition) => Value::Condition(encode::condition(condition)),
        Resource::Model(model) => Value::Model(models::model(model)),
        Resource::Segment(segment) => Value::Segment(cache::segment(segment)),
        Resource::Lease(lease) => Value::Lease(cache::lease(lease)),
        Resource::Device(device) => Value::Device(workers::device(device)),
        Resource::Replica(replica) => Value::Replica(residency::replica(replica)),
    };
    v1::Resource {
        name: record.name().to_string(),
        position: Some(encode::position(record.position)),
        value: Some(value),
    }
}

/// The oneof field of `Resource` that holds this kind: its number, its name, and its message.
const fn value_field(record: &Record) -> (u32, &'static str, &'static str) {
    match record.resource {
        Resource::Machine(_) => (3, "machine", "hoist.api.v1.Machine"),
        Resource::Operation(_) => (4, "operation", "hoist.api.v1.OperationMetadata"),
        Resource::Condition(_) => (5, "condition", "hoist.api.v1.Condition"),
        Resource::Model(_) => (6, "model", "hoist.api.v1.Model"),
        Resource::Segment(_) => (7, "segment", "hoist.api.v1.Segment"),
        Resource::Lease(_) => (8, "lease", "hoist.api.v1.Lease"),
        Resource::Device(_) => (9, "device", "hoist.api.v1.Device"),
        Resource::Replica(_) => (10, "replica", "hoist.api.v1.Replica"),
    }
}

fn value_bytes(record: &Record) -> Vec<u8> {
    match &record.resource {
        Resource::Machine(machine) => encode::machine(machine).encode_to_vec(),
        Resource::Operation(operation) => encode::operation_metadata(operation).encode_to_vec(),
        Resource::Condition(condition) => encode::condition(condition).encode_to_vec(),
        Resource::Model(model) => models::model(model).encode_to_vec(),
        Resource::Segment(segment) => cache::segment(segment).encode_to_vec(),
        Resource::Lease(lease) => cache::lease(lease).encode_to_vec(),
        Resource::Device(device) => workers::device(device).encode_to_vec(),
        Resource::Replica(replica) => residency::replica(replica).encode_to_vec(),
    }
}

fn change_modified(before: &Record, after: &Record) -> Bytes {
    let (number, field, message) = value_field(after);
    let difference = mask::difference(message, &value_bytes(before), &value_bytes(after));
    let header = v1::Resource {
        name: after.name().to_string(),
        position: Some(encode::position(after.position)),
        value: None,
    };
    let mut resource = header.encode_to_vec();
    mask::put_message(&mut resource, number, &difference.changed);
    let change = v1::Change {
        kind: v1::change::Kind::Modified.into(),
        name: header.name,
        resource: None,
        mask: Some(prost_types::FieldMask {
            paths: difference.fields.iter().map(|name| format!("{field}.{name}")).collect(),
        }),
    };
    let mut encoded = change.encode_to_vec();
    // Field 3 of Change; the order of fields means nothing on the wire.
    mask::put_message(&mut encoded, 3, &resource);
    encoded.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_domain::{Epoch, Machine, MachineState, Revision, WallTime};
    use std::sync::Arc;

    fn machine(state: MachineState, revision: u64) -> Record {
        Record {
            position: Position { epoch: Epoch(1), revision: Revision(revision) },
            resource: Resource::Machine(Arc::new(Machine {
                state,
                version: "1".into(),
                process_id: 7,
                started_at: WallTime(0),
                measurements: Vec::new(),
            })),
        }
    }

    #[test]
    fn the_parts_stand_where_the_contract_puts_them() {
        let (before, after) = (machine(MachineState::Serving, 1), machine(MachineState::Draining, 2));
        let position = after.position;
        let change = Change { name: ResourceName::Machine, before: Some(before), after: Some(after.clone()) };
        let encoded = EncodedDelta::new(&Delta { position, changes: vec![change] });
        let delta = v1::Delta::decode(encoded.whole.clone()).unwrap();
        assert_eq!(delta.position, Some(encode::position(position)));
        assert_eq!(v1::Change::decode(encoded.encoded(&encoded.changes[0])).unwrap(), delta.changes[0]);
        let change = &delta.changes[0];
        assert_eq!(change.mask.as_ref().unwrap().paths, ["machine.state"]);
        let partial = change.resource.as_ref().unwrap();
        assert_eq!((partial.name.as_str(), partial.position), ("machine", Some(encode::position(position))));
        let state = v1::machine::State::Draining.into();
        let expected = v1::Machine { state, ..Default::default() };
        assert_eq!(partial.value, Some(v1::resource::Value::Machine(expected)));
        let added = v1::Change::decode(change_added(&after)).unwrap();
        assert_eq!(added.resource, Some(resource(&after)));
    }
}
