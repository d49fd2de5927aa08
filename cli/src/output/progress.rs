//! How far an operation is: a bar on a terminal, one below the other for several, and the same in words for a line of text.

use std::io::IsTerminal as _;

use hoist_domain::Bytes;
use hoist_wire::v1;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::{Out, text};

/// Characters of a label: the bar beside it must have room.
const LABEL_CHARS: usize = 24;

/// Several bars below one another, or nothing where one bar would be nothing.
#[derive(Debug)]
pub(crate) struct Bars {
    shown: Option<MultiProgress>,
    /// One alone is what everybody knows that it is about.
    has_labels: bool,
}

impl Bars {
    /// Room for this many.
    pub(crate) fn new(out: Out, count: usize) -> Self {
        Self { shown: is_watched(out).then(MultiProgress::new), has_labels: count > 1 }
    }

    /// A bar among these. It appears when there is something to show: what waits for its turn takes no line.
    pub(crate) fn bar(&self, label: &str) -> Bar {
        Bar {
            shown: self.shown.as_ref().map(|bars| bars.add(styled())),
            label: self.has_labels.then(|| text::shortened(&text::one_line(label), LABEL_CHARS)),
        }
    }
}

/// A bar on stderr, or nothing where stderr is no terminal or `--json` asks for silence.
#[derive(Debug)]
pub(crate) struct Bar {
    shown: Option<ProgressBar>,
    /// What it is about, where there are others.
    label: Option<String>,
}

fn is_watched(out: Out) -> bool {
    !out.json && std::io::stderr().is_terminal()
}

fn styled() -> ProgressBar {
    let bar = ProgressBar::new(1);
    // The template is fixed; a bar in the default style is better than none should it ever be wrong.
    if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {percent:>3} %  {msg}") {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar
}

impl Bar {
    pub(crate) fn new(out: Out) -> Self {
        Self { shown: is_watched(out).then(styled), label: None }
    }

    /// A bar that nobody sees.
    pub(crate) const fn none() -> Self {
        Self { shown: None, label: None }
    }

    /// Whether anybody sees it.
    pub(crate) const fn is_shown(&self) -> bool {
        self.shown.is_some()
    }

    pub(crate) fn update(&self, operation: &v1::OperationMetadata) {
        match (&self.shown, &operation.progress) {
            (_, Some(progress)) => self.show(progress),
            (Some(bar), None) if self.label.is_none() => {
                bar.set_prefix(text::operation_state(operation.state));
                bar.tick();
            }
            _ => {}
        }
    }

    pub(crate) fn show(&self, progress: &v1::Progress) {
        let Some(bar) = &self.shown else { return };
        let phase = text::plain(&progress.phase);
        bar.set_prefix(
            self.label.as_ref().map_or_else(|| phase.clone(), |label| format!("{label}: {phase}")),
        );
        let (done, total) = done_of_total(progress);
        // While the total is not known the bar stands at nothing: of a length of 0 it would show all.
        bar.set_length(total.max(1));
        bar.set_position(if total > 0 { done } else { 0 });
        bar.set_message([items(progress), speed(progress)].join("  ").trim().to_owned());
    }
}

impl Drop for Bar {
    /// A bar that stays would stand between the command and its answer.
    fn drop(&mut self) {
        if let Some(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// Bytes where bytes are counted; things for work that counts only those.
const fn done_of_total(progress: &v1::Progress) -> (u64, u64) {
    if progress.total_bytes > 0 {
        (progress.done_bytes, progress.total_bytes)
    } else {
        (progress.done_items, progress.total_items)
    }
}

/// Things done, for work that counts things: `12 of 40`, or `40 found` while it still looks for more.
fn items(progress: &v1::Progress) -> String {
    match (progress.done_items, progress.total_items) {
        (0, 0) => String::new(),
        (done, 0) => format!("{done} done"),
        (0, total) => format!("{total} found"),
        (done, total) => format!("{done} of {total}"),
    }
}

/// Speed and time to go, as far as they are known: `2.8 GB/s, 12 s left`.
fn speed(progress: &v1::Progress) -> String {
    if let Some(stalled) = &progress.stalled {
        return format!("stalled for {}", text::span(text::wire_span(stalled)));
    }
    let rate = progress.bytes_per_second.map(text::rate);
    let left = progress.remaining.as_ref().map(|r| format!("{} left", text::span(text::wire_span(r))));
    [rate, left].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// One line: `disk read, 45 % of 3.0 GiB in all, 2.8 GB/s, 12 s left`. Bytes count over all phases, not this one.
pub(crate) fn in_words(progress: &v1::Progress) -> String {
    let bytes = match progress.done_bytes.saturating_mul(100).checked_div(progress.total_bytes) {
        Some(percent) => format!("{percent} % of {} in all", Bytes(progress.total_bytes)),
        None if progress.done_bytes == 0 => String::new(),
        None => Bytes(progress.done_bytes).to_string(),
    };
    let parts = [text::one_line(&progress.phase), items(progress), bytes, speed(progress)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_parts_are_left_out() {
        let mut progress =
            v1::Progress { phase: "disk read".into(), done_bytes: 1 << 30, ..Default::default() };
        assert_eq!(in_words(&progress), "disk read, 1.0 GiB");
        progress.total_bytes = 2 << 30;
        progress.bytes_per_second = Some(2_800_000_000);
        assert_eq!(in_words(&progress), "disk read, 50 % of 2.0 GiB in all, 2.8 GB/s");
        progress.stalled = Some(prost_types::Duration { seconds: 3, nanos: 0 });
        assert_eq!(in_words(&progress), "disk read, 50 % of 2.0 GiB in all, stalled for 3 s");
    }
    #[test]
    fn things_are_counted_where_bytes_are_not() {
        let mut progress =
            v1::Progress { phase: "read headers".into(), total_items: 40, ..Default::default() };
        assert_eq!(in_words(&progress), "read headers, 40 found");
        progress.done_items = 12;
        assert_eq!(in_words(&progress), "read headers, 12 of 40");
        assert_eq!(done_of_total(&progress), (12, 40));
        (progress.done_bytes, progress.total_bytes) = (1, 4);
        assert_eq!(in_words(&progress), "read headers, 12 of 40, 25 % of 4 B in all");
        assert_eq!(done_of_total(&progress), (1, 4));
    }
}
