//! Components on devices: as JSON, as a table, and as a page for people.

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::{Value, json};

use crate::error::Result;
use crate::output::cache::short_segment;
use crate::output::called::Parts;
use crate::output::json::{seconds, time};
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, text};

/// A replica as Watch, GetStatus and ListReplicas tell it.
pub(crate) fn value(it: &v1::Replica) -> Value {
    let set = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    json!({
        "name": it.name,
        "device_id": it.device_id,
        "segment": it.segment,
        "dtype": set(&it.dtype),
        "state": text::replica_state(it.state),
        "models": it.models,
        "priority": text::priority(it.priority),
        "planned_bytes": it.planned_bytes,
        "own_bytes": it.own_bytes,
        "mapped_bytes": it.mapped_bytes,
        "tensors": it.tensors,
        "load_seconds": seconds(it.load_time.as_ref()),
        "failure": set(&it.failure),
        "create_time": time(it.create_time.as_ref()),
    })
}

/// The key that a field of the contract's Replica is shown under.
pub(crate) fn key_of(field: &str) -> &str {
    match field.split('.').next().unwrap_or(field) {
        "load_time" => "load_seconds",
        field => field,
    }
}

/// What it takes of its device: what it was given room for, as long as nothing of it is there.
pub(crate) const fn taken_bytes(it: &v1::Replica) -> u64 {
    match it.own_bytes.saturating_add(it.mapped_bytes) {
        0 => it.planned_bytes,
        bytes => bytes,
    }
}

/// The id without the collection.
pub(crate) fn id_of(it: &v1::Replica) -> &str {
    it.name.strip_prefix("replicas/").unwrap_or(&it.name)
}

/// The tone of a replica's state.
pub(crate) fn state_tone(state: i32) -> Tone {
    use v1::replica::State;
    match State::try_from(state) {
        Ok(State::Active) => Tone::Good,
        Ok(State::Waiting | State::Loading) => Tone::Strong,
        Ok(State::Unloading) => Tone::Warning,
        Ok(State::Failed) => Tone::Bad,
        Ok(State::Unspecified) | Err(_) => Tone::Plain,
    }
}

/// What it was converted to; a dash where it is as it was.
pub(crate) fn dtype(dtype: &str) -> String {
    if dtype.is_empty() { "-".to_owned() } else { text::one_line(dtype) }
}

pub(crate) fn print_all(out: Out, replicas: &[v1::Replica], ids: &[String], parts: &Parts) -> Result<()> {
    let header = ["ID", "DEVICE", "STATE", "SIZE", "MAPPED", "DTYPE", "TENSORS", "PRIORITY", "TOOK", "OF"];
    let mut table = Table::new(header).spare(&[6, 7, 8, 4, 5]);
    for (it, id) in replicas.iter().zip(ids) {
        let of = parts.users(&it.segment, &it.models);
        let took = it.load_time.as_ref().map(|span| text::span(text::wire_span(span)));
        table.row([
            Toned(Tone::Dim, id.clone()),
            text::one_line(&it.device_id).into(),
            Toned(state_tone(it.state), text::replica_state(it.state)),
            Bytes(taken_bytes(it)).to_string().into(),
            Bytes(it.mapped_bytes).to_string().into(),
            dtype(&it.dtype).into(),
            it.tensors.to_string().into(),
            text::priority(it.priority).into(),
            took.unwrap_or_else(|| "-".to_owned()).into(),
            if it.failure.is_empty() { of } else { format!("{of}: {}", text::one_line(&it.failure)) }.into(),
        ]);
    }
    table.print(out)
}

pub(crate) fn print(out: Out, it: &v1::Replica, parts: &Parts) -> Result<()> {
    out.line(out.toned(Tone::Strong, &text::one_line(&it.name)))?;
    out.toned_row("state", state_tone(it.state), &text::replica_state(it.state), "")?;
    out.row("device", &text::one_line(&it.device_id))?;
    out.row("segment", &text::one_line(short_segment(&it.segment).unwrap_or(&it.segment)))?;
    for model in &it.models {
        out.row("of", &parts.users(&it.segment, std::slice::from_ref(model)))?;
    }
    let mapped = match it.mapped_bytes {
        0 => String::new(),
        mapped => format!(", of that {} mapped from RAM", Bytes(mapped)),
    };
    out.row("size", &format!("{}{mapped}", Bytes(taken_bytes(it))))?;
    out.row("planned", &Bytes(it.planned_bytes).to_string())?;
    out.row("converted", &if it.dtype.is_empty() { String::new() } else { format!("to {}", it.dtype) })?;
    if it.tensors > 0 {
        out.row("tensors", &it.tensors.to_string())?;
    }
    out.row("priority", &text::priority(it.priority))?;
    let took = it.load_time.as_ref().map(|span| text::span(text::wire_span(span)));
    out.row("took", &took.unwrap_or_default())?;
    out.row("since", &it.create_time.as_ref().map(text::when).unwrap_or_default())?;
    out.row("failure", &text::one_line(&it.failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_contract_is_shown() {
        let shown = value(&v1::Replica::default());
        for field in [
            "name",
            "device_id",
            "segment",
            "dtype",
            "state",
            "models",
            "priority",
            "planned_bytes",
            "own_bytes",
            "mapped_bytes",
            "tensors",
            "load_time",
            "failure",
            "create_time",
        ] {
            assert!(shown.get(key_of(field)).is_some(), "{field}");
        }
    }

    #[test]
    fn until_it_is_there_it_takes_what_it_was_given_room_for() {
        let mut it = v1::Replica { planned_bytes: 9, ..Default::default() };
        assert_eq!(taken_bytes(&it), 9);
        (it.own_bytes, it.mapped_bytes) = (2, 3);
        assert_eq!(taken_bytes(&it), 5);
    }
}
