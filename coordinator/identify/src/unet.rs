//! UNets of the Stable Diffusion line: the width of their cross-attention tells the class.

use hoist_domain::ModelType;

use crate::answer::PredictionType;
use crate::found::{Found, LIKELY, PROVEN, STRONG, THIN, UNDECIDED};
use crate::keys::Keys;

/// Cross-attention inputs per layout, in the order to try. `#` counts up.
const CROSS_ATTENTION: [&str; 4] = [
    "input_blocks.#.1.transformer_blocks.0.attn2.to_k.weight",
    "down_blocks.#.attentions.0.transformer_blocks.0.attn2.to_k.weight",
    "middle_block.#.transformer_blocks.0.attn2.to_k.weight",
    "mid_block.attentions.#.transformer_blocks.0.attn2.to_k.weight",
];

/// What only moving-picture UNets have: somewhere in the first blocks.
const TEMPORAL: [(&str, &str, f32); 5] = [
    ("input_blocks.1.0.time_stack.", "svd", STRONG),
    ("down_blocks.0.resnets.0.temporal_res_block.", "svd", STRONG),
    ("image_latents_temporal_encoder.", "i2vgen-xl", STRONG),
    // Others have these layers, too.
    ("down_blocks.0.temp_convs.", "modelscope-t2v", LIKELY),
    ("input_blocks.1.0.temopral_conv.", "modelscope-t2v", LIKELY),
];

/// The UNet whose keys stand at this view's root.
pub(crate) fn find(keys: Keys<'_>) -> Option<Found> {
    let ldm =
        keys.has("input_blocks.0.0.weight") && keys.any("output_blocks.0.") && keys.any("middle_block.");
    let diffusers = keys.any("down_blocks.0.")
        && keys.any("up_blocks.0.")
        && keys.has("conv_in")
        && (keys.has("time_embedding.linear_1") || keys.has("add_embedding.linear_1"));
    if !ldm && !diffusers {
        return None;
    }
    let input = if ldm { "input_blocks.0.0.weight" } else { "conv_in.weight" };
    let mut found = by_width(keys).because(keys.evidence(input, "first convolution of a UNet"));
    // Networks for sound read text as wide as SD 1 does, but begin with fewer channels of more latents.
    let is_sound = keys.dim(input, 0) == Some(128) && keys.dim(input, 1) == Some(8);
    if is_sound && found.base.as_str() != "svd" {
        found.evidence.push(keys.evidence(input, "128 channels of 8: latents of sound"));
        found = Found { evidence: found.evidence, ..Found::new(ModelType::Unet, "unknown", UNDECIDED) };
    }
    if let Some(flavour) = keys.dim(input, 1).and_then(|channels| flavour_of(channels, found.base.as_str())) {
        found.add_variant(flavour);
        found.evidence.push(keys.evidence(input, format!("input channels: {flavour}")));
    }
    if keys.has("time_embedding.cond_proj") || keys.has("time_embed.cond_proj") {
        found.add_variant("lcm");
    }
    Some(found)
}

fn flavour_of(channels: u64, base: &str) -> Option<&'static str> {
    match channels {
        5 => Some("depth"),
        7 => Some("x4-upscaler"),
        8 if base != "svd" => Some("instruct-pix2pix"),
        9 => Some("inpaint"),
        _ => None,
    }
}

/// The first cross-attention key of the view, and its input width if packing left it.
pub(crate) fn cross_attention(keys: Keys<'_>) -> Option<(String, Option<u64>)> {
    CROSS_ATTENTION
        .iter()
        .flat_map(|pattern| (0..12).map(|at| pattern.replace('#', &at.to_string())))
        .find_map(|name| {
            keys.get(&name)?;
            let width = keys.dim(&name, 1);
            Some((name, width))
        })
}

fn by_width(keys: Keys<'_>) -> Found {
    if let Some((marker, base, sure)) = TEMPORAL.iter().find(|(marker, ..)| keys.any(marker)) {
        let found =
            Found::new(ModelType::Unet, base, *sure).because(keys.evidence(marker, "temporal layers"));
        return if *base == "svd" { found.predicts(PredictionType::V) } else { found };
    }
    let Some((name, width)) = cross_attention(keys) else {
        if keys.any("add_embedding.image_norm.") {
            let says = "conditions on an image embedding";
            let found = Found::new(ModelType::Unet, "kandinsky-2.2", LIKELY);
            return found.because(keys.evidence("add_embedding.image_norm.", says));
        }
        return Found::new(ModelType::Unet, "unknown", UNDECIDED);
    };
    let says = |width: u64, of: &str| keys.evidence(&name, format!("width {width}: cross-attention of {of}"));
    let unet = |base: &str, sure: f32| Found::new(ModelType::Unet, base, sure);
    let pooled = keys.dim("label_emb.0.0.weight", 1).or_else(|| keys.dim("add_embedding.linear_1.weight", 1));
    match (width, pooled) {
        (Some(768), None) => unet("sd-1.5", PROVEN)
            .because(says(768, "SD 1.x"))
            .predicts(PredictionType::Epsilon)
            .at_resolution(512),
        (Some(768), Some(_)) => unet("unknown", THIN).because(says(768, "an unknown class with labels")),
        (Some(1024), None) => unet("sd-2.1", PROVEN).because(says(1024, "SD 2.x")),
        (Some(1024), Some(_)) => {
            unet("sd-2.1", LIKELY).variant("unclip").because(says(1024, "SD 2.x unCLIP"))
        }
        (Some(1280), Some(2560)) => unet("sdxl-refiner", PROVEN)
            .because(says(1280, "the SDXL refiner"))
            .predicts(PredictionType::Epsilon)
            .at_resolution(1024),
        (Some(1280), _) => {
            unet("sdxl-refiner", THIN).because(says(1280, "the SDXL refiner, without its labels"))
        }
        (Some(2048), Some(5632)) => kolors(keys).because(says(2048, "Kolors")),
        (Some(2048), _) if keys.has("encoder_hid_proj") => kolors(keys).because(says(2048, "Kolors")),
        (Some(2048), Some(2816)) => sdxl(keys, PROVEN).because(says(2048, "SDXL")),
        (Some(2048), _) => sdxl(keys, LIKELY).because(says(2048, "SDXL, without its labels")),
        (None, _) => packed(keys).because(keys.evidence(&name, "packed: its shape says nothing")),
        (Some(other), _) => unet("unknown", UNDECIDED).because(says(other, "no known class")),
    }
}

fn kolors(keys: Keys<'_>) -> Found {
    let projection = if keys.has("encoder_hid_proj") { "encoder_hid_proj." } else { "label_emb." };
    Found::new(ModelType::Unet, "kolors", STRONG)
        .because(keys.evidence(projection, "projects ChatGLM's states"))
        .predicts(PredictionType::Epsilon)
}

fn sdxl(keys: Keys<'_>, sure: f32) -> Found {
    let depth = keys
        .blocks("input_blocks.7.1.transformer_blocks.")
        .max(keys.blocks("down_blocks.2.attentions.0.transformer_blocks."));
    let flavour = match depth {
        2 => "vega",
        4 => "ssd-1b",
        _ => "",
    };
    Found::new(ModelType::Unet, "sdxl", sure)
        .variant(flavour)
        .predicts(PredictionType::Epsilon)
        .at_resolution(1024)
}

/// Without shapes: by the blocks that attend and how deep.
fn packed(keys: Keys<'_>) -> Found {
    let deep = keys.any("input_blocks.8.1.transformer_blocks.9.")
        || keys.any("down_blocks.2.attentions.0.transformer_blocks.9.");
    let labels = keys.has("label_emb.0.0") || keys.has("add_embedding.linear_1");
    match (deep, labels) {
        (true, true) => sdxl(keys, LIKELY),
        (_, true) => Found::one_of(ModelType::Unet, &["sdxl", "sdxl-refiner"]),
        // SD 2 projects linearly, SD 1 by a convolution, which quantisers leave alone.
        (_, false) if keys.rank("input_blocks.1.1.proj_in.weight") == 4 => {
            Found::new(ModelType::Unet, "sd-1.5", LIKELY).predicts(PredictionType::Epsilon)
        }
        (_, false) => Found::one_of(ModelType::Unet, &["sd-1.5", "sd-2.1"]),
    }
}
