//! The index of a model in several files: `model.safetensors.index.json`, `pytorch_model.bin.index.json`.
//!
//! Who calls: the catalog, for folders with shards. It must never give back the name of a shard that is anything but the
//! name of a file in the index's own folder.

use std::collections::HashMap;

use hoist_domain::excerpt;

use crate::json::{Fault, Kind, Number, Reader};
use crate::layout::repeated;
use crate::{Finding, FindingKind, Result, Source, Verdict, limits, read_at_most};

/// What an index says, as far as it can be used.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// The files, in the order they are first named, each once.
    pub shards: Vec<Box<str>>,
    /// In the index's own order.
    pub tensors: Vec<Entry>,
    /// What it says of all data's size. Loaders ignore it, and it is often wrong.
    pub total_bytes: Option<u64>,
    pub findings: Vec<Finding>,
}

/// One tensor of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Box<str>,
    /// A position in [`Index::shards`].
    pub shard: usize,
}

impl Index {
    fn find(&mut self, finding: Finding) {
        if self.findings.len() < limits::FINDINGS {
            self.findings.push(finding);
        }
    }

    fn complain(&mut self, problem: impl Into<String>) {
        self.find(Finding::corrupt(FindingKind::Metadata, problem));
    }
}

/// Reads an index. Its own name must not be among its shards.
///
/// # Errors
/// The file system's.
pub fn read<S: Source + ?Sized>(source: &S, file_name: &str) -> Result<Index> {
    let mut index = Index::default();
    if source.size() > limits::INDEX_BYTES {
        index.complain(format!("an index of {} bytes: at most {}", source.size(), limits::INDEX_BYTES));
        return Ok(index);
    }
    let text = read_at_most(source, 0, limits::INDEX_BYTES)?;
    let mut parser =
        Parser { json: Reader::new(&text), index, file_name, known: HashMap::new(), map_seen: false };
    let outcome = parser.run();
    let Parser { mut index, map_seen, .. } = parser;
    match outcome {
        Ok(()) if !map_seen => index.complain("the index has no `weight_map`"),
        Ok(()) => {}
        Err(Fault::Cut) => index.complain(format!("the index ends early, after {} bytes", text.len())),
        Err(Fault::Syntax { at, why }) => {
            let finding = Finding::corrupt(FindingKind::Metadata, format!("the index is not valid: {why}"));
            index.find(finding.at(at as u64));
        }
    }
    let twice = repeated(&index.tensors, |entry| &entry.name);
    if let Some(entry) = twice.first().and_then(|at| index.tensors.get(*at)) {
        let finding = Finding::corrupt(FindingKind::Metadata, "the index names a tensor twice");
        let finding = finding.tensor(&entry.name);
        index.find(finding);
    }
    Ok(index)
}

struct Parser<'a> {
    json: Reader<'a>,
    index: Index,
    file_name: &'a str,
    /// Positions of shards by name; none for a name that was refused, so that it is refused once.
    known: HashMap<Box<str>, Option<usize>>,
    map_seen: bool,
}

impl Parser<'_> {
    fn run(&mut self) -> std::result::Result<(), Fault> {
        let mut members = self.json.object()?;
        while let Some(key) = self.json.key(&mut members)? {
            match &*key {
                "weight_map" => self.map()?,
                "metadata" => self.metadata()?,
                _ => self.json.skip()?,
            }
        }
        let at = self.json.position();
        let rest = self.json.rest()?;
        if rest.bytes().any(|byte| !byte.is_ascii_whitespace()) {
            return Err(Fault::Syntax { at, why: "something follows the index" });
        }
        Ok(())
    }

    fn metadata(&mut self) -> std::result::Result<(), Fault> {
        if self.json.kind()? != Kind::Object {
            return self.json.skip();
        }
        let mut members = self.json.object()?;
        while let Some(key) = self.json.key(&mut members)? {
            if key == "total_size" && self.json.kind()? == Kind::Number {
                if let Number::Unsigned(bytes) = self.json.number()? {
                    self.index.total_bytes = Some(bytes);
                }
            } else {
                self.json.skip()?;
            }
        }
        Ok(())
    }

    fn map(&mut self) -> std::result::Result<(), Fault> {
        if std::mem::replace(&mut self.map_seen, true) {
            self.index.complain("a second `weight_map`");
            return self.json.skip();
        }
        if self.json.kind()? != Kind::Object {
            self.index.complain("`weight_map` is not a map");
            return self.json.skip();
        }
        let mut members = self.json.object()?;
        while let Some(name) = self.json.key(&mut members)? {
            if self.json.kind()? != Kind::String {
                self.json.skip()?;
                let finding = Finding::corrupt(FindingKind::Metadata, "its shard is not a string");
                self.index.find(finding.tensor(&name));
                continue;
            }
            let shard = self.json.string()?;
            if self.index.tensors.len() == limits::TENSORS {
                self.index.complain(format!("more than {} tensors", limits::TENSORS));
                return Err(Fault::Syntax { at: self.json.position(), why: "too long" });
            }
            if let Some(shard) = self.shard(&shard) {
                self.index.tensors.push(Entry { name: name.into(), shard });
            }
        }
        Ok(())
    }

    /// The position of a shard, if it is one.
    fn shard(&mut self, name: &str) -> Option<usize> {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        let position = match refusal(name, self.file_name) {
            Some(finding) => {
                self.index.find(finding);
                None
            }
            None => {
                self.index.shards.push(name.into());
                Some(self.index.shards.len() - 1)
            }
        };
        self.known.insert(name.into(), position);
        position
    }
}

/// Why a name is not that of a shard.
fn refusal(name: &str, index: &str) -> Option<Finding> {
    let leads_out = name.contains(['/', '\\', ':', '\0']) || name == "." || name == "..";
    if leads_out {
        let message = format!("shard `{}` is not a file of this folder", excerpt(name));
        return Some(Finding::new(FindingKind::Path, Verdict::Rejected, message));
    }
    let is_weights =
        [".safetensors", ".bin", ".pt", ".pth"].iter().any(|extension| name.ends_with(extension));
    if !is_weights || name == index || name.len() > limits::NAME_BYTES {
        let message = format!("shard `{}` is not a file of weights", excerpt(name));
        return Some(Finding::corrupt(FindingKind::Metadata, message));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(text: &str) -> Index {
        read(text.as_bytes(), "model.safetensors.index.json").unwrap()
    }

    fn worst(text: &str) -> Option<(Verdict, FindingKind)> {
        index(text).findings.first().map(|finding| (finding.verdict, finding.kind))
    }

    #[test]
    fn tensors_and_shards_are_read_in_order() {
        let read = index(
            r#" {"metadata":{"total_size":12,"x":[1]},"weight_map":{"b":"2.safetensors","a":"1.safetensors","c":"2.safetensors"}} "#,
        );
        assert_eq!(read.shards, ["2.safetensors".into(), "1.safetensors".into()]);
        assert_eq!(
            read.tensors.iter().map(|entry| (&*entry.name, entry.shard)).collect::<Vec<_>>(),
            [("b", 0), ("a", 1), ("c", 0)]
        );
        assert_eq!((read.total_bytes, read.findings.len()), (Some(12), 0));
    }

    #[test]
    fn a_shard_outside_the_folder_is_rejected() {
        for name in
            ["../a.bin", "/etc/a.bin", "s/a.bin", "..", "", ".", "c:a.bin", "a\\\\b.bin", "a\\u0000.bin"]
        {
            let verdict =
                worst(&format!("{{\"weight_map\":{{\"a\":\"{name}\"}}}}")).map(|(verdict, _)| verdict);
            let wanted = if name.is_empty() { Verdict::Corrupt } else { Verdict::Rejected };
            assert_eq!(verdict, Some(wanted), "{name}");
            assert!(index(&format!("{{\"weight_map\":{{\"a\":\"{name}\"}}}}")).shards.is_empty());
        }
    }

    #[test]
    fn what_is_no_index_is_corrupt_metadata() {
        for text in [
            "",
            "{",
            "[]",
            "{}",
            "{\"weight_map\":[]}",
            "{\"weight_map\":{\"a\":1}}",
            "{\"weight_map\":{\"a\":\"model.safetensors.index.json\"}}",
            "{\"weight_map\":{\"a\":\"1.bin\",\"a\":\"2.bin\"}}",
            "{\"weight_map\":{},\"weight_map\":{}}",
            "{\"weight_map\":{}}x",
        ] {
            assert_eq!(worst(text), Some((Verdict::Corrupt, FindingKind::Metadata)), "{text}");
        }
    }
}
