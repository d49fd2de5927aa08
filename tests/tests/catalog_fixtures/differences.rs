//! Where Hoist says something else than a manifest, and why: the item, what is told, the reason.

const SD3_VAE: &str = "SD 3 and 3.5 share the autoencoder that the manifest calls SD 3's";

pub(crate) const CORPUS: &[(&str, &str, &str)] = &[
    ("flux-ae", "candidates flux.1/sd-3/sd-3.5, not flux.1/sd-3", SD3_VAE),
    ("full-flux-ae", "candidates flux.1/sd-3/sd-3.5, not flux.1/sd-3", SD3_VAE),
    ("vae-flux", "candidates flux.1/sd-3/sd-3.5, not flux.1/sd-3", SD3_VAE),
    (
        "vae-tiny",
        "candidates sd-1.5/sd-2.1/sdxl, not sd-1.5/sdxl",
        "the tiny autoencoder serves SD 1 and 2 alike, and its files cannot tell",
    ),
    (
        "ts-frozen",
        "tensors 6, not 0; parameters 1698, not 0",
        "frozen weights are constants of the code, which the manifest's reader does not count",
    ),
];

pub(crate) const CORRUPT: &[(&str, &str, &str)] = &[
    (
        "fs-huge-sparse",
        "corrupt data, not corrupt fs",
        "bytes after the last tensor: a finding about the data",
    ),
    (
        "fs-huge-sparse-ckpt",
        "corrupt header, not corrupt fs",
        "a tebibyte of zeros begins with no known header",
    ),
    ("fs-many-files", "skipped , not ok fs", "five hundred models of their own: the folder is none"),
];
