//! `hoist ops`: long work that somebody asked for.

use hoist_wire::longrunning::{CancelOperationRequest, DeleteOperationRequest};
use hoist_wire::v1;
use serde_json::{Value, json};

use crate::args::{OpsArgs, OpsIdArgs, OpsListArgs, OpsVerb};
use crate::client::{Client, DEFAULT_TIMEOUT};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::called::{Called, Parts};
use crate::output::json::{self, Operation, Response};
use crate::output::table::{self, Table, Toned, state_tone};
use crate::output::{Out, Tone, cache, progress, residency, results, text};
use crate::verbs::{Session, follow, names, names_of};

/// Who asked for what the server does by itself, as for reading digests.
const OF_SERVER: &str = "hoist";
/// Operations that are listed for people who do not say how many: what is older is seldom looked for.
const NEWEST: u32 = 50;

pub(crate) async fn run(session: &Session, args: OpsArgs) -> Result<Exit> {
    match args.verb {
        None => list(session, &args.list).await,
        Some(OpsVerb::List(args)) => list(session, &args).await,
        Some(OpsVerb::Show(args)) => show(session, &args).await,
        Some(OpsVerb::Wait(args)) => wait(session, &args).await,
        Some(OpsVerb::Cancel(args)) => cancel(session, &args).await,
        Some(OpsVerb::Delete(args)) => delete(session, &args).await,
    }
}

async fn list(session: &Session, args: &OpsListArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let wanted = |operation: &Operation| args.all || operation.metadata.principal != OF_SERVER;
    let mut listed = names::list(&client, &args.filter, wanted).await?;
    let usual = if args.all || session.out.json { None } else { Some(NEWEST) };
    let limit = args.limit.or(usual).map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let more = listed.operations.len().saturating_sub(limit);
    listed.operations.truncate(limit);
    if session.out.json {
        session.out.value(&listed.operations.iter().map(json::operation).collect::<Value>())?;
        return Ok(Exit::Done);
    }
    if listed.operations.is_empty() {
        session.out.note("no operations");
        note_hidden(session.out, &listed.hidden);
        return Ok(Exit::Done);
    }
    let now = session.clock.wall();
    let called =
        names_of::read(&client, listed.operations.iter().map(|it| it.metadata.subject.as_str())).await?;
    let mut table = Table::new(["ID", "KIND", "ABOUT", "STATE", "AGE", "TOOK", "NOW"]).spare(&[5, 4]);
    let ids: Vec<&str> = listed.operations.iter().map(Operation::id).collect();
    for (operation, id) in listed.operations.iter().zip(names::short(&ids)) {
        let it = &operation.metadata;
        let age = it.create_time.as_ref().map(|t| text::span(text::age(t, now)));
        table.row([
            id.into(),
            text::operation_kind(it.kind).replace('_', " ").into(),
            about(session.out, &called.name(&it.subject)).into(),
            Toned(state_tone(it.state), text::operation_state(it.state)),
            age.unwrap_or_default().into(),
            took(it).unwrap_or_default().into(),
            what_now(session.out, it).into(),
        ]);
    }
    table.print(session.out)?;
    if more > 0 {
        session.out.note(format_args!("... {more} more: --all"));
    }
    note_hidden(session.out, &listed.hidden);
    Ok(Exit::Done)
}

/// What an operation is about, as much of it as a table has room for.
fn about(out: Out, name: &str) -> String {
    const ABOUT_CHARS: usize = 32;
    // Whoever reads a pipe wants all of it.
    if out.width().is_some() { text::shortened(name, ABOUT_CHARS) } else { name.to_owned() }
}

/// What is not shown may be what somebody looks for.
fn note_hidden(out: Out, hidden: &[Operation]) {
    let Some(count @ 1..) = u64::try_from(hidden.len()).ok() else { return };
    let running = hidden.iter().filter(|operation| !operation.done).count();
    let running = if running > 0 { format!(" ({running} of them not ended)") } else { String::new() };
    let own = if count == 1 { "1 operation" } else { &format!("{count} operations") };
    out.note(format_args!("{own} of the server's own not shown{running}: --all shows them"));
}

async fn show(session: &Session, args: &OpsIdArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let name = names::resolve_operation(&client, &args.id).await?;
    let operation = follow::read(&client, &name).await?;
    print(session.out, &operation, &parts(session, &client, &operation).await?)?;
    Ok(Exit::Done)
}

/// What the models that an operation speaks of are called; scripts read their names.
async fn parts(session: &Session, client: &Client, operation: &Operation) -> Result<Parts> {
    if session.out.json {
        return Ok(Parts::default());
    }
    let loaded = match &operation.response {
        Some(Response::LoadModel(loaded)) => {
            loaded.components.iter().map(|it| &it.model).chain(&loaded.unloaded).collect()
        }
        _ => Vec::new(),
    };
    let models = std::iter::once(&operation.metadata.subject).chain(loaded);
    Ok(Parts::of(&names_of::models(client, models.map(String::as_str)).await?))
}

async fn wait(session: &Session, args: &OpsIdArgs) -> Result<Exit> {
    // Here `--timeout` bounds the wait for the end, so single answers keep their own bound.
    let client = session.connect_within(DEFAULT_TIMEOUT).await?;
    let name = names::resolve_operation(&client, &args.id).await?;
    let operation = follow::to_the_end(session, &client, &name, session.timeout).await;
    let told = |error: Error| error.about(&name);
    let operation = operation.map_err(told)?;
    let parts = parts(session, &client, &operation).await?;
    print_end(session.out, &operation, &parts).map_err(told)
}

async fn cancel(session: &Session, args: &OpsIdArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let name = names::resolve_operation(&client, &args.id).await?;
    let request = CancelOperationRequest { name: name.clone() };
    client.call(None, client.operations().cancel_operation(request)).await?;
    let operation = follow::read(&client, &name).await?;
    if session.out.json {
        session.out.value(&json::operation(&operation))?;
    } else if operation.done {
        let state = text::operation_state(operation.metadata.state);
        session.out.line(format_args!("{name}: {state}"))?;
    } else {
        session.out.line(format_args!("{name} was asked to stop"))?;
    }
    Ok(Exit::Done)
}

async fn delete(session: &Session, args: &OpsIdArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let name = names::resolve_operation(&client, &args.id).await?;
    let request = DeleteOperationRequest { name: name.clone() };
    client.call(None, client.operations().delete_operation(request)).await?;
    if session.out.json {
        session.out.value(&json!({ "name": name, "deleted": true }))?;
    } else {
        session.out.line(format_args!("{name} is forgotten"))?;
    }
    Ok(Exit::Done)
}

/// Prints an operation that has ended; one that ended without success is this command's failure too.
pub(crate) fn print_end(out: Out, operation: &Operation, parts: &Parts) -> Result<Exit> {
    if out.json {
        out.value(&json::operation(operation))?;
    } else if operation.failure().is_none() {
        let it = &operation.metadata;
        let state = out.toned(state_tone(it.state), &text::operation_state(it.state));
        let after = took(it).map(|span| format!(" after {span}")).unwrap_or_default();
        out.line(format_args!("{}: {state}{after}", it.name))?;
        print_response(out, operation, parts)?;
    }
    match operation.failure() {
        Some(error) => Err(error),
        None if operation.metadata.state == i32::from(v1::OperationState::Succeeded) => Ok(Exit::Done),
        None => Err(Error::failed(format!("{} did not succeed", operation.metadata.name))),
    }
}

/// Prints all that is known about an operation.
pub(crate) fn print(out: Out, operation: &Operation, parts: &Parts) -> Result<()> {
    if out.json {
        return out.value(&json::operation(operation));
    }
    print_metadata(out, &operation.metadata, &parts.called)?;
    print_response(out, operation, parts)
}

pub(crate) fn print_metadata(out: Out, it: &v1::OperationMetadata, called: &Called) -> Result<()> {
    let row = |label: &str, value: &str| {
        if value.is_empty() {
            return Ok(());
        }
        out.line(format_args!("{} {}", out.toned(Tone::Dim, &format!("{label:<10}")), text::plain(value)))
    };
    let time = |time: &Option<prost_types::Timestamp>| time.as_ref().map(text::when).unwrap_or_default();
    out.line(out.toned(Tone::Strong, &text::plain(&it.name)))?;
    row("kind", &text::operation_kind(it.kind).replace('_', " "))?;
    row("about", &called.name(&it.subject))?;
    let asked = if it.cancel_requested { " (asked to stop)" } else { "" };
    let state = out.toned(state_tone(it.state), &text::operation_state(it.state));
    out.line(format_args!("{} {state}{asked}", out.toned(Tone::Dim, &format!("{:<10}", "state"))))?;
    row("progress", &it.progress.as_ref().map(progress::in_words).unwrap_or_default())?;
    row("created", &time(&it.create_time))?;
    row("started", &time(&it.start_time))?;
    row("ended", &time(&it.end_time))?;
    row("took", &took(it).unwrap_or_default())?;
    row("by", &it.principal)?;
    row("request", &it.request_id)?;
    if it.attempts > 1 {
        row("attempts", &it.attempts.to_string())?;
    }
    if let Some(error) = &it.error {
        row("error", &error.message)?;
        let failure = hoist_wire::status::Failure::from(error);
        row("reason", &failure.reason)?;
        row("advice", failure.metadata.get("advice").map_or("", String::as_str))?;
    }
    Ok(())
}

fn print_response(out: Out, operation: &Operation, parts: &Parts) -> Result<()> {
    match &operation.response {
        Some(Response::ProbeMachine(probe)) => {
            out.line("")?;
            table::measurements(out, &probe.measurements)
        }
        Some(Response::ScanModels(scan)) => {
            out.line("")?;
            results::print_scan(out, scan)
        }
        Some(Response::DigestModels(digests)) => {
            out.line("")?;
            results::print_digest(out, digests)
        }
        Some(Response::ValidateModel(validation)) => {
            out.line("")?;
            results::print_validation(out, &validation.model, validation)
        }
        Some(Response::CacheModel(cached)) => {
            out.line("")?;
            cache::print_reports(out, &[("", cached)])?;
            out.line(cache::summary(&[cached], None))
        }
        Some(Response::LoadModel(loaded)) => {
            out.line("")?;
            residency::print_loaded(out, loaded, &parts.called)?;
            residency::note_reasons(out, loaded);
            out.line(residency::loaded_summary(loaded, &parts.called))
        }
        Some(Response::UnloadModel(unloaded)) => {
            out.line("")?;
            residency::print_unloaded(out, unloaded, parts)?;
            out.line(residency::unloaded_summary(unloaded))
        }
        Some(Response::Unknown(type_url)) => {
            out.note(format_args!("its result is a {type_url}, which this hoist is too old to show"));
            Ok(())
        }
        None => Ok(()),
    }
}

fn took(it: &v1::OperationMetadata) -> Option<String> {
    Some(text::span(text::between(it.start_time.as_ref()?, it.end_time.as_ref()?)))
}

/// The last column of the list: how far it is, or why it ended.
fn what_now(out: Out, it: &v1::OperationMetadata) -> String {
    const EXCERPT_CHARS: usize = 80;
    if let Some(error) = &it.error {
        // Whoever reads a pipe wants all of it.
        let chars = if out.width().is_some() { EXCERPT_CHARS } else { usize::MAX };
        return error.message.chars().take(chars).collect();
    }
    it.progress.as_ref().map(progress::in_words).unwrap_or_default()
}
