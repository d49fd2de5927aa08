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
    table: comfy_table::Table,
    columns: usize,
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

impl Table {
    pub(crate) fn new<'h>(out: Out, header: impl IntoIterator<Item = &'h str>) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        if out.terminal {
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
        let header: Vec<Cell> =
            header.into_iter().map(|name| cell(Toned(Tone::Dim, name.to_owned()))).collect();
        let columns = header.len();
        table.set_header(header);
        Self { table, columns }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Toned>) {
        self.table.add_row(cells.into_iter().map(cell));
    }

    pub(crate) fn print(mut self, out: Out) -> Result<()> {
        for (index, column) in self.table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            // Ids and numbers are to be copied, so only the last column, of free text, is broken into lines.
            column.set_constraint(if index + 1 < self.columns {
                ColumnConstraint::ContentWidth
            } else {
                ColumnConstraint::LowerBoundary(Width::Fixed(LEAST_TEXT_WIDTH))
            });
        }
        for line in self.table.lines() {
            out.line(line.trim_end())?;
        }
        Ok(())
    }
}

fn cell(Toned(tone, text): Toned) -> Cell {
    let cell = Cell::new(text::plain(&text));
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
    let mut table = Table::new(out, ["MEASURED", "RATE", "BYTES", "TOOK", "THREADS", "WHEN", "NOTE"]);
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
