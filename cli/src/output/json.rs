//! Messages as JSON, as scripts read them: snake_case keys that are the proto's names, enum values by their short
//! lower-case names, times in RFC 3339, spans of time in seconds with `_seconds` in the key, bytes as integers.
//! What is unset is `null`: a key is always there, so that a script need not ask.

use hoist_wire::status::Failure;
use hoist_wire::{longrunning, v1};
use prost::Name as _;
use prost_types::{Any, Duration, Timestamp};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::output::called::{Called, Parts};
use crate::output::{cache, devices, error_value, model_status, replicas, residency, results, text};

pub(crate) fn time(time: Option<&Timestamp>) -> Value {
    time.map(text::rfc3339).into()
}

pub(crate) fn seconds(span: Option<&Duration>) -> Value {
    span.map(|span| text::wire_span(span).as_secs_f64()).into()
}

fn failure(status: Option<&tonic_types::Status>) -> Value {
    status.map_or(Value::Null, |status| error_value(&Error::from_failure(Failure::from(status), None)))
}

pub(crate) fn position(position: Option<&v1::Position>) -> Value {
    position.map_or(Value::Null, |p| json!({ "epoch": p.epoch, "revision": p.revision }))
}

pub(crate) fn measurement(measured: &v1::Measurement) -> Value {
    json!({
        "kind": text::measurement_kind(measured.kind),
        "bytes": measured.bytes,
        "duration_seconds": seconds(measured.duration.as_ref()),
        "bytes_per_second": measured.bytes_per_second,
        "threads": measured.threads,
        "block_bytes": measured.block_bytes,
        "measure_time": time(measured.measure_time.as_ref()),
        "note": measured.note,
    })
}

fn measurements(measured: &[v1::Measurement]) -> Value {
    measured.iter().map(measurement).collect()
}

fn condition(condition: &v1::Condition) -> Value {
    json!({
        "kind": condition.kind,
        "severity": text::severity(condition.severity),
        "message": condition.message,
        "advice": condition.advice,
        "since_time": time(condition.since_time.as_ref()),
        "details": condition.details,
    })
}

fn machine(machine: &v1::Machine) -> Value {
    json!({
        "state": text::machine_state(machine.state),
        "version": machine.version,
        "process_id": machine.process_id,
        "start_time": time(machine.start_time.as_ref()),
        "measurements": measurements(&machine.measurements),
    })
}

pub(crate) fn progress(progress: &v1::Progress) -> Value {
    json!({
        "phase": progress.phase,
        "done_bytes": progress.done_bytes,
        // 0 means "not known yet" on the wire; a script must not divide by it.
        "total_bytes": (progress.total_bytes > 0).then_some(progress.total_bytes),
        "bytes_per_second": progress.bytes_per_second,
        "remaining_seconds": seconds(progress.remaining.as_ref()),
        "stalled_seconds": seconds(progress.stalled.as_ref()),
        "done_items": progress.done_items,
        "total_items": (progress.total_items > 0).then_some(progress.total_items),
    })
}

pub(crate) fn operation_metadata(operation: &v1::OperationMetadata) -> Value {
    json!({
        "name": operation.name,
        "kind": text::operation_kind(operation.kind),
        "state": text::operation_state(operation.state),
        "request_id": operation.request_id,
        "principal": operation.principal,
        "create_time": time(operation.create_time.as_ref()),
        "start_time": time(operation.start_time.as_ref()),
        "end_time": time(operation.end_time.as_ref()),
        "attempts": operation.attempts,
        "cancel_requested": operation.cancel_requested,
        "error": failure(operation.error.as_ref()),
        "progress": operation.progress.as_ref().map(progress),
        "subject": Some(&operation.subject).filter(|subject| !subject.is_empty()),
    })
}

/// An operation as the Operations service shows it: its metadata, whether it is done, and its response.
pub(crate) fn operation(operation: &Operation) -> Value {
    let mut value = operation_metadata(&operation.metadata);
    set(&mut value, "done", operation.done.into());
    set(&mut value, "response", operation.response.as_ref().map_or(Value::Null, Response::value));
    value
}

/// A resource: `{"name", "position", "machine" | "operation" | "condition" | "model" | "segment" | "lease" | "device" |
/// "replica"}`.
pub(crate) fn resource(resource: &v1::Resource) -> Value {
    use v1::resource::Value as Kind;
    let mut value = json!({ "name": resource.name, "position": position(resource.position.as_ref()) });
    match &resource.value {
        Some(Kind::Machine(it)) => set(&mut value, "machine", machine(it)),
        Some(Kind::Operation(it)) => set(&mut value, "operation", operation_metadata(it)),
        Some(Kind::Condition(it)) => set(&mut value, "condition", condition(it)),
        Some(Kind::Model(it)) => set(&mut value, "model", super::model::value(it)),
        Some(Kind::Segment(it)) => set(&mut value, "segment", cache::segment(it)),
        Some(Kind::Lease(it)) => set(&mut value, "lease", cache::lease(it)),
        Some(Kind::Device(it)) => set(&mut value, "device", devices::value(it)),
        Some(Kind::Replica(it)) => set(&mut value, "replica", replicas::value(it)),
        // A kind that this client is too old to know: its name still says that it exists.
        None => {}
    }
    value
}

/// Only the parts of a resource that changed: `paths` are those of a Watch, for instance `operation.state`.
pub(crate) fn changed(resource: &Value, paths: &[String]) -> Value {
    let mut kept = Map::new();
    for path in paths {
        match path.split_once('.') {
            None => {
                kept.insert(path.clone(), resource.get(path).cloned().unwrap_or_default());
            }
            Some((kind @ ("model" | "segment" | "lease" | "device" | "replica"), field)) => {
                // Scripts read these under other words than those of the contract.
                let keys = match kind {
                    "model" => super::model::keys_of(field),
                    "replica" => vec![replicas::key_of(field)],
                    _ => vec![cache::key_of(field)],
                };
                for key in keys {
                    let value = resource.get(kind).and_then(|it| it.get(key)).cloned().unwrap_or_default();
                    if let Value::Object(part) = kept.entry(kind).or_insert_with(|| json!({})) {
                        part.insert(key.to_owned(), value);
                    }
                }
            }
            Some((kind, field)) => {
                let value = resource.get(kind).and_then(|it| it.get(field)).cloned().unwrap_or_default();
                if let Value::Object(part) = kept.entry(kind).or_insert_with(|| json!({})) {
                    part.insert(field.to_owned(), value);
                }
            }
        }
    }
    Value::Object(kept)
}

/// A status: the resource, and for the machine what is derived about it in the same object; for a model, which says what its
/// components are, it stands beside that.
pub(crate) fn status(status: &v1::Status) -> Value {
    let mut value = status.resource.as_ref().map_or_else(|| json!({}), resource);
    set(&mut value, "name", status.name.clone().into());
    set(&mut value, "position", position(status.position.as_ref()));
    if let Some(joined) = &status.model {
        set(&mut value, "model_status", model_status::value(joined));
    }
    let Some(derived) = &status.machine else { return value };
    let counts: Map<String, Value> =
        derived.operation_counts.iter().map(|c| (text::operation_state(c.state), c.count.into())).collect();
    let mut whole = value.get("machine").cloned().unwrap_or_else(|| json!({}));
    set(&mut whole, "uptime_seconds", seconds(derived.uptime.as_ref()));
    set(&mut whole, "conditions", derived.conditions.iter().map(condition).collect());
    set(&mut whole, "operation_counts", counts.into());
    set(&mut whole, "watch_streams", derived.watch_streams.into());
    set(&mut whole, "request_ids", derived.request_ids.into());
    set(&mut whole, "request_ids_limit", derived.request_ids_limit.into());
    set(&mut whole, "oldest_revision", derived.oldest_revision.into());
    let first_look = derived.first_look.map_or(Value::Null, |look| json!({ "models": look.models }));
    set(&mut whole, "first_look", first_look);
    set(&mut whole, "devices", derived.devices.iter().map(devices::value).collect());
    set(&mut whole, "active_replicas", derived.active_replicas.into());
    set(&mut whole, "loaded_models", derived.loaded_models.into());
    set(&mut whole, "missing_models", derived.missing_models.into());
    set(&mut whole, "segments", derived.segments.into());
    set(&mut whole, "segment_bytes", derived.segment_bytes.into());
    set(&mut value, "machine", whole);
    value
}

pub(crate) fn set(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(map) = object {
        map.insert(key.to_owned(), value);
    }
}

/// A `google.longrunning.Operation`, with its parts decoded.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) metadata: v1::OperationMetadata,
    pub(crate) done: bool,
    pub(crate) response: Option<Response>,
}

/// What an operation produced.
#[derive(Clone, Debug)]
pub(crate) enum Response {
    ProbeMachine(v1::ProbeMachineResponse),
    ScanModels(Box<v1::ScanModelsResponse>),
    DigestModels(v1::DigestModelsResponse),
    ValidateModel(Box<v1::ValidateModelResponse>),
    CacheModel(v1::CacheModelResponse),
    LoadModel(Box<v1::LoadModelResponse>),
    UnloadModel(v1::UnloadModelResponse),
    /// Of a type that this client is too old to know.
    Unknown(String),
}

impl Response {
    fn read(any: &Any) -> Result<Self> {
        let url = any.type_url.as_str();
        let read = if url == v1::ProbeMachineResponse::type_url() {
            any.to_msg().map(Self::ProbeMachine)
        } else if url == v1::ScanModelsResponse::type_url() {
            any.to_msg().map(|scan| Self::ScanModels(Box::new(scan)))
        } else if url == v1::DigestModelsResponse::type_url() {
            any.to_msg().map(Self::DigestModels)
        } else if url == v1::ValidateModelResponse::type_url() {
            any.to_msg().map(|validation| Self::ValidateModel(Box::new(validation)))
        } else if url == v1::CacheModelResponse::type_url() {
            any.to_msg().map(Self::CacheModel)
        } else if url == v1::LoadModelResponse::type_url() {
            any.to_msg().map(|loaded| Self::LoadModel(Box::new(loaded)))
        } else if url == v1::UnloadModelResponse::type_url() {
            any.to_msg().map(Self::UnloadModel)
        } else {
            Ok(Self::Unknown(url.to_owned()))
        };
        read.map_err(|_| Error::unreadable("the response of an operation"))
    }

    fn value(&self) -> Value {
        match self {
            Self::ProbeMachine(probe) => json!({ "measurements": measurements(&probe.measurements) }),
            Self::ScanModels(scan) => results::scan_value(scan),
            Self::DigestModels(digests) => results::digest_value(digests),
            Self::ValidateModel(validation) => results::validation_value(validation),
            Self::CacheModel(cached) => cache::report(cached),
            Self::LoadModel(loaded) => residency::loaded_value(loaded, &Called::default()),
            Self::UnloadModel(unloaded) => residency::unloaded_value(unloaded, &Parts::default()),
            Self::Unknown(type_url) => json!({ "type_url": type_url }),
        }
    }
}

impl Operation {
    pub(crate) fn read(operation: &longrunning::Operation) -> Result<Self> {
        use longrunning::operation::Result::{Error as Failed, Response as Produced};
        let metadata: v1::OperationMetadata =
            operation
                .metadata
                .as_ref()
                .and_then(|any| any.to_msg().ok())
                .ok_or_else(|| Error::unreadable("the metadata of an operation"))?;
        let response = match &operation.result {
            Some(Produced(any)) => Some(Response::read(any)?),
            Some(Failed(_)) | None => None,
        };
        Ok(Self { metadata, done: operation.done, response })
    }

    /// The id without the collection.
    pub(crate) fn id(&self) -> &str {
        self.metadata.name.strip_prefix("operations/").unwrap_or(&self.metadata.name)
    }

    /// Why it ended without success.
    pub(crate) fn failure(&self) -> Option<Error> {
        let status = self.metadata.error.as_ref()?;
        let error = Error::from_failure(Failure::from(status), Some(&self.metadata.request_id));
        Some(error.within(&self.metadata.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_shows_only_what_changed_and_null_for_what_became_unset() {
        let whole = resource(&v1::Resource {
            name: "operations/x".into(),
            position: None,
            value: Some(v1::resource::Value::Operation(v1::OperationMetadata {
                state: v1::OperationState::Running.into(),
                ..Default::default()
            })),
        });
        let paths = ["operation.state".to_owned(), "operation.end_time".to_owned()];
        assert_eq!(changed(&whole, &paths), json!({ "operation": { "state": "running", "end_time": null } }));
    }

    #[test]
    fn a_change_of_a_model_has_the_keys_of_a_model() {
        let whole = resource(&v1::Resource {
            name: "models/x".into(),
            position: None,
            value: Some(v1::resource::Value::Model(v1::Model {
                display_name: "base".into(),
                size_bytes: 7,
                verdict: v1::Verdict::Corrupt.into(),
                ..Default::default()
            })),
        });
        let paths = ["model.display_name", "model.size_bytes", "model.verdict"].map(str::to_owned);
        assert_eq!(
            changed(&whole, &paths),
            json!({ "model": { "name": "base", "bytes": 7, "verdict": "corrupt", "verdict_kind": null } })
        );
    }

    #[test]
    fn a_change_of_a_segment_has_the_keys_of_a_segment() {
        let whole = resource(&v1::Resource {
            name: "segments/ab".into(),
            position: None,
            value: Some(v1::resource::Value::Segment(v1::Segment {
                size_bytes: 7,
                state: v1::segment::State::Sealed.into(),
                ..Default::default()
            })),
        });
        let paths = ["segment.size_bytes", "segment.state", "segment.eviction"].map(str::to_owned);
        assert_eq!(
            changed(&whole, &paths),
            json!({ "segment": { "bytes": 7, "state": "sealed", "eviction": null } })
        );
    }

    #[test]
    fn a_machine_status_is_one_object() {
        let status = status(&v1::Status {
            name: "machine".into(),
            position: Some(v1::Position { epoch: 3, revision: 7 }),
            resource: Some(v1::Resource {
                name: "machine".into(),
                position: Some(v1::Position { epoch: 3, revision: 1 }),
                value: Some(v1::resource::Value::Machine(v1::Machine { state: 1, ..Default::default() })),
            }),
            machine: Some(v1::MachineStatus {
                uptime: Some(Duration { seconds: 1, nanos: 500_000_000 }),
                operation_counts: vec![v1::OperationCount { state: 2, count: 4 }],
                devices: vec![v1::Device { device_id: "cpu:0".into(), ..Default::default() }],
                missing_models: 1,
                ..Default::default()
            }),
            model: None,
        });
        assert_eq!(status["position"]["revision"], 7);
        assert_eq!(status["machine"]["state"], "serving");
        assert_eq!(status["machine"]["uptime_seconds"], 1.5);
        assert_eq!(status["machine"]["operation_counts"], json!({ "running": 4 }));
        assert_eq!(status["machine"]["devices"][0]["device_id"], "cpu:0");
        assert_eq!((&status["machine"]["missing_models"], status.get("model_status")), (&json!(1), None));
    }
}
