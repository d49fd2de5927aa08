//! The rules of the catalog over a plain list: no indexes, no sharing, nothing of the planner's own code.

use std::sync::Arc;

use hoist_domain::{
    FoundModel, Model, ModelContent, ModelId, ModelNotes, ModelState, Observation, Reason, WallTime,
};
use hoist_planner::{CatalogChanges, Examination};

#[derive(Debug, Default)]
pub(crate) struct Naive {
    pub(crate) models: Vec<Model>,
}

/// Device, inode, size and time of writing of each file with tensors.
type Bytes = Vec<(u64, u64, u64, i64)>;

fn bytes(content: &ModelContent) -> Bytes {
    let mut all = Vec::new();
    for file in &content.files {
        if file.is_weights {
            let of = &file.identity;
            all.push((of.device, of.inode, of.size, of.modified_ns));
        }
    }
    all
}

/// When each file with tensors was last touched.
fn touches(content: &ModelContent) -> Vec<i64> {
    content.files.iter().filter(|file| file.is_weights).map(|file| file.identity.changed_ns).collect()
}

/// The new content with what was known of the same bytes, and whether they are the same.
fn carried(old: &ModelContent, new: &ModelContent) -> (ModelContent, bool) {
    let mut content = new.clone();
    let is_same = bytes(old) == bytes(new);
    for component in &mut content.components {
        for known in &old.components {
            let is_it = known.name == component.name && known.bytes == component.bytes;
            if is_same && is_it && component.digest.is_none() {
                component.digest = known.digest;
            }
            if is_same && component.digest.is_some() {
                content.is_touched |= old.is_touched || touches(old) != touches(new);
            }
        }
    }
    (content, is_same)
}

impl Naive {
    fn find(&mut self, id: ModelId) -> Option<&mut Model> {
        self.models.iter_mut().find(|model| model.id == id)
    }

    pub(crate) fn observe(&mut self, observations: &[Observation], now: WallTime) -> CatalogChanges {
        let mut changes = CatalogChanges::default();
        for observation in observations {
            match observation {
                Observation::Found(found) => self.seen(found, now, &mut changes),
                Observation::Gone { id, path } => {
                    let place = self.models.iter().position(|model| {
                        let is_news = model.state == ModelState::Available || model.notes.is_none();
                        model.id == *id && model.path == *path && is_news
                    });
                    let Some(place) = place else { continue };
                    changes.missing += 1;
                    if self.models[place].notes.is_some() {
                        self.models[place].state = ModelState::Missing;
                    } else {
                        self.models.remove(place);
                    }
                }
                Observation::Overwritten { id } => {
                    let before = self.models.len();
                    self.models.retain(|model| {
                        model.id != *id || model.state != ModelState::Displaced || model.notes.is_some()
                    });
                    changes.missing += (before - self.models.len()) as u64;
                }
            }
        }
        changes
    }

    fn seen(&mut self, found: &FoundModel, now: WallTime, changes: &mut CatalogChanges) {
        let file = |content: &ModelContent| (bytes(content)[0].0, bytes(content)[0].1);
        let here = self
            .models
            .iter()
            .position(|model| model.path == found.path && model.state != ModelState::Displaced);
        let moved = found.moved_from.as_ref().and_then(|(id, from)| {
            self.models.iter().position(|model| {
                // A claim that has become untrue is none.
                let is_same_file = file(&model.content) == file(&found.content);
                model.id == *id && model.path == *from && is_same_file
            })
        });
        let is_over_another = match (here, moved) {
            (Some(here), Some(moved)) => {
                here != moved && file(&self.models[here].content) != file(&found.content)
            }
            _ => false,
        };
        if let (true, Some(place)) = (is_over_another, here) {
            self.models[place].state = ModelState::Displaced;
            changes.missing += 1;
        }
        let here = here.filter(|_| !is_over_another);
        let Some(place) = here.or(moved) else {
            changes.added += 1;
            self.models.push(Model {
                id: found.new_id,
                path: found.path.clone(),
                path_name: Arc::clone(&found.path_name),
                state: ModelState::Available,
                content: Arc::clone(&found.content),
                notes: None,
                validation: None,
                discovered_at: now,
                read_at: now,
            });
            return;
        };
        let model = &mut self.models[place];
        let (content, is_same) = carried(&model.content, &found.content);
        let is_known = content == *model.content && model.path_name == found.path_name;
        if here.is_some() && is_known && model.state == ModelState::Available {
            return;
        }
        if here.is_some() {
            changes.changed += 1;
        } else {
            changes.moved += 1;
        }
        model.path = found.path.clone();
        model.path_name = Arc::clone(&found.path_name);
        model.content = Arc::new(content);
        model.state = ModelState::Available;
        model.read_at = now;
        if !is_same {
            model.validation = None;
        }
    }

    /// Whether anything changed.
    pub(crate) fn edit(
        &mut self,
        id: ModelId,
        etag: Option<&str>,
        mut notes: ModelNotes,
    ) -> Result<bool, Reason> {
        let others: Vec<String> = self
            .models
            .iter()
            .filter(|model| model.id != id)
            .flat_map(|model| model.notes.iter().flat_map(|notes| notes.aliases.clone()))
            .collect();
        let model = self.find(id).ok_or(Reason::ResourceNotFound)?;
        let edition = model.notes.as_ref().map_or(0, |notes| notes.edition);
        if etag.is_some_and(|etag| etag != edition.to_string()) {
            return Err(Reason::EtagMismatch);
        }
        let before = model.notes.as_deref().cloned().unwrap_or_default();
        notes.edition = before.edition;
        if notes == before {
            return Ok(false);
        }
        if notes.aliases.iter().any(|alias| others.contains(alias)) {
            return Err(Reason::FieldInvalid);
        }
        notes.edition += 1;
        model.notes = Some(Arc::new(notes));
        Ok(true)
    }

    pub(crate) fn delete(&mut self, id: ModelId, etag: Option<&str>) -> Result<(), Reason> {
        let model = self.find(id).ok_or(Reason::ResourceNotFound)?;
        let edition = model.notes.as_ref().map_or(0, |notes| notes.edition);
        if etag.is_some_and(|etag| etag != edition.to_string()) {
            return Err(Reason::EtagMismatch);
        }
        self.models.retain(|model| model.id != id);
        Ok(())
    }

    /// Whether anything changed.
    pub(crate) fn examine(&mut self, examination: &Examination) -> bool {
        let Some(model) = self.find(examination.id) else { return false };
        if bytes(&model.content) != bytes(&examination.of) {
            return false;
        }
        let before = model.clone();
        let mut content = ModelContent::clone(&model.content);
        let mut read_now = Vec::new();
        for (number, digest) in &examination.digests {
            // The number is one of what was read, which may have been put together otherwise.
            let Some(read) = examination.of.components.get(*number) else { continue };
            for component in &mut content.components {
                if component.name == read.name {
                    component.digest = Some(*digest);
                    read_now.push(read.name.clone());
                }
            }
        }
        let is_touched_since = touches(&before.content) != touches(&examination.of);
        content.is_touched = content.components.iter().any(|component| {
            let is_read = read_now.contains(&component.name);
            let is_unsure = if is_read { is_touched_since } else { before.content.is_touched };
            is_unsure && component.digest.is_some()
        });
        model.content = Arc::new(content);
        if let Some(validation) = &examination.validation {
            model.validation = Some(Arc::new(validation.clone()));
        }
        *model != before
    }
}
