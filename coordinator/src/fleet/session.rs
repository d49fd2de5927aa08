//! One worker's stream, from the coordinator's side.
//!
//! It ends when the stream does, when nothing was heard for too long, when the worker breaks the protocol, or when another
//! stream of the same worker takes its place; what that means is for the aftermath. In between it hears what is on the device, and
//! tells what shall be there: whatever the newest state says, each time that has changed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hoist_domain::{DeviceId, Error, Reason, Result};
use hoist_planner::devices::{Registration, Whose};
use hoist_runtime::OnError;
use hoist_wire::status::to_status;
use hoist_wire::worker::session_request::Message as Said;
use hoist_wire::worker::session_response::Message as Told;
use hoist_wire::workers::{self, PROTOCOL, TELLS_FILLED};
use hoist_wire::{encode, worker as wire};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use super::aftermath::{aftermath, is_ours};
use super::asking::{Asks, Open, Question, questions};
use super::desire::Telling;
use super::gait::Gait;
use super::process::may_be_alive;
use super::{Fleet, PACE};
use crate::control::Turn;

/// From the beginning of the stream to `register`, and from there to what is on the device.
const GREETING: Duration = Duration::from_secs(10);

/// A worker that does not read its last words for so long does without them.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// So many times a worker says what cannot be, and it is not listened to any more.
pub(super) const MOST_LIES: u8 = 3;

/// A stream that has begun.
#[derive(Debug)]
pub struct Session {
    pub(super) fleet: Fleet,
    /// As the kernel says.
    process: Option<u32>,
    says: Streaming<wire::SessionRequest>,
    tells: mpsc::Sender<std::result::Result<wire::SessionResponse, Status>>,
}

/// What ends a stream from outside.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    /// Another stream of the same worker takes its place.
    pub(super) replaced: CancellationToken,
    /// Somebody wants to hear everything again.
    pub(super) reset: CancellationToken,
    /// Somebody asks the worker something.
    pub(super) asks: Asks,
}

/// Who it is, once that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who {
    pub(super) id: DeviceId,
    /// Of this stream: what it tells counts as long as no other one speaks for the worker.
    pub(super) session: u64,
    /// Of the protocol's version, as both speak it.
    pub(super) minor: u32,
}

/// Why a stream is over.
pub(super) enum Over {
    /// It has ended, or broken.
    Gone,
    /// Nothing was heard.
    Silent,
    /// Another stream of the same worker goes on.
    Replaced,
    /// Somebody wants to hear everything again.
    Reset,
    /// The server stops; the worker stays for the next one.
    Left,
    /// It does not come to the end of what nobody wants any more.
    Stuck,
    /// It says what cannot be.
    Lied(String),
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
        // 0 is how the kernel names a process that is not of our world.
        let process = process.filter(|process| *process > 0);
        let session = Self { fleet, process, says, tells };
        tasks.spawn("worker session", OnError::Log, async move {
            session.run().await;
            Ok::<(), std::convert::Infallible>(())
        });
    }

    async fn run(mut self) {
        let session = self.fleet.0.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let (asks, asked) = questions();
        let ends = Ends { replaced: CancellationToken::new(), reset: CancellationToken::new(), asks };
        // Before it registers: whoever registers after it finds it.
        self.fleet.0.sessions.insert(session, ends.clone());
        let over = match self.register(session).await {
            Ok(who) => {
                self.fleet.begins(who);
                let over = self.serve(who, &ends, asked).await;
                self.fleet.ends(who);
                Some((who, over))
            }
            Err(error) => {
                self.refuse(&error).await;
                None
            }
        };
        self.fleet.0.sessions.remove(&session);
        let Some((who, over)) = over else { return };
        match &over {
            Over::Replaced => return,
            Over::Left => {
                let message = "the server is stopping; the next one is asked again";
                return self.refuse(&Error::new(Reason::Draining, message)).await;
            }
            Over::Silent => self.refuse(&Error::new(Reason::WorkerLost, "nothing was heard of it")).await,
            Over::Reset => {
                let message = "everything is to be told again: register again";
                self.refuse(&Error::new(Reason::Draining, message)).await;
            }
            Over::Stuck => self.refuse(&Error::new(Reason::WorkerLost, "it is stuck")).await,
            Over::Lied(lie) => {
                warn!(device = %who.id, lie, "a worker says what cannot be");
                self.refuse(&Error::invalid_field("observed", lie.clone())).await;
                self.fleet.lied(who, lie).await;
            }
            Over::Refused(error) => {
                warn!(device = %who.id, %error, "a worker's session is ended");
                self.refuse(error).await;
            }
            Over::Gone => {}
        }
        let Self { fleet, process, says, tells } = self;
        // The stream ends here: a worker that lives comes back on another.
        drop((says, tells));
        aftermath(&fleet, process, who, &over).await;
    }

    async fn refuse(&self, error: &Error) {
        // Who does not listen is gone.
        let _ = tokio::time::timeout(LAST_WORDS, self.tells.send(Err(to_status(error)))).await;
    }

    /// Tells it, unless the worker has too much to read already: one that reads nothing keeps nobody waiting. Whether it was told.
    pub(super) fn tell(&self, told: Told) -> Result<bool, Over> {
        match self.tells.try_send(Ok(wire::SessionResponse { message: Some(told) })) {
            Ok(()) => Ok(true),
            Err(mpsc::error::TrySendError::Full(_)) => Ok(false),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Over::Gone),
        }
    }

    /// Hears who it is, and takes it.
    async fn register(&mut self, session: u64) -> Result<Who> {
        let first = tokio::time::timeout(GREETING, self.says.message()).await;
        let first = first.ok().and_then(Result::ok).flatten().and_then(|first| first.message);
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
            session,
            facts: workers::read_facts(facts)?,
            process: self.process,
            release: hoist_domain::excerpt(&register.release),
            taken: register.taken.map(workers::read_generation),
        };
        let who = Who { id: ask.facts.id, session, minor: version.minor.min(PROTOCOL.1) };
        let control = &self.fleet.0.control;
        let taken = match control.register(ask.clone()).await {
            Err(error) if error.reason() == Reason::DeviceTaken => match self.orphaned(who.id) {
                None => Err(error),
                // The end of the one before it is not known yet, and its successor is here already.
                Some(orphan) => {
                    let why = "its process has ended".to_owned();
                    control.turned(who.id, Turn::Lost(Whose::Session(orphan), why)).await;
                    control.register(ask).await
                }
            },
            taken => taken,
        };
        if let Some(before) = self.fleet.0.sessions.get(&taken?) {
            before.replaced.cancel();
        }
        info!(device = %who.id, process = self.process, "worker registered");
        let span = |span: Duration| Some(encode::duration(span));
        let registered = wire::Registered {
            version: Some(wire::ProtocolVersion { major: PROTOCOL.0, minor: who.minor }),
            epoch: control.view().state.position().epoch.0,
            heartbeat_interval: span(PACE.heartbeat),
            progress_interval: span(PACE.progress),
            silence_limit: span(PACE.over_after),
        };
        let _ = self.tell(Told::Registered(registered));
        Ok(who)
    }

    /// The stream of the worker that drives a device, if its process has ended.
    fn orphaned(&self, id: DeviceId) -> Option<u64> {
        let view = self.fleet.0.control.view();
        let worker = &view.state.devices().get(id)?.worker;
        worker.process.filter(|process| !may_be_alive(*process)).map(|_| worker.session)
    }

    async fn serve(&mut self, who: Who, ends: &Ends, mut asked: mpsc::Receiver<Question>) -> Over {
        let clock = self.fleet.0.clock.clone();
        let leaving = self.fleet.0.leaving.clone();
        let mut beats = tokio::time::interval(PACE.heartbeat);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut changes = self.fleet.0.control.changes();
        let begun = clock.monotonic();
        let (mut heard_at, mut looked_at) = (begun, begun);
        let (mut is_suspect, mut is_drained) = (false, false);
        let (mut sequence, mut telling) = (0, Telling::default());
        let mut fills = tokio::time::interval(PACE.filled);
        fills.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // What is desired has found no room.
        let mut is_owed = false;
        let tells = self.tells.clone();
        let mut question: Option<Question> = None;
        let mut gait = Gait::default();
        let mut open = Open::default();
        loop {
            tokio::select! {
                // What has been said is heard before anybody is called silent.
                biased;
                () = ends.replaced.cancelled() => return Over::Replaced,
                () = ends.reset.cancelled() => return Over::Reset,
                said = self.says.message() => {
                    let Ok(Some(said)) = said else { return Over::Gone };
                    if is_suspect {
                        is_suspect = false;
                        self.fleet.0.control.turned(who.id, Turn::Heard(who.session)).await;
                    }
                    if let Some(Said::Heartbeat(beat)) = &said.message {
                        gait.beat(beat, clock.monotonic());
                    }
                    if let Some(Said::Response(response)) = said.message {
                        open.answered(response);
                    } else if let Err(over) = self.hear(who, said, &mut sequence).await {
                        return over;
                    }
                    // After it was dealt with: what waited meanwhile has not been silent.
                    heard_at = clock.monotonic();
                    self.fleet.heard(who);
                }
                () = leaving.triggered(), if !is_drained => {
                    is_drained = true;
                    // Those that came by themselves stay for the next server.
                    if !is_ours(&self.fleet, who.id) {
                        return Over::Left;
                    }
                    let drain = wire::Drain { reason: "the server stops".to_owned() };
                    // Who does not read it is killed for that in a moment.
                    if let Err(over) = self.tell(Told::Drain(drain)) {
                        return over;
                    }
                }
                Some(next) = asked.recv(), if question.is_none() => question = Some(next),
                // It waits for room, and those behind it with it.
                room = tells.reserve(), if question.is_some() => {
                    let Ok(room) = room else { return Over::Gone };
                    if let Some(told) = question.take().and_then(|question| open.ask(question)) {
                        room.send(Ok(wire::SessionResponse { message: Some(told) }));
                    }
                }
                changed = changes.changed(), if sequence > 0 && !is_drained && !is_owed => {
                    if changed.is_err() {
                        return Over::Left;
                    }
                    let view = Arc::clone(&changes.borrow_and_update());
                    is_owed = telling.is_behind(&view.state, who.id);
                }
                // Made when there is room for it: only the newest counts.
                room = tells.reserve(), if is_owed => {
                    let Ok(room) = room else { return Over::Gone };
                    is_owed = false;
                    let view = Arc::clone(&changes.borrow_and_update());
                    if let Some(desired) = self.fleet.desired(&view.state, who.id, &mut telling) {
                        self.fleet.told(who, telling.number());
                        room.send(Ok(wire::SessionResponse { message: Some(Told::Desired(desired)) }));
                    }
                }
                _ = fills.tick(), if who.minor >= TELLS_FILLED && telling.is_waiting() => {
                    // What finds no room is overtaken by the next.
                    if let Some(filled) = self.fleet.filled(&mut telling)
                        && let Err(over) = self.tell(Told::Filled(filled))
                    {
                        return over;
                    }
                }
                _ = beats.tick() => {
                    // Whatever it is, it shows the worker that this server lives; and makes good an acknowledgement that found no room.
                    if let Err(over) = self.tell(Told::Ack(wire::Ack { observed: sequence })) {
                        return over;
                    }
                    let now = clock.monotonic();
                    if now.saturating_sub(looked_at) > PACE.heartbeat * 2 {
                        // This server stood still: nobody knows who was silent.
                        heard_at = now;
                    }
                    looked_at = now;
                    if sequence == 0 && now.saturating_sub(begun) > GREETING {
                        let why = "what is on the device is told after the registration";
                        return Over::Refused(Error::invalid_field("observed", why));
                    }
                    let silent = now.saturating_sub(heard_at);
                    if silent >= PACE.over_after {
                        return Over::Silent;
                    }
                    if let Some(over) = self.feel(who, &mut gait, now).await {
                        return over;
                    }
                    if silent >= PACE.suspect_after && !is_suspect {
                        is_suspect = true;
                        let why = "it is not heard of".to_owned();
                        self.fleet.0.control.turned(who.id, Turn::Silent(who.session, why)).await;
                    }
                }
            }
        }
    }

    /// Looks whether a worker that is heard of gets on with what it does.
    async fn feel(&self, who: Who, gait: &mut Gait, now: Duration) -> Option<Over> {
        let control = &self.fleet.0.control;
        let felt = gait.look(&control.view().state, who.id, self.fleet.unanswered(who), now);
        if let Some(why) = felt.slow {
            control.turned(who.id, Turn::Slow(who.session, why.map(str::to_owned))).await;
        }
        felt.is_stuck.then_some(Over::Stuck)
    }
}
