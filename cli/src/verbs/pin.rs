//! `hoist pin` and `hoist unpin`: what stays in RAM.

use hoist_wire::v1;
use serde_json::json;

use crate::args::PinArgs;
use crate::client::request_id;
use crate::error::Result;
use crate::exit::Exit;
use crate::output::results::plural;
use crate::output::text;
use crate::verbs::Session;
use crate::verbs::wanted::{self, Wanted};

pub(crate) async fn pin(session: &Session, args: &PinArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let wanted = wanted::resolve(&client, &args.name, &args.components).await?;
    let request = v1::PinModelRequest {
        request_id: request_id(),
        name: wanted.model.name.clone(),
        components: wanted.components.clone(),
    };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.cache().pin_model(request)).await?;
    let out = session.out;
    if out.json {
        out.value(&json!({
            "id": answer.model,
            "name": wanted.model.display_name,
            "resident": answer.resident,
            "absent": answer.absent,
        }))?;
        return Ok(Exit::Done);
    }
    let [is, _] = verbs(&wanted);
    out.line(format_args!("{} {is} pinned", wanted.words()))?;
    out.row("in RAM", &text::one_line(&answer.resident.join(", ")))?;
    out.row("not yet", &text::one_line(&answer.absent.join(", ")))?;
    if !answer.absent.is_empty() {
        let count = u64::try_from(answer.absent.len()).unwrap_or(u64::MAX);
        out.note(format_args!("`hoist cache` brings {} there", plural(count, "component")));
    }
    Ok(Exit::Done)
}

pub(crate) async fn unpin(session: &Session, args: &PinArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let wanted = wanted::resolve(&client, &args.name, &args.components).await?;
    let request = v1::UnpinModelRequest {
        request_id: request_id(),
        name: wanted.model.name.clone(),
        components: wanted.components.clone(),
    };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.cache().unpin_model(request)).await?;
    let out = session.out;
    if out.json {
        out.value(&json!({
            "id": answer.model,
            "name": wanted.model.display_name,
            "was_pinned": answer.was_pinned,
            "pinned": answer.pinned,
        }))?;
        return Ok(Exit::Done);
    }
    let ([is, was], what) = (verbs(&wanted), wanted.words());
    if answer.was_pinned {
        out.line(format_args!("{what} {is} not pinned any more"))?;
    } else {
        out.note(format_args!("{what} {was} not pinned"));
    }
    out.row("still", &text::one_line(&answer.pinned.join(", ")))?;
    Ok(Exit::Done)
}

/// What is and was of one, or of several.
const fn verbs(wanted: &Wanted) -> [&'static str; 2] {
    if wanted.components.len() > 1 { ["are", "were"] } else { ["is", "was"] }
}
