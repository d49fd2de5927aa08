//! Models as a page for people. Names and texts of files reach a terminal only through `text`, which takes from them what
//! could move the cursor.

use hoist_domain::Bytes;
use hoist_wire::v1;

use crate::error::Result;
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, text};

/// Digits of a digest that people read; enough to name a component by.
pub(crate) const DIGEST_DIGITS: usize = 12;

/// The tone of a verdict.
pub(crate) fn verdict_tone(verdict: i32) -> Tone {
    match v1::Verdict::try_from(verdict) {
        Ok(v1::Verdict::Ok) => Tone::Good,
        Ok(v1::Verdict::Suspicious | v1::Verdict::Incomplete) => Tone::Warning,
        Ok(v1::Verdict::Corrupt | v1::Verdict::Rejected | v1::Verdict::Malicious) => Tone::Bad,
        Ok(v1::Verdict::Unspecified) | Err(_) => Tone::Plain,
    }
}

/// `sdxl inpaint`, with a question mark where the files cannot tell it from others.
pub(crate) fn base(model: &v1::Model) -> String {
    let mark = if model.candidates.is_empty() { "" } else { "?" };
    let space = if model.variant.is_empty() { "" } else { " " };
    format!("{}{mark}{space}{}", model.base, model.variant)
}

/// The commonest element type, and how many others there are: `F16 +1`.
pub(crate) fn dtype(model: &v1::Model) -> String {
    match model.dtypes.as_slice() {
        [] => String::new(),
        [one] => one.dtype.clone(),
        [first, others @ ..] => format!("{} +{}", first.dtype, others.len()),
    }
}

/// A model as people read it, as far as the catalog knows it. `absent` are components that are pinned and not in RAM, as far as
/// somebody has looked.
pub(crate) fn print(out: Out, model: &v1::Model, absent: &[String]) -> Result<()> {
    out.line(out.toned(Tone::Strong, &text::one_line(&model.display_name)))?;
    let notes = model.notes.clone().unwrap_or_default();
    let config = notes.config.clone().unwrap_or_default();
    if !notes.aliases.is_empty() {
        out.row("aliases", &text::one_line(&notes.aliases.join(", ")))?;
    }
    let path = text::one_line(&model.path);
    let missing = model.state == i32::from(v1::model::State::Missing);
    out.row("path", &if missing { format!("{path} (missing)") } else { path })?;
    let said = |over: &str, value: &str| {
        if over.is_empty() { value.to_owned() } else { format!("{value} (set by hand)") }
    };
    out.row("type", &said(&notes.type_override, &model.r#type))?;
    out.row("base", &said(&notes.base_override, &base(model)))?;
    if !model.candidates.is_empty() {
        out.row("", &format!("the files fit {}", model.candidates.join(", ")))?;
    }
    out.row("confidence", &format!("{:.0} %", f64::from(model.confidence) * 100.0))?;
    out.row("title", &text::one_line(&model.title))?;
    out.row("predicts", &model.prediction_type)?;
    if model.resolution > 0 {
        out.row("made for", &format!("{} pixels", model.resolution))?;
    }
    out.row("format", &model.format)?;
    out.row("size", &Bytes(model.size_bytes).to_string())?;
    out.row(
        "tensors",
        &format!(
            "{}, {} parameters",
            model.tensor_count,
            text::count(model.parameter_count).replace(' ', "")
        ),
    )?;
    let dtypes: Vec<String> = model.dtypes.iter().map(|it| format!("{} × {}", it.count, it.dtype)).collect();
    out.row("dtypes", &dtypes.join(", "))?;
    // What has no files was written at no time.
    let modified = model.modify_time.as_ref().filter(|time| time.seconds > 0);
    out.row("modified", &modified.map(text::when).unwrap_or_default())?;
    print_notes(out, &notes, &config, &in_ram(&config, absent, pinned(model).len()))?;
    out.row("id", &model.name)?;
    let verdict = out.toned(verdict_tone(model.verdict), &text::verdict(model.verdict));
    let read = match &model.validate_time {
        Some(time) => format!(", every byte looked at {}", text::when(time)),
        None => ", by its headers".to_owned(),
    };
    out.line(format_args!(
        "{} {verdict}{}",
        out.toned(Tone::Dim, &format!("{:<11}", "verdict")),
        out.toned(Tone::Dim, &read)
    ))?;
    print_findings(out, &model.findings)?;
    print_components(out, &model.components)
}

/// Components that are pinned.
pub(crate) fn pinned(model: &v1::Model) -> Vec<&str> {
    let config = model.notes.as_ref().and_then(|notes| notes.config.as_ref());
    let is_pinned = |name: &String| {
        config.is_some_and(|it| {
            it.pinned && (it.pinned_components.is_empty() || it.pinned_components.contains(name))
        })
    };
    model.components.iter().map(|it| &it.name).filter(|name| is_pinned(name)).map(String::as_str).collect()
}

fn print_notes(out: Out, notes: &v1::ModelNotes, config: &v1::ModelConfig, in_ram: &str) -> Result<()> {
    out.row("tags", &text::one_line(&notes.tags.join(", ")))?;
    out.row("licence", &text::one_line(&notes.licence))?;
    out.row("source", &text::one_line(&notes.source))?;
    out.row("device", &config.default_device)?;
    if config.trusted {
        out.row("trusted", "yes: somebody vouches for the code in it")?;
    }
    out.row("in RAM", in_ram)?;
    // Prose of several lines stands under its label.
    let indented = |prose: &str| prose.trim_end().replace('\n', &format!("\n{:12}", ""));
    out.row("description", &indented(&notes.description))?;
    out.row("notes", &indented(&notes.notes))
}

/// What somebody has said of how it is kept in RAM, and which of the `pinned` components are not there. Empty: nothing.
pub(crate) fn in_ram(config: &v1::ModelConfig, absent: &[String], pinned: usize) -> String {
    let mut parts = Vec::new();
    let missing = match absent {
        [] => String::new(),
        all if all.len() == pinned => " (not in RAM)".to_owned(),
        some => format!(" ({} not in RAM)", text::one_line(&some.join(", "))),
    };
    match config.pinned_components.as_slice() {
        _ if !config.pinned => {}
        [] => parts.push(format!("pinned{missing}")),
        some => parts.push(format!("{} pinned{missing}", text::one_line(&some.join(", ")))),
    }
    if config.cache_priority != 0 {
        parts.push(format!("priority {}", text::priority(config.cache_priority)));
    }
    if let Some(ttl) = &config.cache_idle_ttl {
        parts.push(format!("may go when idle for {}", text::span(text::wire_span(ttl))));
    }
    parts.join(", ")
}

/// What is wrong, each with where it is and what to do.
pub(crate) fn print_findings(out: Out, findings: &[v1::Finding]) -> Result<()> {
    for finding in findings {
        let verdict = text::verdict(finding.verdict);
        let label = if finding.verdict == i32::from(v1::Verdict::Ok) { "remark" } else { &verdict };
        let kind = text::finding_kind(finding.kind);
        let tone = if label == "remark" { Tone::Dim } else { verdict_tone(finding.verdict) };
        out.line(format_args!(
            "  {} {kind}: {}{}",
            out.toned(tone, &format!("{label}:")),
            text::one_line(&finding.message),
            text::one_line(&place(finding))
        ))?;
        if !finding.advice.is_empty() {
            out.line(format_args!("    do: {}", text::one_line(&finding.advice)))?;
        }
    }
    Ok(())
}

/// Where a finding is, as far as its message does not say so.
fn place(finding: &v1::Finding) -> String {
    let mut parts = Vec::new();
    if !finding.tensor.is_empty() && !finding.message.contains(&finding.tensor) {
        parts.push(format!("tensor {}", finding.tensor));
    }
    if !finding.file.is_empty() && !finding.message.contains(&finding.file) {
        parts.push(format!("in {}", finding.file));
    }
    if let Some(offset) = finding.offset {
        parts.push(format!("at byte {offset}"));
    }
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

fn print_components(out: Out, components: &[v1::ModelComponent]) -> Result<()> {
    if components.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let mut table = Table::new(["COMPONENT", "TYPE", "SIZE", "PARAMS", "TENSORS", "DIGEST", "WHERE"]);
    for it in components {
        let place = match (it.place.is_empty(), it.prefix.is_empty()) {
            (true, true) => String::new(),
            (false, true) => format!("{}/", it.place),
            (true, false) => format!("{}*", it.prefix),
            (false, false) => format!("{}/ {}*", it.place, it.prefix),
        };
        table.row([
            Toned(Tone::Strong, text::one_line(&it.name)),
            it.r#type.as_str().into(),
            Bytes(it.size_bytes).to_string().into(),
            text::count(it.parameter_count).replace(' ', "").into(),
            it.tensor_count.to_string().into(),
            Toned(Tone::Dim, digest_start(&it.digest).to_owned()),
            text::one_line(&place).into(),
        ]);
    }
    table.print(out)
}

/// As much of a digest as names it.
pub(crate) fn digest_start(digest: &str) -> &str {
    if digest.is_empty() { "-" } else { digest.get(..DIGEST_DIGITS).unwrap_or(digest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_that_is_not_certain_has_a_question_mark() {
        let mut model = v1::Model { base: "sdxl".into(), ..Default::default() };
        assert_eq!(base(&model), "sdxl");
        model.candidates = vec!["sdxl".into(), "pony".into()];
        model.variant = "inpaint".into();
        assert_eq!(base(&model), "sdxl? inpaint");
    }

    #[test]
    fn what_is_said_of_its_place_in_ram_is_one_line() {
        let mut config = v1::ModelConfig { pinned: true, ..Default::default() };
        assert_eq!(in_ram(&config, &[], 2), "pinned");
        assert_eq!(in_ram(&config, &["unet".to_owned(), "vae".to_owned()], 2), "pinned (not in RAM)");
        assert_eq!(in_ram(&config, &["vae".to_owned()], 2), "pinned (vae not in RAM)");
        config.pinned_components = vec!["unet".into(), "vae".into()];
        config.cache_priority = v1::Priority::High.into();
        config.cache_idle_ttl = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        assert_eq!(in_ram(&config, &[], 2), "unet, vae pinned, priority high, may go when idle for 1 min");
        assert_eq!(in_ram(&v1::ModelConfig::default(), &[], 0), "");
    }
}
