//! The coordinator's life: open, recover, listen, serve, drain, end.
//!
//! ```text
//! directories ─► store (lock, epoch) ─► state ─► recover ─► bind ─► SERVING ─► DRAINING ─► ended*
//!      └─ any of these fails: one clear line, nothing left behind, exit code not 0
//! ```
//!
//! DRAINING: health says NOT_SERVING and no new work is admitted; watches end; running operations get the grace
//! period, then are told to stop. Until they have ended whoever comes is served: they can be looked at, and
//! cancelled. Then the sockets go, connections end, and what is done is committed and exported. Each wait has an end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{Condition, ConditionKind, Epoch, Machine, MachineState, Severity};
use hoist_runtime::{Clock, Gate, OnError, Shutdown, Tasks};
use hoist_store::{Losses, OpenOptions, Recovery};
use tokio::sync::{Semaphore, watch};
use tonic_health::ServingStatus;
use tracing::{info, warn};

use crate::api::{Api, Guard, Parts as ApiParts, StopRequest};
use crate::catalog::Catalog;
use crate::control::{Control, Owner, Parts, restore};
use crate::listener::{BindError, Listener, bind, prepare_directory};
use crate::operations::{Directories, Runner};
use crate::settings::Loaded;
use crate::watch::Watcher;

/// How often time passes for the owner: deadlines of pending work, retention, a full disk that has room again.
const TICK: Duration = Duration::from_secs(1);

/// How long executors get to stop once told, and connections to take their last answers.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the process brings.
#[derive(Clone, Debug)]
pub struct Process {
    pub clock: Clock,
    pub tasks: Tasks,
    /// Triggered by signals, by `AdminService.Shutdown`, or by the failure of a task that nothing works without.
    pub shutdown: Shutdown,
}

/// Where a server that is SERVING can be reached.
#[derive(Clone, Debug)]
pub struct Ready {
    pub socket: PathBuf,
    pub listen: Option<SocketAddr>,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{0}")]
    Bind(#[from] BindError),
    #[error("{0}")]
    Store(#[from] hoist_store::OpenError),
    #[error("the state directory cannot be written: {0}")]
    Recover(hoist_domain::Error),
    #[error("cannot start: {0}; report this as a defect")]
    Internal(String),
}

/// Runs a coordinator until its shutdown is triggered. `ready` is called once it is SERVING.
///
/// # Errors
/// When it cannot start. A server that has started ends without error.
pub async fn serve(loaded: Loaded, process: Process, ready: impl FnOnce(&Ready)) -> Result<(), ServeError> {
    let settings = loaded.settings;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let (nofile, _) = hoist_runtime::machine::raise_nofile();
    let state_dir = prepare_directory("the state directory", "--state-dir", &settings.state_dir)?;
    let runtime_dir = prepare_directory("the runtime directory", "--runtime-dir", &settings.runtime_dir)?;

    let started = process.clock.monotonic();
    let options = OpenOptions { first_epoch: first_epoch(&process.clock), ..OpenOptions::default() };
    let (store, mut opened) = hoist_store::open(&state_dir, options)?;
    let rows = opened.rows.len();
    let (state, unreadable) = restore(&mut opened, machine(&process.clock));
    info!(
        epoch = %opened.epoch, revision = %opened.revision, rows,
        milliseconds = u64::try_from(process.clock.monotonic().saturating_sub(started).as_millis()).unwrap_or(u64::MAX),
        "store opened"
    );
    let (mut owner, control, effects) = Owner::new(Parts {
        state,
        store,
        service_time: opened.service_time,
        clock: process.clock.clone(),
        limits: settings.limits,
        history: settings.history,
        export_interval: settings.export_interval,
    });
    owner.recover().map_err(ServeError::Recover)?;
    if let Some(condition) = rebuilt(&opened.recovery, unreadable, &process.clock) {
        owner.raise(condition);
    }
    let bound = bind(&settings.socket, settings.listen.as_deref()).await?;

    let owner_thread = process
        .tasks
        .spawn_thread("control", OnError::Shutdown, move || {
            owner.run();
            Ok::<(), Infallible>(())
        })
        .map_err(|error| ServeError::Internal(error.to_string()))?;
    let catalog =
        Catalog::new(settings.catalog, control.clone(), process.tasks.clone(), process.clock.clone());
    let operations = Gate::new();
    let runner = Runner::new(
        control.clone(),
        process.tasks.clone(),
        process.clock.clone(),
        operations.clone(),
        Directories { state: state_dir, runtime: runtime_dir },
        catalog.clone(),
    );
    process.tasks.spawn("runner", OnError::Shutdown, runner.clone().run(effects));
    let draining = Shutdown::new();
    let watcher = Watcher::new(
        control.clone(),
        runner.board.clone(),
        process.clock.clone(),
        draining.clone(),
        settings.watches,
    );
    let stop = StopRequest { shutdown: process.shutdown.clone(), grace: Arc::new(watch::Sender::new(None)) };
    let api = Api::new(ApiParts {
        control: control.clone(),
        watcher: watcher.clone(),
        board: runner.board.clone(),
        waiters: runner.waiters.clone(),
        catalog: catalog.clone(),
        tasks: process.tasks.clone(),
        clock: process.clock.clone(),
        started,
        request_ids_limit: settings.limits.request_ids,
        config: loaded.entries,
        stop: stop.clone(),
        over_all_turns: Arc::new(Semaphore::new(processors())),
    });
    let (routes, mut health) = api.routes().map_err(|error| ServeError::Internal(error.to_string()))?;
    let (connections, closing) = (Gate::new(), Shutdown::new());
    let guard = Guard::new(routes, settings.listener, process.tasks.clone());
    let listener = Listener::new(
        guard,
        settings.listener,
        nofile,
        process.tasks.clone(),
        process.clock.clone(),
        closing.clone(),
        connections.clone(),
    );
    let ticker = tick(control.clone(), watcher, listener.clone(), process.clone());
    process.tasks.spawn("ticker", OnError::Shutdown, ticker);
    let following = crate::catalog::follow(catalog.clone(), process.clock.clone(), draining.clone());
    process.tasks.spawn("catalog", OnError::Shutdown, following);
    process.tasks.spawn(
        "digests",
        OnError::Shutdown,
        crate::catalog::keep_digests(catalog, runner.waiters.clone(), draining.clone()),
    );
    let at = Ready { socket: bound.socket.path.clone(), listen: bound.listen };
    process.tasks.spawn(
        "accept unix",
        OnError::Shutdown,
        listener.clone().serve_unix(bound.unix, bound.socket),
    );
    if let Some(tcp) = bound.tcp {
        process.tasks.spawn("accept tcp", OnError::Shutdown, listener.serve_tcp(tcp));
    }
    health.set_service_status("", ServingStatus::Serving).await;
    let listen = at.listen.map_or_else(|| "-".to_owned(), |address| address.to_string());
    info!(socket = %at.socket.display(), %listen, "serving");
    ready(&at);

    process.shutdown.triggered().await;
    info!(reason = process.shutdown.reason().unwrap_or_default(), "draining");
    health.set_service_status("", ServingStatus::NotServing).await;
    control.drain().await;
    draining.trigger("the server is stopping");
    runner.stop_own();
    if !ended_in_time(&operations, &stop, settings.shutdown_grace, &process.clock).await {
        warn!(operations = %operations.holders().join(","), "grace period is over: telling operations to stop");
        runner.stop_all();
        wait("operations", &operations).await;
    }
    // Ends the watches of it, which have said NOT_SERVING and have no other end.
    health.clear_service_status("").await;
    closing.trigger("the server has stopped");
    // Their ends are committed, and their waiters answered, before connections are given up.
    wait("connections", &connections).await;
    control.stop().await;
    if tokio::time::timeout(LAST_WORDS, owner_thread.join()).await.is_err() {
        warn!("the store is still busy: leaving without its export");
    }
    info!("stopped");
    Ok(())
}

/// Whether operations end within the grace period, which somebody may shorten meanwhile.
async fn ended_in_time(operations: &Gate, stop: &StopRequest, usual: Duration, clock: &Clock) -> bool {
    let begun = clock.monotonic();
    let mut asked = stop.grace.subscribe();
    loop {
        let grace = asked.borrow_and_update().unwrap_or(usual);
        let left = grace.saturating_sub(clock.monotonic().saturating_sub(begun));
        tokio::select! {
            biased;
            () = operations.wait_open() => return true,
            Ok(()) = asked.changed() => {}
            () = tokio::time::sleep(left) => return false,
        }
    }
}

async fn wait(what: &'static str, gate: &Gate) {
    if tokio::time::timeout(LAST_WORDS, gate.wait_open()).await.is_err() {
        let holders = gate.holders();
        warn!(what, count = holders.len(), first = holders.first(), "leaving without waiting any longer");
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Grows from one wiped directory to the next, as long as no history starts more than once a second.
fn first_epoch(clock: &Clock) -> Epoch {
    Epoch(u64::try_from(clock.wall().0 / 1_000_000).unwrap_or(0).max(1))
}

fn machine(clock: &Clock) -> Machine {
    Machine {
        state: MachineState::Serving,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        process_id: std::process::id(),
        started_at: clock.wall(),
        measurements: Vec::new(),
    }
}

/// What an operator should know about how the store came back.
fn rebuilt(recovery: &Recovery, unreadable: Vec<String>, clock: &Clock) -> Option<Condition> {
    let (mut details, found, losses) = match recovery {
        Recovery::Clean if unreadable.is_empty() => return None,
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
    let losses = Losses { rows: losses.rows.saturating_add(unreadable.len() as u64), ..losses };
    details.extend(unreadable);
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

/// Lets time pass for the owner, for watches and for connections, and tells of panics.
async fn tick(
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
