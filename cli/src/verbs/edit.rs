//! `hoist tag` and `hoist edit`: what people say about models.

use std::collections::BTreeSet;

use hoist_domain::Reason;
use hoist_wire::v1;
use prost_types::FieldMask;

use crate::args::{EditArgs, Field, TagArgs};
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::{model, model_page, text};
use crate::verbs::{Session, names, show};

/// Reads and repeats of an edit that others come before each time. More than this is a fight, which somebody should see.
const ATTEMPTS: usize = 5;

/// Tags are a list that is replaced as one: what somebody else adds meanwhile must not be lost, hence the etag.
pub(crate) async fn tag(session: &Session, args: &TagArgs) -> Result<Exit> {
    let (add, remove) = changes(args)?;
    let client = session.connect().await?;
    let mut attempt = 1;
    let mut absent: Vec<&String>;
    let changed = loop {
        let before = show::catalogued(&client, &args.name).await?;
        let had: BTreeSet<String> = before.notes.clone().unwrap_or_default().tags.into_iter().collect();
        absent = remove.iter().filter(|tag| !had.contains(*tag)).collect();
        let mut tags = had.clone();
        tags.retain(|tag| !remove.contains(tag));
        tags.extend(add.iter().cloned());
        if tags == had {
            break before;
        }
        let notes = v1::ModelNotes { tags: tags.into_iter().collect(), ..Default::default() };
        let asked = v1::UpdateModelRequest {
            name: before.name,
            notes: Some(notes),
            update_mask: Some(FieldMask { paths: vec!["tags".to_owned()] }),
            etag: before.etag,
            ..Default::default()
        };
        match update(&client, asked).await {
            Err(error) if error.reason() == Reason::EtagMismatch.as_str() && attempt < ATTEMPTS => {
                attempt += 1
            }
            result => break result?,
        }
    };
    for tag in &add {
        note_model_called(session, &client, tag, &changed.name).await?;
    }
    for tag in absent {
        session.out.note(format_args!(
            "{} had no tag `{}`",
            text::one_line(&changed.display_name),
            text::one_line(tag)
        ));
    }
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

/// Whoever writes several models' names before the tags has tagged the first with the others.
async fn note_model_called(session: &Session, client: &Client, tag: &str, tagged: &str) -> Result<()> {
    match names::resolve_model(client, tag).await {
        Ok(name) if name == tagged => return Ok(()),
        Ok(_) => {}
        Err(error) if error.reason() == Reason::NameAmbiguous.as_str() => {}
        Err(error) if matches!(error.exit(), Exit::NotFound | Exit::Usage) => return Ok(()),
        Err(error) => return Err(error),
    }
    session.out.note(format_args!(
        "hint: `{}` is a tag now, and what another model is called: one model is tagged at a time",
        text::one_line(tag)
    ));
    Ok(())
}

/// What to add and what to take away.
fn changes(args: &TagArgs) -> Result<(Vec<String>, Vec<String>)> {
    let (mut add, mut remove) = (Vec::new(), Vec::new());
    for word in &args.add {
        // As after `--`, where nothing is a flag.
        match word.strip_prefix('-') {
            Some(tag) => remove.push(tag.trim().to_owned()),
            None => add.push(word.strip_prefix('+').unwrap_or(word).trim().to_owned()),
        }
    }
    remove.extend(args.remove.iter().map(|word| word.trim().to_owned()));
    if add.iter().chain(&remove).any(String::is_empty) {
        return Err(Error::usage("a tag is empty", Some("write +TAG to add one, -TAG to take one away")));
    }
    match add.iter().find(|tag| remove.contains(tag)) {
        Some(both) => Err(Error::usage(format!("`{both}` is both added and taken away"), None)),
        None => Ok((add, remove)),
    }
}

async fn update(client: &Client, asked: v1::UpdateModelRequest) -> Result<v1::Model> {
    let request = v1::UpdateModelRequest { request_id: request_id(), ..asked };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.catalog().update_model(request)).await?;
    answer.model.ok_or_else(|| Error::unreadable("the model"))
}

/// Only the fields that are named are sent, so nothing that somebody else edits meanwhile is touched.
pub(crate) async fn edit(session: &Session, args: &EditArgs) -> Result<Exit> {
    let (notes, paths) = edited(args)?;
    let client = session.connect().await?;
    let asked = v1::UpdateModelRequest {
        name: names::model(&args.model)?,
        notes: Some(notes),
        update_mask: Some(FieldMask { paths }),
        any_base: args.any_base,
        ..Default::default()
    };
    let changed = update(&client, asked).await?;
    if session.out.json {
        session.out.value(&model::value(&changed))?;
    } else {
        model_page::print(session.out, &changed, &[])?;
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
        config: Some(v1::ModelConfig {
            default_device: text(&args.device),
            trusted: args.trusted,
            ..Default::default()
        }),
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
        assert_eq!(
            changes(&args(&["a", "-b"], &["c"])).unwrap(),
            (vec!["a".into()], vec!["b".into(), "c".into()])
        );
        for (add, remove) in [(&["+"][..], &[][..]), (&["a"], &["a"]), (&[], &[" "])] {
            assert!(changes(&args(add, remove)).is_err(), "{add:?} {remove:?}");
        }
    }
}
