//! Where a model is, joined over RAM and devices: as JSON, and in words.

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::{Value, json};

use crate::error::Result;
use crate::output::json::{operation_metadata, seconds, set};
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, cache, progress, replicas, text};

pub(crate) fn value(it: &v1::ModelStatus) -> Value {
    let replica = |one: &v1::ReplicaStatus| {
        let mut value = replicas::value(&one.replica.clone().unwrap_or_default());
        set(&mut value, "unknown", one.unknown.into());
        value
    };
    let component = |one: &v1::ComponentStatus| {
        json!({
            "component": one.component,
            "segment": one.segment.as_ref().map(cache::segment),
            "idle_seconds": seconds(one.idle.as_ref()),
            "uses": one.uses,
            "leases": one.leases,
            "replicas": one.replicas.iter().map(replica).collect::<Value>(),
        })
    };
    json!({
        "components": it.components.iter().map(component).collect::<Value>(),
        "operations": it.operations.iter().map(operation_metadata).collect::<Value>(),
        "leases": it.leases,
        "cached": it.cached,
        "loaded_on": it.loaded_on,
        "missing_on": it.missing_on,
    })
}

/// Below the page of the model of this name: what is going on, then a row per component and device.
pub(crate) fn print(out: Out, it: &v1::ModelStatus, model: &str) -> Result<()> {
    out.line("")?;
    out.row("cached", if it.cached { "yes" } else { "no" })?;
    out.row("loaded on", &text::one_line(&loaded_words(it, model)))?;
    if !it.missing_on.is_empty() {
        let on = it.missing_on.join(", ");
        out.row(
            "missing on",
            &text::one_line(&format!("{on}: it comes back by itself; `hoist sync` says more")),
        )?;
    }
    out.row("leases", &it.leases.to_string())?;
    for operation in &it.operations {
        out.row("running", &operation_words(operation))?;
    }
    if it.components.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let header = ["COMPONENT", "IN RAM", "SIZE", "LEASES", "USES", "IDLE", "DEVICE", "REPLICA", "ON DEVICE"];
    let mut table = Table::new(header).spare(&[4, 5]);
    for one in &it.components {
        let mut devices = one.replicas.iter();
        table.row(ram_cells(one).into_iter().chain(device_cells(devices.next(), model)));
        // Of the same component: what stands above is not said again.
        for replica in devices {
            let blank = (0..6).map(|_| Toned::from(""));
            table.row(blank.chain(device_cells(Some(replica), model)));
        }
    }
    table.print(out)
}

/// The devices that it is on, and how much of it where that is not all.
fn loaded_words(it: &v1::ModelStatus, model: &str) -> String {
    let on = |device: &String| {
        let is_here = |one: &v1::ReplicaStatus| {
            one.replica.as_ref().is_some_and(|one| {
                one.device_id == *device
                    && one.state() == v1::replica::State::Active
                    && one.models.iter().any(|of| of == model)
            })
        };
        let here = it.components.iter().filter(|one| one.replicas.iter().any(is_here)).count();
        let all = it.components.len();
        if here < all { format!("{device} ({here} of {all} components)") } else { device.clone() }
    };
    if it.loaded_on.is_empty() {
        return "no device".to_owned();
    }
    it.loaded_on.iter().map(on).collect::<Vec<_>>().join(", ")
}

fn ram_cells(it: &v1::ComponentStatus) -> [Toned; 6] {
    let (state, size) = match &it.segment {
        Some(segment) => (
            Toned(cache::state_tone(segment.state), cache::state_words(segment)),
            Bytes(segment.size_bytes).to_string(),
        ),
        None => (Toned(Tone::Dim, "no".to_owned()), "-".to_owned()),
    };
    let idle = it.idle.as_ref().map(|idle| text::span(text::wire_span(idle)));
    [
        Toned(Tone::Strong, text::one_line(&it.component)),
        state,
        size.into(),
        if it.leases > 0 { Toned(Tone::Strong, it.leases.to_string()) } else { "-".into() },
        it.uses.to_string().into(),
        idle.unwrap_or_else(|| "-".to_owned()).into(),
    ]
}

fn device_cells(it: Option<&v1::ReplicaStatus>, model: &str) -> [Toned; 3] {
    let Some(status) = it else { return ["-".into(), "".into(), "".into()] };
    let replica = status.replica.clone().unwrap_or_default();
    let state = if status.unknown {
        Toned(Tone::Warning, format!("unknown (was {})", text::replica_state(replica.state)))
    } else {
        Toned(replicas::state_tone(replica.state), text::replica_state(replica.state))
    };
    let size = Bytes(replicas::taken_bytes(&replica)).to_string();
    let what = match (replica.failure.as_str(), replica.dtype.as_str()) {
        ("", "") => size,
        ("", dtype) => format!("{size} as {}", text::one_line(dtype)),
        (failure, _) => text::one_line(failure),
    };
    // The same content, which this model was not loaded with.
    let of_others = !replica.models.is_empty() && !replica.models.iter().any(|of| of == model);
    let whose = if of_others { ", for others" } else { "" };
    [text::one_line(&replica.device_id).into(), state, format!("{what}{whose}").into()]
}

/// `load model, running: disk read, 45 % of 3.0 GiB in all`.
fn operation_words(it: &v1::OperationMetadata) -> String {
    let state = text::operation_state(it.state);
    let far = it.progress.as_ref().map(progress::in_words).filter(|words| !words.is_empty());
    let far = far.map(|words| format!(": {words}")).unwrap_or_default();
    format!("{}, {state}{far}", text::operation_kind(it.kind).replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_that_is_not_heard_of_had_is_not_known() {
        let status = v1::ReplicaStatus {
            replica: Some(v1::Replica {
                device_id: "cpu:0".into(),
                state: v1::replica::State::Active.into(),
                own_bytes: 1 << 20,
                models: vec!["models/x".into()],
                ..Default::default()
            }),
            unknown: true,
        };
        let cells = |model: &str| device_cells(Some(&status), model).map(|cell| cell.1);
        let [device, state, size] = cells("models/x");
        assert_eq!(cells("models/y")[2], "1.0 MiB, for others");
        assert_eq!((&*device, &*state, &*size), ("cpu:0", "unknown (was active)", "1.0 MiB"));
        let it = v1::ModelStatus {
            components: vec![v1::ComponentStatus { replicas: vec![status], ..Default::default() }],
            ..Default::default()
        };
        let value = value(&it);
        let replica = &value["components"][0]["replicas"][0];
        assert_eq!((&replica["unknown"], &replica["state"]), (&json!(true), &json!("active")));
        assert_eq!(value["components"][0]["segment"], Value::Null);
    }

    #[test]
    fn what_goes_on_is_told_with_how_far_it_is() {
        let it = v1::OperationMetadata {
            kind: v1::OperationKind::LoadModel.into(),
            state: v1::OperationState::Running.into(),
            progress: Some(v1::Progress {
                phase: "disk read".into(),
                done_bytes: 1,
                total_bytes: 4,
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(operation_words(&it), "load model, running: disk read, 25 % of 4 B in all");
    }
}
