//! `hoist show`: all that is known about models, with what their headers say, read anew.

use hoist_wire::v1;
use serde_json::{Value, json};

use crate::args::ShowArgs;
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::json::set;
use crate::output::{details, error_value, model, model_page};
use crate::verbs::{Session, names, segments};

/// A model, and its details as far as its files could be read.
struct Shown {
    model: v1::Model,
    details: Result<v1::ModelDetails>,
    /// Components that are pinned and not in RAM.
    absent: Vec<String>,
}

/// Every name gets its answer; the exit code is that of the first which has none.
pub(crate) async fn run(session: &Session, args: &ShowArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let mut answers = Vec::with_capacity(args.names.len());
    for name in &args.names {
        answers.push(read(&client, name, args.tensors).await);
    }
    let out = session.out;
    if let ([one], true) = (answers.as_slice(), out.json) {
        if let Ok(shown) = one {
            out.value(&value(shown, args.tensors))?;
        }
    } else if out.json {
        let rows = args.names.iter().zip(&answers).map(|(name, answer)| match answer {
            Ok(shown) => value(shown, args.tensors),
            Err(error) => json!({ "name": name, "error": error_value(error) }),
        });
        out.value(&rows.collect::<Value>())?;
    }
    let mut exit = Exit::Done;
    for (index, answer) in answers.iter().enumerate() {
        match answer {
            Ok(_) if out.json => {}
            Ok(shown) => {
                if index > 0 {
                    out.line("")?;
                }
                model_page::print(out, &shown.model, &shown.absent)?;
                match &shown.details {
                    Ok(details) => details::print(out, details)?,
                    Err(error) => out.note(format_args!("\nits files cannot be read: {}", error.message())),
                }
            }
            Err(error) => {
                out.report(error);
                exit = if exit == Exit::Done { error.exit() } else { exit };
            }
        }
    }
    Ok(exit)
}

fn value(shown: &Shown, tensors: bool) -> Value {
    let mut value = model::value(&shown.model);
    let unset = v1::ModelConfig::default();
    let config = shown.model.notes.as_ref().and_then(|notes| notes.config.as_ref()).unwrap_or(&unset);
    let mut cache = model::cache_config(config);
    set(&mut cache, "pinned_now", json!(model_page::pinned(&shown.model)));
    set(&mut cache, "pinned_and_absent", json!(shown.absent));
    let added = details::value(shown.details.as_ref().ok(), tensors);
    if let Value::Object(fields) = &mut value {
        fields.extend(added);
        fields.insert("cache".into(), cache);
        fields.insert("details_error".into(), shown.details.as_ref().err().map_or(Value::Null, error_value));
    }
    value
}

/// Files may have gone or changed since they were found: what the catalog knows is shown all the same.
async fn read(client: &Client, name: &str, tensors: bool) -> Result<Shown> {
    let (model, details) = match get(client, name, Some(tensors)).await {
        Ok((model, Some(details))) => (model, Ok(details)),
        Ok((model, None)) => (model, Err(Error::unreadable("the details"))),
        // Whatever says that there is no such model says so again.
        Err(error) => (get(client, name, None).await?.0, Err(error)),
    };
    let absent = absent(client, &model).await?;
    Ok(Shown { model, details, absent })
}

/// The components of a model that are pinned and not in RAM.
async fn absent(client: &Client, model: &v1::Model) -> Result<Vec<String>> {
    let pinned = model_page::pinned(model);
    if pinned.is_empty() {
        return Ok(Vec::new());
    }
    let listed = segments::pages(client, &model.name).await?.segments;
    let sealed = i32::from(v1::segment::State::Sealed);
    let complete =
        listed.iter().filter(|it| it.segment.as_ref().is_some_and(|segment| segment.state == sealed));
    let users: Vec<&v1::SegmentUser> = complete.flat_map(|it| &it.users).collect();
    let is_there = |name: &str| users.iter().any(|user| user.model == model.name && user.component == name);
    Ok(pinned.into_iter().filter(|name| !is_there(name)).map(str::to_owned).collect())
}

async fn get(
    client: &Client,
    name: &str,
    details: Option<bool>,
) -> Result<(v1::Model, Option<v1::ModelDetails>)> {
    let request = v1::GetModelRequest {
        request_id: request_id(),
        name: names::model(name)?,
        field_mask: None,
        details: details.is_some(),
        tensors: details == Some(true),
    };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.catalog().get_model(request)).await?;
    Ok((answer.model.ok_or_else(|| Error::unreadable("the model"))?, answer.details))
}

/// A model as the catalog knows it.
pub(crate) async fn catalogued(client: &Client, name: &str) -> Result<v1::Model> {
    get(client, name, None).await.map(|(model, _)| model)
}
