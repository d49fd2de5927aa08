//! What a look at the disk, or a person's edit, means for the catalog.
//!
//! Properties: a path has one model; a model keeps its id and what people wrote about it through moves, renames and
//! rewrites; nothing that people wrote is forgotten because a file is not there; equal observations change nothing.

use std::sync::Arc;

use hoist_domain::{
    Digest, Error, Model, ModelComponent, ModelContent, ModelId, ModelNotes, ModelPath, ModelState, Reason,
    ResourceName, Result, Validation, WallTime,
};

use crate::{Decision, Event, State};

/// What a scan saw, one model at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A model is at this path, with this content.
    Seen(Box<Sighting>),
    /// What was known at this path is not there, though its root is.
    Gone { id: ModelId, path: ModelPath },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    pub path: ModelPath,
    pub path_name: Arc<str>,
    pub content: Arc<ModelContent>,
    /// The known model whose file this is, and its old path, when nothing is there any more.
    pub moved_from: Option<(ModelId, ModelPath)>,
    /// For a model that is new.
    pub new_id: ModelId,
}

/// What observations changed, for the scan's report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub added: u64,
    pub changed: u64,
    pub moved: u64,
    pub missing: u64,
}

/// Judges observations against the state. They may be out of date: the state has moved on since the scan looked.
#[must_use]
pub fn observe(state: &State, observations: &[Observation], now: WallTime) -> (Decision, Observed) {
    let mut draft = state.models().clone();
    let mut events = Vec::new();
    let mut observed = Observed::default();
    for observation in observations {
        let event = match observation {
            Observation::Seen(sighting) => seen(&draft, sighting, now, &mut observed),
            Observation::Gone { id, path } => gone(&draft, *id, path, &mut observed),
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
    (events, observed)
}

fn seen(models: &crate::Models, sighting: &Sighting, now: WallTime, observed: &mut Observed) -> Decision {
    let Sighting { path, path_name, content, moved_from, new_id } = sighting;
    if let Some(known) = models.at(path) {
        let content = &with_digests(&known.content, content);
        // Something moved onto a place that had a model: the place wins, the notes that were made there stay there.
        let unchanged = known.content == *content && known.state == ModelState::Available;
        if unchanged && known.path_name == *path_name {
            return Vec::new();
        }
        observed.changed += 1;
        return vec![recorded(Model {
            path_name: Arc::clone(path_name),
            state: ModelState::Available,
            validation: still_valid(known, content),
            content: Arc::clone(content),
            read_at: now,
            ..Model::clone(known)
        })];
    }
    if let Some(moved) = moved_from.as_ref().and_then(|(id, from)| still_there(models, *id, from, content)) {
        let content = &with_digests(&moved.content, content);
        observed.moved += 1;
        return vec![recorded(Model {
            path: path.clone(),
            path_name: Arc::clone(path_name),
            state: ModelState::Available,
            validation: still_valid(moved, content),
            content: Arc::clone(content),
            read_at: now,
            ..Model::clone(moved)
        })];
    }
    observed.added += 1;
    vec![recorded(Model {
        id: *new_id,
        path: path.clone(),
        path_name: Arc::clone(path_name),
        state: ModelState::Available,
        // A copy, made by the thread that replaces it when its digests are known: what one replaces, the next takes the
        // place of. Those that reading threads made would leave holes in their own parts of the heap, as large as all
        // contents together.
        content: Arc::new(ModelContent::clone(content)),
        notes: None,
        validation: None,
        discovered_at: now,
        read_at: now,
    })]
}

/// The model that was known at a path, as long as it is there and this file is still its: in one look, another file may
/// have taken its place, or another link to the same file may have been seen first.
fn still_there<'a>(
    models: &'a crate::Models,
    id: ModelId,
    from: &ModelPath,
    content: &ModelContent,
) -> Option<&'a Arc<Model>> {
    let file =
        |content: &ModelContent| content.main_file().map(|file| (file.identity.device, file.identity.inode));
    models.get(id).filter(|model| model.path == *from && file(&model.content) == file(content))
}

fn still_valid(known: &Model, content: &ModelContent) -> Option<Arc<Validation>> {
    known.validation.clone().filter(|_| known.content.has_bytes_of(content))
}

/// Digests that were found before hold for the same bytes: nothing is read again because it was renamed.
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
    Arc::new(content)
}

fn is_same_component(one: &ModelComponent, other: &ModelComponent) -> bool {
    (&one.name, &one.place, &one.prefix, one.bytes) == (&other.name, &other.place, &other.prefix, other.bytes)
}

fn gone(models: &crate::Models, id: ModelId, path: &ModelPath, observed: &mut Observed) -> Decision {
    match models.get(id) {
        // It has moved meanwhile, or is known to be missing.
        Some(model) if model.path != *path || model.state == ModelState::Missing => Vec::new(),
        Some(model) if model.notes.is_some() => {
            observed.missing += 1;
            vec![recorded(Model { state: ModelState::Missing, ..Model::clone(model) })]
        }
        Some(_) => {
            observed.missing += 1;
            vec![Event::ModelForgotten { id }]
        }
        None => Vec::new(),
    }
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
/// RESOURCE_NOT_FOUND, ETAG_MISMATCH, and ALREADY_EXISTS-like FIELD_INVALID when an alias belongs to another model.
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
    if let Some(taken) = notes.aliases.iter().find(|alias| alias_of_another(state, id, alias)) {
        return Err(Error::invalid_field(
            "model.aliases",
            format!("`{}` is an alias of another model; remove it there first", hoist_domain::excerpt(taken)),
        ));
    }
    notes.edition += 1;
    Ok(vec![recorded(Model { notes: Some(Arc::new(notes)), ..Model::clone(model) })])
}

fn alias_of_another(state: &State, id: ModelId, alias: &str) -> bool {
    state.models().iter().any(|other| {
        other.id != id
            && other.notes.as_ref().is_some_and(|notes| notes.aliases.iter().any(|known| known == alias))
    })
}

/// Takes a model out of the catalog. If its files are still there, the next scan finds them as a new one.
///
/// # Errors
/// RESOURCE_NOT_FOUND, ETAG_MISMATCH.
pub fn delete_model(state: &State, id: ModelId, etag: Option<&str>) -> Result<Decision> {
    let model = find(state, id)?;
    if etag.is_some_and(|etag| etag != model.etag()) {
        return Err(etag_mismatch(model));
    }
    Ok(vec![Event::ModelForgotten { id }])
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
    for (index, digest) in digests {
        // The number is one of what was read: the same bytes may be other components by now.
        let Some(read) = of.components.get(index) else { continue };
        if let Some(component) = content.components.iter_mut().find(|now| is_same_component(now, read)) {
            component.digest = Some(digest);
        }
    }
    let validation = validation.map(Arc::new).or_else(|| model.validation.clone());
    if content == *model.content && validation == model.validation {
        return Vec::new();
    }
    vec![recorded(Model { content: Arc::new(content), validation, ..Model::clone(model) })]
}
