//! `hoist tag`, `hoist edit` and `hoist rm`: what people say about models, and taking models away.

use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use hoist_domain::{Bytes, Reason};
use hoist_wire::v1;
use prost_types::FieldMask;
use serde_json::{Value, json};

use crate::args::{EditArgs, Field, RmArgs, TagArgs};
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::{error_value, model, results, text};
use crate::verbs::{Session, names, show};

/// Reads and repeats of an edit that others come before each time. More than this is a fight, which somebody should see.
const ATTEMPTS: usize = 5;

/// Tags are a list that is replaced as one: what somebody else adds meanwhile must not be lost, hence the etag.
pub(crate) async fn tag(session: &Session, args: &TagArgs) -> Result<Exit> {
    let (add, remove) = changes(args)?;
    let client = session.connect().await?;
    let mut attempt = 1;
    let changed = loop {
        let before = show::catalogued(&client, &args.name).await?;
        if add.is_empty() && remove.is_empty() {
            break before;
        }
        let mut tags: BTreeSet<String> = before.notes.clone().unwrap_or_default().tags.into_iter().collect();
        tags.retain(|tag| !remove.contains(tag));
        tags.extend(add.iter().cloned());
        let notes = v1::ModelNotes { tags: tags.into_iter().collect(), ..Default::default() };
        match update(&client, before.name, notes, vec!["tags".to_owned()], before.etag).await {
            Err(error) if error.reason() == Reason::EtagMismatch.as_str() && attempt < ATTEMPTS => {
                attempt += 1
            }
            result => break result?,
        }
    };
    let tags = changed.notes.clone().unwrap_or_default().tags;
    if session.out.json {
        session.out.value(&model::value(&changed))?;
    } else if tags.is_empty() {
        session.out.note(format_args!("{} has no tags", text::one_line(&changed.display_name)));
    } else {
        session.out.line(text::one_line(&tags.join(", ")))?;
    }
    Ok(Exit::Done)
}

/// What to add and what to take away.
fn changes(args: &TagArgs) -> Result<(Vec<String>, Vec<String>)> {
    let bare = |word: &String| word.strip_prefix('+').unwrap_or(word).trim().to_owned();
    let add: Vec<String> = args.add.iter().map(bare).collect();
    let remove: Vec<String> = args.remove.iter().map(|word| word.trim().to_owned()).collect();
    if add.iter().chain(&remove).any(String::is_empty) {
        return Err(Error::usage("a tag is empty", Some("write +TAG to add one, -TAG to take one away")));
    }
    match add.iter().find(|tag| remove.contains(tag)) {
        Some(both) => Err(Error::usage(format!("`{both}` is both added and taken away"), None)),
        None => Ok((add, remove)),
    }
}

async fn update(
    client: &Client,
    name: String,
    notes: v1::ModelNotes,
    paths: Vec<String>,
    etag: String,
) -> Result<v1::Model> {
    let request = v1::UpdateModelRequest {
        request_id: request_id(),
        name,
        notes: Some(notes),
        update_mask: Some(FieldMask { paths }),
        etag,
    };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.catalog().update_model(request)).await?;
    answer.model.ok_or_else(|| Error::unreadable("the model"))
}

/// Only the fields that are named are sent, so nothing that somebody else edits meanwhile is touched.
pub(crate) async fn edit(session: &Session, args: &EditArgs) -> Result<Exit> {
    let (notes, paths) = edited(args)?;
    let client = session.connect().await?;
    let changed = update(&client, names::model(&args.model)?, notes, paths, String::new()).await?;
    if session.out.json {
        session.out.value(&model::value(&changed))?;
    } else {
        model::print(session.out, &changed)?;
    }
    Ok(Exit::Done)
}

/// The notes and the mask that the flags come to.
fn edited(args: &EditArgs) -> Result<(v1::ModelNotes, Vec<String>)> {
    let text = |said: &Option<String>| said.clone().unwrap_or_default();
    let notes = v1::ModelNotes {
        display_name: text(&args.name),
        aliases: args.aliases.clone(),
        tags: Vec::new(),
        description: text(&args.description),
        licence: text(&args.licence),
        source: text(&args.source),
        notes: text(&args.notes),
        type_override: text(&args.model_type),
        base_override: text(&args.base),
        config: Some(v1::ModelConfig { default_device: text(&args.device), trusted: args.trusted }),
    };
    let fields = [
        (Field::Name, "display_name", args.name.is_some()),
        (Field::Alias, "aliases", !args.aliases.is_empty()),
        (Field::Tags, "tags", false),
        (Field::Description, "description", args.description.is_some()),
        (Field::Licence, "licence", args.licence.is_some()),
        (Field::Source, "source", args.source.is_some()),
        (Field::Notes, "notes", args.notes.is_some()),
        (Field::Type, "type_override", args.model_type.is_some()),
        (Field::Base, "base_override", args.base.is_some()),
        (Field::Device, "config.default_device", args.device.is_some()),
    ];
    let mut paths = Vec::new();
    for (field, path, is_set) in fields {
        let is_cleared = args.clear.contains(&field);
        if is_cleared && is_set {
            return Err(Error::usage(
                format!("{path} is both set and cleared"),
                Some("leave one of the two out"),
            ));
        }
        if is_cleared || is_set {
            paths.push(path.to_owned());
        }
    }
    if args.trusted || args.no_trusted {
        paths.push("config.trusted".to_owned());
    }
    if paths.is_empty() {
        return Err(Error::usage(
            "there is nothing to change",
            Some(
                "say what: --name, --alias, --description, --licence, --source, --notes, --type, --base, --device, \
                 --trusted, --no-trusted or --clear; tags are changed by `hoist tag`",
            ),
        ));
    }
    Ok((notes, paths))
}

/// All models are found, and asked about, before the first goes. The exit code is that of the first that failed.
pub(crate) async fn remove(session: &Session, args: &RmArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let mut models: Vec<v1::Model> = Vec::with_capacity(args.names.len());
    for name in &args.names {
        let found = show::catalogued(&client, name).await?;
        if !models.iter().any(|known| known.name == found.name) {
            models.push(found);
        }
    }
    if args.files && !args.yes && !confirmed(session, &models)? {
        return Err(Error::interrupted("nothing was removed"));
    }
    let (mut exit, mut values) = (Exit::Done, Vec::new());
    for it in &models {
        match delete(&client, it, args.files).await {
            Ok(files) if session.out.json => {
                values.push(json!({ "id": it.name, "name": it.display_name, "path": it.path, "files_deleted": files }));
            }
            Ok(files) => {
                let name = text::one_line(&it.display_name);
                let end = match files {
                    0 => "; the next look finds it again, as long as its files are there (--files removes them)".to_owned(),
                    files => format!(", and {} off the disk", results::plural(files.into(), "file")),
                };
                session.out.line(format_args!("{name} is out of the catalog{end}"))?;
            }
            Err(error) if models.len() == 1 => return Err(error),
            Err(error) => {
                session.out.report(&error);
                values.push(json!({ "id": it.name, "name": it.display_name, "error": error_value(&error) }));
                exit = if exit == Exit::Done { error.exit() } else { exit };
            }
        }
    }
    if session.out.json {
        let only = if args.names.len() == 1 { values.pop() } else { None };
        session.out.value(&only.unwrap_or(Value::Array(values)))?;
    }
    Ok(exit)
}

/// With files, only as the model was when its owner was asked: with another etag or path it may be another one.
async fn delete(client: &Client, model: &v1::Model, delete_files: bool) -> Result<u32> {
    let request = v1::DeleteModelRequest {
        request_id: request_id(),
        name: model.name.clone(),
        etag: model.etag.clone(),
        delete_files,
    };
    let id = request.request_id.clone();
    Ok(client.call(Some(&id), client.catalog().delete_model(request)).await?.files_deleted)
}

/// Asks whoever sits at the terminal.
fn confirmed(session: &Session, models: &[v1::Model]) -> Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Error::usage(
            "--files asks before files are removed, and nobody is here to ask",
            Some("add --yes"),
        ));
    }
    for it in models {
        session.out.say(format_args!("  {}  {}", Bytes(it.size_bytes), text::one_line(&it.path)));
    }
    let mut stderr = std::io::stderr().lock();
    let count = u64::try_from(models.len()).unwrap_or(u64::MAX);
    let _ = write!(stderr, "Remove the files of {} for good? [y/N] ", results::plural(count, "model"));
    let _ = stderr.flush();
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|cause| Error::failed(format!("cannot read the answer: {cause}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Verb, parse};

    fn edit_args(line: &str) -> EditArgs {
        match parse(line.split('|').map(Into::into)).unwrap().verb {
            Verb::Edit(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_edit_names_only_what_it_changes() {
        let (notes, paths) =
            edited(&edit_args("hoist|edit|x|--alias|a|--alias|b|--clear|type|--no-trusted")).unwrap();
        assert_eq!(paths, ["aliases", "type_override", "config.trusted"]);
        assert_eq!(notes.aliases, ["a", "b"]);
        assert!(!notes.config.unwrap().trusted);
        let (notes, paths) = edited(&edit_args("hoist|edit|x|--description|")).unwrap();
        assert_eq!((paths, notes.description.as_str()), (vec!["description".to_owned()], ""));
    }

    #[test]
    fn an_edit_of_nothing_or_of_both_is_refused() {
        for line in ["hoist|edit|x", "hoist|edit|x|--type|lora|--clear|type"] {
            assert_eq!(edited(&edit_args(line)).unwrap_err().exit(), Exit::Usage, "{line}");
        }
    }

    #[test]
    fn a_tag_is_added_or_taken_away_but_not_both() {
        let args = |add: &[&str], remove: &[&str]| TagArgs {
            name: "x".into(),
            add: add.iter().map(|&tag| tag.into()).collect(),
            remove: remove.iter().map(|&tag| tag.into()).collect(),
        };
        assert_eq!(
            changes(&args(&["+a", "b "], &["c"])).unwrap(),
            (vec!["a".into(), "b".into()], vec!["c".into()])
        );
        for (add, remove) in [(&["+"][..], &[][..]), (&["a"], &["a"]), (&[], &[" "])] {
            assert!(changes(&args(add, remove)).is_err(), "{add:?} {remove:?}");
        }
    }
}
