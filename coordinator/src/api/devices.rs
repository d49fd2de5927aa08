//! DeviceService, and the door for workers.

use std::pin::Pin;

use hoist_domain::{ContentHash, DeviceId, Error, Reason, Result};
use hoist_wire::server::v1::device_service_server::DeviceService;
use hoist_wire::server::worker::worker_service_server::WorkerService;
use hoist_wire::{encode, v1, worker, workers};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Api;
use super::call::{Call, Caller, answer};
use super::submit::message_hash;
use crate::fleet::Session;

/// Messages to a worker that it has not read. What finds no room is made good by a later one: nobody waits for it.
const TO_WORKER: usize = 8;

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

    async fn cordon_device(
        &self,
        request: Request<v1::CordonDeviceRequest>,
    ) -> Result<Response<v1::CordonDeviceResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        let m = &call.message;
        let content = message_hash(&v1::CordonDeviceRequest { request_id: String::new(), ..m.clone() });
        let device = self.cordon(&call, content, &m.name, Some(m.reason.clone())).await;
        let request_id = call.id.to_string();
        answer(call.id, device.map(|device| v1::CordonDeviceResponse { request_id, device }))
    }

    async fn uncordon_device(
        &self,
        request: Request<v1::UncordonDeviceRequest>,
    ) -> Result<Response<v1::UncordonDeviceResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        let m = &call.message;
        let content = message_hash(&v1::UncordonDeviceRequest { request_id: String::new(), ..m.clone() });
        let device = self.cordon(&call, content, &m.name, None).await;
        let request_id = call.id.to_string();
        answer(call.id, device.map(|device| v1::UncordonDeviceResponse { request_id, device }))
    }
}

/// The longest reason.
const MOST_REASON: usize = 256;

impl Api {
    async fn cordon<T: Sync>(
        &self,
        call: &Call<T>,
        content: ContentHash,
        name: &str,
        reason: Option<String>,
    ) -> Result<Option<v1::Device>> {
        let id = hoist_wire::residency::read_device("name", name)?;
        let id = id.ok_or_else(|| Error::invalid_field("name", "is not set: name a device, cpu:0"))?;
        if let Some(reason) = &reason
            && (reason.len() > MOST_REASON || reason.chars().any(char::is_control))
        {
            let message = format!("is one line of at most {MOST_REASON} bytes");
            return Err(Error::invalid_field("reason", message));
        }
        let is_forgiven = reason.is_none();
        self.control.cordon(call.key(), content, id, reason).await?;
        if is_forgiven {
            self.fleet.start_again(id);
        }
        let view = self.control.view();
        Ok(view.state.devices().get(id).map(|device| workers::device(device)))
    }

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
