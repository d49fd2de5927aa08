//! A small world: a few models made of a few contents, most of which several of them share.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hoist_domain::{
    BaseModel, Bytes, CacheReport, CacheSpec, ContentHash, Digest, Epoch, FileIdentity, Lease, LeaseId,
    LeaseState, Machine, MachineState, Model, ModelComponent, ModelConfig, ModelContent, ModelFile,
    ModelFormat, ModelId, ModelNotes, ModelPath, ModelState, ModelType, OperationId, OperationOutput,
    Outcome, Position, Principal, Priority, RequestId, RequestKey, Revision, SegmentName, Verdict, WallTime,
    Work,
};
use hoist_planner::cache::{EvictionAsk, Facts, Out, Part, Parts};
use hoist_planner::{Moment, Submission};
use uuid::Uuid;

/// Names and contents of the models' components. The third has two that are equal.
pub(crate) const MODELS: [&[(&str, u8)]; 4] = [
    &[("unet", 0), ("vae", 3), ("text", 4)],
    &[("unet", 1), ("vae", 3), ("text", 4)],
    &[("unet", 2), ("text", 3), ("text_2", 3)],
    &[("unet", 5), ("text", 4)],
];

pub(crate) const CONTENTS: u8 = 6;

/// What a content takes of the memory.
pub(crate) fn bytes_of(content: u8) -> Bytes {
    Bytes([40, 30, 20, 12, 15, 25][usize::from(content % CONTENTS)])
}

pub(crate) fn digest(content: u8) -> Digest {
    Digest([content + 1; 32])
}

pub(crate) fn content_name(content: u8) -> SegmentName {
    SegmentName::Content(digest(content))
}

pub(crate) fn model_id(model: usize) -> ModelId {
    ModelId(Uuid::from_u128(model as u128 + 1))
}

pub(crate) fn source_name(model: usize, component: usize) -> SegmentName {
    SegmentName::Source { model: model_id(model), component: u32::try_from(component).unwrap() }
}

/// A model of the catalog. Only components that are known have digests.
pub(crate) fn model(model: usize, contents: &[u8], known: &BTreeSet<usize>, config: &ModelConfig) -> Model {
    let components = MODELS[model].iter().zip(contents).enumerate();
    let components = components.map(|(place, ((name, _), content))| ModelComponent {
        name: (*name).into(),
        component_type: ModelType::Unet,
        base: BaseModel::unknown(),
        place: "".into(),
        prefix: "".into(),
        tensors: 1,
        parameters: 1,
        bytes: bytes_of(*content),
        digest: known.contains(&place).then(|| digest(*content)),
    });
    let content = ModelContent {
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
        parameters: 1,
        dtypes: Box::default(),
        bytes: Bytes(100),
        components: components.collect(),
        files: [ModelFile {
            path: ModelPath::new(Path::new("")),
            identity: FileIdentity {
                device: 1,
                inode: model as u64,
                size: 100,
                modified_ns: 0,
                changed_ns: 0,
            },
            is_weights: true,
        }]
        .into(),
        verdict: Verdict::Ok,
        findings: Box::default(),
        is_touched: false,
        reader: 1,
    };
    let notes = ModelNotes { config: config.clone(), ..ModelNotes::default() };
    Model {
        id: model_id(model),
        path: ModelPath::new(Path::new(&format!("/models/{model}"))),
        path_name: format!("model {model}").into(),
        state: ModelState::Available,
        content: Arc::new(content),
        notes: (*config != ModelConfig::default()).then(|| Arc::new(notes)),
        validation: None,
        discovered_at: WallTime(0),
        read_at: WallTime(0),
    }
}

pub(crate) fn machine() -> Machine {
    Machine {
        state: MachineState::Serving,
        version: String::new(),
        process_id: 1,
        started_at: WallTime(0),
        measurements: Vec::new(),
    }
}

pub(crate) const START: Position = Position { epoch: Epoch(1), revision: Revision(0) };

pub(crate) fn spec(model: usize, components: &[&str], priority: Priority) -> CacheSpec {
    CacheSpec {
        model: model_id(model),
        components: components.iter().map(|name| (*name).into()).collect(),
        priority,
        validate: false,
        allow: Vec::new(),
    }
}

/// A component as its operation asks for it.
pub(crate) fn want(model: usize, component: usize, content: u8, is_known: bool) -> Part {
    let source = source_name(model, component);
    Part {
        name: if is_known { content_name(content) } else { source },
        source,
        bytes: bytes_of(content),
        is_raw: false,
        component_type: ModelType::Unet,
    }
}

/// A request of somebody's own for this work.
pub(crate) fn submission(id: Uuid, spec: CacheSpec) -> Submission {
    Submission {
        key: RequestKey { principal: Principal::Uid(1), method: "/cache".into(), id: RequestId(id) },
        content: ContentHash([0; 32]),
        work: Work::CacheModel(spec),
        deadline: Duration::from_secs(1 << 20),
        new_id: OperationId(id),
    }
}

/// A lease on components of a model, with what they are.
pub(crate) fn lease(id: Uuid, model: usize, components: &[(usize, u8)], now: Moment) -> Lease {
    let name = |(place, content): &(usize, u8)| (MODELS[model][*place].0.into(), digest(*content));
    Lease {
        id: LeaseId(id),
        state: LeaseState::Held,
        model: model_id(model),
        components: components.iter().map(name).collect(),
        on: None,
        bytes: Bytes(0),
        holder: String::new(),
        principal: Principal::Uid(1),
        process: None,
        granted_at: now.wall,
    }
}

/// These components of these models, all of a model with none named, and these contents; everything, when nothing is named.
pub(crate) fn eviction(parts: &[(usize, &[&str])], contents: &[u8], open: &BTreeSet<Digest>) -> EvictionAsk {
    let mut models = Parts::default();
    for (model, names) in parts {
        models.add(model_id(*model), names.iter().map(|name| (*name).into()).collect());
    }
    let segments = contents.iter().copied().map(digest).collect();
    let is_all = parts.is_empty() && contents.is_empty();
    EvictionAsk { out: if is_all { Out::All } else { Out::Named { models, segments } }, open: open.clone() }
}

pub(crate) fn facts(budget: u64, open: &BTreeSet<Digest>) -> Facts {
    Facts { budget: Bytes(budget), limit: "policy".to_owned(), open: open.clone() }
}

/// What an operation that has done its work reports.
pub(crate) fn report(model: ModelId) -> Outcome {
    Outcome::Output(OperationOutput::CacheModel(Box::new(CacheReport {
        model,
        components: Vec::new(),
        read: Bytes(0),
        took: Duration::ZERO,
        evicted: Vec::new(),
        left_out: Vec::new(),
    })))
}
