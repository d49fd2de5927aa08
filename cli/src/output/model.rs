//! Models: as JSON for scripts, and as a page for people.

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::output::{Out, Tone, text};

fn component(component: &v1::ModelComponent) -> Value {
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

fn finding(finding: &v1::Finding) -> Value {
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

/// The kind of the finding that decides the verdict.
fn verdict_kind(model: &v1::Model) -> Option<String> {
    let is_bad = model.verdict != i32::from(v1::Verdict::Ok);
    let worst = model.findings.iter().find(|finding| finding.verdict == model.verdict);
    worst.filter(|_| is_bad).map(|finding| text::finding_kind(finding.kind))
}

fn notes(notes: &v1::ModelNotes) -> Value {
    let config = notes.config.clone().unwrap_or_default();
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
        "config": { "default_device": config.default_device, "trusted": config.trusted },
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
        "confidence": model.confidence,
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
        "verdict_kind": verdict_kind(model),
        "findings": model.findings.iter().map(finding).collect::<Value>(),
        "notes": model.notes.as_ref().map(notes),
        "etag": model.etag,
        "discover_time": model.discover_time.as_ref().map(text::rfc3339),
        "modify_time": model.modify_time.as_ref().map(text::rfc3339),
        "read_time": model.read_time.as_ref().map(text::rfc3339),
    })
}

/// A model as people read it.
pub(crate) fn print(out: Out, model: &v1::Model) -> Result<()> {
    let row = |label: &str, value: &str| {
        if value.is_empty() {
            return Ok(());
        }
        out.line(format_args!("{} {}", out.toned(Tone::Dim, &format!("{label:<10}")), text::plain(value)))
    };
    out.line(out.toned(Tone::Strong, &text::plain(&model.display_name)))?;
    row("type", &model.r#type)?;
    row("base", &model.base)?;
    row("format", &model.format)?;
    row("size", &Bytes(model.size_bytes).to_string())?;
    row("path", &model.path)
}
