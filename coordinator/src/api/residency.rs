//! ResidencyService.

use std::collections::{BTreeMap, BTreeSet};

use hoist_domain::{
    ContentHash, Error, LoadSpec, ModelId, ModelPart, Placement, Priority, ReplicaId, ResourceName, Result,
    UnloadSpec, ValidationLevel, Work,
};
use hoist_planner::Answer;
use hoist_planner::residency::{LoadAsk, Offer, Wanted, choose, must_exist, offers};
use hoist_wire::decode::MAX_NAMES;
use hoist_wire::server::v1::residency_service_server::ResidencyService;
use hoist_wire::{cache as cached, encode, longrunning, residency as wire, v1};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::Api;
use super::cache::components;
use super::call::{Call, answer};
use super::estimating::{estimate, expected, missing, unique};
use super::integrity::level;
use super::page;
use super::submit::{Terms, message_hash};
use crate::cache::has_components;
use crate::residency::ComponentSize;

#[tonic::async_trait]
impl ResidencyService for Api {
    async fn load_model(
        &self,
        request: Request<v1::LoadModelRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        let m = &call.message;
        let asked = Asked {
            content: message_hash(&v1::LoadModelRequest {
                request_id: String::new(),
                wait_for: None,
                deadline: None,
                cancel_on_disconnect: false,
                ..m.clone()
            }),
            parts: vec![v1::ModelPart { name: m.name.clone(), components: m.components.clone() }],
            terms: Terms::read(
                m.wait_for.as_ref(),
                m.deadline.as_ref(),
                LoadSpec::DEFAULT_DEADLINE,
                m.cancel_on_disconnect,
            ),
        };
        let options = m.options.clone().unwrap_or_default();
        answer(call.id, self.load(&call, asked, &options).await)
    }

    async fn load_components(
        &self,
        request: Request<v1::LoadComponentsRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        let m = &call.message;
        let asked = Asked {
            content: message_hash(&v1::LoadComponentsRequest {
                request_id: String::new(),
                wait_for: None,
                deadline: None,
                cancel_on_disconnect: false,
                ..m.clone()
            }),
            parts: m.parts.clone(),
            terms: Terms::read(
                m.wait_for.as_ref(),
                m.deadline.as_ref(),
                LoadSpec::DEFAULT_DEADLINE,
                m.cancel_on_disconnect,
            ),
        };
        let options = m.options.clone().unwrap_or_default();
        answer(call.id, self.load(&call, asked, &options).await)
    }

    async fn unload_model(
        &self,
        request: Request<v1::UnloadModelRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        let m = &call.message;
        let asked = Asked {
            content: message_hash(&v1::UnloadModelRequest {
                request_id: String::new(),
                wait_for: None,
                deadline: None,
                ..m.clone()
            }),
            parts: vec![v1::ModelPart { name: m.name.clone(), components: m.components.clone() }],
            terms: Terms::read(m.wait_for.as_ref(), m.deadline.as_ref(), UnloadSpec::DEFAULT_DEADLINE, false),
        };
        answer(call.id, self.unload(&call, asked, &m.device_id, m.force).await)
    }

    async fn unload_components(
        &self,
        request: Request<v1::UnloadComponentsRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        let m = &call.message;
        let asked = Asked {
            content: message_hash(&v1::UnloadComponentsRequest {
                request_id: String::new(),
                wait_for: None,
                deadline: None,
                ..m.clone()
            }),
            parts: m.parts.clone(),
            terms: Terms::read(m.wait_for.as_ref(), m.deadline.as_ref(), UnloadSpec::DEFAULT_DEADLINE, false),
        };
        answer(call.id, self.unload(&call, asked, &m.device_id, m.force).await)
    }

    async fn plan_load(
        &self,
        request: Request<v1::PlanLoadRequest>,
    ) -> Result<Response<v1::PlanLoadResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.plan(&call).await)
    }

    async fn estimate_load(
        &self,
        request: Request<v1::EstimateLoadRequest>,
    ) -> Result<Response<v1::EstimateLoadResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.estimate(&call).await)
    }

    async fn list_replicas(
        &self,
        request: Request<v1::ListReplicasRequest>,
    ) -> Result<Response<v1::ListReplicasResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.replicas(&call).await)
    }

    async fn verify_replicas(
        &self,
        request: Request<v1::VerifyReplicasRequest>,
    ) -> Result<Response<v1::VerifyReplicasResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.verify(&call).await)
    }
}

/// What all requests about several models have.
struct Asked {
    content: ContentHash,
    parts: Vec<v1::ModelPart>,
    terms: Result<Terms>,
}

impl Api {
    async fn load<T: Message + Sync>(
        &self,
        call: &Call<T>,
        asked: Asked,
        options: &v1::LoadOptions,
    ) -> Result<longrunning::Operation> {
        let (content, terms) = (asked.content, asked.terms?);
        if let Some(Answer::Operation(id)) = self.repeated(call, content)? {
            return self.again(call, content, id, terms).await;
        }
        let read = self.read(asked.parts, options).await?;
        // Before anything is promised.
        self.cache.shelf()?;
        must_exist(&self.control.view().state, read.placement)?;
        self.start(call, content, Work::LoadModel(read), terms).await
    }

    /// A load as it is asked for.
    async fn read(&self, parts: Vec<v1::ModelPart>, options: &v1::LoadOptions) -> Result<LoadSpec> {
        wire::must_be_built(options)?;
        let validate = match level("options.validation_level", options.validation_level)? {
            ValidationLevel::Header => false,
            ValidationLevel::Full => true,
            ValidationLevel::Compatibility => {
                return Err(Error::invalid_field("options.validation_level", "is HEADER or FULL"));
            }
        };
        let placement = wire::read_placement(options)?;
        let dtype = wire::read_dtype("options.dtype", &options.dtype)?;
        let allow = cached::read_allowed(&options.allow)?;
        let asked = cached::read_priority("options.priority", options.priority)?;
        let (parts, usual) = self.parts(parts).await?;
        let priority = asked.unwrap_or(usual);
        let (force, restores) = (options.force, Vec::new());
        Ok(LoadSpec { parts, placement, dtype, priority, validate, allow, force, restores })
    }

    /// Models in the order in which they are named, each once, with the names of their components sorted; and the highest of their
    /// usual priorities.
    async fn parts(&self, parts: Vec<v1::ModelPart>) -> Result<(Vec<ModelPart>, Priority)> {
        if parts.is_empty() || parts.len() > MAX_NAMES {
            let message = format!("has {} models: name 1 to {MAX_NAMES}", parts.len());
            return Err(Error::invalid_field("parts", message));
        }
        let models = self.all_named(parts.iter().map(|part| part.name.clone()).collect()).await?;
        let mut priority = None;
        let mut order = Vec::new();
        let mut joined: BTreeMap<ModelId, BTreeSet<Box<str>>> = BTreeMap::new();
        let mut whole: BTreeSet<ModelId> = BTreeSet::new();
        for (part, model) in parts.iter().zip(models) {
            let names = components(&part.components)?;
            has_components(model.name(), &model.content.components, &names)?;
            if names.is_empty() {
                whole.insert(model.id);
            }
            let known = joined.entry(model.id).or_insert_with(|| {
                order.push(model.id);
                BTreeSet::new()
            });
            known.extend(names);
            priority = priority.max(Some(self.priority_of(0, &model)?));
        }
        let part = |model: ModelId| {
            let names = joined.remove(&model).unwrap_or_default();
            let components = if whole.contains(&model) { Vec::new() } else { names.into_iter().collect() };
            ModelPart { model, components }
        };
        Ok((order.into_iter().map(part).collect(), priority.unwrap_or_default()))
    }

    async fn unload<T: Message + Sync>(
        &self,
        call: &Call<T>,
        asked: Asked,
        device: &str,
        force: bool,
    ) -> Result<longrunning::Operation> {
        let (content, terms) = (asked.content, asked.terms?);
        if let Some(Answer::Operation(id)) = self.repeated(call, content)? {
            return self.again(call, content, id, terms).await;
        }
        let device = wire::read_device("device_id", device)?;
        if let Some(device) = device {
            let view = self.control.view();
            // What was loaded to it in another life is unloaded all the same.
            let is_meant = |intent: &std::sync::Arc<hoist_domain::Intent>| intent.device == device;
            if !view.state.residency().intents().any(is_meant) {
                must_exist(&view.state, Placement::On(device))?;
            }
        }
        let (parts, _) = self.parts(asked.parts).await?;
        self.start(call, content, Work::UnloadModel(UnloadSpec { parts, device, force }), terms).await
    }

    async fn plan(&self, call: &Call<v1::PlanLoadRequest>) -> Result<v1::PlanLoadResponse> {
        let options = call.message.options.clone().unwrap_or_default();
        let spec = self.read(call.message.parts.clone(), &options).await?;
        let sizes =
            self.loader.sizes(&spec.parts, spec.dtype, &spec.allow, &CancellationToken::new()).await?;
        let view = self.control.view();
        let state = &view.state;
        let ask = LoadAsk {
            parts: sizes.components.iter().map(|one| one.wanted.clone()).collect(),
            placement: spec.placement,
            priority: spec.priority,
            force: spec.force,
        };
        let chosen = choose(state, &ask, None);
        // How fast a device converts was not measured.
        let converts = chosen.as_ref().is_ok_and(|offer| {
            let is_there = |one: &Wanted| {
                one.digest
                    .and_then(|digest| state.residency().sharing(offer.device, digest, one.dtype))
                    .is_some()
            };
            ask.parts.iter().any(|one| one.dtype.is_some() && !is_there(one))
        });
        let (ram, read) = missing(state, &sizes);
        let name = |model: &ModelId| ResourceName::Model(*model).to_string();
        let device = |offer: Offer| v1::DevicePlan {
            device_id: offer.device.to_string(),
            fits: offer.refusal.is_none(),
            needed_bytes: offer.needed.0,
            resident_bytes: offer.resident.0,
            free_bytes: offer.free.0,
            refusal: offer.refusal.as_ref().map(|error| error.message().to_owned()).unwrap_or_default(),
            unload: offer.unload.iter().map(name).collect(),
        };
        // All of them, also where one is named: the others are what could be named instead.
        let all = LoadAsk {
            placement: if let Placement::On(_) = ask.placement { Placement::Any } else { ask.placement },
            ..ask.clone()
        };
        let mut devices: Vec<v1::DevicePlan> = offers(state, &all, None).into_iter().map(device).collect();
        if let Placement::On(id) = ask.placement {
            let named = id.to_string();
            devices.sort_by_key(|plan| plan.device_id != named);
        }
        let plan = v1::PlanLoadResponse {
            request_id: call.id.to_string(),
            ram_bytes: ram.0,
            read_bytes: read.0,
            devices,
            components: sizes.components.iter().map(|one| estimate(state, one)).collect(),
            position: Some(encode::position(state.position())),
            ..Default::default()
        };
        Ok(match chosen {
            Ok(offer) => v1::PlanLoadResponse {
                device_id: offer.device.to_string(),
                device_bytes: offer.needed.0,
                unload: offer.unload.iter().map(name).collect(),
                expected: expected(state, read, ram, &offer).filter(|_| !converts).map(encode::duration),
                reasons: offer.reasons,
                ..plan
            },
            Err(error) => v1::PlanLoadResponse {
                refusal: error.message().to_owned(),
                refusal_reason: error.reason().as_str().to_owned(),
                ..plan
            },
        })
    }

    async fn estimate(&self, call: &Call<v1::EstimateLoadRequest>) -> Result<v1::EstimateLoadResponse> {
        let dtype = wire::read_dtype("dtype", &call.message.dtype)?;
        let (parts, _) = self.parts(call.message.parts.clone()).await?;
        let sizes = self.loader.sizes(&parts, dtype, &[], &CancellationToken::new()).await?;
        let view = self.control.view();
        let state = &view.state;
        let (missing, read) = missing(state, &sizes);
        let unique = unique(&sizes);
        let sum = |bytes: &dyn Fn(&ComponentSize) -> u64| {
            unique.iter().map(|one| bytes(one)).fold(0, u64::saturating_add)
        };
        let copies = sum(&|one| if one.wanted.dtype.is_some() { one.wanted.bytes.0 } else { 0 });
        Ok(v1::EstimateLoadResponse {
            request_id: call.id.to_string(),
            components: sizes.components.iter().map(|one| estimate(state, one)).collect(),
            device_bytes: sum(&|one| one.wanted.bytes.0),
            ram_bytes: sum(&|one| one.held.0),
            missing_ram_bytes: missing.0,
            read_bytes: read.0,
            peak_ram_bytes: missing.0.saturating_add(copies),
            left_out: sizes.left_out.clone(),
        })
    }

    async fn replicas(&self, call: &Call<v1::ListReplicasRequest>) -> Result<v1::ListReplicasResponse> {
        let message = &call.message;
        let size = page::size(message.page_size)?;
        let after =
            (!message.page_token.is_empty()).then(|| replica_token(&message.page_token)).transpose()?;
        let device = wire::read_device("device_id", &message.device_id)?;
        if let Some(device) = device {
            must_exist(&self.control.view().state, Placement::On(device))?;
        }
        let model = if message.name.is_empty() { None } else { Some(self.named(&message.name).await?) };
        let view = self.control.view();
        let digests: BTreeSet<_> =
            model.iter().flat_map(|model| &model.content.components).filter_map(|one| one.digest).collect();
        let is_meant = |one: &&std::sync::Arc<hoist_domain::Replica>| {
            device.is_none_or(|device| device == one.device)
                && model
                    .as_ref()
                    .is_none_or(|model| one.models.contains(&model.id) || digests.contains(&one.digest))
        };
        let all: Vec<_> = view.state.residency().replicas().filter(is_meant).collect();
        let from = after.map_or(0, |after| all.partition_point(|one| one.id <= after));
        let shown = page::fitting(all.iter().skip(from).take(size).map(|one| wire::replica(one)));
        let last = shown.len().checked_sub(1).and_then(|last| all.get(from.saturating_add(last)));
        let next = last.filter(|_| from + shown.len() < all.len());
        Ok(v1::ListReplicasResponse {
            request_id: call.id.to_string(),
            next_page_token: next.map(|last| last.id.to_string()).unwrap_or_default(),
            replicas: shown,
            total_size: all.len() as u64,
            position: Some(encode::position(view.state.position())),
        })
    }
}

fn replica_token(token: &str) -> Result<ReplicaId> {
    hoist_wire::workers::replica_id(token).map_err(|_| Error::other_page())
}
