//! The coordinator's life: open, recover, listen, serve, drain, end.
//!
//! ```text
//! directories ─► store (lock, epoch) ─► state ─► recover ─► bind ─► SERVING ─► DRAINING ─► ended*
//!      └─ any of these fails: one clear line, nothing left behind, exit code not 0
//! ```
//!
//! What is in this module: what the process brings and gets. How it begins is in `start`, how it ends in `drain`.

mod drain;
mod rebuilt;
mod start;
mod ticks;

use std::net::SocketAddr;
use std::path::PathBuf;

use hoist_runtime::{Clock, Shutdown, Tasks};
use tracing::info;

use crate::listener::BindError;
use crate::settings::Loaded;

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
    let (serving, at) = start::start(loaded, &process).await?;
    let listen = at.listen.map_or_else(|| "-".to_owned(), |address| address.to_string());
    info!(socket = %at.socket.display(), %listen, "serving");
    ready(&at);

    process.shutdown.triggered().await;
    info!(reason = process.shutdown.reason().unwrap_or_default(), "draining");
    serving.drain().await;
    info!("stopped");
    Ok(())
}
