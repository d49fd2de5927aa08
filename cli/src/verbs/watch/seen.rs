//! What people call models and their components, as far as a watch has seen them.

use std::collections::BTreeMap;

use serde_json::Value;

/// Asked for each line that speaks of a model.
pub(super) trait Names {
    /// What people call a model; else its name.
    fn model(&self, name: &str) -> String;

    /// The component of a model that is in a segment.
    fn component(&self, _model: &str, _segment: &str) -> Option<String> {
        None
    }
}

/// For tests, and for whoever knows no components.
impl<F: Fn(&str) -> String> Names for F {
    fn model(&self, name: &str) -> String {
        self(name)
    }
}

impl Names for BTreeMap<String, Value> {
    fn model(&self, name: &str) -> String {
        self.get(name).and_then(called).unwrap_or(name).to_owned()
    }

    fn component(&self, model: &str, segment: &str) -> Option<String> {
        let digest = segment.strip_prefix("segments/")?;
        let components = self.get(model)?.get("model")?.get("components")?.as_array()?;
        let is_it = |it: &&Value| it.get("digest").and_then(Value::as_str) == Some(digest);
        Some(components.iter().find(is_it)?.get("name")?.as_str()?.to_owned())
    }
}

/// What people call a model; nothing else has a name for them.
pub(super) fn called(resource: &Value) -> Option<&str> {
    resource.get("model")?.get("name")?.as_str()
}
