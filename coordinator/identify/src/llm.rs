//! Language models, by the names that transformers and llama.cpp give their layers; and speech recognition.

use hoist_domain::ModelType;

use crate::found::{Found, LIKELY, STRONG, THIN};
use crate::keys::Keys;

/// Where the decoder's layers stand, in models and in models within models.
const ROOTS: [&str; 7] = [
    "model.",
    "model.language_model.",
    "language_model.model.",
    "language_model.",
    "llm.model.",
    "transformer.",
    "",
];

/// A decoder layer's mark, the base and how much the mark proves. From the special to the general.
const LAYERS: [(&[&str], &str, f32); 18] = [
    (&["laurel.linear_left", "post_feedforward_layernorm"], "gemma3n", STRONG),
    (&["pre_self_attn_layernorm", "post_feedforward_layernorm"], "t5gemma", LIKELY),
    (&["post_feedforward_layernorm", "pre_feedforward_layernorm", "self_attn.q_norm"], "gemma3", STRONG),
    (&["post_feedforward_layernorm", "pre_feedforward_layernorm"], "gemma2", STRONG),
    (&["post_feedforward_layernorm", "self_attn.q_norm"], "olmo2", LIKELY),
    (&["self_attn.kv_a_proj_with_mqa"], "deepseek_v3", THIN),
    (&["mlp.gate", "mlp.experts.0.gate_proj", "self_attn.q_norm"], "qwen3_moe", LIKELY),
    (&["mlp.gate", "mlp.experts.0.gate_proj", "self_attn.k_proj.bias"], "qwen2_moe", LIKELY),
    (&["block_sparse_moe.gate"], "mixtral", LIKELY),
    (&["self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm"], "qwen3", LIKELY),
    (&["self_attn.qkv_proj", "mlp.gate_up_proj"], "phi3", LIKELY),
    (&["self_attn.dense", "mlp.fc1"], "phi", LIKELY),
    (&["self_attn.k_proj.bias", "mlp.gate_proj"], "qwen2", LIKELY),
    (&["self_attention.query_key_value", "mlp.dense_h_to_4h"], "chatglm", LIKELY),
    (&["self_attention.query_key_value"], "falcon", THIN),
    (&["attn.c_attn", "mlp.c_fc"], "gpt2", LIKELY),
    (&["mixer.in_proj"], "mamba", LIKELY),
    (&["self_attn.k_proj", "mlp.gate_proj", "post_attention_layernorm"], "llama", THIN),
];

/// The names of a stack of layers below a root.
const STACKS: [&str; 5] = ["layers.0.", "encoder.layers.0.", "h.0.", "blocks.0.", "transformer.layers.0."];

/// The language model whose keys stand at this view's root.
pub(crate) fn find(keys: Keys<'_>) -> Option<Found> {
    whisper(keys).or_else(|| gguf(keys)).or_else(|| decoder(keys))
}

fn whisper(keys: Keys<'_>) -> Option<Found> {
    [("model.", "encoder.conv1"), ("", "encoder.conv1")].into_iter().find_map(|(root, first)| {
        let inner = keys.under(root);
        let is = inner.has(first)
            && (inner.any("decoder.layers.0.encoder_attn.") || inner.any("decoder.blocks.0.cross_attn."));
        is.then(|| {
            let found = Found::new(ModelType::Asr, "whisper", STRONG);
            found.because(inner.evidence(first, "first convolution over sound"))
        })
    })
}

/// llama.cpp gives all architectures the same names: the header says which it is.
fn gguf(keys: Keys<'_>) -> Option<Found> {
    let is = keys.any("blk.0.") && (keys.has("token_embd") || keys.any("blk.0.attn_norm."));
    is.then(|| {
        let found = Found::new(ModelType::Llm, "unknown", THIN);
        found.because(keys.evidence("blk.0.", "layer as llama.cpp names it"))
    })
}

fn decoder(keys: Keys<'_>) -> Option<Found> {
    let (layer, marks) = ROOTS
        .iter()
        .flat_map(|root| STACKS.iter().map(move |stack| format!("{root}{stack}")))
        .map(|stem| keys.under(&stem))
        .filter(|layer| !layer.is_empty())
        .find_map(|layer| {
            LAYERS
                .iter()
                .find(|(marks, ..)| marks.iter().all(|mark| layer.has(mark)))
                .map(|marks| (layer, *marks))
        })?;
    let (names, base, sure) = marks;
    let first = names.first().copied().unwrap_or_default();
    let because = layer.evidence(first, format!("layer of {base}"));
    let sees = ["visual.", "vision_model.", "vision_tower.", "model.visual.", "model.vision_tower."]
        .into_iter()
        .find(|prefix| keys.any(prefix));
    if let Some(eyes) = sees {
        let base = match base {
            "qwen2" if keys.any("visual.blocks.0.mlp.gate_proj.") => "qwen2_5_vl",
            "qwen2" if keys.any("model.visual.blocks.0.mlp.gate_proj.") => "qwen2_5_vl",
            "qwen2" => "qwen2_vl",
            other => other,
        };
        let found = Found::new(ModelType::Vlm, base, sure.min(LIKELY)).because(because);
        return Some(found.because(keys.evidence(eyes, "a part that sees")));
    }
    // Without a head it only encodes; but heads are also left out where they repeat the embedding.
    let headed =
        keys.has("lm_head") || keys.has("language_model.lm_head") || keys.has("transformer.output_layer");
    let kind = if headed { ModelType::Llm } else { ModelType::TextEncoder };
    let mut found = Found::new(kind, base, if headed { sure } else { sure.min(LIKELY) }).because(because);
    // Mistral and Gemma 1 have the very same names as Llama; and Gemma never has a head of its own.
    if base == "llama" || !headed && base.starts_with("gemma") {
        found.confidence = THIN;
    }
    Some(found)
}
