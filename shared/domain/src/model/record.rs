//! A model as the catalog keeps it: where it is, what its files say, what people say.
//!
//! Small on purpose: a hundred thousand of these are in memory. Tensor tables, evidence and extracted metadata are
//! read from the headers again when somebody asks.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    BaseModel, Bytes, Digest, Dtype, Finding, FindingKind, ModelFormat, ModelState, ModelType, Priority,
    Validation, Verdict, WallTime,
};

/// A model: `models/{uuid}`. Given when it is first seen; it stays through moves, renames and edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelId(pub Uuid);

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// A path as the file system spells it, which need not be text. Shown lossily, kept exactly, but for what says nothing:
/// doubled and trailing slashes, and `.` between others.
///
/// Ordered by components like a [`Path`], but compared as bytes: a scan of a hundred thousand files looks each of them
/// up among as many.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ModelPath(Arc<OsStr>);

impl ModelPath {
    #[must_use]
    pub fn new(path: &Path) -> Self {
        if is_plain(path.as_os_str().as_bytes()) {
            Self(path.as_os_str().into())
        } else {
            Self(path.components().collect::<PathBuf>().into_os_string().into())
        }
    }

    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&*self.0)
    }

    /// As text; what is not UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        self.0.to_string_lossy()
    }
}

/// Whether every part between slashes is a name: then bytes are equal where paths are.
fn is_plain(path: &[u8]) -> bool {
    let names = path.strip_prefix(b"/").unwrap_or(path);
    names.is_empty() || names.split(|byte| *byte == b'/').all(|name| !name.is_empty() && name != b".")
}

impl Ord for ModelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        const STEP: usize = 16;
        let (one, other) = (self.0.as_bytes(), other.0.as_bytes());
        let steps = one.chunks_exact(STEP).zip(other.chunks_exact(STEP));
        let same = steps.take_while(|(one, other)| one == other).count() * STEP;
        // A component ends before anything that goes on: the slash is the least of bytes.
        let order = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        let tail = |path| <[u8]>::get(path, same..).unwrap_or_default().iter().map(order);
        tail(one).cmp(tail(other))
    }
}

impl PartialOrd for ModelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for ModelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ModelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// Text where it is text, bytes where it is not: both read back exactly.
impl Serialize for ModelPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => self.0.as_bytes().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ModelPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StoredPath)
    }
}

struct StoredPath;

impl<'de> serde::de::Visitor<'de> for StoredPath {
    type Value = ModelPath;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path, as text or as bytes")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ModelPath, E> {
        Ok(ModelPath::new(Path::new(text)))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut sequence: A) -> Result<ModelPath, A::Error> {
        let mut bytes: Vec<u8> = Vec::new();
        while let Some(byte) = sequence.next_element()? {
            bytes.push(byte);
        }
        Ok(ModelPath::new(Path::new(OsStr::from_bytes(&bytes))))
    }
}

/// What tells that a file is still the one that was read: as long as all of it is the same, nothing was written to it.
/// (Writes through a mapping and within one tick of the clock escape; a validation of every byte finds them.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileIdentity {
    #[serde(rename = "d")]
    pub device: u64,
    #[serde(rename = "i")]
    pub inode: u64,
    #[serde(rename = "s")]
    pub size: u64,
    /// Nanoseconds since 1970.
    #[serde(rename = "m")]
    pub modified_ns: i64,
    #[serde(rename = "c")]
    pub changed_ns: i64,
}

impl FileIdentity {
    /// What the file system says of an open file.
    #[must_use]
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_ns: nanos(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanos(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A file that belongs to a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Below the model's path; empty for the file that is at this path itself, and then those beside it are named from
    /// its folder.
    #[serde(rename = "p")]
    pub path: ModelPath,
    #[serde(rename = "f")]
    pub identity: FileIdentity,
    /// Holds tensors; the others are configuration that was read for identification. A file that is needed and not there
    /// has no identity.
    #[serde(rename = "w")]
    pub is_weights: bool,
}

/// What is cached, shared and loaded on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelComponent {
    #[serde(rename = "n")]
    pub name: Box<str>,
    #[serde(rename = "t")]
    pub component_type: ModelType,
    #[serde(rename = "b")]
    pub base: BaseModel,
    /// The sub-folder that holds it; empty for the model's own place.
    #[serde(rename = "l", default, skip_serializing_if = "str::is_empty")]
    pub place: Box<str>,
    /// What its keys begin with in the file, stripped in RAM.
    #[serde(rename = "x", default, skip_serializing_if = "str::is_empty")]
    pub prefix: Box<str>,
    #[serde(rename = "k")]
    pub tensors: u64,
    #[serde(rename = "e")]
    pub parameters: u64,
    #[serde(rename = "s")]
    pub bytes: Bytes,
    /// Unset until its bytes have been read once.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// What a model's files say. Replaced as a whole when one of them changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelContent {
    pub format: ModelFormat,
    pub model_type: ModelType,
    pub base: BaseModel,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub variant: Box<str>,
    /// Bases that the content cannot tell apart; empty when `base` is certain.
    #[serde(default, skip_serializing_if = "slice_is_empty")]
    pub candidates: Box<[BaseModel]>,
    /// 0 to 100. From 90 the content proves it, from 50 it is declared, below it is suggested by names.
    pub confidence_percent: u8,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub prediction: Box<str>,
    /// Edge in pixels; 0 where it cannot be told.
    #[serde(default)]
    pub resolution: u32,
    /// As its maker named it, from the metadata; may be empty.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub title: Box<str>,
    pub tensors: u64,
    pub parameters: u64,
    /// Tensors of each element type, most first.
    pub dtypes: Box<[(Dtype, u64)]>,
    /// Of all its files.
    pub bytes: Bytes,
    pub components: Box<[ModelComponent]>,
    pub files: Box<[ModelFile]>,
    pub verdict: Verdict,
    #[serde(default, skip_serializing_if = "slice_is_empty")]
    pub findings: Box<[Finding]>,
    /// A file with tensors was touched since the digests were found, though size and time of writing are what they were.
    /// The digests are still shown; whoever reads the bytes believes the bytes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_touched: bool,
    /// Which version of the readers said all this: what an older one said is read again, though the files are as they were.
    #[serde(default)]
    pub reader: u32,
}

fn slice_is_empty<T>(slice: &[T]) -> bool {
    slice.is_empty()
}

impl ModelContent {
    /// The file that stands for the model's identity when it moves: its first with tensors, of a graph the graph.
    #[must_use]
    pub fn main_file(&self) -> Option<&ModelFile> {
        let is_data = |file: &ModelFile| {
            let path = file.path.as_path();
            self.format == ModelFormat::Onnx
                && !path.as_os_str().is_empty()
                && path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("onnx"))
        };
        let main = self.files.iter().find(|file| file.is_weights && !is_data(file));
        main.or(self.files.first())
    }

    /// Whether the model is a file, perhaps with others beside it, and no folder.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.files.first().is_some_and(|file| file.path.as_path().as_os_str().is_empty())
    }

    /// Whether the files with tensors are the same, with the same bytes: what a rename or a touched ctime leaves as it
    /// was.
    #[must_use]
    pub fn has_bytes_of(&self, other: &Self) -> bool {
        let bytes_of = |content: &Self| -> Vec<FileIdentity> {
            let weights = content.files.iter().filter(|file| file.is_weights);
            weights.map(|file| FileIdentity { changed_ns: 0, ..file.identity }).collect()
        };
        bytes_of(self) == bytes_of(other)
    }

    /// Whether what is read now must have the digests that are recorded here: otherwise the storage forgets.
    #[must_use]
    pub fn vouches_for(&self, read: &Self) -> bool {
        !self.is_touched && read.is_untouched_since(self)
    }

    /// Whether nothing at all was done to the files with tensors since the other was read: not even a touch, which is
    /// also what a rewrite leaves that gave the file its old time back.
    #[must_use]
    pub fn is_untouched_since(&self, other: &Self) -> bool {
        let weights = |content: &Self| -> Vec<FileIdentity> {
            content.files.iter().filter(|file| file.is_weights).map(|file| file.identity).collect()
        };
        weights(self) == weights(other)
    }
}

/// What people say about a model. It wins over what the files say, and survives their moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelNotes {
    /// Grows with each edit: the etag.
    pub edition: u64,
    /// Replaces the name that comes from the path.
    pub name: String,
    pub aliases: Vec<String>,
    /// Sorted, without repetition.
    pub tags: Vec<String>,
    pub description: String,
    pub licence: String,
    pub source: String,
    pub notes: String,
    pub model_type: Option<ModelType>,
    pub base: Option<BaseModel>,
    /// Settings for caching and loading.
    pub config: ModelConfig,
}

/// How a model is to be handled where a request does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelConfig {
    /// `cuda:0`; empty: wherever it fits best.
    pub default_device: String,
    /// Its owner vouches for the code in it.
    pub trusted: bool,
    /// In RAM; unset: as the cache's policy says.
    pub cache_priority: Option<Priority>,
    /// As [`crate::CachePolicy::idle_ttl`].
    pub cache_idle_ttl: Option<Duration>,
    /// Once in RAM its components stay there.
    pub is_pinned: bool,
    /// Only these components do, sorted; empty: all.
    pub pinned_components: Vec<String>,
}

impl ModelConfig {
    /// Whether a component of this name is to stay in RAM.
    #[must_use]
    pub fn pins(&self, component: &str) -> bool {
        self.is_pinned
            && (self.pinned_components.is_empty()
                || self.pinned_components.iter().any(|one| one == component))
    }
}

/// A model in the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    pub id: ModelId,
    /// Absolute: the file, or the folder of those that are several files.
    pub path: ModelPath,
    /// From the path: the file's stem, the folder's name, the repository's id.
    pub path_name: Arc<str>,
    pub state: ModelState,
    pub content: Arc<ModelContent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<Arc<ModelNotes>>,
    /// The last look at every byte; unset when there was none since the bytes changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Arc<Validation>>,
    pub discovered_at: WallTime,
    /// When `content` was read.
    pub read_at: WallTime,
}

impl Model {
    /// Where a file of it is.
    #[must_use]
    pub fn path_of(&self, file: &ModelFile) -> PathBuf {
        let (own, below) = (self.path.as_path(), file.path.as_path());
        if below.as_os_str().is_empty() {
            own.to_owned()
        } else if self.content.is_file() {
            own.with_file_name("").join(below)
        } else {
            own.join(below)
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        match &self.notes {
            Some(notes) if !notes.name.is_empty() => &notes.name,
            _ => &self.path_name,
        }
    }

    #[must_use]
    pub fn model_type(&self) -> ModelType {
        self.notes.as_ref().and_then(|notes| notes.model_type).unwrap_or(self.content.model_type)
    }

    #[must_use]
    pub fn base(&self) -> &BaseModel {
        self.notes.as_ref().and_then(|notes| notes.base.as_ref()).unwrap_or(&self.content.base)
    }

    /// Bases that the files cannot tell apart, unless a person has said which it is.
    #[must_use]
    pub fn candidates(&self) -> &[BaseModel] {
        let is_said = self.notes.as_ref().is_some_and(|notes| notes.base.is_some());
        if is_said { &[] } else { &self.content.candidates }
    }

    /// How sure type and base are, 0 to 100. What a person has said is certain.
    #[must_use]
    pub fn confidence_percent(&self) -> u8 {
        let is_said =
            self.notes.as_ref().is_some_and(|notes| notes.model_type.is_some() && notes.base.is_some());
        if is_said { 100 } else { self.content.confidence_percent }
    }

    #[must_use]
    pub fn tags(&self) -> &[String] {
        self.notes.as_ref().map_or(&[], |notes| &notes.tags)
    }

    /// What is known of its soundness: the worse of what the headers and the bytes say.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.validation.as_ref().map_or(self.content.verdict, |seen| seen.verdict.max(self.content.verdict))
    }

    /// Everything that was found, worst first. A look at all bytes finds what the headers say, too.
    #[must_use]
    pub fn findings(&self) -> Vec<&Finding> {
        let mut findings: Vec<&Finding> = self.content.findings.iter().collect();
        for finding in self.validation.iter().flat_map(|seen| &seen.findings) {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
        findings
    }

    /// The kind of the finding that decides the verdict.
    #[must_use]
    pub fn verdict_kind(&self) -> Option<FindingKind> {
        let worst = self.findings().into_iter().find(|finding| finding.verdict == self.verdict());
        worst.filter(|finding| finding.verdict != Verdict::Ok).map(|finding| finding.kind)
    }

    /// What an edit must name to be sure that it overwrites nobody else's.
    #[must_use]
    pub fn etag(&self) -> String {
        self.notes.as_ref().map_or(0, |notes| notes.edition).to_string()
    }

    /// When its newest file was last written; unset if none of its files is there.
    #[must_use]
    pub fn modified_at(&self) -> Option<WallTime> {
        let there = self.content.files.iter().filter(|file| file.identity != FileIdentity::default());
        there.map(|file| WallTime(file.identity.modified_ns / 1_000)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_reads_back_exactly() {
        for bytes in [&b"/m/a b\n\\x.safetensors"[..], b"/m/bad\xff\xfe.ckpt", "/m/модель".as_bytes()] {
            let path = ModelPath::new(Path::new(std::ffi::OsStr::from_bytes(bytes)));
            let stored = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<ModelPath>(&stored).unwrap(), path, "{stored}");
        }
    }

    #[test]
    fn paths_are_ordered_as_their_components_are() {
        let texts = [
            "",
            "/",
            "/m",
            "/m/",
            "//m",
            "/m/./a",
            "/m/a",
            "/m/a.b",
            "/m/a/b",
            "/m/a b",
            "/m/a-b/c",
            "/m/ab",
            "/m/b",
            "m",
            "m/a",
            "/m/a/\u{1}",
            "/m/aaaaaaaaaaaaaaaa/b",
            "/m/aaaaaaaaaaaaaaaa.b",
            "/m/aaaaaaaaaaaaaaaaaaaaaaa",
            "/m/модель/a",
            "/m/../a",
        ];
        for one in texts {
            for other in texts {
                let (one, other) = (Path::new(one), Path::new(other));
                let (ours, others) = (ModelPath::new(one), ModelPath::new(other));
                assert_eq!(ours.cmp(&others), one.cmp(other), "{one:?} and {other:?}");
                assert_eq!(ours == others, one == other, "{one:?} and {other:?}");
            }
        }
    }
}
