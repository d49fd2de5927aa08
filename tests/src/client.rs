//! Plain generated clients over the Unix socket or TCP.

use std::path::{Path, PathBuf};

use hoist_wire::longrunning::operations_client::OperationsClient;
use hoist_wire::v1::admin_service_client::AdminServiceClient;
use hoist_wire::v1::cache_service_client::CacheServiceClient;
use hoist_wire::v1::catalog_service_client::CatalogServiceClient;
use hoist_wire::v1::device_service_client::DeviceServiceClient;
use hoist_wire::v1::integrity_service_client::IntegrityServiceClient;
use hoist_wire::v1::lease_service_client::LeaseServiceClient;
use hoist_wire::v1::state_service_client::StateServiceClient;
use hoist_wire::worker::worker_service_client::WorkerServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// One connection, and a client of each service on it.
#[derive(Clone, Debug)]
pub struct Channels {
    pub channel: Channel,
}

impl Channels {
    #[must_use]
    pub fn state(&self) -> StateServiceClient<Channel> {
        StateServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn cache(&self) -> CacheServiceClient<Channel> {
        CacheServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn leases(&self) -> LeaseServiceClient<Channel> {
        LeaseServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn devices(&self) -> DeviceServiceClient<Channel> {
        DeviceServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn integrity(&self) -> IntegrityServiceClient<Channel> {
        IntegrityServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn operations(&self) -> OperationsClient<Channel> {
        OperationsClient::new(self.channel.clone())
    }

    /// Over TCP.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn tcp(address: &str) -> anyhow::Result<Self> {
        Ok(Self { channel: Endpoint::try_from(format!("http://{address}"))?.connect().await? })
    }
}

/// A connection of its own over the Unix socket.
///
/// # Errors
/// When nobody listens there.
pub async fn connect(socket: &Path) -> anyhow::Result<Channels> {
    connect_as(Endpoint::from_static("http://localhost"), socket).await
}

/// The same, with a client set up by the caller.
///
/// # Errors
/// As [`connect`].
pub async fn connect_as(endpoint: Endpoint, socket: &Path) -> anyhow::Result<Channels> {
    let socket: PathBuf = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    });
    Ok(Channels { channel: endpoint.connect_with_connector(connector).await? })
}

/// A fresh request id.
#[must_use]
pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
