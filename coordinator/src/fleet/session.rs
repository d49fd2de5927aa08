//! One worker's stream, from the coordinator's side.
//!
//! It ends when the stream does, when nothing was heard for too long, when the worker breaks the protocol, or when another
//! stream of the same worker takes its place. Then its process decides: ended, it is lost; alive, it has a while to come back.

use std::time::Duration;

use hoist_domain::{DeviceId, Error, Incarnation, Reason, Result, WorkerState};
use hoist_planner::devices::Registration;
use hoist_runtime::OnError;
use hoist_wire::status::to_status;
use hoist_wire::worker::session_request::Message as Said;
use hoist_wire::worker::session_response::Message as Told;
use hoist_wire::workers::{self, PROTOCOL};
use hoist_wire::{encode, worker as wire};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use super::process::{Process, is_alive};
use super::{Fleet, PACE, Seat};
use crate::control::Turn;

/// From the begin of the stream to `register`, and from there to what is on the device.
const GREETING: Duration = Duration::from_secs(10);

/// A process that is killed loses its streams some moments before it has ended.
const ENDING: Duration = Duration::from_millis(50);

/// A stream that has begun.
#[derive(Debug)]
pub struct Session {
    fleet: Fleet,
    /// As the kernel says.
    process: Option<u32>,
    says: Streaming<wire::SessionRequest>,
    tells: mpsc::Sender<std::result::Result<wire::SessionResponse, Status>>,
}

/// Who it is, once that is known.
#[derive(Clone, Copy, Debug)]
struct Who {
    id: DeviceId,
    incarnation: Incarnation,
}

/// Why a stream is over.
enum Over {
    /// It has ended, or broken.
    Gone,
    /// Nothing was heard.
    Silent,
    /// Another stream of the same worker goes on.
    Replaced,
    /// The server stops; the worker stays for the next one.
    Left,
    /// The worker breaks the protocol, or may not drive.
    Refused(Error),
}

impl Session {
    /// Serves a worker for as long as its stream lasts.
    pub fn begin(
        fleet: Fleet,
        process: Option<u32>,
        says: Streaming<wire::SessionRequest>,
        tells: mpsc::Sender<std::result::Result<wire::SessionResponse, Status>>,
    ) {
        let tasks = fleet.0.tasks.clone();
        let session = Self { fleet, process, says, tells };
        tasks.spawn("worker session", OnError::Log, async move {
            session.run().await;
            Ok::<(), std::convert::Infallible>(())
        });
    }

    async fn run(mut self) {
        let who = match tokio::time::timeout(GREETING, self.register()).await {
            Ok(Ok(who)) => who,
            Ok(Err(error)) => return self.refuse(&error).await,
            Err(_) => return,
        };
        let replaced = CancellationToken::new();
        let seat = Seat { incarnation: who.incarnation, replaced: replaced.clone() };
        if let Some(before) = self.fleet.0.seats.insert(who.id, seat) {
            before.replaced.cancel();
        }
        let over = self.serve(who, &replaced).await;
        match over {
            Over::Replaced => return,
            Over::Left => {
                let message = "the server is stopping; the next one is asked again";
                return self.refuse(&Error::new(Reason::Draining, message)).await;
            }
            Over::Gone | Over::Silent | Over::Refused(_) => {}
        }
        self.fleet.0.seats.remove_if(&who.id, |_, seat| {
            seat.incarnation == who.incarnation && !seat.replaced.is_cancelled()
        });
        if let Over::Refused(error) = &over {
            warn!(device = %who.id, %error, "a worker's session is ended");
            self.refuse(error).await;
        }
        self.aftermath(who, over).await;
    }

    async fn refuse(&self, error: &Error) {
        // Who does not listen is gone.
        let _ = self.tells.send(Err(to_status(error))).await;
    }

    async fn tell(&self, told: Told) -> Result<(), Over> {
        let sent = self.tells.send(Ok(wire::SessionResponse { message: Some(told) })).await;
        sent.map_err(|_| Over::Gone)
    }

    /// Hears who it is, and takes it.
    async fn register(&mut self) -> Result<Who> {
        let first = self.says.message().await.ok().flatten().and_then(|first| first.message);
        let Some(Said::Register(register)) = first else {
            return Err(Error::invalid_field("message", "the first message of a session is `register`"));
        };
        let version = register.version.unwrap_or_default();
        if version.major != PROTOCOL.0 {
            let message = format!(
                "the worker speaks version {}.{} of the protocol, this server {}.{}",
                version.major, version.minor, PROTOCOL.0, PROTOCOL.1
            );
            return Err(Error::new(Reason::VersionSkew, message));
        }
        let facts = register.device.ok_or_else(|| Error::invalid_field("device", "is not set"))?;
        let ask = Registration {
            worker: workers::worker_id(&register.worker_id)?,
            incarnation: workers::incarnation(&register.incarnation)?,
            facts: workers::read_facts(facts)?,
            process: self.process,
            release: hoist_domain::excerpt(&register.release),
            taken: register.taken.map(workers::read_generation),
        };
        let who = Who { id: ask.facts.id, incarnation: ask.incarnation };
        let control = &self.fleet.0.control;
        let taken = match control.register(ask.clone()).await {
            Err(error) if error.reason() == Reason::DeviceTaken && self.is_orphaned(who.id) => {
                // Its end is not known yet, and its successor is here already.
                control.turned(who.id, Turn::Lost(None, "its process has ended".to_owned())).await;
                control.register(ask).await
            }
            taken => taken,
        };
        taken?;
        info!(device = %who.id, process = self.process, "worker registered");
        let span = |span: Duration| Some(encode::duration(span));
        let registered = wire::Registered {
            version: Some(wire::ProtocolVersion { major: PROTOCOL.0, minor: PROTOCOL.1.min(version.minor) }),
            epoch: control.view().state.position().epoch.0,
            heartbeat_interval: span(PACE.heartbeat),
            progress_interval: span(PACE.progress),
            silence_limit: span(PACE.over_after),
        };
        let _ = self.tell(Told::Registered(registered)).await;
        Ok(who)
    }

    /// Whether the process that drives a device has ended.
    fn is_orphaned(&self, id: DeviceId) -> bool {
        let view = self.fleet.0.control.view();
        let process = view.state.devices().get(id).and_then(|device| device.worker.process);
        process.is_some_and(|process| !is_alive(process))
    }

    async fn serve(&mut self, who: Who, replaced: &CancellationToken) -> Over {
        let clock = self.fleet.0.clock.clone();
        let draining = self.fleet.0.draining.clone();
        let mut beats = tokio::time::interval(PACE.heartbeat);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut heard_at, mut is_suspect, mut is_drained) = (clock.monotonic(), false, false);
        let mut sequence = 0;
        loop {
            tokio::select! {
                () = replaced.cancelled() => return Over::Replaced,
                said = self.says.message() => {
                    let Ok(Some(said)) = said else { return Over::Gone };
                    heard_at = clock.monotonic();
                    if is_suspect {
                        is_suspect = false;
                        self.fleet.0.control.turned(who.id, Turn::Heard(who.incarnation)).await;
                    }
                    if let Err(over) = self.hear(who, said, &mut sequence).await {
                        return over;
                    }
                }
                () = draining.triggered(), if !is_drained => {
                    is_drained = true;
                    // Those that came by themselves stay for the next server.
                    if !self.is_ours(who) {
                        return Over::Left;
                    }
                    let drain = wire::Drain { reason: "the server stops".to_owned() };
                    if let Err(over) = self.tell(Told::Drain(drain)).await {
                        return over;
                    }
                }
                _ = beats.tick() => {
                    // Whatever it is, it shows the worker that this server lives.
                    if let Err(over) = self.tell(Told::Ack(wire::Ack { observed: sequence })).await {
                        return over;
                    }
                    let silent = clock.monotonic().saturating_sub(heard_at);
                    if silent >= PACE.over_after {
                        return Over::Silent;
                    }
                    if silent >= PACE.suspect_after && !is_suspect {
                        is_suspect = true;
                        let why = "it is not heard of".to_owned();
                        self.fleet.0.control.turned(who.id, Turn::Silent(who.incarnation, why)).await;
                    }
                }
            }
        }
    }

    fn is_ours(&self, who: Who) -> bool {
        let view = self.fleet.0.control.view();
        view.state.devices().get(who.id).is_some_and(|device| device.worker.is_supervised)
    }

    async fn hear(&self, who: Who, said: wire::SessionRequest, sequence: &mut u64) -> Result<(), Over> {
        match said.message {
            Some(Said::Observed(observed)) => {
                let is_next = observed.sequence == *sequence + 1 && observed.full == (*sequence == 0);
                if !is_next {
                    let why = "messages come once, in order, and the first one tells of everything";
                    return Err(Over::Refused(Error::invalid_field("observed.sequence", why)));
                }
                *sequence = observed.sequence;
                for replica in observed.replicas {
                    workers::read_observed(replica).map_err(Over::Refused)?;
                }
                let memory = workers::read_memory(observed.memory.unwrap_or_default());
                match self.fleet.0.control.observed(who.id, who.incarnation, memory).await {
                    Ok(true) => {}
                    Ok(false) => {
                        let message = format!("another worker drives {}", who.id);
                        return Err(Over::Refused(Error::new(Reason::DeviceTaken, message)));
                    }
                    Err(error) => return Err(Over::Refused(error)),
                }
                self.tell(Told::Ack(wire::Ack { observed: *sequence })).await
            }
            Some(Said::Register(_)) => {
                let why = "a worker registers once on a stream";
                Err(Over::Refused(Error::invalid_field("message", why)))
            }
            Some(Said::Heartbeat(_) | Said::Progress(_) | Said::Response(_)) | None => Ok(()),
        }
    }

    /// The stream is over: what that means for the worker is up to its process.
    async fn aftermath(&self, who: Who, over: Over) {
        let control = &self.fleet.0.control;
        let gone = || Turn::Lost(Some(who.incarnation), "its process has ended".to_owned());
        let Some(process) = self.process.and_then(|number| Process::open(number).ok().flatten()) else {
            return control.turned(who.id, gone()).await;
        };
        if tokio::time::timeout(ENDING, process.ended()).await.is_ok() {
            return control.turned(who.id, gone()).await;
        }
        if matches!(over, Over::Silent) && self.is_ours(who) {
            warn!(device = %who.id, "a worker was silent for too long: it is killed");
            process.kill();
        }
        let why = match over {
            Over::Silent => "it was silent for too long",
            Over::Refused(_) => "it broke the protocol, and its session was ended",
            Over::Gone | Over::Replaced | Over::Left => "its session is over, and its process is there",
        };
        control.turned(who.id, Turn::Silent(who.incarnation, why.to_owned())).await;
        let why = tokio::select! {
            () = process.ended() => "its process has ended",
            () = tokio::time::sleep(PACE.return_within) => "it did not come back in time",
            () = self.is_back(who) => return,
        };
        control.turned(who.id, Turn::Lost(Some(who.incarnation), why.to_owned())).await;
    }

    /// Returns once another stream of the same worker has begun.
    async fn is_back(&self, who: Who) {
        let mut changes = self.fleet.0.control.changes();
        let is_back = |state: &hoist_planner::State| {
            state.devices().get(who.id).is_none_or(|device| {
                device.worker.incarnation != Some(who.incarnation)
                    || device.worker.state != WorkerState::Suspect
            })
        };
        while !is_back(&changes.borrow_and_update().clone().state) {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}
