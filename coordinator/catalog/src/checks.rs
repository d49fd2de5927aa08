//! What is wrong with a unit as a whole: shards and indexes, components and their configuration.
//!
//! Single files have been judged by their readers; here it is about what belongs together. Pure, but for what was read.

use std::collections::{BTreeMap, HashMap, HashSet};

use hoist_domain::{Finding, FindingKind, ModelFormat, Verdict, excerpt, plural};
use hoist_formats::index::Index;
use serde_json::Value;

use crate::names::WeightsName;
use crate::reading::{PartReading, Reading};
use crate::walk::{Unit, UnitKind};

type IsRight = fn(&Value) -> bool;

/// Fields of configurations that say what a model is, and what they must be.
const FIELDS: [(&str, IsRight); 9] = [
    ("_class_name", is_name_or_names),
    ("model_type", Value::is_string),
    ("architectures", Value::is_array),
    ("in_channels", Value::is_u64),
    ("latent_channels", Value::is_u64),
    ("hidden_size", Value::is_u64),
    ("num_hidden_layers", Value::is_u64),
    ("vocab_size", Value::is_u64),
    ("cross_attention_dim", is_size_or_sizes),
];

/// Pipelines made by code of their folder name a module and a class.
fn is_name_or_names(value: &Value) -> bool {
    value.is_string() || value.as_array().is_some_and(|all| all.iter().all(Value::is_string))
}

fn is_size_or_sizes(value: &Value) -> bool {
    value.is_u64() || value.is_null() || value.as_array().is_some_and(|all| all.iter().all(is_size_or_sizes))
}

pub(crate) fn run(unit: &Unit, reading: &mut Reading, indexes: &BTreeMap<String, Index>) {
    let mut findings = Vec::new();
    for (place, index) in indexes {
        let part = reading.parts.iter().find(|part| part.place == *place);
        shards(index, part, &mut findings);
    }
    for part in &reading.parts {
        unindexed(unit, part, indexes.contains_key(&part.place), &mut findings);
    }
    let mut parsed = BTreeMap::new();
    for (path, text) in &reading.configs {
        if let Some(value) = config(path, text, &mut findings) {
            parsed.insert(path.as_str(), value);
        }
    }
    if let Some(index) = parsed.get("model_index.json") {
        pipeline(index, reading, &parsed, &mut findings);
    } else if unit.is_folder() && !matches!(unit.kind, UnitKind::Hub { .. }) && reading.parts.is_empty() {
        without_weights(&parsed, indexes, &mut findings);
    }
    reading.findings.extend(findings);
}

fn partial(message: impl Into<String>) -> Finding {
    Finding::new(FindingKind::Partial, Verdict::Incomplete, message)
}

fn metadata(message: impl Into<String>) -> Finding {
    Finding::corrupt(FindingKind::Metadata, message)
}

/// An index and the shards it names tell the same.
fn shards(index: &Index, part: Option<&PartReading>, findings: &mut Vec<Finding>) {
    let empty = PartReading {
        place: String::new(),
        format: ModelFormat::Unknown,
        files: Vec::new(),
        tensors: Vec::new(),
        file_of: Vec::new(),
        metadata: BTreeMap::new(),
        globals: Vec::new(),
    };
    let part = part.unwrap_or(&empty);
    let names: Vec<String> = part
        .files
        .iter()
        .map(|file| file.file_name().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    let there: HashSet<&str> = names.iter().map(String::as_str).collect();
    let missing: Vec<&str> =
        index.shards.iter().map(|shard| &**shard).filter(|shard| !there.contains(shard)).collect();
    if let Some(first) = missing.first() {
        findings.push(
            partial(format!("{} of {} shards are missing", missing.len(), index.shards.len())).in_file(first),
        );
        return;
    }
    let mut has: HashMap<&str, u32> = HashMap::with_capacity(part.tensors.len());
    for (tensor, file) in part.tensors.iter().zip(&part.file_of) {
        if has.insert(&tensor.name, *file).is_some() {
            findings.push(metadata("a tensor is in two shards").tensor(&tensor.name));
            return;
        }
    }
    let shown = |shard: usize| index.shards.get(shard).map_or("?", |name| name);
    for entry in &index.tensors {
        let place = has.remove(&*entry.name).and_then(|file| names.get(usize::try_from(file).ok()?));
        let finding = match place {
            None => metadata("the index names a tensor that no shard has"),
            Some(place) if place != shown(entry.shard) => {
                metadata("the index says that a tensor is in another shard than it is")
            }
            Some(_) => continue,
        };
        findings.push(finding.tensor(&entry.name));
        return;
    }
    if let Some(extra) = has.keys().min() {
        findings.push(metadata(format!("in no index: {}", plural(has.len() as u64, "tensor"))).tensor(extra));
    }
}

/// A set of shards that no index lists is whole when its names say so.
fn unindexed(unit: &Unit, part: &PartReading, is_indexed: bool, findings: &mut Vec<Finding>) {
    let parsed = |path: &std::path::PathBuf| {
        WeightsName::parse(&unit.path_of(path).file_name().unwrap_or_default().to_string_lossy()).shard
    };
    let shards: Vec<(u32, u32)> = part.files.iter().filter_map(parsed).collect();
    let Some((_, of)) = shards.first().copied().filter(|_| !is_indexed) else { return };
    let missing = (1..=of).filter(|number| shards.iter().all(|(shard, _)| shard != number)).count();
    // Of GGUF the readers have said so already, with the names.
    if missing > 0 && part.format != ModelFormat::Gguf {
        findings.push(partial(format!("{missing} of {of} shards are missing")));
    }
}

fn config(path: &str, text: &str, findings: &mut Vec<Finding>) -> Option<Value> {
    let value = match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_object() => value,
        Ok(_) => {
            findings.push(metadata("a configuration that is not a JSON object").in_file(path));
            return None;
        }
        Err(error) => {
            let error = excerpt(&error.to_string());
            findings.push(metadata(format!("a configuration that is not JSON: {error}")).in_file(path));
            return None;
        }
    };
    for (field, is_right) in FIELDS {
        if value.get(field).is_some_and(|value| !value.is_null() && !is_right(value)) {
            findings.push(metadata(format!("`{field}` has a value of the wrong type")).in_file(path));
            break;
        }
    }
    if value.get("auto_map").is_some() {
        let message = "asks its reader to run code from the folder (auto_map); nothing here does";
        findings.push(Finding::new(FindingKind::Metadata, Verdict::Suspicious, message).in_file(path));
    }
    Some(value)
}

/// Libraries whose classes a pipeline's index may name.
const LIBRARIES: [&str; 4] = ["diffusers", "transformers", "stable_diffusion", "onnxruntime.training"];

/// Every component that a pipeline's index names is there.
fn pipeline(index: &Value, reading: &Reading, configs: &BTreeMap<&str, Value>, findings: &mut Vec<Finding>) {
    if index.get("_class_name").is_some_and(Value::is_array) {
        let message = "the pipeline is made by code of the folder, not of a library; nothing here runs it";
        findings.push(Finding::new(FindingKind::Metadata, Verdict::Suspicious, message));
    }
    let entries = index.as_object().into_iter().flatten();
    for (name, value) in entries.filter(|(name, _)| !name.starts_with('_')) {
        let Some([library, class]) = value.as_array().map(Vec::as_slice) else { continue };
        let (Some(library), Some(class)) = (library.as_str(), class.as_str()) else { continue };
        if name.contains(['/', '\\', '\0']) || name == ".." || name == "." {
            findings.push(Finding::new(
                FindingKind::Path,
                Verdict::Rejected,
                format!("the index names a component `{}` that is not a folder's name", excerpt(name)),
            ));
            continue;
        }
        if !LIBRARIES.contains(&library) && !library.starts_with("diffusers.") {
            let message =
                format!("component `{}` is made by code of the folder, not of a library", excerpt(name));
            findings.push(Finding::new(FindingKind::Metadata, Verdict::Suspicious, message));
        }
        if has_no_weights(class) {
            continue;
        }
        let has_weights = reading.parts.iter().any(|part| part.place == *name);
        let has_config = configs.contains_key(format!("{name}/config.json").as_str());
        let finding = match (has_weights, has_config) {
            (false, false) => partial("a component of the index is not there"),
            (false, true) => partial("a component has no weights"),
            (true, false) => metadata("a component has no configuration"),
            (true, true) => continue,
        };
        findings.push(finding.in_file(name));
    }
}

/// Tokenizers, schedulers and processors hold no tensors.
fn has_no_weights(class: &str) -> bool {
    ["Tokenizer", "TokenizerFast", "Scheduler", "Processor", "FeatureExtractor", "ProcessorFast"]
        .iter()
        .any(|ending| class.ends_with(ending))
}

/// A folder that says it is a model and has no weights.
fn without_weights(
    configs: &BTreeMap<&str, Value>,
    indexes: &BTreeMap<String, Index>,
    findings: &mut Vec<Finding>,
) {
    // What is missing by an index has been said.
    if indexes.is_empty() && !configs.is_empty() {
        findings.push(partial("a configuration without weights"));
    }
}
