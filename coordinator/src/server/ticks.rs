//! Time passing: for the owner, for watches and for connections.
//!
//! Run as a task of its own for as long as the server lives.

use std::convert::Infallible;
use std::time::Duration;

use hoist_domain::{Condition, ConditionKind, Severity};
use hoist_runtime::Clock;

use super::Process;
use crate::control::Control;
use crate::listener::Listener;
use crate::watch::Watcher;

/// How often time passes for the owner: deadlines of pending work, retention, a full disk that has room again.
const TICK: Duration = Duration::from_secs(1);

/// Lets time pass for the owner, for watches and for connections, and tells of panics.
pub(super) async fn tick(
    control: Control,
    watcher: Watcher,
    listener: Listener,
    process: Process,
) -> Result<(), Infallible> {
    let mut ticks = tokio::time::interval(TICK);
    let mut told = 0;
    loop {
        ticks.tick().await;
        control.tick().await;
        watcher.tick();
        listener.tick();
        let panics = process.tasks.panics();
        if panics > told {
            told = panics;
            control.raise(panicked(panics, &process.clock)).await;
        }
    }
}

fn panicked(panics: u64, clock: &Clock) -> Condition {
    Condition {
        kind: ConditionKind::TaskPanicked,
        severity: Severity::Warning,
        message: format!("{panics} tasks or calls have ended by a defect of Hoist since the start"),
        advice: "report it with the server's log; what was affected got an error with reason INTERNAL"
            .to_owned(),
        since: clock.wall(),
        details: Vec::new(),
    }
}
