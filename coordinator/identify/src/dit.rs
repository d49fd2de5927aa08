//! Diffusion transformers: which keys belong to which architecture.
//!
//! The table goes from the special to the general: the first row whose needs are all met and whose exclusions are not
//! is taken; `dit_refine` then reads what is told by depth and width.

use hoist_domain::ModelType;

use crate::answer::PredictionType;
use crate::dit_refine::refine;
use crate::found::{Found, LIKELY, PROVEN, STRONG};
use crate::keys::Keys;

/// One architecture in one layout. Names as in [`Keys::has`].
struct Row {
    base: &'static str,
    /// The first is shown as the evidence.
    needs: &'static [&'static str],
    lacks: &'static [&'static str],
    confidence: f32,
    prediction: Option<PredictionType>,
}

const fn row(base: &'static str, needs: &'static [&'static str]) -> Row {
    Row { base, needs, lacks: &[], confidence: PROVEN, prediction: Some(PredictionType::Flow) }
}

impl Row {
    const fn lacks(mut self, lacks: &'static [&'static str]) -> Self {
        self.lacks = lacks;
        self
    }

    const fn sure(mut self, confidence: f32) -> Self {
        self.confidence = confidence;
        self
    }

    const fn predicts(mut self, prediction: Option<PredictionType>) -> Self {
        self.prediction = prediction;
        self
    }
}

const EPSILON: Option<PredictionType> = Some(PredictionType::Epsilon);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("sd-3", &["joint_blocks.0.context_block.attn.qkv", "x_embedder.proj", "context_embedder"]),
    // Before Flux, whose blocks have the same names.
    row("hunyuan-video", &["txt_in.individual_token_refiner.blocks.0.norm1", "double_blocks.0.", "img_in.proj"]),
    row("hunyuan-video", &["context_embedder.token_refiner.refiner_blocks.0.norm1", "transformer_blocks.0.attn.add_q_proj", "x_embedder.proj"]),
    row("flux.2", &["double_stream_modulation_img.lin", "single_stream_modulation.lin", "img_in"]),
    row("flux.2", &["double_stream_modulation_img.linear", "single_stream_modulation.linear", "x_embedder"]),
    row("chroma", &["distilled_guidance_layer.", "double_blocks.0.img_attn.qkv", "txt_in"]),
    row("chroma", &["distilled_guidance_layer.", "single_transformer_blocks.0.", "context_embedder"]),
    row("step1x-edit", &["connector.", "double_blocks.0.img_attn.qkv", "single_blocks.0.linear1"]).sure(LIKELY),
    row("flux.1", &["double_blocks.0.img_attn.norm.key_norm.scale", "double_blocks.0.img_attn.qkv", "single_blocks.0.linear1", "img_in", "txt_in"]),
    row("auraflow", &["double_layers.0.attn.w1q", "single_layers.0.attn.w1q"]),
    row("auraflow", &["joint_transformer_blocks.0.attn.add_q_proj", "register_tokens"]),
    row("hidream", &["caption_projection.0.linear", "double_stream_blocks.0.block.", "single_stream_blocks.0.block."]),
    row("krea-2", &["text_fusion."]).sure(LIKELY),
    row("krea-2", &["txtfusion."]).sure(LIKELY),
    row("wan-2.1", &["head.modulation", "blocks.0.self_attn.q", "patch_embedding", "text_embedding.0"]),
    row("wan-2.1", &["condition_embedder.text_embedder.linear_1", "blocks.0.attn1.to_q", "patch_embedding", "scale_shift_table"]),
    row("qwen-image", &["txt_norm", "txt_in", "img_in", "transformer_blocks.0."]),
    row("z-image", &["cap_pad_token", "cap_embedder.1", "layers.0.attention."]),
    row("omnigen2", &["ref_image_refiner.0.", "noise_refiner.0.", "layers.0."]).sure(STRONG),
    row("lumina-2", &["cap_embedder.1", "noise_refiner.0.attention.k_norm", "layers.0.attention."]),
    row("lumina-2", &["time_caption_embed.caption_embedder.1", "noise_refiner.0.", "layers.0."]),
    row("lumina", &["cap_embedder.1", "layers.0.attention.wk_y"]).sure(STRONG),
    row("lumina", &["time_caption_embed.caption_embedder.1", "layers.0.attn2."]).sure(LIKELY),
    row("ltx-video", &["adaln_single.emb.timestep_embedder.linear_1.bias", "patchify_proj", "transformer_blocks.0."]).lacks(&["pos_embed.proj"]),
    row("ltx-video", &["time_embed.emb.timestep_embedder.linear_1", "proj_in", "caption_projection.linear_1", "transformer_blocks.0.scale_shift_table"]).lacks(&["pos_embed.proj", "patch_embed.proj"]),
    // Before PixArt, from which its first layout has the names.
    row("sana", &["blocks.0.mlp.inverted_conv.conv", "y_embedder.y_proj.fc1"]),
    row("sana", &["transformer_blocks.0.ff.conv_inverted", "caption_projection.linear_1", "patch_embed.proj"]),
    row("pixart", &["t_block.1", "y_embedder.y_proj.fc1", "blocks.0.cross_attn.q_linear"]).predicts(EPSILON),
    row("pixart", &["pos_embed.proj", "adaln_single.emb.timestep_embedder.linear_1", "transformer_blocks.0.attn2.to_k", "caption_projection.linear_1"]).lacks(&["temporal_transformer_blocks."]).predicts(EPSILON),
    row("hunyuan-dit", &["mlp_t5.0", "blocks.0.attn2.kv_proj"]).predicts(None),
    row("hunyuan-dit", &["text_embedding_padding", "blocks.0.attn2.to_k"]).predicts(None),
    row("mochi", &["t5_yproj", "blocks.0.attn.qkv_x"]),
    row("mochi", &["time_embed.caption_proj", "pos_frequencies", "transformer_blocks.0.attn1.add_k_proj"]),
    row("anima", &["llm_adapter.", "blocks.0.", "x_embedder.proj.1"]).sure(STRONG),
    row("cosmos", &["blocks.block0.blocks.0.block.attn.to_q.0"]),
    row("cosmos-predict2", &["blocks.0.mlp.layer1", "blocks.0.self_attn.q_proj", "x_embedder.proj.1", "t_embedder.1.linear_1"]),
    row("cosmos", &["transformer_blocks.0.norm1.linear_1", "patch_embed.proj", "time_embed.t_embedder.linear_1"]).sure(STRONG),
    row("cogvideox", &["patch_embed.text_proj", "time_embedding.linear_1", "transformer_blocks.0.norm1.linear"]).lacks(&["perceiver_cross_attention.", "local_facial_extractor."]).sure(STRONG).predicts(None),
    row("cogview3", &["patch_embed.text_proj", "time_condition_embed.timestep_embedder.linear_1", "patch_embed.pos_embed"]).sure(LIKELY).predicts(None),
    row("cogview4", &["patch_embed.text_proj", "time_condition_embed.timestep_embedder.linear_1", "transformer_blocks.0."]).sure(LIKELY).predicts(None),
    row("kandinsky-5", &["visual_transformer_blocks.0.", "text_transformer_blocks.0.", "visual_embeddings.in_layer"]).sure(STRONG),
    row("ace-step", &["genre_embedder", "transformer_blocks.0."]).sure(STRONG),
    row("stable-audio", &["transformer.layers.0.", "postprocess_conv", "preprocess_conv"]).sure(STRONG).predicts(None),
    row("stable-audio", &["global_proj.0", "cross_attention_proj.0", "transformer_blocks.0.attn1.to_q"]).sure(LIKELY).predicts(None),
    row("hunyuan3d", &["latent_in", "cond_in", "double_blocks.0.img_attn.qkv"]).sure(LIKELY),
    // The diffusers layouts with the plainest names come last.
    row("flux.1", &["single_transformer_blocks.0.", "transformer_blocks.0.", "x_embedder", "context_embedder", "time_text_embed.text_embedder.linear_1"]).lacks(&["joint_transformer_blocks.", "condition_embedder."]),
    row("sd-3", &["transformer_blocks.0.attn.add_q_proj", "pos_embed.proj", "context_embedder", "time_text_embed.text_embedder.linear_1"]).lacks(&["single_transformer_blocks."]),
];

/// The denoiser other than an SD UNet whose keys stand at this view's root.
pub(crate) fn find(keys: Keys<'_>) -> Option<Found> {
    if let Some(found) = cascade(keys).or_else(|| prior(keys)) {
        return Some(found);
    }
    let row = ROWS.iter().find(|row| {
        row.needs.iter().all(|key| keys.has(key)) && !row.lacks.iter().any(|key| keys.has(key))
    })?;
    let mut found = Found::new(ModelType::Transformer, row.base, row.confidence);
    found.prediction = row.prediction;
    for key in row.needs.iter().take(2) {
        found.evidence.push(keys.evidence(key, format!("block of {}", row.base)));
    }
    Some(refine(keys, found))
}

/// Stable Cascade's two denoisers are UNets in name and `ConvNeXts` in fact.
fn cascade(keys: Keys<'_>) -> Option<Found> {
    if !keys.has("clf.1") || !keys.any("down_blocks.0.0.") {
        return None;
    }
    let stage = if keys.any("effnet_mapper.") { "stage-b" } else { "stage-c" };
    let found = Found::new(ModelType::Unet, "stable-cascade", PROVEN).variant(stage).at_resolution(1024);
    Some(found.because(keys.evidence("clf.1", "output of a Stable Cascade stage")))
}

/// Priors that predict image embeddings: Kandinsky 2, unCLIP.
fn prior(keys: Keys<'_>) -> Option<Found> {
    let is_prior = keys.has("prd_embedding") && keys.has("clip_mean") && keys.any("transformer_blocks.0.");
    is_prior.then(|| {
        let found = Found::one_of(ModelType::Prior, &["kandinsky-2.2", "kandinsky-2.1", "unclip"]);
        found.because(keys.evidence("prd_embedding", "prior that predicts an image embedding"))
    })
}
