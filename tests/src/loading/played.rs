//! A worker that a test plays, word by word, on a stream of its own.

use anyhow::Result;
use hoist_wire::worker::session_request::Message as Said;
use hoist_wire::worker::session_response::Message as Told;
use hoist_wire::{worker as wire, workers};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::Channels;
use crate::library::PATIENCE;

/// The worker. Its process is the test; it sends no heartbeats, which is forgiven for some seconds.
#[derive(Debug)]
pub struct Played {
    says: mpsc::Sender<wire::SessionRequest>,
    hears: Streaming<wire::SessionResponse>,
    sequence: u64,
    pub memory: wire::DeviceMemory,
}

impl Played {
    /// Registers, and is taken.
    ///
    /// # Errors
    /// As the server refuses.
    pub async fn register(at: &Channels, device: &str, incarnation: Uuid) -> Result<Self, Status> {
        let (says, said) = mpsc::channel(16);
        let register = wire::Register {
            version: Some(wire::ProtocolVersion { major: workers::PROTOCOL.0, minor: workers::PROTOCOL.1 }),
            worker_id: Uuid::from_u128(7).to_string(),
            boot_id: Uuid::nil().to_string(),
            incarnation: incarnation.to_string(),
            process_id: 1,
            release: "a test".to_owned(),
            device: Some(wire::DeviceFacts {
                device_id: device.to_owned(),
                capacity_bytes: 1 << 30,
                ..Default::default()
            }),
            taken: None,
        };
        let first = wire::SessionRequest { message: Some(Said::Register(register)) };
        says.send(first).await.map_err(|_| Status::internal("nobody listens"))?;
        let hears = at.workers().session(ReceiverStream::new(said)).await?.into_inner();
        let memory = wire::DeviceMemory { free_bytes: 1 << 30, ..Default::default() };
        let mut played = Self { says, hears, sequence: 0, memory };
        match played.hear().await? {
            Told::Registered(_) => Ok(played),
            other => Err(Status::internal(format!("not `registered`: {other:?}"))),
        }
    }

    /// The next word.
    ///
    /// # Errors
    /// How the stream ended.
    pub async fn hear(&mut self) -> Result<Told, Status> {
        let told = tokio::time::timeout(PATIENCE, self.hears.message()).await;
        let told = told.map_err(|_| Status::deadline_exceeded("not a word"))??;
        told.and_then(|told| told.message).ok_or_else(|| Status::internal("it ended without a status"))
    }

    /// Tells of these replicas, and of these that are gone: everything at first, then what has changed.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn tell(
        &mut self,
        replicas: &[wire::ObservedReplica],
        removed: &[wire::RemovedReplica],
        answers: Option<wire::Generation>,
    ) -> Result<()> {
        self.sequence += 1;
        let observed = wire::Observed {
            sequence: self.sequence,
            full: self.sequence == 1,
            answers,
            replicas: replicas.to_vec(),
            removed: removed.to_vec(),
            memory: Some(self.memory),
            problem: String::new(),
        };
        let message = wire::SessionRequest { message: Some(Said::Observed(observed)) };
        self.says.send(message).await.map_err(|_| anyhow::anyhow!("nobody listens"))
    }

    /// What shall be there, once that is so.
    ///
    /// # Errors
    /// How the stream ended before.
    pub async fn desired(&mut self, is_it: impl Fn(&wire::Desired) -> bool) -> Result<wire::Desired, Status> {
        loop {
            match self.hear().await? {
                Told::Desired(desired) if is_it(&desired) => return Ok(desired),
                _ => {}
            }
        }
    }

    /// How the server ends it.
    ///
    /// # Errors
    /// When it goes on.
    pub async fn over(mut self) -> Result<Status> {
        loop {
            match self.hear().await {
                Ok(Told::Ack(_) | Told::Desired(_)) => {}
                Ok(other) => anyhow::bail!("it goes on: {other:?}"),
                Err(status) => return Ok(status),
            }
        }
    }
}
