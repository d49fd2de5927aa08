//! What an inspection finds out: the same shape for every format.

use std::collections::BTreeMap;

use hoist_domain::{Dtype, Finding, ModelFormat, Verdict};

use crate::limits;

/// The format of one file. Folders get theirs from the catalog.
pub type Format = ModelFormat;

/// What is known of one file after its header was read.
#[derive(Clone, Debug)]
pub struct Inspection {
    pub format: Format,
    /// In the file's own order.
    pub tensors: Vec<Tensor>,
    /// Free-form metadata by key: safetensors `__metadata__`, GGUF key-values, what a checkpoint holds beside its
    /// tensors (`global_step`, `epoch`, ...). Values are cut to [`limits::METADATA_VALUE_BYTES`].
    pub metadata: BTreeMap<String, String>,
    /// Names that the pickle would import, sorted: `torch._utils._rebuild_tensor_v2`. Empty for other formats.
    pub globals: Vec<String>,
    /// Bytes that had to be read to know this.
    pub header_bytes: u64,
    /// What is wrong, in the order it was found; at most [`limits::FINDINGS`].
    pub findings: Vec<Finding>,
}

/// One tensor as its header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Any text: it may look like a path and must never become one.
    pub name: Box<str>,
    pub dtype: Dtype,
    /// In the order PyTorch would print; GGUF's reversed dimensions are turned around.
    pub shape: Box<[u64]>,
    pub place: Place,
}

/// Where a tensor's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `length` contiguous bytes at `offset` of the file.
    Extent { offset: u64, length: u64 },
    /// A view into a storage at `offset` of the file, with strides in elements. Several tensors may share a storage.
    Strided { offset: u64, length: u64, first_element: u64, strides: Box<[u64]> },
    /// In a file beside this one, by the name that this file gives it: never to be opened without a check.
    Beside { file: Box<str>, offset: u64, length: u64 },
    /// The header does not say, or the archive compresses it.
    Unmapped,
}

impl Inspection {
    #[must_use]
    pub const fn new(format: Format) -> Self {
        Self {
            format,
            tensors: Vec::new(),
            metadata: BTreeMap::new(),
            globals: Vec::new(),
            header_bytes: 0,
            findings: Vec::new(),
        }
    }

    /// Keeps a finding, unless there are enough: then it takes the place of a less bad one, if there is any.
    pub fn find(&mut self, finding: Finding) {
        if self.findings.len() < limits::FINDINGS {
            self.findings.push(finding);
            return;
        }
        let least = self.findings.iter_mut().min_by_key(|kept| kept.verdict);
        if let Some(least) = least.filter(|least| least.verdict < finding.verdict) {
            *least = finding;
        }
    }

    /// The worst that was found.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or_default()
    }
}

impl Tensor {
    /// Elements, saturating: a hostile shape may overflow, and readers refuse such a tensor.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.shape.iter().fold(1, |product: u64, dimension| product.saturating_mul(*dimension))
    }
}

#[cfg(test)]
mod tests {
    use hoist_domain::FindingKind;

    use super::*;

    #[test]
    fn the_worst_finding_is_kept_among_too_many() {
        let mut inspection = Inspection::new(Format::Unknown);
        for at in 0..100 {
            let verdict = if at == 70 { Verdict::Malicious } else { Verdict::Suspicious };
            inspection.find(Finding::new(FindingKind::Pickle, verdict, at.to_string()));
        }
        assert_eq!(inspection.findings.len(), limits::FINDINGS);
        assert_eq!(inspection.verdict(), Verdict::Malicious);
    }
}
