//! The worker's own socket: where another process gets a replica's memory, for a token that the coordinator has told both.
//!
//! ```text
//!  coordinator ──ShareReplica (token)──► tokens          accepted ─► token said ─► memory handed over ─► held ─► left ─► closed*
//!  client ──token──► taken, once                             └─ late, unknown or used: told why, closed*
//! ```
//! What passes here is specified in docs/attach-device.md. A connection stays as long as its process has the memory; when the
//! replica is not ACTIVE any more, this side ends its half, and counts what is still out there. Nothing here touches the device: the driver is asked for the memory.

mod answer;
mod lent;
mod tokens;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{DeviceId, ReplicaId, ReplicaState};
use hoist_runtime::{OnError, TaskHandle};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, info, warn};

use crate::run::Process;
use crate::shared::Shared;

pub(crate) use lent::Lent;
pub(crate) use tokens::{Token, Tokens};

/// Who has memory at a time: each is a connection and a descriptor. Fewer where the process may not have twice as many open.
pub(crate) const MOST_CONNECTIONS: usize = 1_024;

/// Who has not said a token yet. The next one is not accepted before one of these has, or is late.
const MOST_SILENT: usize = 64;

/// From connecting to the last byte of the token.
const SAYING: Duration = Duration::from_secs(10);

/// The socket, as long as it is open. Dropped, nobody is accepted any more; connections end with their replicas.
#[derive(Debug)]
pub(crate) struct Side {
    path: PathBuf,
    serving: TaskHandle,
}

impl Drop for Side {
    fn drop(&mut self) {
        self.serving.abort();
        // Somebody else may have taken it away: that is as well.
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens the socket beside the coordinator's, for whoever may open that one. None: it cannot be; the device is driven all the same,
/// and whoever asks for its memory is told why.
pub(crate) fn open(coordinator: &Path, device: DeviceId, shared: &Shared, process: &Process) -> Option<Side> {
    let path = coordinator.with_file_name(format!("worker-{}-{}.sock", device.kind.as_str(), device.number));
    let listener = match bound(coordinator, &path) {
        Ok(listener) => listener,
        Err(error) => {
            let why = format!("{}: {error}", path.display());
            warn!(why, "nobody can have this device's memory");
            shared.tokens().close(why);
            return None;
        }
    };
    shared.tokens().open(path.display().to_string());
    let (shared, tasks) = (shared.clone(), process.tasks.clone());
    let rooms =
        Rooms { silent: Arc::new(Semaphore::new(MOST_SILENT)), held: Arc::new(Semaphore::new(most())) };
    let serving = process.tasks.spawn("side socket", OnError::Log, async move {
        loop {
            // It is never closed.
            let Ok(silent) = Arc::clone(&rooms.silent).acquire_owned().await else {
                return Ok::<(), io::Error>(());
            };
            let (stream, _) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // No descriptors left, as a rule: one that is closed makes room.
                    warn!(%error, "a connection is not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (shared, held) = (shared.clone(), Arc::clone(&rooms.held));
            tasks.spawn("side connection", OnError::Log, serve(stream, shared, silent, held));
        }
    });
    Some(Side { path, serving })
}

/// Nobody else drives this device for this coordinator: what is at that path was left by a worker that has died.
fn bound(coordinator: &Path, path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is there")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    // A coordinator that has just gone comes back with the same; until then nobody else.
    let mode = fs::metadata(coordinator).map_or(0o600, |facts| facts.permissions().mode() & 0o777);
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Who may be there at a time.
struct Rooms {
    silent: Arc<Semaphore>,
    held: Arc<Semaphore>,
}

/// As many as there are to be descriptors for, beside the segments that loads open.
fn most() -> usize {
    let open = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let half = open.map_or(usize::MAX, |open| usize::try_from(open / 2).unwrap_or(usize::MAX));
    MOST_CONNECTIONS.min(half)
}

/// One connection, to its end.
async fn serve(
    mut stream: UnixStream,
    shared: Shared,
    silent: OwnedSemaphorePermit,
    held: Arc<Semaphore>,
) -> io::Result<()> {
    let shared = &shared;
    let mut token: Token = [0; 32];
    match tokio::time::timeout(SAYING, stream.read_exact(&mut token)).await {
        Ok(Ok(_)) => {}
        // Gone, or silent: nobody to tell.
        Ok(Err(_)) | Err(_) => return Ok(()),
    }
    drop(silent);
    let Ok(_held) = held.try_acquire_owned() else {
        let why = format!("{} others have this device's memory, which is the limit; try again", most());
        return answer::refuse(&stream, &why).await;
    };
    let Some(id) = shared.tokens().take(&token, shared.now()) else {
        return answer::refuse(
            &stream,
            "the token is not known: it was used, is too old, or its lease has ended",
        )
        .await;
    };
    let share = match shared.share(id).await {
        Ok(share) => share,
        Err(why) => return answer::refuse(&stream, &why).await,
    };
    let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let lending = shared.lent().begin(id, share.size, peer);
    answer::hand_over(&stream, &share).await?;
    // The descriptor is theirs; one of ours would keep the memory.
    drop(share);
    info!(replica = %id, process = peer, "its memory is in another process");
    tokio::select! {
        () = closed(&mut stream) => {
            debug!(replica = %id, process = peer, "the other process has closed");
            return Ok(());
        }
        () = is_gone(shared, id) => {}
    }
    lending.is_left();
    info!(replica = %id, process = peer, "it is not there any more, and its memory still in another process");
    // Our half says so; theirs is open as long as they have it.
    let _ = stream.shutdown().await;
    closed(&mut stream).await;
    info!(replica = %id, process = peer, "the other process has let go of its memory");
    Ok(())
}

/// Until the other side closes, or says what it has not to.
async fn closed(stream: &mut UnixStream) {
    let _ = stream.read_u8().await;
}

/// Until a replica is not ACTIVE any more.
async fn is_gone(shared: &Shared, id: ReplicaId) {
    let is_active = |view: &Arc<crate::view::View>| {
        view.replicas.get(&id).is_some_and(|replica| replica.state == ReplicaState::Active)
    };
    // An error: the driver has ended.
    let _ = shared.views().wait_for(|view| !is_active(view)).await;
}
