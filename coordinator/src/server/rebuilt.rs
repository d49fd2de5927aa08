//! What an operator is told about how the store came back.
//!
//! Called once, at the start. It must never say less than may be lost.

use hoist_domain::{Condition, ConditionKind, Severity};
use hoist_runtime::Clock;
use hoist_store::{Losses, Recovery};

/// The condition that tells of it, if there is anything to tell. `left_out`: a line for each row that is not in the state.
pub(super) fn rebuilt(recovery: &Recovery, left_out: Vec<String>, clock: &Clock) -> Option<Condition> {
    let (mut details, found, losses) = match recovery {
        Recovery::Clean if left_out.is_empty() => return None,
        Recovery::Clean => {
            (Vec::new(), "some rows of the store could not be read".to_owned(), Losses::default())
        }
        Recovery::Rebuilt { moved_to, from, lost, losses } => {
            let aside = if moved_to.is_empty() {
                String::new()
            } else {
                format!("; the damaged file is kept as {moved_to}")
            };
            (lost.clone(), format!("the store was damaged and has been rebuilt from {from}{aside}"), *losses)
        }
    };
    let losses = Losses { rows: losses.rows.saturating_add(left_out.len() as u64), ..losses };
    details.extend(left_out);
    let severity =
        if details.is_empty() && losses == Losses::default() { Severity::Info } else { Severity::Warning };
    if details.len() > Condition::MAX_DETAILS {
        let more = details.len() - (Condition::MAX_DETAILS - 1);
        details.truncate(Condition::MAX_DETAILS - 1);
        details.push(format!("and {more} more"));
    }
    Some(Condition {
        kind: ConditionKind::StoreRebuilt,
        severity,
        message: format!("{found}; {}", lost_rows(losses)),
        advice: "check the disk (kernel log, SMART); what is listed as lost has to be asked for again"
            .to_owned(),
        since: clock.wall(),
        details,
    })
}

/// Never less than may be lost.
fn lost_rows(losses: Losses) -> String {
    match losses {
        Losses { rows: 0, is_lower_bound: false } => "no row is lost".to_owned(),
        Losses { rows: 0, is_lower_bound: true } => {
            "how many rows are lost or outdated is not known".to_owned()
        }
        Losses { rows, is_lower_bound: false } => format!("{rows} rows are lost"),
        Losses { rows, is_lower_bound: true } => format!("at least {rows} rows are lost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_never_says_less_than_may_be_lost() {
        let condition = |rows, is_lower_bound, lost: &[&str]| {
            let recovery = Recovery::Rebuilt {
                moved_to: String::new(),
                from: "salvage",
                lost: lost.iter().map(|line| (*line).to_owned()).collect(),
                losses: Losses { rows, is_lower_bound },
            };
            rebuilt(&recovery, Vec::new(), &Clock::system()).unwrap()
        };
        let said = |rows, is_lower_bound| condition(rows, is_lower_bound, &["one line"]).message;
        assert!(said(0, true).ends_with("how many rows are lost or outdated is not known"));
        assert!(said(180, true).ends_with("at least 180 rows are lost"), "one line is not one row");
        assert!(said(3, false).ends_with("; 3 rows are lost"));
        assert_eq!(condition(0, false, &[]).severity, Severity::Info);
        assert_eq!(condition(0, true, &["one line"]).severity, Severity::Warning);
    }
}
