//! The cache as it is: what `hoist cache` and `hoist cache-policy` show without a name, and others ask about.

use hoist_wire::v1;

use crate::client::{Client, request_id};
use crate::error::Result;
use crate::exit::Exit;
use crate::output::usage;
use crate::verbs::Session;

pub(crate) async fn show(session: &Session) -> Result<Exit> {
    let client = session.connect().await?;
    let it = read(&client).await?;
    if session.out.json {
        session.out.value(&usage::value(&it))?;
    } else {
        usage::print(session.out, &it)?;
    }
    Ok(Exit::Done)
}

pub(crate) async fn read(client: &Client) -> Result<v1::GetCacheResponse> {
    let request = v1::GetCacheRequest { request_id: request_id() };
    let id = request.request_id.clone();
    client.call(Some(&id), client.cache().get_cache(request)).await
}
