//! Names that tell things apart which are called the same: with the end of the path, as much of it as that takes. What
//! stands in the brackets names the thing to every verb, too.

use std::collections::HashMap;

use crate::output::text;

/// What each of these is called, in their order: its name alone where no other has it.
pub(crate) fn apart(things: &[(&str, &str)]) -> Vec<String> {
    let mut by_name: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, path) in things {
        by_name.entry(name).or_default().push(path);
    }
    let parts: HashMap<&str, usize> = by_name
        .into_iter()
        .filter(|(_, paths)| paths.len() > 1)
        .map(|(name, paths)| (name, enough(&paths)))
        .collect();
    let shown = |(name, path): &(&str, &str)| match parts.get(name) {
        Some(parts) => text::one_line(&format!("{name} ({})", end(path, *parts))),
        None => text::one_line(name),
    };
    things.iter().map(shown).collect()
}

/// The parts of paths, counted from their ends, that tell them apart.
fn enough(paths: &[&str]) -> usize {
    let most = paths.iter().map(|path| path.split('/').count()).max().unwrap_or(1);
    let differ = |parts: &usize| {
        let mut ends: Vec<&str> = paths.iter().map(|path| end(path, *parts)).collect();
        ends.sort_unstable();
        ends.windows(2).all(|pair| pair.first() != pair.last())
    };
    (1..most).find(differ).unwrap_or(most)
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
    fn one_path_may_be_the_end_of_another() {
        assert_eq!(apart(&[("x", "/a/x"), ("x", "/b/a/x")]), ["x (/a/x)", "x (b/a/x)"]);
    }
}
