//! What is in RAM: segments, leases, and what came of caching a model; as JSON, and in words.

use std::collections::BTreeMap;
use std::time::Duration;

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::{Value, json};

use crate::error::Result;
use crate::output::called::Called;
use crate::output::json::{seconds, set, time};
use crate::output::model_page::digest_start;
use crate::output::results::plural;
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, text};

/// A segment as Watch and GetStatus tell it.
pub(crate) fn segment(it: &v1::Segment) -> Value {
    let eviction = |it: &v1::Eviction| {
        json!({
            "reason": text::eviction_reason(it.reason),
            "beneficiary": Some(&it.beneficiary).filter(|model| !model.is_empty()),
        })
    };
    json!({
        "name": it.name,
        "state": text::segment_state(it.state),
        "bytes": it.size_bytes,
        "raw": it.raw,
        "type": it.r#type,
        "priority": text::priority(it.priority),
        "models": it.models,
        "seal_time": time(it.seal_time.as_ref()),
        "zombie": it.zombie,
        "eviction": it.eviction.as_ref().map(eviction),
    })
}

/// A segment and who is interested in it: `hoist segments --json` is an array of these.
pub(crate) fn segment_status(it: &v1::SegmentStatus) -> Value {
    let user = |it: &v1::SegmentUser| {
        json!({
            "id": it.model,
            "name": it.display_name,
            "component": it.component,
            "prefix": it.prefix,
            "cached": it.cached,
        })
    };
    let mut value = segment(&it.segment.clone().unwrap_or_default());
    set(&mut value, "path", Some(&it.path).filter(|path| !path.is_empty()).cloned().into());
    set(&mut value, "users", it.users.iter().map(user).collect());
    set(&mut value, "user_count", it.user_count.into());
    set(&mut value, "leases", it.leases.into());
    set(&mut value, "pinned", it.pinned.into());
    set(&mut value, "idle_seconds", seconds(it.idle.as_ref()));
    set(&mut value, "uses", it.uses.into());
    value
}

pub(crate) fn lease(it: &v1::Lease) -> Value {
    json!({
        "name": it.name,
        "state": text::lease_state(it.state),
        "model": it.model,
        "segments": it.segments,
        "bytes": it.size_bytes,
        "holder": it.holder,
        "principal": it.principal,
        "grant_time": time(it.grant_time.as_ref()),
        // 0 means "not known" on the wire.
        "process_id": (it.process_id > 0).then_some(it.process_id),
        "device_id": Some(&it.device_id).filter(|device| !device.is_empty()),
        "replicas": it.replicas,
    })
}

/// The key that a field of the contract's Segment or Lease is shown under.
pub(crate) fn key_of(field: &str) -> &str {
    match field {
        "size_bytes" => "bytes",
        // A mask may name a part of a field: what is shown is the whole.
        _ => field.split('.').next().unwrap_or(field),
    }
}

pub(crate) fn component(it: &v1::CachedComponent) -> Value {
    json!({
        "component": it.component,
        "segment": it.segment,
        "path": it.path,
        "prefix": it.prefix,
        "bytes": it.size_bytes,
        "source": text::cached_source(it.source),
    })
}

pub(crate) fn report(it: &v1::CacheModelResponse) -> Value {
    json!({
        "model": it.model,
        "components": it.components.iter().map(component).collect::<Value>(),
        "read_bytes": it.read_bytes,
        "took_seconds": seconds(it.took.as_ref()),
        "evicted": it.evicted,
        "left_out": it.left_out,
    })
}

/// As much of a segment's name as people read: the start of the digest. Without one the segment is not complete.
pub(crate) fn short_segment(name: &str) -> Option<&str> {
    let id = name.strip_prefix("segments/").unwrap_or(name);
    let is_digest = !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit());
    is_digest.then(|| digest_start(id))
}

/// How a component came into RAM, and how that looks.
fn how(source: i32) -> Toned {
    let tone = match v1::cached_component::Source::try_from(source) {
        Ok(v1::cached_component::Source::Shared) => Tone::Good,
        Ok(v1::cached_component::Source::Resident) => Tone::Dim,
        Ok(_) | Err(_) => Tone::Plain,
    };
    Toned(tone, text::cached_source(source))
}

/// A row per component, of models under the names by which people know them, and what could not come along. A model
/// without a name is the only one that there is to tell of.
pub(crate) fn print_reports(out: Out, reports: &[(&str, &v1::CacheModelResponse)]) -> Result<()> {
    let named = reports.iter().any(|(name, _)| !name.is_empty());
    let header = ["MODEL", "COMPONENT", "SIZE", "HOW", "PATH"];
    let skipped = usize::from(!named);
    let mut table = Table::new(header.into_iter().skip(skipped)).with_last_whole();
    let mut rows = 0;
    for (name, report) in reports {
        for it in &report.components {
            let cells: [Toned; 5] = [
                text::one_line(name).into(),
                Toned(Tone::Strong, text::one_line(&it.component)),
                Bytes(it.size_bytes).to_string().into(),
                how(it.source),
                text::one_line(&it.path).into(),
            ];
            table.row(cells.into_iter().skip(skipped));
            rows += 1;
        }
    }
    if rows > 0 {
        table.print(out)?;
    }
    for (name, report) in reports {
        for line in &report.left_out {
            let of = if name.is_empty() { String::new() } else { format!("{} ", text::one_line(name)) };
            let label = out.toned(Tone::Warning, "left on the disk:");
            out.line(format_args!("{label} {of}{}", text::one_line(line)))?;
        }
    }
    Ok(())
}

/// One line: `2 models, 5 components, 6.6 GiB: 4.1 GiB read in 1.5 s, 2.8 GB/s, 1 shared; 2 segments made room`. Of several
/// models at once the time that counts is that of all together.
pub(crate) fn summary(reports: &[&v1::CacheModelResponse], together: Option<Duration>) -> String {
    use v1::cached_component::Source;
    let components = || reports.iter().flat_map(|report| &report.components);
    let count = |some: usize| u64::try_from(some).unwrap_or(u64::MAX);
    let from = |source: Source| count(components().filter(|it| it.source == i32::from(source)).count());
    // What several models share is there once.
    let segments: BTreeMap<&str, u64> = components().map(|it| (it.segment.as_str(), it.size_bytes)).collect();
    let bytes = segments.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
    let read = reports.iter().fold(0_u64, |sum, report| sum.saturating_add(report.read_bytes));
    let evicted = reports.iter().fold(0, |sum, report| sum + report.evicted.len());
    let took = together.or_else(|| match reports {
        [one] => one.took.as_ref().map(text::wire_span),
        _ => None,
    });
    let models = match reports.len() {
        1 => String::new(),
        models => format!("{}, ", plural(count(models), "model")),
    };
    let mut parts = Vec::new();
    match (read, took) {
        (0, _) => parts.push("nothing had to be read".to_owned()),
        (read, None) => parts.push(format!("{} read", Bytes(read))),
        (read, Some(took)) => {
            parts.push(format!("{} read in {}", Bytes(read), text::span(took)));
            parts.extend(rate(read, took).map(text::rate));
        }
    }
    if let shared @ 1.. = from(Source::Shared) {
        parts.push(format!("{shared} shared"));
    }
    if let (resident @ 1.., 1..) = (from(Source::Resident), read) {
        parts.push(format!("{resident} there already"));
    }
    let room = match count(evicted) {
        0 => String::new(),
        evicted => format!("; {} made room", plural(evicted, "segment")),
    };
    let what = plural(count(components().count()), "component");
    format!("{models}{what}, {}: {}{room}", Bytes(bytes), parts.join(", "))
}

/// Bytes a second; unset for a time too short to tell.
pub(crate) fn rate(bytes: u64, took: Duration) -> Option<u64> {
    let rate = u128::from(bytes).saturating_mul(1_000_000).checked_div(took.as_micros())?;
    u64::try_from(rate).ok()
}

/// The tone of a segment's state.
pub(crate) fn state_tone(state: i32) -> Tone {
    match v1::segment::State::try_from(state) {
        Ok(v1::segment::State::Sealed) => Tone::Good,
        Ok(v1::segment::State::Filling) => Tone::Strong,
        Ok(v1::segment::State::Evicting) => Tone::Warning,
        Ok(v1::segment::State::Unspecified) | Err(_) => Tone::Plain,
    }
}

/// `evicting (zombie)`: it is withdrawn, and somebody still has it open.
pub(crate) fn state_words(it: &v1::Segment) -> String {
    let state = text::segment_state(it.state);
    if it.zombie { format!("{state} (zombie)") } else { state }
}

/// A segment; with who is interested in it, as far as it is listed.
pub(crate) fn print_segment(
    out: Out,
    it: &v1::Segment,
    used: Option<&v1::SegmentStatus>,
    called: &Called,
) -> Result<()> {
    out.line(out.toned(Tone::Strong, &text::one_line(&it.name)))?;
    out.row("state", &state_words(it))?;
    out.row("size", &Bytes(it.size_bytes).to_string())?;
    let kind = if it.r#type.is_empty() { "of no known model" } else { &it.r#type };
    out.row("type", kind)?;
    if it.raw {
        out.row("content", "files as they are, in a folder")?;
    }
    out.row("priority", &text::priority(it.priority))?;
    let models: Vec<String> = it.models.iter().map(|model| called.name(model)).collect();
    out.row("cached for", &models.join(", "))?;
    if let Some(used) = used {
        out.row("path", &text::one_line(&used.path))?;
        out.row("leases", &used.leases.to_string())?;
        out.row("pinned", if used.pinned { "yes" } else { "no" })?;
        let idle = used.idle.as_ref().map(|idle| text::span(text::wire_span(idle)));
        out.row("idle", &idle.unwrap_or_else(|| "not used since the start of the server".to_owned()))?;
        out.row("uses", &used.uses.to_string())?;
    }
    out.row("complete", &it.seal_time.as_ref().map(text::when).unwrap_or_default())?;
    if let Some(eviction) = &it.eviction {
        out.row("evicted", &why_evicted(eviction, called))?;
    }
    Ok(())
}

/// Why something was evicted, from the word that stands for it in JSON.
pub(crate) fn reason_words(reason: &str) -> &str {
    match reason {
        "asked" => "because somebody asked for it",
        "room" => "to make room",
        "pressure" => "because the machine is short of memory",
        "idle" => "because nobody used it",
        other => other,
    }
}

fn why_evicted(it: &v1::Eviction, called: &Called) -> String {
    let reason = text::eviction_reason(it.reason);
    let why = reason_words(&reason);
    if it.beneficiary.is_empty() {
        why.to_owned()
    } else {
        format!("{why} for {}", called.name(&it.beneficiary))
    }
}

pub(crate) fn lease_tone(state: i32) -> Tone {
    match v1::lease::State::try_from(state) {
        Ok(v1::lease::State::Held) => Tone::Good,
        Ok(v1::lease::State::Awaited) => Tone::Warning,
        Ok(v1::lease::State::Unspecified) | Err(_) => Tone::Plain,
    }
}

pub(crate) fn print_lease(out: Out, it: &v1::Lease, called: &Called) -> Result<()> {
    out.line(out.toned(Tone::Strong, &text::one_line(&it.name)))?;
    let awaited = it.state == i32::from(v1::lease::State::Awaited);
    let hint = if awaited { ": its holder has not come back since the server was started anew" } else { "" };
    out.row("state", &format!("{}{hint}", text::lease_state(it.state)))?;
    out.row("model", &called.name(&it.model))?;
    out.row("size", &Bytes(it.size_bytes).to_string())?;
    out.row("holder", &text::one_line(&it.holder))?;
    let process = if it.process_id > 0 { format!(", process {}", it.process_id) } else { String::new() };
    out.row("caller", &format!("{}{process}", text::one_line(&it.principal)))?;
    out.row("granted", &it.grant_time.as_ref().map(text::when).unwrap_or_default())?;
    for segment in &it.segments {
        out.row("segment", short_segment(segment).unwrap_or(segment))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::cached_component::Source;

    fn cached(segment: &str, source: Source, size_bytes: u64) -> v1::CachedComponent {
        v1::CachedComponent {
            segment: segment.into(),
            source: source.into(),
            size_bytes,
            ..Default::default()
        }
    }

    #[test]
    fn a_summary_says_what_was_read_and_how_fast() {
        let mut one = v1::CacheModelResponse {
            components: vec![cached("a", Source::Read, 1 << 30), cached("b", Source::Shared, 1 << 30)],
            read_bytes: 2 << 30,
            took: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
            ..Default::default()
        };
        assert_eq!(summary(&[&one], None), "2 components, 2.0 GiB: 2.0 GiB read in 2 s, 1.1 GB/s, 1 shared");
        one.evicted = vec!["segments/ab".into()];
        one.components.push(cached("c", Source::Resident, 1 << 30));
        assert_eq!(
            summary(&[&one, &one], Some(Duration::from_secs(1))),
            "2 models, 6 components, 3.0 GiB: 4.0 GiB read in 1 s, 4.3 GB/s, 2 shared, 2 there already; 2 segments made room"
        );
        let there = v1::CacheModelResponse {
            components: vec![cached("a", Source::Resident, 4096)],
            ..Default::default()
        };
        assert_eq!(summary(&[&there], None), "1 component, 4.0 KiB: nothing had to be read");
    }

    #[test]
    fn a_rate_needs_a_time() {
        assert_eq!(rate(1 << 40, Duration::ZERO), None);
        assert_eq!(rate(3_000_000_000, Duration::from_millis(1_500)), Some(2_000_000_000));
    }

    #[test]
    fn every_field_of_the_contract_is_shown() {
        let shown = segment(&v1::Segment::default());
        for field in [
            "name",
            "state",
            "size_bytes",
            "raw",
            "type",
            "priority",
            "models",
            "seal_time",
            "zombie",
            "eviction.reason",
        ] {
            assert!(shown.get(key_of(field)).is_some(), "{field}");
        }
        let shown = lease(&v1::Lease::default());
        for field in [
            "name",
            "state",
            "model",
            "segments",
            "size_bytes",
            "holder",
            "principal",
            "grant_time",
            "process_id",
        ] {
            assert!(shown.get(key_of(field)).is_some(), "{field}");
        }
    }

    #[test]
    fn a_segment_is_called_by_the_start_of_its_digest() {
        assert_eq!(short_segment(&format!("segments/{}", "ab".repeat(32))), Some("abababababab"));
        assert_eq!(short_segment("segments/0198c2f4-0000-7000-8000-00000000000a.3"), None);
    }
}
