//! Identifies the models of a header dump and prints one JSON object a line.
//!
//! The dump: `{item: {path, format, parts: [{place, file, format, tensors: [[name, dtype, shape]], metadata}], configs}}`.

use std::collections::BTreeMap;
use std::error::Error;

use hoist_domain::{Dtype, ModelFormat};
use hoist_formats::{Place, Tensor};
use hoist_identify::{Part, Subject, identify};
use serde_json::{Value, json};

type Metadata = BTreeMap<String, String>;

fn tensor(entry: &Value) -> Option<Tensor> {
    let name = entry.get(0)?.as_str()?.into();
    let dtype = Dtype::from_name(entry.get(1)?.as_str()?).unwrap_or(Dtype::F32);
    let shape = entry.get(2)?.as_array()?.iter().filter_map(Value::as_u64).collect();
    Some(Tensor { name, dtype, shape, place: Place::Unmapped })
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn strings(value: Option<&Value>) -> Metadata {
    let fields = value.and_then(Value::as_object).into_iter().flatten();
    fields.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn print(item: &str, entry: &Value) {
    let raw: Vec<&Value> = entry.get("parts").and_then(Value::as_array).into_iter().flatten().collect();
    let tables: Vec<(Vec<Tensor>, Metadata)> = raw
        .iter()
        .map(|part| {
            let tensors = part.get("tensors").and_then(Value::as_array).into_iter().flatten();
            (tensors.filter_map(tensor).collect(), strings(part.get("metadata")))
        })
        .collect();
    let parts = raw.iter().zip(&tables).map(|(part, (tensors, metadata))| Part {
        place: text(part, "place"),
        file: text(part, "file"),
        format: text(part, "format").parse().unwrap_or(ModelFormat::Unknown),
        tensors,
        metadata,
    });
    let configs = strings(entry.get("configs"));
    let subject = Subject {
        path: text(entry, "path"),
        parts: parts.collect(),
        configs: configs.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect(),
    };
    let answer = identify(&subject);
    let list =
        |bases: &[hoist_domain::BaseModel]| bases.iter().map(|b| b.as_str().to_owned()).collect::<Vec<_>>();
    let evidence: Vec<String> =
        answer.evidence.iter().map(|e| format!("{} {}: {}", e.source, e.subject, e.says)).collect();
    let components: Vec<Value> = answer
        .components
        .iter()
        .map(|c| {
            json!([c.name, c.component_type.as_str(), c.base.as_str(), c.prefix, c.tensors, c.parameters])
        })
        .collect();
    let line = json!({
        "id": item, "type": answer.model_type.as_str(), "base": answer.base.as_str(), "variant": answer.variant,
        "candidates": list(&answer.candidates), "confidence": answer.confidence,
        "prediction": answer.prediction.map(|p| format!("{p:?}")), "resolution": answer.resolution,
        "components": components, "evidence": evidence,
    });
    println!("{line}");
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: identify_dump DUMP.json")?;
    let dump: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    for (item, entry) in dump.as_object().into_iter().flatten() {
        print(item, entry);
    }
    Ok(())
}
