//! Files that must lie beside one for it to be whole: external data of ONNX, the other parts of a split GGUF.
//!
//! Who calls: the catalog, which can look. The names given back are checked: each is a relative path that stays in the
//! folder of the file. Nothing here may ever open one.

use std::collections::BTreeMap;

use crate::metadata::number;
use crate::{Format, Inspection, Place, Tensor};

/// Files of data of one graph that are looked for: exporters that write one for each tensor make some thousand.
pub const DATA_FILES: usize = 4_096;

/// More parts than any split model has; a file may claim 65535.
const PARTS: u64 = 10_000;

/// The names, relative to the file's own folder, and how many bytes each must have at least.
#[must_use]
pub fn companions(inspection: &Inspection, file_name: &str) -> BTreeMap<String, u64> {
    let mut needed = BTreeMap::new();
    for tensor in &inspection.tensors {
        if let Place::Beside { offset, length, .. } = &tensor.place
            && let Some(name) = beside(tensor)
            && (needed.len() < DATA_FILES || needed.contains_key(&name))
        {
            let least = needed.entry(name).or_insert(0_u64);
            *least = (*least).max(offset.saturating_add(*length));
        }
    }
    if inspection.format == Format::Gguf {
        let count = number(&inspection.metadata, "split.count").unwrap_or_default();
        if let Some(stem) = split_stem(file_name, count) {
            let names = (1..=count).map(|part| format!("{stem}-{part:05}-of-{count:05}.gguf"));
            needed.extend(names.filter(|name| name != file_name).map(|name| (name, 1)));
        }
    }
    needed
}

/// The file beside its own that holds a tensor: a relative path that stays in the folder, spelled in one way.
#[must_use]
pub fn beside(tensor: &Tensor) -> Option<String> {
    let Place::Beside { file, .. } = &tensor.place else { return None };
    let parts: Vec<&str> = file.split('/').filter(|part| *part != ".").collect();
    (is_within(file) && !parts.is_empty()).then(|| parts.join("/"))
}

/// Whether a name from within a file stays below that file's folder, by any system's rules for paths.
pub(crate) fn is_within(path: &str) -> bool {
    let plain = !path.contains(['\\', ':', '\0']);
    let is_file = path.rsplit('/').next().is_some_and(|last| last != ".");
    plain && is_file && path.split('/').all(|part| !part.is_empty() && part != "..")
}

/// What the names of a split model's parts begin with.
fn split_stem(file_name: &str, count: u64) -> Option<&str> {
    if !(2..=PARTS).contains(&count) {
        return None;
    }
    let stem = file_name.strip_suffix(&format!("-of-{count:05}.gguf"))?;
    let (stem, part) = stem.rsplit_once('-')?;
    (part.len() == 5 && part.bytes().all(|byte| byte.is_ascii_digit())).then_some(stem)
}

#[cfg(test)]
mod tests {
    use hoist_domain::Dtype;

    use super::*;

    #[test]
    fn parts_of_a_split_file_follow_from_its_name() {
        let mut inspection = Inspection::new(Format::Gguf);
        inspection.metadata.insert("split.count".into(), "3".into());
        let needed = companions(&inspection, "m-00002-of-00003.gguf");
        assert_eq!(needed.keys().collect::<Vec<_>>(), ["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"]);
        assert!(companions(&inspection, "m-2-of-3.gguf").is_empty());
        inspection.metadata.insert("split.count".into(), u64::MAX.to_string());
        assert!(companions(&inspection, "m-00002-of-18446744073709551615.gguf").is_empty());
    }

    #[test]
    fn external_data_is_needed_once_and_never_outside() {
        let mut inspection = Inspection::new(Format::Onnx);
        for (file, offset) in
            [("w.bin", 8), ("./w.bin", 0), ("../w.bin", 0), ("/w", 0), ("a\\b", 0), ("c:w", 0)]
        {
            inspection.tensors.push(Tensor {
                name: "w".into(),
                dtype: Dtype::U8,
                shape: [4].into(),
                place: Place::Beside { file: file.into(), offset, length: 4 },
            });
        }
        assert_eq!(companions(&inspection, "m.onnx"), BTreeMap::from([("w.bin".to_owned(), 12)]));
    }
}
