//! `hoist status`: the machine as a whole, or what is known about each of the named things.

use hoist_domain::Bytes;
use hoist_wire::status::Failure;
use hoist_wire::v1;
use prost_types::FieldMask;
use serde_json::{Value, json};

use crate::args::StatusArgs;
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::called::Parts;
use crate::output::results::plural;
use crate::output::{
    Out, Tone, cache, devices, error_value, json, model_page, model_status, replicas, results, table, text,
};
use crate::verbs::segments::{self, Listed};
use crate::verbs::{Session, names, names_of, ops};

pub(crate) async fn run(session: &Session, args: &StatusArgs) -> Result<Exit> {
    let client = session.connect().await?;
    if args.names.is_empty() {
        let status = machine(&client).await?;
        if session.out.json {
            session.out.value(&json::status(&status))?;
        } else {
            print(session.out, &status, &Beside::default())?;
        }
        return Ok(Exit::Done);
    }
    many(session, &client, &args.names).await
}

/// The machine's status.
pub(crate) async fn machine(client: &Client) -> Result<v1::Status> {
    let request = v1::GetStatusRequest { request_id: request_id(), ..Default::default() };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.state().get_status(request)).await?;
    answer.status.ok_or_else(|| Error::unreadable("the status"))
}

/// Every name gets its answer; the exit code is that of the first which has none.
async fn many(session: &Session, client: &Client, written: &[String]) -> Result<Exit> {
    let resolved = names::resolve_each(client, written).await?;
    let names: Vec<String> = resolved.iter().filter_map(|name| name.as_ref().ok().cloned()).collect();
    let mut answers = batch(client, names, &[]).await?.into_iter();
    let mut statuses: Vec<Result<v1::Status>> = Vec::with_capacity(written.len());
    for name in resolved {
        statuses.push(match name {
            Ok(_) => answers.next().unwrap_or_else(|| Err(Error::unreadable("the answer: it is short"))),
            Err(error) => Err(error),
        });
    }

    let out = session.out;
    if let ([one], true) = (statuses.as_slice(), out.json) {
        // One name is one object, as for the machine; what is wrong with it is told like any other error.
        if let Ok(status) = one {
            out.value(&json::status(status))?;
        }
    } else if out.json {
        let rows = written.iter().zip(&statuses).map(|(written, status)| match status {
            Ok(status) => json::status(status),
            Err(error) => json!({ "name": written, "error": error_value(error) }),
        });
        out.value(&rows.collect::<Value>())?;
    }
    let mut exit = Exit::Done;
    let beside = if out.json { Beside::default() } else { Beside::of(client, &statuses).await? };
    for (index, status) in statuses.iter().enumerate() {
        match status {
            Ok(status) if !out.json => {
                if index > 0 {
                    out.line("")?;
                }
                print(out, status, &beside)?;
            }
            Ok(_) => {}
            Err(error) => {
                out.report(error);
                exit = if exit == Exit::Done { error.exit() } else { exit };
            }
        }
    }
    Ok(exit)
}

/// What is told beside these statuses: read once for all.
#[derive(Debug, Default)]
struct Beside {
    parts: Parts,
    segments: Listed,
}

impl Beside {
    async fn of(client: &Client, statuses: &[Result<v1::Status>]) -> Result<Self> {
        let found = || statuses.iter().flatten();
        let spoken_of = found().filter_map(|it| it.resource.as_ref()).flat_map(names_of::spoken_of);
        let parts = Parts::of(&names_of::models(client, spoken_of).await?);
        let is_any = found().any(|status| status.name.starts_with("segments/"));
        let segments = if is_any { segments::pages(client, "").await? } else { Listed::default() };
        Ok(Self { parts, segments })
    }
}

/// What is known about each of these, in their order; only these `fields` of it, or all where none is named.
pub(crate) async fn batch(
    client: &Client,
    names: Vec<String>,
    fields: &[&str],
) -> Result<Vec<Result<v1::Status>>> {
    use v1::status_result::Result::{Error as Missing, Status as Found};
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let paths = fields.iter().map(|&field| field.to_owned()).collect();
    let field_mask = (!fields.is_empty()).then_some(FieldMask { paths });
    let request = v1::BatchGetStatusRequest { request_id: request_id(), names, field_mask };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.state().batch_get_status(request)).await?;
    let each = answer.results.into_iter().map(|one| match one.result {
        Some(Found(status)) => Ok(status),
        Some(Missing(status)) => Err(Error::from_failure(Failure::from(&status), Some(&id))),
        None => Err(Error::unreadable("a status")),
    });
    Ok(each.collect())
}

fn print(out: Out, status: &v1::Status, beside: &Beside) -> Result<()> {
    use v1::resource::Value as Kind;
    let called = &beside.parts.called;
    match status.resource.as_ref().and_then(|resource| resource.value.as_ref()) {
        Some(Kind::Machine(machine)) => print_machine(out, status, machine),
        Some(Kind::Operation(operation)) => ops::print_metadata(out, operation, called),
        Some(Kind::Condition(condition)) => print_condition(out, condition),
        Some(Kind::Model(model)) => {
            model_page::print(out, model, &[])?;
            status.model.as_ref().map_or(Ok(()), |joined| model_status::print(out, joined, &model.name))
        }
        Some(Kind::Segment(segment)) => {
            cache::print_segment(out, segment, beside.segments.find(&status.name), called)
        }
        Some(Kind::Lease(lease)) => cache::print_lease(out, lease, called),
        Some(Kind::Device(device)) => devices::print(out, device),
        Some(Kind::Replica(replica)) => replicas::print(out, replica, &beside.parts),
        None => out.line(format_args!(
            "{}: of a kind that this hoist is too old to show",
            text::plain(&status.name)
        )),
    }
}

fn print_machine(out: Out, status: &v1::Status, machine: &v1::Machine) -> Result<()> {
    let row = |label: &str, value: String| {
        out.line(format_args!("{} {value}", out.toned(Tone::Dim, &format!("{label:<10}"))))
    };
    let tone = match v1::machine::State::try_from(machine.state) {
        Ok(v1::machine::State::Serving) => Tone::Good,
        Ok(v1::machine::State::Draining) => Tone::Warning,
        Ok(v1::machine::State::Unspecified) | Err(_) => Tone::Plain,
    };
    row("machine", out.toned(tone, &text::machine_state(machine.state)))?;
    row("server", format!("hoist {}, process {}", text::plain(&machine.version), machine.process_id))?;
    let derived = status.machine.clone().unwrap_or_default();
    if let (Some(uptime), Some(start)) = (&derived.uptime, &machine.start_time) {
        row("up", format!("{}, since {}", text::span(text::wire_span(uptime)), text::when(start)))?;
    }
    if let Some(position) = &status.position {
        let kept = derived.oldest_revision;
        row("position", format!("{}.{}, history from {kept}", position.epoch, position.revision))?;
    }
    let counts = derived.operation_counts.iter();
    let counts: Vec<String> =
        counts.map(|c| format!("{} {}", c.count, text::operation_state(c.state))).collect();
    row("operations", if counts.is_empty() { "none".to_owned() } else { counts.join(", ") })?;
    if let Some(look) = derived.first_look {
        row("models", results::first_look_words(look))?;
    }
    row("in RAM", format!("{}, {}", plural(derived.segments, "segment"), Bytes(derived.segment_bytes)))?;
    row("loaded", loaded(&derived))?;
    row("watches", derived.watch_streams.to_string())?;
    row("requests", format!("{} of {} ids kept", derived.request_ids, derived.request_ids_limit))?;

    for condition in &derived.conditions {
        out.line("")?;
        print_condition(out, condition)?;
    }
    if !derived.devices.is_empty() {
        out.line("")?;
        devices::print_short(out, &derived.devices)?;
    }
    out.line("")?;
    if machine.measurements.is_empty() {
        return out.line(out.toned(Tone::Dim, "not measured yet: run `hoist doctor --probe`"));
    }
    table::measurements(out, &machine.measurements)
}

/// `2 models, 5 replicas active, 1 model missing`. What is missing comes back by itself where that is possible.
fn loaded(it: &v1::MachineStatus) -> String {
    let missing = match it.missing_models {
        0 => String::new(),
        missing => format!(", {} missing", plural(missing, "model")),
    };
    let active = plural(it.active_replicas, "replica");
    format!("{}, {active} active{missing}", plural(it.loaded_models, "model"))
}

fn print_condition(out: Out, condition: &v1::Condition) -> Result<()> {
    let tone = match v1::condition::Severity::try_from(condition.severity) {
        Ok(v1::condition::Severity::Error) => Tone::Bad,
        Ok(v1::condition::Severity::Warning) => Tone::Warning,
        Ok(v1::condition::Severity::Info | v1::condition::Severity::Unspecified) | Err(_) => Tone::Strong,
    };
    let severity = out.toned(tone, &format!("{}:", text::severity(condition.severity)));
    let since =
        condition.since_time.as_ref().map(|t| format!(" since {}", text::when(t))).unwrap_or_default();
    out.line(format_args!("{severity} {}{}", text::plain(&condition.kind), out.toned(Tone::Dim, &since)))?;
    out.line(format_args!("  {}", text::plain(&condition.message)))?;
    if !condition.advice.is_empty() {
        out.line(format_args!("  do: {}", text::plain(&condition.advice)))?;
    }
    for detail in &condition.details {
        out.line(out.toned(Tone::Dim, &format!("    {}", text::plain(detail))))?;
    }
    Ok(())
}
