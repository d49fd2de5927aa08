//! DeviceService, and the door for workers.

use std::pin::Pin;

use hoist_domain::{DeviceId, Error, Reason, Result};
use hoist_wire::server::v1::device_service_server::DeviceService;
use hoist_wire::server::worker::worker_service_server::WorkerService;
use hoist_wire::{encode, v1, worker, workers};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Api;
use super::call::{Call, Caller, answer};
use crate::fleet::Session;

/// Messages to a worker that it has not read. Of what is desired only the newest counts, so few are ever there.
const TO_WORKER: usize = 64;

#[tonic::async_trait]
impl DeviceService for Api {
    async fn list_devices(
        &self,
        request: Request<v1::ListDevicesRequest>,
    ) -> Result<Response<v1::ListDevicesResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        let view = self.control.view();
        let devices = view.state.devices().iter().map(|device| workers::device(device));
        answer(
            call.id,
            Ok(v1::ListDevicesResponse {
                request_id: call.id.to_string(),
                devices: devices.collect(),
                position: Some(encode::position(view.state.position())),
            }),
        )
    }

    async fn get_device(
        &self,
        request: Request<v1::GetDeviceRequest>,
    ) -> Result<Response<v1::GetDeviceResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.device(&call))
    }
}

impl Api {
    fn device(&self, call: &Call<v1::GetDeviceRequest>) -> Result<v1::GetDeviceResponse> {
        let name = &call.message.name;
        let id: DeviceId = name.strip_prefix("devices/").unwrap_or(name).parse()?;
        let view = self.control.view();
        let device = view.state.devices().get(id).ok_or_else(|| {
            Error::new(Reason::ResourceNotFound, format!("no worker was heard of for {id}"))
                .with("device", id)
        })?;
        Ok(v1::GetDeviceResponse {
            request_id: call.id.to_string(),
            device: Some(workers::device(device)),
            position: Some(encode::position(view.state.position())),
        })
    }
}

type Told = Pin<Box<dyn Stream<Item = Result<worker::SessionResponse, Status>> + Send>>;

#[tonic::async_trait]
impl WorkerService for Api {
    type SessionStream = Told;

    async fn session(
        &self,
        request: Request<Streaming<worker::SessionRequest>>,
    ) -> Result<Response<Told>, Status> {
        let caller = Caller::of(&request)?;
        let (tells, told) = mpsc::channel(TO_WORKER);
        Session::begin(self.fleet.clone(), caller.process, request.into_inner(), tells);
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }
}
