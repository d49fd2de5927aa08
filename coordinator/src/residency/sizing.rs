//! What models take of RAM and of a device, before anything is read of them but their headers; not even those, where all of it
//! is in RAM or on a device.

use std::sync::Arc;

use hoist_domain::{
    Bytes, Digest, Dtype, Error, Model, ModelComponent, ModelContent, ModelId, ModelPart, Reason,
    ReplicaState, ResourceName, Result, Verdict,
};
use hoist_planner::State;
use hoist_planner::residency::Wanted;
use hoist_staging::{Recipe, Target};
use tokio_util::sync::CancellationToken;

use super::Loader;
use crate::cache::{has_components, may_be_cached};

/// One component that is to be on a device.
#[derive(Clone, Debug)]
pub struct ComponentSize {
    pub wanted: Wanted,
    /// What it takes of RAM.
    pub held: Bytes,
    /// What would be read of the disk for that.
    pub read: Bytes,
}

/// What models take.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    pub components: Vec<ComponentSize>,
    /// What cannot be loaded, and why.
    pub left_out: Vec<String>,
    /// All of it was in RAM, or on some device, when it was looked at.
    pub is_at_hand: bool,
}

impl Sizes {
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        self.components.iter().map(|one| one.wanted.clone()).collect()
    }
}

impl Loader {
    /// What these models take of RAM and of a device, in this type of elements.
    ///
    /// # Errors
    /// RESOURCE_NOT_FOUND, SOURCE_*; FIELD_INVALID for a component that a model has not; INCOMPATIBLE_MODEL.
    pub async fn sizes(
        &self,
        parts: &[ModelPart],
        dtype: Option<Dtype>,
        allow: &[Verdict],
        stop: &CancellationToken,
    ) -> Result<Sizes> {
        let mut sizes = Sizes { is_at_hand: true, ..Sizes::default() };
        for part in parts {
            let model = self.model(part)?;
            has_components(model.name(), &model.content.components, &part.components)?;
            let dtype = dtype.filter(|dtype| is_another(&model.content, *dtype));
            let is_allowed = model.verdict() <= Verdict::Suspicious || allow.contains(&model.verdict());
            // The catalog looks only now and then: what is in RAM may be something else than the disk has by now.
            let is_it = is_allowed && self.0.catalog.is_as_recorded(&model).await;
            if is_it && let Some(there) = self.at_hand(&model, part, dtype) {
                sizes.components.extend(there);
                continue;
            }
            sizes.is_at_hand = false;
            let (mut read, left_out) = self.by_headers(&model, part, dtype, allow, stop).await?;
            sizes.components.append(&mut read);
            sizes.left_out.extend(left_out);
        }
        Ok(sizes)
    }

    pub(super) fn model(&self, part: &ModelPart) -> Result<Arc<Model>> {
        let view = self.0.control.view();
        view.state.models().get(part.model).cloned().ok_or_else(|| {
            let name = ResourceName::Model(part.model);
            Error::new(Reason::ResourceNotFound, format!("{name} is not in the catalog any more"))
                .with("name", name)
        })
    }

    /// All that is asked for of a model, if each is complete in RAM or on some device, and its files were as they are there; also if
    /// they are missing by now.
    fn at_hand(
        &self,
        model: &Arc<Model>,
        part: &ModelPart,
        dtype: Option<Dtype>,
    ) -> Option<Vec<ComponentSize>> {
        if model.content.is_touched {
            return None;
        }
        let view = self.0.control.view();
        let shelf = self.0.cache.shelf().ok()?;
        let sized = |component: &ModelComponent| {
            let digest = component.digest?;
            let Some(segment) = view.state.cache().sealed(digest) else {
                return on_device(&view.state, model.id, component, (digest, dtype));
            };
            let layout = shelf.layout(digest);
            let length: Option<u64> =
                layout.as_ref().map(|layout| layout.tensors().iter().map(|one| one.length).sum());
            let bytes = match (dtype, &layout) {
                (Some(dtype), Some(layout)) => {
                    layout.tensors().iter().map(|one| one.dtype.converted(one.length, dtype)).sum()
                }
                _ => segment.bytes.0,
            };
            let wanted = Wanted {
                model: model.id,
                component: component.name.clone(),
                digest: Some(digest),
                // Files as they are have no elements that anybody could convert.
                dtype: dtype.filter(|_| layout.is_some()),
                bytes: Bytes(bytes),
                tensors: layout.as_ref().map_or(1, |layout| count(layout.tensors().len())),
            };
            Some(ComponentSize {
                wanted,
                held: segment.bytes,
                read: Bytes(length.unwrap_or(segment.bytes.0)),
            })
        };
        let components = model.content.components.iter().filter(|one| is_meant(part, &one.name));
        let all: Vec<ComponentSize> = components.map(sized).collect::<Option<_>>()?;
        (!all.is_empty()).then_some(all)
    }

    async fn by_headers(
        &self,
        model: &Arc<Model>,
        part: &ModelPart,
        dtype: Option<Dtype>,
        allow: &[Verdict],
        stop: &CancellationToken,
    ) -> Result<(Vec<ComponentSize>, Vec<String>)> {
        let (_, _, details) = self.0.catalog.to_stage(model, stop).await?;
        may_be_cached(model, &details.content, allow)?;
        let believed = model.content.vouches_for(&details.content);
        let (model, part) = (Arc::clone(model), part.clone());
        let read = move || {
            let (mut sized, mut left_out) = (Vec::new(), Vec::new());
            for (number, component) in details.content.components.iter().enumerate() {
                if !is_meant(&part, &component.name) {
                    continue;
                }
                let recipe = match Recipe::of(&details, number) {
                    Ok(recipe) => recipe,
                    Err(error) => {
                        left_out.push(format!("{}: {error}", component.name));
                        continue;
                    }
                };
                let is_same =
                    |one: &&ModelComponent| (&one.name, &one.prefix) == (&component.name, &component.prefix);
                let known = model.content.components.iter().find(is_same).filter(|_| believed);
                sized.push(by_recipe(
                    &model,
                    &component.name,
                    known.and_then(|one| one.digest),
                    &recipe,
                    dtype,
                ));
            }
            (sized, left_out)
        };
        let read = self.0.tasks.run_blocking("sizes", read).await;
        read.map_err(|panicked| Error::new(Reason::Internal, panicked.to_string()))
    }
}

/// A component that can be used on some device, and is not in RAM any more.
fn on_device(
    state: &State,
    model: ModelId,
    component: &ModelComponent,
    (digest, dtype): (Digest, Option<Dtype>),
) -> Option<ComponentSize> {
    let mut there = state.devices().iter().filter_map(|one| state.residency().sharing(one.id, digest, dtype));
    let there = there.find(|replica| replica.state == ReplicaState::Active)?;
    let (component, digest) = (component.name.clone(), Some(digest));
    let wanted = Wanted { model, component, digest, dtype, bytes: there.charge(), tensors: 0 };
    Some(ComponentSize { wanted, held: Bytes(0), read: Bytes(0) })
}

fn by_recipe(
    model: &Model,
    name: &str,
    digest: Option<Digest>,
    recipe: &Recipe,
    dtype: Option<Dtype>,
) -> ComponentSize {
    let held = recipe.held_bytes();
    let (bytes, dtype) = match (recipe.target(), dtype) {
        (Target::Tensors(layout), Some(dtype)) => {
            let converted = layout.tensors().iter().map(|one| one.dtype.converted(one.length, dtype));
            (Bytes(converted.sum()), Some(dtype))
        }
        _ => (held, None),
    };
    let tensors = match recipe.target() {
        Target::Tensors(layout) => count(layout.tensors().len()),
        Target::Files(files) => count(files.len()),
    };
    let wanted = Wanted { model: model.id, component: name.into(), digest, dtype, bytes, tensors };
    ComponentSize { wanted, held, read: recipe.read_bytes() }
}

fn count(tensors: usize) -> u32 {
    u32::try_from(tensors).unwrap_or(u32::MAX)
}

fn is_meant(part: &ModelPart, name: &str) -> bool {
    part.components.is_empty() || part.components.iter().any(|one| **one == *name)
}

/// Whether anything of a model would become another by this conversion. What is so already is shared as it is.
fn is_another(content: &ModelContent, dtype: Dtype) -> bool {
    content.dtypes.iter().any(|(known, _)| known.is_convertible() && *known != dtype)
}
