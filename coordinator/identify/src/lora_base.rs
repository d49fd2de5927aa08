//! Which base a difference is made for, from the modules it touches.

use hoist_domain::ModelType;

use crate::answer::Evidence;
use crate::found::{Found, LIKELY, PROVEN, STRONG, THIN, UNDECIDED};
use crate::lora::Scan;

/// Language models that name their projections alike.
const LANGUAGE: [&str; 7] = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3"];

fn only(base: &str, confidence: f32) -> Found {
    Found::new(ModelType::Lora, base, confidence)
}

fn one_of(bases: &[&str]) -> Found {
    Found::one_of(ModelType::Lora, bases)
}

pub(crate) fn decide(scan: &Scan) -> Found {
    let found = if scan.cascade {
        only("stable-cascade", STRONG)
    } else if scan.unet {
        unet(scan)
    } else {
        flux_like(scan)
            .or_else(|| joint(scan))
            .or_else(|| plain_blocks(scan))
            .or_else(|| layers(scan))
            .or_else(|| transformer_blocks(scan))
            .or_else(|| text_only(scan))
            .unwrap_or_else(|| only("unknown", THIN))
    };
    with_evidence(scan, found)
}

/// Shows the widths and depths that were looked at.
fn with_evidence(scan: &Scan, mut found: Found) -> Found {
    for needle in ["attn2_to_k", "cross_attn_k", "add_q_proj"] {
        if let Some((Some(width), name)) = scan.seen.get(needle) {
            found.evidence.push(Evidence::new("shape", name, format!("input width {width}")));
        }
    }
    for (stack, depth) in scan.stacks.iter().take(3) {
        found.evidence.push(Evidence::new("key", stack, format!("up to {depth} blocks touched")));
    }
    found
}

fn unet(scan: &Scan) -> Found {
    let both_encoders = scan.text.contains(&1) && scan.text.contains(&2);
    if scan.saw("motion_modules") {
        return only("sd-1.5", LIKELY).variant("motion");
    }
    if scan.saw("temporal_transformer_blocks") {
        return only("svd", LIKELY);
    }
    if scan.saw("temp_attentions") {
        return only("modelscope-t2v", LIKELY);
    }
    match scan.width("attn2_to_k") {
        Some(768) => return only("sd-1.5", PROVEN),
        Some(1024) => return only("sd-2.1", STRONG),
        // Kolors has SDXL's UNet, but other text encoders.
        Some(2048) if both_encoders => return only("sdxl", PROVEN),
        Some(2048) => return only("sdxl", LIKELY),
        Some(1280) => return only("sdxl-refiner", LIKELY),
        _ => {}
    }
    // SDXL attends up to ten blocks deep and not at the first level; SD 1 and SD 2 one deep and everywhere.
    if both_encoders || scan.unet_depth >= 5 {
        return only("sdxl", LIKELY);
    }
    if scan.unet_depth >= 2 {
        return only("sdxl", UNDECIDED);
    }
    match (scan.shallow, scan.text_width) {
        (_, Some(768)) if scan.text.contains(&0) => only("sd-1.5", LIKELY),
        (_, Some(1024)) => only("sd-2.1", LIKELY),
        (true, _) => one_of(&["sd-1.5", "sd-2.1"]),
        (false, _) => one_of(&["sd-1.5", "sdxl", "sd-2.1"]),
    }
}

/// Double and single blocks: Flux, and what took over its layout.
fn flux_like(scan: &Scan) -> Option<Found> {
    let double = scan.depth("double_blocks_");
    let single = scan.depth("single_blocks_").max(scan.depth("single_transformer_blocks_"));
    if scan.depth("double_stream_blocks_") > 0 || scan.depth("single_stream_blocks_") > 0 {
        return Some(only("hidream", STRONG));
    }
    if scan.depth("joint_transformer_blocks_") > 0 || scan.depth("double_layers_") > 0 {
        return Some(only("auraflow", STRONG));
    }
    if double == 0 && single == 0 {
        return None;
    }
    if scan.saw("distilled_guidance_layer") {
        return Some(only("chroma", STRONG));
    }
    let glued = scan.saw("img_attn_qkv") && !scan.saw("img_attn.qkv") && scan.saw("img_mod_linear");
    if scan.saw("individual_token_refiner") || scan.saw("token_refiner") || glued {
        // All of its line have that.
        return Some(only("hunyuan-video", LIKELY));
    }
    let hidden = scan.width("img_attn_qkv").or_else(|| scan.width("img_attn.qkv"));
    let newer = scan.saw("double_stream_modulation") || scan.saw("to_qkv_mlp_proj");
    if newer || matches!(hidden, Some(4096 | 6144)) || single > 40 {
        return Some(only("flux.2", if newer { STRONG } else { LIKELY }));
    }
    if double > 19 || single > 38 {
        return Some(only("hunyuan-video", LIKELY));
    }
    // Chroma has the same blocks, but computes their modulation elsewhere; HunyuanVideo has one more of each.
    let modulated = ["img_mod_lin", "modulation_lin", "norm1_linear", "norm_linear", "vector_in"]
        .iter()
        .any(|needle| scan.saw(needle))
        && !scan.saw("img_mod_linear")
        && !scan.saw("modulation_linear");
    Some(only("flux.1", if modulated { STRONG } else { LIKELY }))
}

fn joint(scan: &Scan) -> Option<Found> {
    let depth = scan.depth("joint_blocks_");
    if depth == 0 {
        return None;
    }
    Some(match depth {
        _ if scan.saw("x_block_attn2") => only("sd-3.5", STRONG),
        25.. => only("sd-3.5", STRONG),
        _ => one_of(&["sd-3", "sd-3.5"]),
    })
}

/// `blocks.N`: Wan, Cosmos, and the first layouts of PixArt, Mochi, HunyuanDiT.
fn plain_blocks(scan: &Scan) -> Option<Found> {
    let depth = scan.depth("blocks_");
    if depth == 0 {
        return None;
    }
    if scan.saw("llm_adapter") {
        return Some(only("anima", STRONG));
    }
    if scan.saw("cross_attn_q_linear") {
        return Some(only("pixart", LIKELY));
    }
    if scan.saw("qkv_x") {
        return Some(only("mochi", LIKELY));
    }
    if scan.saw("attn2_kv_proj") {
        return Some(only("hunyuan-dit", LIKELY));
    }
    if scan.saw("self_attn_q_proj") {
        return Some(one_of(&["cosmos-predict2", "anima"]));
    }
    let wan = scan.saw("cross_attn_k")
        || scan.saw("self_attn_q")
        || (scan.saw("attn1_to_q") && scan.saw("attn2_to_k"));
    if !wan {
        return None;
    }
    let width = ["cross_attn_k", "self_attn_q", "attn1_to_q"].iter().find_map(|needle| scan.width(needle));
    Some(match (width, depth) {
        _ if scan.saw("k_img") => only("wan-2.1", LIKELY),
        (Some(1536), ..=30) => only("wan-2.1", STRONG),
        (Some(3072), ..=30) => only("wan-2.2", STRONG),
        _ => one_of(&["wan-2.1", "wan-2.2"]),
    })
}

/// `layers.N`: Lumina 2 and Z-Image attend by `attention`, language models by `self_attn`.
fn layers(scan: &Scan) -> Option<Found> {
    if scan.depth("blk_") > 0 {
        return Some(only("unknown", UNDECIDED));
    }
    if scan.saw("model_layers_") {
        return Some(one_of(&LANGUAGE));
    }
    let depth = scan.depth("layers_");
    if depth == 0 {
        return None;
    }
    if !scan.saw("attention_") {
        return Some(one_of(&LANGUAGE));
    }
    Some(match (scan.width("attention_"), depth) {
        (Some(2304), _) => only("lumina-2", LIKELY),
        (Some(3840), _) => only("z-image", STRONG),
        (_, 27..=30) => only("z-image", LIKELY),
        _ => one_of(&["z-image", "lumina-2"]),
    })
}

/// `transformer_blocks.N` alone, as diffusers names the blocks of most.
fn transformer_blocks(scan: &Scan) -> Option<Found> {
    let depth = scan.depth("transformer_blocks_");
    if depth == 0 {
        return None;
    }
    if scan.saw("img_mlp_net") || scan.saw("img_mod_1") {
        return Some(only("qwen-image", STRONG));
    }
    if scan.saw("attn1_to_q") && scan.saw("add_k_proj") {
        return Some(only("mochi", LIKELY));
    }
    if scan.saw("add_q_proj") || scan.saw("ff_context") {
        return Some(match (scan.width("add_q_proj"), depth) {
            (Some(2048), _) => only("hunyuan-video-1.5", LIKELY),
            // Qwen-Image has sixty blocks; the next with as many, fifty-four.
            (Some(3072), 39..) | (_, 55..=60) => only("qwen-image", STRONG),
            (_, 39..) => only("qwen-image", LIKELY),
            (Some(2432), _) => only("sd-3.5", STRONG),
            (Some(1536), _) => one_of(&["sd-3", "sd-3.5"]),
            (Some(3072), _) => one_of(&["qwen-image", "flux.1"]),
            (_, 38) => only("sd-3.5", LIKELY),
            (_, 24) => one_of(&["sd-3", "sd-3.5"]),
            _ => one_of(&["sd-3", "sd-3.5", "flux.1", "qwen-image"]),
        });
    }
    if scan.saw("attn2_to_k") || scan.saw("adaln_single") {
        return Some(match (scan.width("attn2_to_k").or_else(|| scan.width("attn1_to_q")), depth) {
            (Some(1152), _) => only("pixart", LIKELY),
            (Some(2240), _) => only("sana", LIKELY),
            (Some(2048), ..=28) => only("ltx-video", LIKELY),
            (Some(4096), 29..) => only("ltx-2", LIKELY),
            (Some(4096), _) => one_of(&["ltx-2", "ltx-video"]),
            _ => one_of(&["ltx-video", "pixart", "sana"]),
        });
    }
    Some(match depth {
        29..=30 | 39..=42 if scan.saw("attn1_to_q") => only("cogvideox", UNDECIDED),
        39.. => one_of(&["qwen-image"]),
        _ => only("unknown", UNDECIDED),
    })
}

fn text_only(scan: &Scan) -> Option<Found> {
    if scan.text.contains(&1) && scan.text.contains(&2) {
        let with_t5 = scan.text.contains(&3);
        return Some(if with_t5 { one_of(&["sd-3", "sd-3.5"]) } else { only("sdxl", LIKELY) });
    }
    match scan.text_width {
        Some(768) if scan.text.contains(&0) => Some(only("sd-1.5", LIKELY)),
        Some(768) => Some(one_of(&["sdxl", "flux.1", "sd-3"])),
        Some(1024) => Some(only("sd-2.1", LIKELY)),
        _ if scan.text.is_empty() => None,
        _ => Some(only("unknown", UNDECIDED)),
    }
}
