//! `hoist ls`: models that pass flags, a filter and words, as a table that fits the terminal.

use hoist_domain::{BaseModel, Bytes};
use hoist_wire::v1;
use serde_json::Value;

use crate::args::LsArgs;
use crate::client::{Client, request_id};
use crate::error::Result;
use crate::exit::Exit;
use crate::output::apart::apart;
use crate::output::model;
use crate::output::model_page::{self, verdict_tone};
use crate::output::results::{note_first_look, plural};
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, text};
use crate::verbs::Session;

/// The most models in one answer; the server's own bound.
pub(crate) const PAGE: u32 = 1_000;

pub(crate) async fn run(session: &Session, args: &LsArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let asked = v1::ListModelsRequest {
        filter: filter(args),
        query: args.text.join(" "),
        order_by: args.sort.clone(),
        show_missing: args.all,
        ..Default::default()
    };
    let listed = pages(&client, asked, args.limit).await?;
    note_first_look(session.out, listed.first_look);
    if session.out.json {
        session.out.value(&listed.models.iter().map(model::value).collect::<Value>())?;
        return Ok(Exit::Done);
    }
    if listed.models.is_empty() {
        if listed.first_look.is_none() {
            session.out.note(nothing(args));
        }
        note_missing(session.out, args, listed.missing);
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
    note_missing(session.out, args, listed.missing);
    Ok(Exit::Done)
}

/// What is gone and still known is told wherever it is not shown: it waits for its files, or to be forgotten.
fn note_missing(out: Out, args: &LsArgs, missing: u64) {
    if missing > 0 && !args.all {
        let count = plural(missing, "model");
        out.note(format_args!("{count} missing: --all shows them, `hoist rm --missing` forgets them"));
    }
}

/// What to say in place of an empty table.
fn nothing(args: &LsArgs) -> String {
    if args.text.is_empty() && filter(args).is_empty() {
        return "no models: `hoist roots` shows where they are looked for, `hoist scan --wait` looks now"
            .to_owned();
    }
    // Bases are words that nobody can list, so one that is mistyped is no error.
    let is_odd = |base: &&String| !base.contains('*') && !BaseModel::known().contains(&base.as_str());
    let meant = args.bases.iter().find(is_odd).and_then(|base| {
        let meant = hoist_domain::nearest(base, BaseModel::known().iter().copied())?;
        (!meant.eq_ignore_ascii_case(base)).then(|| format!("; is `{base}` a slip for `{meant}`?"))
    });
    format!("no model is like that{}", meant.unwrap_or_else(|| "; `hoist ls` lists all of them".to_owned()))
}

#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) models: Vec<v1::Model>,
    /// How many pass, shown or not.
    total: u64,
    /// How many of those that pass have no files.
    missing: u64,
    /// Set while more may be found.
    first_look: Option<v1::FirstLook>,
}

/// Models, page by page, up to a limit.
pub(crate) async fn pages(
    client: &Client,
    asked: v1::ListModelsRequest,
    limit: Option<u32>,
) -> Result<Listed> {
    let limit = limit.unwrap_or(u32::MAX);
    let mut listed = Listed::default();
    let mut page_token = String::new();
    loop {
        let left = limit.saturating_sub(u32::try_from(listed.models.len()).unwrap_or(u32::MAX));
        let request = v1::ListModelsRequest {
            request_id: request_id(),
            page_size: i32::try_from(left.min(PAGE)).unwrap_or(i32::MAX),
            page_token,
            ..asked.clone()
        };
        let id = request.request_id.clone();
        let page = client.call(Some(&id), client.catalog().list_models(request)).await?;
        (listed.total, listed.missing) = (page.total_size, page.missing_size);
        listed.first_look = page.first_look.or(listed.first_look);
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
    terms.extend(args.newer.iter().map(|since| format!("modify_time > {since}")));
    terms.extend(args.older.iter().map(|since| format!("modify_time <= {since}")));
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

const HEADER: [&str; 7] = ["NAME", "TYPE", "BASE", "SIZE", "PARAMS", "DTYPE", "VERDICT"];

fn print(out: Out, models: &[v1::Model], args: &LsArgs) -> Result<()> {
    let named: Vec<(&str, &str)> =
        models.iter().map(|it| (it.display_name.as_str(), it.path.as_str())).collect();
    let mut rows: Vec<[Toned; 7]> =
        models.iter().zip(apart(&named)).map(|(it, name)| row(it, name)).collect();
    if args.long {
        return print_long(out, rows, models);
    }
    let Some(width) = out.width() else { return print_columns(out, rows, &[0, 1, 2, 3, 4, 5, 6]) };
    let (columns, name_chars) = fitting(&rows, usize::from(width));
    for [name, ..] in &mut rows {
        name.1 = text::shortened(&name.1, name_chars);
    }
    print_columns(out, rows, &columns)
}

fn print_columns(out: Out, rows: Vec<[Toned; 7]>, columns: &[usize]) -> Result<()> {
    let mut table = Table::new(columns.iter().filter_map(|&column| HEADER.get(column).copied()));
    for cells in rows {
        let kept = cells.into_iter().enumerate().filter(|(column, _)| columns.contains(column));
        table.row(kept.map(|(_, cell)| cell));
    }
    table.print(out)
}

/// All that a line can say of a model: it is for wide terminals and for pipes.
fn print_long(out: Out, rows: Vec<[Toned; 7]>, models: &[v1::Model]) -> Result<()> {
    let mut table =
        Table::new(HEADER.into_iter().chain(["FORMAT", "MODIFIED", "TAGS", "PATH"])).with_last_whole();
    for (cells, model) in rows.into_iter().zip(models) {
        let tags = model.notes.as_ref().map(|notes| notes.tags.join(",")).unwrap_or_default();
        let modified = model.modify_time.as_ref().map(text::when).unwrap_or_default();
        let more = [model.format.clone(), modified, text::one_line(&tags), text::one_line(&model.path)];
        table.row(cells.into_iter().chain(more.map(Toned::from)));
    }
    table.print(out)
}

/// A model in seven cells, under the name that tells it from the others.
fn row(it: &v1::Model, name: String) -> [Toned; 7] {
    let params = if it.parameter_count == 0 { String::new() } else { text::count(it.parameter_count) };
    [
        Toned(Tone::Strong, name),
        it.r#type.as_str().into(),
        text::one_line(&model_page::base(it)).into(),
        Bytes(it.size_bytes).to_string().into(),
        params.replace(' ', "").into(),
        text::one_line(&model_page::dtype(it)).into(),
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

/// The columns that fit a terminal of this width, and the characters that they leave for the name. What is least
/// missed goes first; type and verdict always stay, and the terminal breaks the line if need be.
fn fitting(rows: &[[Toned; 7]], width: usize) -> (Vec<usize>, usize) {
    /// Characters. Less of a name names nothing.
    const LEAST: usize = 20;
    /// Between two columns.
    const GAP: usize = 2;
    /// Element type, parameters, base.
    const DROPPED: [usize; 3] = [5, 4, 2];
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.1.chars().count());
        cells.max().unwrap_or(0).max(HEADER.get(column).map_or(0, |header| header.len()))
    };
    let mut columns: Vec<usize> = (0..HEADER.len()).collect();
    let mut dropped = DROPPED.iter();
    loop {
        let others: usize = columns.iter().skip(1).map(|&column| widest(column).saturating_add(GAP)).sum();
        let room = width.saturating_sub(others.saturating_add(GAP));
        let Some(next) = dropped.next().filter(|_| room < LEAST) else { return (columns, room.max(LEAST)) };
        columns.retain(|column| column != next);
    }
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
            (
                &["--newer", "7d", "--older", "2026-11-01"],
                "modify_time > now-7d AND modify_time <= \"2026-11-01\"",
            ),
        ] {
            assert_eq!(filter(&args(line)), expected, "{line:?}");
        }
    }

    #[test]
    fn a_base_that_finds_nothing_may_be_a_slip() {
        assert!(nothing(&args(&["--base", "SD15"])).ends_with("is `SD15` a slip for `sd-1.5`?"));
        for line in [&["--base", "SDXL"][..], &["--base", "sd*"], &["--base", "banana"], &["x"]] {
            assert!(nothing(&args(line)).ends_with("lists all of them"), "{line:?}");
        }
        assert!(nothing(&args(&[])).starts_with("no models: `hoist roots`"));
    }

    #[test]
    fn an_order_with_a_minus_is_not_a_flag() {
        assert_eq!(args(&["--sort", "-size"]).sort, "size_bytes desc");
        assert_eq!(args(&[]).sort, "display_name");
    }

    #[test]
    fn a_narrow_terminal_has_fewer_columns_before_it_has_names_that_say_nothing() {
        let cells = |texts: [&str; 7]| texts.map(Toned::from);
        let rows =
            [cells(["a".repeat(60).as_str(), "checkpoint", "sdxl", "6.5 GiB", "3.4B", "F16 +1", "ok"])];
        // Type, base, size, parameters, element type and verdict take 10 + 4 + 7 + 6 + 6 + 7, gaps of 2.
        assert_eq!(fitting(&rows, 100), ((0..7).collect(), 100 - 40 - 14));
        assert_eq!(fitting(&rows, 74), ((0..7).collect(), 20));
        assert_eq!(fitting(&rows, 73), (vec![0, 1, 2, 3, 4, 6], 73 - 34 - 12));
        assert_eq!(fitting(&rows, 10), (vec![0, 1, 3, 6], 20));
    }

    #[test]
    fn a_row_marks_what_is_damaged_missing_or_hostile() {
        let mut it = v1::Model {
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
        let texts = |it: &v1::Model| row(it, String::new()).map(|cell| cell.1);
        let shown = texts(&it);
        assert_eq!(shown[3..], ["1.0 MiB", "859M", "F16 +1", "corrupt: header"]);
        assert_eq!(verdict(&it).0, Tone::Bad);
        it.state = v1::model::State::Missing.into();
        assert_eq!(texts(&it)[6], "missing");
    }
}
