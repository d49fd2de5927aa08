//! An inspection in the making: bounded in all that a file can make it hold.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Finding, Format, Inspection, Tensor, limits};

/// Collects what is found. Several pickles add to one report, so each name is kept once.
#[derive(Debug)]
pub(super) struct Report {
    inspection: Inspection,
    globals: BTreeSet<String>,
    metadata_bytes: usize,
}

impl Report {
    pub(super) const fn new(format: Format) -> Self {
        Self { inspection: Inspection::new(format), globals: BTreeSet::new(), metadata_bytes: 0 }
    }

    pub(super) const fn format(&self) -> Format {
        self.inspection.format
    }

    pub(super) const fn set_format(&mut self, format: Format) {
        self.inspection.format = format;
    }

    pub(super) fn find(&mut self, finding: Finding) {
        self.inspection.find(finding);
    }

    pub(super) fn find_all(&mut self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|finding| self.find(finding));
    }

    pub(super) fn read(&mut self, bytes: u64) {
        self.inspection.header_bytes = self.inspection.header_bytes.saturating_add(bytes);
    }

    pub(super) fn name_global(&mut self, name: &str) {
        if !self.globals.contains(name) {
            self.globals.insert(name.to_owned());
        }
    }

    pub(super) fn add_tensor(&mut self, tensor: Tensor) {
        self.inspection.tensors.push(tensor);
    }

    pub(super) const fn tensor_count(&self) -> usize {
        self.inspection.tensors.len()
    }

    /// Keeps a value beside the tensors; the first of its key, cut to what is kept of one.
    pub(super) fn add_metadata(&mut self, key: &str, value: &str) {
        let value = cut(value, limits::METADATA_VALUE_BYTES);
        let bytes = key.len() + value.len();
        let metadata: &mut BTreeMap<String, String> = &mut self.inspection.metadata;
        if key.len() > limits::NAME_BYTES
            || self.metadata_bytes + bytes > limits::METADATA_BYTES
            || metadata.contains_key(key)
        {
            return;
        }
        self.metadata_bytes += bytes;
        metadata.insert(key.to_owned(), value.to_owned());
    }

    /// What overlaps in the file was read more than once; it is no more than the file has.
    pub(super) fn into_inspection(self, file_bytes: u64) -> Inspection {
        let header_bytes = self.inspection.header_bytes.min(file_bytes);
        Inspection { globals: self.globals.into_iter().collect(), header_bytes, ..self.inspection }
    }
}

/// The start of a text, at a character's border.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
