//! CatalogService.

use std::collections::BTreeSet;
use std::convert::Infallible;

use hoist_domain::{
    Bytes, ConditionKind, ContentHash, DigestSpec, Error, Model, ModelId, ModelPath, ModelState, Reason,
    ResourceName, Result, Role, ScanSpec, ValidationLevel, Verdict, Work,
};
use hoist_planner::Answer;
use hoist_runtime::OnError;
use hoist_wire::mask::Mask;
use hoist_wire::server::v1::catalog_service_server::CatalogService;
use hoist_wire::{encode, longrunning, models, v1};
use prost::Message;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};
use tracing::info;

use super::Api;
use super::call::{Call, answer, content_hash};
use super::page;
use super::submit::{Terms, message_hash};
use crate::catalog::{Group, Query, components, search};
use crate::control::Change;

#[tonic::async_trait]
impl CatalogService for Api {
    async fn list_models(
        &self,
        request: Request<v1::ListModelsRequest>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        let id = call.id;
        answer(id, self.over_all(move |api| api.models_page(&call)).await)
    }

    async fn get_model(
        &self,
        request: Request<v1::GetModelRequest>,
    ) -> Result<Response<v1::GetModelResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.one_model(&call).await)
    }

    async fn update_model(
        &self,
        request: Request<v1::UpdateModelRequest>,
    ) -> Result<Response<v1::UpdateModelResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.edit_model(&call).await)
    }

    async fn delete_model(
        &self,
        request: Request<v1::DeleteModelRequest>,
    ) -> Result<Response<v1::DeleteModelResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.remove_model(&call).await)
    }

    async fn scan_models(
        &self,
        request: Request<v1::ScanModelsRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.scan(&call).await)
    }

    async fn digest_models(
        &self,
        request: Request<v1::DigestModelsRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.digest(&call).await)
    }

    async fn list_roots(
        &self,
        request: Request<v1::ListRootsRequest>,
    ) -> Result<Response<v1::ListRootsResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        let response = v1::ListRootsResponse { request_id: call.id.to_string(), roots: self.roots() };
        answer(call.id, Ok(response))
    }

    async fn list_components(
        &self,
        request: Request<v1::ListComponentsRequest>,
    ) -> Result<Response<v1::ListComponentsResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        let id = call.id;
        answer(id, self.over_all(move |api| api.components_page(&call)).await)
    }
}

fn model_mask(mask: Option<&prost_types::FieldMask>) -> Result<Option<Mask>> {
    mask.map(|mask| Mask::parse("hoist.api.v1.Model", "field_mask", &mask.paths)).transpose()
}

fn shown(model: &Model, mask: Option<&Mask>) -> v1::Model {
    let shown = models::model(model);
    match mask {
        None => shown,
        // What was encoded here decodes here.
        Some(mask) => v1::Model::decode(mask.apply(&shown.encode_to_vec()).as_slice()).unwrap_or(shown),
    }
}

impl Api {
    fn models_page(&self, call: &Call<v1::ListModelsRequest>) -> Result<v1::ListModelsResponse> {
        let request = &call.message;
        let (filter, order, now) = (&request.filter, &request.order_by, self.clock.wall());
        let query = Query::parse(filter, &request.query, order, request.show_missing, now)?;
        let query = query.below(self.catalog.real_roots());
        let mask = model_mask(request.field_mask.as_ref())?;
        let size = page::size(request.page_size)?;
        let (view, first_look) = self.view_of_models();
        let found = search(view.state.models(), &query, size, &request.page_token)?;
        let models = page::fitting(found.models.iter().map(|model| shown(model, mask.as_ref())));
        Ok(v1::ListModelsResponse {
            request_id: call.id.to_string(),
            next_page_token: found.token_after(models.len()),
            models,
            total_size: found.total as u64,
            position: Some(encode::position(view.state.position())),
            missing_size: found.missing as u64,
            first_look,
        })
    }

    async fn one_model(&self, call: &Call<v1::GetModelRequest>) -> Result<v1::GetModelResponse> {
        let request = &call.message;
        let mask = model_mask(request.field_mask.as_ref())?;
        let (model, position) = self.named_at(&request.name).await?;
        let details = if request.details {
            let details = self.catalog.details(&model).await?;
            Some(super::model_details::encoded(&details, request.tensors))
        } else {
            None
        };
        Ok(v1::GetModelResponse {
            request_id: call.id.to_string(),
            model: Some(shown(&model, mask.as_ref())),
            details,
            position: Some(encode::position(position)),
        })
    }

    async fn edit_model(&self, call: &Call<v1::UpdateModelRequest>) -> Result<v1::UpdateModelResponse> {
        let request = &call.message;
        let content = message_hash(&v1::UpdateModelRequest { request_id: String::new(), ..request.clone() });
        let model = self.edited(call, content, &request.name).await?.0.id;
        self.takes_base(request).await?;
        let (notes, mask) = (request.notes.clone(), request.update_mask.clone());
        let change =
            Change(Box::new(move |before| models::edited_notes(before, notes.as_ref(), mask.as_ref())));
        let etag = Some(request.etag.clone()).filter(|etag| !etag.is_empty());
        self.control.edit(call.key(), content, model, etag, Some(change)).await?;
        let view = self.control.view();
        let model = view.state.models().get(model).map(|model| models::model(model));
        Ok(v1::UpdateModelResponse { request_id: call.id.to_string(), model })
    }

    async fn remove_model(&self, call: &Call<v1::DeleteModelRequest>) -> Result<v1::DeleteModelResponse> {
        let request = &call.message;
        let principal = &call.caller.principal;
        if request.delete_files && principal.role() < Role::Admin {
            return Err(Error::new(
                Reason::PermissionDenied,
                format!("{principal} may not delete files; use the Unix socket as the owner of the server"),
            )
            .with("principal", principal));
        }
        let request_id = call.id.to_string();
        let content = message_hash(&v1::DeleteModelRequest { request_id: String::new(), ..request.clone() });
        if self.repeated(call, content)?.is_some() {
            // Done before, and the model is gone with it.
            return Ok(v1::DeleteModelResponse { request_id, ..Default::default() });
        }
        if request.delete_files {
            self.takes_changes()?;
        }
        let model = self.named(&request.name).await?;
        let etag = Some(request.etag.clone()).filter(|etag| !etag.is_empty());
        if etag.as_ref().is_some_and(|etag| *etag != model.etag()) {
            return Err(hoist_planner::etag_mismatch(&model));
        }
        if request.delete_files {
            // Judged before anything is lost: what is on a device, or on its way there, keeps its files.
            hoist_planner::delete_model(&self.control.view().state, model.id, etag.as_deref())?;
        }
        // On a task of its own: a caller who goes away does not leave half of it.
        let (send, receive) = oneshot::channel();
        let (api, key, shown, with_files) =
            (self.clone(), call.key(), models::model(&model), request.delete_files);
        self.tasks.spawn("delete model", OnError::Log, async move {
            let _ = send.send(api.remove(key, content, model, etag, with_files).await);
            Ok::<(), Infallible>(())
        });
        let lost = |_| Error::new(Reason::Internal, "the deletion was lost; report this");
        let files_deleted = receive.await.map_err(lost)??;
        info!(request_id = %call.id, %principal, model = %shown.name, path = %shown.path, files_deleted, "model deleted");
        Ok(v1::DeleteModelResponse { request_id, model: Some(shown), files_deleted })
    }

    /// Files first: were the row to go first and the rest to fail, the next scan would bring the model back, and the
    /// request that is repeated would be answered as done.
    async fn remove(
        &self,
        key: hoist_domain::RequestKey,
        content: ContentHash,
        model: std::sync::Arc<Model>,
        etag: Option<String>,
        with_files: bool,
    ) -> Result<u32> {
        if !with_files {
            self.control.edit(key, content, model.id, etag, None).await?;
            return Ok(0);
        }
        let removed = self.catalog.remove_files(&model).await?;
        match self.control.edit(key.clone(), content, model.id, None, None).await {
            // A scan has seen that they are gone, and there were no notes to keep it for.
            Err(error) if error.reason() == Reason::ResourceNotFound => {
                self.control.record(key, content).await.map(|_| removed)
            }
            result => result.map(|()| removed),
        }
    }

    async fn scan(&self, call: &Call<v1::ScanModelsRequest>) -> Result<longrunning::Operation> {
        let message = &call.message;
        let spec = scan_spec(message)?;
        let terms = Terms::read(
            message.wait_for.as_ref(),
            message.deadline.as_ref(),
            ScanSpec::DEFAULT_DEADLINE,
            message.cancel_on_disconnect,
        )?;
        self.start(call, content_hash(&spec), Work::ScanModels(spec), terms).await
    }

    /// Whether a change would be taken now. For what is done on disk before it is told to the owner.
    fn takes_changes(&self) -> Result<()> {
        let view = self.control.view();
        if view.state.is_draining() {
            return Err(Error::new(Reason::Draining, "the server is stopping: nothing was deleted"));
        }
        if view.state.conditions().any(|condition| condition.kind == ConditionKind::StoreReadonly) {
            return Err(Error::new(
                Reason::StoreReadonly,
                "the store cannot be written now: nothing was deleted",
            ));
        }
        if view.state.request_count() >= self.request_ids_limit {
            let message = "as many request ids are kept as may be: nothing was deleted";
            return Err(Error::new(Reason::RequestIdsExhausted, message));
        }
        Ok(())
    }

    async fn digest(&self, call: &Call<v1::DigestModelsRequest>) -> Result<longrunning::Operation> {
        let message = &call.message;
        if message.names.len() > DigestSpec::MAX_MODELS {
            let (count, limit) = (message.names.len(), DigestSpec::MAX_MODELS);
            return Err(Error::invalid_field("names", format!("has {count} names, at most {limit}")));
        }
        let terms = Terms::read(
            message.wait_for.as_ref(),
            message.deadline.as_ref(),
            DigestSpec::DEFAULT_DEADLINE,
            message.cancel_on_disconnect,
        )?;
        let content = message_hash(&v1::DigestModelsRequest {
            request_id: String::new(),
            wait_for: None,
            deadline: None,
            cancel_on_disconnect: false,
            ..message.clone()
        });
        if let Some(Answer::Operation(id)) = self.repeated(call, content)? {
            return self.again(call, content, id, terms).await;
        }
        let named = self.all_named(message.names.clone()).await?;
        named.iter().try_for_each(|model| is_worth_reading(model))?;
        let models: BTreeSet<ModelId> = named.iter().map(|model| model.id).collect();
        let spec = DigestSpec { models: models.into_iter().collect() };
        self.start(call, content, Work::DigestModels(spec), terms).await
    }

    fn roots(&self) -> Vec<v1::Root> {
        let view = self.control.view();
        let count = |real: &ModelPath| {
            let below = view.state.models().below(real);
            below
                .filter(|model| model.state == ModelState::Available)
                .fold((0, Bytes(0)), |(count, bytes), model| {
                    (count + 1, Bytes(bytes.0.saturating_add(model.content.bytes.0)))
                })
        };
        let encoded = |root: crate::catalog::RootStatus| {
            let (models, bytes) =
                root.real.as_ref().map(|real| count(&ModelPath::new(real))).unwrap_or_default();
            v1::Root {
                path: root.path.to_string_lossy().into_owned(),
                available: root.available,
                problem: root.problem,
                watched: root.watched.is_some() && root.watched == root.key,
                models,
                size_bytes: bytes.0,
                scan_time: root.looked_at.map(encode::timestamp),
                scan_took: root.looked_at.map(|_| encode::duration(root.took)),
            }
        };
        self.catalog.roots().into_iter().map(encoded).collect()
    }

    fn components_page(&self, call: &Call<v1::ListComponentsRequest>) -> Result<v1::ListComponentsResponse> {
        let request = &call.message;
        let size = page::size(request.page_size)?;
        let of_type = match request.r#type.as_str() {
            "" => None,
            word => Some(
                word.parse()
                    .map_err(|error: Error| Error::invalid_field("type", error.message().to_owned()))?,
            ),
        };
        let (view, first_look) = self.view_of_models();
        let found = components(view.state.models(), of_type, request.shared_only, size, &request.page_token)?;
        let page = page::fitting(found.groups.iter().map(component_group));
        Ok(v1::ListComponentsResponse {
            request_id: call.id.to_string(),
            next_page_token: found.token_after(page.len()),
            groups: page,
            total_size: found.total as u64,
            saved_bytes: found.saved,
            undigested: found.undigested,
            first_look,
        })
    }
}

/// Refuses what is damaged: its headers lie about where its tensors are, and a digest of what is left would make it the
/// equal of something.
fn is_worth_reading(model: &Model) -> Result<()> {
    let verdict = model.verdict();
    if verdict <= Verdict::Suspicious {
        return Ok(());
    }
    let finding =
        model.findings().first().map_or_else(String::new, |finding| format!(": {}", finding.message));
    let message = format!("{} is {verdict}{finding}; nothing shares it, so it gets no digest", model.name());
    Err(Error::new(Reason::CorruptedModel, message).with("model", ResourceName::Model(model.id)))
}

/// Users of one group that are listed; a group's bytes saved count all.
const USERS: usize = 1_000;

fn component_group(group: &Group) -> v1::ComponentGroup {
    let user = |(model, index): &(std::sync::Arc<Model>, usize)| v1::ComponentUser {
        model: ResourceName::Model(model.id).to_string(),
        display_name: model.name().to_owned(),
        component: model.content.components.get(*index).map_or_else(String::new, |c| c.name.to_string()),
        path: model.path.text().into_owned(),
    };
    v1::ComponentGroup {
        component: group.component().map(models::component),
        users: group.users.iter().take(USERS).map(user).collect(),
        saved_bytes: group.saved(),
    }
}

/// What to look at: sorted, without repetition, so that equal wishes are equal work.
fn scan_spec(message: &v1::ScanModelsRequest) -> Result<ScanSpec> {
    if message.paths.len() > ScanSpec::MAX_PATHS {
        let limit = ScanSpec::MAX_PATHS;
        return Err(Error::invalid_field(
            "paths",
            format!("has {} paths, at most {limit}", message.paths.len()),
        ));
    }
    let mut paths: BTreeSet<ModelPath> = BTreeSet::new();
    for (index, path) in message.paths.iter().enumerate() {
        if !path.starts_with('/') || path.len() > 4_096 || path.contains('\0') {
            return Err(Error::invalid_field(format!("paths[{index}]"), "must be an absolute path"));
        }
        paths.insert(ModelPath::new(std::path::Path::new(path)));
    }
    Ok(ScanSpec {
        paths: paths.into_iter().collect(),
        reread: message.reread,
        max_depth: Some(message.max_depth).filter(|depth| *depth > 0),
        validate: match super::integrity::level("validation_level", message.validation_level)? {
            ValidationLevel::Header => false,
            ValidationLevel::Full => true,
            ValidationLevel::Compatibility => {
                return Err(Error::invalid_field("validation_level", "must be HEADER or FULL"));
            }
        },
    })
}
