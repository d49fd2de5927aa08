//! Devices and the processes that drive them: as JSON, as a table, and as a page for people.

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::{Value, json};

use crate::error::Result;
use crate::output::json::time;
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, text};

pub(crate) fn value(it: &v1::Device) -> Value {
    json!({
        "name": it.name,
        "device_id": it.device_id,
        "state": text::device_state(it.state),
        "model": it.model,
        "capacity_bytes": it.capacity_bytes,
        "used_bytes": it.used_bytes,
        "free_bytes": it.free_bytes,
        "mapped_bytes": it.mapped_bytes,
        "maps_segments": it.maps_segments,
        "dtypes": it.dtypes,
        "libraries": it.libraries,
        "worker": it.worker.as_ref().map(worker),
    })
}

fn worker(it: &v1::Worker) -> Value {
    json!({
        "state": text::worker_state(it.state),
        "worker_id": it.worker_id,
        "incarnation": it.incarnation,
        // 0 means "not known" on the wire.
        "process_id": (it.process_id > 0).then_some(it.process_id),
        "release": it.release,
        "supervised": it.supervised,
        "restarts": it.restarts,
        "problem": it.problem,
        "state_time": time(it.state_time.as_ref()),
    })
}

fn device_tone(state: i32) -> Tone {
    match v1::device::State::try_from(state) {
        Ok(v1::device::State::Open) => Tone::Good,
        Ok(v1::device::State::Cordoned | v1::device::State::Draining) => Tone::Warning,
        Ok(v1::device::State::Lost) => Tone::Bad,
        Ok(v1::device::State::Unspecified) | Err(_) => Tone::Plain,
    }
}

fn worker_tone(state: i32) -> Tone {
    use v1::worker::State;
    match State::try_from(state) {
        Ok(State::Active) => Tone::Good,
        Ok(State::Connecting | State::Registered | State::Suspect | State::Draining) => Tone::Warning,
        Ok(State::Lost | State::Quarantined) => Tone::Bad,
        Ok(State::Unspecified) | Err(_) => Tone::Plain,
    }
}

/// With how many models have a component there, beside each.
pub(crate) fn print_all(out: Out, devices: &[(&v1::Device, usize)]) -> Result<()> {
    let header =
        ["DEVICE", "STATE", "MODELS", "USED", "FREE", "CAPACITY", "WORKER", "PROCESS", "RESTARTS", "WHAT"];
    let mut table = Table::new(header).spare(&[8, 7, 4]);
    for (it, models) in devices {
        let worker = it.worker.clone().unwrap_or_default();
        let process = if worker.process_id > 0 { worker.process_id.to_string() } else { "-".to_owned() };
        let what = if worker.problem.is_empty() { &it.model } else { &worker.problem };
        table.row([
            text::one_line(&it.device_id).into(),
            Toned(device_tone(it.state), text::device_state(it.state)),
            models.to_string().into(),
            Bytes(it.used_bytes).to_string().into(),
            Bytes(it.free_bytes).to_string().into(),
            Bytes(it.capacity_bytes).to_string().into(),
            Toned(worker_tone(worker.state), text::worker_state(worker.state)),
            process.into(),
            worker.restarts.to_string().into(),
            text::one_line(what).into(),
        ]);
    }
    table.print(out)
}

/// As much of each as belongs beside other things.
pub(crate) fn print_short(out: Out, devices: &[v1::Device]) -> Result<()> {
    let mut table = Table::new(["DEVICE", "STATE", "USED", "FREE", "WORKER", "WHAT"]);
    for it in devices {
        let worker = it.worker.clone().unwrap_or_default();
        let what = if worker.problem.is_empty() { &it.model } else { &worker.problem };
        table.row([
            text::one_line(&it.device_id).into(),
            Toned(device_tone(it.state), text::device_state(it.state)),
            Bytes(it.used_bytes).to_string().into(),
            Bytes(it.free_bytes).to_string().into(),
            Toned(worker_tone(worker.state), text::worker_state(worker.state)),
            text::one_line(what).into(),
        ]);
    }
    table.print(out)
}

pub(crate) fn print(out: Out, it: &v1::Device) -> Result<()> {
    let worker = it.worker.clone().unwrap_or_default();
    out.line(out.toned(Tone::Strong, &text::one_line(&it.name)))?;
    out.row("state", &out.toned(device_tone(it.state), &text::device_state(it.state)))?;
    if !it.model.is_empty() {
        out.row("model", &text::one_line(&it.model))?;
        out.row("capacity", &Bytes(it.capacity_bytes).to_string())?;
        let mapped = if it.mapped_bytes > 0 {
            format!(", of that {} mapped from RAM", Bytes(it.mapped_bytes))
        } else {
            String::new()
        };
        out.row("used", &format!("{}{mapped}", Bytes(it.used_bytes)))?;
        out.row("free", &Bytes(it.free_bytes).to_string())?;
    }
    if !it.dtypes.is_empty() {
        out.row("converts", &format!("to {}", text::one_line(&it.dtypes.join(", "))))?;
    }
    let process =
        if worker.process_id > 0 { format!(", process {}", worker.process_id) } else { String::new() };
    let state = out.toned(worker_tone(worker.state), &text::worker_state(worker.state));
    let since = worker.state_time.as_ref().map(|time| format!(", since {}", text::when(time)));
    out.row("worker", &format!("{state}{process}{}", since.unwrap_or_default()))?;
    if worker.supervised {
        let again = match worker.restarts {
            0 => String::new(),
            restarts => format!(", and {restarts} times again"),
        };
        out.row("", &format!("started by the server{again}"))?;
    }
    if !worker.release.is_empty() {
        let libraries = it.libraries.iter().map(|name| format!(", {name}")).collect::<String>();
        out.row("release", &text::one_line(&format!("{}{libraries}", worker.release)))?;
    }
    if !worker.problem.is_empty() {
        out.row("problem", &text::one_line(&worker.problem))?;
    }
    Ok(())
}
