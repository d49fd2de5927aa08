//! `hoist evict`: what goes out of RAM.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::{Value, json};

use crate::args::EvictArgs;
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::cache::short_segment;
use crate::output::results::plural;
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, error_value, text};
use crate::verbs::{Session, names, segments, wanted};

/// What stays out of all that was asked for, and what goes. Models are judged together: what only they share goes with them,
/// so that a dry run tells what really happens.
#[derive(Debug, Default)]
struct Asked {
    /// As people call it, in the order in which it was written.
    called: Vec<String>,
    /// Whole models.
    models: Vec<v1::Model>,
    /// Some components of a model.
    parts: Vec<wanted::Wanted>,
    /// `segments/{digest}`, whosever they are.
    segments: Vec<String>,
    errors: Vec<(String, Error)>,
}

/// The exit code is the worst; what was named and stays is a refusal when nothing went.
pub(crate) async fn evict(session: &Session, args: &EvictArgs) -> Result<Exit> {
    if args.names.is_empty() && !args.all {
        return Err(Error::usage("name models, or --all", Some("`hoist segments` lists what is in RAM")));
    }
    let client = session.connect().await?;
    let out = session.out;
    let users = users(&client).await?;
    let request = v1::EvictModelRequest { dry_run: args.dry_run, ..Default::default() };
    if args.all {
        let answer = ask(&client, v1::EvictModelRequest { all: true, ..request }).await?;
        if out.json {
            out.value(&value(&Asked::default(), &answer, &users))?;
        } else {
            print(out, &answer, &users, "the cache")?;
        }
        return Ok(Exit::Done);
    }
    let mut asked = asked(&client, args).await?;
    if let ([_], Some((_, error))) = (args.names.as_slice(), asked.errors.pop_if(|_| args.names.len() == 1)) {
        return Err(error);
    }
    let answer = answers(&client, &mut asked, request).await?;
    let mut exit = Exit::Done;
    for (_, error) in &asked.errors {
        out.report(error);
        exit = exit.max(error.exit());
    }
    if out.json {
        out.value(&value(&asked, &answer, &users))?;
    } else if !asked.called.is_empty() {
        let what = match asked.called.as_slice() {
            [one] => one.as_str(),
            _ => "all of them",
        };
        print(out, &answer, &users, what)?;
    }
    let evicted = answer.segments.iter().filter(|it| it.evicted).count();
    Ok(exit.max(refusal(answer.segments.len() - evicted, evicted, args.dry_run)))
}

/// What the names stand for. One that stands for nothing does not fail the others.
async fn asked(client: &Client, args: &EvictArgs) -> Result<Asked> {
    let mut asked = Asked::default();
    for written in &args.names {
        match one(client, written, &args.components).await {
            Ok(One::Model(wanted)) => asked.add(*wanted),
            Ok(One::Segment(name)) => asked.add_segment(name),
            Err(error) if error.is_ours() => return Err(error),
            Err(error) => asked.errors.push((written.clone(), error)),
        }
    }
    Ok(asked)
}

/// What a name stands for.
enum One {
    Model(Box<wanted::Wanted>),
    Segment(String),
}

async fn one(client: &Client, written: &str, components: &[String]) -> Result<One> {
    if written.starts_with("segments/") {
        return named_segment(client, written).await.map(One::Segment);
    }
    let model = wanted::resolve(client, written, components).await;
    let is_meant = |it: &wanted::Wanted| !components.is_empty() || is_called(&it.model, written);
    if model.as_ref().is_ok_and(is_meant) || model.as_ref().is_err_and(Error::is_ours) {
        return model.map(Box::new).map(One::Model);
    }
    // Models are found by digests, too; who writes one that is a segment's means that alone.
    match names::segment_by_digits(client, written).await? {
        Some(name) if components.is_empty() => Ok(One::Segment(name)),
        _ => model.map(Box::new).map(One::Model),
    }
}

/// Whether this is what somebody calls the model, and not a part of its digest.
fn is_called(model: &v1::Model, written: &str) -> bool {
    let aliases = model.notes.iter().flat_map(|notes| &notes.aliases);
    let stem = Path::new(&model.path).file_stem().and_then(|stem| stem.to_str());
    aliases.chain([&model.display_name]).any(|name| name == written) || stem == Some(written)
}

async fn named_segment(client: &Client, written: &str) -> Result<String> {
    names::resolve_all(client, &[written.to_owned()])
        .await?
        .pop()
        .ok_or_else(|| Error::usage(format!("`{written}` is not a segment"), None))
}

impl Asked {
    fn add(&mut self, wanted: wanted::Wanted) {
        self.called.push(wanted.model.display_name.clone());
        if !wanted.components.is_empty() {
            self.parts.push(wanted);
        } else if !self.models.iter().any(|it| it.name == wanted.model.name) {
            self.models.push(wanted.model);
        }
    }

    fn add_segment(&mut self, name: String) {
        self.called.push(format!("segment {}", short_segment(&name)));
        if !self.segments.contains(&name) {
            self.segments.push(name);
        }
    }
}

/// One answer of all that was asked for. Components and segments cannot be said beside models, so they are asked for apart.
async fn answers(
    client: &Client,
    asked: &mut Asked,
    request: v1::EvictModelRequest,
) -> Result<v1::EvictModelResponse> {
    let mut requests = Vec::new();
    if !asked.models.is_empty() {
        let names = asked.models.iter().map(|it| it.name.clone()).collect();
        requests.push(v1::EvictModelRequest { names, ..request.clone() });
    }
    for part in &asked.parts {
        let (name, components) = (part.model.name.clone(), part.components.clone());
        requests.push(v1::EvictModelRequest { name, components, ..request.clone() });
    }
    if !asked.segments.is_empty() {
        requests.push(v1::EvictModelRequest { segments: asked.segments.clone(), ..request.clone() });
    }
    let mut all = v1::EvictModelResponse { dry_run: request.dry_run, ..Default::default() };
    for request in requests {
        let about = request.name.clone();
        match ask(client, request).await {
            Ok(answer) => add(&mut all, answer),
            // Something may have gone already: that is told all the same.
            Err(error) if error.is_ours() || asked.called.len() == 1 => return Err(error),
            Err(error) => asked.errors.push((about, error)),
        }
    }
    Ok(all)
}

/// What one answer adds to others. Where several tell of a segment, it goes if it does by any.
fn add(all: &mut v1::EvictModelResponse, answer: v1::EvictModelResponse) {
    for it in answer.segments {
        match all.segments.iter_mut().find(|known| known.segment == it.segment) {
            Some(known) if it.evicted => *known = it,
            Some(_) => {}
            None => all.segments.push(it),
        }
    }
    let freed = all.segments.iter().filter(|it| it.evicted).map(|it| it.size_bytes);
    all.freed_bytes = freed.fold(0, u64::saturating_add);
}

/// A dry run has told what it was asked for, whatever that is.
const fn refusal(kept: usize, evicted: usize, is_dry_run: bool) -> Exit {
    if kept > 0 && evicted == 0 && !is_dry_run { Exit::Refused } else { Exit::Done }
}

/// What uses each segment, in words. Read before, as afterwards they are gone.
type Users = HashMap<String, String>;

async fn users(client: &Client) -> Result<Users> {
    let listed = segments::pages(client, "").await?.segments;
    let named = |it: &v1::SegmentStatus| Some((it.segment.as_ref()?.name.clone(), segments::used_by(it)));
    Ok(listed.iter().filter_map(named).collect())
}

async fn ask(client: &Client, request: v1::EvictModelRequest) -> Result<v1::EvictModelResponse> {
    let request = v1::EvictModelRequest { request_id: request_id(), ..request };
    let id = request.request_id.clone();
    client.call(Some(&id), client.cache().evict_model(request)).await
}

fn print(out: Out, answer: &v1::EvictModelResponse, users: &Users, what: &str) -> Result<()> {
    let what = text::one_line(what);
    if answer.segments.is_empty() {
        out.note(format_args!("nothing of {what} is in RAM"));
        return Ok(());
    }
    let mut table = Table::new(["DIGEST", "SIZE", "USED BY", "WHAT", "WHY"]);
    for it in &answer.segments {
        let became = match (it.evicted, answer.dry_run) {
            (true, false) => Toned(Tone::Good, "evicted".to_owned()),
            (true, true) => Toned(Tone::Good, "would go".to_owned()),
            (false, _) => Toned(Tone::Warning, "kept".to_owned()),
        };
        table.row([
            Toned(Tone::Dim, short_segment(&it.segment).to_owned()),
            Bytes(it.size_bytes).to_string().into(),
            users.get(&it.segment).cloned().unwrap_or_default().into(),
            became,
            text::one_line(&it.kept_because).into(),
        ]);
    }
    table.print(out)?;
    let would = if answer.dry_run { " would be" } else { "" };
    let count = |some: usize| u64::try_from(some).unwrap_or(u64::MAX);
    let gone = answer.segments.iter().filter(|it| it.evicted).count();
    let kept = match answer.segments.len() - gone {
        0 => String::new(),
        kept => format!(", {kept} kept"),
    };
    out.note(format_args!(
        "{what}: {}{would} freed, {}{kept}",
        Bytes(answer.freed_bytes),
        plural(count(gone), "segment")
    ));
    Ok(())
}

/// One object, however many names there were: what they share is judged once.
fn value(asked: &Asked, answer: &v1::EvictModelResponse, users: &Users) -> Value {
    let segment = |it: &v1::EvictedSegment| {
        json!({
            "segment": it.segment,
            "bytes": it.size_bytes,
            "used_by": users.get(&it.segment),
            "evicted": it.evicted,
            "kept_because": Some(&it.kept_because).filter(|why| !why.is_empty()),
        })
    };
    let mut known = BTreeSet::new();
    let models: Vec<&v1::Model> = asked
        .models
        .iter()
        .chain(asked.parts.iter().map(|part| &part.model))
        .filter(|it| known.insert(it.name.as_str()))
        .collect();
    let only = match models.as_slice() {
        [one] => Some(*one),
        _ => None,
    };
    json!({
        "id": only.map(|it| &it.name),
        "name": only.map(|it| &it.display_name),
        "models": models.iter().map(|it| json!({ "id": it.name, "name": it.display_name })).collect::<Value>(),
        "segments": answer.segments.iter().map(segment).collect::<Value>(),
        "freed_bytes": answer.freed_bytes,
        "dry_run": answer.dry_run,
        "errors": asked.errors.iter().map(|(name, error)| json!({ "name": name, "error": error_value(error) })).collect::<Value>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_a_refusal_only_when_nothing_went() {
        assert_eq!(refusal(1, 0, false), Exit::Refused);
        assert_eq!(refusal(1, 1, false), Exit::Done);
        assert_eq!(refusal(0, 0, false), Exit::Done);
        assert_eq!(refusal(1, 0, true), Exit::Done);
    }

    #[test]
    fn an_evicted_segment_is_told_with_who_used_it() {
        let answer = v1::EvictModelResponse {
            segments: vec![v1::EvictedSegment {
                segment: "segments/ab".into(),
                size_bytes: 7,
                evicted: false,
                kept_because: "it is leased".into(),
            }],
            ..Default::default()
        };
        let users = Users::from([("segments/ab".to_owned(), "sdxl:vae".to_owned())]);
        let value = value(&Asked::default(), &answer, &users);
        assert_eq!(value["segments"][0]["used_by"], "sdxl:vae");
        assert_eq!(
            (&value["segments"][0]["kept_because"], &value["id"]),
            (&json!("it is leased"), &Value::Null)
        );
    }

    #[test]
    fn what_several_answers_tell_of_is_counted_once() {
        let answer = |evicted: bool| v1::EvictModelResponse {
            segments: vec![v1::EvictedSegment {
                segment: "segments/ab".into(),
                size_bytes: 7,
                evicted,
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut all = v1::EvictModelResponse::default();
        for (evicted, freed) in [(false, 0), (true, 7), (false, 7), (true, 7)] {
            add(&mut all, answer(evicted));
            assert_eq!((all.segments.len(), all.freed_bytes), (1, freed));
        }
    }
}
