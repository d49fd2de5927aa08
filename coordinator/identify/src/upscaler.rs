//! Networks that enlarge pictures.

use hoist_domain::ModelType;

use crate::found::{Found, LIKELY, STRONG};
use crate::keys::Keys;

/// Keys that must all be there, the architecture, how sure. From the special to the general.
const ROWS: [(&[&str], &str, f32); 9] = [
    (&["model.0.weight", "model.1.sub.0.RDB1.conv1.0"], "esrgan", STRONG),
    (&["conv_first", "RRDB_trunk.0.RDB1.conv1"], "esrgan", STRONG),
    (&["conv_first", "body.0.rdb1.conv1"], "esrgan", STRONG),
    (&["conv_first", "layers.0.residual_group.blocks.0.conv_block."], "hat", STRONG),
    (&["conv_first", "layers.0.residual_group.blocks.0.attn.logit_scale"], "swin2sr", STRONG),
    (&["conv_first", "layers.0.residual_group.blocks.0.attn.qkv"], "swinir", STRONG),
    (&["before_RG.1", "layers.0.blocks.0."], "dat", LIKELY),
    (&["body.0.weight", "body.1.weight", "body.2.weight", "body.3.weight"], "compact", LIKELY),
    (&["conv_first", "layers.0."], "unknown", LIKELY),
];

pub(crate) fn find(keys: Keys<'_>) -> Option<Found> {
    let (needs, base, sure) = ROWS.iter().find(|(needs, ..)| needs.iter().all(|key| keys.has(key)))?;
    // The plainest row: convolutions and their PReLUs, from colours to colours.
    if *base == "compact" && (keys.dim("body.0.weight", 1) != Some(3) || keys.rank("body.1.weight") != 1) {
        return None;
    }
    let mark = needs.last().copied().unwrap_or_default();
    Some(
        Found::new(ModelType::Upscaler, base, *sure).because(keys.evidence(mark, format!("block of {base}"))),
    )
}
