//! What a worker is asked beside what is desired: a question on its stream, and the answer to it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hoist_domain::{DeviceId, Error, Reason, ReplicaId, Result};
use hoist_runtime::OnError;
use hoist_wire::worker::request::Ask;
use hoist_wire::worker::response::Answer;
use hoist_wire::worker::{self as wire, session_response::Message as Told};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::Fleet;

/// Questions that a worker has not answered; who asks more is told so.
const MOST_OPEN: usize = 1_024;

/// A worker that is at a long load answers after it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that is on a device is summed up in less, also by reading it back.
const SUMMING: Duration = Duration::from_secs(10 * 60);

/// A question, and who asks.
#[derive(Debug)]
pub(super) struct Question {
    ask: Ask,
    reply: oneshot::Sender<Answer>,
}

pub(super) type Asks = mpsc::Sender<Question>;

/// How questions come to a stream.
pub(super) fn questions() -> (Asks, mpsc::Receiver<Question>) {
    mpsc::channel(16)
}

/// The questions of one stream that are not answered.
#[derive(Debug, Default)]
pub(super) struct Open(HashMap<String, oneshot::Sender<Answer>>);

impl Open {
    /// What to tell the worker. None: it has too many already.
    pub(super) fn ask(&mut self, question: Question) -> Option<Told> {
        // Who asked has gone.
        self.0.retain(|_, reply| !reply.is_closed());
        if self.0.len() >= MOST_OPEN {
            return None;
        }
        let request_id = Uuid::new_v4().to_string();
        self.0.insert(request_id.clone(), question.reply);
        Some(Told::Request(wire::Request { request_id, ask: Some(question.ask) }))
    }

    pub(super) fn answered(&mut self, response: wire::Response) {
        // One that nobody waits for any more is no lie.
        if let (Some(reply), Some(answer)) = (self.0.remove(&response.request_id), response.answer) {
            let _ = reply.send(answer);
        }
    }
}

/// What another process says at a worker's own socket.
pub type ShareToken = [u8; 32];

/// One that nobody can guess.
#[must_use]
pub fn fresh_token() -> ShareToken {
    let mut token = [0; 32];
    let random = Uuid::new_v4().into_bytes().into_iter().chain(Uuid::new_v4().into_bytes());
    token.iter_mut().zip(random).for_each(|(place, byte)| *place = byte);
    token
}

fn other() -> Error {
    Error::new(Reason::Internal, "the worker answers something else")
}

impl Fleet {
    /// Has a worker hand a replica's memory to whoever says a token. The answer: where, and how much it is.
    ///
    /// # Errors
    /// WORKER_LOST; DEVICE_FAILED with the worker's words when it cannot.
    pub async fn share(
        &self,
        device: DeviceId,
        replica: ReplicaId,
        token: ShareToken,
    ) -> Result<wire::SharedReplica> {
        let share = wire::ShareReplica { replica: replica.to_string(), token: token.to_vec() };
        match self.ask(device, Ask::ShareReplica(share), PATIENCE).await? {
            Answer::Shared(shared) => Ok(shared),
            Answer::Error(why) => {
                let message = format!("{device} does not hand out its memory: {why}");
                Err(Error::new(Reason::DeviceFailed, message).with("device", device))
            }
            Answer::Tensor(_) | Answer::Sums(_) | Answer::Withdrawn(_) => Err(other()),
        }
    }

    /// Takes back tokens that nobody may say any more. Whether a worker hears of it is no matter: they are good for a minute.
    pub fn withdraw(&self, device: DeviceId, tokens: &[ShareToken]) {
        let tokens = tokens.iter().map(|token| token.to_vec()).collect();
        let ask = Ask::WithdrawTokens(wire::WithdrawTokens { tokens });
        let fleet = self.clone();
        self.0.tasks.spawn("withdraw tokens", OnError::Log, async move {
            let _ = fleet.ask(device, ask, PATIENCE).await;
            Ok::<(), std::convert::Infallible>(())
        });
    }

    fn asks(&self, device: DeviceId) -> Option<Asks> {
        let view = self.0.control.view();
        let session = view.state.devices().get(device).map(|device| device.worker.session)?;
        self.0.sessions.get(&session).map(|ends| ends.asks.clone())
    }

    /// The sums of a replica's tensors, as its worker finds them on the device.
    ///
    /// # Errors
    /// WORKER_LOST; DEVICE_FAILED with the worker's words when it cannot.
    pub async fn sums(&self, device: DeviceId, replica: ReplicaId) -> Result<BTreeMap<String, u64>> {
        let ask = Ask::SumReplica(wire::SumReplica { replica: replica.to_string() });
        match self.ask(device, ask, SUMMING).await? {
            Answer::Sums(sums) => Ok(sums.tensors.into_iter().map(|one| (one.name, one.sum)).collect()),
            Answer::Error(why) => {
                let message = format!("{device} does not say what it has: {why}");
                Err(Error::new(Reason::DeviceFailed, message).with("device", device))
            }
            Answer::Tensor(_) | Answer::Shared(_) | Answer::Withdrawn(_) => Err(other()),
        }
    }

    async fn ask(&self, device: DeviceId, ask: Ask, patience: Duration) -> Result<Answer> {
        let gone = || {
            let message = format!("the worker of {device} does not answer; try again");
            Error::new(Reason::WorkerLost, message).with("device", device)
        };
        let asks = self.asks(device);
        let (reply, replied) = oneshot::channel();
        let asked = async {
            asks?.send(Question { ask, reply }).await.ok()?;
            replied.await.ok()
        };
        tokio::time::timeout(patience, asked).await.ok().flatten().ok_or_else(gone)
    }
}
