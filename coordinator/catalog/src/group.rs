//! Which files of one directory are one model together. Pure: names and sizes in, groups out.
//!
//! A folder is one model when its configuration or an index says so and weights have the names that libraries look
//! for; or when one set of shards, or one LoRA by diffusers' own name, is all it holds. Everything else is a model of
//! its own: folders of checkpoints and LoRAs often have a stray `config.json`.

use std::collections::BTreeMap;
use std::ffi::OsString;

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

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    File(Entry),
    /// The model is the directory.
    Folder(Vec<Entry>),
}

impl Entry {
    fn text(&self) -> std::borrow::Cow<'_, str> {
        self.name.to_string_lossy()
    }
}

/// The groups of a directory's entries, which are sorted by name.
pub(crate) fn of(entries: &[Entry]) -> Vec<Group> {
    let has = |name: &str| entries.iter().any(|entry| entry.name == name);
    let is_index = |entry: &&Entry| names::is_index(&entry.text().to_ascii_lowercase());
    let weights = || entries.iter().filter(|entry| entry.is_weights && !entry.is_rejected);
    let parsed = |entry: &Entry| WeightsName::parse(&entry.text());
    let has_config = has("config.json") || has("adapter_config.json");
    let has_index = entries.iter().any(|entry| is_index(&entry));

    let standard = weights().filter(|entry| parsed(entry).standard().is_some()).count();
    if (has_config && (standard > 0 || weights().next().is_none())) || (has_index && !has_config) {
        return folder(entries, |entry| {
            let name = parsed(entry);
            !entry.is_weights || name.standard().is_some() || (has_index && name.shard.is_some())
        });
    }
    let mut sets: BTreeMap<_, usize> = BTreeMap::new();
    for entry in weights() {
        *sets.entry(parsed(entry).set()).or_default() += 1;
    }
    let alone =
        sets.len() == 1 && weights().count() == entries.iter().filter(|entry| entry.is_weights).count();
    let one = weights().next().map(&parsed);
    let is_whole_folder = one.as_ref().is_some_and(|name| {
        name.shard.is_some() || (name.stem == "pytorch_lora_weights" && weights().count() == 1)
    });
    if alone && is_whole_folder {
        return folder(entries, |_| true);
    }
    if let Some(with_data) = onnx_with_data(entries) {
        return with_data;
    }
    separate(entries)
}

/// An ONNX graph whose tensors lie in files beside it.
fn onnx_with_data(entries: &[Entry]) -> Option<Vec<Group>> {
    let weights: Vec<&Entry> =
        entries.iter().filter(|entry| entry.is_weights && !entry.is_rejected).collect();
    let graphs = weights.iter().filter(|entry| entry.text().to_ascii_lowercase().ends_with(".onnx")).count();
    let data = weights.iter().filter(|entry| entry.text().to_ascii_lowercase().ends_with(".bin")).count();
    if graphs != 1 || data == 0 || graphs + data != weights.len() {
        return None;
    }
    // The data has no header of its own: the graph says what is in it.
    let mut groups = folder(entries, |_| true);
    for group in &mut groups {
        if let Group::Folder(entries) = group {
            for entry in entries {
                entry.is_weights &= !entry.text().to_ascii_lowercase().ends_with(".bin");
            }
        }
    }
    Some(groups)
}

/// One folder of what belongs to it; the rest on its own.
fn folder(entries: &[Entry], belongs: impl Fn(&Entry) -> bool) -> Vec<Group> {
    let (inside, outside): (Vec<Entry>, Vec<Entry>) =
        entries.iter().cloned().partition(|entry| !entry.is_rejected && belongs(entry));
    let mut groups = vec![Group::Folder(inside)];
    groups.extend(separate(&outside));
    groups
}

/// Each file a model; shards of one set the model of their first.
fn separate(entries: &[Entry]) -> Vec<Group> {
    let weights = entries.iter().filter(|entry| entry.is_weights);
    weights.map(|entry| Group::File(entry.clone())).collect()
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
                is_weights: names::judge(name) == names::Named::Weights,
                is_rejected: false,
            })
            .collect();
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        let shown = |group: Group| match group {
            Group::File(entry) => entry.text().into_owned(),
            Group::Folder(entries) => {
                let names: Vec<_> = entries.iter().map(|entry| entry.text().into_owned()).collect();
                format!("[{}]", names.join(" "))
            }
        };
        of(&entries).into_iter().map(shown).collect()
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
}
