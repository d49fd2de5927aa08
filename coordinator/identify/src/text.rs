//! Encoders of text and images, and textual inversions.

use hoist_domain::ModelType;

use crate::found::{Found, LIKELY, PROVEN, STRONG, THIN, UNDECIDED};
use crate::keys::Keys;

/// The encoder whose keys stand at this view's root.
pub(crate) fn find(keys: Keys<'_>) -> Option<Found> {
    clip_text(keys)
        .or_else(|| open_clip(keys))
        .or_else(|| clip_vision(keys))
        .or_else(|| t5(keys))
        .or_else(|| bert(keys))
        .or_else(|| vision_other(keys))
}

fn text(base: &str, confidence: f32) -> Found {
    Found::new(ModelType::TextEncoder, base, confidence)
}

fn image(base: &str, confidence: f32) -> Found {
    Found::new(ModelType::ImageEncoder, base, confidence)
}

/// By depth, which reduced and fine-tuned versions keep; the width then confirms or speaks against it.
fn clip_class(depth: u64, width: Option<u64>) -> (&'static str, f32) {
    match (depth, width) {
        (12, Some(512 | 640)) => ("clip-b", LIKELY),
        (11 | 12, Some(768)) => ("clip-l", PROVEN),
        (11 | 12, _) => ("clip-l", LIKELY),
        (23 | 24, Some(1024)) => ("clip-h", PROVEN),
        (23 | 24, _) => ("clip-h", LIKELY),
        (31 | 32, Some(1280)) => ("clip-g", PROVEN),
        (31 | 32, _) => ("clip-g", LIKELY),
        _ => ("unknown", UNDECIDED),
    }
}

/// CLIP as transformers names it, before version 5 under `text_model.`, since then at the root.
fn clip_text(keys: Keys<'_>) -> Option<Found> {
    let inner = keys.under("text_model.");
    let inner = if inner.is_empty() { keys } else { inner };
    let tokens = "embeddings.token_embedding.weight";
    let depth = inner.blocks("encoder.layers.");
    let is_clip =
        depth > 0 && inner.has("final_layer_norm") && inner.any("encoder.layers.0.self_attn.k_proj.");
    if !is_clip || !(inner.has(tokens) || inner.any("embeddings.position_")) {
        return None;
    }
    let width = inner.dim(tokens, 1).or_else(|| inner.dim("final_layer_norm.weight", 0));
    let because = inner
        .evidence(&format!("encoder.layers.{}.", depth.saturating_sub(1)), format!("{depth} layers of CLIP"));
    if inner.has("head.weight") || keys.any("vision_model.head.") {
        return Some(text("siglip", LIKELY).because(because));
    }
    let (base, sure) = clip_class(depth, width);
    let found = text(base, sure).because(because);
    let whole = keys.any("vision_model.") || keys.any("visual_projection.");
    Some(if whole { found.variant("with-vision").at_most(LIKELY) } else { found })
}

/// CLIP as OpenCLIP names it.
fn open_clip(keys: Keys<'_>) -> Option<Found> {
    let depth = keys.blocks("transformer.resblocks.");
    if depth > 0 && keys.has("token_embedding") && keys.has("positional_embedding") {
        let width = keys.dim("token_embedding.weight", 1);
        let (base, sure) = clip_class(depth, width);
        let last = format!("transformer.resblocks.{}.", depth.saturating_sub(1));
        let found = text(base, sure).because(keys.evidence(&last, format!("{depth} blocks of OpenCLIP")));
        return Some(if keys.any("visual.") { found.variant("with-vision").at_most(LIKELY) } else { found });
    }
    let inner = if keys.any("visual.transformer.") { keys.under("visual.") } else { keys };
    let depth = inner.blocks("transformer.resblocks.");
    if depth == 0 || !inner.has("conv1") || !inner.any("ln_pre.") {
        return None;
    }
    let (base, sure) = vision_class(depth, inner.dim("conv1.weight", 0));
    Some(
        image(base, sure)
            .because(inner.evidence("transformer.resblocks.0.", format!("{depth} blocks that see"))),
    )
}

fn vision_class(depth: u64, width: Option<u64>) -> (&'static str, f32) {
    match (depth, width) {
        (12, Some(768)) => ("clip-vit-b", PROVEN),
        (12, _) => ("clip-vit-b", LIKELY),
        (23 | 24, Some(1024)) => ("clip-vit-l", PROVEN),
        (23 | 24, _) => ("clip-vit-l", LIKELY),
        (31 | 32, Some(1280)) => ("clip-vit-h", PROVEN),
        (31 | 32, _) => ("clip-vit-h", LIKELY),
        // g has 40, bigG 48.
        (40 | 48, Some(1408 | 1664)) => ("clip-vit-g", PROVEN),
        (40 | 48, _) => ("clip-vit-g", LIKELY),
        _ => ("unknown", UNDECIDED),
    }
}

fn clip_vision(keys: Keys<'_>) -> Option<Found> {
    let inner = keys.under("vision_model.");
    let inner = if inner.is_empty() { keys } else { inner };
    let patches = "embeddings.patch_embedding.weight";
    let depth = inner.blocks("encoder.layers.");
    if depth == 0 || !inner.has(patches) {
        return None;
    }
    let width = inner.dim(patches, 0);
    let because = inner.evidence(patches, format!("patches of {width:?} for {depth} layers"));
    // SigLIP has no class token and no norm before the first layer.
    if !inner.has("embeddings.class_embedding") && !inner.any("pre_layrnorm.") {
        let sure = if width == Some(1152) { PROVEN } else { LIKELY };
        return Some(image("siglip", sure).because(because));
    }
    let (base, sure) = vision_class(depth, width);
    Some(image(base, sure).because(because))
}

/// Vision transformers that know no text.
fn vision_other(keys: Keys<'_>) -> Option<Found> {
    let marker = "encoder.layer.0.layer_scale1.lambda1";
    (keys.has(marker) && keys.any("embeddings.cls_token"))
        .then(|| image("dinov2", STRONG).because(keys.evidence(marker, "layer scale of DINOv2")))
}

fn t5(keys: Keys<'_>) -> Option<Found> {
    if keys.has("enc.blk.0.attn_k") {
        let base = if keys.any("enc.blk.1.attn_rel_b.") { "umt5" } else { "t5" };
        let found =
            text(base, STRONG).because(keys.evidence("enc.blk.0.attn_k", "T5 encoder as GGUF names it"));
        return Some(if keys.any("dec.blk.0.") {
            found.variant("with-decoder").at_most(LIKELY)
        } else {
            found
        });
    }
    let first = "encoder.block.0.layer.0.SelfAttention.k.weight";
    if !keys.has(first) && !keys.has("encoder.block.0.layer.0.SelfAttention.k") {
        return None;
    }
    let vocabulary = keys.dim("shared.weight", 0).or_else(|| keys.dim("encoder.embed_tokens.weight", 0));
    let everywhere = keys.has("encoder.block.1.layer.0.SelfAttention.relative_attention_bias");
    let depth = keys.blocks("encoder.block.");
    let width = keys.last_dim("encoder.block.0.layer.0.SelfAttention.q.weight");
    let base = match (everywhere, vocabulary, width) {
        (true, ..) => "umt5",
        (false, Some(250_112), _) => "mt5",
        (false, Some(384), _) | (false, _, Some(1472 | 1536 | 2560 | 4672)) => "byt5",
        _ => "t5",
    };
    // Its own words, or those of its first derivatives; what was cut off says nothing.
    let is_usual = matches!(vocabulary, None | Some(32_000..=32_200 | 250_112 | 256_384 | 384));
    let size = match (depth, width) {
        (24, Some(4096)) => "xxl",
        (24, Some(2048)) => "xl",
        (24, Some(1024)) => "large",
        (12, Some(768)) => "base",
        _ => "",
    };
    let old = keys.has("encoder.block.0.layer.1.DenseReluDense.wi");
    let mut found = text(base, if is_usual { PROVEN } else { LIKELY })
        .variant(size)
        .because(keys.evidence(first, format!("{depth} blocks of T5")));
    if old {
        found.add_variant("v1.0");
    }
    Some(if keys.any("decoder.block.0.") { found.variant("with-decoder").at_most(LIKELY) } else { found })
}

fn bert(keys: Keys<'_>) -> Option<Found> {
    for (prefix, base) in
        [("bert.", "bert"), ("roberta.", "roberta"), ("distilbert.", "distilbert"), ("", "bert")]
    {
        let inner = keys.under(prefix);
        let words = inner.has("embeddings.word_embeddings");
        if words && inner.any("encoder.layer.0.attention.self.query.") {
            // RoBERTa alone has the same names; only the outer prefix or its positions tell.
            let roberta =
                base == "roberta" || inner.dim("embeddings.position_embeddings.weight", 0) == Some(514);
            let base = if roberta { "roberta" } else { base };
            let says = "words of a BERT";
            let sure = if prefix.is_empty() { LIKELY } else { STRONG };
            return Some(text(base, sure).because(inner.evidence("embeddings.word_embeddings", says)));
        }
        if words && inner.any("transformer.layer.0.attention.q_lin.") {
            let says = "attention of a DistilBERT";
            return Some(
                text("distilbert", STRONG)
                    .because(inner.evidence("transformer.layer.0.attention.q_lin.", says)),
            );
        }
    }
    None
}

/// Embeddings for words that users trained.
pub(crate) fn inversion(keys: Keys<'_>) -> Option<Found> {
    let found = |base: &str, confidence: f32| Found::new(ModelType::TextualInversion, base, confidence);
    if keys.len() > 10 || keys.is_empty() || keys.iter().any(|(_, tensor)| tensor.shape.len() > 2) {
        return None;
    }
    let width_of = |name: &str| keys.last_dim(name);
    if let (Some(g), Some(_)) = (width_of("clip_g"), width_of("clip_l")) {
        let sure = if g == 1280 { PROVEN } else { LIKELY };
        let base = if keys.get("t5xxl").is_some() { "sd-3" } else { "sdxl" };
        return Some(found(base, sure).because(keys.evidence("clip_g", "vectors for both encoders of SDXL")));
    }
    if width_of("clip_l") == Some(768) && width_of("t5xxl") == Some(4096) {
        return Some(
            found("flux.1", STRONG).because(keys.evidence("t5xxl", "vectors for both encoders of Flux")),
        );
    }
    let (name, tensor) = keys.iter().find(|(_, tensor)| !tensor.shape.is_empty())?;
    let named = name.starts_with("string_to_param")
        || name == "emb_params"
        || (name.starts_with('<') && name.ends_with('>') && keys.len() == 1);
    let rows = if tensor.shape.len() == 2 { tensor.shape.first().copied().unwrap_or_default() } else { 1 };
    let width = tensor.shape.last().copied().unwrap_or_default();
    let base = match width {
        768 => "sd-1.5",
        1024 => "sd-2.1",
        1280 => "sdxl",
        _ => "unknown",
    };
    let because = keys.evidence(name, format!("{rows} vectors, {width} wide"));
    if named {
        let sure = if base == "unknown" || width == 1280 { UNDECIDED } else { PROVEN };
        return Some(found(base, sure).because(because));
    }
    // Under any other name a small table is an embedding only if it is alone and nothing says it is a layer.
    let layer = ["weight", "bias", "running_mean", "running_var"].iter().any(|end| name.ends_with(end));
    (keys.len() == 1 && !layer && rows <= 128 && base != "unknown")
        .then(|| found(base, THIN).because(because))
}

/// Networks on the cross-attention's inputs, one pair for each width.
pub(crate) fn hypernetwork(keys: Keys<'_>) -> Option<Found> {
    let widths: Vec<u64> = [320, 640, 768, 1024, 1280, 2048]
        .into_iter()
        .filter(|width| keys.any(&format!("{width}.0.linear.0.")) || keys.any(&format!("{width}.0.linear1.")))
        .collect();
    let base = if widths.contains(&2048) {
        "sdxl"
    } else if widths.contains(&1024) {
        "sd-2.1"
    } else if widths.contains(&768) {
        "sd-1.5"
    } else {
        return None;
    };
    let width = widths.last().copied().unwrap_or_default();
    let because = keys.evidence(&format!("{width}.0."), format!("networks for widths {widths:?}"));
    Some(Found::new(ModelType::Hypernetwork, base, STRONG).because(because))
}
