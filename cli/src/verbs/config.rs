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

impl Setting {
    fn is_default(&self) -> bool {
        self.origin == "default"
    }

    /// What somebody chose stands out from what is built in.
    fn tone(&self) -> Tone {
        if self.is_default() { Tone::Plain } else { Tone::Strong }
    }

    fn source(&self) -> String {
        if self.is_default() || self.origin_detail.is_empty() {
            return self.origin.clone();
        }
        format!("{} {}", self.origin, self.origin_detail)
    }
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

/// A setting's value for scripts. What is written in the file is TOML; its strings, numbers, flags and lists, as they
/// are printed here, read as JSON too.
fn plain_value(toml: &str) -> Value {
    serde_json::from_str(toml).unwrap_or_else(|_| toml.into())
}

/// Prints settings in the order given.
pub(crate) fn print(out: Out, settings: &[Setting]) -> Result<()> {
    if out.json {
        let rows: Vec<Value> = settings
            .iter()
            .map(|it| {
                json!({
                    "key": it.key,
                    "value": plain_value(&it.value),
                    "origin": it.origin,
                    "origin_detail": it.origin_detail,
                    "description": it.description,
                })
            })
            .collect();
        return out.value(&rows.into());
    }
    if !fits(out.width(), settings) {
        return print_in_blocks(out, settings);
    }
    let mut table = Table::new(["SETTING", "VALUE", "FROM", "MEANING"]);
    for it in settings {
        table.row([
            it.key.as_str().into(),
            Toned(it.tone(), it.value.clone()),
            Toned(if it.is_default() { Tone::Dim } else { Tone::Plain }, it.source()),
            it.description.as_str().into(),
        ]);
    }
    table.print(out)
}

/// Whether a row of the table leaves room for its meaning. A pipe has room for everything.
fn fits(width: Option<u16>, settings: &[Setting]) -> bool {
    const GAPS: usize = 6;
    const MEANING: usize = 40;
    let Some(width) = width else { return true };
    let widest = |of: fn(&Setting) -> usize| settings.iter().map(of).max().unwrap_or_default();
    let taken = widest(|it| it.key.len()) + widest(|it| it.value.len()) + widest(|it| it.source().len());
    taken + GAPS + MEANING <= usize::from(width)
}

/// Each setting on a line, its meaning on the next.
fn print_in_blocks(out: Out, settings: &[Setting]) -> Result<()> {
    for it in settings {
        let from = out.toned(Tone::Dim, &format!("({})", text::plain(&it.source())));
        out.line(format_args!("{} = {}  {from}", it.key, out.toned(it.tone(), &text::plain(&it.value))))?;
        out.line(format_args!("    {}", out.toned(Tone::Dim, &text::plain(&it.description))))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_encoded_twice() {
        assert_eq!(plain_value("\"24h\""), json!("24h"));
        assert_eq!(plain_value("100000"), json!(100_000));
        assert_eq!(plain_value("[\"a\", \"b\"]"), json!(["a", "b"]));
        assert_eq!(plain_value("<redacted>"), json!("<redacted>"));
    }

    #[test]
    fn a_narrow_terminal_gets_blocks_and_a_pipe_rows() {
        let setting = Setting {
            key: "k".repeat(20),
            value: "v".repeat(20),
            origin: "default".into(),
            origin_detail: String::new(),
            description: String::new(),
        };
        let settings = [setting];
        assert!(fits(None, &settings) && fits(Some(93), &settings) && !fits(Some(92), &settings));
    }
}
