//! Models and scans, from the domain to messages and back.

use hoist_domain::{
    Error, Finding, FindingKind, Model, ModelComponent, ModelNotes, ModelState, ResourceName, Result,
    ScanReport, Verdict,
};

use crate::config::{config as config_of, edited_config};
use crate::encode::{duration, timestamp};
use crate::mask::Mask;
use crate::v1;

#[must_use]
pub const fn verdict(verdict: Verdict) -> v1::Verdict {
    match verdict {
        Verdict::Ok => v1::Verdict::Ok,
        Verdict::Suspicious => v1::Verdict::Suspicious,
        Verdict::Incomplete => v1::Verdict::Incomplete,
        Verdict::Corrupt => v1::Verdict::Corrupt,
        Verdict::Rejected => v1::Verdict::Rejected,
        Verdict::Malicious => v1::Verdict::Malicious,
    }
}

#[must_use]
pub const fn finding_kind(kind: FindingKind) -> v1::FindingKind {
    match kind {
        FindingKind::Header => v1::FindingKind::Header,
        FindingKind::Data => v1::FindingKind::Data,
        FindingKind::Metadata => v1::FindingKind::Metadata,
        FindingKind::Partial => v1::FindingKind::Partial,
        FindingKind::Checksum => v1::FindingKind::Checksum,
        FindingKind::Pickle => v1::FindingKind::Pickle,
        FindingKind::Zip => v1::FindingKind::Zip,
        FindingKind::Path => v1::FindingKind::Path,
        FindingKind::Fs => v1::FindingKind::Fs,
        FindingKind::Unsupported => v1::FindingKind::Unsupported,
    }
}

#[must_use]
pub fn finding(finding: &Finding) -> v1::Finding {
    v1::Finding {
        kind: finding_kind(finding.kind).into(),
        verdict: verdict(finding.verdict).into(),
        message: finding.message.clone(),
        advice: finding.advice().to_owned(),
        tensor: finding.tensor.clone().unwrap_or_default(),
        offset: finding.offset,
        file: finding.file.clone().unwrap_or_default(),
    }
}

#[must_use]
pub fn component(component: &ModelComponent) -> v1::ModelComponent {
    v1::ModelComponent {
        name: component.name.to_string(),
        r#type: component.component_type.to_string(),
        base: component.base.to_string(),
        place: component.place.to_string(),
        prefix: component.prefix.to_string(),
        tensor_count: component.tensors,
        parameter_count: component.parameters,
        size_bytes: component.bytes.0,
        digest: component.digest.map(|digest| digest.to_string()).unwrap_or_default(),
    }
}

#[must_use]
pub fn notes(notes: &ModelNotes) -> v1::ModelNotes {
    v1::ModelNotes {
        display_name: notes.name.clone(),
        aliases: notes.aliases.clone(),
        tags: notes.tags.clone(),
        description: notes.description.clone(),
        licence: notes.licence.clone(),
        source: notes.source.clone(),
        notes: notes.notes.clone(),
        type_override: notes.model_type.map(|t| t.to_string()).unwrap_or_default(),
        base_override: notes.base.as_ref().map(ToString::to_string).unwrap_or_default(),
        config: Some(config_of(&notes.config)),
    }
}

/// Whether its files are there: that another model's are in their place is told by the path.
pub(crate) const fn state(state: ModelState) -> v1::model::State {
    match state {
        ModelState::Available => v1::model::State::Available,
        ModelState::Missing | ModelState::Displaced => v1::model::State::Missing,
    }
}

/// A model as everybody sees it.
#[must_use]
pub fn model(model: &Model) -> v1::Model {
    use std::os::unix::ffi::OsStrExt as _;
    let content = &model.content;
    let state = state(model.state);
    let is_text = model.path.as_path().to_str().is_some();
    let own = model.notes.as_ref();
    v1::Model {
        name: ResourceName::Model(model.id).to_string(),
        display_name: model.name().to_owned(),
        path: model.path.text().into_owned(),
        path_bytes: if is_text { Vec::new() } else { model.path.as_path().as_os_str().as_bytes().to_vec() },
        state: state.into(),
        format: content.format.to_string(),
        r#type: model.model_type().to_string(),
        base: model.base().to_string(),
        variant: content.variant.to_string(),
        candidates: model.candidates().iter().map(ToString::to_string).collect(),
        confidence: f32::from(model.confidence_percent()) / 100.0,
        prediction_type: content.prediction.to_string(),
        resolution: content.resolution,
        title: content.title.to_string(),
        tensor_count: content.tensors,
        parameter_count: content.parameters,
        dtypes: content
            .dtypes
            .iter()
            .map(|(dtype, count)| v1::DtypeCount { dtype: dtype.to_string(), count: *count })
            .collect(),
        size_bytes: content.bytes.0,
        components: content.components.iter().map(component).collect(),
        verdict: verdict(model.verdict()).into(),
        findings: model.findings().into_iter().map(finding).collect(),
        notes: own.map(|own| notes(own)),
        etag: model.etag(),
        discover_time: Some(timestamp(model.discovered_at)),
        modify_time: model.modified_at().map(timestamp),
        read_time: Some(timestamp(model.read_at)),
        validate_time: model.validation.as_ref().map(|validation| timestamp(validation.at)),
    }
}

#[must_use]
pub fn scan_report(report: &ScanReport) -> v1::ScanModelsResponse {
    v1::ScanModelsResponse {
        directories: report.directories,
        files: report.files,
        models: report.models,
        added: report.added,
        changed: report.changed,
        moved: report.moved,
        unchanged: report.unchanged,
        missing: report.missing,
        damaged: report.damaged,
        validated: report.validated,
        skipped: report.skipped.clone().into_iter().collect(),
        by_type: report.by_type.iter().map(|(t, count)| (t.to_string(), *count)).collect(),
        size_bytes: report.bytes.0,
        header_bytes: report.header_bytes.0,
        took: Some(duration(report.took)),
        problems: report.problems.iter().map(crate::examinations::problem).collect(),
        more_problems: report.more_problems,
    }
}

/// The notes after an edit: those of `before`, replaced as far as the mask says.
///
/// # Errors
/// When a field is not one of the notes', too long, malformed, or there are too many.
pub fn edited_notes(
    before: &ModelNotes,
    edit: Option<&v1::ModelNotes>,
    mask: Option<&prost_types::FieldMask>,
) -> Result<ModelNotes> {
    let edit = edit.cloned().unwrap_or_default();
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    // Judged by the same reader as any other mask; what it lets through is one of the names below.
    if !paths.is_empty() {
        Mask::parse("hoist.api.v1.ModelNotes", "update_mask", paths)?;
    }
    let wanted = |name: &str| paths.is_empty() || paths.iter().any(|path| path == name || path == "*");
    let config = edit.config.clone().unwrap_or_default();
    let mut notes = before.clone();
    if wanted("display_name") {
        notes.name = text("display_name", edit.display_name, 256, false)?;
    }
    if wanted("aliases") {
        notes.aliases = words("aliases", edit.aliases, 16, 256)?;
        if notes.aliases.iter().any(|alias| alias.starts_with("models/") || alias.starts_with('/')) {
            return Err(Error::invalid_field(
                "notes.aliases",
                "must not look like a path or a models/... name",
            ));
        }
    }
    if wanted("tags") {
        notes.tags = words("tags", edit.tags, 64, 64)?;
    }
    if wanted("description") {
        notes.description = text("description", edit.description, 16 << 10, true)?;
    }
    if wanted("licence") {
        notes.licence = text("licence", edit.licence, 1 << 10, true)?;
    }
    if wanted("source") {
        notes.source = text("source", edit.source, 1 << 10, false)?;
    }
    if wanted("notes") {
        notes.notes = text("notes", edit.notes, 16 << 10, true)?;
    }
    if wanted("type_override") {
        let said = Some(edit.type_override).filter(|said| !said.is_empty());
        notes.model_type =
            said.map(|said| said.parse()).transpose().map_err(|e: Error| at("type_override", &e))?;
    }
    if wanted("base_override") {
        let said = Some(edit.base_override).filter(|said| !said.is_empty());
        notes.base = said.map(|said| said.parse()).transpose().map_err(|e: Error| at("base_override", &e))?;
    }
    notes.config = edited_config(&before.config, config, &wanted)?;
    Ok(notes)
}

fn at(field: &str, error: &Error) -> Error {
    Error::invalid_field(format!("notes.{field}"), error.message())
}

/// Text of a bounded length, without what a terminal would obey.
fn text(field: &str, text: String, most: usize, lines: bool) -> Result<String> {
    let field = format!("notes.{field}");
    if text.len() > most {
        return Err(Error::invalid_field(field, format!("has {} bytes, at most {most}", text.len())));
    }
    let allowed = |c: char| !c.is_control() || (lines && matches!(c, '\n' | '\t'));
    if !text.chars().all(allowed) {
        return Err(Error::invalid_field(field, "must not hold control characters"));
    }
    Ok(text)
}

/// Sorted, without repetition, none empty.
fn words(field: &str, mut words: Vec<String>, most: usize, most_bytes: usize) -> Result<Vec<String>> {
    words.iter_mut().for_each(|word| *word = word.trim().to_owned());
    words.sort();
    words.dedup();
    if words.len() > most {
        return Err(Error::invalid_field(
            format!("notes.{field}"),
            format!("has {} values, at most {most}", words.len()),
        ));
    }
    words
        .into_iter()
        .map(|word| match word.as_str() {
            "" => Err(Error::invalid_field(format!("notes.{field}"), "must not hold an empty one")),
            _ => text(field, word, most_bytes, false),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_domain::ModelConfig;

    fn mask(paths: &[&str]) -> prost_types::FieldMask {
        prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn an_edit_changes_what_its_mask_names_and_nothing_else() {
        let before = ModelNotes {
            tags: vec!["a".into()],
            licence: "mit".into(),
            config: ModelConfig { default_device: "cuda:1".into(), ..Default::default() },
            ..ModelNotes::default()
        };
        let edit = v1::ModelNotes {
            tags: vec!["z ".into(), "b".into(), " b".into(), "b".into()],
            config: Some(v1::ModelConfig { trusted: true, ..Default::default() }),
            ..Default::default()
        };
        let after = edited_notes(&before, Some(&edit), Some(&mask(&["tags", "config.trusted"]))).unwrap();
        assert_eq!(after.tags, ["b", "z"]);
        assert_eq!((after.licence.as_str(), after.config.trusted), ("mit", true));
        assert_eq!(after.config.default_device, "cuda:1");
        let all = edited_notes(&before, Some(&edit), None).unwrap();
        assert_eq!((all.licence.as_str(), all.config.default_device.as_str()), ("", ""));
    }

    #[test]
    fn edits_are_bounded_and_named() {
        let field = |edit: v1::ModelNotes| {
            edited_notes(&ModelNotes::default(), Some(&edit), None)
                .map_err(|e| e.fields()[0].field.clone())
                .unwrap_err()
        };
        let of = |set: &dyn Fn(&mut v1::ModelNotes)| {
            let mut edit = v1::ModelNotes::default();
            set(&mut edit);
            field(edit)
        };
        assert_eq!(of(&|e| e.display_name = "x".repeat(257)), "notes.display_name");
        assert_eq!(of(&|e| e.source = "a\u{1b}[2J".into()), "notes.source");
        assert_eq!(of(&|e| e.tags = vec![" ".into()]), "notes.tags");
        assert_eq!(of(&|e| e.tags = (0..65).map(|n| n.to_string()).collect()), "notes.tags");
        assert_eq!(of(&|e| e.type_override = "LORA".into()), "notes.type_override");
        assert_eq!(of(&|e| e.base_override = "a b".into()), "notes.base_override");
        let device = |d: &str| {
            let config = v1::ModelConfig { default_device: d.into(), ..Default::default() };
            let edit = v1::ModelNotes { config: Some(config), ..Default::default() };
            edited_notes(&ModelNotes::default(), Some(&edit), None).map(|n| n.config.default_device).ok()
        };
        assert_eq!(device("GPU_0").as_deref(), Some("cuda:0"));
        assert_eq!(device("cuda:x"), None);
    }
}
