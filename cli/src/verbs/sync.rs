//! `hoist sync`: whether what shall be on devices and what is there agree, why not, and since when.

use std::time::Duration;

use hoist_wire::{encode, v1};
use serde_json::{Value, json};

use crate::args::{Pace, SyncArgs};
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::called::Called;
use crate::output::{sync, text};
use crate::verbs::{Session, names, names_of};

/// The server answers when both sides agree, or after the time that it was given: a little longer, for the way.
const ON_THE_WAY: Duration = Duration::from_secs(2);

pub(crate) async fn run(session: &Session, args: &SyncArgs) -> Result<Exit> {
    if args.name.is_none() && args.pace == Some(Pace::Default) {
        return Err(Error::usage(
            "default is what everything else has, and nothing is named",
            Some("name a device or a model, or give a pace: high, standard, background, idle"),
        ));
    }
    let name = args.name.as_deref().map(names::device_or_model).transpose()?.unwrap_or_default();
    let client = session.connect().await?;
    match args.pace {
        Some(pace) => configure(session, &client, name, pace, args.name.as_deref()).await,
        None if args.diagnose => diagnose(session, &client, name).await,
        None if args.reset => reset(session, &client, name, args.wait).await,
        None => health(session, &client, name, args).await,
    }
}

async fn health(session: &Session, client: &Client, name: String, args: &SyncArgs) -> Result<Exit> {
    let (window, written) = (args.window, args.name.as_deref());
    let request =
        v1::GetSyncHealthRequest { request_id: request_id(), name, window: window.map(encode::duration) };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.state().get_sync_health(request)).await?;
    let models = names_of::models(client, answer.models.iter().map(|it| it.name.as_str())).await?;
    let out = session.out;
    if out.json {
        out.value(&sync::health_value(&answer, &Called::of(&models)))?;
    } else {
        sync::print_health(out, &answer, written, &Called::apart(&models))?;
    }
    Ok(Exit::Done)
}

/// What differs may be on its way: that there is something is no failure.
async fn diagnose(session: &Session, client: &Client, name: String) -> Result<Exit> {
    let request = v1::DiagnoseSyncRequest { request_id: request_id(), name };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.state().diagnose_sync(request)).await?;
    let findings = answer.findings.iter().map(|it| it.name.as_str());
    let named = findings.chain(answer.history.iter().map(|it| it.name.as_str()));
    let models = names_of::models(client, named.filter(|name| name.starts_with("models/"))).await?;
    let out = session.out;
    if out.json {
        out.value(&sync::diagnosis_value(&answer, &Called::of(&models)))?;
    } else {
        sync::print_diagnosis(out, &answer, &Called::apart(&models))?;
    }
    Ok(Exit::Done)
}

async fn reset(session: &Session, client: &Client, name: String, wait: Option<Duration>) -> Result<Exit> {
    let request =
        v1::ResetSyncRequest { request_id: request_id(), name, validate_for: wait.map(encode::duration) };
    let id = request.request_id.clone();
    let held = wait.map_or(Duration::ZERO, |wait| wait.saturating_add(ON_THE_WAY));
    let answer = client.call_within(held, Some(&id), client.state().reset_sync(request)).await?;
    let findings = answer.findings.iter().map(|it| it.name.as_str());
    let models = names_of::models(client, findings.filter(|name| name.starts_with("models/"))).await?;
    let out = session.out;
    if out.json {
        out.value(&sync::reset_value(&answer, wait.is_some(), &Called::of(&models)))?;
    } else {
        sync::print_reset(out, &answer, wait, &Called::apart(&models))?;
    }
    Ok(if wait.is_some() && !answer.agrees { Exit::TimedOut } else { Exit::Done })
}

async fn configure(
    session: &Session,
    client: &Client,
    name: String,
    pace: Pace,
    written: Option<&str>,
) -> Result<Exit> {
    let request = v1::ConfigureSyncRequest {
        request_id: request_id(),
        name: name.clone(),
        pace: v1::SyncPace::from(pace).into(),
    };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.state().configure_sync(request)).await?;
    let out = session.out;
    if out.json {
        let name = Some(name).filter(|name| !name.is_empty());
        out.value(&json!({
            "name": name.map_or(Value::Null, Value::from),
            "pace": text::sync_pace(answer.pace),
        }))?;
    } else {
        let what = written.map_or_else(|| "what has no pace of its own".to_owned(), text::one_line);
        out.line(format_args!("{what} may differ for {}", sync::pace_words(answer.pace)))?;
    }
    Ok(Exit::Done)
}
