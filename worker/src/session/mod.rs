//! The worker's side of its session with the coordinator: who dials, who speaks first, and what a break means.
//!
//! ```text
//!  CONNECTING ─► register ─► REGISTERED ─► observed (full) ─► ACTIVE: desired in, deltas, progress and heartbeats out
//!      ▲                         │                              │
//!      └── stream ended, silence, or DRAINING: what is there stays, and is driven on ──┘
//!      └─► left*: told to end, refused for good, or alone for too long
//! ```
//!
//! `talk` is one stream, `news` what it has told so far. Neither decides anything about the device.

mod news;
mod talk;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{DeviceFacts, DeviceId, Epoch, Incarnation, Reason, WorkerId};
use hoist_runtime::{Clock, Shutdown};
use tracing::{info, warn};

use crate::shared::Shared;
use talk::{Over, talk};

/// Between tries to register: at first, and at most.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// A session that ends sooner was none: who is refused each time must not ask twenty times a second.
const LASTING: Duration = Duration::from_secs(2);

/// What a session needs beside the device.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// The coordinator's.
    pub socket: PathBuf,
    pub device: DeviceId,
    pub worker: WorkerId,
    pub incarnation: Incarnation,
    pub boot_id: String,
    pub process_id: u32,
    /// Without a session for this long the worker ends: nobody knows of it.
    pub alone_limit: Duration,
}

/// Why a worker's session has ended for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// The coordinator said so, or a signal.
    Told(String),
    /// Another worker, or another version, is wanted.
    Refused {
        reason: Reason,
        message: String,
    },
    Alone,
}

/// Holds a session until there is to be none any more.
pub(crate) async fn hold(
    settings: &SessionSettings,
    facts: &Arc<DeviceFacts>,
    shared: &Shared,
    clock: &Clock,
    stop: &Shutdown,
) -> Left {
    let (mut delay, mut alone_since) = (FIRST_DELAY, clock.monotonic());
    // No coordinator of an earlier start is listened to any more.
    let mut epoch = Epoch::default();
    loop {
        let began = clock.monotonic();
        let talked = tokio::select! {
            biased;
            () = stop.triggered() => return Left::Told(stop.reason().unwrap_or_default()),
            talked = talk(settings, facts, shared, clock, &mut epoch) => talked,
        };
        let now = clock.monotonic();
        if talked.was_registered && now.saturating_sub(began) >= LASTING {
            (delay, alone_since) = (FIRST_DELAY, now);
        }
        match talked.over {
            Over::Drained(reason) => return Left::Told(reason),
            Over::Refused { reason, message } => return Left::Refused { reason, message },
            Over::Broken(why) => {
                if clock.monotonic().saturating_sub(alone_since) >= settings.alone_limit {
                    warn!(why, "no coordinator for too long: the worker ends");
                    return Left::Alone;
                }
                info!(why, retry_in = ?delay, "no session: what is on the device stays");
            }
        }
        tokio::select! {
            () = stop.triggered() => return Left::Told(stop.reason().unwrap_or_default()),
            () = tokio::time::sleep(delay) => {}
        }
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}

/// Refusals after which the same worker need not ask again.
pub(crate) const FINAL: [Reason; 4] =
    [Reason::VersionSkew, Reason::DeviceTaken, Reason::GenerationAhead, Reason::WorkerQuarantined];
