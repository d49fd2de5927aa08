//! The configuration file, flattened: dotted key to value and line. Meaning is given by the reader.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::value::{FileValue, quoted};

/// One `key = value` of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileSetting {
    pub(super) line: usize,
    pub(super) value: FileValue,
    /// An empty `[table]`, which sets nothing but may be mistyped all the same.
    pub(super) is_empty_table: bool,
}

/// A place where the text is not TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) line: usize,
    pub(super) problem: String,
}

/// The settings by dotted key, or, if there is one syntax error or more, only those: what the parser guesses after
/// one would make errors that are not there.
pub(super) fn parse(text: &str) -> (BTreeMap<String, FileSetting>, Vec<SyntaxError>) {
    let lines = Lines::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let errors = errors.iter().map(|error| SyntaxError {
            line: lines.line_of(error.span().map_or(0, |span| span.start)),
            problem: error.message().split_whitespace().collect::<Vec<_>>().join(" "),
        });
        return (BTreeMap::new(), errors.collect());
    }
    let mut settings = BTreeMap::new();
    flatten("", document.get_ref(), &lines, &mut settings);
    (settings, Vec::new())
}

/// The parser limits the depth of tables (to 80), and so of this recursion.
fn flatten(prefix: &str, table: &DeTable<'_>, lines: &Lines, settings: &mut BTreeMap<String, FileSetting>) {
    for (name, value) in table {
        let key = dotted(prefix, name.get_ref());
        let line = lines.line_of(name.span().start);
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() => flatten(&key, inner, lines, settings),
            value => {
                let is_empty_table = matches!(value, DeValue::Table(_));
                settings.insert(key, FileSetting { line, value: owned(value), is_empty_table });
            }
        }
    }
}

/// A part that is not a bare key is quoted, so that `"a.b" = 1` is not taken for `a.b = 1`.
fn dotted(prefix: &str, part: &str) -> String {
    let is_bare = !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let part = if is_bare { part.to_owned() } else { quoted(part) };
    if prefix.is_empty() { part } else { format!("{prefix}.{part}") }
}

fn owned(value: &DeValue<'_>) -> FileValue {
    match value {
        DeValue::String(text) => FileValue::Text(text.clone().into_owned()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => FileValue::Integer(number),
            Err(_) => FileValue::Other("an integer of more than 128 bits".to_owned()),
        },
        DeValue::Float(_) => FileValue::Other("a number with a fraction".to_owned()),
        DeValue::Boolean(value) => FileValue::Bool(*value),
        DeValue::Datetime(_) => FileValue::Other("a date or time".to_owned()),
        DeValue::Array(items) => FileValue::List(items.iter().map(|item| owned(item.get_ref())).collect()),
        DeValue::Table(_) => FileValue::Other("a table".to_owned()),
    }
}

/// Where each line starts, so that finding a line does not read the text again for every key.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        let after_newlines =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_become_dotted_keys_with_their_lines() {
        let text = "top = 1\n\n[watch]\nhistory_events = 0x10\n[watch.deep]\nlist = [\"a\", 2]\n[empty]\n\"a.b\" = 1.5\n";
        let (settings, errors) = parse(text);
        assert_eq!(errors, []);
        let found: Vec<_> =
            settings.iter().map(|(key, at)| (key.as_str(), at.line, at.value.clone())).collect();
        let list = FileValue::List(vec![FileValue::Text("a".into()), FileValue::Integer(2)]);
        assert_eq!(
            found,
            [
                ("empty.\"a.b\"", 8, FileValue::Other("a number with a fraction".into())),
                ("top", 1, FileValue::Integer(1)),
                ("watch.deep.list", 6, list),
                ("watch.history_events", 4, FileValue::Integer(16)),
            ]
        );
    }

    #[test]
    fn every_syntax_error_is_reported_with_its_line() {
        let (settings, errors) = parse("a = 1\nb = \nc = 2\na = 3\nd = 'open\n");
        assert!(settings.is_empty());
        let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
        for line in [2, 4, 5] {
            assert!(lines.contains(&line), "{line} in {errors:?}");
        }
        assert!(errors.iter().all(|error| !error.problem.contains('\n')));
    }
}
