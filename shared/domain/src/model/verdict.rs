//! What is wrong with a file, and what that makes of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a reader may conclude about a file or a model. Ordered: the worse wins when findings are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing was found. What was not looked at may still be wrong: a header check reads no data.
    #[default]
    Ok,
    /// Readable, but made in a way that honest tools do not: a bomb, an unknown global, odd archives.
    Suspicious,
    /// Something that belongs to it is not there yet, or any more.
    Incomplete,
    /// It is not what its format demands.
    Corrupt,
    /// It points where it may not: out of its root, out of its archive.
    Rejected,
    /// It would run code if it were opened by a naive reader. Nothing here opens it that way.
    Malicious,
}

impl Verdict {
    pub const ALL: [Self; 6] =
        [Self::Ok, Self::Suspicious, Self::Incomplete, Self::Corrupt, Self::Rejected, Self::Malicious];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Suspicious => "suspicious",
            Self::Incomplete => "incomplete",
            Self::Corrupt => "corrupt",
            Self::Rejected => "rejected",
            Self::Malicious => "malicious",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where in a model the trouble lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The header, or whatever describes the tensors, breaks its format's rules.
    Header,
    /// The data does not match what describes it: bytes too many, values that are not finite.
    Data,
    /// The free-form metadata breaks its rules, or says what the tensors deny.
    Metadata,
    /// Something is missing: a tail, a shard, a component, a download's rest.
    Partial,
    /// The bytes are not those that a recorded checksum was made of.
    Checksum,
    /// The pickle names something that tensors do not need.
    Pickle,
    /// The archive itself is malformed or plays tricks.
    Zip,
    /// A name or a link leads out of where it belongs.
    Path,
    /// The file system: not a regular file, not readable, not answering.
    Fs,
    /// In order, but of a version or a kind that nothing here can load.
    Unsupported,
}

impl FindingKind {
    pub const ALL: [Self; 10] = [
        Self::Header,
        Self::Data,
        Self::Metadata,
        Self::Partial,
        Self::Checksum,
        Self::Pickle,
        Self::Zip,
        Self::Path,
        Self::Fs,
        Self::Unsupported,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Data => "data",
            Self::Metadata => "metadata",
            Self::Partial => "partial",
            Self::Checksum => "checksum",
            Self::Pickle => "pickle",
            Self::Zip => "zip",
            Self::Path => "path",
            Self::Fs => "fs",
            Self::Unsupported => "unsupported",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong, or odd, about a file. `verdict` is what this finding alone makes of it: `Ok` for a remark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub kind: FindingKind,
    pub verdict: Verdict,
    /// What is wrong, with the numbers; one line; foreign text in it is escaped and cut.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// Where in the file, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The file within the model, for models of several files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl Finding {
    #[must_use]
    pub fn new(kind: FindingKind, verdict: Verdict, message: impl Into<String>) -> Self {
        Self { kind, verdict, message: message.into(), tensor: None, offset: None, file: None }
    }

    #[must_use]
    pub fn corrupt(kind: FindingKind, message: impl Into<String>) -> Self {
        Self::new(kind, Verdict::Corrupt, message)
    }

    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// `name` is somebody's text: it is cut and stripped of what a terminal would obey.
    #[must_use]
    pub fn tensor(mut self, name: &str) -> Self {
        self.tensor = Some(crate::excerpt(name));
        self
    }

    #[must_use]
    pub fn in_file(mut self, file: &str) -> Self {
        self.file = Some(crate::excerpt(file));
        self
    }

    /// What the owner of the file should do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match (self.verdict, self.kind) {
            (Verdict::Ok, _) => "nothing needs to be done",
            (Verdict::Malicious, _) => "do not open it with other tools; delete it and get it as safetensors",
            (Verdict::Suspicious, _) => "get it again from a source you trust, preferably as safetensors",
            (Verdict::Rejected, _) => "replace the link or the entry by the file itself, within the root",
            (Verdict::Incomplete, _) => "finish or repeat the download, then scan again",
            (Verdict::Corrupt, FindingKind::Partial) => "the file is cut: copy or download it again",
            (Verdict::Corrupt, FindingKind::Checksum) => "the bytes have changed: copy or download it again",
            (Verdict::Corrupt, _) => "the file is damaged or was written by a faulty tool: get it again",
        }
    }
}
