//! What the configuration of a folder declares: `model_index.json`, `config.json`, `adapter_config.json`.

use hoist_domain::{BaseModel, ModelType};
use serde_json::Value;

use crate::answer::PredictionType;
use crate::declared::{Declared, prediction};
use crate::subject::Subject;
use crate::words;

/// diffusers classes by how their names begin or end, and the type. The first that fits.
const CLASSES: [(&str, &str, ModelType); 17] = [
    ("", "ControlNetModel", ModelType::Controlnet),
    ("", "ControlNetXSAdapter", ModelType::Controlnet),
    ("ControlNet", "", ModelType::Controlnet),
    ("", "MultiControlNetModel", ModelType::Controlnet),
    ("T2IAdapter", "", ModelType::T2iAdapter),
    ("MultiAdapter", "", ModelType::T2iAdapter),
    ("MotionAdapter", "", ModelType::MotionAdapter),
    ("Autoencoder", "", ModelType::Vae),
    ("AsymmetricAutoencoder", "", ModelType::Vae),
    ("ConsistencyDecoder", "", ModelType::Vae),
    ("VQModel", "", ModelType::Vae),
    ("PriorTransformer", "", ModelType::Prior),
    ("UNet", "", ModelType::Unet),
    ("", "UNet", ModelType::Unet),
    ("", "Transformer2DModel", ModelType::Transformer),
    ("", "Transformer3DModel", ModelType::Transformer),
    ("", "DModel", ModelType::Transformer),
];

/// transformers architectures by what their names contain, and the type. The first that fits.
const ARCHITECTURES: [(&str, ModelType); 21] = [
    ("Whisper", ModelType::Asr),
    ("ForSpeechSeq2Seq", ModelType::Asr),
    ("ForCTC", ModelType::Asr),
    ("ForTextToSpeech", ModelType::Tts),
    ("Vits", ModelType::Tts),
    ("Bark", ModelType::Tts),
    ("CLIPText", ModelType::TextEncoder),
    ("CLIPVision", ModelType::ImageEncoder),
    ("SiglipVision", ModelType::ImageEncoder),
    ("SiglipModel", ModelType::TextEncoder),
    ("CLIPModel", ModelType::TextEncoder),
    ("Dinov2", ModelType::ImageEncoder),
    ("ViT", ModelType::ImageEncoder),
    ("T5", ModelType::TextEncoder),
    ("Bert", ModelType::TextEncoder),
    ("BERT", ModelType::TextEncoder),
    ("Roberta", ModelType::TextEncoder),
    ("Deberta", ModelType::TextEncoder),
    ("ForCausalLM", ModelType::Llm),
    ("LMHeadModel", ModelType::Llm),
    ("Encoder", ModelType::TextEncoder),
];

/// Reads one of the subject's configurations; what cannot be parsed says nothing.
fn parse(subject: &Subject<'_>, path: &str) -> Option<Value> {
    subject.configs.get(path).and_then(|text| serde_json::from_str(text).ok())
}

fn text<'v>(value: &'v Value, field: &str) -> Option<&'v str> {
    value.get(field).and_then(Value::as_str)
}

/// What the folder as a whole declares.
pub(crate) fn whole(subject: &Subject<'_>) -> Declared {
    pipeline(subject)
        .or_else(|| peft(subject))
        .or_else(|| component(subject, "config.json"))
        .unwrap_or_default()
}

/// What a component's own folder declares.
pub(crate) fn of_place(subject: &Subject<'_>, place: &str) -> Declared {
    let path = if place.is_empty() { "config.json".to_owned() } else { format!("{place}/config.json") };
    component(subject, &path).unwrap_or_default()
}

fn pipeline(subject: &Subject<'_>) -> Option<Declared> {
    let index = parse(subject, "model_index.json")?;
    let class = text(&index, "_class_name")?;
    let mut declared = Declared { kind: Some(ModelType::Pipeline), ..Declared::default() };
    declared.base = base_of_class(class);
    // Wan's classes are shared; only 2.2 has two experts or a step for each frame.
    let two = index.get("transformer_2").and_then(|entry| entry.get(0)).is_some_and(Value::is_string);
    if class.starts_with("Wan")
        && (two || index.get("expand_timesteps").and_then(Value::as_bool) == Some(true))
    {
        declared.base = Some(BaseModel::from_text("wan-2.2"));
    }
    if class.contains("Inpaint") {
        declared.variant = "inpaint".into();
    }
    declared.says("config", "model_index.json _class_name", class);
    if let Some(scheduler) = parse(subject, "scheduler/scheduler_config.json") {
        let flow = text(&scheduler, "_class_name").is_some_and(|class| class.starts_with("FlowMatch"))
            || scheduler.get("use_flow_sigmas").and_then(Value::as_bool) == Some(true);
        let stated = text(&scheduler, "prediction_type");
        declared.prediction = if flow { Some(PredictionType::Flow) } else { stated.and_then(prediction) };
        let says = if flow { Some("flow matching") } else { stated };
        if let Some(says) = says {
            declared.says("config", "scheduler/scheduler_config.json", says);
        }
    }
    declared.resolution = ["unet", "transformer"]
        .iter()
        .find_map(|place| parse(subject, &format!("{place}/config.json")))
        .and_then(|config| resolution(&config));
    Some(declared)
}

/// Latents are an eighth of the picture.
fn resolution(config: &Value) -> Option<u32> {
    let latent = config.get("sample_size").and_then(Value::as_u64).filter(|size| (8..=512).contains(size))?;
    u32::try_from(latent * 8).ok()
}

fn base_of_class(class: &str) -> Option<BaseModel> {
    // SD 1 and SD 2 share their classes; the UNet tells them apart.
    let shared = [
        "StableDiffusionPipeline",
        "StableDiffusionInpaint",
        "StableDiffusionImg2Img",
        "UNet2D",
        "ControlNetModel",
    ];
    if shared.iter().any(|start| class.starts_with(start)) || class.starts_with("AutoencoderKLMagvit") {
        return None;
    }
    if class.starts_with("Wan") || class == "AutoencoderKLWan" || class.starts_with("SkyReels") {
        return Some(BaseModel::from_text("wan-2.1"));
    }
    if class == "AutoencoderDC" {
        return Some(BaseModel::from_text("sana"));
    }
    words::base(class).map(BaseModel::from_text)
}

fn peft(subject: &Subject<'_>) -> Option<Declared> {
    let config = parse(subject, "adapter_config.json")?;
    let mut declared = Declared { kind: Some(ModelType::Lora), ..Declared::default() };
    declared.says("config", "adapter_config.json", text(&config, "peft_type").unwrap_or("adapter"));
    if let Some(origin) = text(&config, "base_model_name_or_path") {
        declared.base = words::language(origin).or_else(|| words::base(origin)).map(BaseModel::from_text);
        declared.binding = declared.base.is_some();
        declared.says("config", "base_model_name_or_path", origin);
    }
    let mapped = config.get("auto_mapping").and_then(|mapping| text(mapping, "base_model_class"));
    if let (None, Some(class)) = (&declared.base, mapped) {
        declared.base = words::language(class).or_else(|| words::base(class)).map(BaseModel::from_text);
        declared.says("config", "base_model_class", class);
    }
    Some(declared)
}

fn component(subject: &Subject<'_>, path: &str) -> Option<Declared> {
    let config = parse(subject, path)?;
    if let Some(class) = text(&config, "_class_name") {
        return Some(diffusers(&config, class));
    }
    transformers(&config)
}

fn diffusers(config: &Value, class: &str) -> Declared {
    let mut declared = Declared { base: base_of_class(class), ..Declared::default() };
    declared.kind = CLASSES
        .iter()
        .find(|(start, end, _)| class.starts_with(start) && class.ends_with(end))
        .map(|(.., kind)| *kind)
        .or_else(|| class.contains("ControlNet").then_some(ModelType::Controlnet));
    declared.says("config", "_class_name", class);
    declared.resolution = match declared.kind {
        Some(ModelType::Unet | ModelType::Transformer) => resolution(config),
        Some(ModelType::Vae) => {
            config.get("sample_size").and_then(Value::as_u64).and_then(|edge| u32::try_from(edge).ok())
        }
        _ => None,
    };
    // The one number in which autoencoders of equal structure differ.
    let scaled = config.get("scaling_factor").and_then(Value::as_f64);
    if let (Some(ModelType::Vae), Some(factor)) = (declared.kind, scaled) {
        let known = [(0.182_15, "sd-1.5"), (0.130_25, "sdxl"), (0.361_1, "flux.1"), (1.530_5, "sd-3")];
        if let Some((_, base)) = known.iter().find(|(value, _)| (value - factor).abs() < 1e-4) {
            declared.base = declared.base.or_else(|| Some(BaseModel::from_text(base)));
            declared.says("config", "scaling_factor", &factor.to_string());
        }
    }
    declared
}

fn transformers(config: &Value) -> Option<Declared> {
    let architecture =
        config.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str).unwrap_or_default();
    let class = text(config, "model_type").unwrap_or_default();
    if architecture.is_empty() && class.is_empty() {
        return None;
    }
    let mut declared = Declared { binding: true, ..Declared::default() };
    let sees = config.get("vision_config").is_some() && !architecture.starts_with("CLIP");
    declared.kind = if sees && !architecture.contains("Siglip") {
        Some(ModelType::Vlm)
    } else {
        ARCHITECTURES.iter().find(|(word, _)| architecture.contains(word)).map(|(_, kind)| *kind).or_else(
            || {
                // A decoder without its head is used for what it encodes.
                let language =
                    words::language(class).is_some() || config.get("num_key_value_heads").is_some();
                let headless = architecture.ends_with("Model");
                language.then_some(if headless { ModelType::TextEncoder } else { ModelType::Llm })
            },
        )
    };
    // CLIP's classes say nothing of the size: the content does.
    let plain = class.strip_suffix("_text").unwrap_or(class);
    if !plain.is_empty() && !plain.starts_with("clip") && !plain.starts_with("siglip") {
        declared.base = Some(BaseModel::from_text(plain));
    }
    declared.says("config", "architectures", if architecture.is_empty() { class } else { architecture });
    Some(declared)
}
