//! What people call models and their components, where only their resource names are at hand.

use std::collections::{BTreeMap, HashMap};

use hoist_wire::v1;

use crate::output::apart::apart;
use crate::output::cache::short_segment;
use crate::output::text;

/// Models by their resource names. One that is gone is not among them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Called(pub(crate) HashMap<String, String>);

impl Called {
    pub(crate) fn of<'m>(models: impl IntoIterator<Item = &'m v1::Model>) -> Self {
        Self(models.into_iter().map(|it| (it.name.clone(), it.display_name.clone())).collect())
    }

    /// Each by what tells it from the others: for people, who may have two of one name.
    pub(crate) fn apart<'m>(models: impl IntoIterator<Item = &'m v1::Model>) -> Self {
        let models: BTreeMap<&str, &v1::Model> =
            models.into_iter().map(|it| (it.name.as_str(), it)).collect();
        let things: Vec<(&str, &str)> =
            models.values().map(|it| (it.display_name.as_str(), it.path.as_str())).collect();
        Self(models.keys().map(|name| (*name).to_owned()).zip(apart(&things)).collect())
    }

    pub(crate) fn get(&self, model: &str) -> Option<&String> {
        self.0.get(model)
    }

    /// On one line; its resource name where nobody knows better.
    pub(crate) fn name(&self, model: &str) -> String {
        text::one_line(self.0.get(model).map_or(model, String::as_str))
    }
}

/// Components of models, by the segments that have the same content.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) called: Called,
    /// Model and component, by `segments/{digest}`.
    by_segment: HashMap<String, Vec<(String, String)>>,
}

impl Parts {
    pub(crate) fn of<'m>(models: impl IntoIterator<Item = &'m v1::Model> + Clone) -> Self {
        let mut by_segment: HashMap<String, Vec<(String, String)>> = HashMap::new();
        for model in models.clone() {
            for it in model.components.iter().filter(|it| !it.digest.is_empty()) {
                let users = by_segment.entry(format!("segments/{}", it.digest)).or_default();
                users.push((model.name.clone(), it.name.clone()));
            }
        }
        Self { called: Called::of(models), by_segment }
    }

    /// The first of these models that has the segment, and how many others have it: `sdxl:vae +3`.
    pub(crate) fn users(&self, segment: &str, models: &[String]) -> String {
        let parts = || self.by_segment.get(segment).into_iter().flatten();
        let part = |model: &String| parts().find(|(of, _)| of == model).map(|(_, name)| name.as_str());
        // One whose component is known tells more.
        let Some(first) = models.iter().find(|it| part(it).is_some()).or_else(|| models.first()) else {
            return self.content(segment);
        };
        let name = match part(first) {
            Some(component) => format!("{}:{}", self.called.name(first), text::one_line(component)),
            None => self.called.name(first),
        };
        match models.len() {
            0 | 1 => name,
            all => format!("{name} +{}", all - 1),
        }
    }

    /// The first component that is known to be in a segment, and how many others are: `sdxl:vae +3`.
    pub(crate) fn known(&self, segment: &str) -> Option<String> {
        let (first, others) = self.by_segment.get(segment)?.split_first()?;
        let name = format!("{}:{}", self.called.name(&first.0), text::one_line(&first.1));
        Some(if others.is_empty() { name } else { format!("{name} +{}", others.len()) })
    }

    /// The same, else the start of its digest.
    pub(crate) fn content(&self, segment: &str) -> String {
        let start = || text::one_line(short_segment(segment).unwrap_or(segment));
        self.known(segment).unwrap_or_else(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, components: &[(&str, &str)]) -> v1::Model {
        let component = |(name, digest): &(&str, &str)| v1::ModelComponent {
            name: (*name).to_owned(),
            digest: (*digest).to_owned(),
            ..Default::default()
        };
        v1::Model {
            name: format!("models/{name}"),
            display_name: name.to_owned(),
            components: components.iter().map(component).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_segment_is_called_by_the_component_of_who_has_it() {
        let models = [model("a", &[("vae", "ab"), ("unet", "")]), model("b", &[("vae", "ab")])];
        let parts = Parts::of(&models);
        let users = |segment: &str, of: &[&str]| {
            parts.users(segment, &of.iter().map(|name| format!("models/{name}")).collect::<Vec<_>>())
        };
        assert_eq!(users("segments/ab", &["b"]), "b:vae");
        assert_eq!(users("segments/ab", &["x", "b"]), "b:vae +1");
        assert_eq!(users("segments/cd", &["a"]), "a", "its digest is not known yet");
        assert_eq!(users("segments/ab", &[]), "a:vae +1");
        assert_eq!(users("segments/cd", &[]), "cd");
        assert_eq!(users("segments/cd", &["x"]), "models/x");
    }
}
