//! What a file's name says about it. Pure, and only a first guess: what a file is, its content decides.

use std::path::Path;

/// Extensions of files that may hold a model.
const WEIGHTS: [&str; 13] =
    ["safetensors", "sft", "ckpt", "pt", "pth", "bin", "gguf", "onnx", "ts", "pt2", "jit", "tflite", "pkl"];

/// Extensions of files that are being written or fetched. A name that ends in `~` is one, too.
const PARTIAL: [&str; 10] =
    ["part", "partial", "crdownload", "aria2", "tmp", "temp", "incomplete", "download", "downloading", "swp"];

/// Files that training tools leave beside models, in formats that models use too.
const BYSTANDERS: [&str; 8] = [
    "optimizer",
    "optimizer_state",
    "scheduler",
    "training_args",
    "random_states",
    "rng_state",
    "scaler",
    "trainer_state",
];

/// Stems by which libraries name the weights of a folder, the first ones preferred.
const STANDARD: [&str; 8] = [
    "model",
    "diffusion_pytorch_model",
    "pytorch_model",
    "adapter_model",
    "pytorch_lora_weights",
    "open_clip_model",
    "open_clip_pytorch_model",
    "consolidated",
];

/// What is done with a directory entry that is not a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// It may hold tensors.
    Weights,
    /// Small JSON that says what weights beside it are.
    Config,
    /// Data of a graph beside it, without a header of its own.
    Data,
    /// Passed over, and counted under this word.
    Skipped(&'static str),
}

/// Judges a name, as bytes: it need not be text, and nothing is allocated for a hundred thousand of them.
pub(crate) fn judge(name: &[u8]) -> Named {
    let extension = name.rsplit(|byte| *byte == b'.').next().filter(|last| last.len() < name.len());
    let is = |known: &&str| extension.is_some_and(|own| own.eq_ignore_ascii_case(known.as_bytes()));
    let weights = WEIGHTS.iter().find(|known| is(known));
    if weights.is_none() && (name.ends_with(b"~") || PARTIAL.iter().any(&is)) {
        return Named::Skipped("partial");
    }
    if name.starts_with(b".") {
        return Named::Skipped("hidden");
    }
    match weights {
        Some(&("bin" | "pt" | "pth" | "pkl")) if is_bystander(name) => Named::Skipped("training state"),
        Some(_) => Named::Weights,
        None => by_other_name(name, extension),
    }
}

/// What is no weights by its extension. Few extensions need the whole name in lower case.
fn by_other_name(name: &[u8], extension: Option<&[u8]>) -> Named {
    const DATA: &[u8] = b"onnx_data";
    let known = |known: &[u8]| extension.is_some_and(|own| own.eq_ignore_ascii_case(known));
    let is_data =
        extension.and_then(|own| own.get(..DATA.len())).is_some_and(|own| own.eq_ignore_ascii_case(DATA));
    if !is_data && ![&b"json"[..], b"data", b"pb"].into_iter().any(known) {
        return Named::Skipped("other");
    }
    let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
    if is_config(&lower) {
        Named::Config
    } else if is_graph_data(&lower) {
        Named::Data
    } else {
        Named::Skipped("other")
    }
}
/// How exporters name the data of a graph. Those that name it otherwise are read all the same: the graph says where.
fn is_graph_data(name: &str) -> bool {
    let numbered = |rest: &str| {
        let number = rest.strip_prefix('_').unwrap_or(rest);
        number.bytes().all(|byte| byte.is_ascii_digit())
    };
    name.ends_with(".onnx.data")
        || name == "weights.pb"
        || name.rsplit_once(".onnx_data").is_some_and(|(_, rest)| numbered(rest))
}

fn is_config(name: &str) -> bool {
    let known = ["config.json", "adapter_config.json", "model_index.json", "scheduler_config.json"];
    known.contains(&name) || is_index(name)
}

/// Whether it is what training tools call their own state, with or without a number.
fn is_bystander(name: &[u8]) -> bool {
    let stem = name.iter().rposition(|byte| *byte == b'.').and_then(|dot| name.get(..dot)).unwrap_or(name);
    let plain =
        without_end(without_end(stem, |byte| byte == b'.'), |byte| byte.is_ascii_digit() || byte == b'_');
    BYSTANDERS.iter().any(|known| plain.eq_ignore_ascii_case(known.as_bytes()))
}

fn without_end(text: &[u8], is_cut: impl Fn(u8) -> bool) -> &[u8] {
    let end = text.iter().rposition(|byte| !is_cut(*byte)).map_or(0, |last| last + 1);
    text.get(..end).unwrap_or_default()
}

pub(crate) fn is_index(name: &str) -> bool {
    name.ends_with(".safetensors.index.json")
        || name.ends_with(".bin.index.json")
        || (name.ends_with(".json") && name.contains(".safetensors.index."))
}

pub(crate) fn extension(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, extension)| extension)
}

/// A weights file's name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WeightsName {
    /// `model`, `diffusion_pytorch_model`.
    pub(crate) stem: String,
    /// `fp16` of `model.fp16.safetensors`; empty for the plain one.
    pub(crate) variant: String,
    /// Lower case.
    pub(crate) extension: String,
    /// `(2, 5)` of `-00002-of-00005`.
    pub(crate) shard: Option<(u32, u32)>,
}

impl WeightsName {
    pub(crate) fn parse(name: &str) -> Self {
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let (stem, variant_after) = match take_shard(stem) {
            // `x-00001-of-00002.fp16.safetensors`: diffusers' older way.
            (_, None) => match stem.rsplit_once('.') {
                Some((before, variant)) if take_shard(before).1.is_some() => (before, variant),
                _ => (stem, ""),
            },
            _ => (stem, ""),
        };
        let (stem, shard) = take_shard(stem);
        let standard = |candidate: &str| STANDARD.contains(&candidate);
        let (stem, variant) = match stem.split_once('.') {
            Some((before, variant)) if standard(before) => (before, variant),
            _ => (stem, variant_after),
        };
        Self { stem: stem.into(), variant: variant.into(), extension: extension.to_ascii_lowercase(), shard }
    }

    /// Whether a library would look for it by this name; the smaller, the sooner.
    pub(crate) fn standard(&self) -> Option<usize> {
        STANDARD.iter().position(|known| *known == self.stem)
    }

    /// Which of several forms of the same weights is read: safetensors before pickles, plain before variants.
    pub(crate) fn rank(&self) -> (usize, usize, bool, String) {
        let form = match self.extension.as_str() {
            "safetensors" | "sft" => 0,
            "gguf" => 1,
            "bin" | "pt" | "pth" | "ckpt" => 2,
            _ => 3,
        };
        (form, self.standard().unwrap_or(usize::MAX), !self.variant.is_empty(), self.variant.clone())
    }

    /// The same for all shards of one set.
    pub(crate) fn set(&self) -> (String, String, String, Option<u32>) {
        (self.stem.clone(), self.variant.clone(), self.extension.clone(), self.shard.map(|(_, of)| of))
    }
}

/// `x-00002-of-00005` is shard 2 of 5 of `x`.
fn take_shard(stem: &str) -> (&str, Option<(u32, u32)>) {
    let parse = || {
        let (before, of) = stem.rsplit_once("-of-")?;
        let (name, number) = before.rsplit_once(['-', '_'])?;
        let digits = |text: &str| (3..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(of) || !digits(number) {
            return None;
        }
        Some((name, (number.parse().ok()?, of.parse().ok()?)))
    };
    parse().map_or((stem, None), |(name, shard)| (name, Some(shard)))
}

/// The name people know a model by, from its path.
pub(crate) fn display(path: &Path, is_folder: bool) -> String {
    let last = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    if let Some(repository) = last.strip_prefix("models--") {
        return repository.replace("--", "/");
    }
    if is_folder {
        return last.into_owned();
    }
    let parsed = WeightsName::parse(&last);
    if parsed.shard.is_some() {
        return parsed.stem;
    }
    match last.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem.to_owned(),
        _ => last.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_to_look_into() {
        for (name, expected) in [
            ("a.safetensors", Named::Weights),
            ("A.CKPT", Named::Weights),
            ("a.safetensors~", Named::Skipped("partial")),
            ("a.PART", Named::Skipped("partial")),
            (".config.json", Named::Skipped("hidden")),
            ("Config.JSON", Named::Config),
            ("Optimizer.bin", Named::Skipped("training state")),
            ("optimizer_2..bin", Named::Skipped("training state")),
            ("optimizer.2.bin", Named::Weights),
            ("bin", Named::Skipped("other")),
            ("-rf.safetensors", Named::Weights),
            ("a.safetensors.part", Named::Skipped("partial")),
            (".a.safetensors.swp", Named::Skipped("partial")),
            (".a.safetensors", Named::Skipped("hidden")),
            ("optimizer.bin", Named::Skipped("training state")),
            ("rng_state_0.pth", Named::Skipped("training state")),
            ("optimizer.safetensors", Named::Weights),
            ("a.safetensors.metadata.json", Named::Skipped("other")),
            ("model.safetensors.index.json", Named::Config),
            ("diffusion_pytorch_model.safetensors.index.fp16.json", Named::Config),
            ("README.md", Named::Skipped("other")),
            ("scheduler_config.json", Named::Config),
            ("model.onnx_data", Named::Data),
            ("model.onnx_data_1", Named::Data),
            ("Model.onnx.data", Named::Data),
            ("model.onnx_database", Named::Skipped("other")),
        ] {
            assert_eq!(judge(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn a_weights_name_comes_apart() {
        let parts = |name: &str| {
            let parsed = WeightsName::parse(name);
            (parsed.stem, parsed.variant, parsed.extension, parsed.shard)
        };
        let of = |stem: &str, variant: &str, extension: &str, shard| {
            (stem.to_owned(), variant.to_owned(), extension.to_owned(), shard)
        };
        assert_eq!(parts("model.safetensors"), of("model", "", "safetensors", None));
        assert_eq!(parts("model.fp16.safetensors"), of("model", "fp16", "safetensors", None));
        let sharded = of("model", "fp16", "safetensors", Some((2, 5)));
        assert_eq!(parts("model.fp16-00002-of-00005.safetensors"), sharded);
        assert_eq!(parts("model-00002-of-00005.fp16.safetensors"), sharded);
        assert_eq!(parts("sd_xl.v1.5.safetensors"), of("sd_xl.v1.5", "", "safetensors", None));
        assert_eq!(parts("x-1-of-2.gguf"), of("x-1-of-2", "", "gguf", None));
    }

    #[test]
    fn display_names_are_what_people_say() {
        let of = |path: &str, folder| display(Path::new(path), folder);
        assert_eq!(of("/m/loras/style.v2.safetensors", false), "style.v2");
        assert_eq!(of("/m/hub/models--org--a-b", true), "org/a-b");
        assert_eq!(of("/m/q/llama-00001-of-00003.gguf", false), "llama");
        assert_eq!(of("/m/.safetensors", false), ".safetensors");
        assert_eq!(of("/m/folder.v1", true), "folder.v1");
    }
}
