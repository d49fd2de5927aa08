//! Looking for a text in others, whatever their case.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use hoist_domain::Model;
use memchr::memmem::Finder;

/// Bytes that names of models are full of, the most frequent first: what is not among them is found in few of them.
const FREQUENT: &[u8] = b"esatinorl/dc-0m_p.1hug2b y5v3";

/// Words of a free text that are looked for.
const MOST_WORDS: usize = 64;

/// What is looked for: prepared once, found often.
#[derive(Clone, Debug)]
pub(in crate::catalog) struct Needle {
    /// In lower case.
    finder: Finder<'static>,
    /// Where in it the byte is that fewest names have, and that byte in both cases; none where it is empty or not ASCII.
    rarest: Option<(usize, u8, u8)>,
}

impl Needle {
    pub(super) fn new(text: &str) -> Self {
        let lower = text.to_lowercase();
        let rank =
            |byte: &u8| FREQUENT.iter().position(|frequent| frequent == byte).unwrap_or(FREQUENT.len());
        let bytes = if lower.is_ascii() { lower.as_bytes() } else { &[] };
        let rarest = bytes.iter().enumerate().max_by_key(|(_, byte)| rank(byte));
        let rarest = rarest.map(|(at, byte)| (at, *byte, byte.to_ascii_uppercase()));
        Self { finder: Finder::new(&lower).into_owned(), rarest }
    }

    /// The words of a free text, each looked for by itself.
    pub(in crate::catalog) fn words(text: &str) -> Vec<Self> {
        text.split_whitespace().take(MOST_WORDS).map(Self::new).collect()
    }

    pub(super) fn is_in(&self, text: &str) -> bool {
        self.is_in_bytes(text.as_bytes())
    }

    /// The same for what need not be text, such as a path; it is asked once whether it is ASCII, and seldom more.
    fn is_in_bytes(&self, text: &[u8]) -> bool {
        let needle = self.finder.needle();
        if !text.is_ascii() {
            let lower = String::from_utf8_lossy(text).to_lowercase();
            return self.finder.find(lower.as_bytes()).is_some();
        }
        let Some((offset, lower, upper)) = self.rarest else { return needle.is_empty() };
        // Most texts do not even have this byte: a search for it costs less than to put the text into lower case.
        memchr::memchr2_iter(lower, upper, text).any(|at| {
            let from = at.checked_sub(offset);
            let found = from.and_then(|from| text.get(from..)?.get(..needle.len()));
            found.is_some_and(|found| found.eq_ignore_ascii_case(needle))
        })
    }

    /// Whether it occurs where people would look for it.
    ///
    /// Of the path only what lies below its root: what all models of a root have in common tells none from another.
    pub(in crate::catalog) fn is_about(&self, model: &Model, roots: &[PathBuf]) -> bool {
        let notes = model.notes.as_ref();
        self.is_in_bytes(below(model.path.as_path(), roots))
            || (!is_in_path(model) && self.is_in(model.name()))
            || self.is_in(&model.content.title)
            || model.tags().iter().any(|tag| self.is_in(tag))
            || notes.is_some_and(|notes| {
                self.is_in(&notes.description) || notes.aliases.iter().any(|alias| self.is_in(alias))
            })
    }
}

/// Whether its name is a part of its path, which saves a look at another place in memory: names that people gave are not,
/// nor are those of a hub's repositories.
fn is_in_path(model: &Model) -> bool {
    let path = model.path.as_path().as_os_str().as_bytes();
    let last = memchr::memrchr(b'/', path).and_then(|slash| path.get(slash + 1..)).unwrap_or(path);
    model.notes.is_none() && !last.starts_with(b"models--")
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
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::test_models::model;

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
        assert!(is_in("xe", &format!("{}E", "X".repeat(300))));
        assert!(is_in("zoo", "a zo ZOO"));
        assert!(is_in("k", "\u{212a}"), "the sign of kelvin is a K");
        assert!(is_in("", "") && is_in("", "a") && is_in("", "ж"));
        assert!(!is_in("lora", "lor") && !is_in("lora", "ora") && !is_in("мод", "lora"));
        assert!(!is_in("lora", &"l".repeat(300)));
    }

    proptest! {
        #[test]
        fn it_is_found_where_the_lower_case_of_the_text_has_it(needle in "[a-cA-Cé/]{0,3}", text in "[a-cA-Cé/]{0,9}") {
            let expected = text.to_lowercase().contains(&needle.to_lowercase());
            prop_assert_eq!(Needle::new(&needle).is_in(&text), expected);
        }
    }

    #[test]
    fn a_model_is_found_by_its_name_wherever_that_comes_from() {
        let roots = [PathBuf::from("/m")];
        let is_about = |needle: &str, model: &Model| Needle::new(needle).is_about(model, &roots);
        let plain = model("/m/a/Some Style.v2.safetensors", "lora", "sdxl", 1, &[]);
        assert!(is_about("style.V2", &plain) && is_about("a/some", &plain) && !is_about("/m/a", &plain));
        let hub = Model {
            path_name: "org/name".into(),
            ..Model::clone(&model("/m/models--org--name", "llm", "llama", 1, &[]))
        };
        assert!(is_about("org/name", &hub) && is_about("org--name", &hub));
        let notes = hoist_domain::ModelNotes { name: "Given".to_owned(), ..Default::default() };
        let named = Model { notes: Some(notes.into()), ..Model::clone(&plain) };
        assert!(is_about("given", &named) && is_about("some style", &named) && !is_about("given", &plain));
    }
}
