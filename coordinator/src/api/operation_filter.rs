//! The filter of ListOperations: `state = RUNNING AND kind = PROBE_MACHINE`, `done = true`. Its words may be written in
//! either case.

use std::str::FromStr;

use hoist_domain::{Error, Lifecycle, Operation, Result, nearest};
use hoist_wire::{encode, v1};

/// Longer filters are refused before they are looked at.
const MAX_BYTES: usize = 1_024;

/// Terms that must all hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OperationFilter(Vec<Term>);

#[derive(Debug, PartialEq, Eq)]
enum Term {
    State(v1::OperationState),
    Kind(v1::OperationKind),
    Done(bool),
}

impl OperationFilter {
    pub(super) fn matches(&self, operation: &Operation) -> bool {
        self.0.iter().all(|term| match term {
            Term::State(state) => encode::operation_state(operation.state) == *state,
            Term::Kind(kind) => encode::operation_kind(&operation.work) == *kind,
            Term::Done(done) => operation.state.is_terminal() == *done,
        })
    }
}

impl FromStr for OperationFilter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: String| Error::invalid_field("filter", why);
        if text.len() > MAX_BYTES {
            return Err(invalid(format!("is longer than {MAX_BYTES} bytes")));
        }
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let terms = words.split(|word| word.eq_ignore_ascii_case("and"));
        terms.map(|term| parse(&term.join(" ")).map_err(invalid)).collect::<Result<_>>().map(Self)
    }
}

const STATES: [&str; 5] = ["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"];
const KINDS: [&str; 5] = ["PROBE_MACHINE", "SCAN_MODELS", "DIGEST_MODELS", "VALIDATE_MODEL", "CACHE_MODEL"];
const FIELDS: [&str; 3] = ["state", "kind", "done"];

fn parse(term: &str) -> Result<Term, String> {
    let shown = hoist_domain::excerpt(term);
    let (field, value) = term.split_once('=').ok_or_else(|| {
        format!("`{shown}` is not `field = value`; terms are joined by AND, for instance `state = RUNNING AND done = false`")
    })?;
    let value = value.trim_start_matches('=').trim().trim_matches('"').to_ascii_uppercase();
    let wrong = |what: &str, word: &str, known: &[&'static str]| match nearest(word, known.iter().copied()) {
        Some(meant) => format!("`{shown}`: did you mean {meant}? {what} {}", known.join(", ")),
        None => format!("`{shown}`: {what} {}", known.join(", ")),
    };
    let field = field.trim();
    match field.to_ascii_lowercase().as_str() {
        "state" => v1::OperationState::from_str_name(&format!("OPERATION_STATE_{value}"))
            .filter(|state| *state != v1::OperationState::Unspecified)
            .map(Term::State)
            .ok_or_else(|| wrong("a state is one of", &value, &STATES)),
        "kind" => v1::OperationKind::from_str_name(&format!("OPERATION_KIND_{value}"))
            .filter(|kind| *kind != v1::OperationKind::Unspecified)
            .map(Term::Kind)
            .ok_or_else(|| wrong("a kind is one of", &value, &KINDS)),
        "done" => match value.as_str() {
            "TRUE" => Ok(Term::Done(true)),
            "FALSE" => Ok(Term::Done(false)),
            _ => Err(format!("`{shown}`: done is true or false")),
        },
        _ => Err(wrong("fields are", field, &FIELDS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_as_people_write_them() {
        let of =
            |text: &str| text.parse::<OperationFilter>().map(|f| f.0).map_err(|e| e.message().to_owned());
        assert_eq!(of("  "), Ok(vec![]));
        assert_eq!(
            of("state=RUNNING  AND kind = \"PROBE_MACHINE\""),
            Ok(vec![Term::State(v1::OperationState::Running), Term::Kind(v1::OperationKind::ProbeMachine)])
        );
        for same in ["done = true", "Done == TRUE", " DONE=true "] {
            assert_eq!(of(same), Ok(vec![Term::Done(true)]), "{same}");
        }
        assert_eq!(
            of("STATE = Running and kind=scan_models"),
            Ok(vec![Term::State(v1::OperationState::Running), Term::Kind(v1::OperationKind::ScanModels)])
        );
        assert!(of("state = runing").unwrap_err().contains("did you mean RUNNING?"));
        for kind in KINDS {
            assert!(of(&format!("kind = {kind}")).is_ok(), "{kind}");
        }
        for state in STATES {
            assert!(of(&format!("state = {state}")).is_ok(), "{state}");
        }
        for bad in [
            "state",
            "state = odd",
            "state = UNSPECIFIED",
            "done = maybe",
            "name = x",
            "done = true AND",
            "AND done = true",
        ] {
            assert!(of(bad).unwrap_err().starts_with("filter: "), "{bad}");
        }
    }
}
