//! `hoist components`, `hoist dupes` and `hoist roots`: what models are made of, what is there more than once, and
//! where models are looked for.

use std::collections::HashMap;

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::{Value, json};

use crate::args::{ComponentsArgs, DupesArgs};
use crate::client::{Client, request_id};
use crate::error::Result;
use crate::exit::Exit;
use crate::output::apart::apart;
use crate::output::json::{seconds, set, time};
use crate::output::model::component;
use crate::output::model_page::digest_start;
use crate::output::results::{note_first_look, plural};
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, text};
use crate::verbs::{Session, list};

/// Users of a group that are listed for people; `--json` has all.
const USERS: usize = 20;

struct Groups {
    groups: Vec<v1::ComponentGroup>,
    saved_bytes: u64,
    undigested: u64,
    /// Set while more may be found.
    first_look: Option<v1::FirstLook>,
}

async fn read(client: &Client, args: &ComponentsArgs, shared_only: bool) -> Result<Groups> {
    let mut read = Groups { groups: Vec::new(), saved_bytes: 0, undigested: 0, first_look: None };
    let mut page_token = String::new();
    loop {
        let request = v1::ListComponentsRequest {
            request_id: request_id(),
            r#type: args.component_type.clone().unwrap_or_default(),
            shared_only,
            page_size: i32::try_from(list::PAGE).unwrap_or(i32::MAX),
            page_token,
        };
        let id = request.request_id.clone();
        let page = client.call(Some(&id), client.catalog().list_components(request)).await?;
        (read.saved_bytes, read.undigested) = (page.saved_bytes, page.undigested);
        read.first_look = page.first_look.or(read.first_look);
        read.groups.extend(page.groups);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(read);
        }
    }
}

pub(crate) async fn components(session: &Session, args: &ComponentsArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let read = read(&client, args, false).await?;
    let out = session.out;
    note_first_look(out, read.first_look);
    if out.json {
        out.value(&read.groups.iter().map(group_value).collect::<Value>())?;
        return Ok(Exit::Done);
    }
    if read.groups.is_empty() {
        out.note("no components");
        return Ok(Exit::Done);
    }
    let mut table =
        Table::new(["COMPONENT", "TYPE", "BASE", "SIZE", "PARAMS", "MODELS", "DIGEST", "FIRST IN"])
            .spare(&[4, 2, 1]);
    // A model may be there once for each of its components: that is no other of the same name.
    let mut firsts: Vec<(&str, &str)> = read.groups.iter().map(first_user).collect();
    firsts.sort_unstable();
    firsts.dedup();
    let names: HashMap<(&str, &str), String> = firsts.iter().copied().zip(apart(&firsts)).collect();
    for group in &read.groups {
        let it = group.component.clone().unwrap_or_default();
        let shared = if group.users.len() > 1 { Tone::Strong } else { Tone::Plain };
        table.row([
            text::one_line(&it.name).into(),
            it.r#type.as_str().into(),
            it.base.as_str().into(),
            Bytes(it.size_bytes).to_string().into(),
            text::count(it.parameter_count).replace(' ', "").into(),
            Toned(shared, group.users.len().to_string()),
            Toned(Tone::Dim, digest_start(&it.digest).to_owned()),
            names.get(&first_user(group)).cloned().unwrap_or_default().into(),
        ]);
    }
    table.print(out)?;
    note_undigested(out, read.undigested);
    Ok(Exit::Done)
}

/// What the first model that has a component is called, and where it is.
fn first_user(group: &v1::ComponentGroup) -> (&str, &str) {
    group.users.first().map_or(("", ""), |user| (&user.display_name, &user.path))
}

pub(crate) async fn dupes(session: &Session, args: &DupesArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let read = read(&client, &args.components, true).await?;
    let out = session.out;
    note_first_look(out, read.first_look);
    if out.json {
        // Not an array: what is saved in all, and what is not known yet, belong to the answer.
        out.value(&json!({
            "groups": read.groups.iter().map(group_value).collect::<Value>(),
            "saved_bytes": read.saved_bytes,
            "undigested": read.undigested,
        }))?;
        return Ok(Exit::Done);
    }
    for group in &read.groups {
        print_group(out, group, args.long)?;
    }
    if read.groups.is_empty() {
        out.line("no component is known to be in two models")?;
    } else {
        let groups = u64::try_from(read.groups.len()).unwrap_or(u64::MAX);
        let saved = out.toned(Tone::Strong, &Bytes(read.saved_bytes).to_string());
        out.line(format_args!("{} shared: {saved} of RAM saved", plural(groups, "component")))?;
    }
    note_undigested(out, read.undigested);
    Ok(Exit::Done)
}

fn print_group(out: Out, group: &v1::ComponentGroup, long: bool) -> Result<()> {
    let it = group.component.clone().unwrap_or_default();
    // Most are called what they are, and of some nobody knows for which base they are: that says nothing.
    let mut what = Vec::new();
    what.extend(Some(&it.r#type).filter(|kind| **kind != it.name));
    what.extend(Some(&it.base).filter(|base| !["", "none", "unknown"].contains(&base.as_str())));
    let what: String = what.into_iter().map(|word| format!(" {}", text::one_line(word))).collect();
    out.line(format_args!(
        "{}{what}, {} × {}, saves {}  {}",
        out.toned(Tone::Strong, &text::one_line(&it.name)),
        group.users.len(),
        Bytes(it.size_bytes),
        Bytes(group.saved_bytes),
        out.toned(Tone::Dim, if long { &it.digest } else { digest_start(&it.digest) })
    ))?;
    let shown = if long { group.users.len() } else { USERS };
    let named = |user: &v1::ComponentUser| {
        let part = if user.component == it.name { String::new() } else { format!(" ({})", user.component) };
        text::one_line(&format!("{}{part}", user.display_name))
    };
    let names: Vec<String> = group.users.iter().take(shown).map(named).collect();
    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (user, name) in group.users.iter().zip(names) {
        let path = out.toned(Tone::Dim, &text::one_line(&user.path));
        out.line(format_args!("  {name:<widest$}  {path}"))?;
    }
    if let Some(more @ 1..) = group.users.len().checked_sub(shown) {
        out.line(format_args!("  and {more} more: --long shows them"))?;
    }
    Ok(())
}

/// What is not digested may be equal, too.
fn note_undigested(out: Out, undigested: u64) {
    if undigested > 0 {
        let count = plural(undigested, "component");
        out.note(format_args!("{count} not read yet, which may be shared too: `hoist digest` reads them"));
    }
}

fn group_value(group: &v1::ComponentGroup) -> Value {
    let user = |it: &v1::ComponentUser| json!({ "id": it.model, "name": it.display_name, "component": it.component, "path": it.path });
    let mut value = group.component.as_ref().map_or_else(|| json!({}), component);
    set(&mut value, "users", group.users.iter().map(user).collect());
    set(&mut value, "saved_bytes", group.saved_bytes.into());
    value
}

pub(crate) async fn roots(session: &Session) -> Result<Exit> {
    let client = session.connect().await?;
    let request = v1::ListRootsRequest { request_id: request_id() };
    let id = request.request_id.clone();
    let roots = client.call(Some(&id), client.catalog().list_roots(request)).await?.roots;
    let out = session.out;
    if out.json {
        out.value(&roots.iter().map(root_value).collect::<Value>())?;
        return Ok(Exit::Done);
    }
    if roots.is_empty() {
        out.note("models are looked for nowhere: start the server with --models DIR");
        return Ok(Exit::Done);
    }
    let now = session.clock.wall();
    let mut table = Table::new(["ROOT", "MODELS", "SIZE", "LOOKED AT", "TOOK", "CHANGES", "PROBLEM"]);
    for it in &roots {
        let looked = it.scan_time.as_ref().map(|time| format!("{} ago", text::span(text::age(time, now))));
        table.row([
            Toned(if it.available { Tone::Strong } else { Tone::Bad }, text::one_line(&it.path)),
            it.models.to_string().into(),
            Bytes(it.size_bytes).to_string().into(),
            looked.unwrap_or_else(|| "not yet".to_owned()).into(),
            it.scan_took.as_ref().map(|took| text::span(text::wire_span(took))).unwrap_or_default().into(),
            if it.watched { "at once".into() } else { "by looking".into() },
            Toned(Tone::Warning, text::one_line(&it.problem)),
        ]);
    }
    table.print(out)?;
    Ok(Exit::Done)
}

fn root_value(it: &v1::Root) -> Value {
    json!({
        "path": it.path,
        "available": it.available,
        "problem": it.problem,
        "watched": it.watched,
        "models": it.models,
        "bytes": it.size_bytes,
        "scan_time": time(it.scan_time.as_ref()),
        "scan_took_seconds": seconds(it.scan_took.as_ref()),
    })
}
