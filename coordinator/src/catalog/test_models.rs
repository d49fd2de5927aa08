//! Models for tests of lists, filters and names.

use std::path::Path;
use std::sync::Arc;

use hoist_domain::{
    Bytes, FileIdentity, Model, ModelContent, ModelFile, ModelFormat, ModelId, ModelNotes, ModelPath,
    ModelState, Verdict, WallTime,
};
use uuid::Uuid;

/// A single file in order, with tags.
pub(super) fn model(path: &str, model_type: &str, base: &str, bytes: u64, tags: &[&str]) -> Arc<Model> {
    let path = Path::new(path);
    let identity = FileIdentity { device: 1, inode: bytes, size: bytes, modified_ns: 0, changed_ns: 0 };
    let file = ModelFile { path: ModelPath::new(Path::new("")), identity, is_weights: true };
    let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
    Arc::new(Model {
        id: ModelId(Uuid::new_v4()),
        path: ModelPath::new(path),
        path_name: path.file_stem().unwrap().to_str().unwrap().into(),
        state: ModelState::Available,
        content: Arc::new(ModelContent {
            format: ModelFormat::Safetensors,
            model_type: model_type.parse().unwrap(),
            base: base.parse().unwrap(),
            variant: "".into(),
            candidates: [].into(),
            confidence_percent: 95,
            prediction: "".into(),
            resolution: 0,
            title: "".into(),
            tensors: 1,
            parameters: bytes / 2,
            dtypes: [].into(),
            bytes: Bytes(bytes),
            components: [].into(),
            files: [file].into(),
            verdict: Verdict::Ok,
            findings: [].into(),
            is_touched: false,
            reader: 1,
        }),
        notes: (!tags.is_empty()).then(|| Arc::new(ModelNotes { tags, ..ModelNotes::default() })),
        validation: None,
        discovered_at: WallTime(0),
        read_at: WallTime(0),
    })
}
