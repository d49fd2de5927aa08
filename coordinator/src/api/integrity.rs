//! IntegrityService.

use hoist_domain::{Error, Reason, Result, ValidateSpec, ValidationLevel, Work};
use hoist_planner::Answer;
use hoist_wire::server::v1::integrity_service_server::IntegrityService;
use hoist_wire::{decode, encode, examinations, longrunning, v1};
use tonic::{Request, Response, Status};

use super::Api;
use super::call::{Call, answer};
use super::page;
use super::submit::{Terms, message_hash};
use crate::catalog::{Query, Verdicts, search};

/// The device that a request means by naming none.
const CPU: &str = "cpu:0";

const SHA256_DIGITS: usize = 64;

#[tonic::async_trait]
impl IntegrityService for Api {
    async fn validate_model(
        &self,
        request: Request<v1::ValidateModelRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.validate(&call).await)
    }

    async fn list_verdicts(
        &self,
        request: Request<v1::ListVerdictsRequest>,
    ) -> Result<Response<v1::ListVerdictsResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        let id = call.id;
        answer(id, self.over_all(move |api| api.verdicts_page(&call)).await)
    }
}

impl Api {
    async fn validate(&self, call: &Call<v1::ValidateModelRequest>) -> Result<longrunning::Operation> {
        let message = &call.message;
        let level = level("level", message.level)?;
        let terms = Terms::read(
            message.wait_for.as_ref(),
            message.deadline.as_ref(),
            ValidateSpec::DEFAULT_DEADLINE,
            message.cancel_on_disconnect,
        )?;
        let content = message_hash(&v1::ValidateModelRequest {
            request_id: String::new(),
            wait_for: None,
            deadline: None,
            cancel_on_disconnect: false,
            ..message.clone()
        });
        if let Some(Answer::Operation(id)) = self.repeated(call, content)? {
            return self.again(call, content, id, terms).await;
        }
        let model = self.named(&message.name).await?;
        let is_one_file = model.content.files.len() == 1 && model.content.is_file();
        if !message.sha256.is_empty() && !is_one_file {
            let message = format!("is for a model that is one file; {} is several", model.name());
            return Err(Error::invalid_field("sha256", message));
        }
        let model = model.id;
        let spec = ValidateSpec {
            model,
            level,
            device: device(level, &message.device)?,
            sha256: sha256(level, &message.sha256)?,
            checksums: level == ValidationLevel::Full && message.checksums,
        };
        self.start(call, content, Work::ValidateModel(spec), terms).await
    }

    fn verdicts_page(&self, call: &Call<v1::ListVerdictsRequest>) -> Result<v1::ListVerdictsResponse> {
        let request = &call.message;
        let query = Query::verdicts(
            &request.filter,
            Verdicts { sound: request.show_ok, missing: request.show_missing },
            self.clock.wall(),
        )?;
        let query = query.below(self.catalog.real_roots());
        let size = page::size(request.page_size)?;
        let (view, first_look) = self.view_of_models();
        let found = search(view.state.models(), &query, size, &request.page_token)?;
        let verdicts = page::fitting(found.models.iter().map(|model| examinations::model_verdict(model)));
        Ok(v1::ListVerdictsResponse {
            request_id: call.id.to_string(),
            next_page_token: found.token_after(verdicts.len()),
            verdicts,
            total_size: found.total as u64,
            position: Some(encode::position(view.state.position())),
            first_look,
            missing_size: found.missing as u64,
        })
    }
}

pub(super) fn level(field: &str, number: i32) -> Result<ValidationLevel> {
    let known = |level| {
        Some(match level {
            v1::ValidationLevel::Unspecified | v1::ValidationLevel::Header => ValidationLevel::Header,
            v1::ValidationLevel::Full => ValidationLevel::Full,
            v1::ValidationLevel::Compatibility => ValidationLevel::Compatibility,
        })
    };
    decode::value(field, number, known)
}

fn device(level: ValidationLevel, asked: &str) -> Result<String> {
    match (level, asked) {
        (ValidationLevel::Compatibility, "" | CPU) => Ok(CPU.to_owned()),
        (ValidationLevel::Compatibility, other) => {
            let shown = hoist_domain::excerpt(other);
            let message = format!("there is no device `{shown}`; there is {CPU}");
            Err(Error::new(Reason::ResourceNotFound, message).with("name", format!("devices/{shown}")))
        }
        (_, "") => Ok(String::new()),
        _ => Err(Error::invalid_field("device", "is for the level COMPATIBILITY")),
    }
}

fn sha256(level: ValidationLevel, asked: &str) -> Result<String> {
    let is_one = asked.len() == SHA256_DIGITS && asked.bytes().all(|byte| byte.is_ascii_hexdigit());
    match asked {
        "" => Ok(String::new()),
        _ if level != ValidationLevel::Full => Err(Error::invalid_field("sha256", "is for the level FULL")),
        _ if is_one => Ok(asked.to_ascii_lowercase()),
        _ => Err(Error::invalid_field("sha256", "must be 64 hexadecimal digits")),
    }
}
