//! Which files of one directory are one model together. Pure: names and sizes in, groups out.
//!
//! A folder is one model when its configuration or an index says so and weights have the names that libraries look
//! for; or when one set of shards, or one LoRA by diffusers' own name, is all it holds. Everything else is a model of
//! its own: folders of checkpoints and LoRAs often have a stray `config.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use hoist_domain::FileIdentity;

use crate::names::{self, WeightsName};

/// A directory entry that may belong to a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: OsString,
    pub(crate) identity: FileIdentity,
    pub(crate) is_weights: bool,
    /// A link that leads out of the roots.
    pub(crate) is_rejected: bool,
}

/// What a directory's entries are. What belongs to no model is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    /// These together are one model, and the model is the directory.
    pub(crate) folder: Option<Vec<Entry>>,
    /// Shards of one set each, in their order, among files that are models of their own.
    pub(crate) sets: Vec<Vec<Entry>>,
    /// Each a model of its own, in the order of their names.
    pub(crate) files: Vec<Entry>,
}

impl Entry {
    fn text(&self) -> std::borrow::Cow<'_, str> {
        self.name.to_string_lossy()
    }
}

/// The groups of a directory's entries, which are sorted by name. Most folders hold nothing but models of their own: for
/// those no name is taken apart.
pub(crate) fn of(entries: Vec<Entry>) -> Groups {
    let has = |name: &str| entries.iter().any(|entry| entry.name == name);
    let is_weights = |entry: &&Entry| entry.is_weights && !entry.is_rejected;
    let weights = || entries.iter().filter(is_weights);
    let parsed = |entry: &Entry| WeightsName::parse(&entry.text());
    let has_config = has("config.json") || has("adapter_config.json");
    let has_index = entries
        .iter()
        .filter(|entry| !is_weights(entry))
        .any(|entry| names::is_index(&entry.text().to_ascii_lowercase()));

    let has_standard = || weights().any(|entry| parsed(entry).standard().is_some());
    if (has_config && (weights().next().is_none() || has_standard())) || (has_index && !has_config) {
        return folder(entries, |entry| {
            let name = parsed(entry);
            !entry.is_weights || name.standard().is_some() || (has_index && name.shard.is_some())
        });
    }
    let is_whole_folder = weights().next().map(&parsed).is_some_and(|name| {
        name.shard.is_some() || (name.stem == "pytorch_lora_weights" && weights().count() == 1)
    });
    let is_one_set = || weights().map(|entry| parsed(entry).set()).collect::<BTreeSet<_>>().len() == 1;
    if is_whole_folder && entries.iter().all(|entry| !(entry.is_weights && entry.is_rejected)) && is_one_set()
    {
        return folder(entries, |_| true);
    }
    if has_onnx_with_data(&entries) {
        return onnx_with_data(entries);
    }
    separate(entries)
}

/// Whether a name ends like this, in any case.
fn ends(entry: &Entry, ending: &str) -> bool {
    let name = entry.name.as_bytes();
    name.len()
        .checked_sub(ending.len())
        .and_then(|at| name.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(ending.as_bytes()))
}

/// An ONNX graph whose tensors lie in files beside it, and nothing else.
fn has_onnx_with_data(entries: &[Entry]) -> bool {
    let weights = || entries.iter().filter(|entry| entry.is_weights && !entry.is_rejected);
    let graphs = weights().filter(|entry| ends(entry, ".onnx")).count();
    if graphs != 1 {
        return false;
    }
    let data = weights().filter(|entry| ends(entry, ".bin")).count();
    data > 0 && graphs + data == weights().count()
}

fn onnx_with_data(entries: Vec<Entry>) -> Groups {
    // The data has no header of its own: the graph says what is in it.
    let mut groups = folder(entries, |_| true);
    for entry in groups.folder.iter_mut().flatten() {
        entry.is_weights &= !ends(entry, ".bin");
    }
    groups
}

/// One folder of what belongs to it; the rest on its own.
fn folder(entries: Vec<Entry>, belongs: impl Fn(&Entry) -> bool) -> Groups {
    let (inside, outside): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| !entry.is_rejected && belongs(entry));
    Groups { folder: Some(inside), ..separate(outside) }
}

/// Each file a model; shards of one set the model of their first.
fn separate(mut entries: Vec<Entry>) -> Groups {
    entries.retain(|entry| entry.is_weights);
    // Asked of each of a hundred thousand names: only the few that may be shards are taken apart.
    let may_be =
        |entry: &Entry| !entry.is_rejected && entry.name.as_bytes().windows(4).any(|part| part == b"-of-");
    let mut sets: BTreeMap<_, Vec<Entry>> = BTreeMap::new();
    if entries.iter().any(may_be) {
        let (shards, files): (Vec<Entry>, Vec<Entry>) = entries
            .into_iter()
            .partition(|entry| may_be(entry) && WeightsName::parse(&entry.text()).shard.is_some());
        for shard in shards {
            sets.entry(WeightsName::parse(&shard.text()).set()).or_default().push(shard);
        }
        entries = files;
    }
    Groups { folder: None, sets: sets.into_values().collect(), files: entries }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(names: &[&str]) -> Vec<String> {
        let mut entries: Vec<Entry> = names
            .iter()
            .map(|name| Entry {
                name: name.into(),
                identity: FileIdentity::default(),
                is_weights: names::judge(name.as_bytes()) == names::Named::Weights,
                is_rejected: false,
            })
            .collect();
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        let names = |entries: Vec<Entry>| -> Vec<String> {
            entries.iter().map(|entry| entry.text().into_owned()).collect()
        };
        let Groups { folder, sets, files } = of(entries);
        let folder = folder.map(|entries| format!("[{}]", names(entries).join(" ")));
        let sets = sets.into_iter().map(|entries| format!("({})", names(entries).join(" ")));
        folder.into_iter().chain(sets).chain(names(files)).collect()
    }

    #[test]
    fn configured_folders_are_one_model() {
        assert_eq!(groups(&["config.json", "model.safetensors"]), ["[config.json model.safetensors]"]);
        assert_eq!(
            groups(&["config.json", "model.safetensors", "pytorch_model.bin", "other.safetensors"]),
            ["[config.json model.safetensors pytorch_model.bin]", "other.safetensors"]
        );
        assert_eq!(groups(&["config.json"]), ["[config.json]"]);
        assert_eq!(
            groups(&["adapter_config.json", "adapter_model.bin"]),
            ["[adapter_config.json adapter_model.bin]"]
        );
    }

    #[test]
    fn a_stray_config_makes_no_model_of_a_collection() {
        assert_eq!(groups(&["a.safetensors", "b.ckpt", "config.json"]), ["a.safetensors", "b.ckpt"]);
        assert_eq!(groups(&["a.safetensors"]), ["a.safetensors"]);
        assert_eq!(groups(&[]), Vec::<String>::new());
    }

    #[test]
    fn a_set_of_shards_alone_in_a_folder_is_that_folder() {
        let shards = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
        assert_eq!(groups(&shards), ["[m-00001-of-00002.gguf m-00002-of-00002.gguf]"]);
        assert_eq!(groups(&["pytorch_lora_weights.safetensors"]), ["[pytorch_lora_weights.safetensors]"]);
        assert_eq!(groups(&["m.onnx", "weights.bin"]), ["[m.onnx weights.bin]"]);
        assert_eq!(groups(&["m.onnx"]), ["m.onnx"]);
    }

    #[test]
    fn a_set_of_shards_among_others_is_one_model() {
        assert_eq!(
            groups(&[
                "a.gguf",
                "m-00001-of-00002.gguf",
                "m-00002-of-00002.gguf",
                "n-00001-of-00002.gguf",
                "out-of-memory.gguf"
            ]),
            [
                "(m-00001-of-00002.gguf m-00002-of-00002.gguf)",
                "(n-00001-of-00002.gguf)",
                "a.gguf",
                "out-of-memory.gguf"
            ]
        );
    }
}
