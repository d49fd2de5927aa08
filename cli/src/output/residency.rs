//! What came of bringing models to a device and of taking them off again: as JSON, and in words.

use std::collections::{BTreeMap, BTreeSet};

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::{Value, json};

use crate::error::Result;
use crate::output::called::{Called, Parts};
use crate::output::json::seconds;
use crate::output::replicas::dtype;
use crate::output::results::plural;
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, text};

pub(crate) fn loaded_value(it: &v1::LoadModelResponse, called: &Called) -> Value {
    let component = |one: &v1::LoadedComponent| {
        json!({
            "model": one.model,
            "model_name": called.get(&one.model),
            "component": one.component,
            "replica": one.replica,
            "segment": one.segment,
            "dtype": Some(&one.dtype).filter(|dtype| !dtype.is_empty()),
            "own_bytes": one.own_bytes,
            "mapped_bytes": one.mapped_bytes,
            "tensors": one.tensors,
            "resident": one.resident,
            "load_seconds": seconds(one.load_time.as_ref()),
        })
    };
    json!({
        "device_id": it.device_id,
        "components": it.components.iter().map(component).collect::<Value>(),
        "read_bytes": it.read_bytes,
        "took_seconds": seconds(it.took.as_ref()),
        "unloaded": it.unloaded,
        "left_out": it.left_out,
        "reasons": it.reasons,
        "strategy": text::load_strategy(it.strategy),
    })
}

/// A row per component, and what could not come along.
pub(crate) fn print_loaded(out: Out, it: &v1::LoadModelResponse, called: &Called) -> Result<()> {
    let models: BTreeSet<&str> = it.components.iter().map(|one| one.model.as_str()).collect();
    let skipped = usize::from(models.len() < 2);
    let header = ["MODEL", "COMPONENT", "DEVICE", "SIZE", "DTYPE", "HOW", "TOOK"];
    let mut table = Table::new(header.into_iter().skip(skipped));
    for one in &it.components {
        let took = one.load_time.as_ref().map(|span| text::span(text::wire_span(span)));
        let how = if one.resident { (Tone::Dim, "resident") } else { (Tone::Plain, "loaded") };
        let cells: [Toned; 7] = [
            called.name(&one.model).into(),
            Toned(Tone::Strong, text::one_line(&one.component)),
            text::one_line(&it.device_id).into(),
            Bytes(one.own_bytes.saturating_add(one.mapped_bytes)).to_string().into(),
            dtype(&one.dtype).into(),
            Toned(how.0, how.1.to_owned()),
            took.unwrap_or_else(|| "-".to_owned()).into(),
        ];
        table.row(cells.into_iter().skip(skipped));
    }
    if !it.components.is_empty() {
        table.print(out)?;
    }
    print_left_out(out, &it.left_out)
}

pub(crate) fn print_left_out(out: Out, left_out: &[String]) -> Result<()> {
    for line in left_out {
        out.line(format_args!("{} {}", out.toned(Tone::Warning, "not loaded:"), text::one_line(line)))?;
    }
    Ok(())
}

/// Why it is on that device and on no other.
pub(crate) fn note_reasons(out: Out, it: &v1::LoadModelResponse) {
    for reason in &it.reasons {
        out.note(text::one_line(reason));
    }
}

/// One line: `2 components, 1.2 GiB on cpu:0 in 1.5 s: 1.2 GiB read, 1 there already; sdxl made room`.
pub(crate) fn loaded_summary(it: &v1::LoadModelResponse, called: &Called) -> String {
    let count = |some: usize| u64::try_from(some).unwrap_or(u64::MAX);
    // What several models share is there once.
    let bytes: BTreeMap<&str, u64> = it
        .components
        .iter()
        .map(|one| (one.replica.as_str(), one.own_bytes.saturating_add(one.mapped_bytes)))
        .collect();
    let bytes = bytes.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
    let read = match it.read_bytes {
        0 => "nothing had to be read".to_owned(),
        read => format!("{} read", Bytes(read)),
    };
    let resident = match it.components.iter().filter(|one| one.resident).count() {
        0 => String::new(),
        resident => format!(", {resident} there already"),
    };
    let room = match it.unloaded.as_slice() {
        [] => String::new(),
        some => format!("; {} made room", names(some, called)),
    };
    format!(
        "{}, {} on {}{}: {read}{resident}{room}",
        plural(count(it.components.len()), "component"),
        Bytes(bytes),
        text::one_line(&it.device_id),
        took(it.took.as_ref())
    )
}

/// Models as people call them, one after the other.
pub(crate) fn names(models: &[String], called: &Called) -> String {
    models.iter().map(|model| called.name(model)).collect::<Vec<_>>().join(", ")
}

fn took(span: Option<&prost_types::Duration>) -> String {
    span.map(|span| format!(" in {}", text::span(text::wire_span(span)))).unwrap_or_default()
}

pub(crate) fn unloaded_value(it: &v1::UnloadModelResponse, parts: &Parts) -> Value {
    let replica = |one: &v1::UnloadedReplica| {
        json!({
            "replica": one.replica,
            "device_id": one.device_id,
            "segment": one.segment,
            "used_by": parts.known(&one.segment),
            "expected_bytes": one.expected_bytes,
            "returned_bytes": one.returned_bytes,
            "kept_because": Some(&one.kept_because).filter(|why| !why.is_empty()),
        })
    };
    json!({
        "replicas": it.replicas.iter().map(replica).collect::<Value>(),
        "expected_bytes": it.expected_bytes,
        "returned_bytes": it.returned_bytes,
        "retained_bytes": it.retained_bytes,
        "took_seconds": seconds(it.took.as_ref()),
    })
}

/// A row per replica: what it took, and what came back of it.
pub(crate) fn print_unloaded(out: Out, it: &v1::UnloadModelResponse, parts: &Parts) -> Result<()> {
    if it.replicas.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(["COMPONENT", "DEVICE", "EXPECTED", "RETURNED", "WHAT", "WHY"]);
    for one in &it.replicas {
        let is_kept = !one.kept_because.is_empty();
        let (tone, became) = if is_kept { (Tone::Warning, "kept") } else { (Tone::Good, "unloaded") };
        table.row([
            parts.content(&one.segment).into(),
            text::one_line(&one.device_id).into(),
            Bytes(one.expected_bytes).to_string().into(),
            Bytes(one.returned_bytes).to_string().into(),
            Toned(tone, became.to_owned()),
            text::one_line(&one.kept_because).into(),
        ]);
    }
    table.print(out)
}

/// One line: `1.2 GiB of 1.2 GiB returned in 12 ms, 3 replicas, 1 kept`.
pub(crate) fn unloaded_summary(it: &v1::UnloadModelResponse) -> String {
    let kept = it.replicas.iter().filter(|one| !one.kept_because.is_empty()).count();
    let gone = u64::try_from(it.replicas.len() - kept).unwrap_or(u64::MAX);
    let retained = match it.retained_bytes {
        0 => String::new(),
        bytes => format!(", {} not given back", Bytes(bytes)),
    };
    let kept = if kept == 0 { String::new() } else { format!(", {kept} kept") };
    format!(
        "{} of {} returned{}, {}{retained}{kept}",
        Bytes(it.returned_bytes),
        Bytes(it.expected_bytes),
        took(it.took.as_ref()),
        plural(gone, "replica")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(replica: &str, resident: bool) -> v1::LoadedComponent {
        v1::LoadedComponent {
            model: "models/x".into(),
            component: "vae".into(),
            replica: replica.into(),
            own_bytes: 1 << 20,
            mapped_bytes: 1 << 20,
            resident,
            ..Default::default()
        }
    }

    #[test]
    fn a_load_is_told_in_one_line() {
        let mut it = v1::LoadModelResponse {
            device_id: "cpu:0".into(),
            components: vec![loaded("a", false), loaded("a", false), loaded("b", true)],
            took: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
            ..Default::default()
        };
        let called = Called([("models/y".to_owned(), "old".to_owned())].into());
        assert_eq!(
            loaded_summary(&it, &called),
            "3 components, 4.0 MiB on cpu:0 in 1.5 s: nothing had to be read, 1 there already"
        );
        it.read_bytes = 1 << 30;
        it.components.truncate(1);
        it.unloaded = vec!["models/y".into(), "models/z".into()];
        assert_eq!(
            loaded_summary(&it, &called),
            "1 component, 2.0 MiB on cpu:0 in 1.5 s: 1.0 GiB read; old, models/z made room"
        );
    }

    #[test]
    fn what_is_kept_and_what_is_not_given_back_is_told() {
        let one = |kept: &str| v1::UnloadedReplica { kept_because: kept.into(), ..Default::default() };
        let it = v1::UnloadModelResponse {
            replicas: vec![one(""), one("another model shares it")],
            expected_bytes: 3 << 20,
            returned_bytes: 2 << 20,
            retained_bytes: 1 << 20,
            took: None,
        };
        assert_eq!(
            unloaded_summary(&it),
            "2.0 MiB of 3.0 MiB returned, 1 replica, 1.0 MiB not given back, 1 kept"
        );
        assert_eq!(unloaded_value(&it, &Parts::default())["replicas"][0]["kept_because"], Value::Null);
    }

    #[test]
    fn what_is_as_it_was_has_no_type_in_json() {
        let it = v1::LoadModelResponse { components: vec![loaded("a", true)], ..Default::default() };
        let value = loaded_value(&it, &Called::default());
        let one = &value["components"][0];
        assert_eq!(
            (&one["dtype"], &one["load_seconds"], &one["resident"]),
            (&Value::Null, &Value::Null, &json!(true))
        );
    }
}
