//! Models, and states that hold them, for tests of lists, filters, names and digests.

use std::path::Path;
use std::sync::Arc;

use hoist_domain::{
    Bytes, Digest, Epoch, FileIdentity, Machine, MachineState, Model, ModelComponent, ModelContent,
    ModelFile, ModelFormat, ModelId, ModelNotes, ModelPath, ModelState, ModelType, Position, Revision,
    Verdict, WallTime,
};
use hoist_planner::State;
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

/// A file with one component, whose bytes have been read if there is a digest.
pub(super) fn vae(name: &str, bytes: u64, digest: Option<u8>) -> Model {
    let made = model(&format!("/m/{name}.safetensors"), "vae", "sdxl", bytes, &[]);
    let mut content = ModelContent::clone(&made.content);
    content.components = [ModelComponent {
        name: "vae".into(),
        component_type: ModelType::Vae,
        base: "sdxl".parse().unwrap(),
        place: "".into(),
        prefix: "".into(),
        tensors: 1,
        parameters: bytes,
        bytes: Bytes(bytes),
        digest: digest.map(|digest| Digest([digest; 32])),
    }]
    .into();
    Model { content: Arc::new(content), ..Model::clone(&made) }
}

/// A state of these models and nothing else.
pub(super) fn state_of(models: impl IntoIterator<Item = Model>) -> State {
    let machine = Machine {
        state: MachineState::Serving,
        version: String::new(),
        process_id: 1,
        started_at: WallTime(0),
        measurements: Vec::new(),
    };
    let position = Position { epoch: Epoch(1), revision: Revision(1) };
    State::restore(position, machine, [], [], models.into_iter().map(|model| (Revision(1), model)))
}
