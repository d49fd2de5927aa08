//! Networks beside a denoiser that steer it: `ControlNets`, T2I adapters, IP-adapters, Redux, motion modules.

use hoist_domain::ModelType;

use crate::found::{Found, LIKELY, PROVEN, STRONG, UNDECIDED};
use crate::keys::Keys;
use crate::unet::cross_attention;

/// The adapter whose keys stand at this view's root.
pub(crate) fn find(keys: Keys<'_>) -> Option<Found> {
    ip_adapter(keys)
        .or_else(|| control_dit(keys))
        .or_else(|| control_unet(keys))
        .or_else(|| control_small(keys))
        .or_else(|| t2i(keys))
        .or_else(|| motion(keys))
        .or_else(|| redux(keys))
}

fn controlnet(base: &str, confidence: f32) -> Found {
    Found::new(ModelType::Controlnet, base, confidence)
}

/// The class that a cross-attention width stands for.
fn base_of_width(width: Option<u64>) -> Option<&'static str> {
    match width? {
        768 => Some("sd-1.5"),
        1024 => Some("sd-2.1"),
        1280 => Some("sdxl-refiner"),
        2048 => Some("sdxl"),
        _ => None,
    }
}

/// A copy of the UNet's first half with zero convolutions.
fn control_unet(keys: Keys<'_>) -> Option<Found> {
    let wrapped = keys.under("control_model.");
    let inner = if wrapped.is_empty() { keys } else { wrapped };
    let (mark, flavour) = if inner.has("zero_convs.0.0") {
        ("zero_convs.0.0", "")
    } else if inner.has("controlnet_cond_embedding.conv_in") {
        ("controlnet_cond_embedding.conv_in", "")
    } else if inner.has("lora_controlnet") {
        ("lora_controlnet", "control-lora")
    } else {
        return None;
    };
    let width = cross_attention(inner).and_then(|(_, width)| width);
    let lora = inner.last_dim("input_blocks.4.1.transformer_blocks.0.attn2.to_k.down");
    let because = inner.evidence(mark, "input of a ControlNet");
    let mut found = match base_of_width(width.or(lora)) {
        Some(base) => controlnet(base, PROVEN),
        // Control-LoRAs were only made for SDXL.
        None if flavour == "control-lora" => controlnet("sdxl", LIKELY),
        None => Found::one_of(ModelType::Controlnet, &["sd-1.5", "sd-2.1", "sdxl"]),
    };
    found.add_variant(flavour);
    if inner.any("control_add_embedding.") || inner.has("task_embedding") {
        found.add_variant("union");
    }
    if let Some((name, Some(width))) = cross_attention(inner) {
        found
            .evidence
            .push(inner.evidence(&name, format!("width {width}: cross-attention of {}", found.base)));
    }
    // The first releases carried the whole checkpoint along.
    let whole = keys.any("model.diffusion_model.");
    Some(if whole { found.because(because).at_most(LIKELY) } else { found.because(because) })
}

/// `ControlNets` of diffusion transformers. The first that fits: (keys that must be there, base, flavour, how sure).
const CONTROL_DIT: [(&[&str], &str, &str, f32); 12] = [
    (&["controlnet_blocks.0", "double_blocks.0.img_attn.norm.key_norm.scale"], "flux.1", "xlabs", PROVEN),
    (&["controlnet_blocks.0", "controlnet_x_embedder", "txt_norm"], "qwen-image", "", STRONG),
    (&["controlnet_mode_embedder", "controlnet_x_embedder"], "flux.1", "union", PROVEN),
    (&["controlnet_x_embedder", "single_transformer_blocks.0.", "context_embedder"], "flux.1", "", STRONG),
    (
        &["controlnet_x_embedder", "transformer_blocks.0.attn.add_q_proj", "context_embedder"],
        "flux.1",
        "",
        STRONG,
    ),
    (&["controlnet_blocks.0", "pos_embed_input.proj", "transformer_blocks.0."], "sd-3", "", LIKELY),
    (&["controlnet_blocks.0", "transformer_blocks.0.ff.conv_inverted"], "sana", "", STRONG),
    (&["after_proj_list.18.bias"], "hunyuan-dit", "", PROVEN),
    (&["controlnet_blocks.0", "pos_embed_input.proj"], "sd-3", "", LIKELY),
    (&["control_layers.0.", "control_all_x_embedder."], "z-image", "", STRONG),
    (&["controlnet_blocks.0", "blocks.0.attn1.to_q", "patch_embedding"], "wan-2.1", "", LIKELY),
    (&["controlnet_blocks.0", "transformer_blocks.0."], "unknown", "", UNDECIDED),
];

fn control_dit(keys: Keys<'_>) -> Option<Found> {
    let (needs, base, flavour, sure) =
        CONTROL_DIT.iter().find(|(needs, ..)| needs.iter().all(|key| keys.has(key)))?;
    let mark = needs.first().copied().unwrap_or_default();
    let mut found = controlnet(base, *sure).variant(flavour);
    // 3.5 normalises queries and keys; its ControlNets for 8B have that many blocks only in their names.
    if *base == "sd-3" && keys.any("transformer_blocks.0.attn.norm_q.") {
        found = controlnet("sd-3.5", LIKELY)
            .because(keys.evidence("transformer_blocks.0.attn.norm_q.", "normalised"));
    }
    let text = keys.dim("context_embedder.weight", 1).or_else(|| keys.dim("txt_in.weight", 1));
    if *base == "flux.1" && text.is_some_and(|width| width != 4096) {
        found = controlnet("unknown", UNDECIDED);
    }
    Some(found.because(keys.evidence(mark, format!("ControlNet of {base}"))))
}

fn control_small(keys: Keys<'_>) -> Option<Found> {
    if keys.any("lllite_unet_") {
        // LLLite was made for SDXL; SD 1 has other block numbers, and the widths tell.
        let deep = keys.iter().any(|(name, _)| name.contains("transformer_blocks_9_"));
        let found = if deep { controlnet("sdxl", STRONG) } else { controlnet("sdxl", LIKELY) };
        return Some(found.variant("lllite").because(keys.evidence("lllite_unet_", "ControlNet-LLLite")));
    }
    if keys.any("lllite_dit_") {
        let found = controlnet("unknown", UNDECIDED).variant("lllite");
        return Some(found.because(keys.evidence("lllite_dit_", "ControlNet-LLLite of a transformer")));
    }
    None
}

/// By the pixels folded into channels: 8 × 8 of 1 or 3 for SD 1, 16 × 16 for SDXL.
fn t2i(keys: Keys<'_>) -> Option<Found> {
    let inner = if keys.any("adapter.body.") { keys.under("adapter.") } else { keys };
    let blocks = inner.any("body.0.in_conv.")
        || inner.any("body.0.resnets.0.block1.")
        || (inner.any("body.0.block1.") && inner.any("body.0.block2."));
    if !blocks {
        return None;
    }
    let input =
        ["conv_in.weight", "body.0.in_conv.weight"].into_iter().find(|name| inner.get(name).is_some())?;
    let folded = inner.dim(input, 1);
    let base = match folded {
        Some(64 | 192) => Some("sd-1.5"),
        Some(256 | 768) => Some("sdxl"),
        _ => None,
    };
    let found = match base {
        Some(base) => Found::new(ModelType::T2iAdapter, base, STRONG),
        None => Found::one_of(ModelType::T2iAdapter, &["sd-1.5", "sdxl"]),
    };
    Some(found.because(inner.evidence(input, format!("{} folded channels", folded.unwrap_or_default()))))
}

fn ip_adapter(keys: Keys<'_>) -> Option<Found> {
    let adapter = |base: &str, confidence: f32| Found::new(ModelType::IpAdapter, base, confidence);
    let xlabs = "double_blocks.0.processor.ip_adapter_double_stream_k_proj";
    if keys.has(xlabs) && keys.any("ip_adapter_proj_model.") {
        return Some(
            adapter("flux.1", PROVEN).variant("xlabs").because(keys.evidence(xlabs, "IP-adapter of XLabs")),
        );
    }
    if !keys.any("ip_adapter.") || !(keys.any("image_proj.") || keys.any("ip_adapter.1.to_k_ip.")) {
        return None;
    }
    let input = ["ip_adapter.1.to_k_ip.weight", "ip_adapter.0.to_k_ip.weight"]
        .into_iter()
        .find(|name| keys.get(name).is_some());
    let width = input.and_then(|name| keys.last_dim(name));
    let mut found = match width {
        Some(768) => adapter("sd-1.5", PROVEN),
        Some(1024) => adapter("sd-2.1", PROVEN),
        Some(1280) => adapter("sdxl-refiner", LIKELY),
        Some(2048) => adapter("sdxl", PROVEN),
        Some(4096) => Found::one_of(ModelType::IpAdapter, &["flux.1", "sd-3.5"]),
        _ => adapter("unknown", UNDECIDED),
    };
    let flavour = if keys.any("ip_adapter.0.to_q_lora.") {
        "faceid"
    } else if keys.has("image_proj.latents") || keys.any("image_proj.perceiver_resampler.") {
        "plus"
    } else if keys.has("image_proj.proj.3") {
        "full"
    } else {
        ""
    };
    found.add_variant(flavour);
    if let (Some(name), Some(width)) = (input, width) {
        found.evidence.push(keys.evidence(name, format!("width {width}: cross-attention")));
    }
    Some(found)
}

fn motion(keys: Keys<'_>) -> Option<Found> {
    let mark = "down_blocks.0.motion_modules.0.";
    if !keys.any(mark) || keys.any("down_blocks.0.resnets.") {
        return None;
    }
    // SD 1 goes down four times, SDXL three times.
    let found = match keys.blocks("down_blocks.") {
        4 => Found::new(ModelType::MotionAdapter, "sd-1.5", STRONG),
        3 => Found::new(ModelType::MotionAdapter, "sdxl", STRONG),
        _ => Found::one_of(ModelType::MotionAdapter, &["sd-1.5", "sdxl"]),
    };
    let flavour = if keys.any("mid_block.motion_modules.") { "v2" } else { "" };
    Some(found.variant(flavour).because(keys.evidence(mark, "temporal layers alone")))
}

fn redux(keys: Keys<'_>) -> Option<Found> {
    let only = keys.has("redux_up") && keys.has("redux_down") && keys.len() <= 4;
    let prior = keys.has("redux_up") && keys.has("redux_down");
    prior.then(|| {
        let found =
            Found::new(ModelType::Adapter, "flux.1", if only { PROVEN } else { LIKELY }).variant("redux");
        found.because(keys.evidence("redux_up", "Redux's image embedder"))
    })
}
