//! Components over all models: which of them are equal, and what sharing those saves.

use std::collections::HashMap;
use std::sync::Arc;

use hoist_domain::{Digest, Model, ModelComponent, ModelState, ModelType, Verdict};
use hoist_planner::Models;

/// Components that are equal; or one alone that has no equal, or whose bytes have not been read.
#[derive(Clone, Debug)]
pub struct Group {
    /// Who has it, and as which of its components; in the order of paths.
    pub users: Vec<(Arc<Model>, usize)>,
}

/// All groups, and what is known of them together.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// Most bytes to save first, then by type, path and place in the model.
    pub groups: Vec<Group>,
    pub saved: u64,
    pub undigested: u64,
}

impl Group {
    /// As its first user has it.
    #[must_use]
    pub fn component(&self) -> Option<&ModelComponent> {
        self.users.first().and_then(|(model, index)| model.content.components.get(*index))
    }

    /// What sharing saves in RAM, where each user would otherwise have a copy.
    #[must_use]
    pub fn saved(&self) -> u64 {
        let bytes = self.component().map_or(0, |component| component.bytes.0);
        bytes.saturating_mul(self.users.len().saturating_sub(1) as u64)
    }
}

/// The components of the models that are there.
#[must_use]
pub fn groups(models: &Models, of_type: Option<ModelType>, shared_only: bool) -> Groups {
    let mut found = Groups::default();
    let mut by_digest: HashMap<Digest, usize> = HashMap::new();
    let mut available: Vec<&Arc<Model>> =
        models.iter().filter(|model| model.state == ModelState::Available).collect();
    available.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    for model in available {
        for (index, component) in model.content.components.iter().enumerate() {
            if of_type.is_some_and(|wanted| wanted != component.component_type) {
                continue;
            }
            let user = (Arc::clone(model), index);
            let place = component.digest.and_then(|digest| by_digest.get(&digest).copied());
            if let Some(group) = place.and_then(|place| found.groups.get_mut(place)) {
                group.users.push(user);
                continue;
            }
            match component.digest {
                Some(digest) => drop(by_digest.insert(digest, found.groups.len())),
                // What is damaged is not read: nothing is missing there.
                None => found.undigested += u64::from(model.content.verdict <= Verdict::Suspicious),
            }
            found.groups.push(Group { users: vec![user] });
        }
    }
    if shared_only {
        found.groups.retain(|group| group.users.len() > 1);
    }
    found.saved = found.groups.iter().fold(0, |sum, group| sum.saturating_add(group.saved()));
    found.groups.sort_by_cached_key(|group| {
        let kind = group.component().map(|component| component.component_type.as_str());
        (std::cmp::Reverse(group.saved()), kind)
    });
    found
}
