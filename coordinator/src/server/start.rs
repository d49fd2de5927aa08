//! How a server begins: everything is made and connected here, in the order in which each needs the one before.
//!
//! Nothing is served before the store is open, what the last coordinator left behind is resolved, and the sockets are
//! bound. Whatever fails before that leaves nothing behind.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use hoist_domain::{Epoch, Machine, MachineState};
use hoist_runtime::{Clock, Gate, OnError, Shutdown, ThreadHandle};
use hoist_store::{Exporter, OpenOptions};
use tokio::sync::{Semaphore, mpsc as queue, watch};
use tonic_health::ServingStatus;
use tracing::{info, warn};

use super::drain::Serving;
use super::rebuilt::rebuilt;
use super::ticks::tick;
use super::{Process, Ready, ServeError};
use crate::api::{Api, Guard, Parts as ApiParts, StopRequest};
use crate::cache::{Cache, keep, withdraw};
use crate::catalog::Catalog;
use crate::control::{Control, Effect, Owner, Parts, Restored, restore, write_exports};
use crate::fleet::{Fleet, FleetSettings};
use crate::listener::{Listener, bind, prepare_directory};
use crate::operations::{Directories, Executors, Runner};
use crate::residency::Loader;
use crate::residency::sync::{SyncHealth, watch_over};
use crate::settings::{Loaded, Settings};
use crate::watch::Watcher;

/// Models that are verified at a time. Others wait.
const VERIFICATIONS: usize = 2;

/// The owner of the state, not running yet, and those who work for it.
struct Opened {
    owner: Owner,
    exporter: Box<dyn Exporter>,
    control: Control,
    effects: queue::UnboundedReceiver<Effect>,
}

/// Starts a coordinator. It is SERVING when this returns.
pub(super) async fn start(loaded: Loaded, process: &Process) -> Result<(Serving, Ready), ServeError> {
    let settings = loaded.settings;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let (nofile, _) = hoist_runtime::machine::raise_nofile();
    let state_dir = prepare_directory("the state directory", "--state-dir", &settings.state_dir)?;
    let runtime_dir = prepare_directory("the runtime directory", "--runtime-dir", &settings.runtime_dir)?;

    let started = process.clock.monotonic();
    let Opened { owner, exporter, control, effects } = open(&state_dir, &settings, process)?;
    let bound = bind(&settings.socket, settings.listen.as_deref()).await?;

    let (exports, exported) = mpsc::channel();
    let exporting = control.clone();
    spawn_thread(process, "export", move || {
        let mut exporter = exporter;
        write_exports(&exported, exporter.as_mut(), &exporting);
    })?;
    let owner = spawn_thread(process, "control", move || owner.run())?;
    let catalog =
        Catalog::new(settings.catalog, control.clone(), process.tasks.clone(), process.clock.clone());
    let (cache, evictions) = Cache::new(
        settings.cache,
        &runtime_dir,
        control.clone(),
        catalog.clone(),
        process.tasks.clone(),
        process.clock.clone(),
    );
    if let Ok(shelf) = cache.shelf().cloned() {
        let told = control.clone();
        spawn_thread(process, "evict", move || withdraw(&shelf, &told, &evictions))?;
    }
    let (draining, leaving) = (Shutdown::new(), Shutdown::new());
    let fleet = Fleet::new(
        FleetSettings {
            devices: settings.workers.devices,
            binary: settings.workers.binary,
            socket: bound.socket.path.clone(),
            logs: state_dir.clone(),
            restart_delay: settings.workers.restart_delay,
            alone_limit: settings.workers.alone_limit,
        },
        control.clone(),
        cache.clone(),
        process.tasks.clone(),
        process.clock.clone(),
        leaving.clone(),
    );
    let loader = Loader::new(
        cache.clone(),
        catalog.clone(),
        fleet.clone(),
        control.clone(),
        process.tasks.clone(),
        process.clock.clone(),
    );
    let operations = Gate::new();
    let runner = Runner::new(
        control.clone(),
        process.tasks.clone(),
        process.clock.clone(),
        operations.clone(),
        Directories { state: state_dir, runtime: runtime_dir },
        Executors { catalog: catalog.clone(), cache: cache.clone(), loader: loader.clone() },
    );
    process.tasks.spawn("runner", OnError::Shutdown, runner.clone().run(effects, exports));
    cache.adopt().await.map_err(ServeError::Recover)?;
    let watcher = Watcher::new(
        control.clone(),
        runner.board.clone(),
        process.clock.clone(),
        draining.clone(),
        settings.watches,
    );
    let sync = SyncHealth::default();
    let stop = StopRequest { shutdown: process.shutdown.clone(), grace: Arc::new(watch::Sender::new(None)) };
    let api = Api::new(ApiParts {
        control: control.clone(),
        watcher: watcher.clone(),
        board: runner.board.clone(),
        waiters: runner.waiters.clone(),
        catalog: catalog.clone(),
        cache: cache.clone(),
        fleet: fleet.clone(),
        loader: loader.clone(),
        sync: sync.clone(),
        draining: draining.clone(),
        tasks: process.tasks.clone(),
        clock: process.clock.clone(),
        started,
        request_ids_limit: settings.limits.request_ids,
        config: loaded.entries,
        stop: stop.clone(),
        over_all_turns: Arc::new(Semaphore::new(processors())),
        verify_turns: Arc::new(Semaphore::new(VERIFICATIONS)),
    });
    let (routes, health) = api.routes().map_err(|error| ServeError::Internal(error.to_string()))?;
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
    process.tasks.spawn("cache", OnError::Shutdown, keep(cache.clone(), draining.clone()));
    process.tasks.spawn("catalog", OnError::Shutdown, following);
    process.tasks.spawn(
        "digests",
        OnError::Shutdown,
        crate::catalog::keep_digests(catalog, runner.waiters.clone(), draining.clone()),
    );
    process.tasks.spawn(
        "restore",
        OnError::Shutdown,
        crate::residency::restore(loader.clone(), runner.waiters.clone(), draining.clone()),
    );
    process.tasks.spawn(
        "sync",
        OnError::Shutdown,
        watch_over(sync, control.clone(), fleet.clone(), process.clock.clone(), draining.clone()),
    );
    fleet.announce().await;
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
    fleet.start();
    let clock = process.clock.clone();
    let grace = settings.shutdown_grace;
    let serving = Serving {
        health,
        control,
        owner,
        cache,
        runner,
        fleet,
        operations,
        connections,
        draining,
        leaving,
        closing,
        stop,
        grace,
        clock,
    };
    Ok((serving, at))
}

/// From the directory to a state that holds nothing half done.
fn open(state_dir: &Path, settings: &Settings, process: &Process) -> Result<Opened, ServeError> {
    let clock = &process.clock;
    let started = clock.monotonic();
    let options = OpenOptions { first_epoch: first_epoch(clock), ..OpenOptions::default() };
    let (store, exporter, mut opened) = hoist_store::open(state_dir, options)?;
    let rows = opened.rows.len();
    let Restored { state, left_out, superseded } = restore(&mut opened, machine(clock));
    info!(
        epoch = %opened.epoch, revision = %opened.revision, rows,
        milliseconds = milliseconds(clock.monotonic().saturating_sub(started)),
        "store opened"
    );
    let (mut owner, control, effects) = Owner::new(Parts {
        state,
        store,
        service_time: opened.service_time,
        clock: clock.clone(),
        limits: settings.limits,
        history: settings.history,
        export_interval: settings.export_interval,
        superseded,
    });
    owner.recover().map_err(ServeError::Recover)?;
    if let Some(condition) = rebuilt(&opened.recovery, left_out, clock) {
        owner.raise(condition);
    }
    Ok(Opened { owner, exporter, control, effects })
}

/// A thread that nothing works without.
fn spawn_thread(
    process: &Process,
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
) -> Result<ThreadHandle, ServeError> {
    let work = move || {
        work();
        Ok::<(), Infallible>(())
    };
    let spawned = process.tasks.spawn_thread(name, OnError::Shutdown, work);
    spawned.map_err(|error| ServeError::Internal(error.to_string()))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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
