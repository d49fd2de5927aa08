//! What `hoist show` adds to a model: what its headers say beyond what the catalog keeps. Texts of files reach a
//! terminal only through `text`.

use std::collections::{BTreeMap, HashMap};

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::output::json::time;
use crate::output::table::Table;
use crate::output::{Out, Tone, text};

/// What `hoist show` adds: `null` where the files could not be read.
pub(crate) fn value(details: Option<&v1::ModelDetails>, tensors: bool) -> Map<String, Value> {
    let read = |value: &dyn Fn(&v1::ModelDetails) -> Value| details.map_or(Value::Null, value);
    let mut fields = Map::new();
    let evidence = |it: &v1::Evidence| json!({ "source": it.source, "subject": it.subject, "says": it.says });
    let file = |it: &v1::ModelFile| {
        json!({
            "path": it.path, "bytes": it.size_bytes, "weights": it.weights,
            "modify_time": time(it.modify_time.as_ref()),
        })
    };
    let tensor = |it: &v1::TensorInfo| json!({ "name": it.name, "dtype": it.dtype, "shape": it.shape, "component": it.component });
    fields.insert("evidence".into(), read(&|d| d.evidence.iter().map(evidence).collect()));
    fields.insert(
        "metadata".into(),
        read(&|d| sorted(&d.metadata).into_iter().map(|(k, v)| (k, Value::from(v))).collect()),
    );
    fields.insert("files".into(), read(&|d| d.files.iter().map(file).collect()));
    fields.insert("globals".into(), read(&|d| d.globals.clone().into()));
    if tensors {
        fields.insert("tensor_table".into(), read(&|d| d.tensors.iter().map(tensor).collect()));
        fields.insert("more_tensors".into(), read(&|d| d.more_tensors.into()));
    }
    fields
}

fn sorted(metadata: &HashMap<String, String>) -> BTreeMap<String, String> {
    metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What `hoist show` adds for people.
pub(crate) fn print(out: Out, details: &v1::ModelDetails) -> Result<()> {
    /// Characters. Training data in metadata can be a book; `--json` has all of it.
    const METADATA_CHARS: usize = 160;
    const FILES: usize = 40;
    let heading = |text: &str| {
        out.line("")?;
        out.line(out.toned(Tone::Dim, text))
    };
    if !details.evidence.is_empty() {
        heading("EVIDENCE")?;
        for it in &details.evidence {
            let line = format!("{} {}: {}", it.source, it.subject, it.says);
            out.line(format_args!("  {}", text::one_line(&line)))?;
        }
    }
    if !details.metadata.is_empty() {
        heading("METADATA")?;
        for (key, value) in sorted(&details.metadata) {
            let shown: String = value.chars().take(METADATA_CHARS).collect();
            let dots = if shown.len() < value.len() { " ..." } else { "" };
            out.line(format_args!(
                "  {} {}{dots}",
                text::one_line(&format!("{key}:")),
                text::one_line(&shown)
            ))?;
        }
    }
    // A model that is one file was told by its path.
    if details.files.iter().any(|file| !file.path.is_empty()) {
        heading("FILES")?;
        for file in details.files.iter().take(FILES) {
            let kind = if file.weights { "" } else { "  (not weights)" };
            out.line(format_args!(
                "  {:>10}  {}{kind}",
                Bytes(file.size_bytes).to_string(),
                text::one_line(&file.path)
            ))?;
        }
        if let Some(more @ 1..) = details.files.len().checked_sub(FILES) {
            out.line(format_args!("  and {more} more: --json has all"))?;
        }
    }
    if !details.globals.is_empty() {
        heading("ITS PICKLES NAME")?;
        for name in &details.globals {
            out.line(format_args!("  {}", text::one_line(name)))?;
        }
    }
    print_tensors(out, details)
}

fn print_tensors(out: Out, details: &v1::ModelDetails) -> Result<()> {
    if details.tensors.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let mut table = Table::new(["COMPONENT", "DTYPE", "SHAPE", "TENSOR"]);
    for it in &details.tensors {
        let shape: Vec<String> = it.shape.iter().map(u64::to_string).collect();
        table.row([
            text::one_line(&it.component).into(),
            it.dtype.as_str().into(),
            format!("[{}]", shape.join(", ")).into(),
            text::one_line(&it.name).into(),
        ]);
    }
    table.print(out)?;
    if details.more_tensors > 0 {
        out.note(format_args!("{} more tensors do not fit into an answer", details.more_tensors));
    }
    Ok(())
}
