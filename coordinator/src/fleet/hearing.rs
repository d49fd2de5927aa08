//! What a worker says on its stream: read, handed to the owner, acknowledged once it counts.

use hoist_domain::{Bytes, Error, Reason, Result};
use hoist_planner::residency::{Heard, Removal, Report};
use hoist_wire::worker::session_request::Message as Said;
use hoist_wire::worker::session_response::Message as Told;
use hoist_wire::{worker as wire, workers};

use super::session::{Over, Session, Who};

impl Session {
    pub(super) async fn hear(
        &self,
        who: Who,
        said: wire::SessionRequest,
        sequence: &mut u64,
    ) -> Result<(), Over> {
        match said.message {
            Some(Said::Observed(observed)) => {
                let is_next = observed.sequence == *sequence + 1 && observed.full == (*sequence == 0);
                if !is_next {
                    let why = "messages come once, in order, and the first one tells of everything";
                    return Err(Over::Refused(Error::invalid_field("observed.sequence", why)));
                }
                *sequence = observed.sequence;
                let memory = workers::read_memory(observed.memory.unwrap_or_default());
                let report = report(observed).map_err(|error| Over::Lied(error.to_string()))?;
                if let Some(answers) = report.answers {
                    self.fleet.answered(who, answers);
                }
                match self.fleet.0.control.observed(who.id, who.session, memory, report).await {
                    Ok(Heard::Applied) => {}
                    Ok(Heard::Lie(lie)) => return Err(Over::Lied(lie)),
                    Ok(Heard::NotIts) => {
                        // If another worker drives it, the next registration says so.
                        let message =
                            format!("this stream does not speak for {} any more; register again", who.id);
                        return Err(Over::Refused(Error::new(Reason::WorkerLost, message)));
                    }
                    Err(error) => return Err(Over::Refused(error)),
                }
                self.tell(Told::Ack(wire::Ack { observed: *sequence })).map(drop)
            }
            Some(Said::Register(_)) => {
                let why = "a worker registers once on a stream";
                Err(Over::Refused(Error::invalid_field("message", why)))
            }
            Some(Said::Progress(progress)) => {
                self.fleet.progress(who.id, &progress);
                Ok(())
            }
            Some(Said::Heartbeat(_) | Said::Response(_)) | None => Ok(()),
        }
    }
}

/// What a worker has told.
fn report(observed: wire::Observed) -> Result<Report> {
    let removal = |removed: wire::RemovedReplica| {
        Ok(Removal {
            id: workers::replica_id(&removed.replica)?,
            expected: Bytes(removed.expected_bytes),
            returned: Bytes(removed.returned_bytes),
        })
    };
    Ok(Report {
        is_full: observed.full,
        answers: observed.answers.map(workers::read_generation),
        replicas: observed.replicas.into_iter().map(workers::read_observed).collect::<Result<_>>()?,
        removed: observed.removed.into_iter().map(removal).collect::<Result<_>>()?,
        problem: workers::text(observed.problem),
    })
}
