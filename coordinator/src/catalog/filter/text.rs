//! Looking for a text in others, whatever their case.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use hoist_domain::Model;
use memchr::memmem::Finder;

/// Texts up to this length are put into lower case without memory of their own. Most are shorter.
const SHORT: usize = 256;

/// Words of a free text that are looked for.
const MOST_WORDS: usize = 64;

/// What is looked for: prepared once, found often.
#[derive(Clone, Debug)]
pub(in crate::catalog) struct Needle(Finder<'static>);

impl Needle {
    pub(super) fn new(text: &str) -> Self {
        Self(Finder::new(&text.to_lowercase()).into_owned())
    }

    /// The words of a free text, each looked for by itself.
    pub(in crate::catalog) fn words(text: &str) -> Vec<Self> {
        text.split_whitespace().take(MOST_WORDS).map(Self::new).collect()
    }

    pub(super) fn is_in(&self, text: &str) -> bool {
        if !text.is_ascii() {
            return self.0.find(text.to_lowercase().as_bytes()).is_some();
        }
        if text.len() < self.0.needle().len() {
            return false;
        }
        let mut buffer = [0; SHORT];
        match buffer.get_mut(..text.len()) {
            Some(copy) => {
                copy.copy_from_slice(text.as_bytes());
                copy.make_ascii_lowercase();
                self.0.find(copy).is_some()
            }
            None => self.0.find(text.to_ascii_lowercase().as_bytes()).is_some(),
        }
    }

    /// Whether it occurs where people would look for it.
    ///
    /// Of the path only what lies below its root: what all models of a root have in common tells none from another.
    pub(in crate::catalog) fn is_about(&self, model: &Model, roots: &[PathBuf]) -> bool {
        let notes = model.notes.as_ref();
        self.is_in(&String::from_utf8_lossy(below(model.path.as_path(), roots)))
            || self.is_in(model.name())
            || self.is_in(&model.content.title)
            || model.tags().iter().any(|tag| self.is_in(tag))
            || notes.is_some_and(|notes| {
                self.is_in(&notes.description) || notes.aliases.iter().any(|alias| self.is_in(alias))
            })
    }
}

/// What of a path lies below its root, as bytes: a comparison of components would take longer than the search.
fn below<'a>(path: &'a Path, roots: &[PathBuf]) -> &'a [u8] {
    let whole = path.as_os_str().as_bytes();
    let below =
        roots.iter().find_map(|root| whole.strip_prefix(root.as_os_str().as_bytes())?.strip_prefix(b"/"));
    below.unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_models_of_a_root_have_in_common_is_not_searched() {
        let roots = [PathBuf::from("/srv/models"), PathBuf::from("/m")];
        for (path, rest) in
            [("/m/a/b.pt", "a/b.pt"), ("/m2/a.pt", "/m2/a.pt"), ("/srv/models/x", "x"), ("/m", "/m")]
        {
            assert_eq!(below(Path::new(path), &roots), rest.as_bytes(), "{path}");
        }
    }

    #[test]
    fn case_does_not_matter_in_any_alphabet_nor_at_any_length() {
        let is_in = |needle: &str, text: &str| Needle::new(needle).is_in(text);
        assert!(is_in("LoRA", "my lora"));
        assert!(is_in("мод", "МОДЕЛЬ"));
        assert!(is_in("x", &"X".repeat(SHORT + 1)));
        assert!(is_in("", ""));
        assert!(!is_in("lora", "lor"));
        assert!(!is_in("lora", &"l".repeat(SHORT * 2)));
    }
}
