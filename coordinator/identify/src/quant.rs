//! How the weights were quantised: to be known before any shape is believed.

use std::collections::BTreeMap;

use hoist_domain::Dtype;

use crate::keys::Keys;

/// Name endings that only one quantiser writes.
const MARKS: [(&str, &str); 8] = [
    (".quant_state.bitsandbytes__nf4", "nf4"),
    (".quant_state.bitsandbytes__fp4", "fp4"),
    (".quant_map", "bnb"),
    ("scaled_fp8", "fp8-scaled"),
    (".scale_weight", "fp8-scaled"),
    (".wscales", "nunchaku"),
    (".smooth_factor", "nunchaku"),
    (".SCB", "int8"),
];

/// The quantisation as a variant; empty for plain weights.
pub(crate) fn flavour(keys: Keys<'_>) -> &'static str {
    let mut blocks: BTreeMap<Dtype, usize> = BTreeMap::new();
    let mut eight = 0_usize;
    let (mut zeros, mut groups) = (false, false);
    for (name, tensor) in keys.iter() {
        if let Some((_, flavour)) = MARKS.iter().find(|(end, _)| name.ends_with(end)) {
            return flavour;
        }
        zeros |= name.ends_with(".qzeros");
        groups |= name.ends_with(".g_idx");
        eight += usize::from(matches!(tensor.dtype, Dtype::F8E4m3 | Dtype::F8E5m2));
        if tensor.dtype.block_elements() >= 32 {
            *blocks.entry(tensor.dtype).or_default() += 1;
        }
    }
    // Both have zero points; the order of groups only one.
    if zeros || groups {
        return if groups { "gptq" } else { "awq" };
    }
    if let Some((dtype, _)) = blocks.iter().max_by_key(|(_, count)| **count) {
        return dtype.as_str();
    }
    if eight * 3 > keys.len() { "fp8" } else { "" }
}
