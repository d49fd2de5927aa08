//! Low-rank and other differences to a model: which kind they are, and what they touch.
//!
//! One pass over the names collects what `lora_base` then reads the base from.

use std::collections::{BTreeMap, BTreeSet};

use hoist_domain::ModelType;
use hoist_formats::Tensor;

use crate::answer::Evidence;
use crate::found::Found;
use crate::keys::Keys;
use crate::lora_base;

/// What a tensor is to the difference it belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Its second dimension is the module's input width.
    Down,
    /// One of its dimensions is the module's input width, the others are small.
    Mixed,
    KronOne,
    KronTwo,
    /// Says where it belongs, and of no width.
    Place,
    Other,
}

/// What follows the module's name, the kind it stands for, the role. The first that is contained counts.
const MARKS: [(&str, &str, Role); 36] = [
    (".lora_down.", "kohya", Role::Down),
    (".lora_up.", "kohya", Role::Other),
    (".lora_mid.", "kohya", Role::Other),
    (".lora_A.", "peft", Role::Down),
    (".lora_B.", "peft", Role::Other),
    (".lora_magnitude_vector", "dora", Role::Other),
    (".lora_embedding_", "peft", Role::Other),
    ("_lora1.down.", "xlabs", Role::Down),
    ("_lora2.down.", "xlabs", Role::Down),
    ("_lora1.up.", "xlabs", Role::Other),
    ("_lora2.up.", "xlabs", Role::Other),
    (".lora_linear_layer.down.", "diffusers", Role::Down),
    (".lora_linear_layer.up.", "diffusers", Role::Other),
    (".lora.down.", "diffusers", Role::Down),
    (".lora.up.", "diffusers", Role::Other),
    ("_lora.down.", "diffusers", Role::Down),
    ("_lora.up.", "diffusers", Role::Other),
    (".hada_w1_b", "loha", Role::Down),
    (".hada_w2_b", "loha", Role::Down),
    (".hada_", "loha", Role::Other),
    (".lokr_w1_a", "lokr", Role::Other),
    (".lokr_w2_a", "lokr", Role::Other),
    (".lokr_t2", "lokr", Role::Other),
    (".lokr_w1", "lokr", Role::KronOne),
    (".lokr_w2", "lokr", Role::KronTwo),
    (".a2.weight", "glora", Role::Mixed),
    (".a1.weight", "glora", Role::Mixed),
    (".b1.weight", "glora", Role::Other),
    (".b2.weight", "glora", Role::Other),
    (".oft_", "oft", Role::Place),
    (".diff_b", "diff", Role::Other),
    (".diff", "diff", Role::Down),
    (".set_weight", "diff", Role::Down),
    (".dora_scale", "dora", Role::Other),
    (".lora_a", "gguf", Role::Down),
    (".lora_b", "gguf", Role::Other),
];

const NEUTRAL: [&str; 5] = [".alpha", ".w_norm", ".b_norm", ".on_input", ".scale"];

/// Where in a file a module's name begins.
const NAMESPACES: [&str; 12] = [
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "lora_prior_unet_",
    "lora_transformer_",
    "lora_unet_",
    "lora_dit_",
    "lycoris_",
    "transformer.",
    "unet.",
    "net.",
    "dit.",
];

/// Text encoders by their namespace: number 0 where the file knows only one.
const TEXT: [(&str, usize); 9] = [
    ("lora_te_", 0),
    ("lora_te1_", 1),
    ("lora_te2_", 2),
    ("lora_te3_", 3),
    ("text_encoder.", 0),
    ("text_encoder_2.", 2),
    ("text_encoder_3.", 3),
    ("text_encoders.clip_l.", 1),
    ("text_encoders.clip_g.", 2),
];

/// What stands first in a module's name and counts up. `_` for every dot.
pub(crate) const STACKS: [&str; 12] = [
    "double_blocks_",
    "single_blocks_",
    "single_transformer_blocks_",
    "transformer_blocks_",
    "joint_blocks_",
    "joint_transformer_blocks_",
    "double_layers_",
    "double_stream_blocks_",
    "single_stream_blocks_",
    "blocks_",
    "layers_",
    "blk_",
];

pub(crate) const UNET: [&str; 6] =
    ["down_blocks_", "up_blocks_", "mid_block_", "input_blocks_", "middle_block_", "output_blocks_"];

/// What tells architectures apart, anywhere in a module's name. Dots only where the dot itself tells.
pub(crate) const NEEDLES: [&str; 40] = [
    "attn2_to_k",
    "attn1_to_q",
    "cross_attn_k",
    "self_attn_q",
    "self_attn_q_proj",
    "k_img",
    "add_q_proj",
    "add_k_proj",
    "img_attn.qkv",
    "img_attn_qkv",
    "img_mod_linear",
    "img_mod_lin",
    "modulation_lin",
    "norm1_linear",
    "norm_linear",
    "vector_in",
    "individual_token_refiner",
    "token_refiner",
    "distilled_guidance_layer",
    "double_stream_modulation",
    "to_qkv_mlp_proj",
    "img_mlp_net",
    "img_mod_1",
    "img_mlp_0",
    "ff_context",
    "x_block_attn2",
    "adaln_single",
    "cross_attn_q_linear",
    "attention_",
    "noise_refiner_",
    "context_refiner_",
    "llm_adapter",
    "adaln_modulation",
    "attn2_kv_proj",
    "qkv_x",
    "model_layers_",
    "motion_modules",
    "temporal_transformer_blocks",
    "temp_attentions",
    "x_block_attn",
];

/// Everything one pass over a difference's names tells.
#[derive(Default)]
pub(crate) struct Scan {
    pub(crate) kinds: BTreeMap<&'static str, usize>,
    marked: usize,
    neutral: usize,
    /// By [`TEXT`]'s numbers.
    pub(crate) text: BTreeSet<usize>,
    pub(crate) text_width: Option<u64>,
    pub(crate) unet: bool,
    /// The UNet attends where only SD 1 and SD 2 do.
    pub(crate) shallow: bool,
    /// The most transformer blocks in one place of the UNet.
    pub(crate) unet_depth: u64,
    pub(crate) cascade: bool,
    /// The highest index in each stack, plus one.
    pub(crate) stacks: BTreeMap<&'static str, u64>,
    /// The first input width and the name for each needle.
    pub(crate) seen: BTreeMap<&'static str, (Option<u64>, String)>,
    kron: (Option<u64>, Option<u64>, String),
}

/// The difference that this view is, if it is mostly one.
pub(crate) fn find(keys: Keys<'_>) -> Option<Found> {
    let mut scan = Scan::default();
    for (name, tensor) in keys.iter() {
        scan.take(name, tensor);
    }
    // A few marks in something else are a leftover of a merge.
    if scan.marked == 0 || (scan.marked + scan.neutral) * 2 < keys.len() {
        return None;
    }
    let mut found = lora_base::decide(&scan);
    found.kind = ModelType::Lora;
    let (kind, count) = scan.kinds.iter().max_by_key(|(_, count)| **count)?;
    // Weak marks alone may belong to anything.
    if matches!(*kind, "glora" | "diff") && !scan.is_placed() {
        return None;
    }
    let flavour = if scan.kinds.contains_key("dora") { "dora" } else { kind };
    found.variant = flavour.to_owned();
    if keys.has("img_in.lora_A") && keys.iter().any(|(name, _)| name.ends_with(".lora_B.bias")) {
        found.add_variant("control");
    }
    let example = keys.iter().find(|(name, _)| mark_in(name).is_some_and(|(_, of, _)| of == *kind));
    if let Some((name, _)) = example {
        found.evidence.push(Evidence::new("key", name, format!("{count} tensors of a {kind} difference")));
    }
    Some(found)
}

/// The first mark, in their order, that a name has, and where. A mark is a whole word: `.diff` is none in `.diffusion_model`.
/// Asked of every name of every model, so compared only where one may begin.
fn mark_in(name: &str) -> Option<(usize, &'static str, Role)> {
    let is_at = |rest: &str, mark: &str| {
        let after = rest.strip_prefix(mark).map(|after| after.bytes().next());
        let is_whole = |next: u8| mark.ends_with(['.', '_']) || !next.is_ascii_alphanumeric();
        after.is_some_and(|next| next.is_none_or(is_whole))
    };
    let begins = name.bytes().enumerate().filter(|(_, byte)| matches!(byte, b'.' | b'_'));
    let marks = begins.filter_map(|(at, _)| {
        let rest = name.get(at..).filter(|rest| may_begin(rest.as_bytes()))?;
        Some((MARKS.iter().position(|(mark, ..)| is_at(rest, mark))?, at))
    });
    let (number, at) = marks.min()?;
    MARKS.get(number).map(|(_, kind, role)| (at, *kind, *role))
}

/// Whether any mark begins as this does, which begins with a dot or an underscore.
fn may_begin(rest: &[u8]) -> bool {
    match rest {
        [_, b'l', b'o', third, ..] => matches!(third, b'r' | b'k'),
        [_, b'd', b'i', b'f', b'f', next, ..] => !next.is_ascii_alphanumeric(),
        [_, b'a' | b'b', b'1' | b'2', third, ..] => *third == b'.',
        [_, b'd', second, ..] => matches!(second, b'i' | b'o'),
        [_, b'h', b'a', b'd', ..] | [_, b'o', b'f', b't', ..] | [_, b's', b'e', b't', ..] => true,
        _ => false,
    }
}

impl Scan {
    /// Whether it names any part of a model that is known.
    fn is_placed(&self) -> bool {
        self.unet || !self.text.is_empty() || !self.stacks.is_empty()
    }

    pub(crate) fn saw(&self, needle: &str) -> bool {
        self.seen.contains_key(needle)
    }

    pub(crate) fn width(&self, needle: &str) -> Option<u64> {
        self.seen.get(needle).and_then(|(width, _)| *width)
    }

    pub(crate) fn depth(&self, stack: &str) -> u64 {
        self.stacks.get(stack).copied().unwrap_or_default()
    }

    fn take(&mut self, name: &str, tensor: &Tensor) {
        let Some((at, kind, role)) = mark_in(name) else {
            self.neutral += usize::from(NEUTRAL.iter().any(|end| name.ends_with(end)));
            return;
        };
        self.marked += 1;
        *self.kinds.entry(kind).or_default() += 1;
        if role == Role::Other {
            return;
        }
        let full = name.get(..at).unwrap_or_default();
        let width = self.input_width(full, role, tensor);
        if let Some((rest, number)) =
            TEXT.iter().find_map(|(space, number)| Some((full.strip_prefix(space)?, *number)))
        {
            self.text.insert(number);
            if number < 2 && rest.contains("self_attn") {
                self.text_width = self.text_width.or(width);
            }
            return;
        }
        self.cascade |= full.starts_with("lora_prior_unet_");
        self.place(full, width);
    }

    fn input_width(&mut self, full: &str, role: Role, tensor: &Tensor) -> Option<u64> {
        let second = tensor.shape.get(1).copied();
        match role {
            Role::Down => second,
            Role::Mixed => tensor.shape.iter().copied().max(),
            Role::KronOne | Role::KronTwo => {
                if self.kron.2 != full {
                    self.kron = (None, None, full.to_owned());
                }
                if role == Role::KronOne {
                    self.kron.0 = second;
                } else {
                    self.kron.1 = second;
                }
                self.kron.0.zip(self.kron.1).map(|(one, two)| one.saturating_mul(two))
            }
            Role::Place | Role::Other => None,
        }
    }

    /// Where in a denoiser the module is, and what its name tells.
    fn place(&mut self, full: &str, width: Option<u64>) {
        let mut module = full;
        for _ in 0..3 {
            let Some(rest) = NAMESPACES.iter().find_map(|space| module.strip_prefix(space)) else { break };
            module = rest;
        }
        let flat = module.replace('.', "_").replace("_processor_", "_");
        if let Some(rest) = UNET.iter().find_map(|stack| flat.strip_prefix(stack)) {
            self.unet = true;
            self.shallow |= flat.contains("attentions") && flat.starts_with("down_blocks_0_");
            self.shallow |=
                ["input_blocks_1_1_", "input_blocks_2_1_"].iter().any(|start| flat.starts_with(start));
            if let Some(depth) = rest.split("transformer_blocks_").nth(1).and_then(number) {
                self.unet_depth = self.unet_depth.max(depth.saturating_add(1));
            }
        } else if let Some((stack, rest)) = STACKS.iter().find_map(|s| Some((*s, flat.strip_prefix(s)?))) {
            let depth = self.stacks.entry(stack).or_default();
            *depth = (*depth).max(number(rest).unwrap_or_default().saturating_add(1));
        }
        for needle in NEEDLES {
            let there = if needle.contains('.') { module.contains(needle) } else { flat.contains(needle) };
            if there {
                let seen = self.seen.entry(needle).or_insert_with(|| (None, full.to_owned()));
                seen.0 = seen.0.or(width);
            }
        }
    }
}

/// The number that a text begins with.
fn number(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_may_begin() {
        for (mark, ..) in MARKS {
            assert!(may_begin(mark.as_bytes()), "{mark}");
        }
    }

    #[test]
    fn a_mark_is_a_whole_word_and_the_first_of_the_list_counts() {
        let kind = |name| mark_in(name).map(|(at, kind, _)| (at, kind));
        for name in [
            "model.diffusion_model.input_blocks.0.0.weight",
            "a.b1.weights",
            "x.lora_attention.weight",
            "x.different",
            "lora_unet_mid_block.alpha",
            "",
            "._",
        ] {
            assert_eq!(kind(name), None, "{name}");
        }
        for (name, expected) in [
            ("lora_unet_mid.diff", (13, "diff")),
            ("lora_unet_mid.diff_b", (13, "diff")),
            ("x.lokr_w1_a", (1, "lokr")),
            ("x.lokr_w1", (1, "lokr")),
            ("blk.0.attn_q.weight.lora_a", (19, "gguf")),
            ("x.oft_blocks", (1, "oft")),
            ("x.lora_magnitude_vector.weight", (1, "dora")),
            ("unet.attn_processor.to_q_lora.down.weight", (24, "diffusers")),
            // By place the other one would be first.
            ("x.diff.lora_A.weight", (6, "peft")),
        ] {
            assert_eq!(kind(name), Some(expected), "{name}");
        }
    }
}
