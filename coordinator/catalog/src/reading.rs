//! Reads a unit: opens its files once, inspects headers, reads small configuration.
//!
//! A part is what one component's files hold together: one file, or all shards of a set. Where a folder has the same
//! weights in several forms (safetensors and pickle, plain and fp16), one form is read.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use hoist_domain::{FileIdentity, Finding, FindingKind, ModelFormat, Verdict};
use hoist_formats::index::Index;
use hoist_formats::{FileSource, Inspection, Tensor};

use crate::names::{self, WeightsName};
use crate::roots::Roots;
use crate::walk::{MAX_UNIT_FILES, Unit, UnitFile, UnitKind};

/// Of one configuration file. Real ones have some kilobytes; a tokenizer's vocabulary is not read.
const CONFIG_BYTES: u64 = 1 << 20;

/// Of all configuration of one unit.
const CONFIGS: usize = 64;

/// The tensors that belong together.
#[derive(Clone, Debug)]
pub struct PartReading {
    /// Sub-folder of the component; empty for the unit's own place.
    pub place: String,
    pub format: ModelFormat,
    /// Below the unit's path, in the order of their shards.
    pub files: Vec<PathBuf>,
    pub tensors: Vec<Tensor>,
    /// For each tensor, which of `files` has it.
    pub file_of: Vec<u32>,
    pub metadata: BTreeMap<String, String>,
    pub globals: Vec<String>,
}

/// What a unit's files say.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub parts: Vec<PartReading>,
    /// Configuration files by their path in the unit, as text.
    pub configs: BTreeMap<String, String>,
    pub findings: Vec<Finding>,
    pub header_bytes: u64,
    /// Those of the unit in its order, with the identities that were read, which are not those of the walk if a file
    /// changed in between; then those that only a header names.
    pub files: Vec<UnitFile>,
    /// Nothing in it is a model.
    pub is_nothing: bool,
}

/// Reads a unit.
///
/// # Errors
/// The file system's, when nothing of the unit could be read.
pub(crate) fn read(roots: &Roots, unit: &Unit) -> io::Result<Reading> {
    let mut reader = Reader { roots, unit, reading: Reading::default(), indexes: BTreeMap::new() };
    reader.reading.findings.clone_from(&unit.findings);
    reader.reading.files.clone_from(&unit.files);
    if unit.kind == UnitKind::Rejected {
        return Ok(reader.reading);
    }
    reader.configs();
    reader.weights()?;
    let Reader { mut reading, indexes, .. } = reader;
    crate::checks::run(unit, &mut reading, &indexes);
    Ok(reading)
}

struct Reader<'a> {
    roots: &'a Roots,
    unit: &'a Unit,
    reading: Reading,
    /// By place.
    indexes: BTreeMap<String, Index>,
}

/// Python writes numbers into its JSON that JSON does not have, and schedulers have them: they become null.
fn without_infinities(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    if !text.contains("Infinity") && !text.contains("NaN") {
        return Cow::Borrowed(text);
    }
    let (mut kept, mut rest, mut is_quoted) = (String::with_capacity(text.len()), text, false);
    while let Some(next) = rest.chars().next() {
        let word = WORDS.iter().find(|word| !is_quoted && rest.starts_with(**word));
        let taken = match (word, next) {
            (Some(word), _) => {
                kept.push_str("null");
                word.len()
            }
            // An escaped character, a quote or not, ends nothing.
            (None, '\\') if is_quoted => {
                let two: String = rest.chars().take(2).collect();
                kept.push_str(&two);
                two.len()
            }
            (None, next) => {
                is_quoted ^= next == '"';
                kept.push(next);
                next.len_utf8()
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    Cow::Owned(kept)
}

/// Whether a name is a link that the kernel refused to follow.
fn leads_out(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::XDEV, Errno::LOOP].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The folder within the unit that a component's files lie in, as text, without a snapshot's own prefix.
pub(crate) fn place_of(unit: &Unit, file: &Path) -> String {
    let place = file.parent().unwrap_or(Path::new(""));
    inner(unit, place)
}

/// A path within the unit as people write it: without the prefix of a hub's snapshot.
pub(crate) fn inner(unit: &Unit, path: &Path) -> String {
    let below = match &unit.kind {
        UnitKind::Hub { snapshot } => {
            path.strip_prefix(Path::new("snapshots").join(snapshot)).unwrap_or(path)
        }
        _ => path,
    };
    below.to_string_lossy().into_owned()
}

impl Reader<'_> {
    fn open(&mut self, file: &UnitFile) -> io::Result<(std::fs::File, FileIdentity)> {
        let (opened, identity) = self.roots.open_file(&self.unit.path_of(&file.path))?;
        if let Some(known) = self.reading.files.iter_mut().find(|known| known.path == file.path) {
            known.identity = identity;
        }
        Ok((opened, identity))
    }

    fn configs(&mut self) {
        let is_json = |file: &&UnitFile| file.path.extension().is_some_and(|extension| extension == "json");
        let files: Vec<UnitFile> =
            self.unit.files.iter().filter(|file| !file.is_weights).filter(is_json).cloned().collect();
        for file in files.iter().take(CONFIGS) {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let shown = inner(self.unit, &file.path);
            let Ok((opened, identity)) = self.open(file) else {
                self.reading.findings.push(
                    Finding::new(FindingKind::Fs, Verdict::Incomplete, "a configuration file cannot be read")
                        .in_file(&shown),
                );
                continue;
            };
            let source = FileSource::new(&opened, identity.size);
            if names::is_index(&name.to_ascii_lowercase()) {
                if let Ok(index) = hoist_formats::index::read(&source, &name) {
                    let found = index.findings.iter().cloned().map(|finding| finding.in_file(&shown));
                    self.reading.findings.extend(found);
                    self.indexes.insert(place_of(self.unit, &file.path), index);
                }
                self.reading.header_bytes += identity.size;
                continue;
            }
            if identity.size > CONFIG_BYTES {
                let message = format!("a configuration of {} bytes: at most {CONFIG_BYTES}", identity.size);
                let finding = Finding::corrupt(FindingKind::Metadata, message);
                self.reading.findings.push(finding.in_file(&shown));
                continue;
            }
            if let Ok(bytes) = hoist_formats::read_at_most(&source, 0, CONFIG_BYTES) {
                self.reading.header_bytes += bytes.len() as u64;
                let text = String::from_utf8_lossy(&bytes);
                self.reading.configs.insert(shown, without_infinities(&text).into_owned());
            }
        }
    }

    fn weights(&mut self) -> io::Result<()> {
        let mut places: BTreeMap<String, Vec<UnitFile>> = BTreeMap::new();
        for file in self.unit.files.iter().filter(|file| file.is_weights) {
            places.entry(place_of(self.unit, &file.path)).or_default().push(file.clone());
        }
        let is_one_file = self.unit.kind == UnitKind::File && self.unit.files.len() == 1;
        for (place, files) in places {
            for set in self.chosen(&place, files) {
                match self.part(&place, &set) {
                    Ok(Some(part)) => self.reading.parts.push(part),
                    Ok(None) => self.reading.is_nothing |= is_one_file,
                    Err(error) if is_one_file => return Err(error),
                    Err(error) => {
                        let message = format!("cannot be read: {error}");
                        self.reading.findings.push(
                            Finding::new(FindingKind::Fs, Verdict::Incomplete, message).in_file(&place),
                        );
                    }
                }
            }
        }
        Ok(())
    }

    /// The files of a place that are read: those an index names, or the best form of those that are there.
    fn chosen(&self, place: &str, files: Vec<UnitFile>) -> Vec<Vec<UnitFile>> {
        let name_of =
            |file: &UnitFile| file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(index) = self.indexes.get(place).filter(|index| !index.shards.is_empty()) {
            let names: HashSet<&str> = index.shards.iter().map(|shard| &**shard).collect();
            let named = |file: &&UnitFile| names.contains(name_of(file).as_str());
            let set: Vec<UnitFile> = files.iter().filter(named).cloned().collect();
            if !set.is_empty() {
                return vec![set];
            }
        }
        if self.unit.kind == UnitKind::File {
            return vec![files];
        }
        let mut sets: BTreeMap<_, (WeightsName, Vec<UnitFile>)> = BTreeMap::new();
        for file in files {
            let name = WeightsName::parse(&name_of(&file));
            sets.entry(name.set()).or_insert_with(|| (name, Vec::new())).1.push(file);
        }
        // Without an index a set may be short of shards; a whole one in another form is better.
        let is_whole = |(name, files): &&(WeightsName, Vec<UnitFile>)| {
            name.shard.is_none_or(|(_, of)| u32::try_from(files.len()).is_ok_and(|count| count >= of))
        };
        let mut ranked: Vec<_> = sets.values().collect();
        ranked.sort_by_key(|set| (!is_whole(set), set.0.rank()));
        // ONNX data beside its graph is named by the graph and has no header of its own.
        ranked.first().map(|(_, files)| vec![files.clone()]).unwrap_or_default()
    }

    /// One part; none if the file is nothing that holds a model.
    fn part(&mut self, place: &str, files: &[UnitFile]) -> io::Result<Option<PartReading>> {
        let mut part: Option<PartReading> = None;
        for (number, file) in files.iter().enumerate() {
            let inspection = self.inspect(file)?;
            if self.is_foreign(file, &inspection) {
                return Ok(None);
            }
            let Inspection { format, tensors, metadata, globals, .. } = inspection;
            let part = part.get_or_insert_with(|| PartReading {
                place: place.to_owned(),
                format,
                files: Vec::new(),
                tensors: Vec::new(),
                file_of: Vec::new(),
                metadata: BTreeMap::new(),
                globals: Vec::new(),
            });
            part.files.push(file.path.clone());
            part.file_of
                .extend(std::iter::repeat_n(u32::try_from(number).unwrap_or(u32::MAX), tensors.len()));
            part.tensors.extend(tensors);
            part.metadata.extend(metadata);
            part.globals.extend(globals);
        }
        Ok(part)
    }

    fn inspect(&mut self, file: &UnitFile) -> io::Result<Inspection> {
        let (opened, identity) = self.open(file)?;
        let name = file.path.file_name().map_or_else(
            || self.unit.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            |name| name.to_string_lossy().into_owned(),
        );
        let inspection = hoist_formats::inspect(&FileSource::new(&opened, identity.size), &name)?;
        self.reading.header_bytes += inspection.header_bytes;
        let shown = inner(self.unit, &file.path);
        for finding in inspection.findings.iter().cloned() {
            let finding = if shown.is_empty() { finding } else { finding.in_file(&shown) };
            self.reading.findings.push(finding);
        }
        self.companions(&inspection, file, &name);
        Ok(inspection)
    }

    /// Files that must lie beside this one. Data of a graph belongs to the model; parts of a split file are units' own
    /// files, or models.
    fn companions(&mut self, inspection: &Inspection, file: &UnitFile, name: &str) {
        let folder = file.path.parent().unwrap_or(Path::new("")).to_owned();
        let companions = hoist_formats::companions(inspection, name);
        if companions.len() >= hoist_formats::DATA_FILES && inspection.format == ModelFormat::Onnx {
            let message =
                format!("its data lies in {} files or more: the rest was not looked for", companions.len());
            self.reading.findings.push(Finding::new(FindingKind::Metadata, Verdict::Suspicious, message));
        }
        for (beside, least) in companions {
            let path = folder.join(&beside);
            let opened = self.roots.open_file(&self.unit.path_of(&path));
            if inspection.format == ModelFormat::Onnx {
                let identity = opened.as_ref().map_or_else(|_| FileIdentity::default(), |(_, found)| *found);
                self.owns(path, identity);
            }
            let problem = match opened {
                Ok((_, identity)) if identity.size >= least => continue,
                Ok((_, identity)) => Finding::corrupt(
                    FindingKind::Partial,
                    format!("needs {least} bytes of a file beside it that has {}", identity.size),
                ),
                Err(error) if leads_out(&error) => Finding::new(
                    FindingKind::Path,
                    Verdict::Rejected,
                    "a file beside it is a link out of the root",
                ),
                Err(_) => Finding::new(
                    FindingKind::Partial,
                    Verdict::Incomplete,
                    "needs a file beside it that is not there",
                ),
            };
            self.reading.findings.push(problem.in_file(&beside));
        }
    }

    /// A file with tensors that the walk did not take for one. Missing, it has no identity: so its coming is a change.
    fn owns(&mut self, path: PathBuf, identity: FileIdentity) {
        let files = &mut self.reading.files;
        if let Some(known) = files.iter_mut().find(|known| known.path == path) {
            known.is_weights = true;
        } else if files.len() < MAX_UNIT_FILES {
            files.push(UnitFile { path, identity, is_weights: true });
        }
    }

    /// A `.bin` of no known format is somebody else's file; a `.safetensors` of none is a damaged model.
    fn is_foreign(&self, file: &UnitFile, inspection: &Inspection) -> bool {
        let name = if file.path.as_os_str().is_empty() { &self.unit.path } else { &file.path };
        let name = name.to_string_lossy().to_ascii_lowercase();
        let extension = names::extension(&name);
        let is_sound = inspection.verdict() == Verdict::Ok;
        inspection.tensors.is_empty()
            && match inspection.format {
                ModelFormat::Unknown => {
                    matches!(extension, Some("bin" | "ts" | "jit" | "pkl"))
                        || extension == Some("pth") && is_sound
                }
                // An archive, or a pickle of something else than tensors, is not a damaged model but none at all.
                ModelFormat::Zip => is_sound,
                ModelFormat::RawPickle => is_sound && extension == Some("pkl"),
                _ => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_only_python_knows_are_no_damage() {
        for (text, due) in [
            (
                r#"{"a": -Infinity, "b": [NaN, Infinity], "c": 1}"#,
                r#"{"a": null, "b": [null, null], "c": 1}"#,
            ),
            (
                r#"{"Infinity": "NaN \" NaN", "ü": "\\", "x": NaN}"#,
                r#"{"Infinity": "NaN \" NaN", "ü": "\\", "x": null}"#,
            ),
            (r#"{"a": "#, r#"{"a": "#),
            ("NaN\"NaN\\", "null\"NaN\\"),
        ] {
            assert_eq!(without_infinities(text), due);
        }
    }
}
