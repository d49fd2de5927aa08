//! What people write for the name of a thing, and the name that it stands for.
//!
//! Only a part of an operation's id needs the server: everything else is a name already, and whether the thing
//! exists is for the server to say.

use std::collections::BTreeSet;

use hoist_domain::ConditionKind;
use hoist_wire::longrunning::ListOperationsRequest;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::json::Operation;

/// The most operations in one answer; the server's own bound.
pub(crate) const PAGE: i32 = 1_000;
/// Candidates that an ambiguous start is answered with.
const CANDIDATES: usize = 8;
const UUID_CHARS: usize = 36;
const LAST_GROUP: usize = 12;

/// A name as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Written {
    Name(String),
    /// The start or the end of an operation's id. The start is its time, so for most it is the end that tells.
    Part(String),
}

impl Written {
    fn read(text: &str) -> Result<Self> {
        if text == "machine" {
            return Ok(Self::Name(text.to_owned()));
        }
        if let Some(kind) = text.strip_prefix("conditions/") {
            let kind = kind.to_ascii_uppercase();
            let known = ConditionKind::ALL.map(ConditionKind::as_str);
            if !known.contains(&kind.as_str()) {
                return Err(Error::usage(
                    format!("`{text}` is not a condition: there are {}", known.join(", ")),
                    Some("`hoist status` shows those that hold"),
                ));
            }
            return Ok(Self::Name(format!("conditions/{kind}")));
        }
        let id = text.strip_prefix("operations/").unwrap_or(text).to_ascii_lowercase();
        if id.is_empty() || id.len() > UUID_CHARS || !id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            return Err(Error::usage(
                format!("`{text}` is not a name"),
                Some(
                    "write machine, operations/ID, conditions/KIND, or the start or end of an operation's id",
                ),
            ));
        }
        Ok(if id.len() == UUID_CHARS { Self::Name(format!("operations/{id}")) } else { Self::Part(id) })
    }
}

/// The names for what was written; one that stands for nothing does not fail the others.
pub(crate) async fn resolve_each(client: &Client, written: &[String]) -> Result<Vec<Result<String>>> {
    let written: Vec<_> = written.iter().map(|text| Written::read(text)).collect();
    let known = if written.iter().any(|it| matches!(it, Ok(Written::Part(_)))) {
        list(client, "", None).await?.operations
    } else {
        Vec::new()
    };
    let resolved = written.into_iter().map(|it| match it? {
        Written::Name(name) => Ok(name),
        Written::Part(part) => the_one(&part, known.iter().map(Operation::id)),
    });
    Ok(resolved.collect())
}

/// The names for what was written.
pub(crate) async fn resolve_all(client: &Client, written: &[String]) -> Result<Vec<String>> {
    resolve_each(client, written).await?.into_iter().collect()
}

/// The name of the one operation that is meant.
pub(crate) async fn resolve_operation(client: &Client, written: &str) -> Result<String> {
    let name = resolve_all(client, &[written.to_owned()]).await?.pop().unwrap_or_default();
    if name.starts_with("operations/") {
        return Ok(name);
    }
    Err(Error::usage(format!("`{written}` is not an operation"), Some("`hoist ops` lists them")))
}

fn the_one<'a>(part: &str, ids: impl Iterator<Item = &'a str>) -> Result<String> {
    let mut found: Vec<&str> = ids.filter(|id| id.starts_with(part) || id.ends_with(part)).collect();
    match found.as_slice() {
        [] => Err(Error::not_found(
            format!("no operation's id begins or ends with `{part}`"),
            "`hoist ops` lists them",
        )),
        [one] => Ok(format!("operations/{one}")),
        many => {
            let count = many.len();
            found.truncate(CANDIDATES);
            let more = if count > CANDIDATES { ", ..." } else { "" };
            Err(Error::usage(
                format!("`{part}` is part of the ids of {count} operations: {}{more}", found.join(", ")),
                Some("write more of the id"),
            ))
        }
    }
}

/// The ends of ids that tell these operations apart, each as long as the others.
pub(crate) fn short(ids: &[&str]) -> Vec<String> {
    // Hexadecimal digits. With 8 random ones, two of a thousand operations are alike once in ten thousand lists.
    const LEAST: usize = 8;
    let end = |id: &str, chars: usize| id.get(id.len().saturating_sub(chars)..).unwrap_or(id).to_owned();
    let alone = |chars: &usize| {
        let ends: BTreeSet<String> = ids.iter().map(|id| end(id, *chars)).collect();
        ends.len() == ids.len()
    };
    // Beyond the last group an end would hold a dash.
    let chars = (LEAST..=LAST_GROUP).find(alone).unwrap_or(UUID_CHARS);
    ids.iter().map(|id| end(id, chars)).collect()
}

/// Operations, the newest first.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) operations: Vec<Operation>,
    /// There are more than were asked for.
    pub(crate) more: bool,
}

/// The filter with its words as the server writes them: people may write `state = running and done = False`.
fn in_capitals(filter: &str) -> String {
    let mut capitals = false;
    let spaced = filter.replace('=', " = ");
    let words = spaced.split_whitespace().map(|word| match word.to_ascii_lowercase().as_str() {
        "and" => "AND".to_owned(),
        field @ ("state" | "kind" | "done") => {
            capitals = field != "done";
            field.to_owned()
        }
        "=" => word.to_owned(),
        _ if capitals => word.to_ascii_uppercase(),
        _ => word.to_ascii_lowercase(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Lists operations, page by page, up to `limit`.
pub(crate) async fn list(client: &Client, filter: &str, limit: Option<u32>) -> Result<Listed> {
    let filter = in_capitals(filter);
    let mut operations = Vec::new();
    let mut page_token = String::new();
    loop {
        let wanted = limit.map_or(u32::MAX, |limit| {
            limit.saturating_sub(u32::try_from(operations.len()).unwrap_or(u32::MAX))
        });
        let request = ListOperationsRequest {
            filter: filter.clone(),
            page_size: i32::try_from(wanted).unwrap_or(PAGE).min(PAGE),
            page_token,
            name: String::new(),
        };
        let page = client.call(None, client.operations().list_operations(request)).await?;
        let full = usize::try_from(wanted).unwrap_or(usize::MAX);
        for operation in page.operations.iter().take(full) {
            operations.push(Operation::read(operation)?);
        }
        page_token = page.next_page_token;
        let more = !page_token.is_empty();
        if !more || page.operations.len() >= full {
            return Ok(Listed { operations, more });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0198c2f4-0000-7000-8000-00000000000a";

    #[test]
    fn a_name_may_be_written_short_and_in_capitals() {
        let name = |text: &str| Written::read(text).map_err(|e| e.exit());
        assert_eq!(name("machine"), Ok(Written::Name("machine".into())));
        assert_eq!(name("conditions/store_readonly"), Ok(Written::Name("conditions/STORE_READONLY".into())));
        assert_eq!(name(&ID.to_uppercase()), Ok(Written::Name(format!("operations/{ID}"))));
        assert_eq!(name("operations/0198C2"), Ok(Written::Part("0198c2".into())));
        assert!(Written::read("conditions/nope").unwrap_err().message().contains("STORE_READONLY"));
        for text in [
            "",
            "operations/",
            "models/x",
            "conditions/NOPE",
            "zebra",
            "0198c2f4-0000-7000-8000-00000000000abc",
        ] {
            assert_eq!(name(text), Err(crate::exit::Exit::Usage), "{text}");
        }
    }

    #[test]
    fn a_start_must_mean_exactly_one() {
        let other = "0198c2f4-0000-7000-8000-00000000000b";
        let one = |start: &str| the_one(start, [ID, other].into_iter());
        assert_eq!(one("0198c2f4-0000-7000-8000-00000000000a").unwrap(), format!("operations/{ID}"));
        assert_eq!(one("00b").unwrap(), format!("operations/{other}"));
        let ambiguous = one("0198").unwrap_err();
        assert!(ambiguous.message().contains(ID) && ambiguous.message().contains(other));
        assert_eq!(ambiguous.exit(), crate::exit::Exit::Usage);
        assert_eq!(one("ff").unwrap_err().exit(), crate::exit::Exit::NotFound);
    }

    #[test]
    fn short_ids_tell_operations_apart() {
        assert_eq!(short(&[ID]), ["0000000a"]);
        let twin = "0198c2f4-0000-7000-8000-00010000000a";
        assert_eq!(short(&[ID, twin]), ["00000000a", "10000000a"]);
        assert_eq!(short(&[ID, ID]), [ID, ID]);
    }

    #[test]
    fn a_filter_may_be_written_in_any_case() {
        for (written, sent) in [
            ("", ""),
            ("state=running", "state = RUNNING"),
            ("STATE = Running and done = FALSE", "state = RUNNING AND done = false"),
            ("kind = probe_machine AND state = odd", "kind = PROBE_MACHINE AND state = ODD"),
        ] {
            assert_eq!(in_capitals(written), sent);
        }
    }
}
