//! StateService.

use std::time::Duration;

use hoist_domain::{Error, Reason, ResourceName, Result};
use hoist_planner::Resource;
use hoist_wire::mask::Mask;
use hoist_wire::server::v1::state_service_server::StateService;
use hoist_wire::{decode, encode, status, v1};
use prost::Message;
use tonic::{Request, Response, Status};

use super::Api;
use super::call::{Call, answer};
use super::watch_body::{self, NoMessages};
use crate::control::{View, resource};
use crate::watch::WatchSpec;

const MARK_DEFAULT: Duration = Duration::from_secs(10);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

#[tonic::async_trait]
impl StateService for Api {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        let result = (|| {
            let mask = status_mask(call.message.field_mask.as_ref())?;
            let status = self.status(&self.control.view(), &call.message.name, mask.as_ref())?;
            Ok(v1::GetStatusResponse { request_id: call.id.to_string(), status: Some(status) })
        })();
        answer(call.id, result)
    }

    async fn batch_get_status(
        &self,
        request: Request<v1::BatchGetStatusRequest>,
    ) -> Result<Response<v1::BatchGetStatusResponse>, Status> {
        use v1::status_result::Result as One;
        let call = Call::open(request, |m| &m.request_id)?;
        let names = &call.message.names;
        let result = (|| {
            let mask = status_mask(call.message.field_mask.as_ref())?;
            if names.len() > decode::MAX_NAMES {
                let limit = decode::MAX_NAMES;
                return Err(Error::invalid_field(
                    "names",
                    format!("has {} names, at most {limit}", names.len()),
                ));
            }
            let view = self.control.view();
            let results = names.iter().map(|name| {
                let one = match self.status(&view, name, mask.as_ref()) {
                    Ok(status) => One::Status(status),
                    Err(error) => One::Error(status::to_proto(&error)),
                };
                v1::StatusResult { result: Some(one) }
            });
            Ok(v1::BatchGetStatusResponse { request_id: call.id.to_string(), results: results.collect() })
        })();
        answer(call.id, result)
    }

    async fn get_sync_health(
        &self,
        request: Request<v1::GetSyncHealthRequest>,
    ) -> Result<Response<v1::GetSyncHealthResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.sync_health(&call).await)
    }

    async fn diagnose_sync(
        &self,
        request: Request<v1::DiagnoseSyncRequest>,
    ) -> Result<Response<v1::DiagnoseSyncResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.sync_diagnosis(&call).await)
    }

    async fn reset_sync(
        &self,
        request: Request<v1::ResetSyncRequest>,
    ) -> Result<Response<v1::ResetSyncResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.sync_reset(&call).await)
    }

    async fn configure_sync(
        &self,
        request: Request<v1::ConfigureSyncRequest>,
    ) -> Result<Response<v1::ConfigureSyncResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.sync_configure(&call).await)
    }

    type WatchStream = NoMessages;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        let opened = watch_spec(&call.message).and_then(|spec| self.watcher.open(spec));
        answer(call.id, opened).map(watch_body::carrying)
    }
}

fn watch_spec(request: &v1::WatchRequest) -> Result<WatchSpec> {
    let interval =
        |field, value| decode::bounded_duration(field, value, SHORTEST_INTERVAL..=LONGEST_INTERVAL);
    Ok(WatchSpec {
        from: request.from.map(decode::position),
        filter: decode::filter(request.filter.as_ref())?,
        mark_interval: interval("mark_interval", request.mark_interval.as_ref())?.unwrap_or(MARK_DEFAULT),
        progress_interval: interval("progress_interval", request.progress_interval.as_ref())?,
    })
}

fn status_mask(mask: Option<&prost_types::FieldMask>) -> Result<Option<Mask>> {
    mask.map(|mask| Mask::parse("hoist.api.v1.Status", "field_mask", &mask.paths)).transpose()
}

impl Api {
    fn status(&self, view: &View, name: &str, mask: Option<&Mask>) -> Result<v1::Status> {
        let name: ResourceName = if name.is_empty() { ResourceName::Machine } else { name.parse()? };
        let record = view.state.record(name).ok_or_else(|| {
            let message = format!("{name} does not exist, or does not hold; list what exists");
            Error::new(Reason::ResourceNotFound, message).with("name", name)
        })?;
        let mut shown = resource(&record);
        if let (Some(v1::resource::Value::Operation(shown)), Resource::Operation(operation)) =
            (&mut shown.value, &record.resource)
        {
            shown.progress = self.progress(operation).as_ref().map(encode::progress);
        }
        let status = v1::Status {
            name: shown.name.clone(),
            position: Some(encode::position(view.state.position())),
            resource: Some(shown),
            machine: (name == ResourceName::Machine).then(|| self.machine_status(view)),
            model: match &record.resource {
                Resource::Model(model) => Some(self.model_status(view, model)),
                _ => None,
            },
        };
        Ok(match mask {
            None => status,
            // What was encoded here decodes here.
            Some(mask) => {
                v1::Status::decode(mask.apply(&status.encode_to_vec()).as_slice()).unwrap_or(status)
            }
        })
    }
}
