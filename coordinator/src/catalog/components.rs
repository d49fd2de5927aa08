//! Components over all models: which of them are equal, and what sharing those saves.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use hoist_domain::{
    Digest, Error, Model, ModelComponent, ModelId, ModelPath, ModelState, ModelType, Result, Verdict,
};
use hoist_planner::Models;
use uuid::Uuid;

/// Components that are equal; or one alone that has no equal, or whose bytes have not been read.
#[derive(Clone, Debug)]
pub struct Group {
    /// Who has it, and as which of its components; in the order of paths.
    pub users: Vec<(Arc<Model>, usize)>,
}

/// All groups, and what is known of them together.
#[derive(Clone, Debug, Default)]
struct Groups {
    /// Most bytes to save first, then by type, path and place in the model.
    groups: Vec<Group>,
    saved: u64,
    undigested: u64,
}

/// A page of the list of groups.
#[derive(Clone, Debug)]
pub struct GroupPage {
    pub groups: Vec<Group>,
    /// On all pages together.
    pub total: usize,
    pub saved: u64,
    pub undigested: u64,
    start: usize,
    mark: String,
}

/// What a group is ordered by. Groups move in the list as digests come in; the place after a key stays where it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    saved: Reverse<u64>,
    kind: &'a str,
    path: &'a ModelPath,
    /// Of models at one path, and of components of one model.
    model: ModelId,
    index: usize,
}

impl Group {
    /// As its first user has it.
    #[must_use]
    pub fn component(&self) -> Option<&ModelComponent> {
        self.users.first().and_then(|(model, index)| model.content.components.get(*index))
    }

    fn key(&self) -> Option<Key<'_>> {
        let (model, index) = self.users.first()?;
        let kind = self.component()?.component_type.as_str();
        Some(Key { saved: Reverse(self.saved()), kind, path: &model.path, model: model.id, index: *index })
    }

    /// What sharing saves in RAM, where each user would otherwise have a copy.
    #[must_use]
    pub fn saved(&self) -> u64 {
        let bytes = self.component().map_or(0, |component| component.bytes.0);
        bytes.saturating_mul(self.users.len().saturating_sub(1) as u64)
    }
}

impl GroupPage {
    /// The token for what comes after the first `shown` of this page; none if that is the end of the list.
    #[must_use]
    pub fn token_after(&self, shown: usize) -> String {
        let passed = self.start + shown;
        let last = shown.checked_sub(1).and_then(|last| self.groups.get(last)).and_then(Group::key);
        match last {
            Some(Key { saved, kind, model, index, .. }) if passed < self.total => {
                format!("{}.{passed}.{}.{kind}.{model}.{index}", self.mark, saved.0)
            }
            _ => String::new(),
        }
    }
}

/// Where a page ended: after the group that had this key, which was the so-manieth.
struct Token<'a> {
    passed: usize,
    saved: u64,
    kind: &'a str,
    model: ModelId,
    index: usize,
}

impl<'a> Token<'a> {
    fn parse(text: &'a str, mark: &str) -> Result<Self> {
        let read = || {
            let mut parts = text.split('.');
            let is_ours = parts.next()? == mark;
            let token = Self {
                passed: parts.next()?.parse().ok()?,
                saved: parts.next()?.parse().ok()?,
                kind: parts.next()?,
                model: ModelId(Uuid::try_parse(parts.next()?).ok()?),
                index: parts.next()?.parse().ok()?,
            };
            (is_ours && parts.next().is_none()).then_some(token)
        };
        read().ok_or_else(Error::other_page)
    }
}

/// The page of the list of components that a token names.
///
/// # Errors
/// PAGE_TOKEN_INVALID.
pub fn components(
    models: &Models,
    of_type: Option<ModelType>,
    shared_only: bool,
    size: usize,
    token: &str,
) -> Result<GroupPage> {
    let mark = format!("{}{}", of_type.map_or("any", |kind| kind.as_str()), u8::from(shared_only));
    let after = if token.is_empty() { None } else { Some(Token::parse(token, &mark)?) };
    let Groups { groups, saved, undigested } = groups(models, of_type, shared_only);
    let total = groups.len();
    let start = after.map_or(0, |Token { passed, saved, kind, model: id, index }| match models.get(id) {
        Some(model) => {
            let last = Key { saved: Reverse(saved), kind, path: &model.path, model: id, index };
            groups.partition_point(|group| group.key().is_some_and(|key| key <= last))
        }
        // Without the model that a page ended with, its number has to do.
        None => passed.min(total),
    });
    let groups = groups.into_iter().skip(start).take(size).collect();
    Ok(GroupPage { groups, total, saved, undigested, start, mark })
}

/// The components of the models that are there and can be used: what is damaged shares nothing, whatever its bytes were
/// when they were read, and has none to read.
fn groups(models: &Models, of_type: Option<ModelType>, shared_only: bool) -> Groups {
    let mut found = Groups::default();
    let mut by_digest: HashMap<Digest, usize> = HashMap::new();
    let is_usable =
        |model: &&Arc<Model>| model.state == ModelState::Available && model.verdict() <= Verdict::Suspicious;
    let mut available: Vec<&Arc<Model>> = models.iter().filter(is_usable).collect();
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
                None => found.undigested += 1,
            }
            found.groups.push(Group { users: vec![user] });
        }
    }
    if shared_only {
        found.groups.retain(|group| group.users.len() > 1);
    }
    found.saved = found.groups.iter().fold(0, |sum, group| sum.saturating_add(group.saved()));
    found.groups.sort_by(|one, other| one.key().cmp(&other.key()));
    found
}

#[cfg(test)]
mod tests {
    use hoist_domain::ModelContent;

    use super::*;
    use crate::catalog::test_models::{state_of, vae};

    fn names(page: &GroupPage) -> Vec<&str> {
        page.groups.iter().map(|group| group.users[0].0.name()).collect()
    }

    #[test]
    fn a_next_page_shows_what_has_not_been_shown_though_groups_have_moved() {
        let mut models: Vec<Model> =
            ["a", "b", "c", "d", "e", "f"].iter().map(|name| vae(name, 10, None)).collect();
        let first = components(state_of(models.iter().cloned()).models(), None, false, 2, "").unwrap();
        assert_eq!((names(&first), first.total), (vec!["a", "b"], 6));
        let token = first.token_after(2);

        // Digests come in: e and f are equal, and go to the top of the list.
        for late in &mut models[4..] {
            let id = late.id;
            *late = Model { id, ..vae(&late.path_name.clone(), 10, Some(7)) };
        }
        let second = components(state_of(models.iter().cloned()).models(), None, false, 2, &token).unwrap();
        assert_eq!(names(&second), ["c", "d"], "neither b again nor c left out");
        assert_eq!(second.token_after(2), "", "that was the last");

        // And the one that the page ended with goes up itself, or away.
        models[1] = Model { id: models[1].id, ..vae("b", 10, Some(7)) };
        assert_eq!(
            names(&components(state_of(models.iter().cloned()).models(), None, false, 9, &token).unwrap()),
            ["c", "d"]
        );
        let fewer = [models[0].clone(), models[2].clone(), models[3].clone()];
        let by_number = components(state_of(fewer.iter().cloned()).models(), None, false, 9, &token).unwrap();
        assert_eq!(names(&by_number), ["d"]);
    }

    #[test]
    fn what_is_damaged_shares_nothing() {
        let with = |verdict: Verdict, one: Model| {
            let content = ModelContent { verdict, ..ModelContent::clone(&one.content) };
            Model { content: Arc::new(content), ..one }
        };
        let models = [
            vae("a", 10, Some(7)),
            with(Verdict::Suspicious, vae("odd", 10, Some(7))),
            with(Verdict::Incomplete, vae("cut", 10, Some(7))),
            with(Verdict::Corrupt, vae("unread", 10, None)),
        ];
        let page = components(state_of(models.iter().cloned()).models(), None, false, 9, "").unwrap();
        let users: Vec<&str> = page.groups.iter().flat_map(|it| &it.users).map(|(it, _)| it.name()).collect();
        assert_eq!((users, page.saved, page.undigested), (vec!["a", "odd"], 10, 0));
    }

    #[test]
    fn a_token_of_another_list_is_refused() {
        let models = ["a", "b"].map(|name| vae(name, 10, None));
        let state = state_of(models.iter().cloned());
        let token = components(state.models(), None, false, 1, "").unwrap().token_after(1);
        for (of_type, shared_only, token) in [
            (Some(ModelType::Vae), false, token.as_str()),
            (None, true, &token),
            (None, false, "1"),
            (None, false, "any0.1.2.vae.x.0"),
        ] {
            let refused = components(state.models(), of_type, shared_only, 1, token).unwrap_err();
            assert_eq!(refused.reason(), hoist_domain::Reason::PageTokenInvalid, "{token}");
        }
    }
}
