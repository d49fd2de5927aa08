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
        "cordoned": it.cordoned,
        "cordon_reason": Some(&it.cordon_reason).filter(|reason| !reason.is_empty()),
        "granularity_bytes": it.granularity_bytes,
        "alignment_bytes": it.alignment_bytes,
        "others_bytes": it.others_bytes,
        "problem": it.problem,
        "lent_bytes": it.lent_bytes,
        "lent_processes": it.lent_processes,
        // 0 means "not known" on the wire.
        "bus_bytes_per_second": (it.bus_bytes_per_second > 0).then_some(it.bus_bytes_per_second),
        "memory_node": it.memory_node,
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

/// Its state, and that it is cordoned where that is not its state: while its worker is away.
fn state_words(it: &v1::Device) -> String {
    let state = text::device_state(it.state);
    let is_told = it.state == i32::from(v1::device::State::Cordoned);
    if it.cordoned && !is_told { format!("{state}, cordoned") } else { state }
}

/// What is worth saying of it in one line: what is wrong, else why it takes nothing, else what it is.
fn what(it: &v1::Device) -> String {
    let problem = it.worker.as_ref().map_or("", |worker| &worker.problem);
    let cordoned = match it.cordon_reason.as_str() {
        "" => String::new(),
        reason => format!("cordoned: {reason}"),
    };
    let parts: Vec<&str> =
        [problem, &it.problem, &cordoned].into_iter().filter(|part| !part.is_empty()).collect();
    text::one_line(&if parts.is_empty() { it.model.clone() } else { parts.join("; ") })
}

/// In what state it is: `cpu:0 is cordoned (new driver); its worker is active`.
pub(crate) fn sentence(it: &v1::Device) -> String {
    let reason = match it.cordon_reason.as_str() {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    let told = match (&it.worker, it.cordoned) {
        (Some(worker), _) => {
            let problem = match worker.problem.as_str() {
                "" => String::new(),
                problem => format!(": {problem}"),
            };
            let state = text::worker_state(worker.state);
            format!("{} is {}{reason}; its worker is {state}{problem}", it.device_id, state_words(it))
        }
        (None, true) => format!("{} is cordoned{reason}; no worker was heard of for it", it.device_id),
        (None, false) => format!("{} is not cordoned; no worker was heard of for it", it.device_id),
    };
    text::one_line(&told)
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
        table.row([
            text::one_line(&it.device_id).into(),
            Toned(device_tone(it.state), state_words(it)),
            models.to_string().into(),
            Bytes(it.used_bytes).to_string().into(),
            Bytes(it.free_bytes).to_string().into(),
            Bytes(it.capacity_bytes).to_string().into(),
            Toned(worker_tone(worker.state), text::worker_state(worker.state)),
            process.into(),
            worker.restarts.to_string().into(),
            what(it).into(),
        ]);
    }
    table.print(out)
}

/// As much of each as belongs beside other things.
pub(crate) fn print_short(out: Out, devices: &[v1::Device]) -> Result<()> {
    let mut table = Table::new(["DEVICE", "STATE", "USED", "FREE", "WORKER", "WHAT"]);
    for it in devices {
        let worker = it.worker.clone().unwrap_or_default();
        table.row([
            text::one_line(&it.device_id).into(),
            Toned(device_tone(it.state), state_words(it)),
            Bytes(it.used_bytes).to_string().into(),
            Bytes(it.free_bytes).to_string().into(),
            Toned(worker_tone(worker.state), text::worker_state(worker.state)),
            what(it).into(),
        ]);
    }
    table.print(out)
}

pub(crate) fn print(out: Out, it: &v1::Device) -> Result<()> {
    let worker = it.worker.clone().unwrap_or_default();
    out.line(out.toned(Tone::Strong, &text::one_line(&it.name)))?;
    out.toned_row("state", device_tone(it.state), &state_words(it), "")?;
    if it.cordoned {
        let why = &it.cordon_reason;
        out.row("cordoned", &text::one_line(if why.is_empty() { "no reason was given" } else { why }))?;
    }
    if !it.model.is_empty() {
        out.row("model", &text::one_line(&it.model))?;
        out.row("capacity", &Bytes(it.capacity_bytes).to_string())?;
        let mapped = if it.mapped_bytes > 0 {
            format!(", of that {} mapped from RAM", Bytes(it.mapped_bytes))
        } else {
            String::new()
        };
        out.row("used", &format!("{}{mapped}", Bytes(it.used_bytes)))?;
        if it.others_bytes > 0 {
            out.row(
                "others",
                &format!("{} by other processes, and by the worker itself", Bytes(it.others_bytes)),
            )?;
        }
        if it.lent_bytes > 0 {
            let processes = hoist_domain::plural(it.lent_processes.into(), "process");
            let lent = Bytes(it.lent_bytes);
            out.row(
                "lent",
                &format!(
                    "of that {lent} of models that are gone, still in {processes}: see the worker's log"
                ),
            )?;
        }
        out.row("free", &Bytes(it.free_bytes).to_string())?;
        if it.bus_bytes_per_second > 0 {
            let node =
                it.memory_node.map(|node| format!(", nearest to memory node {node}")).unwrap_or_default();
            out.row("bus", &format!("{}/s at most{node}", Bytes(it.bus_bytes_per_second)))?;
        }
    }
    if !it.problem.is_empty() {
        out.toned_row("problem", Tone::Bad, &text::one_line(&it.problem), "; it takes nothing new")?;
    }
    if !it.dtypes.is_empty() {
        out.row("converts", &format!("to {}", text::one_line(&it.dtypes.join(", "))))?;
    }
    let process =
        if worker.process_id > 0 { format!(", process {}", worker.process_id) } else { String::new() };
    let (tone, state) = (worker_tone(worker.state), text::worker_state(worker.state));
    let since = worker.state_time.as_ref().map(|time| format!(", since {}", text::when(time)));
    out.toned_row("worker", tone, &state, &format!("{process}{}", since.unwrap_or_default()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn device(state: v1::device::State, worker: v1::worker::State, reason: &str) -> v1::Device {
        v1::Device {
            device_id: "cpu:0".into(),
            state: state.into(),
            model: "AMD".into(),
            worker: Some(v1::Worker { state: worker.into(), ..Default::default() }),
            cordoned: true,
            cordon_reason: reason.into(),
            ..Default::default()
        }
    }

    #[test]
    fn that_a_device_is_cordoned_is_told_also_while_its_worker_is_away() {
        use v1::device::State::{Cordoned, Lost, Open};
        use v1::worker::State::{Active, Quarantined};
        let mut it = device(Cordoned, Active, "hot");
        assert_eq!((state_words(&it), what(&it)), ("cordoned".into(), "cordoned: hot".into()));
        assert_eq!(sentence(&it), "cpu:0 is cordoned (hot); its worker is active");
        it = device(Lost, Quarantined, "");
        assert_eq!((state_words(&it), what(&it)), ("lost, cordoned".into(), "AMD".into()));
        if let Some(worker) = it.worker.as_mut() {
            worker.problem = "no card".into();
        }
        assert_eq!(sentence(&it), "cpu:0 is lost, cordoned; its worker is quarantined: no card");
        it.cordon_reason = "hot".into();
        assert_eq!(what(&it), "no card; cordoned: hot");
        it = v1::Device { cordoned: false, ..device(Open, Active, "") };
        assert_eq!(sentence(&it), "cpu:0 is open; its worker is active");
        assert_eq!(value(&it)["cordon_reason"], Value::Null);
    }
}
