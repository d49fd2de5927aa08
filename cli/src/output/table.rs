//! Tables without lines: a header, a last column of text that fits the terminal, and nothing at the end of a line.

use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Width, presets};
use hoist_domain::Bytes;
use hoist_wire::v1;

use crate::error::Result;
use crate::output::{Out, Tone, text};

/// Characters. A narrower column of text is worse to read than a line that the terminal breaks.
const LEAST_TEXT_WIDTH: u16 = 24;

#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<Toned>>,
    /// Columns that a narrow terminal does without, the least missed first.
    spared: &'static [usize],
    is_last_whole: bool,
}

/// A cell and its look.
#[derive(Debug)]
pub(crate) struct Toned(pub(crate) Tone, pub(crate) String);

impl From<String> for Toned {
    fn from(text: String) -> Self {
        Self(Tone::Plain, text)
    }
}

impl From<&str> for Toned {
    fn from(text: &str) -> Self {
        Self(Tone::Plain, text.to_owned())
    }
}

/// Between two columns.
const GAP: usize = 2;

/// Characters of a cell. Nobody reads more, and a table cannot be wider than 65,535.
const MOST_TEXT: usize = 4_096;

impl Table {
    pub(crate) fn new<'h>(header: impl IntoIterator<Item = &'h str>) -> Self {
        let header = header.into_iter().map(str::to_owned).collect();
        Self { header, rows: Vec::new(), spared: &[], is_last_whole: false }
    }

    /// A narrow terminal does without these columns, the first of them first.
    #[must_use]
    pub(crate) fn spare(self, spared: &'static [usize]) -> Self {
        Self { spared, ..self }
    }

    /// The last column is to be copied, too: the terminal may break its lines, but nothing puts spaces into them.
    #[must_use]
    pub(crate) fn with_last_whole(self) -> Self {
        Self { is_last_whole: true, ..self }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Toned>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn print(self, out: Out) -> Result<()> {
        let columns = self.fitting(out.width().map(usize::from));
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        if out.terminal && !self.is_last_whole {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            // Whoever reads a pipe wants one line a row, however long.
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        if out.stdout_colors {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        // Without colours it would not ask the terminal.
        if let Some(width) = out.width() {
            table.set_width(width);
        }
        let header = self.header.into_iter().map(|name| Toned(Tone::Dim, name));
        table.set_header(kept(header, &columns));
        for row in self.rows {
            table.add_row(kept(row, &columns));
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, u16::try_from(GAP).unwrap_or(u16::MAX)));
            // Ids and numbers are to be copied, so only the last column, of free text, is broken into lines.
            column.set_constraint(if index + 1 < columns.len() {
                ColumnConstraint::ContentWidth
            } else {
                ColumnConstraint::LowerBoundary(Width::Fixed(LEAST_TEXT_WIDTH))
            });
        }
        for line in table.lines() {
            out.line(trimmed(&line))?;
        }
        Ok(())
    }

    /// The columns that fit a terminal of this width; all of them elsewhere.
    fn fitting(&self, width: Option<usize>) -> Vec<usize> {
        let mut columns: Vec<usize> = (0..self.header.len()).collect();
        let Some(width) = width else { return columns };
        let widest = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.1.chars().count());
            cells.max().unwrap_or(0).max(self.header.get(column).map_or(0, |name| name.chars().count()))
        };
        let least = |column: usize, is_last: bool| {
            let wide = widest(column);
            if is_last && !self.is_last_whole { wide.min(usize::from(LEAST_TEXT_WIDTH)) } else { wide }
        };
        for spared in self.spared {
            let last = columns.last().copied();
            let taken: usize =
                columns.iter().map(|&column| least(column, Some(column) == last).saturating_add(GAP)).sum();
            if taken.saturating_sub(GAP) <= width {
                break;
            }
            columns.retain(|column| column != spared);
        }
        columns
    }
}

fn kept(cells: impl IntoIterator<Item = Toned>, columns: &[usize]) -> Vec<Cell> {
    let kept = cells.into_iter().enumerate().filter(|(column, _)| columns.contains(column));
    kept.map(|(_, toned)| cell(toned)).collect()
}

/// A line without spaces at its end, also where they stand before the end of a colour.
fn trimmed(line: &str) -> String {
    const RESET: &str = "\u{1b}[0m";
    let line = line.trim_end();
    match line.strip_suffix(RESET) {
        Some(coloured) => format!("{}{RESET}", coloured.trim_end()),
        None => line.to_owned(),
    }
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(MOST_TEXT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn cell(Toned(tone, text): Toned) -> Cell {
    let cell = Cell::new(shortened(text::plain(&text)));
    match tone {
        Tone::Plain => cell,
        Tone::Strong => cell.add_attribute(Attribute::Bold),
        Tone::Dim => cell.add_attribute(Attribute::Dim),
        Tone::Good => cell.fg(Color::DarkGreen),
        Tone::Warning => cell.fg(Color::DarkYellow),
        Tone::Bad => cell.fg(Color::DarkRed).add_attribute(Attribute::Bold),
    }
}

/// The speeds that were measured.
pub(crate) fn measurements(out: Out, measured: &[v1::Measurement]) -> Result<()> {
    let mut table = Table::new(["MEASURED", "RATE", "BYTES", "TOOK", "THREADS", "WHEN", "NOTE"]);
    for it in measured {
        let kind = text::measurement_kind(it.kind).replace('_', " ");
        let speed = match it.bytes_per_second {
            0 => Toned(Tone::Bad, "not measured".to_owned()),
            rate => Toned(Tone::Strong, text::rate(rate)),
        };
        table.row([
            kind.into(),
            speed,
            Bytes(it.bytes).to_string().into(),
            it.duration.as_ref().map(|d| text::span(text::wire_span(d))).unwrap_or_default().into(),
            it.threads.to_string().into(),
            it.measure_time.as_ref().map(text::when).unwrap_or_default().into(),
            it.note.clone().into(),
        ]);
    }
    table.print(out)
}

/// The tone of an operation's state.
pub(crate) fn state_tone(state: i32) -> Tone {
    match v1::OperationState::try_from(state) {
        Ok(v1::OperationState::Running) => Tone::Strong,
        Ok(v1::OperationState::Succeeded) => Tone::Good,
        Ok(v1::OperationState::Failed) => Tone::Bad,
        Ok(v1::OperationState::Cancelled) => Tone::Warning,
        Ok(v1::OperationState::Pending | v1::OperationState::Unspecified) | Err(_) => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_does_without_what_is_least_missed() {
        let mut table = Table::new(["A", "B", "C", "TEXT"]).spare(&[1, 2]);
        table.row(
            ["aaaa", "bbbb", "cccc", "a text that is longer than the terminal is wide"].map(Toned::from),
        );
        // Three columns of four, gaps of two, and the least that the text may have.
        let all = 3 * (4 + 2) + 24;
        for (width, columns) in [
            (None, vec![0, 1, 2, 3]),
            (Some(all), vec![0, 1, 2, 3]),
            (Some(all - 1), vec![0, 2, 3]),
            (Some(all - 7), vec![0, 3]),
            (Some(1), vec![0, 3]),
        ] {
            assert_eq!(table.fitting(width), columns, "{width:?}");
        }
        assert_eq!(table.with_last_whole().fitting(Some(all)), [0, 3]);
    }

    #[test]
    fn a_cell_of_any_length_is_printed() {
        let out = Out { json: false, terminal: false, stdout_colors: false, stderr_colors: false };
        let mut table = Table::new(["A", "B"]);
        table.row(["ö".repeat(200_000), "b".to_owned()].map(Toned::from));
        table.print(out).unwrap();
        assert_eq!(shortened("ö".repeat(MOST_TEXT)).chars().count(), MOST_TEXT);
        assert_eq!(shortened("ö".repeat(MOST_TEXT + 9)).chars().count(), MOST_TEXT + 1);
    }

    #[test]
    fn no_line_ends_with_spaces_coloured_or_not() {
        assert_eq!(trimmed("a  b   "), "a  b");
        assert_eq!(trimmed("a  \u{1b}[2mok     \u{1b}[0m  "), "a  \u{1b}[2mok\u{1b}[0m");
        assert_eq!(trimmed(""), "");
    }
}
