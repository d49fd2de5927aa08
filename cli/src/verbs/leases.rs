//! `hoist leases`: who relies on what is in RAM or on a device, and the end of that.

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::{Value, json};

use crate::args::{LeasesArgs, LeasesVerb, RevokeArgs};
use crate::client::{Client, request_id};
use crate::error::Result;
use crate::exit::Exit;
use crate::output::cache::{lease, lease_tone};
use crate::output::json::set;
use crate::output::results::plural;
use crate::output::table::{Table, Toned};
use crate::output::text;
use crate::verbs::{Session, list, names, names_of};

pub(crate) async fn run(session: &Session, args: LeasesArgs) -> Result<Exit> {
    match args.verb {
        None | Some(LeasesVerb::List) => list(session).await,
        Some(LeasesVerb::Revoke(args)) => revoke(session, &args).await,
    }
}

/// All leases, oldest first.
pub(crate) async fn read(client: &Client) -> Result<Vec<v1::Lease>> {
    let (mut leases, mut page_token) = (Vec::new(), String::new());
    loop {
        let page_size = i32::try_from(list::PAGE).unwrap_or(i32::MAX);
        let request = v1::ListLeasesRequest { request_id: request_id(), page_size, page_token };
        let id = request.request_id.clone();
        let page = client.call(Some(&id), client.leases().list_leases(request)).await?;
        leases.extend(page.leases);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(leases);
        }
    }
}

/// The id without the collection.
pub(crate) fn id_of(it: &v1::Lease) -> &str {
    it.name.strip_prefix("leases/").unwrap_or(&it.name)
}

async fn list(session: &Session) -> Result<Exit> {
    let client = session.connect().await?;
    let leases = read(&client).await?;
    let called = names_of::read(&client, leases.iter().map(|it| it.model.as_str())).await?;
    let out = session.out;
    if out.json {
        let rows = leases.iter().map(|it| {
            let mut value = lease(it);
            set(&mut value, "model_name", called.get(&it.model).cloned().into());
            value
        });
        out.value(&rows.collect::<Value>())?;
        return Ok(Exit::Done);
    }
    if leases.is_empty() {
        out.note("no leases");
        return Ok(Exit::Done);
    }
    let now = session.clock.wall();
    let header = ["ID", "MODEL", "WHERE", "SIZE", "STATE", "AGE", "CALLER", "PROCESS", "HOLDER"];
    let mut table = Table::new(header).spare(&[6, 7]);
    let ids: Vec<&str> = leases.iter().map(id_of).collect();
    for (it, id) in leases.iter().zip(names::short(&ids)) {
        let age = it.grant_time.as_ref().map(|time| text::span(text::age(time, now)));
        let process = if it.process_id > 0 { it.process_id.to_string() } else { "-".to_owned() };
        table.row([
            id.into(),
            called.name(&it.model).into(),
            if it.device_id.is_empty() { "RAM".into() } else { text::one_line(&it.device_id).into() },
            Bytes(it.size_bytes).to_string().into(),
            Toned(lease_tone(it.state), text::lease_state(it.state)),
            age.unwrap_or_default().into(),
            text::one_line(&it.principal).into(),
            process.into(),
            text::one_line(&it.holder).into(),
        ]);
    }
    table.print(out)?;
    out.note(plural(u64::try_from(leases.len()).unwrap_or(u64::MAX), "lease"));
    Ok(Exit::Done)
}

async fn revoke(session: &Session, args: &RevokeArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let name = names::resolve_lease(&client, &args.lease).await?;
    let request =
        v1::RevokeLeaseRequest { request_id: request_id(), name: name.clone(), reason: args.reason.clone() };
    let id = request.request_id.clone();
    client.call(Some(&id), client.leases().revoke_lease(request)).await?;
    if session.out.json {
        session.out.value(&json!({ "name": name, "revoked": true }))?;
    } else {
        session.out.line(format_args!("{name} is revoked"))?;
    }
    Ok(Exit::Done)
}
