//! What a model says of itself: metadata of its files, configuration beside them. Believed where content is silent.

use std::collections::BTreeMap;

use hoist_domain::{BaseModel, ModelFormat, ModelType};

use crate::answer::{Evidence, PredictionType};
use crate::subject::Part;
use crate::words;

/// What a model declares, put together from all of its sources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Declared {
    pub(crate) kind: Option<ModelType>,
    pub(crate) base: Option<BaseModel>,
    /// The loader goes by this declaration: a wrong one would not load.
    pub(crate) binding: bool,
    pub(crate) variant: String,
    pub(crate) prediction: Option<PredictionType>,
    pub(crate) resolution: Option<u32>,
    pub(crate) evidence: Vec<Evidence>,
}

impl Declared {
    /// Takes from another what this one does not say.
    pub(crate) fn or(mut self, other: Self) -> Self {
        self.binding |= other.binding && (self.base.is_none() || self.base == other.base);
        self.kind = self.kind.or(other.kind);
        self.base = self.base.or(other.base);
        self.prediction = self.prediction.or(other.prediction);
        self.resolution = self.resolution.or(other.resolution);
        if self.variant.is_empty() {
            self.variant = other.variant;
        }
        self.evidence.extend(other.evidence);
        self
    }

    pub(crate) fn says(&mut self, source: &'static str, field: &str, value: &str) {
        self.evidence.push(Evidence::new(source, field, hoist_domain::excerpt(value)));
    }
}

/// What the metadata of one part says.
pub(crate) fn of_part(part: &Part<'_>) -> Declared {
    let header = if part.format == ModelFormat::Gguf { gguf(part.metadata) } else { Declared::default() };
    header.or(modelspec(part.metadata)).or(kohya(part.metadata)).or(training(part.metadata))
}

/// Stability's model specification, which most trainers write.
fn modelspec(metadata: &BTreeMap<String, String>) -> Declared {
    let mut declared = Declared::default();
    if let Some(architecture) = metadata.get("modelspec.architecture") {
        declared.base = words::base(architecture).map(BaseModel::from_text);
        declared.kind = match architecture.rsplit('/').next() {
            Some("lora") => Some(ModelType::Lora),
            Some("textual-inversion") => Some(ModelType::TextualInversion),
            Some("controlnet" | "control-net") => Some(ModelType::Controlnet),
            _ => None,
        };
        declared.says("metadata", "modelspec.architecture", architecture);
    }
    declared.prediction = metadata.get("modelspec.prediction_type").and_then(|text| prediction(text));
    declared.resolution = metadata.get("modelspec.resolution").and_then(|text| edge(text));
    declared
}

/// kohya's training scripts.
fn kohya(metadata: &BTreeMap<String, String>) -> Declared {
    let mut declared = Declared::default();
    if let Some(version) = metadata.get("ss_base_model_version") {
        declared.base = words::base(version).map(BaseModel::from_text);
        declared.says("metadata", "ss_base_model_version", version);
    } else if let Some(second) = metadata.get("ss_v2") {
        let base = if second.eq_ignore_ascii_case("true") { "sd-2.1" } else { "sd-1.5" };
        declared.base = Some(BaseModel::from_text(base));
        declared.says("metadata", "ss_v2", second);
    }
    if let Some(module) = metadata.get("ss_network_module") {
        let adapter = module.contains("lora") || module.contains("lycoris") || module.contains("oft");
        declared.kind = adapter.then_some(ModelType::Lora);
        declared.says("metadata", "ss_network_module", module);
    }
    declared.resolution = metadata.get("ss_resolution").and_then(|text| edge(text));
    declared
}

/// What trainers other than kohya leave, and what checkpoints hold beside their tensors.
fn training(metadata: &BTreeMap<String, String>) -> Declared {
    let mut declared = Declared::default();
    for field in ["base_model", "sd_checkpoint_name", "lora_base_model", "model_type", "architecture"] {
        let Some(text) = metadata.get(field) else { continue };
        if let Some(base) = words::base(text) {
            declared.base = Some(BaseModel::from_text(base));
            declared.says("metadata", field, text);
            break;
        }
    }
    declared
}

/// SD 2's two trainings stopped at known steps.
pub(crate) fn sd2_prediction(metadata: &BTreeMap<String, String>) -> Option<PredictionType> {
    match metadata.get("global_step").map(String::as_str) {
        Some("220000" | "875000") => Some(PredictionType::Epsilon),
        Some("110000") => Some(PredictionType::V),
        _ => None,
    }
}

/// GGUF's architectures that are no language models: name, base, type.
const GGUF: [(&str, &str, ModelType); 25] = [
    ("flux", "flux.1", ModelType::Transformer),
    ("flux2", "flux.2", ModelType::Transformer),
    ("chroma", "chroma", ModelType::Transformer),
    ("sd1", "sd-1.5", ModelType::Unet),
    ("sd2", "sd-2.1", ModelType::Unet),
    ("sdxl", "sdxl", ModelType::Unet),
    ("sd3", "sd-3", ModelType::Transformer),
    ("aura", "auraflow", ModelType::Transformer),
    ("ltxv", "ltx-video", ModelType::Transformer),
    ("hyvid", "hunyuan-video", ModelType::Transformer),
    ("wan", "wan-2.1", ModelType::Transformer),
    ("cosmos", "cosmos", ModelType::Transformer),
    ("hidream", "hidream", ModelType::Transformer),
    ("qwen_image", "qwen-image", ModelType::Transformer),
    ("lumina2", "lumina-2", ModelType::Transformer),
    ("t5encoder", "t5", ModelType::TextEncoder),
    ("t5", "t5", ModelType::TextEncoder),
    ("bert", "bert", ModelType::TextEncoder),
    ("nomic-bert", "nomic-bert", ModelType::TextEncoder),
    ("jina-bert-v2", "jina-bert-v2", ModelType::TextEncoder),
    ("gemma-embedding", "gemma-embedding", ModelType::TextEncoder),
    ("clip", "clip", ModelType::ImageEncoder),
    ("whisper", "whisper", ModelType::Asr),
    ("wavtokenizer-dec", "wavtokenizer", ModelType::Tts),
    // Directions to add to a model's layers.
    ("controlvector", "none", ModelType::Adapter),
];

fn gguf(metadata: &BTreeMap<String, String>) -> Declared {
    let mut declared = Declared::default();
    let Some(architecture) = metadata.get("general.architecture").filter(|name| !name.is_empty()) else {
        return declared;
    };
    let (base, kind) = GGUF
        .iter()
        .find(|(name, ..)| name == architecture)
        .map_or((architecture.as_str(), ModelType::Llm), |(_, base, kind)| (*base, *kind));
    declared.base = Some(BaseModel::from_text(base));
    declared.kind = Some(match metadata.get("general.type").map(String::as_str) {
        Some("adapter") => ModelType::Lora,
        // Statistics for a quantiser, a tokenizer alone: the architecture is that of the model they are for.
        Some("imatrix" | "vocab") => ModelType::Other,
        _ => kind,
    });
    declared.binding = true;
    declared.says("metadata", "general.architecture", architecture);
    declared
}

/// The prediction types as schedulers and specifications spell them.
pub(crate) fn prediction(text: &str) -> Option<PredictionType> {
    match text {
        "epsilon" | "eps" => Some(PredictionType::Epsilon),
        "v_prediction" | "v" | "v-prediction" => Some(PredictionType::V),
        "flow_prediction" | "flow" => Some(PredictionType::Flow),
        "edm" => Some(PredictionType::Edm),
        _ => None,
    }
}

/// The first number of `1024x1024` or `(512, 512)`, if it can be an edge.
fn edge(text: &str) -> Option<u32> {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok().filter(|edge| (64..=16_384).contains(edge))
}
