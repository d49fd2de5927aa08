//! `hoist shutdown`: asks the server to drain and end. Returns when it has agreed, not when it is gone.

use hoist_wire::{encode, v1};
use serde_json::json;

use crate::args::ShutdownArgs;
use crate::client::request_id;
use crate::error::Result;
use crate::exit::Exit;
use crate::verbs::Session;

pub(crate) async fn run(session: &Session, args: &ShutdownArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let request = v1::ShutdownRequest { request_id: request_id(), grace: args.grace.map(encode::duration) };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.admin().shutdown(request)).await?;
    if session.out.json {
        session.out.value(&json!({ "request_id": answer.request_id, "state": "draining" }))?;
    } else {
        session.out.line(format_args!("the server at {} is stopping", session.endpoint))?;
    }
    Ok(Exit::Done)
}
