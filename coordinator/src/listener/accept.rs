//! Accept loops: one a socket, for as long as the server lives.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::Principal;
use hoist_runtime::OnError;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, warn};

use super::Listener;
use super::authority::LenientAuthority;
use super::connection::{Keepalive, serve};

/// Out of descriptors or memory, accepting again at once fails again at once, at the price of a core.
const BACK_OFF: std::ops::RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(1);

/// The places a connection takes: among all, and among those for TCP.
type Places = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

impl Listener {
    /// Serves the Unix socket until the server drains.
    pub async fn serve_unix(self, socket: UnixListener) -> Result<(), Infallible> {
        let mut back_off = BackOff::default();
        while let Some(accepted) = self.accept(socket.accept()).await {
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
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                debug!("connection closed: no place left");
                continue;
            };
            self.start(LenientAuthority::new(stream), Principal::Uid(credentials.uid()), (place, None), None);
        }
        Ok(())
    }

    /// Serves loopback TCP until the server drains.
    pub async fn serve_tcp(self, socket: TcpListener) -> Result<(), Infallible> {
        let mut back_off = BackOff::default();
        while let Some(accepted) = self.accept(socket.accept()).await {
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    back_off.wait("tcp", &error).await;
                    continue;
                }
            };
            back_off = BackOff::default();
            let places = Arc::clone(&self.tcp_places)
                .try_acquire_owned()
                .and_then(|tcp| Ok((Arc::clone(&self.places).try_acquire_owned()?, Some(tcp))));
            let Ok(places) = places else {
                debug!("connection closed: no place left for TCP");
                continue;
            };
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "connection closed: it ended before it began");
                continue;
            }
            let keepalive = Keepalive {
                interval: self.limits.keepalive_interval,
                timeout: self.limits.keepalive_timeout,
            };
            self.start(stream, Principal::Loopback, places, Some(keepalive));
        }
        Ok(())
    }

    /// `None` once the server drains.
    async fn accept<T>(&self, next: impl Future<Output = io::Result<T>>) -> Option<io::Result<T>> {
        tokio::select! {
            accepted = next => Some(accepted),
            () = self.draining.triggered() => None,
        }
    }

    fn start<S>(&self, stream: S, principal: Principal, places: Places, keepalive: Option<Keepalive>)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (listener, hold) = (self.clone(), self.open.hold("connection"));
        self.tasks.spawn("connection", OnError::Log, async move {
            serve(stream, principal, &listener.guard, &listener.limits, keepalive, &listener.draining).await;
            drop((places, hold));
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
