//! Waits for the end of one operation and shows how far it is meanwhile.

use std::time::Duration;

use hoist_wire::encode;
use hoist_wire::longrunning::{GetOperationRequest, WaitOperationRequest};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::json::Operation;
use crate::output::progress::Bar;
use crate::verbs::Session;

/// Between two looks while somebody watches a bar: often enough to look alive.
const LOOK: Duration = Duration::from_millis(250);
/// The longest single wait while nobody watches: short enough that a dead connection is noticed.
const WAIT: Duration = Duration::from_secs(30);

/// Reads an operation as of now.
pub(crate) async fn read(client: &Client, name: &str) -> Result<Operation> {
    let request = GetOperationRequest { name: name.to_owned() };
    Operation::read(&client.call(None, client.operations().get_operation(request)).await?)
}

/// Waits on the server until the operation ends or `longest` has passed; returns it as it then is.
pub(crate) async fn wait(client: &Client, name: &str, longest: Duration) -> Result<Operation> {
    let request = WaitOperationRequest { name: name.to_owned(), timeout: Some(encode::duration(longest)) };
    let mut operations = client.operations();
    Operation::read(&client.call_within(longest, None, operations.wait_operation(request)).await?)
}

/// Follows an operation to its end.
///
/// # Errors
/// TimedOut when `longest` passes before.
pub(crate) async fn to_the_end(
    session: &Session,
    client: &Client,
    name: &str,
    longest: Option<Duration>,
) -> Result<Operation> {
    let began = session.clock.monotonic();
    let bar = Bar::new(session.out);
    let step = if bar.is_shown() { LOOK } else { WAIT };
    loop {
        let left = longest.map(|l| l.saturating_sub(session.clock.monotonic().saturating_sub(began)));
        let operation = wait(client, name, left.map_or(step, |left| left.min(step))).await;
        let operation = operation.map_err(|error| error.within(name))?;
        if operation.done {
            return Ok(operation);
        }
        bar.update(&operation.metadata);
        if left.is_some_and(|left| left.is_zero()) {
            drop(bar);
            let waited = crate::output::text::span(longest.unwrap_or_default());
            return Err(Error::timed_out(
                format!("{name} has not ended after {waited}"),
                &format!(
                    "it goes on; wait again with `hoist ops wait {}`",
                    name.trim_start_matches("operations/")
                ),
            ));
        }
    }
}

/// Shows how far an operation is, until it has ended or cannot be read; whoever waits for it learns why.
pub(crate) async fn show_progress(client: &Client, name: &str, bar: &Bar) {
    if !bar.is_shown() {
        return;
    }
    while let Ok(operation) = wait(client, name, LOOK).await {
        if operation.done {
            return;
        }
        bar.update(&operation.metadata);
    }
}
