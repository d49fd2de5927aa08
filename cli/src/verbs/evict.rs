//! `hoist evict`: what goes out of RAM.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
use crate::verbs::segments::{self, Listed};
use crate::verbs::wanted::{self, Wanted};
use crate::verbs::{Session, names};

/// What was named and is known, each thing once; and what is not.
#[derive(Debug, Default)]
struct Asked {
    /// Models or components of them, each beside what was written for it.
    models: Vec<(String, Wanted)>,
    /// `segments/{digest}`, whosever they are, with what was written for them.
    segments: BTreeMap<String, String>,
    errors: Vec<(String, Error)>,
}

/// The exit code is the worst; what was named and stays is a refusal when nothing went.
pub(crate) async fn evict(session: &Session, args: &EvictArgs) -> Result<Exit> {
    if args.names.is_empty() && !args.all {
        return Err(Error::usage("name models, or --all", Some("`hoist segments` lists what is in RAM")));
    }
    let client = session.connect().await?;
    let out = session.out;
    // Read before: afterwards it is gone.
    let known = segments::pages(&client, "").await?;
    let mut asked = asked(&client, &known, args).await?;
    if args.names.len() == 1
        && let Some((_, error)) = asked.errors.pop()
    {
        return Err(error);
    }
    let request = asked.request(args);
    let is_any = args.all || !asked.models.is_empty() || !asked.segments.is_empty();
    let mut answer = v1::EvictModelResponse { dry_run: args.dry_run, ..Default::default() };
    if is_any {
        let id = request.request_id.clone();
        match client.call(Some(&id), client.cache().evict_model(request)).await {
            Ok(told) => answer = told,
            Err(error) if error.is_ours() || asked.errors.is_empty() => return Err(error),
            Err(error) => asked.errors.push((asked.written(), error)),
        }
    }
    let mut exit = Exit::Done;
    for (_, error) in &asked.errors {
        out.report(error);
        exit = exit.max(error.exit());
    }
    let users = users(&known);
    if out.json {
        out.value(&value(&asked, &answer, &users))?;
    } else if is_any {
        print(out, &answer, &users, &asked.called(args.all))?;
    }
    let evicted = answer.segments.iter().filter(|it| it.evicted).count();
    let kept = if args.all { 0 } else { answer.segments.len() - evicted };
    Ok(exit.max(refusal(kept, evicted, args.dry_run)))
}

/// What the names stand for. One that stands for nothing does not fail the others.
async fn asked(client: &Client, known: &Listed, args: &EvictArgs) -> Result<Asked> {
    let mut asked = Asked::default();
    let (segments, others): (Vec<String>, Vec<String>) =
        args.names.iter().cloned().partition(|written| written.starts_with("segments/"));
    for written in segments {
        match names::resolve_segment(known, &written) {
            Ok(name) => drop(asked.segments.insert(name, written)),
            Err(error) => asked.errors.push((written, error)),
        }
    }
    let mut models = Vec::new();
    for (written, model) in wanted::resolve_each(client, &others, &args.components).await? {
        match segment_instead(known, &written, &args.components, &model) {
            // All is one request, which a component that is not there would fail.
            Ok(None) => models.push((written, model.and_then(Wanted::of_its_components))),
            Ok(Some(name)) => drop(asked.segments.insert(name, written)),
            Err(error) => asked.errors.push((written, error)),
        }
    }
    for (written, model) in wanted::once(models) {
        match model {
            Ok(wanted) => asked.models.push((written, wanted)),
            Err(error) => asked.errors.push((written, error)),
        }
    }
    Ok(asked)
}

/// The segment that digits mean. Models are found by digests, too; who writes one that is a segment's means that alone.
fn segment_instead(
    known: &Listed,
    written: &str,
    components: &[String],
    model: &Result<Wanted>,
) -> Result<Option<String>> {
    if !components.is_empty() || model.as_ref().is_ok_and(|it| is_called(&it.model, written)) {
        return Ok(None);
    }
    names::segment_by_digits(known, written)
}

/// Whether this is what somebody calls the model, and not a part of its digest.
fn is_called(model: &v1::Model, written: &str) -> bool {
    let aliases = model.notes.iter().flat_map(|notes| &notes.aliases);
    let stem = Path::new(&model.path).file_stem().and_then(|stem| stem.to_str());
    aliases.chain([&model.display_name]).any(|name| name == written) || stem == Some(written)
}

impl Asked {
    /// One request for everything: what only these share goes with them, so that a dry run tells what really happens.
    fn request(&self, args: &EvictArgs) -> v1::EvictModelRequest {
        let part = |wanted: &Wanted| v1::ModelPart {
            name: wanted.model.name.clone(),
            components: wanted.components.clone(),
        };
        v1::EvictModelRequest {
            request_id: request_id(),
            all: args.all,
            dry_run: args.dry_run,
            parts: self.models.iter().map(|(_, wanted)| part(wanted)).collect(),
            segments: self.segments.keys().cloned().collect(),
            ..Default::default()
        }
    }

    /// As it was written.
    fn written(&self) -> String {
        let models = self.models.iter().map(|(written, _)| written.as_str());
        models.chain(self.segments.values().map(String::as_str)).collect::<Vec<_>>().join(", ")
    }

    /// What all of it is, in words.
    fn called(&self, is_all: bool) -> String {
        match (self.models.as_slice(), self.segments.keys().collect::<Vec<_>>().as_slice()) {
            ([], []) if is_all => "the cache".to_owned(),
            ([(_, one)], []) => one.words(),
            ([], [one]) => format!("segment {}", short_segment(one).unwrap_or(one)),
            _ => "all of them".to_owned(),
        }
    }
}

/// A dry run has told what it was asked for, whatever that is.
const fn refusal(kept: usize, evicted: usize, is_dry_run: bool) -> Exit {
    if kept > 0 && evicted == 0 && !is_dry_run { Exit::Refused } else { Exit::Done }
}

/// What uses each segment, in words.
type Users = HashMap<String, String>;

fn users(known: &Listed) -> Users {
    let named = |it: &v1::SegmentStatus| Some((it.segment.as_ref()?.name.clone(), segments::used_by(it)));
    known.segments.iter().filter_map(named).collect()
}

fn print(out: Out, answer: &v1::EvictModelResponse, users: &Users, what: &str) -> Result<()> {
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
            Toned(Tone::Dim, short_segment(&it.segment).unwrap_or("-").to_owned()),
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
    let models = asked.models.iter().map(|(_, it)| &it.model);
    let models: Vec<&v1::Model> = models.filter(|it| known.insert(it.name.as_str())).collect();
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
    fn what_was_named_is_told_as_it_was_written() {
        let wanted = |component: &str| Wanted {
            model: v1::Model { display_name: "sdxl".into(), ..Default::default() },
            components: vec![component.into()],
        };
        let mut asked = Asked { models: vec![("xl:vae".into(), wanted("vae"))], ..Default::default() };
        assert_eq!((asked.written().as_str(), asked.called(false).as_str()), ("xl:vae", "vae of sdxl"));
        asked.segments.insert(format!("segments/{}", "ab".repeat(32)), "abababab".into());
        assert_eq!(
            (asked.written().as_str(), asked.called(false).as_str()),
            ("xl:vae, abababab", "all of them")
        );
        asked.models.clear();
        assert_eq!(asked.called(false), "segment abababababab");
        assert_eq!(Asked::default().called(true), "the cache");
    }
}
