//! What is kept of a file's free-form metadata: all of a sane one, a bounded part of any other.
//!
//! It must never fail a file for having much of it: what does not fit is left out, and said so once.

use std::collections::BTreeMap;

use crate::{Finding, FindingKind, Inspection, Verdict, limits};

/// Fills [`Inspection::metadata`] up to its bounds.
#[derive(Debug)]
pub(crate) struct Keeper {
    left: usize,
    full: bool,
}

impl Keeper {
    pub(crate) const fn new() -> Self {
        Self { left: limits::METADATA_BYTES, full: false }
    }

    /// Keeps a value, cut where it must be. False if the key was there before: the first value stays.
    pub(crate) fn keep(&mut self, inspection: &mut Inspection, key: &str, value: &str) -> bool {
        if inspection.metadata.contains_key(key) {
            return false;
        }
        let value = cut(value, limits::METADATA_VALUE_BYTES);
        let taken = key.len() + value.len();
        if taken <= self.left {
            self.left -= taken;
            inspection.metadata.insert(key.to_owned(), value.to_owned());
        } else if !self.full {
            self.full = true;
            let message = format!("metadata beyond {} bytes is not kept", limits::METADATA_BYTES);
            inspection.find(Finding::new(FindingKind::Metadata, Verdict::Ok, message));
        }
        true
    }
}

/// The longest beginning of so many bytes that ends between characters.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

/// A number that a reader kept as text.
pub(crate) fn number(metadata: &BTreeMap<String, String>, key: &str) -> Option<u64> {
    metadata.get(key)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;

    #[test]
    fn values_are_cut_between_characters_and_the_whole_is_bounded() {
        let (mut keeper, mut inspection) = (Keeper::new(), Inspection::new(Format::Unknown));
        let long = "é".repeat(limits::METADATA_VALUE_BYTES);
        for key in 0..1000 {
            assert!(keeper.keep(&mut inspection, &key.to_string(), &long));
        }
        assert!(!keeper.keep(&mut inspection, "0", "again"));
        let kept: usize = inspection.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(kept <= limits::METADATA_BYTES);
        assert_eq!(inspection.metadata["0"].len(), limits::METADATA_VALUE_BYTES);
        assert_eq!((inspection.findings.len(), inspection.verdict()), (1, Verdict::Ok));
    }
}
