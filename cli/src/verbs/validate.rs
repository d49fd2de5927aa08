//! `hoist validate` and `hoist verdicts`: whether models are sound.

use std::time::Duration;

use hoist_wire::v1;
use serde_json::{Value, json};

use crate::args::{Level, ValidateArgs, VerdictsArgs};
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::apart::apart;
use crate::output::json::{Response, set, time};
use crate::output::model::{findings, verdict_kind};
use crate::output::model_page::{print_findings, verdict_tone};
use crate::output::progress::Bar;
use crate::output::results::{note_first_look, plural, print_validation, validation_value};
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, error_value, text};
use crate::verbs::{Session, awaited, list, scan, show};

/// The server gives a validation up after an hour; a little longer, so that its answer is what ends the wait.
const HOLD: Duration = Duration::from_secs(61 * 60);

/// One model after the other: each is told as soon as it is known. The exit code is that of the first which failed.
pub(crate) async fn validate(session: &Session, args: &ValidateArgs) -> Result<Exit> {
    refuse_what_changes_nothing(args)?;
    if args.all {
        return scan::validate_all(session).await;
    }
    let client = session.connect().await?;
    let out = session.out;
    let (mut exit, mut values) = (Exit::Done, Vec::new());
    for written in &args.names {
        let failed = match one(session, &client, written, args).await {
            Ok((model, found)) => {
                if out.json {
                    let mut value = validation_value(&found);
                    set(&mut value, "name", model.display_name.into());
                    set(&mut value, "path", model.path.into());
                    values.push(value);
                } else {
                    print_validation(out, &model.display_name, &found)?;
                }
                exit_for(&found, args.strict)
            }
            // Nobody waits for the others any more.
            Err(error) if error.is_ours() || args.names.len() == 1 => return Err(error),
            Err(error) => {
                out.report(&error);
                values.push(json!({ "name": written, "error": error_value(&error) }));
                error.exit()
            }
        };
        exit = if exit == Exit::Done { failed } else { exit };
    }
    if out.json {
        let only = if args.names.len() == 1 { values.pop() } else { None };
        out.value(&only.unwrap_or(Value::Array(values)))?;
    }
    Ok(exit)
}

fn refuse_what_changes_nothing(args: &ValidateArgs) -> Result<()> {
    if args.all && args.level != Level::Full {
        return Err(Error::usage("--all is of every byte", Some("leave out --level, or name the models")));
    }
    if args.device.is_some() && args.level != Level::Compatibility {
        return Err(Error::usage("--device has no effect here", Some("add --level compatibility")));
    }
    if (args.sha256.is_some() || args.checksums) && args.level != Level::Full {
        return Err(Error::usage(
            "checksums are of every byte",
            Some("leave out --level, or say --level full"),
        ));
    }
    if args.sha256.is_some() && args.names.len() > 1 {
        return Err(Error::usage("--sha256 is of one file", Some("validate one model at a time with it")));
    }
    Ok(())
}

async fn one(
    session: &Session,
    client: &Client,
    written: &str,
    args: &ValidateArgs,
) -> Result<(v1::Model, Box<v1::ValidateModelResponse>)> {
    let model = show::catalogued(client, written).await?;
    let request = v1::ValidateModelRequest {
        request_id: request_id(),
        name: model.name.clone(),
        level: v1::ValidationLevel::from(args.level).into(),
        device: args.device.clone().unwrap_or_default(),
        checksums: args.checksums,
        sha256: args.sha256.clone().unwrap_or_default(),
        cancel_on_disconnect: true,
        ..Default::default()
    };
    let id = request.request_id.clone();
    let ask = |wait_for| {
        let (mut integrity, request) =
            (client.integrity(), v1::ValidateModelRequest { wait_for: Some(wait_for), ..request.clone() });
        async move { integrity.validate_model(request).await }
    };
    let operation =
        Box::pin(awaited::to_the_end(session, client, &id, HOLD, &Bar::new(session.out), ask)).await?;
    match (operation.failure(), operation.response) {
        (Some(error), _) => Err(error),
        (None, Some(Response::ValidateModel(found))) => Ok((model, found)),
        (None, _) => Err(Error::unreadable("what the validation found")),
    }
}

/// A model that loads passes, odd or not: `suspicious` is for people to judge, unless they leave it to us.
fn exit_for(found: &v1::ValidateModelResponse, strict: bool) -> Exit {
    let passes = match v1::Verdict::try_from(found.verdict) {
        Ok(v1::Verdict::Ok) => true,
        Ok(v1::Verdict::Suspicious) => !strict,
        // What this client does not know is nothing to vouch for.
        Ok(_) | Err(_) => false,
    };
    let fits = found.compatibility.as_ref().is_none_or(|it| it.compatible);
    if passes && fits { Exit::Done } else { Exit::Failed }
}

pub(crate) async fn verdicts(session: &Session, args: &VerdictsArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let (mut verdicts, mut first_look) = (Vec::new(), None);
    let mut page_token = String::new();
    let missing = loop {
        let request = v1::ListVerdictsRequest {
            request_id: request_id(),
            filter: args.filter.clone(),
            show_ok: args.all,
            show_missing: args.missing,
            page_size: i32::try_from(list::PAGE).unwrap_or(i32::MAX),
            page_token,
        };
        let id = request.request_id.clone();
        let page = client.call(Some(&id), client.integrity().list_verdicts(request)).await?;
        first_look = page.first_look.or(first_look);
        verdicts.extend(page.verdicts);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break page.missing_size;
        }
    };
    let out = session.out;
    note_first_look(out, first_look);
    if out.json {
        out.value(&verdicts.iter().map(verdict_value).collect::<Value>())?;
        return Ok(Exit::Done);
    }
    if !verdicts.is_empty() {
        if args.long {
            print_long(out, &verdicts)?
        } else {
            print_verdicts(out, &verdicts)?
        }
        let count = u64::try_from(verdicts.len()).unwrap_or(u64::MAX);
        out.note(format_args!("{}; `hoist show NAME` says what to do", plural(count, "model")));
    } else if first_look.is_none() {
        out.note(if args.filter.is_empty() { "nothing is wrong with any model" } else { "nothing passes" });
    }
    if missing > 0 && !args.missing {
        out.note(format_args!("{} missing: --missing shows them, too", plural(missing, "model")));
    }
    Ok(Exit::Done)
}

/// How closely a model was looked at.
fn looked_at(it: &v1::ModelVerdict) -> Toned {
    if it.state == i32::from(v1::model::State::Missing) {
        return Toned(Tone::Warning, "missing".to_owned());
    }
    if it.validate_time.is_some() { "all".into() } else { Toned(Tone::Dim, "headers".to_owned()) }
}

fn print_verdicts(out: Out, verdicts: &[v1::ModelVerdict]) -> Result<()> {
    let named: Vec<(&str, &str)> =
        verdicts.iter().map(|it| (it.display_name.as_str(), it.path.as_str())).collect();
    // Beside a name of more, nothing of what is wrong would fit a terminal of 80 columns.
    let name = |name: String| if out.width().is_some() { text::shortened(&name, 24) } else { name };
    let mut table = Table::new(["VERDICT", "KIND", "READ", "NAME", "WHAT"]);
    for (it, named) in verdicts.iter().zip(apart(&named)) {
        table.row([
            Toned(verdict_tone(it.verdict), text::verdict(it.verdict)),
            verdict_kind(it.verdict, &it.findings).unwrap_or_default().into(),
            looked_at(it),
            name(named).into(),
            text::one_line(it.findings.first().map_or("", |finding| finding.message.as_str())).into(),
        ]);
    }
    table.print(out)
}

/// Each model with all that is known of it, below one another: no terminal is as wide as a path and a finding.
fn print_long(out: Out, verdicts: &[v1::ModelVerdict]) -> Result<()> {
    for it in verdicts {
        let verdict = out.toned(verdict_tone(it.verdict), &text::verdict(it.verdict));
        out.line(format_args!(
            "{verdict}  {}  {}",
            out.toned(Tone::Strong, &text::one_line(&it.display_name)),
            out.toned(Tone::Dim, &text::one_line(&it.path))
        ))?;
        print_findings(out, &it.findings)?;
    }
    Ok(())
}

fn verdict_value(it: &v1::ModelVerdict) -> Value {
    json!({
        "id": it.model,
        "name": it.display_name,
        "path": it.path,
        "state": text::model_state(it.state),
        "verdict": text::verdict(it.verdict),
        "verdict_kind": verdict_kind(it.verdict, &it.findings),
        "findings": findings(&it.findings),
        "validate_time": time(it.validate_time.as_ref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_loaded_fails_and_what_is_odd_only_when_asked() {
        let found = |verdict: i32| v1::ValidateModelResponse { verdict, ..Default::default() };
        for verdict in
            [v1::Verdict::Incomplete, v1::Verdict::Corrupt, v1::Verdict::Rejected, v1::Verdict::Malicious]
        {
            assert_eq!(exit_for(&found(verdict.into()), false), Exit::Failed, "{verdict:?}");
        }
        assert_eq!(exit_for(&found(v1::Verdict::Ok.into()), true), Exit::Done);
        assert_eq!(exit_for(&found(v1::Verdict::Suspicious.into()), false), Exit::Done);
        assert_eq!(exit_for(&found(v1::Verdict::Suspicious.into()), true), Exit::Failed);
        assert_eq!(exit_for(&found(99), false), Exit::Failed);
        let mut too_large = found(v1::Verdict::Ok.into());
        too_large.compatibility = Some(v1::Compatibility { compatible: false, ..Default::default() });
        assert_eq!(exit_for(&too_large, false), Exit::Failed);
    }
}
