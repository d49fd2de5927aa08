//! What becomes of a worker whose stream is over: its process decides. Ended, it is lost; alive, it has a while to come back.

use std::time::Duration;

use hoist_domain::DeviceId;
use hoist_planner::devices::Whose;
use tracing::warn;

use super::process::Process;
use super::session::{Over, Who};
use super::{Fleet, PACE};
use crate::control::Turn;

/// A process that is killed loses its streams some moments before it has ended.
const ENDING: Duration = Duration::from_millis(50);

/// Whether this server has started it, or would have.
pub(super) fn is_ours(fleet: &Fleet, id: DeviceId) -> bool {
    let view = fleet.0.control.view();
    view.state.devices().get(id).is_some_and(|device| device.worker.is_supervised)
}

/// The stream is over: what that means for the worker is up to its process. None of it counts if another stream speaks for it
/// by then.
pub(super) async fn aftermath(fleet: &Fleet, process: Option<u32>, who: Who, over: &Over) {
    let control = &fleet.0.control;
    let lost = |why: &str| Turn::Lost(Whose::Session(who.session), why.to_owned());
    let process = match process.map(Process::open) {
        Some(Ok(Some(process))) => Some(process),
        Some(Ok(None)) => return control.turned(who.id, lost("its process has ended")).await,
        // The kernel does not tell: it may be there.
        Some(Err(_)) | None => None,
    };
    let ended = async {
        match &process {
            Some(process) => process.ended().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(ended);
    if tokio::time::timeout(ENDING, &mut ended).await.is_ok() {
        return control.turned(who.id, lost("its process has ended")).await;
    }
    let kill = |why: &str| {
        if let Some(process) = process.as_ref().filter(|_| is_ours(fleet, who.id)) {
            warn!(device = %who.id, why, "a worker is killed");
            process.kill();
        }
    };
    match over {
        Over::Silent => kill("it was silent for too long"),
        Over::Stuck => kill("it does not come to the end of what nobody wants any more"),
        _ => {}
    }
    let why = match over {
        Over::Silent => "it was silent for too long",
        Over::Stuck => "it is stuck",
        Over::Lied(_) => "it said what cannot be, and its session was ended",
        Over::Reset => "it tells everything again",
        Over::Refused(_) => "it broke the protocol, and its session was ended",
        Over::Gone | Over::Replaced | Over::Left => "its session is over, and its process is there",
    };
    control.turned(who.id, Turn::Silent(who.session, why.to_owned())).await;
    tokio::select! {
        () = &mut ended => control.turned(who.id, lost("its process has ended")).await,
        () = is_back(fleet, who) => {}
        () = tokio::time::sleep(PACE.return_within) => {
            let why = "it did not come back in time";
            control.turned(who.id, lost(why)).await;
            // It has the device's lock, and nobody speaks with it; unless it came back in the last moment.
            if speaks(fleet, who) {
                kill(why);
            }
        }
    }
}

/// Whether the last stream that spoke for the device's worker is this one.
fn speaks(fleet: &Fleet, who: Who) -> bool {
    let view = fleet.0.control.view();
    view.state.devices().get(who.id).is_some_and(|device| device.worker.session == who.session)
}

/// Returns once another stream speaks for the device's worker.
async fn is_back(fleet: &Fleet, who: Who) {
    let mut changes = fleet.0.control.changes();
    let is_over = |state: &hoist_planner::State| {
        state.devices().get(who.id).is_none_or(|device| device.worker.session != who.session)
    };
    while !is_over(&changes.borrow_and_update().clone().state) {
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
