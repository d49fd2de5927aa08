//! `hoist rm`: takes models out of the catalog, and off the disk. Nothing goes before everything is known and agreed to.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::{Value, json};

use crate::args::RmArgs;
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::{error_value, results, text};
use crate::verbs::{Session, list, show};

/// All models are found, and asked about, before the first goes. The exit code is that of the first that failed.
pub(crate) async fn run(session: &Session, args: &RmArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let models = if args.missing { missing(&client).await? } else { named(&client, &args.names).await? };
    if models.is_empty() {
        session.out.note("no models are missing");
        if session.out.json {
            session.out.value(&json!([]))?;
        }
        return Ok(Exit::Done);
    }
    if args.dry_run {
        return tell(session, args, &models);
    }
    let loses_notes = models.iter().any(|it| !written(it).is_empty());
    if (args.files || args.missing || loses_notes) && !args.yes && !confirmed(session, args, &models)? {
        return Err(Error::interrupted("nothing was removed"));
    }
    let (mut exit, mut values) = (Exit::Done, Vec::new());
    for it in &models {
        match delete(&client, it, args.files).await {
            Ok(files) if session.out.json => {
                let mut value = value(it);
                crate::output::json::set(&mut value, "files_deleted", files.into());
                values.push(value);
            }
            Ok(files) => {
                let name = text::one_line(&it.display_name);
                session.out.line(format_args!("{name} is out of the catalog{}", afterwards(it, files)))?;
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
        session.out.value(&shaped(args, values))?;
    }
    Ok(exit)
}

/// What its files lead to.
fn afterwards(model: &v1::Model, files_deleted: u32) -> String {
    match files_deleted {
        0 if is_missing(model) => String::new(),
        0 => {
            "; the next look finds it again, as long as its files are there (--files removes them)".to_owned()
        }
        files => format!(", and {} off the disk", results::plural(files.into(), "file")),
    }
}

fn is_missing(model: &v1::Model) -> bool {
    model.state == i32::from(v1::model::State::Missing)
}

async fn named(client: &Client, names: &[String]) -> Result<Vec<v1::Model>> {
    let mut models: Vec<v1::Model> = Vec::with_capacity(names.len());
    for name in names {
        let found = show::catalogued(client, name).await?;
        if !models.iter().any(|known| known.name == found.name) {
            models.push(found);
        }
    }
    Ok(models)
}

async fn missing(client: &Client) -> Result<Vec<v1::Model>> {
    let asked = v1::ListModelsRequest {
        filter: "state = missing".to_owned(),
        order_by: "path".to_owned(),
        show_missing: true,
        ..Default::default()
    };
    Ok(list::pages(client, asked, None).await?.models)
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

fn value(model: &v1::Model) -> Value {
    json!({ "id": model.name, "name": model.display_name, "path": model.path })
}

/// One name is one object; several, or however many are missing, are an array.
fn shaped(args: &RmArgs, mut values: Vec<Value>) -> Value {
    let only = if args.names.len() == 1 { values.pop() } else { None };
    only.unwrap_or(Value::Array(values))
}

/// What would go.
fn tell(session: &Session, args: &RmArgs, models: &[v1::Model]) -> Result<Exit> {
    if session.out.json {
        let values = models.iter().map(|it| {
            let mut value = value(it);
            crate::output::json::set(&mut value, "dry_run", true.into());
            crate::output::json::set(&mut value, "written", written(it).into());
            value
        });
        session.out.value(&shaped(args, values.collect()))?;
        return Ok(Exit::Done);
    }
    for it in models {
        session.out.line(described(it))?;
    }
    let count = results::plural(u64::try_from(models.len()).unwrap_or(u64::MAX), "model");
    let files = if args.files { ", with their files" } else { "" };
    let notes = and_notes(models);
    session
        .out
        .note(format_args!("{count} would be removed{files}{notes}; nothing is, because of --dry-run"));
    Ok(Exit::Done)
}

/// What goes, and what people wrote about it.
fn described(model: &v1::Model) -> String {
    let size = Bytes(model.size_bytes).to_string();
    let size = if is_missing(model) { "missing".to_owned() } else { size };
    let written = written(model);
    let notes = if written.is_empty() { String::new() } else { format!("  with its {}", written.join(", ")) };
    format!("  {size:>9}  {}{notes}", text::one_line(&model.path))
}

/// What people wrote about a model, which is nowhere but in the catalog.
fn written(model: &v1::Model) -> Vec<&'static str> {
    let notes = model.notes.clone().unwrap_or_default();
    let config = notes.config.unwrap_or_default();
    let fields = [
        ("name", !notes.display_name.is_empty()),
        ("aliases", !notes.aliases.is_empty()),
        ("tags", !notes.tags.is_empty()),
        ("description", !notes.description.is_empty()),
        ("licence", !notes.licence.is_empty()),
        ("source", !notes.source.is_empty()),
        ("notes", !notes.notes.is_empty()),
        ("type", !notes.type_override.is_empty()),
        ("base", !notes.base_override.is_empty()),
        ("device", !config.default_device.is_empty()),
        ("trust", config.trusted),
        ("pin", config.pinned),
        ("cache policy", config.cache_priority != 0 || config.cache_idle_ttl.is_some()),
    ];
    fields.iter().filter(|(_, is_written)| *is_written).map(|(word, _)| *word).collect()
}

/// How many of them people have written about.
fn and_notes(models: &[v1::Model]) -> String {
    let noted = models.iter().filter(|it| !written(it).is_empty()).count();
    match (noted, models.len()) {
        (0, _) => String::new(),
        (1, 1) => ", with what was written about it".to_owned(),
        (noted, all) if noted == all => ", with what was written about them".to_owned(),
        (noted, _) => format!(", {noted} of them with what was written about them"),
    }
}

/// Asks whoever sits at the terminal.
fn confirmed(session: &Session, args: &RmArgs, models: &[v1::Model]) -> Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let message = match models.iter().map(|it| (it, written(it))).find(|(_, written)| !written.is_empty())
        {
            _ if args.files => {
                "--files asks before anything is removed, and nobody is here to ask".to_owned()
            }
            _ if args.missing => {
                "--missing asks before anything is removed, and nobody is here to ask".to_owned()
            }
            Some((it, written)) => format!(
                "{} would go with its {}, which people wrote, and nobody is here to ask",
                text::one_line(&it.display_name),
                written.join(", ")
            ),
            None => "nobody is here to ask".to_owned(),
        };
        return Err(Error::usage(message, Some("add --yes, or --dry-run to see what would be removed")));
    }
    for it in models {
        session.out.say(described(it));
    }
    let count = results::plural(u64::try_from(models.len()).unwrap_or(u64::MAX), "model");
    let question = if args.files {
        format!("Remove the files of {count} for good{}?", and_notes(models))
    } else {
        format!("Forget {count}{}?", and_notes(models))
    };
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "{question} [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|cause| Error::failed(format!("cannot read the answer: {cause}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
