//! `hoist watch`: follows the state for as long as anybody reads, over broken connections and server restarts.
//!
//! ```text
//!             first connection fails, or a refusal
//!   start ───────────────────────────────────────────► end with its exit code
//!     │ stream open                  --once and a snapshot seen ► end (0)
//!     ▼
//!   following ── connection lost ──► waiting ── reconnected: from the last position ──► following
//!     └── position unknown to the server ──► following, without a position: a fresh snapshot
//! ```
//!
//! The position moves only when all of a message has been printed, so nothing is skipped; a snapshot that was cut
//! off is thrown away and asked for again.

mod cache;
mod devices;
mod model;
mod seen;
mod show;

use std::time::Duration;

use hoist_domain::Reason;
use hoist_wire::{encode, v1};
use tonic::Code;

use self::show::{Show, Snapshot};
use crate::args::WatchArgs;
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::text;
use crate::verbs::{Session, names};

/// How often a silent server says that it is there. Three missed ones in a row: the connection is dead.
const MARK_INTERVAL: Duration = Duration::from_secs(10);
const DEAD_AFTER: Duration = Duration::from_secs(30);

/// Between attempts to connect: doubles from the first to the last, so that a restart is met at once and a server
/// that stays away costs nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// How one stream ended, other than for good.
enum Cut {
    /// The connection or the server is gone; it may come back.
    Lost(Error),
    /// The server does not know the position any more.
    Forgotten(Error),
}

pub(crate) async fn run(session: &Session, args: &WatchArgs) -> Result<Exit> {
    let client = session.connect().await?;
    // Who names an operation, or the state of one, asks for it whether it has ended or not.
    let history = args.history || !args.states.is_empty() || !args.names.is_empty() || args.from.is_some();
    let filter = v1::WatchFilter {
        kinds: args.kinds.iter().map(|&kind| v1::ResourceKind::from(kind).into()).collect(),
        names: names::resolve_all(&client, &args.names).await?,
        operation_states: args.states.iter().map(|&state| v1::OperationState::from(state).into()).collect(),
    };
    let mut watch = Watch {
        session,
        once: args.once,
        asked: v1::WatchRequest {
            request_id: String::new(),
            from: args.from.map(encode::position),
            filter: Some(filter),
            mark_interval: Some(encode::duration(MARK_INTERVAL)),
            progress_interval: args.progress.map(encode::duration),
        },
        show: Show::new(session.out, session.clock.clone(), history),
        came: false,
    };
    watch.follow(client).await
}

struct Watch<'s> {
    session: &'s Session,
    once: bool,
    /// The request as it is sent next, save for its id: `from` is the last position that was printed whole.
    asked: v1::WatchRequest,
    show: Show,
    /// Something came over the present stream, so the next pause is short again.
    came: bool,
}

impl Watch<'_> {
    async fn follow(&mut self, first: Client) -> Result<Exit> {
        let mut client = Some(first);
        let mut pause = FIRST_PAUSE;
        let mut ever_came = false;
        loop {
            self.came = false;
            let cut = match self.connected(&mut client).await {
                Ok(client) => match Box::pin(self.stream(&client)).await? {
                    None => return Ok(Exit::Done),
                    Some(cut) => cut,
                },
                Err(error) => Cut::Lost(error),
            };
            ever_came |= self.came;
            if self.came {
                pause = FIRST_PAUSE;
            }
            match cut {
                // The server is there, so it is asked at once; only a refusal of a plain request for a snapshot waits.
                Cut::Forgotten(error) => {
                    self.session.out.note(format_args!("{}: starting over", why_forgotten(&error)));
                    if self.asked.from.take().is_some() || self.came {
                        continue;
                    }
                }
                Cut::Lost(error) if !ever_came => return Err(error),
                Cut::Lost(error) => {
                    client = None;
                    if pause == FIRST_PAUSE {
                        self.session.out.note(format_args!("{}: connecting again", error.message()));
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LAST_PAUSE);
        }
    }

    /// The connection at hand, or a new one.
    async fn connected(&self, at_hand: &mut Option<Client>) -> Result<Client> {
        if let Some(client) = at_hand {
            return Ok(client.clone());
        }
        Ok(at_hand.insert(self.session.connect().await?).clone())
    }

    /// Prints one stream to its end; `None` when all that was wanted is printed.
    async fn stream(&mut self, client: &Client) -> Result<Option<Cut>> {
        let request = v1::WatchRequest { request_id: request_id(), ..self.asked.clone() };
        let id = request.request_id.clone();
        let mut stream = match client.call(Some(&id), client.state().watch(request)).await {
            Ok(stream) => stream,
            Err(error) => return cut(error).map(Some),
        };
        let mut snapshot = Snapshot::default();
        loop {
            let message = match tokio::time::timeout(DEAD_AFTER, stream.message()).await {
                Err(_) => {
                    let silent = format!("the server has been silent for {}", text::span(DEAD_AFTER));
                    return Ok(Some(Cut::Lost(Error::unreachable(silent, "see whether it hangs"))));
                }
                Ok(Err(status)) => return cut(Error::from_status(&status, Some(&id))).map(Some),
                Ok(Ok(None)) => {
                    let ended = Error::unreachable("the server ended the watch", "see whether it is back");
                    return Ok(Some(Cut::Lost(ended)));
                }
                Ok(Ok(Some(message))) => message,
            };
            self.came = true;
            if let Some(position) = self.show.message(message, &mut snapshot, self.asked.from.as_ref())? {
                self.asked.from = Some(position);
            }
            if self.once && snapshot.is_complete() {
                return Ok(None);
            }
        }
    }
}

/// Why a watch cannot go on where it was, for people who did not write the request.
fn why_forgotten(error: &Error) -> String {
    let is = |reason: Reason| reason.as_str() == error.reason();
    match () {
        () if is(Reason::EpochMismatch) => "the server has been started anew since that position".to_owned(),
        () if is(Reason::RevisionCompacted) => "what followed that position is no longer kept".to_owned(),
        () if is(Reason::TooSlow) => "this watch was too slow to keep up".to_owned(),
        () => error.message(),
    }
}

/// What the end of a stream means.
///
/// # Errors
/// It is for good: another attempt would end in the same way.
fn cut(error: Error) -> Result<Cut> {
    let forgotten = [Reason::RevisionCompacted, Reason::EpochMismatch, Reason::TooSlow];
    if forgotten.iter().any(|reason| reason.as_str() == error.reason()) {
        return Ok(Cut::Forgotten(error));
    }
    let may_pass = match &error {
        // A full server has room later; whether it may be waited for is decided by whether it ever answered.
        Error::Told(told) => {
            matches!(told.code, Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded)
        }
        Error::Stdout(_) => false,
    };
    if may_pass { Ok(Cut::Lost(error)) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_wire::status::to_status;

    fn ends_with(reason: Reason) -> Result<Cut> {
        cut(Error::from_status(&to_status(&hoist_domain::Error::new(reason, "x")), None))
    }

    #[test]
    fn a_forgotten_position_starts_over_and_a_refusal_ends() {
        for reason in [Reason::RevisionCompacted, Reason::EpochMismatch, Reason::TooSlow] {
            assert!(matches!(ends_with(reason), Ok(Cut::Forgotten(_))), "{reason:?}");
        }
        for reason in [Reason::Draining, Reason::WatchesExhausted] {
            assert!(matches!(ends_with(reason), Ok(Cut::Lost(_))), "{reason:?}");
        }
        for reason in [Reason::FieldInvalid, Reason::PermissionDenied, Reason::Internal] {
            assert!(ends_with(reason).is_err(), "{reason:?}");
        }
    }
}
