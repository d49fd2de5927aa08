//! What an identification looks at.

use std::collections::BTreeMap;

use hoist_domain::ModelFormat;
use hoist_formats::Tensor;

/// Everything about one model that may tell what it is.
#[derive(Clone, Debug, Default)]
pub struct Subject<'a> {
    /// The model's path below its root, for weak evidence: `loras/flux/style.safetensors`.
    pub path: &'a str,
    pub parts: Vec<Part<'a>>,
    /// Small JSON files of a folder by their path in it, already bounded: `model_index.json`, `unet/config.json`.
    pub configs: BTreeMap<&'a str, &'a str>,
}

/// The tensors that belong together: one file, or all shards of one component.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// Where it is in the model: empty for a single file, the sub-folder for a component of a folder (`unet`).
    pub place: &'a str,
    /// Its file name, or the first shard's.
    pub file: &'a str,
    pub format: ModelFormat,
    pub tensors: &'a [Tensor],
    pub metadata: &'a BTreeMap<String, String>,
}
