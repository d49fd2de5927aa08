//! What a model can be: its format, its type, its base architecture.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use crate::{Error, Reason};

macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $wire:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $wire)] $variant,)*
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $wire,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::ALL.iter().copied().find(|known| known.as_str() == text).ok_or_else(|| {
                    let known: Vec<&str> = Self::ALL.iter().map(|known| known.as_str()).collect();
                    let shown = crate::excerpt(text);
                    let advice = match crate::nearest(text, known.iter().copied()) {
                        Some(meant) => format!("; did you mean `{meant}`?"),
                        None => format!(": use one of {}", known.join(", ")),
                    };
                    Error::new(Reason::FieldInvalid, format!("`{shown}` is not a {}{advice}", $what))
                })
            }
        }
    };
}

vocabulary! {
    /// How the bytes lie on disk. A folder's format says how its files belong together.
    ModelFormat, "format" {
        Safetensors = "safetensors",
        /// `torch.save` since 1.6: a zip of a pickle and the storages.
        TorchZip = "torch-zip",
        /// `torch.save` before 1.6: pickles, then the storages.
        TorchLegacy = "torch-legacy",
        /// A pickle that torch did not write.
        RawPickle = "raw-pickle",
        /// An archive with code in it. Recognised; loaded only by a process of its own.
        Torchscript = "torchscript",
        /// What `torch.export.save` writes.
        TorchExport = "torch-export",
        Gguf = "gguf",
        Onnx = "onnx",
        Tflite = "tflite",
        /// A folder with a `model_index.json`, or one component with a diffusers `config.json`.
        Diffusers = "diffusers",
        /// A folder with a transformers `config.json`.
        Transformers = "transformers",
        /// A folder with an `adapter_config.json`.
        Peft = "peft",
        /// A repository in the layout of the hub's cache.
        HfCache = "hf-cache",
        /// A zip that holds no model known here.
        Zip = "zip",
        Unknown = "unknown",
    }
}

vocabulary! {
    /// What a model is for.
    ModelType, "type" {
        /// A folder of several components that make a whole.
        Pipeline = "pipeline",
        /// Several components in one file.
        Checkpoint = "checkpoint",
        Unet = "unet",
        /// A diffusion transformer.
        Transformer = "transformer",
        /// A denoiser that is neither.
        Prior = "prior",
        Vae = "vae",
        TextEncoder = "text_encoder",
        ImageEncoder = "image_encoder",
        Controlnet = "controlnet",
        Lora = "lora",
        TextualInversion = "textual_inversion",
        Hypernetwork = "hypernetwork",
        IpAdapter = "ip_adapter",
        T2iAdapter = "t2i_adapter",
        /// Other networks that add features or conditions to a denoiser.
        Adapter = "adapter",
        /// Makes an image model move: AnimateDiff's motion modules.
        MotionAdapter = "motion_adapter",
        Upscaler = "upscaler",
        Llm = "llm",
        /// Text and images in, text out.
        Vlm = "vlm",
        Asr = "asr",
        Tts = "tts",
        Torchscript = "torchscript",
        Onnx = "onnx",
        /// Tensors of which the format says no more.
        Other = "other",
        /// Could not be read at all.
        Unknown = "unknown",
    }
}

/// The architecture a model belongs to, or is made for: `sd-1.5`, `sdxl`, `flux.1`, `llama`, `none`, `unknown`.
///
/// Open, because files name architectures that did not exist when this was written: lower-case letters, digits and
/// `. _ - +`, 48 bytes at most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Arc<str>", into = "Arc<str>")]
pub struct BaseModel(Arc<str>);

/// Bases that identification answers with, in the order of bytes. Files may name others.
#[rustfmt::skip]
const KNOWN: [&str; 104] = [
    "allegro", "anima", "auraflow", "bert", "byt5", "chatglm", "chroma", "clip", "clip-b", "clip-g", "clip-h",
    "clip-l", "clip-vit-b", "clip-vit-g", "clip-vit-h", "clip-vit-l", "cogvideox", "cogview3", "cogview4",
    "cosmos", "cosmos-predict2", "dat", "deepfloyd-if", "deepseek_v3", "dinov2", "distilbert", "esrgan",
    "falcon", "flux.1", "flux.2", "gemma", "gemma-embedding", "gemma2", "gemma3", "gemma3n", "gpt2", "hat",
    "hidream", "hunyuan-dit", "hunyuan-image-2.1", "hunyuan-video", "hunyuan-video-1.5", "hunyuan3d",
    "i2vgen-xl", "jina-bert-v2", "kandinsky-2.1", "kandinsky-2.2", "kandinsky-3", "kandinsky-5", "kolors",
    "krea-2", "latte", "ldm-vq", "llama", "ltx-2", "ltx-video", "lumina", "lumina-2", "mamba", "mistral",
    "mixtral", "mochi", "modelscope-t2v", "mt5", "nomic-bert", "none", "olmo2", "omnigen", "omnigen2", "phi",
    "phi3", "pixart", "qwen-image", "qwen2", "qwen2_5_vl", "qwen2_moe", "qwen2_vl", "qwen3", "qwen3_moe",
    "roberta", "sana", "sd-1.5", "sd-2.1", "sd-3", "sd-3.5", "sdxl", "sdxl-refiner", "siglip", "stable-audio",
    "stable-cascade", "step1x-edit", "svd", "swin2sr", "swinir", "t5", "t5gemma", "umt5", "unknown", "wan-2.1",
    "wan-2.2", "wavtokenizer", "whisper", "wuerstchen", "z-image",
];

/// One copy of each for all models that have it, which stays in a processor's cache while a hundred thousand models are
/// asked for theirs.
static COMMON: LazyLock<[Arc<str>; KNOWN.len()]> = LazyLock::new(|| KNOWN.map(Arc::from));

fn shared(text: &str) -> Arc<str> {
    match COMMON.binary_search_by(|common| (**common).cmp(text)) {
        Ok(at) => COMMON.get(at).map_or_else(|| text.into(), Arc::clone),
        Err(_) => text.into(),
    }
}

impl BaseModel {
    pub const MAX_BYTES: usize = 48;

    /// Cannot be told.
    #[must_use]
    pub fn unknown() -> Self {
        Self(shared("unknown"))
    }

    /// Every base that Hoist knows by itself, in the order of bytes.
    #[must_use]
    pub const fn known() -> &'static [&'static str] {
        &KNOWN
    }

    /// Has none: a TorchScript program, a bare table.
    #[must_use]
    pub fn none() -> Self {
        Self(shared("none"))
    }

    /// Any text as a base: lower case, what is not allowed becomes `-`, cut to length.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let kept: String = text
            .chars()
            .take(Self::MAX_BYTES)
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if Self::allows(c) { c } else { '-' })
            .collect();
        if kept.is_empty() { Self::unknown() } else { Self(shared(&kept)) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    const fn allows(c: char) -> bool {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '+')
    }
}

impl fmt::Display for BaseModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<Arc<str>> for BaseModel {
    type Error = Error;

    fn try_from(text: Arc<str>) -> Result<Self, Error> {
        if text.is_empty() || text.len() > Self::MAX_BYTES || !text.chars().all(Self::allows) {
            return Err(Error::new(
                Reason::FieldInvalid,
                format!(
                    "`{}` is not a base: use lower-case letters, digits and . _ - +, {} bytes at most",
                    crate::excerpt(&text),
                    Self::MAX_BYTES
                ),
            ));
        }
        Ok(Self(shared(&text)))
    }
}

impl FromStr for BaseModel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Arc::<str>::from(text).try_into()
    }
}

impl From<BaseModel> for Arc<str> {
    fn from(base: BaseModel) -> Self {
        base.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_foreign_ones_are_refused_with_the_list() {
        for known in ModelType::ALL {
            assert_eq!(known.as_str().parse::<ModelType>().ok(), Some(*known));
        }
        let refusal =
            |word: &str| word.parse::<ModelType>().map_err(|e| e.to_string()).err().unwrap_or_default();
        assert!(refusal("banana").contains("lora, "), "{}", refusal("banana"));
        assert!(refusal("LORA").ends_with("did you mean `lora`?"), "{}", refusal("LORA"));
    }

    #[test]
    fn a_base_is_open_but_tame() {
        let same = |one: &BaseModel, other: &BaseModel| Arc::ptr_eq(&one.0, &other.0);
        assert!(KNOWN.is_sorted(), "it is searched by halves");
        assert!(same(&BaseModel::from_text("SDXL"), &"sdxl".parse().unwrap()), "there is one copy of it");
        assert!(
            COMMON.iter().all(|common| same(&BaseModel::from_text(common), &BaseModel(Arc::clone(common))))
        );
        assert_eq!(BaseModel::from_text("Qwen 2.5/VL").as_str(), "qwen-2.5-vl");
        assert_eq!(BaseModel::from_text(""), BaseModel::unknown());
        assert!("../x".parse::<BaseModel>().is_err());
        assert!("x".repeat(49).parse::<BaseModel>().is_err());
    }
}
