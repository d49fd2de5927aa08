//! `hoist ls`: models that pass flags, a filter and words, as a table that fits the terminal.

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::Value;

use crate::args::LsArgs;
use crate::client::{Client, request_id};
use crate::error::Result;
use crate::exit::Exit;
use crate::output::model::{self, verdict_tone};
use crate::output::results::plural;
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, text};
use crate::verbs::Session;

/// The most models in one answer; the server's own bound.
pub(crate) const PAGE: u32 = 1_000;

pub(crate) async fn run(session: &Session, args: &LsArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let listed = list(&client, args).await?;
    if session.out.json {
        session.out.value(&listed.models.iter().map(model::value).collect::<Value>())?;
        return Ok(Exit::Done);
    }
    if listed.models.is_empty() {
        session.out.note(nothing(args));
        return Ok(Exit::Done);
    }
    print(session.out, &listed.models, args)?;
    let shown = u64::try_from(listed.models.len()).unwrap_or(u64::MAX);
    if shown < listed.total {
        session
            .out
            .note(format_args!("{shown} of {}: raise --limit for more", plural(listed.total, "model")));
    } else {
        let bytes = listed.models.iter().fold(0_u64, |sum, model| sum.saturating_add(model.size_bytes));
        session.out.note(format_args!("{}, {}", plural(shown, "model"), Bytes(bytes)));
    }
    Ok(Exit::Done)
}

/// What to say in place of an empty table.
fn nothing(args: &LsArgs) -> &'static str {
    if args.text.is_empty() && filter(args).is_empty() {
        "no models: `hoist roots` shows where they are looked for, `hoist scan --wait` looks now"
    } else {
        "no model passes"
    }
}

struct Listed {
    models: Vec<v1::Model>,
    /// How many pass, shown or not.
    total: u64,
}

async fn list(client: &Client, args: &LsArgs) -> Result<Listed> {
    let limit = args.limit.unwrap_or(u32::MAX);
    let mut listed = Listed { models: Vec::new(), total: 0 };
    let mut page_token = String::new();
    loop {
        let left = limit.saturating_sub(u32::try_from(listed.models.len()).unwrap_or(u32::MAX));
        let request = v1::ListModelsRequest {
            request_id: request_id(),
            filter: filter(args),
            query: args.text.join(" "),
            order_by: args.sort.clone(),
            page_size: i32::try_from(left.min(PAGE)).unwrap_or(i32::MAX),
            page_token,
            field_mask: None,
            show_missing: args.all,
        };
        let id = request.request_id.clone();
        let page = client.call(Some(&id), client.catalog().list_models(request)).await?;
        listed.total = page.total_size;
        listed.models.extend(page.models);
        page_token = page.next_page_token;
        let full = u32::try_from(listed.models.len()).is_ok_and(|count| count >= limit);
        if page_token.is_empty() || full {
            return Ok(listed);
        }
    }
}

/// The one filter that the flags and `--filter` come to. OR binds closer than AND, so nothing needs parentheses.
pub(crate) fn filter(args: &LsArgs) -> String {
    let verdicts: Vec<&str> = args.verdicts.iter().map(|verdict| verdict.word()).collect();
    let mut terms = vec![
        any("type", &args.types),
        any("base", &args.bases),
        any("format", &args.formats),
        any("verdict", &verdicts),
    ];
    terms.extend(args.tags.iter().map(|tag| format!("tags:{}", quoted(tag))));
    terms.push(args.filter.trim().to_owned());
    terms.retain(|term| !term.is_empty());
    terms.join(" AND ")
}

fn any(field: &str, values: &[impl AsRef<str>]) -> String {
    let terms: Vec<String> =
        values.iter().map(|value| format!("{field} = {}", quoted(value.as_ref()))).collect();
    terms.join(" OR ")
}

/// A value that the filter reads as it was written, whatever is in it. Only a bare word can have `*` for anything.
fn quoted(value: &str) -> String {
    let is_open = value.starts_with('*') || value.ends_with('*');
    let is_bare = value.chars().all(|c| c.is_alphanumeric() || "._-+*/".contains(c));
    if is_open && is_bare {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

fn print(out: Out, models: &[v1::Model], args: &LsArgs) -> Result<()> {
    let rows: Vec<[Toned; 7]> = models.iter().map(row).collect();
    let name_chars = name_room(out, &rows).filter(|_| !args.long);
    let cut = |mut cells: [Toned; 7]| {
        if let ([name, ..], Some(chars)) = (&mut cells, name_chars) {
            name.1 = text::shortened(&name.1, chars);
        }
        cells
    };
    if args.long {
        let header = [
            "NAME", "TYPE", "BASE", "SIZE", "PARAMS", "DTYPE", "VERDICT", "FORMAT", "MODIFIED", "TAGS",
            "PATH",
        ];
        let mut table = Table::new(out, header);
        for (cells, model) in rows.into_iter().zip(models) {
            let [name, kind, base, size, params, dtype, verdict] = cells;
            let tags = model.notes.as_ref().map(|notes| notes.tags.join(",")).unwrap_or_default();
            let modified = model.modify_time.as_ref().map(text::when).unwrap_or_default();
            table.row([
                name,
                kind,
                base,
                size,
                params,
                dtype,
                verdict,
                model.format.as_str().into(),
                modified.into(),
                text::one_line(&tags).into(),
                text::one_line(&model.path).into(),
            ]);
        }
        return table.print(out);
    }
    let mut table = Table::new(out, ["NAME", "TYPE", "BASE", "SIZE", "PARAMS", "DTYPE", "VERDICT"]);
    for cells in rows {
        table.row(cut(cells));
    }
    table.print(out)
}

/// A model in seven cells.
fn row(it: &v1::Model) -> [Toned; 7] {
    let params = if it.parameter_count == 0 { String::new() } else { text::count(it.parameter_count) };
    [
        Toned(Tone::Strong, text::one_line(&it.display_name)),
        it.r#type.as_str().into(),
        text::one_line(&model::base(it)).into(),
        Bytes(it.size_bytes).to_string().into(),
        params.replace(' ', "").into(),
        text::one_line(&model::dtype(it)).into(),
        verdict(it),
    ]
}

/// `ok`, `missing`, or what is wrong and where: `corrupt: header`.
fn verdict(it: &v1::Model) -> Toned {
    if it.state == i32::from(v1::model::State::Missing) {
        return Toned(Tone::Warning, "missing".to_owned());
    }
    let word = text::verdict(it.verdict);
    let words = match model::verdict_kind(it.verdict, &it.findings) {
        Some(kind) => format!("{word}: {kind}"),
        None => word,
    };
    let tone = if words == "ok" { Tone::Dim } else { verdict_tone(it.verdict) };
    Toned(tone, words)
}

/// Characters that the other columns leave for the name on this terminal; `None` where nothing need be cut.
fn name_room(out: Out, rows: &[[Toned; 7]]) -> Option<usize> {
    /// Characters. Less of a name names nothing; the terminal breaks the line then.
    const LEAST: usize = 20;
    /// Between two columns.
    const GAP: usize = 2;
    let width = usize::from(out.width()?);
    let headers = ["NAME", "TYPE", "BASE", "SIZE", "PARAMS", "DTYPE", "VERDICT"];
    let widest = |column: usize, header: &str| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.1.chars().count());
        cells.max().unwrap_or(0).max(header.len())
    };
    let others: usize = headers
        .iter()
        .enumerate()
        .skip(1)
        .map(|(column, header)| widest(column, header).saturating_add(GAP))
        .sum();
    Some(width.saturating_sub(others.saturating_add(GAP)).max(LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Verb, parse};

    fn args(line: &[&str]) -> LsArgs {
        let words = ["hoist", "ls"].iter().chain(line).map(Into::into);
        match parse(words).unwrap().verb {
            Verb::Ls(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_become_one_filter() {
        for (line, expected) in [
            (&[][..], ""),
            (&["--type", "LoRA"], "type = \"lora\""),
            (
                &["--type", "vae", "--type", "lora", "--base", "sd*", "--tag", "a b", "--tag", "c"],
                "type = \"vae\" OR type = \"lora\" AND base = sd* AND tags:\"a b\" AND tags:\"c\"",
            ),
            (
                &["--verdict", "corrupt", "--filter", " size_bytes < 2e9 "],
                "verdict = \"corrupt\" AND size_bytes < 2e9",
            ),
            (&["--base", "a\" OR type = \"b\\"], "base = \"a\\\" OR type = \\\"b\\\\\""),
            (&["--tag", "(x)*"], "tags:\"(x)*\""),
        ] {
            assert_eq!(filter(&args(line)), expected, "{line:?}");
        }
    }

    #[test]
    fn an_order_with_a_minus_is_not_a_flag() {
        assert_eq!(args(&["--sort", "-size"]).sort, "size_bytes desc");
        assert_eq!(args(&[]).sort, "display_name");
    }

    #[test]
    fn a_row_marks_what_is_damaged_missing_or_hostile() {
        let mut it = v1::Model {
            display_name: "a\nb\u{1b}[2J".into(),
            size_bytes: 1 << 20,
            parameter_count: 859_520_964,
            verdict: v1::Verdict::Corrupt.into(),
            findings: vec![v1::Finding {
                verdict: v1::Verdict::Corrupt.into(),
                kind: v1::FindingKind::Header.into(),
                ..Default::default()
            }],
            dtypes: ["F16", "F32"].map(|dtype| v1::DtypeCount { dtype: dtype.into(), count: 1 }).into(),
            ..Default::default()
        };
        let texts = |it: &v1::Model| row(it).map(|cell| cell.1);
        let shown = texts(&it);
        assert!(!shown[0].contains(|c: char| c.is_control()), "{shown:?}");
        assert_eq!(shown[3..], ["1.0 MiB", "859M", "F16 +1", "corrupt: header"]);
        assert_eq!(verdict(&it).0, Tone::Bad);
        it.state = v1::model::State::Missing.into();
        assert_eq!(texts(&it)[6], "missing");
    }
}
