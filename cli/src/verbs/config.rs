//! `hoist config`: every setting with its value and where that came from.

use hoist_wire::v1;
use serde_json::{Value, json};

use crate::client::request_id;
use crate::error::Result;
use crate::exit::Exit;
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, text};
use crate::verbs::Session;

/// One setting, from a running server or evaluated here.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) value: String,
    /// `default`, `file`, `environment` or `flag`.
    pub(crate) origin: String,
    /// The file and line, variable or flag. Empty for a default.
    pub(crate) origin_detail: String,
    pub(crate) description: String,
}

pub(crate) async fn run(session: &Session) -> Result<Exit> {
    let client = session.connect().await?;
    let request = v1::GetConfigRequest { request_id: request_id() };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.admin().get_config(request)).await?;
    let settings: Vec<Setting> = answer.entries.into_iter().map(Setting::from).collect();
    print(session.out, &settings)?;
    Ok(Exit::Done)
}

impl From<v1::ConfigEntry> for Setting {
    fn from(entry: v1::ConfigEntry) -> Self {
        Self {
            origin: text::origin(entry.origin),
            key: entry.key,
            value: entry.value,
            origin_detail: entry.origin_detail,
            description: entry.description,
        }
    }
}

/// Prints settings in the order given.
pub(crate) fn print(out: Out, settings: &[Setting]) -> Result<()> {
    if out.json {
        let rows: Vec<Value> = settings
            .iter()
            .map(|it| {
                json!({
                    "key": it.key,
                    "value": it.value,
                    "origin": it.origin,
                    "origin_detail": it.origin_detail,
                    "description": it.description,
                })
            })
            .collect();
        return out.value(&rows.into());
    }
    let mut table = Table::new(out, ["SETTING", "VALUE", "FROM"]);
    for it in settings {
        let is_default = it.origin == "default";
        let from = match (is_default, it.origin_detail.is_empty()) {
            (true, _) | (_, true) => it.origin.clone(),
            (false, false) => format!("{} {}", it.origin, it.origin_detail),
        };
        table.row([
            it.key.as_str().into(),
            // What somebody chose stands out from what is built in.
            Toned(if is_default { Tone::Plain } else { Tone::Strong }, it.value.clone()),
            Toned(if is_default { Tone::Dim } else { Tone::Plain }, from),
        ]);
    }
    table.print(out)
}
