//! A watcher's own copy of the state, built from nothing but the messages, in the simplest way that the contract
//! allows. Strict: whatever the contract forbids is an error here.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use hoist_wire::v1;
use hoist_wire::v1::change::Kind;
use hoist_wire::v1::resource::Value;
use hoist_wire::v1::watch_response::Event;

/// What a watcher knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mirror {
    pub resources: BTreeMap<String, v1::Resource>,
    /// Resume from here. Unset: no snapshot has ended yet.
    pub position: Option<v1::Position>,
    in_snapshot: bool,
}

impl Mirror {
    /// A mirror that waits for its snapshot.
    #[must_use]
    pub fn new() -> Self {
        Self { in_snapshot: true, ..Self::default() }
    }

    /// Takes the next message; an error is a broken promise of the server.
    ///
    /// # Errors
    /// When the message breaks the contract.
    pub fn take(&mut self, message: v1::WatchResponse) -> Result<()> {
        match message.event.context("a message without an event")? {
            Event::Snapshot(chunk) => {
                ensure!(self.in_snapshot, "a snapshot chunk after the snapshot's end");
                for resource in chunk.resources {
                    let name = resource.name.clone();
                    ensure!(
                        self.resources.insert(name.clone(), resource).is_none(),
                        "{name} twice in a snapshot"
                    );
                }
            }
            Event::SnapshotEnd(end) => {
                ensure!(self.in_snapshot, "a second end of the snapshot");
                self.in_snapshot = false;
                ensure!(end.resources == self.resources.len() as u64, "the snapshot's count is wrong");
                self.position = Some(end.position.context("a snapshot end without a position")?);
            }
            Event::Delta(delta) => {
                self.advance(delta.position.context("a delta without a position")?, true)?;
                ensure!(!delta.changes.is_empty(), "an empty delta");
                let mut seen = std::collections::BTreeSet::new();
                for change in delta.changes {
                    ensure!(seen.insert(change.name.clone()), "{} twice in a delta", change.name);
                    self.change(change)?;
                }
            }
            Event::Mark(mark) => self.advance(mark.position.context("a mark without a position")?, false)?,
            Event::Progress(sample) => {
                ensure!(!self.in_snapshot, "progress before the snapshot's end");
                for operation in sample.operations {
                    ensure!(
                        self.resources.contains_key(&operation.name),
                        "progress of unknown {}",
                        operation.name
                    );
                }
            }
        }
        Ok(())
    }

    /// How many resources have names that begin so.
    #[must_use]
    pub fn count(&self, prefix: &str) -> usize {
        self.resources.keys().filter(|name| name.starts_with(prefix)).count()
    }

    /// Every device.
    pub fn devices(&self) -> impl Iterator<Item = &v1::Device> {
        self.resources.values().filter_map(|resource| match &resource.value {
            Some(Value::Device(device)) => Some(device),
            _ => None,
        })
    }

    /// Every replica.
    pub fn replicas(&self) -> impl Iterator<Item = &v1::Replica> {
        self.resources.values().filter_map(|resource| match &resource.value {
            Some(Value::Replica(replica)) => Some(replica),
            _ => None,
        })
    }

    /// Every segment.
    pub fn segments(&self) -> impl Iterator<Item = &v1::Segment> {
        self.resources.values().filter_map(|resource| match &resource.value {
            Some(Value::Segment(segment)) => Some(segment),
            _ => None,
        })
    }

    /// Every operation.
    pub fn operations(&self) -> impl Iterator<Item = &v1::OperationMetadata> {
        self.resources.values().filter_map(|resource| match &resource.value {
            Some(Value::Operation(operation)) => Some(operation),
            _ => None,
        })
    }

    fn advance(&mut self, to: v1::Position, strictly: bool) -> Result<()> {
        let at = self.position.context("a position before the snapshot's end")?;
        ensure!(to.epoch == at.epoch, "the epoch changed within a watch");
        let forward = if strictly { to.revision > at.revision } else { to.revision >= at.revision };
        ensure!(forward, "revision {} after {}", to.revision, at.revision);
        self.position = Some(to);
        Ok(())
    }

    fn change(&mut self, change: v1::Change) -> Result<()> {
        let name = change.name.clone();
        match change.kind() {
            Kind::Unspecified => bail!("a change of no kind"),
            Kind::Added => {
                let resource = change.resource.context("ADDED without a resource")?;
                ensure!(resource.name == name && change.mask.is_none(), "ADDED {name} is inconsistent");
                ensure!(
                    self.resources.insert(name.clone(), resource).is_none(),
                    "ADDED {name}, which was there"
                );
            }
            Kind::Removed => {
                ensure!(
                    change.resource.is_none() && change.mask.is_none(),
                    "REMOVED {name} carries more than a name"
                );
                ensure!(self.resources.remove(&name).is_some(), "REMOVED {name}, which was not there");
            }
            Kind::Modified => {
                let part = change.resource.context("MODIFIED without a resource")?;
                let mask = change.mask.context("MODIFIED without a mask")?;
                let known =
                    self.resources.get_mut(&name).with_context(|| format!("MODIFIED unknown {name}"))?;
                merge(known, &part, &mask.paths)?;
            }
        }
        Ok(())
    }
}

/// Field by field, written out: an oracle must not share the server's generic code.
fn merge(known: &mut v1::Resource, part: &v1::Resource, paths: &[String]) -> Result<()> {
    ensure!(known.name == part.name, "MODIFIED carries another name");
    known.position = part.position;
    for path in paths {
        match (&mut known.value, &part.value) {
            (Some(Value::Machine(known)), Some(Value::Machine(part))) => match path.as_str() {
                "machine.state" => known.state = part.state,
                "machine.version" => known.version.clone_from(&part.version),
                "machine.process_id" => known.process_id = part.process_id,
                "machine.start_time" => known.start_time = part.start_time,
                "machine.measurements" => known.measurements.clone_from(&part.measurements),
                _ => bail!("unknown path {path}"),
            },
            (Some(Value::Operation(known)), Some(Value::Operation(part))) => match path.as_str() {
                "operation.state" => known.state = part.state,
                "operation.start_time" => known.start_time = part.start_time,
                "operation.end_time" => known.end_time = part.end_time,
                "operation.attempts" => known.attempts = part.attempts,
                "operation.cancel_requested" => known.cancel_requested = part.cancel_requested,
                "operation.error" => known.error.clone_from(&part.error),
                _ => bail!("path {path} never changes"),
            },
            (Some(Value::Condition(known)), Some(Value::Condition(part))) => match path.as_str() {
                "condition.severity" => known.severity = part.severity,
                "condition.message" => known.message.clone_from(&part.message),
                "condition.advice" => known.advice.clone_from(&part.advice),
                "condition.since_time" => known.since_time = part.since_time,
                "condition.details" => known.details.clone_from(&part.details),
                _ => bail!("path {path} never changes"),
            },
            (Some(Value::Model(known)), Some(Value::Model(part))) => merge_model(known, part, path)?,
            (Some(Value::Segment(known)), Some(Value::Segment(part))) => match path.as_str() {
                "segment.state" => known.state = part.state,
                "segment.size_bytes" => known.size_bytes = part.size_bytes,
                "segment.type" => known.r#type.clone_from(&part.r#type),
                "segment.priority" => known.priority = part.priority,
                "segment.models" => known.models.clone_from(&part.models),
                "segment.seal_time" => known.seal_time = part.seal_time,
                "segment.zombie" => known.zombie = part.zombie,
                "segment.eviction" => known.eviction.clone_from(&part.eviction),
                _ => bail!("path {path} never changes"),
            },
            (Some(Value::Lease(known)), Some(Value::Lease(part))) => match path.as_str() {
                "lease.state" => known.state = part.state,
                "lease.process_id" => known.process_id = part.process_id,
                "lease.size_bytes" => known.size_bytes = part.size_bytes,
                _ => bail!("path {path} never changes"),
            },
            (Some(Value::Device(known)), Some(Value::Device(part))) => match path.as_str() {
                "device.state" => known.state = part.state,
                "device.model" => known.model.clone_from(&part.model),
                "device.capacity_bytes" => known.capacity_bytes = part.capacity_bytes,
                "device.used_bytes" => known.used_bytes = part.used_bytes,
                "device.free_bytes" => known.free_bytes = part.free_bytes,
                "device.mapped_bytes" => known.mapped_bytes = part.mapped_bytes,
                "device.maps_segments" => known.maps_segments = part.maps_segments,
                "device.dtypes" => known.dtypes.clone_from(&part.dtypes),
                "device.libraries" => known.libraries.clone_from(&part.libraries),
                "device.worker" => known.worker.clone_from(&part.worker),
                "device.cordoned" => known.cordoned = part.cordoned,
                "device.granularity_bytes" => known.granularity_bytes = part.granularity_bytes,
                "device.alignment_bytes" => known.alignment_bytes = part.alignment_bytes,
                "device.others_bytes" => known.others_bytes = part.others_bytes,
                "device.lent_bytes" => known.lent_bytes = part.lent_bytes,
                "device.lent_processes" => known.lent_processes = part.lent_processes,
                "device.bus_bytes_per_second" => known.bus_bytes_per_second = part.bus_bytes_per_second,
                "device.memory_node" => known.memory_node = part.memory_node,
                "device.problem" => known.problem.clone_from(&part.problem),
                "device.cordon_reason" => known.cordon_reason.clone_from(&part.cordon_reason),
                _ => bail!("path {path} never changes"),
            },
            (Some(Value::Replica(known)), Some(Value::Replica(part))) => match path.as_str() {
                "replica.state" => known.state = part.state,
                "replica.models" => known.models.clone_from(&part.models),
                "replica.priority" => known.priority = part.priority,
                "replica.own_bytes" => known.own_bytes = part.own_bytes,
                "replica.mapped_bytes" => known.mapped_bytes = part.mapped_bytes,
                "replica.tensors" => known.tensors = part.tensors,
                "replica.load_time" => known.load_time = part.load_time,
                "replica.failure" => known.failure.clone_from(&part.failure),
                _ => bail!("path {path} never changes"),
            },
            _ => bail!("MODIFIED {} carries another kind of resource", known.name),
        }
    }
    Ok(())
}

fn merge_model(known: &mut v1::Model, part: &v1::Model, path: &str) -> Result<()> {
    match path {
        "model.base" => known.base.clone_from(&part.base),
        "model.candidates" => known.candidates.clone_from(&part.candidates),
        "model.components" => known.components.clone_from(&part.components),
        "model.confidence" => known.confidence = part.confidence,
        "model.display_name" => known.display_name.clone_from(&part.display_name),
        "model.dtypes" => known.dtypes.clone_from(&part.dtypes),
        "model.etag" => known.etag.clone_from(&part.etag),
        "model.findings" => known.findings.clone_from(&part.findings),
        "model.format" => known.format.clone_from(&part.format),
        "model.modify_time" => known.modify_time = part.modify_time,
        "model.notes" => known.notes.clone_from(&part.notes),
        "model.parameter_count" => known.parameter_count = part.parameter_count,
        "model.path" => known.path.clone_from(&part.path),
        "model.path_bytes" => known.path_bytes.clone_from(&part.path_bytes),
        "model.prediction_type" => known.prediction_type.clone_from(&part.prediction_type),
        "model.read_time" => known.read_time = part.read_time,
        "model.resolution" => known.resolution = part.resolution,
        "model.size_bytes" => known.size_bytes = part.size_bytes,
        "model.state" => known.state = part.state,
        "model.tensor_count" => known.tensor_count = part.tensor_count,
        "model.title" => known.title.clone_from(&part.title),
        "model.type" => known.r#type.clone_from(&part.r#type),
        "model.validate_time" => known.validate_time = part.validate_time,
        "model.variant" => known.variant.clone_from(&part.variant),
        "model.verdict" => known.verdict = part.verdict,
        _ => bail!("path {path} never changes"),
    }
    Ok(())
}
