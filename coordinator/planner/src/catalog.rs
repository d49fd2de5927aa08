//! What a look at the disk, or a person's edit, means for the catalog.
//!
//! Properties: a path has one model that is not displaced; a model keeps its id and what people wrote about it through moves, renames and
//! rewrites; nothing that people wrote is forgotten because a file is not there; equal observations change nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use hoist_domain::{
    Digest, Error, FoundModel, Model, ModelComponent, ModelContent, ModelId, ModelNotes, ModelPart,
    ModelPath, ModelState, Observation, Operation, Reason, ResourceName, Result, Validation, WallTime, Work,
};

use crate::{Decision, Event, State};

/// What observations changed, for the scan's report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CatalogChanges {
    pub added: u64,
    pub changed: u64,
    pub moved: u64,
    pub missing: u64,
}

/// Judges observations against the state. They may be out of date: the state has moved on since the scan looked.
#[must_use]
pub fn observe(state: &State, observations: &[Observation], now: WallTime) -> (Decision, CatalogChanges) {
    let mut draft = state.models().clone();
    let mut events = Vec::new();
    let mut changes = CatalogChanges::default();
    // What people wrote of is not forgotten, nor is what shall be on a device, or is on its way there: it can be named.
    let on_devices = state.residency().intents().map(|intent| intent.model);
    let coming = state.active_operations().flat_map(|operation| loaded_by(operation)).map(|part| part.model);
    let intended: BTreeSet<ModelId> = on_devices.chain(coming).collect();
    let is_kept = |model: &Model| model.notes.is_some() || intended.contains(&model.id);
    for observation in observations {
        let event = match observation {
            Observation::Found(found) => self::found(&draft, found, now, &mut changes),
            Observation::Gone { id, path } => gone(&draft, *id, path, is_kept, &mut changes),
            Observation::Overwritten { id } => overwritten(&draft, *id, is_kept, &mut changes),
        };
        for event in event {
            match &event {
                Event::ModelRecorded(model) => draft.put(state.position(), Arc::clone(model)),
                Event::ModelForgotten { id } => draft.remove(*id),
                _ => {}
            }
            events.push(event);
        }
    }
    (events, changes)
}

fn found(
    models: &crate::Models,
    found: &FoundModel,
    now: WallTime,
    changes: &mut CatalogChanges,
) -> Decision {
    let FoundModel { path, path_name, content, moved_from, new_id } = found;
    let as_found = |known: &Model| {
        let content = with_digests(&known.content, content);
        Model {
            path: path.clone(),
            path_name: Arc::clone(path_name),
            state: ModelState::Available,
            validation: still_valid(known, &content),
            content,
            read_at: now,
            ..Model::clone(known)
        }
    };
    let here = models.at(path);
    let moved = moved_from.as_ref().and_then(|(id, from)| still_there(models, *id, from, content));
    let is_own = |here: &Arc<Model>| file_of(&here.content) == file_of(content);
    match (here, moved) {
        // A file was moved over another one: each model goes with its own file, wherever that is.
        (Some(here), Some(moved)) if here.id != moved.id && !is_own(here) => {
            changes.missing += 1;
            changes.moved += 1;
            let displaced = Model { state: ModelState::Displaced, ..Model::clone(here) };
            vec![recorded(displaced), recorded(as_found(moved))]
        }
        // Written anew, or replaced by a file that nobody knew: what people said about the place holds.
        (Some(here), _) => {
            let model = as_found(here);
            let is_as_known = model.content == here.content && here.state == ModelState::Available;
            if is_as_known && model.path_name == here.path_name {
                return Vec::new();
            }
            changes.changed += 1;
            vec![recorded(model)]
        }
        (None, Some(moved)) => {
            changes.moved += 1;
            vec![recorded(as_found(moved))]
        }
        (None, None) => {
            changes.added += 1;
            vec![recorded(Model {
                id: *new_id,
                path: path.clone(),
                path_name: Arc::clone(path_name),
                state: ModelState::Available,
                // A copy, made by the thread that replaces it when its digests are known: what one replaces, the next
                // takes the place of. Those that reading threads made would leave holes in their own parts of the heap,
                // as large as all contents together.
                content: Arc::new(ModelContent::clone(content)),
                notes: None,
                validation: None,
                discovered_at: now,
                read_at: now,
            })]
        }
    }
}

/// What tells the file that stands for a model from all others.
fn file_of(content: &ModelContent) -> Option<(u64, u64)> {
    content.main_file().map(|file| (file.identity.device, file.identity.inode))
}

/// The model that was known at a path, as long as it is there and this file is still its: in one look, another file may
/// have taken its place, or another link to the same file may have been seen first.
fn still_there<'a>(
    models: &'a crate::Models,
    id: ModelId,
    from: &ModelPath,
    content: &ModelContent,
) -> Option<&'a Arc<Model>> {
    models.get(id).filter(|model| model.path == *from && file_of(&model.content) == file_of(content))
}

fn still_valid(known: &Model, content: &ModelContent) -> Option<Arc<Validation>> {
    known.validation.clone().filter(|_| known.content.has_bytes_of(content))
}

/// Digests that were found before hold for the same bytes: nothing is read again because it was renamed. That the bytes
/// are the same is likely and not certain when the file was touched, and stays so until somebody reads them.
fn with_digests(known: &ModelContent, new: &Arc<ModelContent>) -> Arc<ModelContent> {
    if new.components.iter().all(|component| component.digest.is_some()) || !known.has_bytes_of(new) {
        return Arc::clone(new);
    }
    let mut content = ModelContent::clone(new);
    for component in &mut content.components {
        let mut known = known.components.iter();
        let old = known.find(|old| is_same_component(old, component));
        component.digest = component.digest.or(old.and_then(|old| old.digest));
    }
    let has_digest = content.components.iter().any(|component| component.digest.is_some());
    content.is_touched = has_digest && !known.vouches_for(new);
    Arc::new(content)
}

fn is_same_component(one: &ModelComponent, other: &ModelComponent) -> bool {
    (&one.name, &one.place, &one.prefix, one.bytes) == (&other.name, &other.place, &other.prefix, other.bytes)
}

fn gone(
    models: &crate::Models,
    id: ModelId,
    path: &ModelPath,
    is_kept: impl Fn(&Model) -> bool,
    changes: &mut CatalogChanges,
) -> Decision {
    match models.get(id) {
        // It has moved meanwhile, or is known to be missing.
        Some(model) if model.path != *path => Vec::new(),
        Some(model) if is_kept(model) && model.state != ModelState::Available => Vec::new(),
        Some(model) if is_kept(model) => {
            changes.missing += 1;
            vec![recorded(Model { state: ModelState::Missing, ..Model::clone(model) })]
        }
        Some(_) => {
            changes.missing += 1;
            vec![Event::ModelForgotten { id }]
        }
        None => Vec::new(),
    }
}

/// One that was displaced, and came up nowhere else in the same look, is kept for what people wrote about it. One that has
/// its place, because the look's judgement was out of date, stays as it is.
fn overwritten(
    models: &crate::Models,
    id: ModelId,
    is_kept: impl Fn(&Model) -> bool,
    changes: &mut CatalogChanges,
) -> Decision {
    let model = models.get(id);
    let is_lost = model.is_some_and(|model| model.state == ModelState::Displaced && !is_kept(model));
    changes.missing += u64::from(is_lost);
    if is_lost { vec![Event::ModelForgotten { id }] } else { Vec::new() }
}

fn recorded(model: Model) -> Event {
    Event::ModelRecorded(Arc::new(model))
}

fn find(state: &State, id: ModelId) -> Result<&Arc<Model>> {
    state.models().get(id).ok_or_else(|| {
        let name = ResourceName::Model(id);
        Error::new(Reason::ResourceNotFound, format!("{name} is not in the catalog; list what is"))
            .with("name", name)
    })
}

/// The refusal of an edit that was made of another state than the model's.
#[must_use]
pub fn etag_mismatch(model: &Model) -> Error {
    Error::new(
        Reason::EtagMismatch,
        format!("{} was edited since it was read; read it again and repeat the edit", model.name()),
    )
    .with("etag", model.etag())
}

/// Replaces what people say about a model. `etag`, when given, must be the model's.
///
/// # Errors
/// RESOURCE_NOT_FOUND, ETAG_MISMATCH, and FIELD_INVALID when an alias is another model's alias or name, or the name
/// another model's alias.
pub fn edit(state: &State, id: ModelId, etag: Option<&str>, mut notes: ModelNotes) -> Result<Decision> {
    let model = find(state, id)?;
    if let Some(etag) = etag
        && etag != model.etag()
    {
        return Err(etag_mismatch(model));
    }
    let before = model.notes.as_deref();
    notes.edition = before.map_or(0, |notes| notes.edition);
    if before == Some(&notes) || (before.is_none() && notes == ModelNotes::default()) {
        return Ok(Vec::new());
    }
    names_nobody_else(state, id, before, &notes)?;
    notes.edition += 1;
    Ok(vec![recorded(Model { notes: Some(Arc::new(notes)), ..Model::clone(model) })])
}

/// Refuses names that another model has: nobody could say which is meant. Only those that this edit gives: what a path
/// says is not to be refused, so two may be alike already, and that is no reason to refuse a tag.
fn names_nobody_else(
    state: &State,
    id: ModelId,
    before: Option<&ModelNotes>,
    notes: &ModelNotes,
) -> Result<()> {
    let is_new = |alias: &&String| before.is_none_or(|before| !before.aliases.contains(alias));
    let aliases: Vec<&String> = notes.aliases.iter().filter(is_new).collect();
    let name = Some(&notes.name).filter(|name| !name.is_empty() && before.is_none_or(|it| it.name != **name));
    if aliases.is_empty() && name.is_none() {
        return Ok(());
    }
    for other in state.models().iter().filter(|other| other.id != id) {
        let is_theirs = |name: &String| other.notes.as_ref().is_some_and(|it| it.aliases.contains(name));
        if let Some(taken) = aliases.iter().find(|alias| is_theirs(alias)) {
            return Err(taken_by("notes.aliases", taken, "an alias of another model; remove it there first"));
        }
        if let Some(taken) = aliases.iter().find(|alias| alias.as_str() == other.name()) {
            return Err(taken_by("notes.aliases", taken, "what another model is called; take another word"));
        }
        if let Some(taken) = name.filter(|name| is_theirs(name)) {
            return Err(taken_by(
                "notes.display_name",
                taken,
                "an alias of another model; remove it there first",
            ));
        }
    }
    Ok(())
}

fn taken_by(field: &str, name: &str, whose: &str) -> Error {
    Error::invalid_field(field, format!("`{}` is {whose}", hoist_domain::excerpt(name)))
}

/// Takes a model out of the catalog. If its files are still there, the next scan finds them as a new one.
///
/// # Errors
/// RESOURCE_NOT_FOUND, ETAG_MISMATCH; IN_USE when it is on a device, or on its way there.
pub fn delete_model(state: &State, id: ModelId, etag: Option<&str>) -> Result<Decision> {
    let model = find(state, id)?;
    if etag.is_some_and(|etag| etag != model.etag()) {
        return Err(etag_mismatch(model));
    }
    let intents = state.residency().intents().filter(|intent| intent.model == id);
    let devices: Vec<String> = intents.map(|intent| intent.device.to_string()).collect();
    if !devices.is_empty() {
        let message = format!("{} is on {}: unload it first", model.name(), devices.join(", "));
        return Err(Error::new(Reason::InUse, message).with("model", ResourceName::Model(id)));
    }
    let loads = |operation: &&Arc<Operation>| loaded_by(operation).iter().any(|part| part.model == id);
    if let Some(operation) = state.active_operations().find(loads) {
        let message =
            format!("operations/{} loads {}: cancel it, or wait for it", operation.id, model.name());
        return Err(Error::new(Reason::InUse, message).with("model", ResourceName::Model(id)));
    }
    Ok(vec![Event::ModelForgotten { id }])
}

/// What an operation brings to a device.
fn loaded_by(operation: &Operation) -> &[ModelPart] {
    match &operation.work {
        Work::LoadModel(spec) => &spec.parts,
        _ => &[],
    }
}

/// What somebody who read a model's bytes found out.
#[derive(Clone, Debug)]
pub struct Examination {
    pub id: ModelId,
    /// What the model was when it was read.
    pub of: Arc<ModelContent>,
    /// By the component's number.
    pub digests: Vec<(usize, Digest)>,
    /// If everything was looked at.
    pub validation: Option<Validation>,
}

/// Keeps what was found out, unless the files have changed since: then it is of no use.
#[must_use]
pub fn examined(state: &State, examination: Examination) -> Decision {
    let Examination { id, of, digests, validation } = examination;
    let Some(model) = state.models().get(id).filter(|model| model.content.has_bytes_of(&of)) else {
        return Vec::new();
    };
    let mut content = ModelContent::clone(&model.content);
    // What was not read is as certain as it was; what was read is certain unless somebody has touched it since.
    let mut is_unsure: Vec<bool> = content.components.iter().map(|_| content.is_touched).collect();
    for (index, digest) in digests {
        // The number is one of what was read: the same bytes may be other components by now.
        let Some(read) = of.components.get(index) else { continue };
        let mut now = content.components.iter_mut().zip(&mut is_unsure);
        if let Some((component, is_unsure)) = now.find(|(now, _)| is_same_component(now, read)) {
            component.digest = Some(digest);
            *is_unsure = !model.content.is_untouched_since(&of);
        }
    }
    let mut certainty = content.components.iter().zip(is_unsure);
    content.is_touched = certainty.any(|(component, is_unsure)| is_unsure && component.digest.is_some());
    let validation = validation.map(Arc::new).or_else(|| model.validation.clone());
    if content == *model.content && validation == model.validation {
        return Vec::new();
    }
    vec![recorded(Model { content: Arc::new(content), validation, ..Model::clone(model) })]
}
