//! A worker's process: its two halves, how they end each other, and what it ends with.
//!
//! ```text
//!  open the device ─► SERVING: driver thread + session task ─► session left, or told ─► everything given back ─► ended*
//!        └─ failed*                  ├─ poisoned*: nothing can be given back
//!                                    └─ renewed*: it keeps what is no replica's
//! ```

use std::time::Duration;

use hoist_domain::{Reason, WORKER_RENEWS};
use hoist_runtime::{Clock, OnError, Shutdown, Tasks};
use tracing::{error, info};

use crate::device::Open;
use crate::driver::{DriveError, drive};
use crate::session::{Left, SessionSettings, hold};
use crate::shared::Shared;
use crate::side;

/// What the process brings.
#[derive(Clone, Debug)]
pub struct Process {
    pub clock: Clock,
    pub tasks: Tasks,
    /// Triggered by signals.
    pub shutdown: Shutdown,
}

/// How a worker has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was told to, or nobody needs it.
    Done,
    /// The device could not be opened.
    Failed(String),
    /// The device could not go on. A new process may.
    Poisoned(String),
    /// The coordinator wants no such worker.
    Refused(String),
    /// Its process keeps memory of the device that is no replica's: a new one does not.
    Renewed(String),
}

impl Ending {
    /// For its supervisor.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed(_) => 1,
            Self::Refused(_) => 4,
            Self::Poisoned(_) => 70,
            Self::Renewed(_) => WORKER_RENEWS,
        }
    }

    /// Libraries' own last words may hang as the device does: the process is to be left without them.
    #[must_use]
    pub const fn is_to_leave_at_once(&self) -> bool {
        matches!(self, Self::Poisoned(_))
    }
}

/// How long the device gets to give back what is on it.
const LAST_STEP: Duration = Duration::from_secs(10);

/// Runs a worker until it is told to end, or has to.
pub async fn run(settings: SessionSettings, open: Open, process: Process) -> Ending {
    let shared = Shared::new(process.clock.clone());
    let (ended, mut driven) = tokio::sync::oneshot::channel();
    let driver = shared.clone();
    let thread = process.tasks.spawn_thread("driver", OnError::Shutdown, move || {
        // Nobody hears of it: the process has ended before.
        let _ = ended.send(drive(open, &driver));
        Ok::<(), std::convert::Infallible>(())
    });
    if let Err(error) = thread {
        return Ending::Failed(format!("no thread for the device: {error}"));
    }
    let side = side::open(&settings.socket, settings.device, &shared, &process);
    let left = tokio::select! {
        biased;
        driven = &mut driven => return failed(driven.unwrap_or(Ok(()))),
        left = serve(&settings, &shared, &process) => left,
    };
    info!(?left, "the worker ends");
    // Nobody is to have anything of it any more.
    drop(side);
    shared.end();
    match tokio::time::timeout(LAST_STEP, driven).await {
        Ok(Ok(Err(error))) => return failed(Err(error)),
        Ok(_) => {}
        Err(_) => {
            let why =
                format!("the device has not answered for {} s; it is left as it is", LAST_STEP.as_secs());
            return failed(Err(DriveError::Poisoned(why)));
        }
    }
    match left {
        Left::Told(_) | Left::Alone => Ending::Done,
        Left::Refused { reason: Reason::GenerationAhead, .. } => Ending::Done,
        Left::Refused { reason, message } => Ending::Refused(format!("{}: {message}", reason.as_str())),
    }
}

async fn serve(settings: &SessionSettings, shared: &Shared, process: &Process) -> Left {
    let facts = tokio::select! {
        () = process.shutdown.triggered() => {
            return Left::Told(process.shutdown.reason().unwrap_or_default());
        }
        facts = shared.facts() => facts,
    };
    match facts {
        Some(facts) => hold(settings, &facts, shared, &process.clock, &process.shutdown).await,
        None => Left::Alone,
    }
}

/// The driver has ended by itself.
fn failed(driven: Result<(), DriveError>) -> Ending {
    match driven {
        Err(error @ DriveError::Open(_)) => Ending::Failed(error.to_string()),
        Err(error @ DriveError::Retains(_)) => Ending::Renewed(error.to_string()),
        Err(error @ DriveError::Poisoned(_)) => {
            error!(%error, "the worker ends");
            Ending::Poisoned(error.to_string())
        }
        Ok(()) => Ending::Failed("the driver has ended by itself; report this".to_owned()),
    }
}
