//! `hoist doctor --probe`: has the server measure the machine, shows how far it is, and gives it up on Ctrl-C.
//!
//! Two calls with one request id: the first returns the operation's name at once, so that its progress can be shown;
//! the second waits for the end and is the one whose loss cancels the operation, unless somebody else wants it too.

use std::time::Duration;

use hoist_wire::{encode, v1};
use serde_json::Value;

use crate::args::DoctorArgs;
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::json::{self, Operation, Response};
use crate::output::table;
use crate::verbs::{Session, follow};

/// The server gives a probe up after 10 minutes; a little longer, so that its answer is what ends the wait.
const HOLD: Duration = Duration::from_secs(11 * 60);
/// How long the server gets to stop what it is doing once nobody wants it any more.
const LET_GO: Duration = Duration::from_secs(5);

pub(crate) async fn run(session: &Session, args: &DoctorArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let request = v1::ProbeMachineRequest {
        request_id: request_id(),
        kinds: args.kinds.iter().map(|&kind| v1::MeasurementKind::from(kind).into()).collect(),
        bytes: args.bytes.0,
        wait_for: None,
        deadline: None,
        cancel_on_disconnect: true,
    };
    let id = request.request_id.clone();
    let accepted = client.call(Some(&id), client.admin().probe_machine(request.clone())).await?;
    let mut operation = Operation::read(&accepted)?;
    if !operation.done {
        let name = operation.metadata.name.clone();
        operation = match Box::pin(hold(session, &client, &name, request)).await? {
            Some(ended) => ended,
            None => return Err(interrupted(&client, &name).await),
        };
    }
    print(session, &operation)
}

/// Waits for the end; `None` when Ctrl-C came first. Returning drops the held call, and with it our claim.
async fn hold(
    session: &Session,
    client: &Client,
    name: &str,
    request: v1::ProbeMachineRequest,
) -> Result<Option<Operation>> {
    let id = request.request_id.clone();
    let request = v1::ProbeMachineRequest { wait_for: Some(encode::duration(HOLD)), ..request };
    let mut admin = client.admin();
    let held = client.call_within(HOLD, Some(&id), admin.probe_machine(request));
    let shown = async {
        follow::show_progress(session, client, name).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        held = held => {
            let operation = Operation::read(&held.map_err(|error| error.about(name))?)?;
            if operation.done {
                return Ok(Some(operation));
            }
            follow::to_the_end(session, client, name, None).await.map(Some)
        }
        () = shown => Ok(None),
        _ = hoist_runtime::stop_signal() => Ok(None),
    }
}

/// Tells what became of the operation after we let go of it.
async fn interrupted(client: &Client, name: &str) -> Error {
    let stopped = tokio::select! {
        operation = follow::wait(client, name, LET_GO) => operation,
        _ = hoist_runtime::stop_signal() => return Error::interrupted("interrupted"),
    };
    match stopped {
        Ok(operation) if operation.done || operation.metadata.cancel_requested => {
            Error::interrupted(format!("interrupted: {name} is cancelled"))
        }
        Ok(_) => {
            Error::interrupted(format!("interrupted: {name} goes on, because somebody else asked for it"))
        }
        Err(error) => Error::interrupted(format!("interrupted; {name} may go on: {}", error.message())),
    }
}

fn print(session: &Session, operation: &Operation) -> Result<Exit> {
    if let Some(error) = operation.failure() {
        return Err(error);
    }
    let Some(Response::ProbeMachine(probe)) = &operation.response else {
        return Err(Error::unreadable("the measurements"));
    };
    if session.out.json {
        session.out.value(&probe.measurements.iter().map(json::measurement).collect::<Value>())?;
    } else {
        table::measurements(session.out, &probe.measurements)?;
    }
    Ok(Exit::Done)
}
