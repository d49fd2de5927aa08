//! The gRPC edge: decode, submit, encode.
//!
//! Handlers hold no state and make no decision; what they may do for whom stands in [`policy`], which is applied
//! before any of them runs. Reads come from the published view and never wait for the owner.

mod acquiring;
mod acquiring_on;
mod admin;
mod all_models;
mod answer;
mod arrival;
mod base_words;
mod cache;
mod cache_policy;
mod call;
mod catalog;
mod devices;
mod estimating;
mod guard;
mod holding;
mod integrity;
mod leases;
mod malformed;
mod model_details;
mod open_call;
mod operation_filter;
mod operations;
mod page;
mod policy;
mod residency;
mod state;
mod status;
mod submit;
mod sync;
mod verifying;
mod watch_body;

use std::sync::Arc;
use std::time::Duration;

use hoist_runtime::config::Entry;
use hoist_runtime::{Clock, Shutdown, Tasks};
use hoist_wire::server::longrunning::operations_server::OperationsServer;
use hoist_wire::server::v1::admin_service_server::AdminServiceServer;
use hoist_wire::server::v1::cache_service_server::CacheServiceServer;
use hoist_wire::server::v1::catalog_service_server::CatalogServiceServer;
use hoist_wire::server::v1::device_service_server::DeviceServiceServer;
use hoist_wire::server::v1::integrity_service_server::IntegrityServiceServer;
use hoist_wire::server::v1::lease_service_server::LeaseServiceServer;
use hoist_wire::server::v1::residency_service_server::ResidencyServiceServer;
use hoist_wire::server::v1::state_service_server::StateServiceServer;
use hoist_wire::server::worker::worker_service_server::WorkerServiceServer;
use tokio::sync::{Semaphore, watch};
use tonic::service::{LayerExt, Routes};
use tonic_health::server::HealthReporter;
use tower::util::MapResponseLayer;

use crate::cache::Cache;
use crate::catalog::Catalog;
use crate::control::Control;
use crate::fleet::Fleet;
use crate::operations::{ProgressBoard, Waiters};
use crate::residency::Loader;
use crate::residency::sync::SyncHealth;
use crate::watch::Watcher;

pub use guard::Guard;
pub use open_call::Calls;

/// What handlers work with. Cloning is a few reference counts.
#[derive(Clone, Debug)]
pub struct Api(Arc<Parts>);

#[derive(Debug)]
pub struct Parts {
    pub control: Control,
    pub watcher: Watcher,
    pub board: ProgressBoard,
    pub waiters: Waiters,
    pub catalog: Catalog,
    pub cache: Cache,
    pub fleet: Fleet,
    pub loader: Loader,
    pub sync: SyncHealth,
    /// Ends what lasts.
    pub draining: Shutdown,
    pub tasks: Tasks,
    pub clock: Clock,
    /// Monotonic time of the start.
    pub started: Duration,
    pub request_ids_limit: usize,
    pub config: Vec<Entry>,
    pub stop: StopRequest,
    /// Turns of reads that go through all models.
    pub over_all_turns: Arc<Semaphore>,
    /// Turns of verifications, each of which reads segments as fast as memory is.
    pub verify_turns: Arc<Semaphore>,
}

/// How somebody asked the server to stop.
#[derive(Clone, Debug)]
pub struct StopRequest {
    pub shutdown: Shutdown,
    /// The shortest grace period that a request has named.
    pub grace: Arc<watch::Sender<Option<Duration>>>,
}

impl Api {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Every service, health and reflection included.
    ///
    /// # Errors
    /// When the descriptors, which our own build made, cannot be read.
    pub fn routes(&self) -> Result<(Routes, HealthReporter), tonic_reflection::server::Error> {
        let (reporter, health) = tonic_health::server::health_reporter();
        let reflect = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(hoist_wire::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // What stands in the details of an error.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let state = MapResponseLayer::new(watch_body::in_place as fn(_) -> _)
            .named_layer(StateServiceServer::new(self.clone()));
        let routes = Routes::new(state)
            .add_service(AdminServiceServer::new(self.clone()))
            .add_service(CatalogServiceServer::new(self.clone()))
            .add_service(IntegrityServiceServer::new(self.clone()))
            .add_service(CacheServiceServer::new(self.clone()))
            .add_service(LeaseServiceServer::new(self.clone()))
            .add_service(DeviceServiceServer::new(self.clone()))
            .add_service(ResidencyServiceServer::new(self.clone()))
            .add_service(WorkerServiceServer::new(self.clone()))
            .add_service(OperationsServer::new(self.clone()))
            .add_service(health)
            .add_service(reflect().build_v1()?)
            // grpcurl before 1.9 and other older tools ask for the alpha.
            .add_service(reflect().build_v1alpha()?);
        Ok((routes.prepare(), reporter))
    }
}

impl std::ops::Deref for Api {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
