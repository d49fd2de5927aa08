//! CacheService.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    Bytes, CacheSpec, Digest, Error, Model, Reason, ResourceName, Result, SegmentName, SegmentState,
    ValidationLevel, Work,
};
use hoist_planner::cache::{EvictionAsk, Out, Parts, pinned};
use hoist_planner::{Answer, State};
use hoist_wire::decode::MAX_NAMES;
use hoist_wire::server::v1::cache_service_server::CacheService;
use hoist_wire::{cache as wire, config, encode, longrunning, v1};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::Api;
use super::call::{Call, answer};
use super::integrity::level;
use super::page;
use super::submit::{Terms, message_hash};
use crate::cache::has_components;

/// Longer than freeing any memory takes.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// Users of a segment that are listed.
const USERS: usize = 100;

#[tonic::async_trait]
impl CacheService for Api {
    async fn cache_model(
        &self,
        request: Request<v1::CacheModelRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.cache_one(&call).await)
    }

    async fn evict_model(
        &self,
        request: Request<v1::EvictModelRequest>,
    ) -> Result<Response<v1::EvictModelResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.evict_one(&call).await)
    }

    async fn get_cache(
        &self,
        request: Request<v1::GetCacheRequest>,
    ) -> Result<Response<v1::GetCacheResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.cache_status(call.id.to_string()).await)
    }

    async fn list_segments(
        &self,
        request: Request<v1::ListSegmentsRequest>,
    ) -> Result<Response<v1::ListSegmentsResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        let id = call.id;
        let of = if call.message.name.is_empty() {
            Ok(None)
        } else {
            self.named(&call.message.name).await.map(Some)
        };
        let page = match of {
            Ok(of) => self.over_all(move |api| api.segments_page(&call, of.as_deref())).await,
            Err(error) => Err(error),
        };
        answer(id, page)
    }

    async fn pin_model(
        &self,
        request: Request<v1::PinModelRequest>,
    ) -> Result<Response<v1::PinModelResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.pin(&call).await)
    }

    async fn unpin_model(
        &self,
        request: Request<v1::UnpinModelRequest>,
    ) -> Result<Response<v1::UnpinModelResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.unpin(&call).await)
    }

    async fn update_cache_policy(
        &self,
        request: Request<v1::UpdateCachePolicyRequest>,
    ) -> Result<Response<v1::UpdateCachePolicyResponse>, Status> {
        let call = Call::open(request, |m| &m.request_id)?;
        answer(call.id, self.change_policy(&call).await)
    }
}

/// Names of components that a request asks for, sorted.
pub(super) fn components(names: &[String]) -> Result<Vec<Box<str>>> {
    let names = config::component_names("components", names.to_vec())?;
    Ok(names.into_iter().map(String::into_boxed_str).collect())
}

impl Api {
    /// The priority that a request means for a model.
    pub(super) fn priority_of(&self, asked: i32, model: &Model) -> Result<hoist_domain::Priority> {
        let own = model.notes.as_ref().and_then(|notes| notes.config.cache_priority);
        let asked = wire::read_priority("priority", asked)?;
        Ok(asked.or(own).unwrap_or(self.control.view().state.cache().policy().priority))
    }

    async fn cache_one(&self, call: &Call<v1::CacheModelRequest>) -> Result<longrunning::Operation> {
        let message = &call.message;
        let validate = match level("validation_level", message.validation_level)? {
            ValidationLevel::Header => false,
            ValidationLevel::Full => true,
            ValidationLevel::Compatibility => {
                return Err(Error::invalid_field("validation_level", "is HEADER or FULL"));
            }
        };
        let terms = Terms::read(
            message.wait_for.as_ref(),
            message.deadline.as_ref(),
            CacheSpec::DEFAULT_DEADLINE,
            message.cancel_on_disconnect,
        )?;
        let components = components(&message.components)?;
        let allow = wire::read_allowed(&message.allow)?;
        let content = message_hash(&v1::CacheModelRequest {
            request_id: String::new(),
            wait_for: None,
            deadline: None,
            cancel_on_disconnect: false,
            ..message.clone()
        });
        if let Some(Answer::Operation(id)) = self.repeated(call, content)? {
            return self.again(call, content, id, terms).await;
        }
        // Before anything is promised.
        self.cache.shelf()?;
        let model = self.named(&message.name).await?;
        has_components(model.name(), &model.content.components, &components)?;
        let priority = self.priority_of(message.priority, &model)?;
        let spec = CacheSpec { model: model.id, components, priority, validate, allow };
        self.start(call, content, Work::CacheModel(spec), terms).await
    }

    /// What a request wants out.
    async fn asked_out(&self, message: &v1::EvictModelRequest) -> Result<Out> {
        for (field, count) in [("parts", message.parts.len()), ("segments", message.segments.len())] {
            if count > MAX_NAMES {
                return Err(Error::invalid_field(field, format!("has {count} names, at most {MAX_NAMES}")));
            }
        }
        let one = v1::ModelPart { name: message.name.clone(), components: message.components.clone() };
        if one.name.is_empty() && !one.components.is_empty() {
            return Err(Error::invalid_field("components", "are those of the one model in `name`"));
        }
        let parts: Vec<_> = message.parts.iter().chain((!one.name.is_empty()).then_some(&one)).collect();
        match (parts.is_empty() && message.segments.is_empty(), message.all) {
            (true, true) => return Ok(Out::All),
            (false, false) => {}
            _ => return Err(Error::invalid_field("name", "say what: models, `segments`, or `all` alone")),
        }
        let segments = message.segments.iter().map(|name| segment_digest(name)).collect::<Result<_>>()?;
        let mut models = Parts::default();
        let named = self.all_named(parts.iter().map(|part| part.name.clone()).collect()).await?;
        for (part, model) in parts.into_iter().zip(named) {
            let components = components(&part.components)?;
            has_components(model.name(), &model.content.components, &components)?;
            models.add(model.id, components);
        }
        Ok(Out::Named { models, segments })
    }

    async fn evict_one(&self, call: &Call<v1::EvictModelRequest>) -> Result<v1::EvictModelResponse> {
        let message = &call.message;
        let content = message_hash(&v1::EvictModelRequest { request_id: String::new(), ..message.clone() });
        if !message.dry_run && self.repeated(call, content)?.is_some() {
            // Names may mean something else by now; what was asked for is done.
            return Ok(v1::EvictModelResponse { request_id: call.id.to_string(), ..Default::default() });
        }
        let out = self.asked_out(message).await?;
        let open = self.cache.open().await?;
        let request = (!message.dry_run).then(|| (call.key(), content));
        let told = self.control.evict(request, EvictionAsk { out, open }).await?;
        if !message.dry_run {
            // What is told as evicted does not come back, whatever becomes of the server.
            let out = told.iter().filter(|one| one.kept.is_none());
            let out: Vec<Digest> = out.map(|one| one.digest).collect();
            let never = CancellationToken::new();
            let gone = tokio::time::timeout(GONE_WITHIN, self.cache.are_gone(&out, &never)).await;
            gone.unwrap_or(Ok(()))?;
        }
        let freed = told.iter().filter(|one| one.kept.is_none()).map(|one| one.bytes.0);
        Ok(v1::EvictModelResponse {
            request_id: call.id.to_string(),
            freed_bytes: freed.fold(0, u64::saturating_add),
            segments: told
                .into_iter()
                .map(|one| v1::EvictedSegment {
                    segment: wire::segment_name(one.digest),
                    size_bytes: one.bytes.0,
                    evicted: one.kept.is_none(),
                    kept_because: one.kept.unwrap_or_default(),
                })
                .collect(),
            dry_run: message.dry_run,
        })
    }

    async fn cache_status(&self, request_id: String) -> Result<v1::GetCacheResponse> {
        let (budget, held) = (self.cache.budget().await?, self.cache.held().await?);
        let view = self.control.view();
        let cache = view.state.cache();
        let (totals, counted) = (cache.totals(), cache.statistics());
        let evictions = u32::try_from(counted.evictions).unwrap_or(u32::MAX);
        let idle = (evictions > 0).then(|| encode::duration(counted.idle_at_eviction / evictions));
        let sealed = cache.segments().filter(|segment| segment.state == SegmentState::Sealed);
        Ok(v1::GetCacheResponse {
            request_id,
            budget_bytes: budget.bytes.0,
            budget_limit: self.cache.limit_name(&budget.limit),
            used_bytes: totals.used().0,
            sealed_bytes: totals.sealed.0,
            filling_bytes: totals.filling.0,
            zombie_bytes: totals.zombie.0,
            segments: sealed.count() as u64,
            leases: cache.lease_count() as u64,
            policy: Some(wire::policy(cache.policy())),
            statistics: Some(v1::CacheStatistics {
                hits: counted.hits,
                misses: counted.misses,
                fills: counted.fills,
                read_bytes: counted.read.0,
                fill_time: Some(encode::duration(counted.fill_time)),
                shared_bytes: counted.shared.0,
                evictions: counted.evictions,
                evicted_bytes: counted.evicted.0,
                mean_idle_at_eviction: idle,
                adopted: counted.adopted,
                refusals: counted.refusals,
                saved_bytes: cache.saved().0,
            }),
            directory: self.cache.directory().map(|path| path.display().to_string()).unwrap_or_default(),
            held_bytes: held.0,
        })
    }

    fn segments_page(
        &self,
        call: &Call<v1::ListSegmentsRequest>,
        of: Option<&Model>,
    ) -> Result<v1::ListSegmentsResponse> {
        let size = page::size(call.message.page_size)?;
        let token = &call.message.page_token;
        let after = (!token.is_empty()).then(|| segment_token(token)).transpose()?;
        let view = self.control.view();
        let state = &view.state;
        let own: Option<BTreeSet<Digest>> =
            of.map(|model| model.content.components.iter().filter_map(|one| one.digest).collect());
        let is_of = |name: SegmentName, wanted_by: &BTreeSet<hoist_domain::ModelId>| match (of, &own) {
            (Some(model), Some(own)) => {
                wanted_by.contains(&model.id) || name.digest().is_some_and(|digest| own.contains(&digest))
            }
            _ => true,
        };
        let mut segments: Vec<_> =
            state.cache().segments().filter(|one| is_of(one.name, &one.wanted_by)).collect();
        segments.sort_by_key(|one| (std::cmp::Reverse(one.bytes), one.name));
        let total_bytes = segments.iter().map(|one| one.bytes.0).fold(0, u64::saturating_add);
        let total_size = segments.len() as u64;
        let from = after.map_or(0, |after| {
            segments.partition_point(|one| (std::cmp::Reverse(one.bytes), one.name) <= after)
        });
        let shown: Vec<_> = segments.iter().skip(from).take(size).collect();
        let users = users(state, &shown.iter().filter_map(|one| one.name.digest()).collect());
        let leases = state.cache().lease_counts();
        let pinned = pinned(state);
        let now = self.control.service_time();
        let statuses = shown.iter().map(|one| {
            let digest = one.name.digest();
            let none = Vec::new();
            let users = digest.and_then(|digest| users.get(&digest)).unwrap_or(&none);
            let is_cached = |model: &Model| one.wanted_by.contains(&model.id);
            let path = digest.filter(|_| one.state == SegmentState::Sealed);
            let path = path.and_then(|digest| self.cache.shelf().ok()?.path_of(digest));
            let idle = state.cache().used_at(one.name).map(|used| encode::duration(now.since(used)));
            v1::SegmentStatus {
                segment: Some(wire::segment(one)),
                path: path.map(|path| path.display().to_string()).unwrap_or_default(),
                users: users
                    .iter()
                    .take(USERS)
                    .map(|(model, component)| segment_user(model, *component, is_cached(model)))
                    .collect(),
                user_count: users.len() as u64,
                leases: leases.get(&one.name).copied().unwrap_or(0),
                pinned: digest.is_some_and(|digest| pinned.contains(&digest)),
                idle,
                uses: state.cache().use_of(one.name).map_or(0, |used| used.count),
            }
        });
        let statuses = page::fitting(statuses);
        let last = statuses.len().checked_sub(1).and_then(|last| shown.get(last));
        let next = last.filter(|_| from + statuses.len() < segments.len());
        Ok(v1::ListSegmentsResponse {
            request_id: call.id.to_string(),
            segments: statuses,
            next_page_token: next.map(|last| format!("{}:{}", last.bytes.0, last.name)).unwrap_or_default(),
            total_size,
            total_bytes,
            position: Some(encode::position(state.position())),
        })
    }
}

/// The content that a segment's name says.
fn segment_digest(name: &str) -> Result<Digest> {
    let digest = match name.parse()? {
        ResourceName::Segment(segment) => segment.digest(),
        _ => None,
    };
    digest.ok_or_else(|| {
        let shown = hoist_domain::excerpt(name);
        Error::new(
            Reason::NameInvalid,
            format!("`{shown}` is no segment: use segments/{{digest}} as a list shows it"),
        )
    })
}

fn segment_user(model: &Model, component: usize, cached: bool) -> v1::SegmentUser {
    let component = model.content.components.get(component);
    v1::SegmentUser {
        model: ResourceName::Model(model.id).to_string(),
        display_name: model.name().to_owned(),
        component: component.map(|one| one.name.to_string()).unwrap_or_default(),
        prefix: component.map(|one| one.prefix.to_string()).unwrap_or_default(),
        cached,
    }
}

/// Which components of which models some segments are: one walk over all of them.
fn users<'a>(state: &'a State, wanted: &BTreeSet<Digest>) -> BTreeMap<Digest, Vec<(&'a Arc<Model>, usize)>> {
    let mut users: BTreeMap<Digest, Vec<(&Arc<Model>, usize)>> = BTreeMap::new();
    for model in state.models().by_path() {
        for (number, component) in model.content.components.iter().enumerate() {
            if let Some(digest) = component.digest.filter(|digest| wanted.contains(digest)) {
                users.entry(digest).or_default().push((model, number));
            }
        }
    }
    users
}

fn segment_token(token: &str) -> Result<(std::cmp::Reverse<Bytes>, SegmentName)> {
    let parsed = token.split_once(':').and_then(|(bytes, name)| {
        Some((std::cmp::Reverse(Bytes(bytes.parse().ok()?)), SegmentName::parse(name)?))
    });
    parsed.ok_or_else(Error::other_page)
}
