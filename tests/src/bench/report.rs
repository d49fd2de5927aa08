//! Rows, their targets, and the three forms in which they are shown: a table for people, JSON for machines,
//! Markdown for `docs/benchmarks.md`.

use std::fmt::Write as _;

use serde::Serialize;

use super::figures::Rounds;

/// What a row must reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Target {
    AtMost(f64),
    /// Of the ratio to the peer.
    RatioAtMost(f64),
    RatioAtLeast(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Ok,
    Miss,
    /// Has no target.
    Info,
    /// Could not be measured; the note says why.
    NotRun,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    group: &'static str,
    name: String,
    unit: &'static str,
    value: Option<f64>,
    /// Least and most over the rounds.
    spread: Option<(f64, f64)>,
    /// The same figure of the peer, in the same run.
    peer: Option<f64>,
    ratio: Option<f64>,
    ratio_spread: Option<(f64, f64)>,
    target: Option<Target>,
    note: String,
    verdict: Verdict,
}

impl Row {
    pub(super) fn new(name: impl Into<String>, unit: &'static str, value: Rounds) -> Self {
        Self {
            group: "",
            name: name.into(),
            unit,
            value: Some(value.median),
            spread: Some((value.least, value.most)),
            peer: None,
            ratio: None,
            ratio_spread: None,
            target: None,
            note: String::new(),
            verdict: Verdict::Info,
        }
    }

    /// A figure that is taken once.
    pub(super) fn once(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self { spread: None, ..Self::new(name, unit, Rounds { median: value, least: value, most: value }) }
    }

    pub(super) fn not_run(name: impl Into<String>, why: impl Into<String>) -> Self {
        let row = Self::once(name, "", f64::NAN).note(why);
        Self { value: None, verdict: Verdict::NotRun, ..row }
    }

    /// The peer's figure, and ours against it round by round.
    pub(super) fn beside(mut self, peer: Rounds, ratio: Rounds) -> Self {
        self.peer = Some(peer.median);
        self.ratio = Some(ratio.median);
        self.ratio_spread = Some((ratio.least, ratio.most));
        self
    }

    pub(super) fn target(mut self, target: Target) -> Self {
        let met = match target {
            Target::AtMost(limit) => self.value.is_some_and(|value| value <= limit),
            Target::RatioAtMost(limit) => self.ratio.is_some_and(|ratio| ratio <= limit),
            Target::RatioAtLeast(limit) => self.ratio.is_some_and(|ratio| ratio >= limit),
        };
        self.target = Some(target);
        self.verdict = if met { Verdict::Ok } else { Verdict::Miss };
        self
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Adds to the note that is there.
    pub(super) fn note_more(mut self, note: &str) -> Self {
        self.note = format!("{}; {note}", self.note);
        self
    }

    pub(super) fn of(mut self, group: &'static str) -> Self {
        self.group = group;
        self
    }

    pub(super) fn is(&self, verdict: Verdict) -> bool {
        self.verdict == verdict
    }

    fn cells(&self) -> [String; 9] {
        let number = |value: Option<f64>| value.map(shown).unwrap_or_default();
        let span = |spread: Option<(f64, f64)>| {
            spread.map(|(least, most)| format!("{} to {}", shown(least), shown(most))).unwrap_or_default()
        };
        let target = match self.target {
            None => String::new(),
            Some(Target::AtMost(limit)) => format!("<= {} {}", shown(limit), self.unit),
            Some(Target::RatioAtMost(limit)) => format!("<= {} x", shown(limit)),
            Some(Target::RatioAtLeast(limit)) => format!(">= {} x", shown(limit)),
        };
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Miss => "MISS",
            Verdict::Info => "",
            Verdict::NotRun => "not run",
        };
        let ratio = match (self.ratio, self.ratio_spread) {
            (Some(ratio), Some(spread)) => format!("{} ({})", shown(ratio), span(Some(spread))),
            _ => String::new(),
        };
        [
            self.name.clone(),
            number(self.value),
            self.unit.to_owned(),
            span(self.spread),
            number(self.peer),
            ratio,
            target,
            verdict.to_owned(),
            self.note.clone(),
        ]
    }
}

const HEADINGS: [&str; 9] = ["what", "value", "unit", "spread", "peer", "ratio", "target", "", "note"];

/// Three figures that matter: what comes after them is noise.
fn shown(value: f64) -> String {
    let size = value.abs();
    if size >= 10_000.0 {
        return thousands(value);
    }
    let decimals = match size {
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        s if s >= 1.0 => 2,
        s if s >= 0.001 => 3,
        0.0 => 0,
        _ => 5,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut grouped = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// What a run found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) rows: Vec<Row>,
}

impl Report {
    /// Columns as wide as their content; notes below the row they belong to would be lost in a long table, so they
    /// come last.
    pub(super) fn table(&self) -> String {
        let rows: Vec<[String; 9]> = self.rows.iter().map(Row::cells).collect();
        let mut widths = HEADINGS.map(str::len);
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        let mut line = |cells: &[String; 9]| {
            let mut written = String::new();
            for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
                let (left, fill) = (index == 1 || index == 4, width - cell.chars().count());
                let pad = " ".repeat(fill);
                written += &if left { format!("{pad}{cell}  ") } else { format!("{cell}{pad}  ") };
            }
            text += written.trim_end();
            text.push('\n');
        };
        line(&HEADINGS.map(str::to_owned));
        let mut group = "";
        for (row, cells) in self.rows.iter().zip(&rows) {
            if row.group != group {
                group = row.group;
                line(&[""; 9].map(str::to_owned));
            }
            line(cells);
        }
        for (name, fact) in &self.facts {
            let _ = write!(text, "\n{name}: {fact}");
        }
        text.push('\n');
        text
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = String::from(
            "# Benchmarks\n\nWritten by `make bench BENCH_FLAGS='--markdown docs/benchmarks.md'`; do not edit. A value is the \
             median of the rounds, a spread their least and most. A ratio is taken round against round with the peer, \
             which is an empty call of the same library where the note names no other.\n\n",
        );
        for (name, fact) in &self.facts {
            let _ = writeln!(text, "- {name}: {}", fact.replace('|', "\\|"));
        }
        let mut group = "";
        for row in &self.rows {
            if row.group != group {
                group = row.group;
                let headings = HEADINGS.map(|heading| format!(" {heading} |")).concat();
                let _ = write!(text, "\n## {group}\n\n|{headings}\n|{}\n", " --- |".repeat(HEADINGS.len()));
            }
            let cells = row.cells().map(|cell| format!(" {} |", cell.replace('|', "\\|"))).concat();
            let _ = writeln!(text, "|{cells}");
        }
        text
    }

    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.is(verdict)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_show_what_can_be_trusted_of_them() {
        for (value, text) in [
            (0.0, "0"),
            (0.000_34, "0.00034"),
            (0.034_56, "0.035"),
            (1.5, "1.5"),
            (77.123, "77.1"),
            (512.4, "512"),
            (48_231.7, "48,232"),
            (1_400_000.0, "1,400,000"),
        ] {
            assert_eq!(shown(value), text);
        }
    }

    #[test]
    fn a_figure_that_was_not_taken_meets_no_target() {
        let nothing = Rounds::of(&[]);
        assert!(Row::new("x", "ms", nothing).target(Target::AtMost(1.0)).is(Verdict::Miss));
        let one = Rounds::of(&[1.0]);
        assert!(Row::new("x", "ms", one).target(Target::RatioAtMost(9.0)).is(Verdict::Miss));
        assert!(Row::new("x", "ms", one).beside(one, one).target(Target::RatioAtMost(1.0)).is(Verdict::Ok));
        assert!(Row::not_run("x", "no python").is(Verdict::NotRun));
    }
}
