//! The filter of ListOperations: `state = RUNNING AND kind = PROBE_MACHINE`, `done = true`.

use std::str::FromStr;

use hoist_domain::{Error, Lifecycle, Operation, Result};
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
        let joined = words.join(" ");
        joined.split(" AND ").map(|term| parse(term).map_err(invalid)).collect::<Result<_>>().map(Self)
    }
}

fn parse(term: &str) -> Result<Term, String> {
    let shown: String = term.chars().filter(|c| !c.is_control()).take(64).collect();
    let (field, value) = term.split_once('=').ok_or_else(|| {
        format!("`{shown}` is not `field = value`; terms are joined by AND, for instance `state = RUNNING AND done = false`")
    })?;
    let value = value.trim().trim_matches('"');
    match field.trim() {
        "state" => v1::OperationState::from_str_name(&format!("OPERATION_STATE_{value}"))
            .filter(|state| *state != v1::OperationState::Unspecified)
            .map(Term::State)
            .ok_or_else(|| format!("`{shown}`: a state is PENDING, RUNNING, SUCCEEDED, FAILED or CANCELLED")),
        "kind" => v1::OperationKind::from_str_name(&format!("OPERATION_KIND_{value}"))
            .filter(|kind| *kind != v1::OperationKind::Unspecified)
            .map(Term::Kind)
            .ok_or_else(|| {
                format!("`{shown}`: a kind is PROBE_MACHINE, SCAN_MODELS, DIGEST_MODELS or VALIDATE_MODEL")
            }),
        "done" => value.parse().map(Term::Done).map_err(|_| format!("`{shown}`: done is true or false")),
        _ => Err(format!("`{shown}`: fields are state, kind and done")),
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
        assert_eq!(of("done = true"), Ok(vec![Term::Done(true)]));
        for bad in
            ["state", "state = running", "state = UNSPECIFIED", "done = maybe", "name = x", "done = true AND"]
        {
            assert!(of(bad).unwrap_err().starts_with("filter: "), "{bad}");
        }
    }
}
