//! What an identification says.

use hoist_domain::{BaseModel, ModelType};

/// What a model is, how sure that is, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Identification {
    pub model_type: ModelType,
    pub base: BaseModel,
    /// The flavour within the base: `inpaint`, `schnell`, `kohya`, `fp8-scaled`. Empty for the plain one.
    pub variant: String,
    /// Bases that the content cannot tell apart, likeliest first; empty when `base` is decided. `base` is then the first
    /// of them if weak evidence (a name, a folder) favours it, and `unknown` if nothing does.
    pub candidates: Vec<BaseModel>,
    /// 0 to 1. From 0.9 on it is never to be wrong: content proves it. 0.5 to 0.9: declared by metadata or configuration.
    /// Below 0.5: a name or a folder suggests it.
    pub confidence: f32,
    pub prediction: Option<PredictionType>,
    /// Edge in pixels it was made for, where that can be told.
    pub resolution: Option<u32>,
    pub components: Vec<Component>,
    pub evidence: Vec<Evidence>,
}

/// What the network predicts at each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredictionType {
    Epsilon,
    V,
    Flow,
    Edm,
}

/// A part of a model that is cached, shared and loaded on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// `unet`, `vae`, `text_encoder`, `text_encoder_2`, `transformer`, `rest`, ... unique within the model.
    pub name: String,
    pub component_type: ModelType,
    pub base: BaseModel,
    /// Index into the subject's parts.
    pub part: usize,
    /// What its keys begin with in the file, and what is stripped. Of several prefixes that fit a key, the longest has it.
    /// Empty for a component whose keys have none, and for `rest`: both have what no other component of the part claims.
    pub prefix: String,
    pub tensors: u64,
    pub parameters: u64,
}

/// One thing that speaks for the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Where it was seen: `key`, `shape`, `metadata`, `config`, `name`, `folder`.
    pub source: &'static str,
    /// The key, metadata entry or configuration field; foreign text, escaped and cut.
    pub subject: String,
    /// What it says: `width 768: cross-attention of SD 1.x`.
    pub says: String,
}

impl Evidence {
    /// `subject` is somebody's text: it is cut and stripped of what a terminal would obey.
    pub(crate) fn new(source: &'static str, subject: &str, says: impl Into<String>) -> Self {
        Self { source, subject: hoist_domain::excerpt(subject), says: says.into() }
    }
}
