//! Autoencoders: between pixels and latents. Many classes share one structure; then the bases are candidates.

use hoist_domain::ModelType;

use crate::found::{Found, LIKELY, PROVEN, STRONG, UNDECIDED};
use crate::keys::Keys;

/// Four latent channels: SD 1, SD 2 and SDXL differ in the numbers only.
pub(crate) const FOUR_CHANNELS: [&str; 3] = ["sd-1.5", "sd-2.1", "sdxl"];
const SIXTEEN_CHANNELS: [&str; 3] = ["flux.1", "sd-3", "sd-3.5"];
const WAN_CHANNELS: [&str; 3] = ["wan-2.1", "wan-2.2", "qwen-image"];

/// The autoencoder whose keys stand at this view's root.
pub(crate) fn find(keys: Keys<'_>) -> Option<Found> {
    wan(keys)
        .or_else(|| video(keys))
        .or_else(|| kl(keys))
        .or_else(|| deep_compression(keys))
        .or_else(|| tiny(keys))
        .or_else(|| other(keys))
}

fn one_of(bases: &[&str]) -> Found {
    Found::one_of(ModelType::Vae, bases)
}

fn only(base: &str, confidence: f32) -> Found {
    Found::new(ModelType::Vae, base, confidence)
}

/// The convolutional KL autoencoder of the Stable Diffusion line.
fn kl(keys: Keys<'_>) -> Option<Found> {
    let whole = keys.any("decoder.mid.block_1.") || keys.any("decoder.mid_block.resnets.0.");
    if !whole || !keys.has("decoder.conv_in") || keys.rank("decoder.conv_in.weight") != 4 {
        return None;
    }
    let input = "decoder.conv_in.weight";
    let latents = keys.dim(input, 1);
    let because =
        keys.evidence(input, format!("decoder from {} latent channels", latents.unwrap_or_default()));
    let found = if keys.any("decoder.time_conv_out.")
        || keys.any("decoder.mid_block.resnets.0.temporal_res_block.")
    {
        only("svd", STRONG).because(keys.evidence("decoder.", "temporal decoder"))
    } else if keys.any("decoder.temp_conv_in.") {
        only("allegro", LIKELY).because(keys.evidence("decoder.temp_conv_in.", "temporal convolution"))
    } else if keys.any("quantize.embedding.") {
        only("ldm-vq", LIKELY).variant("vq")
    } else {
        match latents {
            Some(4) => one_of(&FOUR_CHANNELS),
            Some(16) => one_of(&SIXTEEN_CHANNELS),
            Some(32) if keys.has("bn.running_mean") => only("flux.2", PROVEN),
            Some(32) => only("flux.2", LIKELY),
            Some(64) => only("hunyuan-image-2.1", LIKELY),
            _ if keys.has("bn.running_mean") => only("flux.2", LIKELY),
            _ => only("unknown", UNDECIDED),
        }
    };
    let found = if keys.has("encoder.conv_in") { found } else { found.variant("decoder") };
    Some(found.because(because))
}

/// Wan's causal autoencoder, which Qwen-Image took over.
fn wan(keys: Keys<'_>) -> Option<Found> {
    let (marker, input) = if keys.has("decoder.middle.0.residual.0.gamma") {
        ("decoder.middle.0.residual.0.gamma", "decoder.conv1.weight")
    } else if keys.has("decoder.mid_block.resnets.0.norm1.gamma") {
        ("decoder.mid_block.resnets.0.norm1.gamma", "decoder.conv_in.weight")
    } else {
        return None;
    };
    keys.get(input)?;
    let nested = keys.any("decoder.upsamples.0.upsamples.0.");
    let found = match (keys.dim(input, 1), nested) {
        (Some(48), _) | (_, true) => only("wan-2.2", PROVEN),
        (Some(16), false) => one_of(&WAN_CHANNELS),
        _ => one_of(&WAN_CHANNELS).at_most(LIKELY),
    };
    Some(found.because(keys.evidence(marker, "norm of a Wan decoder")))
}

/// Other autoencoders over time: their convolutions are wrapped once more.
fn video(keys: Keys<'_>) -> Option<Found> {
    let stack = keys.any("decoder.blocks.0.") || keys.any("blocks.2.blocks.3.stack.5.");
    if stack && (keys.any("decoder.blocks.2.blocks.3.stack.") || keys.any("blocks.2.blocks.3.stack.")) {
        return Some(
            only("mochi", STRONG).because(keys.evidence("decoder.blocks.", "stack of a Mochi decoder")),
        );
    }
    if keys.any("decoder.block_in.resnets.0.") && keys.any("decoder.up_blocks.0.resnets.0.conv1.conv.") {
        return Some(
            only("mochi", STRONG).because(keys.evidence("decoder.block_in.", "first block of Mochi")),
        );
    }
    if keys.any("decoder.unpatcher3d.") || keys.any("encoder.patcher3d.") {
        return Some(
            only("cosmos", STRONG).because(keys.evidence("decoder.unpatcher3d.", "wavelets of Cosmos")),
        );
    }
    let input = "decoder.conv_in.conv.weight";
    if keys.rank(input) != 5 {
        return None;
    }
    let base = match keys.dim(input, 1) {
        // LTX 2 folds as much into its channels.
        Some(128) => "ltx-video",
        Some(16) if keys.any("decoder.mid_block.resnets.0.norm1.norm_layer.") => "cogvideox",
        Some(16) if keys.any("decoder.mid.block_1.norm1.norm_layer.") => "cogvideox",
        Some(16) if keys.any("decoder.mid_block.attentions.0.") || keys.any("decoder.mid.attn_1.") => {
            "hunyuan-video"
        }
        Some(32) => "hunyuan-video-1.5",
        _ => "unknown",
    };
    let sure = match base {
        "unknown" | "hunyuan-video-1.5" => UNDECIDED,
        "ltx-video" => LIKELY,
        _ => STRONG,
    };
    Some(only(base, sure).because(keys.evidence(input, "first convolution of a video decoder")))
}

/// DC-AE: 32 times smaller, 32 channels.
fn deep_compression(keys: Keys<'_>) -> Option<Found> {
    let diffusers =
        keys.has("decoder.conv_in") && keys.has("encoder.conv_in") && keys.any("decoder.up_blocks.0.0.");
    let original = keys.any("decoder.stages.0.") && keys.any("encoder.stages.0.");
    (diffusers || original)
        .then(|| only("sana", LIKELY).variant("dc-ae").because(keys.evidence("decoder.", "stages of DC-AE")))
}

/// TAESD and its like: a few convolutions that approximate an autoencoder.
fn tiny(keys: Keys<'_>) -> Option<Found> {
    let names = [
        ("decoder.layers.0.weight", keys.any("encoder.layers.0.") && keys.has("decoder.layers.3.conv.0")),
        ("decoder.layers.0.weight", keys.any("encoder.layers.0.") && keys.has("decoder.layers.2.conv.0")),
        ("taesd_decoder.1.weight", true),
        ("decoder.1.weight", keys.has("decoder.3.conv.0")),
        ("1.weight", keys.has("3.conv.0") && keys.has("4.conv.0")),
    ];
    let (input, _) = names.into_iter().find(|(name, there)| *there && keys.rank(name) == 4)?;
    let found = match keys.dim(input, 1) {
        Some(4) => one_of(&FOUR_CHANNELS),
        Some(16) => one_of(&["flux.1", "sd-3", "sd-3.5", "wan-2.1", "qwen-image", "hunyuan-video"]),
        Some(32) => only("flux.2", LIKELY),
        _ => only("unknown", UNDECIDED),
    };
    Some(found.variant("tiny").because(keys.evidence(input, "first convolution of a tiny decoder")))
}

fn other(keys: Keys<'_>) -> Option<Found> {
    if keys.has("vquantizer.codebook") {
        let found = only("stable-cascade", STRONG).variant("stage-a");
        return Some(found.because(keys.evidence("vquantizer.codebook", "codebook of stage A")));
    }
    let snake = ["decoder.layers.1.layers.0.beta", "decoder.block.0.snake1.beta"]
        .into_iter()
        .find(|key| keys.has(key));
    if let Some(snake) = snake {
        let found = only("stable-audio", LIKELY);
        return Some(found.because(keys.evidence(snake, "snake activation of Oobleck")));
    }
    // Only the encoder of a tiny one: nothing tells it from others.
    let encoder =
        keys.has("0.weight") && keys.has("1.conv.0") && keys.has("3.conv.0") && keys.rank("0.weight") == 4;
    encoder.then(|| one_of(&FOUR_CHANNELS).variant("tiny").because(keys.evidence("0.weight", "tiny encoder")))
}
