//! What CacheService changes for good: pins, and policies of models and of the whole cache.

use std::collections::BTreeSet;
use std::sync::Arc;

use hoist_domain::{CachePolicy, ContentHash, Error, Model, ModelNotes, ResourceName, Result};
use hoist_wire::{cache as wire, config, encode, v1};

use super::Api;
use super::cache::components;
use super::call::Call;
use super::submit::message_hash;
use crate::cache::has_components;
use crate::control::Change;

impl Api {
    /// Edits how a model is kept, and answers with it as it is then.
    async fn configure<T: Sync>(
        &self,
        call: &Call<T>,
        content: ContentHash,
        model: &Arc<Model>,
        edit: impl FnOnce(&mut ModelNotes) + Send + 'static,
    ) -> Result<Arc<Model>> {
        let change = Change(Box::new(move |before: &ModelNotes| {
            let mut notes = before.clone();
            edit(&mut notes);
            Ok(notes)
        }));
        self.control.edit(call.key(), content, model.id, None, Some(change)).await?;
        self.model(model.id)
    }

    /// The model that a change is for, which has these components; or had, when it was made.
    async fn edited_parts<T: Sync>(
        &self,
        call: &Call<T>,
        content: ContentHash,
        name: &str,
        parts: &[String],
    ) -> Result<Arc<Model>> {
        let parts = components(parts)?;
        let (model, is_done) = self.edited(call, content, name).await?;
        if !is_done {
            has_components(model.name(), &model.content.components, &parts)?;
        }
        Ok(model)
    }

    pub(super) async fn pin(&self, call: &Call<v1::PinModelRequest>) -> Result<v1::PinModelResponse> {
        let message = &call.message;
        let names = config::component_names("components", message.components.clone())?;
        let content = message_hash(&v1::PinModelRequest { request_id: String::new(), ..message.clone() });
        let model = self.edited_parts(call, content, &message.name, &message.components).await?;
        let pin = move |notes: &mut ModelNotes| {
            let config = &mut notes.config;
            // All of it is more than some of it.
            let is_all = names.is_empty() || (config.is_pinned && config.pinned_components.is_empty());
            config.is_pinned = true;
            if is_all {
                config.pinned_components.clear();
            } else {
                config.pinned_components.extend(names);
                config.pinned_components.sort_unstable();
                config.pinned_components.dedup();
            }
        };
        let model = self.configure(call, content, &model, pin).await?;
        let view = self.control.view();
        let (mut resident, mut absent) = (Vec::new(), Vec::new());
        for component in &model.content.components {
            let is_pinned = model.notes.as_ref().is_some_and(|notes| notes.config.pins(&component.name));
            let is_there = component.digest.is_some_and(|digest| view.state.cache().sealed(digest).is_some());
            if is_pinned {
                if is_there { &mut resident } else { &mut absent }.push(component.name.to_string());
            }
        }
        let model = ResourceName::Model(model.id).to_string();
        Ok(v1::PinModelResponse { request_id: call.id.to_string(), model, resident, absent })
    }

    pub(super) async fn unpin(&self, call: &Call<v1::UnpinModelRequest>) -> Result<v1::UnpinModelResponse> {
        let message = &call.message;
        let names = config::component_names("components", message.components.clone())?;
        let content = message_hash(&v1::UnpinModelRequest { request_id: String::new(), ..message.clone() });
        let model = self.edited_parts(call, content, &message.name, &message.components).await?;
        let all: Vec<String> = model.content.components.iter().map(|one| one.name.to_string()).collect();
        let pins =
            |model: &Model, name: &str| model.notes.as_ref().is_some_and(|notes| notes.config.pins(name));
        let asked = if names.is_empty() { &all } else { &names };
        let was_pinned = asked.iter().any(|name| pins(&model, name))
            || (names.is_empty() && model.notes.as_ref().is_some_and(|notes| notes.config.is_pinned));
        let unpin = move |notes: &mut ModelNotes| {
            let config = &mut notes.config;
            let is_left = |name: &String| !names.is_empty() && !names.contains(name) && config.pins(name);
            let left: Vec<String> = all.into_iter().filter(is_left).collect();
            config.is_pinned = !left.is_empty();
            config.pinned_components = left;
        };
        let model = self.configure(call, content, &model, unpin).await?;
        let components = model.content.components.iter().map(|one| one.name.to_string());
        Ok(v1::UnpinModelResponse {
            request_id: call.id.to_string(),
            model: ResourceName::Model(model.id).to_string(),
            was_pinned,
            pinned: components.filter(|name| pins(&model, name)).collect(),
        })
    }

    pub(super) async fn change_policy(
        &self,
        call: &Call<v1::UpdateCachePolicyRequest>,
    ) -> Result<v1::UpdateCachePolicyResponse> {
        let message = &call.message;
        let asked = message.policy.unwrap_or_default();
        let fields = wire::policy_fields(&asked, message.update_mask.as_ref())?;
        // Judged before it waits for its turn, too: what is wrong is wrong whatever the policy is by then.
        wire::edited_policy(&CachePolicy::default(), &asked, &fields)?;
        let content =
            message_hash(&v1::UpdateCachePolicyRequest { request_id: String::new(), ..message.clone() });
        let policy = if message.name.is_empty() {
            if fields.contains("budget_bytes") && asked.budget_bytes == Some(0) {
                return Err(Error::invalid_field("policy.budget_bytes", "must be at least 1, or unset"));
            }
            let change =
                Change(Box::new(move |before: &CachePolicy| wire::edited_policy(before, &asked, &fields)));
            self.control.set_policy(call.key(), content, change).await?;
            wire::policy(self.control.view().state.cache().policy())
        } else {
            self.change_own_policy(call, content, asked, fields).await?
        };
        Ok(v1::UpdateCachePolicyResponse {
            request_id: call.id.to_string(),
            policy: Some(policy),
            update_time: Some(encode::timestamp(self.clock.wall())),
        })
    }

    /// A model's: those two of the fields that a model has.
    async fn change_own_policy(
        &self,
        call: &Call<v1::UpdateCachePolicyRequest>,
        content: ContentHash,
        asked: v1::CachePolicy,
        fields: BTreeSet<String>,
    ) -> Result<v1::CachePolicy> {
        if let Some(field) = fields.iter().find(|field| !matches!(field.as_str(), "idle_ttl" | "priority")) {
            let message =
                format!("has `{field}`, which is the cache's as a whole; a model has idle_ttl and priority");
            return Err(Error::invalid_field("policy", message));
        }
        let idle_ttl = wire::read_idle_ttl("policy.idle_ttl", asked.idle_ttl.as_ref())?;
        let priority = wire::read_priority("policy.priority", asked.priority)?;
        let (model, _) = self.edited(call, content, &call.message.name).await?;
        let edit = move |notes: &mut ModelNotes| {
            if fields.contains("idle_ttl") {
                notes.config.cache_idle_ttl = idle_ttl;
            }
            if fields.contains("priority") {
                notes.config.cache_priority = priority;
            }
        };
        let model = self.configure(call, content, &model, edit).await?;
        let own = model.notes.as_ref().map(|notes| notes.config.clone()).unwrap_or_default();
        Ok(v1::CachePolicy {
            idle_ttl: own.cache_idle_ttl.map(encode::duration),
            priority: own.cache_priority.map_or(0, |priority| wire::priority(priority).into()),
            ..v1::CachePolicy::default()
        })
    }
}
