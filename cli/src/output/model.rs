//! Models as JSON, for scripts.

use hoist_wire::v1;
use serde_json::{Map, Value, json};

use crate::output::json::{seconds, set, time};
use crate::output::text;

pub(crate) fn component(component: &v1::ModelComponent) -> Value {
    json!({
        "name": component.name,
        "type": component.r#type,
        "base": component.base,
        "place": component.place,
        "prefix": component.prefix,
        "tensors": component.tensor_count,
        "params": component.parameter_count,
        "bytes": component.size_bytes,
        "digest": Some(&component.digest).filter(|digest| !digest.is_empty()),
    })
}

pub(crate) fn finding(finding: &v1::Finding) -> Value {
    json!({
        "kind": text::finding_kind(finding.kind),
        "verdict": text::verdict(finding.verdict),
        "message": finding.message,
        "advice": finding.advice,
        "tensor": Some(&finding.tensor).filter(|tensor| !tensor.is_empty()),
        "offset": finding.offset,
        "file": Some(&finding.file).filter(|file| !file.is_empty()),
    })
}

pub(crate) fn findings(findings: &[v1::Finding]) -> Value {
    findings.iter().map(finding).collect()
}

/// The kind of the finding that decides the verdict.
pub(crate) fn verdict_kind(verdict: i32, findings: &[v1::Finding]) -> Option<String> {
    let is_bad = verdict != i32::from(v1::Verdict::Ok);
    let worst = findings.iter().find(|finding| finding.verdict == verdict);
    worst.filter(|_| is_bad).map(|finding| text::finding_kind(finding.kind))
}

/// What somebody has said of how a model is kept in RAM, as it is stored: a pin without components is one of all.
pub(crate) fn cache_config(it: &v1::ModelConfig) -> Value {
    json!({
        "cache_priority": (it.cache_priority != 0).then(|| text::priority(it.cache_priority)),
        "cache_idle_ttl_seconds": seconds(it.cache_idle_ttl.as_ref()),
        "pinned": it.pinned,
        "pinned_components": it.pinned_components,
    })
}

fn notes(notes: &v1::ModelNotes) -> Value {
    let unset = v1::ModelConfig::default();
    let own = notes.config.as_ref().unwrap_or(&unset);
    let mut config = cache_config(own);
    set(&mut config, "default_device", own.default_device.as_str().into());
    set(&mut config, "trusted", own.trusted.into());
    json!({
        "display_name": notes.display_name,
        "aliases": notes.aliases,
        "tags": notes.tags,
        "description": notes.description,
        "licence": notes.licence,
        "source": notes.source,
        "notes": notes.notes,
        "type_override": notes.type_override,
        "base_override": notes.base_override,
        "config": config,
    })
}

/// A model as scripts read it: `hoist ls --json` is an array of these.
pub(crate) fn value(model: &v1::Model) -> Value {
    let dtypes: Map<String, Value> =
        model.dtypes.iter().map(|it| (it.dtype.clone(), it.count.into())).collect();
    json!({
        "id": model.name,
        "name": model.display_name,
        "path": model.path,
        "format": model.format,
        "type": model.r#type,
        "base": model.base,
        "variant": model.variant,
        "candidates": model.candidates,
        "confidence": hundredths(model.confidence),
        "prediction_type": model.prediction_type,
        "resolution": model.resolution,
        "title": model.title,
        "tensors": model.tensor_count,
        "params": model.parameter_count,
        "dtypes": dtypes,
        "bytes": model.size_bytes,
        "components": model.components.iter().map(component).collect::<Value>(),
        "state": text::model_state(model.state),
        "verdict": text::verdict(model.verdict),
        "verdict_kind": verdict_kind(model.verdict, &model.findings),
        "findings": findings(&model.findings),
        "notes": model.notes.as_ref().map(notes),
        "etag": model.etag,
        "discover_time": time(model.discover_time.as_ref()),
        "modify_time": time(model.modify_time.as_ref()),
        "read_time": time(model.read_time.as_ref()),
        "validate_time": time(model.validate_time.as_ref()),
    })
}

/// Of a single float 0.95 is 0.949999988; the server counts in hundredths.
fn hundredths(confidence: f32) -> f64 {
    (f64::from(confidence) * 100.0).round() / 100.0
}

/// The keys in [`value`] that a field of the contract's Model is shown under.
pub(crate) fn keys_of(field: &str) -> Vec<&str> {
    match field {
        "name" => vec!["id"],
        "display_name" => vec!["name"],
        "size_bytes" => vec!["bytes"],
        "tensor_count" => vec!["tensors"],
        "parameter_count" => vec!["params"],
        "verdict" | "findings" => vec![field, "verdict_kind"],
        // A mask may name a part of a field: what is shown is the whole.
        _ => vec![field.split('.').next().unwrap_or(field)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_contract_is_shown() {
        let shown = value(&v1::Model::default());
        for field in [
            "name",
            "display_name",
            "path",
            "state",
            "format",
            "type",
            "base",
            "variant",
            "candidates",
            "confidence",
            "prediction_type",
            "resolution",
            "title",
            "tensor_count",
            "parameter_count",
            "dtypes",
            "size_bytes",
            "components",
            "verdict",
            "findings",
            "notes",
            "notes.tags",
            "etag",
            "discover_time",
            "modify_time",
            "read_time",
            "validate_time",
        ] {
            for key in keys_of(field) {
                assert!(shown.get(key).is_some(), "{key}");
            }
        }
    }

    #[test]
    fn confidence_has_no_digits_that_nobody_meant() {
        assert_eq!(value(&v1::Model { confidence: 0.95, ..Default::default() })["confidence"], 0.95);
    }
}
