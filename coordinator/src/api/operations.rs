//! google.longrunning.Operations, and waiting for an operation.

use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    Error, Lifecycle, Operation, OperationId, OperationState, Progress, Reason, ResourceName, Result,
};
use hoist_wire::server::longrunning::operations_server::Operations;
use hoist_wire::{decode, encode, longrunning};
use tonic::{Request, Response, Status};

use super::Api;
use super::call::{Call, answer};
use super::operation_filter::OperationFilter;
use super::page;

/// The standard's messages carry no request id.
const NO_ID: &str = "";

#[tonic::async_trait]
impl Operations for Api {
    async fn list_operations(
        &self,
        request: Request<longrunning::ListOperationsRequest>,
    ) -> Result<Response<longrunning::ListOperationsResponse>, Status> {
        let call = Call::open(request, |_| NO_ID)?;
        answer(call.id, self.list(&call.message))
    }

    async fn get_operation(
        &self,
        request: Request<longrunning::GetOperationRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        let call = Call::open(request, |_| NO_ID)?;
        answer(call.id, operation_id(&call.message.name).and_then(|id| self.operation(id)))
    }

    async fn delete_operation(
        &self,
        request: Request<longrunning::DeleteOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let call = Call::open(request, |_| NO_ID)?;
        let result = match operation_id(&call.message.name) {
            Ok(id) => self.control.delete(id).await,
            Err(error) => Err(error),
        };
        answer(call.id, result)
    }

    async fn cancel_operation(
        &self,
        request: Request<longrunning::CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let call = Call::open(request, |_| NO_ID)?;
        let result = match operation_id(&call.message.name) {
            Ok(id) => self.control.cancel(id, call.caller.principal.clone()).await,
            Err(error) => Err(error),
        };
        answer(call.id, result)
    }

    async fn wait_operation(
        &self,
        request: Request<longrunning::WaitOperationRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        let call = Call::open(request, |_| NO_ID)?;
        let asked = operation_id(&call.message.name)
            .and_then(|id| Ok((id, decode::duration("timeout", call.message.timeout.as_ref())?)));
        let result = match asked {
            Ok((id, timeout)) => self.wait(id, timeout).await,
            Err(error) => Err(error),
        };
        answer(call.id, result)
    }
}

fn operation_id(name: &str) -> Result<OperationId> {
    match name.parse() {
        Ok(ResourceName::Operation(id)) => Ok(id),
        Ok(other) => Err(Error::new(
            Reason::NameInvalid,
            format!("{other} is not an operation: use operations/{{uuid}}"),
        )),
        Err(error) => Err(error),
    }
}

fn not_kept(id: OperationId) -> Error {
    let name = ResourceName::Operation(id);
    Error::new(
        Reason::ResourceNotFound,
        format!("{name} does not exist, or is no longer kept; list what exists"),
    )
    .with("name", name)
}

impl Api {
    fn shown(&self, operation: &Operation) -> longrunning::Operation {
        encode::operation(operation, self.progress(operation).as_ref())
    }

    /// How far it is, while it runs. Its executor's counters live a moment longer than that.
    pub(super) fn progress(&self, operation: &Operation) -> Option<Progress> {
        let runs = operation.state == OperationState::Running;
        runs.then(|| self.board.sample(operation.id, self.clock.monotonic())).flatten()
    }

    /// An operation as it is now.
    pub(super) fn operation(&self, id: OperationId) -> Result<longrunning::Operation> {
        self.control
            .view()
            .state
            .operation(id)
            .map(|operation| self.shown(operation))
            .ok_or_else(|| not_kept(id))
    }

    /// Returns when the operation has ended, or as it is when `timeout` has passed.
    pub(super) async fn wait(
        &self,
        id: OperationId,
        timeout: Option<Duration>,
    ) -> Result<longrunning::Operation> {
        let mut changes = self.control.changes();
        let ended = async {
            loop {
                let ended = {
                    let view = Arc::clone(&changes.borrow_and_update());
                    view.state.operation(id).is_none_or(|operation| operation.state.is_terminal())
                };
                if ended || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        match timeout {
            // Not waiting is not a wait of no time: the answer is what is known now.
            Some(Duration::ZERO) => {}
            Some(limit) => drop(tokio::time::timeout(limit, ended).await),
            None => ended.await,
        }
        self.operation(id)
    }

    fn list(
        &self,
        request: &longrunning::ListOperationsRequest,
    ) -> Result<longrunning::ListOperationsResponse> {
        if !matches!(request.name.as_str(), "" | "operations") {
            return Err(Error::invalid_field("name", "must be `operations` or empty"));
        }
        let filter: OperationFilter = request.filter.parse()?;
        let size = page::size(request.page_size)?;
        let before = page_start(&request.page_token)?;
        let view = self.control.view();
        let mut matching =
            view.state.operations_newest_first(before).filter(|operation| filter.matches(operation));
        let page: Vec<_> = matching.by_ref().take(size).collect();
        let next_page_token = match (page.last(), matching.next()) {
            (Some(last), Some(_)) => last.id.to_string(),
            _ => String::new(),
        };
        let operations = page.into_iter().map(|operation| self.shown(operation)).collect();
        Ok(longrunning::ListOperationsResponse { operations, next_page_token })
    }
}

/// A token is the id of the last operation of the page before: it stays good when operations come and go.
fn page_start(token: &str) -> Result<Option<OperationId>> {
    if token.is_empty() {
        return Ok(None);
    }
    match format!("operations/{token}").parse() {
        Ok(ResourceName::Operation(id)) => Ok(Some(id)),
        _ => Err(Error::other_page()),
    }
}
