//! Workers: those that this server starts, those that come by themselves, and what is known of them.
//!
//! ```text
//!  supervise (one task a device): start ─► wait ─► ended ─► back off ─► start …  five times in five minutes ─► quarantine*
//!  session (one task a stream):   register ─► observed (full) ─► beats … ─► stream over ─► aftermath ─► lost, or back
//! ```
//!
//! Both tell the owner, who decides what it means, and a session tells its worker what the owner's newest state desires. A worker's
//! facts are in the state; what is kept here is of this moment: how its stream does, how far it is, and how often it has said what
//! cannot be. A worker's process is known by what the kernel says of its socket, never by what it says.

mod aftermath;
mod asking;
mod desire;
mod gait;
mod hearing;
mod process;
mod pulse;
mod session;
mod supervise;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use dashmap::{DashMap, DashSet};
use hoist_domain::{Bytes, DeviceId, DeviceSpec, ReplicaId};
use hoist_runtime::{Clock, Gate, OnError, Shutdown, Tasks};
use tracing::info;

use crate::cache::Cache;
use crate::control::Control;

pub use asking::{ShareToken, fresh_token};
pub use pulse::Pulse;
pub use session::Session;

use pulse::Beats;
use session::Ends;
use supervise::supervise;

/// Which workers there are to be, and how they are started.
#[derive(Clone, Debug)]
pub struct FleetSettings {
    /// Devices that this server starts workers for.
    pub devices: Vec<DeviceSpec>,
    /// The worker's program. Unset: there is none.
    pub binary: Option<PathBuf>,
    /// What workers find the server by.
    pub socket: PathBuf,
    /// Where they write what they have to say.
    pub logs: PathBuf,
    /// After a worker has failed for the first time; doubled with each time that follows soon.
    pub restart_delay: Duration,
    /// How long a worker stays without a server.
    pub alone_limit: Duration,
}

/// How long workers may be silent, and take to do things.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) heartbeat: Duration,
    pub(super) progress: Duration,
    /// Between two words on segments that are being filled and that somebody waits for.
    pub(super) filled: Duration,
    /// Then it is SUSPECT.
    pub(super) suspect_after: Duration,
    /// Then one that this server has started is killed, and another's session ends.
    pub(super) over_after: Duration,
    /// A worker that lost its session has so long to come back.
    pub(super) return_within: Duration,
}

/// Three beats are missed, and a little: a busy machine is no dead one.
pub(super) const PACE: Pace = Pace {
    heartbeat: Duration::from_secs(1),
    progress: Duration::from_millis(250),
    filled: Duration::from_millis(25),
    suspect_after: Duration::from_millis(3_500),
    over_after: Duration::from_secs(10),
    return_within: Duration::from_secs(10),
};

/// The handle to all of it. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct Fleet(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: FleetSettings,
    control: Control,
    cache: Cache,
    tasks: Tasks,
    clock: Clock,
    /// Nothing is started any more, and workers that this server has started end: once operations have.
    leaving: Shutdown,
    /// By session: what ends it from outside.
    sessions: DashMap<u64, Ends>,
    /// By device, as long as its worker has a stream.
    pulses: DashMap<DeviceId, Beats>,
    /// Devices whose workers are looked after.
    supervised: DashSet<DeviceId>,
    /// How many there have been.
    begun: AtomicU64,
    /// By device: how often its worker has said what cannot be, and when last.
    lies: DashMap<DeviceId, (u8, Duration)>,
    /// How far replicas are that are being loaded.
    loading: DashMap<ReplicaId, (Bytes, Bytes)>,
    /// Held by workers that this server has started.
    children: Gate,
}

impl Fleet {
    #[must_use]
    pub fn new(
        settings: FleetSettings,
        control: Control,
        cache: Cache,
        tasks: Tasks,
        clock: Clock,
        leaving: Shutdown,
    ) -> Self {
        let (sessions, begun, children) = (DashMap::new(), AtomicU64::new(0), Gate::new());
        let (lies, loading) = (DashMap::new(), DashMap::new());
        let (pulses, supervised) = (DashMap::new(), DashSet::new());
        Self(Arc::new(Shared {
            settings,
            control,
            cache,
            tasks,
            clock,
            leaving,
            sessions,
            pulses,
            supervised,
            begun,
            lies,
            loading,
            children,
        }))
    }

    /// Makes known which devices there are to be, before anybody can come for them: a worker that an earlier server has left
    /// counts as started by this one.
    pub async fn announce(&self) {
        if self.0.settings.binary.is_some() {
            for spec in &self.0.settings.devices {
                self.0.control.starting(spec.id).await;
            }
        }
    }

    /// Starts the workers that there are to be.
    pub fn start(&self) {
        let Some(binary) = self.0.settings.binary.clone() else {
            info!(
                "no hoist-worker beside this program: devices are driven by workers that come by themselves"
            );
            return;
        };
        for spec in self.0.settings.devices.clone() {
            self.look_after(spec, binary.clone());
        }
    }

    /// Starts a worker again that was given up.
    pub fn start_again(&self, id: DeviceId) {
        let spec = self.0.settings.devices.iter().find(|spec| spec.id == id).copied();
        if let (Some(spec), Some(binary)) = (spec, self.0.settings.binary.clone()) {
            self.look_after(spec, binary);
        }
    }

    fn look_after(&self, spec: DeviceSpec, binary: PathBuf) {
        if !self.0.supervised.insert(spec.id) {
            return;
        }
        let fleet = self.clone();
        let hold = self.0.children.hold(spec.id.to_string());
        self.0.tasks.spawn(format!("worker {}", spec.id), OnError::Log, async move {
            supervise(fleet.clone(), spec, binary).await;
            fleet.0.supervised.remove(&spec.id);
            drop(hold);
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// Held as long as a worker runs that this server has started.
    #[must_use]
    pub fn children(&self) -> &Gate {
        &self.0.children
    }
}
