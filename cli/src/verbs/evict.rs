//! `hoist evict`, `hoist pin` and `hoist unpin`: what goes out of RAM, and what stays there.

use std::collections::HashMap;

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::{Value, json};

use crate::args::{EvictArgs, PinArgs, UnpinArgs};
use crate::client::{Client, request_id};
use crate::error::Result;
use crate::exit::Exit;
use crate::output::cache::short_segment;
use crate::output::results::plural;
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, error_value, text};
use crate::verbs::{Session, segments, show, wanted};

/// One model after the other. The exit code is the worst; what was named and stays is a refusal when nothing went.
pub(crate) async fn evict(session: &Session, args: &EvictArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let out = session.out;
    if args.all {
        let users = users(&client, "").await?;
        let answer = ask(&client, String::new(), Vec::new(), args).await?;
        if out.json {
            out.value(&value(None, &answer, &users))?;
        } else {
            print(out, &answer, &users, "the cache")?;
        }
        return Ok(Exit::Done);
    }
    let (mut exit, mut values) = (Exit::Done, Vec::new());
    let (mut kept, mut evicted) = (0, 0);
    for written in &args.names {
        match one(&client, written, args).await {
            Ok((model, answer, users)) => {
                let gone = answer.segments.iter().filter(|it| it.evicted).count();
                (kept, evicted) = (kept + answer.segments.len() - gone, evicted + gone);
                if out.json {
                    values.push(value(Some(&model), &answer, &users));
                } else {
                    print(out, &answer, &users, &model.display_name)?;
                }
            }
            Err(error) if error.is_ours() || args.names.len() == 1 => return Err(error),
            Err(error) => {
                out.report(&error);
                exit = exit.max(error.exit());
                values.push(json!({ "name": written, "error": error_value(&error) }));
            }
        }
    }
    if out.json {
        let only = if args.names.len() == 1 { values.pop() } else { None };
        out.value(&only.unwrap_or(Value::Array(values)))?;
    }
    Ok(exit.max(refusal(kept, evicted, args.dry_run)))
}

/// A dry run has told what it was asked for, whatever that is.
const fn refusal(kept: usize, evicted: usize, is_dry_run: bool) -> Exit {
    if kept > 0 && evicted == 0 && !is_dry_run { Exit::Refused } else { Exit::Done }
}

/// What uses each segment, in words. Read before, as afterwards they are gone.
type Users = HashMap<String, String>;

async fn users(client: &Client, name: &str) -> Result<Users> {
    let listed = segments::pages(client, name).await?.segments;
    let named = |it: &v1::SegmentStatus| Some((it.segment.as_ref()?.name.clone(), segments::used_by(it)));
    Ok(listed.iter().filter_map(named).collect())
}

async fn one(
    client: &Client,
    written: &str,
    args: &EvictArgs,
) -> Result<(v1::Model, v1::EvictModelResponse, Users)> {
    let wanted = wanted::resolve(client, written, &args.components).await?;
    let users = users(client, &wanted.model.name).await?;
    let answer = ask(client, wanted.model.name.clone(), wanted.components, args).await?;
    Ok((wanted.model, answer, users))
}

async fn ask(
    client: &Client,
    name: String,
    components: Vec<String>,
    args: &EvictArgs,
) -> Result<v1::EvictModelResponse> {
    let request = v1::EvictModelRequest {
        request_id: request_id(),
        name,
        components,
        all: args.all,
        dry_run: args.dry_run,
        ..Default::default()
    };
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
    out.note(format_args!("{what}: {}{would} freed", Bytes(answer.freed_bytes)));
    Ok(())
}

fn value(model: Option<&v1::Model>, answer: &v1::EvictModelResponse, users: &Users) -> Value {
    let segment = |it: &v1::EvictedSegment| {
        json!({
            "segment": it.segment,
            "bytes": it.size_bytes,
            "used_by": users.get(&it.segment),
            "evicted": it.evicted,
            "kept_because": Some(&it.kept_because).filter(|why| !why.is_empty()),
        })
    };
    json!({
        "id": model.map(|it| &it.name),
        "name": model.map(|it| &it.display_name),
        "segments": answer.segments.iter().map(segment).collect::<Value>(),
        "freed_bytes": answer.freed_bytes,
        "dry_run": answer.dry_run,
    })
}

pub(crate) async fn pin(session: &Session, args: &PinArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let wanted = wanted::resolve(&client, &args.name, &args.components).await?;
    let request = v1::PinModelRequest {
        request_id: request_id(),
        name: wanted.model.name.clone(),
        components: wanted.components,
    };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.cache().pin_model(request)).await?;
    let (out, name) = (session.out, text::one_line(&wanted.model.display_name));
    if out.json {
        out.value(&json!({
            "id": answer.model,
            "name": wanted.model.display_name,
            "resident": answer.resident,
            "absent": answer.absent,
        }))?;
        return Ok(Exit::Done);
    }
    out.line(format_args!("{name} is pinned"))?;
    out.row("in RAM", &text::one_line(&answer.resident.join(", ")))?;
    out.row("not yet", &text::one_line(&answer.absent.join(", ")))?;
    if !answer.absent.is_empty() {
        let count = u64::try_from(answer.absent.len()).unwrap_or(u64::MAX);
        out.note(format_args!("`hoist cache` brings {} there", plural(count, "component")));
    }
    Ok(Exit::Done)
}

pub(crate) async fn unpin(session: &Session, args: &UnpinArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let model = show::catalogued(&client, &args.name).await?;
    let request =
        v1::UnpinModelRequest { request_id: request_id(), name: model.name.clone(), ..Default::default() };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.cache().unpin_model(request)).await?;
    let (out, name) = (session.out, text::one_line(&model.display_name));
    if out.json {
        let value =
            json!({ "id": answer.model, "name": model.display_name, "was_pinned": answer.was_pinned });
        out.value(&value)?;
    } else if answer.was_pinned {
        out.line(format_args!("{name} is not pinned any more"))?;
    } else {
        out.note(format_args!("{name} was not pinned"));
    }
    Ok(Exit::Done)
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
        let value = value(None, &answer, &users);
        assert_eq!(value["segments"][0]["used_by"], "sdxl:vae");
        assert_eq!(
            (&value["segments"][0]["kept_because"], &value["id"]),
            (&json!("it is leased"), &Value::Null)
        );
    }
}
