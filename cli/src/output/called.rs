//! What people call models, where only their resource names are at hand.

use std::collections::HashMap;

use crate::output::text;

/// Models by their resource names. One that is gone is not among them.
#[derive(Debug, Default)]
pub(crate) struct Called(pub(crate) HashMap<String, String>);

impl Called {
    pub(crate) fn get(&self, model: &str) -> Option<&String> {
        self.0.get(model)
    }

    /// On one line; its resource name where nobody knows better.
    pub(crate) fn name(&self, model: &str) -> String {
        text::one_line(self.0.get(model).map_or(model, String::as_str))
    }
}
