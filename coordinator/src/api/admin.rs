//! AdminService.

use std::time::Duration;

use hoist_domain::{ProbeSpec, Reason, Result, Work};
use hoist_runtime::config::Origin;
use hoist_wire::server::v1::admin_service_server::AdminService;
use hoist_wire::{decode, longrunning, v1};
use tonic::{Request, Response, Status};
use tracing::info;

use super::Api;
use super::call::{Call, answer, content_hash};
use super::submit::Terms;
use crate::settings::MAX_GRACE;

#[tonic::async_trait]
impl AdminService for Api {
    async fn get_config(
        &self,
        request: Request<v1::GetConfigRequest>,
    ) -> Result<Response<v1::GetConfigResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        let entries = self.config.iter().map(config_entry).collect();
        answer(call.id, Ok(v1::GetConfigResponse { request_id: call.id.to_string(), entries }))
    }

    async fn shutdown(
        &self,
        request: Request<v1::ShutdownRequest>,
    ) -> Result<Response<v1::ShutdownResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.stop_server(&call).await)
    }

    async fn probe_machine(
        &self,
        request: Request<v1::ProbeMachineRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.probe(&call).await)
    }
}

fn config_entry(entry: &hoist_runtime::config::Entry) -> v1::ConfigEntry {
    use v1::config_entry::Origin as Wire;
    let (origin, origin_detail) = match entry.origin {
        Origin::Default => (Wire::Default, String::new()),
        Origin::File => (Wire::File, entry.origin_detail.clone()),
        Origin::Environment => (Wire::Environment, entry.origin_detail.clone()),
        Origin::Flag => (Wire::Flag, entry.origin_detail.clone()),
    };
    v1::ConfigEntry {
        key: entry.key.to_owned(),
        value: entry.value.clone(),
        origin: origin.into(),
        origin_detail,
        description: entry.description.to_owned(),
    }
}

impl Api {
    async fn stop_server(&self, call: &Call<v1::ShutdownRequest>) -> Result<v1::ShutdownResponse> {
        let grace =
            decode::bounded_duration("grace", call.message.grace.as_ref(), Duration::ZERO..=MAX_GRACE)?;
        // A stop that was recorded in an earlier life must not end this one. That is all the record is for: a server
        // that cannot write it, or has no room for it, must stop all the same.
        let fresh = match self.control.record(call.key(), content_hash(&grace)).await {
            Ok(fresh) => fresh,
            Err(error) if error.reason() == Reason::RequestIdReused => return Err(error),
            Err(error) => {
                info!(request_id = %call.id, %error, "the request to stop is not recorded");
                !hoist_planner::is_known(&self.control.view().state, &call.key())
            }
        };
        if fresh {
            if let Some(grace) = grace {
                // A server that stops already can be asked to hurry.
                self.stop.grace.send_modify(|known| {
                    *known = Some(known.map_or(grace, |known| known.min(grace)));
                });
            }
            info!(request_id = %call.id, principal = %call.caller.principal, "shutdown requested");
            self.stop.shutdown.trigger(format!("requested by {}", call.caller.principal));
        }
        Ok(v1::ShutdownResponse { request_id: call.id.to_string() })
    }

    async fn probe(&self, call: &Call<v1::ProbeMachineRequest>) -> Result<longrunning::Operation> {
        let message = &call.message;
        let spec = decode::probe_spec(message)?;
        let terms = Terms::read(
            message.wait_for.as_ref(),
            message.deadline.as_ref(),
            ProbeSpec::DEFAULT_DEADLINE,
            message.cancel_on_disconnect,
        )?;
        self.start(call, content_hash(&spec), Work::ProbeMachine(spec), terms).await
    }
}
