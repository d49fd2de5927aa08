//! What names and folders suggest. Weak: people rename and misplace files, so this only ever breaks a tie.

use hoist_domain::ModelType;

use crate::words;

/// Folder names of the usual applications and what they keep there.
const FOLDERS: [(&str, ModelType); 33] = [
    ("checkpoints", ModelType::Checkpoint),
    ("stable-diffusion", ModelType::Checkpoint),
    ("loras", ModelType::Lora),
    ("lora", ModelType::Lora),
    ("lycoris", ModelType::Lora),
    ("vae", ModelType::Vae),
    ("vae_approx", ModelType::Vae),
    ("vae-approx", ModelType::Vae),
    ("controlnet", ModelType::Controlnet),
    ("controlnets", ModelType::Controlnet),
    ("t2i_adapter", ModelType::T2iAdapter),
    ("embeddings", ModelType::TextualInversion),
    ("textual_inversion", ModelType::TextualInversion),
    ("hypernetworks", ModelType::Hypernetwork),
    ("unet", ModelType::Unet),
    ("diffusion_models", ModelType::Transformer),
    ("transformer", ModelType::Transformer),
    ("clip", ModelType::TextEncoder),
    ("text_encoder", ModelType::TextEncoder),
    ("text_encoder_2", ModelType::TextEncoder),
    ("text_encoder_3", ModelType::TextEncoder),
    ("text_encoders", ModelType::TextEncoder),
    ("clip_vision", ModelType::ImageEncoder),
    ("image_encoder", ModelType::ImageEncoder),
    ("ipadapter", ModelType::IpAdapter),
    ("ip_adapter", ModelType::IpAdapter),
    ("ip-adapter", ModelType::IpAdapter),
    ("animatediff_models", ModelType::MotionAdapter),
    ("style_models", ModelType::Adapter),
    ("upscale_models", ModelType::Upscaler),
    ("esrgan", ModelType::Upscaler),
    ("realesrgan", ModelType::Upscaler),
    ("llm", ModelType::Llm),
];

/// The type that the innermost folder with a known name suggests, and that folder.
pub(crate) fn kind(path: &str) -> Option<(ModelType, &str)> {
    let (folders, _) = path.rsplit_once('/')?;
    folders.rsplit('/').find_map(|folder| {
        let plain = folder.to_ascii_lowercase();
        FOLDERS.iter().find(|(name, _)| *name == plain).map(|(_, kind)| (*kind, folder))
    })
}

/// The base that the path's names suggest, the file's own first, and the segment that does.
pub(crate) fn base(path: &str) -> Option<(&'static str, &str)> {
    path.rsplit('/').find_map(|segment| Some((words::base(segment).or_else(|| loose(segment))?, segment)))
}

/// The same for language models.
pub(crate) fn language(path: &str) -> Option<(&'static str, &str)> {
    path.rsplit('/').find_map(|segment| Some((words::language(segment)?, segment)))
}

/// Spellings too loose for metadata: only as words of their own.
fn loose(segment: &str) -> Option<&'static str> {
    let plain = segment.to_ascii_lowercase();
    plain.split(|c: char| !c.is_ascii_alphanumeric()).find_map(|word| match word {
        "sd" | "mse" | "ema" | "sd1" | "840000" | "560000" => Some("sd-1.5"),
        "xl" => Some("sdxl"),
        "sd2" | "768v" => Some("sd-2.1"),
        "ae" => Some("flux.1"),
        "wan" => Some("wan-2.1"),
        "qwen" => Some("qwen-image"),
        _ => None,
    })
}
