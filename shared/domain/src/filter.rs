//! Which resources somebody wants to see.

use std::collections::BTreeSet;

use crate::{OperationState, ResourceKind, ResourceName};

/// A resource passes if it passes every set that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub kinds: BTreeSet<ResourceKind>,
    pub names: BTreeSet<ResourceName>,
    /// Judges operations only; other kinds pass.
    pub operation_states: BTreeSet<OperationState>,
}

impl Filter {
    /// Whether everything passes: such a watcher can be served bytes that are shared with all others like it.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.kinds.is_empty() && self.names.is_empty() && self.operation_states.is_empty()
    }

    /// `state` is the operation's, for an operation.
    #[must_use]
    pub fn passes(&self, name: ResourceName, state: Option<OperationState>) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&name.kind()))
            && (self.names.is_empty() || self.names.contains(&name))
            && (self.operation_states.is_empty() || state.is_none_or(|s| self.operation_states.contains(&s)))
    }
}
