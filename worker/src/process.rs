//! The process around a worker: from its arguments to how it ends, whatever its device is.

use hoist_domain::{Incarnation, WorkerId};
use hoist_runtime::telemetry::{self, LogFormat};
use hoist_runtime::{Clock, DeviceLock, OnError, Shutdown, Tasks, stop_signal};
use uuid::Uuid;

use crate::args::WorkerArgs;
use crate::device::Open;
use crate::run::{Ending, Process, run};
use crate::session::SessionSettings;

/// Runs a worker to its end. What is wrong is said on stderr, once. After a device that has poisoned its process nothing but the
/// kernel is to be relied on: see [`Ending::is_to_leave_at_once`].
#[must_use]
pub fn main(args: &WorkerArgs, open: Open) -> Ending {
    let ending = held(args, open);
    match &ending {
        Ending::Done => {}
        Ending::Failed(why) | Ending::Poisoned(why) | Ending::Refused(why) | Ending::Renewed(why) => {
            eprintln!("error: {why}");
        }
    }
    ending
}

fn held(args: &WorkerArgs, open: Open) -> Ending {
    let logs = match telemetry::init(LogFormat::Human, &args.log) {
        Ok(logs) => logs,
        Err(error) => return Ending::Failed(format!("--log: {error}")),
    };
    let _lock = match DeviceLock::take(&args.coordinator, args.device.id) {
        Ok(Some(lock)) => lock,
        Ok(None) => {
            return Ending::Refused(format!("another worker of this coordinator drives {}", args.device.id));
        }
        Err(why) => return Ending::Failed(why),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Ending::Failed(format!("no threads: {error}")),
    };
    let ending = runtime.block_on(with_signals(settings(args), open));
    // A device that hangs must not keep the process.
    runtime.shutdown_background();
    drop(logs);
    ending
}

async fn with_signals(settings: SessionSettings, open: Open) -> Ending {
    let shutdown = Shutdown::new();
    let tasks = Tasks::new(shutdown.clone());
    let signalled = shutdown.clone();
    tasks.spawn("signals", OnError::Log, async move {
        signalled.trigger(stop_signal().await);
        Ok::<(), std::convert::Infallible>(())
    });
    run(settings, open, Process { clock: Clock::system(), tasks, shutdown }).await
}

fn settings(args: &WorkerArgs) -> SessionSettings {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    SessionSettings {
        socket: args.coordinator.clone(),
        device: args.device.id,
        worker: WorkerId(args.worker_id.unwrap_or_else(Uuid::new_v4)),
        incarnation: Incarnation(Uuid::new_v4()),
        boot_id: boot_id.trim().to_owned(),
        process_id: std::process::id(),
        alone_limit: args.alone_limit,
    }
}
