//! What operations on models produced: as JSON, and in words.

use std::collections::HashMap;

use hoist_domain::Bytes;
pub(crate) use hoist_domain::plural;
use hoist_wire::v1;
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::output::json::seconds;
use crate::output::model::{findings, verdict_kind};
use crate::output::model_page::{print_findings, verdict_tone};
use crate::output::{Out, Tone, text};

/// Problems that are listed for people; `--json` has all that the server tells.
const PROBLEMS: usize = 20;

fn problems(problems: &[v1::PathProblem]) -> Value {
    problems.iter().map(|it| json!({ "path": it.path, "message": it.message })).collect()
}

fn counts(counts: &HashMap<String, u64>) -> Map<String, Value> {
    counts.iter().map(|(key, count)| (key.clone(), (*count).into())).collect()
}

pub(crate) fn scan_value(scan: &v1::ScanModelsResponse) -> Value {
    json!({
        "directories": scan.directories,
        "files": scan.files,
        "models": scan.models,
        "added": scan.added,
        "changed": scan.changed,
        "moved": scan.moved,
        "unchanged": scan.unchanged,
        "missing": scan.missing,
        "damaged": scan.damaged,
        "validated": scan.validated,
        "skipped": counts(&scan.skipped),
        "by_type": counts(&scan.by_type),
        "bytes": scan.size_bytes,
        "header_bytes": scan.header_bytes,
        "took_seconds": seconds(scan.took.as_ref()),
        "problems": problems(&scan.problems),
        "more_problems": scan.more_problems,
    })
}

pub(crate) fn digest_value(digests: &v1::DigestModelsResponse) -> Value {
    json!({
        "models": digests.models,
        "components": digests.components,
        "read_bytes": digests.read_bytes,
        "took_seconds": seconds(digests.took.as_ref()),
        "problems": problems(&digests.problems),
        "more_problems": digests.more_problems,
    })
}

pub(crate) fn validation_value(it: &v1::ValidateModelResponse) -> Value {
    let checksum = |it: &v1::FileChecksum| {
        json!({
            "file": it.file,
            "sha256": it.sha256,
            "expected_sha256": Some(&it.expected_sha256).filter(|sum| !sum.is_empty()),
            "source": Some(&it.source).filter(|source| !source.is_empty()),
        })
    };
    json!({
        "model": it.model,
        "level": text::validation_level(it.level),
        "verdict": text::verdict(it.verdict),
        "verdict_kind": verdict_kind(it.verdict, &it.findings),
        "findings": findings(&it.findings),
        "more_findings": it.more_findings,
        "read_bytes": it.read_bytes,
        "took_seconds": seconds(it.took.as_ref()),
        "checksums": it.checksums.iter().map(checksum).collect::<Value>(),
        "compatibility": it.compatibility.as_ref().map(compatibility),
    })
}

fn compatibility(it: &v1::Compatibility) -> Value {
    let check = |it: &v1::CompatibilityCheck| {
        json!({
            "category": text::check_category(it.category),
            "result": text::check_result(it.result),
            "message": it.message,
            "advice": it.advice,
        })
    };
    json!({
        "device": it.device,
        "compatible": it.compatible,
        "needed_bytes": it.needed_bytes,
        "capacity_bytes": it.capacity_bytes,
        "checks": it.checks.iter().map(check).collect::<Value>(),
    })
}

/// Says that an answer may lack what was not found yet: also to scripts, which would take it for all there is.
pub(crate) fn note_first_look(out: Out, first_look: Option<v1::FirstLook>) {
    if let Some(look) = first_look {
        out.say(format_args!("{}; `hoist scan --wait` waits for it", first_look_words(look)));
    }
}

/// How far the first look of the server's life is.
pub(crate) fn first_look_words(look: v1::FirstLook) -> String {
    let so_far = plural(look.models, "model");
    format!("the roots are still being looked at for the first time: {so_far} so far")
}

/// The most first: `12 lora, 3 vae`.
fn listed(counts: &HashMap<String, u64>) -> String {
    let mut sorted: Vec<(&String, &u64)> = counts.iter().collect();
    sorted.sort_by(|(name, count), (other, more)| more.cmp(count).then(name.cmp(other)));
    let parts: Vec<String> = sorted.into_iter().map(|(name, count)| format!("{count} {name}")).collect();
    text::one_line(&parts.join(", ").replace('_', " "))
}

pub(crate) fn print_scan(out: Out, scan: &v1::ScanModelsResponse) -> Result<()> {
    let took =
        scan.took.as_ref().map(|it| format!(" in {}", text::span(text::wire_span(it)))).unwrap_or_default();
    out.line(format_args!(
        "{}, {}{took}",
        out.toned(Tone::Strong, &plural(scan.models, "model")),
        Bytes(scan.size_bytes)
    ))?;
    out.row("by type", &listed(&scan.by_type))?;
    let news = [
        (scan.added, "added"),
        (scan.changed, "changed"),
        (scan.moved, "moved"),
        (scan.missing, "missing"),
        (scan.unchanged, "unchanged"),
    ];
    let news: Vec<String> =
        news.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    out.row("changes", &news.join(", "))?;
    if scan.validated > 0 {
        let damaged = if scan.damaged > 0 { "" } else { ", nothing is wrong with any" };
        out.row("validated", &format!("{}{damaged}", plural(scan.validated, "model")))?;
    }
    if scan.damaged > 0 {
        let damaged = out.toned(Tone::Bad, &scan.damaged.to_string());
        let label = out.toned(Tone::Dim, &format!("{:<11}", "damaged"));
        out.line(format_args!("{label} {damaged}: `hoist verdicts` says what is wrong"))?;
    }
    out.row("looked at", &format!("{}, {}", plural(scan.files, "file"), folders(scan.directories)))?;
    out.row("skipped", &listed(&scan.skipped))?;
    print_problems(out, &scan.problems, scan.more_problems)
}

fn folders(count: u64) -> String {
    plural(count, "folder")
}

pub(crate) fn print_digest(out: Out, digests: &v1::DigestModelsResponse) -> Result<()> {
    let took = digests
        .took
        .as_ref()
        .map(|it| format!(" in {}", text::span(text::wire_span(it))))
        .unwrap_or_default();
    out.line(format_args!(
        "{} of {} got digests; {} read{took}",
        plural(digests.components, "component"),
        plural(digests.models, "model"),
        Bytes(digests.read_bytes)
    ))?;
    print_problems(out, &digests.problems, digests.more_problems)
}

fn print_problems(out: Out, problems: &[v1::PathProblem], more: u64) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    out.line("")?;
    out.line(out.toned(Tone::Warning, "could not be read:"))?;
    for it in problems.iter().take(PROBLEMS) {
        out.line(format_args!("  {}: {}", text::one_line(&it.path), text::one_line(&it.message)))?;
    }
    let hidden = u64::try_from(problems.len().saturating_sub(PROBLEMS)).unwrap_or(0).saturating_add(more);
    if hidden > 0 {
        out.line(format_args!("  and {hidden} more"))?;
    }
    Ok(())
}

/// A validation, under the name by which people know the model.
pub(crate) fn print_validation(out: Out, name: &str, it: &v1::ValidateModelResponse) -> Result<()> {
    let took =
        it.took.as_ref().map(|took| format!(" in {}", text::span(text::wire_span(took)))).unwrap_or_default();
    let read = match it.read_bytes {
        0 => String::new(),
        bytes => format!("  {} read{took}", Bytes(bytes)),
    };
    out.line(format_args!(
        "{}: {}{}",
        text::one_line(name),
        out.toned(verdict_tone(it.verdict), &text::verdict(it.verdict)),
        out.toned(Tone::Dim, &format!("  ({} check{read})", text::validation_level(it.level)))
    ))?;
    print_findings(out, &it.findings)?;
    if it.more_findings > 0 {
        out.line(format_args!("  and {} more", it.more_findings))?;
    }
    for sum in &it.checksums {
        let verdict = match sum.expected_sha256.as_str() {
            "" => String::new(),
            expected if expected == sum.sha256 => format!("  as {} says", source(sum)),
            expected => format!("  but {} says {expected}", source(sum)),
        };
        let file = if sum.file.is_empty() { name } else { &sum.file };
        out.line(format_args!("  {}  {}{}", sum.sha256, text::one_line(file), text::one_line(&verdict)))?;
    }
    it.compatibility.as_ref().map_or(Ok(()), |it| print_compatibility(out, it))
}

fn source(sum: &v1::FileChecksum) -> &str {
    if ["", "request"].contains(&sum.source.as_str()) { "the request" } else { &sum.source }
}

fn print_compatibility(out: Out, it: &v1::Compatibility) -> Result<()> {
    let (tone, words) =
        if it.compatible { (Tone::Good, "can take it") } else { (Tone::Bad, "cannot take it as it is") };
    out.line(format_args!(
        "  {} {}: it needs {} of {}",
        text::one_line(&it.device),
        out.toned(tone, words),
        Bytes(it.needed_bytes),
        Bytes(it.capacity_bytes)
    ))?;
    for check in &it.checks {
        let tone = match v1::compatibility_check::Result::try_from(check.result) {
            Ok(v1::compatibility_check::Result::Ok) => Tone::Good,
            Ok(v1::compatibility_check::Result::Warning) => Tone::Warning,
            Ok(v1::compatibility_check::Result::Failed) => Tone::Bad,
            Ok(v1::compatibility_check::Result::Unspecified) | Err(_) => Tone::Plain,
        };
        out.line(format_args!(
            "  {:<10} {} {}",
            text::check_category(check.category),
            out.toned(tone, &format!("{:<8}", text::check_result(check.result))),
            text::one_line(&check.message)
        ))?;
        if !check.advice.is_empty() {
            out.line(format_args!("    do: {}", text::one_line(&check.advice)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_listed_most_first() {
        let counts =
            HashMap::from([("vae".to_owned(), 3), ("text_encoder".to_owned(), 12), ("lora".to_owned(), 12)]);
        assert_eq!(listed(&counts), "12 lora, 12 text encoder, 3 vae");
        assert_eq!(listed(&HashMap::new()), "");
    }

    #[test]
    fn a_validation_as_json_says_what_kind_of_trouble_it_is() {
        let finding = |verdict: v1::Verdict, kind: v1::FindingKind| v1::Finding {
            verdict: verdict.into(),
            kind: kind.into(),
            ..Default::default()
        };
        let value = validation_value(&v1::ValidateModelResponse {
            level: v1::ValidationLevel::Full.into(),
            verdict: v1::Verdict::Corrupt.into(),
            findings: vec![
                finding(v1::Verdict::Corrupt, v1::FindingKind::Checksum),
                finding(v1::Verdict::Suspicious, v1::FindingKind::Data),
            ],
            ..Default::default()
        });
        assert_eq!((&value["level"], &value["verdict_kind"]), (&json!("full"), &json!("checksum")));
        assert_eq!(value["compatibility"], Value::Null);
    }
}
