//! Names that tell things apart which are called the same: with the end of the path, as much of it as that takes. What
//! stands in the brackets names the thing to every verb, too.

use std::collections::HashMap;
use std::path::Path;

use crate::output::text;

/// What each of these is called, in their order: its name alone where no other has it.
pub(crate) fn apart(things: &[(&str, &str)]) -> Vec<String> {
    let names = counted(things.iter().map(|(name, _)| *name));
    let collide = |name: &str| names.get(name).is_some_and(|count| *count > 1);
    let mut ends: HashMap<&str, &str> = HashMap::new();
    let mut waiting: Vec<&str> =
        things.iter().filter(|(name, _)| collide(name)).map(|(_, path)| *path).collect();
    let mut parts = 1;
    while !waiting.is_empty() {
        // Of all things, not only of those that are called the same: what is typed is looked for among all.
        let alike = counted(things.iter().map(|(_, path)| end(path, parts)));
        // What begins nowhere else is a file's name: it must be nobody's name, and no file's without its ending.
        let stems = if parts == 1 {
            counted(things.iter().filter_map(|(_, path)| stem(path)))
        } else {
            HashMap::new()
        };
        waiting.retain(|path| {
            let end = end(path, parts);
            let is_whole = end.len() == path.len();
            let is_taken = names.contains_key(end) || stems.contains_key(end);
            let is_one = alike.get(end).is_some_and(|count| *count == 1) && !is_taken;
            if is_one || is_whole {
                ends.insert(path, end);
            }
            !(is_one || is_whole)
        });
        parts = parts.saturating_add(1);
    }
    let shown = |(name, path): &(&str, &str)| match ends.get(path).filter(|_| collide(name)) {
        Some(end) => text::one_line(&format!("{name} ({end})")),
        None => text::one_line(name),
    };
    things.iter().map(shown).collect()
}

fn counted<'a>(texts: impl Iterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    texts.for_each(|text| *counts.entry(text).or_default() += 1);
    counts
}

/// What a file's name is without its ending: models are called by it, whatever else they are called.
fn stem(path: &str) -> Option<&str> {
    Path::new(path).file_stem()?.to_str()
}

/// The last so many parts of a path.
fn end(path: &str, parts: usize) -> &str {
    let slash = path.rmatch_indices('/').nth(parts.saturating_sub(1));
    slash.and_then(|(at, _)| path.get(at + 1..)).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_collide_have_a_path_and_no_more_of_it_than_is_needed() {
        let things = [
            ("twin", "/m/a/x/twin.gguf"),
            ("alone", "/m/alone.gguf"),
            ("twin", "/m/b/x/twin.gguf"),
            ("kind", "/m/kind.gguf"),
            ("kind", "/m/kind.pt"),
            ("same", "/m/same"),
            ("same", "/m/same"),
        ];
        assert_eq!(
            apart(&things),
            [
                "twin (a/x/twin.gguf)",
                "alone",
                "twin (b/x/twin.gguf)",
                "kind (kind.gguf)",
                "kind (kind.pt)",
                "same (/m/same)",
                "same (/m/same)",
            ]
        );
        assert_eq!(apart(&[]), [""; 0]);
        assert_eq!(apart(&[("a\nb\u{1b}[2J", "/m/x")]), ["a\u{fffd}b\u{fffd}[2J"]);
    }

    #[test]
    fn what_is_shown_is_no_other_ones_name() {
        // A folder is called as the file beside it is; its last part would name both.
        let beside = [("vae-sd", "/m/components/vae-sd"), ("vae-sd", "/m/components/vae-sd.safetensors")];
        assert_eq!(apart(&beside), ["vae-sd (components/vae-sd)", "vae-sd (vae-sd.safetensors)"]);
        // What is called otherwise has a path, too.
        let others = [("x", "/m/a/one.pt"), ("x", "/m/b/two.pt"), ("y", "/n/a/one.pt"), ("two.pt", "/n/z")];
        assert_eq!(apart(&others), ["x (m/a/one.pt)", "x (b/two.pt)", "y", "two.pt"]);
    }

    #[test]
    fn one_path_may_be_the_end_of_another() {
        assert_eq!(apart(&[("x", "/a/x"), ("x", "/b/a/x")]), ["x (/a/x)", "x (b/a/x)"]);
    }
}
