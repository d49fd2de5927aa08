//! What one pickle adds to the report: its globals, what is wrong with it, and the pickles within.

use crate::pickle::{Dialect, Fault, Global, Pickle, Standing, Value, run};
use crate::{Finding, FindingKind, Verdict, limits};

use super::report::Report;

/// Where a stream stands, which decides what its end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bounds {
    /// An entry of known length: a stream that needs more is broken.
    Entry,
    /// The rest of a file: one that needs more was cut.
    File,
}

/// Whether a file may begin with a pickle: its protocol, or an opcode that protocols 0 and 1 begin with.
pub(super) fn may_be_pickle(head: &[u8]) -> bool {
    match head {
        [0x80, protocol, ..] => *protocol <= 5,
        // An empty or marked container, a global, a text or a number line.
        [b'(', ..] => true,
        [b']' | b'}' | b')' | b'c' | b'I' | b'L' | b'S' | b'V' | b'F' | b'N' | b'X' | b'U', ..] => true,
        _ => false,
    }
}

/// Follows a stream and reports all but its tensors.
pub(super) fn follow<'a>(
    bytes: &'a [u8],
    dialect: Dialect,
    bounds: Bounds,
    what: &str,
    report: &mut Report,
) -> Pickle<'a> {
    let mut pickle = run(bytes, dialect);
    report_globals(&pickle, what, report);
    for mut finding in std::mem::take(&mut pickle.findings) {
        finding.message = format!("{what}: {}", finding.message);
        report.find(finding);
    }
    let at = pickle.length as u64;
    match pickle.fault {
        Some(Fault::Ends) if bounds == Bounds::File => {
            report.find(
                Finding::corrupt(FindingKind::Partial, format!("{what} is cut")).at(bytes.len() as u64),
            );
        }
        Some(Fault::Ends) => {
            report.find(Finding::corrupt(FindingKind::Pickle, format!("{what} ends before its STOP")).at(at));
        }
        Some(Fault::Breaks(rule)) => {
            report.find(Finding::corrupt(FindingKind::Pickle, format!("{what}: {rule}")).at(at));
        }
        None => {}
    }
    let nested = std::mem::take(&mut pickle.nested);
    follow_nested(nested, report);
    pickle
}

/// Follows checkpoints within a pickle, and those within them, for what they would import.
fn follow_nested(mut waiting: Vec<Vec<u8>>, report: &mut Report) {
    let mut allowance = Allowance::new();
    while let Some(bytes) = waiting.pop() {
        let mut rest = bytes.as_slice();
        while may_be_pickle(rest) {
            if !allowance.take(report) {
                return;
            }
            let pickle = run(rest, Dialect::Python);
            report_globals(&pickle, "a pickled tensor", report);
            report.find_all(pickle.findings);
            waiting.extend(pickle.nested);
            rest = if pickle.fault.is_none() { rest.get(pickle.length..).unwrap_or_default() } else { &[] };
        }
    }
}

/// One finding a standing, however many names there are.
fn report_globals(pickle: &Pickle<'_>, what: &str, report: &mut Report) {
    for global in &pickle.heap.globals {
        report.name_global(&global.name);
    }
    for global in &pickle.beyond {
        report.name_global(&global.name);
    }
    let of = |standing: Standing| {
        let found: Vec<&Global> = pickle
            .heap
            .globals
            .iter()
            .chain(&pickle.beyond)
            .filter(|global| global.standing == standing)
            .collect();
        (!found.is_empty()).then(|| shown(&found))
    };
    if let Some(names) = of(Standing::Powerful) {
        let message = format!("{what} would import {names}, which can run code");
        report.find(Finding::new(FindingKind::Pickle, Verdict::Malicious, message));
    }
    if let Some(names) = of(Standing::Unknown) {
        let message = format!("{what} would import {names}, which no tensor needs");
        report.find(Finding::new(FindingKind::Pickle, Verdict::Suspicious, message));
    }
    if let Some(names) = of(Standing::Layer) {
        let message =
            format!("{what} holds whole modules ({names}): their weights are read, their code is not loaded");
        report.find(Finding::new(FindingKind::Pickle, Verdict::Ok, message));
    }
}

fn shown(globals: &[&Global]) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<String> = globals
        .iter()
        .take(SHOWN)
        .map(|global| format!("`{}`", hoist_domain::excerpt(&global.name)))
        .collect();
    if let Some(more) = globals.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

/// Keeps the plain values at the top of a checkpoint: `global_step`, `epoch`, `name`.
pub(super) fn keep_scalars(pickle: &Pickle<'_>, report: &mut Report) {
    let heap = &pickle.heap;
    if !heap.is_dict(pickle.root) {
        return;
    }
    let mut cursor = heap.items_of(pickle.root);
    while let (Some(key), Some(value)) = (heap.next_item(&mut cursor), heap.next_item(&mut cursor)) {
        let Some(key) = heap.as_text(key) else { continue };
        let text = match value {
            Value::TRUE => "true".to_owned(),
            Value::FALSE => "false".to_owned(),
            _ => match (heap.as_text(value), heap.as_int(value), heap.as_float(value)) {
                (Some(text), _, _) => text.to_owned(),
                (_, Some(int), _) => int.to_string(),
                (_, _, Some(float)) => float.to_string(),
                _ => continue,
            },
        };
        report.add_metadata(key, &text);
    }
}

/// How many more streams a file may have looked at.
#[derive(Debug)]
pub(super) struct Allowance(usize);

impl Allowance {
    pub(super) const fn new() -> Self {
        Self(limits::PICKLES)
    }

    /// Takes one; reports that there are too many.
    pub(super) fn take(&mut self, report: &mut Report) -> bool {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => {
                let message = format!("it has more than {} pickles: not all were looked at", limits::PICKLES);
                report.find(Finding::new(FindingKind::Pickle, Verdict::Suspicious, message));
                false
            }
        }
    }
}
