//! Accept loops: one a socket, for as long as the server lives.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::Principal;
use hoist_runtime::OnError;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, warn};

use super::authority::LenientAuthority;
use super::connection::{Keepalive, serve};
use super::connections::{Peer, Via};
use super::{Listener, SocketFile};
use crate::api::Calls;

/// Out of descriptors or memory, accepting again at once fails again at once, at the price of a core.
const BACK_OFF: std::ops::RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(1);

/// How long the end of a connection that makes room may take.
const MAKING_ROOM: Duration = Duration::from_millis(200);

/// How often the socket's name is looked at. Cleaners of temporary directories take it away, and nobody can connect.
const LOOK: Duration = Duration::from_secs(1);

/// The places a connection takes: among all, and among those for TCP. In the order in which they are given back:
/// whoever waits for one among those for TCP finds one among all.
type Places = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

impl Listener {
    /// Serves the Unix socket until the server closes, and takes its name away then.
    pub async fn serve_unix(self, mut socket: UnixListener, mut name: SocketFile) -> Result<(), Infallible> {
        // The name goes while the store is still locked: nobody else can have bound it meanwhile.
        let hold = self.open.hold("unix socket");
        let mut back_off = BackOff::default();
        let mut looks = tokio::time::interval(LOOK);
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                _ = looks.tick() => {
                    if let Some(again) = name.restore() {
                        socket = again;
                    }
                    continue;
                }
                () = self.closing.triggered() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    back_off.wait("unix", &error).await;
                    continue;
                }
            };
            back_off = BackOff::default();
            // The kernel's word on who connected. Without it the peer is nobody in particular.
            let Ok(credentials) = stream.peer_cred() else { continue };
            let Some(place) = self.place(&self.places, Via::Unix).await else {
                debug!("connection closed: no place left");
                continue;
            };
            let principal = Principal::Uid(credentials.uid());
            let process = credentials.pid().and_then(|id| u32::try_from(id).ok());
            self.start(LenientAuthority::new(stream), (principal, process), (place, None), Via::Unix);
        }
        name.remove();
        drop(hold);
        Ok(())
    }

    /// Serves loopback TCP until the server closes.
    pub async fn serve_tcp(self, socket: TcpListener) -> Result<(), Infallible> {
        let mut back_off = BackOff::default();
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = self.closing.triggered() => return Ok(()),
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    back_off.wait("tcp", &error).await;
                    continue;
                }
            };
            back_off = BackOff::default();
            let Some(places) = self.tcp_places().await else {
                debug!("connection closed: no place left for TCP");
                continue;
            };
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "connection closed: it ended before it began");
                continue;
            }
            self.start(stream, (Principal::Loopback, None), places, Via::Tcp);
        }
    }

    async fn tcp_places(&self) -> Option<Places> {
        let tcp = self.place(&self.tcp_places, Via::Tcp).await?;
        Some((self.place(&self.places, Via::Tcp).await?, Some(tcp)))
    }

    /// One of these places. Where there is none, the connection that has been idle for the longest gives its own up.
    async fn place(&self, places: &Arc<Semaphore>, wanted_by: Via) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Some(place);
        }
        if !self.connections.make_room(wanted_by) {
            return None;
        }
        tokio::time::timeout(MAKING_ROOM, Arc::clone(places).acquire_owned()).await.ok()?.ok()
    }

    /// `peer` is who it is, and its process where the kernel says.
    fn start<S>(&self, stream: S, peer: (Principal, Option<u32>), places: Places, via: Via)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let keepalive = (via == Via::Tcp).then_some(Keepalive {
            interval: self.limits.keepalive_interval,
            timeout: self.limits.keepalive_timeout,
        });
        let (listener, hold) = (self.clone(), self.open.hold("connection"));
        let (principal, process) = peer;
        let peer = Peer::new(via, Calls::new(self.clock.clone(), process));
        let entry = self.connections.enter(peer.clone());
        self.tasks.spawn("connection", OnError::Log, async move {
            let Listener { guard, limits, closing, .. } = &listener;
            serve(stream, principal, guard, limits, keepalive, &peer, closing).await;
            drop((entry, places, hold));
            Ok::<(), Infallible>(())
        });
    }
}

#[derive(Default)]
struct BackOff(Option<Duration>);

impl BackOff {
    async fn wait(&mut self, socket: &'static str, error: &io::Error) {
        let delay = self.0.map_or(*BACK_OFF.start(), |last| (last * 2).min(*BACK_OFF.end()));
        // Once when it begins: a line for each failure would fill the disk as well.
        if self.0.is_none() {
            warn!(socket, %error, "cannot accept connections; trying again with growing delay");
        }
        self.0 = Some(delay);
        tokio::time::sleep(delay).await;
    }
}
