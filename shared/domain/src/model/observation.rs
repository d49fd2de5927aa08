//! What a look at the disk saw of one model. Only what is: the planner decides what it means.

use std::sync::Arc;

use super::{ModelContent, ModelId, ModelPath};

/// One thing that a look saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A model is at this path, with this content.
    Found(Box<FoundModel>),
    /// What was known at this path is not there, though its root is.
    Gone { id: ModelId, path: ModelPath },
    /// Another model's file was found at its place, and its own nowhere.
    Overwritten { id: ModelId },
}

/// A model where a look found it.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundModel {
    pub path: ModelPath,
    pub path_name: Arc<str>,
    pub content: Arc<ModelContent>,
    /// The known model whose file this is, and its old path, where another file or none is now.
    pub moved_from: Option<(ModelId, ModelPath)>,
    /// For a model that is new.
    pub new_id: ModelId,
}
