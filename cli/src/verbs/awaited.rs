//! Long work that this process asks for, waits for, and gives up on Ctrl-C.
//!
//! Two calls with one request id: the first returns the operation's name at once, so that its progress can be shown;
//! the second waits for the end and is the one whose loss cancels the operation, unless somebody else wants it too.
//! The first asks for a wait, too, of no time at all: who asks for none wants the work done whether they wait or not.

use std::future::Future;
use std::time::Duration;

use hoist_wire::{encode, longrunning};
use tonic::{Response, Status};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::json::Operation;
use crate::output::progress::Bar;
use crate::verbs::{Session, follow};

/// How long the server gets to stop what it is doing once nobody wants it any more.
const CANCELLED_WITHIN: Duration = Duration::from_secs(5);

/// Asks for the work by `ask`, which is given how long the server may hold its answer, and follows it to its end. Several of
/// these may go on at once, each with a bar of its own. `longest` should be a little more than the work's deadline, so that
/// its own end is what ends the wait.
///
/// # Errors
/// What the call was refused with; Interrupted after Ctrl-C. How the operation ended is in what is returned.
pub(crate) async fn to_the_end<F>(
    session: &Session,
    client: &Client,
    request_id: &str,
    longest: Duration,
    bar: &Bar,
    ask: impl Fn(prost_types::Duration) -> F,
) -> Result<Operation>
where
    F: Future<Output = std::result::Result<Response<longrunning::Operation>, Status>>,
{
    let at_once = ask(encode::duration(Duration::ZERO));
    let accepted = Operation::read(&client.call(Some(request_id), at_once).await?)?;
    if accepted.done {
        return Ok(accepted);
    }
    let name = accepted.metadata.name;
    let held = client.call_within(longest, Some(request_id), ask(encode::duration(longest)));
    let shown = async {
        follow::show_progress(client, &name, bar).await;
        std::future::pending::<()>().await;
    };
    // Leaving drops the held call, and with it our claim.
    let ended = tokio::select! {
        held = held => Some(held.map_err(|error| error.within(&name))?),
        () = shown => None,
        _ = hoist_runtime::stop_signal() => None,
    };
    let Some(ended) = ended else { return Err(interrupted(client, &name).await) };
    let operation = Operation::read(&ended)?;
    if operation.done { Ok(operation) } else { follow::to_the_end(session, client, &name, None).await }
}

/// Tells what became of the operation after we let go of it.
async fn interrupted(client: &Client, name: &str) -> Error {
    let stopped = tokio::select! {
        operation = follow::wait(client, name, CANCELLED_WITHIN) => operation,
        _ = hoist_runtime::stop_signal() => return Error::interrupted("interrupted"),
    };
    match stopped {
        Ok(operation) if operation.done && operation.failure().is_none() => {
            Error::interrupted(format!("interrupted: {name} was done by then: see it with `hoist ops show`"))
        }
        Ok(operation) if operation.done || operation.metadata.cancel_requested => {
            Error::interrupted(format!("interrupted: {name} is cancelled"))
        }
        Ok(_) => {
            Error::interrupted(format!("interrupted: {name} goes on, because somebody else asked for it"))
        }
        Err(error) => Error::interrupted(format!("interrupted; {name} may go on: {}", error.message())),
    }
}
