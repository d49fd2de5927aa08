//! What there is to load: models of a few components, some of which they share.

use hoist_domain::{Bytes, Digest, ModelId};
use hoist_planner::residency::Wanted;
use uuid::Uuid;

/// Contents. Their sizes are such that a few of them fill a device.
pub const CONTENTS: u8 = 9;

#[must_use]
pub const fn digest(number: u8) -> Digest {
    Digest([number; 32])
}

#[must_use]
pub const fn size(digest: Digest) -> Bytes {
    let Digest(bytes) = digest;
    Bytes(1 + (bytes[0] % 4) as u64)
}

#[must_use]
pub const fn model(number: u8) -> ModelId {
    ModelId(Uuid::from_u128(number as u128 + 1))
}

/// By model: its components' contents.
pub const MODELS: [&[(&str, u8)]; 7] = [
    &[("unet", 0), ("vae", 1)],
    &[("unet", 2), ("vae", 1)],
    &[("unet", 3), ("vae", 1), ("text", 4)],
    &[("text", 4)],
    &[("llm", 5), ("rest", 6)],
    &[("unet", 7), ("other", 7)],
    &[("lora", 8)],
];

/// Components of a model, all of them or those that are named.
#[must_use]
pub fn parts(of: ModelId, names: &[Box<str>]) -> Vec<Wanted> {
    let number = usize::try_from(of.0.as_u128() - 1).unwrap_or(usize::MAX);
    let components = MODELS.get(number).copied().unwrap_or_default();
    let is_meant = |name: &str| names.is_empty() || names.iter().any(|one| **one == *name);
    let wanted = |&(name, content): &(&str, u8)| Wanted {
        model: of,
        component: name.into(),
        digest: Some(digest(content)),
        dtype: None,
        bytes: size(digest(content)),
        tensors: 0,
    };
    components.iter().filter(|(name, _)| is_meant(name)).map(wanted).collect()
}
