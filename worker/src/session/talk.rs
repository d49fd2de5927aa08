//! One stream, from its first word to its last.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use hoist_domain::{Bytes, DeviceFacts, Epoch, Reason, ReplicaState};
use hoist_runtime::Clock;
use hoist_wire::status::Failure;
use hoist_wire::worker::session_request::Message as Said;
use hoist_wire::worker::session_response::Message as Heard;
use hoist_wire::worker::worker_service_client::WorkerServiceClient;
use hoist_wire::workers::{self, PROTOCOL};
use hoist_wire::{encode, worker as wire};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use super::news::News;
use super::{FINAL, SessionSettings};
use crate::device::{Piece, Sums};
use crate::policy::{Desired, Wanted};
use crate::shared::{Read, Shared};
use crate::side::Token;

/// From dialling to `registered`.
const GREETING: Duration = Duration::from_secs(5);

/// Messages on their way out. The coordinator takes them as they come; the newest view waits here for nobody.
const OUTGOING: usize = 64;

/// Of what is desired, in one message: some hundred thousand replicas.
const MOST_TOLD: usize = 64 << 20;

/// Of a tensor, in one answer.
const MOST_READ: u64 = 1 << 20;

/// Names of tensors, in one answer.
const MOST_NAMES: usize = 2 << 20;

/// Why nobody answers.
const TOO_MANY: &str = "too many ask, or the worker ends";

/// How a stream has ended.
pub(super) enum Over {
    /// Dial again.
    Broken(String),
    Drained(String),
    /// For good.
    Refused {
        reason: Reason,
        message: String,
    },
}

pub(super) struct Talked {
    pub(super) was_registered: bool,
    pub(super) over: Over,
}

/// One stream with a coordinator.
pub(super) async fn talk(
    settings: &SessionSettings,
    facts: &Arc<DeviceFacts>,
    shared: &Shared,
    clock: &Clock,
    epoch: &mut Epoch,
) -> Talked {
    let greeted = tokio::time::timeout(GREETING, Talk::begin(settings, facts, shared, *epoch)).await;
    let greeted = greeted.unwrap_or_else(|_| Err(Over::Broken("no answer to the registration".to_owned())));
    match greeted {
        Err(over) => Talked { was_registered: false, over },
        Ok(mut talk) => {
            *epoch = talk.epoch;
            let Err(over) = talk.go_on(shared, clock).await;
            Talked { was_registered: true, over }
        }
    }
}

/// A stream whose worker is registered.
struct Talk {
    says: mpsc::Sender<wire::SessionRequest>,
    hears: Streaming<wire::SessionResponse>,
    epoch: Epoch,
    heartbeat: Duration,
    progress: Duration,
    silence: Duration,
    news: News,
    /// Reads that the driver has not answered yet.
    reads: FuturesUnordered<Answering>,
}

type Answering = Pin<Box<dyn Future<Output = wire::Response> + Send>>;

impl Talk {
    async fn begin(
        settings: &SessionSettings,
        facts: &DeviceFacts,
        shared: &Shared,
        known: Epoch,
    ) -> Result<Self, Over> {
        let uri = format!("unix://{}", settings.socket.display());
        let endpoint = Endpoint::from_shared(uri).map_err(|error| Over::Broken(error.to_string()))?;
        let channel = endpoint.connect().await.map_err(|error| Over::Broken(error.to_string()))?;
        let (says, said) = mpsc::channel(OUTGOING);
        let register = register(settings, facts, shared);
        say(&says, Said::Register(register)).await?;
        let mut hears = WorkerServiceClient::new(channel)
            .max_decoding_message_size(MOST_TOLD)
            .session(ReceiverStream::new(said))
            .await
            .map_err(|status| refused(&status))?
            .into_inner();
        let first = hears.message().await.map_err(|status| refused(&status))?;
        let Some(Heard::Registered(registered)) = first.and_then(|first| first.message) else {
            return Err(Over::Broken("the coordinator does not begin with `registered`".to_owned()));
        };
        let epoch = Epoch(registered.epoch);
        if epoch < known {
            let why = format!("a coordinator of epoch {epoch}, which is over: {known} was heard");
            return Err(Over::Broken(why));
        }
        let interval = |field, value: &Option<prost_types::Duration>| {
            workers::interval(field, value.as_ref()).map_err(|error| Over::Broken(error.to_string()))
        };
        info!(%epoch, "registered");
        Ok(Self {
            says,
            hears,
            epoch,
            heartbeat: interval("heartbeat_interval", &registered.heartbeat_interval)?,
            progress: interval("progress_interval", &registered.progress_interval)?,
            silence: interval("silence_limit", &registered.silence_limit)?,
            news: News::new(shared),
            reads: FuturesUnordered::new(),
        })
    }

    /// Tells and hears until the stream is over.
    async fn go_on(&mut self, shared: &Shared, clock: &Clock) -> Result<std::convert::Infallible, Over> {
        let mut views = shared.views();
        let mut beats = tokio::time::interval(self.heartbeat);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut paces = tokio::time::interval(self.progress);
        paces.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard_at = clock.monotonic();
        views.mark_changed();
        loop {
            tokio::select! {
                changed = views.changed() => {
                    changed.map_err(|_| Over::Broken("the driver has ended".to_owned()))?;
                    let view = Arc::clone(&views.borrow_and_update());
                    if self.news.has_missed(&view) {
                        let why = "more was removed than could be told: everything is told anew";
                        return Err(Over::Broken(why.to_owned()));
                    }
                    if let Some(news) = self.news.of(&view) {
                        say(&self.says, Said::Observed(news)).await?;
                    }
                }
                heard = self.hears.message() => {
                    let heard = heard.map_err(|status| refused(&status))?;
                    let Some(heard) = heard else {
                        return Err(Over::Broken("the coordinator has ended the stream".to_owned()));
                    };
                    heard_at = clock.monotonic();
                    self.hear(heard, shared)?;
                }
                Some(answer) = self.reads.next() => say(&self.says, Said::Response(answer)).await?,
                _ = beats.tick() => {
                    if clock.monotonic().saturating_sub(heard_at) > self.silence {
                        return Err(Over::Broken("the coordinator is silent".to_owned()));
                    }
                    say(&self.says, Said::Heartbeat(wire::Heartbeat {
                        progress_counter: shared.steps(),
                        busy: shared.busy().map(encode::duration),
                        time: Some(encode::timestamp(clock.wall())),
                        replica: shared.at().map(|id| id.to_string()).unwrap_or_default(),
                    })).await?;
                }
                _ = paces.tick() => {
                    if let Some((id, done, total)) = shared.loading() {
                        let replica = wire::ReplicaProgress {
                            replica: id.to_string(),
                            done_bytes: done.0,
                            total_bytes: total.0,
                        };
                        say(&self.says, Said::Progress(wire::Progress { replicas: vec![replica] })).await?;
                    }
                }
            }
        }
    }

    fn hear(&mut self, heard: wire::SessionResponse, shared: &Shared) -> Result<(), Over> {
        match heard.message {
            Some(Heard::Desired(desired)) => {
                let desired = read_desired(desired).map_err(|error| Over::Broken(error.to_string()))?;
                match shared.take(desired, self.epoch) {
                    Ok(_) => {}
                    Err(refused) if refused.is_error() => return Err(Over::Broken(refused.to_string())),
                    Err(overtaken) => info!(%overtaken, "ignored"),
                }
            }
            Some(Heard::Ack(ack)) => self.news.heard(ack.observed, shared),
            Some(Heard::Request(request)) => self.reads.push(Box::pin(answer(ask(request, shared)))),
            Some(Heard::Filled(filled)) => {
                for one in filled.segments {
                    let digest =
                        workers::digest(&one.digest).map_err(|error| Over::Broken(error.to_string()))?;
                    shared.filled(digest, one.path.into(), Bytes(one.bytes));
                }
            }
            Some(Heard::Drain(drain)) => return Err(Over::Drained(drain.reason)),
            Some(Heard::Registered(_)) => {
                return Err(Over::Broken("the coordinator registers twice".to_owned()));
            }
            // Of a later minor version.
            None => warn!("the coordinator says something that this worker does not know"),
        }
        Ok(())
    }
}

async fn say(says: &mpsc::Sender<wire::SessionRequest>, said: Said) -> Result<(), Over> {
    let sent = says.send(wire::SessionRequest { message: Some(said) }).await;
    sent.map_err(|_| Over::Broken("the stream is over".to_owned()))
}

fn register(settings: &SessionSettings, facts: &DeviceFacts, shared: &Shared) -> wire::Register {
    wire::Register {
        version: Some(wire::ProtocolVersion { major: PROTOCOL.0, minor: PROTOCOL.1 }),
        worker_id: settings.worker.to_string(),
        boot_id: settings.boot_id.clone(),
        incarnation: settings.incarnation.to_string(),
        process_id: settings.process_id,
        release: env!("CARGO_PKG_VERSION").to_owned(),
        device: Some(workers::facts(facts)),
        taken: shared.desired().map(|desired| workers::generation(desired.generation)),
    }
}

/// What a failed call means for the worker.
fn refused(failed: &Status) -> Over {
    let message = failed.message().to_owned();
    let failure = Failure::from(failed);
    match FINAL.into_iter().find(|reason| failure.is(*reason)) {
        Some(reason) => Over::Refused { reason, message },
        None => Over::Broken(message),
    }
}

fn read_desired(desired: wire::Desired) -> hoist_domain::Result<Desired> {
    let generation = desired.generation.unwrap_or_default();
    let wanted = |replica: wire::DesiredReplica| {
        Ok(Wanted {
            id: workers::replica_id(&replica.replica)?,
            digest: workers::digest(&replica.digest)?,
            path: replica.path.into(),
            is_sealed: replica.sealed,
            dtype: workers::read_dtype(&replica.dtype)?,
        })
    };
    Ok(Desired {
        generation: workers::read_generation(generation),
        replicas: desired.replicas.into_iter().map(wanted).collect::<hoist_domain::Result<_>>()?,
    })
}

/// What a request waits for.
enum Awaited {
    /// The driver's word.
    Piece(oneshot::Receiver<Option<Piece>>),
    Sums(oneshot::Receiver<Result<Sums, String>>),
    /// Nothing: it is answered.
    Shared(wire::SharedReplica),
    Withdrawn,
}

/// A request, and what comes of it; or what is wrong with it.
type Asked = (String, Result<Awaited, String>);

fn ask(request: wire::Request, shared: &Shared) -> Asked {
    let asked = match request.ask {
        Some(wire::request::Ask::ReadTensor(read)) => read_tensor(read, shared).map(Awaited::Piece),
        Some(wire::request::Ask::ShareReplica(share)) => share_replica(&share, shared).map(Awaited::Shared),
        Some(wire::request::Ask::WithdrawTokens(withdraw)) => {
            let tokens = withdraw.tokens.iter().filter_map(|token| Token::try_from(token.as_slice()).ok());
            tokens.for_each(|token| shared.tokens().withdraw(&token));
            Ok(Awaited::Withdrawn)
        }
        Some(wire::request::Ask::SumReplica(sum)) => workers::replica_id(&sum.replica)
            .map(|id| Awaited::Sums(shared.sum(id)))
            .map_err(|_| "that is no replica's name".to_owned()),
        None => Err("this worker does not know how to do that".to_owned()),
    };
    (request.request_id, asked)
}

fn share_replica(share: &wire::ShareReplica, shared: &Shared) -> Result<wire::SharedReplica, String> {
    let id = workers::replica_id(&share.replica).map_err(|error| error.to_string())?;
    let view = Arc::clone(&shared.views().borrow());
    let replica = view.replicas.get(&id).filter(|one| one.state == ReplicaState::Active);
    let size_bytes = replica.ok_or("it is not there, or not any more")?.own.0;
    let token = Token::try_from(share.token.as_slice()).map_err(|_| "a token has 32 bytes".to_owned())?;
    let socket = shared.tokens().add(token, id, shared.now())?;
    Ok(wire::SharedReplica { socket, size_bytes })
}

fn read_tensor(read: wire::ReadTensor, shared: &Shared) -> Result<oneshot::Receiver<Option<Piece>>, String> {
    let id = workers::replica_id(&read.replica).map_err(|_| "that is no replica's name".to_owned())?;
    let length = if read.length == 0 { MOST_READ } else { read.length.min(MOST_READ) };
    let (reply, replied) = oneshot::channel();
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    shared.read(Read { id, tensor: read.tensor, offset: read.offset, length, reply });
    Ok(replied)
}

async fn answer((request_id, asked): Asked) -> wire::Response {
    use wire::response::Answer;
    let answer = match asked {
        Err(why) => Answer::Error(why),
        Ok(Awaited::Shared(shared)) => Answer::Shared(shared),
        Ok(Awaited::Withdrawn) => Answer::Withdrawn(wire::WithdrawnTokens {}),
        Ok(Awaited::Sums(replied)) => match replied.await {
            Ok(Ok(sums)) => told(sums).map_or_else(Answer::Error, Answer::Sums),
            Ok(Err(why)) => Answer::Error(why),
            Err(_) => Answer::Error(TOO_MANY.to_owned()),
        },
        Ok(Awaited::Piece(replied)) => match replied.await {
            Ok(Some(piece)) => Answer::Tensor(wire::TensorBytes {
                dtype: piece.dtype.to_string(),
                shape: piece.shape,
                size_bytes: piece.size.0,
                data: piece.data,
            }),
            Ok(None) => Answer::Error("there is no such replica, tensor or place".to_owned()),
            Err(_) => Answer::Error(TOO_MANY.to_owned()),
        },
    };
    wire::Response { request_id, answer: Some(answer) }
}

fn told(sums: Sums) -> Result<wire::ReplicaSums, String> {
    if sums.iter().map(|(name, _)| name.len() + 16).sum::<usize>() > MOST_NAMES {
        return Err("it has too many tensors to be told of each".to_owned());
    }
    let told = |(name, sum): (Box<str>, u64)| wire::TensorSum { name: name.into(), sum };
    Ok(wire::ReplicaSums { tensors: sums.into_iter().map(told).collect() })
}
