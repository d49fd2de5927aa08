//! The way to the server: where it is, the connection, and the one wrapper around every unary call.
//!
//! A connection that cannot be made is told apart by its cause, because "nobody has started it" and "it belongs to
//! somebody else" need different answers.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use hoist_runtime::config;
use hoist_wire::longrunning::operations_client::OperationsClient;
use hoist_wire::v1::admin_service_client::AdminServiceClient;
use hoist_wire::v1::cache_service_client::CacheServiceClient;
use hoist_wire::v1::catalog_service_client::CatalogServiceClient;
use hoist_wire::v1::device_service_client::DeviceServiceClient;
use hoist_wire::v1::integrity_service_client::IntegrityServiceClient;
use hoist_wire::v1::lease_service_client::LeaseServiceClient;
use hoist_wire::v1::residency_service_client::ResidencyServiceClient;
use hoist_wire::v1::state_service_client::StateServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::error::{Error, Result};

/// How long a unary call may take unless `--timeout` says otherwise: far above what any of them needs, so that it
/// only ends calls to a server that hangs.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A page of 1,000 operations is about 1 MiB; tonic's default of 4 MiB is too near to long error texts.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// `sun_path` holds 108 bytes with the final zero. A longer path fails to connect with a riddle.
const MAX_SOCKET_PATH: usize = 107;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    Http(http::Uri),
}

impl Endpoint {
    /// The one named on the command line or in HOIST_ENDPOINT, else the default socket.
    pub(crate) fn choose(named: Option<&str>) -> Result<Self> {
        let wrong = |place: &'static str| move |why: String| Error::usage(format!("{place}: {why}"), None);
        if let Some(text) = named {
            return text.parse().map_err(wrong("--endpoint"));
        }
        match config::process_environment().get("HOIST_ENDPOINT").filter(|text| !text.is_empty()) {
            Some(text) => text.parse().map_err(wrong("HOIST_ENDPOINT")),
            None => Ok(Self::Unix(default_socket())),
        }
    }
}

/// Where a server that was started in this environment listens.
fn default_socket() -> PathBuf {
    let environment = config::process_environment();
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("HOIST_SOCKET").unwrap_or_else(|| {
        set("HOIST_RUNTIME_DIR").unwrap_or_else(|| default_dirs().runtime_dir).join("hoist.sock")
    })
}

/// Where a server of this user keeps its things when nobody says otherwise.
pub(crate) fn default_dirs() -> config::DefaultDirs {
    config::default_dirs(&config::process_environment(), config::current_uid())
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` is not an endpoint: {why}");
        if let Some(path) = text.strip_prefix("unix://") {
            return if !path.starts_with('/') {
                Err(wrong("the path after unix:// must begin with /"))
            } else if path.len() > MAX_SOCKET_PATH {
                let length = path.len();
                Err(wrong(&format!(
                    "the path is {length} bytes long; the kernel takes {MAX_SOCKET_PATH} for a socket"
                )))
            } else {
                Ok(Self::Unix(PathBuf::from(path)))
            };
        }
        // How gRPC's own libraries write it.
        if let Some(path) = text.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        if text.starts_with("http://") {
            let uri: http::Uri = text.parse().map_err(|_| wrong("not a URL"))?;
            return match (uri.port_u16(), uri.path()) {
                (Some(_), "/" | "") => Ok(Self::Http(uri)),
                (None, _) => Err(wrong("the port is missing")),
                _ => Err(wrong("nothing may follow the port")),
            };
        }
        Err(wrong("write unix:///path/to/socket or http://host:port"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Http(uri) => write!(f, "http://{}", uri.authority().map_or("", |a| a.as_str())),
        }
    }
}

/// One connection to a server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    channel: Channel,
    timeout: Duration,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody answers, with what to do about it.
    pub(crate) async fn connect(endpoint: &Endpoint, timeout: Duration) -> Result<Self> {
        let connecting = async {
            match endpoint {
                Endpoint::Unix(path) => {
                    let path = path.clone();
                    let connector = tower::service_fn(move |_: http::Uri| {
                        let path = path.clone();
                        async move { UnixStream::connect(path).await.map(TokioIo::new) }
                    });
                    // The name is sent as `:authority` and means nothing on a socket.
                    Channel::from_static("http://localhost").connect_with_connector(connector).await
                }
                Endpoint::Http(uri) => Channel::builder(uri.clone()).connect().await,
            }
        };
        match tokio::time::timeout(timeout, connecting).await {
            Ok(Ok(channel)) => Ok(Self { channel, timeout }),
            Ok(Err(cause)) => Err(unreachable_because(endpoint, &cause)),
            Err(_) => Err(Error::unreachable(
                format!("{endpoint} does not answer"),
                "see whether the server hangs, or name another one with --endpoint",
            )),
        }
    }

    pub(crate) fn state(&self) -> StateServiceClient<Channel> {
        StateServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn integrity(&self) -> IntegrityServiceClient<Channel> {
        IntegrityServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn cache(&self) -> CacheServiceClient<Channel> {
        CacheServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn leases(&self) -> LeaseServiceClient<Channel> {
        LeaseServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn devices(&self) -> DeviceServiceClient<Channel> {
        DeviceServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn residency(&self) -> ResidencyServiceClient<Channel> {
        ResidencyServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn operations(&self) -> OperationsClient<Channel> {
        OperationsClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Makes a unary call, for no longer than `--timeout`. `request_id` is the one inside the request, if any.
    pub(crate) async fn call<T>(
        &self,
        request_id: Option<&str>,
        call: impl Future<Output = std::result::Result<Response<T>, Status>>,
    ) -> Result<T> {
        self.call_within(Duration::ZERO, request_id, call).await
    }

    /// Makes a call that the server was told to hold for up to `held`.
    pub(crate) async fn call_within<T>(
        &self,
        held: Duration,
        request_id: Option<&str>,
        call: impl Future<Output = std::result::Result<Response<T>, Status>>,
    ) -> Result<T> {
        match tokio::time::timeout(held.saturating_add(self.timeout), call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Error::from_status(&status, request_id)),
            Err(_) => Err(Error::timed_out(
                format!("no answer within {}", crate::output::text::span(self.timeout)),
                "allow more with --timeout, or see whether the server hangs",
            )),
        }
    }
}

/// A fresh id for one request.
pub(crate) fn request_id() -> String {
    uuid::Uuid::new_v4().hyphenated().to_string()
}

fn is_something_else(path: &Path) -> bool {
    path.metadata().is_ok_and(|facts| !facts.file_type().is_socket())
}

fn unreachable_because(endpoint: &Endpoint, cause: &tonic::transport::Error) -> Error {
    let mut deepest: &(dyn std::error::Error + 'static) = cause;
    let mut kind = None;
    loop {
        kind = kind.or_else(|| deepest.downcast_ref::<io::Error>().map(io::Error::kind));
        match deepest.source() {
            Some(source) => deepest = source,
            None => break,
        }
    }
    let start = "start one with `hoist serve`, or name another one with --endpoint or HOIST_ENDPOINT";
    match (endpoint, kind) {
        (Endpoint::Unix(path), _) if is_something_else(path) => Error::unreachable(
            format!("no server: {} is not a socket", path.display()),
            "name the socket of a server with --endpoint or HOIST_ENDPOINT, or start one with `hoist serve`",
        ),
        (Endpoint::Unix(path), Some(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)) => {
            Error::unreachable(format!("no server: there is no socket {}", path.display()), start)
        }
        (_, Some(io::ErrorKind::ConnectionRefused)) => {
            Error::unreachable(format!("no server: nobody listens at {endpoint}"), start)
        }
        (_, Some(io::ErrorKind::PermissionDenied)) => Error::unreachable(
            format!("the server's socket is not open to you: {endpoint}"),
            "run as the user that runs the server",
        ),
        _ => Error::unreachable(format!("cannot connect to {endpoint}: {deepest}"), start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_socket_or_a_host_and_port() {
        for text in ["unix:///run/hoist/hoist.sock", "http://127.0.0.1:7777", "http://[::1]:80"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert!("http://localhost:1/".parse::<Endpoint>().is_ok());
        assert_eq!("unix:/run/x".parse(), Ok(Endpoint::Unix("/run/x".into())));
        for text in [
            "",
            "hoist.sock",
            "unix:hoist.sock",
            "unix://hoist.sock",
            "http://localhost",
            "https://x:1",
            "http://x:1/y",
            "http://",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
        let path = |bytes: usize| format!("unix:///{}", "x".repeat(bytes - 1)).parse::<Endpoint>();
        assert!(path(107).is_ok());
        assert!(path(108).unwrap_err().contains("108 bytes long"));
    }
}
