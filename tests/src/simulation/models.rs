//! What happens to models in a simulated life: few paths and few files, so that they are moved, rewritten, edited and
//! missed all the time.

use std::path::Path;
use std::sync::Arc;

use hoist_domain::{
    BaseModel, Bytes, Digest, FileIdentity, FoundModel, ModelComponent, ModelContent, ModelFile, ModelFormat,
    ModelId, ModelNotes, ModelPath, ModelType, Observation, Validation, Verdict, WallTime,
};
use hoist_planner::Examination;
use uuid::Uuid;

use super::{Coordinator, Request, content as hash, key};
use crate::Random;

/// The next request about models.
pub(super) fn request(made: &mut u64, random: &mut Random, coordinator: &Coordinator) -> Request {
    match random.below(10) {
        0..5 => {
            let many = 1 + random.below(3);
            Request::Observe((0..many).map(|_| observation(made, random, coordinator)).collect())
        }
        5..7 => Request::Edit {
            key: key("/update", random.below(20)),
            content: hash(u8::from(random.percent(5))),
            model: some_model(random, coordinator),
            notes: Some(ModelNotes {
                tags: (0..random.below(3)).map(|tag| format!("tag {tag}")).collect(),
                description: format!("words {}", random.below(4)),
                ..ModelNotes::default()
            }),
        },
        7 => Request::Edit {
            key: key("/delete", random.below(20)),
            content: hash(u8::from(random.percent(5))),
            model: some_model(random, coordinator),
            notes: None,
        },
        _ => Request::Examined(vec![examination(random, coordinator)]),
    }
}

fn some_model(random: &mut Random, coordinator: &Coordinator) -> ModelId {
    let view = coordinator.control.view();
    let known: Vec<ModelId> = view.state.models().iter().map(|model| model.id).collect();
    match random.pick(&known) {
        Some(id) if !random.percent(5) => *id,
        _ => ModelId(Uuid::from_u128(random.below(1_000).into())),
    }
}

fn path(random: &mut Random) -> ModelPath {
    ModelPath::new(Path::new(&format!("/models/{}.safetensors", random.below(6))))
}

fn observation(made: &mut u64, random: &mut Random, coordinator: &Coordinator) -> Observation {
    let id = some_model(random, coordinator);
    let at = coordinator.control.view().state.models().get(id).map(|model| model.path.clone());
    if random.percent(30) {
        return Observation::Gone { id, path: at.unwrap_or_else(|| path(random)) };
    }
    if random.percent(10) {
        return Observation::Overwritten { id };
    }
    *made += 1;
    let path = path(random);
    let new_id = (u128::from(*made) << 80) | u128::from(random.below(1 << 32));
    Observation::Found(Box::new(FoundModel {
        path_name: path.text().as_ref().into(),
        path,
        content: Arc::new(content(random.below(5), random.below(3))),
        moved_from: at.filter(|_| random.percent(40)).map(|at| (id, at)),
        new_id: ModelId(Uuid::from_u128(new_id)),
    }))
}

fn examination(random: &mut Random, coordinator: &Coordinator) -> Examination {
    let id = some_model(random, coordinator);
    let known = coordinator.control.view().state.models().get(id).map(|model| Arc::clone(&model.content));
    Examination {
        id,
        of: known.unwrap_or_else(|| Arc::new(content(0, 0))),
        digests: vec![(0, Digest([u8::try_from(random.below(3)).unwrap_or_default(); 32]))],
        validation: random.percent(50).then(|| Validation {
            verdict: if random.percent(50) { Verdict::Ok } else { Verdict::Corrupt },
            findings: Box::default(),
            at: WallTime(0),
        }),
    }
}

/// What a file says that was written for the so-manieth time.
fn content(inode: u64, written: u64) -> ModelContent {
    let size = 100 + written;
    let modified_ns = i64::try_from(written).unwrap_or_default();
    ModelContent {
        format: ModelFormat::Safetensors,
        model_type: ModelType::Unet,
        base: BaseModel::unknown(),
        variant: "".into(),
        candidates: Box::default(),
        confidence_percent: 90,
        prediction: "".into(),
        resolution: 0,
        title: "".into(),
        tensors: 1,
        parameters: size,
        dtypes: Box::default(),
        bytes: Bytes(size),
        components: [ModelComponent {
            name: "unet".into(),
            component_type: ModelType::Unet,
            base: BaseModel::unknown(),
            place: "".into(),
            prefix: "".into(),
            tensors: 1,
            parameters: size,
            bytes: Bytes(size),
            digest: None,
        }]
        .into(),
        files: [ModelFile {
            path: ModelPath::new(Path::new("")),
            identity: FileIdentity { device: 1, inode, size, modified_ns, changed_ns: 0 },
            is_weights: true,
        }]
        .into(),
        verdict: Verdict::Ok,
        findings: Box::default(),
        is_touched: false,
        reader: 1,
    }
}
