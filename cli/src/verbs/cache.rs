//! `hoist cache`: brings models into RAM. Without a name it shows the cache.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
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
use crate::verbs::{Session, awaited, cache_state};

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
        return cache_state::show(session).await;
    }
    let client = session.connect().await?;
    let how = How { priority: args.priority, validate: args.validate, allow: args.allow.clone() };
    let named = wanted::resolve_each(&client, &args.names, &args.components).await?;
    let (names, wanted): (Vec<String>, Vec<_>) = wanted::once(named).into_iter().unzip();
    if args.no_wait {
        return start(session, &client, &names, wanted, &how).await;
    }
    let began = session.clock.monotonic();
    let answers = all(session, &client, wanted, &how).await?;
    let together = (answers.len() > 1).then(|| session.clock.monotonic().saturating_sub(began));
    tell(session, &names, &answers, together)
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
    let bars = &Bars::new(session.out, wanted.len());
    let each = wanted
        .into_iter()
        .enumerate()
        .map(|(index, wanted)| async move { (index, one(session, client, wanted, how, bars).await) });
    // As they end: a slow one keeps nothing from beginning.
    let mut ended = stream::iter(each).buffer_unordered(TOGETHER);
    let mut answers = BTreeMap::new();
    while let Some((index, answer)) = ended.next().await {
        match answer {
            Err(error) if error.is_ours() => return Err(error),
            answer => drop(answers.insert(index, answer)),
        }
    }
    Ok(answers.into_values().collect())
}

async fn one(
    session: &Session,
    client: &Client,
    wanted: Result<Wanted>,
    how: &How,
    bars: &Bars,
) -> Result<Cached> {
    let wanted = wanted?;
    let request = request(&wanted, how, true);
    let id = request.request_id.clone();
    let ask = |wait_for| {
        let (mut cache, request) =
            (client.cache(), v1::CacheModelRequest { wait_for: Some(wait_for), ..request.clone() });
        async move { cache.cache_model(request).await }
    };
    let bar = bars.bar(&wanted.model.display_name);
    let operation = Box::pin(awaited::to_the_end(session, client, &id, HOLD, &bar, ask)).await?;
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
        let labels = labels(&done);
        let reports: Vec<_> =
            labels.iter().map(String::as_str).zip(done.iter().map(|it| &it.report)).collect();
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

/// What tells these models apart, for each: its name, and more where another has the same. A model may be there once for
/// each of its components: that is no other.
pub(crate) fn labels(done: &[&Cached]) -> Vec<String> {
    let thing = |it: &&Cached| (it.model.display_name.clone(), it.model.path.clone());
    let things: BTreeSet<(String, String)> = done.iter().map(thing).collect();
    let things: Vec<(&str, &str)> = things.iter().map(|(name, path)| (&**name, &**path)).collect();
    let shown: HashMap<(&str, &str), String> = things.iter().copied().zip(apart(&things)).collect();
    let of = |it: &&Cached| shown.get(&(&*it.model.display_name, &*it.model.path)).cloned();
    done.iter().map(|it| of(it).unwrap_or_default()).collect()
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
    fn models_of_one_name_are_told_apart_and_components_of_one_are_not() {
        let cached = |name: &str, path: &str| Cached {
            model: v1::Model { display_name: name.into(), path: path.into(), ..Default::default() },
            report: v1::CacheModelResponse::default(),
        };
        let done = [cached("a", "/m/1/a"), cached("a", "/m/2/a"), cached("a", "/m/1/a"), cached("b", "/m/b")];
        let labels = labels(&done.iter().collect::<Vec<_>>());
        assert_eq!((&labels[0], labels[3].as_str()), (&labels[2], "b"));
        assert_ne!(labels[0], labels[1]);
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
