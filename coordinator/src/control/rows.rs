//! What the durable part of the state looks like as rows.
//!
//! Values are JSON: a field that is added later has a default, one that is gone is ignored, and a person can read
//! what was salvaged from a damaged store. Keys are what makes a row unique, in an order that does not matter.

use std::collections::HashSet;

use hoist_domain::{
    CachePolicy, DeviceId, DevicesPolicy, Intent, Measurement, MeasurementKind, Model, ModelId, ModelState,
    Operation, OperationId, RequestKey, Revision,
};
use hoist_planner::{Event, RequestRecord, State};
use hoist_store::{Row, Table, Write};
use serde::{Deserialize, Serialize};

/// Threads that read rows at a start. More gain little: the check of the file before it is one thread's.
const MOST_THREADS: usize = 4;

/// Rows that are worth a thread: some ten milliseconds.
const LEAST_SHARE: usize = 2_000;

#[derive(Serialize, Deserialize)]
struct Kept<T> {
    /// When it last changed.
    revision: Revision,
    value: T,
}

/// What the rows of a store mean.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) operations: Vec<(Revision, Operation)>,
    pub(super) requests: Vec<RequestRecord>,
    pub(super) measurements: Vec<Measurement>,
    pub(super) models: Vec<(Revision, Model)>,
    pub(super) policy: Option<(Revision, CachePolicy)>,
    pub(super) intents: Vec<(Revision, Intent)>,
    pub(super) devices_policy: Option<(Revision, DevicesPolicy)>,
    /// Rows that are in none of these, one line each.
    pub(super) left_out: Vec<String>,
}

fn row<T: Serialize>(table: Table, key: Vec<u8>, revision: Revision, value: &T) -> Row {
    // Serialising plain data to memory cannot fail; were it to, an empty value would be reported at the next start.
    Row { table, key, value: serde_json::to_vec(&Kept { revision, value }).unwrap_or_default() }
}

fn operation_key(id: OperationId) -> Vec<u8> {
    id.0.as_bytes().to_vec()
}

fn request_key(key: &RequestKey) -> Vec<u8> {
    serde_json::to_vec(key).unwrap_or_default()
}

fn measurement_key(kind: MeasurementKind) -> Vec<u8> {
    serde_json::to_vec(&kind).unwrap_or_default()
}

pub(super) fn operation_row(operation: &Operation, revision: Revision) -> Row {
    row(Table::Operations, operation_key(operation.id), revision, operation)
}

/// Never changes, so when it last did is of no interest.
pub(super) fn request_row(request: &RequestRecord) -> Row {
    row(Table::Requests, request_key(&request.key), Revision(0), request)
}

/// Part of the machine's record, which has a position of its own in each epoch.
pub(super) fn measurement_row(measurement: &Measurement) -> Row {
    row(Table::Measurements, measurement_key(measurement.kind), Revision(0), measurement)
}

pub(super) fn model_row(model: &Model, revision: Revision) -> Row {
    row(Table::Models, model_key(model.id), revision, model)
}

fn model_key(id: ModelId) -> Vec<u8> {
    id.0.as_bytes().to_vec()
}

/// There is one.
pub(super) fn policy_row(policy: &CachePolicy, revision: Revision) -> Row {
    row(Table::Policies, b"cache".to_vec(), revision, policy)
}

/// The other policy's key.
const DEVICES: &[u8] = b"devices";

/// There is one.
pub(super) fn devices_policy_row(policy: &DevicesPolicy, revision: Revision) -> Row {
    row(Table::Policies, DEVICES.to_vec(), revision, policy)
}

pub(super) fn intent_row(intent: &Intent, revision: Revision) -> Row {
    row(Table::Intents, intent_key(intent.device, intent.model), revision, intent)
}

fn intent_key(device: DeviceId, model: ModelId) -> Vec<u8> {
    [model.0.as_bytes(), device.to_string().as_bytes()].concat()
}

/// What an event changes on disk, given the state after it.
pub(super) fn write(event: &Event, state: &State) -> Option<Write> {
    match event {
        Event::OperationAccepted(operation) => put_operation(operation.id, state),
        Event::OperationStarted { id, .. }
        | Event::OperationCancelRequested { id }
        | Event::OperationEnded { id, .. } => put_operation(*id, state),
        Event::OperationForgotten { id } => {
            Some(Write::Delete { table: Table::Operations, key: operation_key(*id) })
        }
        Event::RequestRecorded(request) => Some(Write::Put(request_row(request))),
        Event::RequestForgotten { key } => {
            Some(Write::Delete { table: Table::Requests, key: request_key(key) })
        }
        Event::MeasurementTaken(measurement) => Some(Write::Put(measurement_row(measurement))),
        Event::ModelRecorded(model) => Some(Write::Put(model_row(model, state.position().revision))),
        Event::ModelForgotten { id } => Some(Write::Delete { table: Table::Models, key: model_key(*id) }),
        Event::CachePolicyChanged(policy) => Some(Write::Put(policy_row(policy, state.position().revision))),
        Event::DevicesPolicyChanged(policy) => {
            Some(Write::Put(devices_policy_row(policy, state.position().revision)))
        }
        Event::IntentRecorded(intent) => Some(Write::Put(intent_row(intent, state.position().revision))),
        Event::IntentRetracted { device, model } => {
            Some(Write::Delete { table: Table::Intents, key: intent_key(*device, *model) })
        }
        Event::ConditionRaised(_)
        | Event::ConditionCleared(_)
        | Event::LeaseGranted(_)
        | Event::LeaseAwaited { .. }
        | Event::LeaseEnded { .. }
        | Event::DeviceChanged(_)
        | Event::LoadAdmitted { .. }
        | Event::ReplicaPlaced(_)
        | Event::ReplicaWanted { .. }
        | Event::ReplicaUnwanted { .. }
        | Event::ReplicaChanged(_)
        | Event::ReplicaGone { .. }
        | Event::DesireRaised(_)
        | Event::SegmentAdopted { .. }
        | Event::SegmentReserved { .. }
        | Event::SegmentWanted { .. }
        | Event::SegmentUnwanted { .. }
        | Event::SegmentIdentified { .. }
        | Event::SegmentSealed { .. }
        | Event::SegmentAbandoned { .. }
        | Event::SegmentEvicting { .. }
        | Event::SegmentMerged { .. }
        | Event::SegmentOut { .. }
        | Event::ZombieFreed { .. }
        | Event::SegmentsFilled { .. }
        | Event::RoomRefused
        | Event::DrainBegan => None,
    }
}

fn put_operation(id: OperationId, state: &State) -> Option<Write> {
    state.operation(id).map(|operation| Write::Put(operation_row(operation, state.position().revision)))
}

/// Everything durable in a state, for an export: byte for byte the rows that the commits wrote.
pub(super) fn all(state: &State) -> impl Iterator<Item = Row> + '_ {
    let operations = state.operations_with_position();
    operations
        .map(|(position, operation)| operation_row(operation, position.revision))
        .chain(state.requests().map(request_row))
        .chain(state.machine().measurements.iter().map(measurement_row))
        .chain(state.models().with_position().map(|(at, model)| model_row(model, at.revision)))
        .chain(state.cache().changed_policy().map(|(at, policy)| policy_row(policy, at)))
        .chain(state.devices().changed_policy().map(|(at, policy)| devices_policy_row(policy, at)))
        .chain(state.residency().intents_with_revision().map(|(at, intent)| intent_row(intent, at)))
}

/// Reads rows back. A row that cannot be read is reported, never guessed.
///
/// On several threads, since it is most of a start with many rows; and each row's memory is free for what is made of it
/// as soon as it was read.
pub(super) fn restore(mut rows: Vec<Row>) -> Read {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MOST_THREADS);
    let share = (rows.len() / threads).max(LEAST_SHARE);
    let mut restored = std::thread::scope(|scope| {
        let mut running = Vec::new();
        while rows.len() >= share * 2 {
            let part = rows.split_off(rows.len() - share);
            running.push(scope.spawn(|| read(part)));
        }
        let mut restored = read(rows);
        for thread in running.into_iter().rev() {
            match thread.join() {
                Ok(part) => restored.extend(part),
                // As if it had happened here.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        restored
    });
    restored.measurements.sort_by_key(|measurement: &Measurement| measurement.kind);
    restored
}

impl Read {
    fn extend(&mut self, other: Self) {
        self.operations.extend(other.operations);
        self.requests.extend(other.requests);
        self.measurements.extend(other.measurements);
        self.models.extend(other.models);
        self.policy = other.policy.or(self.policy.take());
        self.intents.extend(other.intents);
        self.devices_policy = other.devices_policy.or(self.devices_policy.take());
        self.left_out.extend(other.left_out);
    }
}

fn read(rows: Vec<Row>) -> Read {
    let mut restored = Read::default();
    for row in rows {
        let read = match row.table {
            Table::Operations => parse::<Operation>(&row).map(|kept| restored.operations.push(kept)),
            Table::Requests => parse(&row).map(|(_, request)| restored.requests.push(request)),
            Table::Measurements => {
                parse(&row).map(|(_, measurement)| restored.measurements.push(measurement))
            }
            Table::Models => parse::<Model>(&row).map(|kept| restored.models.push(kept)),
            Table::Policies if row.key == DEVICES => {
                parse::<DevicesPolicy>(&row).map(|kept| restored.devices_policy = Some(kept))
            }
            Table::Policies => parse::<CachePolicy>(&row).map(|kept| restored.policy = Some(kept)),
            Table::Intents => parse::<Intent>(&row).map(|kept| restored.intents.push(kept)),
        };
        if let Err(error) = read {
            restored.left_out.push(format!(
                "{} row of {} bytes: {error}",
                row.table.as_str(),
                row.value.len()
            ));
        }
    }
    restored
}

/// After damage the row of a model that was deleted can come back beside that of its successor: the newer one holds.
/// What removes the others from the store, where they would be found again at each start.
pub(super) fn leave_one_model_each_path(read: &mut Read) -> Vec<Write> {
    let Read { models, left_out, .. } = read;
    let mut taken = HashSet::with_capacity(models.len());
    let holds = |model: &Model| model.state != ModelState::Displaced;
    if models.iter().filter(|(_, model)| holds(model)).all(|(_, model)| taken.insert(&model.path)) {
        return Vec::new();
    }
    models.sort_by_key(|(revision, model)| (std::cmp::Reverse(*revision), model.id));
    let (mut taken, mut superseded) = (HashSet::new(), Vec::new());
    models.retain(|(_, model)| {
        let is_newest = !holds(model) || taken.insert(model.path.clone());
        if !is_newest {
            left_out.push(format!(
                "models: models/{} is an older one of the path {}: left out",
                model.id,
                hoist_domain::excerpt(&model.path.text())
            ));
            superseded.push(Write::Delete { table: Table::Models, key: model_key(model.id) });
        }
        is_newest
    });
    superseded
}

fn parse<T: for<'a> Deserialize<'a>>(row: &Row) -> serde_json::Result<(Revision, T)> {
    serde_json::from_slice::<Kept<T>>(&row.value).map(|kept| (kept.revision, kept.value))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use hoist_domain::{
        Bytes, Digest, Dtype, FileIdentity, ModelComponent, ModelContent, ModelFile, ModelFormat, ModelPath,
        ModelType, Verdict, WallTime,
    };
    use std::path::Path;
    use uuid::Uuid;

    pub(in crate::control) fn lora(number: u32) -> Model {
        let base = || "sdxl".parse().unwrap();
        let component = ModelComponent {
            name: "lora".into(),
            component_type: ModelType::Lora,
            base: base(),
            place: "".into(),
            prefix: "".into(),
            tensors: 722,
            parameters: 85_400_000,
            bytes: Bytes(170_800_000),
            digest: Some(Digest([200; 32])),
        };
        let identity = FileIdentity {
            device: 64_513,
            inode: 12_345_678,
            size: 170_890_000,
            modified_ns: 1_760_000_000_123_456_789,
            changed_ns: 1_760_000_000_123_456_789,
        };
        let path = format!("/home/somebody/models/loras/style/portrait style {number:06}.safetensors");
        Model {
            id: ModelId(Uuid::from_u128(number.into())),
            path: ModelPath::new(Path::new(&path)),
            path_name: format!("portrait style {number:06}").into(),
            state: ModelState::Available,
            content: std::sync::Arc::new(ModelContent {
                format: ModelFormat::Safetensors,
                model_type: ModelType::Lora,
                base: base(),
                variant: "".into(),
                candidates: [].into(),
                confidence_percent: 98,
                prediction: "".into(),
                resolution: 1024,
                title: "portrait style".into(),
                tensors: 722,
                parameters: 85_400_000,
                dtypes: [(Dtype::F16, 722)].into(),
                bytes: Bytes(170_890_000),
                components: [component].into(),
                files: [ModelFile { path: ModelPath::new(Path::new("")), identity, is_weights: true }].into(),
                verdict: Verdict::Ok,
                findings: [].into(),
                is_touched: false,
                reader: 1,
            }),
            notes: None,
            validation: None,
            discovered_at: WallTime(1_760_000_000_000_000),
            read_at: WallTime(1_760_000_000_000_000),
        }
    }

    #[test]
    fn what_is_kept_of_a_model_stays_small() {
        let model = lora(1);
        let row = model_row(&model, Revision(1_234_567));
        let text = String::from_utf8_lossy(&row.value).into_owned();
        // A hundred thousand of these are read at a start.
        assert!(row.value.len() <= 1_024, "{} bytes: {text}", row.value.len());
        // And as many are in memory, where each must stay below 2 KiB with its share of the indexes.
        let fixed = size_of::<Model>()
            + size_of::<ModelContent>()
            + size_of::<ModelComponent>() * model.content.components.len()
            + size_of::<ModelFile>() * model.content.files.len();
        assert!(fixed <= 640, "{fixed} bytes beside its texts");
    }

    #[test]
    fn rows_read_by_several_threads_keep_their_order_and_their_faults() {
        let count = u32::try_from(LEAST_SHARE).unwrap() * 5;
        let models: Vec<Model> = (0..count).map(lora).collect();
        let mut rows: Vec<Row> = models.iter().map(|model| model_row(model, Revision(7))).collect();
        let last = rows.last_mut().unwrap();
        last.value.pop();
        let restored = restore(rows);
        assert_eq!(restored.left_out.len(), 1);
        let read: Vec<&Model> = restored.models.iter().map(|(_, model)| model).collect();
        assert_eq!(read, models.iter().take(models.len() - 1).collect::<Vec<_>>());
    }
}
