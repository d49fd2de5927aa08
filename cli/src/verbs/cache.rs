//! `hoist cache`: brings models into RAM. Without a name it shows the cache.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use futures_util::future::join_all;
use hoist_wire::v1;
use serde_json::{Value, json};

use crate::args::{Allow, CacheArgs, Priority};
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::json::{self, Operation, Response, set};
use crate::output::progress::Bars;
use crate::output::{apart::apart, cache, error_value};
use crate::verbs::wanted::{self, Wanted};
use crate::verbs::{Session, hold, policy};

/// The server gives up after an hour; a little longer, so that its answer is what ends the wait.
const HOLD: Duration = Duration::from_secs(61 * 60);

/// Models that are asked for at the same time. Each is a stream of the connection, of which the server takes 256, and
/// more than run at a time only wait there and not here.
const TOGETHER: usize = 64;

/// How models are to be cached.
#[derive(Clone, Debug, Default)]
pub(crate) struct How {
    priority: Option<Priority>,
    validate: bool,
    allow: Vec<Allow>,
}

/// A model that is in RAM now.
#[derive(Debug)]
pub(crate) struct Cached {
    pub(crate) model: v1::Model,
    pub(crate) report: v1::CacheModelResponse,
}

pub(crate) async fn run(session: &Session, args: &CacheArgs) -> Result<Exit> {
    if args.names.is_empty() {
        return policy::state(session).await;
    }
    let client = session.connect().await?;
    let how = How { priority: args.priority, validate: args.validate, allow: args.allow.clone() };
    let mut wanted = Vec::with_capacity(args.names.len());
    for name in &args.names {
        match wanted::resolve(&client, name, &args.components).await {
            Err(error) if error.is_ours() => return Err(error),
            known => wanted.push(known),
        }
    }
    let (names, wanted): (Vec<String>, Vec<_>) =
        once(args.names.iter().cloned().zip(wanted)).into_iter().unzip();
    if args.no_wait {
        return start(session, &client, &names, wanted, &how).await;
    }
    let began = session.clock.monotonic();
    let answers = all(session, &client, wanted, &how).await?;
    let together = (answers.len() > 1).then(|| session.clock.monotonic().saturating_sub(began));
    tell(session, &names, &answers, together)
}

/// Each model once, however often it is named; a component of a model that is named itself comes with that.
fn once(named: impl Iterator<Item = (String, Result<Wanted>)>) -> Vec<(String, Result<Wanted>)> {
    let mut named: Vec<_> = named.collect();
    let mut known: BTreeSet<(String, Vec<String>)> = BTreeSet::new();
    named.retain(|(_, wanted)| match wanted {
        Ok(it) => known.insert((it.model.name.clone(), it.components.clone())),
        Err(_) => true,
    });
    let is_part_of_another =
        |it: &Wanted| !it.components.is_empty() && known.contains(&(it.model.name.clone(), Vec::new()));
    named.retain(|(_, wanted)| !wanted.as_ref().is_ok_and(is_part_of_another));
    named
}

/// Brings models into RAM, all at the same time, as far as they are known. One that fails does not fail the others.
///
/// # Errors
/// Nobody waits for any of them any more, or the server has gone.
pub(crate) async fn all(
    session: &Session,
    client: &Client,
    wanted: Vec<Result<Wanted>>,
    how: &How,
) -> Result<Vec<Result<Cached>>> {
    let mut answers: Vec<Result<Cached>> = Vec::with_capacity(wanted.len());
    let mut wanted = wanted.into_iter();
    loop {
        let some: Vec<_> = wanted.by_ref().take(TOGETHER).collect();
        if some.is_empty() {
            return Ok(answers);
        }
        let bars = Bars::new(session.out);
        let is_alone = answers.is_empty() && some.len() == 1;
        let each = some.into_iter().map(|it| one(session, client, it, how, &bars, is_alone));
        for answer in join_all(each).await {
            match answer {
                Err(error) if error.is_ours() => return Err(error),
                answer => answers.push(answer),
            }
        }
    }
}

async fn one(
    session: &Session,
    client: &Client,
    wanted: Result<Wanted>,
    how: &How,
    bars: &Bars,
    is_alone: bool,
) -> Result<Cached> {
    let wanted = wanted?;
    let request = request(&wanted, how, true);
    let id = request.request_id.clone();
    let ask = |wait_for| {
        let (mut cache, request) =
            (client.cache(), v1::CacheModelRequest { wait_for: Some(wait_for), ..request.clone() });
        async move { cache.cache_model(request).await }
    };
    let operation = if is_alone {
        Box::pin(hold::to_the_end(session, client, &id, HOLD, ask)).await?
    } else {
        let bar = bars.bar(&wanted.model.display_name);
        Box::pin(hold::shown(session, client, &id, HOLD, &bar, ask)).await?
    };
    match (operation.failure(), operation.response) {
        (Some(error), _) => Err(error),
        (None, Some(Response::CacheModel(report))) => Ok(Cached { model: wanted.model, report }),
        (None, _) => Err(Error::unreadable("what was cached")),
    }
}

fn request(wanted: &Wanted, how: &How, is_awaited: bool) -> v1::CacheModelRequest {
    let level = if how.validate { v1::ValidationLevel::Full } else { v1::ValidationLevel::Unspecified };
    v1::CacheModelRequest {
        request_id: request_id(),
        name: wanted.model.name.clone(),
        components: wanted.components.clone(),
        priority: how.priority.map_or(v1::Priority::Unspecified, v1::Priority::from).into(),
        validation_level: level.into(),
        allow: how.allow.iter().map(|&verdict| v1::Verdict::from(verdict).into()).collect(),
        cancel_on_disconnect: is_awaited,
        ..Default::default()
    }
}

/// Prints the operations that go on without us: their names alone, for a script to wait for.
async fn start(
    session: &Session,
    client: &Client,
    names: &[String],
    wanted: Vec<Result<Wanted>>,
    how: &How,
) -> Result<Exit> {
    let (out, mut exit, mut values) = (session.out, Exit::Done, Vec::new());
    for (written, wanted) in names.iter().zip(wanted) {
        match started(client, wanted, how).await {
            Ok(operation) if out.json => values.push(json::operation(&operation)),
            Ok(operation) => out.line(&operation.metadata.name)?,
            Err(error) if error.is_ours() => return Err(error),
            Err(error) => {
                out.report(&error);
                exit = exit.max(error.exit());
                values.push(json!({ "name": written, "error": error_value(&error) }));
            }
        }
    }
    if out.json {
        out.value(&Value::Array(values))?;
    }
    Ok(exit)
}

async fn started(client: &Client, wanted: Result<Wanted>, how: &How) -> Result<Operation> {
    let request = request(&wanted?, how, false);
    let id = request.request_id.clone();
    Operation::read(&client.call(Some(&id), client.cache().cache_model(request)).await?)
}

/// A row per component, then what it took, then what failed. The exit code is the worst.
fn tell(
    session: &Session,
    names: &[String],
    answers: &[Result<Cached>],
    together: Option<Duration>,
) -> Result<Exit> {
    let out = session.out;
    let done: Vec<&Cached> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    if out.json {
        let rows = names.iter().zip(answers).map(|(written, answer)| match answer {
            Ok(cached) => value(cached),
            Err(error) => json!({ "name": written, "error": error_value(error) }),
        });
        out.value(&rows.collect::<Value>())?;
    } else if !done.is_empty() {
        // A model may be there once for each of its components: that is no other of the same name.
        let things = done.iter().map(|it| (it.model.display_name.as_str(), it.model.path.as_str()));
        let things: Vec<(&str, &str)> = things.collect::<BTreeSet<_>>().into_iter().collect();
        let shown: HashMap<(&str, &str), String> = things.iter().copied().zip(apart(&things)).collect();
        let reports: Vec<_> = done
            .iter()
            .map(|it| {
                let thing = (it.model.display_name.as_str(), it.model.path.as_str());
                (shown.get(&thing).map_or("", String::as_str), &it.report)
            })
            .collect();
        cache::print_reports(out, &reports)?;
        let reports: Vec<_> = done.iter().map(|it| &it.report).collect();
        out.note(cache::summary(&reports, together));
    }
    let mut exit = Exit::Done;
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        out.report(error);
        exit = exit.max(error.exit());
    }
    Ok(exit)
}

fn value(cached: &Cached) -> Value {
    let mut value = cache::report(&cached.report);
    set(&mut value, "id", cached.model.name.clone().into());
    set(&mut value, "name", cached.model.display_name.clone().into());
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_twice_is_asked_for_once() {
        let named = |written: &str| {
            let (name, part) = written.split_once(':').unwrap_or((written, ""));
            let components = Some(part.to_owned()).filter(|part| !part.is_empty()).into_iter().collect();
            let model = v1::Model { name: name.to_owned(), ..Default::default() };
            (written.to_owned(), Ok(Wanted { model, components }))
        };
        let kept = |all: &[&str]| -> Vec<String> {
            once(all.iter().map(|written| named(written))).into_iter().map(|(written, _)| written).collect()
        };
        assert_eq!(kept(&["a:vae", "b", "a:vae", "a:unet", "b"]), ["a:vae", "b", "a:unet"]);
        assert_eq!(kept(&["a:vae", "a", "b:vae"]), ["a", "b:vae"]);
        let missing = || ("x".to_owned(), Err(Error::failed("no")));
        assert_eq!(once([missing(), missing()].into_iter()).len(), 2);
    }

    #[test]
    fn who_waits_gives_up_and_who_does_not_leaves_it_running() {
        let wanted = Wanted {
            model: v1::Model { name: "models/x".into(), ..Default::default() },
            components: vec!["vae".into()],
        };
        let how = How { priority: Some(Priority::High), validate: true, allow: vec![Allow::Corrupt] };
        let asked = request(&wanted, &how, true);
        assert_eq!((asked.name.as_str(), asked.components.as_slice()), ("models/x", &["vae".to_owned()][..]));
        assert!(asked.cancel_on_disconnect && !request(&wanted, &how, false).cancel_on_disconnect);
        assert_eq!(asked.priority(), v1::Priority::High);
        assert_eq!(asked.validation_level(), v1::ValidationLevel::Full);
        assert_eq!(asked.allow, [i32::from(v1::Verdict::Corrupt)]);
        let plain = request(&wanted, &How::default(), true);
        assert_eq!((plain.priority, plain.validation_level, plain.allow), (0, 0, vec![]));
    }
}
