//! `hoist doctor --probe`: has the server measure the machine, shows how far it is, and gives it up on Ctrl-C.

use std::time::Duration;

use hoist_wire::v1;
use serde_json::Value;

use crate::args::DoctorArgs;
use crate::client::request_id;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::json::{self, Operation, Response};
use crate::output::progress::Bar;
use crate::output::table;
use crate::verbs::{Session, awaited};

/// The server gives a probe up after 10 minutes; a little longer, so that its answer is what ends the wait.
const HOLD: Duration = Duration::from_secs(11 * 60);

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
    let ask = |wait_for| {
        let (mut admin, request) =
            (client.admin(), v1::ProbeMachineRequest { wait_for: Some(wait_for), ..request.clone() });
        async move { admin.probe_machine(request).await }
    };
    print(session, &awaited::to_the_end(session, &client, &id, HOLD, &Bar::new(session.out), ask).await?)
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
