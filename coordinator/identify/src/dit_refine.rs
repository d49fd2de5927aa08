//! What depth and width tell of a diffusion transformer whose family is known.

use hoist_domain::BaseModel;

use crate::found::{Found, LIKELY, STRONG, UNDECIDED};
use crate::keys::Keys;

pub(crate) fn refine(keys: Keys<'_>, found: Found) -> Found {
    match found.base.as_str() {
        "sd-3" => stable_diffusion_3(keys, found),
        "flux.1" => flux(keys, found),
        "chroma" => chroma(keys, found),
        "flux.2" => flux_2(keys, found),
        "wan-2.1" => wan(keys, found),
        "hunyuan-video" => hunyuan(keys, found),
        "lumina-2" => lumina(keys, found),
        "pixart" => pixart(keys, found),
        "ltx-video" if keys.any("audio_") => renamed(found, "ltx-2"),
        "qwen-image" => qwen(keys, found),
        "hidream" => found.at_resolution(1024),
        _ => found,
    }
}

fn renamed(mut found: Found, base: &str) -> Found {
    found.base = BaseModel::from_text(base);
    found
}

/// 3.5 normalises queries and keys, 3 does not. `attn2` is only in 3.5-medium, 38 blocks only in 3.5-large.
fn stable_diffusion_3(keys: Keys<'_>, found: Found) -> Found {
    let depth = keys.blocks("joint_blocks.").max(keys.blocks("transformer_blocks."));
    let normalised = ["joint_blocks.0.x_block.attn.ln_q", "transformer_blocks.0.attn.norm_q"]
        .into_iter()
        .find(|key| keys.has(key));
    let dual = keys.any("joint_blocks.0.x_block.attn2.") || keys.any("transformer_blocks.0.attn2.");
    let found = found.at_resolution(1024);
    match (normalised, dual, depth) {
        (Some(key), true, _) => {
            renamed(found, "sd-3.5").variant("medium").because(keys.evidence(key, "normalised queries"))
        }
        (Some(key), false, 38) => renamed(found, "sd-3.5")
            .variant("large")
            .because(keys.evidence(key, "normalised queries, 38 blocks")),
        (Some(key), false, _) => renamed(found, "sd-3.5")
            .because(keys.evidence(key, format!("normalised queries, {depth} blocks")))
            .at_most(LIKELY),
        (None, _, 24) => found.variant("medium"),
        (None, ..) => found.at_most(LIKELY),
    }
}

fn flux(keys: Keys<'_>, mut found: Found) -> Found {
    found.resolution = Some(1024);
    let guided = ["guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_1"]
        .into_iter()
        .find(|key| keys.has(key));
    match guided {
        Some(key) => found.evidence.push(keys.evidence(key, "guidance embedding: dev")),
        None => found.add_variant("schnell"),
    }
    // The real widths: latents in, text in. Relatives that took over the layout differ in the text encoder.
    let text = keys.dim("txt_in.weight", 1).or_else(|| keys.dim("context_embedder.weight", 1));
    if text.is_some_and(|width| width != 4096) {
        return renamed(found, "unknown").at_most(UNDECIDED);
    }
    let pooled = keys
        .dim("vector_in.in_layer.weight", 1)
        .or_else(|| keys.dim("time_text_embed.text_embedder.linear_1.weight", 1));
    if pooled.is_some_and(|width| width != 768)
        || (pooled.is_none() && !keys.any("vector_in.") && !keys.any("time_text_embed."))
    {
        return renamed(found, "unknown").at_most(UNDECIDED);
    }
    let depths = (
        keys.blocks("double_blocks.").max(keys.blocks("transformer_blocks.")),
        keys.blocks("single_blocks.").max(keys.blocks("single_transformer_blocks.")),
    );
    match keys.dim("img_in.weight", 1).or_else(|| keys.dim("x_embedder.weight", 1)) {
        Some(128) => found.add_variant("control"),
        Some(384) => found.add_variant("fill"),
        _ if guided.is_some() => found.add_variant("dev"),
        _ => {}
    }
    // Pruned versions have fewer blocks and are still Flux; but a count that is nobody's proves less.
    if depths == (19, 38) { found } else { found.at_most(LIKELY) }
}

fn chroma(keys: Keys<'_>, mut found: Found) -> Found {
    if keys.any("nerf_image_embedder.") {
        found.add_variant("radiance");
    }
    found.at_resolution(1024)
}

/// By the width of the text that comes in: three layers of the encoder's states.
fn flux_2(keys: Keys<'_>, mut found: Found) -> Found {
    let text = keys.dim("txt_in.weight", 1).or_else(|| keys.dim("context_embedder.weight", 1));
    let flavour = match text {
        Some(7680) => "klein-4b",
        Some(12_288) => "klein-9b",
        Some(15_360) => "dev",
        _ => "",
    };
    found.add_variant(flavour);
    found.at_resolution(1024)
}

/// 30 blocks and 16 channels are 2.1-1.3B, 48 channels 2.2-5B, or control models of 2.1. 40 blocks are a 14B of 2.1 or an expert of 2.2.
fn wan(keys: Keys<'_>, mut found: Found) -> Found {
    for (marker, flavour) in [
        ("vace_blocks.", "vace"),
        ("control_adapter.", "camera"),
        ("casual_audio_encoder.", "s2v"),
        ("face_adapter.", "animate"),
        ("motion_encoder.", "animate"),
    ] {
        if keys.any(marker) {
            found.add_variant(flavour);
            found.evidence.push(keys.evidence(marker, format!("only in Wan {flavour}")));
        }
    }
    let image = keys.any("img_emb.") || keys.any("condition_embedder.image_embedder.");
    let input = keys.dim("patch_embedding.weight", 1);
    let depth = keys.blocks("blocks.");
    if let Some(width) = input {
        found
            .evidence
            .push(keys.evidence("patch_embedding.weight", format!("{width} channels in, {depth} blocks")));
    }
    let both = |mut found: Found| {
        found.candidates = vec![BaseModel::from_text("wan-2.1"), BaseModel::from_text("wan-2.2")];
        renamed(found, "unknown").at_most(UNDECIDED)
    };
    match (input, depth) {
        // Latents, what steers them, and a picture: three times sixteen channels at the widths of 2.1.
        (Some(48), _) if matches!(keys.dim("patch_embedding.weight", 0), Some(1536 | 5120)) => {
            found.variant("control").at_most(LIKELY)
        }
        (Some(48), _) => renamed(found, "wan-2.2").variant("ti2v-5b"),
        _ if found.variant.contains("s2v") || found.variant.contains("animate") => {
            renamed(found, "wan-2.2").at_most(STRONG)
        }
        (Some(16), 30) => found.variant("1.3b"),
        (Some(16), 40) if found.variant.contains("vace") => both(found).variant("14b"),
        (Some(16), 40) => both(found).variant("t2v-14b"),
        (Some(36), _) if image => found.variant("i2v"),
        // 2.2 dropped the image embedding; 2.1's inpainting derivatives kept it.
        (Some(36), 40) => renamed(found, "wan-2.2").variant("i2v").at_most(STRONG),
        _ if image => found.variant("i2v").at_most(LIKELY),
        (_, 30) => found.at_most(LIKELY),
        _ => both(found),
    }
}

fn hunyuan(keys: Keys<'_>, found: Found) -> Found {
    if keys.any("vision_in.") || keys.any("image_embedder.") {
        return renamed(found, "hunyuan-video-1.5").at_most(LIKELY);
    }
    let flat = keys.rank("img_in.proj.weight") == 4 || keys.rank("x_embedder.proj.weight") == 4;
    if flat {
        return renamed(found, "hunyuan-image-2.1").at_most(LIKELY);
    }
    match keys.dim("img_in.proj.weight", 1).or_else(|| keys.dim("x_embedder.proj.weight", 1)) {
        Some(16) | None => found,
        Some(32 | 33) => found.variant("i2v"),
        Some(_) => found.at_most(LIKELY),
    }
}

/// Lumina 2 reads Gemma 2 2B (2304 wide), Z-Image Qwen3 4B (2560 wide); of Lumina's own width and the latter's text are
/// others.
fn lumina(keys: Keys<'_>, found: Found) -> Found {
    let text = keys
        .dim("cap_embedder.1.weight", 1)
        .or_else(|| keys.dim("time_caption_embed.caption_embedder.1.weight", 1));
    let wide = keys
        .dim("cap_embedder.1.weight", 0)
        .or_else(|| keys.dim("time_caption_embed.caption_embedder.1.weight", 0));
    let found = found.at_resolution(1024);
    match text {
        Some(2560) if wide == Some(2304) => renamed(found, "unknown").at_most(UNDECIDED),
        Some(2560) => renamed(found, "z-image").at_most(STRONG),
        Some(2304) => found,
        // 26 blocks are Lumina 2's, whatever packing left of the shapes.
        _ if keys.blocks("layers.") == 26 => found.at_most(STRONG),
        _ => found.at_most(LIKELY),
    }
}

/// Alpha and Sigma have 28 blocks; others took over the layout with other depths.
fn pixart(keys: Keys<'_>, mut found: Found) -> Found {
    if keys.any("adaln_single.emb.resolution_embedder.") || keys.any("csize_embedder.") {
        found.add_variant("alpha-1024");
    }
    let depth = keys.blocks("blocks.").max(keys.blocks("transformer_blocks."));
    if depth == 28 { found } else { found.at_most(LIKELY) }
}

fn qwen(keys: Keys<'_>, found: Found) -> Found {
    let text = keys.dim("txt_in.weight", 1);
    let known = keys.any("transformer_blocks.0.img_mlp.") || keys.any("transformer_blocks.0.img_mod.");
    match (known, text) {
        (true, Some(3584) | None) => found,
        _ => found.at_most(LIKELY),
    }
}
