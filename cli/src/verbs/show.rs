//! `hoist show`: all that is known about models, with what their headers say, read anew.

use hoist_wire::v1;
use serde_json::{Value, json};

use crate::args::ShowArgs;
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::{details, error_value, model};
use crate::verbs::{Session, names};

/// A model, and its details as far as its files could be read.
struct Shown {
    model: v1::Model,
    details: Result<v1::ModelDetails>,
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
                model::print(out, &shown.model)?;
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
    let added = details::value(shown.details.as_ref().ok(), tensors);
    if let Value::Object(fields) = &mut value {
        fields.extend(added);
        fields.insert("details_error".into(), shown.details.as_ref().err().map_or(Value::Null, error_value));
    }
    value
}

/// Files may have gone or changed since they were found: what the catalog knows is shown all the same.
async fn read(client: &Client, name: &str, tensors: bool) -> Result<Shown> {
    match get(client, name, Some(tensors)).await {
        Ok((model, Some(details))) => Ok(Shown { model, details: Ok(details) }),
        Ok((model, None)) => Ok(Shown { model, details: Err(Error::unreadable("the details")) }),
        Err(error) => {
            // Whatever says that there is no such model says so again.
            let (model, _) = get(client, name, None).await?;
            Ok(Shown { model, details: Err(error) })
        }
    }
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
